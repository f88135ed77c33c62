//! One connection on the server: the link to one client, over whatever transport the registry attaches.
//!
//! A peer decides one thing about a hello, because only it knows: whether its epoch goes on. It does when the client's numbers
//! continue the peer's; then nothing is lost and nothing comes twice. Otherwise the epoch ends here, its receipt goes to the
//! registry, and another begins.

mod commands;
mod input;
mod output;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::string::ToString;

use core::time::Duration;

use crate::connection;
use crate::connection::Connection;
use crate::connection::Currency;
use crate::connection::Incoming;
use crate::connection::Read;
use crate::connection::Stats;
use crate::deadline::Deadline;
use crate::deadline::soonest;
use crate::error::ApiMisuse;
use crate::error::ProtocolError;
use crate::id::Epoch;
use crate::id::InstanceId;
use crate::id::Lane;
use crate::id::Principal;
use crate::id::TransportId;
use crate::link::Continuity;
use crate::link::Lanes;
use crate::outcome::NotDelivered;
use crate::outcome::Unknown;
use crate::reconnect::Ended;
use crate::server::command::Answer;
use crate::server::command::Attach;
use crate::server::command::Command;
use crate::server::command::Origin;
use crate::server::command::PeerId;
use crate::server::config::Config;
use crate::server::event::PeerClosed;
use crate::server::event::PeerEvent;
use crate::server::event::Unfinished;
use crate::time::Clock;
use crate::time::Instant;
use crate::wire::Bye;
use crate::wire::CloseCode;
use crate::wire::Frame;
use crate::wire::Hello;
use crate::wire::Receipt;
use crate::wire::Report;
use crate::wire::Welcome;

pub use self::input::PeerInput;
pub use self::output::PeerOutput;

/// One connection on the server.
///
/// *Getters* take `&self`. [`handle_command`](Self::handle_command) takes in what the registry says, the other `handle_*` what
/// happened outside. *Commands* ([`send`](Self::send), [`send_ephemeral`](Self::send_ephemeral), [`take`](Self::take),
/// [`detach`](Self::detach), [`close`](Self::close), [`disconnect`](Self::disconnect), [`shut_down`](Self::shut_down)) fail
/// only for the caller's own faults. `poll_*` say what is to be done, and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    clock: Clock,
    id: PeerId,
    principal: Principal,
    detach_ttl: Duration,
    connection: Connection,
    epoch: Epoch,
    /// The instance for which the epoch was minted.
    minted_for: InstanceId,
    /// Whether the client is known to have learnt of the epoch.
    is_joined: bool,
    /// How the connection ended, once it is over.
    closed: Option<PeerClosed>,
    /// Whether that is still to be told: after every outcome.
    is_end_untold: bool,
    /// When the application's patience ends. Armed while a close waits for the outbox.
    closing: Deadline,
    /// When the client should come back, once the server drains.
    drained: Option<Duration>,
    /// When the credentials run out. Armed while attached, if they do.
    expires: Deadline,
    /// What an older copy than one that ran knows of its epoch, which does not go on: a receipt that is not final.
    stale: Option<Receipt>,
    /// Whether the client that leaves goes to sleep.
    is_suspended: bool,
    outputs: VecDeque<PeerOutput>,
}

