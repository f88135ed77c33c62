//! What a server tells.

use core::fmt;

use crate::error::ProtocolError;
use crate::id::ConnectionId;
use crate::id::IdError;
use crate::id::MessageId;
use crate::id::Principal;
use crate::id::TransportId;
use crate::link::Told;
use crate::outcome::Outcome;
use crate::outcome::SendFailed;
use crate::reconnect::Ended;
use crate::wire::CloseCode;
use crate::wire::DecodeError;

/// Something that happened to one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerEvent {
    /// A transport is attached.
    Attached {
        /// Whether the epoch goes on. Otherwise the client's state is new: every message written to it before has its outcome
        /// in the events beside, and what the client wrote before and was not taken is gone.
        resumed: bool,
    },
    /// The transport is gone. The state is kept for a while.
    Detached {
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
    /// The client has a message, and its application has not decided about it for a while. It may still do either.
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
    /// The connection has ended. Every message had its outcome before; nothing is told after this.
    Closed {
        /// By whom, and why.
        reason: PeerClosed,
    },
}

impl PeerEvent {
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

impl From<Told> for PeerEvent {
    fn from(told: Told) -> Self {
        match told {
            Told::Delivered(id) => Self::Delivered { id },
            Told::Failed(failed) => Self::SendFailed(failed),
            Told::Delayed(id) => Self::Delayed { id },
        }
    }
}

/// What a connection left undone when the server's patience was over. Everything else had its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Unfinished {
    /// Messages of the client that the application had taken and not decided about. The client cannot tell what became of them.
    pub undecided: usize,
    /// Messages to the client that were written and had no outcome. Their senders cannot tell what became of them.
    pub unsettled: usize,
    /// Messages to the client that were never written. They are not delivered.
    pub unwritten: usize,
}

impl Unfinished {
    /// Whether everything was finished.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.undecided == 0 && self.unsettled == 0 && self.unwritten == 0
    }
}

/// How a connection ended on the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerClosed {
    /// This side closed it and had nothing left to send.
    Flushed,
    /// This side closed it with messages left at the deadline, or at once.
    Cut {
        /// What was left.
        unfinished: Unfinished,
    },
    /// The client ended it.
    ByPeer {
        /// Its code.
        code: CloseCode,
        /// Its words.
        reason: alloc::string::String,
    },
    /// No transport came back in time.
    Expired,
    /// The registry gave up waiting for this peer.
    Fenced,
    /// The application revoked it.
    Revoked,
    /// The server drained: it waited for the decisions that were out, said what became of everything, and stopped.
    Drained {
        /// What had not been decided about or settled when its patience was over.
        unfinished: Unfinished,
    },
    /// The server stopped and lost the state.
    ShutDown,
}

impl fmt::Display for PeerClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flushed => f.write_str("this side closed it"),
            Self::Cut { .. } => f.write_str("this side closed it at once"),
            Self::ByPeer { code, reason } if reason.is_empty() => write!(f, "the client ended it ({})", code.get()),
            Self::ByPeer { code, reason } => write!(f, "the client ended it ({}: {reason})", code.get()),
            Self::Expired => f.write_str("the client did not come back in time"),
            Self::Fenced => f.write_str("the server gave it up"),
            Self::Revoked => f.write_str("the server revoked it"),
            Self::Drained { .. } => f.write_str("the server drained"),
            Self::ShutDown => f.write_str("the server stopped"),
        }
    }
}

/// Something that happened at the registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegistryEvent {
    /// A connection is new.
    Registered {
        /// Which one.
        cid: ConnectionId,
        /// Whose.
        principal: Principal,
    },
    /// A transport was refused.
    Refused {
        /// Which one.
        transport: TransportId,
        /// Why.
        refusal: Refusal,
    },
    /// Another instance took a connection over.
    TakenOver {
        /// Which one.
        cid: ConnectionId,
    },
    /// No transport came back in time; the connection's state ends.
    Expired {
        /// Which one.
        cid: ConnectionId,
    },
    /// A connection's peer did not answer in time, or is gone, and was given up.
    Fenced {
        /// Which one.
        cid: ConnectionId,
    },
    /// A connection is gone from the registry.
    Removed {
        /// Which one.
        cid: ConnectionId,
    },
}

/// Why a transport was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There are too many connections: in all, from this address or of this principal.
    #[error("too many connections {of}")]
    TooMany {
        /// Of what: in all, from this address, of this principal.
        of: &'static str,
    },
    /// No accepted hello came in time.
    #[error("no accepted hello in time")]
    Timeout,
    /// What came first is not a hello, or breaks the protocol.
    #[error("{0}")]
    Protocol(ProtocolError),
    /// An identifier in the hello is malformed.
    #[error("the hello's \"{key}\" is malformed: {error}")]
    MalformedId {
        /// Which one.
        key: &'static str,
        /// What is wrong with it.
        error: IdError,
    },
    /// The key does not own the connection id.
    #[error("the key does not own the connection")]
    WrongKey,
    /// The application refused the credentials.
    #[error("the credentials were refused")]
    Unauthenticated,
    /// The connection belongs to another principal.
    #[error("the connection belongs to another principal")]
    Forbidden,
    /// A newer hello of the same instance came before.
    #[error("a newer hello came before")]
    Stale,
    /// Another instance took the connection over before.
    #[error("another instance took the connection over")]
    Superseded,
    /// A later hello came while this one waited.
    #[error("a later hello came while this one waited")]
    Overtaken,
}

impl Refusal {
    /// The close code that tells the client.
    #[must_use]
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::TooMany { .. } => CloseCode::TOO_MANY,
            Self::Timeout => CloseCode::HELLO_TIMEOUT,
            Self::Protocol(error) => error.close_code(),
            Self::MalformedId { .. } => CloseCode::MALFORMED_ID,
            // One answer for both, so that a guess at a key learns nothing.
            Self::WrongKey | Self::Unauthenticated => CloseCode::UNAUTHENTICATED,
            Self::Forbidden => CloseCode::FORBIDDEN,
            Self::Stale | Self::Overtaken => CloseCode::STALE,
            Self::Superseded => CloseCode::SUPERSEDED,
        }
    }
}
