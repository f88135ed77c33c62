//! What of the messages can still matter.

use std::hash::Hash;
use std::hash::Hasher;

use reattach_core::id::MessageId;

use super::super::Party;
use super::super::causes::Why;
use super::super::prints::Lens;
use super::super::prints::bits;
use super::super::prints::time_of;
use super::Messages;
use super::Owed;

impl Messages {
    /// What can still matter.
    pub(in super::super) fn fingerprint(&self, lens: &Lens<'_>, hasher: &mut impl Hasher) {
        let rank = |of: Party, order: usize| {
            self.records.values().filter(|record| record.by == of && record.order < order).count()
        };
        self.records.len().hash(hasher);
        for (number, record) in &self.records {
            // What it was sent as.
            (number, rank(record.by, record.order), record.by, record.id).hash(hasher);
            (&record.lane, record.within, record.hands, record.len).hash(hasher);
            let mut wires = record.wires.clone();
            wires.sort_unstable();
            (wires, record.renewals, record.was_written).hash(hasher);
            let was_resent = record.is_idempotent && lens.causes.since(record.by, Why::EpochEnded, record.order);
            bits([
                record.is_idempotent,
                record.is_fail_fast,
                record.is_accepted,
                record.is_rejected,
                record.is_abandoned,
                record.is_never,
                was_resent,
            ])
            .hash(hasher);
            (record.turns.min(record.hands.max(1)), record.deferrals, record.holders.len()).hash(hasher);
            for (party, holder) in &record.holders {
                let present = lens.connections.place_of(*party, false);
                let epoch = holder.place.epoch.map(|epoch| match party {
                    Party::Client(_) => lens.epoch(epoch),
                    // A connection never comes back to an earlier epoch.
                    Party::Server(_) => (present.epoch == Some(epoch)).then_some(0),
                });
                let is_remembered = holder.place.memory == present.memory;
                (party, epoch, holder.turns).hash(hasher);
                bits([is_remembered, holder.is_put_off, holder.is_left]).hash(hasher);
                time_of(holder.lease, lens, hasher);
                time_of(holder.put_off_until, lens, hasher);
            }
        }
        (self.owed.len(), self.taken.len()).hash(hasher);
        for (party, owed) in &self.owed {
            (party, owed.len()).hash(hasher);
            owed.iter().for_each(|(id, owed)| self.fingerprint_owed(*party, id, owed, lens, hasher));
        }
        for ((to, from, lane), order) in &self.taken {
            (to, from, lane, rank(*from, *order)).hash(hasher);
        }
        for ((to, from, lane), (epoch, order)) in &self.taken_in {
            if epoch.is_some() && *epoch == lens.connections.place_of(*to, false).epoch {
                (true, to, from, lane, rank(*from, *order)).hash(hasher);
            }
        }
        (false, &self.ephemerals, &self.newest).hash(hasher);
    }

    /// What of what the server's applications waited for then can still matter.
    pub(in super::super) fn fingerprint_copy(&self, then: &Self, lens: &Lens<'_>, hasher: &mut impl Hasher) {
        for (party, owed) in then.owed.iter().filter(|(party, _)| matches!(party, Party::Server(_))) {
            (party, owed.len()).hash(hasher);
            owed.iter().for_each(|(id, owed)| self.fingerprint_owed(*party, id, owed, lens, hasher));
        }
        for (number, lease) in then.leases_of_server() {
            number.hash(hasher);
            time_of(Some(lease), lens, hasher);
        }
    }

    fn fingerprint_owed(&self, of: Party, id: &MessageId, owed: &Owed, lens: &Lens<'_>, hasher: &mut impl Hasher) {
        (id, owed.number, bits([owed.is_told, owed.may_hold, owed.is_copied])).hash(hasher);
        if owed.is_told {
            return;
        }
        let record = &self.records[&owed.number];
        let (link, slack) = (lens.rules.link(of), lens.rules.slack.filter(|_| !owed.is_copied));
        let lives = record.within.map_or(link.age, |within| within.min(link.age));
        (owed.deferrals_told, slack.is_some(), lens.causes.all_since(of, record.order)).hash(hasher);
        let (over, asked) = (record.at + lives, owed.cancelled.map(|asked| asked + link.void_timeout));
        for at in [Some(over), Some(over + link.void_timeout), Some(record.at + link.age), asked] {
            time_of(at, lens, hasher);
        }
        time_of(slack.map(|slack| over + link.void_timeout + slack), lens, hasher);
    }
}
