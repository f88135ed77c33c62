//! What follows from an action: the machines take it in, and everything that they ask for is done before the next one.

use std::collections::VecDeque;
use std::rc::Rc;

use reattach_core::client;
use reattach_core::client::Event;
use reattach_core::client::Status;
use reattach_core::connection::Currency;
use reattach_core::connection::Incoming;
use reattach_core::id::InstanceId;
use reattach_core::id::Lane;
use reattach_core::id::Name;
use reattach_core::id::TransportId;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Handle;
use reattach_core::link::Outgoing;
use reattach_core::outcome::Failure;
use reattach_core::outcome::Outcome;
use reattach_core::server;
use reattach_core::server::PeerEvent;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Payload;

use crate::oracle;
use crate::oracle::Broken;
use crate::oracle::Checked;
use crate::oracle::Fault;
use crate::oracle::Party;
use crate::oracle::Restart;

use super::actions::Action;
use super::actions::Program;
use super::actions::Verdict;
use super::shapes::Memory;
use super::state::Copy;
use super::state::Part;
use super::state::State;
use super::state::base;
use super::wires::End;
use super::wires::Item;
use super::wires::Way;
use super::wires::Wire;

impl State {
    /// The state after an action.
    ///
    /// # Errors
    ///
    /// A property that does not hold.
    pub(super) fn after(&self, action: Action) -> Result<Self, Broken> {
        let mut next = self.clone();
        next.told.clear();
        next.act(action)?;
        next.finish_step()?;
        Ok(next)
    }

    /// The world begins: the first client asks for a transport.
    pub(super) fn begun(mut self) -> Result<Self, Broken> {
        self.begin()?;
        self.finish_step()?;
        Ok(self)
    }

    /// All is said that follows from what happened.
    fn finish_step(&mut self) -> Checked {
        self.wires.retain(|_, wire| wire.client.lives || wire.server.lives);
        if !self.undecided.is_empty() {
            let oracle = self.account.get();
            self.undecided.retain(|what| oracle.in_hands().any(|other| other == *what));
        }
        self.account.get_mut().check_step()?;
        self.check()
    }

    fn act(&mut self, action: Action) -> Checked {
        match action {
            Action::Send(by) => self.send(by),
            Action::Deliver(wire, way) => self.deliver(wire, way),
            Action::Take(by) => self.take(by),
            Action::Decide(by, handle, verdict) => self.decide(by, handle, verdict),
            Action::Cancel(by, number) => self.cancel(by, number),
            Action::Cut(wire, up, down) => self.cut(wire, up, down),
            Action::Lose(wire, way) => {
                self.left.losses -= 1;
                self.account.get_mut().on_fault(wire, Fault::Dropped);
                self.wires.get_mut(&wire).and_then(|wire| wire.end_mut(way).coming.pop_front());
                Ok(())
            }
            Action::Open(wire) => self.open(wire),
            Action::Wake(of) => self.wake(of),
            Action::Copy => {
                self.left.copies -= 1;
                let known = Rc::new(self.account.get().copy_server());
                self.copy = Some(Copy { server: self.server.clone(), known });
                Ok(())
            }
            Action::Restart(memory, keep) => self.restart(memory, keep),
            Action::RestartClient(client, keep) => self.restart_client(client, keep),
            Action::Begin => {
                self.left.twins -= 1;
                self.begin()
            }
        }
    }

    fn begin(&mut self) -> Checked {
        let (client, index) = (self.client(), self.clients.len());
        self.account.get_mut().on_client(index, client.connection_id());
        self.clients.push(Part::new(client));
        self.drain(Program::Client(index))
    }

    /// How many messages a program has sent, of how many.
    fn sent(&self, by: Program) -> (u8, u8) {
        let (all, left) = (&self.shape.budget, &self.left);
        match by {
            Program::Client(index) => (all.up[index] - left.up[index], all.up[index]),
            Program::Server => (all.down - left.down, all.down),
        }
    }

    /// The lane of the next message that a program sends.
    pub(super) fn lane_of(&self, by: Program) -> Lane {
        let is_right = self.sent(by).0 % 2 == 1;
        let name = Name::new(if is_right { "right" } else { "left" }).ok().filter(|_| self.shape.has_lanes);
        name.map_or(Lane::DEFAULT, Lane::from)
    }

