//! What was sent, who was handed it and decided what, and which outcomes were told.

mod outcomes;
mod prints;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use reattach_core::id::Lane;
use reattach_core::id::MessageId;
use reattach_core::link::Handed;
use reattach_core::link::Outgoing;
use reattach_core::link::Quota;
use reattach_core::outcome::Outcome;
use reattach_core::time::Instant;

use super::Broken;
use super::Checked;
use super::Party;
use super::check;
use super::rooms;
use super::rooms::Held;

pub(super) use self::outcomes::Strikes;

/// Where a receiver stands: in which epoch, and with which memory of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// None where the connection had ended, and what it left is taken.
    pub(super) epoch: Option<u64>,
    pub(super) memory: u64,
    /// Whether there was a life of the connection before this one, which may have left something too.
    pub(super) has_earlier: bool,
}

impl Place {
    /// Whether what comes at another place may be of another life of the connection, which was handed the same by itself: one of the
    /// two at least is what some life has left, and nobody outside can tell which.
    fn may_be_of_another_life(&self, other: Self) -> bool {
        let is_left = other.epoch.is_none() && (self.epoch.is_none() || self.memory == other.memory);
        other.has_earlier && (is_left || (self.epoch.is_none() && other.epoch.is_some()))
    }

    /// Whether a receiver that stands at another place need not remember what came here. Which of a connection's earlier lives
    /// something is taken from, nobody outside can tell.
    fn is_forgotten_at(&self, other: Self) -> bool {
        self.memory != other.memory || (self.epoch.is_none() && other.epoch.is_none())
    }
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
    /// The first message of each wire that it was written on. Where that was another one it cost that an attempt, or the wire
    /// was good for something.
    wires: Vec<u32>,
    /// How many epochs have ended in which it was written, each of which costs an attempt too, and whether it was in this one.
    renewals: u32,
    was_written: bool,
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
    /// Until when, where the program that put it off still runs.
    put_off_until: Option<Instant>,
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
    /// The same of what was sent again too, with the epoch in which it was taken.
    taken_in: BTreeMap<(Party, Party, Lane), (Option<u64>, usize)>,
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
            wires: Vec::new(),
            renewals: 0,
            was_written: false,
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
        now: Instant,
    ) -> Checked {
        self.counts[1] += 1;
        let record = self.records.get_mut(&number).expect("the sender was just looked up");
        check(handed.lane == record.lane, "S5", || format!("{number} changes its lane to {:?}", handed.lane))?;
        check(handed.id.is_none_or(|id| id == record.id), "S5", || format!("{number} changes its name"))?;
        check(!record.is_never, "S3", || format!("{number} is handed over, and was never to come: {record:?}"))?;
        let is_again = record.turns > 0;
        let (turn, may_come) = match record.holders.get(&to) {
            None => (1, !is_again || record.is_idempotent),
            Some(before) if record.is_idempotent && before.place.may_be_of_another_life(place) => (handed.turn, true),
            Some(before) => {
                // What an earlier life of a connection has left, that life alone remembers.
                let was_left = before.place.epoch.is_none() && place.epoch.is_some();
                let has_forgotten = record.is_idempotent && (was_left || before.place.is_forgotten_at(place));
                let is_elsewhere = place.epoch.is_none() && has_forgotten && handed.turn == 1;
                let is_same = before.place.epoch == place.epoch || (place.epoch.is_none() && !is_elsewhere);
                let may_come_again = before.is_put_off && (is_same || record.is_idempotent);
                (if is_same { before.turns + 1 } else { 1 }, may_come_again || (has_forgotten && !is_same))
            }
        };
        let until = record.holders.get(&to).and_then(|holder| holder.put_off_until);
        check(turn == 1 || until.is_none_or(|until| until <= now), "J1", || {
            format!("{number} comes again at {now:?}, and was put off until {until:?}")
        })?;
        check(may_come, "S1", || format!("{number} is handed over to {to:?} at {place:?} again: {record:?}"))?;
        check(handed.turn == turn, "S1", || format!("hand-over {turn} of {number} is counted as {}", handed.turn))?;
        check(turn <= record.hands, "S1", || format!("{number} is handed over too often: {record:?}"))?;
        record.holders.insert(
            to,
            Holder {
                place,
                turns: turn,
                is_put_off: false,
                put_off_until: None,
                is_left: place.epoch.is_none(),
                lease: None,
            },
        );
        record.turns += 1;
        let (key, order) = ((to, record.by, record.lane.clone()), record.order);
        let is_next = |before: usize| before < order || (is_again && before == order);
        let is_resent = record.is_idempotent && (was_resent || is_again);
        // What is sent again comes behind successors that were taken in an earlier epoch, and ahead of all others.
        let in_epoch = self.taken_in.insert(key.clone(), (place.epoch, order));
        let is_in_order = in_epoch.is_none_or(|(epoch, before)| epoch != place.epoch || is_next(before));
        check(is_in_order || place.epoch.is_none(), "S1", || {
            format!("{to:?} is handed {number} in {:?}, which was sent before what came before in it", place.epoch)
        })?;
        if is_resent {
            return Ok(());
        }
        let before = self.taken.insert(key, order);
        check(before.is_none_or(is_next), "S1", || {
            format!("{to:?} is handed {number}, which was sent before what came before")
        })
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

    pub(super) fn on_deferred(&mut self, by: Party, number: u32, until: Instant, has_ended: bool) {
        let record = self.record(number);
        record.deferrals += 1;
        if let Some(holder) = record.holders.get_mut(&by) {
            holder.put_off_until = Some(until);
        }
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

    /// What some have put off may come at once: their connection has ended, and its timers with it.
    pub(super) fn forget_delays(&mut self, is_it: impl Fn(Party) -> bool) {
        for record in self.records.values_mut() {
            let holders = record.holders.iter_mut().filter(|(party, _)| is_it(**party));
            holders.for_each(|(_, holder)| holder.put_off_until = None);
        }
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
    pub(super) fn on_server_copied(&mut self, then: &Self, now: Instant) {
        // A lease may have been over then, and the name of what nobody decided about is remembered.
        for (number, _) in then.leases_of_server().filter(|(_, lease)| *lease <= now) {
            self.record(number).is_abandoned = true;
        }
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

    /// The leases that the server's applications were given and did not use.
    fn leases_of_server(&self) -> impl Iterator<Item = (u32, Instant)> {
        let of_server = |record: &Record| {
            let holders = record.holders.iter().filter(|(party, _)| matches!(party, Party::Server(_)));
            holders.filter_map(|(_, holder)| holder.lease).max()
        };
        self.records.iter().filter_map(move |(number, record)| Some((*number, of_server(record)?)))
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
            let record = self.records.get_mut(&owed.number).expect("what is owed was sent");
            let was_written = core::mem::take(&mut record.was_written);
            record.renewals += u32::from(was_written && record.is_idempotent && !owed.is_told);
        }
    }

    /// A message is written, on a wire on which this one was the first.
    pub(super) fn on_written(&mut self, number: u32, first: u32) {
        if let Some(record) = self.records.get_mut(&number) {
            record.wires.push(first);
            record.was_written = true;
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

    /// Whether nobody waits for anything that a party has sent.
    pub(super) fn are_all_told(&self, by: Party) -> bool {
        self.owed.get(&by).is_none_or(|owed| owed.values().all(|owed| owed.is_told))
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

    pub(super) fn withdrawable(&self) -> impl Iterator<Item = (Party, u32, MessageId)> {
        let all = self.owed.iter().flat_map(|(party, owed)| owed.iter().map(|(id, owed)| (*party, *id, owed)));
        let open = all.filter(|(_, _, owed)| !owed.is_told && owed.cancelled.is_none());
        open.map(|(party, id, owed)| (party, owed.number, id))
    }

    fn record(&mut self, number: u32) -> &mut Record {
        self.records.get_mut(&number).expect("what is in hands was sent")
    }
}

fn as_copied(owed: &BTreeMap<MessageId, Owed>) -> BTreeMap<MessageId, Owed> {
    owed.iter().map(|(id, owed)| (*id, Owed { is_copied: true, ..owed.clone() })).collect()
}
