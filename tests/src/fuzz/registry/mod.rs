//! A registry without peers: the bytes play them, and the application, and every stranger.
//!
//! Where `parts` has real peers, which answer late but truly, these answer in any order, about transports that were never
//! theirs, twice, after they were given up, or not at all; the application lets in, refuses, lets in for a while, and revokes.
//! A ledger keeps account of what was told and what was said. It counts transports and connections by address and by
//! principal, so that the registry's own counts are checked by whom it turns away.

mod ledger;
mod outputs;

use std::net::IpAddr;
use std::time::Duration;

use reattach_core::connection::Incoming;
use reattach_core::id::ConnectionId;
use reattach_core::id::Epoch;
use reattach_core::id::Name;
use reattach_core::id::Principal;
use reattach_core::id::ReportNo;
use reattach_core::id::Seq;
use reattach_core::id::TransportId;
use reattach_core::server::Admission;
use reattach_core::server::Answer;
use reattach_core::server::Config;
use reattach_core::server::Generation;
use reattach_core::server::PeerId;
use reattach_core::server::Refusal;
use reattach_core::server::Registry;
use reattach_core::server::RegistryInput;
use reattach_core::time::Instant;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;
use reattach_core::wire::Receipt;
use reattach_core::wire::Token;

use crate::fuzz::bytes::Bytes;
use crate::fuzz::callers;
use crate::fuzz::callers::Callers;
use crate::fuzz::minter::Minter;
use crate::fuzz::shapes;

use self::ledger::Asked;
use self::ledger::Ledger;
use self::ledger::Visitor;

/// The body of the target.
pub fn run(input: &[u8]) {
    let mut run = Run::new(Bytes::new(input));
    while !run.bytes.is_empty() {
        run.step();
        run.check();
    }
    run.finish();
}

struct Run<'a> {
    bytes: Bytes<'a>,
    registry: Registry,
    ledger: Ledger,
    callers: Callers,
    /// Every peer that was ever made.
    peers: Vec<PeerId>,
    accepted: u64,
    minter: Minter,
    now: Instant,
    /// Who may be given up by what happens now, and who may be told to end.
    may_fence: bool,
    may_end: bool,
    /// The transports that were turned away by what happens now.
    refused: Vec<(TransportId, Refusal)>,
    /// The connection that was said to be new, until its peer is made.
    is_registered: Option<ConnectionId>,
}

impl<'a> Run<'a> {
    fn new(mut bytes: Bytes<'a>) -> Self {
        let mut config = Config::default();
        config.authenticate = bytes.pick(&[false, true]);
        config.hello_timeout = Duration::from_millis(200);
        config.detach_ttl = Duration::from_millis(300);
        config.suspended_ttl = Duration::from_millis(3_000);
        config.peer_timeout = Duration::from_millis(bytes.pick(&[100, 1_000, 0]));
        config.receipts.ttl = Duration::from_secs(bytes.pick(&[100, 1]));
        config.receipts.max = bytes.pick(&[4, 2, 0]);
        config.receipts.max_per_principal = bytes.pick(&[3, 1, 0]);
        config.receipts.max_bytes = bytes.pick(&[1_000, 150]);
        config.max_connections = bytes.pick(&[6, 3, 2]);
        config.max_per_principal = bytes.pick(&[4, 2, 1]);
        config.max_per_address = bytes.pick(&[4, 2, 1]);
        let now = Instant::from_secs(1_000);
        Self {
            bytes,
            registry: Registry::new(config.clone(), now),
            ledger: Ledger::new(config, now),
            callers: Callers::default(),
            peers: Vec::new(),
            accepted: 0,
            minter: Minter::default(),
            now,
            may_fence: false,
            may_end: false,
            refused: Vec::new(),
            is_registered: None,
        }
    }

