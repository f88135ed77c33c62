//! What both applications of the third phase did and were told, entered by themselves as it happened.
//!
//! [`judge`](crate::demo::judge) reads it when all is over.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use reattach_tokio::core::id::MessageId;
use reattach_tokio::core::outcome::Outcome;

/// One line of the book. Times are since it was opened.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// The sender: a message was sent, no earlier than `at`.
    Sent { n: u64, id: MessageId, at: Duration, within: Option<Duration>, hands: u32 },
    /// The sender: a message is about to be cancelled.
    Cancelling { n: u64, at: Duration },
    /// The sender: it could not be cancelled, for it has its outcome.
    NotCancelled { n: u64 },
    /// The sender: an event.
    Told { id: MessageId, word: Word },
    /// The sender: a receipt gave its outcome, no later than `at`.
    Claimed { n: u64, at: Duration, outcome: Outcome },
    /// The receiver: a message was handed over, between `since` and `at`.
    Handed { n: u64, lane: u64, turn: u32, since: Duration, at: Duration, is_intact: bool },
    /// The receiver: it is about to decide.
    Deciding { n: u64, at: Duration, decision: Decided },
    /// The receiver: its decision was refused.
    Refused { n: u64, at: Duration },
    /// The receiver: the lease was made longer, from no earlier than `at`.
    Extended { n: u64, at: Duration, lease: Duration },
    /// All outcomes are there and everything is about to end.
    Closing,
}

/// What an event says of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// It has its outcome.
    Outcome(Outcome),
    /// It was put off.
    PutOff { attempt: u32, code: String },
    /// It takes long.
    Delayed,
}

/// What the receiver's application decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decided {
    Accept,
    Reject { code: String, reason: String },
    Defer { code: String, retry_after: Duration },
    Drop,
}

/// The book.
#[derive(Debug)]
pub(crate) struct Book {
    opened: Instant,
    lines: Mutex<Vec<Line>>,
    sent: AtomicU64,
    claimed: AtomicU64,
}

impl Book {
    pub(crate) fn open() -> Self {
        Self { opened: Instant::now(), lines: Mutex::default(), sent: AtomicU64::new(0), claimed: AtomicU64::new(0) }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Enters a line.
    pub(crate) fn enter(&self, line: Line) {
        let count = match line {
            Line::Sent { .. } => Some(&self.sent),
            Line::Claimed { .. } => Some(&self.claimed),
            Line::Cancelling { .. }
            | Line::NotCancelled { .. }
            | Line::Told { .. }
            | Line::Handed { .. }
            | Line::Deciding { .. }
            | Line::Refused { .. }
            | Line::Extended { .. }
            | Line::Closing => None,
        };
        self.lock().push(line);
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many messages were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// How many outcomes there are.
    pub(crate) fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Everything that was entered, in order.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
