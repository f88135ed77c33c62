//! What a client has above its link: its requests, its dialogs, and the sessions that it follows.

use std::collections::BTreeMap;

use reattach_core::client;
use reattach_core::id::ConnectionId;
use reattach_core::id::SessionId;
use reattach_core::link;
use reattach_core::link::Delivery;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionId;
use reattach_core::messages::PermissionMessage;
use reattach_core::permission::AnswerFailed;
use reattach_core::permission::DialogOutput;
use reattach_core::permission::Dialogs;
use reattach_core::permission::DialogsConfig;
use reattach_core::permission::Removed;
use reattach_core::permission::Status;
use reattach_core::rpc;
use reattach_core::rpc::Call;
use reattach_core::rpc::ErrorObject;
use reattach_core::rpc::Failure;
use reattach_core::rpc::IncomingCall;
use reattach_core::rpc::RequestError;
use reattach_core::rpc::RequestId;
use reattach_core::rpc::Rpc;
use reattach_core::session::Followed;
use reattach_core::session::Follower;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;
use reattach_core::wire::UncheckedPayload;

use super::ANSWER;
use super::Ensemble;
use super::OWN;
use super::WATCH;
use super::channel_of;
use super::in_channel;
use super::layers;
use super::question;

/// A client above its link.
#[derive(Debug)]
pub struct User {
    /// The requests.
    pub rpc: Rpc,
    /// The dialogs.
    pub dialogs: Dialogs,
    /// What the server wants.
    pub calls: Vec<IncomingCall>,
    /// The ends of the requests that the test began.
    pub finished: Vec<(Instant, RequestId, Result<Payload, RequestError>)>,
    /// Dialogs that are no longer there, and why, in order.
    pub removed: Vec<(PermissionId, Removed)>,
    /// How often an answer was sent again by itself.
    pub retries: u32,
    /// What the agents said that it follows, in order.
    pub seen: Vec<(SessionId, String)>,
    /// The questions that were shown to it, in order.
    pub shown: Vec<PermissionId>,
    /// The sessions that it follows, and how far it has seen them.
    pub following: BTreeMap<SessionId, Option<Follower>>,
    /// Sessions that it could not have, and why.
    pub refused: Vec<(SessionId, ErrorObject)>,
    pub(super) link: link::Config,
    inner: BTreeMap<RequestId, Inner>,
    has_epoch: bool,
}

/// What a request was for that the test did not begin.
#[derive(Clone, Debug)]
enum Inner {
    Answer(PermissionId, Choice),
    Watch(SessionId),
    Own(SessionId),
}

impl User {
    pub(super) fn new(number: u8, cid: ConnectionId, link: link::Config, now: Instant) -> Self {
        Self {
            rpc: Rpc::new(rpc::Config::default(), &[number; 16], now),
            dialogs: Dialogs::new(DialogsConfig::default(), cid, now),
            calls: Vec::new(),
            finished: Vec::new(),
            removed: Vec::new(),
            retries: 0,
            seen: Vec::new(),
            shown: Vec::new(),
            following: BTreeMap::new(),
            refused: Vec::new(),
            link,
            inner: BTreeMap::new(),
            has_epoch: false,
        }
    }

    /// What became of a request, once it has ended.
    pub fn result(&self, id: RequestId) -> Option<&Result<Payload, RequestError>> {
        let mut of_request = self.finished.iter().filter(|(_, finished, _)| *finished == id);
        let result = of_request.next().map(|(_, _, result)| result);
        assert!(of_request.next().is_none(), "a request ends once");
        result
    }

    /// Where a dialog stands, while it is there.
    pub fn dialog(&self, name: &str) -> Option<&Status> {
        self.dialogs.get(&question(name)).map(|dialog| &dialog.status)
    }

