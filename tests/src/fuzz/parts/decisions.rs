//! What applications do beside sending and taking: they decide and withdraw at a peer, drain it, and revoke at the registry.

use std::time::Duration;

use reattach_core::link::Decision;

use crate::fuzz::shapes;

use super::Run;

impl Run<'_> {
    /// What applications do that decide, withdraw, drain and revoke.
    pub(super) fn step_further(&mut self, choice: u8) {
        match choice % 32 {
            0..=7 => self.take(),
            8..=17 => self.decide(),
            18..=23 => self.cancel(),
            24..=27 => self.drain_one(),
            _ => self.revoke(),
        }
    }

    fn decide(&mut self) {
        let Some(id) = self.any_peer() else { return };
        let held = self.peers.get_mut(&id).expect("the peer is there");
        let Some(handle) = self.bytes.pick_of(held.handles.iter().rev().copied()) else { return };
        if self.bytes.rarely(4) {
            let lease = Duration::from_millis(self.bytes.number().min(1_000));
            _ = held.peer.extend(handle, lease, self.now);
        } else {
            let decision = shapes::decision(&mut self.bytes);
            _ = held.peer.decide(handle, decision, self.now);
            let again = held.peer.decide(handle, Decision::Accept, self.now);
            assert!(again.is_err(), "nothing is decided twice");
        }
        self.drain();
    }

    fn cancel(&mut self) {
        let Some(id) = self.any_peer() else { return };
        let held = self.peers.get_mut(&id).expect("the peer is there");
        let Some(sent) = self.bytes.pick_of(held.ids.iter().rev().copied()) else { return };
        let owes = held.outstanding.contains(&sent);
        assert_eq!(held.peer.cancel(&sent, self.now).is_ok(), owes, "what has no outcome can be withdrawn");
        self.drain();
    }

    /// One peer drains: nothing more is handed over or sent.
    fn drain_one(&mut self) {
        let Some(id) = self.any_peer() else { return };
        let patience = Duration::from_millis(self.bytes.pick(&[0, 100, 1_000]));
        let held = self.peers.get_mut(&id).expect("the peer is there");
        held.peer.drain(patience, Duration::from_millis(50), self.now);
        let refused = held.peer.send(shapes::payload(&mut self.bytes).into(), self.now);
        assert!(refused.is_err(), "who drains sends nothing more");
        self.drain();
    }

    /// The registry revokes a connection; its peer is told in its time.
    fn revoke(&mut self) {
        let Some(cid) = self.bytes.pick_of(self.current.keys().rev().copied()) else { return };
        assert!(self.registry.revoke(&cid, self.now), "it is registered");
        self.drain();
    }
}