    /// One operation, with what follows from it.
    fn step(&mut self) {
        match self.bytes.byte() % 32 {
            0..=5 => {
                if let Some(transport) = self.accept() {
                    self.hello(transport);
                }
            }
            6 => _ = self.accept(),
            7 => {
                if let Some(transport) = self.any_visitor() {
                    self.hello(transport);
                }
            }
            8..=10 => self.answer_challenge(),
            11..=13 => self.authenticate(),
            14 => self.raw(),
            15..=18 => self.answer_honestly(),
            19..=21 => self.answer(),
            22..=23 => self.close(),
            24 => self.input_of_nobody(),
            25..=26 => self.wake(),
            27 => self.pass(),
            28 => self.die(),
            29 => self.revoke(),
            30 => self.revoke_all(),
            _ => self.wake_at(self.now),
        }
    }

    fn tell(&mut self, input: RegistryInput<'_>) {
        self.registry.handle_input(input, self.now);
        self.drain();
    }

    /// Brings the registry's clock to the present, so that it can be compared.
    fn sync(&mut self) {
        self.tell(RegistryInput::Closed { transport: TransportId(u64::MAX) });
    }

    /// Tells it something that must not change anything.
    fn tell_in_vain(&mut self, input: RegistryInput<'_>) {
        self.sync();
        let before = self.registry.clone();
        self.registry.handle_input(input, self.now);
        assert_eq!(self.registry, before, "what means nothing changes nothing");
    }

    /// Tells it something that a visitor says, or that is said of one. Where the visitor is turned away for it, it is as if it
    /// had only gone.
    fn tell_of(&mut self, transport: TransportId, input: RegistryInput<'_>) {
        self.sync();
        let mut without = self.registry.clone();
        without.handle_input(RegistryInput::Closed { transport }, self.now);
        self.refused.clear();
        self.tell(input);
        if let [(refused, refusal)] = self.refused[..]
            && refused == transport
        {
            assert_eq!(self.registry, without, "who is turned away changes nothing: {refusal}");
        }
    }

    fn accept(&mut self) -> Option<TransportId> {
        let addresses = [
            (None, 0),
            (Some("10.0.0.1"), 1),
            (Some("::ffff:10.0.0.1"), 1),
            (Some("2001:db8::1"), 2),
            (Some("2001:db8::2"), 2),
        ];
        let (address, network) = self.bytes.pick(&addresses);
        let address = address.map(|address| address.parse::<IpAddr>().expect("an address"));
        self.accepted += 1;
        let transport = TransportId(self.accepted);
        let mint = self.minter.mint();
        let has_room = self.ledger.transports() < self.ledger.config.max_connections
            && (network == 0 || self.ledger.transports_from(network) < self.ledger.config.max_per_address);
        let (is_asked, is_challenged, produced) = (false, false, 0);
        let visitor = Visitor { network, mint, hello: None, is_asked, admission: None, is_challenged, produced };
        self.ledger.visitors.insert(transport, visitor);
        self.tell(RegistryInput::Accepted { transport, address, mint });
        assert_eq!(self.ledger.visitors.contains_key(&transport), has_room, "who comes is let in while there is room");
        has_room.then_some(transport)
    }

    fn hello(&mut self, transport: TransportId) {
        let mut hello = self.callers.hello(&mut self.bytes, &|_| None);
        if self.bytes.rarely(8) {
            // Its own it cannot know before it was asked for it.
            let others = self.ledger.visitors.iter().filter(|(other, _)| **other != transport);
            let fences: Vec<_> = others.map(|(_, visitor)| visitor.mint.fence).collect();
            hello.fence = self.bytes.pick_of(fences);
        }
        self.say(transport, hello);
    }

