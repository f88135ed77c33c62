//! The world: real client machines and a real server machine, an emulated network between them, and a clock that jumps from
//! one event to the next.
//!
//! Nothing here sleeps and nothing is random but by seed. A test arranges a world, lets it run, and looks at what the
//! applications were told.

use std::collections::BTreeMap;
use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Secrets;
use reattach_core::connection::Incoming;
use reattach_core::error::ApiMisuse;
use reattach_core::id::ConnectionId;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::id::Principal;
use reattach_core::id::TransportId;
use reattach_core::link::Delivery;
use reattach_core::outcome::Failure;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::SendFailed;
use reattach_core::rng::Rng;
use reattach_core::server;
use reattach_core::server::Mint;
use reattach_core::server::PeerEvent;
use reattach_core::server::RegistryEvent;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Payload;
use reattach_core::wire::Token;

use crate::net::Arrival;
use crate::net::Net;
use crate::net::Way;
use crate::net::WireId;

/// One client with its application.
#[derive(Debug)]
pub struct ClientSide {
    /// The machine.
    pub client: Client,
    /// What it told, in order.
    pub events: Vec<client::Event>,
    /// What its application took, in order: the payloads' text.
    pub taken: Vec<String>,
    /// Whether its application takes what comes.
    pub is_reading: bool,
    /// What it puts into its hellos.
    pub token: Option<Token>,
    /// When it asked for each transport.
    pub opens: Vec<Instant>,
    /// Bytes of texts written for each live transport.
    written: BTreeMap<TransportId, u64>,
}

/// A world with one server.
#[derive(Debug)]
pub struct World {
    /// The time.
    pub now: Instant,
    /// The clients.
    pub clients: Vec<ClientSide>,
    /// The server machine.
    pub server: Server,
    /// What the server told of its connections, in order.
    pub peer_events: Vec<(ConnectionId, PeerEvent)>,
    /// What its registry told, in order.
    pub registry_events: Vec<RegistryEvent>,
    /// What the server's application took, in order: the payloads' text.
    pub taken: Vec<(ConnectionId, String)>,
    /// Whether the server's application takes what comes.
    pub is_reading: bool,
    /// The network.
    pub net: Net,
    /// Whether asked-for transports open.
    pub is_reachable: bool,
    /// How the server's application authenticates: token to principal.
    pub accounts: BTreeMap<String, String>,
    /// Every text that was written, with its time, wire and way.
    pub texts: Vec<(Instant, WireId, Way, String)>,
    /// Transports that a machine closed, with the code.
    pub closes: Vec<(WireId, Way, CloseCode)>,
    written: BTreeMap<TransportId, u64>,
    mint: Rng,
}

/// A payload that holds a JSON string.
pub fn payload(text: &str) -> Payload {
    Payload::new(text).expect("a string is JSON")
}

/// A key that is a function of a small number.
pub fn key(number: u8) -> ConnectionKey {
    ConnectionKey::from_bytes([number; 16])
}

/// Secrets that are a function of a small number.
pub fn secrets(number: u8) -> Secrets {
    Secrets { key: key(number), spare: Some(key(number + 100)), instance: InstanceId::from_bytes([number; 16]) }
}

/// The default client configuration without jitter, so that times can be told in advance.
pub fn steady() -> client::Config {
    let mut config = client::Config::default();
    config.reconnect.backoff.jitter = false;
    config
}

impl World {
    /// A world whose server has a configuration. Everything travels for 10 ms.
    pub fn with_server(config: server::Config) -> Self {
        let now = Instant::from_secs(1_000);
        Self {
            now,
            clients: Vec::new(),
            server: Server::new(config, now),
            peer_events: Vec::new(),
            registry_events: Vec::new(),
            taken: Vec::new(),
            is_reading: true,
            net: Net::new(Duration::from_millis(10)),
            is_reachable: true,
            accounts: BTreeMap::new(),
            texts: Vec::new(),
            closes: Vec::new(),
            written: BTreeMap::new(),
            mint: Rng::new(1),
        }
    }

    /// A world with the default server.
    pub fn new() -> Self {
        Self::with_server(server::Config::default())
    }

    /// A world with the default server and one steady client, attached.
    pub fn attached() -> Self {
        let mut world = Self::new();
        world.add_client(steady(), secrets(1));
        world.drive();
        assert_eq!(world.clients[0].client.status(), client::Status::Attached);
        world
    }

