//! What a program measures of its connections, by the facade of the crate `metrics`. The names stand in the crate's docs.

use std::sync::Once;

use metrics::Counter;
use metrics::Gauge;
use metrics::Histogram;
use metrics::Unit;
use metrics::counter;
use metrics::describe_counter;
use metrics::describe_gauge;
use metrics::describe_histogram;
use metrics::gauge;
use metrics::histogram;
use reattach_core::connection::Stats;
use reattach_core::outcome::Outcome;
use reattach_core::permission::BrokerStats;
use reattach_core::permission::DialogsStats;

/// Measures one connection on one side.
pub(crate) struct Meter {
    /// What was measured of it before.
    before: Stats,
    is_attached: bool,
    /// In the order of [`counts`].
    counters: [Counter; COUNTERS.len()],
    /// In the order of [`sizes`].
    gauges: [Gauge; GAUGES.len()],
    connections: Gauge,
    attached: Gauge,
    round_trip: Histogram,
    /// In the order of [`OUTCOMES`].
    outcomes: [Counter; OUTCOMES.len()],
}

const ATTACHES: &str = "reattach_attaches_total";
const CONNECTIONS: &str = "reattach_connections";
const ATTACHED: &str = "reattach_connections_attached";
const ROUND_TRIP: &str = "reattach_round_trip_seconds";
const OUTCOMES_TOTAL: &str = "reattach_outcomes_total";

const OUTCOMES: [&str; 4] = ["delivered", "rejected", "not_delivered", "unknown"];

const COUNTERS: [(&str, &str); 11] = [
    (ATTACHES, "Transports that were attached"),
    ("reattach_resumes_total", "Attached transports over which the epoch went on, nothing lost"),
    ("reattach_messages_written_total", "Reliable messages written, again or for the first time"),
    ("reattach_messages_rewritten_total", "Reliable messages written again"),
    ("reattach_messages_lost_total", "Reliable messages that were lost on a live transport, and written again"),
    ("reattach_messages_received_total", "Reliable messages that came for the first time"),
    ("reattach_messages_duplicate_total", "Reliable messages that came again, and were dropped"),
    ("reattach_messages_handed_over_total", "Reliable messages that the application took"),
    ("reattach_ephemerals_dropped_total", "Ephemeral messages that were replaced or dropped unread"),
    ("reattach_malformed_frames_total", "Malformed frames that were skipped"),
    ("reattach_gaps_total", "Times that much more time had passed than was asked for"),
];

const fn counts(stats: &Stats) -> [u64; COUNTERS.len()] {
    let link = &stats.link;
    [
        stats.attached,
        stats.resumed,
        link.written,
        link.rewritten,
        link.lost,
        link.received,
        link.duplicates,
        link.handed_over,
        link.ephemerals_dropped,
        stats.malformed,
        stats.gaps,
    ]
}

const GAUGES: [(&str, &str); 4] = [
    ("reattach_messages_queued", "Messages that wait to be written"),
    ("reattach_messages_unsettled", "Messages that were written and have no outcome"),
    ("reattach_messages_delayed", "Those of them that the other side has had for long, undecided"),
    ("reattach_messages_untaken", "Messages that came and are not final"),
];

#[expect(clippy::cast_precision_loss, reason = "queues are shorter than 2^52")]
const fn sizes(stats: &Stats) -> [f64; GAUGES.len()] {
    [stats.queued as f64, stats.written as f64, stats.delayed as f64, stats.undelivered as f64]
}

impl Meter {
    /// `side` is the label that every measure has: `client` or `server`.
    pub(crate) fn new(side: &'static str) -> Self {
        describe();
        let connections = gauge!(CONNECTIONS, "side" => side);
        connections.increment(1);
        Self {
            before: Stats::default(),
            is_attached: false,
            counters: COUNTERS.map(|(name, _)| counter!(name, "side" => side)),
            gauges: GAUGES.map(|(name, _)| gauge!(name, "side" => side)),
            connections,
            attached: gauge!(ATTACHED, "side" => side),
            round_trip: histogram!(ROUND_TRIP, "side" => side),
            outcomes: OUTCOMES.map(|outcome| counter!(OUTCOMES_TOTAL, "side" => side, "outcome" => outcome)),
        }
    }

    /// Measures where the connection stands.
    pub(crate) fn measure(&mut self, stats: impl FnOnce() -> Stats, is_attached: bool) {
        let stats = stats();
        for ((counter, now), before) in self.counters.iter().zip(counts(&stats)).zip(counts(&self.before)) {
            if now > before {
                counter.increment(now - before);
            }
        }
        self.measure_sizes(&stats);
        if let Some(rtt) = stats.rtt.filter(|_| stats.rtt != self.before.rtt) {
            self.round_trip.record(rtt);
        }
        if is_attached != self.is_attached {
            self.attached.increment(if is_attached { 1.0 } else { -1.0 });
        }
        (self.before, self.is_attached) = (stats, is_attached);
    }

    fn measure_sizes(&self, stats: &Stats) {
        for ((gauge, now), before) in self.gauges.iter().zip(sizes(stats)).zip(sizes(&self.before)) {
            let difference = now - before;
            if difference != 0.0 {
                gauge.increment(difference);
            }
        }
    }