    fn say(&mut self, transport: TransportId, mut hello: Hello) {
        if hello.epoch.is_none() {
            // Numbers belong to an epoch.
            hello.seen = ReportNo::ZERO;
        }
        let visitor = self.ledger.visitors.get_mut(&transport).expect("who says something is there");
        let is_first = visitor.hello.is_none();
        visitor.hello = Some(hello.clone());
        let (network, is_owner) = (visitor.network, hello.cid.is_owned_by(&hello.key));
        let before = self.peers.len();
        let mut text = String::new();
        Frame::Hello(Box::new(hello.clone())).encode(&mut text);
        let principal = Principal::Connection(hello.cid);
        let is_new = !self.ledger.connections.contains_key(&hello.cid);
        let has_room = self.ledger.has_room(&principal, network);
        self.tell_of(transport, RegistryInput::Received { transport, incoming: Incoming::Text(&text) });
        if is_first && is_new && !self.ledger.config.authenticate {
            let is_made = self.peers.len() > before;
            assert_eq!(is_made, is_owner && has_room, "a connection begins where its key is shown and there is room");
        }
        assert!(is_owner || self.peers.len() == before, "nothing begins without the key");
    }

    fn answer_challenge(&mut self) {
        let challenged = self.ledger.visitors.iter().filter(|(_, visitor)| visitor.is_challenged);
        let challenged: Vec<_> = challenged.map(|(transport, _)| *transport).collect();
        let Some(transport) = self.bytes.pick_of(challenged) else { return };
        let visitor = &self.ledger.visitors[&transport];
        let Some(mut hello) = visitor.hello.clone() else { return };
        hello.fence = Some(visitor.mint.fence);
        if self.bytes.rarely(8) {
            hello.instance = self.callers.hello(&mut self.bytes, &|_| None).instance;
        }
        self.say(transport, hello);
    }

    /// The application says whose credentials they are, in time or late, or when nobody has asked.
    fn authenticate(&mut self) {
        let asked = self.ledger.visitors.iter().filter(|(_, visitor)| visitor.is_asked);
        let asked: Vec<_> = asked.map(|(transport, _)| *transport).collect();
        let transport = if self.bytes.rarely(8) { self.any_visitor() } else { self.bytes.pick_of(asked) };
        let Some(transport) = transport else { return };
        let visitor = &self.ledger.visitors[&transport];
        let (network, is_asked) = (visitor.network, visitor.is_asked);
        let token = visitor.hello.as_ref().and_then(|hello| hello.token.as_ref()).map(Token::reveal);
        let name = token.filter(|name| *name != callers::NOBODY).and_then(|name| Name::new(name).ok());
        let expires = self.bytes.pick(&[None, Some(100), Some(0), Some(1_000)]);
        let expires = expires.map(|after| self.now + Duration::from_millis(after));
        let admission = name.map(|name| Admission { principal: Principal::Named(name), expires });
        let input = RegistryInput::Authenticated { transport, admission: admission.clone() };
        if !is_asked {
            return self.tell_in_vain(input);
        }
        let cid = visitor.hello.as_ref().map(|hello| hello.cid).expect("who is asked about has said hello");
        let is_new = !self.ledger.connections.contains_key(&cid);
        let is_good = |admission: &Admission| admission.expires.is_none_or(|at| at > self.now);
        let let_in = admission.as_ref().filter(|admission| is_good(admission));
        let has_room = let_in.is_some_and(|admission| self.ledger.has_room(&admission.principal, network));
        let visitor = self.ledger.visitors.get_mut(&transport).expect("it was just there");
        (visitor.is_asked, visitor.admission) = (false, admission);
        let before = self.peers.len();
        self.tell_of(transport, input);
        assert_eq!(
            self.peers.len() > before,
            is_new && has_room,
            "a connection begins for who is known, while there is room"
        );
    }

    /// A visitor says something else than a hello.
    fn raw(&mut self) {
        let Some(transport) = self.any_visitor() else { return };
        let text = self.bytes.text();
        let incoming = if self.bytes.rarely(4) { Incoming::Binary } else { Incoming::Text(&text) };
        self.ledger.visitors.get_mut(&transport).expect("it was just there").hello = None;
        self.tell_of(transport, RegistryInput::Received { transport, incoming });
        assert!(!self.ledger.visitors.contains_key(&transport), "who says no hello is turned away");
    }

