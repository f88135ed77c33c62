//! What an application does beside sending and taking: it decides, withdraws, drains and revokes.

use std::time::Duration;

use reattach_core::id::TransportId;
use reattach_core::link::Decision;
use reattach_core::server::Peer;

use crate::fuzz::shapes;

use super::Run;
use super::ledger::Cause;

impl Run<'_> {
    /// What applications do that decide, withdraw, drain and revoke.
    pub(super) fn step_further(&mut self, choice: u8) {
        match choice % 64 {
            0..=13 => self.send(),
            14..=27 => self.decide(),
            28..=35 => self.cancel(),
            36..=43 => self.say_one(Self::void),
            44..=55 => self.take(),
            56..=57 => self.drain_all(),
            58..=59 => self.revoke(),
            _ => self.say_one(Self::message),
        }
    }

    pub(super) fn void(&mut self, transport: TransportId, out: &mut String) {
        let (_, received) = self.standing(transport);
        shapes::void(&mut self.bytes, received, out);
    }

    pub(super) fn decide(&mut self) {
        self.ledger.begin(Cause::Command);
        let Some((cid, handle)) = self.bytes.pick_of(self.handles.iter().rev().copied()) else { return };
        let before = self.others(Some(cid));
        if self.bytes.rarely(4) {
            let lease = Duration::from_millis(self.bytes.number().min(1_000));
            _ = self.server.extend(&cid, handle, lease, self.now);
        } else {
            let decision = shapes::decision(&mut self.bytes);
            _ = self.server.decide(&cid, handle, decision, self.now);
            let again = self.server.decide(&cid, handle, Decision::Accept, self.now);
            assert!(again.is_err(), "nothing is decided twice");
        }
        self.drain();
        self.assert_untouched(&before);
    }

    pub(super) fn cancel(&mut self) {
        self.ledger.begin(Cause::Command);
        let Some((cid, id)) = self.bytes.pick_of(self.ids.iter().rev().copied()) else { return };
        let owes = self.ledger.owes(&cid, &id);
        assert_eq!(self.server.cancel(&cid, &id, self.now).is_ok(), owes, "what has no outcome can be withdrawn");
        self.drain();
    }

    pub(super) fn drain_all(&mut self) {
        self.ledger.begin(Cause::Command);
        let cids: Vec<_> = self.server.connections().copied().collect();
        cids.into_iter().for_each(|cid| self.ledger.on_closing(cid));
        let patience = Duration::from_millis(self.bytes.number().min(1_000));
        self.server.drain(patience, (Duration::ZERO, Duration::from_secs(1)), self.now);
        self.drain();
    }

    pub(super) fn revoke(&mut self) {
        self.ledger.begin(Cause::Command);
        let Some(cid) = self.any_cid() else { return };
        self.ledger.on_closing(cid);
        self.server.revoke(&cid, self.now).expect("it is registered");
        self.drain();
        assert!(self.server.peer(&cid).is_none(), "it is over at once");
    }

    pub(super) fn send_ephemeral(&mut self) {
        self.ledger.begin(Cause::Command);
        let Some(cid) = self.any_cid() else { return };
        let (key, payload) = (shapes::name(&mut self.bytes), shapes::payload(&mut self.bytes));
        let is_attached = self.server.peer(&cid).is_some_and(Peer::is_attached);
        let result = self.server.send_ephemeral(&cid, key, payload, self.now);
        assert!(result.is_err() || is_attached, "an ephemeral message is never queued");
        self.drain();
    }
}
