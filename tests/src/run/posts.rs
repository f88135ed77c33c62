//! What a sender asks for, and what a receiver decides, as the machines take it.

use std::time::Duration;

use reattach_core::link::Decision;
use reattach_core::link::Outgoing;
use reattach_core::wire::Payload;

use super::name;

/// What the sender asks for, beside the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Post {
    /// The lane, 0 for the default one.
    pub lane: u8,
    /// A deadline, in milliseconds.
    pub within: Option<u64>,
    /// Whether it may be sent again when nobody can tell what became of it.
    pub is_idempotent: bool,
    /// Whether it is worth nothing while the peer cannot be reached.
    pub is_fail_fast: bool,
    /// How often it may be handed over, where it is not for the default to say.
    pub hands: Option<u32>,
}

/// What a receiver decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has taken effect.
    Accepted,
    /// It had none, and shall not come again.
    Rejected,
    /// It shall come again.
    Deferred,
    /// Nobody will decide.
    Abandoned,
}

/// The message of a post.
pub(super) fn outgoing(number: u32, filling: usize, post: Post) -> Outgoing {
    let mut outgoing = Outgoing::from(numbered_payload(number, filling));
    if post.lane > 0 {
        outgoing = outgoing.in_lane(name(post.lane));
    }
    outgoing.within = post.within.map(Duration::from_millis);
    outgoing.is_idempotent = post.is_idempotent;
    outgoing.is_fail_fast = post.is_fail_fast;
    if let Some(hands) = post.hands {
        outgoing = outgoing.hands(hands);
    }
    outgoing
}

impl Verdict {
    /// As the machines take it.
    pub(super) fn decision(self) -> Decision {
        let code = "busy".parse().expect("a code");
        match self {
            Self::Accepted => Decision::Accept,
            Self::Rejected => Decision::Reject { code, reason: String::from("no") },
            Self::Deferred => Decision::Defer { retry_after: None, code },
            Self::Abandoned => Decision::Abandon,
        }
    }
}

/// What a message of this number carries.
pub(super) fn numbered_payload(number: u32, filling: usize) -> Payload {
    Payload::new(&(number, "x".repeat(filling))).expect("a number and a text are JSON")
}
