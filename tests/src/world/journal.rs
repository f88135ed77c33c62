//! Everything that happens in a world, in order, for whoever keeps account of it.

use reattach_core::client;
use reattach_core::id::ConnectionId;
use reattach_core::id::TransportId;
use reattach_core::link::Delivery;
use reattach_core::server::PeerEvent;
use reattach_core::server::RegistryEvent;
use reattach_core::time::Instant;

use crate::net::WireId;
use crate::world::World;

/// Something that happened. A client's end of a wire is named as the client does, the server's by the wire.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A client asked for a transport, and perhaps there is a wire.
    Asked(usize, TransportId, Option<WireId>),
    /// The server has accepted a wire.
    Accepted(WireId),
    /// A client wrote.
    ClientWrote(usize, TransportId, String),
    /// The server wrote.
    ServerWrote(WireId, String),
    /// A client closed a transport.
    ClientClosed(usize, TransportId),
    /// The server closed one.
    ServerClosed(WireId),
    /// A client was told that a transport is gone.
    ClientToldClosed(usize, TransportId),
    /// The server was told so.
    ServerToldClosed(WireId),
    /// The server was told on a wire that the client goes to sleep.
    Suspended(WireId),
    /// A client told something.
    Client(usize, client::Event),
    /// The server told something of a connection.
    Peer(ConnectionId, PeerEvent),
    /// Its registry did.
    Registry(RegistryEvent),
    /// A client's application was handed something.
    TakenDown(usize, Delivery),
    /// The server's application was handed something of a connection, and perhaps it came on one that had ended before.
    TakenUp(ConnectionId, Delivery, bool),
}

/// What happened, with its time.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Whether anybody reads it.
    pub is_kept: bool,
    entries: Vec<(Instant, Heard)>,
}

impl Journal {
    pub(super) fn enter(&mut self, now: Instant, heard: impl FnOnce() -> Heard) {
        if self.is_kept {
            self.entries.push((now, heard()));
        }
    }

    /// What happened since it was taken the last time.
    pub fn take(&mut self) -> Vec<(Instant, Heard)> {
        core::mem::take(&mut self.entries)
    }
}

impl World {
    pub(super) fn hear(&mut self, heard: impl FnOnce() -> Heard) {
        self.journal.enter(self.now, heard);
    }

    /// How many messages the connection that is registered now has handed over.
    pub(super) fn handed_over(&self, cid: &ConnectionId) -> Option<u64> {
        self.server.peer(cid).map(|peer| peer.connection().link().counters().handed_over)
    }
}
