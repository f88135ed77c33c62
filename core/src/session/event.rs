//! What happens to sessions, and what callers do wrong.

use alloc::vec::Vec;

use crate::id::ConnectionId;
use crate::id::SessionId;
use crate::session::id::Cursor;
use crate::session::id::Generation;
use crate::wire::Payload;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// A session has another owner.
    Owned {
        /// Which session.
        session: SessionId,
        /// The owner.
        by: ConnectionId,
        /// Its number.
        generation: Generation,
        /// The owner before, which was replaced.
        before: Option<ConnectionId>,
    },
    /// A session has no owner any more.
    Detached {
        /// Which session.
        session: SessionId,
        /// The number of the last owner.
        generation: Generation,
        /// Why.
        why: Detached,
    },
    /// A connection is gone for good. This is told once.
    Gone {
        /// Which connection.
        connection: ConnectionId,
        /// The sessions that it watched to the end.
        watched: Vec<SessionId>,
    },
}

/// Why a session has no owner any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Detached {
    /// Its owner let go.
    Released,
    /// Its owner is gone for good.
    OwnerGone,
    /// It was suspended, and nobody took it up in time.
    SuspendedTooLong,
}

/// What goes to a connection that watches: one message in the session's lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "it was taken from the session, and nobody else sends it"]
pub struct Pulled {
    /// The session.
    pub session: SessionId,
    /// The message.
    pub payload: Payload,
}

/// Where watching begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a gap is watched by nobody"]
pub enum Watch {
    /// What comes after this is sent.
    From(Cursor),
    /// What comes after the cursor is not kept any more, or is of another life of the session. Nothing is watched: take a snapshot
    /// of the session, and watch from there.
    Gap {
        /// Where the session is now.
        end: Cursor,
    },
}

/// What the caller of a command did wrong. The command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum SessionMisuse {
    /// There is no such session.
    #[error("there is no such session")]
    UnknownSession,
    /// There is one of this name.
    #[error("there is a session of this name")]
    SessionExists,
    /// There is no such connection, or it is gone.
    #[error("there is no such connection")]
    UnknownConnection,
    /// The session is another principal's.
    #[error("the session is somebody else's")]
    Forbidden,
    /// Another owner has replaced this one.
    #[error("another owner has taken the session over")]
    Replaced,
    /// As many as may be are there.
    #[error("there are {limit} of them, which is as many as may be")]
    TooMany {
        /// The bound.
        limit: usize,
    },
}