    /// Adds a client and returns its index.
    pub fn add_client(&mut self, config: client::Config, secrets: Secrets) -> usize {
        let client = Client::new(config, secrets, self.clients.len() as u64, self.now);
        self.adopt(client)
    }

    /// Adds a machine that was made elsewhere, such as a clone, and returns its index.
    pub fn adopt(&mut self, client: Client) -> usize {
        self.clients.push(ClientSide {
            client,
            events: Vec::new(),
            taken: Vec::new(),
            is_reading: true,
            token: None,
            opens: Vec::new(),
            written: BTreeMap::new(),
        });
        self.clients.len() - 1
    }

    /// The first client.
    pub fn client(&mut self) -> &mut ClientSide {
        &mut self.clients[0]
    }

    /// The connection of the first client.
    pub fn cid(&self) -> ConnectionId {
        self.clients[0].client.connection_id()
    }

    /// The first client sends.
    pub fn send_up(&mut self, text: &str) -> MessageId {
        let now = self.now;
        self.clients[0].client.send(payload(text).into(), now).expect("room in the outbox")
    }

    /// The server sends to the first client.
    pub fn send_down(&mut self, text: &str) -> MessageId {
        let cid = self.cid();
        self.try_send_down(&cid, text).expect("room in the outbox")
    }

    /// The server sends to a connection.
    pub fn try_send_down(&mut self, cid: &ConnectionId, text: &str) -> Result<MessageId, ApiMisuse> {
        self.server.send(cid, payload(text).into(), self.now)
    }

    /// The wire of a client's live transport.
    pub fn wire(&self, client: usize) -> WireId {
        let opened = self.clients[client].opens.len() as u64;
        self.net.wire_of(client, TransportId(opened)).expect("the client has a live wire")
    }

    /// Cuts a client's live wire, losing what is on its way, and tells both ends at once.
    pub fn cut(&mut self, client: usize) {
        let wire = self.wire(client);
        self.net.cut(wire, 0, Duration::ZERO, self.now);
        self.pump();
    }

    /// Does everything that can be done without time passing.
    pub fn pump(&mut self) {
        loop {
            let drained = self.drain();
            if let Some((id, way, wire, arrival)) = self.net.take(self.now) {
                self.arrive(id, way, wire.client, wire.transport, arrival);
            } else if !drained {
                return;
            }
        }
    }

    /// Goes to the next event, a timer or an arrival, and does what follows. False when nothing is to come.
    pub fn step(&mut self) -> bool {
        self.pump();
        match self.next_event() {
            Some(at) => {
                self.advance_to(at);
                true
            }
            None => false,
        }
    }

    /// Lets the network deliver all that is on its way, and what follows from it. Timers fire as their times come.
    pub fn drive(&mut self) {
        self.drive_bounded(100_000);
    }

    /// As [`World::drive`], but with at most so many steps.
    pub fn drive_bounded(&mut self, steps: usize) {
        self.pump();
        for _ in 0..steps {
            let Some(at) = self.net.poll_timeout() else { return };
            let timer = self.next_timer();
            self.advance_to(timer.map_or(at, |timer| timer.min(at)));
        }
        panic!("the network is still busy after {steps} steps");
    }

