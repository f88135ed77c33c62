//! The other end of a hub: one session, as a client sees it.
//!
//! ```text
//!            response: after a cursor                  [] (the session has ended)
//!  Asking ----------------------------> Watching --------------------------------> Ended
//!   ^  |                                   |
//!   |  |- response: a gap, or a failure ---|- [null]
//!   |  v                                   |
//!  Waiting, from the third time on <-------'
//!
//!  Asking again, from wherever: the connection is attached again, or begins anew
//! ```
//!
//! It watches again by itself, from where it has seen, so that each event is told once or its loss is; and what happened to
//! questions while it was away is told in order, without showing what is decided already.

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::collections::VecDeque;

use core::time::Duration;

use crate::deadline::soonest;
use crate::error::ApiMisuse;
use crate::hub::call;
use crate::hub::call::Call;
use crate::hub::call::Watched;
use crate::id::ConnectionId;
use crate::id::MessageIds;
use crate::id::Name;
use crate::id::SessionId;
use crate::messages::Choice;
use crate::messages::PermissionId;
use crate::messages::PermissionMessage;
use crate::messages::PermissionRequest;
use crate::messages::PermissionResponse;
use crate::permission::AnswerError;
use crate::permission::AnswerFailed;
use crate::permission::DialogMisuse;
use crate::permission::DialogOutput;
use crate::permission::Dialogs;
use crate::permission::DialogsConfig;
use crate::permission::Removed;
use crate::rpc::Failure;
use crate::session::Cursor;
use crate::session::Followed;
use crate::session::Follower;
use crate::session::Kind;
use crate::session::Offset;
use crate::session::WatchFrom;
use crate::time::Clock;
use crate::time::Instant;
use crate::wire::Payload;
use crate::wire::UncheckedPayload;

/// Names one request that a watcher wants made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallNo(u64);

/// What a watcher wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "what is not done is waited for"]
pub enum WatcherOutput {
    /// Make a request, and say with [`Watcher::handle_response`] what came of it.
    Call {
        /// Which.
        number: CallNo,
        /// What to ask for.
        call: Call,
    },
    /// Tell the application.
    Event(WatcherEvent),
}

/// What happened in a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WatcherEvent {
    /// What everything up to here amounts to, for what comes next does not go on from what was seen before. What was known of the
    /// session is replaced by this.
    Snapshot(Payload),
    /// The next event.
    Event(Offset, Payload),
    /// Events were missed, and nothing says what they were. What comes next goes on from here.
    Missed {
        /// The last of them.
        up_to: Cursor,
    },
    /// What had happened before this session was watched, or while it could not be, is told. What comes now is new.
    UpToDate,
    /// A dialog is new, or has changed.
    Dialog(PermissionId),
    /// A dialog is no longer there.
    DialogRemoved {
        /// Which.
        id: PermissionId,
        /// Why.
        why: Removed,
    },
    /// How many questions are open in the session.
    QueueStatus {
        /// Those that nobody looks at.
        pending: u64,
        /// Those that somebody looks at.
        processing: u64,
    },
    /// Nothing more comes. This is told once.
    Ended(Ended),
}

/// Why nothing more comes of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ended {
    /// The session has ended.
    Over,
    /// The server knows no such session: it has ended, or the server has lost its state.
    UnknownSession,
    /// The server does not have it watched.
    Refused(Failure),
    /// What the server sends makes no sense.
    Confused,
    /// The connection has ended.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// A request to watch is on its way.
    Asking(CallNo),
    /// Asking has led nowhere so often that it is done again only then.
    Waiting(Instant),
    /// What comes in the lane is of this watch, behind its tag.
    Watching,
    Ended,
}

/// One session, as a client sees it.
///
/// `handle_*` take in what came, *commands* fail only for the caller's own faults, `poll_*` say what is to be done and when to come
/// back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Watcher {
    clock: Clock,
    session: SessionId,
    tags: MessageIds,
    state: State,
    is_attached: bool,
    /// Where to begin again.
    from: WatchFrom,
    /// How often asking has led nowhere, one time soon after the other, and when it was asked last.
    tries: (u32, Instant),
    tag: Name,
    follower: Option<Follower>,
    /// Whether this watch begins behind something that was not seen: a snapshot is to tell that.
    is_bridged: bool,
    /// Where a gap was last.
    gap: Option<Cursor>,
    /// Where what had happened before ends, and the questions that were open there.
    replay: Option<(Offset, BTreeSet<PermissionId>)>,
    dialogs: Dialogs,
    calls: u64,
    /// The answers that are on their way.
    answers: BTreeMap<CallNo, PermissionResponse>,
    /// The dialogs that somebody looks at, as the server is told.
    looking: BTreeSet<PermissionId>,
    outputs: VecDeque<WatcherOutput>,
}

