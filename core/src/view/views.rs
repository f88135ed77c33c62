//! The machine behind the views.

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::chat::ChatMisuse;
use crate::chat::ChatStreams;
use crate::chat::Ended;
use crate::chat::Received;
use crate::chat::Stream;
use crate::chat::StreamKey;
use crate::deadline::soonest;
use crate::id::MessageId;
use crate::id::SessionId;
use crate::messages::ChatResponse;
use crate::messages::ChatStream;
use crate::messages::ServerEvent;
use crate::messages::StreamEnd;
use crate::outcome::Failure;
use crate::outcome::SendFailed;
use crate::permission::Dialogs;
use crate::time::Clock;
use crate::time::Instant;
use crate::view::config::ViewConfig;
use crate::view::event::SendError;
use crate::view::event::SendProblem;
use crate::view::event::SessionView;
use crate::view::session::Session;
use crate::view::session::Shown;

/// What people see of each session.
///
/// Getters: [`view`](Self::view), [`error_of`](Self::error_of), [`sessions`](Self::sessions), [`streams`](Self::streams).
/// What happened: `handle_*`, [`sync_dialogs`](Self::sync_dialogs), [`resync`](Self::resync). Commands:
/// [`expect_reply`](Self::expect_reply), [`forget`](Self::forget). Then: [`poll_changed`](Self::poll_changed), until there is
/// none, and [`poll_timeout`](Self::poll_timeout).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionViews {
    clock: Clock,
    config: ViewConfig,
    is_attached: bool,
    sessions: BTreeMap<SessionId, Session>,
    /// The session of each message that a session has; nothing else.
    session_of: BTreeMap<MessageId, SessionId>,
    /// Only of sessions that are known.
    streams: ChatStreams,
    /// How many texts had gone to make room for others when that was last looked at.
    dropped: u64,
    /// Those that look different from when they were last polled.
    changed: BTreeSet<SessionId>,
    happened: u64,
}

impl SessionViews {
    /// No sessions, and no connection yet.
    #[must_use]
    pub const fn new(config: ViewConfig, now: Instant) -> Self {
        Self {
            clock: Clock::new(now),
            config,
            is_attached: false,
            sessions: BTreeMap::new(),
            session_of: BTreeMap::new(),
            streams: ChatStreams::new(config.chat),
            dropped: 0,
            changed: BTreeSet::new(),
            happened: 0,
        }
    }

    /// The connection is attached. Where it did not resume, the server has lost what it was working on. No error goes by that:
    /// whether a message arrives is not known yet.
    ///
    /// Sessions that a [`Watcher`](crate::hub::Watcher) follows outlive a connection that did not resume, and the other way round.
    /// They are told apart by their epochs: pass `true` for them, and [`resync`](Self::resync) where the epoch is another one.
    pub fn handle_attached(&mut self, resumed: bool) {
        self.is_attached = true;
        if !resumed {
            self.streams.handle_lost();
            self.sessions.values_mut().for_each(Session::rest);
        }
        self.refresh_all();
    }

    /// The connection is detached. Of whether a session works nothing is known then.
    pub fn handle_detached(&mut self) {
        self.is_attached = false;
        self.refresh_all();
    }

    /// A message was accepted for sending. What was wrong before it in its session is of no more interest.
    pub fn handle_accepted(&mut self, message: MessageId, session: &SessionId, now: Instant) {
        let now = self.clock.advance(now);
        let until = self.is_attached.then(|| now + self.config.patience);
        let limit = self.config.max_messages;
        // What is sent again under its id is sent anew.
        self.handle_delivered(message);
        let state = self.local(session);
        let failed: Vec<_> = state.failed().collect();
        let oldest = state.accept(message, until, limit);
        self.session_of.insert(message, session.clone());
        for gone in failed.into_iter().chain(oldest) {
            self.session_of.remove(&gone);
        }
        self.refresh(session);
    }

    /// A message was not accepted: too many are waiting.
    pub fn handle_refused(&mut self, session: &SessionId) {
        self.local(session).refuse();
        self.refresh(session);
    }

    /// A message was delivered.
    pub fn handle_delivered(&mut self, message: MessageId) {
        let Some(session) = self.session_of.remove(&message) else { return };
        self.with(&session, |state| state.deliver(message));
    }

    /// The other side has a message, and has not decided about it for a while.
    pub fn handle_delayed(&mut self, message: MessageId) {
        self.fail(message, SendProblem::Undecided);
    }

    /// A message failed, for now or for good.
    pub fn handle_send_failed(&mut self, failed: &SendFailed) {
        let problem = match &failed.failure {
            Failure::ForNow { .. } => SendProblem::Retrying,
            Failure::ForGood(outcome) => SendProblem::Failed(outcome.clone()),
        };
        self.fail(failed.id, problem);
    }

