//! A run: operations on a world, each followed by a look at what the applications were told, against the model.

use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Event;
use reattach_core::client::Status;
use reattach_core::error::ApiMisuse;
use reattach_core::id::ConnectionId;
use reattach_core::id::Name;
use reattach_core::link;
use reattach_core::link::Delivery;
use reattach_core::link::Quota;
use reattach_core::server;
use reattach_core::server::RegistryEvent;
use reattach_core::server::Server;
use reattach_core::wire::CloseCode;

use crate::model::Broken;
use crate::model::Direction;
use crate::model::EphemeralDirection;
use crate::net::Way;
use crate::world::Road;
use crate::world::World;
use crate::world::payload;
use crate::world::secrets;

/// Something that a user, an application or the world does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The client sends a message with so many bytes of filling.
    SendUp(usize),
    /// The server sends one.
    SendDown(usize),
    /// The client sends an ephemeral message of a key.
    EphemeralUp(u8),
    /// The server sends one.
    EphemeralDown(u8),
    /// The server's application takes a message, or so many.
    TakeUp(u8),
    /// The client's application takes a message, or so many.
    TakeDown(u8),
    /// Whether the server's application takes everything as it comes.
    ReadUp(bool),
    /// Whether the client's application takes everything as it comes.
    ReadDown(bool),
    /// The wire breaks: so many arrivals each way still come, and both ends hear of it so many milliseconds later.
    Cut(usize, u64),
    /// Nothing arrives that way any more.
    Stall(Way),
    /// Whatever was stalled goes on.
    Unstall,
    /// Whether transports that the client asks for open.
    Road(bool),
    /// So many milliseconds pass.
    Advance(u64),
    /// The client's user wants to be connected now.
    Reconnect,
    /// The server's application closes the transport with a code.
    Detach(u16),
    /// The client stays away until the server has given it up.
    Expire,
    /// The server crashes and comes back without its state.
    LoseServer,
    /// The server's state is copied.
    CopyServer,
    /// The server crashes and comes back as it was when its state was copied last.
    RestoreServer,
    /// The client closes the connection, with so many seconds of patience.
    Close(u64),
    /// The client ends the connection at once.
    Disconnect,
    /// The server ends it.
    ServerDisconnect,
}

/// A world with one client, its model, and what has happened that explains a loss.
#[derive(Debug)]
pub struct Run {
    world: World,
    up: Direction,
    down: Direction,
    ephemeral_up: EphemeralDirection,
    ephemeral_down: EphemeralDirection,
    cid: ConnectionId,
    copy: Option<Copy>,
    /// How much of what the world has recorded was looked at: outcomes and deliveries, up and down.
    outcomes: (usize, usize),
    deliveries: (usize, usize),
    /// Something happened that may cost messages.
    has_cause: bool,
}

/// The server as it was, and what its applications knew then.
#[derive(Clone, Debug)]
struct Copy {
    server: Server,
    up: Direction,
    down: Direction,
    ephemeral_up: EphemeralDirection,
}

/// What each side may hold: small, so that the bounds are reached.
const OUTBOX: Quota = Quota { count: 12, bytes: 600 };
const WINDOW: Quota = Quota { count: 10, bytes: 500 };

impl Default for Run {
    fn default() -> Self {
        Self::new()
    }
}

impl Run {
    /// A run of which nothing has happened yet.
    pub fn new() -> Self {
        let mut server = server::Config::default();
        let mut client = client::Config::default();
        for link in [&mut server.connection.link, &mut client.connection.link] {
            link.outbox = OUTBOX;
            link.window = WINDOW;
        }
        let mut world = World::with_server(server);
        world.is_reading = false;
        world.add_client(client, secrets(1));
        world.clients[0].is_reading = false;
        let cid = world.cid();
        Self {
            world,
            up: Direction::default(),
            down: Direction::default(),
            ephemeral_up: EphemeralDirection::default(),
            ephemeral_down: EphemeralDirection::default(),
            cid,
            copy: None,
            outcomes: (0, 0),
            deliveries: (0, 0),
            has_cause: false,
        }
    }

