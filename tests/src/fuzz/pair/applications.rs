//! What the applications do: they send, take, decide, withdraw and go to sleep, and keep account of it.

use std::time::Duration;

use reattach_core::id::ConnectionId;
use reattach_core::id::Seq;
use reattach_core::link::Acceptance;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Handle;
use reattach_core::link::Outgoing;
use reattach_core::wire::Frame;
use reattach_core::wire::Payload;

use crate::fuzz::shapes;

use super::Run;
use super::ledger::Party;
use super::ledger::When;
use super::wires::Item;

impl Run<'_> {
    /// What applications do that decide and withdraw, and networks that lose a text.
    pub(super) fn step_further(&mut self, choice: u8) {
        match choice % 64 {
            0..=7 => self.send_up(),
            8..=15 => self.send_down(),
            16..=19 => self.take_up(),
            20..=23 => self.take_down(),
            24..=39 => self.decide(),
            40..=43 => self.extend(),
            44..=51 => self.cancel(),
            52..=57 => self.drop_text(),
            58..=59 => self.suspend(),
            _ => self.settle(),
        }
    }

    /// The moment, and what happened before it.
    pub(super) const fn when(&self) -> When {
        When { now: self.now, faults: self.faults, losses: self.losses }
    }

    pub(super) fn send_up(&mut self) {
        let Some(side) = self.any_side() else { return };
        let message = self.message();
        if let Ok(id) = self.sides[side].client.send(message.clone(), self.now) {
            self.ledger.on_sent(Party::Client(side), id, message, self.now);
        }
    }

    pub(super) fn send_down(&mut self) {
        let Some(cid) = self.any_cid() else { return };
        let message = self.message();
        if let Ok(id) = self.server.send(&cid, message.clone(), self.now) {
            self.ledger.on_sent(Party::Server(cid), id, message, self.now);
        }
    }

    fn message(&mut self) -> Outgoing {
        let number = self.ledger.next();
        let id = format!("01234567-89ab-4def-8123-{number:012x}");
        let id = if self.bytes.rarely(4) { id.parse().ok() } else { None };
        let payload = self.payload(number);
        Outgoing { id, ..shapes::outgoing(&mut self.bytes, payload) }
    }

    fn payload(&mut self, number: usize) -> Payload {
        let padding = "x".repeat(self.bytes.pick(&[0, 0, 0, 10, 100, 200]));
        Payload::new(&(number, padding)).expect("JSON")
    }

    pub(super) fn send_ephemeral(&mut self) {
        let number = self.ledger.next_ephemeral();
        let (key, payload) = (shapes::name(&mut self.bytes), self.payload(number));
        if self.bytes.pick(&[true, false]) {
            let Some(side) = self.any_side() else { return };
            if self.sides[side].client.send_ephemeral(key, payload, self.now).is_ok() {
                self.ledger.on_ephemeral(Party::Client(side));
            }
        } else {
            let Some(cid) = self.any_cid() else { return };
            if self.server.send_ephemeral(&cid, key, payload, self.now).is_ok() {
                self.ledger.on_ephemeral(Party::Server(cid));
            }
        }
    }

    pub(super) fn take_up(&mut self) {
        let Some(cid) = self.any_cid() else { return };
        self.take(Party::Server(cid));
    }

    pub(super) fn take_down(&mut self) {
        let Some(side) = self.any_side() else { return };
        self.take(Party::Client(side));
    }

    fn take(&mut self, by: Party) -> Option<Delivery> {
        let (delivery, config, has_ended) = match by {
            Party::Client(side) => {
                (self.sides[side].client.take(self.now)?, &self.client_config.connection.link, false)
            }
            Party::Server(cid) => {
                let before = self.in_application(&cid);
                let delivery = self.server.take(&cid, self.now)?;
                // What came before the end of an earlier connection is no concern of this one.
                (delivery, &self.server_config.connection.link, before == self.in_application(&cid))
            }
        };
        let is_message = matches!(delivery, Delivery::Message(_));
        let decides = is_message && config.acceptance == Acceptance::Manual;
        assert_eq!(delivery.handle().is_some(), decides, "who decides is what was configured");
        self.ledger.on_taken(by, &delivery, config.lease, has_ended, self.when());
        Some(delivery)
    }

    /// What the application has of the connection that is registered now.
    fn in_application(&self, cid: &ConnectionId) -> Vec<Seq> {
        let peer = self.server.peer(cid);
        peer.map(|peer| peer.connection().link().inbox().in_application()).unwrap_or_default()
    }

    /// Everybody takes whatever there is, and accepts it; but for a few messages that are kept for later, until all is to heal.
    pub(super) fn take_all(&mut self) -> bool {
        let clients = (0..self.sides.len()).filter(|side| self.sides[*side].lives).map(Party::Client);
        let parties: Vec<_> = clients.chain(self.server.connections().copied().map(Party::Server)).collect();
        let mut moved = false;
        for by in parties {
            while let Some(delivery) = self.take(by) {
                moved = true;
                let Some(handle) = delivery.handle() else { continue };
                if self.is_healing || !self.ledger.next().is_multiple_of(4) {
                    self.decide_about(by, handle, Decision::Accept);
                }
            }
        }
        moved
    }

    /// Everything that is in somebody's hands is accepted.
    pub(super) fn accept_all(&mut self) {
        for (by, handle) in self.ledger.in_hands() {
            self.decide_about(by, handle, Decision::Accept);
        }
        self.drain();
    }

    /// Decides about anything that was ever handed over, mostly something late.
    pub(super) fn decide(&mut self) {
        let Some((by, handle)) = self.any_handle() else { return };
        let code = "busy".parse().expect("a code");
        let decision = match self.bytes.byte() % 8 {
            0..=1 => Decision::Accept,
            2..=3 => Decision::Reject { code, reason: "no".to_owned() },
            4..=6 => {
                let retry_after = [None, Some(Duration::ZERO), Some(Duration::from_millis(400))];
                Decision::Defer { retry_after: self.bytes.pick(&retry_after), code }
            }
            _ => Decision::Abandon,
        };
        self.decide_about(by, handle, decision);
    }

    fn decide_about(&mut self, by: Party, handle: Handle, decision: Decision) {
        let result = match by {
            Party::Client(side) => self.sides[side].client.decide(handle, decision.clone(), self.now),
            Party::Server(cid) => self.server.decide(&cid, handle, decision.clone(), self.now),
        };
        self.ledger.on_decided(by, handle, &decision, result, self.now);
    }

    fn extend(&mut self) {
        let Some((by, handle)) = self.any_handle() else { return };
        let lease = Duration::from_millis(self.bytes.pick(&[300, 0, 50, 1_000]));
        let result = match by {
            Party::Client(side) => self.sides[side].client.extend(handle, lease, self.now),
            Party::Server(cid) => self.server.extend(&cid, handle, lease, self.now),
        };
        self.ledger.on_extended(by, handle, lease, result, self.now);
    }

    fn any_handle(&mut self) -> Option<(Party, Handle)> {
        let (by, handle) = self.bytes.pick_of(self.ledger.handles().rev())?;
        let is_here = match by {
            Party::Client(side) => self.sides[side].lives,
            Party::Server(_) => true,
        };
        is_here.then_some((by, handle))
    }

    /// A sender withdraws a message, mostly a late one.
    pub(super) fn cancel(&mut self) {
        let Some((by, id)) = self.bytes.pick_of(self.ledger.sent().rev()) else { return };
        let result = match by {
            Party::Client(side) if !self.sides[side].lives => return,
            Party::Client(side) => self.sides[side].client.cancel(&id, self.now),
            Party::Server(cid) => self.server.cancel(&cid, &id, self.now),
        };
        self.ledger.on_cancelled(&id, result.is_ok());
    }

    /// A text is lost, and the wire goes on as if nothing had happened.
    pub(super) fn drop_text(&mut self) {
        let Some(number) = self.any_wire() else { return };
        let choice = self.bytes.byte();
        let Some(wire) = self.wires.get_mut(&number) else { return };
        let end = if choice & 1 == 0 { &mut wire.server } else { &mut wire.client };
        // A handshake goes no further without what was lost of it; there the wire is no stream yet.
        let is_mid_stream = |item: &Item| match item {
            Item::Text(text) => shapes::frames_written(text)
                .iter()
                .all(|frame| !matches!(frame, Frame::Hello(_) | Frame::Challenge(_) | Frame::Welcome(_))),
            Item::Closed(_) => false,
        };
        let texts: Vec<_> = (0..end.coming.len()).filter(|index| is_mid_stream(&end.coming[*index])).collect();
        if let Some(index) = texts.get(usize::from(choice >> 1) % texts.len().max(1)) {
            _ = end.coming.remove(*index);
            self.faults += 1;
            self.has_dropped = true;
        }
    }

    fn suspend(&mut self) {
        let Some(side) = self.any_side() else { return };
        self.faults += 1;
        _ = self.sides[side].client.suspend(self.now);
    }
}
