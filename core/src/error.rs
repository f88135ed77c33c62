//! Faults, one type for each audience.
//!
//! | whose fault | type | what happens |
//! |---|---|---|
//! | bytes that are no frame | [`DecodeError`] | the frame is skipped and reported; too many close the transport |
//! | a peer that breaks the protocol | [`ProtocolError`] | the transport is closed with [`ProtocolError::close_code`] |
//! | the caller | [`ApiMisuse`] | the command returns it and changes nothing |
//!
//! Untrusted bytes never cause an [`ApiMisuse`], and `handle_*` never fails.

use crate::id::Seq;
use crate::wire::CloseCode;
pub use crate::wire::DecodeError;

/// What a peer did against the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A frame is malformed. It is skipped; only too many of them close the transport.
    #[error("malformed frame: {0}")]
    Malformed(#[from] DecodeError),
    /// More malformed frames than the budget allows.
    #[error("too many malformed frames, the last one: {0}")]
    TooManyMalformed(DecodeError),
    /// A frame that has no place here.
    #[error("a \"{frame}\" frame has no place {place}")]
    Unexpected {
        /// The type of the frame.
        frame: &'static str,
        /// Where the machine stood.
        place: &'static str,
    },
    /// The first message on a transport is something else than one hello.
    #[error("the first message on a transport has to be one hello and nothing else")]
    NotAHello,
    /// A message's number skips one that has not come.
    #[error("message {got} came while {expected} was due")]
    Gap {
        /// The number that was due.
        expected: Seq,
        /// The number that came.
        got: Seq,
    },
    /// More was written than the window allows.
    #[error("more was written than the window allows")]
    WindowExceeded,
    /// A report speaks of messages, or of changes, that do not exist.
    #[error("\"{key}\" is beyond what was sent")]
    BeyondSent {
        /// The key of the report.
        key: &'static str,
    },
    /// A payload, or a frame, is larger than announced.
    #[error("{len} bytes came where at most {limit} are taken")]
    TooLarge {
        /// How many bytes came.
        len: u64,
        /// How many are taken.
        limit: u64,
    },
    /// A welcome contradicts the hello that it answers.
    #[error("the welcome's \"{key}\" contradicts the hello")]
    BadWelcome {
        /// The key that contradicts.
        key: &'static str,
    },
    /// A welcome goes on with an epoch of which the server no longer knows what it has said before: it runs from an older
    /// copy of its state, and what its newer self has handed over is not known to it.
    #[error("the server runs from an older state than it has shown before")]
    OldState,
    /// A binary WebSocket message.
    #[error("a binary message came; only text is spoken here")]
    Binary,
}

impl ProtocolError {
    /// The close code that tells the peer.
    #[must_use]
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::Malformed(_)
            | Self::TooManyMalformed(_)
            | Self::Unexpected { .. }
            | Self::NotAHello
            | Self::Gap { .. }
            | Self::WindowExceeded
            | Self::BeyondSent { .. }
            | Self::BadWelcome { .. }
            | Self::OldState => CloseCode::PROTOCOL,
            Self::TooLarge { .. } => CloseCode::TOO_LARGE,
            Self::Binary => CloseCode::UNSUPPORTED,
        }
    }
}

/// What the caller of a command did wrong. The command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ApiMisuse {
    /// The outbox has no room. Room comes when messages are settled.
    #[error("the outbox is full")]
    QueueFull,
    /// The payload is larger than this side, or the peer, takes. It would fail for ever.
    #[error("the payload has {len} bytes, and {limit} are the most")]
    TooLarge {
        /// The payload's length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A message of this id is still in the outbox.
    #[error("a message of this id is still in the outbox")]
    IdInUse,
    /// The connection has ended, or is being closed.
    #[error("the connection has ended")]
    Ended,
    /// No transport is attached, and an ephemeral message is never queued.
    #[error("no transport is attached, and an ephemeral message is never queued")]
    NotAttached,
    /// No message of this id waits for its outcome.
    #[error("no message of this id waits for its outcome")]
    UnknownMessage,
    /// The message is not in the application's hands any more: it was decided about, its lease is over, or its epoch ended.
    #[error("the message is not in the application's hands any more")]
    Undecidable,
    /// No connection of this id exists.
    #[error("there is no such connection")]
    UnknownConnection,
    /// A close code that no frame may carry: see [`CloseCode::is_sendable`].
    #[error("no close frame may carry the code {}", .0.get())]
    ReservedCode(CloseCode),
}

impl ApiMisuse {
    /// Whether the same command can succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::QueueFull | Self::NotAttached => true,
            Self::TooLarge { .. }
            | Self::IdInUse
            | Self::Ended
            | Self::UnknownMessage
            | Self::Undecidable
            | Self::UnknownConnection
            | Self::ReservedCode(_) => false,
        }
    }
}
