//! The world: real client machines and a real server machine, an emulated network between them, and a clock that jumps from
//! one event to the next.
//!
//! Nothing here sleeps and nothing is random but by seed. A test arranges a world, lets it run, and looks at what the
//! applications were told. After every step the world itself checks the law of the machines: none waits without a timer, no
//! timer lies in the past, no output names a dead transport, and whatever is written is a frame.

mod client_side;
mod deciding;
mod faults;
mod journal;
mod server_side;
mod told;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Secrets;
use reattach_core::error::ApiMisuse;
use reattach_core::id::ConnectionId;
use reattach_core::id::ConnectionKey;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::TransportId;
use reattach_core::link::Delivery;
use reattach_core::reconnect::OpenError;
use reattach_core::rng::Rng;
use reattach_core::server;
use reattach_core::server::PeerEvent;
use reattach_core::server::RegistryEvent;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Payload;

pub use self::client_side::ClientSide;
pub use self::deciding::accept;
pub use self::deciding::code;
pub use self::deciding::defer;
pub use self::deciding::in_lane;
pub use self::deciding::manual;
pub use self::deciding::reject;
pub use self::journal::Heard;
pub use self::journal::Journal;
pub use self::told::frames_of;

use crate::net::Net;
use crate::net::Way;
use crate::net::WireId;

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
    /// The reliable messages that the server's application took, in order: the payloads' text.
    pub taken: Vec<(ConnectionId, String)>,
    /// Everything that the server's application took, in order.
    pub deliveries: Vec<(ConnectionId, Delivery)>,
    /// Whether the server's application takes what comes.
    pub is_reading: bool,
    /// The network.
    pub net: Net,
    /// What becomes of transports that are asked for.
    pub road: Road,
    /// How the server's application authenticates: token to principal.
    pub accounts: BTreeMap<String, String>,
    /// How often it was asked to.
    pub authentications: usize,
    /// Every text that was written, with its time, wire and way.
    pub texts: Vec<(Instant, WireId, Way, String)>,
    /// Transports that a machine closed, with the code.
    pub closes: Vec<(WireId, Way, CloseCode)>,
    /// Everything that happens, where anybody wants to know.
    pub journal: Journal,
    /// Bytes of texts written for each of the server's live transports.
    written: BTreeMap<TransportId, u64>,
    config: server::Config,
    /// Every connection that the server ever had.
    known: BTreeSet<ConnectionId>,
    mint: Rng,
}

/// What becomes of transports that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// They open.
    Open,
    /// Nothing is heard of them.
    Silent,
    /// They fail at once.
    Failing(OpenError),
}

/// A payload that holds a JSON string.
pub fn payload(text: &str) -> Payload {
    Payload::new(text).expect("a string is JSON")
}

/// A key that is a function of a small number.
pub fn key(number: u8) -> ConnectionKey {
    ConnectionKey::from_bytes([number; 16])
}