impl Peer {
    /// A peer that has no transport yet.
    #[must_use]
    pub fn new(config: &Config, origin: Origin, now: Instant) -> Self {
        let mut connection = Connection::new(config.connection.clone(), origin.epoch.as_bytes());
        // A handle of the connection's life before must not decide about a message of this one.
        connection.link_mut().begin_life(origin.id.generation.0 << 32);
        Self {
            clock: Clock::new(now),
            id: origin.id,
            principal: origin.principal,
            detach_ttl: config.detach_ttl,
            connection,
            epoch: origin.epoch,
            minted_for: origin.instance,
            is_joined: false,
            closed: None,
            is_end_untold: false,
            closing: Deadline::UNARMED,
            drained: None,
            expires: Deadline::UNARMED,
            stale: None,
            is_suspended: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes in what the registry says.
    pub fn handle_command(&mut self, command: Command, now: Instant) {
        let now = self.clock.advance(now);
        match command {
            Command::Attach(attach) if self.is_over() => {
                self.outputs.push_back(PeerOutput::Close { transport: attach.transport, code: CloseCode::ENDED });
            }
            Command::Attach(attach) => self.attach(*attach, now),
            Command::Expire | Command::Fence | Command::Revoke if self.is_over() => {}
            Command::Revoke => self.end(PeerClosed::Revoked),
            Command::Expire => {
                self.end_with_receipt(PeerClosed::Expired, Unknown::Expired, NotDelivered::Expired);
            }
            Command::Fence => {
                self.close_transport(CloseCode::INTERNAL, "the server gave this connection up");
                self.connection.link_mut().end_sending(None, Unknown::Shutdown, NotDelivered::Shutdown);
                self.connection.link_mut().seal();
                self.finish(PeerClosed::Fenced);
            }
        }
        self.close_if_flushed();
    }

    /// Takes in what happened on the transport. An input that names another one changes nothing.
    pub fn handle_input(&mut self, input: PeerInput<'_>, now: Instant) {
        let now = self.clock.advance(now);
        let (PeerInput::Received { transport, .. }
        | PeerInput::Progress { transport, .. }
        | PeerInput::Closed { transport, .. }) = input;
        if self.connection.transport() != Some(transport) {
            return;
        }
        self.connection.notice_gap(now);
        match input {
            PeerInput::Received { incoming, .. } => self.on_received(incoming, now),
            PeerInput::Progress { read, written, .. } => self.connection.on_progress(read, written, now),
            PeerInput::Closed { code, .. } => self.end_transport(Ended::Closed(code), None),
        }
        self.close_if_flushed();
    }

    /// Lets time pass. Call it when [`Peer::poll_timeout`] is due; calling it earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.advance(now);
        if self.closing.take_due(now) {
            return self.end_closing();
        }
        self.connection.notice_gap(now);
        if self.connection.handle_timeout(now) {
            self.end_transport(Ended::Stalled, Some(CloseCode::STALLED));
        }
        if self.expires.take_due(now) {
            if self.drained.is_some() {
                return self.end_closing();
            }
            self.end_transport(Ended::CredentialsExpired, Some(CloseCode::UNAUTHENTICATED));
        }
        self.close_if_flushed();
    }

    /// The next thing to do. Poll until there is none, then wait.
    pub fn poll_output(&mut self) -> Option<PeerOutput> {
        if let Some(output) = self.outputs.pop_front() {
            if self.outputs.is_empty() {
                // There are some when it attaches, and then no more for long.
                self.outputs.shrink_to_fit();
            }
            return Some(output);
        }
        if let Some(notice) = self.connection.link_mut().poll_notice() {
            return Some(PeerOutput::Event(notice.told(self.clock.now()).into()));
        }
        if let Some((transport, text)) = self.connection.poll_write(self.clock.now()) {
            return Some(PeerOutput::Write { transport, text });
        }
        let reason = self.closed.clone().filter(|_| core::mem::take(&mut self.is_end_untold))?;
        Some(PeerOutput::Event(PeerEvent::Closed { reason }))
    }

    /// When to call [`Peer::handle_timeout`]: the one timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        soonest([self.closing.poll_timeout(), self.expires.poll_timeout(), self.connection.poll_timeout()])
    }

    /// Which peer it is.
    #[must_use]
    pub const fn id(&self) -> PeerId {
        self.id
    }

