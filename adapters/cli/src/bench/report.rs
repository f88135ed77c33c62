//! What came out, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::bench::case::Case;
use crate::bench::rounds::Held;
use crate::bench::rounds::Sample;
use crate::bench::rounds::Samples;

/// Everything that the bench found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) version: &'static str,
    pub(crate) runtime: &'static str,
    /// The core that both processes ran on; nothing where they could not be kept on one.
    pub(crate) core: Option<usize>,
    pub(crate) runs: u32,
    pub(crate) seconds: f64,
    pub(crate) cases: Vec<Row>,
    pub(crate) idle: Option<Idle>,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    #[serde(skip)]
    title: String,
    raw: Figures,
    reattach: Figures,
    /// Of the two medians.
    cpu_ratio: Option<f64>,
    /// The smallest and the largest ratio that a single round had.
    cpu_ratio_of_rounds: Option<[f64; 2]>,
    wall_ratio: f64,
}

/// The medians over the rounds, per message.
#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    messages: u64,
    cpu_ns: Option<f64>,
    wall_ns: f64,
}

/// What a server holds for a connection on which nothing happens.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Idle {
    pub(crate) connections: u64,
    pub(crate) raw_bytes: Option<f64>,
    pub(crate) reattach_bytes: Option<f64>,
    pub(crate) ratio: Option<f64>,
}

impl Row {
    pub(crate) fn new(case: Case, samples: &Samples) -> Self {
        let (raw, reattach) = (Figures::of(&samples.raw), Figures::of(&samples.reattach));
        let of_rounds = samples.raw.iter().zip(&samples.reattach);
        let of_rounds: Option<Vec<_>> = of_rounds.map(|(raw, reattach)| ratio(cpu_of(raw), cpu_of(reattach))).collect();
        let cpu_ratio_of_rounds = of_rounds.map(|ratios| {
            let (low, high) = (f64::INFINITY, f64::NEG_INFINITY);
            ratios.iter().fold([low, high], |[low, high], ratio| [low.min(*ratio), high.max(*ratio)])
        });
        Self {
            name: case.to_string(),
            title: case.title(),
            cpu_ratio: ratio(raw.cpu_ns, reattach.cpu_ns),
            cpu_ratio_of_rounds,
            wall_ratio: reattach.wall_ns / raw.wall_ns,
            raw,
            reattach,
        }
    }

    fn cells(&self) -> [String; 6] {
        let spread = self.cpu_ratio_of_rounds.map(|[low, high]| format!("{low:.2} .. {high:.2}"));
        [
            self.title.clone(),
            self.raw.cpu_ns.map_or_else(dash, time),
            self.reattach.cpu_ns.map_or_else(dash, time),
            self.cpu_ratio.map_or_else(dash, times),
            spread.unwrap_or_else(dash),
            times(self.wall_ratio),
        ]
    }
}

impl Figures {
    fn of(samples: &[Sample]) -> Self {
        let cpu: Option<Vec<_>> = samples.iter().map(cpu_of).collect();
        Self {
            messages: samples.iter().map(|sample| sample.messages).sum(),
            cpu_ns: cpu.map(median),
            wall_ns: median(samples.iter().map(|sample| per_message(sample.wall, sample)).collect()),
        }
    }
}

impl Idle {
    pub(crate) fn new(connections: u64, held: Held) -> Self {
        let Held { raw, reattach } = held;
        Self { connections, raw_bytes: raw, reattach_bytes: reattach, ratio: ratio(raw, reattach) }
    }

    /// A sentence, for its columns would be others than the table's.
    fn text(&self) -> String {
        let bytes = |bytes: Option<f64>| bytes.map_or_else(dash, kilobytes);
        let (raw, reattach) = (bytes(self.raw_bytes), bytes(self.reattach_bytes));
        let ratio = self.ratio.map_or_else(dash, times);
        format!(
            "The server's memory for each of {} idle connections: raw {raw}, Reattach {reattach}, {ratio}.",
            self.connections
        )
    }
}

impl Report {
    /// The table.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let place = self.core.map_or_else(|| "not kept on one core".to_owned(), |core| format!("on core {core}"));
        let Self { version, runtime, runs, seconds, .. } = self;
        _ = writeln!(out, "\nReattach {version} on {runtime}, client and server {place}.");
        if !self.cases.is_empty() {
            _ = writeln!(
                out,
                "The cost of a message, both processes together; medians of {runs} rounds, {seconds} s each:\n"
            );
            self.table(&mut out);
        }
        if let Some(idle) = &self.idle {
            _ = writeln!(out, "\n{}", idle.text());
        }
        out
    }

    fn table(&self, out: &mut String) {
        let header = ["", "raw CPU", "Reattach CPU", "CPU ratio", "of single rounds", "time ratio"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(header).chain(self.cases.iter().map(Row::cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [0, 1, 2, 3, 4, 5].map(width);
        for row in &rows {
            let mut line = format!("  {:<width$}", row[0], width = widths[0]);
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                _ = write!(line, "  {cell:>width$}");
            }
            _ = writeln!(out, "{}", line.trim_end());
        }
    }
}

fn cpu_of(sample: &Sample) -> Option<f64> {
    sample.cpu.map(|cpu| per_message(cpu, sample))
}

/// In nanoseconds.
fn per_message(time: Duration, sample: &Sample) -> f64 {
    time.as_secs_f64() * 1e9 / sample.messages as f64
}

fn ratio(raw: Option<f64>, reattach: Option<f64>) -> Option<f64> {
    raw.zip(reattach).filter(|(raw, _)| *raw > 0.0).map(|(raw, reattach)| reattach / raw)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2}x")
}

fn time(nanoseconds: f64) -> String {
    if nanoseconds < 1_000.0 { format!("{nanoseconds:.0} ns") } else { format!("{:.2} us", nanoseconds / 1_000.0) }
}

fn kilobytes(bytes: f64) -> String {
    format!("{:.2} KiB", bytes / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(nanoseconds: u64) -> Sample {
        let time = Duration::from_nanos(nanoseconds * 1_000);
        Sample { messages: 1_000, cpu: Some(time), wall: 2 * time }
    }

    #[test]
    fn a_round_that_was_disturbed_does_not_move_the_ratio_but_is_seen() {
        let case = Case::all()[0];
        let samples =
            Samples { raw: [100, 100, 100].map(sample).to_vec(), reattach: [150, 900, 140].map(sample).to_vec() };
        let row = Row::new(case, &samples);
        assert_eq!(row.cpu_ratio, Some(1.5));
        assert_eq!(row.cpu_ratio_of_rounds, Some([1.4, 9.0]));
        assert_eq!(row.wall_ratio, 1.5);
        assert_eq!(row.raw.messages, 3_000);
    }

    #[test]
    fn where_the_system_tells_no_cpu_time_there_is_no_ratio_of_it() {
        let without = Sample { cpu: None, ..sample(100) };
        let row = Row::new(Case::all()[0], &Samples { raw: vec![without], reattach: vec![sample(100)] });
        assert_eq!((row.cpu_ratio, row.cpu_ratio_of_rounds), (None, None));
        assert_eq!(row.cells()[3], "-");
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(vec![5.0]), 5.0);
    }
}
