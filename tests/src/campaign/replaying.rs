//! Runs of seeds that are known.

use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;

use super::Coverage as _;
use super::Report;
use super::Schedule;
use super::options::Options;
use super::print;

/// One schedule, told in full.
pub(super) fn replay<S: Schedule>(options: &Options) -> ExitCode {
    let mut schedule = S::of(options.seed);
    if let Some(numbers) = &options.only {
        schedule = schedule.only(numbers);
    }
    let report = schedule.run(&mut S::Coverage::default(), true);
    print_story(&schedule, &report);
    if report.broken.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What happened in a run, and how it is run again.
pub(super) fn print_story<S: Schedule>(schedule: &S, report: &Report) {
    let mut text = format!("{}\n", schedule.plan());
    for line in &report.story {
        _ = writeln!(text, "{line}");
    }
    match &report.broken {
        Some(broken) => _ = writeln!(text, "violation: {broken}"),
        None => _ = writeln!(text, "nothing contradicts the design; hash {:016x}", report.hash),
    }
    let numbers: Vec<String> = schedule.numbers().iter().map(u32::to_string).collect();
    _ = writeln!(text, "replay: {} --seed {} --only {}", S::SIMULATOR, schedule.seed(), numbers.join(","));
    print(&text);
}

/// The seeds of a file, one in a line, words after a number sign apart.
pub(super) fn replay_stored<S: Schedule>(path: &str) -> ExitCode {
    let Ok(text) = fs::read_to_string(path) else {
        eprintln!("{}: {path} cannot be read", S::SIMULATOR);
        return ExitCode::from(2);
    };
    let mut coverage = S::Coverage::default();
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        let Ok(seed) = line.parse() else { continue };
        if let Some(broken) = S::of(seed).run(&mut coverage, false).broken {
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
pub(super) fn gather<S: Schedule>(options: &Options) -> ExitCode {
    let mut coverage = S::Coverage::default();
    for seed in options.seed..options.seed + options.schedules.unwrap_or(10_000) {
        let mut own = S::Coverage::default();
        let report = S::of(seed).run(&mut own, false);
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
