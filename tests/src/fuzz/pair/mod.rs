//! Real clients and a real server, a network that breaks at any place, and applications that do whatever they may.
//!
//! The bytes choose what is sent, how far each text gets, which transports break, who restarts, and how time passes. The
//! [`oracle`] hears all of it. Then every fault stops: what was sent must reach its outcome within a bounded
//! time, both sides must agree, and where nothing was done that explains a loss, there is none.

mod applications;
mod faults;
mod outputs;
mod stale;
mod wires;

use std::collections::BTreeMap;
use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::OnSuperseded;
use reattach_core::client::Secrets;
use reattach_core::client::Status;
use reattach_core::connection;
use reattach_core::connection::Incoming;
use reattach_core::id::ConnectionId;
use reattach_core::id::ConnectionKey;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::TransportId;
use reattach_core::link::Handle;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::server::Peer;
use reattach_core::server::Server;
use reattach_core::time::Instant;

use crate::fuzz::bytes::Bytes;
use crate::fuzz::minter::Minter;
use crate::fuzz::shapes;
use crate::oracle;
use crate::oracle::Checked;
use crate::oracle::Fault;
use crate::oracle::Oracle;
use crate::oracle::Party;
use crate::oracle::Rules;

use self::wires::Item;
use self::wires::Way;
use self::wires::Wire;

/// The body of the target.
pub fn run(input: &[u8]) {
    let mut run = Run::new(Bytes::new(input));
    while !run.bytes.is_empty() {
        run.step();
    }
    run.heal();
}

/// One client.
#[derive(Debug)]
struct Side {
    client: Client,
    lives: bool,
    /// The wire of the transport that it asked for last.
    wire: Option<u64>,
}

struct Run<'a> {
    bytes: Bytes<'a>,
    client_config: client::Config,
    server_config: server::Config,
    sides: Vec<Side>,
    server: Server,
    now: Instant,
    wires: BTreeMap<u64, Wire>,
    opened: u64,
    minter: Minter,
    oracle: Oracle,
    /// Everything that was sent, and everything that there ever was to decide by.
    sent: Vec<(Party, MessageId)>,
    handles: Vec<(Party, Handle)>,
    ephemerals: u32,
    /// The wire on which the server has welcomed somebody last.
    welcomed: Option<u64>,
    /// Whether transports open as soon as they are asked for, and bytes leave as soon as they are written.
    is_swift: bool,
    /// Things that were done that explain a detachment.
    faults: u32,
    /// Things that were done, or that followed from what was done, that explain a loss.
    losses: u32,
    /// Whether a text was lost on a wire that went on.
    has_dropped: bool,
    /// Whether applications accept whatever they are handed.
    is_healing: bool,
}

impl<'a> Run<'a> {
    fn new(mut bytes: Bytes<'a>) -> Self {
        let mut client_config = client::Config::default();
        client_config.connect_timeout = Duration::from_millis(100);
        client_config.hello_timeout = Duration::from_millis(150);
        client_config.reconnect.backoff.base = Duration::from_millis(10);
        client_config.reconnect.backoff.cap = Duration::from_millis(80);
        client_config.reconnect.attempts = bytes.pick(&[None, Some(3), Some(1)]);
        client_config.reconnect.stable = Duration::from_millis(50);
        client_config.reconnect.restart_min = Duration::from_millis(20);
        client_config.reconnect.restart_max = Duration::from_millis(40);
        client_config.on_superseded = bytes.pick(&[OnSuperseded::NewIdentity, OnSuperseded::Stop]);
        client_config.connection = shapes::connection(&mut bytes);
        let mut server_config = server::Config::default();
        server_config.hello_timeout = Duration::from_millis(200);
        server_config.detach_ttl = Duration::from_millis(bytes.pick(&[2_000, 300]));
        server_config.suspended_ttl = Duration::from_secs(4);
        server_config.receipts.max = bytes.pick(&[4, 0]);
        server_config.connection = shapes::connection(&mut bytes);
        let now = Instant::from_secs(1_000);
        let is_swift = bytes.pick(&[true, false]);
        let server = Server::new(server_config.clone(), now);
        let rules = Rules {
            client: client_config.connection.link.clone(),
            server: server_config.connection.link.clone(),
            receipts: server_config.receipts,
            detach_ttl: server_config.detach_ttl,
            suspended_ttl: server_config.suspended_ttl,
            max_connections: server_config.max_connections,
            max_per_principal: server_config.max_per_principal,
            failures: client_config.reconnect.breaker.failures,
            tries: client_config.reconnect.attempts,
            skew: Duration::ZERO,
            slack: Some(SLACK),
        };
        let mut run = Self {
            bytes,
            client_config,
            server_config,
            sides: Vec::new(),
            server,
            now,
            wires: BTreeMap::new(),
            opened: 0,
            minter: Minter::default(),
            oracle: Oracle::new(rules),
            sent: Vec::new(),
            handles: Vec::new(),
            ephemerals: 0,
            welcomed: None,
            is_swift,
            faults: 0,
            losses: 0,
            has_dropped: false,
            is_healing: false,
        };
        run.begin();
        run
    }

