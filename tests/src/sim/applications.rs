//! What applications do: they send, take, decide and withdraw.

use std::time::Duration;

use reattach_core::error::ApiMisuse;
use reattach_core::id::ConnectionId;
use reattach_core::id::Lane;
use reattach_core::id::Name;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Handle;
use reattach_core::link::Outgoing;
use reattach_core::server::Server;
use reattach_core::wire::Payload;

use crate::oracle::Broken;
use crate::oracle::Checked;
use crate::oracle::Party;

use super::chance::mix;
use super::coverage;
use super::coverage::ClientEvent;
use super::coverage::ServerEvent;
use super::schedule::Post;
use super::schedule::Way;
use super::world::Coming;
use super::world::World;

/// What a message of this number carries.
fn payload(number: u32, padding: usize) -> Payload {
    Payload::new(&(number, "x".repeat(padding))).expect("a number and a text are JSON")
}

/// The number that a payload says, where it is one of ours, unchanged.
fn number_of(text: &str) -> Option<u32> {
    let rest = text.strip_prefix('[')?;
    let (number, padding) = rest.split_once(',')?;
    let padding = padding.strip_prefix('"')?.strip_suffix("\"]")?;
    padding.bytes().all(|byte| byte == b'x').then_some(())?;
    number.parse().ok()
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a short name")
}

