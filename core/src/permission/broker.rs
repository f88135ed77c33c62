//! The broker: where a program asks, and the first valid answer wins.
//!
//! ```text
//!  ask ---> open ---- answer (the first) ----> decided: allowed or denied
//!             |------ time is over ----------> decided: denied
//!             '------ cancel, session ends --> decided: denied
//! ```

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;

use core::time::Duration;

use sha2::Digest;
use sha2::Sha256;

use crate::deadline::soonest;
use crate::expiring::ExpiringMap;
use crate::id::ConnectionId;
use crate::id::SessionId;
use crate::messages::Choice;
use crate::messages::MAX_TEXT;
use crate::messages::PermissionId;
use crate::messages::PermissionMessage;
use crate::messages::PermissionRequest;
use crate::messages::PermissionResponse;
use crate::permission::config::BrokerConfig;
use crate::permission::event::AnswerError;
use crate::permission::event::Answered;
use crate::permission::event::BrokerOutput;
use crate::permission::event::DenyReason;
use crate::permission::event::MAX_DEPTH;
use crate::permission::event::PermissionMisuse;
use crate::permission::event::Verdict;
use crate::permission::stats::BrokerStats;
use crate::time::Clock;
use crate::time::Instant;

/// The questions of a server's sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broker {
    clock: Clock,
    config: BrokerConfig,
    /// With the times at which they are denied.
    open: ExpiringMap<PermissionId, Open>,
    /// The open ones of each session, in the order in which they were asked.
    by_session: BTreeMap<SessionId, Vec<PermissionId>>,
    /// What became of the others, and of which session they were, as long as that is known.
    decided: ExpiringMap<PermissionId, (Option<SessionId>, Decided)>,
    stats: BrokerStats,
    outputs: VecDeque<BrokerOutput>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Open {
    session: SessionId,
    request: PermissionRequest,
    /// Who looks at it.
    looking: BTreeSet<ConnectionId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Decided {
    /// With the fingerprint of the input, where it was another than was asked for.
    By(ConnectionId, bool, Option<[u8; 32]>),
    TimedOut,
    Cancelled,
}

impl Broker {
    /// No questions.
    #[must_use]
    pub fn new(config: BrokerConfig, now: Instant) -> Self {
        Self {
            clock: Clock::new(now),
            config,
            open: ExpiringMap::default(),
            by_session: BTreeMap::new(),
            decided: ExpiringMap::default(),
            stats: BrokerStats::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Asks. It is decided within `timeout`, or within the configured one. What the request says of the time that remains is
    /// replaced.
    ///
    /// # Errors
    ///
    /// [`PermissionMisuse::IdInUse`], [`PermissionMisuse::TooMany`].
    pub fn ask(
        &mut self,
        session: SessionId,
        request: PermissionRequest,
        timeout: Option<Duration>,
        now: Instant,
    ) -> Result<(), PermissionMisuse> {
        let now = self.clock.advance(now);
        let (id, limit) = (request.id.clone(), self.config.max_open);
        if self.open.get(&id).is_some() || self.decided.get(&id).is_some() {
            return Err(PermissionMisuse::IdInUse);
        }
        let of_session = self.by_session.get(&session).map_or(&[][..], |ids| ids);
        if of_session.len() >= limit {
            return Err(PermissionMisuse::TooMany { limit });
        }
        let held = of_session.iter().filter_map(|id| self.open.get(id)).map(|open| size(&open.request)).sum::<u64>();
        if request.tool_name.len().max(request.timestamp.len()) > MAX_TEXT {
            return Err(PermissionMisuse::TextTooLong);
        }
        if request.input.is_deeper_than(MAX_DEPTH) || request.context.is_deeper_than(MAX_DEPTH) {
            return Err(PermissionMisuse::TooDeep);
        }
        if held + size(&request) > self.config.max_bytes {
            return Err(PermissionMisuse::TooLarge { limit: self.config.max_bytes });
        }
        self.by_session.entry(session.clone()).or_default().push(id.clone());
        let expires = now + timeout.unwrap_or(self.config.timeout);
        let request = PermissionRequest { remaining: Some(expires - now), ..request };
        let message = PermissionMessage::Request(request.clone());
        self.stats.asked += 1;
        self.open.insert(id, Open { session: session.clone(), request, looking: BTreeSet::new() }, expires);
        self.publish(session.clone(), message);
        self.publish_status(session);
        Ok(())
    }

    /// Somebody answers. `may_answer` says whether they may: who asks that knows the session, by [`Broker::session_of`].
    ///
    /// # Errors
    ///
    /// [`AnswerError`]. What had been decided stands then.
    pub fn answer(
        &mut self,
        by: ConnectionId,
        may_answer: bool,
        response: PermissionResponse,
        now: Instant,
    ) -> Result<Answered, AnswerError> {
        let answered = self.take(by, may_answer, response, now);
        match &answered {
            Ok(Answered { is_duplicate }) => self.stats.duplicates += u64::from(*is_duplicate),
            Err(error) => self.stats.count_refused(error),
        }
        answered
    }

    /// An answer was refused without being shown to the broker. It is only counted; without an error it made no sense at all.
    pub const fn handle_refused(&mut self, error: Option<&AnswerError>) {
        match error {
            Some(error) => self.stats.count_refused(error),
            None => self.stats.malformed += 1,
        }
    }

    fn take(
        &mut self,
        by: ConnectionId,
        may_answer: bool,
        response: PermissionResponse,
        now: Instant,
    ) -> Result<Answered, AnswerError> {
        let now = self.clock.advance(now);
        let PermissionResponse { request_id: id, choice } = response;
        if let Some((_, decided)) = self.decided.get(&id) {
            return match decided {
                _ if !may_answer => Err(AnswerError::Forbidden),
                decided if *decided == Decided::by(by, &choice) => Ok(Answered { is_duplicate: true }),
                Decided::By(by, is_allowed, _) => {
                    Err(AnswerError::AlreadyResolved { is_allowed: *is_allowed, by: *by })
                }
                Decided::TimedOut => Err(AnswerError::Expired),
                Decided::Cancelled => Err(AnswerError::Cancelled),
            };
        }
        let expires = self.open.expires(&id).ok_or(AnswerError::UnknownRequest)?;
        if !may_answer {
            return Err(AnswerError::Forbidden);
        }
        // A timer that is late makes nobody's answer early. At the very time it is the order that counts.
        if expires < now {
            self.time_out(&id);
            return Err(AnswerError::Expired);
        }
        let is_allowed = choice.is_allow();
        let Some(open) = self.decide(&id, Decided::by(by, &choice)) else { return Err(AnswerError::UnknownRequest) };
        let verdict = match choice {
            Choice::Allow { updated_input } => {
                Verdict::Allow { input: updated_input.unwrap_or(open.request.input), by }
            }
            Choice::Deny => Verdict::Deny(DenyReason::Denied { by }),
        };
        self.outputs.push_back(BrokerOutput::Decided { id: id.clone(), verdict });
        let resolved = PermissionMessage::Resolved { request_id: id, is_allowed, by: Some(by.to_string()) };
        self.publish(open.session.clone(), resolved);
        self.publish_status(open.session);
        Ok(Answered { is_duplicate: false })
    }

    /// Somebody looks at a question, or no longer does.
    ///
    /// # Errors
    ///
    /// [`PermissionMisuse::NotOpen`].
    pub fn look(&mut self, by: ConnectionId, id: &PermissionId, is_looking: bool) -> Result<(), PermissionMisuse> {
        let open = self.open.get_mut(id).ok_or(PermissionMisuse::NotOpen)?;
        let before = open.looking.is_empty();
        _ = if is_looking { open.looking.insert(by) } else { open.looking.remove(&by) };
        if before != open.looking.is_empty() {
            let session = open.session.clone();
            self.publish_status(session);
        }
        Ok(())
    }

    /// A connection is gone, or out of reach: it looks at nothing.
    pub fn handle_away(&mut self, connection: ConnectionId) {
        let ids: Vec<_> = self.open.iter().filter(|(_, open)| open.looking.contains(&connection)).collect();
        for id in ids.into_iter().map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            _ = self.look(connection, &id, false);
        }
    }

    /// Only these look at the questions of a session: the others have nothing to do with it any more.
    pub fn retain_looking(&mut self, session: &SessionId, is_involved: impl Fn(ConnectionId) -> bool) {
        let of_session = self.by_session.get(session).into_iter().flatten();
        let looking = of_session.filter_map(|id| self.open.get(id).map(|open| (id, &open.looking)));
        let away = looking.flat_map(|(id, looking)| looking.iter().map(move |by| (*by, id.clone())));
        for (by, id) in away.filter(|(by, _)| !is_involved(*by)).collect::<Vec<_>>() {
            _ = self.look(by, &id, false);
        }
    }

    /// Whoever asked does not want to know any more. It is denied.
    ///
    /// # Errors
    ///
    /// [`PermissionMisuse::NotOpen`].
    pub fn cancel(&mut self, id: &PermissionId, now: Instant) -> Result<(), PermissionMisuse> {
        self.clock.advance(now);
        let open = self.decide(id, Decided::Cancelled).ok_or(PermissionMisuse::NotOpen)?;
        let verdict = Verdict::Deny(DenyReason::Cancelled);
        self.outputs.push_back(BrokerOutput::Decided { id: id.clone(), verdict });
        self.publish(open.session.clone(), PermissionMessage::Cancelled { request_id: id.clone() });
        self.publish_status(open.session);
        Ok(())
    }

    /// A session has ended, and all its questions with it. Each is denied.
    pub fn end_session(&mut self, session: &SessionId, now: Instant) {
        for id in self.by_session.get(session).cloned().unwrap_or_default() {
            _ = self.cancel(&id, now);
        }
        // The next session of this name may be somebody else's, who is not to learn what was decided in this one.
        let is_of_session = |of: &Option<SessionId>| of.as_ref() == Some(session);
        let of_session = self.decided.iter().filter(|(_, (of, _))| is_of_session(of)).map(|(id, _)| id.clone());
        for id in of_session.collect::<Vec<_>>() {
            if let Some((of, _)) = self.decided.get_mut(&id) {
                *of = None;
            }
        }
    }

    /// Lets time pass. Call it when [`Broker::poll_timeout`] is due; calling it earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.advance(now);
        while let Some(id) = self.open.first_expired(now).map(|(id, _)| id.clone()) {
            self.time_out(&id);
        }
        while self.decided.take_expired(now).is_some() {}
    }

    /// The next thing to do. Poll until there is none.
    pub fn poll_output(&mut self) -> Option<BrokerOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Broker::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        soonest([self.open.poll_timeout(), self.decided.poll_timeout()])
    }

    /// The session that a question belongs to, while that is known and the session goes on.
    #[must_use]
    pub fn session_of(&self, id: &PermissionId) -> Option<&SessionId> {
        let open = self.open.get(id).map(|open| &open.session);
        open.or_else(|| self.decided.get(id).and_then(|(session, _)| session.as_ref()))
    }

    /// The open questions of a session, in the order in which they were asked, with the time that is left: for somebody who comes
    /// back, or comes late.
    pub fn open(&self, session: &SessionId, now: Instant) -> impl Iterator<Item = PermissionRequest> {
        let now = now.max(self.clock.now());
        let ids = self.by_session.get(session).into_iter().flatten();
        ids.filter_map(move |id| {
            let remaining = self.open.expires(id).map(|at| at.max(now) - now);
            self.open.get(id).map(|open| PermissionRequest { remaining, ..open.request.clone() })
        })
    }

    /// How many questions are open, in all sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.len() == 0
    }

    /// What was counted.
    #[must_use]
    pub const fn stats(&self) -> BrokerStats {
        self.stats
    }

    /// How many questions of a session nobody looks at, and somebody does.
    #[must_use]
    pub fn status(&self, session: &SessionId) -> (u64, u64) {
        let ids = self.by_session.get(session).into_iter().flatten();
        let open = ids.filter_map(|id| self.open.get(id));
        open.fold((0, 0), |(pending, processing), open| match open.looking.is_empty() {
            true => (pending + 1, processing),
            false => (pending, processing + 1),
        })
    }

    fn time_out(&mut self, id: &PermissionId) {
        let Some(open) = self.decide(id, Decided::TimedOut) else { return };
        let verdict = Verdict::Deny(DenyReason::TimedOut);
        self.outputs.push_back(BrokerOutput::Decided { id: id.clone(), verdict });
        let tool_name = open.request.tool_name;
        self.publish(open.session.clone(), PermissionMessage::Timeout { request_id: id.clone(), tool_name });
        self.publish_status(open.session);
    }

    /// A question is open no more.
    fn decide(&mut self, id: &PermissionId, decided: Decided) -> Option<Open> {
        let open = self.open.remove(id)?;
        match decided {
            Decided::By(_, true, _) => self.stats.allowed += 1,
            Decided::By(_, false, _) => self.stats.denied += 1,
            Decided::TimedOut => self.stats.timed_out += 1,
            Decided::Cancelled => self.stats.cancelled += 1,
        }
        if let Some(of_session) = self.by_session.get_mut(&open.session) {
            of_session.retain(|other| other != id);
            if of_session.is_empty() {
                self.by_session.remove(&open.session);
            }
        }
        let expires = self.clock.now() + self.config.remembered;
        self.decided.insert(id.clone(), (Some(open.session.clone()), decided), expires);
        while self.decided.len() > self.config.max_remembered {
            self.decided.take_soonest();
        }
        Some(open)
    }

    fn publish(&mut self, session: SessionId, message: PermissionMessage) {
        self.outputs.push_back(BrokerOutput::Publish { session, message });
    }

    fn publish_status(&mut self, session: SessionId) {
        let (pending, processing) = self.status(&session);
        self.publish(session, PermissionMessage::QueueStatus { pending, processing });
    }
}

impl Decided {
    fn by(by: ConnectionId, choice: &Choice) -> Self {
        let input = match choice {
            Choice::Allow { updated_input } => updated_input.as_ref(),
            Choice::Deny => None,
        };
        Self::By(by, choice.is_allow(), input.map(|input| Sha256::digest(input.as_str()).into()))
    }
}

/// What a question takes, but for its names.
fn size(request: &PermissionRequest) -> u64 {
    (request.input.len() + request.context.len()) as u64
}
