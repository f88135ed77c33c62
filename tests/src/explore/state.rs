//! A world: real machines, the wires between them, what the applications know, and what may still happen.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::hash::Hash;
use std::rc::Rc;
use std::time::Duration;

use reattach_core::client::Client;
use reattach_core::client::Secrets;
use reattach_core::id::ConnectionId;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::link::Handle;
use reattach_core::outcome::Outcome;
use reattach_core::server::Mint;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::Frame;

use crate::oracle::Oracle;
use crate::oracle::Party;
use crate::oracle::Rules;
use crate::oracle::ServerCopy;
use crate::world::frames_of;

use super::actions::Program;
use super::fingerprint::Eyes;
use super::fingerprint::Fold;
use super::fingerprint::ORIGIN;
use super::fingerprint::Print;
use super::search::Limits;
use super::shapes::Budget;
use super::shapes::HORIZON;
use super::shapes::Shape;
use super::wires::Item;
use super::wires::Way;
use super::wires::Wire;

/// A machine that states share until one of them changes it, with its fingerprint.
#[derive(Clone, Debug)]
pub(super) struct Part<M> {
    machine: Rc<M>,
    print: Cell<Option<Print>>,
}

impl<M: Clone + Hash> Part<M> {
    pub(super) fn new(machine: M) -> Self {
        Self { machine: Rc::new(machine), print: Cell::new(None) }
    }

    pub(super) fn get(&self) -> &M {
        &self.machine
    }

    pub(super) fn get_mut(&mut self) -> &mut M {
        self.print.set(None);
        Rc::make_mut(&mut self.machine)
    }

    fn print(&self, eyes: Eyes) -> Print {
        let print = self.print.get().unwrap_or_else(|| Fold::of(&*self.machine, eyes));
        self.print.set(Some(print));
        print
    }
}

/// The oracle, which states share in the same way.
#[derive(Clone, Debug)]
pub(super) struct Account {
    oracle: Rc<Oracle>,
    print: Cell<Option<Print>>,
}

impl Account {
    pub(super) fn get(&self) -> &Oracle {
        &self.oracle
    }

    pub(super) fn get_mut(&mut self) -> &mut Oracle {
        self.print.set(None);
        Rc::make_mut(&mut self.oracle)
    }

    fn print(&self, eyes: Eyes) -> Print {
        let print = self.print.get().unwrap_or_else(|| {
            let mut fold = Fold::new(eyes);
            if eyes.remembers {
                self.oracle.hash(&mut fold);
            } else {
                self.oracle.fingerprint(eyes.now, &mut fold);
            }
            fold.print()
        });
        self.print.set(Some(print));
        print
    }
}

/// A copy of the server for a restart, and what its applications knew then.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) server: Part<Server>,
    pub(super) known: Rc<ServerCopy>,
}

/// A world.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) shape: Rc<Shape>,
    pub(super) now: Instant,
    pub(super) clients: Vec<Part<Client>>,
    pub(super) server: Part<Server>,
    pub(super) copy: Option<Copy>,
    pub(super) wires: BTreeMap<u64, Wire>,
    pub(super) opened: u64,
    /// The wire that each client asked for last.
    pub(super) newest: [u64; 2],
    pub(super) account: Account,
    /// What somebody still means to decide about, even if it is too late.
    pub(super) undecided: BTreeSet<(Party, Handle)>,
    pub(super) left: Budget,
    /// The outcomes that were told in the last step, which follow from it.
    pub(super) told: Vec<Outcome>,
}

/// The connection of every client's first identity.
pub(super) fn base() -> ConnectionId {
    ConnectionKey::from_bytes([1; 16]).connection_id()
}

impl State {
    /// A server, and a client that has asked for its first transport.
    pub(super) fn new(shape: &Rc<Shape>) -> Self {
        let now = ORIGIN;
        Self {
            shape: Rc::clone(shape),
            now,
            clients: Vec::new(),
            server: Part::new(Server::new(shape.server(), now)),
            copy: None,
            wires: BTreeMap::new(),
            opened: 0,
            newest: [0; 2],
            account: Account { oracle: Rc::new(Oracle::new(rules(shape))), print: Cell::new(None) },
            undecided: BTreeSet::new(),
            left: shape.budget,
            told: Vec::new(),
        }
    }

    /// A client like the others that is another instance.
    pub(super) fn client(&self) -> Client {
        let number = self.clients.len() as u8;
        let spare = Some(ConnectionKey::from_bytes([10 + number; 16]));
        let instance = InstanceId::from_bytes([0xc0 + number; 16]);
        let secrets = Secrets { key: ConnectionKey::from_bytes([1; 16]), spare, instance };
        Client::new(self.shape.client(), secrets, 0, self.now)
    }

