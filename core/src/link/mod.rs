//! The link: what two sides owe each other in one epoch, whatever transport carries it.
//!
//! It composes the sending side ([`Outbox`]), the receiving side ([`Inbox`]), what is worth nothing when late
//! ([`Ephemerals`]) and the decision when a report is due. It knows frames but no transport, and nothing of who is at the
//! other end.

mod config;
mod ephemeral;
mod handover;
mod inbox;
mod known;
mod lanes;
mod message;
mod outbox;
mod settlement;
mod window;

use alloc::string::String;
use alloc::vec::Vec;

use core::hash::Hash;
use core::hash::Hasher;
use core::time::Duration;

use crate::deadline::Deadline;
use crate::deadline::soonest;
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

pub use self::config::Config;
pub use self::ephemeral::Ephemerals;
pub use self::handover::Acceptance;
pub use self::handover::Decision;
pub use self::handover::Handed;
pub use self::handover::Handle;
pub use self::handover::Lanes;
pub use self::inbox::Config as InboxConfig;
pub use self::inbox::Inbox;
pub use self::known::Known;
pub use self::known::Verdict;
pub use self::lanes::Shares;
pub use self::message::Delivery;
pub use self::message::Outgoing;
pub use self::outbox::Config as OutboxConfig;
pub use self::outbox::Continuity;
pub use self::outbox::Entry;
pub use self::outbox::Flight;
pub use self::outbox::Notice;
pub use self::outbox::Outbox;
pub use self::outbox::Told;
pub use self::settlement::Settlement;
pub use self::window::Quota;
pub use self::window::Usage;

/// What a link has counted since it was made. It decides nothing, so it takes no part in a hash; equality compares it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reliable messages written, again or for the first time.
    pub written: u64,
    /// Those of them that had been written before.
    pub rewritten: u64,
    /// Reliable messages that were proven lost on a live transport.
    pub lost: u64,
    /// Reliable messages that ended in another way than delivered.
    pub failed: u64,
    /// Reliable messages that came for the first time.
    pub received: u64,
    /// Reliable messages that came again and were dropped.
    pub duplicates: u64,
    /// Reliable messages handed over.
    pub handed_over: u64,
    /// Ephemeral messages that were replaced or dropped unread, either way.
    pub ephemerals_dropped: u64,
}

impl Hash for Counters {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    config: Config,
    outbox: Outbox,
    inbox: Inbox,
    known: Known,
    /// The largest payload that the peer takes, where that is known.
    peer_max_payload: Option<u64>,
    leaving: Ephemerals<Payload>,
    arrived: Ephemerals<UncheckedPayload>,
    /// Whether the last delivery was ephemeral; then a reliable one goes first.
    last_was_ephemeral: bool,
    /// What the last report on this transport said, and how much of the peer's report it had taken in.
    reported: Standing,
    /// When a report goes even without company. Armed while something is unreported.
    report_due: Deadline,
    counters: Counters,
}

/// Where this side stands, as far as frames tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Standing {
    received: Seq,
    settled: Seq,
    no: ReportNo,
    /// How much of the peer's report is taken in.
    seen: ReportNo,
}