    /// A peer does what it was asked for, or loses its transport, or begins another epoch.
    fn answer_honestly(&mut self) {
        let Some(cid) = self.any_cid() else { return };
        let known = &self.ledger.connections[&cid];
        let (peer, epoch) = (known.peer, known.epoch);
        let answer = match (known.asked, known.carries) {
            (Asked::Attach(transport), _) => {
                let epoch = self.bytes.pick(&[epoch, Epoch::from_bytes([self.minter.count().to_be_bytes()[7]; 16])]);
                Answer::Attached { transport, epoch, is_named: self.bytes.pick(&[false, true]) }
            }
            (Asked::End, _) => Answer::Ended { receipt: Some(self.receipt(epoch)) },
            (Asked::Nothing, Some(transport)) if self.bytes.pick(&[true, false]) => {
                Answer::Detached { transport, is_suspended: self.bytes.pick(&[false, true]) }
            }
            (Asked::Nothing, _) => Answer::Sealed { receipt: self.receipt(epoch) },
        };
        self.on_answer(peer, answer);
    }

    /// Any peer, given up or not or never made, says anything.
    fn answer(&mut self) {
        let Some(mut peer) = self.bytes.pick_of(self.peers.iter().rev().copied()) else { return };
        if self.bytes.rarely(16) {
            peer.generation = Generation(self.bytes.number());
        }
        let transport = TransportId(self.bytes.near(self.accepted));
        let epoch = Epoch::from_bytes([self.bytes.byte(); 16]);
        let answer = match self.bytes.below(5) {
            0..=1 => Answer::Attached { transport, epoch, is_named: self.bytes.pick(&[false, true]) },
            2 => Answer::Detached { transport, is_suspended: self.bytes.pick(&[false, true]) },
            3 => Answer::Sealed { receipt: self.receipt(epoch) },
            _ if self.bytes.pick(&[true, false]) => Answer::Ended { receipt: None },
            _ => Answer::Ended { receipt: Some(self.receipt(epoch)) },
        };
        self.on_answer(peer, answer);
    }

    fn on_answer(&mut self, peer: PeerId, answer: Answer) {
        self.sync();
        let is_end = matches!(answer, Answer::Ended { .. });
        let is_meant = self.ledger.on_answer(peer, &answer, self.now);
        let epoch = if let Answer::Attached { epoch, .. } = &answer { Some(*epoch) } else { None };
        let input = RegistryInput::Answered { peer, answer };
        if !is_meant {
            return self.tell_in_vain(input);
        }
        let hello = self.ledger.connections.get(&peer.cid).and_then(|known| known.hello.as_ref());
        if let (Some(hello), Some(epoch)) = (hello, epoch) {
            self.callers.on_welcome(hello, epoch);
        }
        self.tell(input);
        let is_gone = self.ledger.connections.get(&peer.cid).is_none_or(|known| known.peer != peer);
        assert_eq!(is_gone, is_end, "a connection ends with the last answer of its peer");
    }

    fn receipt(&mut self, epoch: Epoch) -> Receipt {
        let mut receipt = Receipt { is_final: true, ..Receipt::not_final(epoch) };
        let report = shapes::report(&mut self.bytes, Seq::new(4).expect("a small number"));
        (receipt.received, receipt.settled, receipt.except) = (report.received, report.settled, report.except);
        receipt
    }

    fn close(&mut self) {
        let Some(transport) = self.any_visitor() else { return };
        self.ledger.visitors.remove(&transport);
        self.tell(RegistryInput::Closed { transport });
    }

