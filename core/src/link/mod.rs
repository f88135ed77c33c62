//! The link: what two sides owe each other in one epoch, whatever transport carries it.
//!
//! It composes the sending side ([`Outbox`]), the receiving side ([`Inbox`]), what is worth nothing when late
//! ([`Ephemerals`]) and the decision when a report is due. It knows frames but no transport, and nothing of who is at the
//! other end.

mod ephemeral;
mod inbox;
mod outbox;
mod settlement;
mod window;

use alloc::string::String;

use core::time::Duration;

use crate::deadline::Deadline;
use crate::error::ApiMisuse;
use crate::error::ProtocolError;
use crate::id::Epoch;
use crate::id::MessageId;
use crate::id::Name;
use crate::id::ReportNo;
use crate::id::Seq;
use crate::outcome::NotDelivered;
use crate::outcome::Unknown;
use crate::time::Instant;
use crate::wire;
use crate::wire::Ack;
use crate::wire::Frame;
use crate::wire::Limits;
use crate::wire::Payload;
use crate::wire::Receipt;
use crate::wire::Report;
use crate::wire::UncheckedPayload;

pub use self::ephemeral::Ephemerals;
pub use self::inbox::Held;
pub use self::inbox::Inbox;
pub use self::outbox::Continuity;
pub use self::outbox::Entry;
pub use self::outbox::Notice;
pub use self::outbox::Outbox;
pub use self::settlement::Settlement;
pub use self::window::Quota;
pub use self::window::Usage;

/// How much a link holds and takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// What the application may have sent and the peer not settled. Default 200 messages and 2 MiB.
    pub outbox: Quota,
    /// What the peer may have written and this side not settled. Default 256 messages and 2 MiB.
    pub window: Quota,
    /// The largest payload of one message, both ways, in bytes. Default 4 MiB: a document or a picture passes, a film does not.
    pub max_payload: u64,
    /// How long a report may wait for company. Default 20 ms. It waits only while messages wait for the application; once all
    /// are taken the report goes at once.
    pub ack_delay: Duration,
    /// The most keys of ephemeral messages that wait in one direction. Default 64.
    pub ephemerals: usize,
    /// The most bytes of ephemeral messages that wait in one direction. Default 256 KiB.
    pub ephemeral_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            outbox: Quota { count: 200, bytes: 2 * 1024 * 1024 },
            window: Quota { count: 256, bytes: 2 * 1024 * 1024 },
            max_payload: 4 * 1024 * 1024,
            ack_delay: Duration::from_millis(20),
            ephemerals: 64,
            ephemeral_bytes: 256 * 1024,
        }
    }
}

impl Config {
    /// The window as it is announced.
    fn quota(&self) -> Quota {
        let Limits { window, window_bytes, .. } = self.limits();
        Quota { count: window, bytes: window_bytes }
    }

    /// What goes into hello and welcome: the settings, brought into the range that the wire has.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            window: self.window.count.clamp(1, wire::MAX_WINDOW),
            window_bytes: self.window.bytes.clamp(1, Seq::MAX.get()),
            max_payload: self.max_payload.clamp(1, Seq::MAX.get()),
        }
    }
}

/// What an application sends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outgoing {
    /// The application's own name for it; where there is none the machine mints one.
    pub id: Option<MessageId>,
    /// What it carries.
    pub payload: Payload,
}

impl From<Payload> for Outgoing {
    fn from(payload: Payload) -> Self {
        Self { id: None, payload }
    }
}

/// What an application is handed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// A reliable message. Taking it accepts it.
    Message {
        /// Its name, where the sender chose one.
        id: Option<MessageId>,
        /// What it carries. It has not been checked.
        payload: UncheckedPayload,
    },
    /// An ephemeral message: the newest of its key.
    Ephemeral {
        /// What it is about.
        key: Name,
        /// What it carries. It has not been checked.
        payload: UncheckedPayload,
    },
}

impl Delivery {
    /// What it carries.
    #[must_use]
    pub const fn payload(&self) -> &UncheckedPayload {
        match self {
            Self::Message { payload, .. } | Self::Ephemeral { payload, .. } => payload,
        }
    }
}

/// What a link has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Reliable messages written, again or for the first time.
    pub written: u64,
    /// Those of them that had been written before.
    pub rewritten: u64,
    /// Reliable messages that came for the first time.
    pub received: u64,
    /// Reliable messages that came again and were dropped.
    pub duplicates: u64,
    /// Reliable messages handed over.
    pub handed_over: u64,
    /// Ephemeral messages that were replaced or dropped unread, either way.
    pub ephemerals_dropped: u64,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    config: Config,
    outbox: Outbox,
    inbox: Inbox,
    /// The largest payload that the peer takes, where that is known.
    peer_max_payload: Option<u64>,
    leaving: Ephemerals<Payload>,
    arrived: Ephemerals<UncheckedPayload>,
    /// Whether the last delivery was ephemeral; then a reliable one goes first.
    last_was_ephemeral: bool,
    /// What the last report on this transport said, and how much of the peer's report it had taken in.
    reported: (Seq, Seq, ReportNo),
    /// When a report goes even without company. Armed while something is unreported.
    report_due: Deadline,
    counters: Counters,
}