    /// Does everything in order, heals the world, lets it come to rest, and compares after each step.
    ///
    /// # Errors
    ///
    /// What contradicts the promise.
    pub fn play(mut self, ops: &[Op]) -> Result<(), Broken> {
        for op in ops {
            self.apply(op)?;
            self.world.pump();
            self.look()?;
        }
        self.heal()?;
        self.up.check_end()?;
        self.down.check_end()?;
        let fresh = self.world.attaches(0).iter().filter(|resumed| !**resumed).count();
        if self.has_cause {
            return Ok(());
        }
        if fresh != 1 {
            return Err(Broken(format!("{fresh} epochs without a cause")));
        }
        self.up.check_all_delivered()?;
        self.down.check_all_delivered()
    }

    fn apply(&mut self, op: &Op) -> Result<(), Broken> {
        let world = &mut self.world;
        let now = world.now;
        match op {
            Op::SendUp(filling) => {
                let text = numbered(self.up.sent(), *filling);
                let result = world.try_send_up(0, &text);
                return self.sent_up(result, &text);
            }
            Op::SendDown(filling) => {
                let text = numbered(self.down.sent(), *filling);
                if let Ok(id) = world.try_send_down(&self.cid, &text) {
                    return self.down.on_sent(id);
                }
            }
            Op::EphemeralUp(key) => {
                let text = self.ephemeral_up.next().to_string();
                _ = world.client().client.send_ephemeral(name(*key), payload(&text), now);
            }
            Op::EphemeralDown(key) => {
                let text = self.ephemeral_down.next().to_string();
                _ = world.server.send_ephemeral(&self.cid, name(*key), payload(&text), now);
            }
            Op::TakeUp(count) => (0..*count).for_each(|_| _ = world.take_from(&self.cid)),
            Op::TakeDown(count) => (0..*count).for_each(|_| _ = world.clients[0].take(now)),
            Op::ReadUp(is_reading) => world.is_reading = *is_reading,
            Op::ReadDown(is_reading) => world.clients[0].is_reading = *is_reading,
            Op::Cut(keep, late) => {
                if let Some(wire) = world.live_wire(0) {
                    world.net.cut(wire, *keep, Duration::from_millis(*late), now);
                }
            }
            Op::Stall(way) => {
                if let Some(wire) = world.live_wire(0) {
                    world.net.stall(wire, *way);
                }
            }
            Op::Unstall => world.net.unstall_all(),
            Op::Road(is_open) => world.road = if *is_open { Road::Open } else { Road::Silent },
            Op::Advance(millis) => world.run_for(Duration::from_millis(*millis)),
            Op::Reconnect => _ = world.client().client.reconnect(now),
            Op::Detach(code) => _ = world.server.detach(&self.cid, CloseCode::new(*code), now),
            Op::Expire => {
                let road = core::mem::replace(&mut world.road, Road::Silent);
                world.run_for(Duration::from_secs(130));
                self.world.road = road;
            }
            Op::LoseServer => {
                self.has_cause = true;
                let server = Server::new(world.server_config(), now);
                world.replace_server(server);
                self.down.on_sender_lost();
            }
            Op::CopyServer => {
                self.look()?;
                self.copy = Some(Copy {
                    server: self.world.server.clone(),
                    up: self.up.clone(),
                    down: self.down.clone(),
                    ephemeral_up: self.ephemeral_up.clone(),
                });
            }
            Op::RestoreServer => {
                if let Some(copy) = self.copy.clone() {
                    self.has_cause = true;
                    self.look()?;
                    self.up.on_receiver_restored(&copy.up);
                    self.down.on_sender_restored(&copy.down);
                    self.ephemeral_up.on_receiver_restored(&copy.ephemeral_up);
                    self.world.replace_server(copy.server);
                }
            }
            Op::Close(secs) => {
                self.has_cause = true;
                world.client().client.close(Duration::from_secs(*secs), now);
            }
            Op::Disconnect => {
                self.has_cause = true;
                world.client().client.disconnect(now);
            }
            Op::ServerDisconnect => {
                self.has_cause = true;
                _ = world.server.disconnect(&self.cid, now);
            }
        }
        Ok(())
    }

