//! What a client tells, and what its owner can look at.

use core::fmt;

use crate::error::ProtocolError;
use crate::id::ConnectionId;
use crate::id::MessageId;
use crate::link::Told;
use crate::outcome::Outcome;
use crate::outcome::SendFailed;
use crate::reconnect::Ended;
use crate::reconnect::GiveUp;
use crate::time::Instant;
use crate::wire::CloseCode;
use crate::wire::DecodeError;

/// Something that happened. Only the machine makes these; nothing from the network can forge one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// A transport is attached and the server has said where it stands.
    Attached {
        /// Whether the epoch goes on. Otherwise every message written before has its outcome in the events beside.
        resumed: bool,
    },
    /// The transport is gone. [`Status`] says what follows.
    Detached {
        /// How it ended.
        ended: Ended,
    },
    /// A try to attach has failed.
    TryFailed {
        /// How it ended.
        ended: Ended,
    },
    /// The peer's application accepted a message.
    Delivered {
        /// Which message.
        id: MessageId,
    },
    /// A message was not delivered, for now or for good.
    SendFailed(SendFailed),
    /// Another instance took the connection over.
    Superseded,
    /// The client goes on under a new identity. Provide another spare key.
    IdentityChanged {
        /// The connection that it had.
        old: ConnectionId,
        /// The connection that it has from here on.
        new: ConnectionId,
    },
    /// The peer has a message, and its application has not decided about it for a while. It may still do either.
    Delayed {
        /// Which message.
        id: MessageId,
    },
    /// The peer sent a malformed frame, which was skipped.
    FrameSkipped {
        /// What was wrong with it.
        error: DecodeError,
    },
    /// The peer broke the protocol. The transport was closed; the connection goes on.
    PeerBrokeProtocol {
        /// How.
        error: ProtocolError,
    },
    /// Trying stopped. Every message has its outcome; `reconnect` starts over.
    Failed {
        /// Why.
        reason: GiveUp,
    },
    /// The connection has ended. Every message had its outcome before; nothing is told after this.
    Closed {
        /// By whom, and why.
        reason: Closed,
    },
}

impl Event {
    /// The message whose outcome this tells, with the outcome; nothing for all that is no outcome.
    #[must_use]
    pub fn outcome(&self) -> Option<(MessageId, &Outcome)> {
        if let Self::Delivered { id } = self {
            return Some((*id, &Outcome::Delivered));
        }
        if let Self::SendFailed(failed) = self {
            return Some((failed.id, failed.outcome()?));
        }
        None
    }
}

impl From<Told> for Event {
    fn from(told: Told) -> Self {
        match told {
            Told::Delivered(id) => Self::Delivered { id },
            Told::Failed(failed) => Self::SendFailed(failed),
            Told::Delayed(id) => Self::Delayed { id },
        }
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Closed {
    /// This side closed it and had nothing left to send.
    Flushed,
    /// This side closed it with messages left at the deadline, or at once.
    Cut,
    /// The server ended it.
    ByPeer {
        /// Its code.
        code: CloseCode,
        /// Its words.
        reason: alloc::string::String,
    },
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flushed => f.write_str("this side closed it"),
            Self::Cut => f.write_str("this side closed it at once"),
            Self::ByPeer { code, reason } if reason.is_empty() => write!(f, "the server ended it ({})", code.get()),
            Self::ByPeer { code, reason } => write!(f, "the server ended it ({}: {reason})", code.get()),
        }
    }
}

/// Where a client stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// A transport is being opened, or waits for its welcome.
    Connecting {
        /// Which retry in a row it is; 0 for a first try.
        retry: u32,
        /// How many are allowed, where there is a limit.
        limit: Option<u32>,
    },
    /// Attached.
    Attached,
    /// No transport; the next try is due.
    Detached {
        /// Which retry in a row the next try is, from 1.
        retry: u32,
        /// How many are allowed, where there is a limit.
        limit: Option<u32>,
        /// When it is due.
        retry_at: Instant,
    },
    /// Sent to sleep by the application; `reconnect` wakes it.
    Suspended,
    /// Another instance holds the connection, and this client stopped.
    Superseded,
    /// The connection has ended.
    Closed(Closed),
    /// Trying stopped; `reconnect` starts over.
    Failed(GiveUp),
}
