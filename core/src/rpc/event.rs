//! What comes out.

use alloc::sync::Arc;

use core::time::Duration;

use crate::error::ApiMisuse;
use crate::id::MessageId;
use crate::rpc::error::ErrorObject;
use crate::rpc::error::RequestError;
use crate::rpc::id::IncomingId;
use crate::rpc::id::RequestId;
use crate::wire::Payload;

/// Which way a message goes. Each is a lane of its own, so that requests which nobody has time for never hold up a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Requests and notifications.
    Calls,
    /// Responses, and what is said about requests: that they are withdrawn, and how far they have come.
    Responses,
}

impl Channel {
    /// The name of the lane.
    #[must_use]
    pub const fn lane(self) -> &'static str {
        match self {
            Self::Calls => "rpc",
            Self::Responses => "rpc.responses",
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "what is not done is waited for"]
pub enum Output {
    /// Send a message, and say with [`Rpc::handle_sent`](crate::rpc::Rpc::handle_sent) how that went, before anything else.
    Send {
        /// In which lane.
        channel: Channel,
        /// How long it may take until it is withdrawn, where that is known.
        within: Option<Duration>,
        /// What it carries.
        payload: Payload,
    },
    /// Cancel a message that was sent. One that has its outcome is no longer there, which does no harm.
    Withdraw(MessageId),
    /// Tell the application.
    Event(Event),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// A request of this side has come to its end. This is told once for each.
    Finished {
        /// Which.
        id: RequestId,
        /// The result, or why there is none.
        result: Result<Payload, RequestError>,
    },
    /// A request of this side has come further.
    Progress {
        /// Which.
        id: RequestId,
        /// How far, as the other side puts it.
        value: Payload,
    },
    /// Whoever sent this request does not wait for its response any more: it was withdrawn, or the connection lost its state.
    Abandoned {
        /// Which.
        id: IncomingId,
    },
    /// A message was no JSON, or no JSON-RPC. Its sender is told too, where there is room.
    Malformed {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A notification could not be sent: it is too large, or the connection is being closed.
    NotNotified {
        /// Why.
        misuse: ApiMisuse,
    },
    /// The other side could not make sense of something, and cannot say of what.
    Complaint {
        /// What it says.
        error: ErrorObject,
    },
}

/// What the other side wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IncomingCall {
    /// What to answer by; none where it is a notification, which nobody answers.
    pub id: Option<IncomingId>,
    /// What is to be done.
    pub method: Arc<str>,
    /// With what: an array or an object.
    pub params: Option<Payload>,
}

/// What was counted. It decides nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Stats {
    /// Requests of this side that were begun.
    pub requests: u64,
    /// Those of them that ended with a result.
    pub results: u64,
    /// Those of them that ended otherwise.
    pub failures: u64,
    /// Those of them whose time ran out.
    pub timeouts: u64,
    /// Responses that came for no request that waits: too late, twice, or for one that never was.
    pub unmatched: u64,
    /// Requests of the other side.
    pub served: u64,
    /// Requests of the other side under an id of which one is being served: dropped, for an answer would be taken for the
    /// other's.
    pub duplicates: u64,
    /// Messages, and items of batches, that made no sense.
    pub malformed: u64,
    /// Cancellations, progress and complaints that were not sent because there was no room.
    pub unsaid: u64,
}
