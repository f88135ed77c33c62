//! The sending side of a link: what the application has sent and the peer has not settled.
//!
//! A message is *queued* until its first write gives it a number, then *written* until the peer reports a final disposition.
//! It leaves with exactly one [`Outcome`]. Its place is freed when the outcome is polled, so the queue of outcomes is
//! bounded by the same quota.

use alloc::collections::VecDeque;
use alloc::string::String;

use core::time::Duration;

use crate::error::ApiMisuse;
use crate::error::ProtocolError;
use crate::id::MessageId;
use crate::id::Name;
use crate::id::ReportNo;
use crate::id::Seq;
use crate::link::window::Quota;
use crate::link::window::Usage;
use crate::outcome::Failure;
use crate::outcome::NotDelivered;
use crate::outcome::Outcome;
use crate::outcome::SendFailed;
use crate::outcome::Unknown;
use crate::time::Instant;
use crate::wire;
use crate::wire::Disposition;
use crate::wire::Exception;
use crate::wire::Payload;
use crate::wire::Receipt;
use crate::wire::Report;

/// A message as the application sent it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its name.
    pub id: MessageId,
    /// Whether the name travels with it: only where the application chose it.
    pub names_id: bool,
    /// What it carries.
    pub payload: Payload,
}

impl Entry {
    fn len(&self) -> u64 {
        self.payload.len() as u64
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Written {
    seq: Seq,
    /// How often the peer is known to have deferred it.
    deferred: u32,
    entry: Entry,
}

/// What the outbox tells about one message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// It has its outcome and is gone.
    Ended {
        /// Which message.
        id: MessageId,
        /// What became of it.
        outcome: Outcome,
        /// The length of its payload.
        len: u64,
    },
    /// The peer's application asked for it to be handed over again later.
    Deferred {
        /// Which message.
        id: MessageId,
        /// How often, from 1.
        times: u32,
        /// How long the peer waits.
        retry_after: Duration,
        /// The peer's code for why.
        code: Name,
    },
}

impl Notice {
    /// As an application is told at `now`: delivered, or failed for now or for good.
    ///
    /// # Errors
    ///
    /// [`SendFailed`] is what is told, not an error of this call.
    pub fn into_result(self, now: Instant) -> Result<MessageId, SendFailed> {
        match self {
            Self::Ended { id, outcome: Outcome::Delivered, len: _ } => Ok(id),
            Self::Ended { id, outcome, len: _ } => Err(SendFailed { id, failure: Failure::ForGood(outcome) }),
            Self::Deferred { id, times, retry_after, code } => {
                let retry_at = now + retry_after;
                Err(SendFailed { id, failure: Failure::ForNow { attempt: times, retry_at, reason: code } })
            }
        }
    }
}

/// The sending side of one connection. What is queued outlives an epoch; what is written belongs to one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outbox {
    quota: Quota,
    /// Queued, written, and ended but not polled.
    usage: Usage,
    /// Never written, in the order of sending.
    queued: VecDeque<Entry>,
    /// Written and not final, by rising number; numbers may be missing between.
    written: VecDeque<Written>,
    /// What the peer takes, where that is known.
    window: Option<Quota>,
    /// What stands in `written`, counted under `window`.
    in_window: Usage,
    /// The highest number written in this epoch.
    sent: Seq,
    /// The highest number that needs no write on this transport. Never above `sent`.
    cursor: Seq,
    /// The peer's watermarks, merged.
    received: Seq,
    settled: Seq,
    /// The newest change to the peer's report that has been taken in.
    seen: ReportNo,
    notices: VecDeque<Notice>,
}

