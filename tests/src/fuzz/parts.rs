//! A registry and its peers as an adapter with many threads runs them: apart, and with everything that they say to each
//! other on its way for a while.
//!
//! Commands and answers wait in order until the bytes let them arrive. Peers die without a last answer, are given up because
//! they are late, and speak after they were given up. Transports change hands with the command to attach them, and break while
//! they do. A peer that was given up changes nothing of its successor, and in the end nothing is left over.

mod decisions;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use reattach_core::connection::Incoming;
use reattach_core::id::ConnectionId;
use reattach_core::id::Fence;
use reattach_core::id::MessageId;
use reattach_core::id::TransportId;
use reattach_core::link::Handle;
use reattach_core::outcome::Failure;
use reattach_core::server::Answer;
use reattach_core::server::Command;
use reattach_core::server::Config;
use reattach_core::server::Peer;
use reattach_core::server::PeerEvent;
use reattach_core::server::PeerId;
use reattach_core::server::PeerInput;
use reattach_core::server::PeerOutput;
use reattach_core::server::Registry;
use reattach_core::server::RegistryEvent;
use reattach_core::server::RegistryInput;
use reattach_core::server::RegistryOutput;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;

use crate::fuzz::bytes::Bytes;
use crate::fuzz::callers;
use crate::fuzz::callers::Callers;
use crate::fuzz::callers::Known;
use crate::fuzz::checks;
use crate::fuzz::minter::Minter;
use crate::fuzz::shapes;

/// The body of the target.
pub fn run(input: &[u8]) {
    let mut run = Run::new(Bytes::new(input));
    while !run.bytes.is_empty() {
        run.step();
        run.check();
    }
    run.finish();
}

/// Who has a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Registry,
    /// It is on its way to a peer, and has perhaps broken meanwhile.
    OnItsWay {
        to: PeerId,
        is_broken: bool,
    },
    Peer(PeerId),
}

/// A transport that nobody has closed.
#[derive(Debug)]
struct Wire {
    holder: Holder,
    hello: Option<Hello>,
    fence: Option<Fence>,
}

/// A peer with what is on its way to it and from it.
#[derive(Debug)]
struct Held {
    peer: Peer,
    commands: VecDeque<Command>,
    answers: VecDeque<Answer>,
    outstanding: BTreeSet<MessageId>,
    /// Everything that it was to decide about, late or not.
    handles: Vec<Handle>,
    /// Everything that it sent.
    ids: Vec<MessageId>,
}

struct Run<'a> {
    bytes: Bytes<'a>,
    config: Config,
    registry: Registry,
    peers: BTreeMap<PeerId, Held>,
    /// Peers that the registry speaks to: one for each connection.
    current: BTreeMap<ConnectionId, PeerId>,
    wires: BTreeMap<TransportId, Wire>,
    accepted: u64,
    minter: Minter,
    callers: Callers,
    now: Instant,
    /// Whether what the two say to each other arrives at once.
    is_swift: bool,
    /// Peers whose task has died, or who were late.
    may_fence: bool,
}

impl<'a> Run<'a> {
    fn new(mut bytes: Bytes<'a>) -> Self {
        let mut config = Config::default();
        config.hello_timeout = Duration::from_millis(200);
        config.detach_ttl = Duration::from_millis(300);
        config.peer_timeout = Duration::from_millis(bytes.pick(&[100, 1_000]));
        config.receipts.ttl = Duration::from_secs(100);
        config.receipts.max = bytes.pick(&[4, 1]);
        config.max_connections = bytes.pick(&[4, 2]);
        config.connection = shapes::connection(&mut bytes);
        let now = Instant::from_secs(1_000);
        Self {
            bytes,
            registry: Registry::new(config.clone(), now),
            config,
            peers: BTreeMap::new(),
            current: BTreeMap::new(),
            wires: BTreeMap::new(),
            accepted: 0,
            minter: Minter::default(),
            callers: Callers::default(),
            now,
            is_swift: false,
            may_fence: false,
        }
    }

