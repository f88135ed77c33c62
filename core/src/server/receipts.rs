//! What a server remembers of epochs that have ended: one receipt each, kept long, bounded in all and for each principal.

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;

use crate::expiring::ExpiringMap;
use crate::id::ConnectionId;
use crate::id::Epoch;
use crate::id::Principal;
use crate::server::config;
use crate::time::Instant;
use crate::wire::Receipt;

/// The epoch of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    cid: ConnectionId,
    epoch: Epoch,
}

/// The table of receipts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Receipts {
    config: config::Receipts,
    kept: ExpiringMap<Key, (Principal, Receipt)>,
    /// The keys of each principal; exactly those in `kept`.
    by_principal: BTreeMap<Principal, BTreeSet<Key>>,
}

impl Receipts {
    pub(super) fn new(config: config::Receipts) -> Self {
        Self { config, kept: ExpiringMap::default(), by_principal: BTreeMap::new() }
    }

    /// Keeps a receipt. The oldest go to make room: of its principal, then of all.
    pub(super) fn keep(&mut self, cid: ConnectionId, principal: &Principal, receipt: Receipt, now: Instant) {
        if self.config.max == 0 || self.config.max_per_principal == 0 {
            return;
        }
        let key = Key { cid, epoch: receipt.epoch };
        self.forget(&key);
        while self.by_principal.get(principal).is_some_and(|keys| keys.len() >= self.config.max_per_principal) {
            let oldest = self.by_principal[principal].iter().copied().min_by_key(|key| self.kept.expires(key));
            self.forget(&oldest.expect("a full set has an oldest key"));
        }
        while self.kept.len() >= self.config.max {
            let (key, (owner, _)) = self.kept.take_soonest().expect("a full table has an oldest entry");
            self.unlist(&owner, &key);
        }
        self.by_principal.entry(principal.clone()).or_default().insert(key);
        self.kept.insert(key, (principal.clone(), receipt), now + self.config.ttl);
    }

    /// The receipt of an epoch, for its principal only.
    pub(super) fn find(&self, cid: ConnectionId, epoch: Epoch, principal: &Principal) -> Option<&Receipt> {
        let (owner, receipt) = self.kept.get(&Key { cid, epoch })?;
        (owner == principal).then_some(receipt)
    }

    /// A hello of this principal named a later epoch: the client has taken in what became of the earlier ones.
    pub(super) fn forget_all(&mut self, cid: ConnectionId, principal: &Principal) {
        let low = Key { cid, epoch: Epoch::from_bytes([0; 16]) };
        let high = Key { cid, epoch: Epoch::from_bytes([0xff; 16]) };
        let keys: BTreeSet<Key> = self.kept.keys_in(low..=high).copied().collect();
        for key in keys {
            if self.find(key.cid, key.epoch, principal).is_some() {
                self.forget(&key);
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((key, (owner, _))) = self.kept.take_expired(now) {
            self.unlist(&owner, &key);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.kept.poll_timeout()
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    fn forget(&mut self, key: &Key) {
        if let Some((owner, _)) = self.kept.remove(key) {
            self.unlist(&owner, key);
        }
    }

    fn unlist(&mut self, owner: &Principal, key: &Key) {
        let keys = self.by_principal.get_mut(owner).expect("every kept receipt is listed under its principal");
        keys.remove(key);
        if keys.is_empty() {
            self.by_principal.remove(owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::id::ConnectionKey;
    use crate::id::Seq;

    fn receipts(max: usize, max_per_principal: usize) -> Receipts {
        Receipts::new(config::Receipts { ttl: Duration::from_secs(60), max, max_per_principal })
    }

    fn cid(byte: u8) -> ConnectionId {
        ConnectionKey::from_bytes([byte; 16]).connection_id()
    }

    fn receipt(byte: u8) -> Receipt {
        Receipt {
            epoch: Epoch::from_bytes([byte; 16]),
            received: Seq::ZERO,
            settled: Seq::ZERO,
            except: alloc::vec::Vec::new(),
            seen: crate::id::ReportNo::ZERO,
            handed: alloc::vec::Vec::new(),
            is_final: true,
        }
    }

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    #[test]
    fn a_receipt_is_found_by_its_principal_until_its_time() {
        let (mut table, alice, bob) = (receipts(9, 9), Principal::Connection(cid(1)), Principal::Connection(cid(2)));
        table.keep(cid(1), &alice, receipt(1), at(0));
        let epoch = receipt(1).epoch;
        assert_eq!(table.find(cid(1), epoch, &alice), Some(&receipt(1)));
        assert_eq!(table.find(cid(1), epoch, &bob), None);
        assert_eq!(table.find(cid(2), epoch, &alice), None);
        table.handle_timeout(at(60));
        assert_eq!(table, receipts(9, 9));
    }

    #[test]
    fn the_oldest_go_of_the_principal_first_and_then_of_all() {
        let (mut table, alice, bob) = (receipts(3, 2), Principal::Connection(cid(1)), Principal::Connection(cid(2)));
        table.keep(cid(2), &bob, receipt(9), at(0));
        for byte in 1..=3 {
            table.keep(cid(1), &alice, receipt(byte), at(u64::from(byte)));
        }
        assert_eq!(table.find(cid(1), receipt(1).epoch, &alice), None, "alice's oldest");
        assert!(table.find(cid(2), receipt(9).epoch, &bob).is_some());
        table.keep(cid(2), &bob, receipt(8), at(5));
        assert_eq!(table.find(cid(2), receipt(9).epoch, &bob), None, "the oldest of all");
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn a_named_successor_frees_the_receipts_of_its_connection_and_principal_only() {
        let (mut table, alice) = (receipts(9, 9), Principal::Connection(cid(1)));
        table.keep(cid(1), &alice, receipt(0), at(0));
        table.keep(cid(1), &alice, receipt(0xff), at(0));
        table.keep(cid(2), &alice, receipt(7), at(0));
        table.keep(cid(1), &Principal::Connection(cid(3)), receipt(3), at(0));
        table.forget_all(cid(1), &alice);
        assert_eq!(table.len(), 2);
        assert!(table.find(cid(2), receipt(7).epoch, &alice).is_some());
        assert!(table.find(cid(1), receipt(3).epoch, &Principal::Connection(cid(3))).is_some(), "not alice's");
    }

    #[test]
    fn a_table_of_no_size_keeps_nothing() {
        let mut table = receipts(0, 9);
        table.keep(cid(1), &Principal::Connection(cid(1)), receipt(1), at(0));
        assert_eq!(table.len(), 0);
    }
}