impl Outbox {
    /// An outbox that holds as much as `quota` says.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self {
            quota,
            usage: Usage::default(),
            queued: VecDeque::new(),
            written: VecDeque::new(),
            window: None,
            in_window: Usage::default(),
            sent: Seq::ZERO,
            cursor: Seq::ZERO,
            received: Seq::ZERO,
            settled: Seq::ZERO,
            seen: ReportNo::ZERO,
            notices: VecDeque::new(),
        }
    }

    /// Queues a message.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::QueueFull`], or [`ApiMisuse::IdInUse`] for a name that the application chose and that stands here.
    pub fn send(&mut self, entry: Entry) -> Result<(), ApiMisuse> {
        if !self.has_room(entry.len()) {
            return Err(ApiMisuse::QueueFull);
        }
        if entry.names_id && self.entries().any(|other| other.id == entry.id) {
            return Err(ApiMisuse::IdInUse);
        }
        self.usage.add(&self.quota, entry.len());
        self.queued.push_back(entry);
        Ok(())
    }

    /// Whether a message of `len` bytes would be taken.
    #[must_use]
    pub const fn has_room(&self, len: u64) -> bool {
        self.quota.admits(&self.usage, &self.usage, len)
    }

    /// A transport is attached on which `window` holds. The peer has every number up to what it reported; what is above is
    /// written again.
    pub fn on_attached(&mut self, window: Quota) {
        self.window = Some(window);
        self.in_window = Usage::default();
        for written in &self.written {
            self.in_window.add(&window, written.entry.len());
        }
        self.cursor = self.received;
    }

    /// Ends queued messages that the peer would refuse for their size.
    pub fn refuse_above(&mut self, max_payload: u64) {
        let Self { queued, notices, .. } = self;
        queued.retain(|entry| {
            let fits = entry.len() <= max_payload;
            if !fits {
                notices.push_back(ended(entry, Outcome::NotDelivered { reason: NotDelivered::TooLarge }));
            }
            fits
        });
    }

    /// Writes the next frame that may be written behind what stands in `out`, and says whether there was one.
    pub fn write_next(&mut self, out: &mut String) -> bool {
        if self.cursor < self.sent {
            let next = self.written.partition_point(|written| written.seq <= self.cursor);
            if let Some(Written { seq, entry, .. }) = self.written.get(next) {
                self.cursor = *seq;
                encode(*seq, entry, out);
                return true;
            }
            self.cursor = self.sent;
        }
        let (Some(window), Some(entry)) = (self.window, self.queued.front()) else {
            return false;
        };
        let seq = self.sent.next();
        if seq == self.sent || !window.admits(&self.in_window, &self.in_window, entry.len()) {
            return false;
        }
        let entry = self.queued.pop_front().expect("the front was just looked at");
        encode(seq, &entry, out);
        self.in_window.add(&window, entry.len());
        self.written.push_back(Written { seq, deferred: 0, entry });
        self.sent = seq;
        self.cursor = seq;
        true
    }

    /// Whether [`Outbox::write_next`] has something to write.
    #[must_use]
    pub fn can_write(&self) -> bool {
        if self.cursor < self.sent && self.written.back().is_some_and(|last| last.seq > self.cursor) {
            return true;
        }
        match (self.window, self.queued.front()) {
            (Some(window), Some(entry)) => window.admits(&self.in_window, &self.in_window, entry.len()),
            (None, _) | (_, None) => false,
        }
    }

    /// Takes in what the peer reports. Watermarks only rise: a report older than one taken in before changes nothing.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::BeyondSent`] where it speaks of a message that was never written. Nothing has changed then.
    pub fn on_report(&mut self, report: &Report) -> Result<(), ProtocolError> {
        if report.received > self.sent {
            return Err(ProtocolError::BeyondSent { key: "received" });
        }
        if report.settled > self.sent {
            return Err(ProtocolError::BeyondSent { key: "settled" });
        }
        self.received = self.received.max(report.received);
        self.settled = self.settled.max(report.settled);
        self.seen = self.seen.max(report.no);
        self.cursor = self.cursor.max(self.received);
        if report.except.is_empty() {
            while self.written.front().is_some_and(|written| written.seq <= report.settled) {
                let written = self.written.pop_front().expect("the front was just looked at");
                self.end(&written.entry, Outcome::Delivered);
            }
            return Ok(());
        }
        let mut kept = VecDeque::with_capacity(self.written.len());
        while let Some(mut written) = self.written.pop_front() {
            match disposition_of(&report.except, written.seq) {
                None if written.seq <= report.settled => self.end(&written.entry, Outcome::Delivered),
                None | Some(Disposition::Pending) => kept.push_back(written),
                Some(Disposition::Deferred { times, retry_after, code }) => {
                    if *times > written.deferred {
                        written.deferred = *times;
                        self.notices.push_back(Notice::Deferred {
                            id: written.entry.id,
                            times: *times,
                            retry_after: *retry_after,
                            code: code.clone(),
                        });
                    }
                    kept.push_back(written);
                }
                Some(Disposition::Rejected { code, reason }) => {
                    self.end(&written.entry, Outcome::Rejected { code: code.clone(), reason: reason.clone() });
                }
                Some(Disposition::Voided) => {
                    self.end(&written.entry, Outcome::NotDelivered { reason: NotDelivered::Voided });
                }
                Some(Disposition::Abandoned) => {
                    self.end(&written.entry, Outcome::Unknown { reason: Unknown::Abandoned });
                }
            }
        }
        self.written = kept;
        Ok(())
    }

    /// Ends the epoch because the peer's state of it has ended. What was written is resolved by the receipt, or is unknown
    /// for the given reason; what was never written stays queued.
    pub fn end_epoch(&mut self, receipt: Option<&Receipt>, without: Unknown) {
        let seen = self.seen;
        self.end_written(|seq| match receipt {
            Some(receipt) => by_receipt(receipt, seen, seq),
            None => Outcome::Unknown { reason: without },
        });
        self.forget_epoch();
    }

    /// Ends every message, written or not: the connection itself ends.
    pub fn end_all(&mut self, receipt: Option<&Receipt>, written: Unknown, queued: NotDelivered) {
        self.end_epoch(receipt, written);
        while let Some(entry) = self.queued.pop_front() {
            self.notices.push_back(ended(&entry, Outcome::NotDelivered { reason: queued }));
        }
    }

    /// Ends every message, and keeps the numbers of the epoch: nothing of it is written again, but it may go on.
    pub fn give_up(&mut self, written: Unknown, queued: NotDelivered) {
        self.end_written(|_| Outcome::Unknown { reason: written });
        while let Some(entry) = self.queued.pop_front() {
            self.notices.push_back(ended(&entry, Outcome::NotDelivered { reason: queued }));
        }
    }

    /// Puts what was written back to never written, in order: the peer never joined the epoch.
    pub fn unwrite(&mut self) {
        while let Some(written) = self.written.pop_back() {
            self.queued.push_front(written.entry);
        }
        self.forget_epoch();
    }

    /// The next thing to tell. Polling an outcome frees its place.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        let notice = self.notices.pop_front()?;
        if let Notice::Ended { len, .. } = &notice {
            self.usage.remove(&self.quota, *len);
        }
        Some(notice)
    }

    /// Whether every message has its outcome, polled or not.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.written.is_empty()
    }

    /// How many messages were never written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued.len()
    }

    /// How many messages are written and not final.
    #[must_use]
    pub fn written(&self) -> usize {
        self.written.len()
    }

    /// What the quota counts.
    #[must_use]
    pub const fn usage(&self) -> &Usage {
        &self.usage
    }

    /// The highest number written in this epoch.
    #[must_use]
    pub const fn sent(&self) -> Seq {
        self.sent
    }

    /// The lowest number that is written and not final, or the next one to be written.
    #[must_use]
    pub fn base(&self) -> Seq {
        self.written.front().map_or_else(|| self.sent.next(), |written| written.seq)
    }

    /// The peer's watermarks, received and settled.
    #[must_use]
    pub const fn taken(&self) -> (Seq, Seq) {
        (self.received, self.settled)
    }

    /// The newest change to the peer's report that has been taken in.
    #[must_use]
    pub const fn seen(&self) -> ReportNo {
        self.seen
    }

    /// Whether a report is one that the peer of this very state can make: no watermark below what it has said before, none
    /// beyond what was sent.
    #[must_use]
    pub fn is_continued_by(&self, report: &Report) -> Continuity {
        if report.received > self.sent || report.settled > self.sent {
            Continuity::PeerIsAhead
        } else if report.received < self.received || report.settled < self.settled || report.no < self.seen {
            Continuity::PeerIsBehind
        } else {
            Continuity::Continued
        }
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.queued.iter().chain(self.written.iter().map(|written| &written.entry))
    }

    fn end(&mut self, entry: &Entry, outcome: Outcome) {
        if let Some(window) = &self.window {
            self.in_window.remove(window, entry.len());
        }
        self.notices.push_back(ended(entry, outcome));
    }

    fn end_written(&mut self, outcome: impl Fn(Seq) -> Outcome) {
        while let Some(written) = self.written.pop_front() {
            let outcome = outcome(written.seq);
            self.end(&written.entry, outcome);
        }
    }

    /// Starts the numbers over. Nothing is written.
    fn forget_epoch(&mut self) {
        debug_assert!(self.written.is_empty(), "what was written was ended or put back");
        self.window = None;
        self.in_window = Usage::default();
        self.sent = Seq::ZERO;
        self.cursor = Seq::ZERO;
        self.received = Seq::ZERO;
        self.settled = Seq::ZERO;
        self.seen = ReportNo::ZERO;
    }
}

