//! Searches the states of real machines, and says what is broken.
//!
//! `model_check [--shape NAME|all|small|large] [--max-gib G] [--max-minutes M] [--seed N] [--merge little|well]`. The limits are
//! of each shape; to merge little is to tell states apart by all that ever happened. It prints a table of what was searched, and
//! a trace of what was done where a property does not hold; then it fails.

use std::process::ExitCode;
use std::time::Duration;

use harness::explore::End;
use harness::explore::Limits;
use harness::explore::Report;
use harness::explore::Shape;
use harness::explore::search;

fn main() -> ExitCode {
    let Some((shapes, limits)) = arguments() else {
        eprintln!(
            "usage: model_check [--shape NAME|all|small|large] [--max-gib G] [--max-minutes M] [--seed N] [--merge little|well]"
        );
        eprintln!("shapes: {}", Shape::all().iter().map(|shape| shape.name).collect::<Vec<_>>().join("; "));
        return ExitCode::from(2);
    };
    // What panics is told with the trace that leads there.
    std::panic::set_hook(Box::new(|_| {}));
    println!("| shape | steps | states | at rest | depth | seconds | | outcomes |\n|---|---|---|---|---|---|---|---|");
    let mut has_failed = false;
    for shape in shapes {
        let report = search(&shape, &limits, |report| eprintln!("{}: {}", shape.name, progress(report)));
        let end = match &report.end {
            End::Finished => "finished".to_owned(),
            End::Stopped(limit) => format!("stopped at {limit}"),
            End::Failed(_) => "failed".to_owned(),
            End::GoingOn => "going on".to_owned(),
        };
        let Report { steps, states, rests, depth, time, outcomes, end: _ } = &report;
        let outcomes = outcomes.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
        let (name, seconds) = (shape.name, time.as_secs_f64());
        println!("| {name} | {steps} | {states} | {rests} | {depth} | {seconds:.1} | {end} | {outcomes} |");
        if let End::Failed(failure) = &report.end {
            println!("\n{}: {failure}\n", shape.name);
            has_failed = true;
        }
    }
    if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn progress(report: &Report) -> String {
    let rate = report.states as f64 / report.time.as_secs_f64();
    format!("{} states, {} steps, depth {}, {rate:.0} states/s", report.states, report.steps, report.depth)
}

fn arguments() -> Option<(Vec<Shape>, Limits)> {
    let (mut shapes, mut limits) = (Shape::all(), Limits { time: Duration::MAX, ..Limits::default() });
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next()?;
        match argument.as_str() {
            "--shape" => {
                shapes = match value.as_str() {
                    "all" => Shape::all(),
                    "small" => Shape::small(),
                    "large" => Shape::large(),
                    name => vec![Shape::named(name)?],
                }
            }
            "--max-gib" => limits.bytes = (value.parse::<f64>().ok()? * f64::from(1 << 30)) as usize,
            "--max-minutes" => limits.time = Duration::try_from_secs_f64(value.parse::<f64>().ok()? * 60.0).ok()?,
            "--merge" => {
                limits.is_whole = match value.as_str() {
                    "well" => false,
                    "little" => true,
                    _ => return None,
                }
            }
            "--seed" => limits.seed = value.parse().ok()?,
            _ => return None,
        }
    }
    Some((shapes, limits))
}
