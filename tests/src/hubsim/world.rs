//! One run: the server's application, the clients, and the network between them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use reattach_driver::Client;
use reattach_driver::ClientConfig;
use reattach_driver::Connection;
use reattach_driver::Credentials;
use reattach_driver::CredentialsProvider;
use reattach_driver::Hello;
use reattach_driver::Hub;
use reattach_driver::PeerState;
use reattach_driver::Question;
use reattach_driver::Server;
use reattach_driver::ServerConfig;
use reattach_driver::Session;
use reattach_driver::core;
use reattach_driver::core::client;
use reattach_driver::core::hub::Event;
use reattach_driver::core::id::ConnectionId;
use reattach_driver::core::id::ConnectionKey;
use reattach_driver::core::id::Name;
use reattach_driver::core::id::Principal;
use reattach_driver::core::id::SessionId;
use reattach_driver::core::session;
use reattach_driver::testing::Net;

use super::ledger::Known;
use super::ledger::Ledger;
use super::ledger::Place;
use super::people::Watching;
use super::schedule::Plan;
use super::slot::Slot;
use super::watching::Seen;
use super::working::End;
use super::working::Made;
use super::working::TIMEOUT;
use super::working::Worker;
use crate::oracle::Broken;
use crate::oracle::Checked;
use crate::sim::mix;

/// Everything in a run.
pub(super) struct World {
    pub(super) net: Net,
    pub(super) plan: Plan,
    pub(super) seed: u64,
    pub(super) ledger: Ledger,
    pub(super) server: Serving,
    pub(super) clients: Vec<Running>,
    /// Programs that go on, and whose identity another one has taken on.
    pub(super) firsts: Vec<Running>,
    /// Which clients were there twice.
    pub(super) doubled: BTreeSet<usize>,
    pub(super) made: Vec<Made>,
    pub(super) asked: Vec<(String, Slot<Question>)>,
    /// Which client's program has which connection.
    pub(super) programs: Arc<Mutex<BTreeMap<ConnectionId, usize>>>,
}

/// The server.
pub(super) struct Serving {
    /// Where it stands.
    pub(super) net: Net,
    pub(super) server: Server,
    pub(super) hub: Hub,
    pub(super) program: usize,
    pub(super) sessions: BTreeMap<usize, Session>,
    pub(super) connections: Connections,
}

/// The connections that the server has accepted.
#[derive(Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Vec<Connection>>>);

/// A client's program.
pub(super) struct Running {
    pub(super) net: Net,
    pub(super) principal: usize,
    /// How many keys it has had.
    pub(super) keys: u64,
    pub(super) program: usize,
    pub(super) client: Client,
    pub(super) watching: BTreeMap<usize, Watching>,
    /// Where it stopped to watch, and what was seen up to there.
    pub(super) stopped: BTreeMap<usize, (session::WatchFrom, Seen)>,
    /// As which owners it acts.
    pub(super) generations: Arc<Mutex<BTreeMap<usize, session::Generation>>>,
    /// How many of its streams were cut.
    pub(super) cuts: usize,
    /// Whether it stopped to watch something when it could not say so.
    pub(super) is_unsaid: bool,
}

const ADDRESS: &str = "server.test:80";
const URL: &str = "ws://server.test/";

/// The name of a session of the plan.
pub(super) fn session_id(session: usize) -> SessionId {
    SessionId::new(&format!("s{session}")).expect("the name is short")
}

fn principal(principal: usize) -> Name {
    Name::new(["ada", "bob"][principal]).expect("the name is short")
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection of this name that has not ended.
    pub(super) fn of(&self, id: ConnectionId) -> Option<Connection> {
        let mut connections = self.lock();
        connections.retain(|connection| !matches!(connection.state(), PeerState::Closed(_)));
        connections.iter().rev().find(|connection| connection.id() == id).cloned()
    }
}

impl World {
    pub(super) async fn new(net: Net, plan: Plan, seed: u64, ledger: Ledger) -> Result<Self, Broken> {
        net.set_delay(Duration::from_millis(1)..=plan.delay.max(Duration::from_millis(1)));
        let programs = Arc::<Mutex<BTreeMap<ConnectionId, usize>>>::default();
        let server = start_server(&net, &plan, &ledger, &programs).await;
        let mut world = Self {
            net,
            seed,
            ledger,
            server,
            clients: Vec::new(),
            firsts: Vec::new(),
            doubled: BTreeSet::new(),
            made: Vec::new(),
            asked: Vec::new(),
            programs,
            plan,
        };
        for session in 0..world.plan.sessions.len() {
            world.create(session);
        }
        for index in 0..world.plan.clients.len() {
            let net = world.net.at(&format!("home{index}"));
            let client = world.start_client(net, index, 0);
            world.clients.push(client);
        }
        Ok(world)
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.ledger.lock()
    }

