//! A run: operations on a world, each followed by a look at what the applications were told, against the model.

mod applications;
mod hands;
mod posts;

use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Event;
use reattach_core::client::Status;
use reattach_core::connection::Currency;
use reattach_core::id::ConnectionId;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::link;
use reattach_core::link::Acceptance;
use reattach_core::link::Quota;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::server;
use reattach_core::server::PeerEvent;
use reattach_core::server::RegistryEvent;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;

use crate::model::Broken;
use crate::model::Direction;
use crate::model::EphemeralDirection;
use crate::model::Post;
use crate::model::Verdict;
use crate::net::Way;
use crate::world::Road;
use crate::world::World;
use crate::world::payload;
use crate::world::secrets;

use self::hands::Hands;

/// Something that a user, an application or the world does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The client sends a message with so many bytes of filling.
    SendUp(usize),
    /// The server sends one.
    SendDown(usize),
    /// The client sends one with whatever can be asked for.
    PostUp(usize, Post),
    /// The server sends one.
    PostDown(usize, Post),
    /// Who sends that way withdraws a message: so many before the newest.
    Cancel(Way, usize),
    /// Who receives that way decides about a message that it was handed: so many before the newest.
    Decide(Way, usize, Verdict),
    /// Who receives that way needs longer, by so many milliseconds, for a message that it was handed.
    Extend(Way, usize, u64),
    /// A text that is on its way is lost, so many behind the first, without the wire breaking.
    Drop(Way, usize),
    /// The client goes to sleep.
    Suspend,
    /// The server drains, with so many seconds of patience.
    Drain(u64),
    /// The server stops and goes on from its very state.
    RestartServer,
    /// The client stops and goes on from its very state, as another instance.
    RestartClient,
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
    /// How often something happened that may have swallowed what was on its way.
    strikes: u32,
    began: Instant,
    hands_up: Hands,
    hands_down: Hands,
    ids_up: Vec<MessageId>,
    ids_down: Vec<MessageId>,
    restarts: u8,
    ended: usize,
    /// The client's application was about to end the connection.
    is_leaving: bool,
}

/// The server as it was, and what its applications knew then.
#[derive(Clone, Debug)]
struct Copy {
    server: Server,
    up: Direction,
    down: Direction,
    ephemeral_up: EphemeralDirection,
    ids_down: Vec<MessageId>,
}

/// What each side may hold: small, so that the bounds are reached.
const OUTBOX: Quota = Quota { count: 12, bytes: 600 };
const WINDOW: Quota = Quota { count: 10, bytes: 500 };
const LEASE: Duration = Duration::from_secs(60);
const AGE: Duration = Duration::from_secs(60 * 60);

impl Default for Run {
    fn default() -> Self {
        Self::new()
    }
}

impl Run {
    /// A run of which nothing has happened yet.
    pub fn new() -> Self {
        Self::with(Acceptance::Automatic)
    }

    /// The same with applications that decide about each message.
    pub fn manual() -> Self {
        Self::with(Acceptance::Manual)
    }

    fn with(acceptance: Acceptance) -> Self {
        let mut server = server::Config::default();
        let mut client = client::Config::default();
        for link in [&mut server.connection.link, &mut client.connection.link] {
            link.outbox = OUTBOX;
            link.window = WINDOW;
            link.lease = LEASE;
            link.age = AGE;
            link.acceptance = acceptance;
        }
        let mut world = World::with_server(server);
        world.is_reading = false;
        world.add_client(client, secrets(1));
        world.clients[0].is_reading = false;
        let (cid, began) = (world.cid(), world.now);
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
            strikes: 0,
            began,
            hands_up: Hands::default(),
            hands_down: Hands::default(),
            ids_up: Vec::new(),
            ids_down: Vec::new(),
            restarts: 0,
            ended: 0,
            is_leaving: false,
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
        self.has_cause |= self.world.now - self.began >= AGE;
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
        let is_worn_out = self.strikes >= 4;
        self.up.check_all_delivered(is_worn_out)?;
        self.down.check_all_delivered(is_worn_out)
    }

