//! The receiving side of a link: what has come and is not final, and what becomes of it.
//!
//! Hand-over is a pull: [`Inbox::take`] gives the next message to the application, which is the one moment that counts. What
//! was not taken stays here, within the window, and an epoch that ends can say with certainty that it never was.
//!
//! ```text
//!            above a gap: it waits until the numbers below it have come
//!                 |
//!  message ---> Waiting ---- take ----> InHands ---- accept, reject ---> final
//!                 |  ^                   |   |------ lease is over ----> final (abandoned)
//!                 |  |                   v
//!                 |  '---- in time --- Deferred
//!               void                     |
//!                 '--> final (voided, or rejected after a deferral)
//! ```
//!
//! With automatic acceptance taking a message accepts it. With manual acceptance a lane hands over its next message only when
//! the one before is final; lanes proceed independently of each other.

use alloc::collections::BTreeSet;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use core::time::Duration;

use crate::deadline::soonest;
use crate::error::ApiMisuse;
use crate::error::ProtocolError;
use crate::id::Code;
use crate::id::Lane;
use crate::id::MessageId;
use crate::id::Seq;
use crate::link::handover::Acceptance;
use crate::link::handover::Decision;
use crate::link::handover::Handed;
use crate::link::handover::Handle;
use crate::link::handover::Lanes;
use crate::link::known::Known;
use crate::link::known::Verdict;
use crate::link::settlement::Settlement;
use crate::link::window::Quota;
use crate::link::window::Usage;
use crate::time::Instant;
use crate::wire::Disposition;
use crate::wire::MAX_REASON;
use crate::wire::Message;
use crate::wire::UncheckedPayload;

/// How an inbox behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// What it holds.
    pub window: Quota,
    /// The largest payload that it takes, in bytes.
    pub max_payload: u64,
    /// Who decides.
    pub acceptance: Acceptance,
    /// How long the application may take to decide.
    pub lease: Duration,
    /// How long a deferral lasts that does not say.
    pub deferral: Duration,
}

/// A message that is not final.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    seq: Seq,
    stage: Stage,
    /// Its sender has withdrawn it.
    is_void: bool,
    /// It was in an application's hands that is gone, and nobody knows what that did with it.
    is_in_doubt: bool,
    /// How often it was handed over.
    turns: u32,
    /// How often it was put off, and why the last time.
    deferred: Option<(u32, Code)>,
    message: Stored,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Stored {
    id: Option<MessageId>,
    lane: Lane,
    is_idempotent: bool,
    hands: u32,
    payload: UncheckedPayload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Waiting,
    InHands { lease: Instant },
    Deferred { until: Instant },
}

/// The receiving side of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inbox {
    config: Config,
    /// Counts the epochs that it has been through, from a number of its own.
    life: u64,
    /// What the slots hold.
    usage: Usage,
    /// Received and not final, by rising number; also what stands above a gap.
    slots: VecDeque<Slot>,
    /// How many slots have a deadline.
    timed: usize,
    settlement: Settlement,
    /// How many slots wait for room in the list of exceptions: they are withdrawn, and cannot be said to be.
    unlisted: usize,
    /// Nothing is handed over any more.
    is_paused: bool,
    /// The sender is gone for good, and hears of no decision.
    is_parted: bool,
}

