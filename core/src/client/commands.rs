//! What the application tells a client to do. A part of the machine: it only forwards, or begins what the transitions beside it
//! go on with.

use core::time::Duration;

use crate::client::Client;
use crate::client::event::Closed;
use crate::client::event::Event;
use crate::client::output::Output;
use crate::client::state::At;
use crate::client::state::Stop;
use crate::error::ApiMisuse;
use crate::id::ConnectionKey;
use crate::id::MessageId;
use crate::id::Name;
use crate::link::Decision;
use crate::link::Delivery;
use crate::link::Handle;
use crate::link::Lanes;
use crate::link::Outgoing;
use crate::reconnect::Ended;
use crate::time::Instant;
use crate::wire::CloseCode;
use crate::wire::Payload;

impl Client {
    /// Queues a reliable message and names it. Its one [`Outcome`](crate::outcome::Outcome) will come as [`Event::Delivered`] or
    /// [`Event::SendFailed`].
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::QueueFull`], [`ApiMisuse::TooLarge`], [`ApiMisuse::IdInUse`], and [`ApiMisuse::Ended`] once the
    /// connection is over, is being closed, or trying has stopped.
    pub fn send(&mut self, message: Outgoing, now: Instant) -> Result<MessageId, ApiMisuse> {
        let now = self.clock.advance(now);
        self.check_open()?;
        let id = self.connection.send(message, now)?;
        self.fail_fast();
        Ok(id)
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

    /// Withdraws a message: at once where it was never written; else the server is asked to, and its answer is the outcome.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::UnknownMessage`] for one that has its outcome, or never was.
    pub fn cancel(&mut self, id: &MessageId, now: Instant) -> Result<(), ApiMisuse> {
        let now = self.clock.advance(now);
        self.connection.link_mut().cancel(id, now)?;
        self.close_if_flushed();
        Ok(())
    }

    /// Hands the next message over to the application. With automatic acceptance that accepts it: the server will be told that
    /// the application has it. With manual acceptance its lease begins, and [`Client::decide`] ends it.
    pub fn take(&mut self, now: Instant) -> Option<Delivery> {
        self.take_from(Lanes::All, now)
    }

    /// The same for some of the lanes: the others keep what they hold.
    pub fn take_from(&mut self, lanes: Lanes<'_>, now: Instant) -> Option<Delivery> {
        let now = self.clock.advance(now);
        self.connection.take(lanes, now)
    }

    /// Decides about a message in the application's hands, with manual acceptance.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::Undecidable`] where it is not in its hands any more. Nothing has changed then.
    pub fn decide(&mut self, handle: Handle, decision: Decision, now: Instant) -> Result<(), ApiMisuse> {
        let now = self.clock.advance(now);
        self.connection.link_mut().decide(handle, decision, now)
    }

    /// Starts the lease of a message in the application's hands over, with this length.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::Undecidable`].
    pub fn extend(&mut self, handle: Handle, lease: Duration, now: Instant) -> Result<(), ApiMisuse> {
        let now = self.clock.advance(now);
        self.connection.link_mut().extend(handle, lease, now)
    }

    /// Tries to attach now: instead of waiting, in place of a transport that is attached, or again after trying had stopped.
    /// While a transport is being opened that goes on. In any state the retries are counted from here again: whoever has just
    /// asked is not told that trying has stopped for what failed before.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::Ended`] once the connection is over.
    pub fn reconnect(&mut self, now: Instant) -> Result<(), ApiMisuse> {
        let now = self.clock.advance(now);
        match self.state.at() {
            At::Over => return Err(ApiMisuse::Ended),
            At::Opening | At::Greeting => {
                self.reconnect.restart();
                return Ok(());
            }
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

    /// Goes to sleep, as a page does that goes to the background: the server is asked to keep the state for longer, as far as
    /// it hears of it, and no transport is held until [`Client::reconnect`]. What is sent meanwhile waits.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::Ended`] once the connection is over, or trying has stopped.
    pub fn suspend(&mut self, now: Instant) -> Result<(), ApiMisuse> {
        self.clock.advance(now);
        match self.state.at() {
            At::Over | At::Stopped(Stop::Superseded | Stop::Failed(_)) => return Err(ApiMisuse::Ended),
            At::Stopped(Stop::Suspended) => return Ok(()),
            At::Attached => {
                if let Some((transport, text)) = self.connection.good_night() {
                    self.outputs.push_back(Output::Write { transport, text });
                }
                self.close_transport(CloseCode::GOING_AWAY);
                self.tell(Event::Detached { ended: Ended::Local });
            }
            At::Opening | At::Greeting => self.close_transport(CloseCode::GOING_AWAY),
            At::Waiting { .. } => {}
        }
        self.reconnect.restart();
        self.state.move_to_stopped(Stop::Suspended);
        Ok(())
    }

    /// Ends the connection at once. Every timer stops; every message gets its outcome. Where the server has ended it before, what
    /// came and was not taken is dropped.
    pub fn disconnect(&mut self, now: Instant) {
        self.clock.advance(now);
        if self.state.at() == At::Over {
            self.connection.link_mut().discard();
        } else {
            let flushed = self.connection.link().outbox().is_empty();
            self.end(if flushed { Closed::Flushed } else { Closed::Cut });
        }
    }

    /// Ends the connection once every message has its outcome, or after `patience`, whichever comes first. Nothing more can be
    /// sent. Where the server has ended it before, what came and was not taken is dropped.
    pub fn close(&mut self, patience: Duration, now: Instant) {
        let now = self.clock.advance(now);
        if self.state.at() == At::Over {
            self.connection.link_mut().discard();
        } else {
            self.closing.arm_no_later_than(now + patience);
            self.close_if_flushed();
        }
    }

    /// Provides the key to go on with should another instance take the connection over.
    pub fn provide_key(&mut self, spare: ConnectionKey) {
        self.spare = Some(spare);
    }
}
