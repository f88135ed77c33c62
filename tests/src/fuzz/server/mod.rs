//! One server against everybody: strangers, clients that are honest, late, cloned or hostile, its own application, and a
//! clock that jumps both ways.
//!
//! Four keys with a few instances each say hello on any number of transports; what they say is made from what the server
//! shows of itself, so that it is mostly right and connections live long. After each operation every output is drained and the
//! server is looked at. What one transport says never touches a connection that is not its own.

mod decisions;
mod ledger;
mod outputs;
mod speech;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use reattach_core::connection::Incoming;
use reattach_core::error::ApiMisuse;
use reattach_core::id::ConnectionId;
use reattach_core::id::Fence;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::id::Principal;
use reattach_core::id::TransportId;
use reattach_core::link::Handle;
use reattach_core::link::Outgoing;
use reattach_core::server::Config;
use reattach_core::server::Input;
use reattach_core::server::Peer;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;
use reattach_core::wire::Token;

use crate::fuzz::bytes::Bytes;
use crate::fuzz::callers;
use crate::fuzz::callers::Callers;
use crate::fuzz::checks;
use crate::fuzz::minter::Minter;
use crate::fuzz::shapes;

use self::ledger::Cause;
use self::ledger::Ledger;

/// The body of the target.
pub fn run(input: &[u8]) {
    let mut run = Run::new(Bytes::new(input));
    while !run.bytes.is_empty() {
        run.step();
        run.check();
    }
    run.finish();
}

/// One transport that the server has not closed.
#[derive(Debug, Default)]
struct Wire {
    network: u8,
    produced: u64,
    written: u64,
    /// The last hello on it that could be read.
    hello: Option<Hello>,
    /// What the server asked for.
    fence: Option<Fence>,
    /// The connection that it is attached to.
    cid: Option<ConnectionId>,
    pinged: u64,
}

struct Run<'a> {
    bytes: Bytes<'a>,
    config: Config,
    server: Server,
    now: Instant,
    wires: BTreeMap<TransportId, Wire>,
    accepted: u64,
    callers: Callers,
    /// Questions to the application that were not answered.
    asked: BTreeMap<TransportId, Option<Token>>,
    ledger: Ledger,
    /// What was sent, and what was handed over to be decided about.
    ids: Vec<(ConnectionId, MessageId)>,
    handles: Vec<(ConnectionId, Handle)>,
    minter: Minter,
    /// Messages in the text that is being made.
    ahead: u64,
    /// Whether all bytes leave at once, and the application answers at once.
    is_fast: bool,
}

impl<'a> Run<'a> {
    fn new(mut bytes: Bytes<'a>) -> Self {
        let mut config = Config::default();
        config.authenticate = bytes.pick(&[false, true]);
        config.hello_timeout = Duration::from_millis(200);
        config.detach_ttl = Duration::from_millis(bytes.pick(&[300, 2_000]));
        config.suspended_ttl = Duration::from_millis(3_000);
        config.receipts.ttl = Duration::from_secs(100);
        config.receipts.max = bytes.pick(&[4, 2, 1, 0]);
        config.receipts.max_per_principal = bytes.pick(&[3, 1]);
        config.max_connections = bytes.pick(&[4, 3, 2]);
        config.max_per_principal = bytes.pick(&[4, 2, 1]);
        config.max_per_address = bytes.pick(&[4, 2, 1]);
        config.connection = shapes::connection(&mut bytes);
        let is_fast = bytes.pick(&[true, false]);
        let now = Instant::from_secs(1_000);
        Self {
            bytes,
            server: Server::new(config.clone(), now),
            ledger: Ledger::new(config.clone()),
            config,
            now,
            wires: BTreeMap::new(),
            accepted: 0,
            callers: Callers::default(),
            asked: BTreeMap::new(),
            ids: Vec::new(),
            handles: Vec::new(),
            minter: Minter::default(),
            ahead: 0,
            is_fast,
        }
    }

    /// One operation, with what follows from it.
    fn step(&mut self) {
        let choice = self.bytes.byte();
        match choice % 64 {
            _ if choice >= 0xc0 => self.step_further(choice),
            0..=7 => self.arrive(),
            8..=9 => _ = self.accept(),
            10..=12 => self.hello_on_any(),
            13..=16 => self.answer_challenge(),
            17..=18 => self.answer_question(),
            19..=24 => self.say_one(Self::message),
            25..=27 => self.say_one(Self::ack),
            28 => self.say_one(Self::pong),
            29 => self.say_one(Self::ping),
            30 => self.say_one(Self::ephemeral),
            31..=32 => self.say_one(Self::bye),
            33..=34 => self.batch(),
            35 => self.raw(),
            36..=37 => self.progress(),
            38..=40 => self.closed(),
            41..=43 => self.wake(),
            44 => self.pass(),
            45 => self.input_of_a_dead_transport(),
            46..=51 => self.send(),
            52..=56 => self.take(),
            57 => self.send_ephemeral(),
            58 => self.detach(),
            59 => self.disconnect(),
            60 => self.close(),
            _ => self.wake_at(self.now),
        }
    }