    /// Lets so much time pass, with everything that happens in it.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.pump();
        while let Some(at) = self.next_event().filter(|at| *at <= end) {
            self.advance_to(at);
        }
        self.advance_to(end);
    }

    /// Jumps over so much time at once, as a computer does that was asleep: every timer in it is late.
    pub fn jump(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.fire_timers();
        self.pump();
    }

    /// Replaces the server machine, as a crash and a restart do: every transport breaks.
    pub fn replace_server(&mut self, server: Server) {
        self.server = server;
        let wires: Vec<_> = (0..self.clients.len())
            .filter_map(|client| {
                let opened = self.clients[client].opens.len() as u64;
                self.net.wire_of(client, TransportId(opened))
            })
            .collect();
        for wire in wires {
            self.net.cut(wire, 0, Duration::ZERO, self.now);
        }
        self.written.clear();
        self.pump();
    }

    /// The outcomes that a client's application was told, in order.
    pub fn outcomes_up(&self, client: usize) -> Vec<(MessageId, Outcome)> {
        let events = self.clients[client].events.iter();
        events
            .filter_map(|event| {
                if let client::Event::Delivered { id } = event {
                    Some((*id, Outcome::Delivered))
                } else if let client::Event::SendFailed(SendFailed { id, failure: Failure::ForGood(outcome) }) = event {
                    Some((*id, outcome.clone()))
                } else {
                    None
                }
            })
            .collect()
    }

    /// The outcomes that the server's application was told, in order.
    pub fn outcomes_down(&self) -> Vec<(MessageId, Outcome)> {
        let events = self.peer_events.iter();
        events
            .filter_map(|(_, event)| {
                if let PeerEvent::Delivered { id } = event {
                    Some((*id, Outcome::Delivered))
                } else if let PeerEvent::SendFailed(SendFailed { id, failure: Failure::ForGood(outcome) }) = event {
                    Some((*id, outcome.clone()))
                } else {
                    None
                }
            })
            .collect()
    }

    /// What the server's application took, of whatever connection.
    pub fn taken_texts(&self) -> Vec<&str> {
        self.taken.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// A hostile or foreign end: puts a text on a client's wire towards the server as if the client had written it.
    pub fn inject_up(&mut self, client: usize, text: &str) {
        let wire = self.wire(client);
        self.net.put(wire, Way::Up, Arrival::Text(text.into()), self.now);
    }

    /// A wire of a stranger: nobody reads its lower end.
    pub fn stranger(&mut self) -> WireId {
        let wire = self.net.open(usize::MAX, TransportId(0), self.now);
        self.drive();
        wire
    }

    /// The texts that the server wrote on a wire.
    pub fn texts_down(&self, wire: WireId) -> Vec<&str> {
        let written = self.texts.iter().filter(|(_, id, way, _)| *id == wire && *way == Way::Down);
        written.map(|(_, _, _, text)| text.as_str()).collect()
    }

    /// The code with which the server closed a wire.
    pub fn closed_by_server(&self, wire: WireId) -> Option<CloseCode> {
        let mut closes = self.closes.iter();
        closes.find(|(id, way, _)| *id == wire && *way == Way::Down).map(|(_, _, code)| *code)
    }

    /// When the next machine wants to be woken.
    pub fn next_timer(&self) -> Option<Instant> {
        let clients = self.clients.iter().map(|side| side.client.poll_timeout());
        clients.chain([self.server.poll_timeout()]).flatten().min()
    }

    fn next_event(&self) -> Option<Instant> {
        [self.net.poll_timeout(), self.next_timer()].into_iter().flatten().min()
    }

    fn advance_to(&mut self, at: Instant) {
        self.now = self.now.max(at);
        self.fire_timers();
        self.pump();
    }

    fn fire_timers(&mut self) {
        let now = self.now;
        for side in &mut self.clients {
            if side.client.poll_timeout().is_some_and(|at| at <= now) {
                side.client.handle_timeout(now);
            }
        }
        if self.server.poll_timeout().is_some_and(|at| at <= now) {
            self.server.handle_timeout(now);
        }
    }

    fn arrive(&mut self, id: WireId, way: Way, client: usize, transport: TransportId, arrival: Arrival) {
        let now = self.now;
        match (way, arrival) {
            (Way::Up, Arrival::Open) => {
                let mint = Mint { epoch: Epoch::from_bytes(self.random()), fence: Fence::from_bytes(self.random()) };
                let input = server::Input::Accepted { transport: id.transport(), address: None, mint };
                self.server.handle_input(input, now);
            }
            (Way::Up, Arrival::Text(text)) => {
                let read = text.len() as u64;
                let written = self.written.get(&id.transport()).copied().unwrap_or(0);
                let transport = id.transport();
                self.server.handle_input(server::Input::Progress { transport, read, written }, now);
                let incoming = Incoming::Text(&text);
                self.server.handle_input(server::Input::Received { transport, incoming }, now);
            }
            (Way::Up, Arrival::Closed(code)) => {
                self.server.handle_input(server::Input::Closed { transport: id.transport(), code }, now);
            }
            (Way::Down, arrival) => {
                let Some(side) = self.clients.get_mut(client) else { return };
                match arrival {
                    Arrival::Open => {
                        let token = side.token.clone();
                        side.client.handle_input(client::Input::Opened { transport, token }, now);
                    }
                    Arrival::Text(text) => {
                        let read = text.len() as u64;
                        let written = side.written.get(&transport).copied().unwrap_or(0);
                        side.client.handle_input(client::Input::Progress { transport, read, written }, now);
                        let incoming = Incoming::Text(&text);
                        side.client.handle_input(client::Input::Received { transport, incoming }, now);
                    }
                    Arrival::Closed(code) => side.client.handle_input(client::Input::Closed { transport, code }, now),
                }
            }
        }
    }

    /// Does what the machines ask for and lets the applications read. Returns whether anything happened.
    fn drain(&mut self) -> bool {
        let mut happened = false;
        for index in 0..self.clients.len() {
            happened |= self.drain_client(index);
        }
        happened | self.drain_server()
    }

    fn drain_client(&mut self, index: usize) -> bool {
        let now = self.now;
        let mut happened = false;
        loop {
            let side = &mut self.clients[index];
            let Some(output) = side.client.poll_output() else {
                if !side.is_reading {
                    return happened;
                }
                let Some(delivery) = side.client.take(now) else { return happened };
                side.taken.push(text_of(&delivery));
                happened = true;
                continue;
            };
            happened = true;
            match output {
                client::Output::Open { transport } => {
                    side.opens.push(now);
                    side.written.insert(transport, 0);
                    if self.is_reachable {
                        self.net.open(index, transport, now);
                    }
                }
                client::Output::Write { transport, text } => {
                    let written = side.written.entry(transport).or_default();
                    *written += text.len() as u64;
                    let input = client::Input::Progress { transport, read: 0, written: *written };
                    side.client.handle_input(input, now);
                    let wire = self.net.wire_of(index, transport);
                    if let Some(wire) = wire {
                        self.texts.push((now, wire, Way::Up, text.clone()));
                        self.net.put(wire, Way::Up, Arrival::Text(text), now);
                    }
                }
                client::Output::Close { transport, code } => {
                    side.written.remove(&transport);
                    if let Some(wire) = self.net.wire_of(index, transport) {
                        self.closes.push((wire, Way::Up, code));
                        self.net.close(wire, Way::Up, code, now);
                    }
                }
                client::Output::Event(event) => side.events.push(event),
            }
        }
    }

    fn drain_server(&mut self) -> bool {
        let now = self.now;
        let mut happened = false;
        loop {
            let Some(output) = self.server.poll_output() else {
                if !(self.is_reading && self.take_one()) {
                    return happened;
                }
                happened = true;
                continue;
            };
            happened = true;
            match output {
                server::Output::Write { transport, text } => {
                    let wire = WireId(transport.0);
                    let written = self.written.entry(transport).or_default();
                    *written += text.len() as u64;
                    let input = server::Input::Progress { transport, read: 0, written: *written };
                    self.server.handle_input(input, now);
                    self.texts.push((now, wire, Way::Down, text.clone()));
                    self.net.put(wire, Way::Down, Arrival::Text(text), now);
                }
                server::Output::Close { transport, code } => {
                    let wire = WireId(transport.0);
                    self.written.remove(&transport);
                    self.closes.push((wire, Way::Down, code));
                    self.net.close(wire, Way::Down, code, now);
                }
                server::Output::Authenticate { transport, cid: _, token } => {
                    let account = token.as_ref().and_then(|token| self.accounts.get(token.reveal()));
                    let name = account.map(|account| Name::new(account).expect("a short name"));
                    let principal = name.map(Principal::Named);
                    self.server.handle_input(server::Input::Authenticated { transport, principal }, now);
                }
                server::Output::Peer { cid, event } => self.peer_events.push((cid, event)),
                server::Output::Registry(event) => self.registry_events.push(event),
            }
        }
    }

    fn take_one(&mut self) -> bool {
        let cids: Vec<_> = self.server.connections().copied().collect();
        for cid in cids {
            if let Some(delivery) = self.server.take(&cid, self.now) {
                self.taken.push((cid, text_of(&delivery)));
                return true;
            }
        }
        false
    }

    fn random(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.mint.next_u64().to_be_bytes());
        bytes[8..].copy_from_slice(&self.mint.next_u64().to_be_bytes());
        bytes
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

fn text_of(delivery: &Delivery) -> String {
    delivery.payload().parse::<String>().unwrap_or_else(|_| delivery.payload().as_str().to_owned())
}
