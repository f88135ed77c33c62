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

/// From where a session is to be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WatchFrom {
    /// From the snapshot, or from the first event.
    Start,
    /// What comes from now on.
    Now,
    /// What comes after this; from the snapshot, where that is not kept any more.
    After(Cursor),
}

/// Where watching begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a gap is watched by nobody"]
pub enum Watch {
    /// What comes after this is sent, with the snapshot before it where there has to be one.
    From(Cursor),
    /// What comes after the cursor is not kept any more, or is of another life of the session, and there is no snapshot that bridges
    /// it. Nothing is watched.
    Gap {
        /// Where the session is now.
        end: Cursor,
    },
}

/// The most levels of arrays and objects in an event: the message around it is one more.
pub const MAX_DEPTH: usize = crate::wire::MAX_DEPTH - 1;

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
    /// An event or a snapshot is larger than may be.
    #[error("it has {len} bytes, and {limit} are the most")]
    TooLarge {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// An event or a snapshot is nested too deep to stand in a message.
    #[error("nested deeper than {} levels", MAX_DEPTH)]
    TooDeep,
    /// As many as may be are there.
    #[error("there are {limit} of them, which is as many as may be")]
    TooMany {
        /// The bound.
        limit: usize,
    },
}
