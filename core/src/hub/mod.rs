//! The hub of a server: its sessions and the questions in them, as connections see them.
//!
//! [`Hub`] puts [`Sessions`] and [`Broker`] together and does nothing by itself: questions become events of their session, and what
//! clients ask for ([`Call`]) is done where they may. [`Watcher`] is the other end, one for each session that a client watches.
//!
//! What clients ask for are requests ([`rpc`](crate::rpc)); what they watch comes in the lane of the session
//! ([`session`]).
//!
//! | method | parameters | result |
//! |---|---|---|
//! | `session/watch` | `session`, `tag`, `from`: a cursor, `"now"`, or nothing for the start | [`Watched`] |
//! | `session/unwatch` | `session` | `null` |
//! | `session/own` | `session` | `{"generation":1}` |
//! | `session/release`, `session/suspend` | `session`, `generation` | `null` |
//! | `permission/answer` | `requestId`, `decision`, `updatedInput` | `{"duplicate":false}` |
//! | `permission/look` | `requestId`, `looking` | `null` |

mod call;
mod watcher;

use alloc::collections::BTreeSet;
use alloc::collections::VecDeque;
use alloc::string::ToString;

use core::time::Duration;

use crate::deadline::soonest;
use crate::id::ConnectionId;
use crate::id::Epoch;
use crate::id::Principal;
use crate::id::SessionId;
use crate::messages::PermissionId;
use crate::messages::PermissionRequest;
use crate::permission::AnswerError;
use crate::permission::Broker;
use crate::permission::BrokerConfig;
use crate::permission::BrokerOutput;
use crate::permission::BrokerStats;
use crate::permission::PermissionMisuse;
use crate::permission::Verdict;
use crate::rpc::ErrorObject;
use crate::session;
use crate::session::Kind;
use crate::session::Offset;
use crate::session::Pulled;
use crate::session::SessionMisuse;
use crate::session::Sessions;
use crate::session::Watch;
use crate::time::Clock;
use crate::time::Instant;
use crate::wire::Payload;

pub use self::call::Call;
pub use self::call::Watched;
pub use self::call::read_generation;
pub use self::call::write_generation;
pub use self::watcher::CallNo;
pub use self::watcher::Ended;
pub use self::watcher::Watcher;
pub use self::watcher::WatcherEvent;
pub use self::watcher::WatcherOutput;

/// What a hub may hold, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// Of the sessions.
    pub sessions: session::Config,
    /// Of the questions in them.
    pub permissions: BrokerConfig,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// To a session.
    Session(session::Event),
    /// A question was decided. This is told once for each.
    Decided {
        /// Which question.
        id: PermissionId,
        /// What was decided.
        verdict: Verdict,
    },
    /// A session has ended. There is something to [pull](Hub::pull) for those who watched it.
    Ended {
        /// Which session.
        session: SessionId,
        /// Who watched it.
        observers: BTreeSet<ConnectionId>,
    },
    /// There is something to [pull](Hub::pull) for whoever watches a session.
    Published {
        /// Which session.
        session: SessionId,
    },
}

/// The sessions of a server and the questions in them.
///
/// *Getters* take `&self`. `handle_*` take in what happened to connections, what they ask for, and time. *Commands* fail only for
/// the caller's own faults. `poll_*` say what happened, and when to come back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hub {
    clock: Clock,
    sessions: Sessions,
    broker: Broker,
    events: VecDeque<Event>,
}