    /// What contradicts the design, if anything did by now.
    pub(super) fn checked(&self) -> Checked {
        self.known().broken.clone().map_or(Ok(()), Err)
    }

    /// Starts the server anew, with nothing, where it stood.
    pub(super) async fn restart(&mut self, pause: Duration) {
        self.net.cut();
        self.server.server.shut_down();
        self.ledger.note("the server stops", |known| {
            for session in 0..self.plan.sessions.len() {
                if let Some(life) = known.sessions.current(session) {
                    known.sessions.end(life, known.now);
                }
            }
            known.questions.end_program();
            known.programs[self.server.program] = false;
            known.requests.outages.extend(self.clients.iter().map(|client| client.program));
            Ok(())
        });
        for (_, question) in std::mem::take(&mut self.asked) {
            drop(question.take());
        }
        self.server.sessions.clear();
        self.server.connections.lock().clear();
        self.server.server.closed().await;
        self.net.sleep(pause).await;
        self.known().tell("the server starts");
        self.server = start_server(&self.net, &self.plan, &self.ledger, &self.programs).await;
        for session in 0..self.plan.sessions.len() {
            self.create(session);
        }
    }

    /// Begins a session, where there is none of its name.
    pub(super) fn create(&mut self, session: usize) {
        if self.server.sessions.contains_key(&session) {
            return;
        }
        let of = self.plan.sessions[session];
        let created = self.server.hub.create(session_id(session), Principal::Named(principal(of)));
        let mut known = self.known();
        match created {
            Ok(created) => {
                let now = known.now;
                let life = known.sessions.create(session, of, now);
                known.tell(&format!("session {session} begins life {life}"));
                drop(known);
                self.server.sessions.insert(session, created);
            }
            Err(misuse) => known.judge(Err(Broken::new("J1", format!("session {session} cannot begin: {misuse}")))),
        }
    }

    /// Starts a client of the plan.
    pub(super) fn start_client(&self, net: Net, index: usize, keys: u64) -> Running {
        let of = self.plan.clients[index];
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&mix(self.seed, mix(index as u64, keys)).to_le_bytes());
        let key = ConnectionKey::from_bytes(bytes);
        let mut core = client::Config::default();
        // Who is there twice keeps its name: another one would have to be followed everywhere here.
        core.on_superseded = client::OnSuperseded::Stop;
        if !self.plan.stops_trying {
            core.reconnect.attempts = None;
        }
        let token = principal(of);
        let credentials = CredentialsProvider::new(move || {
            let token = token.clone();
            async move { Credentials::token(token.as_str()) }
        });
        let config = ClientConfig::new()
            .with_core(core)
            .with_requests(requests(&self.plan))
            .with_key(key)
            .with_credentials(credentials);
        let client = net.start(URL, config).expect("the URL can be dialled");
        let mut known = self.known();
        let program = known.start(Place::Client(index));
        known.tell(&format!("client {index} starts as program {program}, {}", client.connection_id()));
        drop(known);
        self.programs.lock().unwrap_or_else(PoisonError::into_inner).insert(client.connection_id(), program);
        let worker = Worker {
            net: self.net.clone(),
            ledger: self.ledger.clone(),
            end: End::Client(client.clone()),
            program,
            client: program,
        };
        self.net.spawn(async move { worker.serve(Some).await });
        Running {
            net,
            principal: of,
            keys,
            program,
            client,
            watching: BTreeMap::new(),
            stopped: BTreeMap::new(),
            generations: Arc::default(),
            cuts: 0,
            is_unsaid: false,
        }
    }

    /// Who makes requests at an end of a client's connection, where there is one.
    pub(super) fn worker(&self, client: usize, to_server: bool) -> Option<Worker> {
        let running = &self.clients[client];
        let (end, program) = if to_server {
            (End::Client(running.client.clone()), running.program)
        } else {
            (End::Server(self.server.connections.of(running.client.connection_id())?), self.server.program)
        };
        let (net, ledger) = (self.net.clone(), self.ledger.clone());
        Some(Worker { net, ledger, end, program, client: running.program })
    }
}

fn requests(plan: &Plan) -> core::rpc::Config {
    let mut requests = core::rpc::Config::default();
    requests.timeout = TIMEOUT;
    requests.max_pending = plan.max_pending;
    requests
}