    /// Whom the connection belongs to.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Whether a transport is attached.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.connection.transport().is_some()
    }

    /// Whether the connection has ended. What came before can still be taken, where nobody was told otherwise.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.closed.is_some()
    }

    /// Whether a message of `len` bytes in this lane would find room in the outbox.
    #[must_use]
    pub fn has_room(&self, lane: &Lane, len: u64) -> bool {
        self.connection.link().outbox().has_room(lane, len)
    }

    /// Whether [`Peer::take`] has something to hand over.
    #[must_use]
    pub fn has_delivery(&self) -> bool {
        self.has_delivery_from(Lanes::All)
    }

    /// Whether [`Peer::take_from`] has something to hand over.
    #[must_use]
    pub fn has_delivery_from(&self, lanes: Lanes<'_>) -> bool {
        self.connection.link().has_delivery(lanes)
    }

    /// How the connection ended, once it is over.
    #[must_use]
    pub const fn closed(&self) -> Option<&PeerClosed> {
        self.closed.as_ref()
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.connection.stats()
    }

    /// The connection, to look at.
    #[must_use]
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The next answer to the registry, ahead of other outputs: for a parent that carries answers by itself.
    pub(super) fn take_answer(&mut self) -> Option<Answer> {
        let index = self.outputs.iter().position(|output| matches!(output, PeerOutput::Answer(_)))?;
        match self.outputs.remove(index) {
            Some(PeerOutput::Answer(answer)) => Some(answer),
            Some(PeerOutput::Write { .. } | PeerOutput::Close { .. } | PeerOutput::Event(_)) | None => {
                unreachable!("the position was just found")
            }
        }
    }

    fn check_open(&self) -> Result<(), ApiMisuse> {
        if self.is_over() || self.closing.poll_timeout().is_some() { Err(ApiMisuse::Ended) } else { Ok(()) }
    }

    fn tell(&mut self, event: PeerEvent) {
        self.outputs.push_back(PeerOutput::Event(event));
    }

    fn answer(&mut self, answer: Answer) {
        self.outputs.push_back(PeerOutput::Answer(answer));
    }

    fn attach(&mut self, attach: Attach, now: Instant) {
        let Attach { transport, hello, takes_over, mint, receipt, produced, expires } = attach;
        if self.connection.transport().is_some() {
            let by = if takes_over { "another instance" } else { "a later transport" };
            self.close_transport(CloseCode::SUPERSEDED, by);
            self.tell(PeerEvent::Detached { ended: Ended::Closed(CloseCode::SUPERSEDED) });
        }
        let is_named = hello.epoch == Some(self.epoch);
        self.is_joined |= is_named;
        let (resumed, receipt) = match self.judge(&hello) {
            Verdict::Resume => {
                let link = self.connection.link_mut();
                link.on_seen(hello.seen, now).expect("the verdict looked at it");
                link.on_report(&hello.report, now).expect("the verdict looked at it");
                (true, None)
            }
            Verdict::Restart => {
                self.connection.link_mut().unwrite();
                (false, receipt)
            }
            Verdict::Fresh { is_final } => {
                let sealed = self.seal(is_final);
                self.epoch = mint;
                self.minted_for = hello.instance;
                self.is_joined = false;
                self.stale = None;
                self.connection.link_mut().end_epoch(None, Unknown::EpochEnded, true);
                let receipt = sealed.clone().filter(|sealed| hello.epoch == Some(sealed.epoch)).or(receipt);
                if let Some(receipt) = sealed {
                    self.answer(Answer::Sealed { receipt });
                }
                (false, receipt)
            }
        };
        let produced = produced + self.welcome(transport, resumed, receipt);
        let (epoch, limits) = (self.epoch, hello.limits);
        let attach = connection::Attach { transport, epoch, resumed, limits, produced, measure: false };
        self.connection.attach(&attach, now);
        self.expires = expires.map_or(Deadline::UNARMED, |at| Deadline::after(at, Duration::ZERO));
        self.answer(Answer::Attached { transport, epoch, is_named: is_named && resumed });
        self.tell(PeerEvent::Attached { resumed });
    }

    /// Whether the client's numbers continue this epoch.
    fn judge(&self, hello: &Hello) -> Verdict {
        if self.stale.is_some() {
            return Verdict::Fresh { is_final: false };
        }
        if hello.epoch != Some(self.epoch) {
            return if hello.instance == self.minted_for && !self.is_joined {
                Verdict::Restart
            } else {
                Verdict::Fresh { is_final: true }
            };
        }
        let link = self.connection.link();
        let settlement = link.inbox().settlement();
        let client_is_ahead = link.outbox().flight().is_continued_by(&hello.report) == Continuity::PeerIsAhead
            || hello.base > settlement.received().next()
            || hello.seen > settlement.no();
        if client_is_ahead {
            // The client has heard things that this state never said: this state is an old copy, and what it has handed over
            // says nothing about what its newer self has.
            return Verdict::Fresh { is_final: false };
        }
        let client_is_behind = link.outbox().flight().is_continued_by(&hello.report) == Continuity::PeerIsBehind
            || hello.sent < settlement.received()
            || hello.seen < settlement.seen();
        if client_is_behind { Verdict::Fresh { is_final: true } } else { Verdict::Resume }
    }

    /// Says welcome and returns how many bytes that took.
    fn welcome(&mut self, transport: TransportId, resumed: bool, receipt: Option<Receipt>) -> usize {
        let link = self.connection.link_mut();
        link.set_reported();
        let welcome = Welcome {
            cid: self.id.cid,
            epoch: self.epoch,
            resumed,
            report: if resumed { link.report() } else { Report::default() },
            seen: link.outbox().flight().seen(),
            limits: link.config().limits(),
            detach_ttl: self.detach_ttl,
            receipt: receipt.map(Box::new),
        };
        let mut text = String::new();
        Frame::Welcome(Box::new(welcome)).encode(&mut text);
        let len = text.len();
        self.outputs.push_back(PeerOutput::Write { transport, text });
        len
    }

    fn on_received(&mut self, incoming: Incoming<'_>, now: Instant) {
        let Incoming::Text(mut rest) = incoming else {
            return self.on_broken_protocol(ProtocolError::Binary);
        };
        let transport = self.connection.transport();
        // A frame may end the transport; what stands behind it in the text is then of a dead one.
        while self.connection.transport() == transport {
            match self.connection.read(&mut rest, now) {
                // Whatever the client writes here, it has had its welcome.
                Some(Read::Taken) => self.is_joined = true,
                Some(Read::Other(Frame::Bye(bye))) => self.on_bye(*bye, now),
                Some(Read::Other(frame)) => {
                    let (frame, place) = (frame.name(), "on an attached transport");
                    self.on_broken_protocol(ProtocolError::Unexpected { frame, place });
                }
                Some(Read::Skipped(error)) => self.tell(PeerEvent::FrameSkipped { error }),
                Some(Read::Broken(error)) => self.on_broken_protocol(error),
                None => return,
            }
        }
    }

    fn on_bye(&mut self, bye: Bye, now: Instant) {
        self.is_joined = true;
        if !bye.end {
            if let Some(report) = &bye.report {
                // A report that is beyond what was sent is not believed; the transport ends anyway.
                _ = self.connection.link_mut().on_report(report, now);
            }
            self.is_suspended = bye.suspend;
            return self.end_transport(Ended::Closed(bye.code), Some(CloseCode::NORMAL));
        }
        let sent = self.connection.link().outbox().flight().sent();
        let receipt = bye.receipt(self.epoch).filter(|receipt| receipt.received <= sent);
        self.drop_transport(CloseCode::NORMAL);
        self.connection.link_mut().end_sending(receipt.as_ref(), Unknown::Ended, NotDelivered::Ended);
        if self.closing.poll_timeout().is_some() && self.drained.is_none() {
            // This side was about to leave too, and wants nothing more.
            self.connection.link_mut().discard();
        }
        // The client is gone for good and asks for no receipt.
        self.answer(Answer::Ended { receipt: None });
        self.finish(PeerClosed::ByPeer { code: bye.code, reason: bye.reason });
    }

    fn on_broken_protocol(&mut self, error: ProtocolError) {
        self.tell(PeerEvent::PeerBrokeProtocol { error });
        self.end_transport(Ended::Protocol(error), Some(error.close_code()));
    }

    /// The transport has ended, or has to. The state is kept.
    fn end_transport(&mut self, ended: Ended, close: Option<CloseCode>) {
        let transport = match (close, ended) {
            // The client has said goodbye first.
            (Some(code), Ended::Closed(_)) => self.drop_transport(code),
            (Some(code), ended) => self.close_transport(code, &ended.to_string()),
            (None, _) => self.connection.detach(),
        };
        if let Some(transport) = transport {
            self.expires.disarm();
            let is_suspended = core::mem::take(&mut self.is_suspended);
            self.answer(Answer::Detached { transport, is_suspended });
            self.tell(PeerEvent::Detached { ended });
        }
    }

    fn drop_transport(&mut self, code: CloseCode) -> Option<TransportId> {
        let transport = self.connection.detach()?;
        self.outputs.push_back(PeerOutput::Close { transport, code });
        Some(transport)
    }

    /// Closes the transport with a word that says why.
    fn close_transport(&mut self, code: CloseCode, reason: &str) -> Option<TransportId> {
        let (transport, text) = self.connection.farewell(code, reason.to_string())?;
        self.outputs.push_back(PeerOutput::Write { transport, text });
        self.drop_transport(code)
    }

    /// What is to be kept of this epoch. An epoch that nobody joined leaves nothing.
    fn seal(&self, is_final: bool) -> Option<Receipt> {
        let receipt = || self.connection.link().receipt(self.epoch, is_final);
        self.is_joined.then(|| self.stale.clone().unwrap_or_else(receipt))
    }

    fn close_if_flushed(&mut self) {
        let link = self.connection.link();
        let is_waiting = self.drained.is_some() && link.inbox().count_in_hands() > 0;
        if self.closing.poll_timeout().is_some() && link.outbox().is_empty() && !is_waiting {
            self.end_closing();
        }
    }

    /// What would be left undone if the connection ended now.
    fn unfinished(&self) -> Unfinished {
        let (inbox, outbox) = (self.connection.link().inbox(), self.connection.link().outbox());
        Unfinished { undecided: inbox.count_in_hands(), unsettled: outbox.written(), unwritten: outbox.queued() }
    }

    /// A close, or a drain, comes to its end.
    fn end_closing(&mut self) {
        let Some(retry_after) = self.drained else { return self.end_closed() };
        if let Some((transport, text)) = self.connection.last_word(CloseCode::RESTART, false, Some(retry_after)) {
            self.outputs.push_back(PeerOutput::Write { transport, text });
        }
        self.drop_transport(CloseCode::RESTART);
        let unfinished = self.unfinished();
        self.end_with_receipt(PeerClosed::Drained { unfinished }, Unknown::Shutdown, NotDelivered::Shutdown);
    }

    /// The application ends the connection: with nothing left to send, or with what is left.
    fn end_closed(&mut self) {
        let is_flushed = self.connection.link().outbox().is_empty();
        let unfinished = self.unfinished();
        self.end(if is_flushed { PeerClosed::Flushed } else { PeerClosed::Cut { unfinished } });
    }

    /// Ends the connection from this side, with a last word where somebody hears it.
    fn end(&mut self, closed: PeerClosed) {
        let code = if closed == PeerClosed::Revoked { CloseCode::FORBIDDEN } else { CloseCode::ENDED };
        if let Some((transport, text)) = self.connection.last_word(code, true, None) {
            self.outputs.push_back(PeerOutput::Write { transport, text });
        }
        self.drop_transport(code);
        self.end_with_receipt(closed, Unknown::Closed, NotDelivered::Closed);
    }

    /// Goes on from a stored state, without a transport.
    pub(super) fn restore(&mut self, instance: &InstanceId, currency: Currency) {
        self.outputs.clear();
        // Another life of this peer, and the other peers of this life, must not name their messages as this one does.
        let mut nonce = *self.epoch.as_bytes();
        nonce.iter_mut().zip(instance.as_bytes()).for_each(|(byte, other)| *byte ^= other);
        if currency == Currency::Stale && self.stale.is_none() {
            self.stale = Some(self.connection.link().receipt(self.epoch, false));
        }
        self.connection.restore(&nonce, currency);
        self.expires.disarm();
    }

    /// Ends the state: nothing more is handed over, and the receipt says so.
    fn end_with_receipt(&mut self, closed: PeerClosed, written: Unknown, queued: NotDelivered) {
        let receipt = self.seal(true);
        let link = self.connection.link_mut();
        link.end_sending(None, written, queued);
        link.seal();
        self.answer(Answer::Ended { receipt });
        self.finish(closed);
    }

    fn finish(&mut self, closed: PeerClosed) {
        self.connection.forget_epoch();
        self.closing.disarm();
        self.expires.disarm();
        self.closed = Some(closed);
        self.is_end_untold = true;
    }
}

/// What becomes of the epoch when a hello comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It goes on.
    Resume,
    /// The client never heard of it: it begins again, with nothing written.
    Restart,
    /// It ends, and another begins.
    Fresh {
        /// Whether its receipt proves what was never handed over.
        is_final: bool,
    },
}