/// A key of very many.
pub fn numbered_key(number: u64) -> ConnectionKey {
    let mut bytes = [9; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    ConnectionKey::from_bytes(bytes)
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

/// The same without a limit of attempts.
pub fn patient() -> client::Config {
    let mut config = steady();
    config.reconnect.attempts = None;
    config
}

impl World {
    /// A world whose server has a configuration. Everything travels for 10 ms.
    pub fn with_server(config: server::Config) -> Self {
        let now = Instant::from_secs(1_000);
        Self {
            now,
            clients: Vec::new(),
            server: Server::new(config.clone(), now),
            config,
            peer_events: Vec::new(),
            registry_events: Vec::new(),
            taken: Vec::new(),
            deliveries: Vec::new(),
            is_reading: true,
            net: Net::new(Duration::from_millis(10)),
            road: Road::Open,
            accounts: BTreeMap::new(),
            authentications: 0,
            texts: Vec::new(),
            closes: Vec::new(),
            journal: Journal::default(),
            written: BTreeMap::new(),
            known: BTreeSet::new(),
            mint: Rng::new(1),
        }
    }

    /// A world with the default server.
    pub fn new() -> Self {
        Self::with_server(server::Config::default())
    }

    /// A world with the default server and one steady client, attached.
    pub fn attached() -> Self {
        Self::attached_with(server::Config::default(), steady())
    }

    /// A world with one client, attached, and a configuration for each side.
    pub fn attached_with(server: server::Config, client: client::Config) -> Self {
        let mut world = Self::with_server(server);
        world.add_client(client, secrets(1));
        // Until the first ping is answered.
        world.run_for(Duration::from_millis(100));
        assert_eq!(world.clients[0].client.status(), client::Status::Attached);
        world
    }

    /// Adds a client and returns its index.
    pub fn add_client(&mut self, config: client::Config, secrets: Secrets) -> usize {
        let client = Client::new(config, secrets, self.clients.len() as u64, self.now);
        self.adopt(client)
    }

    /// Adds a machine that was made elsewhere and returns its index.
    pub fn adopt(&mut self, client: Client) -> usize {
        self.clients.push(ClientSide::new(client));
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

    /// What the server was made with.
    pub fn server_config(&self) -> server::Config {
        self.config.clone()
    }

    /// The first client sends.
    pub fn send_up(&mut self, text: &str) -> MessageId {
        self.try_send_up(0, text).expect("room in the outbox")
    }

    /// A client sends.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub fn try_send_up(&mut self, client: usize, text: &str) -> Result<MessageId, ApiMisuse> {
        let now = self.now;
        self.clients[client].client.send(payload(text).into(), now)
    }

    /// The server sends to the first client.
    pub fn send_down(&mut self, text: &str) -> MessageId {
        let cid = self.cid();
        self.try_send_down(&cid, text).expect("room in the outbox")
    }

    /// The server sends to a connection.
    ///
    /// # Errors
    ///
    /// As [`Server::send`].
    pub fn try_send_down(&mut self, cid: &ConnectionId, text: &str) -> Result<MessageId, ApiMisuse> {
        self.server.send(cid, payload(text).into(), self.now)
    }

    /// The wire of a client's live transport.
    pub fn wire(&self, client: usize) -> WireId {
        self.live_wire(client).expect("the client has a live wire")
    }

    /// The wire of a client's live transport, if it has one.
    pub fn live_wire(&self, client: usize) -> Option<WireId> {
        self.net.wire_of(client, self.clients[client].transport?)
    }

    /// Does everything that can be done without time passing.
    pub fn pump(&mut self) {
        loop {
            let drained = self.drain();
            if let Some((id, way, wire, arrival)) = self.net.take(self.now) {
                match way {
                    Way::Up => self.arrive_up(id, arrival),
                    Way::Down => self.arrive_down(wire.client, wire.transport, arrival),
                }
            } else if !drained {
                return self.check_law();
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
        self.run_to(self.now + duration);
    }

    /// Lets time pass up to a point in it.
    pub fn run_to(&mut self, end: Instant) {
        self.pump();
        while let Some(at) = self.next_event().filter(|at| *at <= end) {
            self.advance_to(at);
        }
        self.advance_to(end);
    }

    /// Lets time pass until something holds, and returns how much that was.
    ///
    /// # Panics
    ///
    /// If it does not hold within `limit`.
    pub fn run_until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        self.pump();
        while !holds(self) {
            let next = self.next_event().filter(|at| *at <= start + limit);
            let Some(at) = next else { panic!("it does not hold within {limit:?}") };
            self.advance_to(at);
        }
        self.now - start
    }

    /// Jumps over so much time at once, as a computer does that was asleep: every timer in it is late.
    pub fn jump(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.fire_timers();
        self.pump();
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
        self.drain();
        let next = self.next_timer();
        assert!(next.is_none_or(|at| at > now), "a timer is still due at {next:?} after it fired at {now:?}");
    }

    /// Does what the machines ask for and lets the applications read. Returns whether anything happened.
    fn drain(&mut self) -> bool {
        let mut happened = false;
        for index in 0..self.clients.len() {
            happened |= self.drain_client(index);
        }
        happened | self.drain_server()
    }

    /// What holds whenever everything is drained.
    fn check_law(&self) {
        let now = self.now;
        let next = self.next_timer();
        assert!(next.is_none_or(|at| at >= now), "a timer lies in the past: {next:?} at {now:?}");
        for (index, side) in self.clients.iter().enumerate() {
            let waits = matches!(
                side.client.status(),
                client::Status::Connecting { .. } | client::Status::Attached | client::Status::Detached { .. }
            );
            assert!(!waits || side.client.poll_timeout().is_some(), "client {index} waits without a timer");
        }
        let registry = self.server.registry();
        let waits = registry.connections() + registry.transports() + registry.receipts() > 0;
        assert!(!waits || self.server.poll_timeout().is_some(), "the server waits without a timer");
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

/// A payload as a test compares it: the text of a JSON string, or the JSON itself.
fn text_of(delivery: &Delivery) -> String {
    delivery.payload().parse::<String>().unwrap_or_else(|_| delivery.payload().as_str().to_owned())
}
