//! The client machine.
//!
//! # The law
//!
//! 1. Mutate: hand in one input, call one command, or let time pass.
//! 2. Drain [`Client::poll_output`] and do what it says.
//! 3. Wait for the first of: something on the transport, a command, [`Client::poll_timeout`]. Go to 1.
//!
//! ```
//! use core::time::Duration;
//! use reattach_core::client::{Client, Config, Event, Input, Output, Secrets};
//! use reattach_core::connection::Incoming;
//! use reattach_core::id::{ConnectionKey, InstanceId};
//! use reattach_core::time::Instant;
//! use reattach_core::wire::Payload;
//!
//! // The adapter mints these from the system's CSPRNG.
//! let secrets = Secrets {
//!     key: ConnectionKey::from_bytes([1; 16]),
//!     spare: None,
//!     instance: InstanceId::from_bytes([2; 16]),
//! };
//! let now = Instant::ZERO;
//! let mut client = Client::new(Config::default(), secrets, 0, now);
//! let id = client.send(Payload::new("hello")?.into(), now)?;
//!
//! // The machine asks for a transport; the adapter opens one and says so.
//! let Some(Output::Open { transport }) = client.poll_output() else { panic!() };
//! client.handle_input(Input::Opened { transport, token: None }, now);
//!
//! // The machine greets. Until the welcome comes nothing else is written, and the wait has a deadline.
//! let Some(Output::Write { text, .. }) = client.poll_output() else { panic!() };
//! assert!(text.starts_with(r#"{"t":"hello""#));
//! assert_eq!(client.poll_output(), None);
//! assert_eq!(client.poll_timeout(), Some(now + Duration::from_secs(10)));
//! # let _ = (id, Incoming::Binary, Event::Superseded);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod event;
mod handshake;
mod input;
mod output;
mod state;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::string::ToString;

use core::time::Duration;

use crate::connection::Connection;
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
use crate::id::MessageId;
use crate::id::Name;
use crate::id::Seq;
use crate::id::TransportId;
use crate::link::Delivery;
use crate::link::Outgoing;
use crate::outcome::NotDelivered;
use crate::outcome::Unknown;
use crate::reconnect::Ended;
use crate::reconnect::GiveUp;
use crate::reconnect::Next;
use crate::reconnect::Reconnect;
use crate::time::Clock;
use crate::time::Instant;
use crate::wire;
use crate::wire::Bye;
use crate::wire::CloseCode;
use crate::wire::Frame;
use crate::wire::Payload;

pub use self::config::Config;
pub use self::config::OnSuperseded;
pub use self::event::Closed;
pub use self::event::Event;
pub use self::event::Status;
pub use self::input::Input;
pub use self::input::Secrets;
pub use self::output::Output;

use self::handshake::Identity;
use self::state::At;
use self::state::Due;
use self::state::State;
use self::state::Stop;

