//! Peers of connections that have ended while messages waited to be taken.
//!
//! A client may send its last words and leave; what it said can still be taken for a while. Whoever leaves is counted under no
//! cap any more, so what is kept here is bounded by itself, and the oldest goes first: its sender was told that nobody can
//! tell what became of what was not settled.

use alloc::vec::Vec;

use core::time::Duration;

use crate::connection::Currency;
use crate::deadline::soonest;
use crate::error::ApiMisuse;
use crate::expiring::ExpiringMap;
use crate::id::ConnectionId;
use crate::id::InstanceId;
use crate::link::Decision;
use crate::link::Delivery;
use crate::link::Handle;
use crate::link::Lanes;
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
    /// When a lease ends that holds up what waits behind it.
    wakes: ExpiringMap<PeerId, ()>,
    bytes: u64,
}

impl Ended {
    /// Keeps a peer until `expires`, if there is anything to be taken from it, or decided about.
    pub(super) fn keep(&mut self, peer: Peer, expires: Instant) {
        if !may_be_asked_for(&peer) {
            return;
        }
        let (id, bytes) = (peer.id(), peer.connection().link().held_bytes());
        self.bytes += bytes;
        self.peers.insert(id, (peer, bytes), expires);
        self.look_after(&id);
        while self.peers.len() > MAX_PEERS || (self.bytes > MAX_BYTES && self.peers.len() > 1) {
            let (life, (_, bytes)) = self.peers.take_soonest().expect("there is more than one");
            self.wakes.remove(&life);
            self.bytes -= bytes;
        }
    }

    /// The connections from whose earlier lives something can be taken, each once.
    pub(super) fn deliverable(&self) -> impl Iterator<Item = &ConnectionId> {
        let lives = self.peers.iter().filter(|(_, (peer, _))| peer.has_delivery()).map(|(id, _)| &id.cid);
        // They are in the order of their names.
        let mut last = None;
        lives.filter(move |cid| last.replace(*cid) != Some(*cid))
    }

    /// Takes the next message of a connection's earlier lives, the earliest first.
    pub(super) fn take(&mut self, cid: &ConnectionId, lanes: Lanes<'_>, now: Instant) -> Option<Delivery> {
        for life in self.lives(cid) {
            let (peer, _) = self.peers.get_mut(&life).expect("the key was just found");
            peer.handle_timeout(now);
            let delivery = peer.take_from(lanes, now);
            self.look_after(&life);
            if delivery.is_some() {
                return delivery;
            }
        }
        None
    }

    /// Decides about a message that was taken from one of a connection's earlier lives. Its sender hears nothing of it.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::Undecidable`].
    pub(super) fn decide(
        &mut self,
        cid: &ConnectionId,
        handle: Handle,
        decision: &Decision,
        now: Instant,
    ) -> Result<(), ApiMisuse> {
        for life in self.lives(cid) {
            let (peer, _) = self.peers.get_mut(&life).expect("the key was just found");
            peer.handle_timeout(now);
            let result = peer.decide(handle, decision.clone(), now);
            self.look_after(&life);
            if result.is_ok() {
                return result;
            }
        }
        Err(ApiMisuse::Undecidable)
    }

    /// Starts the lease of such a message over.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::Undecidable`].
    pub(super) fn extend(
        &mut self,
        cid: &ConnectionId,
        handle: Handle,
        lease: Duration,
        now: Instant,
    ) -> Result<(), ApiMisuse> {
        for life in self.lives(cid) {
            let (peer, _) = self.peers.get_mut(&life).expect("the key was just found");
            peer.handle_timeout(now);
            let result = peer.extend(handle, lease, now);
            self.look_after(&life);
            if result.is_ok() {
                return result;
            }
        }
        Err(ApiMisuse::Undecidable)
    }

    /// Goes on from a stored state, as every peer does: nobody decides any more about what was in the application's hands.
    pub(super) fn restore(&mut self, instance: &InstanceId, currency: Currency) {
        if currency == Currency::Stale {
            // A later life may have handed over what waits here.
            *self = Self::default();
        }
        let lives: Vec<PeerId> = self.peers.iter().map(|(life, _)| *life).collect();
        for life in lives {
            let (peer, _) = self.peers.get_mut(&life).expect("the key was just listed");
            peer.restore(instance, currency);
            self.look_after(&life);
        }
    }

    /// Lets time pass.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((life, (_, bytes))) = self.peers.take_expired(now) {
            self.wakes.remove(&life);
            self.bytes -= bytes;
        }
        while let Some((life, ())) = self.wakes.take_expired(now) {
            let (peer, _) = self.peers.get_mut(&life).expect("what is woken is kept");
            peer.handle_timeout(now);
            self.look_after(&life);
        }
    }

    /// When it wants to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        soonest([self.peers.poll_timeout(), self.wakes.poll_timeout()])
    }

    /// A peer may have nothing more, or wait for another time.
    fn look_after(&mut self, life: &PeerId) {
        let Some((peer, _)) = self.peers.get_mut(life) else { return };
        let inbox = peer.connection().link().inbox();
        if !may_be_asked_for(peer) {
            self.forget(life);
        } else if let Some(at) = inbox.held_up_until(Lanes::All) {
            self.wakes.insert(*life, (), at);
        } else {
            self.wakes.remove(life);
        }
    }

    fn lives(&self, cid: &ConnectionId) -> Vec<PeerId> {
        let id = |generation| PeerId { cid: *cid, generation: Generation(generation) };
        self.peers.keys_in(id(0)..=id(u64::MAX)).copied().collect()
    }

    fn forget(&mut self, id: &PeerId) {
        self.wakes.remove(id);
        if let Some((_, bytes)) = self.peers.remove(id) {
            self.bytes -= bytes;
        }
    }
}

/// Whether there is anything to be taken from a peer, now or later, or decided about.
fn may_be_asked_for(peer: &Peer) -> bool {
    peer.has_delivery() || peer.connection().link().inbox().has_undecided()
}
