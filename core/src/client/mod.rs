#![doc = include_str!("law.md")]

mod commands;
mod config;
mod event;
mod handshake;
mod input;
mod output;
mod state;
mod view;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::string::ToString;

use core::time::Duration;

use crate::breaker;
use crate::connection::Connection;
use crate::connection::Currency;
use crate::connection::Incoming;
use crate::connection::Read;
use crate::connection::Stats;
use crate::deadline::Deadline;
use crate::deadline::soonest;
use crate::error::ApiMisuse;
use crate::error::ProtocolError;
use crate::id::ConnectionId;
use crate::id::ConnectionKey;
use crate::id::Fence;
use crate::id::InstanceId;
use crate::id::Lane;
use crate::id::Seq;
use crate::id::TransportId;
use crate::link::Lanes;
use crate::outcome::NotDelivered;
use crate::outcome::Unknown;
use crate::reconnect::Ended;
use crate::reconnect::GiveUp;
use crate::reconnect::Next;
use crate::reconnect::OpenError;
use crate::reconnect::Reconnect;
use crate::time::Clock;
use crate::time::Instant;
use crate::wire;
use crate::wire::Bye;
use crate::wire::CloseCode;
use crate::wire::Frame;

pub use self::config::Config;
pub use self::config::OnSuperseded;
pub use self::event::Closed;
pub use self::event::Event;
pub use self::event::Status;
pub use self::input::Input;
pub use self::input::Secrets;
pub use self::output::Output;
pub use self::view::Advice;
pub use self::view::Light;
pub use self::view::View;

use self::handshake::Identity;
use self::state::At;
use self::state::Due;
use self::state::State;
use self::state::Stop;

/// A client: one identity, one connection, at most one transport at a time.
///
/// Its methods come in four kinds. *Getters* take `&self`. `handle_*` take in what happened outside and never fail.
/// *Commands* ([`send`](Self::send), [`send_ephemeral`](Self::send_ephemeral), [`cancel`](Self::cancel),
/// [`take`](Self::take), [`decide`](Self::decide), [`extend`](Self::extend), [`reconnect`](Self::reconnect),
/// [`suspend`](Self::suspend), [`disconnect`](Self::disconnect), [`close`](Self::close),
/// [`provide_key`](Self::provide_key)) fail only for the caller's own faults. `poll_*` say what is to be done, and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    config: Config,
    clock: Clock,
    identity: Identity,
    spare: Option<ConnectionKey>,
    /// How many transports were asked for.
    transports: u64,
    state: State,
    connection: Connection,
    reconnect: Reconnect,
    /// Whether it goes on from a stored state, which another may go on from too.
    is_restored: bool,
    /// When the application's patience ends. Armed while a close waits for the outbox.
    closing: Deadline,
    /// How the connection ended, once it is over.
    closed: Option<Closed>,
    /// Whether that is still to be told: after every outcome.
    is_end_untold: bool,
    outputs: VecDeque<Output>,
}

impl Client {
    /// A client that asks for its first transport at once. `seed` is for jitter only.
    #[must_use]
    pub fn new(config: Config, secrets: Secrets, seed: u64, now: Instant) -> Self {
        let Secrets { key, spare, instance } = secrets;
        let mut client = Self {
            clock: Clock::new(now),
            identity: Identity::new(key, instance),
            spare,
            transports: 0,
            state: State::opening(TransportId(0), Deadline::UNARMED),
            connection: Connection::new(config.connection.clone(), instance.as_bytes()),
            reconnect: Reconnect::new(config.reconnect.clone(), seed),
            is_restored: false,
            closing: Deadline::UNARMED,
            closed: None,
            is_end_untold: false,
            outputs: VecDeque::new(),
            config,
        };
        client.open(now);
        client
    }