    fn apply(&mut self, op: &Op) -> Result<(), Broken> {
        let world = &mut self.world;
        let now = world.now;
        match op {
            Op::SendUp(filling) => return self.post_up(*filling, Post::default()),
            Op::SendDown(filling) => return self.post_down(*filling, Post::default()),
            Op::PostUp(filling, post) => return self.post_up(*filling, *post),
            Op::PostDown(filling, post) => return self.post_down(*filling, *post),
            Op::Cancel(way, back) => return self.cancel(*way, *back),
            Op::Decide(way, back, verdict) => return self.decide(*way, *back, *verdict),
            Op::Extend(way, back, millis) => return self.extend(*way, *back, Duration::from_millis(*millis)),
            Op::Drop(way, behind) => {
                if let Some(wire) = world.live_wire(0) {
                    self.strikes += 1;
                    let index = core::cell::Cell::new(0);
                    world.net.drop_texts(wire, *way, |_| index.replace(index.get() + 1) == *behind);
                }
            }
            Op::Suspend => {
                self.strikes += 1;
                _ = world.client().client.suspend(now);
            }
            Op::Drain(secs) => {
                self.has_cause = true;
                world.server.drain(Duration::from_secs(*secs), (Duration::ZERO, Duration::from_secs(5)), now);
            }
            Op::RestartServer => {
                self.strikes += 1;
                self.look()?;
                self.hands_up.restart(&mut self.up);
                let server = self.world.server.clone().restored(self.life(), Currency::Current, now);
                self.world.replace_server(server);
            }
            Op::RestartClient => {
                self.strikes += 1;
                self.look()?;
                self.hands_down.restart(&mut self.down);
                let client = &self.world.clients[0].client;
                let peer = self.world.server.peer(&self.cid).and_then(|peer| peer.connection().epoch());
                // Another instance does not join an epoch that was minted for the one before.
                self.has_cause |= client.connection().epoch().is_none() || client.connection().epoch() != peer;
                let instance = self.life();
                let client = self.world.clients[0].client.clone().restored(instance, Currency::Current, now);
                self.world.restore_client(0, client);
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
                self.strikes += 1;
                if let Some(wire) = world.live_wire(0) {
                    world.net.cut(wire, *keep, Duration::from_millis(*late), now);
                }
            }
            Op::Stall(way) => {
                self.strikes += 1;
                if let Some(wire) = world.live_wire(0) {
                    world.net.stall(wire, *way);
                }
            }
            Op::Unstall => world.net.unstall_all(),
            Op::Road(is_open) => world.road = if *is_open { Road::Open } else { Road::Silent },
            Op::Advance(millis) => return self.run_for(Duration::from_millis(*millis)),
            Op::Reconnect => {
                self.strikes += 1;
                _ = world.client().client.reconnect(now);
            }
            Op::Detach(code) => {
                self.strikes += 1;
                _ = world.server.detach(&self.cid, CloseCode::new(*code), now);
            }
            Op::Expire => {
                let road = core::mem::replace(&mut world.road, Road::Silent);
                self.run_for(Duration::from_secs(130))?;
                self.world.road = road;
            }
            Op::LoseServer => {
                self.has_cause = true;
                let server = Server::new(world.server_config(), now);
                world.replace_server(server);
                self.down.on_sender_lost();
                self.ids_down.clear();
                self.up.on_receiver_lost();
                self.hands_up = Hands::default();
            }
            Op::CopyServer => {
                self.look()?;
                self.copy = Some(Copy {
                    server: self.world.server.clone(),
                    up: self.up.clone(),
                    down: self.down.clone(),
                    ephemeral_up: self.ephemeral_up.clone(),
                    ids_down: self.ids_down.clone(),
                });
            }
            Op::RestoreServer => {
                if let Some(copy) = self.copy.clone() {
                    self.has_cause = true;
                    self.look()?;
                    self.up.on_receiver_restored(&copy.up);
                    self.down.on_sender_restored(&copy.down);
                    self.ephemeral_up.on_receiver_restored(&copy.ephemeral_up);
                    // Whoever had a message in hand then is gone with its program.
                    let server = copy.server.restored(self.life(), Currency::Stale, now);
                    self.up.on_sealed();
                    self.hands_up = Hands::default();
                    self.ids_down = copy.ids_down;
                    self.world.replace_server(server);
                    return Ok(());
                }
            }
            Op::Close(secs) => {
                self.has_cause = true;
                self.leave()?;
                let world = &mut self.world;
                world.client().client.close(Duration::from_secs(*secs), now);
            }
            Op::Disconnect => {
                self.has_cause = true;
                self.leave()?;
                let world = &mut self.world;
                world.client().client.disconnect(now);
            }
            Op::ServerDisconnect => {
                self.has_cause = true;
                _ = world.server.disconnect(&self.cid, now);
            }
        }
        Ok(())
    }

