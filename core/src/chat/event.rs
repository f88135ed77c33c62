//! What a stream is called, how it ends, what became of what came, and what callers do wrong.

use crate::id::SessionId;
use crate::messages::ChatStream;
use crate::messages::EnvelopeId;
use crate::messages::StreamEnd;

/// Names a stream: what answers this request in this session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// The session.
    pub session: SessionId,
    /// The request. Without one it is whatever is said in the session next.
    pub in_reply_to: Option<EnvelopeId>,
}

impl StreamKey {
    /// The stream that a message of it belongs to, as far as the message says.
    #[must_use]
    pub fn of(message: &ChatStream) -> Self {
        Self { session: message.session_id.clone(), in_reply_to: message.in_reply_to.clone() }
    }
}

/// How a stream has ended. What came before stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ended {
    /// Its writer said so.
    Told(StreamEnd),
    /// There was no room for more of it.
    TooLong,
    /// Its writer has lost its state. Nobody will go on.
    Lost,
}

/// What became of what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use = "what was not taken changed nothing"]
pub enum Received {
    /// It was added to its stream.
    Added,
    /// It has ended its stream. This is told once for each.
    Ended,
    /// There was no room for it, which has ended its stream.
    TooLong,
    /// Its stream had ended before. Nothing has changed.
    AfterEnd,
    /// No such stream is known. Nothing has changed.
    Unknown,
    /// It names no request, and several streams are open in its session. Nothing has changed.
    Ambiguous,
}

/// What a caller did wrong. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ChatMisuse {
    /// The stream is open.
    #[error("the stream is open")]
    Open,
    /// The stream has ended, and one request is answered once.
    #[error("the stream has ended")]
    Ended,
    /// As many streams as may be are open.
    #[error("{limit} streams are open, which is as many as may be")]
    TooMany {
        /// The bound.
        limit: usize,
    },
    /// The text is longer than may be.
    #[error("the text is longer than {limit} bytes")]
    TooLong {
        /// The bound.
        limit: usize,
    },
}
