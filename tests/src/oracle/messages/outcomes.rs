//! Which outcomes are true, and have a cause.

use reattach_core::id::MessageId;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::time::Instant;

use super::super::Broken;
use super::super::Checked;
use super::super::Party;
use super::super::Rules;
use super::super::causes::Causes;
use super::super::causes::Why;
use super::super::check;
use super::Holder;
use super::Messages;

/// How often something happened that may have cost an attempt.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Strikes {
    /// To anything of the party.
    pub(in super::super) of_party: u32,
    /// Whether what was written first on which wire says all about the attempts of a message.
    pub(in super::super) are_wires_known: bool,
}

impl Messages {
    #[expect(clippy::too_many_arguments, reason = "each is what an outcome is held against")]
    pub(in super::super) fn on_outcome(
        &mut self,
        party: Party,
        id: &MessageId,
        outcome: &Outcome,
        causes: &Causes,
        strikes: Strikes,
        rules: &Rules,
        now: Instant,
    ) -> Checked {
        let Some(owed) = self.owed.get_mut(&party).and_then(|owed| owed.get_mut(id)) else {
            return Err(Broken::new("S4", format!("{party:?} is told of {id}, which it did not send: {outcome}")));
        };
        let number = owed.number;
        check(!owed.is_told, "S4", || format!("{number} has its outcome, and then is {outcome}"))?;
        owed.is_told = true;
        owed.may_hold = matches!(
            outcome,
            Outcome::Unknown { reason: Unknown::VoidUnanswered | Unknown::Unreachable | Unknown::Superseded }
        );
        let (cancelled, is_copied) = (owed.cancelled, owed.is_copied);
        let attempts = self.attempts(number, rules, now);
        let record = self.records.get_mut(&number).expect("what is owed was sent");
        let link = rules.link(party);
        let (age, void) = (link.age, link.void_timeout);
        let is_tried_out =
            strikes.of_party >= link.attempts && (is_copied || !strikes.are_wires_known || attempts >= link.attempts);
        let lives = record.within.map_or(age, |within| within.min(age));
        let is_old = record.at + lives <= now;
        let since = |why| causes.since(party, why, record.order);
        let is_withdrawn = cancelled.is_some() || is_old || is_tried_out || since(Why::GaveUp);
        let is_epoch_over = since(Why::EpochEnded) || since(Why::Ended);
        let is_over = |holder: &Holder| holder.lease.is_some_and(|until| until <= now + rules.skew);
        let is_lease_over = record.holders.values().any(is_over);
        let (is_true, has_cause) = match outcome {
            Outcome::Delivered => {
                self.counts[2] += 1;
                (record.is_accepted, true)
            }
            Outcome::Rejected { .. } => {
                self.counts[3] += 1;
                let is_exhausted = record.turns >= record.hands || is_withdrawn || is_epoch_over;
                let was_refused = record.is_rejected || (record.deferrals > 0 && is_exhausted);
                (was_refused && !record.is_accepted, true)
            }
            Outcome::NotDelivered { reason } => {
                self.counts[4] += 1;
                let has_cause = match reason {
                    NotDelivered::Cancelled => cancelled.is_some(),
                    NotDelivered::Deadline => record.within.is_some() && is_old,
                    NotDelivered::TooOld => record.at + age <= now,
                    NotDelivered::Unavailable => record.is_fail_fast,
                    NotDelivered::TooLarge => record.len > rules.client.max_payload.min(rules.server.max_payload),
                    NotDelivered::Attempts => is_tried_out,
                    NotDelivered::Voided => is_withdrawn || since(Why::Restored),
                    NotDelivered::Closed => since(Why::Closed),
                    NotDelivered::Ended => since(Why::Ended),
                    NotDelivered::Forgotten => is_epoch_over,
                    NotDelivered::Unreachable => since(Why::GaveUp),
                    NotDelivered::Expired => since(Why::Expired),
                    NotDelivered::Superseded => since(Why::Superseded),
                    NotDelivered::Shutdown => since(Why::Shutdown),
                    _ => false,
                };
                (record.turns == 0, has_cause)
            }
            Outcome::Unknown { reason } => {
                self.counts[5] += 1;
                let has_cause = match reason {
                    Unknown::Abandoned => record.is_abandoned || is_lease_over,
                    Unknown::InHands => record.turns > 0 && is_epoch_over,
                    Unknown::VoidUnanswered => {
                        let is_due = |asked: Instant| asked + void <= now;
                        cancelled.is_some_and(is_due) || is_due(record.at + lives) || is_tried_out
                    }
                    Unknown::NoReceipt | Unknown::ReceiptNotFinal | Unknown::ReceiptUnclear => since(Why::ReceiptLost),
                    Unknown::EpochEnded => since(Why::EpochEnded),
                    Unknown::Resent => record.is_idempotent && since(Why::EpochEnded),
                    Unknown::Superseded => since(Why::Superseded),
                    Unknown::Restored => since(Why::Restored),
                    Unknown::Closed => since(Why::Closed),
                    Unknown::Ended => since(Why::Ended),
                    Unknown::Unreachable => since(Why::GaveUp),
                    Unknown::Expired => since(Why::Expired),
                    Unknown::Shutdown => since(Why::Shutdown),
                    _ => false,
                };
                (true, has_cause)
            }
        };
        let explains_itself = match outcome {
            Outcome::Delivered | Outcome::Rejected { .. } => true,
            Outcome::NotDelivered { reason } => matches!(
                reason,
                NotDelivered::Cancelled
                    | NotDelivered::Deadline
                    | NotDelivered::Unavailable
                    | NotDelivered::TooOld
                    | NotDelivered::TooLarge
                    | NotDelivered::Attempts
            ),
            Outcome::Unknown { reason } => matches!(reason, Unknown::Abandoned | Unknown::VoidUnanswered),
        };
        if !explains_itself {
            self.lost.get_or_insert_with(|| (number, outcome.clone()));
        }
        record.is_never |= matches!(outcome, Outcome::NotDelivered { .. } | Outcome::Rejected { .. });
        check(is_true, "S3", || format!("{number} is {outcome}, and that is not true: {record:?}"))?;
        check(has_cause, "J1", || format!("{number} is {outcome} without a cause: {record:?}"))?;
        let Some(slack) = rules.slack.filter(|_| !is_copied) else { return Ok(()) };
        check(now <= record.at + lives + void + slack, "L1", || {
            format!("{number} is {outcome} only {:?} after it was sent: {record:?}", now - record.at)
        })
    }

    /// How many attempts a message can have had. One that was withdrawn after it was written cost the next one an attempt.
    fn attempts(&self, number: u32, rules: &Rules, now: Instant) -> u32 {
        let was_withdrawn = |first: u32| {
            let Some(record) = self.records.get(&first) else { return true };
            let age = rules.link(record.by).age;
            let owed = self.owed.get(&record.by).and_then(|owed| owed.get(&record.id));
            owed.is_none_or(|owed| owed.is_told || owed.cancelled.is_some())
                || record.at + record.within.map_or(age, |within| within.min(age)) <= now
        };
        let record = &self.records[&number];
        let tries = record.wires.iter().filter(|first| **first == number || was_withdrawn(**first)).count();
        u32::try_from(tries).unwrap_or(u32::MAX).saturating_add(record.renewals)
    }
}
