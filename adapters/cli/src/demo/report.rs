//! The tables at the end, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::demo::forget::Forgetting;
use crate::demo::judge::Judgement;
use crate::demo::judge::Tally;
use crate::demo::ledger::Figures;

/// One performer of the first phase.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Performer {
    pub(crate) up: Figures,
    pub(crate) down: Figures,
    pub(crate) cuts: u32,
    pub(crate) cuts_by_kind: BTreeMap<String, u32>,
    pub(crate) recovery_p50_ms: Option<u64>,
    pub(crate) recovery_p99_ms: Option<u64>,
}

/// One kind of forgetting of the second phase.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Forgotten {
    pub(crate) times: u32,
    pub(crate) up: Figures,
    pub(crate) down: Figures,
    /// Unknown outcomes for reasons that are not allowed here.
    pub(crate) unknown_without_cause: u64,
}

/// The most messages that one side has written and not settled: half of the default window.
const MOST_WRITTEN: u32 = 128;

/// Everything that the demonstration found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) messages_each_way: u64,
    pub(crate) seconds: f64,
    pub(crate) phase1: Phase1,
    pub(crate) phase2: Phase2,
    pub(crate) phase3: Phase3,
    /// What was promised and not kept; empty where all was.
    pub(crate) broken: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Phase1 {
    pub(crate) reattach: Performer,
    pub(crate) plain: Performer,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Phase2 {
    pub(crate) receipts_kept: Forgotten,
    pub(crate) receipts_lost: Forgotten,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Phase3 {
    pub(crate) cuts: u32,
    pub(crate) cuts_by_kind: BTreeMap<String, u32>,
    pub(crate) all: Tally,
    pub(crate) lanes: Vec<Tally>,
    /// What was not kept, message by message; not more of it than a person reads.
    pub(crate) broken: Vec<String>,
}

impl Phase3 {
    /// The most broken promises that are told one by one.
    const MOST: usize = 20;

    pub(crate) fn new(cuts: u32, cuts_by_kind: BTreeMap<String, u32>, judgement: Judgement) -> Self {
        let Judgement { all, lanes, broken } = judgement;
        let broken = broken.iter().take(Self::MOST).map(|(n, broken)| format!("message {n}: {broken}")).collect();
        Self { cuts, cuts_by_kind, all, lanes, broken }
    }
}

/// The value below which `percent` of the sorted durations lie.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Option<u64> {
    let last = sorted.len().checked_sub(1)?;
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1).min(last);
    u64::try_from(sorted[index].as_millis()).ok()
}

impl Forgotten {
    pub(crate) fn new(forgetting: Forgetting, times: u32, [up, down]: [Figures; 2]) -> Self {
        let unknown_without_cause = (forgetting.allowed().iter().zip([&up, &down]))
            .flat_map(|(allowed, figures)| {
                figures.unknown_because.iter().filter(|(reason, _)| !allowed.contains(*reason)).map(|(_, count)| count)
            })
            .sum();
        Self { times, up, down, unknown_without_cause }
    }
}