    /// Another life of the client: the same key, a new instance.
    fn begin(&mut self) {
        let instance = InstanceId::from_bytes(self.minter.bytes());
        let spare = ConnectionKey::from_bytes(self.minter.bytes());
        let key = ConnectionKey::from_bytes([1; 16]);
        let cid = key.connection_id();
        let secrets = Secrets { key, spare: Some(spare), instance };
        let client = Client::new(self.client_config.clone(), secrets, self.minter.count(), self.now);
        self.oracle.on_client(self.sides.len(), cid);
        self.sides.push(Side { client, lives: true, wire: None });
        self.drain();
    }

    /// One operation, with what follows from it.
    fn step(&mut self) {
        let choice = self.bytes.byte();
        match choice % 64 {
            _ if choice >= 0xc0 => self.step_further(choice),
            0..=9 => self.send_up(),
            10..=17 => self.send_down(),
            18..=19 => self.take_up(),
            20..=21 => self.take_down(),
            22..=27 => self.deliver(Way::Up),
            28..=33 => self.deliver(Way::Down),
            34..=37 => self.settle(),
            38..=43 => self.cut(),
            44..=47 => self.wake(),
            48 => self.pass(),
            49..=51 => self.open(),
            52 => self.reconnect(),
            53 => self.detach(),
            54..=56 => self.send_ephemeral(),
            57..=58 => self.progress(),
            59 => self.crash(),
            60 => self.end(),
            61 => self.drop_text(),
            62 => self.decide(),
            _ => self.cancel(),
        }
        self.drain();
        self.check();
    }

    /// Some of what is on its way arrives.
    fn deliver(&mut self, way: Way) {
        let Some(wire) = self.any_wire() else { return };
        for _ in 0..=self.bytes.below(4) {
            if !self.deliver_one(wire, way) {
                return;
            }
        }
    }

    fn deliver_one(&mut self, number: u64, way: Way) -> bool {
        let Some(wire) = self.wires.get_mut(&number).filter(|wire| wire.is_open) else { return false };
        let (at_client, at_server, side) = (wire.transport, TransportId(number), wire.side);
        let end = match way {
            Way::Up => &mut wire.server,
            Way::Down => &mut wire.client,
        };
        let Some(item) = end.coming.pop_front() else { return false };
        let (lived, now, written) = (end.lives, self.now, end.written);
        end.lives &= matches!(item, Item::Text(_));
        if lived {
            if let Item::Closed(_) = item {
                self.oracle.on_told_closed(number, way.to());
            }
            match (way, &item) {
                (Way::Up, Item::Text(text)) => {
                    if text.starts_with("{\"t\":\"bye\"") && text.contains("\"suspend\":true") {
                        self.oracle.on_suspended(side);
                    }
                    let (transport, read) = (at_server, text.len() as u64);
                    self.server.handle_input(server::Input::Progress { transport, read, written }, now);
                    let incoming = Incoming::Text(text);
                    self.server.handle_input(server::Input::Received { transport, incoming }, now);
                }
                (Way::Up, Item::Closed(code)) => {
                    let input = server::Input::Closed { transport: at_server, code: *code };
                    self.server.handle_input(input, now);
                }
                (Way::Down, Item::Text(text)) => {
                    let (transport, read, client) = (at_client, text.len() as u64, &mut self.sides[side].client);
                    client.handle_input(client::Input::Progress { transport, read, written }, now);
                    let incoming = Incoming::Text(text);
                    client.handle_input(client::Input::Received { transport, incoming }, now);
                }
                (Way::Down, Item::Closed(code)) => {
                    let input = client::Input::Closed { transport: at_client, code: *code };
                    self.sides[side].client.handle_input(input, now);
                }
            }
            self.drain();
        }
        true
    }

