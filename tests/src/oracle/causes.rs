//! What happened to each party that may cost it messages, and when it happened last.

use std::collections::BTreeMap;

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
}
