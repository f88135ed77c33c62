//! A run: operations on a world, each followed by a look of the oracle at all that came of it.

mod applications;
mod hearing;
mod posts;

use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Status;
use reattach_core::connection::Currency;
use reattach_core::id::ConnectionId;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::link::Acceptance;
use reattach_core::link::Handle;
use reattach_core::link::Quota;
use reattach_core::server;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Payload;

use crate::net::Way;
use crate::net::WireId;
use crate::oracle::Broken;
use crate::oracle::Checked;
use crate::oracle::Fault;
use crate::oracle::Oracle;
use crate::oracle::Party;
use crate::oracle::Restart;
use crate::oracle::Rules;
use crate::oracle::ServerCopy;
use crate::oracle::Why;
use crate::oracle::agree;
use crate::world::Road;
use crate::world::World;
use crate::world::secrets;

pub use self::posts::Post;
pub use self::posts::Verdict;

use self::hearing::Wires;

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

/// A world with one client, the oracle that hears everything, and what has happened that explains a loss.
#[derive(Debug)]
pub struct Run {
    world: World,
    oracle: Oracle,
    cid: ConnectionId,
    copy: Option<Copy>,
    /// How many messages were sent up, and down, and how many ephemeral ones.
    sent: [u32; 2],
    ephemerals: [u32; 2],
    /// The names of what was sent, and by what there is, or was, to decide; up, and down.
    ids: [Vec<MessageId>; 2],
    handles: [Vec<Handle>; 2],
    wires: Wires,
    /// Something happened that may cost messages.
    has_cause: bool,
    began: Instant,
    restarts: u8,
}

/// The server as it was, and what its applications knew then.
#[derive(Clone, Debug)]
struct Copy {
    server: Server,
    known: ServerCopy,
    ids_down: Vec<MessageId>,
}

/// What each side may hold: small, so that the bounds are reached.
const OUTBOX: Quota = Quota { count: 12, bytes: 600 };
const WINDOW: Quota = Quota { count: 10, bytes: 500 };
const LEASE: Duration = Duration::from_secs(60);
const AGE: Duration = Duration::from_secs(60 * 60);