    /// One operation, with what follows from it.
    fn step(&mut self) {
        let choice = self.bytes.byte();
        match choice % 32 {
            _ if choice >= 0xe0 => self.step_further(choice),
            0..=4 => self.arrive(),
            5..=6 => self.answer_challenge(),
            7..=11 => self.carry_command(),
            12..=16 => self.carry_answer(),
            17..=18 => self.say(),
            19..=20 => self.close_transport(),
            21..=22 => self.wake(),
            23 => self.pass(),
            24..=25 => self.send(),
            26 => self.take(),
            27 => self.detach(),
            28 => self.end(),
            29 => self.die(),
            30 => self.is_swift = !self.is_swift,
            _ => self.wake_at(self.now),
        }
    }

    fn tell(&mut self, input: RegistryInput<'_>) {
        self.registry.handle_input(input, self.now);
        self.drain();
    }

    /// A transport comes, and says hello.
    fn arrive(&mut self) {
        self.accepted += 1;
        let transport = TransportId(self.accepted);
        let mint = self.minter.mint();
        self.wires.insert(transport, Wire { holder: Holder::Registry, hello: None, fence: None });
        self.tell(RegistryInput::Accepted { transport, address: None, mint });
        let (current, peers) = (&self.current, &self.peers);
        let known = |cid: &_| Some(Known::of(peers.get(current.get(cid)?)?.peer.connection()));
        let hello = self.callers.hello(&mut self.bytes, &known);
        self.say_hello(transport, hello);
    }

    fn say_hello(&mut self, transport: TransportId, hello: Hello) {
        let Some(wire) = self.wires.get_mut(&transport) else { return };
        let is_known = hello.cid.is_owned_by(&hello.key);
        let mut text = String::new();
        Frame::Hello(Box::new(hello.clone())).encode(&mut text);
        wire.hello = Some(hello);
        let before: usize = self.peers.values().map(|held| held.commands.len()).sum();
        self.tell(RegistryInput::Received { transport, incoming: Incoming::Text(&text) });
        let after: usize = self.peers.values().map(|held| held.commands.len()).sum();
        assert!(is_known || before == after, "no peer hears of who has not the key");
    }

    fn answer_challenge(&mut self) {
        let challenged = self.wires.iter().filter(|(_, wire)| wire.fence.is_some() && wire.holder == Holder::Registry);
        let challenged: Vec<_> = challenged.map(|(transport, _)| *transport).collect();
        let Some(transport) = self.bytes.pick_of(challenged) else { return };
        let wire = &self.wires[&transport];
        let (Some(mut hello), fence) = (wire.hello.clone(), wire.fence) else { return };
        hello.fence = fence;
        let held = self.current.get(&hello.cid).and_then(|id| self.peers.get(id));
        let known = held.map(|held| Known::of(held.peer.connection()));
        callers::number(&mut self.bytes, known, &mut hello);
        self.say_hello(transport, hello);
    }

    /// A command arrives at its peer.
    fn carry_command(&mut self) {
        let waiting = self.peers.iter().filter(|(_, held)| !held.commands.is_empty()).map(|(id, _)| *id);
        let waiting: Vec<_> = waiting.collect();
        let Some(id) = self.bytes.pick_of(waiting) else { return };
        self.command(id);
        self.drain();
    }

    fn command(&mut self, id: PeerId) {
        let held = self.peers.get_mut(&id).expect("the peer is there");
        let Some(command) = held.commands.pop_front() else { return };
        let attached = if let Command::Attach(attach) = &command { Some(attach.transport) } else { None };
        let mut was_broken = None;
        if let Some(wire) = attached.and_then(|transport| self.wires.get_mut(&transport)) {
            let Holder::OnItsWay { to, is_broken } = wire.holder else { panic!("a transport is attached once") };
            assert_eq!(to, id, "a transport comes to the peer that it was given to");
            wire.holder = Holder::Peer(id);
            was_broken = attached.filter(|_| is_broken);
        }
        held.peer.handle_command(command, self.now);
        self.drain_peer(id);
        if let Some(transport) = was_broken {
            self.close_at_peer(id, transport);
        }
    }

    /// An answer arrives at the registry.
    fn carry_answer(&mut self) {
        let waiting = self.peers.iter().filter(|(_, held)| !held.answers.is_empty()).map(|(id, _)| *id);
        let waiting: Vec<_> = waiting.collect();
        let Some(id) = self.bytes.pick_of(waiting) else { return };
        self.answer(id);
        self.drain();
    }