impl Report {
    /// Finds what was promised and not kept.
    pub(crate) fn judge(&mut self) {
        let mut broken = Vec::new();
        let phase1 = &self.phase1.reattach;
        for (way, figures) in [("client to server", &phase1.up), ("server to client", &phase1.down)] {
            if !figures.is_honest() || figures.not_delivered > 0 || figures.unknown > 0 {
                broken.push(format!("phase 1, {way}: not every message arrived once, in order, and was claimed so"));
            }
            if figures.delivered != figures.sent {
                broken.push(format!("phase 1, {way}: {} sent, {} delivered", figures.sent, figures.delivered));
            }
        }
        let phase2 = [("receipts kept", &self.phase2.receipts_kept), ("receipts lost", &self.phase2.receipts_lost)];
        for (what, forgotten) in phase2 {
            for (way, figures) in [("client to server", &forgotten.up), ("server to client", &forgotten.down)] {
                if !figures.is_honest() {
                    broken.push(format!("phase 2, {what}, {way}: a claim is false, or a message came twice or late"));
                }
            }
            // What is written and unsettled is never more than a lane's half of the default window, each time.
            let most = u64::from(forgotten.times) * u64::from(MOST_WRITTEN);
            for (way, figures) in [("client to server", &forgotten.up), ("server to client", &forgotten.down)] {
                if figures.unknown > most {
                    broken.push(format!("phase 2, {what}, {way}: more is unknown than can have been written"));
                }
            }
            if forgotten.unknown_without_cause > 0 {
                broken.push(format!("phase 2, {what}: unknown outcomes for a reason that does not apply"));
            }
        }
        let phase3 = &self.phase3;
        broken.extend(phase3.broken.iter().map(|text| format!("phase 3, {text}")));
        let Tally { false_claims, unclaimed, out_of_order, handed_twice, otherwise_broken, .. } = &phase3.all;
        let all = false_claims + unclaimed + out_of_order + handed_twice + otherwise_broken;
        let told = phase3.broken.len() as u64;
        if all > told {
            broken.push(format!("phase 3: {} more of that kind", all - told));
        }
        self.broken = broken;
    }

    /// The tables.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let (ours, plain) = (&self.phase1.reattach, &self.phase1.plain);
        let kinds: Vec<_> = ours.cuts_by_kind.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        _ = writeln!(out, "\nPhase 1: {} cuts ({}). The server keeps its state.\n", ours.cuts, kinds.join(", "));
        let header = ["", "Reattach up", "Reattach down", "plain WebSocket up", "plain WebSocket down"];
        let all = [&ours.up, &ours.down, &plain.up, &plain.down];
        let mut rows = figure_rows(&all, [true, true, false, false]);
        for (name, get) in [
            ("recovery p50", (|p: &Performer| p.recovery_p50_ms) as fn(&Performer) -> Option<u64>),
            ("recovery p99", |p| p.recovery_p99_ms),
        ] {
            let both =
                [ours, plain].map(|performer| get(performer).map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")));
            rows.push(vec![name.to_owned(), both[0].clone(), String::new(), both[1].clone(), String::new()]);
        }
        table(&mut out, &header, &rows);
        let (kept, lost) = (&self.phase2.receipts_kept, &self.phase2.receipts_lost);
        _ = writeln!(
            out,
            "\nPhase 2: the server forgets the connection {} times with its receipt kept (the connection ran out), and {} \
             times without (the server died).\n",
            kept.times, lost.times
        );
        let header = ["", "kept: up", "kept: down", "lost: up", "lost: down"];
        let all = [&kept.up, &kept.down, &lost.up, &lost.down];
        let mut rows = figure_rows(&all, [true; 4]);
        let cells = |get: &dyn Fn(&Figures) -> u64| all.map(|figures| get(figures).to_string()).to_vec();
        rows.push([vec!["sender died first".to_owned()], cells(&|f| f.orphaned)].concat());
        let reasons = |get: &dyn Fn(&Figures) -> &BTreeMap<String, u64>| -> Vec<String> {
            let mut reasons: Vec<_> = all.iter().flat_map(|figures| get(figures).keys().cloned()).collect();
            reasons.sort();
            reasons.dedup();
            reasons
        };
        for reason in reasons(&|f| &f.not_delivered_because) {
            let of = |f: &Figures| f.not_delivered_because.get(&reason).copied().unwrap_or(0);
            rows.push([vec![format!("not delivered: {reason}")], cells(&of)].concat());
        }
        for reason in reasons(&|f| &f.unknown_because) {
            let of = |f: &Figures| f.unknown_because.get(&reason).copied().unwrap_or(0);
            rows.push([vec![format!("unknown: {reason}")], cells(&of)].concat());
        }
        table(&mut out, &header, &rows);
        self.phase3.write(&mut out);
        if self.broken.is_empty() {
            _ = writeln!(out, "\nEvery promise was kept ({:.0} s, seed {}).", self.seconds, self.seed);
        } else {
            _ = writeln!(out, "\nPromises broken (seed {}):", self.seed);
            for broken in &self.broken {
                _ = writeln!(out, "  {broken}");
            }
        }
        out
    }
}

