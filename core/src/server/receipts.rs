//! What a server remembers of epochs that have ended: one receipt each, kept long, bounded in all and for each principal.

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;

use crate::expiring::ExpiringMap;
use crate::id::ConnectionId;
use crate::id::Epoch;
use crate::id::Principal;
use crate::server::config;
use crate::time::Instant;
use crate::wire::Disposition;
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
    /// What those in `kept` weigh.
    bytes: u64,
}

impl Receipts {
    pub(super) fn new(config: config::Receipts) -> Self {
        Self { config, kept: ExpiringMap::default(), by_principal: BTreeMap::new(), bytes: 0 }
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
            self.forget_oldest();
        }
        let bytes = weight(&receipt);
        while self.bytes + bytes > self.config.max_bytes && !self.kept.is_empty() {
            self.forget_oldest();
        }
        self.bytes += bytes;
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
        while let Some((key, (owner, receipt))) = self.kept.take_expired(now) {
            self.unlist(&owner, &key, &receipt);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.kept.poll_timeout()
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    fn forget(&mut self, key: &Key) {
        if let Some((owner, receipt)) = self.kept.remove(key) {
            self.unlist(&owner, key, &receipt);
        }
    }

    fn forget_oldest(&mut self) {
        let (key, (owner, receipt)) = self.kept.take_soonest().expect("a full table has an oldest entry");
        self.unlist(&owner, &key, &receipt);
    }

    fn unlist(&mut self, owner: &Principal, key: &Key, receipt: &Receipt) {
        self.bytes -= weight(receipt);
        let keys = self.by_principal.get_mut(owner).expect("every kept receipt is listed under its principal");
        keys.remove(key);
        if keys.is_empty() {
            self.by_principal.remove(owner);
        }
    }
}

/// About how many bytes a receipt takes.
fn weight(receipt: &Receipt) -> u64 {
    let lists = 64 * receipt.except.len() + 8 * receipt.handed.len();
    let words = receipt.except.iter().map(|exception| match &exception.disposition {
        Disposition::Rejected { code, reason } => code.as_str().len() + reason.len(),
        Disposition::Deferred { code, .. } => code.as_str().len(),
        Disposition::Pending | Disposition::Voided | Disposition::Abandoned => 0,
    });
    (100 + lists + words.sum::<usize>()) as u64
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::id::ConnectionKey;
    use crate::id::Seq;
    use crate::wire::Exception;

    fn receipts(max: usize, max_per_principal: usize) -> Receipts {
        let ttl = Duration::from_secs(60);
        Receipts::new(config::Receipts { ttl, max, max_per_principal, ..config::Receipts::default() })
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
    fn the_newest_receipt_stays_whatever_its_key() {
        for (first, second) in [(1, 2), (2, 1)] {
            let mut table = receipts(9, 9);
            table.config.max_bytes = 150;
            let alice = Principal::Connection(cid(1));
            table.keep(cid(first), &alice, receipt(first), at(1));
            table.keep(cid(second), &alice, receipt(second), at(1));
            assert!(table.find(cid(second), receipt(second).epoch, &alice).is_some(), "{second} is the newest");
        }
    }

    #[test]
    fn receipts_with_long_lists_make_room_for_each_other_by_their_bytes() {
        let refused = |seq| Exception {
            seq: Seq::new(seq).expect("a small number"),
            disposition: Disposition::Rejected { code: "no".parse().expect("a code"), reason: "x".repeat(1_000) },
        };
        let mut table = receipts(9, 9);
        table.config.max_bytes = 25_000;
        let alice = Principal::Connection(cid(1));
        for byte in 1..=4 {
            let long = Receipt { except: (1..=10).map(refused).collect(), ..receipt(byte) };
            table.keep(cid(byte), &alice, long, at(byte.into()));
        }
        assert_eq!((table.len(), table.find(cid(2), receipt(2).epoch, &alice)), (2, None), "ten kilobytes each");
        table.handle_timeout(at(1_000));
        assert_eq!((table.len(), table.bytes), (0, 0));
    }

    #[test]
    fn a_table_of_no_size_keeps_nothing() {
        let mut table = receipts(0, 9);
        table.keep(cid(1), &Principal::Connection(cid(1)), receipt(1), at(0));
        assert_eq!(table.len(), 0);
    }
}
