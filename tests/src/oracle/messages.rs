//! What was sent, who was handed it and decided what, and which outcomes were told.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use reattach_core::id::Lane;
use reattach_core::id::MessageId;
use reattach_core::link::Handed;
use reattach_core::link::Outgoing;
use reattach_core::link::Quota;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::time::Instant;

use super::Broken;
use super::Checked;
use super::Party;
use super::Rules;
use super::causes::Causes;
use super::causes::Why;
use super::check;
use super::rooms;
use super::rooms::Held;

/// Where a receiver stands: in which epoch, and with which memory of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// None where the connection had ended, and what it left is taken.
    pub(super) epoch: Option<u64>,
    pub(super) memory: u64,
}

/// One message, as nobody alone knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Record {
    /// Its place among all that were sent.
    order: usize,
    by: Party,
    at: Instant,
    lane: Lane,
    within: Option<Duration>,
    is_idempotent: bool,
    is_fail_fast: bool,
    hands: u32,
    len: u64,
    id: MessageId,
    /// Who was handed it.
    holders: BTreeMap<Party, Holder>,
    /// How often it was handed over in all.
    turns: u32,
    deferrals: u32,
    is_accepted: bool,
    is_rejected: bool,
    is_abandoned: bool,
    /// Whether its sender was told that it had no effect and never will have.
    is_never: bool,
}

/// A receiver that was handed a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Holder {
    /// Where it stood the last time.
    place: Place,
    /// How often it was handed over there.
    turns: u32,
    /// Whether it may come again: it was put off, or nobody decided before an end that it may outlive.
    is_put_off: bool,
    /// Whether its connection has ended since, and left it to be taken.
    is_left: bool,
    /// When its last lease is over, where it has not decided since.
    lease: Option<Instant>,
}

/// What one application waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owed {
    number: u32,
    is_told: bool,
    cancelled: Option<Instant>,
    deferrals_told: u32,
    /// Whether the outcome was told before the peer answered, so that its place may still be held.
    may_hold: bool,
    /// Whether it is known from a copy, which knows nothing of the time between.
    is_copied: bool,
}

impl Record {
    fn may_come_again(&mut self, to: Party, may_come: bool) {
        if let Some(holder) = self.holders.get_mut(&to) {
            holder.is_put_off = may_come;
        }
    }
}

/// All messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Messages {
    records: BTreeMap<u32, Record>,
    owed: BTreeMap<Party, BTreeMap<MessageId, Owed>>,
    /// The place of the last message that one party has taken of another's lane.
    taken: BTreeMap<(Party, Party, Lane), usize>,
    /// Who sent each ephemeral message, and the last one of each key that was taken.
    ephemerals: BTreeMap<u32, (Party, usize)>,
    newest: BTreeMap<(Party, Party, String), usize>,
    /// Sent, handed over; delivered, rejected, not delivered, unknown.
    counts: [u64; 6],
    /// The first one whose outcome only a loss explains.
    lost: Option<(u32, Outcome)>,
}

impl Messages {
    pub(super) const fn counts(&self) -> [u64; 6] {
        self.counts
    }

    pub(super) fn sender(&self, number: u32) -> Option<Party> {
        self.records.get(&number).map(|record| record.by)
    }

    pub(super) fn lane(&self, number: u32) -> Option<&Lane> {
        self.records.get(&number).map(|record| &record.lane)
    }

    /// The place of a message among all that were sent.
    pub(super) fn order(&self, number: u32) -> usize {
        self.records.get(&number).map_or(0, |record| record.order)
    }

    /// How many were sent.
    pub(super) fn sent(&self) -> usize {
        self.records.len()
    }

    /// How many messages of a party wait for their outcome.
    pub(super) fn open(&self, party: Party) -> usize {
        self.owed.get(&party).map_or(0, |owed| owed.values().filter(|owed| !owed.is_told).count())
    }

    pub(super) fn is_open(&self, party: Party, id: &MessageId) -> bool {
        self.owed.get(&party).and_then(|owed| owed.get(id)).is_some_and(|owed| !owed.is_told)
    }

    pub(super) fn waiting(&self) -> BTreeSet<Party> {
        self.owed.keys().copied().filter(|party| self.open(*party) > 0).collect()
    }

