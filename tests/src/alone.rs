//! One machine alone, without a network: a test plays the other side by hand.

use std::net::IpAddr;
use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::connection::Incoming;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::Name;
use reattach_core::id::Principal;
use reattach_core::id::TransportId;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::server::Admission;
use reattach_core::server::Mint;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;
use reattach_core::wire::Message;
use reattach_core::wire::Report;

use crate::frames;
use crate::world::secrets;

/// A client whose server is the test.
#[derive(Clone, Debug)]
pub struct LoneClient {
    /// The machine.
    pub client: Client,
    /// The time.
    pub now: Instant,
    /// The transport that it asked for last.
    pub transport: TransportId,
    /// Whether all that is written leaves at once.
    pub is_draining: bool,
    written: u64,
}

impl LoneClient {
    /// A client that has asked for its first transport.
    pub fn new(config: client::Config) -> Self {
        let now = Instant::from_secs(1_000);
        let mut lone = Self {
            client: Client::new(config, secrets(1), 0, now),
            now,
            transport: TransportId(0),
            is_draining: true,
            written: 0,
        };
        lone.drain();
        lone
    }

    /// A client that is attached, in the epoch [`epoch`] of 1, and whose first ping was answered at once.
    pub fn attached(config: client::Config) -> Self {
        let mut lone = Self::new(config);
        lone.opened();
        lone.welcomed();
        lone.wait(Duration::ZERO);
        lone.hear(r#"{"t":"pong","n":1}"#);
        lone
    }

    /// Does what the machine asks for and returns it.
    pub fn drain(&mut self) -> Vec<client::Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.client.poll_output() {
            if let client::Output::Open { transport } = &output {
                (self.transport, self.written) = (*transport, 0);
            }
            if let client::Output::Write { transport, text } = &output {
                self.written += text.len() as u64;
                if self.is_draining {
                    let (transport, written) = (*transport, self.written);
                    self.client.handle_input(client::Input::Progress { transport, read: 0, written }, self.now);
                }
            }
            outputs.push(output);
        }
        outputs
    }

    /// The transport opens.
    pub fn opened(&mut self) -> Vec<client::Output> {
        let transport = self.transport;
        self.client.handle_input(client::Input::Opened { transport, token: None }, self.now);
        self.drain()
    }

    /// The transport cannot be opened.
    pub fn open_fails(&mut self, error: OpenError) -> Vec<client::Output> {
        let transport = self.transport;
        self.client.handle_input(client::Input::OpenFailed { transport, error }, self.now);
        self.drain()
    }

    /// The server welcomes it: on where it was, or afresh.
    pub fn welcomed(&mut self) -> Vec<client::Output> {
        let connection = self.client.connection();
        let mut welcome = frames::welcome(self.client.connection_id(), epoch(1));
        if let Some(epoch) = connection.epoch() {
            let (received, settled) = connection.link().outbox().flight().taken();
            (welcome.epoch, welcome.resumed) = (epoch, true);
            welcome.report = Report { received, settled, ..Report::default() };
        }
        self.receive(&Frame::Welcome(Box::new(welcome)))
    }

    /// A frame comes.
    pub fn receive(&mut self, frame: &Frame<'_>) -> Vec<client::Output> {
        self.hear(&frames::text(frame))
    }

    /// A text comes.
    pub fn hear(&mut self, text: &str) -> Vec<client::Output> {
        let (transport, incoming) = (self.transport, Incoming::Text(text));
        self.client.handle_input(client::Input::Received { transport, incoming }, self.now);
        self.drain()
    }

    /// So many more bytes come, and so many of all that is written have left.
    pub fn progress(&mut self, read: u64, written: u64) -> Vec<client::Output> {
        let transport = self.transport;
        self.client.handle_input(client::Input::Progress { transport, read, written }, self.now);
        self.drain()
    }

    /// How many bytes were written on the transport, whether or not they have left.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// The transport is closed.
    pub fn closed(&mut self, code: CloseCode) -> Vec<client::Output> {
        let transport = self.transport;
        self.client.handle_input(client::Input::Closed { transport, code }, self.now);
        self.drain()
    }