    /// The server tells something. What belongs to no session changes no view.
    pub fn handle_event(&mut self, event: &ServerEvent) {
        match event {
            ServerEvent::MessageStart { session_id } => {
                if self.make(session_id, false).is_none() {
                    return;
                }
                let key = StreamKey { session: session_id.clone(), in_reply_to: None };
                // What began before has ended where something else begins.
                _ = self.streams.take(&key);
                // Where too many are open its text is not collected; that it works is known all the same.
                _ = self.streams.begin(key);
                self.with(session_id, Session::run);
            }
            ServerEvent::BlockDelta { session_id, delta } => {
                // Where there is no room for more the session works on all the same, until it is told that it does not.
                match self.streams.handle_piece(session_id, delta) {
                    Received::Added | Received::TooLong => self.with(session_id, Session::run),
                    Received::Ended | Received::AfterEnd | Received::Unknown | Received::Ambiguous => {}
                }
            }
            ServerEvent::SessionEnd { session_id, error } => {
                let end = match error {
                    Some(error) => StreamEnd::Failed { error: error.clone() },
                    None => StreamEnd::Complete,
                };
                self.streams.handle_session_ended(session_id, &Ended::Told(end));
                self.with(session_id, Session::rest);
            }
            ServerEvent::SessionId { .. } | ServerEvent::Global(_) => {}
        }
    }

    /// A piece of an answer came, or its end. Returns what became of it.
    pub fn handle_stream(&mut self, message: &ChatStream, now: Instant) -> Received {
        let until = self.clock.advance(now) + self.config.patience;
        let session = &message.session_id;
        let received = self.streams.handle_message(message);
        let of_session = self.streams.of_session(session).into_iter();
        let open: Vec<_> = of_session.filter(|(_, _, stream)| stream.end().is_none()).collect();
        let (is_said, is_expected) = (open.iter().any(|(_, _, stream)| !stream.text().is_empty()), !open.is_empty());
        match received {
            Received::Added => self.with(session, Session::run),
            // With the last answer that is open the session works no more. What had no room is not followed to its end.
            Received::Ended | Received::TooLong if is_said => self.with(session, Session::run),
            Received::Ended | Received::TooLong if is_expected => self.with(session, |state| state.expect(until)),
            Received::Ended | Received::TooLong => self.with(session, Session::rest),
            // What was not taken says nothing about whether the session works.
            Received::AfterEnd | Received::Unknown | Received::Ambiguous => {}
        }
        received
    }

    /// A whole answer came. Returns what became of it.
    pub fn handle_response(&mut self, message: &ChatResponse, now: Instant) -> Received {
        let ChatResponse { session_id, in_reply_to, message } = message.clone();
        let end = Some(StreamEnd::Complete);
        self.handle_stream(&ChatStream { session_id, in_reply_to, delta: message, end }, now)
    }

    /// Takes in a session's dialogs, after any of them has changed. Those of other sessions are not looked at, whoever keeps them.
    pub fn sync_dialogs(&mut self, session: &SessionId, dialogs: &Dialogs) {
        let count = dialogs.dialogs().into_iter().filter(|(_, dialog)| dialog.session == *session).count();
        let is_new = !self.sessions.contains_key(session);
        if is_new && count == 0 {
            return;
        }
        if let Some(state) = self.make(session, false) {
            state.dialogs = count;
        }
        self.refresh(session);
    }

    /// Takes in where a session stands, after something of it was missed: whether it works, and the text that it works on.
    pub fn resync(&mut self, session: &SessionId, is_running: bool, text: Option<(StreamKey, Stream)>) {
        if self.make(session, false).is_none() {
            return;
        }
        self.streams.forget(session);
        if let Some((key, stream)) = text.filter(|(key, _)| key.session == *session) {
            // Where there is no room for it, its text is not collected.
            _ = self.streams.put(key, stream);
        }
        self.with(session, if is_running { Session::run } else { Session::rest });
    }