    /// A message has its outcome.
    pub(crate) fn count_outcome(&self, outcome: &Outcome) {
        let index = match outcome {
            Outcome::Delivered => 0,
            Outcome::Rejected { .. } => 1,
            Outcome::NotDelivered { .. } => 2,
            Outcome::Unknown { .. } => 3,
        };
        self.outcomes[index].increment(1);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.measure_sizes(&Stats::default());
        self.connections.decrement(1);
        if self.is_attached {
            self.attached.decrement(1);
        }
    }
}

/// What was counted, and was told to the recorder.
struct Told<const N: usize> {
    counters: [Counter; N],
    before: [u64; N],
}

impl<const N: usize> Told<N> {
    const fn new(counters: [Counter; N]) -> Self {
        Self { counters, before: [0; N] }
    }

    fn tell(&mut self, counts: [u64; N]) {
        for ((counter, now), before) in self.counters.iter().zip(counts).zip(self.before) {
            if now > before {
                counter.increment(now - before);
            }
        }
        self.before = counts;
    }
}

const QUESTIONS_OPEN: &str = "reattach_questions_open";
const QUESTIONS_ASKED: &str = "reattach_questions_asked_total";
const QUESTIONS_DECIDED: &str = "reattach_questions_decided_total";
const ANSWERS_REFUSED: &str = "reattach_answers_refused_total";

const DECIDED: [&str; 4] = ["allowed", "denied", "timed_out", "cancelled"];
const REFUSED: [&str; 7] = ["duplicate", "beaten", "late", "withdrawn", "foreign", "unknown", "malformed"];

/// Measures the questions of one hub.
pub(crate) struct QuestionsMeter {
    open: Gauge,
    is_open: usize,
    asked: Told<1>,
    /// In the order of [`DECIDED`].
    decided: Told<4>,
    /// In the order of [`REFUSED`].
    refused: Told<7>,
}

impl QuestionsMeter {
    pub(crate) fn new() -> Self {
        describe();
        let decided = |outcome| counter!(QUESTIONS_DECIDED, "side" => "server", "outcome" => outcome);
        let refused = |reason| counter!(ANSWERS_REFUSED, "side" => "server", "reason" => reason);
        Self {
            open: gauge!(QUESTIONS_OPEN, "side" => "server"),
            is_open: 0,
            asked: Told::new([counter!(QUESTIONS_ASKED, "side" => "server")]),
            decided: Told::new(DECIDED.map(decided)),
            refused: Told::new(REFUSED.map(refused)),
        }
    }

    /// Measures where the hub stands.
    pub(crate) fn measure(&mut self, stats: &BrokerStats, open: usize) {
        self.asked.tell([stats.asked]);
        self.decided.tell([stats.allowed, stats.denied, stats.timed_out, stats.cancelled]);
        let BrokerStats { duplicates, beaten, late, withdrawn, foreign, unknown, malformed, .. } = *stats;
        self.refused.tell([duplicates, beaten, late, withdrawn, foreign, unknown, malformed]);
        self.measure_open(open);
    }

    #[expect(clippy::cast_precision_loss, reason = "there are less than 2^52")]
    fn measure_open(&mut self, open: usize) {
        if open != self.is_open {
            self.open.increment(open as f64 - self.is_open as f64);
            self.is_open = open;
        }
    }
}

impl Drop for QuestionsMeter {
    fn drop(&mut self) {
        self.measure_open(0);
    }
}

const DIALOGS: [(&str, &str); 6] = [
    ("reattach_dialogs_shown_total", "Questions that were shown to somebody"),
    ("reattach_answers_sent_total", "Answers that somebody gave"),
    ("reattach_answers_retried_total", "Times that an answer was sent again by itself"),
    ("reattach_answers_confirmed_total", "Answers that the server has taken"),
    ("reattach_answers_failed_total", "Answers that were given up after the last retry"),
    ("reattach_answers_not_taken_total", "Answers on their way whose question was decided otherwise, or is gone"),
];

/// Measures the dialogs of one watched session.
pub(crate) struct DialogsMeter(Told<6>);

impl std::fmt::Debug for DialogsMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DialogsMeter")
    }
}

impl DialogsMeter {
    pub(crate) fn new() -> Self {
        describe();
        Self(Told::new(DIALOGS.map(|(name, _)| counter!(name, "side" => "client"))))
    }

    /// Measures where the dialogs stand.
    pub(crate) fn measure(&mut self, stats: &DialogsStats) {
        let DialogsStats { shown, sent, retried, confirmed, failed, not_taken, .. } = *stats;
        self.0.tell([shown, sent, retried, confirmed, failed, not_taken]);
    }
}

fn describe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (name, text) in COUNTERS.into_iter().chain(DIALOGS) {
            describe_counter!(name, text);
        }
        for (name, text) in GAUGES {
            describe_gauge!(name, text);
        }
        describe_gauge!(CONNECTIONS, "Connections, attached or not");
        describe_gauge!(ATTACHED, "Connections that have a transport");
        describe_histogram!(ROUND_TRIP, Unit::Seconds, "The smoothed round trip, whenever it has changed");
        describe_counter!(OUTCOMES_TOTAL, "Messages that have their outcome");
        describe_gauge!(QUESTIONS_OPEN, "Questions that nobody has decided yet");
        describe_counter!(QUESTIONS_ASKED, "Questions that were asked");
        describe_counter!(QUESTIONS_DECIDED, "Questions that have been decided");
        describe_counter!(ANSWERS_REFUSED, "Answers that decided nothing");
    });
}
