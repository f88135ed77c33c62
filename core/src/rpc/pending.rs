//! The requests of this side: each waits for its one end.
//!
//! ```text
//!  begin ---> Queued --- sent ---> Sent --- outcome: delivered ---> Delivered
//!                |                   |                                  |
//!                '-------------------+------------- one of -------------'
//!         response . error . timed out . idle . cancelled . not delivered . epoch ended . connection ended
//! ```

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use core::time::Duration;

use crate::expiring::ExpiringMap;
use crate::id::MessageId;
use crate::rpc::error::Failure;
use crate::rpc::id::RequestId;
use crate::time::Instant;

/// A request that waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    pub(super) method: Arc<str>,
    place: Place,
    /// When it has to have ended, and how long that was when it began.
    deadline: (Instant, Duration),
    /// How long nothing may be heard of it.
    idle: Option<Duration>,
}

/// Where the message is that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Queued,
    Sent(MessageId),
    /// The other side's application has it.
    Delivered,
    /// The other side's application had it, in an epoch that is over.
    Gone,
}

/// What has to be done about the message of a request that has ended on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Leftover {
    /// It was not sent yet, and need not be.
    Queued,
    /// It is on its way, and nobody knows how far.
    Sent(MessageId),
    /// The other side works on it in vain.
    Served,
    /// Nothing.
    Nothing,
}

/// What it means that the other side's application has a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Delivered {
    /// A response may come.
    Well,
    /// Nobody waits for the response any more.
    InVain,
    /// It had it in an epoch that is over: no response will come.
    TooEarly,
}

/// The requests that wait, and the messages that carry them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    /// With the time at which something has to have happened.
    waiting: ExpiringMap<RequestId, Waiting>,
    /// Messages without an outcome.
    messages: BTreeMap<MessageId, Carried>,
}

/// What a message carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Carried {
    /// Those included that have ended meanwhile.
    requests: Vec<RequestId>,
    notifications: usize,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn contains(&self, id: RequestId) -> bool {
        self.waiting.get(&id).is_some()
    }

    /// The requests that wait, by name.
    pub(super) fn ids(&self) -> Vec<RequestId> {
        self.waiting.iter().map(|(id, _)| *id).collect()
    }

    pub(super) fn begin(
        &mut self,
        id: RequestId,
        method: Arc<str>,
        timeout: Duration,
        idle: Option<Duration>,
        now: Instant,
    ) {
        let waiting = Waiting { method, place: Place::Queued, deadline: (now + timeout, timeout), idle };
        self.arm(id, waiting, now);
    }

    /// Something was heard of a request: its idle limit starts over. Returns whether it waits.
    pub(super) fn touch(&mut self, id: RequestId, now: Instant) -> bool {
        let Some(waiting) = self.waiting.remove(&id) else { return false };
        self.arm(id, waiting, now);
        true
    }

    fn arm(&mut self, id: RequestId, waiting: Waiting, now: Instant) {
        let (deadline, _) = waiting.deadline;
        let at = waiting.idle.map_or(deadline, |idle| deadline.min(now + idle));
        self.waiting.insert(id, waiting, at);
    }

    /// The message that carries these requests was sent.
    pub(super) fn sent(&mut self, message: MessageId, requests: Vec<RequestId>, notifications: usize) {
        for id in &requests {
            if let Some(waiting) = self.waiting.get_mut(id) {
                waiting.place = Place::Sent(message);
            }
        }
        self.messages.insert(message, Carried { requests, notifications });
    }

    /// The message has its outcome. Returns the requests in it, those included that have ended.
    pub(super) fn decided(&mut self, message: &MessageId) -> Vec<RequestId> {
        self.messages.remove(message).unwrap_or_default().requests
    }

    /// The other side's application has this request.
    pub(super) fn delivered(&mut self, id: RequestId) -> Delivered {
        let Some(waiting) = self.waiting.get_mut(&id) else { return Delivered::InVain };
        if waiting.place == Place::Gone {
            return Delivered::TooEarly;
        }
        waiting.place = Place::Delivered;
        Delivered::Well
    }

    /// The epoch is over. Returns the requests that no response will come to. Of the messages without an outcome those that
    /// `is_open` go on into the next epoch, or hear from the other side that they are not known; the outcome of any other has been
    /// decided by now, and is on its way.
    pub(super) fn end_epoch(&mut self, is_open: impl Fn(&MessageId) -> bool) -> Vec<RequestId> {
        let decided =
            self.messages.iter().filter(|(message, _)| !is_open(message)).flat_map(|(_, carried)| &carried.requests);
        for id in decided.copied().collect::<Vec<_>>() {
            if let Some(waiting) = self.waiting.get_mut(&id) {
                waiting.place = Place::Gone;
            }
        }
        let is_lost = |(id, waiting): (&RequestId, &Waiting)| (waiting.place == Place::Delivered).then_some(*id);
        self.waiting.iter().filter_map(is_lost).collect()
    }

    /// Ends a request. Returns what it was, and what has to be done about its message.
    pub(super) fn end(&mut self, id: RequestId) -> Option<(Arc<str>, Leftover)> {
        let waiting = self.waiting.remove(&id)?;
        let leftover = match waiting.place {
            Place::Queued => Leftover::Queued,
            // One of a batch shares its message with others.
            Place::Sent(message) if self.is_shared(&message) => Leftover::Nothing,
            Place::Sent(message) => Leftover::Sent(message),
            Place::Delivered => Leftover::Served,
            Place::Gone => Leftover::Nothing,
        };
        Some((waiting.method, leftover))
    }

    /// Whether anybody cares for a message still.
    fn is_shared(&self, message: &MessageId) -> bool {
        let is_waited_for = |carried: &Carried| carried.requests.iter().any(|id| self.contains(*id));
        self.messages.get(message).is_some_and(|carried| carried.notifications > 0 || is_waited_for(carried))
    }

    /// A request whose time has run out, and how.
    pub(super) fn overdue(&self, now: Instant) -> Option<(RequestId, Failure)> {
        let (id, waiting) = self.waiting.first_expired(now)?;
        let failure = match (waiting.idle, waiting.deadline) {
            (_, (at, after)) if at <= now => Failure::TimedOut { after },
            (Some(after), _) | (None, (_, after)) => Failure::Idle { after },
        };
        Some((*id, failure))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.poll_timeout()
    }
}
