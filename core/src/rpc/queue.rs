//! What waits to go out: messages, answers ahead of calls, and events.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use core::time::Duration;

use crate::id::MessageId;
use crate::rpc::event::Channel;
use crate::rpc::event::Event;
use crate::rpc::event::Output;
use crate::rpc::id::RequestId;
use crate::wire::Payload;

/// A message that was not sent yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Unsent {
    pub(super) channel: Channel,
    /// The requests in it, and how many of them have not ended.
    pub(super) requests: Vec<RequestId>,
    pub(super) waiting: usize,
    /// How many notifications are in it.
    pub(super) notifications: usize,
    pub(super) within: Option<Duration>,
    pub(super) payload: Payload,
}

impl Unsent {
    pub(super) const fn response(payload: Payload) -> Self {
        Self { channel: Channel::Responses, requests: Vec::new(), waiting: 0, notifications: 0, within: None, payload }
    }

    pub(super) fn calls(
        requests: Vec<RequestId>,
        notifications: usize,
        within: Option<Duration>,
        payload: Payload,
    ) -> Self {
        Self { channel: Channel::Calls, waiting: requests.len(), requests, notifications, within, payload }
    }
}

/// What goes one way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Way {
    unsent: VecDeque<Unsent>,
    /// There was no room, and nobody has said since that there is.
    is_blocked: bool,
}

impl Way {
    fn has_room(&self, count: usize, bytes: u64) -> bool {
        let held = || self.unsent.iter().map(|unsent| unsent.payload.len() as u64).sum::<u64>();
        self.unsent.len() < count && held() < bytes
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    events: VecDeque<Event>,
    withdrawn: VecDeque<MessageId>,
    answers: Way,
    calls: Way,
    /// The message that is being sent.
    handed_out: Option<Unsent>,
    /// From how many answers on nothing is said that nobody waits for.
    max_answers: usize,
    /// How many bytes may wait each way.
    max_bytes: u64,
}

impl Queue {
    pub(super) fn new(max_answers: usize, max_bytes: u64) -> Self {
        Self {
            events: VecDeque::new(),
            withdrawn: VecDeque::new(),
            answers: Way::default(),
            calls: Way::default(),
            handed_out: None,
            max_answers,
            max_bytes,
        }
    }

    fn way(&mut self, channel: Channel) -> &mut Way {
        match channel {
            Channel::Calls => &mut self.calls,
            Channel::Responses => &mut self.answers,
        }
    }

    pub(super) fn push(&mut self, unsent: Unsent) {
        self.way(unsent.channel).unsent.push_back(unsent);
    }

    /// Queues something that nobody waits for, behind the answers. Returns whether there was room.
    pub(super) fn say(&mut self, payload: Payload) -> bool {
        let has_room = self.answers.has_room(self.max_answers, self.max_bytes);
        if has_room {
            self.push(Unsent::response(payload));
        }
        has_room
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(super) fn withdraw(&mut self, message: MessageId) {
        self.withdrawn.push_back(message);
    }

    /// Whether another call may wait beside fewer than `count`.
    pub(super) fn has_room_for_calls(&self, count: usize) -> bool {
        self.calls.has_room(count, self.max_bytes)
    }

    /// Whether another answer may wait beside fewer than `count`.
    pub(super) fn has_room_for_answers(&self, count: usize) -> bool {
        self.answers.has_room(count, self.max_bytes)
    }

    /// How many answers wait.
    pub(super) fn answers(&self) -> usize {
        self.answers.unsent.len()
    }

    /// A request has ended before it was sent. With the last one of a batch that goes too, unless it notifies of something.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.calls.unsent.retain_mut(|unsent| {
            unsent.waiting -= usize::from(unsent.requests.contains(&id));
            unsent.waiting + unsent.notifications > 0
        });
    }

    /// Answers that have to be said again, ahead of the others.
    pub(super) fn say_again(&mut self, payload: Payload) {
        self.answers.unsent.push_front(Unsent::response(payload));
    }

    /// The next thing to do.
    pub(super) fn poll(&mut self) -> Option<Output> {
        debug_assert!(self.handed_out.is_none(), "what became of the last message was not said");
        if let Some(event) = self.events.pop_front() {
            return Some(Output::Event(event));
        }
        if let Some(message) = self.withdrawn.pop_front() {
            return Some(Output::Withdraw(message));
        }
        let way =
            if self.answers.is_blocked || self.answers.unsent.is_empty() { &mut self.calls } else { &mut self.answers };
        if way.is_blocked {
            return None;
        }
        let unsent = way.unsent.pop_front()?;
        let Unsent { channel, within, ref payload, .. } = unsent;
        let output = Output::Send { channel, within, payload: payload.clone() };
        self.handed_out = Some(unsent);
        Some(output)
    }

    /// The message that was polled last.
    pub(super) fn take_handed_out(&mut self) -> Option<Unsent> {
        self.handed_out.take()
    }

    /// It found no room.
    pub(super) fn put_back(&mut self, unsent: Unsent) {
        let way = self.way(unsent.channel);
        way.is_blocked = true;
        way.unsent.push_front(unsent);
    }

    pub(super) fn unblock(&mut self) {
        self.answers.is_blocked = false;
        self.calls.is_blocked = false;
    }

    /// Nobody waits for any answer.
    pub(super) fn drop_answers(&mut self) {
        self.answers = Way::default();
    }

    /// Nothing can be sent any more.
    pub(super) fn clear(&mut self) {
        self.withdrawn.clear();
        self.answers = Way::default();
        self.calls = Way::default();
    }
}
