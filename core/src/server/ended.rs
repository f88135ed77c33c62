//! Peers of connections that have ended while messages waited to be taken.
//!
//! A client may send its last words and leave; what it said can still be taken for a while. Whoever leaves is counted under no
//! cap any more, so what is kept here is bounded by itself, and the oldest goes first: its sender was told that nobody can
//! tell what became of what was not settled.

use crate::expiring::ExpiringMap;
use crate::id::ConnectionId;
use crate::link::Delivery;
use crate::server::command::Generation;
use crate::server::command::PeerId;
use crate::server::peer::Peer;
use crate::time::Instant;

/// The most peers that are kept.
const MAX_PEERS: usize = 1_000;

/// The most bytes of payload that wait in them, one peer more or less.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The peers, and the bytes that waited in each when it came here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ended {
    peers: ExpiringMap<PeerId, (Peer, u64)>,
    bytes: u64,
}

impl Ended {
    /// Keeps a peer until `expires`, if there is anything to be taken from it.
    pub(super) fn keep(&mut self, peer: Peer, expires: Instant) {
        if !peer.has_delivery() {
            return;
        }
        let bytes = peer.connection().link().inbox().held_bytes();
        self.bytes += bytes;
        self.peers.insert(peer.id(), (peer, bytes), expires);
        while self.peers.len() > MAX_PEERS || (self.bytes > MAX_BYTES && self.peers.len() > 1) {
            let (_, (_, bytes)) = self.peers.take_soonest().expect("there is more than one");
            self.bytes -= bytes;
        }
    }

    /// Takes the next message of a connection's earlier lives, the earliest first.
    pub(super) fn take(&mut self, cid: &ConnectionId, now: Instant) -> Option<Delivery> {
        let id = |generation| PeerId { cid: *cid, generation: Generation(generation) };
        loop {
            let earliest = *self.peers.keys_in(id(0)..=id(u64::MAX)).next()?;
            let (peer, _) = self.peers.get_mut(&earliest).expect("the key was just found");
            if let Some(delivery) = peer.take(now) {
                return Some(delivery);
            }
            self.forget(&earliest);
        }
    }

    /// Lets time pass.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, (_, bytes))) = self.peers.take_expired(now) {
            self.bytes -= bytes;
        }
    }

    /// When it wants to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.peers.poll_timeout()
    }

    fn forget(&mut self, id: &PeerId) {
        if let Some((_, bytes)) = self.peers.remove(id) {
            self.bytes -= bytes;
        }
    }
}