    /// What a party holds in all and in a lane; with what it may still hold, or without.
    fn held(&self, by: Party, quota: &Quota, lane: &Lane, is_most: bool) -> (Held, Held) {
        let (mut all, mut of_lane) = (Held::default(), Held::default());
        for owed in self.owed.get(&by).into_iter().flat_map(BTreeMap::values) {
            if owed.is_told && !(is_most && owed.may_hold) {
                continue;
            }
            let record = &self.records[&owed.number];
            all.add(quota, record.len);
            if record.lane == *lane {
                of_lane.add(quota, record.len);
            }
        }
        (all, of_lane)
    }

    /// Whether a bound lets a message in.
    pub(super) fn may_admit(&self, by: Party, quota: &Quota, message: &Outgoing) -> bool {
        let (all, lane) = self.held(by, quota, &message.lane, false);
        rooms::admits(quota, all, lane, message.payload.len() as u64)
    }

    /// Whether a bound may keep a message out.
    pub(super) fn may_refuse(&self, by: Party, quota: &Quota, message: &Outgoing) -> bool {
        let (all, lane) = self.held(by, quota, &message.lane, true);
        !rooms::admits(quota, all, lane, message.payload.len() as u64)
    }

    pub(super) fn on_sent(
        &mut self,
        by: Party,
        number: u32,
        id: MessageId,
        message: &Outgoing,
        now: Instant,
    ) -> Checked {
        let record = Record {
            order: self.records.len(),
            by,
            at: now,
            lane: message.lane.clone(),
            within: message.within,
            is_idempotent: message.is_idempotent,
            is_fail_fast: message.is_fail_fast,
            hands: message.hands,
            len: message.payload.len() as u64,
            id,
            holders: BTreeMap::new(),
            turns: 0,
            deferrals: 0,
            is_accepted: false,
            is_rejected: false,
            is_abandoned: false,
            is_never: false,
        };
        self.counts[0] += 1;
        let before = self.records.insert(number, record);
        check(before.is_none(), "harness", || format!("the number {number} is used twice"))?;
        let owed =
            Owed { number, is_told: false, cancelled: None, deferrals_told: 0, may_hold: false, is_copied: false };
        let before = self.owed.entry(by).or_default().insert(id, owed);
        check(before.is_none_or(|before| before.is_told), "S4", || format!("{by:?} names two messages {id}"))
    }

    pub(super) fn on_cancelled(&mut self, by: Party, id: &MessageId, is_withdrawn: bool, now: Instant) -> Checked {
        let is_open = self.is_open(by, id);
        check(is_withdrawn == is_open, "S4", || {
            format!("{by:?} withdraws {id}, which is open: {is_open}, and is told {is_withdrawn}")
        })?;
        if let Some(owed) = self.owed.get_mut(&by).and_then(|owed| owed.get_mut(id)).filter(|_| is_withdrawn) {
            owed.cancelled.get_or_insert(now);
        }
        Ok(())
    }

    pub(super) fn on_handed(
        &mut self,
        to: Party,
        number: u32,
        handed: &Handed,
        place: Place,
        was_resent: bool,
    ) -> Checked {
        self.counts[1] += 1;
        let record = self.records.get_mut(&number).expect("the sender was just looked up");
        check(handed.lane == record.lane, "S5", || format!("{number} changes its lane to {:?}", handed.lane))?;
        check(handed.id.is_none_or(|id| id == record.id), "S5", || format!("{number} changes its name"))?;
        check(!record.is_never, "S3", || format!("{number} is handed over, and was never to come: {record:?}"))?;
        let is_again = record.turns > 0;
        let (turn, may_come) = match record.holders.get(&to) {
            None => (1, !is_again || record.is_idempotent),
            Some(before) => {
                let is_same = before.place.epoch == place.epoch || place.epoch.is_none();
                let has_forgotten = !is_same && record.is_idempotent && before.place.memory != place.memory;
                let may_come = before.is_put_off && (is_same || record.is_idempotent);
                (if is_same { before.turns + 1 } else { 1 }, may_come || has_forgotten)
            }
        };
        check(may_come, "S1", || format!("{number} is handed over to {to:?} at {place:?} again: {record:?}"))?;
        check(handed.turn == turn, "S1", || format!("hand-over {turn} of {number} is counted as {}", handed.turn))?;
        check(turn <= record.hands, "S1", || format!("{number} is handed over too often: {record:?}"))?;
        record
            .holders
            .insert(to, Holder { place, turns: turn, is_put_off: false, is_left: place.epoch.is_none(), lease: None });
        record.turns += 1;
        if record.is_idempotent && (was_resent || is_again) {
            // It may be sent again behind its successors.
            return Ok(());
        }
        let (from, lane, order) = (record.by, record.lane.clone(), record.order);
        let before = self.taken.insert((to, from, lane), order);
        let is_next = before.is_none_or(|before| before < order || (is_again && before == order));
        check(is_next, "S1", || format!("{to:?} is handed {number}, which was sent before what came before"))
    }

