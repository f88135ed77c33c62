//! What an application does beside sending and taking: it decides, withdraws, sleeps and reconnects.

use std::time::Duration;

use reattach_core::client::Client;
use reattach_core::client::Status;
use reattach_core::error::ApiMisuse;
use reattach_core::link::Decision;
use reattach_core::link::Handle;

use crate::fuzz::shapes;

use super::Run;
use super::ledger::Cause;

impl Run<'_> {
    /// What applications do that decide, and withdraw.
    pub(super) fn step_further(&mut self, choice: u8) {
        match choice % 64 {
            0..=15 => self.send(),
            16..=27 => self.decide(),
            28..=31 => self.extend(),
            32..=39 => self.cancel(),
            40..=45 => self.say_one(Self::void),
            46..=47 => self.suspend(),
            48..=55 => self.take(),
            56..=59 => self.say_one(Self::pong),
            _ => self.say_one(Self::message),
        }
    }

    /// Any handle that there ever was, mostly a late one.
    pub(super) fn any_handle(&mut self) -> Option<Handle> {
        self.bytes.pick_of(self.handles.iter().rev().copied())
    }

    pub(super) fn decide(&mut self) {
        self.ledger.begin(Cause::Nothing);
        let Some(handle) = self.any_handle() else { return };
        let decision = shapes::decision(&mut self.bytes);
        let before = self.client.clone();
        let result = self.client.decide(handle, decision, self.now);
        assert!(result.is_ok() || same_link(&self.client, &before), "a decision that comes too late changes nothing");
        assert!(self.client.decide(handle, Decision::Accept, self.now).is_err(), "nothing is decided twice");
        self.drain();
    }

    pub(super) fn extend(&mut self) {
        self.ledger.begin(Cause::Nothing);
        let Some(handle) = self.any_handle() else { return };
        let lease = Duration::from_millis(self.bytes.number().min(1_000));
        let before = self.client.clone();
        let result = self.client.extend(handle, lease, self.now);
        assert!(result.is_ok() || same_link(&self.client, &before), "an extension that comes too late changes nothing");
        self.drain();
    }

    pub(super) fn cancel(&mut self) {
        self.ledger.begin(Cause::Cancel);
        let Some(id) = self.bytes.pick_of(self.ids.iter().rev().copied()) else { return };
        let owes = self.ledger.owes(&id);
        assert_eq!(self.client.cancel(&id, self.now).is_ok(), owes, "what has no outcome can be withdrawn");
        self.drain();
    }

    pub(super) fn suspend(&mut self) {
        self.ledger.begin(Cause::Reconnect);
        let result = self.client.suspend(self.now);
        self.drain();
        assert_eq!(result.is_ok(), self.client.status() == Status::Suspended);
    }

    pub(super) fn void(&mut self, out: &mut String) {
        let received = self.client.connection().link().inbox().settlement().received();
        shapes::void(&mut self.bytes, received, out);
    }

    pub(super) fn send_ephemeral(&mut self) {
        self.ledger.begin(Cause::Nothing);
        let (key, payload) = (shapes::name(&mut self.bytes), shapes::payload(&mut self.bytes));
        let is_attached = self.client.status() == Status::Attached;
        let result = self.client.send_ephemeral(key, payload, self.now);
        assert!(result.is_err() || is_attached, "an ephemeral message is never queued");
        self.drain();
    }

    pub(super) fn reconnect(&mut self) {
        self.ledger.begin(Cause::Reconnect);
        let is_over = matches!(self.client.status(), Status::Closed(_));
        let result = self.client.reconnect(self.now);
        assert_eq!(result, if is_over { Err(ApiMisuse::Ended) } else { Ok(()) });
        self.drain();
        assert!(is_over || self.wire.is_some(), "a transport is asked for at once");
    }
}

/// Whether the link has not changed; the clock may have moved on.
fn same_link(a: &Client, b: &Client) -> bool {
    a.connection().link() == b.connection().link()
}
