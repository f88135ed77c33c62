//! Runs random schedules of faults against the machines, and says what contradicts the design.
//!
//! ```text
//! simulate [--minutes M | --schedules N] [--seed S] [--threads T]    schedules from seed S on, by default for a minute
//! simulate --seed S --only 3,7                                       replays one, with the acts of these numbers only
//! simulate --seed S --replay                                         replays one whole
//! simulate --stored FILE                                             replays the seeds in a file, and says what they reach
//! simulate --gather --schedules N [--seed S]                         says which seeds reach something that none before did
//! ```
//!
//! Results go to stdout, progress to stderr. The exit code is 0 where nothing was found, 1 where something was, 2 where the
//! command line is not understood.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use harness::sim;
use harness::sim::Coverage;
use harness::sim::Report;
use harness::sim::Schedule;

/// What was asked for.
#[derive(Debug)]
struct Options {
    minutes: Option<f64>,
    schedules: Option<u64>,
    seed: u64,
    only: Option<Vec<u32>>,
    replay: bool,
    threads: usize,
    stored: Option<String>,
    gather: bool,
}

fn main() -> ExitCode {
    let options = match parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(what) => {
            eprintln!("simulate: {what}\nTry: simulate --minutes 1, or simulate --seed 7 --replay");
            return ExitCode::from(2);
        }
    };
    if let Some(path) = &options.stored {
        return replay_stored(path);
    }
    if options.replay || options.only.is_some() {
        return replay(&options);
    }
    if options.gather {
        return gather(&options);
    }
    explore(&options)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options {
        minutes: None,
        schedules: None,
        seed: 1,
        only: None,
        replay: false,
        threads,
        stored: None,
        gather: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--minutes" => options.minutes = Some(number(&value()?)?),
            "--schedules" => options.schedules = Some(number(&value()?)?),
            "--seed" => options.seed = number(&value()?)?,
            "--threads" => options.threads = number::<usize>(&value()?)?.max(1),
            "--only" => options.only = Some(value()?.split(',').map(number).collect::<Result<_, _>>()?),
            "--stored" => options.stored = Some(value()?),
            "--replay" => options.replay = true,
            "--gather" => options.gather = true,
            other => return Err(format!("{other:?} is not known")),
        }
    }
    Ok(options)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

/// One schedule, told in full.
fn replay(options: &Options) -> ExitCode {
    let mut schedule = Schedule::of(options.seed);
    if let Some(numbers) = &options.only {
        schedule = schedule.only(numbers);
    }
    let report = sim::run(&schedule, &mut Coverage::default(), true);
    print_story(&schedule, &report);
    if report.broken.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn print_story(schedule: &Schedule, report: &Report) {
    let mut text = String::new();
    for line in &report.story {
        _ = writeln!(text, "{line}");
    }
    match &report.broken {
        Some(broken) => _ = writeln!(text, "violation: {broken}"),
        None => _ = writeln!(text, "nothing contradicts the design; hash {:016x}", report.hash),
    }
    let numbers: Vec<String> = schedule.numbers().iter().map(u32::to_string).collect();
    _ = writeln!(text, "replay: simulate --seed {} --only {}", schedule.seed, numbers.join(","));
    print(&text);
}

/// The seeds of a file, one in a line, words after a number sign apart.
fn replay_stored(path: &str) -> ExitCode {
    let Ok(text) = fs::read_to_string(path) else {
        eprintln!("simulate: {path} cannot be read");
        return ExitCode::from(2);
    };
    let mut coverage = Coverage::default();
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        let Ok(seed) = line.parse() else { continue };
        let schedule = Schedule::of(seed);
        if let Some(broken) = sim::run(&schedule, &mut coverage, false).broken {
            print(&format!("violation: seed {seed}: {broken}\n"));
            return ExitCode::FAILURE;
        }
    }
    for missing in coverage.missing() {
        print(&format!("not reached: {missing}\n"));
    }
    ExitCode::SUCCESS
}

/// Seeds that reach something which none before them did, one in a line.
fn gather(options: &Options) -> ExitCode {
    let mut coverage = Coverage::default();
    for seed in options.seed..options.seed + options.schedules.unwrap_or(10_000) {
        let mut own = Coverage::default();
        let report = sim::run(&Schedule::of(seed), &mut own, false);
        let before = coverage.missing();
        let news: Vec<String> =
            own.reached().into_iter().map(|(what, _)| what).filter(|what| before.contains(what)).collect();
        if !news.is_empty() && report.broken.is_none() {
            coverage.merge(&own);
            print(&format!("{seed} # {}\n", news.join(", ")));
        }
    }
    for what in coverage.missing() {
        eprintln!("not reached: {what}");
    }
    ExitCode::SUCCESS
}

/// What all threads together have done.
#[derive(Debug, Default)]
struct Totals {
    next: AtomicU64,
    done: AtomicU64,
    steps: AtomicU64,
    texts: AtomicU64,
    twice: AtomicU64,
    is_over: AtomicBool,
    counts: Mutex<[u64; 6]>,
    coverage: Mutex<Coverage>,
    found: Mutex<Option<(u64, u64, String)>>,
}

