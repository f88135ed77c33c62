//! What follows from an action: the machines take it in, and everything that they ask for is done before the next one.

use std::collections::VecDeque;
use std::rc::Rc;

use reattach_core::client;
use reattach_core::client::Event;
use reattach_core::client::Status;
use reattach_core::connection::Currency;
use reattach_core::connection::Incoming;
use reattach_core::id::InstanceId;
use reattach_core::id::TransportId;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Handle;
use reattach_core::link::Outgoing;
use reattach_core::outcome::Failure;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::SendFailed;
use reattach_core::server;
use reattach_core::server::PeerEvent;
use reattach_core::server::Refusal;
use reattach_core::server::RegistryEvent;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Payload;

use super::actions::Action;
use super::actions::Verdict;
use super::ledger::Party;
use super::ledger::Terms;
use super::shapes::LEASE;
use super::shapes::Memory;
use super::state::Part;
use super::state::State;
use super::state::base;
use super::wires::End;
use super::wires::Item;
use super::wires::Way;
use super::wires::Wire;

/// What was found out: nothing, or what is broken.
pub(super) type Checked = Result<(), String>;

impl State {
    /// The state after an action.
    ///
    /// # Errors
    ///
    /// Words for a property that does not hold.
    pub(super) fn after(&self, action: Action) -> Result<Self, String> {
        let mut next = self.clone();
        next.act(action)?;
        next.wires.retain(|_, wire| wire.client.lives || wire.server.lives);
        next.check()?;
        Ok(next)
    }

    /// The world begins: the first client asks for a transport.
    pub(super) fn begun(mut self) -> Result<Self, String> {
        self.begin()?;
        Ok(self)
    }

    fn act(&mut self, action: Action) -> Checked {
        match action {
            Action::Send(by) => self.send(by),
            Action::Deliver(wire, way) => self.deliver(wire, way),
            Action::Take(by, index) => self.take(by, index),
            Action::Decide(by, handle, verdict) => self.decide(by, handle, verdict),
            Action::Cancel(by, number) => self.cancel(by, number),
            Action::Cut(wire, up, down) => self.cut(wire, up, down),
            Action::Lose(wire, way) => {
                self.left.losses -= 1;
                self.wires.get_mut(&wire).and_then(|wire| wire.end_mut(way).coming.pop_front());
                Ok(())
            }
            Action::Open(wire) => self.open(wire),
            Action::Wake(of) => self.wake(of),
            Action::Copy => {
                self.left.copies -= 1;
                self.copy = Some(self.server.clone());
                Ok(())
            }
            Action::Restart(memory, keep) => self.restart(memory, keep),
            Action::Begin => {
                self.left.twins -= 1;
                self.begin()
            }
        }
    }

    fn begin(&mut self) -> Checked {
        let client = self.client();
        self.clients.push(Part::new(client));
        self.drain(Party::Client(self.clients.len() - 1))
    }

    fn send(&mut self, by: Party) -> Checked {
        let (name, all, left) = match by {
            Party::Client(index) => (index as u8 + 1, self.shape.budget.up[index], &mut self.left.up[index]),
            Party::Server => (0, self.shape.budget.down, &mut self.left.down),
        };
        let number = (name, all - *left);
        *left -= 1;
        let payload = Payload::new(&number).map_err(|error| error.to_string())?;
        let mut message = Outgoing::from(payload).hands(2);
        (message.is_idempotent, message.within) = (self.shape.is_idempotent, self.shape.within);
        let terms = Terms {
            is_idempotent: message.is_idempotent,
            has_deadline: message.within.is_some(),
            attempts: self.shape.attempts,
            hands: message.hands,
        };
        let id = match by {
            Party::Client(index) => self.clients[index].get_mut().send(message, self.now),
            Party::Server => self.server.get_mut().send(&base(), message, self.now),
        };
        let id = id.map_err(|error| format!("{number:?} is refused although there is room: {error}"))?;
        self.ledger.on_sent(by, number, id, terms);
        self.drain(by)
    }