    /// The client's application wants nothing more, also of what came before the server ended the connection.
    fn leave(&mut self) -> Result<(), Broken> {
        self.look()?;
        if matches!(self.world.clients[0].client.status(), Status::Closed(_)) {
            self.hands_down.seal(&mut self.down);
        }
        self.is_leaving = true;
        Ok(())
    }

    /// Names another life of a machine.
    fn life(&mut self) -> InstanceId {
        self.restarts += 1;
        InstanceId::from_bytes([150 + self.restarts % 100; 16])
    }

    /// Lets time pass, with a look after each event.
    fn run_for(&mut self, duration: Duration) -> Result<(), Broken> {
        let end = self.world.now + duration;
        self.world.pump();
        self.look()?;
        loop {
            let next = [self.world.net.poll_timeout(), self.world.next_timer()].into_iter().flatten().min();
            if next.is_none_or(|at| at > end) {
                self.world.run_to(end);
                return self.look();
            }
            self.world.step();
            self.look()?;
        }
    }

    /// Looks at what was told and taken since the last look.
    fn look(&mut self) -> Result<(), Broken> {
        let world = &self.world;
        let peer = world.server.peer(&self.cid).map(server::Peer::connection);
        let begins = |event: &&(ConnectionId, PeerEvent)| matches!(event.1, PeerEvent::Attached { resumed: false });
        let epoch = (peer.and_then(|peer| peer.epoch()), world.peer_events.iter().filter(begins).count());
        let (ended, is_by_client) = hands::ends(&world.peer_events);
        // What came before the client's last word can still be taken and decided about.
        let is_kept = peer.is_none() && is_by_client;
        if ended > self.ended {
            self.ended = ended;
            if !is_kept {
                self.hands_up.handles.clear();
            }
        }
        let epoch = if is_kept { self.hands_up.epoch } else { epoch };
        self.hands_up.enter(epoch, world.now, &mut self.up);
        self.hands_up.is_kept = is_kept;
        let fresh = world.attaches(0).iter().filter(|resumed| !**resumed).count();
        let client = &world.clients[0].client;
        // What came before the server's last word can still be taken and decided about.
        let is_by_peer = matches!(client.status(), Status::Closed(client::Closed::ByPeer { .. }));
        let is_kept = is_by_peer && !self.is_leaving;
        let is_over = !is_kept && matches!(client.status(), Status::Closed(_));
        let epoch = if is_kept { self.hands_down.epoch } else { (client.connection().epoch(), fresh) };
        self.hands_down.enter(epoch, world.now, &mut self.down);
        for (_, delivery) in &world.deliveries[self.deliveries.0..] {
            self.hands_up.on_delivery(delivery, world.now, &mut self.up, &mut self.ephemeral_up)?;
        }
        for delivery in &world.clients[0].deliveries[self.deliveries.1..] {
            self.hands_down.on_delivery(delivery, world.now, &mut self.down, &mut self.ephemeral_down)?;
        }
        if is_over {
            self.hands_down.seal(&mut self.down);
        }
        self.deliveries = (world.deliveries.len(), world.clients[0].deliveries.len());
        let (up, down) = (world.outcomes_up(0), world.outcomes_down());
        for (_, outcome) in up[self.outcomes.0..].iter().chain(&down[self.outcomes.1..]) {
            let is_worn_out = *outcome == Outcome::NotDelivered { reason: NotDelivered::Attempts };
            if is_worn_out && self.strikes < 4 {
                return Err(Broken(format!("only {} attempts can have been lost", self.strikes)));
            }
        }
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
            let is_within = stats.queued + stats.written <= OUTBOX.count as usize
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
        for _ in 0..6 {
            if is_stopped(&self.world.clients[0].client) {
                let now = self.world.now;
                _ = self.world.client().client.reconnect(now);
            }
            for _ in 0..13 {
                self.run_for(Duration::from_secs(10))?;
                self.accept_all()?;
            }
        }
        self.look()
    }
}

fn is_stopped(client: &Client) -> bool {
    matches!(client.status(), Status::Failed(_) | Status::Superseded | Status::Suspended | Status::Closed(_))
}

fn name(key: u8) -> Name {
    Name::new(&format!("key {key}")).expect("a short name")
}