impl Watcher {
    /// Begins to watch. `me` is the client's connection, by which the server calls who decided; `nonce` is random, and is used for
    /// nothing else.
    #[must_use]
    pub fn new(
        session: SessionId,
        from: WatchFrom,
        config: DialogsConfig,
        me: ConnectionId,
        nonce: &[u8; 16],
        now: Instant,
    ) -> Self {
        let mut tags = MessageIds::labelled(b"reattach watch tags", nonce);
        let tag = mint(&mut tags);
        let mut watcher = Self {
            clock: Clock::new(now),
            session,
            tags,
            state: State::Ended,
            is_attached: true,
            from,
            tries: (0, now),
            tag,
            follower: None,
            is_bridged: false,
            gap: None,
            replay: None,
            dialogs: Dialogs::new(config, me, now),
            calls: 0,
            answers: BTreeMap::new(),
            looking: BTreeSet::new(),
            outputs: VecDeque::new(),
        };
        watcher.watch();
        watcher
    }

    /// The connection begins another epoch: the session is watched again, from where it was seen.
    pub fn handle_epoch_ended(&mut self) {
        if self.state != State::Ended {
            self.watch();
        }
    }

    /// The connection has ended.
    pub fn handle_closed(&mut self) {
        if self.state != State::Ended {
            self.end(Ended::Closed);
        }
    }

    /// The answers come from another connection from here on.
    pub const fn handle_identity_changed(&mut self, me: ConnectionId) {
        self.dialogs.handle_identity_changed(me);
    }

    /// Whether the server can be reached has changed. While it cannot, an answer waits without being taken for lost. Once it can
    /// again, the session is watched anew: what was asked meanwhile, and how long it is still open, is then said as it is now and not
    /// as it was.
    pub fn handle_attached(&mut self, is_attached: bool, now: Instant) {
        let now = self.clock.advance(now);
        self.dialogs.handle_attached(is_attached, now);
        let was_attached = core::mem::replace(&mut self.is_attached, is_attached);
        if is_attached && !was_attached && self.state != State::Ended {
            self.watch();
        }
        self.drain();
    }

    /// Whether messages of the session's lane are to be taken now. Those that come before the response are left where they are.
    #[must_use]
    pub const fn wants_messages(&self) -> bool {
        matches!(self.state, State::Watching)
    }

    /// Takes in a message of the session's lane.
    pub fn handle_message(&mut self, payload: UncheckedPayload, now: Instant) {
        let now = self.clock.advance(now);
        let Some(follower) = self.follower.as_mut().filter(|_| self.state == State::Watching) else { return };
        let followed = follower.handle_message(payload);
        let (cursor, has_begun) = (follower.cursor(), follower.has_begun());
        if has_begun {
            self.from = WatchFrom::After(cursor);
        }
        match followed {
            Followed::Begun(Some(snapshot)) => self.tell(WatcherEvent::Snapshot(snapshot)),
            Followed::Begun(None) if self.is_bridged => self.tell(WatcherEvent::Missed { up_to: cursor }),
            Followed::Begun(None) => {}
            Followed::Event(offset, kind, event) => {
                self.tries.0 = 0;
                self.on_event(offset, kind, event, now);
            }
            Followed::Earlier => {}
            Followed::Gap => self.on_gap(cursor, now),
            Followed::Over => self.end(Ended::Over),
            Followed::Confused => self.end(Ended::Confused),
        }
        self.end_replay();
        self.drain();
    }

    /// What came of a request.
    pub fn handle_response(&mut self, number: CallNo, result: Result<Payload, Failure>, now: Instant) {
        let now = self.clock.advance(now);
        if let Some(answer) = self.answers.remove(&number) {
            let result = result.map(|_| ()).map_err(|failure| {
                let Failure::Refused(error) = failure else { return AnswerFailed::NotConfirmed };
                match call::read_answer_error(&error) {
                    // Who watches may answer: the server did not have the session watched at that moment, but it will.
                    None | Some(AnswerError::Forbidden) => AnswerFailed::NotConfirmed,
                    Some(error) => AnswerFailed::Refused(error),
                }
            });
            self.dialogs.handle_answered(&answer, result, now);
        } else if self.state == State::Asking(number) {
            match result {
                Ok(result) => match Watched::read(&result) {
                    Ok(watched) => self.on_watched(watched, now),
                    Err(_) => self.end(Ended::Confused),
                },
                Err(Failure::Ended { .. }) => self.end(Ended::Closed),
                // This side has stopped trying, and may go on: it is asked again once the server can be reached.
                Err(Failure::NotSent(ApiMisuse::Ended)) => {}
                Err(Failure::Refused(error)) if call::is_unknown_session(&error) => self.end(Ended::UnknownSession),
                Err(failure) if is_final(&failure) => self.end(Ended::Refused(failure)),
                // Nobody said no.
                Err(_) => self.watch_again(now),
            }
        }
        self.drain();
    }