    pub(super) fn on_lease(&mut self, of: Party, number: u32, until: Option<Instant>) {
        if let Some(holder) = self.record(number).holders.get_mut(&of) {
            holder.lease = until;
        }
    }

    pub(super) fn on_accepted(&mut self, number: u32) {
        self.record(number).is_accepted = true;
    }

    pub(super) fn on_decided_accept(&mut self, number: u32) -> Checked {
        let record = self.record(number);
        record.is_accepted = true;
        check(!record.is_never, "S3", || format!("{number} is accepted, and its sender believes otherwise: {record:?}"))
    }

    pub(super) fn on_rejected(&mut self, number: u32) {
        self.record(number).is_rejected = true;
    }

    pub(super) fn on_abandoned(&mut self, number: u32) {
        self.record(number).is_abandoned = true;
    }

    pub(super) fn on_deferred(&mut self, by: Party, number: u32, has_ended: bool) {
        let record = self.record(number);
        record.deferrals += 1;
        // Where the sender is gone for good, putting a message off gives it up.
        record.is_abandoned |= has_ended;
        record.may_come_again(by, true);
    }

    /// An end has taken it out of an application's hands.
    pub(super) fn on_let_go(&mut self, by: Party, number: u32) {
        let record = self.record(number);
        record.may_come_again(by, record.is_idempotent);
    }

    /// Whoever had it in hand is gone, and the state that handed it over goes on.
    pub(super) fn on_doubted(&mut self, by: Party, number: u32) {
        let record = self.record(number);
        record.is_abandoned = true;
        record.may_come_again(by, record.is_idempotent);
    }

    /// An epoch of a receiver has ended: what it had put off comes no more, unless it may be sent again, or came on a connection
    /// that had ended before, and its program still runs.
    pub(super) fn on_sealed(&mut self, is_it: impl Fn(Party) -> bool, is_program: bool) {
        for record in self.records.values_mut().filter(|record| !record.is_idempotent) {
            let holders = record.holders.iter_mut().filter(|(party, _)| is_it(**party));
            holders.for_each(|(_, holder)| holder.is_put_off &= holder.is_left && !is_program);
        }
    }

    /// A connection has ended at the server, and leaves what came to be taken.
    pub(super) fn on_left(&mut self, by: Party) {
        for record in self.records.values_mut() {
            if let Some(holder) = record.holders.get_mut(&by) {
                holder.is_left = matches!(by, Party::Server(_));
            }
        }
    }

    /// A party is gone, and nobody is left to be told.
    pub(super) fn on_gone(&mut self, is_gone: impl Fn(Party) -> bool) {
        self.owed.retain(|party, _| !is_gone(*party));
    }

    /// The server's applications know again what they knew then.
    pub(super) fn on_server_copied(&mut self, then: &Self) {
        self.owed.retain(|party, _| matches!(party, Party::Client(_)));
        let copied: Vec<_> = then.owed.iter().filter(|(party, _)| matches!(party, Party::Server(_))).collect();
        for (party, owed) in copied {
            self.owed.insert(*party, as_copied(owed));
            self.revive(owed);
        }
        // What it had not taken then comes, whatever has come since.
        self.newest.retain(|(to, ..), _| matches!(to, Party::Client(_)));
        let copied = then.newest.iter().filter(|((to, ..), _)| matches!(to, Party::Server(_)));
        self.newest.extend(copied.map(|(key, newest)| (key.clone(), *newest)));
    }

