//! What a sender asks for, as the machines take it.

use std::time::Duration;

use reattach_core::link::Outgoing;

use crate::model::Post;
use crate::world::payload;

use super::name;

/// The message of a post.
pub(super) fn outgoing(text: &str, post: Post) -> Outgoing {
    let mut outgoing = Outgoing::from(payload(text));
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
