//! What a client has above its link: its requests, and the sessions that it watches.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use reattach_core::client;
use reattach_core::hub;
use reattach_core::hub::CallNo;
use reattach_core::hub::Ended;
use reattach_core::hub::Watcher;
use reattach_core::id::ConnectionId;
use reattach_core::id::SessionId;
use reattach_core::link;
use reattach_core::link::Delivery;
use reattach_core::messages::PermissionId;
use reattach_core::permission::Dialog;
use reattach_core::permission::Removed;
use reattach_core::permission::Status;
use reattach_core::rpc;
use reattach_core::rpc::Call;
use reattach_core::rpc::IncomingCall;
use reattach_core::rpc::RequestError;
use reattach_core::rpc::RequestId;
use reattach_core::rpc::Rpc;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;

use super::Ensemble;
use super::channel_of;
use super::in_channel;
use super::question;

/// A client above its link.
#[derive(Debug)]
pub struct User {
    /// The requests.
    pub rpc: Rpc,
    /// What the server wants.
    pub calls: Vec<IncomingCall>,
    /// The ends of the requests that the test began.
    pub finished: Vec<(Instant, RequestId, Result<Payload, RequestError>)>,
    /// Dialogs that are no longer there, and why, in order.
    pub removed: Vec<(PermissionId, Removed)>,
    /// How often an answer was sent again by itself.
    pub retries: u32,
    /// What the agents said whom it watches, in order.
    pub seen: Vec<(SessionId, String)>,
    /// The questions that were shown to it, in order.
    pub shown: Vec<PermissionId>,
    /// How many questions of a session nobody looks at and somebody does, as it was told last.
    pub queues: BTreeMap<SessionId, (u64, u64)>,
    /// Sessions of which nothing more comes, and why, in order.
    pub ended: Vec<(SessionId, Ended)>,
    pub(super) link: link::Config,
    /// Its watchers by number, those included of which nothing more comes.
    pub(super) watchers: BTreeMap<u8, Watcher>,
    /// The request to watch of each that waits for a response.
    pub(super) asking: BTreeMap<u8, RequestId>,
    /// The requests that the test did not begin, and which watcher's they are.
    pub(super) inner: BTreeMap<RequestId, (u8, CallNo)>,
    /// Sessions that it has watched and does not any more.
    pub(super) unwatched: BTreeSet<SessionId>,
    pub(super) number: u8,
    pub(super) me: ConnectionId,
    pub(super) is_attached: bool,
    /// How many watchers there were.
    pub(super) lives: u8,
    has_epoch: bool,
    /// Whether its connection has ended for good.
    pub(super) is_over: bool,
}

impl User {
    pub(super) fn new(number: u8, cid: ConnectionId, link: link::Config, now: Instant) -> Self {
        Self {
            rpc: Rpc::new(rpc::Config::default(), &[number; 16], now),
            calls: Vec::new(),
            finished: Vec::new(),
            removed: Vec::new(),
            retries: 0,
            seen: Vec::new(),
            shown: Vec::new(),
            queues: BTreeMap::new(),
            ended: Vec::new(),
            link,
            watchers: BTreeMap::new(),
            asking: BTreeMap::new(),
            inner: BTreeMap::new(),
            unwatched: BTreeSet::new(),
            number,
            me: cid,
            is_attached: false,
            lives: 0,
            has_epoch: false,
            is_over: false,
        }
    }

    /// What became of a request, once it has ended.
    pub fn result(&self, id: RequestId) -> Option<&Result<Payload, RequestError>> {
        let mut of_request = self.finished.iter().filter(|(_, finished, _)| *finished == id);
        let result = of_request.next().map(|(_, _, result)| result);
        assert!(of_request.next().is_none(), "a request ends once");
        result
    }

    /// The dialogs of all sessions.
    pub fn dialogs(&self) -> Vec<(&PermissionId, &Dialog)> {
        self.watchers.values().flat_map(|watcher| watcher.dialogs().dialogs()).collect()
    }

    /// Where a dialog stands, while it is there.
    pub fn dialog(&self, name: &str) -> Option<&Status> {
        let id = question(name);
        self.dialogs().into_iter().find(|(of, _)| **of == id).map(|(_, dialog)| &dialog.status)
    }

    /// What the agent of a session said.
    pub fn seen_in(&self, session: &SessionId) -> Vec<&str> {
        self.seen.iter().filter(|(of, _)| of == session).map(|(_, event)| event.as_str()).collect()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let watchers = self.watchers.values().filter_map(Watcher::poll_timeout);
        watchers.chain(self.rpc.poll_timeout()).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.rpc.handle_timeout(now);
        self.watchers.values_mut().for_each(|watcher| watcher.handle_timeout(now));
    }

    fn on_finished(&mut self, id: RequestId, result: Result<Payload, RequestError>, now: Instant) {
        let Some((number, call)) = self.inner.remove(&id) else { return self.finished.push((now, id, result)) };
        if self.asking.get(&number) == Some(&id) {
            self.asking.remove(&number);
        }
        if let Some(watcher) = self.watchers.get_mut(&number) {
            watcher.handle_response(call, result.map_err(|error| error.failure), now);
        }
    }
}

impl Ensemble {
    /// A client begins a request.
    pub fn request(&mut self, client: usize, call: Call) -> RequestId {
        let now = self.world.now;
        let id = self.users[client].rpc.request(call, now).expect("scripts are short");
        self.settle();
        id
    }

    /// A client asks for something of the hub by itself.
    pub fn request_hub(&mut self, client: usize, call: &hub::Call) -> RequestId {
        self.request(client, to_hub(call))
    }

    /// A client takes a session.
    pub fn own(&mut self, client: usize, session: &SessionId) -> RequestId {
        self.request_hub(client, &hub::Call::Own { session: session.clone() })
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
                let is_another = !resumed && core::mem::replace(&mut user.has_epoch, true);
                if is_another {
                    let outbox = self.world.clients[index].client.connection().link().outbox();
                    user.rpc.handle_epoch_ended(|id| outbox.holds(id), now);
                }
                user.on_attached(is_another, now);
            }
            client::Event::Detached { .. } => user.on_detached(now),
            client::Event::IdentityChanged { new, .. } => user.on_identity_changed(new),
            client::Event::Closed { reason } => {
                user.rpc.handle_ended(&reason.to_string(), now);
                user.is_over = true;
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
            // What is watched is taken where a watcher wants it.
            let session = super::session(name);
            assert!(user.unwatched.contains(&session), "{session} says something, and nobody ever watched it");
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
        self.drain_watchers(index) || is_busy
    }
}

/// A request to a hub, as a program makes it: answers have the time that a person is waited for.
pub(super) fn to_hub(call: &hub::Call) -> Call {
    let request = Call::new(call.method()).and_then(|request| request.with_params(call.params()));
    let request = request.expect("a good call");
    if matches!(call, hub::Call::Answer(_)) { request.long() } else { request }
}
