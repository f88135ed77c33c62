//! The hand-over of a message to the application, and what that decides.

use alloc::collections::BTreeSet;
use alloc::string::String;

use core::time::Duration;

use crate::id::Code;
use crate::id::Lane;
use crate::id::MessageId;
use crate::id::Seq;
use crate::wire::UncheckedPayload;

/// Who decides about a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Acceptance {
    /// Taking a message accepts it.
    #[default]
    Automatic,
    /// The application decides about each message that it has taken, within a lease.
    Manual,
}

/// From which lanes a message is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lanes<'a> {
    /// From any; ephemeral messages too.
    #[default]
    All,
    /// From this one, and nothing ephemeral.
    Only(&'a Lane),
    /// From any but these; ephemeral messages too.
    Except(&'a BTreeSet<Lane>),
}

impl Lanes<'_> {
    /// Whether a message of this lane is taken.
    #[must_use]
    pub fn holds(&self, lane: &Lane) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => *only == lane,
            Self::Except(others) => !others.contains(lane),
        }
    }

    /// Whether an ephemeral message is taken, which is in no lane.
    #[must_use]
    pub const fn holds_ephemerals(&self) -> bool {
        match self {
            Self::All | Self::Except(_) => true,
            Self::Only(_) => false,
        }
    }
}

/// Stands for one hand-over of one message, and lets the application decide about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    /// Which life of which inbox: an epoch that ended takes its handles with it.
    pub(super) life: u64,
    pub(super) seq: Seq,
    pub(super) turn: u32,
}

/// A message that is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handed {
    /// Its name, where the sender gave one.
    pub id: Option<MessageId>,
    /// What it is in order with.
    pub lane: Lane,
    /// Which of its hand-overs this is, from 1.
    pub turn: u32,
    /// What to decide by, where the application decides.
    pub handle: Option<Handle>,
    /// What it carries.
    pub payload: UncheckedPayload,
}

/// What an application decides about a message in its hands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It has taken effect.
    Accept,
    /// It had no effect, and shall not come again.
    Reject {
        /// A code for programs.
        code: Code,
        /// Words for people; may be empty.
        reason: String,
    },
    /// It had no effect yet. It shall be handed over again later.
    Defer {
        /// How much later; `None` leaves it to the configuration.
        retry_after: Option<Duration>,
        /// A code for programs.
        code: Code,
    },
    /// There will be no decision: whoever had it is gone.
    Abandon,
}
