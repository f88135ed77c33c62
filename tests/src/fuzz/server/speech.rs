//! What callers say: mostly what fits, and never all of it.

use reattach_core::connection::Incoming;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::id::Seq;
use reattach_core::id::TransportId;
use reattach_core::server::Input;
use reattach_core::server::Peer;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;

use crate::fuzz::callers;
use crate::fuzz::callers::Known;
use crate::fuzz::shapes;

use super::Run;
use super::ledger::Cause;

impl Run<'_> {
    pub(super) fn hello_on_any(&mut self) {
        let Some(transport) = self.any_wire() else { return };
        self.hello(transport);
    }

    pub(super) fn hello(&mut self, transport: TransportId) {
        let mut hello =
            self.callers.hello(&mut self.bytes, &|cid| self.server.peer(cid).map(Peer::connection).map(Known::of));
        if self.bytes.rarely(12) {
            let fences: Vec<_> = self.wires.values().filter_map(|wire| wire.fence).collect();
            hello.fence = self.bytes.pick_of(fences);
        }
        self.say_hello(transport, hello);
    }

    fn say_hello(&mut self, transport: TransportId, hello: Hello) {
        let mut text = String::new();
        Frame::Hello(Box::new(hello.clone())).encode(&mut text);
        if self.bytes.rarely(8) {
            let cid = hello.cid.to_string();
            text = text.replace(&cid, &cid.to_uppercase());
        }
        let text = shapes::garble(&mut self.bytes, text);
        self.receive(transport, &text);
    }

    pub(super) fn answer_challenge(&mut self) {
        let challenged = self.wires.iter().filter(|(_, wire)| wire.fence.is_some() && wire.cid.is_none());
        let challenged: Vec<_> = challenged.map(|(transport, _)| *transport).collect();
        let Some(transport) = self.bytes.pick_of(challenged) else { return };
        let Some(mut hello) = self.wires[&transport].hello.clone() else { return };
        hello.fence = self.wires[&transport].fence;
        if self.bytes.rarely(8) {
            hello.fence = Some(Fence::from_bytes([self.bytes.byte(); 16]));
        }
        if self.bytes.rarely(16) {
            hello.instance = InstanceId::from_bytes([self.bytes.byte(); 16]);
        }
        let known = self.server.peer(&hello.cid).map(Peer::connection).map(Known::of);
        callers::number(&mut self.bytes, known, &mut hello);
        self.say_hello(transport, hello);
    }

    fn say(&mut self, transport: TransportId, text: String) {
        self.ahead = 0;
        let text = shapes::garble(&mut self.bytes, text);
        self.receive(transport, &text);
    }

    pub(super) fn say_one(&mut self, put: fn(&mut Self, TransportId, &mut String)) {
        let Some(transport) = self.any_wire() else { return };
        let mut text = String::new();
        put(self, transport, &mut text);
        self.say(transport, text);
    }

    pub(super) fn batch(&mut self) {
        let Some(transport) = self.any_wire() else { return };
        let mut text = String::new();
        for _ in 0..2 + self.bytes.below(4) {
            let put = self.bytes.pick(&[
                Self::message as fn(&mut Self, TransportId, &mut String),
                Self::ack,
                Self::pong,
                Self::ephemeral,
                Self::ping,
                Self::bye,
            ]);
            put(self, transport, &mut text);
        }
        self.say(transport, text);
    }

    /// What the server wrote last to whom this transport is attached, and what it has received.
    pub(super) fn standing(&self, transport: TransportId) -> (Seq, Seq) {
        let cid = self.wires.get(&transport).and_then(|wire| wire.cid);
        let link = cid.and_then(|cid| self.server.peer(&cid)).map(|peer| peer.connection().link());
        link.map_or_else(Default::default, |link| (link.outbox().flight().sent(), link.inbox().settlement().received()))
    }

    pub(super) fn message(&mut self, transport: TransportId, out: &mut String) {
        let due = self.standing(transport).1.get() + self.ahead + 1;
        let seq = shapes::message(&mut self.bytes, due, out);
        self.ahead += u64::from(seq.get() == due);
    }

    pub(super) fn ack(&mut self, transport: TransportId, out: &mut String) {
        let (sent, _) = self.standing(transport);
        shapes::ack(&mut self.bytes, sent, out);
    }

    pub(super) fn pong(&mut self, transport: TransportId, out: &mut String) {
        let (sent, _) = self.standing(transport);
        let pinged = self.wires.get(&transport).map_or(0, |wire| wire.pinged);
        shapes::pong(&mut self.bytes, sent, pinged, out);
    }

    pub(super) fn ping(&mut self, _: TransportId, out: &mut String) {
        shapes::ping(&mut self.bytes, out);
    }

    pub(super) fn ephemeral(&mut self, _: TransportId, out: &mut String) {
        shapes::ephemeral(&mut self.bytes, out);
    }

    pub(super) fn bye(&mut self, transport: TransportId, out: &mut String) {
        let (sent, _) = self.standing(transport);
        shapes::bye(&mut self.bytes, sent, out);
    }

    pub(super) fn raw(&mut self) {
        let Some(transport) = self.any_wire() else { return };
        if self.bytes.rarely(4) {
            let input = Input::Received { transport, incoming: Incoming::Binary };
            return self.input(Cause::Received, input);
        }
        let text = if self.bytes.rarely(16) { shapes::long_text() } else { self.bytes.text() };
        self.receive(transport, &text);
    }
}
