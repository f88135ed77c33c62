//! One connection as one side sees it: the link, the epoch that its numbers belong to, and the transport that carries it at
//! the moment, with its heartbeat and its flow.
//!
//! Client and server both build on this. It reads and writes the frames of the link (`msg`, `ack`, `ping`, `pong`) and hands
//! every other frame to its parent.

use alloc::boxed::Box;
use alloc::string::String;

use core::hash::Hash;
use core::hash::Hasher;
use core::time::Duration;

use crate::deadline::soonest;
use crate::error::ApiMisuse;
use crate::error::DecodeError;
use crate::error::ProtocolError;
use crate::flow;
use crate::flow::Flow;
use crate::heartbeat;
use crate::heartbeat::Action;
use crate::heartbeat::Heartbeat;
use crate::heartbeat::Rtt;
use crate::id::Epoch;
use crate::id::MessageId;
use crate::id::MessageIds;
use crate::id::Name;
use crate::id::PingNo;
use crate::id::Seq;
use crate::id::TransportId;
use crate::link;
use crate::link::Delivery;
use crate::link::Lanes;
use crate::link::Link;
use crate::link::Outgoing;
use crate::time::Instant;
use crate::wire;
use crate::wire::Bye;
use crate::wire::CloseCode;
use crate::wire::Frame;
use crate::wire::Limits;
use crate::wire::Payload;
use crate::wire::Ping;
use crate::wire::Pong;

/// How a connection behaves, whichever side it is on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// What it holds and takes.
    pub link: link::Config,
    /// When it asks for life and gives a transport up.
    pub heartbeat: heartbeat::Config,
    /// How much it hands to the adapter at once.
    pub flow: flow::Config,
    /// How many malformed frames it bears.
    pub malformed: MalformedBudget,
}

/// How much a stored state is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Currency {
    /// It has every frame that was written and every hand-over that was made.
    Current,
    /// It may lack some: it was taken earlier, or it is not known when.
    Stale,
}

/// How many malformed frames are skipped before the transport is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MalformedBudget {
    /// The most frames in any stretch of [`MalformedBudget::per`] that starts with one. Default 8.
    pub count: u32,
    /// The length of the stretch. Default one minute.
    pub per: Duration,
}

impl Default for MalformedBudget {
    fn default() -> Self {
        Self { count: 8, per: Duration::from_secs(60) }
    }
}

/// What a connection has counted, and where it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Stats {
    /// What the link has counted.
    pub link: link::Counters,
    /// Messages never written that wait.
    pub queued: usize,
    /// Messages written and not final.
    pub written: usize,
    /// Those of them that the peer has had for long, undecided.
    pub delayed: usize,
    /// Bytes of payload in the outbox, a large message not counted.
    pub outbox_bytes: u64,
    /// Messages received and not handed over.
    pub undelivered: u32,
    /// The smoothed round trip, once measured.
    pub rtt: Option<Duration>,
    /// How often a transport was attached.
    pub attached: u64,
    /// How often the epoch went on over a new transport.
    pub resumed: u64,
    /// Malformed frames skipped.
    pub malformed: u64,
    /// Pings written.
    pub pings: u64,
    /// Those of them that asked about an unsettled message.
    pub probes: u64,
    /// How often much more time had passed than was asked for.
    pub gaps: u64,
}

/// What a handshake settled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attach {
    /// The transport that is attached.
    pub transport: TransportId,
    /// The epoch from here on.
    pub epoch: Epoch,
    /// Whether it is the one from before.
    pub resumed: bool,
    /// What the peer takes.
    pub limits: Limits,
    /// The bytes that were handed to the adapter for this transport before.
    pub produced: usize,
    /// Whether to measure the round trip at once.
    pub measure: bool,
}

/// What came on a transport: one WebSocket message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Incoming<'a> {
    /// A text message: one frame or several.
    Text(&'a str),
    /// A binary message, which has no meaning here.
    Binary,
}