    fn deliver(&mut self, number: u64, way: Way) -> Checked {
        let Some(wire) = self.wires.get_mut(&number) else { return Ok(()) };
        let (side, at_client, at_server) = (wire.side, wire.transport, TransportId(number));
        let end = wire.end_mut(way);
        let Some(item) = end.coming.pop_front() else { return Ok(()) };
        let (lived, written, now) = (end.lives, end.written, self.now);
        end.lives &= matches!(item, Item::Text(_));
        if !lived {
            return Ok(());
        }
        match way {
            Way::Up => {
                let (server, transport) = (self.server.get_mut(), at_server);
                match &item {
                    Item::Text(text) => {
                        let read = text.len() as u64;
                        server.handle_input(server::Input::Progress { transport, read, written }, now);
                        let incoming = Incoming::Text(text);
                        server.handle_input(server::Input::Received { transport, incoming }, now);
                    }
                    Item::Closed(code) => server.handle_input(server::Input::Closed { transport, code: *code }, now),
                }
                self.drain(Party::Server)
            }
            Way::Down => {
                let (client, transport) = (self.clients[side].get_mut(), at_client);
                match &item {
                    Item::Text(text) => {
                        let read = text.len() as u64;
                        client.handle_input(client::Input::Progress { transport, read, written }, now);
                        let incoming = Incoming::Text(text);
                        client.handle_input(client::Input::Received { transport, incoming }, now);
                    }
                    Item::Closed(code) => client.handle_input(client::Input::Closed { transport, code: *code }, now),
                }
                self.drain(Party::Client(side))
            }
        }
    }

    /// An application takes the next message.
    fn take(&mut self, by: Party, index: usize) -> Checked {
        let delivery = match by {
            Party::Client(client) => self.clients[client].get_mut().take(self.now),
            Party::Server => {
                let cid = self.server.get().connections().nth(index).copied();
                cid.and_then(|cid| self.server.get_mut().take(&cid, self.now))
            }
        };
        if let Some(Delivery::Message(handed)) = delivery {
            let number = handed.payload.parse().map_err(|error| format!("a payload has changed: {error}"))?;
            let until = self.now + LEASE;
            self.ledger.on_handed(by, number, &handed, until, self.causes())?;
        }
        self.drain(by)
    }

    fn decide(&mut self, by: Party, handle: Handle, verdict: Verdict) -> Checked {
        let code = "busy".parse().map_err(|_| "a code")?;
        let decision = match verdict {
            Verdict::Accept => Decision::Accept,
            Verdict::Reject => Decision::Reject { code, reason: String::new() },
            Verdict::Defer => Decision::Defer { retry_after: None, code },
        };
        let result = match by {
            Party::Client(index) => self.clients[index].get_mut().decide(handle, decision.clone(), self.now),
            Party::Server => self.server.get_mut().decide(&base(), handle, decision.clone(), self.now),
        };
        self.ledger.on_decided(by, handle, &decision, result, self.causes())?;
        self.drain(by)
    }

    fn cancel(&mut self, by: Party, number: (u8, u8)) -> Checked {
        self.left.cancels -= 1;
        let found = self.ledger.withdrawable().find(|(_, other, _)| *other == number);
        let Some((_, _, id)) = found else { return Ok(()) };
        let result = match by {
            Party::Client(index) => self.clients[index].get_mut().cancel(&id, self.now),
            Party::Server => self.server.get_mut().cancel(&base(), &id, self.now),
        };
        self.ledger.on_cancelled(number, result)?;
        self.drain(by)
    }

    fn cut(&mut self, number: u64, up: usize, down: usize) -> Checked {
        self.left.cuts -= 1;
        if let Some(wire) = self.wires.get_mut(&number) {
            break_off(&mut wire.server, up);
            break_off(&mut wire.client, down);
        }
        Ok(())
    }

    fn open(&mut self, number: u64) -> Checked {
        let mint = self.mint(number);
        let Some(wire) = self.wires.get_mut(&number) else { return Ok(()) };
        wire.is_open = true;
        wire.server.lives = true;
        let (transport, side) = (wire.transport, wire.side);
        let input = server::Input::Accepted { transport: TransportId(number), address: None, mint };
        self.server.get_mut().handle_input(input, self.now);
        self.clients[side].get_mut().handle_input(client::Input::Opened { transport, token: None }, self.now);
        self.drain(Party::Server)?;
        self.drain(Party::Client(side))
    }

    fn wake(&mut self, of: Party) -> Checked {
        let at = self.next_timer().unwrap_or(self.now);
        self.left.rushes -= u8::from(!self.may_pass_to(at));
        self.wake_at(of, at)
    }

    /// A machine is woken at a time.
    pub(super) fn wake_at(&mut self, of: Party, at: Instant) -> Checked {
        self.advance(at);
        let now = self.now;
        let next = match of {
            Party::Client(index) => {
                self.clients[index].get_mut().handle_timeout(now);
                self.drain(of)?;
                self.clients[index].get().poll_timeout()
            }
            Party::Server => {
                self.server.get_mut().handle_timeout(now);
                self.drain(of)?;
                self.server.get().poll_timeout()
            }
        };
        if next.is_some_and(|next| next <= now) {
            Err(format!("a timer of {of:?} is due after it fired"))
        } else {
            Ok(())
        }
    }