    fn input(&mut self, cause: Cause, input: Input<'_>) {
        self.ledger.begin(cause);
        self.server.handle_input(input, self.now);
        self.drain();
    }

    /// A transport comes, and says hello at once.
    fn arrive(&mut self) {
        let transport = self.accept();
        self.hello(transport);
    }

    fn accept(&mut self) -> TransportId {
        let addresses = [(None, 0), (Some(V4), 1), (Some(V4_IN_V6), 1), (Some(V6), 2), (Some(V6_BESIDE), 2)];
        let (address, network) = self.bytes.pick(&addresses);
        let address = address.map(|address| address.parse::<IpAddr>().expect("an address"));
        self.accepted += 1;
        let transport = TransportId(self.accepted);
        let mint = self.minter.mint();
        let of_network = self.wires.values().filter(|wire| network > 0 && wire.network == network).count();
        let is_full = self.wires.len() >= self.config.max_connections || of_network >= self.config.max_per_address;
        self.wires.insert(transport, Wire { network, ..Wire::default() });
        self.input(Cause::Accepted, Input::Accepted { transport, address, mint });
        assert_eq!(self.wires.contains_key(&transport), !is_full, "a transport is admitted while there is room");
        transport
    }

    /// The application says whose credentials they are.
    fn answer_question(&mut self) {
        let Some(transport) = self.bytes.pick_of(self.asked.keys().copied()) else { return };
        let token = self.asked.remove(&transport).expect("it was just there");
        self.authenticate(transport, token.as_ref());
    }

    fn authenticate(&mut self, transport: TransportId, token: Option<&Token>) {
        let name =
            token.map(Token::reveal).filter(|name| *name != callers::NOBODY).and_then(|name| Name::new(name).ok());
        let principal = name.map(Principal::Named);
        let hello = self.wires.get(&transport).and_then(|wire| wire.hello.as_ref());
        let cid = hello.map(|hello| hello.cid).filter(|cid| {
            let owner = self.ledger.principal(cid);
            principal.is_some() && (owner.is_none() || owner == principal.as_ref())
        });
        let before = self.others(cid);
        self.input(Cause::Authenticated, Input::Authenticated { transport, admission: principal.map(Into::into) });
        self.assert_untouched(&before);
    }

    /// A text comes on a transport. It touches the connection that it is attached to, or the one whose key it shows.
    fn receive(&mut self, transport: TransportId, text: &str) {
        let Some(wire) = self.wires.get_mut(&transport) else { return };
        let mut touched = wire.cid;
        let mut rest = text;
        let first = wire::next_line(&mut rest).map(wire::decode);
        if let (None, Some(Ok(Frame::Hello(hello)))) = (touched, first) {
            touched = hello.cid.is_owned_by(&hello.key).then_some(hello.cid);
            self.ledger.fenced = hello.fence.is_some() && hello.fence == wire.fence;
            wire.hello = Some(*hello);
        }
        let before = self.others(touched);
        let incoming = Incoming::Text(text);
        self.input(Cause::Received, Input::Received { transport, incoming });
        self.assert_untouched(&before);
    }

    /// The peers of every connection but one, or of every connection where a hello is turned away.
    fn others(&self, touched: Option<ConnectionId>) -> BTreeMap<ConnectionId, Peer> {
        let others = self.server.connections().filter(|cid| Some(**cid) != touched);
        others.map(|cid| (*cid, self.server.peer(cid).expect("it is listed").clone())).collect()
    }

    fn assert_untouched(&self, before: &BTreeMap<ConnectionId, Peer>) {
        for (cid, peer) in before {
            assert_eq!(self.server.peer(cid), Some(peer), "a transport touches its own connection only");
        }
    }

    fn progress(&mut self) {
        let Some(transport) = self.any_wire() else { return };
        let (read, wire) = (self.bytes.number(), &self.wires[&transport]);
        let written = self.bytes.near(wire.produced);
        let wire = self.wires.get_mut(&transport).expect("it was just there");
        wire.written = wire.written.max(written.min(wire.produced));
        self.input(Cause::Command, Input::Progress { transport, read, written });
    }