    /// Takes in what happened outside. An input that names a dead transport changes nothing.
    pub fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        let now = self.clock.advance(now);
        let (Input::Opened { transport, .. }
        | Input::OpenFailed { transport, .. }
        | Input::Received { transport, .. }
        | Input::Progress { transport, .. }
        | Input::Closed { transport, .. }) = input;
        if self.state.transport() != Some(transport) {
            return;
        }
        self.connection.notice_gap(now);
        match (input, self.state.at()) {
            (Input::Opened { token, .. }, At::Opening) => {
                self.state.move_to_greeting(Deadline::after(now, self.config.hello_timeout), token, 0);
                self.greet(None);
            }
            (Input::OpenFailed { error, .. }, At::Opening) => self.end_transport(Ended::NotOpened(error), None, now),
            (Input::Received { incoming, .. }, At::Greeting | At::Attached) => self.on_received(incoming, now),
            (Input::Progress { read, written, .. }, At::Attached) => self.connection.on_progress(read, written, now),
            (Input::Closed { code, .. }, _) => self.end_transport(Ended::Closed(code), None, now),
            (
                Input::Opened { .. } | Input::OpenFailed { .. } | Input::Received { .. } | Input::Progress { .. },
                At::Opening | At::Greeting | At::Attached | At::Waiting { .. } | At::Stopped(_) | At::Over,
            ) => {}
        }
        self.close_if_flushed();
    }

    /// Lets time pass. Call it when [`Client::poll_timeout`] is due; calling it earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.advance(now);
        if self.closing.take_due(now) {
            return self.end(Closed::Cut);
        }
        self.connection.notice_gap(now);
        match self.state.due(now) {
            Some(Due::Connect) => self.end_transport(Ended::ConnectTimeout, Some(CloseCode::NORMAL), now),
            Some(Due::Hello) => self.end_transport(Ended::HelloTimeout, Some(CloseCode::HELLO_TIMEOUT), now),
            Some(Due::Retry) => self.open(now),
            None => {}
        }
        self.reconnect.handle_timeout(now);
        if self.connection.handle_timeout(now) {
            self.end_transport(Ended::Stalled, Some(CloseCode::STALLED), now);
        }
        self.close_if_flushed();
    }

    /// Goes on from a stored state, as another instance. `currency` says whether the state has every frame that was written and
    /// every hand-over that was made; only then the epoch goes on.
    #[must_use]
    pub fn restored(mut self, instance: InstanceId, currency: Currency, now: Instant) -> Self {
        let now = self.clock.advance(now);
        self.outputs.clear();
        self.connection.restore(instance.as_bytes(), currency);
        self.is_restored = currency == Currency::Current;
        self.reconnect.restart();
        self.identity = Identity::new(self.identity.key, instance);
        if !matches!(self.state.at(), At::Over | At::Stopped(_)) {
            self.open(now);
        }
        self
    }

    /// The next thing to do. Poll until there is none, then wait.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            if self.outputs.is_empty() {
                // There are some when it attaches, and then no more for long.
                self.outputs.shrink_to_fit();
            }
            return Some(output);
        }
        if let Some(notice) = self.connection.link_mut().poll_notice() {
            return Some(Output::Event(notice.told(self.clock.now()).into()));
        }
        if let Some((transport, text)) = self.connection.poll_write(self.clock.now()) {
            return Some(Output::Write { transport, text });
        }
        let reason = self.closed.clone().filter(|_| core::mem::take(&mut self.is_end_untold))?;
        Some(Output::Event(Event::Closed { reason }))
    }

    /// When to call [`Client::handle_timeout`]: the one timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        soonest([
            self.state.poll_timeout(),
            self.closing.poll_timeout(),
            self.reconnect.poll_timeout(),
            self.connection.poll_timeout(),
        ])
    }

    /// The connection's name. It is known from the start and changes only with [`Event::IdentityChanged`].
    #[must_use]
    pub const fn connection_id(&self) -> ConnectionId {
        self.identity.cid
    }

    /// Where the client stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let (retry, limit) = (self.reconnect.retries(), self.reconnect.limit());
        match self.state.at() {
            At::Opening | At::Greeting => Status::Connecting { retry, limit },
            At::Attached => Status::Attached,
            At::Waiting { retry_at } => Status::Detached { retry, limit, retry_at },
            At::Stopped(Stop::Suspended) => Status::Suspended,
            At::Stopped(Stop::Superseded) => Status::Superseded,
            At::Stopped(Stop::Failed(reason)) => Status::Failed(reason),
            At::Over => Status::Closed(self.closed.clone().expect("what is over has a reason")),
        }
    }

    /// Whether the connection has ended. What came before can still be taken.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state.at() == At::Over
    }

    /// Where the client stands, as a user interface shows it to people.
    #[must_use]
    pub fn view(&self) -> View {
        View::of(self.status(), &self.stats())
    }

    /// What the breaker says.
    #[must_use]
    pub const fn breaker(&self) -> breaker::State {
        self.reconnect.breaker()
    }

    /// Whether a message of `len` bytes in this lane would find room in the outbox.
    #[must_use]
    pub fn has_room(&self, lane: &Lane, len: u64) -> bool {
        self.connection.link().outbox().has_room(lane, len)
    }

    /// Whether [`Client::take`] has something to hand over.
    #[must_use]
    pub fn has_delivery(&self) -> bool {
        self.has_delivery_from(Lanes::All)
    }

    /// Whether [`Client::take_from`] has something to hand over.
    #[must_use]
    pub fn has_delivery_from(&self, lanes: Lanes<'_>) -> bool {
        self.connection.link().has_delivery(lanes)
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

    /// How far the peer has taken what this side wrote, and this side what the peer wrote.
    const fn taken(&self) -> ((Seq, Seq), Seq) {
        let link = self.connection.link();
        (link.outbox().flight().taken(), link.inbox().settlement().received())
    }

    fn check_open(&self) -> Result<(), ApiMisuse> {
        let is_closing = self.closing.poll_timeout().is_some();
        match self.state.at() {
            At::Stopped(Stop::Superseded | Stop::Failed(_)) | At::Over => Err(ApiMisuse::Ended),
            _ if is_closing => Err(ApiMisuse::Ended),
            At::Opening | At::Greeting | At::Attached | At::Waiting { .. } | At::Stopped(Stop::Suspended) => Ok(()),
        }
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn open(&mut self, now: Instant) {
        self.transports += 1;
        self.identity.attempt = self.identity.attempt.next();
        let transport = TransportId(self.transports);
        self.state.move_to_opening(transport, Deadline::after(now, self.config.connect_timeout));
        self.outputs.push_back(Output::Open { transport });
        self.reconnect.on_try(now);
    }

    /// What would rather fail than wait fails while the server cannot be reached.
    fn fail_fast(&mut self) {
        if self.reconnect.is_open() {
            self.connection.link_mut().fail_fast();
        }
    }

    fn greet(&mut self, fence: Option<Fence>) {
        let Some(greeting) = self.state.greeting_mut() else { return };
        let mut text = String::new();
        let hello = self.identity.hello(&mut self.connection, greeting.token.clone(), fence);
        Frame::Hello(Box::new(hello)).encode(&mut text);
        greeting.produced += text.len();
        self.outputs.push_back(Output::Write { transport: greeting.transport, text });
    }

    fn on_received(&mut self, incoming: Incoming<'_>, now: Instant) {
        let Incoming::Text(mut rest) = incoming else {
            return self.on_broken_protocol(ProtocolError::Binary, now);
        };
        let transport = self.state.transport();
        let before = self.taken();
        // A frame may end the transport; what stands behind it in the text is then of a dead one.
        while self.state.transport() == transport {
            let frame = if self.state.at() == At::Attached {
                match self.connection.read(&mut rest, now) {
                    Some(Read::Taken) => {
                        self.reconnect.on_progress();
                        continue;
                    }
                    Some(Read::Other(frame)) => Ok(frame),
                    Some(Read::Skipped(error)) => {
                        self.tell(Event::FrameSkipped { error });
                        continue;
                    }
                    Some(Read::Broken(error)) => Err(error),
                    None => break,
                }
            } else {
                match wire::next_line(&mut rest) {
                    Some(line) => wire::decode(line).map_err(ProtocolError::from),
                    None => break,
                }
            };
            if let Err(error) = frame.and_then(|frame| self.on_frame(frame, now)) {
                self.on_broken_protocol(error, now);
            }
        }
        let after = self.taken();
        self.reconnect.on_taken(after.0 > before.0, after.1 > before.1);
    }

    /// Takes a frame that is not the link's.
    fn on_frame(&mut self, frame: Frame<'_>, now: Instant) -> Result<(), ProtocolError> {
        let place = match self.state.at() {
            At::Attached => "on an attached transport",
            At::Opening | At::Greeting | At::Waiting { .. } | At::Stopped(_) | At::Over => "before the welcome",
        };
        let misplaced = Err(ProtocolError::Unexpected { frame: frame.name(), place });
        match frame {
            Frame::Welcome(welcome) => {
                let Some(greeting) = self.state.greeting_mut() else { return misplaced };
                let (transport, produced) = (greeting.transport, greeting.produced);
                handshake::accept(&mut self.connection, self.identity.cid, transport, produced, &welcome, now)?;
                self.state.move_to_attached();
                self.reconnect.on_attached(now);
                self.tell(Event::Attached { resumed: welcome.resumed });
                Ok(())
            }
            Frame::Challenge(challenge) => match self.state.greeting_mut() {
                Some(greeting) if !greeting.challenged => {
                    greeting.challenged = true;
                    self.greet(Some(challenge.fence));
                    Ok(())
                }
                Some(_) | None => misplaced,
            },
            Frame::Bye(bye) => {
                self.on_bye(*bye, now);
                Ok(())
            }
            Frame::Unknown => Ok(()),
            Frame::Hello(_)
            | Frame::Message(_)
            | Frame::Ephemeral(_)
            | Frame::Void(_)
            | Frame::Ack(_)
            | Frame::Ping(_)
            | Frame::Pong(_) => misplaced,
        }
    }

    fn on_bye(&mut self, bye: Bye, now: Instant) {
        if !bye.end {
            if let Some(report) = bye.report.as_ref().filter(|_| self.connection.transport().is_some()) {
                // A report that is beyond what was sent is not believed; the transport ends anyway.
                let is_believed = self.connection.link_mut().on_report(report, now).is_ok();
                if let Some(receipt) = self.connection.epoch().and_then(|epoch| bye.receipt(epoch)) {
                    if is_believed && bye.is_final {
                        // The server's state ends, and says with its last act what became of what was written.
                        self.connection.link_mut().end_epoch(Some(&receipt), Unknown::NoReceipt, true);
                        self.connection.forget_epoch();
                    }
                }
            }
            return self.end_by(Ended::Closed(bye.code), Some(CloseCode::NORMAL), bye.retry_after, now);
        }
        // Before the welcome there is no epoch that both sides speak of. A report that is beyond what was sent is not believed.
        let epoch = self.connection.epoch().filter(|_| self.connection.transport().is_some());
        let receipt = epoch.and_then(|epoch| bye.receipt(epoch));
        let receipt = receipt.filter(|receipt| receipt.received <= self.connection.link().outbox().flight().sent());
        self.close_transport(CloseCode::NORMAL);
        self.connection.link_mut().end_sending(receipt.as_ref(), Unknown::Ended, NotDelivered::Ended);
        if self.closing.poll_timeout().is_some() {
            // This side was about to leave too, and wants nothing more.
            self.connection.link_mut().discard();
        }
        self.finish(Closed::ByPeer { code: bye.code, reason: bye.reason });
    }

    fn on_broken_protocol(&mut self, error: ProtocolError, now: Instant) {
        self.tell(Event::PeerBrokeProtocol { error });
        self.end_transport(Ended::Protocol(error), Some(error.close_code()), now);
    }

    /// The live transport has ended, or has to.
    fn end_transport(&mut self, ended: Ended, close: Option<CloseCode>, now: Instant) {
        let retry_after =
            if let Ended::NotOpened(OpenError::Refused { retry_after, .. }) = ended { retry_after } else { None };
        self.end_by(ended, close, retry_after, now);
    }

    /// It has, and the server said when to come back.
    fn end_by(&mut self, ended: Ended, close: Option<CloseCode>, retry_after: Option<Duration>, now: Instant) {
        let was_attached = self.state.at() == At::Attached;
        match close {
            Some(code) => {
                self.say_farewell(code, &ended);
                self.close_transport(code);
            }
            None => _ = self.connection.detach(),
        }
        self.tell(if was_attached { Event::Detached { ended } } else { Event::TryFailed { ended } });
        if !was_attached {
            self.reconnect.on_failed(now);
            self.fail_fast();
        }
        match self.reconnect.on_ended(ended, retry_after, now) {
            Next::RetryAt(at) => self.state.move_to_waiting(at),
            Next::Superseded => self.on_superseded(now),
            Next::GiveUp(reason) => self.fail(reason, now),
        }
    }

    /// Says why an attached transport is closed, unless it was the peer that said so first.
    fn say_farewell(&mut self, code: CloseCode, ended: &Ended) {
        if matches!(ended, Ended::Closed(_)) {
            return;
        }
        if let Some((transport, text)) = self.connection.farewell(code, ended.to_string()) {
            self.outputs.push_back(Output::Write { transport, text });
        }
    }

    /// Closes the live transport, whatever it was doing.
    fn close_transport(&mut self, code: CloseCode) {
        self.connection.detach();
        if let Some(transport) = self.state.transport() {
            self.outputs.push_back(Output::Close { transport, code });
        }
    }

    fn on_superseded(&mut self, now: Instant) {
        self.tell(Event::Superseded);
        let spare = match self.config.on_superseded {
            OnSuperseded::NewIdentity => self.spare.take(),
            OnSuperseded::Stop => None,
        };
        let link = self.connection.link_mut();
        if self.is_restored {
            // A twin of the same stored state lives, and has what was never written here too.
            link.end_epoch(None, Unknown::Superseded, false);
            link.restore(false);
            self.connection.forget_epoch();
        }
        let link = self.connection.link_mut();
        let Some(key) = spare else {
            link.give_up(Unknown::Superseded, NotDelivered::Superseded, now);
            if self.closing.poll_timeout().is_some() {
                return self.cut();
            }
            return self.state.move_to_stopped(Stop::Superseded);
        };
        link.end_epoch(None, Unknown::Superseded, false);
        self.connection.forget_epoch();
        let old = self.identity.cid;
        self.identity = Identity { attempt: self.identity.attempt, ..Identity::new(key, self.identity.instance) };
        self.tell(Event::IdentityChanged { old, new: self.identity.cid });
        match self.reconnect.on_moved(now) {
            Some(Next::RetryAt(at)) => self.state.move_to_waiting(at),
            Some(Next::GiveUp(reason)) => self.fail(reason, now),
            Some(Next::Superseded) | None => self.open(now),
        }
    }

    /// Trying stops. Nothing waits without a timer, so every message gets its outcome, and none is written again behind the
    /// application's back. The epoch is kept: should the application try again, its peer is told what was taken in it.
    fn fail(&mut self, reason: GiveUp, now: Instant) {
        self.connection.link_mut().give_up(Unknown::Unreachable, NotDelivered::Unreachable, now);
        if self.closing.poll_timeout().is_some() {
            return self.cut();
        }
        self.state.move_to_stopped(Stop::Failed(reason));
        self.tell(Event::Failed { reason });
    }

    fn close_if_flushed(&mut self) {
        if self.closing.poll_timeout().is_some() && self.connection.link().outbox().is_empty() {
            self.end(Closed::Flushed);
        }
    }

    /// Ends the connection from this side, with a last word where somebody hears it.
    fn end(&mut self, closed: Closed) {
        if let Some((transport, text)) = self.connection.last_word(CloseCode::NORMAL, true, None) {
            self.outputs.push_back(Output::Write { transport, text });
        }
        self.close_transport(CloseCode::NORMAL);
        let link = self.connection.link_mut();
        link.end_sending(None, Unknown::Closed, NotDelivered::Closed);
        // The last word said that nothing more is handed over.
        link.seal();
        self.finish(closed);
    }

    /// Ends while nobody hears it. Nothing more is handed over here either, and no decision counts any more.
    fn cut(&mut self) {
        self.connection.link_mut().seal();
        self.finish(Closed::Cut);
    }

    fn finish(&mut self, closed: Closed) {
        self.connection.forget_epoch();
        self.closing.disarm();
        self.reconnect.restart();
        self.state.move_to_over();
        self.closed = Some(closed);
        self.is_end_untold = true;
    }
}
