//! What the application tells a connection to do. A part of the machine: it only forwards, or begins what the transitions
//! beside it go on with.

use core::time::Duration;

use crate::error::ApiMisuse;
use crate::id::MessageId;
use crate::id::Name;
use crate::link::Decision;
use crate::link::Delivery;
use crate::link::Handle;
use crate::link::Lanes;
use crate::link::Outgoing;
use crate::outcome::NotDelivered;
use crate::outcome::Unknown;
use crate::reconnect::Ended;
use crate::server::event::PeerClosed;
use crate::server::peer::Peer;
use crate::time::Instant;
use crate::wire::CloseCode;
use crate::wire::Payload;

impl Peer {
    /// Queues a reliable message and names it. Its one outcome will come as [`PeerEvent::Delivered`](crate::server::PeerEvent::Delivered)
    /// or [`PeerEvent::SendFailed`](crate::server::PeerEvent::SendFailed).
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::QueueFull`], [`ApiMisuse::TooLarge`], [`ApiMisuse::IdInUse`], and [`ApiMisuse::Ended`] once the
    /// connection is over or is being closed.
    pub fn send(&mut self, message: Outgoing, now: Instant) -> Result<MessageId, ApiMisuse> {
        let now = self.clock.advance(now);
        self.check_open()?;
        self.connection.send(message, now)
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

    /// Withdraws a message: at once where it was never written; else the client is asked to, and its answer is the outcome.
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

    /// Hands the next message over to the application. With automatic acceptance that accepts it: the client will be told that
    /// the application has it. With manual acceptance its lease begins, and [`Peer::decide`] ends it.
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
        self.connection.link_mut().decide(handle, decision, now)?;
        self.close_if_flushed();
        Ok(())
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

    /// Closes the transport with a code and keeps the state: the client comes back as the code's policy says. For a restart of
    /// something in front, or to move the client elsewhere.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::ReservedCode`].
    pub fn detach(&mut self, code: CloseCode, now: Instant) -> Result<(), ApiMisuse> {
        self.clock.advance(now);
        if !code.is_sendable() {
            return Err(ApiMisuse::ReservedCode(code));
        }
        if self.connection.transport().is_some() {
            self.end_transport(Ended::Local, Some(code));
        }
        Ok(())
    }

    /// Ends the connection at once. Every message gets its outcome. Where the client has ended it before, what came and was not
    /// taken is dropped.
    pub fn disconnect(&mut self, now: Instant) {
        self.clock.advance(now);
        if self.is_over() {
            self.connection.link_mut().discard();
        } else {
            self.end_closed();
        }
    }

    /// Ends the connection once every message has its outcome, or after `patience`, whichever comes first. Nothing more can be
    /// sent. Where the client has ended it before, what came and was not taken is dropped.
    pub fn close(&mut self, patience: Duration, now: Instant) {
        let now = self.clock.advance(now);
        if self.is_over() {
            self.connection.link_mut().discard();
        } else {
            self.closing.arm_no_later_than(now + patience);
            self.close_if_flushed();
        }
    }

    /// The server is about to stop: nothing more is handed over and nothing more can be sent; what is in the application's hands
    /// can be decided about, and what was sent can be settled, for as long as `patience` says. Then the state ends with a last
    /// word that says what became of everything, and asks the client to come back after `retry_after`.
    pub fn drain(&mut self, patience: Duration, retry_after: Duration, now: Instant) {
        let now = self.clock.advance(now);
        if !self.is_over() {
            self.connection.link_mut().pause();
            self.drained = Some(retry_after);
            self.closing.arm_no_later_than(now + patience);
            self.close_if_flushed();
        }
    }

    /// The server stops and loses the state: the transport is closed as going away, and every message gets its outcome. The
    /// client comes back to whatever server runs then. Where the client has ended it before, what came can still be taken.
    pub fn shut_down(&mut self, now: Instant) {
        self.clock.advance(now);
        if !self.is_over() {
            self.close_transport(CloseCode::GOING_AWAY, "the server stops");
            self.connection.link_mut().end_sending(None, Unknown::Shutdown, NotDelivered::Shutdown);
            self.finish(PeerClosed::ShutDown);
            self.connection.link_mut().discard();
        }
    }
}
