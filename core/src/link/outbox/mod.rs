//! The sending side of a link: what the application has sent and the peer has not settled.
//!
//! A message is *queued* until its first write in an epoch gives it a number, then *written* until the peer reports a final
//! disposition. It has exactly one [`Outcome`]. Its place is freed when the outcome is polled, so the queue of outcomes is
//! bounded by the same quota; only a message whose outcome had to be told before the peer answered holds its place until
//! the answer.
//!
//! ```text
//!  send ---> queued ---- write ----> written ---- report, receipt ----> its outcome
//!              |  ^                    |   |
//!           cancel,  '-- proven never --'  '-- cancel, deadline, age, attempts: void
//!           deadline     joined, or              |-- report -----------> its outcome
//!              |         idempotent              '-- no answer --------> Unknown, the place is kept
//!              '-----------------------------------------------------> NotDelivered
//! ```

mod entry;
mod flight;
mod receipt;
mod write;

use alloc::collections::VecDeque;

use core::time::Duration;

use crate::deadline::Deadline;
use crate::error::ApiMisuse;
use crate::error::ProtocolError;
use crate::id::Lane;
use crate::id::MessageId;
use crate::id::Seq;
use crate::link::lanes::Shares;
use crate::link::window::Quota;
use crate::outcome::NotDelivered;
use crate::outcome::Outcome;
use crate::outcome::Unknown;
use crate::time::Instant;
use crate::wire::Disposition;
use crate::wire::Receipt;
use crate::wire::Report;

pub use self::entry::Entry;
pub use self::entry::Notice;
pub use self::entry::Told;
pub use self::flight::Continuity;
pub use self::flight::Flight;

use self::entry::Queued;
use self::entry::Withdrawn;
use self::entry::Written;

/// How an outbox behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// What it holds.
    pub quota: Quota,
    /// How many attempts a message may lose before it is withdrawn.
    pub attempts: u32,
    /// How long a written message may be unsettled before the peer is asked.
    pub ack_timeout: Duration,
    /// How long an answer to a withdrawal is waited for.
    pub void_timeout: Duration,
}

/// The sending side of one connection. What is queued outlives an epoch; what is written belongs to one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outbox {
    config: Config,
    /// Queued, written, and ended but not polled.
    usage: Shares,
    /// Never written in this epoch, in the order of sending.
    queued: VecDeque<Queued>,
    /// What the peer takes, where that is known.
    window: Option<Quota>,
    /// What stands in `written`, counted under `window`.
    in_window: Shares,
    /// What was written, and where it stands.
    flight: Flight,
    /// When something may have to be withdrawn or given up: never later than that. It is looked up anew each time.
    due: Deadline,
    /// What to tell, and the share that polling it frees.
    notices: VecDeque<(Notice, Option<(Lane, u64)>)>,
}