    fn answer(&mut self, peer: PeerId) {
        let Some(answer) = self.peers.get_mut(&peer).and_then(|held| held.answers.pop_front()) else { return };
        self.sync();
        let before = self.registry.clone();
        self.registry.handle_input(RegistryInput::Answered { peer, answer }, self.now);
        if self.current.get(&peer.cid) != Some(&peer) {
            assert_eq!(self.registry, before, "a peer that was given up cannot speak for its successor");
        }
    }

    /// Brings the registry's clock to the present, so that it can be compared.
    fn sync(&mut self) {
        let nobody = RegistryInput::Closed { transport: TransportId(u64::MAX) };
        self.registry.handle_input(nobody, self.now);
    }

    /// An attached client says something.
    fn say(&mut self) {
        let Some((transport, id)) = self.any_attached() else { return };
        let mut text = String::new();
        let link = self.peers[&id].peer.connection().link();
        let (sent, due) = (link.outbox().flight().sent(), link.inbox().settlement().received().get() + 1);
        match self.bytes.below(4) {
            0 => _ = shapes::message(&mut self.bytes, due, &mut text),
            1 => shapes::ack(&mut self.bytes, sent, &mut text),
            2 => shapes::bye(&mut self.bytes, sent, &mut text),
            _ => text = self.bytes.text(),
        }
        let input = PeerInput::Received { transport, incoming: Incoming::Text(&text) };
        self.peers.get_mut(&id).expect("the peer is there").peer.handle_input(input, self.now);
        self.drain();
    }

    fn any_attached(&mut self) -> Option<(TransportId, PeerId)> {
        let attached = self.wires.iter().filter_map(|(transport, wire)| match wire.holder {
            Holder::Peer(id) => Some((*transport, id)),
            Holder::Registry | Holder::OnItsWay { .. } => None,
        });
        let attached: Vec<_> = attached.collect();
        self.bytes.pick_of(attached)
    }

    fn close_transport(&mut self) {
        let Some(transport) = self.bytes.pick_of(self.wires.keys().rev().copied()) else { return };
        self.close(transport);
        self.drain();
    }

    fn close(&mut self, transport: TransportId) {
        let Some(wire) = self.wires.get_mut(&transport) else { return };
        match &mut wire.holder {
            Holder::Registry => {
                self.wires.remove(&transport);
                self.registry.handle_input(RegistryInput::Closed { transport }, self.now);
            }
            Holder::OnItsWay { is_broken, .. } => *is_broken = true,
            Holder::Peer(id) => {
                let id = *id;
                self.close_at_peer(id, transport);
            }
        }
    }

    fn close_at_peer(&mut self, id: PeerId, transport: TransportId) {
        if self.wires.remove(&transport).is_some() {
            let input = PeerInput::Closed { transport, code: CloseCode::ABNORMAL };
            self.peers.get_mut(&id).expect("who holds a transport is there").peer.handle_input(input, self.now);
            self.drain_peer(id);
        }
    }

    fn wake(&mut self) {
        let late = Duration::from_millis(self.bytes.pick(&[0, 1, 500]));
        if let Some(at) = self.next_timer() {
            self.wake_at(self.now.max(at + late));
        }
    }

    fn next_timer(&self) -> Option<Instant> {
        let peers = self.peers.values().map(|held| held.peer.poll_timeout());
        peers.chain([self.registry.poll_timeout()]).flatten().min()
    }

    fn wake_at(&mut self, at: Instant) {
        self.now = at;
        for held in self.peers.values_mut() {
            held.peer.handle_timeout(self.now);
        }
        self.may_fence = true;
        self.registry.handle_timeout(self.now);
        self.drain();
        self.may_fence = false;
        assert!(self.next_timer().is_none_or(|at| at > self.now), "a deadline stays in the past");
    }

    fn pass(&mut self) {
        self.now = self.now + Duration::from_millis(self.bytes.number().min(1_000));
    }

    fn any_peer(&mut self) -> Option<PeerId> {
        self.bytes.pick_of(self.peers.keys().rev().copied())
    }

