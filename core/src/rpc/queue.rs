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
    /// Its place: what waits goes out in this order, also what has to be said again.
    number: u64,
    /// Whether it does no harm where it comes twice.
    pub(super) is_idempotent: bool,
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
        Self {
            number: 0,
            is_idempotent: true,
            channel: Channel::Responses,
            requests: Vec::new(),
            waiting: 0,
            notifications: 0,
            within: None,
            payload,
        }
    }

    /// How far a request has come. Said a second time it would tell of a step back.
    pub(super) fn progress(payload: Payload) -> Self {
        Self { is_idempotent: false, ..Self::response(payload) }
    }

    pub(super) fn calls(
        requests: Vec<RequestId>,
        notifications: usize,
        within: Option<Duration>,
        payload: Payload,
    ) -> Self {
        let waiting = requests.len();
        Self { channel: Channel::Calls, waiting, requests, notifications, within, ..Self::response(payload) }
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

    fn insert(&mut self, unsent: Unsent) {
        let place = self.unsent.partition_point(|other| other.number < unsent.number);
        self.unsent.insert(place, unsent);
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
    numbers: u64,
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
            numbers: 0,
        }
    }

    fn way(&mut self, channel: Channel) -> &mut Way {
        match channel {
            Channel::Calls => &mut self.calls,
            Channel::Responses => &mut self.answers,
        }
    }

    pub(super) fn push(&mut self, mut unsent: Unsent) {
        self.numbers += 1;
        unsent.number = self.numbers;
        self.way(unsent.channel).unsent.push_back(unsent);
    }

    /// Queues something that nobody waits for, behind the answers. Returns whether there was room.
    pub(super) fn say(&mut self, unsent: Unsent) -> bool {
        let has_room = self.answers.has_room(self.max_answers, self.max_bytes);
        if has_room {
            self.push(unsent);
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

    /// Something has to be said again: ahead of what came after it, and behind what came before.
    pub(super) fn say_again(&mut self, unsent: Unsent) {
        self.way(unsent.channel).insert(unsent);
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
        way.insert(unsent);
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