/// How a peer's report relates to what this side knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Continuity {
    /// The report continues what was known.
    Continued,
    /// The peer runs from an older state than one that was known before.
    PeerIsBehind,
    /// The peer knows more than this side ever did: this side runs from an older state.
    PeerIsAhead,
}

fn ended(entry: &Entry, outcome: Outcome) -> Notice {
    Notice::Ended { id: entry.id, outcome, len: entry.len() }
}

fn encode(seq: Seq, entry: &Entry, out: &mut String) {
    wire::encode_message(seq, entry.names_id.then_some(entry.id), &entry.payload, out);
}

fn disposition_of(except: &[Exception], seq: Seq) -> Option<&Disposition> {
    let index = except.binary_search_by_key(&seq, |exception| exception.seq).ok()?;
    Some(&except[index].disposition)
}

/// What a receipt proves of one written message. `seen` is the newest change to the peer's report that this side took in.
fn by_receipt(receipt: &Receipt, seen: ReportNo, seq: Seq) -> Outcome {
    let unknown = |reason| Outcome::Unknown { reason };
    let in_hands = receipt.handed.binary_search(&seq).is_ok();
    match disposition_of(&receipt.except, seq) {
        Some(Disposition::Rejected { code, reason }) => {
            Outcome::Rejected { code: code.clone(), reason: reason.clone() }
        }
        Some(Disposition::Voided) => Outcome::NotDelivered { reason: NotDelivered::Voided },
        Some(Disposition::Abandoned) => unknown(Unknown::Abandoned),
        Some(Disposition::Pending | Disposition::Deferred { .. }) | None if in_hands => unknown(Unknown::InHands),
        // Final entries that the sender has seen are dropped from the list, so a sender that has not seen them cannot tell
        // an accepted message from one of those.
        None if seq <= receipt.settled && seen < receipt.seen => unknown(Unknown::ReceiptUnclear),
        None if seq <= receipt.settled => Outcome::Delivered,
        Some(Disposition::Pending | Disposition::Deferred { .. }) | None if !receipt.is_final => {
            unknown(Unknown::ReceiptNotFinal)
        }
        Some(Disposition::Deferred { code, .. }) => Outcome::Rejected { code: code.clone(), reason: String::new() },
        Some(Disposition::Pending) | None => Outcome::NotDelivered { reason: NotDelivered::Forgotten },
    }
}