impl Link {
    /// A link without an epoch: nothing is written yet, nothing has come.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            outbox: Outbox::new(config.outbox),
            inbox: Inbox::new(config.quota(), config.limits().max_payload),
            peer_max_payload: None,
            leaving: Ephemerals::new(config.ephemerals, config.ephemeral_bytes),
            arrived: Ephemerals::new(config.ephemerals, config.ephemeral_bytes),
            last_was_ephemeral: false,
            reported: (Seq::ZERO, Seq::ZERO, ReportNo::ZERO),
            report_due: Deadline::UNARMED,
            counters: Counters::default(),
            config,
        }
    }

    /// Queues a reliable message.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::TooLarge`], [`ApiMisuse::QueueFull`], [`ApiMisuse::IdInUse`].
    pub fn send(&mut self, entry: Entry) -> Result<(), ApiMisuse> {
        self.check_size(&entry.payload)?;
        self.outbox.send(entry)
    }

    /// Puts an ephemeral message up for the next write.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::TooLarge`].
    pub fn send_ephemeral(&mut self, key: Name, payload: Payload) -> Result<(), ApiMisuse> {
        self.check_size(&payload)?;
        self.counters.ephemerals_dropped += self.leaving.put(key, payload.len(), payload);
        Ok(())
    }

    /// Hands the next message over to the application; a reliable one is accepted by it.
    pub fn take(&mut self, now: Instant) -> Option<Delivery> {
        if !(self.last_was_ephemeral && self.inbox.has_message()) {
            if let Some((key, payload)) = self.arrived.take() {
                self.last_was_ephemeral = true;
                return Some(Delivery::Ephemeral { key, payload });
            }
        }
        self.last_was_ephemeral = false;
        let Held { seq: _, id, payload } = self.inbox.take()?;
        self.counters.handed_over += 1;
        self.owe_report(now);
        Some(Delivery::Message { id, payload })
    }

    /// Takes a reliable message off the wire.
    ///
    /// # Errors
    ///
    /// As [`Inbox::on_message`].
    pub fn on_message(&mut self, message: &wire::Message<'_>, now: Instant) -> Result<(), ProtocolError> {
        if self.inbox.on_message(message)? {
            self.counters.received += 1;
            self.owe_report(now);
        } else {
            self.counters.duplicates += 1;
        }
        Ok(())
    }

    /// Takes an ephemeral message off the wire.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::TooLarge`].
    pub fn on_ephemeral(&mut self, key: Name, payload: &str) -> Result<(), ProtocolError> {
        let (len, limit) = (payload.len() as u64, self.config.max_payload);
        if len > limit {
            return Err(ProtocolError::TooLarge { len, limit });
        }
        let payload = UncheckedPayload::new(payload);
        self.counters.ephemerals_dropped += self.arrived.put(key, payload.as_str().len(), payload);
        Ok(())
    }

    /// Takes in where the peer stands as a receiver.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::BeyondSent`].
    pub fn on_report(&mut self, report: &Report, now: Instant) -> Result<(), ProtocolError> {
        self.outbox.on_report(report)?;
        if self.outbox.seen() != self.reported.2 {
            self.report_due.arm_no_later_than(now);
        }
        Ok(())
    }

    /// Takes in how much of this side's report the peer has taken in.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::BeyondSent`].
    pub const fn on_seen(&self, seen: ReportNo) -> Result<(), ProtocolError> {
        if seen.get() > self.inbox.settlement().no().get() {
            return Err(ProtocolError::BeyondSent { key: "seen" });
        }
        Ok(())
    }

    /// A transport is attached: `limits` is what the peer takes, and its report, if the epoch goes on, was taken in before.
    pub fn on_attached(&mut self, limits: &Limits, now: Instant) {
        self.peer_max_payload = Some(limits.max_payload);
        self.outbox.refuse_above(limits.max_payload);
        self.outbox.on_attached(Quota { count: limits.window, bytes: limits.window_bytes });
        // What happened since the handshake carried this side's report is owed.
        if self.has_unreported() {
            self.report_due.arm(now);
        }
    }

    /// The transport is gone. What was ephemeral went with it.
    pub fn on_detached(&mut self) {
        self.counters.ephemerals_dropped += self.leaving.clear();
        self.report_due.disarm();
    }

    /// Ends the epoch. What was written is resolved by the receipt or is unknown; what came and was not taken is dropped.
    pub fn end_epoch(&mut self, receipt: Option<&Receipt>, without: Unknown) {
        self.outbox.end_epoch(receipt, without);
        self.seal();
    }

    /// Ends every message that was sent: the connection itself ends. What came can still be taken until it is sealed.
    pub fn end_sending(&mut self, receipt: Option<&Receipt>, written: Unknown, queued: NotDelivered) {
        self.outbox.end_all(receipt, written, queued);
    }

    /// Ends every message that was sent, for this side stops trying. The epoch may go on.
    pub fn give_up(&mut self, written: Unknown, queued: NotDelivered) {
        self.outbox.give_up(written, queued);
    }

    /// Drops what came and was not taken; it never will be.
    pub fn seal(&mut self) {
        self.inbox.reset();
        self.counters.ephemerals_dropped += self.arrived.clear();
        self.set_reported();
    }

    /// Starts the epoch over that the peer never joined: what was written becomes never written.
    pub fn unwrite(&mut self) {
        self.outbox.unwrite();
        self.seal();
    }

    /// Writes frames behind what stands in `out` until it holds `up_to` bytes or there is no more to write. Returns whether
    /// it wrote any. With anything else to write, or once it is due, a report goes first.
    pub fn write(&mut self, out: &mut String, up_to: usize, now: Instant) -> bool {
        let start = out.len();
        let company = start > 0 || self.outbox.can_write() || !self.leaving.is_empty();
        if self.has_unreported() && (company || self.report_due.is_due(now)) {
            separate(out);
            Frame::Ack(Ack { report: self.report(), seen: self.outbox.seen() }).encode(out);
            self.set_reported();
        }
        while out.len() < up_to {
            let Some((key, payload)) = self.leaving.take() else { break };
            separate(out);
            wire::encode_ephemeral(key.as_str(), &payload, out);
        }
        while out.len() < up_to {
            let before = out.len();
            let fresh = self.outbox.sent();
            separate(out);
            if !self.outbox.write_next(out) {
                out.truncate(before);
                break;
            }
            self.counters.written += 1;
            if fresh == self.outbox.sent() {
                self.counters.rewritten += 1;
            }
        }
        out.len() > start
    }

    /// Whether [`Link::write`] would write something.
    #[must_use]
    pub fn can_write(&self, now: Instant) -> bool {
        self.outbox.can_write() || !self.leaving.is_empty() || (self.has_unreported() && self.report_due.is_due(now))
    }

    /// When a report is due.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.report_due.poll_timeout()
    }

    /// The next thing to tell about a message that was sent.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.outbox.poll_notice()
    }

    /// Where this side stands as a receiver, as a frame carries it.
    #[must_use]
    pub fn report(&self) -> Report {
        self.inbox.settlement().report()
    }

    /// A frame carried this side's whole standing: its report, and what it has taken in of the peer's.
    pub fn set_reported(&mut self) {
        self.reported = self.standing();
        self.report_due.disarm();
    }

    /// A frame carried this side's report and nothing of the peer's.
    pub fn set_report_written(&mut self) {
        let (received, settled, _) = self.standing();
        (self.reported.0, self.reported.1) = (received, settled);
        if !self.has_unreported() {
            self.report_due.disarm();
        }
    }

    /// What a server keeps of this epoch once it has ended.
    #[must_use]
    pub fn receipt(&self, epoch: Epoch, is_final: bool) -> Receipt {
        let settlement = self.inbox.settlement();
        let Report { received, settled, no: _, except } = settlement.report();
        Receipt { epoch, received, settled, except, seen: settlement.seen(), handed: alloc::vec::Vec::new(), is_final }
    }

    /// Whether a message waits for the application.
    #[must_use]
    pub fn has_delivery(&self) -> bool {
        self.inbox.has_message() || !self.arrived.is_empty()
    }

    /// The sending side.
    #[must_use]
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The receiving side.
    #[must_use]
    pub const fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// What the link was made with.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What it has counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    fn check_size(&self, payload: &Payload) -> Result<(), ApiMisuse> {
        let len = payload.len() as u64;
        let limit = self.peer_max_payload.map_or(self.config.max_payload, |peer| peer.min(self.config.max_payload));
        if len > limit { Err(ApiMisuse::TooLarge { len, limit }) } else { Ok(()) }
    }

    fn standing(&self) -> (Seq, Seq, ReportNo) {
        let settlement = self.inbox.settlement();
        (settlement.received(), settlement.settled(), self.outbox.seen())
    }

    fn has_unreported(&self) -> bool {
        self.reported != self.standing()
    }

    /// Something can be reported. It goes at once when the application has taken all there is (no company will come before
    /// it acts), or when a quarter of the window has been settled (the peer may be waiting for room); else it waits a little.
    fn owe_report(&mut self, now: Instant) {
        let settled = self.inbox.settlement().settled().get() - self.reported.1.get();
        if !self.inbox.has_message() || settled >= u64::from(self.config.window.count / 4).max(1) {
            self.report_due.arm(now);
        } else {
            self.report_due.arm_no_later_than(now + self.config.ack_delay);
        }
    }
}

/// Frames that share a WebSocket message are separated by a line break.
fn separate(out: &mut String) {
    if !out.is_empty() {
        out.push('\n');
    }
}
