//! What of the oracle can still matter, for a model checker that merges states.
//!
//! Two oracles with the same fingerprint say the same of everything that can still be heard. What stands in it is what a check
//! looks at, in the form in which the check looks at it:
//!
//! - Numbers of epochs are only ever compared, and new ones are greater than all others. So those that can be met again (a
//!   living client's, a connection's, that of a wire which is kept) stand in it by their rank, and any other as gone. A
//!   memory of names is compared with the present one only, and stands in it as a yes or no.
//! - The order of sends is compared with that of the same sender's and with the causes. It stands in it as a rank among the
//!   sender's, and the causes as a yes or no for each message whose outcome is still to come: whether each has happened since.
//!   Later messages come after all of them.
//! - A wire is kept while an end of it lives, while it is attached, and while it is its client's newest. Its faults stand in it
//!   as the questions that are asked of them. What was written on it matters for the ends that live, and what was written in an
//!   epoch for as long as that can be met again.
//! - Times are compared with the present. What is over looks alike; what is to come is hashed as an [`Instant`], which the hasher
//!   may see relative to `now`. Clocks must not differ, and nothing may be held against time: with a skew or a slack, what is
//!   over is not quite.
//! - Counts stand in it up to the bound that they are held against.
//!
//! Left out are what only people read (`counts`), what only other users ask about (`ends`, the first loss, how many epochs a
//! client has begun, and `again`, by which E1 says that too much was written again), the rules, which are the same for all
//! states, and wires that are not kept. The last is an
//! assumption: what is told of an old wire is told in the step in which its end died. A machine that tells it later is held
//! against the wire in the first state that was reached, and not in those that were merged with it.
//!
//! Copies of clients have no fingerprint; those of the server have one that depends on the oracle that they may come back to.

use std::hash::Hash;
use std::hash::Hasher;

use reattach_core::id::MessageId;
use reattach_core::time::Instant;

use super::Oracle;
use super::Party;
use super::Rules;
use super::ServerCopy;
use super::causes::Causes;
use super::connections::Connections;

/// How the parts of an oracle are looked at.
pub(super) struct Lens<'a> {
    pub(super) rules: &'a Rules,
    pub(super) causes: &'a Causes,
    pub(super) connections: &'a Connections,
    pub(super) now: Instant,
    /// The epochs that can be met again, in order.
    epochs: Vec<u64>,
}

impl<'a> Lens<'a> {
    fn new(oracle: &'a Oracle, now: Instant) -> Self {
        let connections = &oracle.connections;
        // Nought stands for no epoch.
        let mut epochs = vec![0];
        epochs.extend(connections.epochs());
        epochs.extend(oracle.wires.kept(connections).map(|(_, epoch)| epoch));
        epochs.sort_unstable();
        epochs.dedup();
        Self { rules: &oracle.rules, causes: &oracle.causes, connections, now, epochs }
    }

    /// The rank of an epoch, where it can be met again.
    pub(super) fn epoch(&self, epoch: u64) -> Option<usize> {
        self.epochs.binary_search(&epoch).ok()
    }

    /// How many epochs that can be met again are not later than one.
    pub(super) fn until(&self, epoch: u64) -> usize {
        self.epochs.partition_point(|other| *other <= epoch)
    }

    /// What is over looks alike.
    pub(super) fn time(&self, at: Instant) -> Instant {
        at.max(self.now)
    }
}

impl Oracle {
    /// Hashes what can still matter, as the head of this file says. It is to be taken between steps, when nothing that ended
    /// waits for its cause.
    pub fn fingerprint(&self, now: Instant, hasher: &mut impl Hasher) {
        let lens = Lens::new(self, now);
        self.messages.fingerprint(&lens, hasher);
        self.hands.fingerprint(&lens, hasher);
        self.wires.fingerprint(&lens, hasher);
        self.connections.fingerprint(&lens, hasher);
        self.causes.fingerprint(hasher);
    }

    /// Hashes what of a copy can still matter, should the server come back with it.
    pub fn fingerprint_copy(&self, copy: &ServerCopy, now: Instant, hasher: &mut impl Hasher) {
        let lens = Lens::new(self, now);
        self.messages.fingerprint_copy(&copy.messages, &lens, hasher);
        copy.connections.fingerprint_as_copy(hasher);
    }

    /// The messages that somebody waits for and has not withdrawn, by number.
    pub fn withdrawable(&self) -> impl Iterator<Item = (Party, u32, MessageId)> {
        self.messages.withdrawable()
    }
}

/// Yes or no answers as one number.
pub(super) fn bits<const N: usize>(answers: [bool; N]) -> u32 {
    answers.into_iter().fold(0, |bits, answer| bits << 1 | u32::from(answer))
}

/// A point in time that may still come, or none.
pub(super) fn time_of(at: Option<Instant>, lens: &Lens<'_>, hasher: &mut impl Hasher) {
    at.map(|at| lens.time(at)).hash(hasher);
}
