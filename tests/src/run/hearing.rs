//! What the oracle hears of all that happens in the world.

use std::collections::BTreeMap;

use reattach_core::client;
use reattach_core::id::ConnectionId;
use reattach_core::id::TransportId;
use reattach_core::link::Delivery;
use reattach_core::server::PeerClosed;
use reattach_core::server::PeerEvent;
use reattach_core::server::RegistryEvent;
use reattach_core::time::Instant;

use crate::net::Way;
use crate::net::WireId;
use crate::oracle::Broken;
use crate::oracle::Checked;
use crate::oracle::End;
use crate::oracle::Fault;
use crate::oracle::Party;
use crate::world::Heard;

use super::Run;

/// What the oracle calls each wire: by its place among all that were asked for, also where nothing came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Wires {
    asked: u64,
    by_transport: BTreeMap<TransportId, u64>,
    by_wire: BTreeMap<WireId, u64>,
    /// The wire on which the server has welcomed somebody last.
    welcomed: Option<u64>,
}

impl Wires {
    fn ask(&mut self, transport: TransportId, wire: Option<WireId>) -> u64 {
        self.asked += 1;
        self.by_transport.insert(transport, self.asked);
        self.by_wire.extend(wire.map(|wire| (wire, self.asked)));
        self.asked
    }

    pub(super) fn of_wire(&self, wire: WireId) -> Option<u64> {
        self.by_wire.get(&wire).copied()
    }
}

impl Run {
    /// The oracle hears what happened since the last look, and looks at the machines.
    pub(super) fn look(&mut self) -> Checked {
        for (now, heard) in self.world.journal.take() {
            self.hear(heard, now)?;
        }
        self.oracle.check_step()?;
        self.oracle.check_time(self.world.now)?;
        let client = self.world.clients[0].client.connection();
        self.oracle.check_connection(Party::Client(0), client)?;
        self.world
            .server
            .connections()
            .filter_map(|cid| Some((cid, self.world.server.peer(cid)?)))
            .try_for_each(|(cid, peer)| self.oracle.check_connection(Party::Server(*cid), peer.connection()))
    }

    fn hear(&mut self, heard: Heard, now: Instant) -> Checked {
        match heard {
            Heard::Asked(client, transport, wire) => {
                let number = self.wires.ask(transport, wire);
                self.oracle.on_asked(number, client);
                if wire.is_none() {
                    self.oracle.on_fault(number, Fault::Road);
                }
                Ok(())
            }
            Heard::Accepted(wire) => {
                let number = self.number(wire)?;
                self.oracle.on_accepted(number);
                Ok(())
            }
            Heard::ClientWrote(_, transport, text) => {
                let number = self.number_of(transport)?;
                self.oracle.on_write(number, End::Client, &text)
            }
            Heard::ServerWrote(wire, text) => {
                let number = self.number(wire)?;
                if text.starts_with("{\"t\":\"welcome\"") {
                    self.wires.welcomed = Some(number);
                }
                self.oracle.on_write(number, End::Server, &text)
            }
            Heard::ClientClosed(_, transport) => {
                let number = self.number_of(transport)?;
                self.oracle.on_close(number, End::Client)
            }
            Heard::ServerClosed(wire) => {
                let number = self.number(wire)?;
                self.oracle.on_close(number, End::Server)
            }
            Heard::ClientToldClosed(_, transport) => {
                let number = self.number_of(transport)?;
                self.oracle.on_told_closed(number, End::Client);
                Ok(())
            }
            Heard::ServerToldClosed(wire) => {
                let number = self.number(wire)?;
                self.oracle.on_told_closed(number, End::Server);
                Ok(())
            }
            Heard::Suspended(_) => {
                self.oracle.on_suspended(0);
                Ok(())
            }
            Heard::Client(client, event) => {
                use client::Event;
                self.has_cause |= matches!(event, Event::Failed { .. } | Event::Superseded | Event::Closed { .. });
                let newest = Some(self.wires.asked).filter(|asked| *asked > 0);
                self.oracle.on_client_event(client, newest, &event, now)
            }
            Heard::Peer(cid, event) => self.on_peer_event(cid, &event, now),
            Heard::Registry(event) => {
                self.has_cause |= matches!(event, RegistryEvent::Removed { .. });
                // The server knows only of the wires that came to be.
                let RegistryEvent::Refused { transport, refusal } = event else {
                    return self.oracle.on_registry_event(&event, now);
                };
                let transport = TransportId(self.number(WireId(transport.0))?);
                let event = RegistryEvent::Refused { transport, refusal };
                self.oracle.on_registry_event(&event, now)
            }
            Heard::TakenDown(client, delivery) => {
                self.on_taken(Way::Down, Party::Client(client), &delivery, false, now)
            }
            Heard::TakenUp(cid, delivery, is_left) => {
                self.on_taken(Way::Up, Party::Server(cid), &delivery, is_left, now)
            }
        }
    }

    fn on_peer_event(&mut self, cid: ConnectionId, event: &PeerEvent, now: Instant) -> Checked {
        if let PeerEvent::Closed { reason } = event {
            // What came before the client's last word can still be decided about.
            if !matches!(reason, PeerClosed::ByPeer { .. }) {
                self.handles[0].clear();
            }
        }
        // The welcome has just been written.
        let wire = self.wires.welcomed.filter(|_| matches!(event, PeerEvent::Attached { .. }));
        self.oracle.on_peer_event(cid, wire, event, now)
    }

    fn on_taken(&mut self, way: Way, to: Party, delivery: &Delivery, is_left: bool, now: Instant) -> Checked {
        let parsed = delivery.payload().parse::<(u32, String)>();
        let (number, _) = parsed.map_err(|error| Broken::new("S5", format!("a payload was changed: {error}")))?;
        match delivery {
            Delivery::Message(handed) => {
                self.handles[way as usize].extend(handed.handle);
                self.oracle.on_handed(to, number, handed, is_left, now)
            }
            Delivery::Ephemeral { key, .. } => self.oracle.on_ephemeral_handed(to, number, key.as_str()),
        }
    }

    fn number(&self, wire: WireId) -> Result<u64, Broken> {
        self.wires.of_wire(wire).ok_or_else(|| Broken::new("S5", format!("{wire:?} was never asked for")))
    }

    fn number_of(&self, transport: TransportId) -> Result<u64, Broken> {
        let number = self.wires.by_transport.get(&transport).copied();
        number.ok_or_else(|| Broken::new("S5", format!("{transport:?} was never asked for")))
    }
}