    /// What the agent of a session said.
    pub fn seen_in(&self, session: &SessionId) -> Vec<&str> {
        self.seen.iter().filter(|(of, _)| of == session).map(|(_, event)| event.as_str()).collect()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.rpc.poll_timeout(), self.dialogs.poll_timeout()].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.rpc.handle_timeout(now);
        self.dialogs.handle_timeout(now);
    }

    fn begin(&mut self, call: Call, inner: Inner, now: Instant) {
        let id = self.rpc.request(call, now).expect("scripts are short");
        self.inner.insert(id, inner);
    }

    fn watch(&mut self, session: &SessionId, now: Instant) {
        let cursor = self.following.get(session).copied().flatten().map(|follower| layers::parts(follower.cursor()));
        let params = Payload::new(&(session.as_str(), cursor)).expect("it is JSON");
        let call = Call::new(WATCH).and_then(|call| call.with_params(params)).expect("a good call");
        self.following.entry(session.clone()).or_default();
        self.begin(call, Inner::Watch(session.clone()), now);
    }

    fn own(&mut self, session: &SessionId, now: Instant) {
        let params = Payload::new(&(session.as_str(),)).expect("it is JSON");
        let call = Call::new(OWN).and_then(|call| call.with_params(params)).expect("a good call");
        self.begin(call, Inner::Own(session.clone()), now);
    }

    fn on_session_message(&mut self, session: SessionId, payload: UncheckedPayload, now: Instant) {
        let Some(Some(follower)) = self.following.get_mut(&session) else {
            panic!("{session} says something, and nobody follows it")
        };
        match follower.handle_message(payload) {
            Followed::Event(_, event) => match PermissionMessage::read(&event) {
                Ok(message) => self.dialogs.handle_message(&session, message, now),
                Err(_) => self.seen.push((session, event.parse().expect("agents say texts"))),
            },
            Followed::Seen => {}
            other @ (Followed::Gap | Followed::Over | Followed::Confused) => panic!("{session}: {other:?}"),
        }
    }

    fn on_finished(&mut self, id: RequestId, result: Result<Payload, RequestError>, now: Instant) {
        let refusal = |result: &Result<Payload, RequestError>| match result {
            Err(RequestError { failure: Failure::Refused(error), .. }) => Some(error.clone()),
            Ok(_) | Err(_) => None,
        };
        match self.inner.remove(&id) {
            None => self.finished.push((now, id, result)),
            Some(Inner::Answer(permission, choice)) => {
                let answered = match (refusal(&result), result) {
                    (Some(error), _) => Err(layers::read_refusal(&error)),
                    (None, Ok(_)) => Ok(()),
                    (None, Err(_)) => Err(AnswerFailed::NotConfirmed),
                };
                layers::answered(&mut self.dialogs, &permission, &choice, answered, now);
            }
            Some(Inner::Watch(session)) => match (refusal(&result), result) {
                (_, Ok(watch)) => {
                    let (is_gap, cursor, open) = layers::read_watch(&watch);
                    assert!(!is_gap, "scripts are short");
                    let follower = self.following.entry(session.clone()).or_default();
                    // What it has seen since it asked is not seen again.
                    let has_seen =
                        |seen: &Follower| seen.cursor().epoch == cursor.epoch && seen.cursor().offset >= cursor.offset;
                    *follower = follower.filter(has_seen).or_else(|| Some(Follower::new(cursor)));
                    self.dialogs.resync(&session, open, now);
                }
                (Some(error), Err(_)) => {
                    if layers::is_unknown_session(&error) {
                        self.dialogs.resync(&session, Vec::new(), now);
                    }
                    self.following.remove(&session);
                    self.refused.push((session, error));
                }
                // Another epoch has begun, in which it asks again.
                (None, Err(_)) => {}
            },
            Some(Inner::Own(session)) => self.refused.extend(refusal(&result).map(|error| (session, error))),
        }
    }
}

impl Ensemble {
    /// A client watches a session from now on.
    pub fn watch(&mut self, client: usize, session: &SessionId) {
        let now = self.world.now;
        self.users[client].watch(session, now);
        self.settle();
    }

    /// A client takes a session.
    pub fn own(&mut self, client: usize, session: &SessionId) {
        let now = self.world.now;
        self.users[client].own(session, now);
        self.settle();
    }

    /// Somebody answers a question.
    pub fn answer(&mut self, client: usize, name: &str, choice: Choice) {
        let now = self.world.now;
        self.users[client].dialogs.answer(&question(name), choice, now).expect("there is the dialog");
        self.settle();
    }

    /// A client begins a request.
    pub fn request(&mut self, client: usize, call: Call) -> RequestId {
        let now = self.world.now;
        let id = self.users[client].rpc.request(call, now).expect("scripts are short");
        self.settle();
        id
    }