    fn send(&mut self) {
        let Some(id) = self.any_peer() else { return };
        let payload = shapes::payload(&mut self.bytes);
        let held = self.peers.get_mut(&id).expect("the peer is there");
        let message = shapes::outgoing(&mut self.bytes, payload);
        if let Ok(sent) = held.peer.send(message, self.now) {
            assert!(!held.peer.is_over() && held.outstanding.insert(sent));
            held.ids.push(sent);
        }
        self.drain();
    }

    fn take(&mut self) {
        let Some(id) = self.any_peer() else { return };
        let held = self.peers.get_mut(&id).expect("the peer is there");
        let has = held.peer.has_delivery();
        let delivery = held.peer.take(self.now);
        checks::taken(has, delivery.is_some(), held.peer.has_delivery());
        held.handles.extend(delivery.and_then(|delivery| delivery.handle()));
        self.drain();
    }

    fn detach(&mut self) {
        let Some(id) = self.any_peer() else { return };
        let peer = &mut self.peers.get_mut(&id).expect("the peer is there").peer;
        peer.detach(CloseCode::RESTART, self.now).expect("a code that may be sent");
        assert!(!peer.is_attached());
        self.drain();
    }

    fn end(&mut self) {
        let Some(id) = self.any_peer() else { return };
        let patience = Duration::from_millis(self.bytes.pick(&[0, 100]));
        let peer = &mut self.peers.get_mut(&id).expect("the peer is there").peer;
        if self.bytes.pick(&[true, false]) {
            peer.disconnect(self.now)
        } else {
            peer.close(patience, self.now)
        }
        self.drain();
    }

    /// A peer's task dies, or stops in good order. Its transports break, and the registry is told.
    fn die(&mut self) {
        let Some(id) = self.any_peer() else { return };
        if self.bytes.pick(&[true, false]) {
            self.peers.get_mut(&id).expect("the peer is there").peer.shut_down(self.now);
            self.drain_peer(id);
            assert!(self.peers[&id].outstanding.is_empty(), "an outcome is owed");
        }
        self.peers.remove(&id);
        self.wires.retain(|_, wire| match wire.holder {
            Holder::OnItsWay { to, .. } | Holder::Peer(to) => to != id,
            Holder::Registry => true,
        });
        self.may_fence = true;
        self.tell(RegistryInput::PeerGone { peer: id });
        self.may_fence = false;
        assert_ne!(self.current.get(&id.cid), Some(&id), "who is gone is given up");
    }

    /// Does what the machines ask for; where things are swift, also carries what they say to each other.
    fn drain(&mut self) {
        loop {
            while let Some(output) = self.registry.poll_output() {
                self.on_output(output);
            }
            let ids: Vec<_> = self.peers.keys().copied().collect();
            ids.iter().for_each(|id| self.drain_peer(*id));
            let busy = self.peers.iter().find(|(_, held)| !held.commands.is_empty() || !held.answers.is_empty());
            let Some((id, _)) = busy.filter(|_| self.is_swift) else { return };
            let id = *id;
            self.command(id);
            self.answer(id);
        }
    }

    fn on_output(&mut self, output: RegistryOutput) {
        match output {
            RegistryOutput::Write { transport, text } => {
                let wire = self.wires.get_mut(&transport).expect("what is written names a live transport");
                assert_eq!(wire.holder, Holder::Registry, "the registry writes on what it has");
                for frame in shapes::frames_written(&text) {
                    if let Frame::Challenge(challenge) = frame {
                        wire.fence = Some(challenge.fence);
                    }
                }
            }
            RegistryOutput::Close { transport, .. } => {
                let wire = self.wires.remove(&transport).expect("only what lives is closed, once");
                assert_eq!(wire.holder, Holder::Registry, "the registry closes what it has");
            }
            RegistryOutput::Authenticate { .. } => panic!("nobody authenticates"),
            RegistryOutput::Create(origin) => {
                let id = origin.id;
                let peer = Peer::new(&self.config, origin, self.now);
                let (commands, answers, outstanding, handles, ids) = Default::default();
                self.peers.insert(id, Held { peer, commands, answers, outstanding, handles, ids });
                assert_eq!(self.current.insert(id.cid, id), None, "one peer for a connection");
            }
            RegistryOutput::Command { peer, command } => {
                if let Command::Attach(attach) = &command {
                    let wire = self.wires.get_mut(&attach.transport).expect("only what lives is attached");
                    assert_eq!(wire.holder, Holder::Registry, "the registry hands on what it has");
                    wire.holder = Holder::OnItsWay { to: peer, is_broken: false };
                }
                let held = self.peers.get_mut(&peer);
                held.into_iter().for_each(|held| held.commands.push_back(command.clone()));
            }
            RegistryOutput::Event(RegistryEvent::Fenced { .. }) => assert!(self.may_fence, "given up without a cause"),
            RegistryOutput::Event(RegistryEvent::Removed { cid }) => {
                assert!(self.current.remove(&cid).is_some(), "what is removed was there");
            }
            RegistryOutput::Event(_) => {}
        }
    }