impl World<'_> {
    /// The living client that a small number stands for.
    pub(super) fn seat(&self, number: u8) -> Option<usize> {
        let living: Vec<usize> = (0..self.seats.len()).filter(|seat| self.seats[*seat].client.is_some()).collect();
        let count = living.len();
        (count > 0).then(|| living[usize::from(number) % count])
    }

    /// The same, unless its program is stopped.
    pub(super) fn running(&self, number: u8) -> Option<usize> {
        self.seat(number).filter(|seat| self.seats[*seat].program.stopped_until.is_none())
    }

    /// The client whose connection somebody is about to use, unless the program that would is stopped.
    fn acting(&self, number: u8, way: Way) -> Option<usize> {
        match way {
            Way::Up => self.running(number),
            Way::Down => self.seat(number).filter(|_| self.host.stopped_until.is_none() && self.server.is_some()),
        }
    }

    /// The name of its connection, where the server runs.
    pub(super) fn cid(&self, number: u8) -> Option<ConnectionId> {
        let cid = self.seats[self.seat(number)?].client.as_ref()?.connection_id();
        (self.server.is_some() && self.host.stopped_until.is_none()).then_some(cid)
    }

    pub(super) fn send(&mut self, act: u32, seat: u8, post: Post) -> Checked {
        for index in 0..post.count {
            self.send_one(act * 8 + u32::from(index), seat, post)?;
        }
        Ok(())
    }

    fn send_one(&mut self, number: u32, seat: u8, post: Post) -> Checked {
        let mut message = Outgoing::from(payload(number, post.padding));
        message.lane = match post.lane {
            0 => Lane::DEFAULT,
            1 => name("left").into(),
            _ => name("right").into(),
        };
        message.within = post.within.map(Duration::from_millis);
        message.is_idempotent = post.is_idempotent;
        message.is_fail_fast = post.is_fail_fast;
        if let Some(hands) = post.hands {
            message = message.hands(hands);
        }
        if post.is_named {
            let id = format!("01234567-89ab-4def-8123-{number:012x}");
            message.id = id.parse().ok();
        }
        let now = self.now;
        let Some(seat) = self.acting(seat, post.way) else { return Ok(()) };
        let (party, result, local) = match post.way {
            Way::Up => {
                let it = &mut self.seats[seat];
                let (raw, local) = (it.program.raw(now), it.program.local(now));
                it.program.is_dirty = true;
                let client = it.client.as_mut().expect("it lives");
                self.coverage.client(coverage::client_state(client, it.is_open), ClientEvent::Send);
                (Party::Client(seat), client.send(message.clone(), raw), local)
            }
            Way::Down => {
                let cid = self.seats[seat].client.as_ref().expect("it lives").connection_id();
                let (raw, local) = (self.host.raw(now), self.host.local(now));
                self.host.is_dirty = true;
                let Some(server) = &mut self.server else { return Ok(()) };
                self.coverage
                    .server(coverage::server_state(server, Some(&cid), self.leaving.contains(&cid)), ServerEvent::Send);
                (Party::Server(cid), server.send(&cid, message.clone(), raw), local)
            }
        };
        match result {
            Ok(id) => {
                self.tell(|_| format!("{party:?} sends {number}"));
                match party {
                    Party::Client(seat) => self.seats[seat].sent.push(id),
                    Party::Server(cid) => self.sent_down.entry(cid).or_default().push(id),
                }
                self.oracle.on_sent(party, number, id, &message, local)
            }
            Err(error) => {
                self.tell(|_| format!("{party:?} cannot send {number}: {error}"));
                self.coverage.refused(error);
                self.oracle.on_refused(party, error, &message)
            }
        }
    }

    pub(super) fn send_ephemeral(&mut self, act: u32, seat: u8, way: Way, key: u8) -> Checked {
        let number = act * 8;
        let (now, payload) = (self.now, payload(number, usize::from(key) * 10));
        let key = name(["a", "b", "c"][usize::from(key) % 3]);
        let Some(seat) = self.acting(seat, way) else { return Ok(()) };
        let it = &mut self.seats[seat];
        let client = it.client.as_mut().expect("it lives");
        let (party, result) = match way {
            Way::Up => {
                let raw = it.program.raw(now);
                it.program.is_dirty = true;
                self.coverage.client(coverage::client_state(client, it.is_open), ClientEvent::SendEphemeral);
                (Party::Client(seat), client.send_ephemeral(key, payload, raw))
            }
            Way::Down => {
                let (cid, raw) = (client.connection_id(), self.host.raw(now));
                self.host.is_dirty = true;
                let Some(server) = &mut self.server else { return Ok(()) };
                self.coverage.server(
                    coverage::server_state(server, Some(&cid), self.leaving.contains(&cid)),
                    ServerEvent::SendEphemeral,
                );
                (Party::Server(cid), server.send_ephemeral(&cid, key, payload, raw))
            }
        };
        if result.is_ok() { self.oracle.on_ephemeral(party, number) } else { Ok(()) }
    }

    pub(super) fn cancel(&mut self, seat: u8, way: Way, back: u8) -> Checked {
        let now = self.now;
        let Some(seat) = self.acting(seat, way) else { return Ok(()) };
        let cid = self.seats[seat].client.as_ref().expect("it lives").connection_id();
        let sent = match way {
            Way::Up => &self.seats[seat].sent,
            Way::Down => self.sent_down.entry(cid).or_default(),
        };
        let Some(id) = sent.iter().rev().nth(usize::from(back)).copied() else { return Ok(()) };
        let (party, result, local) = match way {
            Way::Up => {
                let it = &mut self.seats[seat];
                let (raw, local) = (it.program.raw(now), it.program.local(now));
                it.program.is_dirty = true;
                let client = it.client.as_mut().expect("it lives");
                self.coverage.client(coverage::client_state(client, it.is_open), ClientEvent::Cancel);
                (Party::Client(seat), client.cancel(&id, raw), local)
            }
            Way::Down => {
                let (raw, local) = (self.host.raw(now), self.host.local(now));
                self.host.is_dirty = true;
                let Some(server) = &mut self.server else { return Ok(()) };
                self.coverage.server(
                    coverage::server_state(server, Some(&cid), self.leaving.contains(&cid)),
                    ServerEvent::Cancel,
                );
                (Party::Server(cid), server.cancel(&cid, &id, raw), local)
            }
        };
        if result == Err(ApiMisuse::UnknownConnection) {
            return Ok(());
        }
        self.oracle.on_cancelled(party, &id, result.is_ok(), local)
    }

    /// An application needs longer for all that it has in hand.
    pub(super) fn extend(&mut self, seat: u8, way: Way, millis: u64) -> Checked {
        let Some(seat) = self.acting(seat, way) else { return Ok(()) };
        let cid = self.seats[seat].client.as_ref().expect("it lives").connection_id();
        let by = if way == Way::Down { Party::Client(seat) } else { Party::Server(cid) };
        let lease = Duration::from_millis(millis);
        let handles: Vec<Handle> = self.oracle.in_hands().filter(|(of, _)| *of == by).map(|(_, it)| it).collect();
        for handle in handles {
            let now = self.now;
            let (result, local) = match by {
                Party::Client(seat) => {
                    let it = &mut self.seats[seat];
                    let (raw, local) = (it.program.raw(now), it.program.local(now));
                    it.program.is_dirty = true;
                    let client = it.client.as_mut().expect("it lives");
                    self.coverage.client(coverage::client_state(client, it.is_open), ClientEvent::Extend);
                    (client.extend(handle, lease, raw), local)
                }
                Party::Server(cid) => {
                    let (raw, local) = (self.host.raw(now), self.host.local(now));
                    self.host.is_dirty = true;
                    let Some(server) = &mut self.server else { return Ok(()) };
                    self.coverage.server(
                        coverage::server_state(server, Some(&cid), self.leaving.contains(&cid)),
                        ServerEvent::Extend,
                    );
                    (server.extend(&cid, handle, lease, raw), local)
                }
            };
            self.oracle.on_extended(by, handle, lease, result, local)?;
        }
        Ok(())
    }

    /// A client's application takes what there is. Returns whether there was anything.
    pub(super) fn take_down(&mut self, seat: usize) -> Result<bool, Broken> {
        let now = self.now;
        let it = &mut self.seats[seat];
        let is_reading = it.program.unread_until.is_none() && it.program.stopped_until.is_none();
        if !is_reading {
            return Ok(false);
        }
        let (raw, local) = (it.program.raw(now), it.program.local(now));
        let Some(client) = it.client.as_mut() else { return Ok(false) };
        let Some(delivery) = client.take(raw) else { return Ok(false) };
        self.coverage.client(coverage::client_state(client, it.is_open), ClientEvent::Take);
        self.on_taken(Party::Client(seat), &delivery, false, local)?;
        Ok(true)
    }

    /// The server's application takes what there is of any connection. Returns whether there was anything.
    pub(super) fn take_up(&mut self) -> Result<bool, Broken> {
        let now = self.now;
        let is_reading = self.host.unread_until.is_none() && self.host.stopped_until.is_none();
        if !is_reading || self.server.is_none() {
            return Ok(false);
        }
        let raw = self.host.raw(now);
        for index in 0..self.cids.len() {
            let cid = self.cids[index];
            let local = self.host.local(now);
            let Some(server) = &mut self.server else { return Ok(false) };
            let before = handed_over(server, &cid);
            let Some(delivery) = server.take(&cid, raw) else { continue };
            let server = self.server.as_ref().expect("it was just there");
            // What came before the end of an earlier connection is no concern of this one.
            let is_message = matches!(delivery, Delivery::Message(_));
            let is_left = is_message && before == handed_over(server, &cid);
            self.coverage
                .server(coverage::server_state(server, Some(&cid), self.leaving.contains(&cid)), ServerEvent::Take);
            self.on_taken(Party::Server(cid), &delivery, is_left, local)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn on_taken(
        &mut self,
        to: Party,
        delivery: &Delivery,
        is_left: bool,
        local: reattach_core::time::Instant,
    ) -> Checked {
        let text = delivery.payload().as_str();
        let Some(number) = number_of(text) else {
            return Err(Broken::new("S5", format!("{to:?} is handed what nobody sent: {text:.80}")));
        };
        self.tell(|_| format!("{to:?} is handed {number}"));
        match delivery {
            Delivery::Ephemeral { key, .. } => self.oracle.on_ephemeral_handed(to, number, key.as_str()),
            Delivery::Message(handed) => {
                self.oracle.on_handed(to, number, handed, is_left, local)?;
                if let Some(handle) = handed.handle {
                    let (least, most) = self.schedule.plan.decides;
                    let drawn = mix(self.schedule.seed, mix(u64::from(number), u64::from(handed.turn)));
                    let millis = if self.is_healing { 0 } else { least + drawn % (most - least + 1) };
                    let at = self.now + Duration::from_millis(millis);
                    self.plan(at, Coming::Decide(to, handle, number, handed.turn));
                }
                Ok(())
            }
        }
    }

    /// The time to decide about a message has come.
    pub(super) fn decide(&mut self, by: Party, handle: Handle, number: u32, turn: u32) -> Checked {
        let drawn = mix(self.schedule.seed, mix(u64::from(number), u64::from(turn) + 1_000));
        let code = "busy".parse().expect("a code");
        let [accepts, rejects, defers, abandons] = self.schedule.plan.verdicts;
        let choice = if self.is_healing { 0 } else { drawn % 100 };
        let decision = if choice < accepts {
            Decision::Accept
        } else if choice < accepts + rejects {
            Decision::Reject { code, reason: String::from("no") }
        } else if choice < accepts + rejects + defers {
            let retry_after = [None, Some(Duration::ZERO), Some(Duration::from_millis(200))];
            Decision::Defer { retry_after: retry_after[usize::try_from(drawn >> 32).unwrap_or(0) % 3], code }
        } else if choice < accepts + rejects + defers + abandons {
            Decision::Abandon
        } else {
            return Ok(());
        };
        self.decide_as(by, handle, &decision)
    }

    fn decide_as(&mut self, by: Party, handle: Handle, decision: &Decision) -> Checked {
        let now = self.now;
        let (result, local) = match by {
            Party::Client(seat) => {
                let it = &mut self.seats[seat];
                if let Some(until) = it.program.stopped_until {
                    self.plan(until, Coming::Decide(by, handle, 0, 0));
                    return Ok(());
                }
                let Some(client) = it.client.as_mut() else { return Ok(()) };
                let (raw, local) = (it.program.raw(now), it.program.local(now));
                it.program.is_dirty = true;
                self.coverage.client(coverage::client_state(client, it.is_open), ClientEvent::Decide);
                (client.decide(handle, decision.clone(), raw), local)
            }
            Party::Server(cid) => {
                if let Some(until) = self.host.stopped_until {
                    self.plan(until, Coming::Decide(by, handle, 0, 0));
                    return Ok(());
                }
                let Some(server) = &mut self.server else { return Ok(()) };
                let (raw, local) = (self.host.raw(now), self.host.local(now));
                self.host.is_dirty = true;
                self.coverage.server(
                    coverage::server_state(server, Some(&cid), self.leaving.contains(&cid)),
                    ServerEvent::Decide,
                );
                (server.decide(&cid, handle, decision.clone(), raw), local)
            }
        };
        self.tell(|_| format!("{by:?} decides {decision:?}: {result:?}"));
        self.oracle.on_decided(by, handle, decision, result, local)
    }

    /// Everything that is in somebody's hands is accepted, but for one in so many.
    pub(super) fn accept_all(&mut self, but: Option<usize>) -> Checked {
        let all: Vec<(Party, Handle)> = self.oracle.in_hands().collect();
        for (index, (by, handle)) in all.into_iter().enumerate() {
            if but.is_none_or(|but| !(self.steps as usize + index).is_multiple_of(but)) {
                self.decide_as(by, handle, &Decision::Accept)?;
            }
        }
        Ok(())
    }
}

/// How many messages the connection that is registered now has handed over.
fn handed_over(server: &Server, cid: &ConnectionId) -> Option<u64> {
    server.peer(cid).map(|peer| peer.connection().link().counters().handed_over)
}