    /// To the next deadline of anybody, or a little after it.
    fn wake(&mut self) {
        let busy: Vec<_> = self.wires.iter().filter(|(_, wire)| wire.is_busy()).map(|(number, _)| *number).collect();
        busy.into_iter().for_each(|number| self.disturb(number, Fault::Stalled));
        let late = Duration::from_millis(self.bytes.pick(&[0, 0, 1, 1_000]));
        if !late.is_zero() {
            self.sleep(late);
        }
        if let Some(at) = self.next_timer() {
            self.wake_at(at + late);
        }
    }

    fn wake_at(&mut self, at: Instant) {
        self.now = self.now.max(at);
        for side in self.sides.iter_mut().filter(|side| side.lives) {
            if side.client.poll_timeout().is_some_and(|at| at <= self.now) {
                side.client.handle_timeout(self.now);
            }
        }
        if self.server.poll_timeout().is_some_and(|at| at <= self.now) {
            self.server.handle_timeout(self.now);
        }
        self.drain();
    }

    fn next_timer(&self) -> Option<Instant> {
        let clients = self.sides.iter().filter(|side| side.lives).map(|side| side.client.poll_timeout());
        clients.chain([self.server.poll_timeout()]).flatten().min()
    }

    /// A transport that was asked for opens, or fails to.
    fn open(&mut self) {
        let asked = self.wires.iter().filter(|(_, wire)| !wire.is_open).map(|(number, _)| *number);
        let Some(number) = self.bytes.pick_of(asked) else { return };
        if self.bytes.rarely(3) {
            self.disturb(number, Fault::Road);
            self.oracle.on_told_closed(number, oracle::End::Client);
            let wire = self.wires.remove(&number).expect("it was just there");
            let input = client::Input::OpenFailed { transport: wire.transport, error: OpenError::Unreachable };
            return self.sides[wire.side].client.handle_input(input, self.now);
        }
        self.open_wire(number);
    }

    fn open_wire(&mut self, number: u64) {
        let mint = self.minter.mint();
        let wire = self.wires.get_mut(&number).expect("the wire is there");
        wire.is_open = true;
        wire.server.lives = true;
        let (transport, side) = (wire.transport, wire.side);
        self.oracle.on_accepted(number);
        let input = server::Input::Accepted { transport: TransportId(number), address: None, mint };
        self.server.handle_input(input, self.now);
        self.sides[side].client.handle_input(client::Input::Opened { transport, token: None }, self.now);
    }

    /// Bytes leave the adapters at last.
    fn progress(&mut self) {
        let Some(number) = self.any_wire() else { return };
        self.leave(number);
    }

    fn leave(&mut self, number: u64) {
        let Some(wire) = self.wires.get_mut(&number) else { return };
        let (transport, side, up) = (wire.transport, wire.side, wire.client.leave());
        if let Some(written) = up {
            let input = client::Input::Progress { transport, read: 0, written };
            self.sides[side].client.handle_input(input, self.now);
        }
        if let Some(written) = self.wires.get_mut(&number).and_then(|wire| wire.server.leave()) {
            let input = server::Input::Progress { transport: TransportId(number), read: 0, written };
            self.server.handle_input(input, self.now);
        }
    }

    fn any_side(&mut self) -> Option<usize> {
        let living = self.sides.iter().enumerate().filter(|(_, side)| side.lives).map(|(index, _)| index);
        self.bytes.pick_of(living)
    }

    fn any_wire(&mut self) -> Option<u64> {
        self.bytes.pick_of(self.wires.keys().rev().copied())
    }

    fn any_cid(&mut self) -> Option<ConnectionId> {
        self.bytes.pick_of(self.server.connections().copied())
    }