fn explore(options: &Options) -> ExitCode {
    let began = Instant::now();
    let limit = options.schedules.unwrap_or(u64::MAX);
    let minutes = options.minutes.or_else(|| options.schedules.is_none().then_some(1.0));
    let end = minutes.map(|minutes| began + Duration::from_secs_f64(minutes * 60.0));
    let totals = Totals::default();
    thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| work(options.seed, limit, end, &totals));
        }
        show(began, &totals, limit, minutes);
    });
    let found = totals.found.lock().expect("no thread panics with it").clone();
    let seconds = began.elapsed().as_secs_f64();
    if let Some((seed, nth, what)) = found {
        print(&format!("violation: seed {seed} after {nth} schedules: {what}\n"));
        let smallest = sim::shrink(&Schedule::of(seed));
        let report = sim::run(&smallest, &mut Coverage::default(), true);
        print_story(&smallest, &report);
        return ExitCode::FAILURE;
    }
    let done = totals.done.load(Ordering::Relaxed);
    let coverage = totals.coverage.lock().expect("no thread panics with it");
    let [sent, handed, delivered, rejected, not_delivered, unknown] = *totals.counts.lock().expect("as above");
    let mut text = String::new();
    _ = writeln!(text, "schedules        {done}  ({:.0} a second)", done as f64 / seconds);
    _ = writeln!(text, "events           {}", totals.steps.load(Ordering::Relaxed));
    _ = writeln!(text, "texts written    {}", totals.texts.load(Ordering::Relaxed));
    _ = writeln!(text, "messages sent    {sent}, handed over {handed}");
    _ = writeln!(
        text,
        "outcomes         delivered {delivered}, rejected {rejected}, not delivered {not_delivered}, unknown {unknown}"
    );
    _ = writeln!(text, "ran twice        {}, each with the same trace", totals.twice.load(Ordering::Relaxed));
    _ = writeln!(text, "violations       0");
    for (what, count) in
        coverage.reached().into_iter().filter(|(what, _)| what.starts_with("act ") || what.starts_with("told "))
    {
        _ = writeln!(text, "{count:>10}       {what}");
    }
    for what in coverage.missing() {
        _ = writeln!(text, "not reached      {what}");
    }
    print(&text);
    ExitCode::SUCCESS
}

/// One thread's share.
fn work(first: u64, limit: u64, end: Option<Instant>, totals: &Totals) {
    let mut coverage = Coverage::default();
    let mut counts = [0; 6];
    while !totals.is_over.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
        let nth = totals.next.fetch_add(1, Ordering::Relaxed);
        if nth >= limit {
            break;
        }
        let seed = first.wrapping_add(nth);
        let schedule = Schedule::of(seed);
        let mut report = sim::run(&schedule, &mut coverage, false);
        if nth.is_multiple_of(1_000) && report.broken.is_none() {
            let again = sim::run(&schedule, &mut coverage, false);
            totals.twice.fetch_add(1, Ordering::Relaxed);
            if again.hash != report.hash {
                report.broken = Some(harness::oracle::Broken::new("D1", "the same seed gives another trace"));
            }
        }
        totals.done.fetch_add(1, Ordering::Relaxed);
        totals.steps.fetch_add(report.steps, Ordering::Relaxed);
        totals.texts.fetch_add(report.texts, Ordering::Relaxed);
        counts.iter_mut().zip(report.counts).for_each(|(sum, count)| *sum += count);
        if let Some(broken) = report.broken {
            totals.is_over.store(true, Ordering::Relaxed);
            let mut found = totals.found.lock().expect("no thread panics with it");
            if found.as_ref().is_none_or(|(seed_found, ..)| *seed_found > seed) {
                *found = Some((seed, nth + 1, broken.to_string()));
            }
            break;
        }
    }
    totals.coverage.lock().expect("no thread panics with it").merge(&coverage);
    let mut sums = totals.counts.lock().expect("no thread panics with it");
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    drop(sums);
}

/// Shows how far it has come: a line that is written over on a terminal, a line now and then elsewhere.
fn show(began: Instant, totals: &Totals, limit: u64, minutes: Option<f64>) {
    let is_terminal = io::stderr().is_terminal();
    let mut shown = Instant::now();
    let pause = Duration::from_secs(if is_terminal { 1 } else { 30 });
    loop {
        thread::sleep(Duration::from_millis(20));
        let is_over = totals.is_over.load(Ordering::Relaxed)
            || totals.done.load(Ordering::Relaxed) >= limit
            || minutes.is_some_and(|minutes| began.elapsed().as_secs_f64() >= minutes * 60.0);
        if is_over {
            break;
        }
        if shown.elapsed() < pause {
            continue;
        }
        shown = Instant::now();
        let (done, seconds) = (totals.done.load(Ordering::Relaxed), began.elapsed().as_secs_f64());
        let line = format!("{done} schedules in {seconds:.0} s, {:.0} a second, nothing found", done as f64 / seconds);
        if is_terminal { eprint!("\r{line}") } else { eprintln!("{line}") }
    }
    if is_terminal {
        eprintln!();
    }
}

/// A reader that has gone wants nothing more.
fn print(text: &str) {
    _ = io::stdout().lock().write_all(text.as_bytes());
}
