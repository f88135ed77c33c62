//! Where a client stands, and every way from one place to another.
//!
//! ```text
//!            +--------------------------------- reconnect ----------------------------------+
//!            v                                                                              |
//!        Opening --opened--> Greeting --welcome--> Attached                             Stopped
//!         ^   |                 |                     |               (suspended, superseded, failed)
//!         |   +------ended------+--------ended--------+                                     ^
//!         |                     v                                                           |
//!         +---retry due---- Waiting                 any of the four --given up, superseded--+
//!
//!        any --close, disconnect, bye(end)--> Over
//! ```
//!
//! Each state that waits for somebody carries its deadline; `Attached` has its timers in the connection, `Stopped` and `Over`
//! wait for nobody.

use alloc::boxed::Box;

use crate::deadline::Deadline;
use crate::id::TransportId;
use crate::reconnect::GiveUp;
use crate::time::Instant;
use crate::wire::Token;

/// The state of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Opening { transport: TransportId, deadline: Deadline },
    Greeting(Box<Greeting>),
    Attached { transport: TransportId },
    Waiting { retry: Deadline },
    Stopped(Stop),
    Over,
}

/// A hello is out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Greeting {
    pub(super) transport: TransportId,
    deadline: Deadline,
    /// The credentials, which a hello that answers a challenge repeats.
    pub(super) token: Option<Token>,
    /// Bytes written on the transport so far.
    pub(super) produced: usize,
    /// Whether a challenge came.
    pub(super) challenged: bool,
}

/// Why a client stopped trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stop {
    /// The application sent it to sleep.
    Suspended,
    Superseded,
    Failed(GiveUp),
}

/// A deadline that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Connect,
    Hello,
    Retry,
}

/// The state in one word, for a parent that decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Opening,
    Greeting,
    Attached,
    Waiting { retry_at: Instant },
    Stopped(Stop),
    Over,
}

impl State {
    /// A transport is being opened.
    pub(super) const fn opening(transport: TransportId, deadline: Deadline) -> Self {
        Self(Kind::Opening { transport, deadline })
    }

    /// Another transport is being opened.
    pub(super) fn move_to_opening(&mut self, transport: TransportId, deadline: Deadline) {
        debug_assert!(!matches!(self.0, Kind::Over), "what is over stays over");
        *self = Self::opening(transport, deadline);
    }

    /// The transport is open and the hello is out.
    pub(super) fn move_to_greeting(&mut self, deadline: Deadline, token: Option<Token>, produced: usize) {
        let Kind::Opening { transport, .. } = self.0 else {
            unreachable!("only an opening transport can be greeted");
        };
        self.0 = Kind::Greeting(Box::new(Greeting { transport, deadline, token, produced, challenged: false }));
    }

    /// The welcome has come.
    pub(super) fn move_to_attached(&mut self) {
        let Kind::Greeting(greeting) = &self.0 else {
            unreachable!("only a greeted transport can be attached");
        };
        self.0 = Kind::Attached { transport: greeting.transport };
    }

    /// There is no transport; the next try is due at `retry_at`.
    pub(super) fn move_to_waiting(&mut self, retry_at: Instant) {
        debug_assert!(!matches!(self.0, Kind::Over | Kind::Stopped(_)), "trying has stopped");
        let mut retry = Deadline::UNARMED;
        retry.arm(retry_at);
        self.0 = Kind::Waiting { retry };
    }

    /// Trying stops until somebody asks for it.
    pub(super) fn move_to_stopped(&mut self, stop: Stop) {
        debug_assert!(!matches!(self.0, Kind::Over), "what is over stays over");
        self.0 = Kind::Stopped(stop);
    }

    /// The connection has ended.
    pub(super) fn move_to_over(&mut self) {
        self.0 = Kind::Over;
    }

    /// The live transport: opening, greeted or attached.
    pub(super) fn transport(&self) -> Option<TransportId> {
        match &self.0 {
            Kind::Opening { transport, .. } | Kind::Attached { transport } => Some(*transport),
            Kind::Greeting(greeting) => Some(greeting.transport),
            Kind::Waiting { .. } | Kind::Stopped(_) | Kind::Over => None,
        }
    }

    /// The hello that is out.
    pub(super) fn greeting_mut(&mut self) -> Option<&mut Greeting> {
        match &mut self.0 {
            Kind::Greeting(greeting) => Some(greeting),
            Kind::Opening { .. } | Kind::Attached { .. } | Kind::Waiting { .. } | Kind::Stopped(_) | Kind::Over => None,
        }
    }

    /// The state in one word.
    pub(super) fn at(&self) -> At {
        match &self.0 {
            Kind::Opening { .. } => At::Opening,
            Kind::Greeting(_) => At::Greeting,
            Kind::Attached { .. } => At::Attached,
            Kind::Waiting { retry } => {
                At::Waiting { retry_at: retry.poll_timeout().expect("a waiting client has a time for its next try") }
            }
            Kind::Stopped(stop) => At::Stopped(*stop),
            Kind::Over => At::Over,
        }
    }

    /// The deadline that has passed at `now`, if one has.
    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        let (deadline, due) = self.deadline()?;
        deadline.is_due(now).then_some(due)
    }

    /// When a deadline passes.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadline()?.0.poll_timeout()
    }

    fn deadline(&self) -> Option<(Deadline, Due)> {
        match &self.0 {
            Kind::Opening { deadline, .. } => Some((*deadline, Due::Connect)),
            Kind::Greeting(greeting) => Some((greeting.deadline, Due::Hello)),
            Kind::Waiting { retry } => Some((*retry, Due::Retry)),
            Kind::Attached { .. } | Kind::Stopped(_) | Kind::Over => None,
        }
    }
}