    fn send(&mut self, by: Program) -> Checked {
        let who = if let Program::Client(index) = by { index as u32 + 1 } else { 0 };
        let number = who * 10 + u32::from(self.sent(by).0);
        let payload = Payload::new(&[number]).map_err(|error| Broken::new("harness", error.to_string()))?;
        let mut message = Outgoing::from(payload).hands(2);
        (message.is_idempotent, message.within) = (self.shape.is_idempotent, self.shape.within);
        message.lane = self.lane_of(by);
        let (party, id) = match by {
            Program::Client(index) => {
                self.left.up[index] -= 1;
                (Party::Client(index), self.clients[index].get_mut().send(message.clone(), self.now))
            }
            Program::Server => {
                self.left.down -= 1;
                (Party::Server(base()), self.server.get_mut().send(&base(), message.clone(), self.now))
            }
        };
        let refused = |error| Broken::new("S7", format!("{number} is refused although there is room: {error}"));
        self.account.get_mut().on_sent(party, number, id.map_err(refused)?, &message, self.now)?;
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
        if let Item::Closed(_) = item {
            self.account.get_mut().on_told_closed(number, end_of(way));
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
                self.drain(Program::Server)
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
                self.drain(Program::Client(side))
            }
        }
    }

    /// An application takes the next message.
    fn take(&mut self, by: Party) -> Checked {
        let (delivery, is_left) = match by {
            Party::Client(client) => (self.clients[client].get_mut().take(self.now), false),
            Party::Server(cid) => {
                let handed_over =
                    |server: &Server| server.peer(&cid).map(|peer| peer.connection().link().counters().handed_over);
                let before = handed_over(self.server.get());
                let delivery = self.server.get_mut().take(&cid, self.now);
                // What came before the end of an earlier connection is no concern of this one.
                let is_left = before == handed_over(self.server.get());
                (delivery, is_left)
            }
        };
        if let Some(Delivery::Message(handed)) = delivery {
            let parsed: Result<[u32; 1], _> = handed.payload.parse();
            let [number] = parsed.map_err(|error| Broken::new("S5", format!("a payload has changed: {error}")))?;
            self.account.get_mut().on_handed(by, number, &handed, is_left, self.now)?;
            self.undecided.extend(handed.handle.map(|handle| (by, handle)));
        }
        self.drain(program_of(by))
    }

    /// An application decides. Where it is told that it is too late, it lets the matter rest.
    fn decide(&mut self, by: Party, handle: Handle, verdict: Verdict) -> Checked {
        let code = "busy".parse().map_err(|_| Broken::new("harness", "a code"))?;
        let decision = match verdict {
            Verdict::Accept => Decision::Accept,
            Verdict::Reject => Decision::Reject { code, reason: String::new() },
            Verdict::Defer => Decision::Defer { retry_after: None, code },
        };
        let result = match by {
            Party::Client(index) => self.clients[index].get_mut().decide(handle, decision.clone(), self.now),
            Party::Server(cid) => self.server.get_mut().decide(&cid, handle, decision.clone(), self.now),
        };
        self.undecided.remove(&(by, handle));
        self.account.get_mut().on_decided(by, handle, &decision, result, self.now)?;
        self.drain(program_of(by))
    }

    fn cancel(&mut self, by: Party, number: u32) -> Checked {
        self.left.cancels -= 1;
        let found = self.account.get().withdrawable().find(|(of, other, _)| (*of, *other) == (by, number));
        let Some((_, _, id)) = found else { return Ok(()) };
        let result = match by {
            Party::Client(index) => self.clients[index].get_mut().cancel(&id, self.now),
            Party::Server(cid) => self.server.get_mut().cancel(&cid, &id, self.now),
        };
        self.account.get_mut().on_cancelled(by, &id, result.is_ok(), self.now)?;
        self.drain(program_of(by))
    }

    fn cut(&mut self, number: u64, up: usize, down: usize) -> Checked {
        self.left.cuts -= 1;
        self.account.get_mut().on_fault(number, Fault::Cut);
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
        self.account.get_mut().on_accepted(number);
        let input = server::Input::Accepted { transport: TransportId(number), address: None, mint };
        self.server.get_mut().handle_input(input, self.now);
        self.clients[side].get_mut().handle_input(client::Input::Opened { transport, token: None }, self.now);
        self.drain(Program::Server)?;
        self.drain(Program::Client(side))
    }

    fn wake(&mut self, of: Program) -> Checked {
        let at = self.next_timer().unwrap_or(self.now);
        if !self.may_pass_to(at) {
            self.left.rushes -= 1;
            self.account.get_mut().on_fault_everywhere(Fault::Stalled);
        }
        self.wake_at(of, at)
    }

    /// A machine is woken at a time.
    pub(super) fn wake_at(&mut self, of: Program, at: Instant) -> Checked {
        self.advance(at);
        let now = self.now;
        let next = match of {
            Program::Client(index) => {
                self.clients[index].get_mut().handle_timeout(now);
                self.drain(of)?;
                self.clients[index].get().poll_timeout()
            }
            Program::Server => {
                self.server.get_mut().handle_timeout(now);
                self.drain(of)?;
                self.server.get().poll_timeout()
            }
        };
        if next.is_some_and(|next| next <= now) {
            Err(Broken::new("L3", format!("a timer of {of:?} is due after it fired")))
        } else {
            Ok(())
        }
    }

    /// The server dies. Whatever is on its way to it is lost, and of what is on its way to clients the first `keep` arrive.
    fn restart(&mut self, memory: Memory, keep: usize) -> Checked {
        self.left.restarts -= 1;
        let life = self.shape.budget.restarts - self.left.restarts;
        let instance = InstanceId::from_bytes([0x0f + life; 16]);
        for (number, wire) in self.wires.iter_mut().filter(|(_, wire)| wire.is_open) {
            self.account.get_mut().on_fault(*number, Fault::Crashed);
            wire.server = End::default();
            break_off(&mut wire.client, keep);
        }
        let oracle = self.account.get_mut();
        oracle.on_server_down();
        let server = match memory {
            Memory::Current => {
                oracle.on_server_restarted(Restart::Current, None, self.now);
                self.server.get().clone().restored(instance, Currency::Current, self.now)
            }
            Memory::Stale => {
                let copy = self.copy.take().ok_or_else(|| Broken::new("harness", "there is no copy"))?;
                oracle.on_server_restarted(Restart::Stale, Some(&copy.known), self.now);
                copy.server.get().clone().restored(instance, Currency::Stale, self.now)
            }
            Memory::None => {
                oracle.on_server_restarted(Restart::Lost, None, self.now);
                Server::new(self.shape.server(), self.now)
            }
        };
        self.server = Part::new(server);
        self.drain(Program::Server)
    }

    /// A client dies and comes back from its very state. Whatever is on its way to it is lost, and of what is on its way to the
    /// server the first `keep` arrive.
    fn restart_client(&mut self, index: usize, keep: usize) -> Checked {
        self.left.client_restarts -= 1;
        let life = self.shape.budget.client_restarts - self.left.client_restarts;
        let instance = InstanceId::from_bytes([0xd0 + 0x10 * index as u8 + life; 16]);
        for (number, wire) in self.wires.iter_mut().filter(|(_, wire)| wire.side == index) {
            self.account.get_mut().on_fault(*number, Fault::Crashed);
            wire.client = End::default();
            break_off(&mut wire.server, keep);
        }
        let oracle = self.account.get_mut();
        oracle.on_client_restarted(index);
        oracle.on_client_wires_dead(index);
        self.newest[index] = 0;
        let client = self.clients[index].get().clone().restored(instance, Currency::Current, self.now);
        self.clients[index] = Part::new(client);
        self.drain(Program::Client(index))
    }

    /// Does what a machine asks for, and what follows from that.
    fn drain(&mut self, of: Program) -> Checked {
        let mut asked = VecDeque::new();
        match of {
            Program::Client(index) => {
                while let Some(output) = self.clients[index].get_mut().poll_output() {
                    self.on_client_output(index, output, &mut asked)?;
                }
            }
            Program::Server => {
                let mut welcomed = None;
                while let Some(output) = self.server.get_mut().poll_output() {
                    self.on_server_output(output, &mut welcomed)?;
                }
            }
        }
        while let Some(wire) = asked.pop_front().filter(|_| !self.shape.opens_late) {
            self.open(wire)?;
        }
        if self.shape.is_eager { self.take_all(of) } else { Ok(()) }
    }

    /// An application takes whatever there is.
    fn take_all(&mut self, by: Program) -> Checked {
        match by {
            Program::Client(client) => {
                while self.clients[client].get().has_delivery() {
                    self.take(Party::Client(client))?;
                }
            }
            Program::Server => {
                let next = |state: &Self| {
                    let server = state.server.get();
                    let has_delivery = |cid| server.peer(cid).is_some_and(server::Peer::has_delivery);
                    server.connections().find(|cid| has_delivery(cid)).copied()
                };
                while let Some(cid) = next(self) {
                    self.take(Party::Server(cid))?;
                }
            }
        }
        Ok(())
    }

    fn on_client_output(&mut self, side: usize, output: client::Output, asked: &mut VecDeque<u64>) -> Checked {
        match output {
            client::Output::Open { transport } => {
                self.opened += 1;
                self.newest[side] = self.opened;
                self.account.get_mut().on_asked(self.opened, side);
                self.wires.insert(self.opened, Wire::asked(side, transport));
                asked.push_back(self.opened);
                Ok(())
            }
            client::Output::Write { transport, text } => {
                let (number, wire) = self.live_wire(side, transport)?;
                if !wire.is_open {
                    return Err(Broken::new("S5", format!("something is written on {transport:?} before it is open")));
                }
                wire.client.written += text.len() as u64;
                let written = wire.client.written;
                let text = Rc::from(text);
                wire.server.put(Item::Text(Rc::clone(&text)));
                self.account.get_mut().on_write(number, oracle::End::Client, &text)?;
                let input = client::Input::Progress { transport, read: 0, written };
                self.clients[side].get_mut().handle_input(input, self.now);
                Ok(())
            }
            client::Output::Close { transport, code } => {
                let (number, wire) = self.live_wire(side, transport)?;
                wire.client = End::default();
                wire.server.put(Item::Closed(code));
                self.account.get_mut().on_close(number, oracle::End::Client)
            }
            client::Output::Event(event) => {
                if let Event::SendFailed(failed) = &event {
                    self.note_failure(&failed.failure);
                } else if let Event::Delivered { .. } = &event {
                    self.told.push(Outcome::Delivered);
                }
                let wire = Some(self.newest[side]).filter(|wire| *wire > 0);
                self.account.get_mut().on_client_event(side, wire, &event, self.now)
            }
        }
    }

    fn note_failure(&mut self, failure: &Failure) {
        if let Failure::ForGood(outcome) = failure {
            self.told.push(outcome.clone());
        }
    }

    fn live_wire(&mut self, side: usize, transport: TransportId) -> Result<(u64, &mut Wire), Broken> {
        let mut wires = self.wires.iter_mut();
        let wire = wires.find(|(_, wire)| wire.side == side && wire.transport == transport && wire.client.lives);
        let wire = wire.map(|(number, wire)| (*number, wire));
        wire.ok_or_else(|| Broken::new("S5", format!("an output of client {side} names {transport:?}, which is dead")))
    }

    /// `welcomed` is the wire on which a welcome has just been written.
    fn on_server_output(&mut self, output: server::Output, welcomed: &mut Option<u64>) -> Checked {
        match output {
            server::Output::Write { transport, text } => {
                let wire = self.server_wire(transport)?;
                wire.server.written += text.len() as u64;
                let written = wire.server.written;
                let text: Rc<str> = Rc::from(text);
                wire.client.put(Item::Text(Rc::clone(&text)));
                if text.starts_with("{\"t\":\"welcome\"") {
                    *welcomed = Some(transport.0);
                }
                self.account.get_mut().on_write(transport.0, oracle::End::Server, &text)?;
                let input = server::Input::Progress { transport, read: 0, written };
                self.server.get_mut().handle_input(input, self.now);
                Ok(())
            }
            server::Output::Close { transport, code } => {
                let wire = self.server_wire(transport)?;
                wire.server = End::default();
                wire.client.put(Item::Closed(code));
                self.account.get_mut().on_close(transport.0, oracle::End::Server)
            }
            server::Output::Authenticate { .. } => Err(Broken::new("J1", "nobody authenticates")),
            server::Output::Peer { cid, event } => {
                if let PeerEvent::SendFailed(failed) = &event {
                    self.note_failure(&failed.failure);
                } else if let PeerEvent::Delivered { .. } = &event {
                    self.told.push(Outcome::Delivered);
                }
                let wire = welcomed.filter(|_| matches!(event, PeerEvent::Attached { .. }));
                self.account.get_mut().on_peer_event(cid, wire, &event, self.now)
            }
            server::Output::Registry(event) => self.account.get_mut().on_registry_event(&event, self.now),
        }
    }

    fn server_wire(&mut self, transport: TransportId) -> Result<&mut Wire, Broken> {
        let wire = self.wires.get_mut(&transport.0).filter(|wire| wire.server.lives);
        wire.ok_or_else(|| Broken::new("S5", format!("an output of the server names {transport:?}, which is dead")))
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

const fn end_of(way: Way) -> oracle::End {
    match way {
        Way::Up => oracle::End::Server,
        Way::Down => oracle::End::Client,
    }
}

const fn program_of(party: Party) -> Program {
    match party {
        Party::Client(index) => Program::Client(index),
        Party::Server(_) => Program::Server,
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
