//! A hub and those who watch one session of it, without a network: a test carries what goes between them, piece by piece.

use std::collections::VecDeque;
use std::time::Duration;

use reattach_core::hub::Call;
use reattach_core::hub::CallNo;
use reattach_core::hub::Config;
use reattach_core::hub::Event;
use reattach_core::hub::Hub;
use reattach_core::hub::Watcher;
use reattach_core::hub::WatcherEvent;
use reattach_core::hub::WatcherOutput;
use reattach_core::id::ConnectionId;
use reattach_core::id::Epoch;
use reattach_core::id::Principal;
use reattach_core::id::SessionId;
use reattach_core::messages::PermissionId;
use reattach_core::permission::DialogsConfig;
use reattach_core::permission::Verdict;
use reattach_core::rpc::ErrorObject;
use reattach_core::rpc::Failure;
use reattach_core::session::Offset;
use reattach_core::session::WatchFrom;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;

use crate::permissions;
use crate::sessions;

/// A hub with the session `s` of Ada, and who watches it.
#[derive(Clone, Debug)]
pub struct World {
    /// The machine.
    pub hub: Hub,
    /// The time.
    pub now: Instant,
    /// Who watches.
    pub watching: Vec<Watching>,
    /// What was decided, in the order in which that was told.
    pub decided: Vec<(PermissionId, Verdict)>,
    /// How many messages a client holds that it has not taken.
    pub room: usize,
    config: Config,
    lives: u8,
}

/// A client that watches, and what is between it and the hub.
#[derive(Clone, Debug)]
pub struct Watching {
    /// The machine.
    pub watcher: Watcher,
    /// Its connection.
    pub connection: ConnectionId,
    /// Whose it is.
    pub principal: Principal,
    /// Whether it has a transport.
    pub is_attached: bool,
    /// Requests on their way to the hub.
    pub requests: VecDeque<(CallNo, Call)>,
    /// What comes back for them.
    pub responses: VecDeque<(CallNo, Result<Payload, Failure>)>,
    /// The messages in the session's lane.
    pub lane: VecDeque<Payload>,
    /// What the application was told.
    pub told: Vec<WatcherEvent>,
}

/// The session.
pub fn session() -> SessionId {
    permissions::session()
}

impl Default for World {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl World {
    /// A hub whom nobody watches.
    pub fn new(config: Config) -> Self {
        let now = Instant::from_secs(0);
        let mut world = Self {
            hub: Hub::new(config, now),
            now,
            watching: Vec::new(),
            decided: Vec::new(),
            room: usize::MAX,
            config,
            lives: 0,
        };
        world.begin_session();
        world
    }

    /// The same with so many clients of Ada that have everything so far.
    pub fn watched_by(clients: usize) -> Self {
        let mut world = Self::default();
        for _ in 0..clients {
            world.watch("ada", WatchFrom::Start);
        }
        world.settle();
        world
    }

    /// Begins the session again, with an empty log.
    pub fn begin_session(&mut self) {
        self.lives += 1;
        let epoch = Epoch::from_bytes([self.lives; 16]);
        self.hub.create(session(), sessions::principal("ada"), epoch).expect("there is none");
    }

    /// Another client begins to watch. Returns which.
    pub fn watch(&mut self, principal: &str, from: WatchFrom) -> usize {
        let number = u8::try_from(self.watching.len() + 1).expect("a few clients");
        let (connection, principal) = (sessions::connection(number), sessions::principal(principal));
        self.hub.handle_attached(connection, &principal);
        let watcher = Watcher::new(session(), from, DialogsConfig::default(), connection, &[number; 16], self.now);
        let (requests, responses, lane) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        let (is_attached, told) = (true, Vec::new());
        self.watching.push(Watching { watcher, connection, principal, is_attached, requests, responses, lane, told });
        self.drain();
        usize::from(number) - 1
    }

    /// Adds an event to the session.
    pub fn publish(&mut self, number: u64) -> Offset {
        let offset = self.hub.publish(&session(), &sessions::number(number), self.now).expect("there is a session");
        self.drain();
        offset
    }

    /// Asks, with the configured time to answer.
    pub fn ask(&mut self, name: &str) {
        self.ask_within(name, None);
    }

    /// Asks, with a time to answer.
    pub fn ask_within(&mut self, name: &str, timeout: Option<Duration>) {
        self.hub.ask(&session(), permissions::request(name), timeout, self.now).expect("it is a good question");
        self.drain();
    }

    /// A client loses its transport.
    pub fn detach(&mut self, client: usize) {
        let watching = &mut self.watching[client];
        watching.is_attached = false;
        watching.watcher.handle_attached(false, self.now);
        self.hub.handle_detached(watching.connection, self.now);
        self.drain();
    }

    /// A client has a transport again.
    pub fn attach(&mut self, client: usize) {
        let watching = &mut self.watching[client];
        watching.is_attached = true;
        self.hub.handle_attached(watching.connection, &watching.principal);
        watching.watcher.handle_attached(true, self.now);
        self.drain();
    }

