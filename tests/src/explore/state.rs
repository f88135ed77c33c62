//! A world: real machines, the wires between them, what the applications know, and what may still happen.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::rc::Rc;

use reattach_core::client::Client;
use reattach_core::client::Secrets;
use reattach_core::id::ConnectionId;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::server::Mint;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::Frame;

use crate::world::frames_of;

use super::fingerprint::Eyes;
use super::fingerprint::Fold;
use super::fingerprint::ORIGIN;
use super::fingerprint::Print;
use super::ledger::Causes;
use super::ledger::Ledger;
use super::ledger::Party;
use super::shapes::Budget;
use super::shapes::HORIZON;
use super::shapes::Memory;
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

/// A world.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) shape: Rc<Shape>,
    pub(super) now: Instant,
    pub(super) clients: Vec<Part<Client>>,
    pub(super) server: Part<Server>,
    /// A copy of the server for a restart.
    pub(super) copy: Option<Part<Server>>,
    pub(super) wires: BTreeMap<u64, Wire>,
    pub(super) opened: u64,
    pub(super) ledger: Ledger,
    pub(super) left: Budget,
    /// How often each client was told of an attach that began an epoch.
    pub(super) fresh: [u8; 2],
    /// How many connections the server let expire.
    pub(super) expired: u8,
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
            ledger: Ledger::default(),
            left: shape.budget,
            fresh: [0; 2],
            expired: 0,
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
    pub(super) fn print(&self, seed: u64) -> Print {
        // How long ago something was shows only in when a peer is asked about it.
        let eyes = Eyes { now: self.now, forgets: self.shape.ack_timeout > HORIZON, seed };
        let mut fold = Fold::new(eyes);
        for client in &self.clients {
            client.print(eyes).hash(&mut fold);
        }
        self.server.print(eyes).hash(&mut fold);
        self.copy.as_ref().map(|copy| copy.print(eyes)).hash(&mut fold);
        (&self.wires, self.opened, &self.ledger, self.left, self.fresh, self.expired).hash(&mut fold);
        fold.print()
    }

    /// What was done so far that explains what follows.
    pub(super) fn causes(&self) -> Causes {
        let (all, left) = (&self.shape.budget, &self.left);
        let restarts = all.restarts - left.restarts;
        let forgot = if self.shape.memories == [Memory::Current] { 0 } else { restarts };
        let lost = (all.cuts - left.cuts) + (all.losses - left.losses) + restarts;
        let twins = all.twins - left.twins;
        Causes {
            faults: lost + (all.rushes - left.rushes) + twins,
            losses: forgot + twins + self.expired,
            forgot,
            lost,
            has_waited: self.now > ORIGIN,
            now: self.now,
        }
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
    pub(super) fn woken_at(&self, at: Instant) -> impl Iterator<Item = Party> {
        let is_due = |timer: Option<Instant>| timer.is_some_and(|timer| timer <= at);
        let clients: Vec<usize> =
            (0..self.clients.len()).filter(|index| is_due(self.clients[*index].get().poll_timeout())).collect();
        let server = is_due(self.server.get().poll_timeout()).then_some(Party::Server);
        clients.into_iter().map(Party::Client).chain(server)
    }

    /// Time passes. What was fingerprinted before looks different from here.
    pub(super) fn advance(&mut self, at: Instant) {
        if at > self.now {
            self.now = at;
            self.clients.iter().for_each(|client| client.print.set(None));
            self.server.print.set(None);
            if let Some(copy) = &self.copy {
                copy.print.set(None);
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
