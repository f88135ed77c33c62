//! The requests of one connection, behind its lock: the machine of the core, fed from the connection's two lanes for it, and those
//! who wait.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::LazyLock;
use std::task::Waker;

use reattach_core::id::Epoch;
use reattach_core::id::Lane;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Lanes;
use reattach_core::link::Outgoing;
use reattach_core::outcome::Outcome;
use reattach_core::rpc::Channel;
use reattach_core::rpc::Config;
use reattach_core::rpc::Event;
use reattach_core::rpc::IncomingId;
use reattach_core::rpc::Output;
use reattach_core::rpc::RequestId;
use reattach_core::rpc::Rpc;
use reattach_core::time::Instant;

use crate::machine::Machine;
use crate::requests::response::Place;
use crate::requests::served::Abandonment;
use crate::targets;

/// The lanes of requests and of answers.
pub(crate) static LANES: LazyLock<[Lane; 2]> = LazyLock::new(|| [Channel::Calls, Channel::Responses].map(lane));

/// The same, as no connection needs to have them by itself.
pub(crate) static RESERVED: LazyLock<BTreeSet<Lane>> = LazyLock::new(|| LANES.iter().cloned().collect());

fn lane(channel: Channel) -> Lane {
    Name::new(channel.lane()).expect("the name of a lane is short").into()
}

/// The requests of one connection, and who waits for them.
pub(crate) struct RpcState {
    pub(crate) rpc: Rpc,
    /// The epoch that they belong to.
    epoch: Option<Epoch>,
    /// Who waits for which response. An entry goes when the request ends.
    pub(crate) waiting: BTreeMap<RequestId, Arc<Place>>,
    /// Who works on which request of the other side. An entry goes when it is answered or dropped.
    pub(crate) served: BTreeMap<IncomingId, Arc<Abandonment>>,
}

impl RpcState {
    pub(crate) fn new(config: Config, nonce: &[u8; 16], epoch: Option<Epoch>, now: Instant) -> Self {
        Self { rpc: Rpc::new(config, nonce, now), epoch, waiting: BTreeMap::new(), served: BTreeMap::new() }
    }

    /// Hands the connection's messages to the requests, and has what follows sent, until there is nothing left to do. Returns whether
    /// anything was done. Whom to wake once the connection is unlocked is put to `woken`.
    pub(crate) fn pump<M: Machine>(&mut self, machine: &mut M, woken: &mut Woken, now: Instant) -> bool {
        // Before anything of the new epoch: what was asked in the old one is not what is asked in the new.
        let epoch = machine.epoch();
        // One that is over is ended by the event that says how.
        if epoch != self.epoch && !machine.is_over() {
            if self.epoch.is_some() {
                let outbox = machine.connection().link().outbox();
                self.rpc.handle_epoch_ended(|message| outbox.holds(message), now);
            }
            self.epoch = epoch;
        }
        let mut is_done = false;
        loop {
            while let Some(output) = self.rpc.poll_output() {
                is_done = true;
                self.execute(output, machine, woken, now);
            }
            let [calls, answers] = &*LANES;
            let (channel, lane) = if machine.has_delivery_from(Lanes::Only(answers)) {
                (Channel::Responses, answers)
            } else if self.rpc.has_room() && machine.has_delivery_from(Lanes::Only(calls)) {
                (Channel::Calls, calls)
            } else {
                return is_done;
            };
            let Some(Delivery::Message(handed)) = machine.take_from(Lanes::Only(lane), now) else { return is_done };
            if let Some(handle) = handed.handle {
                // From here on the request has an end of its own; its message has done its part.
                _ = machine.decide(handle, Decision::Accept, now);
            }
            is_done = true;
            self.rpc.handle_message(channel, handed.payload, now);
        }
    }

    fn execute<M: Machine>(&mut self, output: Output, machine: &mut M, woken: &mut Woken, now: Instant) {
        match output {
            Output::Send { channel, within, payload } => {
                let message = Outgoing { within, ..Outgoing::from(payload).in_lane(lane_of(channel).clone()) };
                self.rpc.handle_sent(machine.send(message, now), now);
            }
            // One that has its outcome by now is not there any more.
            Output::Withdraw(message) => _ = machine.cancel(&message, now),
            Output::Event(event) => self.tell(event, woken),
        }
    }

    fn tell(&mut self, event: Event, woken: &mut Woken) {
        match event {
            Event::Finished { id, result } => {
                if let Some(place) = self.waiting.remove(&id) {
                    woken.wakers.extend(place.finish(result));
                }
            }
            Event::Progress { id, value } => {
                if let Some(place) = self.waiting.get(&id) {
                    woken.wakers.extend(place.progress(value));
                }
            }
            Event::Abandoned { id } => woken.abandoned.extend(self.served.remove(&id)),
            event @ Event::NotNotified { .. } => tracing::warn!(target: targets::REQUEST, ?event),
            // As much as the other side likes.
            event @ (Event::Malformed { .. } | Event::Complaint { .. } | _) => {
                tracing::debug!(target: targets::REQUEST, ?event)
            }
        }
    }

    /// A message of the connection has its outcome, and there may be room.
    pub(crate) fn on_outcome(&mut self, message: &MessageId, outcome: &Outcome, now: Instant) {
        self.rpc.handle_outcome(message, outcome, now);
        self.rpc.handle_room();
    }
}

/// Whom to wake once the connection is unlocked: who is woken may be dropped by that, and come back here.
#[derive(Default)]
#[must_use = "nobody else wakes them"]
pub(crate) struct Woken {
    pub(crate) wakers: Vec<Waker>,
    pub(crate) abandoned: Vec<Arc<Abandonment>>,
    /// What else is to be done then.
    pub(crate) then: Vec<Box<dyn FnOnce() + Send>>,
}

impl Woken {
    pub(crate) fn wake(self) {
        for waker in self.wakers {
            waker.wake();
        }
        for abandonment in self.abandoned {
            abandonment.tell();
        }
        for then in self.then {
            then();
        }
    }
}

fn lane_of(channel: Channel) -> &'static Lane {
    match channel {
        Channel::Calls => &LANES[0],
        Channel::Responses => &LANES[1],
    }
}
