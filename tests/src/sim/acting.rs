//! The acts: what users, operators, networks and strangers do.

use std::time::Duration;

use reattach_core::client;
use reattach_core::connection::Currency;
use reattach_core::connection::Incoming;
use reattach_core::id::InstanceId;
use reattach_core::id::TransportId;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::server::Server;
use reattach_core::wire::CloseCode;

use crate::oracle::Broken;
use crate::oracle::Checked;
use crate::oracle::Fault;
use crate::oracle::Party;
use crate::oracle::Restart;
use crate::oracle::Why;

use super::coverage;
use super::coverage::ClientEvent;
use super::coverage::ServerEvent;
use super::schedule::Act;
use super::schedule::Back;
use super::schedule::Way;
use super::schedule::Who;
use super::wires::Item;
use super::world::Coming;
use super::world::World;

/// So many lives are enough.
const MAX_SEATS: usize = 7;

impl World<'_> {
    fn max_seats(&self) -> usize {
        MAX_SEATS.min(self.schedule.plan.server.max_connections - 1)
    }

    pub(super) fn act(&mut self, number: u32, act: Act) -> Checked {
        self.coverage.act(&act);
        match act {
            Act::Send(seat, post) => return self.send(number, seat, post),
            Act::Ephemeral(seat, way, key) => return self.send_ephemeral(number, seat, way, key),
            Act::Cancel(seat, way, back) => return self.cancel(seat, way, back),
            Act::Extend(seat, way, millis) => return self.extend(seat, way, millis),
            Act::Close(seat, patience) => self.say_goodbye(seat, patience),
            Act::ServerClose(seat, patience) => self.dismiss(seat, patience),
            Act::Detach(seat, code) => self.detach(seat, CloseCode::new(code)),
            Act::Reconnect(seat) => {
                if let Some(seat) = self.running(seat) {
                    self.reconnect(seat);
                }
            }
            Act::Suspend(seat, millis) => self.suspend(seat, Duration::from_millis(millis)),
            Act::Drain(patience) => self.drain(Duration::from_millis(patience)),
            Act::Revoke(seat) => self.revoke(seat),
            Act::Cut { seat, keep, told, code } => self.cut(seat, keep, told, CloseCode::new(code)),
            Act::Stall { seat, ways, millis } => self.stall(seat, ways, Duration::from_millis(millis)),
            Act::Slow { seat, rate } => self.slow(seat, rate),
            Act::Drop { seat, way, nth } => self.damage(seat, way, nth, false),
            Act::Garble { seat, way, nth } => self.damage(seat, way, nth, true),
            Act::Road { error, millis } => self.block(error, Duration::from_millis(millis)),
            Act::Pause { who, millis } => self.pause(who, Duration::from_millis(millis)),
            Act::Clock { who, millis } => self.jump(who, millis),
            Act::Unread { who, millis } => self.stop_reading(who, Duration::from_millis(millis)),
            Act::ServerCrash { back, millis } => self.crash_server(back, Duration::from_millis(millis)),
            Act::ServerCopy => {
                if let Some(server) = &self.server {
                    self.server_copy = Some((server.clone(), self.oracle.copy_server(), self.host.latest));
                }
            }
            Act::ClientCrash { seat, back, told } => self.crash_client(seat, back, told.map(Duration::from_millis)),
            Act::ClientCopy(seat) => {
                if let Some(seat) = self.seat(seat) {
                    let client = self.seats[seat].client.clone().expect("it lives");
                    let latest = self.seats[seat].program.latest;
                    self.seats[seat].copy = Some((client, self.oracle.copy_client(seat), latest));
                }
            }
            Act::Twin(seat) => {
                if let Some(seat) = self.seat(seat).filter(|_| self.seats.len() < self.max_seats()) {
                    self.begin(self.seats[seat].key, self.seats[seat].account);
                }
            }
            Act::Stranger(seat, hostility) => self.come_as_stranger(seat, hostility),
            Act::StaleInput(who, which) => return self.say_stale(who, which),
        }
        Ok(())
    }

    fn say_goodbye(&mut self, seat: u8, patience: Option<u64>) {
        let now = self.now;
        let Some(seat) = self.running(seat) else { return };
        let it = &mut self.seats[seat];
        let (raw, local) = (it.program.show(now), it.program.latest);
        it.program.is_dirty = true;
        let client = it.client.as_mut().expect("it lives");
        let state = coverage::client_state(client, it.is_open);
        self.oracle.on_patience(Party::Client(seat), local + Duration::from_millis(patience.unwrap_or(0)));
        match patience {
            Some(millis) => {
                self.coverage.client(state, ClientEvent::Close);
                client.close(Duration::from_millis(millis), raw);
            }
            None => {
                self.coverage.client(state, ClientEvent::Disconnect);
                client.disconnect(raw);
            }
        }
        self.oracle.on_client_command(seat, true);
    }

    fn dismiss(&mut self, seat: u8, patience: Option<u64>) {
        let (now, Some(cid)) = (self.now, self.cid(seat)) else { return };
        let raw = self.host.show(now);
        self.host.is_dirty = true;
        let Some(server) = &mut self.server else { return };
        let result = match patience {
            Some(millis) => {
                self.coverage.server(
                    coverage::server_state(server, Some(&cid), self.leaving.contains(&cid)),
                    ServerEvent::Close,
                );
                server.close(&cid, Duration::from_millis(millis), raw)
            }
            None => {
                self.coverage.server(
                    coverage::server_state(server, Some(&cid), self.leaving.contains(&cid)),
                    ServerEvent::Disconnect,
                );
                server.disconnect(&cid, raw)
            }
        };
        if result.is_ok() {
            self.leaving.insert(cid);
            self.oracle.on_server_command(cid, Some(Why::Closed));
            let patience = Duration::from_millis(patience.unwrap_or(0));
            self.oracle.on_patience(Party::Server(cid), self.host.latest + patience);
        }
    }

    fn detach(&mut self, seat: u8, code: CloseCode) {
        let (now, Some(cid)) = (self.now, self.cid(seat)) else { return };
        let raw = self.host.show(now);
        self.host.is_dirty = true;
        let Some(server) = &mut self.server else { return };
        self.coverage
            .server(coverage::server_state(server, Some(&cid), self.leaving.contains(&cid)), ServerEvent::Detach);
        self.oracle.on_server_command(cid, None);
        _ = server.detach(&cid, code, raw);
    }

    pub(super) fn reconnect(&mut self, seat: usize) {
        let now = self.now;
        let it = &mut self.seats[seat];
        if let Some(until) = it.program.stopped_until {
            return self.plan(until, Coming::Resume(seat));
        }
        let raw = it.program.show(now);
        it.program.is_dirty = true;
        let Some(client) = it.client.as_mut() else { return };
        self.coverage.client(coverage::client_state(client, it.is_open), ClientEvent::Reconnect);
        if client.reconnect(raw).is_ok() {
            self.oracle.on_client_command(seat, false);
        }
    }

    fn suspend(&mut self, seat: u8, wakes: Duration) {
        let now = self.now;
        let Some(seat) = self.running(seat) else { return };
        let it = &mut self.seats[seat];
        let raw = it.program.show(now);
        it.program.is_dirty = true;
        let client = it.client.as_mut().expect("it lives");
        self.coverage.client(coverage::client_state(client, it.is_open), ClientEvent::Suspend);
        if client.suspend(raw).is_ok() {
            self.oracle.on_client_command(seat, false);
            self.plan(now + wakes, Coming::Resume(seat));
        }
    }

    fn drain(&mut self, patience: Duration) {
        let now = self.now;
        let Some(server) = self.server.as_mut().filter(|_| self.host.stopped_until.is_none()) else { return };
        let raw = self.host.show(now);
        self.host.is_dirty = true;
        let cids: Vec<_> = server.connections().copied().collect();
        for cid in &cids {
            self.coverage
                .server(coverage::server_state(server, Some(cid), self.leaving.contains(cid)), ServerEvent::Drain);
        }
        server.drain(patience, (Duration::from_millis(100), Duration::from_millis(500)), raw);
        for cid in cids {
            self.leaving.insert(cid);
            self.oracle.on_server_command(cid, Some(Why::Shutdown));
            self.oracle.on_patience(Party::Server(cid), self.host.latest + patience);
        }
    }

    fn revoke(&mut self, seat: u8) {
        let (now, Some(cid)) = (self.now, self.cid(seat)) else { return };
        let raw = self.host.show(now);
        self.host.is_dirty = true;
        let Some(server) = &mut self.server else { return };
        self.coverage
            .server(coverage::server_state(server, Some(&cid), self.leaving.contains(&cid)), ServerEvent::Revoke);
        if server.revoke(&cid, raw).is_ok() {
            self.oracle.on_server_command(cid, Some(Why::Closed));
        }
        // Whoever waits to be let in is let in again.
        for wire in self.wires.keys() {
            self.oracle.on_fault(*wire, Fault::Credentials);
        }
    }

    /// The newest wire of a client that has not died.
    fn wire_of(&self, seat: u8) -> Option<u64> {
        let wire = self.seats[self.seat(seat)?].wire?;
        self.wires.contains_key(&wire).then_some(wire)
    }

    fn cut(&mut self, seat: u8, keep: [u8; 2], told: [Option<u64>; 2], code: CloseCode) {
        let Some(number) = self.wire_of(seat) else { return };
        self.cut_wire(number, keep, told, code);
    }

    pub(super) fn cut_wire(&mut self, number: u64, keep: [u8; 2], told: [Option<u64>; 2], code: CloseCode) {
        self.oracle.on_fault(number, Fault::Cut);
        let now = self.now;
        let Some(wire) = self.wires.get_mut(&number) else { return };
        wire.is_cut = true;
        for way in Way::BOTH {
            let coming = &mut wire.coming[way.index()];
            coming.truncate(usize::from(keep[way.index()]));
        }
        for way in Way::BOTH {
            if let Some(millis) = told[way.index()] {
                let wire = self.wires.get_mut(&number).expect("it was just there");
                wire.last[way.index()] = now;
                self.put(number, way, Item::Closed(code), Duration::from_millis(millis));
            }
        }
    }

    fn stall(&mut self, seat: u8, ways: [bool; 2], duration: Duration) {
        let Some(number) = self.wire_of(seat) else { return };
        self.oracle.on_fault(number, Fault::Stalled);
        let until = self.now + duration;
        let wire = self.wires.get_mut(&number).expect("it is there");
        for way in Way::BOTH {
            if ways[way.index()] {
                wire.stalled[way.index()] = wire.stalled[way.index()].max(Some(until));
            }
        }
        self.plan(until, Coming::Wake);
    }

    fn slow(&mut self, seat: u8, rate: u64) {
        let Some(seat) = self.seat(seat) else { return };
        self.seats[seat].rate = Some(rate);
        for (number, wire) in &mut self.wires {
            if wire.seat == Some(seat) {
                wire.rate = Some(rate);
                self.oracle.on_fault(*number, Fault::Slow);
            }
        }
    }

    /// A text is lost, or damaged, on its way, and the wire goes on.
    fn damage(&mut self, seat: u8, way: Way, nth: u8, is_kept: bool) {
        let Some(number) = self.wire_of(seat) else { return };
        let wire = self.wires.get_mut(&number).expect("it is there");
        let Some(index) = wire.texts(way).nth(usize::from(nth)) else { return };
        self.coverage.damaged += 1;
        self.is_damaged = true;
        let coming = &mut wire.coming[way.index()];
        if is_kept {
            self.oracle.on_fault(number, Fault::Garbled);
            if let Some((_, Item::Text(text))) = coming.get_mut(index) {
                text.pop();
                text.insert(0, ' ');
            }
        } else {
            self.oracle.on_fault(number, Fault::Dropped);
            coming.remove(index);
        }
    }

    fn block(&mut self, error: Option<OpenError>, duration: Duration) {
        let until = self.now + duration;
        self.road = Some((error, until));
        self.plan(until, Coming::Wake);
    }

    fn pause(&mut self, who: Who, duration: Duration) {
        let until = self.now + duration;
        self.trouble(who);
        if let Some(program) = self.program(who) {
            program.stopped_until = program.stopped_until.max(Some(until));
        }
        self.plan(until, Coming::Wake);
    }

    fn jump(&mut self, who: Who, millis: i64) {
        self.trouble(who);
        if let Some(program) = self.program(who) {
            program.ahead += millis * 1_000;
        }
    }

    fn stop_reading(&mut self, who: Who, duration: Duration) {
        let until = self.now + duration;
        if let Some(program) = self.program(who) {
            program.unread_until = program.unread_until.max(Some(until));
        }
        self.plan(until, Coming::Wake);
    }

    fn program(&mut self, who: Who) -> Option<&mut super::world::Program> {
        match who {
            Who::Client(seat) => self.seat(seat).map(|seat| &mut self.seats[seat].program),
            Who::Server => Some(&mut self.host),
        }
    }

    /// What goes wrong with a program goes wrong with its wires.
    fn trouble(&mut self, who: Who) {
        if let Some(program) = self.program(who) {
            program.is_troubled = true;
        }
        let seat = if let Who::Client(seat) = who { self.seat(seat) } else { None };
        let wires: Vec<u64> = (self.wires.iter())
            .filter(|(_, wire)| who == Who::Server || (wire.seat.is_some() && wire.seat == seat))
            .map(|(number, _)| *number)
            .collect();
        for wire in wires {
            self.oracle.on_fault(wire, Fault::Paused);
        }
    }

    fn crash_server(&mut self, back: Back, down: Duration) {
        let Some(server) = self.server.take() else { return };
        let (restart, state) = match back {
            Back::Current => (Restart::Current, Some(server)),
            Back::Stale => match &self.server_copy {
                Some((copy, ..)) => (Restart::Stale, Some(copy.clone())),
                None => (Restart::Lost, None),
            },
            Back::Lost => (Restart::Lost, None),
        };
        self.back = Some((state, restart, self.host.latest));
        let wires: Vec<u64> = self.wires.keys().copied().collect();
        for number in wires {
            self.oracle.on_fault(number, Fault::Crashed);
            self.cut_wire(number, [0, 9], [None, Some(0)], CloseCode::ABNORMAL);
            if let Some(wire) = self.wires.get_mut(&number) {
                wire.ends[1].lives = false;
                wire.coming[Way::Up.index()].clear();
            }
        }
        self.oracle.on_server_down();
        self.plan(self.now + down, Coming::ServerBack);
    }

    pub(super) fn on_server_back(&mut self) {
        let Some((state, restart, seen)) = self.back.take() else { return };
        let now = self.now;
        let raw = self.host.raw(now);
        // Another machine has another memory of the time, and none of what was asked while nobody was there.
        match (restart, &self.server_copy) {
            (Restart::Current, _) => self.host.latest = seen,
            (Restart::Stale, Some((_, _, then))) => self.host.latest = *then,
            (Restart::Stale | Restart::Lost, _) => self.host.latest = raw,
        }
        let local = self.host.local(now);
        let instance = InstanceId::from_bytes(self.random());
        let server = match (state, restart) {
            (Some(state), Restart::Current) => state.restored(instance, Currency::Current, raw),
            (Some(state), Restart::Stale) => state.restored(instance, Currency::Stale, raw),
            (_, Restart::Lost) | (None, _) => Server::new(self.schedule.plan.server.clone(), raw),
        };
        let copy = self.server_copy.as_ref().map(|(_, copy, _)| copy);
        self.oracle.on_server_restarted(restart, copy, local);
        self.server = Some(server);
        self.host.is_dirty = true;
    }

    fn crash_client(&mut self, seat: u8, back: Option<Back>, told: Option<Duration>) {
        let Some(seat) = self.seat(seat) else { return };
        if self.seats.len() >= self.max_seats() && back != Some(Back::Current) {
            return;
        }
        let now = self.now;
        let wires: Vec<u64> =
            self.wires.iter().filter(|(_, wire)| wire.seat == Some(seat)).map(|(number, _)| *number).collect();
        for number in wires {
            self.oracle.on_fault(number, Fault::Crashed);
            let told = told.map(|told| u64::try_from(told.as_millis()).expect("a short time"));
            self.cut_wire(number, [9, 0], [told, None], CloseCode::ABNORMAL);
            if let Some(wire) = self.wires.get_mut(&number) {
                wire.ends[0].lives = false;
                wire.coming[Way::Down.index()].clear();
            }
        }
        let it = &mut self.seats[seat];
        let (key, account, rate) = (it.key, it.account, it.rate);
        let (raw, copy) = (it.program.raw(now), it.copy.clone());
        let client = it.client.take().expect("it lives");
        let cid = client.connection_id();
        it.transports.clear();
        it.wire = None;
        match back {
            Some(Back::Current) => {
                let instance = InstanceId::from_bytes(self.random());
                self.oracle.on_client_restarted(seat);
                self.oracle.on_client_wires_dead(seat);
                self.seats[seat].client = Some(client.restored(instance, Currency::Current, raw));
                self.seats[seat].program.is_dirty = true;
            }
            Some(Back::Stale) if copy.is_some() => {
                let (copy, known, latest) = copy.expect("there is one");
                self.oracle.on_client_gone(seat);
                let (instance, ahead) = (InstanceId::from_bytes(self.random()), self.seats[seat].program.ahead);
                let (cid, sent) = (copy.connection_id(), self.seats[seat].sent.clone());
                let new = self.sit(copy.restored(instance, Currency::Stale, raw), key, account);
                (self.seats[new].program.ahead, self.seats[new].rate) = (ahead, rate);
                self.seats[new].program.latest = latest.max(raw);
                self.seats[new].sent = sent;
                self.oracle.on_client_restored(new, &known, cid);
            }
            Some(Back::Stale | Back::Lost) => {
                self.oracle.on_client_gone(seat);
                _ = cid;
                self.begin(key, account);
            }
            None => self.oracle.on_client_gone(seat),
        }
    }

    /// A machine is told something about a transport that has died. Nothing changes.
    fn say_stale(&mut self, who: Who, which: u8) -> Checked {
        let now = self.now;
        match who {
            Who::Client(seat) => {
                let Some(seat) = self.seat(seat) else { return Ok(()) };
                let it = &self.seats[seat];
                let raw = it.program.raw(now);
                let is_dead = |number: &&u64| self.wires.get(number).is_none_or(|wire| !wire.ends[0].lives);
                let dead = it.transports.iter().rev().find(|(_, number)| is_dead(number));
                let Some((transport, _)) = dead.map(|(transport, number)| (*transport, *number)) else { return Ok(()) };
                let mut client = it.client.clone().expect("it lives");
                // The time passes whatever is said.
                client.handle_input(
                    client::Input::Progress { transport: TransportId(u64::MAX), read: 0, written: 0 },
                    raw,
                );
                let before = client.clone();
                client.handle_input(stale_client_input(transport, which), raw);
                self.coverage.client(coverage::client_state(&before, it.is_open), ClientEvent::Stale);
                if client == before {
                    Ok(())
                } else {
                    Err(Broken::new("S6", format!("client {seat} heeds {transport:?}")))
                }
            }
            Who::Server => {
                let Some(server) = &self.server else { return Ok(()) };
                let raw = self.host.raw(now);
                let is_dead = |number: &u64| self.wires.get(number).is_none_or(|wire| !wire.ends[1].lives);
                let Some(number) = (1..=self.opened).rev().find(is_dead) else { return Ok(()) };
                let transport = TransportId(number);
                let mut server = server.clone();
                // The time passes whatever is said.
                let nobody = TransportId(u64::MAX);
                server.handle_input(server::Input::Closed { transport: nobody, code: CloseCode::ABNORMAL }, raw);
                let before = server.clone();
                server.handle_input(stale_server_input(transport, which), raw);
                if server == before {
                    Ok(())
                } else {
                    Err(Broken::new("S6", format!("the server heeds {transport:?}")))
                }
            }
        }
    }
}

fn stale_client_input(transport: TransportId, which: u8) -> client::Input<'static> {
    match which {
        0 => client::Input::Closed { transport, code: CloseCode::ABNORMAL },
        1 => client::Input::Opened { transport, token: None },
        2 => client::Input::OpenFailed { transport, error: OpenError::Unreachable },
        3 => client::Input::Progress { transport, read: 10, written: 10_000 },
        _ => client::Input::Received {
            transport,
            incoming: Incoming::Text("{\"t\":\"bye\",\"code\":1000,\"end\":true}"),
        },
    }
}

fn stale_server_input(transport: TransportId, which: u8) -> server::Input<'static> {
    match which {
        0 => server::Input::Closed { transport, code: CloseCode::ABNORMAL },
        1 => server::Input::Authenticated { transport, admission: None },
        2 => server::Input::Received { transport, incoming: Incoming::Binary },
        3 => server::Input::Progress { transport, read: 10, written: 10_000 },
        _ => server::Input::Received {
            transport,
            incoming: Incoming::Text("{\"t\":\"bye\",\"code\":1000,\"end\":true}"),
        },
    }
}
