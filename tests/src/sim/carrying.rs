//! The network at work: what is written travels, and arrives, or does not.

use std::hash::Hash;
use std::time::Duration;

use reattach_core::client;
use reattach_core::connection::Incoming;
use reattach_core::id::ConnectionId;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::TransportId;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::server::Mint;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Token;

use crate::oracle::Checked;
use crate::oracle::End;
use crate::oracle::Fault;

use super::chance::mix;
use super::coverage;
use super::schedule::Way;
use super::wires::Item;
use super::wires::Wire;
use super::world::Coming;
use super::world::World;

/// How much later than it may wait a report may be written: its timer may be late, and what was written before takes a while
/// to leave.
const PROMPT: Duration = Duration::from_millis(200);

impl World<'_> {
    /// Puts something on its way.
    pub(super) fn put(&mut self, number: u64, way: Way, item: Item, at_least: Duration) {
        let Some(wire) = self.wires.get_mut(&number) else { return };
        wire.puts += 1;
        let drawn = mix(self.schedule.seed, mix(number, wire.puts));
        let latency = Duration::from_millis(self.schedule.plan.latency(drawn)).max(at_least);
        let at = (self.now + latency).max(wire.last[way.index()]).max(wire.leaves[way.index()]);
        wire.last[way.index()] = at;
        wire.coming[way.index()].push_back((at, item));
        self.plan(at, Coming::Arrive(number, way));
    }

    /// A machine writes. Returns whether the wire is there.
    pub(super) fn write(&mut self, number: u64, way: Way, text: String) -> Checked {
        let end = if way == Way::Up { End::Client } else { End::Server };
        self.tell(|_| format!("{end:?} writes on {number}: {text}"));
        let program = match (way, self.wires.get(&number).and_then(|wire| wire.seat)) {
            (Way::Up, Some(seat)) => &self.seats[seat].program,
            (Way::Up, None) | (Way::Down, _) => &self.host,
        };
        self.oracle.on_write_at(number, end, &text, PROMPT, program.latest)?;
        text.hash(&mut self.hasher);
        self.now.hash(&mut self.hasher);
        self.texts += 1;
        let is_swift = self.schedule.plan.is_swift || self.is_healing;
        if self.schedule.plan.poison.is_some_and(|poison| text.contains(&format!("\"d\":[{poison},"))) {
            // Something on the road does not let it through, and dies of it.
            self.coverage.poisoned();
            self.cut_wire(number, [u8::MAX; 2], [Some(1); 2], CloseCode::ABNORMAL);
        }
        let Some(wire) = self.wires.get_mut(&number) else { return Ok(()) };
        let len = text.len() as u64;
        let from = &mut wire.ends[1 - way.end()];
        from.produced += len;
        let total = from.produced;
        if let Some(rate) = wire.rate {
            let takes = Duration::from_micros(len * 1_000_000 / rate);
            let begins = wire.leaves[way.index()].max(self.now);
            wire.leaves[way.index()] = begins + takes;
            let (half, full) = (begins + takes / 2, begins + takes);
            self.plan(half, Coming::Leave(number, way, total - len / 2));
            self.plan(full, Coming::Leave(number, way, total));
            if !self.wires[&number].is_cut {
                let now = core::mem::replace(&mut self.now, half);
                self.put(number, way, Item::Part(len / 2), Duration::ZERO);
                self.now = now;
                self.put(number, way, Item::Text(text), Duration::ZERO);
            }
            return Ok(());
        }
        if !wire.is_cut {
            self.put(number, way, Item::Text(text), Duration::ZERO);
        }
        if is_swift {
            self.leave(number, way, total);
        } else {
            let after = Duration::from_millis(mix(self.schedule.seed, mix(number, total)) % 30);
            self.plan(self.now + after, Coming::Leave(number, way, total));
        }
        Ok(())
    }

    /// Bytes have left an adapter.
    pub(super) fn leave(&mut self, number: u64, way: Way, total: u64) {
        let Some(wire) = self.wires.get_mut(&number) else { return };
        let end = &mut wire.ends[1 - way.end()];
        if !end.lives || end.written >= total {
            return;
        }
        end.written = total;
        let (seat, transport) = (wire.seat, wire.transport);
        match (way, seat) {
            (Way::Up, Some(seat)) => {
                self.tell_client(seat, client::Input::Progress { transport, read: 0, written: total })
            }
            (Way::Up, None) => {}
            (Way::Down, _) => {
                let transport = TransportId(number);
                self.tell_server(server::Input::Progress { transport, read: 0, written: total });
            }
        }
    }

    pub(super) fn tell_client(&mut self, seat: usize, input: client::Input<'_>) {
        let now = self.now;
        let seat = &mut self.seats[seat];
        let raw = seat.program.raw(now);
        let Some(client) = &mut seat.client else { return };
        seat.program.local(now);
        let state = coverage::client_state(client, seat.is_open);
        self.coverage.client_input(state, &input);
        if let client::Input::Opened { .. } = input {
            seat.is_open = true;
        }
        client.handle_input(input, raw);
        seat.program.is_dirty = true;
    }

    pub(super) fn tell_server(&mut self, input: server::Input<'_>) {
        let now = self.now;
        let raw = self.host.raw(now);
        let Some(server) = &mut self.server else { return };
        self.host.local(now);
        let (server::Input::Accepted { transport, .. }
        | server::Input::Received { transport, .. }
        | server::Input::Progress { transport, .. }
        | server::Input::Closed { transport, .. }
        | server::Input::Authenticated { transport, .. }) = &input;
        let is_its = |cid: &&ConnectionId| {
            server.peer(cid).is_some_and(|peer| peer.connection().transport() == Some(*transport))
        };
        let cid = server.connections().find(is_its);
        let state = coverage::server_state(server, cid, cid.is_some_and(|cid| self.leaving.contains(cid)));
        self.coverage.server_input(state, &input);
        server.handle_input(input, raw);
        self.host.is_dirty = true;
    }

    /// Something arrives.
    pub(super) fn arrive(&mut self, number: u64, way: Way) -> Checked {
        let now = self.now;
        let Some(wire) = self.wires.get_mut(&number) else { return Ok(()) };
        let seat = wire.seat;
        let stopped = match (way, seat) {
            (Way::Down, Some(seat)) => self.seats[seat].program.stopped_until,
            (Way::Down, None) => None,
            (Way::Up, _) => self.host.stopped_until,
        };
        if let Some(until) = wire.stalled[way.index()].into_iter().chain(stopped).max() {
            self.plan(until.max(now), Coming::Arrive(number, way));
            return Ok(());
        }
        if wire.coming[way.index()].front().is_none_or(|(at, _)| *at > now) {
            return Ok(());
        }
        let (_, item) = wire.coming[way.index()].pop_front().expect("it was just looked at");
        let written = wire.ends[way.end()].written;
        let lives = wire.ends[way.end()].lives;
        let transport = wire.transport;
        let is_end = matches!(item, Item::Closed(_) | Item::Failed(_));
        if is_end && lives {
            wire.ends[way.end()].lives = false;
            self.oracle.on_told_closed(number, if way == Way::Up { End::Server } else { End::Client });
        }
        match (way, seat) {
            (Way::Up, _) => self.arrive_up(number, item, lives, written)?,
            (Way::Down, Some(seat)) if lives => self.arrive_down(seat, transport, item, written),
            (Way::Down, _) => self.arrive_at_stranger(number, &item),
        }
        if self.wires.get(&number).is_some_and(Wire::is_dead) {
            self.wires.remove(&number);
        }
        Ok(())
    }

    fn arrive_up(&mut self, number: u64, item: Item, lives: bool, written: u64) -> Checked {
        let transport = TransportId(number);
        match item {
            Item::Open => {
                if self.server.is_none() {
                    self.refuse_open(number);
                    return Ok(());
                }
                let mint = Mint { epoch: Epoch::from_bytes(self.random()), fence: Fence::from_bytes(self.random()) };
                if let Some(wire) = self.wires.get_mut(&number) {
                    wire.ends[1].lives = true;
                }
                self.oracle.on_accepted(number);
                self.tell_server(server::Input::Accepted { transport, address: None, mint });
                self.drain_server()?;
                if self.wires.get(&number).is_some_and(|wire| wire.ends[1].lives) {
                    self.put(number, Way::Down, Item::Open, Duration::ZERO);
                }
            }
            _ if !lives => {}
            Item::Text(text) => {
                let read = text.len() as u64;
                let sleeps = text.starts_with("{\"t\":\"bye\"") && text.contains("\"suspend\":true");
                if let Some(seat) = self.wires.get(&number).and_then(|wire| wire.seat).filter(|_| sleeps) {
                    self.oracle.on_suspended(seat);
                }
                self.tell_server(server::Input::Progress { transport, read, written });
                self.tell_server(server::Input::Received { transport, incoming: Incoming::Text(&text) });
            }
            Item::Binary => self.tell_server(server::Input::Received { transport, incoming: Incoming::Binary }),
            Item::Part(read) => self.tell_server(server::Input::Progress { transport, read, written }),
            Item::Closed(code) => self.tell_server(server::Input::Closed { transport, code }),
            Item::Failed(_) => {}
        }
        Ok(())
    }

    /// Nobody listens.
    fn refuse_open(&mut self, number: u64) {
        self.oracle.on_fault(number, Fault::Crashed);
        if let Some(wire) = self.wires.get_mut(&number) {
            wire.coming[Way::Down.index()].clear();
            wire.is_cut = true;
        }
        self.put(number, Way::Down, Item::Failed(OpenError::Unreachable), Duration::ZERO);
    }

    fn arrive_down(&mut self, seat: usize, transport: TransportId, item: Item, written: u64) {
        match item {
            Item::Open => {
                let token = Token::new(format!("account {}", self.seats[seat].account));
                self.tell_client(seat, client::Input::Opened { transport, token });
            }
            Item::Failed(error) => self.tell_client(seat, client::Input::OpenFailed { transport, error }),
            Item::Text(text) => {
                let read = text.len() as u64;
                self.tell_client(seat, client::Input::Progress { transport, read, written });
                self.tell_client(seat, client::Input::Received { transport, incoming: Incoming::Text(&text) });
            }
            Item::Binary => self.tell_client(seat, client::Input::Received { transport, incoming: Incoming::Binary }),
            Item::Part(read) => self.tell_client(seat, client::Input::Progress { transport, read, written }),
            Item::Closed(code) => self.tell_client(seat, client::Input::Closed { transport, code }),
        }
    }
}
