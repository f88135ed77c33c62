//! The ensemble: all machines of a server and its clients, composed over a [`World`], as a program composes them.
//!
//! Beside the links that the world has, the server has a hub, and for each connection the requests that come on it; each client
//! has its own requests, and a watcher for each session that it watches. Requests go in their two lanes, what happens in a session
//! goes in the session's lane, everything else is the application's. What is asked of a hub is served by the hub; the rest is left
//! to the test.
//!
//! | file | what it holds |
//! |---|---|
//! | `server_side` | the server's hub and requests |
//! | `client_side` | a client's requests |
//! | `watching` | the sessions that a client watches |
//! | `checks` | the invariants, after every step and at the end |

mod checks;
mod client_side;
mod server_side;
mod watching;

use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Secrets;
use reattach_core::error::ApiMisuse;
use reattach_core::id::ConnectionId;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::id::SessionId;
use reattach_core::link::Decision;
use reattach_core::link::Outgoing;
use reattach_core::messages::PermissionId;
use reattach_core::messages::PermissionRequest;
use reattach_core::rpc::Channel;
use reattach_core::server;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;

pub use self::checks::Ledger;
pub use self::checks::play;
pub use self::client_side::User;
pub use self::server_side::Desk;
pub use self::server_side::House;

use crate::world::Heard;
use crate::world::World;
use crate::world::secrets;
use crate::world::steady;

/// How long messages get to come to rest where a script does not say it. Longer than a probe and a retry of an answer take.
const REST: Duration = Duration::from_secs(20);

/// A server and its clients with everything that they have.
#[derive(Debug)]
pub struct Ensemble {
    /// The links, the network and the time.
    pub world: World,
    /// What the server has above its links.
    pub house: House,
    /// What each client has above its link.
    pub users: Vec<User>,
    /// What was sent, and what became of it.
    pub ledger: Ledger,
    began: Instant,
}

impl Ensemble {
    /// A server and no client.
    pub fn with_server(config: server::Config) -> Self {
        let mut world = World::with_server(config);
        world.journal.is_kept = true;
        let now = world.now;
        Self { world, house: House::new(now), users: Vec::new(), ledger: Ledger::default(), began: now }
    }

    /// The default server, and one steady client that is attached.
    pub fn attached() -> Self {
        Self::attached_with(server::Config::default(), steady())
    }

    /// One client that is attached, with a configuration for each side.
    pub fn attached_with(server: server::Config, client: client::Config) -> Self {
        let mut ensemble = Self::with_server(server);
        ensemble.join(client, secrets(1));
        ensemble
    }

    /// Adds a client and lets it attach. Returns its index.
    pub fn join(&mut self, config: client::Config, secrets: Secrets) -> usize {
        let index = self.add_client(config, secrets);
        // Until the first ping is answered.
        self.run_for(Duration::from_millis(100));
        assert_eq!(self.world.clients[index].client.status(), client::Status::Attached);
        index
    }

    /// Adds a client. Returns its index.
    pub fn add_client(&mut self, config: client::Config, secrets: Secrets) -> usize {
        let number = u8::try_from(self.users.len()).expect("a few clients");
        let cid = secrets.key.connection_id();
        self.users.push(User::new(number, cid, config.connection.link.clone(), self.world.now));
        self.world.add_client(config, secrets)
    }

    /// The script's time 0 is now.
    pub fn begin(&mut self) {
        self.began = self.world.now;
    }

    /// The script's time, in milliseconds.
    pub fn millis(&self) -> u128 {
        self.since(self.world.now)
    }

    /// A point in the script's time, in milliseconds.
    pub fn since(&self, at: Instant) -> u128 {
        (at - self.began).as_millis()
    }