/// A server with a hub that serves whoever connects.
async fn start_server(
    net: &Net,
    plan: &Plan,
    ledger: &Ledger,
    programs: &Arc<Mutex<BTreeMap<ConnectionId, usize>>>,
) -> Serving {
    let net = net.at("server");
    let mut core = core::server::Config::default();
    (core.detach_ttl, core.suspended_ttl) = (plan.detach_ttl, plan.suspended_ttl);
    let who = |hello: Hello| async move { hello.token.and_then(|token| Name::new(token.reveal()).ok()) };
    let config = ServerConfig::new().with_core(core).with_requests(requests(plan)).with_authentication(who);
    let server = loop {
        match net.bind(ADDRESS, config.clone()).await {
            Ok(server) => break server,
            Err(_) => net.sleep(Duration::from_millis(100)).await,
        }
    };
    let mut config = core::hub::Config::default();
    config.sessions.log.count = plan.log;
    config.sessions.log.bytes = 64 * 1024 * 1024;
    config.sessions.log.age = plan.age;
    config.sessions.suspended_ttl = plan.session_ttl;
    config.permissions.timeout = QUESTION;
    config.permissions.max_open = plan.max_open;
    config.permissions.max_remembered = plan.max_remembered;
    config.permissions.remembered = plan.remembered;
    let hub = Hub::new(&server, config);
    let program = ledger.lock().start(Place::Server);
    let connections = Connections::default();
    let accepting = (server.clone(), hub.clone(), connections.clone(), net.clone(), ledger.clone());
    let programs = Arc::clone(programs);
    net.spawn(async move {
        let (server, hub, connections, net, ledger) = accepting;
        while let Some(connection) = server.accept().await {
            hub.attach(&connection);
            connections.lock().push(connection.clone());
            let known = programs.lock().unwrap_or_else(PoisonError::into_inner);
            let client = known.get(&connection.id()).copied();
            drop(known);
            let Some(client) = client else { continue };
            let (tasks, hub) = (net.clone(), hub.clone());
            let (net, ledger, end) = (net.clone(), ledger.clone(), End::Server(connection.clone()));
            let worker = Worker { net, ledger, end, program, client };
            tasks.spawn(async move { worker.serve(|call| hub.handle_call(&connection, call).err()).await });
        }
    });
    hear_hub(&net, ledger, &hub, &connections, program);
    Serving { net, server, hub, program, sessions: BTreeMap::new(), connections }
}

/// How long a question is open where nothing else is said.
pub(super) const QUESTION: Duration = Duration::from_secs(60);

/// Has a task hear what the hub tells.
fn hear_hub(net: &Net, ledger: &Ledger, hub: &Hub, connections: &Connections, program: usize) {
    let (mut events, ledger, connections) = (hub.events(), ledger.clone(), connections.clone());
    net.spawn(async move {
        while let Some(event) = events.next().await {
            ledger.note(&format!("the hub: {event:?}"), |known| {
                // A hub that somebody still holds lives longer than its server. Its sessions are not those of the next one.
                let is_of_another = !known.programs[program] && matches!(event, Event::Session(_));
                if is_of_another { Ok(()) } else { on_hub(known, &event, &connections, program) }
            });
        }
    });
}

fn on_hub(known: &mut Known, event: &Event, connections: &Connections, program: usize) -> Checked {
    let Known { sessions, questions, owners, coverage, now, clocks, .. } = known;
    let clock = clocks.at(program);
    let life = |id: &SessionId| {
        let session = id.as_str().trim_start_matches('s').parse().ok()?;
        Some((session, sessions.current(session)?))
    };
    match event {
        Event::Decided { id, verdict } => questions.decided(sessions, id.as_str(), verdict, *now, clocks, coverage),
        Event::Session(session::Event::Owned { session, by, generation, before }) => {
            let Some(life) = life(session) else { return Ok(()) };
            owners.owned(life, *by, generation.get(), *before, coverage)
        }
        Event::Session(session::Event::Detached { session, generation, why }) => {
            let Some(life) = life(session) else { return Ok(()) };
            owners.detached(life, generation.get(), *why, clock, coverage)
        }
        Event::Session(session::Event::Gone { connection, .. }) => {
            owners.gone(*connection, connections.of(*connection).is_some())
        }
        Event::Session(_) | Event::Ended { .. } | Event::Published { .. } => Ok(()),
        event => Err(Broken::new("S5", format!("an unknown event: {event:?}"))),
    }
}
