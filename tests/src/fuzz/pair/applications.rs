//! What the applications do: they send, take, decide, withdraw and go to sleep.

use std::time::Duration;

use reattach_core::error::ApiMisuse;
use reattach_core::id::ConnectionId;
use reattach_core::id::MessageId;
use reattach_core::link::Acceptance;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Handle;
use reattach_core::link::Outgoing;
use reattach_core::wire::Frame;
use reattach_core::wire::Payload;

use crate::fuzz::shapes;
use crate::oracle::Fault;
use crate::oracle::Party;

use super::Run;
use super::heed;
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

    pub(super) fn send_up(&mut self) {
        let Some(side) = self.any_side() else { return };
        let message = self.message();
        let result = self.sides[side].client.send(message.clone(), self.now);
        self.on_sent(Party::Client(side), result, &message);
    }

    pub(super) fn send_down(&mut self) {
        let Some(cid) = self.any_cid() else { return };
        let message = self.message();
        let result = self.server.send(&cid, message.clone(), self.now);
        self.on_sent(Party::Server(cid), result, &message);
    }

    fn on_sent(&mut self, by: Party, result: Result<MessageId, ApiMisuse>, message: &Outgoing) {
        let number = self.next();
        match result {
            Ok(id) => {
                self.sent.push((by, id));
                heed(self.oracle.on_sent(by, number, id, message, self.now));
            }
            Err(error) => heed(self.oracle.on_refused(by, error, message)),
        }
    }

    /// The number of the next message.
    fn next(&self) -> u32 {
        u32::try_from(self.sent.len()).expect("a few messages")
    }

    fn message(&mut self) -> Outgoing {
        let number = self.next();
        let id = format!("01234567-89ab-4def-8123-{number:012x}");
        let id = if self.bytes.rarely(4) { id.parse().ok() } else { None };
        let payload = self.payload(number);
        Outgoing { id, ..shapes::outgoing(&mut self.bytes, payload) }
    }

    fn payload(&mut self, number: u32) -> Payload {
        let padding = "x".repeat(self.bytes.pick(&[0, 0, 0, 10, 100, 200]));
        Payload::new(&(number, padding)).expect("JSON")
    }

    pub(super) fn send_ephemeral(&mut self) {
        let number = self.ephemerals;
        let (key, payload) = (shapes::name(&mut self.bytes), self.payload(number));
        let (by, result) = if self.bytes.pick(&[true, false]) {
            let Some(side) = self.any_side() else { return };
            (Party::Client(side), self.sides[side].client.send_ephemeral(key, payload, self.now))
        } else {
            let Some(cid) = self.any_cid() else { return };
            (Party::Server(cid), self.server.send_ephemeral(&cid, key, payload, self.now))
        };
        if result.is_ok() {
            heed(self.oracle.on_ephemeral(by, number));
            self.ephemerals += 1;
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
        let (delivery, config, is_left) = match by {
            Party::Client(side) => {
                (self.sides[side].client.take(self.now)?, &self.client_config.connection.link, false)
            }
            Party::Server(cid) => {
                let before = self.handed_over(&cid);
                let delivery = self.server.take(&cid, self.now)?;
                // What came before the end of an earlier connection is no concern of this one.
                (delivery, &self.server_config.connection.link, before == self.handed_over(&cid))
            }
        };
        let decides = matches!(delivery, Delivery::Message(_)) && config.acceptance == Acceptance::Manual;
        assert_eq!(delivery.handle().is_some(), decides, "who decides is what was configured");
        let (number, _) = delivery.payload().parse::<(u32, String)>().expect("what was sent comes");
        match &delivery {
            Delivery::Message(handed) => {
                self.handles.extend(handed.handle.map(|handle| (by, handle)));
                heed(self.oracle.on_handed(by, number, handed, is_left, self.now));
            }
            Delivery::Ephemeral { key, .. } => heed(self.oracle.on_ephemeral_handed(by, number, key.as_str())),
        }
        Some(delivery)
    }

    /// How many messages the connection that is registered now has handed over.
    fn handed_over(&self, cid: &ConnectionId) -> Option<u64> {
        self.server.peer(cid).map(|peer| peer.connection().link().counters().handed_over)
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
                if self.is_healing || !self.sent.len().is_multiple_of(4) {
                    self.decide_about(by, handle, Decision::Accept);
                }
            }
        }
        moved
    }

    /// Everything that is in somebody's hands is accepted.
    pub(super) fn accept_all(&mut self) {
        for (by, handle) in self.oracle.in_hands().collect::<Vec<_>>() {
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
        heed(self.oracle.on_decided(by, handle, &decision, result, self.now));
    }

    fn extend(&mut self) {
        let Some((by, handle)) = self.any_handle() else { return };
        let lease = Duration::from_millis(self.bytes.pick(&[300, 0, 50, 1_000]));
        let result = match by {
            Party::Client(side) => self.sides[side].client.extend(handle, lease, self.now),
            Party::Server(cid) => self.server.extend(&cid, handle, lease, self.now),
        };
        heed(self.oracle.on_extended(by, handle, lease, result, self.now));
    }

    fn any_handle(&mut self) -> Option<(Party, Handle)> {
        let (by, handle) = self.bytes.pick_of(self.handles.iter().rev().copied())?;
        let is_here = match by {
            Party::Client(side) => self.sides[side].lives,
            Party::Server(_) => true,
        };
        is_here.then_some((by, handle))
    }

    /// A sender withdraws a message, mostly a late one.
    pub(super) fn cancel(&mut self) {
        let Some((by, id)) = self.bytes.pick_of(self.sent.iter().rev().copied()) else { return };
        let result = match by {
            Party::Client(side) if !self.sides[side].lives => return,
            Party::Client(side) => self.sides[side].client.cancel(&id, self.now),
            Party::Server(cid) => self.server.cancel(&cid, &id, self.now),
        };
        heed(self.oracle.on_cancelled(by, &id, result.is_ok(), self.now));
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
            self.disturb(number, Fault::Lost);
            self.has_dropped = true;
        }
    }

    fn suspend(&mut self) {
        let Some(side) = self.any_side() else { return };
        self.faults += 1;
        if self.sides[side].client.suspend(self.now).is_ok() {
            self.oracle.on_client_command(side, false);
        }
    }
}
