//! Which receipts the server must have: it keeps one of each epoch that ends, unless its state was lost or there is no room.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::hash::Hasher;

use reattach_core::id::ConnectionId;
use reattach_core::server::ReceiptsConfig;
use reattach_core::time::Instant;

use super::super::prints::Lens;
use super::super::prints::time_of;

/// Which epochs have ended while nothing was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Receipts {
    /// When, by the server's clock, and whether there certainly is a receipt. The server keeps none of an epoch in which it has
    /// not heard from the client, and may have heard more than is known here.
    ended: BTreeMap<(ConnectionId, u64), (Instant, bool)>,
}

impl Receipts {
    /// An epoch has ended at the server. Where there may be no room for its receipt, all others may be gone: a
    /// principal has as many as there is room for, and here all are taken for those of one.
    pub(super) fn on_ended(
        &mut self,
        of: (ConnectionId, u64),
        was_joined: bool,
        config: &ReceiptsConfig,
        now: Instant,
    ) {
        self.ended.retain(|_, (at, _)| *at + config.ttl > now);
        let room = config.max.min(config.max_per_principal);
        if self.ended.len() >= room {
            self.ended.values_mut().for_each(|(_, is_kept)| *is_kept = false);
        }
        self.ended.insert(of, (now, was_joined && room > 0));
    }

    /// A client has named a later epoch, so it knows what became of the earlier ones.
    pub(super) fn on_named(&mut self, cid: ConnectionId) {
        self.ended.retain(|(of, _), _| *of != cid);
    }

    /// The server's state is another one.
    pub(super) fn on_lost(&mut self) {
        self.ended.clear();
    }

    /// Whether the receipt of an epoch is certainly there.
    pub(super) fn is_there(&self, of: (ConnectionId, u64), config: &ReceiptsConfig, now: Instant) -> bool {
        self.ended.get(&of).is_some_and(|(at, is_kept)| *is_kept && *at + config.ttl > now)
    }

    /// What can still matter.
    pub(super) fn fingerprint(&self, lens: &Lens<'_>, hasher: &mut impl Hasher) {
        self.ended.len().hash(hasher);
        for ((cid, epoch), (at, is_kept)) in &self.ended {
            if let Some(epoch) = lens.epoch(*epoch) {
                (cid, epoch, is_kept).hash(hasher);
                time_of(Some(*at + lens.rules.receipts.ttl), lens, hasher);
            }
        }
    }
}