    /// Another party knows what one knew then.
    pub(super) fn on_copied(&mut self, of: Party, to: Party, then: &Self) {
        let Some(owed) = then.owed.get(&of) else { return };
        self.owed.insert(to, as_copied(owed));
        self.revive(owed);
    }

    /// What an older state holds may be sent again where it may, whatever a later state has said of it.
    fn revive(&mut self, owed: &BTreeMap<MessageId, Owed>) {
        for owed in owed.values().filter(|owed| !owed.is_told) {
            let record = self.records.get_mut(&owed.number).expect("what is owed was sent");
            record.is_never &= !record.is_idempotent;
        }
    }

    pub(super) fn on_epoch_over(&mut self, party: Party) {
        for owed in self.owed.get_mut(&party).into_iter().flat_map(BTreeMap::values_mut) {
            owed.may_hold = false;
        }
    }

    pub(super) fn on_put_off_told(&mut self, party: Party, id: &MessageId, times: u32) -> Checked {
        let Some(owed) = self.owed.get_mut(&party).and_then(|owed| owed.get_mut(id)).filter(|owed| !owed.is_told)
        else {
            return Err(Broken::new("S4", format!("{party:?} is told that {id} was put off, and waits for no such")));
        };
        let record = &self.records[&owed.number];
        let is_new = times > owed.deferrals_told || record.is_idempotent;
        owed.deferrals_told = times;
        check(is_new && times <= record.deferrals, "S4", || format!("{id} was put off {times} times: {record:?}"))
    }

    #[expect(clippy::too_many_arguments, reason = "each is what an outcome is held against")]
    pub(super) fn on_outcome(
        &mut self,
        party: Party,
        id: &MessageId,
        outcome: &Outcome,
        causes: &Causes,
        strikes: u32,
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
        let record = self.records.get_mut(&number).expect("what is owed was sent");
        let link = rules.link(party);
        let (age, void) = (link.age, link.void_timeout);
        let lives = record.within.map_or(age, |within| within.min(age));
        let is_old = record.at + lives <= now;
        let since = |why| causes.since(party, why, record.order);
        let is_withdrawn = cancelled.is_some() || is_old || strikes >= link.attempts || since(Why::GaveUp);
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
                    NotDelivered::Attempts => strikes >= link.attempts,
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
                        cancelled.is_some_and(is_due) || is_due(record.at + lives) || strikes >= link.attempts
                    }
                    Unknown::NoReceipt | Unknown::ReceiptNotFinal | Unknown::ReceiptUnclear | Unknown::EpochEnded => {
                        since(Why::EpochEnded)
                    }
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

    pub(super) fn on_ephemeral(&mut self, by: Party, number: u32) {
        self.ephemerals.insert(number, (by, self.ephemerals.len()));
    }

    pub(super) fn on_ephemeral_handed(&mut self, to: Party, number: u32, key: &str) -> Checked {
        let Some((from, order)) = self.ephemerals.get(&number).copied() else {
            return Err(Broken::new("S5", format!("{to:?} is handed the ephemeral {number}, which was never sent")));
        };
        let before = self.newest.insert((to, from, key.to_owned()), order);
        check(before.is_none_or(|before| before < order), "S1", || {
            format!("{to:?} is handed the ephemeral {number}, which is older than the one before")
        })
    }

    /// No message has an outcome that only a loss explains.
    pub(super) fn check_none_lost(&self) -> Checked {
        check(self.lost.is_none(), "S3", || format!("nothing happened that explains an outcome: {:?}", self.lost))
    }

    pub(super) fn check_settled(&self) -> Checked {
        for (party, owed) in &self.owed {
            if let Some(open) = owed.values().find(|owed| !owed.is_told) {
                let record = &self.records[&open.number];
                return Err(Broken::new("L1", format!("{party:?} waits for {}: {record:?}", open.number)));
            }
        }
        Ok(())
    }

    fn record(&mut self, number: u32) -> &mut Record {
        self.records.get_mut(&number).expect("what is in hands was sent")
    }
}

fn as_copied(owed: &BTreeMap<MessageId, Owed>) -> BTreeMap<MessageId, Owed> {
    owed.iter().map(|(id, owed)| (*id, Owed { is_copied: true, ..owed.clone() })).collect()
}