impl Phase3 {
    fn write(&self, out: &mut String) {
        let kinds: Vec<_> = self.cuts_by_kind.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        _ = writeln!(
            out,
            "\nPhase 3: {} cuts ({}). The server's application decides about each message, and the client withdraws some.\n",
            self.cuts,
            kinds.join(", ")
        );
        let names = (0..self.lanes.len()).map(|lane| format!("lane {lane}"));
        let header: Vec<_> = [String::new(), "all".to_owned()].into_iter().chain(names).collect();
        let header: Vec<_> = header.iter().map(String::as_str).collect();
        let columns: Vec<_> = std::iter::once(&self.all).chain(&self.lanes).collect();
        let row = |name: &str, get: &dyn Fn(&Tally) -> u64| -> Vec<String> {
            std::iter::once(name.to_owned()).chain(columns.iter().map(|tally| get(tally).to_string())).collect()
        };
        let mut rows = vec![
            row("sent", &|t| t.sent),
            row("handed over, again too", &|t| t.hand_overs),
            row("claimed delivered", &|t| t.delivered),
            row("  accepted by the application", &|t| t.accepted),
            row("claimed rejected", &|t| t.rejected),
            row("  refused by the application", &|t| t.rejected_outright),
            row("  put off as often as it may be", &|t| t.rejected_exhausted),
            row("  withdrawn after it was put off", &|t| t.rejected_withdrawn),
            row("claimed not delivered", &|t| t.not_delivered),
        ];
        let of = |reasons: &BTreeMap<String, u64>, reason: &str| reasons.get(reason).copied().unwrap_or(0);
        for reason in self.all.not_delivered_because.keys() {
            rows.push(row(&format!("  {reason}"), &|t| of(&t.not_delivered_because, reason)));
        }
        rows.push(row("never handed over", &|t| t.never_handed_over));
        rows.push(row("claimed unknown", &|t| t.unknown));
        for reason in self.all.unknown_because.keys() {
            rows.push(row(&format!("  {reason}"), &|t| of(&t.unknown_because, reason)));
        }
        rows.extend([
            row("abandoned by the application", &|t| t.abandoned),
            row("put off by the application, times", &|t| t.deferrals),
            row("  told to the sender", &|t| t.deferrals_told),
            row("delay told to the sender", &|t| t.delayed_told),
            row("handed over twice, or too soon", &|t| t.handed_twice),
            row("out of order", &|t| t.out_of_order),
            row("false claims", &|t| t.false_claims + t.unclaimed),
            row("otherwise broken", &|t| t.otherwise_broken),
        ]);
        table(out, &header, &rows);
    }
}

/// The rows that every direction has. What nobody claims stands as a dash.
fn figure_rows(all: &[&Figures; 4], claims: [bool; 4]) -> Vec<Vec<String>> {
    let row =
        |name: &str, is_claim: bool, get: &dyn Fn(&Figures) -> u64| {
            let cells = all.iter().zip(claims).map(|(figures, has_claims)| {
                if is_claim && !has_claims { "-".to_owned() } else { get(figures).to_string() }
            });
            std::iter::once(name.to_owned()).chain(cells).collect()
        };
    vec![
        row("sent", false, &|f| f.sent),
        row("delivered", false, &|f| f.delivered),
        row("not delivered", true, &|f| f.not_delivered),
        row("unknown", true, &|f| f.unknown),
        row("lost", false, &|f| f.lost),
        row("duplicated", false, &|f| f.duplicated),
        row("out of order", false, &|f| f.out_of_order),
        row("false claims", true, &|f| f.false_claims + f.unclaimed),
    ]
}

/// A table with the first column left and the others right.
fn table(out: &mut String, header: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let header: Vec<_> = header.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = format!("  {:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            _ = write!(line, "  {cell:>width$}");
        }
        _ = writeln!(out, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let sorted: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&sorted, 50), Some(50));
        assert_eq!(percentile(&sorted, 99), Some(99));
        assert_eq!(percentile(&sorted[..1], 99), Some(1));
        assert_eq!(percentile(&[], 50), None);
    }
}