/// What a text from the transport held next.
#[derive(Debug)]
pub enum Read<'a> {
    /// A frame of the link, taken in.
    Taken,
    /// A frame that is the parent's.
    Other(Frame<'a>),
    /// A malformed frame, skipped.
    Skipped(DecodeError),
    /// The peer broke the protocol; the transport is to be closed.
    Broken(ProtocolError),
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    config: Config,
    ids: MessageIds,
    /// The epoch that the link's numbers belong to; none before the first welcome.
    epoch: Option<Epoch>,
    link: Link,
    carrier: Option<Carrier>,
    rtt: Rtt,
    counted: Counted,
}

/// What it has counted. It decides nothing, so it takes no part in a hash: what differs in it alone behaves alike, and a search
/// through states may take it for the same. Equality compares it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    attached: u64,
    resumed: u64,
    malformed: u64,
    pings: u64,
    probes: u64,
    gaps: u64,
}

impl Hash for Counted {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The transport that is attached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Carrier {
    transport: TransportId,
    flow: Flow,
    heartbeat: Heartbeat,
    /// The newest ping that is not answered.
    pong_owed: Option<PingNo>,
    ping_wanted: bool,
    /// Whether that ping asks about an unsettled message.
    is_probe_wanted: bool,
    /// The newest ping, and the highest number that was written on this transport before it.
    asked: (PingNo, Seq),
    /// When the peer was asked last about an unsettled message.
    last_probe: Option<Instant>,
    /// When a gap was noticed last.
    gap_at: Instant,
    /// Malformed frames since the time beside, which is that of the first of them.
    malformed: (u32, Instant),
}

/// A batch of frames is closed once it holds this many bytes: enough that headers and system calls cost nothing, little enough
/// that an answer does not wait long behind it.
const BATCH: usize = 64 * 1024;

impl Connection {
    /// A connection without an epoch and a transport. `nonce` must be unique to this life of the machine: it names messages.
    #[must_use]
    pub fn new(config: Config, nonce: &[u8; 16]) -> Self {
        Self {
            ids: MessageIds::new(nonce),
            epoch: None,
            link: Link::new(config.link.clone()),
            carrier: None,
            rtt: Rtt::default(),
            counted: Counted::default(),
            config,
        }
    }

    /// Queues a reliable message and names it.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::TooLarge`], [`ApiMisuse::QueueFull`], [`ApiMisuse::IdInUse`].
    pub fn send(&mut self, message: Outgoing, now: Instant) -> Result<MessageId, ApiMisuse> {
        let id = message.id.unwrap_or_else(|| self.ids.mint());
        self.link.send(id, message, now)?;
        Ok(id)
    }

    /// Puts an ephemeral message up for the next write.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::NotAttached`], [`ApiMisuse::TooLarge`].
    pub fn send_ephemeral(&mut self, key: Name, payload: Payload) -> Result<(), ApiMisuse> {
        if self.carrier.is_none() {
            return Err(ApiMisuse::NotAttached);
        }
        self.link.send_ephemeral(key, payload)
    }

    /// Hands the next message of these lanes over to the application.
    pub fn take(&mut self, lanes: Lanes<'_>, now: Instant) -> Option<Delivery> {
        self.link.take(lanes, now)
    }

    /// A transport is attached. The link stands as the handshake left it.
    pub fn attach(&mut self, attach: &Attach, now: Instant) {
        let mut flow = Flow::new(self.config.flow.clone());
        flow.on_produced(attach.produced, now);
        self.epoch = Some(attach.epoch);
        self.counted.attached += 1;
        self.counted.resumed += u64::from(attach.resumed);
        self.link.on_attached(&attach.limits, now);
        self.carrier = Some(Carrier {
            transport: attach.transport,
            flow,
            heartbeat: Heartbeat::new(self.config.heartbeat.clone(), now),
            pong_owed: None,
            ping_wanted: attach.measure,
            is_probe_wanted: false,
            asked: (PingNo::ZERO, Seq::ZERO),
            last_probe: None,
            gap_at: now,
            malformed: (0, now),
        });
    }

