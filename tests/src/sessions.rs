//! Sessions of Ada, to be watched and owned.

use std::time::Duration;

use reattach_core::id::ConnectionId;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Name;
use reattach_core::id::Principal;
use reattach_core::id::SessionId;
use reattach_core::session::Config;
use reattach_core::session::Cursor;
use reattach_core::session::Event;
use reattach_core::session::Kind;
use reattach_core::session::LogLimits;
use reattach_core::session::Offset;
use reattach_core::session::Pulled;
use reattach_core::session::SessionMisuse;
use reattach_core::session::Sessions;
use reattach_core::session::Watch;
use reattach_core::session::WatchFrom;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;

/// The life of every log.
pub const EPOCH: Epoch = Epoch::from_bytes([7; 16]);

/// How long a session sleeps, in seconds.
pub const TTL: u64 = 600;

/// A connection, by number.
pub fn connection(number: u8) -> ConnectionId {
    ConnectionKey::from_bytes([number; 16]).connection_id()
}

/// Somebody.
pub fn principal(name: &str) -> Principal {
    Principal::Named(Name::new(name).expect("the test says what may be"))
}

/// A session.
pub fn session(name: &str) -> SessionId {
    SessionId::new(name).expect("the test says what may be")
}

/// An event that is a number.
pub fn number(number: u64) -> Payload {
    Payload::new(&number).expect("the test says what may be")
}

/// So many seconds after the beginning.
pub fn secs(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

/// The defaults, with these bounds of the log.
pub fn limits(count: usize, bytes: u64, age: u64) -> Config {
    let mut config = Config::default();
    config.log = LogLimits { count, bytes, age: Duration::from_secs(age) };
    config
}

/// Sessions of Ada, whose connections are 1 to 3 and attached; 9 is somebody else's.
pub fn sessions_with(config: Config, names: &[&str]) -> Sessions {
    let mut sessions = Sessions::new(config, Instant::ZERO);
    for name in names {
        sessions.create(session(name), principal("ada"), EPOCH).expect("the test says what may be");
    }
    for ada in 1..=3 {
        sessions.handle_attached(connection(ada), &principal("ada"));
    }
    sessions.handle_attached(connection(9), &principal("mallory"));
    sessions
}

/// The same with the defaults.
pub fn sessions(names: &[&str]) -> Sessions {
    sessions_with(Config::default(), names)
}

/// What happened.
pub fn events(sessions: &mut Sessions) -> Vec<Event> {
    std::iter::from_fn(|| sessions.poll_event()).collect()
}

/// What is the same in most tests.
pub trait Watching {
    /// Watches what comes after a cursor, or from now on.
    fn watch_after(
        &mut self,
        connection: ConnectionId,
        id: &SessionId,
        after: Option<Cursor>,
    ) -> Result<Watch, SessionMisuse>;
    /// Adds an event of the application.
    fn publish(&mut self, id: &SessionId, event: &Payload, now: Instant) -> Result<Offset, SessionMisuse>;
}

impl Watching for Sessions {
    fn watch_after(
        &mut self,
        connection: ConnectionId,
        id: &SessionId,
        after: Option<Cursor>,
    ) -> Result<Watch, SessionMisuse> {
        self.watch(connection, id, after.map_or(WatchFrom::Now, WatchFrom::After), tag("t"))
    }

    fn publish(&mut self, id: &SessionId, event: &Payload, now: Instant) -> Result<Offset, SessionMisuse> {
        self.append(id, Kind::Application, event, now)
    }
}

/// What a watch is called.
pub fn tag(name: &str) -> Name {
    Name::new(name).expect("the test says what may be")
}

/// What comes for a connection, but for where a watch begins.
pub fn pull_all(sessions: &mut Sessions, from: u8) -> Vec<String> {
    let pulled = std::iter::from_fn(|| sessions.pull(connection(from), |_, _| true));
    let told = pulled.filter(|pulled| !pulled.payload.as_str().starts_with("[\""));
    told.map(|Pulled { session, payload }| format!("{session}{}", payload.as_str())).collect()
}

/// The owner of a session.
pub fn owner(sessions: &Sessions, name: &str) -> Option<ConnectionId> {
    sessions.ownership(&session(name)).expect("the test says what may be").owner()
}
