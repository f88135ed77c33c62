//! What the machines ask for and tell.

use reattach_core::client;
use reattach_core::client::Event;
use reattach_core::id::ConnectionId;
use reattach_core::id::MessageId;
use reattach_core::id::TransportId;
use reattach_core::outcome::Failure;
use reattach_core::outcome::Outcome;
use reattach_core::server;
use reattach_core::server::PeerEvent;
use reattach_core::server::Refusal;
use reattach_core::server::RegistryEvent;

use super::Run;
use super::ledger::Party;
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
            }
            client::Output::Write { transport, text } => {
                let wire = self.wire_of(side, transport).expect("what is written names a live transport");
                assert!(wire.is_open && wire.client.lives, "what is written names a live transport");
                wire.client.produced += text.len() as u64;
                wire.server.coming.push_back(Item::Text(text));
            }
            client::Output::Close { transport, code } => {
                let wire = self.wire_of(side, transport).expect("what is closed lives");
                wire.client.lives = false;
                wire.client.coming.clear();
                wire.server.coming.push_back(Item::Closed(code));
            }
            client::Output::Event(event) => self.on_client_event(side, &event),
        }
    }

    fn wire_of(&mut self, side: usize, transport: TransportId) -> Option<&mut Wire> {
        self.wires.values_mut().find(|wire| wire.side == side && wire.transport == transport)
    }

    fn on_client_event(&mut self, side: usize, event: &Event) {
        let party = Party::Client(side);
        match event {
            Event::Attached { resumed: true } => {}
            Event::Attached { resumed: false } => {
                self.sides[side].fresh += 1;
                self.ledger.on_sealed(party);
            }
            Event::Detached { ended } | Event::TryFailed { ended } => {
                assert!(self.faults > 0, "the transport ended without a cause: {ended}");
            }
            Event::Delivered { id } => self.ledger.on_outcome(party, id, Outcome::Delivered, self.when()),
            Event::SendFailed(failed) => match &failed.failure {
                Failure::ForGood(outcome) => self.on_failed_for_good(party, &failed.id, outcome),
                Failure::ForNow { attempt, .. } => self.ledger.on_put_off(party, &failed.id, *attempt, self.losses),
            },
            Event::Delayed { id: _ } => {}
            Event::Superseded | Event::IdentityChanged { .. } => {
                self.ledger.on_ended(party);
                assert!(self.losses > 0 && self.sides.len() > 1, "nobody else took the connection over");
            }
            Event::Failed { .. } | Event::Closed { .. } => {
                assert!(self.faults > 0, "trying stopped without a cause");
                self.ledger.on_ended(party);
                self.losses += 1;
            }
            Event::FrameSkipped { .. } | Event::PeerBrokeProtocol { .. } | _ => {
                panic!("both ends are honest: {event:?}")
            }
        }
    }

    pub(super) fn on_server_output(&mut self, output: server::Output) {
        match output {
            server::Output::Write { transport, text } => {
                let wire = self.wires.get_mut(&transport.0).expect("what is written names a live transport");
                assert!(wire.server.lives, "what is written names a live transport");
                wire.server.produced += text.len() as u64;
                wire.client.coming.push_back(Item::Text(text));
            }
            server::Output::Close { transport, code } => {
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
        let party = Party::Server(cid);
        match event {
            PeerEvent::Attached { resumed: true } => {}
            PeerEvent::Attached { resumed: false } => self.ledger.on_sealed(party),
            PeerEvent::Detached { ended } => assert!(self.faults > 0, "the transport ended without a cause: {ended}"),
            PeerEvent::Delivered { id } => self.ledger.on_outcome(party, id, Outcome::Delivered, self.when()),
            PeerEvent::SendFailed(failed) => match &failed.failure {
                Failure::ForGood(outcome) => self.on_failed_for_good(party, &failed.id, outcome),
                Failure::ForNow { attempt, .. } => self.ledger.on_put_off(party, &failed.id, *attempt, self.losses),
            },
            PeerEvent::Delayed { id: _ } => {}
            PeerEvent::Closed { .. } => {
                self.ledger.on_ended(party);
                self.losses += 1;
            }
            PeerEvent::FrameSkipped { .. } | PeerEvent::PeerBrokeProtocol { .. } | _ => {
                panic!("both ends are honest: {event:?}");
            }
        }
    }

    fn on_failed_for_good(&mut self, party: Party, id: &MessageId, outcome: &Outcome) {
        self.ledger.on_outcome(party, id, outcome.clone(), self.when());
    }

    fn on_registry_event(&mut self, event: &RegistryEvent) {
        match event {
            RegistryEvent::Registered { .. } => {}
            RegistryEvent::Refused { refusal, transport: _ } => {
                let late = matches!(refusal, Refusal::Timeout | Refusal::Stale) && self.faults > 0;
                let cloned = *refusal == Refusal::Superseded && self.sides.len() > 1;
                // One instance is challenged, another takes over from a third.
                let cloned = cloned || (*refusal == Refusal::Overtaken && self.sides.len() > 2);
                assert!(late || cloned, "an honest hello is refused: {refusal}");
            }
            RegistryEvent::TakenOver { .. } => assert!(self.sides.len() > 1, "nobody else is there"),
            RegistryEvent::Expired { .. } | RegistryEvent::Removed { .. } => {
                assert!(self.faults > 0, "a connection ends without a cause");
                self.losses += 1;
            }
            RegistryEvent::Fenced { .. } | _ => panic!("within one thread nothing is late: {event:?}"),
        }
    }
}