    fn drain_peer(&mut self, id: PeerId) {
        while let Some(output) = self.peers.get_mut(&id).and_then(|held| held.peer.poll_output()) {
            self.on_peer_output(id, output);
        }
    }

    fn on_peer_output(&mut self, id: PeerId, output: PeerOutput) {
        let held = self.peers.get_mut(&id).expect("the peer is there");
        match output {
            PeerOutput::Write { transport, text } => {
                let wire = self.wires.get(&transport).expect("what is written names a live transport");
                assert_eq!(wire.holder, Holder::Peer(id), "a peer writes on what it has");
                for frame in shapes::frames_written(&text) {
                    if let (Frame::Welcome(welcome), Some(hello)) = (frame, &wire.hello) {
                        self.callers.on_welcome(hello, welcome.epoch);
                    }
                }
            }
            PeerOutput::Close { transport, .. } => {
                let wire = self.wires.remove(&transport).expect("only what lives is closed, once");
                assert_eq!(wire.holder, Holder::Peer(id), "a peer closes what it has");
            }
            PeerOutput::Answer(answer) => held.answers.push_back(answer),
            PeerOutput::Event(PeerEvent::Delivered { id }) => {
                assert!(held.outstanding.remove(&id), "one outcome for each send");
            }
            PeerOutput::Event(PeerEvent::SendFailed(failed)) => {
                let is_for_good = matches!(failed.failure, Failure::ForGood(_));
                assert!(!is_for_good || held.outstanding.remove(&failed.id), "one outcome for each send");
            }
            PeerOutput::Event(PeerEvent::Closed { .. }) => assert!(held.outstanding.is_empty(), "an outcome is owed"),
            PeerOutput::Event(_) => {}
        }
    }

    /// What holds after every operation.
    fn check(&self) {
        let connections = self.registry.connections();
        assert_eq!(connections, self.current.len(), "the registry counts what it has made");
        assert!(connections <= self.config.max_connections && self.registry.receipts() <= self.config.receipts.max);
        let at_registry = self.wires.values().filter(|wire| wire.holder == Holder::Registry).count();
        assert!(self.registry.transports() >= at_registry, "the registry counts what it has");
        assert!(self.registry.transports() <= at_registry + connections, "and one for each connection");
        for held in self.peers.values() {
            checks::connection(held.peer.connection(), &self.config.connection, held.outstanding.len());
        }
        let is_idle = connections + self.registry.transports() + self.registry.receipts() == 0;
        let is_told = |held: &Held| held.peer.is_attached() || !held.answers.is_empty();
        let is_waiting = !is_idle && !self.current.values().all(|id| self.peers.get(id).is_some_and(is_told));
        assert!(!is_waiting || self.registry.poll_timeout().is_some(), "nothing waits without a timer");
    }

    /// Everybody is gone, and everything said arrives. Nothing is left over.
    fn finish(mut self) {
        self.is_swift = true;
        self.drain();
        for transport in self.wires.keys().copied().collect::<Vec<_>>() {
            self.close(transport);
        }
        self.drain();
        self.check();
        for _ in 0..200 {
            let Some(at) = self.next_timer() else { break };
            self.wake_at(self.now.max(at));
            self.check();
        }
        assert!(self.wires.is_empty(), "every transport is closed");
        let registry = &self.registry;
        assert_eq!((registry.connections(), registry.transports(), registry.receipts()), (0, 0, 0), "{registry:?}");
        assert_eq!(registry.poll_timeout(), None, "an empty registry waits for nothing");
        assert!(self.peers.values().all(|held| held.peer.is_over() && held.outstanding.is_empty()), "every peer ends");
    }
}