    /// The server dies. Whatever is on its way to it is lost, and of what is on its way to clients the first `keep` arrive.
    fn restart(&mut self, memory: Memory, keep: usize) -> Checked {
        self.left.restarts -= 1;
        let life = self.shape.budget.restarts - self.left.restarts;
        let instance = InstanceId::from_bytes([0x0f + life; 16]);
        let server = match memory {
            Memory::Current => self.server.get().clone().restored(instance, Currency::Current, self.now),
            Memory::Stale => {
                let copy = self.copy.take().ok_or("there is no copy")?;
                copy.get().clone().restored(instance, Currency::Stale, self.now)
            }
            Memory::None => Server::new(self.shape.server(), self.now),
        };
        if memory != Memory::Current {
            self.ledger.on_gone(|party| party == Party::Server);
        }
        self.ledger.on_sealed(Party::Server);
        self.server = Part::new(server);
        for wire in self.wires.values_mut().filter(|wire| wire.is_open) {
            wire.server = End::default();
            break_off(&mut wire.client, keep);
        }
        self.drain(Party::Server)
    }

    /// Does what a machine asks for, and what follows from that.
    fn drain(&mut self, of: Party) -> Checked {
        let mut asked = VecDeque::new();
        match of {
            Party::Client(index) => {
                while let Some(output) = self.clients[index].get_mut().poll_output() {
                    self.on_client_output(index, output, &mut asked)?;
                }
            }
            Party::Server => {
                while let Some(output) = self.server.get_mut().poll_output() {
                    self.on_server_output(output)?;
                }
            }
        }
        while let Some(wire) = asked.pop_front().filter(|_| !self.shape.opens_late) {
            self.open(wire)?;
        }
        if self.shape.is_eager { self.take_all(of) } else { Ok(()) }
    }

    /// An application takes whatever there is.
    fn take_all(&mut self, by: Party) -> Checked {
        match by {
            Party::Client(client) => {
                while self.clients[client].get().has_delivery() {
                    self.take(by, 0)?;
                }
            }
            Party::Server => {
                let has_delivery = |state: &Self| {
                    let server = state.server.get();
                    server.connections().position(|cid| server.peer(cid).is_some_and(server::Peer::has_delivery))
                };
                while let Some(index) = has_delivery(self) {
                    self.take(by, index)?;
                }
            }
        }
        Ok(())
    }

    fn on_client_output(&mut self, side: usize, output: client::Output, asked: &mut VecDeque<u64>) -> Checked {
        match output {
            client::Output::Open { transport } => {
                self.opened += 1;
                self.wires.insert(self.opened, Wire::asked(side, transport));
                asked.push_back(self.opened);
                Ok(())
            }
            client::Output::Write { transport, text } => {
                let wire = self.live_wire(side, transport)?;
                if !wire.is_open {
                    return Err(format!("something is written on {transport:?} before it is open"));
                }
                wire.client.written += text.len() as u64;
                let written = wire.client.written;
                wire.server.put(Item::Text(Rc::from(text)));
                let input = client::Input::Progress { transport, read: 0, written };
                self.clients[side].get_mut().handle_input(input, self.now);
                Ok(())
            }
            client::Output::Close { transport, code } => {
                let wire = self.live_wire(side, transport)?;
                wire.client = End::default();
                wire.server.put(Item::Closed(code));
                Ok(())
            }
            client::Output::Event(event) => self.on_client_event(side, &event),
        }
    }

    fn live_wire(&mut self, side: usize, transport: TransportId) -> Result<&mut Wire, String> {
        let mut wires = self.wires.values_mut();
        let wire = wires.find(|wire| wire.side == side && wire.transport == transport && wire.client.lives);
        wire.ok_or_else(|| format!("an output of client {side} names {transport:?}, which is dead"))
    }

    fn on_client_event(&mut self, side: usize, event: &Event) -> Checked {
        let (by, causes) = (Party::Client(side), self.causes());
        match event {
            Event::Attached { resumed: true } | Event::Delayed { id: _ } => Ok(()),
            Event::Attached { resumed: false } => {
                self.fresh[side] += 1;
                self.ledger.on_sealed(by);
                let is_explained = self.fresh[side] <= 1 || causes.losses > 0;
                if is_explained { Ok(()) } else { Err("an epoch ends without a cause".to_owned()) }
            }
            Event::Detached { ended } | Event::TryFailed { ended } => {
                if causes.faults > 0 {
                    Ok(())
                } else {
                    Err(format!("a transport ends without a cause: {ended}"))
                }
            }
            Event::Delivered { id } => self.ledger.on_outcome(by, id, Outcome::Delivered, causes),
            Event::SendFailed(failed) => self.on_failed(by, failed),
            Event::Superseded | Event::IdentityChanged { .. } if self.clients.len() > 1 => {
                self.ledger.on_sealed(by);
                Ok(())
            }
            Event::Superseded
            | Event::IdentityChanged { .. }
            | Event::FrameSkipped { .. }
            | Event::PeerBrokeProtocol { .. }
            | Event::Failed { .. }
            | Event::Closed { .. }
            | _ => Err(format!("{by:?} is told {event:?}")),
        }
    }