    /// The epoch of a client's connection ends. Of its requests that were not served `goes_on` says which were never written, and
    /// so go on into the next; and so many messages of the lane had come.
    pub fn end_epoch(&mut self, client: usize, mut goes_on: impl FnMut() -> bool, came: usize) {
        let watching = &mut self.watching[client];
        self.hub.handle_epoch_ended(watching.connection);
        watching.lane.truncate(came);
        for (_, response) in &mut watching.responses {
            *response = Err(Failure::EpochEnded);
        }
        for (number, call) in std::mem::take(&mut watching.requests) {
            if goes_on() {
                watching.requests.push_back((number, call));
            } else {
                watching.responses.push_back((number, Err(Failure::EpochEnded)));
            }
        }
        watching.watcher.handle_epoch_ended();
        self.drain();
    }

    /// The server starts anew, and knows nothing.
    pub fn lose_state(&mut self) {
        self.hub = Hub::new(self.config, self.now);
        for client in 0..self.watching.len() {
            let Watching { is_attached, connection, principal, .. } = &self.watching[client];
            if *is_attached {
                self.hub.handle_attached(*connection, principal);
            }
            self.end_epoch(client, || true, 0);
        }
    }

    /// The hub serves the next request of a client. Returns whether there was one.
    pub fn serve(&mut self, client: usize) -> bool {
        let watching = &mut self.watching[client];
        if !watching.is_attached {
            return false;
        }
        let Some((number, call)) = watching.requests.pop_front() else { return false };
        let params = call.params();
        let result = self.hub.handle_request(watching.connection, call.method(), Some(&params), self.now);
        let result = result.expect("it is a request to a hub");
        watching.responses.push_back((number, result.map_err(Failure::Refused)));
        self.drain();
        true
    }

    /// A response comes to a client. Returns whether there was one.
    pub fn respond(&mut self, client: usize) -> bool {
        let watching = &mut self.watching[client];
        let Some((number, result)) = watching.responses.pop_front() else { return false };
        watching.watcher.handle_response(number, result, self.now);
        self.drain();
        true
    }

    /// The next message is put into a client's lane. Returns whether there was one.
    pub fn pull(&mut self, client: usize) -> bool {
        let watching = &mut self.watching[client];
        let has_room = watching.lane.len() < self.room;
        let pulled = self.hub.pull(watching.connection, |_, _| has_room);
        let is_pulled = pulled.is_some();
        watching.lane.extend(pulled.map(|pulled| pulled.payload));
        is_pulled
    }

    /// The next message of the lane comes to a client, where it takes one. Returns whether it did.
    pub fn deliver(&mut self, client: usize) -> bool {
        let watching = &mut self.watching[client];
        if !watching.watcher.wants_messages() {
            return false;
        }
        let Some(payload) = watching.lane.pop_front() else { return false };
        watching.watcher.handle_message(payload.into(), self.now);
        self.drain();
        true
    }

    /// Carries everything until nothing is left to carry.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut is_carried = false;
            for client in 0..self.watching.len() {
                is_carried |= self.respond(client) || self.deliver(client) || self.pull(client);
                is_carried |= self.serve(client);
            }
            if !is_carried {
                return;
            }
        }
        panic!("it never ends");
    }

    /// Time passes, and what is due is done.
    pub fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.hub.handle_timeout(self.now);
        for watching in &mut self.watching {
            watching.watcher.handle_timeout(self.now);
        }
        self.drain();
    }

    /// Asks the hub for something in a client's name, as it stands on the wire. Returns the result, or the error's code and words.
    pub fn request(&mut self, client: usize, method: &str, params: &str) -> Result<String, (i64, String)> {
        let connection = self.watching[client].connection;
        let params = permissions::json(params);
        let result = self.hub.handle_request(connection, method, Some(&params), self.now);
        self.drain();
        let error = |ErrorObject { code, message, .. }| (code, message);
        result.expect("it is a request to a hub").map(|result| result.as_str().to_owned()).map_err(error)
    }

    /// What a client was told since this was asked last.
    pub fn told(&mut self, client: usize) -> Vec<WatcherEvent> {
        std::mem::take(&mut self.watching[client].told)
    }

    /// The names of a client's dialogs.
    pub fn dialogs(&self, client: usize) -> Vec<String> {
        let dialogs = self.watching[client].watcher.dialogs().dialogs();
        dialogs.into_iter().map(|(id, _)| id.as_str().to_owned()).collect()
    }

    /// Takes what the machines want done.
    pub fn drain(&mut self) {
        while let Some(event) = self.hub.poll_event() {
            if let Event::Decided { id, verdict } = event {
                self.decided.push((id, verdict));
            }
        }
        for watching in &mut self.watching {
            while let Some(output) = watching.watcher.poll_output() {
                match output {
                    WatcherOutput::Call { number, call } => watching.requests.push_back((number, call)),
                    WatcherOutput::Event(event) => watching.told.push(event),
                }
            }
        }
    }
}