    fn drop_dead_wires(&mut self) {
        self.wires.retain(|_, wire| wire.client.lives || wire.server.lives);
    }

    /// Does what the machines ask for.
    fn drain(&mut self) {
        loop {
            let mut asked = Vec::new();
            for side in 0..self.sides.len() {
                while let Some(output) = self.sides[side].client.poll_output().filter(|_| self.sides[side].lives) {
                    self.on_client_output(side, output);
                }
            }
            while let Some(output) = self.server.poll_output() {
                self.on_server_output(output);
            }
            self.drop_dead_wires();
            if !self.is_swift {
                return;
            }
            for (number, wire) in &self.wires {
                if !wire.is_open || wire.client.is_held() || wire.server.is_held() {
                    asked.push(*number);
                }
            }
            if asked.is_empty() {
                return;
            }
            for number in asked {
                if self.wires[&number].is_open { self.leave(number) } else { self.open_wire(number) }
            }
        }
    }

    /// What holds after every operation.
    fn check(&mut self) {
        heed(self.oracle.check_step());
        heed(self.oracle.check_time(self.now));
        for (index, side) in self.sides.iter().enumerate().filter(|(_, side)| side.lives) {
            heed(self.oracle.check_connection(Party::Client(index), side.client.connection()));
        }
        for (cid, peer) in self.server.connections().filter_map(|cid| Some((cid, self.server.peer(cid)?))) {
            heed(self.oracle.check_connection(Party::Server(*cid), peer.connection()));
        }
    }

    /// Everything that can happen without time passing happens, and both applications take what comes.
    fn settle(&mut self) {
        self.drain();
        loop {
            let mut moved = false;
            for number in self.wires.keys().copied().collect::<Vec<_>>() {
                if self.wires.get(&number).is_some_and(|wire| !wire.is_open) {
                    self.open_wire(number);
                    moved = true;
                }
                self.leave(number);
                self.drain();
                while self.deliver_one(number, Way::Up) || self.deliver_one(number, Way::Down) {
                    moved = true;
                }
            }
            moved |= self.take_all();
            self.drain();
            if !moved {
                return;
            }
        }
    }

    /// Faults stop. Everybody who waits for an outcome is told it, and both sides agree.
    fn heal(mut self) {
        self.is_swift = true;
        self.is_healing = true;
        self.drain();
        self.accept_all();
        for side in 0..self.sides.len() {
            let has_stopped = matches!(self.sides[side].client.status(), Status::Failed(_) | Status::Suspended);
            assert!(!self.sides[side].lives || !has_stopped || self.go_on(side), "what has stopped can start over");
        }
        // What a lost text told is told again with the next pong.
        let tail = Duration::from_millis(if self.has_dropped { 1_000 } else { 50 });
        self.settle();
        let mut steps = 0;
        let mut end = None;
        while let Some(at) = self.next_timer() {
            // A little longer than until all is told: the last reports are on their way.
            if self.oracle.is_settled() && at > *end.get_or_insert(self.now + tail) {
                break;
            }
            steps += 1;
            assert!(steps < 1_000, "an outcome is owed: {:?}", self.oracle);
            self.wake_at(at);
            self.settle();
            self.check();
            self.check_stale();
        }
        heed(self.oracle.check_settled());
        for side in self.sides.iter().filter(|side| side.lives && side.client.status() == Status::Attached) {
            let peer = self.server.peer(&side.client.connection_id()).filter(|peer| peer.is_attached());
            heed(oracle::agree(side.client.connection(), peer.map(Peer::connection).expect("both sides are attached")));
        }
        if self.losses == 0 {
            heed(self.oracle.check_none_lost());
        }
        let window = |config: &connection::Config| config.link.window.count;
        let most = window(&self.client_config.connection).max(window(&self.server_config.connection));
        let again = self.oracle.most_again();
        assert!(self.faults > 0 || again == 0, "{again} messages are written again without a cause");
        assert!(self.has_dropped || again <= most, "{again} messages are written again where {most} can be out");
    }
}

/// Panics where something contradicts the design.
fn heed(checked: Checked) {
    if let Err(broken) = checked {
        panic!("{broken}");
    }
}

/// How much later than its time anything may happen that nobody was asleep for.
const SLACK: Duration = Duration::from_secs(1);