    /// The client's user wants to be connected now.
    pub fn reconnect(&mut self, client: usize) {
        let now = self.world.now;
        self.world.clients[client].client.reconnect(now).expect("it is not over");
        self.settle();
    }

    /// A client ends its connection.
    pub fn disconnect(&mut self, client: usize) {
        let now = self.world.now;
        self.world.clients[client].client.disconnect(now);
        self.settle();
    }

    pub(super) fn on_client_event(&mut self, index: usize, event: client::Event) {
        let now = self.world.now;
        let user = &mut self.users[index];
        if let Some((id, outcome)) = event.outcome() {
            self.ledger.on_outcome_up(index, id);
            user.rpc.handle_outcome(&id, outcome, now);
            return;
        }
        match event {
            client::Event::Attached { resumed } => {
                if !resumed && core::mem::replace(&mut user.has_epoch, true) {
                    let outbox = self.world.clients[index].client.connection().link().outbox();
                    user.rpc.handle_epoch_ended(|id| outbox.holds(id), now);
                    let sessions: Vec<_> = user.following.keys().cloned().collect();
                    sessions.iter().for_each(|session| user.watch(session, now));
                }
                user.dialogs.handle_attached(true, now);
            }
            client::Event::Detached { .. } => user.dialogs.handle_attached(false, now),
            client::Event::IdentityChanged { new, .. } => user.dialogs.handle_identity_changed(new),
            client::Event::Closed { reason } => {
                user.rpc.handle_ended(&reason.to_string(), now);
            }
            client::Event::TryFailed { .. }
            | client::Event::Delivered { .. }
            | client::Event::SendFailed(_)
            | client::Event::Superseded
            | client::Event::Delayed { .. }
            | client::Event::FrameSkipped { .. }
            | client::Event::PeerBrokeProtocol { .. }
            | client::Event::Failed { .. }
            | _ => {}
        }
    }

    pub(super) fn on_taken_down(&mut self, index: usize, delivery: Delivery) {
        let Delivery::Message(handed) = delivery else { return };
        let now = self.world.now;
        let user = &mut self.users[index];
        let lane = handed.lane.name();
        if let Some(channel) = channel_of(lane) {
            assert!(user.rpc.has_room(), "scripts are short");
            return user.rpc.handle_message(channel, handed.payload, now);
        }
        if let Some(name) = lane.and_then(|lane| lane.as_str().strip_prefix("session/")) {
            // An answer that came before it is heard before it.
            self.drain_user(index);
            self.users[index].on_session_message(super::session(name), handed.payload, now);
        }
    }

    /// Does what a client wants above its link. Returns whether there was anything.
    pub(super) fn drain_user(&mut self, index: usize) -> bool {
        let now = self.world.now;
        let mut is_busy = false;
        while let Some(output) = self.users[index].rpc.poll_output() {
            is_busy = true;
            match output {
                rpc::Output::Send { channel, within, payload } => {
                    let sent = self.try_send_up(index, in_channel(channel, within, payload));
                    self.users[index].rpc.handle_sent(sent, now);
                }
                rpc::Output::Withdraw(id) => _ = self.world.clients[index].client.cancel(&id, now),
                rpc::Output::Event(rpc::Event::Finished { id, result }) => {
                    self.users[index].on_finished(id, result, now);
                }
                rpc::Output::Event(_) => {}
            }
        }
        let user = &mut self.users[index];
        while let Some(call) = user.rpc.take() {
            is_busy = true;
            user.calls.push(call);
        }
        while let Some(output) = user.dialogs.poll_output() {
            is_busy = true;
            match output {
                DialogOutput::Changed { id } => {
                    let is_new = user.dialogs.get(&id).is_some_and(|dialog| dialog.status == Status::Pending);
                    user.shown.extend(is_new.then_some(id));
                }
                DialogOutput::Send { response, retry } => {
                    user.retries += u32::from(retry > 0);
                    let inner = Inner::Answer(response.request_id.clone(), response.choice.clone());
                    let params = PermissionMessage::Response(response).write();
                    let call = Call::new(ANSWER).and_then(|call| call.with_params(params)).expect("a good call");
                    user.begin(call, inner, now);
                }
                DialogOutput::Removed { id, why } => user.removed.push((id, why)),
            }
        }
        is_busy
    }
}