impl Hub {
    /// Without sessions.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            clock: Clock::new(now),
            sessions: Sessions::new(config.sessions, now),
            broker: Broker::new(config.permissions, now),
            events: VecDeque::new(),
        }
    }

    /// A connection has a transport, for the first time or again.
    pub fn handle_attached(&mut self, connection: ConnectionId, principal: &Principal) {
        self.sessions.handle_attached(connection, principal);
    }

    /// A connection has lost its transport: it cannot be reached, and looks at nothing.
    pub fn handle_detached(&mut self, connection: ConnectionId, now: Instant) {
        self.sessions.handle_detached(connection);
        self.broker.handle_away(connection);
        self.route(now);
    }

    /// A connection begins another epoch, and has to watch again.
    pub fn handle_epoch_ended(&mut self, connection: ConnectionId) {
        self.sessions.handle_epoch_ended(connection);
        self.broker.handle_away(connection);
        self.route(self.clock.now());
    }

    /// A connection is gone for good.
    pub fn handle_gone(&mut self, connection: ConnectionId, now: Instant) {
        self.sessions.handle_gone(connection);
        self.broker.handle_away(connection);
        self.route(now);
    }

    /// Something was pulled for a connection and could not be sent. It is told of a gap.
    pub fn handle_unsent(&mut self, connection: ConnectionId, session: &SessionId) {
        self.sessions.handle_unsent(connection, session);
    }

    /// Serves a request of a connection. `None` where the method is not a hub's.
    pub fn handle_request(
        &mut self,
        connection: ConnectionId,
        method: &str,
        params: Option<&Payload>,
        now: Instant,
    ) -> Option<Result<Payload, ErrorObject>> {
        let now = self.clock.advance(now);
        let served = Call::read(method, params)?
            .map_err(|error| {
                if Call::is_answer(method) {
                    self.broker.handle_refused(None);
                }
                ErrorObject::new(ErrorObject::INVALID_PARAMS, error.to_string())
            })
            .and_then(|call| self.serve(connection, call, now));
        self.route(now);
        Some(served)
    }

    /// Begins a session of a principal. `epoch` is random, and names this life of its log.
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::SessionExists`], [`SessionMisuse::TooMany`].
    pub fn create(&mut self, id: SessionId, principal: Principal, epoch: Epoch) -> Result<(), SessionMisuse> {
        self.sessions.create(id, principal, epoch)
    }

    /// Ends a session. Its questions are denied, and whoever watches it is told.
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::UnknownSession`].
    pub fn remove(&mut self, id: &SessionId, now: Instant) -> Result<(), SessionMisuse> {
        let now = self.clock.advance(now);
        if self.sessions.log(id).is_none() {
            return Err(SessionMisuse::UnknownSession);
        }
        self.broker.end_session(id, now);
        self.route(now);
        let observers = self.sessions.remove(id)?;
        self.events.push_back(Event::Ended { session: id.clone(), observers });
        Ok(())
    }

    /// Adds an event to a session. Returns its number.
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::UnknownSession`], [`SessionMisuse::TooLarge`], [`SessionMisuse::TooDeep`].
    pub fn publish(&mut self, id: &SessionId, event: &Payload, now: Instant) -> Result<Offset, SessionMisuse> {
        let now = self.clock.advance(now);
        let offset = self.sessions.append(id, Kind::Application, event, now)?;
        self.events.push_back(Event::Published { session: id.clone() });
        Ok(offset)
    }

    /// Says what everything in a session up to now amounts to: see [`Sessions::set_snapshot`].
    ///
    /// # Errors
    ///
    /// As [`Hub::publish`].
    pub fn set_snapshot(&mut self, id: &SessionId, snapshot: Payload) -> Result<(), SessionMisuse> {
        self.sessions.set_snapshot(id, snapshot)
    }

    /// Asks the people who watch a session. It is decided within `timeout`, or within the configured one.
    ///
    /// # Errors
    ///
    /// [`PermissionMisuse`].
    pub fn ask(
        &mut self,
        session: &SessionId,
        request: PermissionRequest,
        timeout: Option<Duration>,
        now: Instant,
    ) -> Result<(), PermissionMisuse> {
        let now = self.clock.advance(now);
        if self.sessions.log(session).is_none() {
            return Err(PermissionMisuse::UnknownSession);
        }
        self.broker.ask(session.clone(), request, timeout, now)?;
        self.route(now);
        Ok(())
    }

    /// Whoever asked does not want to know any more. It is denied.
    ///
    /// # Errors
    ///
    /// [`PermissionMisuse::NotOpen`].
    pub fn cancel(&mut self, id: &PermissionId, now: Instant) -> Result<(), PermissionMisuse> {
        let now = self.clock.advance(now);
        self.broker.cancel(id, now)?;
        self.route(now);
        Ok(())
    }

    /// The next message for a connection: see [`Sessions::pull`].
    pub fn pull(&mut self, connection: ConnectionId, takes: impl Fn(&SessionId, usize) -> bool) -> Option<Pulled> {
        self.sessions.pull(connection, takes)
    }

    /// Lets time pass. Call it when [`Hub::poll_timeout`] is due; calling it earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.advance(now);
        self.sessions.handle_timeout(now);
        self.broker.handle_timeout(now);
        self.route(now);
    }

    /// The next thing that happened. Poll until there is none.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| self.sessions.poll_event().map(Event::Session))
    }

    /// When to call [`Hub::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        soonest([self.sessions.poll_timeout(), self.broker.poll_timeout()])
    }

    /// The sessions, to look at.
    #[must_use]
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The sessions, for what only the application does: to take one up ([`Sessions::begin_resume`]) and to own one for somebody.
    pub const fn sessions_mut(&mut self) -> &mut Sessions {
        &mut self.sessions
    }

    /// The questions, to look at.
    #[must_use]
    pub const fn broker(&self) -> &Broker {
        &self.broker
    }

    /// What was counted of the questions, and of the answers to them.
    #[must_use]
    pub const fn question_stats(&self) -> BrokerStats {
        self.broker.stats()
    }

    fn serve(&mut self, connection: ConnectionId, call: Call, now: Instant) -> Result<Payload, ErrorObject> {
        let done = |()| Payload::of_known_parts("null");
        match call {
            Call::Watch { session, from, tag } => {
                let watch = self.sessions.watch(connection, &session, from, tag).map_err(call::session_error)?;
                let end = self.sessions.log(&session).map(session::Log::end);
                let (after, end) = match watch {
                    Watch::From(after) => (Some(after), end.unwrap_or(after)),
                    Watch::Gap { end } => (None, end),
                };
                let (pending, processing) = self.broker.status(&session);
                let permissions = self.broker.open(&session, now).collect();
                Ok(Watched { after, end, permissions, pending, processing }.write())
            }
            Call::Unwatch { session } => {
                self.sessions.unwatch(connection, &session);
                self.forget_looks(&session);
                Ok(done(()))
            }
            Call::Own { session } => {
                let owned = self.sessions.own(connection, &session);
                self.forget_looks(&session);
                owned.map(write_generation).map_err(call::session_error)
            }
            Call::Release { session, generation } => {
                self.may_have(connection, &session)?;
                let released = self.sessions.release(&session, generation);
                self.forget_looks(&session);
                released.map(done).map_err(call::session_error)
            }
            Call::Suspend { session, generation } => {
                self.may_have(connection, &session)?;
                let suspended = self.sessions.suspend(&session, generation, now);
                self.forget_looks(&session);
                suspended.map(done).map_err(call::session_error)
            }
            Call::Answer(response) => {
                let may_answer = self.may_answer(connection, &response.request_id).map_err(|error| {
                    self.broker.handle_refused(Some(&error));
                    call::answer_error(error)
                })?;
                let answered = self.broker.answer(connection, may_answer, response, now);
                let duplicate = answered.map_err(call::answer_error)?.is_duplicate;
                Ok(Payload::of_known_parts(&alloc::format!("{{\"duplicate\":{duplicate}}}")))
            }
            Call::Look { request_id, is_looking } => {
                if !self.may_answer(connection, &request_id).map_err(call::answer_error)? {
                    return Err(call::answer_error(AnswerError::Forbidden));
                }
                // Who has gone since says so again after it has come back.
                let is_looking = is_looking && self.sessions.is_reachable(connection);
                // A question that was decided meanwhile is looked at by nobody.
                _ = self.broker.look(connection, &request_id, is_looking);
                Ok(done(()))
            }
        }
    }

    /// The owner of a session is the only one who may let it go; another connection of its principal takes it over instead.
    fn may_have(&self, connection: ConnectionId, session: &SessionId) -> Result<(), ErrorObject> {
        let owner = self.sessions.ownership(session).map(|ownership| ownership.owner());
        match owner {
            None => Err(call::session_error(SessionMisuse::UnknownSession)),
            Some(owner) if owner == Some(connection) => Ok(()),
            Some(_) => Err(call::session_error(SessionMisuse::Replaced)),
        }
    }

    /// Who watches or owns a session may answer what is asked in it. Of a session that has ended nobody knows who that was.
    fn may_answer(&self, connection: ConnectionId, id: &PermissionId) -> Result<bool, AnswerError> {
        let session = self.broker.session_of(id).filter(|session| self.sessions.log(session).is_some());
        session.map(|session| self.sessions.is_involved(connection, session)).ok_or(AnswerError::UnknownRequest)
    }

    /// Who has nothing to do with a session any more looks at none of its questions.
    fn forget_looks(&mut self, session: &SessionId) {
        self.broker.retain_looking(session, |connection| self.sessions.is_involved(connection, session));
    }

    /// Has the broker's messages told in their sessions.
    fn route(&mut self, now: Instant) {
        while let Some(output) = self.broker.poll_output() {
            match output {
                BrokerOutput::Publish { session, message } => {
                    // One that has ended has nobody who would be told.
                    _ = self.sessions.append(&session, Kind::Permission, &message.write(), now);
                    self.events.push_back(Event::Published { session });
                }
                BrokerOutput::Decided { id, verdict } => self.events.push_back(Event::Decided { id, verdict }),
            }
        }
    }
}