    fn closed(&mut self) {
        let Some(transport) = self.any_wire() else { return };
        let code = shapes::code(&mut self.bytes);
        let wire = self.wires.remove(&transport).expect("it was just there");
        let before = self.others(wire.cid);
        self.input(Cause::Closed, Input::Closed { transport, code });
        self.assert_untouched(&before);
    }

    /// To the machine's own next deadline, or a little after it.
    fn wake(&mut self) {
        let late = Duration::from_millis(self.bytes.pick(&[0, 0, 1, 1_000]));
        if let Some(at) = self.server.poll_timeout() {
            self.wake_at(self.now.max(at + late));
        }
    }

    fn wake_at(&mut self, at: Instant) {
        self.now = at;
        self.ledger.begin(Cause::Time);
        self.server.handle_timeout(self.now);
        self.drain();
        let next = self.server.poll_timeout();
        assert!(next.is_none_or(|at| at > self.now), "the deadline stays in the past: {:?}", self.server);
    }

    /// Time passes with nobody looking, or runs backwards for one operation.
    fn pass(&mut self) {
        let by = Duration::from_millis(self.bytes.number().min(100_000));
        if !self.bytes.rarely(3) {
            self.now = self.now + by;
            return;
        }
        self.wake_at(self.now);
        let before = self.server.clone();
        self.server.handle_timeout(Instant::ZERO + by);
        assert_eq!(self.server, before, "an earlier time is taken for the latest one seen");
    }

    fn input_of_a_dead_transport(&mut self) {
        // Only the time may have moved on.
        self.wake_at(self.now);
        let transport = TransportId(self.bytes.near(self.accepted + 1));
        if self.wires.contains_key(&transport) {
            return;
        }
        let mut text = self.bytes.text();
        if let (true, Some(hello)) = (self.bytes.rarely(2), self.wires.values().find_map(|wire| wire.hello.clone())) {
            text.clear();
            Frame::Hello(Box::new(hello)).encode(&mut text);
        }
        let input = match self.bytes.below(4) {
            0 => Input::Received { transport, incoming: Incoming::Text(&text) },
            1 => Input::Progress { transport, read: 1, written: self.bytes.number() },
            2 => Input::Authenticated {
                transport,
                admission: Name::new(callers::account(0)).ok().map(|name| Principal::Named(name).into()),
            },
            _ => Input::Closed { transport, code: shapes::code(&mut self.bytes) },
        };
        let before = self.server.clone();
        self.server.handle_input(input, self.now);
        assert_eq!(self.server, before, "an input of a dead transport changes nothing");
    }

    fn send(&mut self) {
        self.ledger.begin(Cause::Command);
        let Some(cid) = self.any_cid() else { return };
        let payload = shapes::payload(&mut self.bytes);
        let id = if self.bytes.rarely(4) { Some(shapes::id(&mut self.bytes)) } else { None };
        let len = payload.len() as u64;
        let outgoing = Outgoing { id, ..shapes::outgoing(&mut self.bytes, payload) };
        let has_room = self.server.peer(&cid).is_some_and(|peer| peer.has_room(&outgoing.lane, len));
        match self.server.send(&cid, outgoing, self.now) {
            Ok(sent) => {
                assert!(has_room && id.is_none_or(|id| id == sent), "what is taken has room, and its own name");
                self.ledger.on_sent(cid, sent);
                self.ids.push((cid, sent));
            }
            Err(error) => {
                assert_eq!(error == ApiMisuse::UnknownConnection, self.server.peer(&cid).is_none());
                assert!(error != ApiMisuse::NotAttached && (error != ApiMisuse::QueueFull || !has_room));
            }
        }
        self.drain();
    }

    fn take(&mut self) {
        self.ledger.begin(Cause::Command);
        let cid = callers::key(self.bytes.pick(&[0, 1, 2, 3])).connection_id();
        let before = self.others(Some(cid));
        for _ in 0..=self.bytes.below(4) {
            let has = self.server.peer(&cid).is_some_and(Peer::has_delivery);
            let taken = self.server.take(&cid, self.now);
            let was_taken = taken.is_some();
            let handle = taken.and_then(|delivery| delivery.handle());
            self.handles.extend(handle.map(|handle| (cid, handle)));
            // What an ended connection had can be taken too.
            checks::taken(has || was_taken, was_taken, self.server.peer(&cid).is_some_and(Peer::has_delivery));
        }
        self.drain();
        self.assert_untouched(&before);
    }

    fn detach(&mut self) {
        self.ledger.begin(Cause::Detach);
        let (cid, code) = (self.any_cid(), shapes::code(&mut self.bytes));
        let Some(cid) = cid else { return };
        let result = self.server.detach(&cid, code, self.now);
        assert_eq!(result, if code.is_sendable() { Ok(()) } else { Err(ApiMisuse::ReservedCode(code)) });
        self.drain();
        assert!(result.is_err() || !self.server.registry().is_reachable(&cid));
    }