    /// The last word on the attached transport, which is to be closed while the connection goes on.
    #[must_use]
    pub fn farewell(&self, code: CloseCode, reason: String) -> Option<(TransportId, String)> {
        let transport = self.transport()?;
        let mut text = String::new();
        Frame::Bye(Box::new(Bye::of_transport(code, Some(self.link.report()), reason))).encode(&mut text);
        Some((transport, text))
    }

    /// The last word of the epoch on the attached transport: nothing more is handed over after it. `end` says whether the
    /// connection ends too, and `retry_after` when the other side should come back at the soonest if it does not.
    #[must_use]
    pub fn last_word(
        &self,
        code: CloseCode,
        end: bool,
        retry_after: Option<Duration>,
    ) -> Option<(TransportId, String)> {
        let transport = self.transport()?;
        let bye = Bye::last(code, end, self.link.report(), self.link.inbox().in_application());
        let mut text = String::new();
        Frame::Bye(Box::new(Bye { retry_after, ..bye })).encode(&mut text);
        Some((transport, text))
    }

    /// The word of a client that goes to sleep, and asks for its state to be kept.
    #[must_use]
    pub fn good_night(&self) -> Option<(TransportId, String)> {
        let transport = self.transport()?;
        let bye = Bye::of_transport(CloseCode::GOING_AWAY, Some(self.link.report()), String::new());
        let mut text = String::new();
        Frame::Bye(Box::new(Bye { suspend: true, ..bye })).encode(&mut text);
        Some((transport, text))
    }

    /// Goes on from a stored state. `nonce` is unique to this life of the machine.
    pub fn restore(&mut self, nonce: &[u8; 16], currency: Currency) {
        self.detach();
        self.ids = MessageIds::new(nonce);
        self.link.restore(currency == Currency::Current);
        // A handle of another life must not decide about a message of this one.
        let [a, b, c, d, e, f, g, h, ..] = *nonce;
        self.link.begin_life(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        if currency == Currency::Stale {
            self.epoch = None;
        }
    }

    /// The transport is gone. Returns which one it was.
    pub fn detach(&mut self) -> Option<TransportId> {
        let carrier = self.carrier.take()?;
        self.link.on_detached();
        Some(carrier.transport)
    }

    /// The epoch is over; the parent has ended it in the link.
    pub const fn forget_epoch(&mut self) {
        self.epoch = None;
    }

    /// Takes the next frame off a text that came on the attached transport. `None` when there is no more.
    pub fn read<'a>(&mut self, rest: &mut &'a str, now: Instant) -> Option<Read<'a>> {
        let line = wire::next_line(rest)?;
        if let Err(error) = self.check_len(line) {
            return Some(Read::Broken(error));
        }
        let frame = match wire::decode(line) {
            Ok(frame) => frame,
            Err(error) if self.has_too_many_malformed(now) => {
                return Some(Read::Broken(ProtocolError::TooManyMalformed(error)));
            }
            Err(error) => return Some(Read::Skipped(error)),
        };
        let (len, limit) = (line.len() as u64, wire::MAX_CONTROL_FRAME as u64);
        if len > limit && !matches!(frame, Frame::Message(_) | Frame::Ephemeral(_)) {
            return Some(Read::Broken(ProtocolError::TooLarge { len, limit }));
        }
        Some(match self.on_frame(&frame, now) {
            Ok(true) => Read::Taken,
            Ok(false) => Read::Other(frame),
            Err(error) => Read::Broken(error),
        })
    }

    /// The adapter reports progress: so many more bytes came, and so many of all have left.
    pub fn on_progress(&mut self, read: u64, written: u64, now: Instant) {
        if let Some(carrier) = &mut self.carrier {
            carrier.heartbeat.on_read(read);
            carrier.flow.on_written(written);
            carrier.heartbeat.on_written(carrier.flow.written(), now);
            self.link.on_left(carrier.flow.written(), now);
        }
    }

