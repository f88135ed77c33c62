//! How requests fail: on the wire, for who sent them, and for who calls wrongly.

use alloc::string::String;
use alloc::sync::Arc;

use core::fmt;
use core::time::Duration;

use crate::error::ApiMisuse;
use crate::id::Code;
use crate::outcome::NotDelivered;
use crate::outcome::Unknown;
use crate::rpc::id::RequestId;
use crate::wire::Payload;

/// An error as JSON-RPC carries it (JSON-RPC 2.0, section 5.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ErrorObject {
    /// What kind of error it is. Codes from -32768 to -32000 are the protocol's.
    pub code: i64,
    /// One sentence for people.
    pub message: String,
    /// More about it, where there is more.
    pub data: Option<Payload>,
}

impl ErrorObject {
    /// The text was no JSON.
    pub const PARSE_ERROR: i64 = -32_700;
    /// The JSON was no request.
    pub const INVALID_REQUEST: i64 = -32_600;
    /// There is no such method.
    pub const METHOD_NOT_FOUND: i64 = -32_601;
    /// The parameters are not the method's.
    pub const INVALID_PARAMS: i64 = -32_602;
    /// Whoever serves the request broke.
    pub const INTERNAL_ERROR: i64 = -32_603;
    /// Its sender withdrew the request; the code that the Language Server Protocol gives it.
    pub const REQUEST_CANCELLED: i64 = -32_800;

    /// An error without more about it.
    #[must_use]
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// With more about it.
    #[must_use]
    pub fn with_data(mut self, data: Payload) -> Self {
        self.data = Some(data);
        self
    }
}

impl fmt::Display for ErrorObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

/// A request that came to its end without a result. Whoever waits for it is told once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("request {id} ({method}) failed: {failure}")]
pub struct RequestError {
    /// Which request.
    pub id: RequestId,
    /// Its method.
    pub method: Arc<str>,
    /// Why.
    pub failure: Failure,
}

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The other side's application answered with an error.
    #[error("{0}")]
    Refused(ErrorObject),
    /// Its deadline passed. The other side may have done it, or may be doing it.
    #[error("no response within {after:?}")]
    TimedOut {
        /// How long it was given.
        after: Duration,
    },
    /// Nothing was heard of it for as long as was asked for.
    #[error("no progress within {after:?}")]
    Idle {
        /// How long it was given.
        after: Duration,
    },
    /// This side withdrew it.
    #[error("it was cancelled")]
    Cancelled,
    /// The other side's application certainly never had it.
    #[error("it was not delivered: {0}")]
    NotDelivered(NotDelivered),
    /// The other side turned the message away that carried it, and says that this had no effect.
    #[error("it was rejected ({code})")]
    Rejected {
        /// Why.
        code: Code,
    },
    /// It was, or may have been, written, and nobody can tell whether it was done.
    #[error("nobody can tell what became of it: {0}")]
    Unknown(Unknown),
    /// The other side had it, and its state ended before it answered: a response will not come.
    #[error("the other side lost its state before it answered")]
    EpochEnded,
    /// The connection ended while it waited.
    #[error("the connection ended: {cause}")]
    Ended {
        /// How.
        cause: Arc<str>,
    },
    /// This side could not send it.
    #[error("it could not be sent: {0}")]
    NotSent(ApiMisuse),
    /// What came in answer to it is no response.
    #[error("the response makes no sense: {problem}")]
    BadResponse {
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// What the caller of a command did wrong. The command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RpcMisuse {
    /// As many requests wait for their response as may.
    #[error("{limit} requests wait for their response, which is as many as may")]
    TooManyPending {
        /// The bound.
        limit: usize,
    },
    /// As much waits to be sent as may.
    #[error("as much waits to be sent as may")]
    QueueFull,
    /// A batch of nothing, or of too much.
    #[error("a batch holds 1 to {limit} requests and notifications")]
    BatchSize {
        /// The bound.
        limit: usize,
    },
    /// A method's name is 1 to 256 bytes long and does not begin with `rpc.` or `$/`, which are reserved.
    #[error("a method's name has 1 to {} bytes and does not begin with \"rpc.\" or \"$/\"", MAX_METHOD)]
    Method,
    /// Parameters are an array or an object (JSON-RPC 2.0, section 4.2).
    #[error("parameters are an array or an object")]
    Params,
    /// Parameters, results and what comes with errors stand in a message, which takes some levels of nesting itself.
    #[error("nested deeper than {} levels", MAX_DEPTH)]
    TooDeep,
    /// The parameters are larger than this side takes.
    #[error("the parameters have {len} bytes, and {limit} are the most")]
    TooLarge {
        /// Their length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// No request of this name waits.
    #[error("no request of this name waits")]
    NotWaiting,
    /// The connection has ended.
    #[error("the connection has ended")]
    Ended,
}

/// The longest name of a method, in bytes.
pub const MAX_METHOD: usize = 256;

/// The deepest nesting of parameters, results and data: a batch, the envelope and an error or a progress take a level each of a
/// payload's.
pub const MAX_DEPTH: usize = crate::wire::MAX_DEPTH - 3;
