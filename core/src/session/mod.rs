//! Sessions: conversations that outlive connections, each with a bounded log of events, an owner, and who watches.
//!
//! [`Sessions`] is one machine for all sessions of a server. Owners and observers are connections, never transports: a client that
//! drops and comes back is the same. What is appended to a session is kept in its log, and *pulled* from there for each connection
//! that watches, as long as it takes more ([`Sessions::pull`]): so events never fill a queue, a slow observer costs a number, and
//! one that was away gets what it missed, once. What is not kept any more is a gap, of which it is told.
//!
//! | message in the lane `session/<id>` | meaning |
//! |---|---|
//! | `["tag"]` | here begins what was asked for under this tag; what came before was for another watch |
//! | `["tag",{"any":"JSON"}]` | the same, with a snapshot of the session up to there |
//! | `[17,{"any":"JSON"}]` | event 17 |
//! | `[17,"permission",{"type":"permission-request"}]` | event 17, which is about a permission |
//! | `[null]` | what comes next is not kept any more; nothing more comes before the session is watched again |
//! | `[]` | the session has ended |

mod config;
mod event;
mod feed;
mod follower;
mod id;
mod log;
mod ownership;

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use core::ops::Bound;

use crate::deadline::soonest;
use crate::id::ConnectionId;
use crate::id::Epoch;
use crate::id::Name;
use crate::id::Principal;
use crate::id::SessionId;
use crate::session::feed::Feed;
use crate::time::Clock;
use crate::time::Instant;
use crate::wire::Payload;

pub use self::config::Config;
pub use self::config::LogLimits;
pub use self::event::Detached;
pub use self::event::Event;
pub use self::event::MAX_DEPTH;
pub use self::event::Pulled;
pub use self::event::SessionMisuse;
pub use self::event::Watch;
pub use self::event::WatchFrom;
pub use self::follower::Followed;
pub use self::follower::Follower;
pub use self::id::Cursor;
pub use self::id::Generation;
pub use self::id::Offset;
pub use self::log::Kind;
pub use self::log::Log;
pub use self::log::Next;
pub use self::ownership::Ownership;

/// All sessions of a server.
///
/// *Getters* take `&self`. `handle_*` take in what happened to connections, and time. *Commands* fail only for the caller's own
/// faults. `poll_*` say what happened, and when to come back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sessions {
    clock: Clock,
    config: Config,
    sessions: BTreeMap<SessionId, Session>,
    connections: BTreeMap<ConnectionId, Observer>,
    /// When time matters next to which session.
    timers: BTreeSet<(Instant, SessionId)>,
    events: VecDeque<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    principal: Principal,
    log: Log,
    ownership: Ownership,
    observers: BTreeSet<ConnectionId>,
    /// What the application says that everything up to a place amounts to.
    snapshot: Option<(Cursor, Payload)>,
    /// What stands in the table of timers for it.
    timer: Option<Instant>,
}

/// A connection that may own and watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Observer {
    principal: Principal,
    is_attached: bool,
    watched: BTreeMap<SessionId, Feed>,
    /// The session that was pulled from last; the others have their turn first.
    last: Option<SessionId>,
    /// What was pulled last, of a watch that goes on, and the tag where that was what was said.
    pulled: Option<(SessionId, Option<Name>)>,
    /// What it owns or takes up.
    held: BTreeSet<SessionId>,
}

/// A session that is being taken up: see [`Sessions::begin_resume`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "a session that is being taken up is kept until that is done or has failed"]
pub struct Resume {
    session: SessionId,
    number: u64,
}

impl Sessions {
    /// None.
    #[must_use]
    pub const fn new(config: Config, now: Instant) -> Self {
        Self {
            clock: Clock::new(now),
            config,
            sessions: BTreeMap::new(),
            connections: BTreeMap::new(),
            timers: BTreeSet::new(),
            events: VecDeque::new(),
        }
    }

    /// A connection has a transport, for the first time or again.
    pub fn handle_attached(&mut self, connection: ConnectionId, principal: &Principal) {
        let observer = self.connections.entry(connection).or_insert_with(|| Observer {
            principal: principal.clone(),
            is_attached: true,
            watched: BTreeMap::new(),
            last: None,
            pulled: None,
            held: BTreeSet::new(),
        });
        observer.is_attached = true;
    }