    /// Something that is said of a transport which a peer has, or which nobody has.
    fn input_of_nobody(&mut self) {
        let transport = TransportId(self.bytes.near(self.accepted));
        if self.ledger.visitors.contains_key(&transport) {
            return;
        }
        let text = self.bytes.text();
        let admission = Name::new("alice").ok().map(|name| Principal::Named(name).into());
        let input = match self.bytes.below(4) {
            0 => RegistryInput::Closed { transport },
            1 => RegistryInput::Authenticated { transport, admission },
            2 => RegistryInput::Received { transport, incoming: Incoming::Binary },
            _ => RegistryInput::Received { transport, incoming: Incoming::Text(&text) },
        };
        self.tell_in_vain(input);
    }

    fn wake(&mut self) {
        let late = Duration::from_millis(self.bytes.pick(&[0, 1, 500]));
        if let Some(at) = self.registry.poll_timeout() {
            self.wake_at(self.now.max(at + late));
        }
    }

    fn wake_at(&mut self, at: Instant) {
        self.now = at;
        (self.may_fence, self.may_end) = (true, true);
        self.registry.handle_timeout(self.now);
        self.drain();
        // What runs out is still given in the turn in which it does.
        self.ledger.woken = at;
        (self.may_fence, self.may_end) = (false, false);
        assert!(self.registry.poll_timeout().is_none_or(|at| at > self.now), "a deadline stays in the past");
    }

    /// Time passes with nobody looking, or runs backwards for one operation.
    fn pass(&mut self) {
        let by = Duration::from_millis(self.bytes.number().min(100_000));
        if !self.bytes.rarely(3) {
            self.now = self.now + by;
            return;
        }
        self.wake_at(self.now);
        let before = self.registry.clone();
        self.registry.handle_timeout(Instant::ZERO + by);
        assert_eq!(self.registry, before, "an earlier time is taken for the latest one seen");
    }

    /// A peer's task dies, of this life or of one before.
    fn die(&mut self) {
        let Some(peer) = self.bytes.pick_of(self.peers.iter().rev().copied()) else { return };
        let input = RegistryInput::PeerGone { peer };
        if self.ledger.connections.get(&peer.cid).is_none_or(|known| known.peer != peer) {
            return self.tell_in_vain(input);
        }
        self.may_fence = true;
        self.tell(input);
        self.may_fence = false;
        let is_gone = self.ledger.connections.get(&peer.cid).is_none_or(|known| known.peer != peer);
        assert!(is_gone, "who is gone is given up");
    }

    fn revoke(&mut self) {
        let cid = callers::key(self.bytes.pick(&[0, 1, 2, 3])).connection_id();
        self.may_end = true;
        let is_known = self.ledger.connections.contains_key(&cid);
        assert_eq!(self.registry.revoke(&cid, self.now), is_known, "who is there is revoked");
        self.drain();
        self.may_end = false;
        assert!(self.ledger.connections.get(&cid).is_none_or(|known| known.asked == Asked::End));
    }

    fn revoke_all(&mut self) {
        let name = callers::account(self.bytes.pick(&[0, 2, 3]));
        let principal = Principal::Named(Name::new(name).expect("a short name"));
        self.may_end = true;
        let of_principal = self.ledger.connections.values().filter(|known| known.principal == principal).count();
        assert_eq!(self.registry.revoke_all(&principal, self.now), of_principal, "all of a principal are revoked");
        self.drain();
        self.may_end = false;
        for visitor in self.ledger.visitors.values() {
            let is_of_principal = visitor.admission.as_ref().is_some_and(|admission| admission.principal == principal);
            assert!(!is_of_principal, "who was let in before has to be let in again");
        }
    }

    fn any_visitor(&mut self) -> Option<TransportId> {
        self.bytes.pick_of(self.ledger.visitors.keys().rev().copied())
    }

    fn any_cid(&mut self) -> Option<ConnectionId> {
        self.bytes.pick_of(self.ledger.connections.keys().copied())
    }

    fn drain(&mut self) {
        let most = 16 * (2 + self.ledger.visitors.len() + self.ledger.connections.len());
        for _ in 0..=most {
            let Some(output) = self.registry.poll_output() else { return };
            self.on_output(output);
        }
        panic!("more is done than could be asked for");
    }
}