    /// Lets time pass up to so many milliseconds of the script.
    pub fn run_to(&mut self, millis: u64) {
        self.run_until(self.began + Duration::from_millis(millis));
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.world.now + duration);
    }

    /// Lets time pass, from one event to the next, until something holds.
    ///
    /// # Panics
    ///
    /// If it does not hold within ten minutes.
    pub fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let limit = self.world.now + Duration::from_secs(600);
        self.settle();
        while !holds(self) {
            let next = self.next_event().filter(|at| *at <= limit);
            self.run_until(next.expect("something happens in time"));
        }
    }

    /// Lets messages come to rest.
    pub fn rest(&mut self) {
        self.run_for(REST);
    }

    /// Does everything that can be done without time passing, and checks what has to hold then.
    pub fn settle(&mut self) {
        loop {
            self.world.pump();
            let heard = self.world.journal.take();
            let mut is_busy = !heard.is_empty();
            heard.into_iter().for_each(|(_, heard)| self.hear(heard));
            is_busy |= self.drain_house();
            for index in 0..self.users.len() {
                is_busy |= self.drain_user(index);
            }
            if !is_busy {
                return self.check();
            }
        }
    }

    /// Jumps over so much time at once, as a computer does that was asleep.
    pub fn jump(&mut self, duration: Duration) {
        self.world.jump(duration);
        self.fire_timers();
        self.settle();
    }

    fn run_until(&mut self, end: Instant) {
        self.settle();
        while let Some(at) = self.next_event().filter(|at| *at <= end) {
            self.world.run_to(at);
            self.fire_timers();
            self.settle();
        }
        self.world.run_to(end);
        self.settle();
    }

    fn next_event(&self) -> Option<Instant> {
        let timers = [self.world.net.poll_timeout(), self.world.next_timer(), self.next_timer()];
        timers.into_iter().flatten().min()
    }

    /// When something above the links wants to be woken.
    fn next_timer(&self) -> Option<Instant> {
        let users = self.users.iter().filter_map(User::poll_timeout);
        users.chain(self.house.poll_timeout()).min()
    }

    fn fire_timers(&mut self) {
        let now = self.world.now;
        self.house.handle_timeout(now);
        self.users.iter_mut().for_each(|user| user.handle_timeout(now));
        let next = self.next_timer();
        assert!(next.is_none_or(|at| at > now), "a timer above the links is still due at {next:?}");
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Client(index, event) => self.on_client_event(index, event),
            Heard::TakenDown(index, delivery) => self.on_taken_down(index, delivery),
            Heard::Peer(cid, event) => self.on_peer_event(cid, &event),
            Heard::Registry(event) => self.on_registry_event(event),
            Heard::TakenUp(cid, delivery, is_left) => self.on_taken_up(cid, delivery, is_left),
            Heard::Asked(..)
            | Heard::Accepted(_)
            | Heard::ClientWrote(..)
            | Heard::ServerWrote(..)
            | Heard::ClientClosed(..)
            | Heard::ServerClosed(_)
            | Heard::ClientToldClosed(..)
            | Heard::ServerToldClosed(_)
            | Heard::Suspended(_) => {}
        }
    }

    // What applications do.

    /// A client sends.
    ///
    /// # Errors
    ///
    /// As `Client::send`.
    pub fn try_send_up(&mut self, client: usize, message: Outgoing) -> Result<MessageId, ApiMisuse> {
        let now = self.world.now;
        let id = self.world.clients[client].client.send(message, now)?;
        self.ledger.on_sent_up(client, id);
        Ok(id)
    }

    /// A client sends a text in the lane of a name.
    pub fn send_up(&mut self, client: usize, lane: &str, text: &str) -> MessageId {
        let message = crate::world::in_lane(lane, text);
        let id = self.try_send_up(client, message).expect("room in the outbox");
        self.settle();
        id
    }

    /// The server sends on a connection.
    ///
    /// # Errors
    ///
    /// As `Server::send`.
    pub fn try_send_down(&mut self, cid: &ConnectionId, message: Outgoing) -> Result<MessageId, ApiMisuse> {
        let id = self.world.server.send(cid, message, self.world.now)?;
        self.ledger.on_sent_down(*cid, id);
        Ok(id)
    }

    /// The server's application decides about the newest hand-over of the first client's message with this text.
    pub fn decide(&mut self, text: &str, decision: Decision) {
        self.ledger.on_decided(text, &decision);
        self.world.decide(text, decision).expect("it is in hands");
        self.settle();
    }

    /// The agent of a session says something.
    pub fn append(&mut self, session: &SessionId, event: &str) {
        let now = self.world.now;
        self.house.hub.publish(session, &crate::world::payload(event), now).expect("there is the session");
        self.settle();
    }

    /// The agent of a session asks for permission.
    pub fn ask(&mut self, session: &SessionId, request: PermissionRequest) {
        self.ask_within(session, request, None);
    }

    /// The same with a time of its own to answer.
    pub fn ask_within(&mut self, session: &SessionId, request: PermissionRequest, timeout: Option<Duration>) {
        let now = self.world.now;
        self.house.asked_in.insert(request.id.clone(), session.clone());
        self.house.hub.ask(session, request, timeout, now).expect("it is a new question");
        self.settle();
    }
}

/// The name of a session.
pub fn session(name: &str) -> SessionId {
    SessionId::new(name).expect("a short name")
}

/// The name of a question.
pub fn question(name: &str) -> PermissionId {
    PermissionId::new(name).expect("a short name")
}

/// A question of this name.
pub fn request(name: &str) -> PermissionRequest {
    PermissionRequest {
        id: question(name),
        tool_name: "write".to_owned(),
        input: Payload::from_json(r#"{"path":"a"}"#).expect("JSON"),
        context: Payload::from_json("null").expect("JSON"),
        timestamp: "2026-11-21T19:00:00Z".to_owned(),
        remaining: None,
    }
}

/// A message of requests.
fn in_channel(channel: Channel, within: Option<Duration>, payload: Payload) -> Outgoing {
    let lane = Name::new(channel.lane()).expect("a short name");
    Outgoing { within, ..Outgoing::from(payload).in_lane(lane) }
}

/// Which of the two lanes of requests this is, if it is one.
fn channel_of(lane: Option<&Name>) -> Option<Channel> {
    [Channel::Calls, Channel::Responses]
        .into_iter()
        .find(|channel| lane.is_some_and(|lane| lane.as_str() == channel.lane()))
}
