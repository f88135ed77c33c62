//! What happened to each party that may cost it messages, and when it happened last.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::hash::Hasher;

use super::Party;

/// What may cost messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Its own application closed, ended or revoked the connection.
    Closed,
    /// The application at the other end did.
    Ended,
    /// An epoch ended.
    EpochEnded,
    /// One ended of which the other side kept no receipt, for a reason.
    ReceiptLost,
    /// It stopped trying.
    GaveUp,
    /// Another instance took the connection over.
    Superseded,
    /// No transport came back in time.
    Expired,
    /// The server drained or stopped.
    Shutdown,
    /// It goes on from an older copy.
    Restored,
}

/// After how many messages each last happened to whom. Clocks differ; the count of all that was sent is the same for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Causes {
    last: BTreeMap<(Party, Why), usize>,
}

impl Causes {
    /// It happened now, when so many messages had been sent.
    pub(super) fn note(&mut self, party: Party, why: Why, sent: usize) {
        self.last.insert((party, why), sent);
    }

    /// Whether it happened after that message was sent.
    pub(super) fn since(&self, party: Party, why: Why, order: usize) -> bool {
        self.last.get(&(party, why)).is_some_and(|last| *last > order)
    }

    /// Whether it ever happened.
    pub(super) fn ever(&self, party: Party, why: Why) -> bool {
        self.last.contains_key(&(party, why))
    }

    /// Everything that happened to a party after that message was sent, as bits.
    pub(super) fn all_since(&self, party: Party, order: usize) -> u32 {
        let of_party = self.last.iter().filter(|((of, _), last)| *of == party && **last > order);
        of_party.fold(0, |bits, ((_, why), _)| bits | 1 << *why as u32)
    }

    /// Of what ever happened, that which is asked about without a message: see the callers of [`Causes::ever`].
    pub(super) fn fingerprint(&self, hasher: &mut impl Hasher) {
        for (party, why) in self.last.keys() {
            if !matches!(why, Why::EpochEnded | Why::ReceiptLost | Why::GaveUp | Why::Superseded) {
                (party, why).hash(hasher);
            }
        }
    }
}