    /// A connection has lost its transport. It keeps what it owns and watches, and cannot be reached.
    pub fn handle_detached(&mut self, connection: ConnectionId) {
        if let Some(observer) = self.connections.get_mut(&connection) {
            observer.is_attached = false;
        }
    }

    /// A connection begins another epoch: what it was sent may be lost, and it has to watch again, from where it has seen. What it
    /// owns it keeps.
    pub fn handle_epoch_ended(&mut self, connection: ConnectionId) {
        let Some(observer) = self.connections.get_mut(&connection) else { return };
        observer.pulled = None;
        for session in core::mem::take(&mut observer.watched).into_keys() {
            self.forget_observer(&session, connection);
        }
    }

    /// What was pulled last for a connection could not be sent. It is told of a gap, and watches no more; unless it has begun to
    /// watch anew since, or has stopped, for then it misses nothing.
    pub fn handle_unsent(&mut self, connection: ConnectionId, id: &SessionId) {
        let Some(observer) = self.connections.get_mut(&connection) else { return };
        if let Some((_, tag)) = observer.pulled.take_if(|(pulled, _)| pulled == id) {
            observer.watched.insert(id.clone(), Feed::Lost { tag });
        }
    }

    /// A connection is gone for good. What only it owned is detached, each session by itself; what another has taken over, or
    /// takes up, or what sleeps, is not. A second time changes nothing.
    pub fn handle_gone(&mut self, connection: ConnectionId) {
        let Some(observer) = self.connections.remove(&connection) else { return };
        let watched: Vec<_> = observer.watched.into_keys().collect();
        for session in &watched {
            self.forget_observer(session, connection);
        }
        self.events.push_back(Event::Gone { connection, watched });
        for id in &observer.held {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            if session.ownership.on_gone(connection) {
                self.events.push_back(detached(id, session, Detached::OwnerGone));
            }
            self.rearm(id);
        }
    }

