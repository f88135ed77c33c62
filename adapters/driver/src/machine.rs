//! The two machines behind one face, so that one loop drives both.

use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Status;
use reattach_core::connection::Connection;
use reattach_core::connection::Incoming;
use reattach_core::connection::Stats;
use reattach_core::error::ApiMisuse;
use reattach_core::id::Epoch;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::id::TransportId;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Handle;
use reattach_core::link::Lanes;
use reattach_core::link::Outgoing;
use reattach_core::outcome::Outcome;
use reattach_core::reconnect::OpenError;
use reattach_core::server::Answer;
use reattach_core::server::Peer;
use reattach_core::server::PeerEvent;
use reattach_core::server::PeerInput;
use reattach_core::server::PeerOutput;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Payload;
use reattach_core::wire::Token;

/// What a machine wants done.
#[derive(Debug)]
pub(crate) enum Output<E> {
    Open { transport: TransportId },
    Write { transport: TransportId, text: String },
    Close { transport: TransportId, code: CloseCode },
    Answer(Answer),
    Event(E),
}

/// A machine of the core that holds one connection.
pub(crate) trait Machine: Send + Unpin + 'static {
    /// What its side is called.
    const SIDE: &'static str;

    type Event: Clone + Send + Sync + Unpin + std::fmt::Debug + 'static;

    fn handle_opened(&mut self, transport: TransportId, opened: Result<Option<Token>, OpenError>, now: Instant);
    fn handle_received(&mut self, transport: TransportId, incoming: Incoming<'_>, now: Instant);
    fn handle_progress(&mut self, transport: TransportId, read: u64, written: u64, now: Instant);
    fn handle_closed(&mut self, transport: TransportId, code: CloseCode, now: Instant);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_output(&mut self) -> Option<Output<Self::Event>>;
    fn poll_timeout(&self) -> Option<Instant>;

    fn send(&mut self, message: Outgoing, now: Instant) -> Result<MessageId, ApiMisuse>;
    fn send_ephemeral(&mut self, key: Name, payload: Payload, now: Instant) -> Result<(), ApiMisuse>;
    fn cancel(&mut self, id: &MessageId, now: Instant) -> Result<(), ApiMisuse>;
    fn take_from(&mut self, lanes: Lanes<'_>, now: Instant) -> Option<Delivery>;
    fn decide(&mut self, handle: Handle, decision: Decision, now: Instant) -> Result<(), ApiMisuse>;
    fn extend(&mut self, handle: Handle, lease: Duration, now: Instant) -> Result<(), ApiMisuse>;
    fn close(&mut self, patience: Duration, now: Instant);
    fn disconnect(&mut self, now: Instant);

    fn has_delivery_from(&self, lanes: Lanes<'_>) -> bool;
    /// The connection, to look at.
    fn connection(&self) -> &Connection;
    /// The epoch that it is in.
    fn epoch(&self) -> Option<Epoch> {
        self.connection().epoch()
    }

    fn is_attached(&self) -> bool {
        self.connection().transport().is_some()
    }

    /// How many messages take a place in the outbox.
    fn places_taken(&self) -> u32 {
        self.connection().link().outbox().usage().all().count()
    }

    fn stats(&self) -> Stats;
    /// Whether the connection has ended.
    fn is_over(&self) -> bool;
    /// Whether something may still come without anybody asking for it.
    fn is_expecting(&self) -> bool;
    /// When the lease ends of what is in the application's hands, where it holds up something that can still be taken after
    /// the end.
    fn held_up_until(&self, lanes: Lanes<'_>) -> Option<Instant> {
        self.connection().link().inbox().held_up_until(lanes)
    }

    /// The outcome that an event tells, if it tells one.
    fn outcome(event: &Self::Event) -> Option<(MessageId, &Outcome)>;
    /// How the connection has ended, where an event tells that.
    fn end(event: &Self::Event) -> Option<String>;
}

/// What both machines have under the same name.
macro_rules! forward {
    () => {
        fn handle_timeout(&mut self, now: Instant) {
            Self::handle_timeout(self, now);
        }

        fn poll_timeout(&self) -> Option<Instant> {
            Self::poll_timeout(self)
        }

        fn send(&mut self, message: Outgoing, now: Instant) -> Result<MessageId, ApiMisuse> {
            Self::send(self, message, now)
        }

        fn send_ephemeral(&mut self, key: Name, payload: Payload, now: Instant) -> Result<(), ApiMisuse> {
            Self::send_ephemeral(self, key, payload, now)
        }

        fn cancel(&mut self, id: &MessageId, now: Instant) -> Result<(), ApiMisuse> {
            Self::cancel(self, id, now)
        }

        fn take_from(&mut self, lanes: Lanes<'_>, now: Instant) -> Option<Delivery> {
            Self::take_from(self, lanes, now)
        }

        fn decide(&mut self, handle: Handle, decision: Decision, now: Instant) -> Result<(), ApiMisuse> {
            Self::decide(self, handle, decision, now)
        }

        fn extend(&mut self, handle: Handle, lease: Duration, now: Instant) -> Result<(), ApiMisuse> {
            Self::extend(self, handle, lease, now)
        }

        fn close(&mut self, patience: Duration, now: Instant) {
            Self::close(self, patience, now);
        }

        fn disconnect(&mut self, now: Instant) {
            Self::disconnect(self, now);
        }

        fn has_delivery_from(&self, lanes: Lanes<'_>) -> bool {
            Self::has_delivery_from(self, lanes)
        }

        fn connection(&self) -> &Connection {
            Self::connection(self)
        }

        fn stats(&self) -> Stats {
            Self::stats(self)
        }

        fn is_over(&self) -> bool {
            Self::is_over(self)
        }

        fn outcome(event: &Self::Event) -> Option<(MessageId, &Outcome)> {
            event.outcome()
        }
    };
}

impl Machine for Client {
    const SIDE: &'static str = "client";

    type Event = client::Event;

    forward!();

    fn handle_opened(&mut self, transport: TransportId, opened: Result<Option<Token>, OpenError>, now: Instant) {
        let input = match opened {
            Ok(token) => client::Input::Opened { transport, token },
            Err(error) => client::Input::OpenFailed { transport, error },
        };
        self.handle_input(input, now);
    }

    fn handle_received(&mut self, transport: TransportId, incoming: Incoming<'_>, now: Instant) {
        self.handle_input(client::Input::Received { transport, incoming }, now);
    }

    fn handle_progress(&mut self, transport: TransportId, read: u64, written: u64, now: Instant) {
        self.handle_input(client::Input::Progress { transport, read, written }, now);
    }

    fn handle_closed(&mut self, transport: TransportId, code: CloseCode, now: Instant) {
        self.handle_input(client::Input::Closed { transport, code }, now);
    }

    fn poll_output(&mut self) -> Option<Output<Self::Event>> {
        Some(match Self::poll_output(self)? {
            client::Output::Open { transport } => Output::Open { transport },
            client::Output::Write { transport, text } => Output::Write { transport, text },
            client::Output::Close { transport, code } => Output::Close { transport, code },
            client::Output::Event(event) => Output::Event(event),
        })
    }

    fn end(event: &Self::Event) -> Option<String> {
        if let client::Event::Closed { reason } = event { Some(reason.to_string()) } else { None }
    }

    fn is_expecting(&self) -> bool {
        !matches!(self.status(), Status::Closed(_) | Status::Failed(_) | Status::Superseded)
    }
}

impl Machine for Peer {
    const SIDE: &'static str = "server";

    type Event = PeerEvent;

    forward!();

    fn handle_opened(&mut self, _: TransportId, _: Result<Option<Token>, OpenError>, _: Instant) {
        unreachable!("a server opens no transports");
    }

    fn handle_received(&mut self, transport: TransportId, incoming: Incoming<'_>, now: Instant) {
        self.handle_input(PeerInput::Received { transport, incoming }, now);
    }

    fn handle_progress(&mut self, transport: TransportId, read: u64, written: u64, now: Instant) {
        self.handle_input(PeerInput::Progress { transport, read, written }, now);
    }

    fn handle_closed(&mut self, transport: TransportId, code: CloseCode, now: Instant) {
        self.handle_input(PeerInput::Closed { transport, code }, now);
    }

    fn poll_output(&mut self) -> Option<Output<Self::Event>> {
        Some(match Self::poll_output(self)? {
            PeerOutput::Write { transport, text } => Output::Write { transport, text },
            PeerOutput::Close { transport, code } => Output::Close { transport, code },
            PeerOutput::Answer(answer) => Output::Answer(answer),
            PeerOutput::Event(event) => Output::Event(event),
        })
    }

    fn end(event: &Self::Event) -> Option<String> {
        if let PeerEvent::Closed { reason } = event { Some(reason.to_string()) } else { None }
    }

    fn is_expecting(&self) -> bool {
        !Self::is_over(self)
    }
}
