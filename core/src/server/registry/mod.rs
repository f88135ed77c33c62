//! Who is connected: identity, ownership and life span of every connection, and the memory of those that have ended.
//!
//! A transport comes to the registry first. Its hello is checked (the key owns the id, the application knows the credentials,
//! the principal is the connection's own, no newer hello has come, no other instance is evicted unasked) before anything of a
//! connection changes. Then the registry tells the connection's peer to attach it, and has nothing more to do with its bytes.

mod input;
mod output;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;

use core::net::IpAddr;
use core::time::Duration;

use crate::connection::Incoming;
use crate::deadline::soonest;
use crate::error::ProtocolError;
use crate::expiring::ExpiringMap;
use crate::id::Attempt;
use crate::id::ConnectionId;
use crate::id::Epoch;
use crate::id::InstanceId;
use crate::id::Principal;
use crate::id::TransportId;
use crate::server::command::Answer;
use crate::server::command::Attach;
use crate::server::command::Command;
use crate::server::command::Generation;
use crate::server::command::Origin;
use crate::server::command::PeerId;
use crate::server::config::Config;
use crate::server::event::Refusal;
use crate::server::event::RegistryEvent;
use crate::server::greeting;
use crate::server::receipts::Receipts;
use crate::server::state::Standing;
use crate::server::visitors::Admission;
use crate::server::visitors::Mint;
use crate::server::visitors::Stage;
use crate::server::visitors::Visitors;
use crate::time::Clock;
use crate::time::Instant;
use crate::wire::Bye;
use crate::wire::Challenge;
use crate::wire::CloseCode;
use crate::wire::Frame;
use crate::wire::Hello;
use crate::wire::Receipt;

pub use self::input::RegistryInput;
pub use self::output::RegistryOutput;

/// How many evicted instances a connection remembers. Each is a clone that may come back once to learn that it was evicted.
const MAX_EVICTED: usize = 8;

/// One connection, as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    principal: Principal,
    /// Where its first hello came from.
    address: Option<IpAddr>,
    generation: Generation,
    /// The instance that holds the connection.
    instance: InstanceId,
    /// The number of its last hello that was attached.
    attempt: Attempt,
    /// Instances that were evicted, the newest last.
    evicted: VecDeque<InstanceId>,
    standing: Standing,
    /// The epoch that its peer last spoke of.
    epoch: Epoch,
    /// The transport whose good hello waits for the peer's answer.
    queued: Option<TransportId>,
}

/// The registry of a server.
///
/// `handle_*` take in what happened and never fail; `poll_*` say what is to be done, and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Registry {
    config: Config,
    clock: Clock,
    visitors: Visitors,
    entries: BTreeMap<ConnectionId, Entry>,
    /// How many entries each principal has; none at 0.
    by_principal: BTreeMap<Principal, usize>,
    /// How many entries began at each address; none at 0.
    by_address: BTreeMap<IpAddr, usize>,
    /// When a detached connection runs out, or a peer's answer is late. One deadline for each entry at most.
    deadlines: ExpiringMap<ConnectionId, ()>,
    receipts: Receipts,
    /// How many peers were made.
    generations: u64,
    outputs: VecDeque<RegistryOutput>,
}

