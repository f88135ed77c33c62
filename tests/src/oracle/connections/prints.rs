//! What of the connections can still matter.

use std::hash::Hash;
use std::hash::Hasher;

use super::super::prints::Lens;
use super::super::prints::bits;
use super::super::prints::time_of;
use super::Connections;

impl Connections {
    /// What can still matter.
    pub(in super::super) fn fingerprint(&self, lens: &Lens<'_>, hasher: &mut impl Hasher) {
        let rules = lens.rules;
        let attempts = rules.client.attempts.max(rules.server.attempts);
        (self.clients.len(), self.entries.len()).hash(hasher);
        for (number, client) in &self.clients {
            (number, &client.cids, client.epoch.map(|epoch| lens.epoch(epoch)), client.restarts).hash(hasher);
            (rules.tries.map(|tries| client.ends.min(tries + 1)), client.is_attached).hash(hasher);
            bits([
                client.is_copy,
                client.is_gone,
                client.is_over,
                client.is_closing,
                client.is_stopped,
                client.is_dismissed,
            ])
            .hash(hasher);
            // A sum of these reaches the bound where that of the counts does.
            (client.strikes.min(attempts), client.failures.min(rules.failures)).hash(hasher);
        }
        for (cid, entry) in &self.entries {
            (cid, lens.epoch(entry.epoch), lens.until(entry.over), entry.attached, entry.lives.min(2)).hash(hasher);
            (entry.holder, &entry.evicted, &entry.principal).hash(hasher);
            bits([
                entry.is_stolen,
                entry.joined == Some(entry.epoch),
                entry.is_registered,
                entry.was_attached,
                entry.is_stale,
                entry.is_suspended,
                entry.was_taken_over,
                entry.is_end_wanted,
                entry.is_expired,
                entry.is_closing,
            ])
            .hash(hasher);
            for ttl in [rules.detach_ttl, rules.suspended_ttl] {
                time_of(entry.detached_at.map(|at| at + ttl), lens, hasher);
                let late = rules.slack.and_then(|slack| Some(entry.detached_at? + ttl + slack));
                time_of(late, lens, hasher);
            }
        }
        self.is_server_old.hash(hasher);
        self.receipts.fingerprint(lens, hasher);
    }

    /// What of it can still matter where the server may come back with it.
    pub(in super::super) fn fingerprint_as_copy(&self, hasher: &mut impl Hasher) {
        for (cid, entry) in self.entries.iter().filter(|(_, entry)| entry.is_registered) {
            (cid, entry.is_closing, entry.was_attached, entry.is_stolen).hash(hasher);
        }
    }
}