    /// Lets time pass. Call it when [`SessionViews::poll_timeout`] is due; calling it earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.advance(now);
        self.sessions.values_mut().for_each(|state| state.handle_timeout(now));
        self.refresh_all();
    }

    /// An answer to a request is expected, in pieces or whole.
    ///
    /// # Errors
    ///
    /// As [`ChatStreams::begin`].
    pub fn expect_reply(&mut self, key: StreamKey) -> Result<(), ChatMisuse> {
        let session = key.session.clone();
        self.local(&session);
        self.streams.begin(key)?;
        self.refresh(&session);
        Ok(())
    }

    /// Forgets a session that nobody looks at any more.
    pub fn forget(&mut self, session: &SessionId) {
        self.remove(session);
        self.changed.remove(session);
    }

    /// The next session that looks different. Poll until there is none.
    pub fn poll_changed(&mut self) -> Option<SessionId> {
        self.changed.pop_first()
    }

    /// When to call [`SessionViews::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        soonest(self.sessions.values().map(Session::poll_timeout))
    }

    /// What people see of a session. Of one that is not known that is nothing.
    #[must_use]
    pub fn view(&self, session: &SessionId) -> SessionView<'_> {
        let state = self.sessions.get(session);
        let running = state.is_some_and(|state| state.is_running(self.is_attached));
        let problems = state.into_iter().flat_map(Session::problems);
        let errors: Vec<_> = problems.map(|(message, problem)| error(session, message, problem)).collect();
        let (send_errors, hidden_errors) = if running { (Vec::new(), errors.len()) } else { (errors, 0) };
        let last = state.and_then(|_| self.streams.of_session(session).pop());
        let (text, ended) = last.map_or(("", None), |(_, _, stream)| (stream.text(), stream.end()));
        let dialogs = state.map_or(0, |state| state.dialogs);
        SessionView { running, send_errors, hidden_errors, dialogs, text, ended }
    }

    /// What is wrong with a message, whatever its session does.
    #[must_use]
    pub fn error_of(&self, message: MessageId) -> Option<SendError> {
        let session = self.session_of.get(&message)?;
        let mut problems = self.sessions.get(session)?.problems();
        let (id, problem) = problems.find(|(id, _)| *id == Some(message))?;
        Some(error(session, id, problem))
    }

    /// The sessions that are known.
    pub fn sessions(&self) -> impl Iterator<Item = &SessionId> {
        self.sessions.keys()
    }

    /// What is said, with all that is kept of it.
    #[must_use]
    pub const fn streams(&self) -> &ChatStreams {
        &self.streams
    }

    fn fail(&mut self, message: MessageId, problem: SendProblem) {
        let Some(session) = self.session_of.get(&message).cloned() else { return };
        self.with(&session, |state| state.fail(message, problem));
    }

    /// The state of a session in which something is sent. There is always room for that.
    fn local(&mut self, session: &SessionId) -> &mut Session {
        self.make(session, true).expect("what is forced has room")
    }

    /// The state of a session, made where there is none. Where there are too many, the one goes that can be missed and in which
    /// nothing has happened for longest; where none can be missed, another only if `is_forced`.
    fn make(&mut self, session: &SessionId, is_forced: bool) -> Option<&mut Session> {
        self.happened += 1;
        if !self.sessions.contains_key(session) && self.sessions.len() >= self.config.max_sessions.max(1) {
            let can_go = self.sessions.iter().filter(|(_, state)| is_forced || state.is_idle());
            let gone = can_go.min_by_key(|(_, state)| (!state.is_idle(), state.touched)).map(|(id, _)| id.clone())?;
            self.remove(&gone);
            // Whoever does not poll does not hear of all that have gone: these are bounded too.
            if self.changed.len() < 2 * self.config.max_sessions {
                self.changed.insert(gone);
            } else {
                self.changed.remove(&gone);
            }
        }
        let state = self.sessions.entry(session.clone()).or_default();
        state.touched = self.happened;
        Some(state)
    }

    fn remove(&mut self, session: &SessionId) {
        let Some(state) = self.sessions.remove(session) else { return };
        for id in state.ids() {
            self.session_of.remove(&id);
        }
        self.streams.forget(session);
    }

    /// Changes a session that is known.
    fn with(&mut self, session: &SessionId, change: impl FnOnce(&mut Session)) {
        self.happened += 1;
        if let Some(state) = self.sessions.get_mut(session) {
            state.touched = self.happened;
            change(state);
        }
        self.refresh(session);
    }

    /// Tells that a session looks different, where it does, and others with it whose texts had to make room.
    fn refresh(&mut self, session: &SessionId) {
        self.refresh_one(session);
        if core::mem::replace(&mut self.dropped, self.streams.dropped()) != self.streams.dropped() {
            self.refresh_all();
        }
    }

    fn refresh_all(&mut self) {
        for session in self.sessions.keys().cloned().collect::<Vec<_>>() {
            self.refresh_one(&session);
        }
    }

    fn refresh_one(&mut self, session: &SessionId) {
        let last = self.streams.of_session(session).pop();
        let text =
            last.map_or((0, 0, false), |(number, _, stream)| (number, stream.text().len(), stream.end().is_some()));
        let Some(state) = self.sessions.get_mut(session) else { return };
        let running = state.is_running(self.is_attached);
        let has_hidden = running && state.problems().next().is_some();
        let shown = Shown { running, has_hidden, changes: state.changes(), dialogs: state.dialogs, text };
        if core::mem::replace(&mut state.shown, shown) != shown {
            self.changed.insert(session.clone());
        }
    }
}

fn error(session: &SessionId, message: Option<MessageId>, problem: &SendProblem) -> SendError {
    SendError { session: session.clone(), message, problem: problem.clone() }
}