impl Registry {
    /// A registry without connections.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            clock: Clock::new(now),
            visitors: Visitors::default(),
            entries: BTreeMap::new(),
            by_principal: BTreeMap::new(),
            by_address: BTreeMap::new(),
            deadlines: ExpiringMap::default(),
            receipts: Receipts::new(config.receipts),
            generations: 0,
            outputs: VecDeque::new(),
            config,
        }
    }

    /// Takes in what happened outside. An input that names a dead transport or a peer that was given up changes nothing.
    pub fn handle_input(&mut self, input: RegistryInput<'_>, now: Instant) {
        let now = self.clock.advance(now);
        match input {
            RegistryInput::Accepted { transport, address, mint } => self.on_accepted(transport, address, mint, now),
            RegistryInput::Received { transport, incoming } => self.on_received(transport, incoming, now),
            RegistryInput::Closed { transport } => self.on_closed(transport),
            RegistryInput::Authenticated { transport, admission } => self.on_authenticated(transport, admission, now),
            RegistryInput::Answered { peer, answer } => self.on_answered(peer, answer, now),
            RegistryInput::PeerGone { peer } => {
                if self.entry_of(peer).is_some() {
                    self.fence(peer.cid, now);
                }
            }
        }
    }

    /// Lets time pass. Call it when [`Registry::poll_timeout`] is due; calling it earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.advance(now);
        while let Some(transport) = self.visitors.take_late(now) {
            self.refuse(transport, Refusal::Timeout);
        }
        while let Some((cid, ())) = self.deadlines.take_expired(now) {
            let entry = self.entries.get_mut(&cid).expect("a deadline belongs to an entry");
            if entry.standing.is_asked() {
                self.fence(cid, now);
            } else {
                entry.standing.move_to_ending();
                let peer = PeerId { cid, generation: entry.generation };
                self.deadlines.insert(cid, (), now + self.peer_timeout());
                self.tell(RegistryEvent::Expired { cid });
                self.outputs.push_back(RegistryOutput::Command { peer, command: Command::Expire });
            }
        }
        self.receipts.handle_timeout(now);
    }

    /// Revokes a connection: its transport is closed, and it ends. Whoever comes with its key begins another, if the
    /// application lets them in; who was let in before and waits has to be let in again. Returns whether there was one.
    pub fn revoke(&mut self, cid: &ConnectionId, now: Instant) -> bool {
        let now = self.clock.advance(now);
        for transport in self.visitors.admitted(|hello, _| hello.cid == *cid) {
            self.refuse(transport, Refusal::Unauthenticated);
        }
        let Some(entry) = self.entries.get_mut(cid) else { return false };
        let peer = PeerId { cid: *cid, generation: entry.generation };
        entry.standing.move_to_ending();
        self.deadlines.insert(*cid, (), now + self.peer_timeout());
        self.outputs.push_back(RegistryOutput::Command { peer, command: Command::Revoke });
        true
    }

    /// Revokes every connection of a principal, and returns how many there were.
    pub fn revoke_all(&mut self, principal: &Principal, now: Instant) -> usize {
        let now = self.clock.advance(now);
        for transport in self.visitors.admitted(|_, admission| admission.principal == *principal) {
            self.refuse(transport, Refusal::Unauthenticated);
        }
        let of_principal = |(cid, entry): (&ConnectionId, &Entry)| (entry.principal == *principal).then_some(*cid);
        let cids: Vec<ConnectionId> = self.entries.iter().filter_map(of_principal).collect();
        cids.into_iter().filter(|cid| self.revoke(cid, now)).count()
    }

    /// Goes on from a stored state: no transport lives any more, and each connection is detached from now on.
    pub(super) fn restore(&mut self, now: Instant) {
        self.outputs.clear();
        self.visitors = Visitors::default();
        for (cid, entry) in &mut self.entries {
            entry.standing = Standing::detached();
            entry.queued = None;
            self.deadlines.insert(*cid, (), now + self.config.detach_ttl);
        }
    }

    /// The next thing to do. Poll until there is none, then wait.
    pub fn poll_output(&mut self) -> Option<RegistryOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Registry::handle_timeout`]: the one timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        soonest([self.visitors.poll_timeout(), self.deadlines.poll_timeout(), self.receipts.poll_timeout()])
    }

    /// How many connections there are, attached or not.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.entries.len()
    }

    /// How many of the connections have a transport. The others are in their grace period.
    #[must_use]
    pub fn attached(&self) -> usize {
        self.entries.values().filter(|entry| entry.standing.transport().is_some()).count()
    }

    /// How many transports there are, attached or not.
    #[must_use]
    pub fn transports(&self) -> usize {
        self.visitors.len()
    }

    /// How many receipts are kept.
    #[must_use]
    pub fn receipts(&self) -> usize {
        self.receipts.len()
    }

    /// Whether a connection has a live transport. One in its grace period does not count (S004-148).
    #[must_use]
    pub fn is_reachable(&self, cid: &ConnectionId) -> bool {
        self.entries.get(cid).is_some_and(|entry| entry.standing.transport().is_some())
    }

    /// A peer needs a moment to answer, however short.
    fn peer_timeout(&self) -> Duration {
        self.config.peer_timeout.max(Duration::from_millis(1))
    }

    fn tell(&mut self, event: RegistryEvent) {
        self.outputs.push_back(RegistryOutput::Event(event));
    }

    fn on_accepted(&mut self, transport: TransportId, address: Option<IpAddr>, mint: Mint, now: Instant) {
        let of = if self.visitors.len() >= self.config.max_connections {
            "in all"
        } else if address.is_some_and(|address| self.visitors.from(address) >= self.config.max_per_address) {
            "from this address"
        } else {
            return self.visitors.admit(transport, address, mint, now + self.config.hello_timeout);
        };
        // There is no WebSocket yet on which a word could be said.
        self.outputs.push_back(RegistryOutput::Close { transport, code: CloseCode::TOO_MANY });
        self.tell(RegistryEvent::Refused { transport, refusal: Refusal::TooMany { of } });
    }

    fn on_closed(&mut self, transport: TransportId) {
        let is_attached = |visitors: &mut Visitors| {
            visitors.get_mut(transport).is_some_and(|visitor| visitor.stage == Stage::Attached)
        };
        if is_attached(&mut self.visitors) {
            return;
        }
        if let Some(visitor) = self.visitors.remove(transport) {
            if let Stage::Queued { hello, .. } = visitor.stage {
                self.unqueue(hello.cid, transport);
            }
        }
    }

    fn on_received(&mut self, transport: TransportId, incoming: Incoming<'_>, now: Instant) {
        let Some(visitor) = self.visitors.get_mut(transport) else { return };
        let place = match &visitor.stage {
            Stage::Silent => None,
            Stage::Challenged { .. } => None,
            Stage::Authenticating { .. } | Stage::Queued { .. } => Some("while a hello is being answered"),
            Stage::Attached => return,
        };
        let hello = match incoming {
            Incoming::Binary => Err(Refusal::Protocol(ProtocolError::Binary)),
            Incoming::Text(text) => greeting::read_hello(text, place),
        };
        match hello {
            Ok(hello) => self.on_hello(transport, hello, now),
            Err(refusal) => self.refuse(transport, refusal),
        }
    }

    fn on_hello(&mut self, transport: TransportId, hello: Box<Hello>, now: Instant) {
        let Some(visitor) = self.visitors.get_mut(transport) else { return };
        if let Stage::Challenged { hello: challenged, admission, .. } = &visitor.stage {
            // The answer is the same hello with the fence; only where the client stands may have moved on.
            let is_same = (hello.key, hello.cid, hello.instance, hello.attempt)
                == (challenged.key, challenged.cid, challenged.instance, challenged.attempt);
            if !is_same || hello.fence != Some(visitor.mint.fence) {
                let refusal =
                    ProtocolError::Unexpected { frame: "hello", place: "in answer to a challenge that asks otherwise" };
                return self.refuse(transport, Refusal::Protocol(refusal));
            }
            let admission = admission.clone();
            return self.consider(transport, hello, admission, now);
        }
        if !hello.cid.is_owned_by(&hello.key) {
            return self.refuse(transport, Refusal::WrongKey);
        }
        if !self.config.authenticate {
            let admission = Principal::Connection(hello.cid).into();
            return self.consider(transport, hello, admission, now);
        }
        let (cid, token) = (hello.cid, hello.token.clone());
        visitor.stage = Stage::Authenticating { hello };
        self.outputs.push_back(RegistryOutput::Authenticate { transport, cid, token });
    }

    fn on_authenticated(&mut self, transport: TransportId, admission: Option<Admission>, now: Instant) {
        let Some(visitor) = self.visitors.get_mut(transport) else { return };
        let Stage::Authenticating { hello } = &visitor.stage else { return };
        match admission {
            Some(admission) => {
                let hello = hello.clone();
                self.consider(transport, hello, admission, now);
            }
            None => self.refuse(transport, Refusal::Unauthenticated),
        }
    }

    /// Decides about a hello whose key and credentials are good.
    fn consider(&mut self, transport: TransportId, hello: Box<Hello>, admission: Admission, now: Instant) {
        if admission.expires.is_some_and(|at| at <= now) {
            return self.refuse(transport, Refusal::Unauthenticated);
        }
        let cid = hello.cid;
        let Some(entry) = self.entries.get_mut(&cid) else {
            return self.register(transport, &hello, admission, now);
        };
        if entry.principal != admission.principal {
            return self.refuse(transport, Refusal::Forbidden);
        }
        if entry.evicted.contains(&hello.instance) {
            return self.refuse(transport, Refusal::Superseded);
        }
        if entry.instance == hello.instance {
            if hello.attempt <= entry.attempt {
                return self.refuse(transport, Refusal::Stale);
            }
        } else {
            let visitor = self.visitors.get_mut(transport).expect("a hello came on a transport that is counted");
            if hello.fence != Some(visitor.mint.fence) {
                let mut text = String::new();
                Frame::Challenge(Challenge { fence: visitor.mint.fence }).encode(&mut text);
                visitor.produced += text.len();
                visitor.stage = Stage::Challenged { hello, admission, rival: entry.instance };
                return self.outputs.push_back(RegistryOutput::Write { transport, text });
            }
            // It was alive when it was challenged, and perhaps no more when somebody else took over since.
            if matches!(visitor.stage, Stage::Challenged { rival, .. } if rival != entry.instance) {
                return self.refuse(transport, Refusal::Overtaken);
            }
        }
        if entry.standing.is_asked() {
            let waiting = entry.queued.and_then(|waiting| self.visitors.get(waiting)?.queued());
            if waiting.is_some_and(|waiting| waiting.instance == hello.instance && waiting.attempt >= hello.attempt) {
                return self.refuse(transport, Refusal::Stale);
            }
            let overtaken = entry.queued.replace(transport);
            let visitor = self.visitors.get_mut(transport).expect("a hello came on a transport that is counted");
            visitor.stage = Stage::Queued { hello, admission };
            if let Some(overtaken) = overtaken.filter(|overtaken| *overtaken != transport) {
                self.refuse(overtaken, Refusal::Overtaken);
            }
            return;
        }
        self.attach(transport, &hello, admission.expires, now);
    }

    /// A connection that nobody knows.
    fn register(&mut self, transport: TransportId, hello: &Hello, admission: Admission, now: Instant) {
        let Admission { principal, expires } = admission;
        if self.entries.len() >= self.config.max_connections {
            return self.refuse(transport, Refusal::TooMany { of: "in all" });
        }
        let of_principal = self.by_principal.get(&principal).copied().unwrap_or(0);
        if of_principal >= self.config.max_per_principal {
            return self.refuse(transport, Refusal::TooMany { of: "of this principal" });
        }
        let visitor = self.visitors.get(transport).expect("a hello came on a transport that is counted");
        let (mint, address) = (visitor.mint, visitor.address);
        let of_address = address.and_then(|address| self.by_address.get(&address)).copied().unwrap_or(0);
        if of_address >= self.config.max_per_address {
            return self.refuse(transport, Refusal::TooMany { of: "from this address" });
        }
        if let Some(address) = address {
            self.by_address.insert(address, of_address + 1);
        }
        self.by_principal.insert(principal.clone(), of_principal + 1);
        self.generations += 1;
        let entry = Entry {
            principal: principal.clone(),
            address,
            generation: Generation(self.generations),
            instance: hello.instance,
            attempt: hello.attempt,
            evicted: VecDeque::new(),
            standing: Standing::attaching(transport),
            epoch: mint.epoch,
            queued: None,
        };
        let id = PeerId { cid: hello.cid, generation: entry.generation };
        self.entries.insert(hello.cid, entry);
        self.tell(RegistryEvent::Registered { cid: hello.cid, principal: principal.clone() });
        let origin = Origin { id, principal, epoch: mint.epoch, instance: hello.instance };
        self.outputs.push_back(RegistryOutput::Create(origin));
        self.command_attach(transport, hello, false, expires, now);
    }

    /// A hello that may attach to a connection that stands ready for it.
    fn attach(&mut self, transport: TransportId, hello: &Hello, expires: Option<Instant>, now: Instant) {
        let entry = self.entries.get_mut(&hello.cid).expect("the hello's connection is registered");
        let takes_over = entry.instance != hello.instance;
        if takes_over {
            if entry.evicted.len() == MAX_EVICTED {
                entry.evicted.pop_front();
            }
            entry.evicted.push_back(entry.instance);
            entry.instance = hello.instance;
        }
        entry.attempt = hello.attempt;
        if let Some(held) = entry.standing.move_to_attaching(transport) {
            self.visitors.remove(held);
        }
        if takes_over {
            self.tell(RegistryEvent::TakenOver { cid: hello.cid });
        }
        self.command_attach(transport, hello, takes_over, expires, now);
    }

    fn command_attach(
        &mut self,
        transport: TransportId,
        hello: &Hello,
        takes_over: bool,
        expires: Option<Instant>,
        now: Instant,
    ) {
        let cid = hello.cid;
        let entry = &self.entries[&cid];
        let receipt = hello.epoch.and_then(|epoch| self.receipts.find(cid, epoch, &entry.principal)).cloned();
        let visitor = self.visitors.get_mut(transport).expect("a hello came on a transport that is counted");
        let (mint, produced) = (visitor.mint.epoch, visitor.produced);
        self.visitors.on_attached(transport);
        self.deadlines.insert(cid, (), now + self.peer_timeout());
        let attach = Attach { transport, hello: hello.clone(), takes_over, mint, receipt, produced, expires };
        let peer = PeerId { cid, generation: entry.generation };
        self.outputs.push_back(RegistryOutput::Command { peer, command: Command::Attach(Box::new(attach)) });
    }

    fn on_answered(&mut self, peer: PeerId, answer: Answer, now: Instant) {
        let cid = peer.cid;
        let Some(entry) = self.entry_of(peer) else { return };
        match answer {
            Answer::Attached { transport, epoch, is_named } => {
                if entry.standing.move_to_attached(transport) {
                    entry.epoch = epoch;
                    let principal = entry.principal.clone();
                    self.deadlines.remove(&cid);
                    if is_named {
                        self.receipts.forget_all(cid, &principal);
                    }
                    self.dequeue(cid, now);
                }
            }
            Answer::Detached { transport, is_suspended } => {
                if entry.standing.move_to_detached(transport) {
                    self.visitors.remove(transport);
                    let ttl = if is_suspended { self.config.suspended_ttl } else { self.config.detach_ttl };
                    self.deadlines.insert(cid, (), now + ttl);
                }
            }
            Answer::Sealed { receipt } => {
                let principal = entry.principal.clone();
                self.receipts.keep(cid, &principal, receipt, now);
            }
            Answer::Ended { receipt } => self.remove(cid, receipt, now),
        }
    }

    /// Gives a connection's peer up.
    fn fence(&mut self, cid: ConnectionId, now: Instant) {
        let entry = &self.entries[&cid];
        let peer = PeerId { cid, generation: entry.generation };
        let receipt = Receipt::not_final(entry.epoch);
        self.outputs.push_back(RegistryOutput::Command { peer, command: Command::Fence });
        self.tell(RegistryEvent::Fenced { cid });
        self.remove(cid, Some(receipt), now);
    }

    /// Takes a connection out; a hello that waits begins another one.
    fn remove(&mut self, cid: ConnectionId, receipt: Option<Receipt>, now: Instant) {
        let entry = self.entries.remove(&cid).expect("only what is registered is removed");
        self.deadlines.remove(&cid);
        count_out(&mut self.by_principal, &entry.principal);
        if let Some(address) = &entry.address {
            count_out(&mut self.by_address, address);
        }
        if let Some(receipt) = receipt {
            self.receipts.keep(cid, &entry.principal, receipt, now);
        }
        if let Some(transport) = entry.standing.transport() {
            self.visitors.remove(transport);
        }
        self.tell(RegistryEvent::Removed { cid });
        if let Some(transport) = entry.queued {
            self.reconsider(transport, now);
        }
    }

    /// The peer has answered: the hello that waits, if one does, is looked at again.
    fn dequeue(&mut self, cid: ConnectionId, now: Instant) {
        if let Some(transport) = self.entries.get_mut(&cid).and_then(|entry| entry.queued.take()) {
            self.reconsider(transport, now);
        }
    }

    fn reconsider(&mut self, transport: TransportId, now: Instant) {
        let visitor = self.visitors.get_mut(transport).expect("a queued transport is counted");
        let Stage::Queued { hello, admission } = &visitor.stage else {
            unreachable!("only a queued hello is looked at again");
        };
        let (hello, admission) = (hello.clone(), admission.clone());
        self.consider(transport, hello, admission, now);
    }

    fn unqueue(&mut self, cid: ConnectionId, transport: TransportId) {
        if let Some(entry) = self.entries.get_mut(&cid) {
            entry.queued.take_if(|queued| *queued == transport);
        }
    }

    /// Turns a transport away, with a word that says why.
    fn refuse(&mut self, transport: TransportId, refusal: Refusal) {
        let Some(visitor) = self.visitors.remove(transport) else { return };
        if let Stage::Queued { hello, .. } = visitor.stage {
            self.unqueue(hello.cid, transport);
        }
        let code = refusal.close_code();
        // What is said must not tell a wrong key from refused credentials.
        let reason = if code == CloseCode::UNAUTHENTICATED { String::new() } else { refusal.to_string() };
        let mut text = String::new();
        Frame::Bye(Box::new(Bye::of_transport(code, None, reason))).encode(&mut text);
        self.outputs.push_back(RegistryOutput::Write { transport, text });
        self.outputs.push_back(RegistryOutput::Close { transport, code });
        self.tell(RegistryEvent::Refused { transport, refusal });
    }

    fn entry_of(&mut self, peer: PeerId) -> Option<&mut Entry> {
        self.entries.get_mut(&peer.cid).filter(|entry| entry.generation == peer.generation)
    }
}

/// One less of `key`, which was counted.
fn count_out<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    let count = counts.get_mut(key).expect("every entry is counted");
    *count -= 1;
    if *count == 0 {
        counts.remove(key);
    }
}
