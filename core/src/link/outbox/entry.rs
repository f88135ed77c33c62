//! A message on its way from `send` to its outcome.

use alloc::string::String;

use core::hash::Hash;
use core::hash::Hasher;
use core::time::Duration;

use crate::id::Code;
use crate::id::Lane;
use crate::id::MessageId;
use crate::id::Seq;
use crate::outcome::Failure;
use crate::outcome::NotDelivered;
use crate::outcome::Outcome;
use crate::outcome::SendFailed;
use crate::outcome::Unknown;
use crate::time::Instant;
use crate::wire::Frame;
use crate::wire::Message;
use crate::wire::Payload;

/// A message as the application sent it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its name.
    pub id: MessageId,
    /// Whether the name travels with it: only where the application chose it, or needs it to be recognised.
    pub names_id: bool,
    /// What it is in order with.
    pub lane: Lane,
    /// Whether it may be sent again, under the same name, when nobody can tell what became of it.
    pub is_idempotent: bool,
    /// Whether it is worth nothing while the server cannot be reached.
    pub is_fail_fast: bool,
    /// How often it may be handed over.
    pub hands: u32,
    /// When it is withdrawn, and why then.
    pub expires: (Instant, NotDelivered),
    /// What it carries.
    pub payload: Payload,
}

impl Entry {
    /// Writes it under a number behind what stands in `out`.
    pub(super) fn encode(&self, seq: Seq, out: &mut String) {
        let message = Message {
            seq,
            id: self.names_id.then_some(self.id),
            lane: self.lane.clone(),
            idempotent: self.is_idempotent,
            hands: self.hands,
            payload: self.payload.as_str(),
        };
        Frame::Message(message).encode(out);
    }
}

/// A message that was never written in this epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Queued {
    pub(super) entry: Entry,
    /// Attempts that were lost.
    pub(super) burned: u32,
    /// Whether it was written in an epoch before. Then it may have been handed over, and can only be delivered or unknown.
    pub(super) was_written: bool,
}

impl Queued {
    pub(super) const fn new(entry: Entry) -> Self {
        Self { entry, burned: 0, was_written: false }
    }

    pub(super) fn len(&self) -> u64 {
        self.entry.payload.len() as u64
    }

    /// What may be said of it, where nothing more is known than that it ends like this.
    pub(super) fn honest(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Rejected { .. } | Outcome::NotDelivered { .. } if self.was_written => {
                Outcome::Unknown { reason: Unknown::Resent }
            }
            Outcome::Delivered | Outcome::Rejected { .. } | Outcome::NotDelivered { .. } | Outcome::Unknown { .. } => {
                outcome
            }
        }
    }
}

/// A message that was written and is not final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) seq: Seq,
    pub(super) message: Queued,
    /// How often the peer is known to have deferred it.
    pub(super) deferred: u32,
    /// That it was withdrawn.
    pub(super) void: Option<Withdrawn>,
    /// Whether its outcome was told; then it only holds its place.
    pub(super) is_told: bool,
    /// The offset behind it in the outgoing bytes of this transport.
    pub(super) end: u64,
    /// When its bytes had left.
    pub(super) left_at: Option<Instant>,
}

impl Hash for Written {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { seq, message, deferred, void, is_told, end, left_at } = self;
        // Once it has left nobody asks where it ended.
        let end = Some(end).filter(|_| left_at.is_none());
        (seq, message, deferred, void, is_told, end, left_at).hash(state);
    }
}

/// Why a written message was withdrawn, and how long an answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Withdrawn {
    pub(super) why: NotDelivered,
    pub(super) due: Instant,
}

/// What the outbox tells about one message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// The peer's application has accepted it.
    Delivered {
        /// Which message.
        id: MessageId,
    },
    /// It has another outcome.
    Failed {
        /// Which message.
        id: MessageId,
        /// What became of it.
        outcome: Outcome,
    },
    /// The peer's application asked for it to be handed over again later.
    Deferred {
        /// Which message.
        id: MessageId,
        /// How often, from 1.
        times: u32,
        /// How long the peer waits.
        retry_after: Duration,
        /// The peer's code for why.
        code: Code,
    },
    /// The peer has it, and its application has not decided for a while.
    Delayed {
        /// Which message.
        id: MessageId,
    },
}

/// What an application is told about a message that it sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// It was delivered.
    Delivered(MessageId),
    /// It failed, for now or for good.
    Failed(SendFailed),
    /// It takes longer: the peer has it and its application is slow.
    Delayed(MessageId),
}

impl Notice {
    /// A message has its outcome.
    pub(super) fn ended(id: MessageId, outcome: Outcome) -> Self {
        if outcome.is_delivered() { Self::Delivered { id } } else { Self::Failed { id, outcome } }
    }

    /// As an application is told at `now`.
    #[must_use]
    pub fn told(self, now: Instant) -> Told {
        match self {
            Self::Delivered { id } => Told::Delivered(id),
            Self::Failed { id, outcome } => Told::Failed(SendFailed { id, failure: Failure::ForGood(outcome) }),
            Self::Deferred { id, times, retry_after, code } => {
                let retry_at = now + retry_after;
                Told::Failed(SendFailed { id, failure: Failure::ForNow { attempt: times, retry_at, reason: code } })
            }
            Self::Delayed { id } => Told::Delayed(id),
        }
    }
}
