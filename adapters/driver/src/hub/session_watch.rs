//! A session, as a client watches it.

use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use event_listener::EventListener;
use reattach_core::hub::Call;
use reattach_core::hub::CallNo;
use reattach_core::hub::Watcher;
use reattach_core::hub::WatcherEvent;
use reattach_core::hub::WatcherOutput;
use reattach_core::hub::read_generation;
use reattach_core::id::ConnectionId;
use reattach_core::id::Lane;
use reattach_core::id::SessionId;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionId;
use reattach_core::permission::DialogMisuse;
use reattach_core::permission::Dialogs;
use reattach_core::permission::DialogsConfig;
use reattach_core::rpc;
use reattach_core::rpc::Failure;
use reattach_core::rpc::RpcMisuse;
use reattach_core::session::Generation;
use reattach_core::session::WatchFrom;
use reattach_core::time::Instant;

use crate::alarm::Alarm;
use crate::byte_stream::LaneInUse;
use crate::client::Client;
use crate::hub::log;
use crate::machine::Machine as _;
use crate::meter::DialogsMeter;
use crate::mint;
use crate::requests::CallError;
use crate::requests::Response;
use crate::shared::Taken;

/// How long a request that finds no room waits before it is tried again.
const NO_ROOM: Duration = Duration::from_millis(50);

/// A session that a client watches. It watches again by itself after whatever happens to the connection, so that each event is
/// told once, or its loss is, and answers to questions are sent until it is known what became of them.
///
/// All of that happens while somebody waits in [`SessionWatch::next`]. It keeps the client alive. Dropped, the session is no longer
/// watched, and an answer that is not confirmed by then may or may not have been taken.
#[derive(Debug)]
pub struct SessionWatch {
    client: Client,
    lane: Lane,
    watcher: Watcher,
    standing: Standing,
    /// The request to watch that waits for a response. Another takes its place.
    watching: Option<(CallNo, Response)>,
    /// Other requests that wait for a response.
    asked: Vec<(CallNo, Response)>,
    /// Requests that found no room.
    unsent: VecDeque<(CallNo, Call)>,
    events: VecDeque<WatcherEvent>,
    delivery: Option<EventListener>,
    changed: Option<EventListener>,
    alarm: Alarm,
    meter: DialogsMeter,
    /// Whether the end was told.
    is_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    me: ConnectionId,
    /// How many transports were attached so far.
    transports: u64,
    is_attached: bool,
}

impl Client {
    /// Watches a session of the server, where that serves a [`Hub`](crate::Hub). `from` says where to begin, which may be where an
    /// earlier watch stopped ([`SessionWatch::position`]).
    ///
    /// # Errors
    ///
    /// [`LaneInUse`] where this client watches the session already.
    pub fn watch_session(&self, session: SessionId, from: WatchFrom) -> Result<SessionWatch, LaneInUse> {
        let shared = self.shared();
        let lane: Lane = session.lane().into();
        if !shared.claim(&lane) {
            return Err(LaneInUse { lane });
        }
        let standing = Standing::of(self);
        let (now, nonce) = (shared.now(), mint::nonce(&**shared.runtime()));
        let mut watcher = Watcher::new(session, from, DialogsConfig::default(), standing.me, &nonce, now);
        watcher.handle_attached(standing.is_attached, now);
        let alarm = Alarm::new(shared.timer());
        Ok(SessionWatch {
            client: self.clone(),
            lane,
            watcher,
            standing,
            watching: None,
            asked: Vec::new(),
            unsent: VecDeque::new(),
            events: VecDeque::new(),
            delivery: None,
            changed: None,
            alarm,
            meter: DialogsMeter::new(),
            is_told: false,
        })
    }
}

impl SessionWatch {
    /// The next thing that happens; `None` once the end was told. Cancel-safe.
    pub async fn next(&mut self) -> Option<WatcherEvent> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Answers a question. Its dialog stays until it is known what became of the answer.
    ///
    /// # Errors
    ///
    /// [`DialogMisuse`].
    pub fn answer(&mut self, id: &PermissionId, choice: Choice) -> Result<(), DialogMisuse> {
        let now = self.client.shared().now();
        let answered = self.watcher.answer(id, choice, now);
        self.carry(now);
        answered
    }