    /// Answers a question. Its dialog stays until that is confirmed.
    ///
    /// # Errors
    ///
    /// [`DialogMisuse`].
    pub fn answer(&mut self, id: &PermissionId, choice: Choice, now: Instant) -> Result<(), DialogMisuse> {
        let now = self.clock.advance(now);
        self.dialogs.answer(id, choice, now)?;
        self.drain();
        Ok(())
    }

    /// Says that somebody looks at a question, or no longer does. Of what has no dialog nothing is said.
    pub fn look(&mut self, id: &PermissionId, is_looking: bool) {
        if self.dialogs.get(id).is_none() {
            return;
        }
        _ = if is_looking { self.looking.insert(id.clone()) } else { self.looking.remove(id) };
        self.call(Call::Look { request_id: id.clone(), is_looking });
    }

    /// Lets time pass. Call it when [`Watcher::poll_timeout`] is due; calling it earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.advance(now);
        self.dialogs.handle_timeout(now);
        self.drain();
        if matches!(self.state, State::Waiting(until) if until <= now) {
            self.watch();
        }
    }

    /// The next thing to do. Poll until there is none.
    pub fn poll_output(&mut self) -> Option<WatcherOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Watcher::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = if let State::Waiting(until) = self.state { Some(until) } else { None };
        soonest([self.dialogs.poll_timeout(), waiting])
    }

    /// The dialogs, to look at.
    #[must_use]
    pub const fn dialogs(&self) -> &Dialogs {
        &self.dialogs
    }

    /// The session.
    #[must_use]
    pub const fn session(&self) -> &SessionId {
        &self.session
    }

    /// From where another watcher would go on.
    #[must_use]
    pub const fn position(&self) -> WatchFrom {
        self.from
    }

    /// Whether nothing more comes.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Asks to watch, anew.
    fn watch(&mut self) {
        self.tag = mint(&mut self.tags);
        (self.follower, self.replay) = (None, None);
        let (session, from, tag) = (self.session.clone(), self.from, self.tag.clone());
        let number = self.call(Call::Watch { session, from, tag });
        self.state = State::Asking(number);
    }

    /// Asks to watch again, because that has led nowhere: at once at first, and then ever later, for what the server says without end
    /// it would be asked without end.
    fn watch_again(&mut self, now: Instant) {
        let (tries, last) = self.tries;
        let tries = if now - last > CALM { 1 } else { tries.saturating_add(1) };
        self.tries = (tries, now);
        match tries.checked_sub(TRIES_AT_ONCE + 1) {
            None => self.watch(),
            Some(more) => {
                (self.follower, self.replay) = (None, None);
                let pause = FIRST_PAUSE.saturating_mul(1 << more.min(10)).min(LAST_PAUSE);
                self.state = State::Waiting(now + pause);
            }
        }
    }

    /// What comes behind a cursor is not to be had, as the server says in the lane.
    fn on_gap(&mut self, cursor: Cursor, now: Instant) {
        // It may have been a matter of the moment, but not twice: it is an event that cannot be sent. The next one may be.
        if self.gap == Some(cursor) {
            let Some(offset) = Offset::new(cursor.offset.get() + 1) else { return self.end(Ended::Confused) };
            let up_to = Cursor { offset, ..cursor };
            self.tell(WatcherEvent::Missed { up_to });
            self.from = WatchFrom::After(up_to);
        }
        self.gap = Some(cursor);
        self.watch_again(now);
    }

    fn call(&mut self, call: Call) -> CallNo {
        self.calls += 1;
        let number = CallNo(self.calls);
        self.outputs.push_back(WatcherOutput::Call { number, call });
        number
    }

    fn on_watched(&mut self, watched: Watched, now: Instant) {
        let Watched { after, end, permissions, pending, processing } = watched;
        let Some(after) = after else {
            // Nobody watches what is gone; what comes from here on can be.
            let from = WatchFrom::After(end);
            if core::mem::replace(&mut self.from, from) != from {
                self.tries.0 = 0;
                self.tell(WatcherEvent::Missed { up_to: end });
            }
            return self.watch_again(now);
        };
        self.state = State::Watching;
        self.is_bridged = match self.from {
            WatchFrom::Start => after.offset > Offset::ZERO,
            WatchFrom::Now => false,
            WatchFrom::After(seen) => after != seen,
        };
        // What a snapshot bridges is not seen before that has come.
        if !self.is_bridged {
            self.from = WatchFrom::After(after);
        }
        self.follower = Some(Follower::new(&self.tag, after));
        self.replay = Some((end.offset, permissions.iter().map(|request| request.id.clone()).collect()));
        for request in permissions {
            self.dialogs.handle_message(&self.session, PermissionMessage::Request(request), now);
        }
        // What the server knew of that is forgotten with the earlier watch.
        for request_id in self.looking.clone() {
            self.call(Call::Look { request_id, is_looking: true });
        }
        self.tell(WatcherEvent::QueueStatus { pending, processing });
    }

    fn on_event(&mut self, offset: Offset, kind: Kind, event: Payload, now: Instant) {
        match kind {
            Kind::Application => self.tell(WatcherEvent::Event(offset, event)),
            Kind::Permission => {
                let is_past = self.replay.is_some();
                let is_open = |id| self.replay.as_ref().is_some_and(|(_, listed)| listed.contains(id));
                match PermissionMessage::read(&event) {
                    // An earlier question of the same name.
                    Ok(message) if question(&message).is_some_and(is_open) => {}
                    // What was asked and is still open was in the response, with the time that is left.
                    Ok(PermissionMessage::Request(_) | PermissionMessage::QueueStatus { .. }) if is_past => {}
                    Ok(PermissionMessage::QueueStatus { pending, processing }) => {
                        self.tell(WatcherEvent::QueueStatus { pending, processing });
                    }
                    Ok(message) => self.dialogs.handle_message(&self.session, message, now),
                    // A later version may say more than this one knows.
                    Err(_) => {}
                }
            }
        }
    }

    /// Ends what had happened before, once all of it was told.
    fn end_replay(&mut self) {
        let follower = self.follower.as_ref().filter(|follower| follower.has_begun());
        let at = follower.map(|follower| follower.cursor().offset);
        if let Some((_, listed)) = self.replay.take_if(|(end, _)| at >= Some(*end)) {
            self.dialogs.forget_unlisted(&self.session, &listed);
            // The dialogs first.
            self.drain();
            self.tell(WatcherEvent::UpToDate);
        }
    }

    fn end(&mut self, why: Ended) {
        if why == Ended::Confused {
            // The server goes on else.
            self.call(Call::Unwatch { session: self.session.clone() });
        }
        self.state = State::Ended;
        (self.follower, self.replay) = (None, None);
        self.answers.clear();
        // Nobody is left who could be answered.
        self.dialogs.forget_all();
        self.drain();
        self.tell(WatcherEvent::Ended(why));
    }

    fn tell(&mut self, event: WatcherEvent) {
        self.outputs.push_back(WatcherOutput::Event(event));
    }

    /// Has done what the dialogs want.
    fn drain(&mut self) {
        while let Some(output) = self.dialogs.poll_output() {
            match output {
                DialogOutput::Changed { id } => self.tell(WatcherEvent::Dialog(id)),
                DialogOutput::Removed { id, why } => {
                    self.looking.remove(&id);
                    self.tell(WatcherEvent::DialogRemoved { id, why });
                }
                DialogOutput::Send { response, .. } => {
                    let number = self.call(Call::Answer(response.clone()));
                    self.answers.insert(number, response);
                }
            }
        }
    }
}

