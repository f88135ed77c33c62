//! Who drives a session.
//!
//! ```text
//!            own                     suspend
//!  Detached ----> Owned by X, gen n --------> Suspended, gen n
//!     ^             |   ^      |                |    |
//!     |-- release --'   '------+-- own, gen n+1-'    |
//!     |-- X is gone, and nobody takes it up --'      |
//!     '------------------ too long ------------------'
//! ```
//!
//! Another connection of the same principal takes a session over at once, whatever became of its owner. Whoever acts for an owner
//! names its generation, so that what comes late for one that was replaced changes nothing.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::ConnectionId;
use crate::session::id::Generation;
use crate::time::Instant;

/// Who drives a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ownership {
    generation: Generation,
    state: State,
    /// Those who are taking it up, and are not done.
    resumes: BTreeMap<u64, ConnectionId>,
    numbers: u64,
    /// Its owner is gone, and only that somebody takes it up keeps it.
    is_orphan: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum State {
    #[default]
    Detached,
    Owned(ConnectionId),
    Suspended {
        until: Instant,
    },
}

impl Ownership {
    /// The owner.
    #[must_use]
    pub const fn owner(&self) -> Option<ConnectionId> {
        match self.state {
            State::Owned(owner) => Some(owner),
            State::Detached | State::Suspended { .. } => None,
        }
    }

    /// The number of the owner, or of the last.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether it waits for somebody to take it up again.
    #[must_use]
    pub const fn is_suspended(&self) -> bool {
        matches!(self.state, State::Suspended { .. })
    }

    /// Makes a connection the owner. Returns who was before, where it is another; nothing changes where it is the owner already.
    pub fn own(&mut self, by: ConnectionId) -> Option<Option<ConnectionId>> {
        let before = self.owner();
        if before == Some(by) {
            self.is_orphan = false;
            return None;
        }
        self.move_to(State::Owned(by));
        Some(before)
    }

    /// The owner lets go. Returns whether it was the owner still.
    pub fn release(&mut self, generation: Generation) -> bool {
        let is_current = generation == self.generation && self.state != State::Detached;
        if is_current {
            self.detach();
        }
        is_current
    }

    /// The owner goes to sleep. Returns whether it was the owner still.
    pub fn suspend(&mut self, generation: Generation, until: Instant) -> bool {
        let is_current = generation == self.generation && matches!(self.state, State::Owned(_));
        if is_current {
            self.state = State::Suspended { until };
            // It needs no owner now: one that came back may put a session to sleep that was kept for somebody else.
            self.is_orphan = false;
        }
        is_current
    }

    /// A connection is gone for good. Returns whether the session is detached by that: it is not where somebody else owns it or
    /// takes it up, or where it is suspended.
    pub fn on_gone(&mut self, connection: ConnectionId) -> bool {
        self.resumes.retain(|_, by| *by != connection);
        self.is_orphan |= self.state == State::Owned(connection);
        self.detach_orphan()
    }

    /// Somebody begins to take it up. Until that is done its owner's end does not detach it.
    pub fn begin_resume(&mut self, by: ConnectionId) -> u64 {
        self.numbers += 1;
        self.resumes.insert(self.numbers, by);
        self.numbers
    }

    /// Taking it up succeeded: returns as [`Ownership::own`]. `None` too where it did not begin, or its connection is gone.
    pub fn finish_resume(&mut self, number: u64) -> Option<(ConnectionId, Option<ConnectionId>)> {
        let by = self.resumes.remove(&number)?;
        self.own(by).map(|before| (by, before))
    }

    /// Who is taking it up under this number.
    #[must_use]
    pub fn resuming(&self, number: u64) -> Option<ConnectionId> {
        self.resumes.get(&number).copied()
    }

    /// Whether the end of a connection concerns it: it owns it or takes it up.
    #[must_use]
    pub fn concerns(&self, connection: ConnectionId) -> bool {
        self.involved().any(|involved| involved == connection)
    }

    /// Who owns it or takes it up.
    pub fn involved(&self) -> impl Iterator<Item = ConnectionId> + use<> {
        let resuming: Vec<_> = self.resumes.values().copied().collect();
        self.owner().into_iter().chain(resuming)
    }

    /// Taking it up failed. Returns whether the session is detached by that.
    pub fn fail_resume(&mut self, number: u64) -> bool {
        self.resumes.remove(&number);
        self.detach_orphan()
    }

    /// Lets time pass. Returns whether the session is detached by that.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let is_over = matches!(self.state, State::Suspended { until } if until <= now);
        // Who takes it up has no time of its own, but a connection, which has.
        let is_over = is_over && self.resumes.is_empty();
        if is_over {
            self.detach();
        }
        is_over
    }

    /// When it is no longer suspended.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Suspended { until } if self.resumes.is_empty() => Some(until),
            State::Suspended { .. } | State::Detached | State::Owned(_) => None,
        }
    }

    fn detach_orphan(&mut self) -> bool {
        let is_over = self.is_orphan && self.resumes.is_empty();
        if is_over {
            self.detach();
        }
        is_over
    }

    fn detach(&mut self) {
        self.state = State::Detached;
        self.is_orphan = false;
    }

    fn move_to(&mut self, state: State) {
        self.generation = Generation(self.generation.0 + 1);
        self.state = state;
        self.is_orphan = false;
    }
}