    fn on_failed(&mut self, by: Party, failed: &SendFailed) -> Checked {
        let causes = self.causes();
        match &failed.failure {
            Failure::ForGood(outcome) => self.ledger.on_outcome(by, &failed.id, outcome.clone(), causes),
            Failure::ForNow { attempt, .. } => self.ledger.on_put_off(by, &failed.id, *attempt, causes),
        }
    }

    fn on_server_output(&mut self, output: server::Output) -> Checked {
        match output {
            server::Output::Write { transport, text } => {
                let wire = self.server_wire(transport)?;
                wire.server.written += text.len() as u64;
                let written = wire.server.written;
                wire.client.put(Item::Text(Rc::from(text)));
                let input = server::Input::Progress { transport, read: 0, written };
                self.server.get_mut().handle_input(input, self.now);
                Ok(())
            }
            server::Output::Close { transport, code } => {
                let wire = self.server_wire(transport)?;
                wire.server = End::default();
                wire.client.put(Item::Closed(code));
                Ok(())
            }
            server::Output::Authenticate { .. } => Err("nobody authenticates".to_owned()),
            server::Output::Peer { cid: _, event } => self.on_peer_event(&event),
            server::Output::Registry(event) => self.on_registry_event(&event),
        }
    }

    fn server_wire(&mut self, transport: TransportId) -> Result<&mut Wire, String> {
        let wire = self.wires.get_mut(&transport.0).filter(|wire| wire.server.lives);
        wire.ok_or_else(|| format!("an output of the server names {transport:?}, which is dead"))
    }

    fn on_peer_event(&mut self, event: &PeerEvent) -> Checked {
        let (by, causes) = (Party::Server, self.causes());
        match event {
            PeerEvent::Attached { resumed: true } | PeerEvent::Delayed { id: _ } => Ok(()),
            PeerEvent::Attached { resumed: false } => {
                self.ledger.on_sealed(by);
                Ok(())
            }
            PeerEvent::Detached { ended } => {
                if causes.faults > 0 {
                    Ok(())
                } else {
                    Err(format!("a transport ends without a cause: {ended}"))
                }
            }
            PeerEvent::Delivered { id } => self.ledger.on_outcome(by, id, Outcome::Delivered, causes),
            PeerEvent::SendFailed(failed) => self.on_failed(by, failed),
            PeerEvent::Closed { .. } if self.expired > 0 => {
                self.ledger.on_sealed(by);
                Ok(())
            }
            PeerEvent::FrameSkipped { .. } | PeerEvent::PeerBrokeProtocol { .. } | PeerEvent::Closed { .. } | _ => {
                Err(format!("the server is told {event:?}"))
            }
        }
    }

    fn on_registry_event(&mut self, event: &RegistryEvent) -> Checked {
        let has_twin = self.clients.len() > 1;
        let is_explained = match event {
            RegistryEvent::Registered { .. } => true,
            RegistryEvent::Refused { refusal: Refusal::Timeout | Refusal::Stale, .. } => self.causes().faults > 0,
            RegistryEvent::Refused { refusal: Refusal::Superseded | Refusal::Overtaken, .. } => has_twin,
            RegistryEvent::TakenOver { .. } => has_twin,
            RegistryEvent::Expired { .. } => {
                self.expired += 1;
                self.causes().faults > 0
            }
            RegistryEvent::Removed { .. } => self.expired > 0,
            RegistryEvent::Refused { .. } | RegistryEvent::Fenced { .. } | _ => false,
        };
        if is_explained { Ok(()) } else { Err(format!("nothing explains {event:?}")) }
    }

    /// Whether a client tries, or has stopped for good.
    pub(super) fn is_trying(&self, index: usize) -> bool {
        !matches!(self.clients[index].get().status(), Status::Superseded | Status::Failed(_) | Status::Closed(_))
    }
}

impl End {
    /// Something travels to this end, if anybody is there.
    fn put(&mut self, item: Item) {
        if self.lives {
            self.coming.push_back(item);
        }
    }
}

/// Of what is on its way so much still arrives, and then the end of the wire.
fn break_off(end: &mut End, keep: usize) {
    if end.lives {
        end.coming.truncate(keep);
        if !matches!(end.coming.back(), Some(Item::Closed(_))) {
            end.coming.push_back(Item::Closed(CloseCode::ABNORMAL));
        }
    }
}