impl Inbox {
    /// An inbox of nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            life: 0,
            usage: Usage::default(),
            slots: VecDeque::new(),
            timed: 0,
            settlement: Settlement::default(),
            unlisted: 0,
            is_paused: false,
            is_parted: false,
        }
    }

    /// Numbers its lives from here on, so that no handle of another inbox is taken for one of this.
    pub const fn begin_life(&mut self, life: u64) {
        self.life = life;
    }

    /// Takes a message off the wire. Returns whether it is new; one that has come before is dropped. One above a gap waits
    /// for what is missing.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::TooLarge`], [`ProtocolError::WindowExceeded`]. Nothing has changed then.
    pub fn on_message(&mut self, message: &Message<'_>) -> Result<bool, ProtocolError> {
        if message.seq <= self.settlement.received() {
            return Ok(false);
        }
        let Err(place) = self.place(message.seq) else { return Ok(false) };
        let (len, limit) = (message.payload.len() as u64, self.config.max_payload);
        if len > limit {
            return Err(ProtocolError::TooLarge { len, limit });
        }
        self.check_window(message.seq, len)?;
        let stored = Stored {
            id: message.id,
            lane: message.lane.clone(),
            is_idempotent: message.idempotent,
            hands: message.hands,
            payload: UncheckedPayload::new(message.payload),
        };
        self.insert(place, message.seq, false, stored);
        self.advance(place);
        Ok(true)
    }

    /// A message is withdrawn by its sender. What was never handed over never will be; what was is decided about by the
    /// application. It holds for a message that has not come too, which then counts as come.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::WindowExceeded`]. Nothing has changed then.
    pub fn on_void(&mut self, seq: Seq) -> Result<(), ProtocolError> {
        match self.place(seq) {
            Ok(place) => {
                let slot = &mut self.slots[place];
                let was_void = core::mem::replace(&mut slot.is_void, true);
                if !was_void && seq <= self.settlement.received() && !matches!(slot.stage, Stage::InHands { .. }) {
                    self.unlisted += 1;
                    self.end_voids(place);
                }
            }
            Err(_) if seq <= self.settlement.received() => {}
            Err(place) => {
                self.check_window(seq, 0)?;
                // It takes no more room than the message, so that the room that its sender sees is there.
                let payload = UncheckedPayload::new("");
                let stored = Stored { id: None, lane: Lane::DEFAULT, is_idempotent: false, hands: 1, payload };
                self.insert(place, seq, true, stored);
                self.advance(place);
            }
        }
        Ok(())
    }

    /// The sender has taken in the list of exceptions up to this change.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::BeyondSent`].
    pub fn on_seen(&mut self, seen: crate::id::ReportNo) -> Result<(), ProtocolError> {
        if seen > self.settlement.no() {
            return Err(ProtocolError::BeyondSent { key: "seen" });
        }
        self.settlement.on_seen(seen);
        self.end_voids(0);
        Ok(())
    }

    /// Hands the next message of these lanes over to the application. What is known under its name is settled as it was before,
    /// and not handed over.
    pub fn take(&mut self, lanes: Lanes<'_>, now: Instant, known: &mut Known) -> Option<Handed> {
        loop {
            let place = self.next(lanes)?;
            let slot = &mut self.slots[place];
            if let Some(verdict) = slot.message.id.and_then(|id| known.get(&id)).cloned() {
                self.end(place, verdict, known);
                self.end_voids(0);
                continue;
            }
            if slot.turns >= slot.message.hands {
                // Each time it was handed over its receiver went down with it.
                self.end(place, Verdict::Abandoned, known);
                self.end_voids(0);
                continue;
            }
            slot.turns += 1;
            let turn = slot.turns;
            if self.config.acceptance == Acceptance::Automatic {
                let Stored { id, lane, payload, .. } = self.end(place, Verdict::Accepted, known);
                self.end_voids(0);
                return Some(Handed { id, lane, turn, handle: None, payload });
            }
            slot.stage = Stage::InHands { lease: now + self.config.lease };
            self.timed += 1;
            let handle = Some(Handle { life: self.life, seq: slot.seq, turn });
            let Stored { id, lane, payload, .. } = slot.message.clone();
            return Some(Handed { id, lane, turn, handle, payload });
        }
    }

    /// The application decides about a message in its hands.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::Undecidable`] where it is not in its hands any more: it was decided about before, its lease is over, or
    /// the epoch has ended. Nothing has changed then.
    pub fn decide(
        &mut self,
        handle: Handle,
        decision: Decision,
        now: Instant,
        known: &mut Known,
    ) -> Result<(), ApiMisuse> {
        let place = self.in_hands(handle)?;
        match decision {
            Decision::Accept => _ = self.end(place, Verdict::Accepted, known),
            Decision::Reject { code, mut reason } => {
                // What does not fit on the wire takes no part in any bound here.
                let end = (0..=MAX_REASON).rev().find(|end| reason.is_char_boundary(*end));
                reason.truncate(end.unwrap_or(0));
                _ = self.end(place, Verdict::Rejected { code, reason }, known);
            }
            Decision::Abandon => _ = self.end(place, Verdict::Abandoned, known),
            Decision::Defer { retry_after, code } => {
                let slot = &mut self.slots[place];
                if self.is_parted {
                    _ = self.end(place, Verdict::Abandoned, known);
                } else if slot.is_void {
                    _ = self.end(place, Verdict::Rejected { code, reason: String::new() }, known);
                } else if slot.turns >= slot.message.hands {
                    let reason = String::from("it was put off as often as it may be");
                    _ = self.end(place, Verdict::Rejected { code, reason }, known);
                } else {
                    let retry_after = retry_after.unwrap_or(self.config.deferral);
                    let times = slot.deferred.as_ref().map_or(0, |(times, _)| *times) + 1;
                    slot.is_in_doubt = false;
                    slot.deferred = Some((times, code.clone()));
                    slot.stage = Stage::Deferred { until: now + retry_after };
                    self.settlement.on_deferred(slot.seq, Disposition::Deferred { times, retry_after, code });
                }
            }
        }
        // A place below came free: what waits for room in the list may have it.
        self.end_voids(0);
        Ok(())
    }

    /// The application needs longer: the lease starts over, with this length.
    ///
    /// # Errors
    ///
    /// As [`Inbox::decide`].
    pub fn extend(&mut self, handle: Handle, lease: Duration, now: Instant) -> Result<(), ApiMisuse> {
        let place = self.in_hands(handle)?;
        self.slots[place].stage = Stage::InHands { lease: now + lease };
        Ok(())
    }

    /// Lets time pass: leases end, and what was put off waits to be handed over again. Returns whether anything changed.
    pub fn handle_timeout(&mut self, now: Instant, known: &mut Known) -> bool {
        let mut has_changed = false;
        let mut place = 0;
        while self.timed > 0 && place < self.slots.len() {
            match self.slots[place].stage {
                Stage::InHands { lease } if lease <= now => {
                    self.end(place, Verdict::Abandoned, known);
                    has_changed = true;
                    continue;
                }
                Stage::Deferred { until } if until <= now => {
                    self.slots[place].stage = Stage::Waiting;
                    self.timed -= 1;
                    has_changed = true;
                }
                Stage::Waiting | Stage::InHands { .. } | Stage::Deferred { .. } => {}
            }
            place += 1;
        }
        self.end_voids(0);
        has_changed
    }

    /// When a lease ends, or what was put off is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.timed == 0 {
            return None;
        }
        soonest(self.slots.iter().map(|slot| match slot.stage {
            Stage::Waiting => None,
            Stage::InHands { lease } => Some(lease),
            Stage::Deferred { until } => Some(until),
        }))
    }

    /// Whether a message of these lanes can be handed over.
    #[must_use]
    pub fn has_message(&self, lanes: Lanes<'_>) -> bool {
        self.next(lanes).is_some()
    }

    /// What is in the application's hands, undecided, by rising number.
    #[must_use]
    pub fn in_application(&self) -> Vec<Seq> {
        let in_hands = |slot: &&Slot| slot.is_in_doubt || matches!(slot.stage, Stage::InHands { .. });
        self.slots.iter().filter(in_hands).map(|slot| slot.seq).collect()
    }

    /// How many messages are in the application's hands, undecided.
    #[must_use]
    pub fn count_in_hands(&self) -> usize {
        if self.timed == 0 {
            return 0;
        }
        self.slots.iter().filter(|slot| matches!(slot.stage, Stage::InHands { .. })).count()
    }

    /// Nothing more is handed over; what is in the application's hands can still be decided about.
    pub const fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Whether nothing more is handed over.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The sender has gone for good and hears of no decision any more: nothing that it would wait for is worth waiting for.
    /// What was put off can be taken at once, a last time: putting it off again gives it up.
    pub fn part(&mut self) {
        self.is_parted = true;
        for slot in &mut self.slots {
            if let Stage::Deferred { .. } = slot.stage {
                slot.stage = Stage::Waiting;
                self.timed -= 1;
            }
        }
    }

    /// When the lease of what is in the application's hands ends, where it holds up something of these lanes that came before the
    /// sender went for good.
    #[must_use]
    pub fn held_up_until(&self, lanes: Lanes<'_>) -> Option<Instant> {
        let has_come = |slot: &Slot| slot.seq <= self.settlement.received() && lanes.holds(&slot.message.lane);
        let is_waiting = |slot: &Slot| slot.stage == Stage::Waiting && !slot.is_void && has_come(slot);
        self.poll_timeout().filter(|_| self.is_parted && !self.is_paused && self.slots.iter().any(is_waiting))
    }

    /// Whether anything is in the application's hands, or was put off by it.
    #[must_use]
    pub const fn has_undecided(&self) -> bool {
        self.timed > 0
    }

    /// What is received and not final.
    #[must_use]
    pub const fn usage(&self) -> &Usage {
        &self.usage
    }

    /// How many bytes of payloads and names of lanes it holds.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let len = |slot: &Slot| {
            slot.message.payload.as_str().len() + slot.message.lane.name().map_or(0, |name| name.as_str().len())
        };
        self.slots.iter().map(|slot| len(slot) as u64).sum()
    }

    /// The receiver's dispositions.
    #[must_use]
    pub const fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    /// Ends the epoch: what was not handed over is dropped and never will be, no handle is good any more, and everything
    /// starts at 0.
    pub fn reset(&mut self, known: &mut Known) {
        for slot in &self.slots {
            // One that may come twice is not held to a decision that never was.
            if let (Stage::InHands { .. }, Some(id), false) = (slot.stage, slot.message.id, slot.message.is_idempotent)
            {
                known.insert(id, Verdict::Abandoned);
            }
        }
        let (life, is_paused) = (self.life.wrapping_add(1), self.is_paused);
        *self = Self { life, is_paused, ..Self::new(self.config) };
    }

    /// Goes on from a stored state. Whatever was in the application's hands nobody decides about any more: it is abandoned,
    /// but for what may be handed over again.
    pub fn restore(&mut self, known: &mut Known) {
        self.life = self.life.wrapping_add(1);
        let mut place = 0;
        while place < self.slots.len() {
            let slot = &mut self.slots[place];
            if let Stage::InHands { .. } = slot.stage {
                if !slot.message.is_idempotent || slot.is_void {
                    self.end(place, Verdict::Abandoned, known);
                    continue;
                }
                slot.stage = Stage::Waiting;
                slot.is_in_doubt = true;
                self.timed -= 1;
            }
            place += 1;
        }
    }

    /// The first message of these lanes that may be handed over: all below it have come, none of its lane before it is open, and so few are
    /// open before it that the list of exceptions keeps its bound.
    fn next(&self, lanes: Lanes<'_>) -> Option<usize> {
        if self.is_paused {
            return None;
        }
        let is_free = |slot: &Slot| slot.stage == Stage::Waiting && !slot.is_void && lanes.holds(&slot.message.lane);
        // As a rule nothing is open before it.
        if self.slots.front().is_some_and(|slot| slot.seq <= self.settlement.received() && is_free(slot)) {
            return self.can_list(0).then_some(0);
        }
        let mut held: BTreeSet<&Lane> = BTreeSet::new();
        for (place, slot) in self.slots.iter().enumerate() {
            if slot.seq > self.settlement.received() || !self.can_list(place) {
                return None;
            }
            let is_held = !held.is_empty() && held.contains(&slot.message.lane);
            match slot.stage {
                Stage::Waiting if !is_held && is_free(slot) => return Some(place),
                Stage::Waiting => {}
                Stage::InHands { .. } | Stage::Deferred { .. } => _ = held.insert(&slot.message.lane),
            }
        }
        None
    }

    fn place(&self, seq: Seq) -> Result<usize, usize> {
        // As a rule what comes is the newest.
        if self.slots.back().is_none_or(|newest| newest.seq < seq) {
            return Err(self.slots.len());
        }
        self.slots.binary_search_by_key(&seq, |slot| slot.seq)
    }

    fn in_hands(&self, handle: Handle) -> Result<usize, ApiMisuse> {
        let place = self.place(handle.seq).map_err(|_| ApiMisuse::Undecidable)?;
        let slot = &self.slots[place];
        let is_same = handle.life == self.life && handle.turn == slot.turns;
        match slot.stage {
            Stage::InHands { .. } if is_same => Ok(place),
            Stage::InHands { .. } | Stage::Waiting | Stage::Deferred { .. } => Err(ApiMisuse::Undecidable),
        }
    }

    /// Whether the sender may have written this number: it has a place for it, and for all that are missing below it.
    fn check_window(&self, seq: Seq, len: u64) -> Result<(), ProtocolError> {
        let window = &self.config.window;
        let ahead = seq.get() - self.settlement.received().get();
        let places = u64::from(self.usage.count()) + self.settlement.finals() as u64;
        if ahead > u64::from(window.count) || places >= u64::from(window.count) || !window.holds(&self.usage, len) {
            return Err(ProtocolError::WindowExceeded);
        }
        Ok(())
    }

    fn insert(&mut self, place: usize, seq: Seq, is_void: bool, message: Stored) {
        self.usage.add(&self.config.window, message.payload.as_str().len() as u64);
        let slot = Slot { seq, stage: Stage::Waiting, is_void, is_in_doubt: false, turns: 0, deferred: None, message };
        if place == self.slots.len() {
            self.slots.push_back(slot);
        } else {
            self.slots.insert(place, slot);
        }
    }

    /// The watermark rises over what has come without a gap, now that there is something new at `place`. What was withdrawn
    /// before it came ends there.
    fn advance(&mut self, mut place: usize) {
        let next = |inbox: &Self| inbox.settlement.received().next();
        while let Some(slot) = self.slots.get(place).filter(|slot| slot.seq == next(self)) {
            let is_void = slot.is_void;
            self.settlement.on_received(slot.seq);
            let before = self.slots.len();
            if is_void {
                self.unlisted += 1;
                self.end_voids(place);
            }
            place += usize::from(self.slots.len() == before);
        }
    }

    /// Whether the list of exceptions has room for the slot at `place`, and for all that are open below it.
    fn can_list(&self, place: usize) -> bool {
        self.is_parted || place + self.settlement.finals() < Settlement::MAX_LISTED
    }

    /// What was withdrawn and is not in the application's hands ends, from `place` on, as far as the list has room.
    fn end_voids(&mut self, mut place: usize) {
        while self.unlisted > 0 && place < self.slots.len() && self.can_list(place) {
            let slot = &mut self.slots[place];
            let is_in_hands = matches!(slot.stage, Stage::InHands { .. });
            if !slot.is_void || is_in_hands || slot.seq > self.settlement.received() {
                place += 1;
                continue;
            }
            let disposition = match slot.deferred.take() {
                _ if slot.is_in_doubt => Disposition::Abandoned,
                Some((_, code)) => Disposition::Rejected { code, reason: String::new() },
                None => Disposition::Voided,
            };
            self.unlisted -= 1;
            self.remove(place, Some(disposition));
        }
    }

    /// The application's verdict, or its silence, ends a message.
    fn end(&mut self, place: usize, verdict: Verdict, known: &mut Known) -> Stored {
        if let Some(id) = self.slots[place].message.id {
            known.insert(id, verdict.clone());
        }
        let disposition = match verdict {
            Verdict::Accepted => None,
            Verdict::Rejected { code, reason } => Some(Disposition::Rejected { code, reason }),
            Verdict::Abandoned => Some(Disposition::Abandoned),
        };
        self.remove(place, disposition)
    }

    fn remove(&mut self, place: usize, disposition: Option<Disposition>) -> Stored {
        let slot = if place == 0 { self.slots.pop_front() } else { self.slots.remove(place) };
        let slot = slot.expect("the place was just found");
        self.usage.remove(&self.config.window, slot.message.payload.as_str().len() as u64);
        match slot.stage {
            Stage::Waiting => {}
            Stage::InHands { .. } | Stage::Deferred { .. } => self.timed -= 1,
        }
        let open = self.slots.iter().take(place).map(|slot| slot.seq);
        match disposition {
            None => self.settlement.on_accepted(slot.seq, open),
            Some(disposition) => self.settlement.on_ended(slot.seq, disposition, open),
        }
        slot.message
    }
}