impl Outbox {
    /// An outbox of nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            usage: Shares::default(),
            queued: VecDeque::new(),
            window: None,
            in_window: Shares::default(),
            flight: Flight::default(),
            due: Deadline::UNARMED,
            notices: VecDeque::new(),
        }
    }

    /// Queues a message.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::QueueFull`], or [`ApiMisuse::IdInUse`] for a name that the application chose and that stands here.
    pub fn send(&mut self, entry: Entry) -> Result<(), ApiMisuse> {
        let len = entry.payload.len() as u64;
        if !self.has_room(&entry.lane, len) {
            return Err(ApiMisuse::QueueFull);
        }
        if entry.names_id && self.entries().any(|other| other.id == entry.id) {
            return Err(ApiMisuse::IdInUse);
        }
        if self.is_empty() {
            // Whatever it was armed for is gone.
            self.due.disarm();
        }
        self.usage.add(&self.config.quota, &entry.lane, len);
        self.due.arm_no_later_than(entry.expires.0);
        self.queued.push_back(Queued::new(entry));
        Ok(())
    }

    /// Whether a message of `len` bytes in this lane would be taken.
    #[must_use]
    pub fn has_room(&self, lane: &Lane, len: u64) -> bool {
        self.usage.admits(&self.config.quota, lane, len)
    }

    /// Whether a message of `len` bytes in this lane would be written at once, and taken: it and all that is here fit into the
    /// peer's window.
    #[must_use]
    pub fn would_write(&self, lane: &Lane, len: u64) -> bool {
        let fits = |window: &Quota| self.usage.admits(window, lane, len);
        self.has_room(lane, len) && self.window.as_ref().is_some_and(fits)
    }

    /// Withdraws a message: at once where it was never written; else the peer is asked to.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::UnknownMessage`] for one that has its outcome, or never was.
    pub fn cancel(&mut self, id: &MessageId, now: Instant) -> Result<(), ApiMisuse> {
        if let Some(index) = self.queued.iter().position(|queued| queued.entry.id == *id) {
            let queued = self.queued.remove(index).expect("the position was just found");
            self.tell_not_delivered(&queued, NotDelivered::Cancelled);
            return Ok(());
        }
        let is_it = |written: &Written| written.message.entry.id == *id && !written.is_told;
        let index = self.flight.written.iter().position(is_it).ok_or(ApiMisuse::UnknownMessage)?;
        self.withdraw(index, NotDelivered::Cancelled, now);
        Ok(())
    }

    /// Ends what waits and is worth nothing while the server cannot be reached.
    pub fn fail_fast(&mut self) {
        let mut index = 0;
        while index < self.queued.len() {
            if self.queued[index].entry.is_fail_fast {
                let queued = self.queued.remove(index).expect("the index is within");
                self.tell_not_delivered(&queued, NotDelivered::Unavailable);
            } else {
                index += 1;
            }
        }
    }

    /// A transport is attached on which `window` holds, and payloads of at most `max_payload`. The peer has every number up to
    /// what it reported; what is above is written again, but for what is withdrawn.
    pub fn on_attached(&mut self, window: Quota, max_payload: u64, now: Instant) {
        self.window = Some(window);
        self.in_window = Shares::default();
        self.flight.voids.clear();
        for written in &mut self.flight.written {
            self.in_window.add(&window, &written.message.entry.lane, written.message.len());
            written.end = 0;
            written.left_at = (written.seq <= self.flight.received).then_some(now);
            if written.void.is_some() {
                self.flight.voids.push_back(written.seq);
            }
        }
        self.flight.cursor = self.flight.received;
        self.flight.left = self.flight.received;
        if let Some(seq) = self.flight.swallowed.take() {
            if self.flight.received == self.flight.at_attach {
                self.burn(seq, now);
            }
        }
        self.flight.at_attach = self.flight.received;
        self.refuse_above(max_payload, now);
    }

    /// The transport is gone.
    pub fn on_detached(&mut self) {
        let lowest = self.flight.lowest_unreceived();
        self.flight.swallowed = lowest.filter(|written| written.left_at.is_some()).map(|written| written.seq);
        self.flight.voids.clear();
    }

    /// Takes in what the peer reports. Watermarks only rise, and entries only go up: a report older than one taken in before
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::BeyondSent`] where it speaks of a message that was never written. Nothing has changed then.
    pub fn on_report(&mut self, report: &Report) -> Result<(), ProtocolError> {
        if report.received > self.flight.sent {
            return Err(ProtocolError::BeyondSent { key: "received" });
        }
        if report.settled > self.flight.sent {
            return Err(ProtocolError::BeyondSent { key: "settled" });
        }
        self.flight.received = self.flight.received.max(report.received);
        self.flight.settled = self.flight.settled.max(report.settled);
        self.flight.seen = self.flight.seen.max(report.no);
        self.flight.cursor = self.flight.cursor.max(self.flight.received);
        if report.except.is_empty() {
            while self.flight.written.front().is_some_and(|written| written.seq <= report.settled) {
                let written = self.flight.written.pop_front().expect("the front was just looked at");
                let id = written.message.entry.id;
                if let Some(share) = self.take_out(written) {
                    self.notices.push_back((Notice::Delivered { id }, Some(share)));
                }
            }
            return Ok(());
        }
        let before = core::mem::take(&mut self.flight.written);
        self.flight.written.reserve(before.len());
        for mut written in before {
            match receipt::disposition_of(&report.except, written.seq) {
                None if written.seq <= report.settled => self.end(written, Outcome::Delivered),
                None | Some(Disposition::Pending) => self.flight.written.push_back(written),
                Some(Disposition::Deferred { times, retry_after, code }) => {
                    // The last of its hand-overs ends in another way, so there is a bound to what a peer can make of it.
                    let times = (*times).min(written.message.entry.hands - 1);
                    if times > written.deferred {
                        self.flight.put_off += usize::from(written.deferred == 0);
                        written.deferred = times;
                        if !written.is_told {
                            let id = written.message.entry.id;
                            let (retry_after, code) = (*retry_after, code.clone());
                            self.notices.push_back((Notice::Deferred { id, times, retry_after, code }, None));
                        }
                    }
                    self.flight.written.push_back(written);
                }
                Some(Disposition::Rejected { code, reason }) => {
                    self.end(written, Outcome::Rejected { code: code.clone(), reason: reason.clone() });
                }
                Some(Disposition::Voided) => {
                    let reason = written.void.map_or(NotDelivered::Voided, |void| void.why);
                    self.end(written, Outcome::NotDelivered { reason });
                }
                Some(Disposition::Abandoned) => self.end(written, Outcome::Unknown { reason: Unknown::Abandoned }),
            }
        }
        Ok(())
    }

    /// The peer has answered a question that left after everything up to `asked` had been written, and its report is taken in.
    /// What it has not received is lost, and is written again; what it has had for long is delayed. Returns how many messages
    /// are written again.
    pub fn on_answered(&mut self, asked: Seq, now: Instant) -> usize {
        let lost = self.flight.lose(asked);
        if let Some(lowest) = self.flight.lowest_unreceived().map(|written| written.seq).filter(|_| lost > 0) {
            self.burn(lowest, now);
        }
        while let Some(written) = self.flight.next_delayed(asked, self.config.ack_timeout, now) {
            // That it was put off was told already.
            if !written.is_told && written.deferred == 0 {
                self.notices.push_back((Notice::Delayed { id: written.message.entry.id }, None));
            }
        }
        lost
    }

    /// Lets time pass: what is too old is withdrawn, and what was withdrawn in vain is unknown.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.due.take_due(now) {
            return;
        }
        let mut index = 0;
        while let Some(queued) = self.queued.get(index) {
            let (at, why) = queued.entry.expires;
            if at <= now {
                let queued = self.queued.remove(index).expect("it was just looked at");
                self.tell_not_delivered(&queued, why);
            } else {
                self.due.arm_no_later_than(at);
                index += 1;
            }
        }
        for index in 0..self.flight.written.len() {
            let written = &mut self.flight.written[index];
            match written.void {
                None if written.message.entry.expires.0 <= now => {
                    let why = written.message.entry.expires.1;
                    self.withdraw(index, why, now);
                }
                None => self.due.arm_no_later_than(written.message.entry.expires.0),
                Some(_) if written.is_told => {}
                Some(void) if void.due <= now => {
                    written.is_told = true;
                    let (id, outcome) =
                        (written.message.entry.id, Outcome::Unknown { reason: Unknown::VoidUnanswered });
                    self.notices.push_back((Notice::ended(id, outcome), None));
                }
                Some(void) => self.due.arm_no_later_than(void.due),
            }
        }
    }

    /// When it wants to be woken.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.poll_timeout().filter(|_| !self.is_empty())
    }

    /// Ends the epoch because the peer's state of it has ended. What was written is resolved by the receipt, or is unknown
    /// for the given reason; what was never written stays queued. Where `resends`, what is idempotent and open is queued
    /// again, ahead of the rest.
    pub fn end_epoch(&mut self, receipt: Option<&Receipt>, without: Unknown, resends: bool) {
        let seen = self.flight.seen;
        let mut again = VecDeque::new();
        while let Some(mut written) = self.flight.written.pop_front() {
            let voided = written.void.map_or(NotDelivered::Voided, |void| void.why);
            let outcome = match receipt {
                Some(receipt) => receipt::outcome_by(receipt, seen, written.seq, voided),
                None => Outcome::Unknown { reason: without },
            };
            let may_resend = resends && written.message.entry.is_idempotent && written.void.is_none();
            if may_resend && receipt::leaves_open(&outcome) && written.message.burned + 1 < self.config.attempts {
                written.message.burned += 1;
                written.message.was_written = true;
                again.push_back(written.message);
            } else {
                self.end(written, outcome);
            }
        }
        while let Some(message) = again.pop_back() {
            self.queued.push_front(message);
        }
        self.forget_epoch();
    }

    /// Ends every message, written or not: the connection itself ends.
    pub fn end_all(&mut self, receipt: Option<&Receipt>, written: Unknown, queued: NotDelivered) {
        self.end_epoch(receipt, written, false);
        while let Some(message) = self.queued.pop_front() {
            self.tell_not_delivered(&message, queued);
        }
        self.due.disarm();
    }

    /// Ends every message, for this side stops trying; the epoch may go on. What was written is withdrawn, so that it is not
    /// written again behind the application's back, and keeps its place until the peer has answered.
    pub fn give_up(&mut self, written: Unknown, queued: NotDelivered, now: Instant) {
        for index in 0..self.flight.written.len() {
            self.withdraw(index, queued, now);
            let written_one = &mut self.flight.written[index];
            if !core::mem::replace(&mut written_one.is_told, true) {
                let (id, outcome) = (written_one.message.entry.id, Outcome::Unknown { reason: written });
                self.notices.push_back((Notice::ended(id, outcome), None));
            }
        }
        while let Some(message) = self.queued.pop_front() {
            self.tell_not_delivered(&message, queued);
        }
    }

    /// Another life of this state may have written anything of it. What is idempotent is sent again, and nobody can tell of the
    /// rest.
    pub fn doubt(&mut self) {
        self.end_epoch(None, Unknown::Restored, true);
        for mut message in core::mem::take(&mut self.queued) {
            if message.entry.is_idempotent {
                message.was_written = true;
                self.queued.push_back(message);
            } else {
                let share = (message.entry.lane.clone(), message.len());
                let (id, outcome) = (message.entry.id, Outcome::Unknown { reason: Unknown::Restored });
                self.notices.push_back((Notice::ended(id, outcome), Some(share)));
            }
        }
    }

    /// Puts what was written back to never written, in order: the peer never joined the epoch. What was withdrawn ends.
    pub fn unwrite(&mut self) {
        while let Some(written) = self.flight.written.pop_back() {
            match written.void {
                Some(void) => self.end(written, Outcome::NotDelivered { reason: void.why }),
                None => self.queued.push_front(written.message),
            }
        }
        self.forget_epoch();
    }

    /// The next thing to tell. Polling an outcome frees its place.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        let (notice, share) = self.notices.pop_front()?;
        if let Some((lane, len)) = share {
            self.usage.remove(&self.config.quota, &lane, len);
        }
        Some(notice)
    }

    /// Whether a message of this name waits for its outcome.
    #[must_use]
    pub fn holds(&self, id: &MessageId) -> bool {
        self.entries().any(|entry| entry.id == *id)
    }

    /// Whether every message has its outcome, polled or not.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.flight.written.iter().all(|written| written.is_told)
    }

    /// How many messages were never written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued.len()
    }

    /// How many messages are written and have no outcome.
    #[must_use]
    pub fn written(&self) -> usize {
        self.flight.written.iter().filter(|written| !written.is_told).count()
    }

    /// How many of them the peer has had for long.
    #[must_use]
    pub fn delayed(&self) -> usize {
        let known = self.flight.written.partition_point(|written| written.seq <= self.flight.delayed);
        self.flight.written.iter().take(known).filter(|written| !written.is_told).count()
    }

    /// What the quota counts.
    #[must_use]
    pub const fn usage(&self) -> &Shares {
        &self.usage
    }

    /// What was written, to look at.
    #[must_use]
    pub const fn flight(&self) -> &Flight {
        &self.flight
    }

    /// All bytes up to offset `offset` of the transport have left.
    pub fn on_left(&mut self, offset: u64, now: Instant) {
        self.flight.on_left(offset, now);
    }

    /// When the peer is to be asked what became of the oldest message that it has not settled, and which that is.
    #[must_use]
    pub fn ask_at(&self) -> Option<(Instant, Seq)> {
        let (seq, left_at) = self.flight.first_open()?;
        left_at.map(|left_at| (left_at + self.config.ack_timeout, seq))
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let written =
            self.flight.written.iter().filter(|written| !written.is_told).map(|written| &written.message.entry);
        self.queued.iter().map(|queued| &queued.entry).chain(written)
    }

    /// Ends or withdraws what the peer would refuse for its size.
    fn refuse_above(&mut self, max_payload: u64, now: Instant) {
        let mut index = 0;
        while let Some(queued) = self.queued.get(index) {
            if queued.len() > max_payload {
                let queued = self.queued.remove(index).expect("it was just looked at");
                self.tell_not_delivered(&queued, NotDelivered::TooLarge);
            } else {
                index += 1;
            }
        }
        for index in 0..self.flight.written.len() {
            if self.flight.written[index].message.len() > max_payload {
                self.withdraw(index, NotDelivered::TooLarge, now);
            }
        }
    }

    /// An attempt of a written message was lost. Too many, and it is withdrawn.
    fn burn(&mut self, seq: Seq, now: Instant) {
        let Ok(index) = self.flight.written.binary_search_by_key(&seq, |written| written.seq) else { return };
        self.flight.written[index].message.burned += 1;
        if self.flight.written[index].message.burned >= self.config.attempts {
            self.withdraw(index, NotDelivered::Attempts, now);
        }
    }

    /// Asks the peer not to hand a written message over. The first reason stays.
    fn withdraw(&mut self, index: usize, why: NotDelivered, now: Instant) {
        let written = &mut self.flight.written[index];
        if written.void.is_some() {
            return;
        }
        let due = now + self.config.void_timeout;
        written.void = Some(Withdrawn { why, due });
        self.due.arm_no_later_than(due);
        if self.window.is_some() {
            self.flight.voids.push_back(written.seq);
        }
    }

    /// A message that was written comes to its end.
    fn end(&mut self, written: Written, outcome: Outcome) {
        let (id, outcome) = (written.message.entry.id, written.message.honest(outcome));
        if let Some(share) = self.take_out(written) {
            self.notices.push_back((Notice::ended(id, outcome), Some(share)));
        }
    }

    /// A message stands among what is written no more. Returns the share that it holds until its outcome is polled, where that
    /// is still to be told.
    fn take_out(&mut self, written: Written) -> Option<(Lane, u64)> {
        self.flight.put_off -= usize::from(written.deferred > 0);
        let len = written.message.len();
        let lane = written.message.entry.lane;
        if let Some(window) = &self.window {
            self.in_window.remove(window, &lane, len);
        }
        if written.is_told {
            self.usage.remove(&self.config.quota, &lane, len);
            return None;
        }
        Some((lane, len))
    }

    fn tell_not_delivered(&mut self, queued: &Queued, reason: NotDelivered) {
        let (id, outcome) = (queued.entry.id, queued.honest(Outcome::NotDelivered { reason }));
        let share = (queued.entry.lane.clone(), queued.len());
        self.notices.push_back((Notice::ended(id, outcome), Some(share)));
    }

    /// Starts the numbers over. Nothing is written.
    fn forget_epoch(&mut self) {
        debug_assert!(self.flight.written.is_empty(), "what was written was ended or put back");
        self.window = None;
        self.in_window = Shares::default();
        self.flight = Flight::default();
    }
}