    /// What the server's adapter mints for a wire.
    pub(super) fn mint(&self, wire: u64) -> Mint {
        let life = self.shape.budget.restarts - self.left.restarts;
        let mut bytes = [0xa5; 16];
        bytes[14] = life;
        bytes[15] = u8::try_from(wire).expect("few wires");
        Mint { epoch: Epoch::from_bytes(bytes), fence: Fence::from_bytes(bytes) }
    }

    /// What it is known by. The clock stands in it only as what everything else is measured from.
    pub(super) fn print(&self, limits: &Limits) -> Print {
        let (seed, remembers) = (limits.seed, limits.is_whole);
        // How long ago something was shows only in when a peer is asked about it.
        let eyes = Eyes { now: self.now, forgets: self.shape.ack_timeout > HORIZON, seed, remembers };
        let mut fold = Fold::new(eyes);
        for client in &self.clients {
            client.print(eyes).hash(&mut fold);
        }
        self.server.print(eyes).hash(&mut fold);
        self.account.print(eyes).hash(&mut fold);
        if let Some(copy) = &self.copy {
            copy.server.print(eyes).hash(&mut fold);
            if remembers {
                copy.known.hash(&mut fold);
            } else {
                self.account.get().fingerprint_copy(&copy.known, self.now, &mut fold);
            }
        }
        (&self.wires, self.opened, self.newest, &self.undecided, self.left).hash(&mut fold);
        fold.print()
    }

    /// Whether anything was done after which messages may be written again.
    pub(super) fn has_gone_wrong(&self) -> bool {
        let Budget { up, down, cancels, copies, .. } = self.left;
        let quiet = Budget { up, down, cancels, copies, ..self.shape.budget };
        self.left != quiet
    }

    /// When the next machine wants to be woken.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let clients = self.clients.iter().map(|client| client.get().poll_timeout());
        clients.chain([self.server.get().poll_timeout()]).flatten().min()
    }

    /// Whether time may pass up to then by itself: a timer that is due may fire at any moment, and one that is not too far away
    /// once nothing is on its way on a wire that its client believes in. What is left on other wires may be late.
    pub(super) fn may_pass_to(&self, at: Instant) -> bool {
        at <= self.now || (at <= self.now + HORIZON && !self.wires.values().any(Wire::is_busy))
    }

    /// Who wants to be woken by then.
    pub(super) fn woken_at(&self, at: Instant) -> impl Iterator<Item = Program> {
        let is_due = |timer: Option<Instant>| timer.is_some_and(|timer| timer <= at);
        let clients: Vec<usize> =
            (0..self.clients.len()).filter(|index| is_due(self.clients[*index].get().poll_timeout())).collect();
        let server = is_due(self.server.get().poll_timeout()).then_some(Program::Server);
        clients.into_iter().map(Program::Client).chain(server)
    }

    /// Time passes. What was fingerprinted before looks different from here.
    pub(super) fn advance(&mut self, at: Instant) {
        if at > self.now {
            self.now = at;
            self.clients.iter().for_each(|client| client.print.set(None));
            self.server.print.set(None);
            self.account.print.set(None);
            if let Some(copy) = &self.copy {
                copy.server.print.set(None);
            }
        }
    }

    /// Whether the next thing on a wire may be lost while the wire goes on: a handshake goes no further without what was lost of
    /// it, and there the wire is no stream yet.
    pub(super) fn can_lose(&self, wire: &Wire, way: Way) -> bool {
        let Some(Item::Text(text)) = wire.end(way).coming.front() else { return false };
        let is_greeting =
            |frame: &Frame<'_>| matches!(frame, Frame::Hello(_) | Frame::Challenge(_) | Frame::Welcome(_));
        !frames_of(text).iter().any(is_greeting)
    }
}

/// What the machines are configured to do. Nothing is held against time: what is to be over at rest is.
fn rules(shape: &Shape) -> Rules {
    let (client, server) = (shape.client(), shape.server());
    Rules {
        client: client.connection.link,
        server: server.connection.link,
        receipts: server.receipts,
        detach_ttl: server.detach_ttl,
        suspended_ttl: server.suspended_ttl,
        max_connections: server.max_connections,
        max_per_principal: server.max_per_principal,
        failures: client.reconnect.breaker.failures,
        tries: client.reconnect.attempts,
        skew: Duration::ZERO,
        slack: None,
    }
}
