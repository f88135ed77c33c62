//! The registry behind one lock, and the carrying of what it says: to the tasks that hold strangers' sockets, and to the
//! connections' peers.
//!
//! Locks are taken in one order: the registry's, then a connection's. A connection's task never holds its own lock when it
//! speaks to the registry.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::task::Context;
use std::time::Duration;

use event_listener::Event;
use futures_util::task::AtomicWaker;
use reattach_core::id::ConnectionId;
use reattach_core::id::Principal;
use reattach_core::id::TransportId;
use reattach_core::reconnect::OpenError;
use reattach_core::rng::Rng;
use reattach_core::rpc;
use reattach_core::server;
use reattach_core::server::Answer;
use reattach_core::server::Command;
use reattach_core::server::Peer;
use reattach_core::server::PeerId;
use reattach_core::server::Registry;
use reattach_core::server::RegistryEvent;
use reattach_core::server::RegistryInput;
use reattach_core::server::RegistryOutput;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Token;
use tracing::Span;

use crate::alarm;
use crate::alarm::Alarm;
use crate::closing::Closing;
use crate::connection::Connection;
use crate::count::Count;
use crate::count::Counted;
use crate::drive::Driver;
use crate::drive::Opened;
use crate::drive::Outside;
use crate::hub::HubShared;
use crate::mint;
use crate::runtime::Runtime;
use crate::runtime::Task;
use crate::server::health::ClientCounts;
use crate::server::health::Health;
use crate::server::health::PendingCounts;
use crate::shared::Shared;
use crate::targets;

/// What a task that holds a stranger's socket is told.
pub(super) enum ToVisitor {
    Write(String),
    Close(CloseCode),
    Authenticate {
        cid: ConnectionId,
        token: Option<Token>,
    },
    /// The socket goes to the connection's peer, with the command to attach it.
    HandOver {
        peer: Arc<Shared<Peer>>,
        command: Command,
    },
}

/// Where such a task is told it.
#[derive(Default)]
pub(super) struct Mailbox {
    letters: Mutex<VecDeque<ToVisitor>>,
    owner: AtomicWaker,
}