    /// Notices that much more time has passed than was asked for: the computer was asleep, or the program was stopped. What
    /// this side waited for on the transport starts over, with a ping. To be called before anything else is made of `now`.
    pub fn notice_gap(&mut self, now: Instant) {
        let Some(due) = self.poll_timeout() else { return };
        let gap = self.config.heartbeat.gap;
        // What is still overdue from before a gap that was noticed is no other gap.
        if let Some(carrier) = self.carrier.as_mut().filter(|carrier| now > due.max(carrier.gap_at) + gap) {
            carrier.gap_at = now;
            carrier.heartbeat.on_gap(now);
            carrier.flow.on_gap(now);
            carrier.ping_wanted = true;
            self.counted.gaps += 1;
        }
    }

    /// Lets time pass. Returns whether the transport has to be given up.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        self.link.handle_timeout(now);
        self.ask_if_due(now);
        let Some(carrier) = &mut self.carrier else {
            return false;
        };
        match carrier.heartbeat.handle_timeout(now) {
            Some(Action::Ping) => carrier.ping_wanted = true,
            Some(Action::Dead) => return true,
            None => {}
        }
        carrier.flow.is_stalled(now)
    }

    /// Asks about an unsettled message, if it is time.
    fn ask_if_due(&mut self, now: Instant) {
        if self.probe_at().is_some_and(|at| at <= now) {
            if let Some(carrier) = &mut self.carrier {
                carrier.ping_wanted = true;
                carrier.is_probe_wanted = true;
                carrier.last_probe = Some(now);
                self.counted.probes += 1;
            }
        }
    }

    /// When time matters next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let of_link = self.link.poll_timeout();
        let Some(carrier) = &self.carrier else { return of_link };
        let heartbeat = carrier.heartbeat.poll_timeout().filter(|_| !carrier.ping_wanted);
        soonest([of_link, heartbeat, carrier.flow.poll_timeout(), self.report_at(), self.probe_at()])
    }

    /// The part of [`Connection::poll_timeout`] that handing a message over may have made sooner: when a report is due, or a
    /// lease ends. Cheaper to ask after each message.
    #[must_use]
    pub fn poll_timeout_of_inbox(&self) -> Option<Instant> {
        soonest([self.link.inbox().poll_timeout(), self.report_at()])
    }

    /// When a report is to be written, where there is room for it.
    fn report_at(&self) -> Option<Instant> {
        let carrier = self.carrier.as_ref()?;
        self.link.report_at().filter(|_| carrier.flow.has_room_for_control())
    }

    /// When the peer is to be asked about a message that it has not settled.
    fn probe_at(&self) -> Option<Instant> {
        let carrier = self.carrier.as_ref().filter(|carrier| !carrier.ping_wanted)?;
        let (at, seq) = self.link.outbox().ask_at()?;
        // One question at a time; and a ping that is out already asks about everything that was written before it.
        let is_asked = carrier.heartbeat.outstanding().is_some_and(|is_probe| is_probe || carrier.asked.1 >= seq);
        if is_asked {
            return None;
        }
        Some(carrier.last_probe.map_or(at, |last| at.max(last + self.config.link.ack_timeout)))
    }

    /// The next batch of frames to write, and on which transport.
    pub fn poll_write(&mut self, now: Instant) -> Option<(TransportId, String)> {
        let carrier = self.carrier.as_mut()?;
        let mut batch = String::new();
        let mut pinged = false;
        if carrier.ping_wanted {
            carrier.ping_wanted = false;
            pinged = true;
            self.counted.pings += 1;
            let outbox = self.link.outbox();
            let ping = Ping { n: carrier.heartbeat.next_ping(), seen: outbox.flight().seen() };
            carrier.asked = (ping.n, outbox.flight().cursor());
            Frame::Ping(ping).encode(&mut batch);
        }
        if carrier.flow.has_room_for_control() {
            if let Some(n) = carrier.pong_owed.take() {
                wire::separate(&mut batch);
                Frame::Pong(Pong { n, report: self.link.report() }).encode(&mut batch);
                self.link.set_report_written();
            }
            let up_to = usize::try_from(carrier.flow.room()).map_or(BATCH, |room| room.min(BATCH));
            self.link.write(&mut batch, up_to, carrier.flow.produced(), now);
        }
        if batch.is_empty() {
            return None;
        }
        let end = carrier.flow.on_produced(batch.len(), now);
        if pinged {
            carrier.heartbeat.on_ping_written(end, core::mem::take(&mut carrier.is_probe_wanted), now);
        }
        Some((carrier.transport, batch))
    }

    /// The link.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// The link, for a parent that starts or ends an epoch in it.
    pub const fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    /// The epoch that the numbers belong to.
    #[must_use]
    pub const fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The transport that is attached.
    #[must_use]
    pub fn transport(&self) -> Option<TransportId> {
        self.carrier.as_ref().map(|carrier| carrier.transport)
    }

    /// The smoothed round trip, once measured.
    #[must_use]
    pub const fn rtt(&self) -> Option<Duration> {
        self.rtt.get()
    }

    /// What it has counted, and where it stands.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (outbox, inbox) = (self.link.outbox(), self.link.inbox());
        Stats {
            link: *self.link.counters(),
            queued: outbox.queued(),
            written: outbox.written(),
            delayed: outbox.delayed(),
            outbox_bytes: outbox.usage().all().bytes(),
            undelivered: inbox.usage().count(),
            rtt: self.rtt.get(),
            attached: self.counted.attached,
            resumed: self.counted.resumed,
            malformed: self.counted.malformed,
            pings: self.counted.pings,
            probes: self.counted.probes,
            gaps: self.counted.gaps,
        }
    }

    fn check_len(&self, line: &str) -> Result<(), ProtocolError> {
        let len = line.len() as u64;
        let limit = self.config.link.max_payload.saturating_add(wire::MESSAGE_OVERHEAD as u64);
        let limit = limit.max(wire::MAX_CONTROL_FRAME as u64);
        if len > limit { Err(ProtocolError::TooLarge { len, limit }) } else { Ok(()) }
    }

    /// Takes a frame in. Returns whether it was one of the link's.
    fn on_frame(&mut self, frame: &Frame<'_>, now: Instant) -> Result<bool, ProtocolError> {
        let Some(carrier) = &mut self.carrier else {
            return Ok(false);
        };
        carrier.heartbeat.on_frame(now);
        match frame {
            Frame::Message(message) => self.link.on_message(message, now)?,
            Frame::Ephemeral(ephemeral) => {
                if let Ok(key) = Name::new(&ephemeral.key) {
                    self.link.on_ephemeral(key, ephemeral.payload)?;
                }
            }
            Frame::Void(void) => self.link.on_void(void.seq, now)?,
            Frame::Ack(ack) => {
                self.link.on_seen(ack.seen, now)?;
                self.link.on_report(&ack.report, now)?;
                // It may show another message that has waited for long.
                self.ask_if_due(now);
            }
            Frame::Ping(ping) => {
                self.link.on_seen(ping.seen, now)?;
                carrier.pong_owed = Some(ping.n);
            }
            Frame::Pong(pong) => {
                self.link.on_report(&pong.report, now)?;
                if pong.n == carrier.asked.0 {
                    let asked = carrier.asked.1;
                    carrier.asked = (PingNo::ZERO, Seq::ZERO);
                    self.link.on_answered(asked, now);
                }
                if let Some(sample) = carrier.heartbeat.on_pong(pong.n, now) {
                    self.rtt.on_sample(sample);
                }
                self.ask_if_due(now);
            }
            Frame::Unknown => {}
            Frame::Hello(_) | Frame::Challenge(_) | Frame::Welcome(_) | Frame::Bye(_) => return Ok(false),
        }
        Ok(true)
    }

    /// Counts a malformed frame, and says whether it was one too many.
    fn has_too_many_malformed(&mut self, now: Instant) -> bool {
        self.counted.malformed += 1;
        let MalformedBudget { count, per } = self.config.malformed;
        let Some(carrier) = &mut self.carrier else {
            return true;
        };
        let (seen, since) = &mut carrier.malformed;
        if *seen == 0 || now - *since > per {
            (*seen, *since) = (0, now);
        }
        *seen += 1;
        *seen > count
    }
}
