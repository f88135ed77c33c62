//! The other end of a hub: one session, as a client sees it.
//!
//! ```text
//!            response: after a cursor          message with the tag        [null]
//!  Asking ------------------------> Awaiting ---------------> Watching -----------> Asking
//!    ^  '-- response: a gap, asks again for what comes from then on         |
//!    |---------- the connection is attached again, or begins anew ---------'|
//!                                                                           '-- [] --> Ended
//! ```
//!
//! It watches again by itself, from where it has seen, so that each event is told once or its loss is; and what happened to
//! questions while it was away is told in order, without showing what is decided already.

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::collections::VecDeque;

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
use crate::messages::PermissionResponse;
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
    tag: Name,
    follower: Option<Follower>,
    /// Where what had happened before ends, and the questions that were open there.
    replay: Option<(Offset, BTreeSet<PermissionId>)>,
    dialogs: Dialogs,
    calls: u64,
    /// The answers that are on their way.
    answers: BTreeMap<CallNo, PermissionResponse>,
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
            tag,
            follower: None,
            replay: None,
            dialogs: Dialogs::new(config, me, now),
            calls: 0,
            answers: BTreeMap::new(),
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
        self.from = WatchFrom::After(follower.cursor());
        match followed {
            Followed::Begun(snapshot) => {
                if let Some(snapshot) = snapshot {
                    self.tell(WatcherEvent::Snapshot(snapshot));
                }
            }
            Followed::Event(offset, kind, event) => self.on_event(offset, kind, event, now),
            Followed::Earlier => {}
            Followed::Gap => self.watch(),
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
                call::read_answer_error(&error).map_or(AnswerFailed::NotConfirmed, AnswerFailed::Refused)
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
                // Nobody said no. The next one waits as long as this one did.
                Err(_) => self.watch(),
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

    /// Says that somebody looks at a question, or no longer does.
    pub fn look(&mut self, id: &PermissionId, is_looking: bool) {
        self.call(Call::Look { request_id: id.clone(), is_looking });
    }

    /// Lets time pass. Call it when [`Watcher::poll_timeout`] is due; calling it earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.advance(now);
        self.dialogs.handle_timeout(now);
        self.drain();
    }

    /// The next thing to do. Poll until there is none.
    pub fn poll_output(&mut self) -> Option<WatcherOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Watcher::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.dialogs.poll_timeout()
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
            self.tell(WatcherEvent::Missed { up_to: end });
            self.from = WatchFrom::After(end);
            return self.watch();
        };
        self.state = State::Watching;
        self.from = WatchFrom::After(after);
        self.follower = Some(Follower::new(&self.tag, after));
        self.replay = Some((end.offset, permissions.iter().map(|request| request.id.clone()).collect()));
        for request in permissions {
            self.dialogs.handle_message(&self.session, PermissionMessage::Request(request), now);
        }
        self.tell(WatcherEvent::QueueStatus { pending, processing });
        self.end_replay();
    }

    fn on_event(&mut self, offset: Offset, kind: Kind, event: Payload, now: Instant) {
        match kind {
            Kind::Application => self.tell(WatcherEvent::Event(offset, event)),
            Kind::Permission => {
                let is_past = self.replay.is_some();
                match PermissionMessage::read(&event) {
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
        let at = self.follower.as_ref().map(|follower| follower.cursor().offset);
        if let Some((_, listed)) = self.replay.take_if(|(end, _)| at >= Some(*end)) {
            self.dialogs.forget_unlisted(&self.session, &listed);
            // The dialogs first.
            self.drain();
            self.tell(WatcherEvent::UpToDate);
        }
    }

    fn end(&mut self, why: Ended) {
        self.state = State::Ended;
        // Nobody is left who could be answered.
        self.dialogs.forget_unlisted(&self.session, &BTreeSet::new());
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
                DialogOutput::Removed { id, why } => self.tell(WatcherEvent::DialogRemoved { id, why }),
                DialogOutput::Send { response, .. } => {
                    let number = self.call(Call::Answer(response.clone()));
                    self.answers.insert(number, response);
                }
            }
        }
    }
}

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