impl Mailbox {
    fn put(&self, letter: ToVisitor) {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).push_back(letter);
        self.owner.wake();
    }

    /// The next letter. The task is woken when one comes later.
    pub(super) fn take(&self, cx: Option<&Context<'_>>) -> Option<ToVisitor> {
        if let Some(cx) = cx {
            self.owner.register(cx.waker());
        }
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

struct State {
    registry: Registry,
    /// Both in the order of their keys: what is done to all of them is done in an order that a simulation repeats.
    mailboxes: BTreeMap<TransportId, Arc<Mailbox>>,
    peers: BTreeMap<ConnectionId, (PeerId, Arc<Shared<Peer>>)>,
    /// New connections that wait to be accepted: at most as many as there may be connections, those that have ended before
    /// they were accepted included.
    accepted: VecDeque<Connection>,
    /// Peers whose drivers are to be spawned, and connections that nobody will accept: done, and dropped, once the lock is
    /// free, for both may come back here.
    newborn: Vec<(Arc<Shared<Peer>>, Carrier)>,
    discarded: Vec<Connection>,
    transports: u64,
    /// What the timer task waits for.
    armed: Option<Instant>,
    is_shut_down: bool,
    is_draining: bool,
}

/// The registry with its surroundings.
pub(super) struct Desk {
    runtime: Arc<dyn Runtime>,
    /// The transports that leave.
    pub(super) closing: Arc<Closing>,
    /// The tasks that hold transports, strangers' and connections', and the one that listens.
    pub(super) tasks: Arc<Count>,
    core: server::Config,
    requests: rpc::Config,
    state: Mutex<State>,
    /// A connection can be accepted, or none will be any more.
    pub(super) arrived: Event,
    /// The server has shut down.
    pub(super) shut_down: Event,
    timer: AtomicWaker,
    began: Instant,
    /// The hubs on this server.
    hubs: Mutex<Vec<Weak<HubShared>>>,
    /// How the server was when a stranger asked last.
    told: Mutex<Option<(Instant, Health)>>,
}

/// A stream that was counted in.
pub(super) struct Admission {
    pub(super) transport: TransportId,
    pub(super) mailbox: Arc<Mailbox>,
    /// Whether the server lets nobody in any more: it only says how it is.
    pub(super) is_draining: bool,
}

/// How long strangers are told the same of the server's health: to look at every connection costs more than to ask.
const HEALTH_KEPT: Duration = Duration::from_secs(1);

impl Desk {
    pub(super) fn new(runtime: Arc<dyn Runtime>, core: server::Config, requests: rpc::Config) -> Arc<Self> {
        let state = State {
            registry: Registry::new(core.clone(), runtime.now()),
            mailboxes: BTreeMap::new(),
            peers: BTreeMap::new(),
            accepted: VecDeque::new(),
            newborn: Vec::new(),
            discarded: Vec::new(),
            transports: 0,
            armed: None,
            is_shut_down: false,
            is_draining: false,
        };
        Arc::new(Self {
            closing: Closing::new(Arc::clone(&runtime)),
            tasks: Arc::default(),
            began: runtime.now(),
            hubs: Mutex::default(),
            told: Mutex::default(),
            runtime,
            core,
            requests,
            state: Mutex::new(state),
            arrived: Event::new(),
            shut_down: Event::new(),
            timer: AtomicWaker::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }

    pub(super) fn core(&self) -> &server::Config {
        &self.core
    }

    /// Counts a stream in. Nothing comes back where the caps, or a shutdown, turn it away; while the server drains, only who may ask
    /// for its health is counted in.
    pub(super) fn admit(self: &Arc<Self>, remote: Option<SocketAddr>, may_ask: bool) -> Option<Admission> {
        let mut state = self.lock();
        let is_draining = state.is_draining;
        if state.is_shut_down || (is_draining && !may_ask) {
            return None;
        }
        state.transports += 1;
        let transport = TransportId(state.transports);
        let mailbox = Arc::new(Mailbox::default());
        state.mailboxes.insert(transport, Arc::clone(&mailbox));
        let address = remote.map(|remote| remote.ip());
        let input = RegistryInput::Accepted { transport, address, mint: mint::for_transport(&*self.runtime) };
        self.handle(&mut state, input);
        // A transport that is turned away at once has its box taken from it.
        let is_admitted = state.mailboxes.contains_key(&transport);
        self.finish(state);
        is_admitted.then_some(Admission { transport, mailbox, is_draining })
    }

    /// A hub is on this server.
    pub(super) fn enlist(&self, hub: Weak<HubShared>) {
        let mut hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        hubs.retain(|hub| hub.strong_count() > 0);
        hubs.push(hub);
    }

    /// How the server is now. Each connection is locked for a moment, one after the other.
    pub(super) fn health(&self) -> Health {
        let state = self.lock();
        let attached = state.registry.attached();
        let clients = ClientCounts { attached, in_grace: state.registry.connections() - attached };
        let is_draining = state.is_draining || state.is_shut_down;
        let peers: Vec<_> = state.peers.values().map(|(_, peer)| Arc::clone(peer)).collect();
        drop(state);
        let mut pending = PendingCounts::default();
        for peer in peers {
            let peer = peer.lock();
            if let Some(requests) = &peer.requests {
                pending.requests += requests.rpc.pending() + requests.rpc.serving();
            }
            let outbox = peer.machine.connection().link().outbox();
            pending.messages += outbox.queued() + outbox.written();
        }
        let hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        pending.questions = hubs.iter().filter_map(Weak::upgrade).map(|hub| hub.open_questions()).sum();
        Health { clients, pending, uptime: self.runtime.now() - self.began, is_draining }
    }

    /// The same for strangers, who may ask as often as they like: its numbers are up to [`HEALTH_KEPT`] old.
    pub(super) fn health_for_strangers(&self) -> Health {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.runtime.now();
        let kept = told.filter(|(at, _)| now < *at + HEALTH_KEPT).map(|(_, health)| health);
        let Some(kept) = kept else {
            let health = self.health();
            *told = Some((now, health));
            return health;
        };
        drop(told);
        let state = self.lock();
        Health { uptime: now - self.began, is_draining: state.is_draining || state.is_shut_down, ..kept }
    }

    /// Hands the registry an input and carries what it says. Once the server has shut down nobody asks it any more.
    pub(super) fn tell(self: &Arc<Self>, input: RegistryInput<'_>) {
        let mut state = self.lock();
        if !state.is_shut_down {
            self.handle(&mut state, input);
            self.finish(state);
        }
    }

    /// Unlocks, and does what may come back here.
    fn finish(&self, mut state: MutexGuard<'_, State>) {
        let (newborn, discarded) = (std::mem::take(&mut state.newborn), std::mem::take(&mut state.discarded));
        drop(state);
        for (shared, carrier) in newborn {
            Driver::spawn(shared, &self.runtime, Arc::clone(&self.closing), carrier);
        }
        drop(discarded);
    }

    /// Nobody reads the box of this transport any more.
    pub(super) fn forget(&self, transport: TransportId) {
        self.lock().mailboxes.remove(&transport);
    }

    /// The next new connection. Where more wait, the next who waits for one is woken.
    pub(super) fn take_accepted(&self) -> Option<Connection> {
        let mut state = self.lock();
        let connection = state.accepted.pop_front()?;
        if !state.accepted.is_empty() {
            self.arrived.notify(1);
        }
        Some(connection)
    }

    pub(super) fn is_shut_down(&self) -> bool {
        self.lock().is_shut_down
    }

    /// How many connections there are, attached or not, and how many transports.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.registry.connections(), state.registry.transports())
    }

    pub(super) fn revoke(self: &Arc<Self>, cid: &ConnectionId) -> bool {
        let mut state = self.lock();
        let is_known = state.registry.revoke(cid, self.runtime.now());
        self.carry_on(&mut state);
        self.finish(state);
        is_known
    }

    pub(super) fn revoke_all(self: &Arc<Self>, principal: &Principal) -> usize {
        let mut state = self.lock();
        let count = state.registry.revoke_all(principal, self.runtime.now());
        self.carry_on(&mut state);
        self.finish(state);
        count
    }

    /// Has every connection come to its end. No transport is admitted any more.
    pub(super) fn drain(
        self: &Arc<Self>,
        patience: Duration,
        come_back: &RangeInclusive<Duration>,
    ) -> Vec<Arc<Shared<Peer>>> {
        let mut state = self.lock();
        state.is_draining = true;
        // Whoever has not been let in yet would begin a connection that nobody drains, a hello that waits for a peer too.
        for (transport, mailbox) in std::mem::take(&mut state.mailboxes) {
            mailbox.put(ToVisitor::Close(CloseCode::RESTART));
            self.handle(&mut state, RegistryInput::Closed { transport });
        }
        let peers: Vec<_> = state.peers.values().map(|(_, peer)| Arc::clone(peer)).collect();
        self.finish(state);
        let mut rng = Rng::new(mint::seed(&*self.runtime));
        for peer in &peers {
            let retry_after = rng.between(*come_back.start(), *come_back.end());
            peer.command(|peer, now| peer.drain(patience, retry_after, now));
        }
        peers
    }

    /// Stops everything: no transport is admitted any more, every connection ends, and its state with it.
    pub(super) fn shut_down(&self) {
        let mut state = self.lock();
        state.is_shut_down = true;
        let peers: Vec<_> = std::mem::take(&mut state.peers).into_values().map(|(_, peer)| peer).collect();
        let mailboxes: Vec<_> = std::mem::take(&mut state.mailboxes).into_values().collect();
        let accepted = std::mem::take(&mut state.accepted);
        state.registry = Registry::new(self.core.clone(), self.runtime.now());
        drop(state);
        for peer in peers {
            peer.command(Peer::shut_down);
        }
        for mailbox in mailboxes {
            mailbox.put(ToVisitor::Close(CloseCode::GOING_AWAY));
        }
        drop(accepted);
        self.arrived.notify(usize::MAX);
        self.shut_down.notify(usize::MAX);
        self.timer.wake();
    }

    /// Keeps the registry's time until the server shuts down.
    pub(super) fn spawn_timer(self: &Arc<Self>) {
        let desk = Arc::clone(self);
        let mut alarm = Alarm::new(self.runtime.timer());
        self.runtime.spawn(Task::new(std::future::poll_fn(move |cx| {
            desk.timer.register(cx.waker());
            loop {
                let mut state = desk.lock();
                if state.is_shut_down {
                    return std::task::Poll::Ready(());
                }
                let now = desk.runtime.now();
                if state.registry.poll_timeout().is_some_and(|at| at <= now) {
                    state.registry.handle_timeout(now);
                    desk.carry(&mut state);
                }
                if let Some(at) = state.registry.poll_timeout() {
                    alarm.arm(at, now);
                }
                state.armed = alarm.set_for();
                desk.finish(state);
                if alarm.poll(cx).is_pending() {
                    return std::task::Poll::Pending;
                }
            }
        })));
    }

    fn handle(self: &Arc<Self>, state: &mut State, input: RegistryInput<'_>) {
        state.registry.handle_input(input, self.runtime.now());
        self.carry_on(state);
    }

    /// Carries what the registry says, and has its time kept.
    fn carry_on(self: &Arc<Self>, state: &mut State) {
        self.carry(state);
        let (next, now) = (state.registry.poll_timeout(), self.runtime.now());
        if next.is_some_and(|next| alarm::is_sooner(next, state.armed, now)) {
            self.timer.wake();
        }
    }

    fn carry(self: &Arc<Self>, state: &mut State) {
        while let Some(output) = state.registry.poll_output() {
            match output {
                RegistryOutput::Write { transport, text } => {
                    if let Some(mailbox) = state.mailboxes.get(&transport) {
                        mailbox.put(ToVisitor::Write(text));
                    }
                }
                RegistryOutput::Close { transport, code } => {
                    if let Some(mailbox) = state.mailboxes.remove(&transport) {
                        mailbox.put(ToVisitor::Close(code));
                    }
                }
                RegistryOutput::Authenticate { transport, cid, token } => {
                    if let Some(mailbox) = state.mailboxes.get(&transport) {
                        mailbox.put(ToVisitor::Authenticate { cid, token });
                    }
                }
                RegistryOutput::Create(origin) => {
                    let (id, principal) = (origin.id, origin.principal.clone());
                    let peer = Peer::new(&self.core, origin, self.runtime.now());
                    let shared = Shared::new(peer, Arc::clone(&self.runtime), self.requests);
                    let carrier = Carrier { desk: Arc::clone(self), id, _task: self.tasks.one_more() };
                    state.newborn.push((Arc::clone(&shared), carrier));
                    state.peers.insert(id.cid, (id, Arc::clone(&shared)));
                    state.accepted.push_back(Connection::new(shared, id.cid, principal));
                    self.arrived.notify(1);
                }
                RegistryOutput::Command { peer, command } => self.command(state, peer, command),
                RegistryOutput::Event(event) => {
                    tracing::debug!(target: targets::SERVER, ?event);
                    if let RegistryEvent::Removed { cid } = event {
                        state.peers.remove(&cid);
                        // What it said can still be taken by whoever accepts it, as long as there are not too many.
                        if state.accepted.len() > self.core.max_connections {
                            let index = state.accepted.iter().position(|connection| connection.id() == cid);
                            state.discarded.extend(index.and_then(|index| state.accepted.remove(index)));
                        }
                    }
                }
            }
        }
    }

    fn command(&self, state: &mut State, id: PeerId, command: Command) {
        let Some((_, peer)) = state.peers.get(&id.cid).filter(|(known, _)| *known == id) else { return };
        if let Command::Attach(attach) = &command {
            // The socket is with the visitor's task, which brings the command along with it.
            if let Some(mailbox) = state.mailboxes.remove(&attach.transport) {
                mailbox.put(ToVisitor::HandOver { peer: Arc::clone(peer), command });
            }
            return;
        }
        peer.command(|peer, now| peer.handle_command(command, now));
    }
}

/// What a peer's driver needs beside the machine: the way to the registry.
struct Carrier {
    desk: Arc<Desk>,
    id: PeerId,
    _task: Counted,
}

impl Outside for Carrier {
    fn open(&mut self) -> Task<Result<Opened, OpenError>> {
        unreachable!("a server opens no transports");
    }

    fn answer(&mut self, answer: Answer) {
        self.desk.tell(RegistryInput::Answered { peer: self.id, answer });
    }

    fn span(&self) -> Span {
        tracing::info_span!(target: targets::LINK, "connection", cid = %self.id.cid)
    }

    fn gone(&mut self) {
        self.desk.tell(RegistryInput::PeerGone { peer: self.id });
    }
}
