//! What the server says: mostly what fits, and never all of it.

use std::time::Duration;

use reattach_core::client::Input;
use reattach_core::connection::Incoming;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Fence;
use reattach_core::id::Seq;
use reattach_core::wire::Challenge;
use reattach_core::wire::Frame;
use reattach_core::wire::Message;
use reattach_core::wire::Receipt;
use reattach_core::wire::Report;
use reattach_core::wire::Welcome;

use crate::fuzz::shapes;

use super::Run;
use super::ledger::Cause;

impl Run<'_> {
    /// Says what was put together, as one WebSocket message.
    fn say(&mut self, text: String) {
        self.ahead = 0;
        let text = shapes::garble(&mut self.bytes, text);
        self.receive(&text);
    }

    pub(super) fn say_one(&mut self, put: fn(&mut Self, &mut String)) {
        let mut text = String::new();
        put(self, &mut text);
        self.say(text);
    }

    pub(super) fn welcome(&mut self) {
        let link = self.client.connection().link();
        let (sent, received) = (link.outbox().flight().sent(), link.inbox().settlement().received());
        let epoch = self.client.connection().epoch();
        let resumed = epoch.is_some() ^ self.bytes.rarely(4);
        let mint = self.mint();
        let epoch = if resumed ^ self.bytes.rarely(32) { epoch.unwrap_or(mint) } else { mint };
        let mut cid = self.client.connection_id();
        if self.bytes.rarely(32) {
            cid = ConnectionKey::from_bytes([99; 16]).connection_id();
        }
        let report =
            if resumed ^ self.bytes.rarely(32) { shapes::report(&mut self.bytes, sent) } else { Report::default() };
        let receipt = if !resumed && self.bytes.rarely(2) { Some(Box::new(self.receipt(sent))) } else { None };
        let welcome = Welcome {
            cid,
            epoch,
            resumed,
            report,
            seen: shapes::report_no(&mut self.bytes),
            limits: shapes::limits(&mut self.bytes),
            detach_ttl: Duration::from_millis(500),
            receipt,
        };
        let mut text = String::new();
        shapes::put(&Frame::Welcome(Box::new(welcome)), &mut text);
        if self.bytes.rarely(3) {
            let seq = if resumed { received.next() } else { Seq::ZERO.next() };
            shapes::put(&Frame::Message(Message::plain(seq, "0")), &mut text);
        }
        self.say(text);
    }

    fn receipt(&mut self, sent: Seq) -> Receipt {
        let epoch = self.client.connection().epoch();
        let mint = self.mint();
        let Report { received, settled, no: _, except } = shapes::report(&mut self.bytes, sent);
        let handed = if self.bytes.rarely(4) { vec![settled.next()] } else { Vec::new() };
        Receipt {
            epoch: epoch.filter(|_| !self.bytes.rarely(16)).unwrap_or(mint),
            received,
            settled,
            except,
            seen: shapes::report_no(&mut self.bytes),
            handed,
            is_final: !self.bytes.rarely(3),
        }
    }

    pub(super) fn challenge(&mut self) {
        let fence = Fence::from_bytes([self.bytes.byte(); 16]);
        let mut text = String::new();
        shapes::put(&Frame::Challenge(Challenge { fence }), &mut text);
        self.say(text);
    }

    pub(super) fn message(&mut self, out: &mut String) {
        let due = self.client.connection().link().inbox().settlement().received().get() + self.ahead + 1;
        let seq = shapes::message(&mut self.bytes, due, out);
        self.ahead += u64::from(seq.get() == due);
    }

    /// The highest number that the client has written.
    fn sent(&self) -> Seq {
        self.client.connection().link().outbox().flight().sent()
    }

    pub(super) fn ack(&mut self, out: &mut String) {
        let sent = self.sent();
        shapes::ack(&mut self.bytes, sent, out);
    }

    pub(super) fn pong(&mut self, out: &mut String) {
        let (sent, pinged) = (self.sent(), self.wire.as_ref().map_or(0, |wire| wire.pinged));
        shapes::pong(&mut self.bytes, sent, pinged, out);
    }

    pub(super) fn ping(&mut self, out: &mut String) {
        shapes::ping(&mut self.bytes, out);
    }

    pub(super) fn ephemeral(&mut self, out: &mut String) {
        shapes::ephemeral(&mut self.bytes, out);
    }

    pub(super) fn bye(&mut self, out: &mut String) {
        let sent = self.sent();
        shapes::bye(&mut self.bytes, sent, out);
    }

    pub(super) fn batch(&mut self) {
        let mut text = String::new();
        for _ in 0..2 + self.bytes.below(4) {
            let put = self.bytes.pick(&[
                Self::message as fn(&mut Self, &mut String),
                Self::ack,
                Self::pong,
                Self::ephemeral,
                Self::ping,
                Self::bye,
            ]);
            put(self, &mut text);
        }
        self.say(text);
    }

    pub(super) fn raw(&mut self) {
        if self.bytes.rarely(4) {
            let transport = self.transport();
            return self.input(Cause::Received, Input::Received { transport, incoming: Incoming::Binary });
        }
        let text = if self.bytes.rarely(16) { shapes::long_text() } else { self.bytes.text() };
        self.receive(&text);
    }
}