    /// Time passes, and timers fire when they are due.
    pub fn wait(&mut self, duration: Duration) -> Vec<client::Output> {
        let end = self.now + duration;
        let mut outputs = self.drain();
        while let Some(at) = self.client.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.client.handle_timeout(self.now);
            outputs.extend(self.drain());
        }
        self.now = end;
        self.client.handle_timeout(end);
        outputs.extend(self.drain());
        outputs
    }
}

/// A server whose clients are the test.
#[derive(Clone, Debug)]
pub struct LoneServer {
    /// The machine.
    pub server: Server,
    /// The time.
    pub now: Instant,
    accepted: u64,
}

impl LoneServer {
    /// A server without connections.
    pub fn new(config: server::Config) -> Self {
        let now = Instant::from_secs(1_000);
        Self { server: Server::new(config, now), now, accepted: 0 }
    }

    /// What the machine asks for. Nothing is reported to have left.
    pub fn drain(&mut self) -> Vec<server::Output> {
        core::iter::from_fn(|| self.server.poll_output()).collect()
    }

    /// A transport comes. Returns what the server calls it, and what it does about it.
    pub fn accept(&mut self, address: Option<IpAddr>) -> (TransportId, Vec<server::Output>) {
        self.accepted += 1;
        let transport = TransportId(self.accepted);
        let mint = mint(self.accepted);
        self.server.handle_input(server::Input::Accepted { transport, address, mint }, self.now);
        (transport, self.drain())
    }

    /// A text comes.
    pub fn hear(&mut self, transport: TransportId, text: &str) -> Vec<server::Output> {
        let incoming = Incoming::Text(text);
        self.server.handle_input(server::Input::Received { transport, incoming }, self.now);
        self.drain()
    }

    /// A transport comes and says hello. Returns what the server calls it.
    pub fn greet(&mut self, hello: Hello) -> TransportId {
        let (transport, _) = self.accept(None);
        self.hear(transport, &frames::text(&Frame::Hello(Box::new(hello))));
        transport
    }

    /// A transport comes, says hello and is let in by a name, for so long where that is said. Returns what the server calls it, and
    /// what it does once it is let in.
    pub fn admit(&mut self, hello: Hello, name: &str, holds: Option<Duration>) -> (TransportId, Vec<server::Output>) {
        let transport = self.greet(hello);
        let principal = Principal::Named(Name::new(name).expect("the test says what may be"));
        let admission = Admission { principal, expires: holds.map(|holds| self.now + holds) };
        let input = server::Input::Authenticated { transport, admission: Some(admission) };
        self.server.handle_input(input, self.now);
        (transport, self.drain())
    }

    /// A reliable message comes.
    pub fn hear_message(&mut self, transport: TransportId, seq: u64, payload: &str) -> Vec<server::Output> {
        let message = Message::plain(frames::seq(seq), payload);
        self.hear(transport, &frames::text(&Frame::Message(message)))
    }

    /// A transport is closed.
    pub fn closed(&mut self, transport: TransportId) -> Vec<server::Output> {
        let code = CloseCode::ABNORMAL;
        self.server.handle_input(server::Input::Closed { transport, code }, self.now);
        self.drain()
    }

    /// Time passes, and timers fire when they are due.
    pub fn wait(&mut self, duration: Duration) -> Vec<server::Output> {
        let end = self.now + duration;
        let mut outputs = self.drain();
        while let Some(at) = self.server.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.server.handle_timeout(self.now);
            outputs.extend(self.drain());
        }
        self.now = end;
        self.server.handle_timeout(end);
        outputs.extend(self.drain());
        outputs
    }
}

/// An epoch that is a function of a small number.
pub const fn epoch(number: u8) -> Epoch {
    Epoch::from_bytes([number; 16])
}

/// What a test mints for the transport of a number.
pub fn mint(number: u64) -> Mint {
    let mut bytes = [0xee; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Mint { epoch: Epoch::from_bytes(bytes), fence: Fence::from_bytes(bytes) }
}