    fn disconnect(&mut self) {
        self.ledger.begin(Cause::Command);
        let Some(cid) = self.any_cid() else { return };
        self.ledger.on_closing(cid);
        self.server.disconnect(&cid, self.now).expect("it is registered");
        self.drain();
        assert!(self.server.peer(&cid).is_none(), "it is over at once");
    }

    fn close(&mut self) {
        self.ledger.begin(Cause::Command);
        let Some(cid) = self.any_cid() else { return };
        self.ledger.on_closing(cid);
        let patience = Duration::from_millis(self.bytes.number().min(1_000));
        self.server.close(&cid, patience, self.now).expect("it is registered");
        self.drain();
    }

    fn any_wire(&mut self) -> Option<TransportId> {
        // The newest first: it is the one that has something to say.
        self.bytes.pick_of(self.wires.keys().rev().copied())
    }

    fn any_cid(&mut self) -> Option<ConnectionId> {
        self.bytes.pick_of(self.server.connections().copied())
    }

    /// Does what the machine asks for.
    fn drain(&mut self) {
        loop {
            while let Some(output) = self.server.poll_output() {
                self.on_output(output);
            }
            if !self.is_fast {
                return;
            }
            if let Some((transport, token)) = self.asked.pop_first() {
                self.authenticate(transport, token.as_ref());
            } else if let Some((transport, wire)) = self.wires.iter_mut().find(|(_, wire)| wire.written < wire.produced)
            {
                wire.written = wire.produced;
                let (transport, written) = (*transport, wire.produced);
                self.server.handle_input(Input::Progress { transport, read: 0, written }, self.now);
            } else {
                return;
            }
        }
    }

    /// What holds after every operation.
    fn check(&self) {
        let (server, registry) = (&self.server, self.server.registry());
        assert_eq!(registry.transports(), self.wires.len(), "the server counts the transports that live");
        assert!(self.wires.len() <= self.config.max_connections);
        for network in 1..=2 {
            let of_network = self.wires.values().filter(|wire| wire.network == network).count();
            assert!(of_network <= self.config.max_per_address, "too many of one address");
        }
        assert!(registry.receipts() <= self.config.receipts.max);
        self.ledger.check(server);
        let attached: Vec<_> = self.wires.values().filter_map(|wire| wire.cid).collect();
        for cid in server.connections() {
            let peer = server.peer(cid).expect("it is listed");
            let carriers = attached.iter().filter(|other| *other == cid).count();
            assert_eq!(carriers, usize::from(peer.is_attached()), "a connection has one transport or none");
            assert_eq!(carriers == 1, registry.is_reachable(cid), "registry and peer agree");
            assert_eq!(self.ledger.principal(cid), Some(peer.principal()), "a connection keeps its owner");
            checks::connection(peer.connection(), &self.config.connection, self.ledger.outstanding(cid));
            assert!(!peer.is_attached() || peer.poll_timeout().is_some(), "nothing waits without a timer");
        }
        assert!(attached.iter().all(|cid| server.peer(cid).is_some()));
        let is_idle = self.wires.is_empty() && registry.connections() == 0 && registry.receipts() == 0;
        assert!(is_idle || server.poll_timeout().is_some(), "nothing waits without a timer: {server:?}");
        for wire in self.wires.values() {
            checks::held(wire.produced - wire.written, &self.config.connection);
        }
    }

    /// Everybody is gone, or silent. The server forgets them in time.
    fn finish(mut self) {
        if !self.is_fast {
            while !self.wires.is_empty() {
                self.closed();
                self.check();
            }
        }
        self.is_fast = false;
        let (gone_by, end) = (self.now + Duration::from_secs(10), self.now + Duration::from_secs(200));
        for _ in 0..1_000 {
            let Some(at) = self.server.poll_timeout().filter(|at| *at <= end) else { break };
            if at > gone_by {
                assert_eq!((self.wires.len(), self.server.connections().count()), (0, 0), "who is gone is forgotten");
            }
            self.wake_at(self.now.max(at));
            self.check();
        }
        let registry = self.server.registry();
        assert_eq!((registry.connections(), registry.transports(), registry.receipts()), (0, 0, 0), "{registry:?}");
        assert_eq!(self.server.poll_timeout(), None, "an empty server waits for nothing");
        assert!(self.ledger.is_settled(), "every message has its outcome");
    }
}

const V4: &str = "10.0.0.1";
const V4_IN_V6: &str = "::ffff:10.0.0.1";
const V6: &str = "2001:db8::1";
const V6_BESIDE: &str = "2001:db8::2";