/// The question that a message is about, where it is about one.
const fn question(message: &PermissionMessage) -> Option<&PermissionId> {
    match message {
        PermissionMessage::Request(PermissionRequest { id, .. }) => Some(id),
        PermissionMessage::Response(PermissionResponse { request_id, .. })
        | PermissionMessage::Timeout { request_id, .. }
        | PermissionMessage::Resolved { request_id, .. }
        | PermissionMessage::Cancelled { request_id } => Some(request_id),
        PermissionMessage::QueueStatus { .. } => None,
    }
}

/// How often in a row it is asked again at once where that has led nowhere.
const TRIES_AT_ONCE: u32 = 2;
/// The first pause before it is asked again; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, as between attempts to connect.
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// After so long asking begins to lead nowhere anew.
const CALM: Duration = Duration::from_secs(60);

fn mint(tags: &mut MessageIds) -> Name {
    let text = alloc::format!("{}", tags.mint());
    Name::new(&text).expect("an id is shorter than a name may be")
}

/// Whether asking again would end the same.
const fn is_final(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(_) | Failure::Ended { .. } | Failure::NotSent(_) | Failure::BadResponse { .. } => true,
        Failure::TimedOut { .. }
        | Failure::Idle { .. }
        | Failure::Cancelled
        | Failure::NotDelivered(_)
        | Failure::Rejected { .. }
        | Failure::Unknown(_)
        | Failure::EpochEnded => false,
    }
}