    /// Refusals need a cause too.
    fn sent_up(&mut self, result: Result<reattach_core::id::MessageId, ApiMisuse>, text: &str) -> Result<(), Broken> {
        let client = &self.world.clients[0].client;
        let stats = client.stats();
        let is_large = text.len() as u64 + 2 > OUTBOX.bytes / 2;
        let is_half_full = stats.queued + stats.written >= 6 || stats.outbox_bytes >= OUTBOX.bytes / 2 || is_large;
        match result {
            Ok(id) => self.up.on_sent(id),
            Err(ApiMisuse::QueueFull) if is_half_full => Ok(()),
            Err(ApiMisuse::Ended) if self.has_cause || is_stopped(client) => Ok(()),
            Err(error) => Err(Broken(format!("a send was refused without a cause: {error}"))),
        }
    }

    /// Looks at what was told and taken since the last look.
    fn look(&mut self) -> Result<(), Broken> {
        let world = &self.world;
        for (_, delivery) in &world.deliveries[self.deliveries.0..] {
            taken(delivery, &mut self.up, &mut self.ephemeral_up)?;
        }
        for delivery in &world.clients[0].deliveries[self.deliveries.1..] {
            taken(delivery, &mut self.down, &mut self.ephemeral_down)?;
        }
        self.deliveries = (world.deliveries.len(), world.clients[0].deliveries.len());
        let (up, down) = (world.outcomes_up(0), world.outcomes_down());
        up[self.outcomes.0..].iter().try_for_each(|(id, outcome)| self.up.on_outcome(*id, outcome))?;
        down[self.outcomes.1..].iter().try_for_each(|(id, outcome)| self.down.on_outcome(*id, outcome))?;
        self.outcomes = (up.len(), down.len());
        let gave_up = |event: &Event| matches!(event, Event::Failed { .. } | Event::Superseded | Event::Closed { .. });
        self.has_cause |= world.clients[0].events.iter().any(gave_up);
        self.has_cause |= world.registry_events.iter().any(|event| matches!(event, RegistryEvent::Removed { .. }));
        self.check_bounds()
    }

    fn check_bounds(&self) -> Result<(), Broken> {
        let client = self.world.clients[0].client.connection();
        let peer = self.world.server.peer(&self.cid).map(server::Peer::connection);
        for connection in [Some(client), peer].into_iter().flatten() {
            let stats = connection.stats();
            let link: &link::Link = connection.link();
            let held = link.outbox().usage();
            let is_within = stats.queued + stats.written <= 6
                && held.count() <= OUTBOX.count
                && held.bytes() <= OUTBOX.bytes
                && link.inbox().usage().count() <= WINDOW.count
                && link.inbox().usage().bytes() <= WINDOW.bytes;
            if !is_within {
                return Err(Broken(format!("more is held than the bounds allow: {stats:?}")));
            }
        }
        Ok(())
    }

    /// Faults stop, and everybody gets what is still to come.
    fn heal(&mut self) -> Result<(), Broken> {
        self.world.net.unstall_all();
        self.world.road = Road::Open;
        self.world.is_reading = true;
        self.world.clients[0].is_reading = true;
        for _ in 0..4 {
            self.world.run_for(Duration::from_secs(130));
            self.look()?;
            if is_stopped(&self.world.clients[0].client) {
                let now = self.world.now;
                _ = self.world.client().client.reconnect(now);
            }
        }
        self.look()
    }
}

fn taken(delivery: &Delivery, reliable: &mut Direction, ephemeral: &mut EphemeralDirection) -> Result<(), Broken> {
    let text: String = delivery.payload().parse().map_err(|error| Broken(format!("a payload was changed: {error}")))?;
    let number = text.split(' ').next().and_then(|number| number.parse().ok());
    let number = number.ok_or_else(|| Broken(format!("a payload was changed: {text:?}")))?;
    match delivery {
        Delivery::Message { .. } => reliable.on_taken(usize::try_from(number).expect("a small number")),
        Delivery::Ephemeral { key, .. } => ephemeral.on_taken(key.as_str(), number),
    }
}

fn is_stopped(client: &Client) -> bool {
    matches!(client.status(), Status::Failed(_) | Status::Superseded | Status::Closed(_))
}

fn numbered(number: usize, filling: usize) -> String {
    format!("{number} {}", "x".repeat(filling))
}

fn name(key: u8) -> Name {
    Name::new(&format!("key {key}")).expect("a short name")
}
