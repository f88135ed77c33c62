//! Runs random schedules of sessions, requests and questions over the real driver, and says what contradicts the design.
//!
//! ```text
//! simulate_hub [--minutes M | --schedules N] [--seed S] [--threads T]    schedules from seed S on, by default for a minute
//! simulate_hub --seed S --only 3,7                                       replays one, with the acts of these numbers only
//! simulate_hub --seed S --replay                                         replays one whole
//! ```
//!
//! Results go to stdout, progress to stderr. The exit code is 0 where nothing was found, 1 where something was, 2 where the
//! command line is not understood.

use std::env;
use std::fmt::Write as _;
use std::io;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use harness::hubsim;
use harness::hubsim::Coverage;
use harness::hubsim::Report;
use harness::hubsim::Schedule;
use harness::oracle::Broken;

/// What was asked for.
#[derive(Debug)]
struct Options {
    minutes: Option<f64>,
    schedules: Option<u64>,
    seed: u64,
    only: Option<Vec<u32>>,
    replay: bool,
    threads: usize,
}

fn main() -> ExitCode {
    let options = match parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(what) => {
            eprintln!("simulate_hub: {what}\nTry: simulate_hub --minutes 1, or simulate_hub --seed 7 --replay");
            return ExitCode::from(2);
        }
    };
    if options.replay || options.only.is_some() {
        return replay(&options);
    }
    explore(&options)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options { minutes: None, schedules: None, seed: 1, only: None, replay: false, threads };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--minutes" => options.minutes = Some(number(&value()?)?),
            "--schedules" => options.schedules = Some(number(&value()?)?),
            "--seed" => options.seed = number(&value()?)?,
            "--threads" => options.threads = number::<usize>(&value()?)?.max(1),
            "--only" => options.only = Some(value()?.split(',').map(number).collect::<Result<_, _>>()?),
            "--replay" => options.replay = true,
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
    let report = hubsim::run(&schedule, &mut Coverage::default(), true);
    print_story(&schedule, &report);
    if report.broken.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn print_story(schedule: &Schedule, report: &Report) {
    let mut text = format!("{:?}\n", schedule.plan);
    for line in &report.story {
        _ = writeln!(text, "{line}");
    }
    match &report.broken {
        Some(broken) => _ = writeln!(text, "violation: {broken}"),
        None => _ = writeln!(text, "nothing contradicts the design; hash {:016x}", report.hash),
    }
    let numbers: Vec<String> = schedule.numbers().iter().map(u32::to_string).collect();
    _ = writeln!(text, "replay: simulate_hub --seed {} --only {}", schedule.seed, numbers.join(","));
    print(&text);
}

/// What all threads together have done.
#[derive(Debug, Default)]
struct Totals {
    next: AtomicU64,
    done: AtomicU64,
    twice: AtomicU64,
    is_over: AtomicBool,
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
        show(began, &totals, limit, end);
    });
    let found = totals.found.lock().expect("no thread panics with it").clone();
    if let Some((seed, nth, what)) = found {
        print(&format!("violation: seed {seed} after {nth} schedules: {what}\n"));
        let smallest = hubsim::shrink(&Schedule::of(seed));
        let report = hubsim::run(&smallest, &mut Coverage::default(), true);
        print_story(&smallest, &report);
        return ExitCode::FAILURE;
    }
    let done = totals.done.load(Ordering::Relaxed);
    let coverage = totals.coverage.lock().expect("no thread panics with it");
    let mut text = String::new();
    _ = writeln!(text, "schedules        {done}  ({:.0} a second)", done as f64 / began.elapsed().as_secs_f64());
    _ = writeln!(text, "ran twice        {}, each with the same trace", totals.twice.load(Ordering::Relaxed));
    _ = writeln!(text, "violations       0");
    for (what, count) in coverage.reached() {
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
    while !totals.is_over.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
        let nth = totals.next.fetch_add(1, Ordering::Relaxed);
        if nth >= limit {
            break;
        }
        let seed = first.wrapping_add(nth);
        let schedule = Schedule::of(seed);
        let mut report = hubsim::run(&schedule, &mut coverage, false);
        if nth.is_multiple_of(100) && report.broken.is_none() {
            let again = hubsim::run(&schedule, &mut coverage, false);
            totals.twice.fetch_add(1, Ordering::Relaxed);
            if again.hash != report.hash {
                report.broken = Some(Broken::new("D1", "the same seed gives another trace"));
            }
        }
        totals.done.fetch_add(1, Ordering::Relaxed);
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
}

/// Shows how far it has come, now and then.
fn show(began: Instant, totals: &Totals, limit: u64, end: Option<Instant>) {
    let mut shown = Instant::now();
    loop {
        thread::sleep(Duration::from_millis(20));
        let done = totals.done.load(Ordering::Relaxed);
        let is_late = end.is_some_and(|end| Instant::now() >= end);
        if totals.is_over.load(Ordering::Relaxed) || done >= limit || is_late {
            return;
        }
        if shown.elapsed() >= Duration::from_secs(30) {
            shown = Instant::now();
            let seconds = began.elapsed().as_secs_f64();
            eprintln!("{done} schedules in {seconds:.0} s, {:.0} a second, nothing found", done as f64 / seconds);
        }
    }
}

/// A reader that has gone wants nothing more.
fn print(text: &str) {
    _ = io::stdout().lock().write_all(text.as_bytes());
}