impl Link {
    /// A link without an epoch: nothing is written yet, nothing has come.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            outbox: Outbox::new(config.outbox()),
            inbox: Inbox::new(config.inbox()),
            known: Known::default(),
            peer_max_payload: None,
            leaving: Ephemerals::new(config.ephemerals, config.ephemeral_bytes),
            arrived: Ephemerals::new(config.ephemerals, config.ephemeral_bytes),
            last_was_ephemeral: false,
            reported: Standing::default(),
            report_due: Deadline::UNARMED,
            counters: Counters::default(),
            config,
        }
    }

    /// Numbers the lives of its inbox from here on: see [`Inbox::begin_life`].
    pub const fn begin_life(&mut self, life: u64) {
        self.inbox.begin_life(life);
    }

    /// Queues a reliable message under a name.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::TooLarge`], [`ApiMisuse::QueueFull`], [`ApiMisuse::IdInUse`].
    pub fn send(&mut self, id: MessageId, message: Outgoing, now: Instant) -> Result<(), ApiMisuse> {
        let Outgoing { id: own, lane, within, is_idempotent, is_fail_fast, hands, payload } = message;
        self.check_size(&payload)?;
        let age = (now + self.config.age, NotDelivered::TooOld);
        let expires = match within {
            Some(within) if within <= self.config.age => (now + within, NotDelivered::Deadline),
            Some(_) | None => age,
        };
        // An idempotent message is recognised by its name.
        let names_id = own.is_some() || is_idempotent;
        let hands = hands.clamp(1, wire::MAX_HANDS);
        self.outbox.send(Entry { id, names_id, lane, is_idempotent, is_fail_fast, hands, expires, payload })
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

    /// Withdraws a message that was sent.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::UnknownMessage`].
    pub fn cancel(&mut self, id: &MessageId, now: Instant) -> Result<(), ApiMisuse> {
        self.outbox.cancel(id, now)
    }

    /// Ends what waits and is worth nothing while the peer cannot be reached.
    pub fn fail_fast(&mut self) {
        self.outbox.fail_fast();
    }

    /// Hands the next message of these lanes over to the application.
    pub fn take(&mut self, lanes: Lanes<'_>, now: Instant) -> Option<Delivery> {
        let takes_ephemerals = lanes.holds_ephemerals();
        if takes_ephemerals && !(self.last_was_ephemeral && self.inbox.has_message(lanes)) {
            if let Some((key, payload)) = self.arrived.take() {
                self.last_was_ephemeral = true;
                return Some(Delivery::Ephemeral { key, payload });
            }
        }
        let handed = self.inbox.take(lanes, now, &mut self.known);
        self.owe_report_of(lanes, now);
        self.last_was_ephemeral &= !takes_ephemerals;
        let Some(handed) = handed else {
            if !takes_ephemerals {
                return None;
            }
            let (key, payload) = self.arrived.take()?;
            self.last_was_ephemeral = true;
            return Some(Delivery::Ephemeral { key, payload });
        };
        self.counters.handed_over += 1;
        Some(Delivery::Message(handed))
    }

    /// The application decides about a message in its hands.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::Undecidable`].
    pub fn decide(&mut self, handle: Handle, decision: Decision, now: Instant) -> Result<(), ApiMisuse> {
        self.inbox.decide(handle, decision, now, &mut self.known)?;
        self.owe_report(now);
        Ok(())
    }

    /// The application needs longer to decide: the lease starts over, with this length.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::Undecidable`].
    pub fn extend(&mut self, handle: Handle, lease: Duration, now: Instant) -> Result<(), ApiMisuse> {
        self.inbox.extend(handle, lease, now)
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

    /// The peer withdraws a message.
    ///
    /// # Errors
    ///
    /// As [`Inbox::on_void`].
    pub fn on_void(&mut self, seq: Seq, now: Instant) -> Result<(), ProtocolError> {
        let before = self.standing();
        self.inbox.on_void(seq)?;
        if self.standing() != before {
            self.owe_report(now);
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
        if self.inbox.is_paused() {
            self.counters.ephemerals_dropped += 1;
            return Ok(());
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
        if self.outbox.flight().seen() != self.reported.seen {
            self.report_due.arm_no_later_than(now);
        }
        Ok(())
    }

    /// Takes in how much of this side's report the peer has taken in.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::BeyondSent`].
    pub fn on_seen(&mut self, seen: ReportNo, now: Instant) -> Result<(), ProtocolError> {
        let before = self.inbox.settlement().no();
        self.inbox.on_seen(seen)?;
        if self.inbox.settlement().no() != before {
            self.owe_report(now);
        }
        Ok(())
    }

    /// The peer has answered a question that left after everything up to `asked` had been written; its report is taken in.
    pub fn on_answered(&mut self, asked: Seq, now: Instant) {
        self.counters.lost += self.outbox.on_answered(asked, now) as u64;
    }

    /// A transport is attached: `limits` is what the peer takes, and its report, if the epoch goes on, was taken in before.
    pub fn on_attached(&mut self, limits: &Limits, now: Instant) {
        self.peer_max_payload = Some(limits.max_payload);
        let window = Quota { count: limits.window, bytes: limits.window_bytes };
        self.outbox.on_attached(window, limits.max_payload, now);
        // What happened since the handshake carried this side's report is owed.
        if self.has_unreported() {
            self.report_due.arm(now);
        }
    }

    /// The transport is gone. What was ephemeral went with it.
    pub fn on_detached(&mut self) {
        self.counters.ephemerals_dropped += self.leaving.clear();
        self.report_due.disarm();
        self.outbox.on_detached();
    }

    /// All bytes up to offset `offset` of the transport have left.
    pub fn on_left(&mut self, offset: u64, now: Instant) {
        self.outbox.on_left(offset, now);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.inbox.handle_timeout(now, &mut self.known) {
            self.owe_report(now);
        }
        self.outbox.handle_timeout(now);
    }

    /// When it wants to be woken, whether a transport is attached or not. See [`Link::report_at`] for the rest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        soonest([self.inbox.poll_timeout(), self.outbox.poll_timeout()])
    }

    /// How many bytes it holds of what came and is not final.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.inbox.held_bytes() + self.arrived.bytes()
    }

    /// When a report is due.
    #[must_use]
    pub const fn report_at(&self) -> Option<Instant> {
        self.report_due.poll_timeout()
    }

    /// Ends the epoch. What was written is resolved by the receipt or is unknown, and sent again where it `resends` and may
    /// be; what came and was not taken is dropped.
    pub fn end_epoch(&mut self, receipt: Option<&Receipt>, without: Unknown, resends: bool) {
        self.outbox.end_epoch(receipt, without, resends);
        self.seal();
    }

    /// Ends every message that was sent: the connection itself ends. What came can still be taken until it is sealed, and
    /// nobody hears of what is decided.
    pub fn end_sending(&mut self, receipt: Option<&Receipt>, written: Unknown, queued: NotDelivered) {
        self.inbox.part();
        self.outbox.end_all(receipt, written, queued);
    }

    /// Ends every message that was sent, for this side stops trying. The epoch may go on.
    pub fn give_up(&mut self, written: Unknown, queued: NotDelivered, now: Instant) {
        self.outbox.give_up(written, queued, now);
    }

    /// Drops what came and was not taken; it never will be. No handle is good any more.
    pub fn seal(&mut self) {
        self.inbox.reset(&mut self.known);
        self.counters.ephemerals_dropped += self.arrived.clear();
        self.set_reported();
    }

    /// The application wants nothing more of a connection that has ended: what came before is dropped.
    pub fn discard(&mut self) {
        if self.inbox.usage().count() > 0 || !self.arrived.is_empty() {
            self.seal();
        }
    }

    /// Hands nothing more over. What is in the application's hands can still be decided about.
    pub fn pause(&mut self) {
        self.inbox.pause();
        self.counters.ephemerals_dropped += self.arrived.clear();
    }

    /// Goes on from a stored state. One that is not `current` may lack what was written and handed over after it was taken: its
    /// epoch ends here, and even what it never wrote may have been written since.
    pub fn restore(&mut self, current: bool) {
        self.inbox.restore(&mut self.known);
        if !current {
            self.outbox.doubt();
            self.seal();
        }
    }

    /// Starts the epoch over that the peer never joined: what was written becomes never written.
    pub fn unwrite(&mut self) {
        self.outbox.unwrite();
        self.seal();
    }

    /// Writes frames behind what stands in `out` until it holds `up_to` bytes or there is no more to write. Returns whether
    /// it wrote any. With anything else to write, or once it is due, a report goes first. `base` is the offset in the
    /// transport's bytes at which `out` begins.
    pub fn write(&mut self, out: &mut String, up_to: usize, base: u64, now: Instant) -> bool {
        let start = out.len();
        let company = start > 0 || self.outbox.can_write() || !self.leaving.is_empty();
        if self.has_unreported() && (company || self.report_due.is_due(now)) {
            wire::separate(out);
            Frame::Ack(Ack { report: self.report(), seen: self.outbox.flight().seen() }).encode(out);
            self.set_reported();
        }
        while out.len() < up_to {
            let Some((key, payload)) = self.leaving.take() else { break };
            wire::separate(out);
            wire::encode_ephemeral(key.as_str(), &payload, out);
        }
        let (written, again) = self.outbox.write(out, up_to, base);
        self.counters.written += written;
        self.counters.rewritten += again;
        out.len() > start
    }

    /// The next thing to tell about a message that was sent.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        let notice = self.outbox.poll_notice()?;
        self.counters.failed += u64::from(matches!(notice, Notice::Failed { .. }));
        Some(notice)
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
        self.reported = Standing { seen: self.reported.seen, ..self.standing() };
        if !self.has_unreported() {
            self.report_due.disarm();
        }
    }

    /// What a server keeps of this epoch once it has ended.
    #[must_use]
    pub fn receipt(&self, epoch: Epoch, is_final: bool) -> Receipt {
        let settlement = self.inbox.settlement();
        let Report { received, settled, no: _, except } = settlement.report();
        let handed: Vec<Seq> = self.inbox.in_application();
        Receipt { epoch, received, settled, except, seen: settlement.seen(), handed, is_final }
    }

    /// Whether a message of these lanes waits for the application.
    #[must_use]
    pub fn has_delivery(&self, lanes: Lanes<'_>) -> bool {
        self.inbox.has_message(lanes) || (lanes.holds_ephemerals() && !self.arrived.is_empty())
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

    /// What is remembered of messages that travelled under a name.
    #[must_use]
    pub const fn known(&self) -> &Known {
        &self.known
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

    fn standing(&self) -> Standing {
        let settlement = self.inbox.settlement();
        let (received, settled, no) = (settlement.received(), settlement.settled(), settlement.no());
        Standing { received, settled, no, seen: self.outbox.flight().seen() }
    }

    fn has_unreported(&self) -> bool {
        self.reported != self.standing()
    }

    /// Something may be to report.
    fn owe_report(&mut self, now: Instant) {
        self.owe_report_of(Lanes::All, now);
    }

    /// Something may be to report. It goes at once when the application has taken all there is in the lanes that it looks at (no
    /// company will come before it acts), or when a quarter of the window has been settled (the peer may be waiting for room);
    /// else it waits a little.
    fn owe_report_of(&mut self, lanes: Lanes<'_>, now: Instant) {
        if !self.has_unreported() {
            return;
        }
        let settled = self.inbox.settlement().settled().get().saturating_sub(self.reported.settled.get());
        if !self.inbox.has_message(lanes) || settled >= u64::from(self.config.window.count / 4).max(1) {
            self.report_due.arm(now);
        } else {
            self.report_due.arm_no_later_than(now + self.config.ack_delay);
        }
    }
}