    /// Says that somebody looks at a question, or no longer does.
    pub fn look(&mut self, id: &PermissionId, is_looking: bool) {
        let now = self.client.shared().now();
        self.watcher.look(id, is_looking);
        self.carry(now);
    }

    /// The dialogs, with what was [counted](Dialogs::stats) of them and of the answers.
    #[must_use]
    pub const fn dialogs(&self) -> &Dialogs {
        self.watcher.dialogs()
    }

    /// The session.
    #[must_use]
    pub const fn session(&self) -> &SessionId {
        self.watcher.session()
    }

    /// Up to where it was seen: from where another watch would go on.
    #[must_use]
    pub const fn position(&self) -> WatchFrom {
        self.watcher.position()
    }

    /// Makes this connection the owner of the session, whoever was before.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn own(&self) -> Result<Generation, CallError> {
        let response = self.client.call(request(&Call::Own { session: self.session().clone() })?)?;
        let (id, result) = (response.id(), response.await?);
        read_generation(&result).map_err(|error| CallError::Generation { id, error })
    }

    /// Owns the session no more.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn release(&self, generation: Generation) -> Result<(), CallError> {
        let session = self.session().clone();
        self.client.call(request(&Call::Release { session, generation })?)?.await?;
        Ok(())
    }

    /// Goes to sleep: the end of this connection does not detach the session for a while.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn suspend(&self, generation: Generation) -> Result<(), CallError> {
        let session = self.session().clone();
        self.client.call(request(&Call::Suspend { session, generation })?)?.await?;
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<WatcherEvent>> {
        if self.is_told {
            return Poll::Ready(None);
        }
        loop {
            let now = self.client.shared().now();
            self.poll_standing(cx, now);
            self.carry(now);
            if let Some(event) = self.events.pop_front() {
                self.is_told = matches!(event, WatcherEvent::Ended(_));
                return Poll::Ready(Some(event));
            }
            // What was waited for first: an event would come of it.
            if self.poll_responses(cx, now) || self.poll_messages(cx, now) || self.poll_timer(cx, now) {
                continue;
            }
            return Poll::Pending;
        }
    }

    /// Takes in where the client stands, and has the task woken when that changes.
    fn poll_standing(&mut self, cx: &mut Context<'_>, now: Instant) {
        let mut may_have_changed = self.changed.is_none();
        loop {
            let changed = self.changed.get_or_insert_with(|| self.client.shared().changed.listen());
            if Pin::new(changed).poll(cx).is_pending() {
                break;
            }
            self.changed = None;
            may_have_changed = true;
        }
        if !may_have_changed {
            return;
        }
        let standing = Standing::of(&self.client);
        let before = std::mem::replace(&mut self.standing, standing);
        if standing.me != before.me {
            self.watcher.handle_identity_changed(standing.me);
        }
        // Another epoch begins with another transport, which may have come before anybody looked.
        if standing.transports != before.transports {
            self.watcher.handle_attached(false, now);
        }
        self.watcher.handle_attached(standing.is_attached, now);
    }

    /// Does what the watcher wants.
    fn carry(&mut self, now: Instant) {
        loop {
            while let Some(output) = self.watcher.poll_output() {
                match output {
                    WatcherOutput::Event(event) => {
                        log::seen(self.standing.me, self.watcher.session(), &event);
                        self.events.push_back(event);
                    }
                    WatcherOutput::Call { number, call } => {
                        log::calls(self.standing.me, &call);
                        if matches!(call, Call::Watch { .. }) {
                            self.unsent.retain(|(_, unsent)| !matches!(unsent, Call::Watch { .. }));
                        }
                        self.unsent.push_back((number, call));
                    }
                }
            }
            self.meter.measure(&self.watcher.dialogs().stats());
            // What cannot be sent at all has something follow.
            let Some((number, call)) = self.unsent.pop_front() else { return };
            if !self.send(number, call, now) {
                return;
            }
        }
    }

    /// Makes a request. Returns whether there was room.
    fn send(&mut self, number: CallNo, call: Call, now: Instant) -> bool {
        let begun = request(&call).and_then(|request| self.client.call(request));
        let failure = match begun {
            Ok(response) => {
                if matches!(call, Call::Watch { .. }) {
                    self.watching = Some((number, response));
                } else {
                    self.asked.push((number, response));
                }
                return true;
            }
            Err(RpcMisuse::TooManyPending { .. } | RpcMisuse::QueueFull) => {
                self.unsent.push_front((number, call));
                return false;
            }
            Err(RpcMisuse::Ended) => Failure::Ended { cause: "the client has ended".into() },
            // What was answered cannot be sent, and will not be better later.
            Err(_) => Failure::Cancelled,
        };
        self.watcher.handle_response(number, Err(failure), now);
        true
    }

    /// Returns whether anything came.
    fn poll_responses(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut come = Vec::new();
        let mut look = |(number, response): &mut (CallNo, Response)| match Pin::new(response).poll(cx) {
            Poll::Ready(result) => {
                come.push((*number, result.map_err(|error| error.failure)));
                false
            }
            Poll::Pending => true,
        };
        self.asked.retain_mut(&mut look);
        if self.watching.as_mut().is_some_and(|watching| !look(watching)) {
            self.watching = None;
        }
        let has_come = !come.is_empty();
        for (number, result) in come {
            self.watcher.handle_response(number, result, now);
        }
        has_come
    }

    /// Returns whether anything came.
    fn poll_messages(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if !self.watcher.wants_messages() {
            // What is not taken now is looked for when it is wanted.
            self.delivery = None;
            let is_closed = !self.watcher.is_over() && self.client.shared().lock().machine.is_over();
            if is_closed {
                // Nobody will answer.
                self.watcher.handle_closed();
            }
            return is_closed;
        }
        match self.client.shared().poll_recv_in(&self.lane, None, &mut self.delivery, cx) {
            Poll::Ready(Taken::Message(received, _)) => {
                let payload = received.payload().clone();
                // Whatever becomes of it here, it came.
                _ = received.accept();
                self.watcher.handle_message(payload, now);
                true
            }
            Poll::Ready(Taken::Nothing) if self.client.shared().lock().machine.is_over() => {
                self.watcher.handle_closed();
                true
            }
            // A client that has stopped trying may go on.
            Poll::Ready(Taken::Nothing | Taken::InAnotherEpoch) | Poll::Pending => false,
        }
    }

    /// Returns whether anything was due.
    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let retry = (!self.unsent.is_empty()).then(|| now + NO_ROOM);
        let Some(at) = self.watcher.poll_timeout().into_iter().chain(retry).min() else { return false };
        self.alarm.arm(at, now);
        if self.alarm.poll(cx).is_ready() {
            self.watcher.handle_timeout(self.client.shared().now());
            return true;
        }
        false
    }
}

impl Drop for SessionWatch {
    fn drop(&mut self) {
        if !self.watcher.is_over() {
            let unwatch = request(&Call::Unwatch { session: self.session().clone() });
            // Where it cannot be said now, the connection is full or over.
            _ = unwatch.and_then(|unwatch| self.client.shared().notify(&unwatch));
        }
        self.client.shared().abandon(&self.lane);
    }
}

impl Standing {
    fn of(client: &Client) -> Self {
        let state = client.shared().lock();
        let machine = &state.machine;
        Self { me: machine.connection_id(), transports: machine.stats().attached, is_attached: machine.is_attached() }
    }
}

/// A request to a hub. Answers have the time that a person is waited for: while the server cannot be reached they are not lost.
fn request(call: &Call) -> Result<rpc::Call, RpcMisuse> {
    let request = rpc::Call::new(call.method())?.with_params(call.params())?;
    Ok(if matches!(call, Call::Answer(_)) { request.long() } else { request })
}
