//! What the machines ask for and tell.

use reattach_core::client;
use reattach_core::client::Event;
use reattach_core::id::ConnectionId;
use reattach_core::id::TransportId;
use reattach_core::server;
use reattach_core::server::PeerEvent;
use reattach_core::server::RegistryEvent;

use crate::oracle;

use super::Run;
use super::heed;
use super::wires::End;
use super::wires::Item;
use super::wires::Wire;

impl Run<'_> {
    pub(super) fn on_client_output(&mut self, side: usize, output: client::Output) {
        match output {
            client::Output::Open { transport } => {
                self.opened += 1;
                let client = End { lives: true, ..End::default() };
                let wire = Wire { side, transport, is_open: false, client, server: End::default() };
                self.wires.insert(self.opened, wire);
                self.sides[side].wire = Some(self.opened);
                self.oracle.on_asked(self.opened, side);
            }
            client::Output::Write { transport, text } => {
                let (number, wire) = self.wire_of(side, transport).expect("what is written names a live transport");
                assert!(wire.is_open, "what is written names an open transport");
                wire.client.produced += text.len() as u64;
                let checked = self.oracle.on_write(number, oracle::End::Client, &text);
                self.wires.entry(number).and_modify(|wire| wire.server.coming.push_back(Item::Text(text)));
                heed(checked);
            }
            client::Output::Close { transport, code } => {
                let (number, wire) = self.wire_of(side, transport).expect("what is closed lives");
                wire.client.lives = false;
                wire.client.coming.clear();
                wire.server.coming.push_back(Item::Closed(code));
                heed(self.oracle.on_close(number, oracle::End::Client));
            }
            client::Output::Event(event) => self.on_client_event(side, &event),
        }
    }

    fn wire_of(&mut self, side: usize, transport: TransportId) -> Option<(u64, &mut Wire)> {
        let mut wires = self.wires.iter_mut().map(|(number, wire)| (*number, wire));
        wires.find(|(_, wire)| wire.side == side && wire.transport == transport)
    }

    fn on_client_event(&mut self, side: usize, event: &Event) {
        if let Event::Failed { .. } | Event::Closed { .. } = event {
            assert!(self.faults > 0, "trying stopped without a cause");
            self.losses += 1;
        }
        heed(self.oracle.on_client_event(side, self.sides[side].wire, event, self.now));
    }

    pub(super) fn on_server_output(&mut self, output: server::Output) {
        match output {
            server::Output::Write { transport, text } => {
                heed(self.oracle.on_write(transport.0, oracle::End::Server, &text));
                if text.starts_with("{\"t\":\"welcome\"") {
                    self.welcomed = Some(transport.0);
                }
                let wire = self.wires.get_mut(&transport.0).expect("what is written names a live transport");
                wire.server.produced += text.len() as u64;
                wire.client.coming.push_back(Item::Text(text));
            }
            server::Output::Close { transport, code } => {
                heed(self.oracle.on_close(transport.0, oracle::End::Server));
                let wire = self.wires.get_mut(&transport.0).expect("what is closed lives");
                wire.server.lives = false;
                wire.server.coming.clear();
                wire.client.coming.push_back(Item::Closed(code));
            }
            server::Output::Authenticate { .. } => panic!("nobody authenticates"),
            server::Output::Peer { cid, event } => self.on_peer_event(cid, &event),
            server::Output::Registry(event) => self.on_registry_event(&event),
        }
    }

    fn on_peer_event(&mut self, cid: ConnectionId, event: &PeerEvent) {
        if let PeerEvent::Closed { .. } = event {
            self.losses += 1;
        }
        // The welcome has just been written.
        let wire = self.welcomed.filter(|_| matches!(event, PeerEvent::Attached { .. }));
        heed(self.oracle.on_peer_event(cid, wire, event, self.now));
    }

    fn on_registry_event(&mut self, event: &RegistryEvent) {
        if let RegistryEvent::Expired { .. } | RegistryEvent::Removed { .. } = event {
            self.losses += 1;
        }
        heed(self.oracle.on_registry_event(event, self.now));
    }
}
