//! The events of a session, as long as they are kept. The log is the queue of all who watch: each has a place in it, and nothing
//! is copied for anybody.

use alloc::collections::VecDeque;
use alloc::string::String;

use core::fmt::Write as _;

use crate::id::Epoch;
use crate::session::config::LogLimits;
use crate::session::id::Cursor;
use crate::session::id::Offset;
use crate::time::Instant;
use crate::wire::Payload;

/// A session's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    limits: LogLimits,
    epoch: Epoch,
    /// The newest event's number.
    last: Offset,
    /// With the times at which they came; each as it goes to all who watch.
    events: VecDeque<(Instant, Payload)>,
    bytes: u64,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What the application says it is.
    Application,
    /// A permission: it is one of the [messages about permissions](crate::messages::PermissionMessage).
    Permission,
}

impl Kind {
    /// What stands before the event on the wire.
    pub(super) const PERMISSION: &'static str = "\"permission\"";

    /// The same, and what stands between.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Application => "",
            Self::Permission => "\"permission\",",
        }
    }
}

/// What stands behind a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// This event.
    Event(Offset, &'a Payload),
    /// Nothing yet.
    Nothing,
    /// Something that is not kept any more, or another life of the log.
    Gone,
}

impl Log {
    /// A log of nothing. `epoch` is random, and names this life of it.
    #[must_use]
    pub const fn new(limits: LogLimits, epoch: Epoch) -> Self {
        Self { limits, epoch, last: Offset::ZERO, events: VecDeque::new(), bytes: 0 }
    }

    /// Adds an event, and drops what is beyond the bounds then. Returns its number.
    pub fn append(&mut self, kind: Kind, event: &Payload, now: Instant) -> Offset {
        self.last = self.last.next();
        // The observers of a session all get the same text.
        let mut text = String::with_capacity(event.len() + 40);
        write!(text, "[{},{}{}]", self.last, kind.prefix(), event.as_str()).expect("a string takes all");
        self.bytes += text.len() as u64;
        self.events.push_back((now, Payload::of_known_parts(&text)));
        while self.events.len() > self.limits.count.max(1) || (self.bytes > self.limits.bytes && self.events.len() > 1)
        {
            self.drop_oldest();
        }
        self.expire(now);
        self.last
    }

    /// Drops what is too old.
    pub fn expire(&mut self, now: Instant) {
        while self.expires().is_some_and(|at| at <= now) {
            self.drop_oldest();
        }
    }

    /// When the oldest event is too old.
    #[must_use]
    pub fn expires(&self) -> Option<Instant> {
        self.events.front().map(|(came, _)| *came + self.limits.age)
    }

    fn drop_oldest(&mut self) {
        if let Some((_, event)) = self.events.pop_front() {
            self.bytes -= event.len() as u64;
        }
    }

    /// Where the newest event stands.
    #[must_use]
    pub const fn end(&self) -> Cursor {
        Cursor { epoch: self.epoch, offset: self.last }
    }

    /// What comes behind a cursor. One beyond the end is of another life.
    #[must_use]
    pub fn after(&self, cursor: Cursor) -> Next<'_> {
        let Some(behind) = self.last.get().checked_sub(cursor.offset.get()) else { return Next::Gone };
        if cursor.epoch != self.epoch {
            return Next::Gone;
        }
        if behind == 0 {
            return Next::Nothing;
        }
        let index = usize::try_from(behind).ok().and_then(|behind| self.events.len().checked_sub(behind));
        match index.and_then(|index| self.events.get(index)) {
            Some((_, event)) => Next::Event(cursor.offset.next(), event),
            None => Next::Gone,
        }
    }

    /// How many events are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How many bytes they have.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}
