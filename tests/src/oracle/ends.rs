//! By when whoever was asked to end must have ended.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::time::Instant;

use super::Checked;
use super::Oracle;
use super::Party;
use super::Rules;
use super::check;

/// When the patience of each party that closes is over, by its own clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    by: BTreeMap<Party, Instant>,
    /// Whose end has cost messages.
    costly: BTreeSet<Party>,
}

impl Ends {
    /// A party has ended, in time or not.
    pub(super) fn on_over(&mut self, party: Party, rules: &Rules, now: Instant) -> Checked {
        self.costly.remove(&party);
        let Some(by) = self.by.remove(&party) else { return Ok(()) };
        let is_late = rules.slack.is_some_and(|slack| by + slack < now);
        check(!is_late, "L1", || format!("{party:?} ends at {now:?}, and its patience was over at {by:?}"))
    }

    /// Another program runs, which may not know of it.
    pub(super) fn forget(&mut self, is_gone: impl Fn(Party) -> bool) {
        self.by.retain(|party, _| !is_gone(*party));
    }

    /// A message has an outcome.
    pub(super) fn on_outcome(&mut self, party: Party, outcome: &Outcome) {
        let is_cost = matches!(
            outcome,
            Outcome::NotDelivered { reason: NotDelivered::Closed | NotDelivered::Shutdown }
                | Outcome::Unknown { reason: Unknown::Closed | Unknown::Shutdown }
        );
        if is_cost {
            self.costly.insert(party);
        }
    }

    /// Whether the end of a party has cost messages.
    pub(super) fn has_cost(&self, party: Party) -> bool {
        self.costly.contains(&party)
    }

    /// Nobody is still there that should have ended by now.
    pub(super) fn check(&self, rules: &Rules, now: Instant) -> Checked {
        let Some(slack) = rules.slack else { return Ok(()) };
        let late = self.by.iter().find(|(_, by)| **by + slack < now);
        check(late.is_none(), "L1", || format!("at {now:?} somebody should have ended: {late:?}"))
    }
}

impl Oracle {
    /// A party that was told to end shall have ended at some time, by its own clock. Told twice it takes the shorter one.
    pub fn on_patience(&mut self, party: Party, until: Instant) {
        // Who has stopped already ends at once, and some without a word.
        if self.connections.has_stopped(party) {
            return;
        }
        let by = self.ends.by.entry(party).or_insert(until);
        *by = until.min(*by);
    }
}
