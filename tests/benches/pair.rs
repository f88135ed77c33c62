//! A client and a server with nothing between them, composed as the adapters compose them: the client, the registry, and the
//! connection's peer.

use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Secrets;
use reattach_core::connection::Incoming;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::id::TransportId;
use reattach_core::server;
use reattach_core::server::Command;
use reattach_core::server::Mint;
use reattach_core::server::Peer;
use reattach_core::server::PeerEvent;
use reattach_core::server::PeerInput;
use reattach_core::server::PeerOutput;
use reattach_core::server::Registry;
use reattach_core::server::RegistryInput;
use reattach_core::server::RegistryOutput;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Payload;

/// A client, and its connection on a server.
pub(crate) struct Pair {
    client: Client,
    registry: Registry,
    /// Gone until the registry has it made.
    peer: Option<Peer>,
    now: Instant,
    /// The transport that the client asked for last. Its number is the same on both sides.
    transport: TransportId,
    /// The bytes that were written on it: by the client, by the server.
    written: (u64, u64),
    /// Outcomes that the client was told.
    delivered: usize,
}

impl Pair {
    /// An attached client, alone at its server.
    pub(crate) fn attached() -> Self {
        let now = Instant::from_secs(1_000);
        Self::attached_at(Registry::new(server::Config::default(), now), now)
    }

    /// An attached client, at a server that has others.
    pub(crate) fn attached_at(registry: Registry, now: Instant) -> Self {
        let client = Client::new(client::Config::default(), secrets(0), 0, now);
        let transport = TransportId(0);
        let mut pair = Self { client, registry, peer: None, now, transport, written: (0, 0), delivered: 0 };
        pair.exchange();
        assert_eq!(pair.client.status(), client::Status::Attached);
        pair
    }

    /// The client sends so many messages, the server's application takes them, and all of it is settled. Returns how many were
    /// delivered.
    pub(crate) fn deliver(&mut self, payload: &Payload, count: usize) -> usize {
        self.delivered = 0;
        self.now = self.now + Duration::from_millis(1);
        for _ in 0..count {
            self.client.send(payload.clone().into(), self.now).expect("there is room");
        }
        self.exchange();
        self.delivered
    }

    /// The transport breaks, and the client comes back at once.
    pub(crate) fn reattach(&mut self) {
        let (transport, code) = (self.transport, CloseCode::ABNORMAL);
        self.now = self.now + Duration::from_secs(10);
        self.client.handle_input(client::Input::Closed { transport, code }, self.now);
        if let Some(peer) = &mut self.peer {
            peer.handle_input(PeerInput::Closed { transport, code }, self.now);
        }
        self.client.reconnect(self.now).expect("it goes on");
        self.exchange();
        assert_ne!(self.transport, transport);
        assert!(self.peer.as_ref().is_some_and(Peer::is_attached));
    }

    /// Does what the machines want until they want nothing more, and looks at their timers, as a loop does before it waits.
    fn exchange(&mut self) {
        while self.poll_client() | self.poll_registry() | self.poll_peer() | self.poll_timers() {}
    }

    fn poll_timers(&mut self) -> bool {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= self.now);
        let (client, peer) = (self.client.poll_timeout(), self.peer.as_ref().and_then(Peer::poll_timeout));
        let (client, peer) = (is_due(client), is_due(peer));
        if client {
            self.client.handle_timeout(self.now);
        }
        if let Some(due) = self.peer.as_mut().filter(|_| peer) {
            due.handle_timeout(self.now);
        }
        client || peer
    }

    fn poll_client(&mut self) -> bool {
        let mut has_output = false;
        while let Some(output) = self.client.poll_output() {
            has_output = true;
            match output {
                client::Output::Open { transport } => {
                    (self.transport, self.written) = (transport, (0, 0));
                    let mint = mint(transport.0);
                    self.registry.handle_input(RegistryInput::Accepted { transport, address: None, mint }, self.now);
                    self.client.handle_input(client::Input::Opened { transport, token: None }, self.now);
                }
                client::Output::Write { transport, text } => {
                    self.written.0 += text.len() as u64;
                    let (now, (written, back)) = (self.now, self.written);
                    self.client.handle_input(client::Input::Progress { transport, read: 0, written }, now);
                    let incoming = Incoming::Text(&text);
                    match self.peer.as_mut().filter(|peer| peer.is_attached()) {
                        Some(peer) => {
                            let read = text.len() as u64;
                            peer.handle_input(PeerInput::Progress { transport, read, written: back }, now);
                            peer.handle_input(PeerInput::Received { transport, incoming }, now);
                        }
                        None => self.registry.handle_input(RegistryInput::Received { transport, incoming }, now),
                    }
                }
                client::Output::Close { transport, code } => unreachable!("{transport:?} is closed: {code}"),
                client::Output::Event(client::Event::Delivered { .. }) => self.delivered += 1,
                client::Output::Event(_) => {}
            }
        }
        has_output
    }

    fn poll_registry(&mut self) -> bool {
        let mut has_output = false;
        while let Some(output) = self.registry.poll_output() {
            has_output = true;
            match output {
                RegistryOutput::Create(origin) => {
                    self.peer = Some(Peer::new(&server::Config::default(), origin, self.now));
                }
                RegistryOutput::Command { command, .. } => self.command(command),
                RegistryOutput::Event(_) => {}
                output @ (RegistryOutput::Write { .. }
                | RegistryOutput::Close { .. }
                | RegistryOutput::Authenticate { .. }) => unreachable!("nobody is refused: {output:?}"),
            }
        }
        has_output
    }

    fn command(&mut self, command: Command) {
        let peer = self.peer.as_mut().expect("the registry has made it");
        peer.handle_command(command, self.now);
    }

    fn poll_peer(&mut self) -> bool {
        let Some(peer) = &mut self.peer else { return false };
        let mut has_output = false;
        while peer.has_delivery() {
            has_output = true;
            peer.take(self.now);
        }
        while let Some(output) = peer.poll_output() {
            has_output = true;
            match output {
                PeerOutput::Write { transport, text } => {
                    self.written.1 += text.len() as u64;
                    let (written, back) = self.written;
                    peer.handle_input(PeerInput::Progress { transport, read: 0, written: back }, self.now);
                    let read = text.len() as u64;
                    self.client.handle_input(client::Input::Progress { transport, read, written }, self.now);
                    let incoming = Incoming::Text(&text);
                    self.client.handle_input(client::Input::Received { transport, incoming }, self.now);
                }
                PeerOutput::Answer(answer) => {
                    self.registry.handle_input(RegistryInput::Answered { peer: peer.id(), answer }, self.now);
                }
                PeerOutput::Event(PeerEvent::Closed { reason }) => unreachable!("the connection ended: {reason:?}"),
                PeerOutput::Event(_) => {}
                PeerOutput::Close { transport, code } => unreachable!("{transport:?} is closed: {code}"),
            }
        }
        has_output
    }
}

/// Secrets that are a function of a number.
pub(crate) fn secrets(number: u64) -> Secrets {
    let bytes = bytes(number);
    Secrets { key: ConnectionKey::from_bytes(bytes), spare: None, instance: InstanceId::from_bytes(bytes) }
}

/// What the system would mint for a transport, as a function of its number.
pub(crate) fn mint(number: u64) -> Mint {
    let bytes = bytes(number);
    Mint { epoch: Epoch::from_bytes(bytes), fence: Fence::from_bytes(bytes) }
}

fn bytes(number: u64) -> [u8; 16] {
    let mut bytes = [0xbe; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}