/// How much later than its time anything may happen: everybody is woken when it wants to be.
const SLACK: Duration = Duration::from_secs(1);

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
        let failures = client.reconnect.breaker.failures;
        let links = (client.connection.link.clone(), server.connection.link.clone());
        let mut world = World::with_server(server);
        world.is_reading = false;
        world.add_client(client, secrets(1));
        world.clients[0].is_reading = false;
        world.journal.is_kept = true;
        let rules = Rules {
            client: links.0,
            server: links.1,
            receipts: world.server_config().receipts,
            detach_ttl: world.server_config().detach_ttl,
            suspended_ttl: world.server_config().suspended_ttl,
            max_connections: world.server_config().max_connections,
            max_per_principal: world.server_config().max_per_principal,
            failures,
            tries: None,
            skew: Duration::ZERO,
            slack: Some(SLACK),
        };
        let (cid, began) = (world.cid(), world.now);
        let mut oracle = Oracle::new(rules);
        oracle.on_client(0, cid);
        Self {
            world,
            oracle,
            cid,
            copy: None,
            sent: [0; 2],
            ephemerals: [0; 2],
            ids: [Vec::new(), Vec::new()],
            handles: [Vec::new(), Vec::new()],
            wires: Wires::default(),
            has_cause: false,
            began,
            restarts: 0,
        }
    }

    /// Does everything in order, heals the world, lets it come to rest, and lets the oracle look after each step.
    ///
    /// # Errors
    ///
    /// What contradicts the promise.
    pub fn play(mut self, ops: &[Op]) -> Checked {
        self.look()?;
        for op in ops {
            self.apply(op)?;
            self.world.pump();
            self.look()?;
        }
        self.has_cause |= self.world.now - self.began >= AGE;
        self.heal()?;
        self.oracle.check_settled()?;
        let client = &self.world.clients[0].client;
        let peer = self.world.server.peer(&self.cid).filter(|peer| peer.is_attached());
        match (client.status(), peer) {
            (Status::Attached, Some(peer)) => agree(client.connection(), peer.connection())?,
            (status, _) if !self.has_cause => return Err(Broken::new("L1", format!("nobody is attached: {status:?}"))),
            _ => {}
        }
        if self.has_cause { Ok(()) } else { self.oracle.check_none_lost() }
    }

    fn apply(&mut self, op: &Op) -> Checked {
        if let Op::Suspend | Op::RestartClient | Op::Reconnect | Op::Close(_) | Op::Disconnect = op {
            // What it has just begun is to be known before it is to end.
            self.world.pump();
            self.look()?;
        }
        let world = &mut self.world;
        let now = world.now;
        match op {
            Op::SendUp(filling) => return self.post(Way::Up, *filling, Post::default()),
            Op::SendDown(filling) => return self.post(Way::Down, *filling, Post::default()),
            Op::PostUp(filling, post) => return self.post(Way::Up, *filling, *post),
            Op::PostDown(filling, post) => return self.post(Way::Down, *filling, *post),
            Op::Cancel(way, back) => return self.cancel(*way, *back),
            Op::Decide(way, back, verdict) => return self.decide(*way, *back, *verdict),
            Op::Extend(way, back, millis) => return self.extend(*way, *back, Duration::from_millis(*millis)),
            Op::Drop(way, behind) => {
                if let Some(wire) = world.live_wire(0) {
                    let index = core::cell::Cell::new(0);
                    world.net.drop_texts(wire, *way, |_| index.replace(index.get() + 1) == *behind);
                    self.disturb(wire, Fault::Dropped);
                }
            }
            Op::Suspend => {
                if world.client().client.suspend(now).is_ok() {
                    self.oracle.on_client_command(0, false);
                }
            }
            Op::Drain(secs) => {
                self.has_cause = true;
                let cids: Vec<_> = world.server.connections().copied().collect();
                world.server.drain(Duration::from_secs(*secs), (Duration::ZERO, Duration::from_secs(5)), now);
                cids.into_iter().for_each(|cid| self.oracle.on_server_command(cid, Some(Why::Shutdown)));
            }
            Op::RestartServer => {
                let server = self.world.server.clone().restored(self.life(), Currency::Current, now);
                self.replace_server(server, Restart::Current, None);
            }
            Op::RestartClient => {
                let client = &self.world.clients[0].client;
                let peer = self.world.server.peer(&self.cid).and_then(|peer| peer.connection().epoch());
                // Another instance does not join an epoch that was minted for the one before.
                self.has_cause |= client.connection().epoch().is_none() || client.connection().epoch() != peer;
                let instance = self.life();
                let client = self.world.clients[0].client.clone().restored(instance, Currency::Current, now);
                self.oracle.on_fault_everywhere(Fault::Crashed);
                self.oracle.on_client_restarted(0);
                self.oracle.on_client_wires_dead(0);
                self.world.restore_client(0, client);
            }
            Op::EphemeralUp(key) => {
                let (number, payload) = self.next_ephemeral(Way::Up);
                if self.world.client().client.send_ephemeral(name(*key), payload, now).is_ok() {
                    self.oracle.on_ephemeral(Party::Client(0), number)?;
                }
            }
            Op::EphemeralDown(key) => {
                let (number, payload) = self.next_ephemeral(Way::Down);
                if self.world.server.send_ephemeral(&self.cid, name(*key), payload, now).is_ok() {
                    self.oracle.on_ephemeral(Party::Server(self.cid), number)?;
                }
            }
            Op::TakeUp(count) => (0..*count).for_each(|_| _ = world.take_from(&self.cid)),
            Op::TakeDown(count) => (0..*count).for_each(|_| _ = world.take_at(0)),
            Op::ReadUp(is_reading) => world.is_reading = *is_reading,
            Op::ReadDown(is_reading) => world.clients[0].is_reading = *is_reading,
            Op::Cut(keep, late) => {
                if let Some(wire) = world.live_wire(0) {
                    world.net.cut(wire, *keep, Duration::from_millis(*late), now);
                    self.disturb(wire, Fault::Cut);
                }
            }
            Op::Stall(way) => {
                if let Some(wire) = world.live_wire(0) {
                    world.net.stall(wire, *way);
                    self.disturb(wire, Fault::Stalled);
                }
            }
            Op::Unstall => world.net.unstall_all(),
            Op::Road(is_open) => world.road = if *is_open { Road::Open } else { Road::Silent },
            Op::Advance(millis) => return self.run_for(Duration::from_millis(*millis)),
            Op::Reconnect => self.reconnect(),
            Op::Detach(code) => {
                self.oracle.on_server_command(self.cid, None);
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
                self.ids[1].clear();
                self.handles[0].clear();
                self.replace_server(server, Restart::Lost, None);
            }
            Op::CopyServer => {
                let (server, known) = (self.world.server.clone(), self.oracle.copy_server());
                self.copy = Some(Copy { server, known, ids_down: self.ids[1].clone() });
            }
            Op::RestoreServer => {
                if let Some(copy) = self.copy.clone() {
                    self.has_cause = true;
                    let server = copy.server.restored(self.life(), Currency::Stale, now);
                    self.ids[1] = copy.ids_down;
                    self.handles[0].clear();
                    self.replace_server(server, Restart::Stale, Some(&copy.known));
                }
            }
            Op::Close(secs) => {
                self.has_cause = true;
                world.client().client.close(Duration::from_secs(*secs), now);
                self.oracle.on_client_command(0, true);
            }
            Op::Disconnect => {
                self.has_cause = true;
                world.client().client.disconnect(now);
                self.oracle.on_client_command(0, true);
            }
            Op::ServerDisconnect => {
                self.has_cause = true;
                if world.server.disconnect(&self.cid, now).is_ok() {
                    self.oracle.on_server_command(self.cid, Some(Why::Closed));
                }
            }
        }
        Ok(())
    }

    /// Something happens to a wire that explains its end.
    fn disturb(&mut self, wire: WireId, fault: Fault) {
        if let Some(number) = self.wires.of_wire(wire) {
            self.oracle.on_fault(number, fault);
        }
    }

    /// The server's program dies, and another one runs.
    fn replace_server(&mut self, server: Server, how: Restart, copy: Option<&ServerCopy>) {
        self.oracle.on_fault_everywhere(Fault::Crashed);
        self.oracle.on_server_down();
        self.oracle.on_server_restarted(how, copy, self.world.now);
        self.world.replace_server(server);
    }

    fn reconnect(&mut self) {
        let now = self.world.now;
        if self.world.client().client.reconnect(now).is_ok() {
            self.oracle.on_client_command(0, false);
        }
    }

    /// The number of the next ephemeral message, and what it carries.
    fn next_ephemeral(&mut self, way: Way) -> (u32, Payload) {
        let sent = &mut self.ephemerals[way as usize];
        *sent += 1;
        let number = numbered(way, *sent);
        (number, posts::numbered_payload(number, 0))
    }

    /// Names another life of a machine.
    fn life(&mut self) -> InstanceId {
        self.restarts += 1;
        InstanceId::from_bytes([150 + self.restarts % 100; 16])
    }

    /// Lets time pass, with a look after each event.
    fn run_for(&mut self, duration: Duration) -> Checked {
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

    /// Faults stop, and everybody gets what is still to come.
    fn heal(&mut self) -> Checked {
        self.world.net.unstall_all();
        self.world.road = Road::Open;
        self.world.is_reading = true;
        self.world.clients[0].is_reading = true;
        for _ in 0..6 {
            if is_stopped(&self.world.clients[0].client) {
                self.reconnect();
            }
            for _ in 0..13 {
                self.run_for(Duration::from_secs(10))?;
                self.accept_all()?;
            }
        }
        // The last reports are on their way.
        self.run_for(Duration::from_secs(60))
    }
}

fn is_stopped(client: &Client) -> bool {
    matches!(client.status(), Status::Failed(_) | Status::Superseded | Status::Suspended | Status::Closed(_))
}

fn name(key: u8) -> Name {
    Name::new(&format!("key {key}")).expect("a short name")
}

/// What the oracle calls a message, of which it knows both ways.
const fn numbered(way: Way, number: u32) -> u32 {
    number * 2 + way as u32
}