/// A client: one identity, one connection, at most one transport at a time.
///
/// Its methods come in four kinds. *Getters* take `&self`. `handle_*` take in what happened outside and never fail.
/// *Commands* ([`send`](Self::send), [`send_ephemeral`](Self::send_ephemeral), [`take`](Self::take),
/// [`reconnect`](Self::reconnect), [`disconnect`](Self::disconnect), [`close`](Self::close),
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
    }

    /// Queues a reliable message and names it. Its one [`Outcome`](crate::outcome::Outcome) will come as [`Event::Delivered`] or
    /// [`Event::SendFailed`].
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::QueueFull`], [`ApiMisuse::TooLarge`], [`ApiMisuse::IdInUse`], and [`ApiMisuse::Ended`] once the
    /// connection is over, is being closed, or trying has stopped.
    pub fn send(&mut self, message: Outgoing, now: Instant) -> Result<MessageId, ApiMisuse> {
        self.clock.advance(now);
        self.check_open()?;
        self.connection.send(message)
    }

    /// Sends an ephemeral message: now or never, without an outcome.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::NotAttached`], [`ApiMisuse::TooLarge`], [`ApiMisuse::Ended`].
    pub fn send_ephemeral(&mut self, key: Name, payload: Payload, now: Instant) -> Result<(), ApiMisuse> {
        self.clock.advance(now);
        self.check_open()?;
        self.connection.send_ephemeral(key, payload)
    }

    /// Hands the next message over to the application. This is the hand-over, and with it the acceptance: the peer will be
    /// told that the application has it.
    pub fn take(&mut self, now: Instant) -> Option<Delivery> {
        let now = self.clock.advance(now);
        self.connection.take(now)
    }

    /// Tries to attach now: instead of waiting, in place of a transport that is attached, or again after trying had stopped.
    /// While a transport is being opened it does nothing more.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::Ended`] once the connection is over.
    pub fn reconnect(&mut self, now: Instant) -> Result<(), ApiMisuse> {
        let now = self.clock.advance(now);
        match self.state.at() {
            At::Over => return Err(ApiMisuse::Ended),
            At::Opening | At::Greeting => return Ok(()),
            At::Attached => {
                self.say_farewell(CloseCode::NORMAL, &Ended::Local);
                self.close_transport(CloseCode::NORMAL);
                self.tell(Event::Detached { ended: Ended::Local });
            }
            At::Waiting { .. } | At::Stopped(_) => {}
        }
        self.reconnect.restart();
        self.open(now);
        Ok(())
    }

    /// Ends the connection at once. Every timer stops; every message gets its outcome.
    pub fn disconnect(&mut self, now: Instant) {
        self.clock.advance(now);
        if self.state.at() != At::Over {
            let flushed = self.connection.link().outbox().is_empty();
            self.end(if flushed { Closed::Flushed } else { Closed::Cut });
        }
    }

    /// Ends the connection once every message has its outcome, or after `patience`, whichever comes first. Nothing more can be
    /// sent.
    pub fn close(&mut self, patience: Duration, now: Instant) {
        let now = self.clock.advance(now);
        if self.state.at() != At::Over {
            self.closing.arm_no_later_than(now + patience);
            self.close_if_flushed();
        }
    }

    /// Provides the key to go on with should another instance take the connection over.
    pub fn provide_key(&mut self, spare: ConnectionKey) {
        self.spare = Some(spare);
    }

    /// The next thing to do. Poll until there is none, then wait.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if let Some(notice) = self.connection.link_mut().poll_notice() {
            return Some(Output::Event(match notice.into_result(self.clock.now()) {
                Ok(id) => Event::Delivered { id },
                Err(failed) => Event::SendFailed(failed),
            }));
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
            At::Stopped(Stop::Superseded) => Status::Superseded,
            At::Stopped(Stop::Failed(reason)) => Status::Failed(reason),
            At::Over => Status::Closed(self.closed.clone().expect("what is over has a reason")),
        }
    }

    /// Whether a message of `len` bytes would find room in the outbox.
    #[must_use]
    pub const fn has_room(&self, len: u64) -> bool {
        self.connection.link().outbox().has_room(len)
    }

    /// Whether [`Client::take`] has something to hand over.
    #[must_use]
    pub fn has_delivery(&self) -> bool {
        self.connection.link().has_delivery()
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
        (link.outbox().taken(), link.inbox().settlement().received())
    }

    fn check_open(&self) -> Result<(), ApiMisuse> {
        let is_closing = self.closing.poll_timeout().is_some();
        match self.state.at() {
            At::Stopped(_) | At::Over => Err(ApiMisuse::Ended),
            At::Opening | At::Greeting | At::Attached | At::Waiting { .. } if is_closing => Err(ApiMisuse::Ended),
            At::Opening | At::Greeting | At::Attached | At::Waiting { .. } => Ok(()),
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
            | Frame::Ack(_)
            | Frame::Ping(_)
            | Frame::Pong(_) => misplaced,
        }
    }

    fn on_bye(&mut self, bye: Bye, now: Instant) {
        if !bye.end {
            if let Some(report) = bye.report.as_ref().filter(|_| self.connection.transport().is_some()) {
                // A report that is beyond what was sent is not believed; the transport ends anyway.
                _ = self.connection.link_mut().on_report(report, now);
            }
            return self.end_transport(Ended::Closed(bye.code), Some(CloseCode::NORMAL), now);
        }
        // Before the welcome there is no epoch that both sides speak of. A report that is beyond what was sent is not believed.
        let epoch = self.connection.epoch().filter(|_| self.connection.transport().is_some());
        let receipt = epoch.and_then(|epoch| bye.receipt(epoch));
        let receipt = receipt.filter(|receipt| receipt.received <= self.connection.link().outbox().sent());
        self.close_transport(CloseCode::NORMAL);
        self.connection.link_mut().end_sending(receipt.as_ref(), Unknown::Ended, NotDelivered::Ended);
        self.finish(Closed::ByPeer { code: bye.code, reason: bye.reason });
    }

    fn on_broken_protocol(&mut self, error: ProtocolError, now: Instant) {
        self.tell(Event::PeerBrokeProtocol { error });
        self.end_transport(Ended::Protocol(error), Some(error.close_code()), now);
    }

    /// The live transport has ended, or has to.
    fn end_transport(&mut self, ended: Ended, close: Option<CloseCode>, now: Instant) {
        let was_attached = self.state.at() == At::Attached;
        match close {
            Some(code) => {
                self.say_farewell(code, &ended);
                self.close_transport(code);
            }
            None => _ = self.connection.detach(),
        }
        self.tell(if was_attached { Event::Detached { ended } } else { Event::TryFailed { ended } });
        match self.reconnect.on_ended(ended, now) {
            Next::RetryAt(at) => self.state.move_to_waiting(at),
            Next::Superseded => self.on_superseded(now),
            Next::GiveUp(reason) => self.fail(reason),
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
        let Some(key) = spare else {
            link.give_up(Unknown::Superseded, NotDelivered::Superseded);
            if self.closing.poll_timeout().is_some() {
                return self.finish(Closed::Cut);
            }
            return self.state.move_to_stopped(Stop::Superseded);
        };
        link.end_epoch(None, Unknown::Superseded);
        self.connection.forget_epoch();
        let old = self.identity.cid;
        self.identity = Identity { attempt: self.identity.attempt, ..Identity::new(key, self.identity.instance) };
        self.tell(Event::IdentityChanged { old, new: self.identity.cid });
        match self.reconnect.on_moved(now) {
            Some(Next::RetryAt(at)) => self.state.move_to_waiting(at),
            Some(Next::GiveUp(reason)) => self.fail(reason),
            Some(Next::Superseded) | None => self.open(now),
        }
    }

    /// Trying stops. Nothing waits without a timer, so every message gets its outcome, and none is written again behind the
    /// application's back. The epoch is kept: should the application try again, its peer is told what was taken in it.
    fn fail(&mut self, reason: GiveUp) {
        self.connection.link_mut().give_up(Unknown::Unreachable, NotDelivered::Unreachable);
        if self.closing.poll_timeout().is_some() {
            return self.finish(Closed::Cut);
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
        if let Some((transport, text)) = self.connection.last_word(CloseCode::NORMAL) {
            self.outputs.push_back(Output::Write { transport, text });
        }
        self.close_transport(CloseCode::NORMAL);
        let link = self.connection.link_mut();
        link.end_sending(None, Unknown::Closed, NotDelivered::Closed);
        // The last word said that nothing more is handed over.
        link.seal();
        self.finish(closed);
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