    /// Begins a session of a principal. `epoch` is random, and names this life of its log.
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::SessionExists`], [`SessionMisuse::TooMany`].
    pub fn create(&mut self, id: SessionId, principal: Principal, epoch: Epoch) -> Result<(), SessionMisuse> {
        let limit = self.config.max_sessions;
        if self.sessions.contains_key(&id) {
            return Err(SessionMisuse::SessionExists);
        }
        if self.sessions.len() >= limit {
            return Err(SessionMisuse::TooMany { limit });
        }
        let log = Log::new(self.config.log, epoch);
        let (ownership, observers, snapshot, timer) = (Ownership::default(), BTreeSet::new(), None, None);
        self.sessions.insert(id, Session { principal, log, ownership, observers, snapshot, timer });
        Ok(())
    }

    /// Ends a session. Whoever watches it is told, behind what was appended before. Returns who does.
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::UnknownSession`].
    pub fn remove(&mut self, id: &SessionId) -> Result<BTreeSet<ConnectionId>, SessionMisuse> {
        let session = self.sessions.remove(id).ok_or(SessionMisuse::UnknownSession)?;
        if let Some(at) = session.timer {
            self.timers.remove(&(at, id.clone()));
        }
        for connection in session.ownership.involved() {
            self.let_go(id, Some(connection));
        }
        // Whoever watches is still told what was appended before.
        let log = Arc::new(session.log);
        for observer in &session.observers {
            if let Some(feed) = self.connections.get_mut(observer).and_then(|observer| observer.watched.get_mut(id)) {
                *feed = feed.clone().ending(&log);
            }
        }
        Ok(session.observers)
    }

    /// Adds an event to a session. Returns its number.
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::UnknownSession`], [`SessionMisuse::TooLarge`], [`SessionMisuse::TooDeep`].
    pub fn append(
        &mut self,
        id: &SessionId,
        kind: Kind,
        event: &Payload,
        now: Instant,
    ) -> Result<Offset, SessionMisuse> {
        let now = self.clock.advance(now);
        if kind == Kind::Application {
            self.check(event)?;
        }
        let session = self.sessions.get_mut(id).ok_or(SessionMisuse::UnknownSession)?;
        let offset = session.log.append(kind, event, now);
        self.rearm(id);
        Ok(offset)
    }

    /// Says what everything up to now amounts to, for those who come when the log does not reach back far enough. A snapshot serves
    /// as long as the log keeps what comes after it: renew it at least that often.
    ///
    /// # Errors
    ///
    /// As [`Sessions::append`].
    pub fn set_snapshot(&mut self, id: &SessionId, snapshot: Payload) -> Result<(), SessionMisuse> {
        self.check(&snapshot)?;
        let session = self.sessions.get_mut(id).ok_or(SessionMisuse::UnknownSession)?;
        session.snapshot = Some((session.log.end(), snapshot));
        Ok(())
    }

    /// Has a connection watch a session. Watching again begins there instead. `tag` is what the connection calls this watch: what
    /// comes behind the message that repeats it is of this watch and of no other.
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::UnknownSession`], [`SessionMisuse::UnknownConnection`], [`SessionMisuse::Forbidden`],
    /// [`SessionMisuse::TooMany`].
    pub fn watch(
        &mut self,
        connection: ConnectionId,
        id: &SessionId,
        from: WatchFrom,
        tag: Name,
    ) -> Result<Watch, SessionMisuse> {
        let (session, observer) = self.both(connection, id)?;
        let Some((after, snapshot)) = session.begin(from) else {
            let end = session.log.end();
            self.unwatch(connection, id);
            return Ok(Watch::Gap { end });
        };
        let (watching, watched) = (session.observers.len(), observer.watched.len());
        let is_new = !session.observers.contains(&connection);
        let (max_observers, max_watched) = (self.config.max_observers, self.config.max_watched);
        if is_new && watching >= max_observers {
            return Err(SessionMisuse::TooMany { limit: max_observers });
        }
        if is_new && watched >= max_watched {
            return Err(SessionMisuse::TooMany { limit: max_watched });
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.observers.insert(connection);
        }
        if let Some(observer) = self.connections.get_mut(&connection) {
            observer.watched.insert(id.clone(), Feed::Begin { tag, after, snapshot });
            observer.forget_pulled(id);
        }
        Ok(Watch::From(after))
    }

    /// Has a connection watch a session no more. Not watching is no fault.
    pub fn unwatch(&mut self, connection: ConnectionId, id: &SessionId) {
        if let Some(observer) = self.connections.get_mut(&connection) {
            observer.watched.remove(id);
            observer.forget_pulled(id);
        }
        self.forget_observer(id, connection);
    }

    /// Makes a connection the owner of a session at once, whoever was before. Returns its number, by which it acts.
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::UnknownSession`], [`SessionMisuse::UnknownConnection`], [`SessionMisuse::Forbidden`].
    pub fn own(&mut self, connection: ConnectionId, id: &SessionId) -> Result<Generation, SessionMisuse> {
        self.both(connection, id)?;
        let session = self.sessions.get_mut(id).ok_or(SessionMisuse::UnknownSession)?;
        let before = session.ownership.own(connection);
        let generation = session.ownership.generation();
        // Also where it was the owner: it may have been gone since, and the session kept for whoever takes it up.
        self.hold(id, connection);
        if let Some(before) = before {
            self.on_owned(id, connection, generation, before);
        }
        Ok(generation)
    }

    /// An owner lets go of a session.
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::UnknownSession`], [`SessionMisuse::Replaced`].
    pub fn release(&mut self, id: &SessionId, generation: Generation) -> Result<(), SessionMisuse> {
        let session = self.sessions.get_mut(id).ok_or(SessionMisuse::UnknownSession)?;
        let owner = session.ownership.owner();
        if !session.ownership.release(generation) {
            return Err(SessionMisuse::Replaced);
        }
        self.events.push_back(detached(id, session, Detached::Released));
        self.let_go(id, owner);
        self.rearm(id);
        Ok(())
    }

    /// An owner goes to sleep: the end of its connection does not detach the session, for [`Config::suspended_ttl`].
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::UnknownSession`], [`SessionMisuse::Replaced`].
    pub fn suspend(&mut self, id: &SessionId, generation: Generation, now: Instant) -> Result<(), SessionMisuse> {
        let until = self.clock.advance(now) + self.config.suspended_ttl;
        let session = self.sessions.get_mut(id).ok_or(SessionMisuse::UnknownSession)?;
        let owner = session.ownership.owner();
        if !session.ownership.suspend(generation, until) {
            return Err(SessionMisuse::Replaced);
        }
        self.let_go(id, owner);
        self.rearm(id);
        Ok(())
    }

    /// A connection begins to take a session up, which takes a while. Until that is done, or has failed, or the connection is gone,
    /// the end of its owner does not detach it. Any number may do that at once: whoever is done last owns it.
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::UnknownSession`], [`SessionMisuse::UnknownConnection`], [`SessionMisuse::Forbidden`].
    pub fn begin_resume(&mut self, connection: ConnectionId, id: &SessionId) -> Result<Resume, SessionMisuse> {
        self.both(connection, id)?;
        let session = self.sessions.get_mut(id).ok_or(SessionMisuse::UnknownSession)?;
        let number = session.ownership.begin_resume(connection);
        self.hold(id, connection);
        self.rearm(id);
        Ok(Resume { session: id.clone(), number })
    }

    /// A session was taken up: the connection owns it.
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::UnknownSession`]; [`SessionMisuse::UnknownConnection`] where the connection is gone.
    pub fn finish_resume(&mut self, resume: Resume) -> Result<Generation, SessionMisuse> {
        let Resume { session: id, number } = resume;
        let session = self.sessions.get_mut(&id).ok_or(SessionMisuse::UnknownSession)?;
        if session.ownership.resuming(number).is_none() {
            return Err(SessionMisuse::UnknownConnection);
        }
        let owned = session.ownership.finish_resume(number);
        let generation = session.ownership.generation();
        match owned {
            Some((by, before)) => self.on_owned(&id, by, generation, before),
            None => self.rearm(&id),
        }
        Ok(generation)
    }

    /// Taking a session up failed, or was given up. If its owner went meanwhile, and nobody else takes it up, it is detached.
    pub fn fail_resume(&mut self, resume: Resume) {
        let Resume { session: id, number } = resume;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let by = session.ownership.resuming(number);
        if session.ownership.fail_resume(number) {
            self.events.push_back(detached(&id, session, Detached::OwnerGone));
        }
        self.let_go(&id, by);
        self.rearm(&id);
    }

    /// The next message for a connection, of the sessions that it watches in turn. `takes` says whether it would take a message of
    /// this length in the session's lane at once: what it does not take stays where it is.
    pub fn pull(&mut self, connection: ConnectionId, takes: impl Fn(&SessionId, usize) -> bool) -> Option<Pulled> {
        let observer = self.connections.get_mut(&connection).filter(|observer| observer.is_attached)?;
        let watched = &observer.watched;
        let (behind, then) = match &observer.last {
            Some(last) => (watched.range((Bound::Excluded(last), Bound::Unbounded)), Some(watched.range(..=last))),
            None => (watched.range::<SessionId, _>(..), None),
        };
        for (id, feed) in behind.chain(then.into_iter().flatten()) {
            let log = self.sessions.get(id).map(|session| &session.log);
            let Some((payload, feed)) = feed.next(log, |len| takes(id, len)) else { continue };
            let (id, is_last) = (id.clone(), feed.is_none());
            let before = match feed {
                Some(feed) => observer.watched.insert(id.clone(), feed),
                None => observer.watched.remove(&id),
            };
            observer.pulled = Some((id.clone(), before.and_then(|before| before.tag().cloned())));
            observer.last = Some(id.clone());
            if is_last {
                self.forget_observer(&id, connection);
            }
            return Some(Pulled { session: id, payload });
        }
        None
    }

    /// Lets time pass. Call it when [`Sessions::poll_timeout`] is due; calling it earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.advance(now);
        while let Some((_, id)) = self.timers.first().filter(|(at, _)| *at <= now).cloned() {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.log.expire(now);
                if session.ownership.handle_timeout(now) {
                    self.events.push_back(detached(&id, session, Detached::SuspendedTooLong));
                }
            }
            self.rearm(&id);
        }
    }

    /// The next thing that happened. Poll until there is none.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Sessions::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether a connection has a transport now. One that has lost it and may come back is not reachable.
    #[must_use]
    pub fn is_reachable(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|observer| observer.is_attached)
    }

    /// Who watches a session and can be reached.
    pub fn reachable(&self, id: &SessionId) -> impl Iterator<Item = ConnectionId> {
        let observers = self.sessions.get(id).into_iter().flat_map(|session| &session.observers);
        observers.copied().filter(|observer| self.is_reachable(*observer))
    }

    /// Whether a connection has to do with a session: it watches it, owns it or takes it up.
    #[must_use]
    pub fn is_involved(&self, connection: ConnectionId, id: &SessionId) -> bool {
        let session = self.sessions.get(id);
        session.is_some_and(|session| session.observers.contains(&connection) || session.ownership.concerns(connection))
    }

    /// Whom a session belongs to.
    #[must_use]
    pub fn principal(&self, id: &SessionId) -> Option<&Principal> {
        self.sessions.get(id).map(|session| &session.principal)
    }

    /// Who watches a session.
    #[must_use]
    pub fn observers(&self, id: &SessionId) -> usize {
        self.sessions.get(id).map_or(0, |session| session.observers.len())
    }

    /// Who drives a session.
    #[must_use]
    pub fn ownership(&self, id: &SessionId) -> Option<&Ownership> {
        self.sessions.get(id).map(|session| &session.ownership)
    }

    /// The log of a session.
    #[must_use]
    pub fn log(&self, id: &SessionId) -> Option<&Log> {
        self.sessions.get(id).map(|session| &session.log)
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// A session and a connection that may have it.
    fn both(&self, connection: ConnectionId, id: &SessionId) -> Result<(&Session, &Observer), SessionMisuse> {
        let session = self.sessions.get(id).ok_or(SessionMisuse::UnknownSession)?;
        let observer = self.connections.get(&connection).ok_or(SessionMisuse::UnknownConnection)?;
        if session.principal == observer.principal { Ok((session, observer)) } else { Err(SessionMisuse::Forbidden) }
    }

    fn check(&self, event: &Payload) -> Result<(), SessionMisuse> {
        let (len, limit) = (event.len() as u64, self.config.max_event);
        if len > limit {
            return Err(SessionMisuse::TooLarge { len, limit });
        }
        if event.is_deeper_than(MAX_DEPTH) { Err(SessionMisuse::TooDeep) } else { Ok(()) }
    }

    fn forget_observer(&mut self, id: &SessionId, connection: ConnectionId) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.observers.remove(&connection);
        }
    }

    /// Sets the timer of a session anew.
    fn rearm(&mut self, id: &SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let at = soonest([session.log.expires(), session.ownership.poll_timeout()]);
        if at != session.timer {
            if let Some(before) = core::mem::replace(&mut session.timer, at) {
                self.timers.remove(&(before, id.clone()));
            }
            self.timers.extend(at.map(|at| (at, id.clone())));
        }
    }

    fn on_owned(&mut self, id: &SessionId, by: ConnectionId, generation: Generation, before: Option<ConnectionId>) {
        self.events.push_back(Event::Owned { session: id.clone(), by, generation, before });
        self.let_go(id, before);
        self.rearm(id);
    }

    /// The connection's end concerns the session.
    fn hold(&mut self, id: &SessionId, connection: ConnectionId) {
        if let Some(observer) = self.connections.get_mut(&connection) {
            observer.held.insert(id.clone());
        }
    }

    /// It does not any more, unless the connection takes it up.
    fn let_go(&mut self, id: &SessionId, connection: Option<ConnectionId>) {
        let Some(connection) = connection else { return };
        let is_held = self.sessions.get(id).is_some_and(|session| session.ownership.concerns(connection));
        if let Some(observer) = self.connections.get_mut(&connection).filter(|_| !is_held) {
            observer.held.remove(id);
        }
    }
}

impl Observer {
    /// What was pulled last of a session is of no watch any more.
    fn forget_pulled(&mut self, id: &SessionId) {
        self.pulled.take_if(|(pulled, _)| pulled == id);
    }
}

impl Session {
    /// After what a watch begins, and with what; `None` where that is not kept any more.
    fn begin(&self, from: WatchFrom) -> Option<(Cursor, Option<Payload>)> {
        let is_kept = |after: &Cursor| self.log.after(*after) != Next::Gone;
        let snapshot = || self.snapshot.clone().filter(|(after, _)| is_kept(after));
        let with_snapshot = || snapshot().map(|(after, payload)| (after, Some(payload)));
        let plain = match from {
            WatchFrom::Now => return Some((self.log.end(), None)),
            WatchFrom::Start => Cursor { offset: Offset::ZERO, ..self.log.end() },
            WatchFrom::After(cursor) => cursor,
        };
        let plain = Some(plain).filter(is_kept).map(|after| (after, None));
        match from {
            // What a snapshot says need not be told event by event.
            WatchFrom::Start => with_snapshot().or(plain),
            WatchFrom::After(_) | WatchFrom::Now => plain.or_else(with_snapshot),
        }
    }
}

fn detached(id: &SessionId, session: &Session, why: Detached) -> Event {
    Event::Detached { session: id.clone(), generation: session.ownership.generation(), why }
}
