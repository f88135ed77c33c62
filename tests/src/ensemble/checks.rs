//! The invariants that hold after every step of a scenario, and at its end.
//!
//! | | what | where |
//! |---|---|---|
//! | I1 | what an application accepted it accepts once; a question is decided once | after every step |
//! | I2 | one outcome for each send | after every step, and that there is one at the end |
//! | I3 | queues within their caps | after every step |
//! | I4 | every wait has a timer | after every step, here and in the world |
//! | I5 | no output names a dead transport | in the world |
//! | I6 | what has failed does not wait any more, and both sides agree where nothing waits | after every step, and at the end |
//! | I7 | every question is decided, once | at the end |
//! | I8 | no session has an owner that is gone | after every step |
//! | I9 | nothing is left once all clients have | at the end |
//! | I10 | the same again is the same again | by playing each script twice |

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use reattach_core::client;
use reattach_core::id::ConnectionId;
use reattach_core::id::MessageId;
use reattach_core::link::Decision;
use reattach_core::link::Handed;
use reattach_core::session::WatchFrom;

use super::Ensemble;
use crate::oracle::agree;
use crate::oracle::within_bounds;

/// What was sent, and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    up: BTreeMap<usize, Sent>,
    down: BTreeMap<ConnectionId, Sent>,
    /// How often the server's application has accepted each text that it decided about or was handed.
    applied: BTreeMap<String, u32>,
}

/// What one side has sent.
#[derive(Clone, Debug, Default)]
struct Sent {
    open: BTreeSet<MessageId>,
    ended: BTreeSet<MessageId>,
}

impl Sent {
    fn on_sent(&mut self, id: MessageId) {
        assert!(!self.ended.contains(&id) && self.open.insert(id), "I2: {id} is sent twice");
    }

    fn on_outcome(&mut self, id: MessageId) {
        assert!(self.open.remove(&id), "I2: {id} has an outcome, and was not sent or has one");
        self.ended.insert(id);
    }
}

impl Ledger {
    pub(super) fn on_sent_up(&mut self, client: usize, id: MessageId) {
        self.up.entry(client).or_default().on_sent(id);
    }

    pub(super) fn on_sent_down(&mut self, cid: ConnectionId, id: MessageId) {
        self.down.entry(cid).or_default().on_sent(id);
    }

    pub(super) fn on_outcome_up(&mut self, client: usize, id: MessageId) {
        self.up.entry(client).or_default().on_outcome(id);
    }

    pub(super) fn on_outcome_down(&mut self, cid: ConnectionId, id: MessageId) {
        self.down.entry(cid).or_default().on_outcome(id);
    }

    pub(super) fn on_closed(&mut self, cid: &ConnectionId) {
        if let Some(sent) = self.down.remove(cid) {
            assert!(sent.open.is_empty(), "I2: {cid} has ended, and {:?} have no outcome", sent.open);
        }
    }

    /// What an application is handed without having to decide it has accepted.
    pub(super) fn on_handed_up(&mut self, handed: &Handed) {
        if handed.handle.is_none() {
            let text = handed.payload.parse().expect("clients send texts");
            self.on_applied(text);
        }
    }

    pub(super) fn on_decided(&mut self, text: &str, decision: &Decision) {
        if *decision == Decision::Accept {
            self.on_applied(text.to_owned());
        }
    }

    fn on_applied(&mut self, text: String) {
        let applied = self.applied.entry(text.clone()).or_default();
        *applied += 1;
        assert_eq!(*applied, 1, "I1: {text} is applied once");
    }

    /// What the server's application has accepted, by name.
    pub fn applied(&self) -> Vec<&str> {
        self.applied.keys().map(String::as_str).collect()
    }

    /// The server's program was replaced: it knows nothing of what another life of it has sent, but what its copy knew.
    pub fn on_server_replaced(&mut self, copy: Option<&Self>) {
        self.down = copy.map(|copy| copy.down.clone()).unwrap_or_default();
    }
}

/// Plays a script twice, and checks that it comes out the same (I10), that everything comes to its end (I2, I7), that both
/// sides agree (I6), and that nothing is left of it once all clients have gone (I9).
pub fn play(script: impl Fn() -> Ensemble) {
    let [first, second] = [script(), script()].map(|mut ensemble| {
        ensemble.finish();
        ensemble.trace()
    });
    assert!(first.len() > 2, "the script does something");
    assert_eq!(first, second, "I10: the same again is the same again");
}

impl Ensemble {
    /// Checks what holds after every step.
    pub(super) fn check(&self) {
        self.check_queues();
        self.check_timers();
        for (_, id, _) in &self.house.verdicts {
            let count = self.house.verdicts.iter().filter(|(_, other, _)| other == id).count();
            assert_eq!(count, 1, "I1: {id} is decided once");
        }
        for session in self.house.owners.keys() {
            let owner = self.house.hub.sessions().ownership(session).and_then(|ownership| ownership.owner());
            let is_gone = owner.is_some_and(|owner| self.world.server.peer(&owner).is_none());
            assert!(!is_gone, "I8: {session} is owned by {owner:?}, which is gone");
        }
    }

    /// I2, I3 and I6: what has no outcome, and nothing else, is in a queue, and every queue is within its caps.
    fn check_queues(&self) {
        for (index, user) in self.users.iter().enumerate() {
            let open = self.ledger.up.get(&index).map_or(0, |sent| sent.open.len());
            let connection = self.world.clients[index].client.connection();
            within_bounds(connection, &user.link, open).unwrap_or_else(|broken| panic!("client {index}: {broken}"));
            assert_eq!(self.world.clients[index].client.view().pending, open, "I6: it shows what has no outcome");
        }
        let config = self.world.server_config();
        for cid in self.world.server.connections() {
            let open = self.ledger.down.get(cid).map_or(0, |sent| sent.open.len());
            let peer = self.world.server.peer(cid).expect("it was just listed");
            let bounds = within_bounds(peer.connection(), &config.connection.link, open);
            bounds.unwrap_or_else(|broken| panic!("the server's side of {cid}: {broken}"));
        }
    }

    /// I4, above the links: below them the world checks it.
    fn check_timers(&self) {
        for (index, user) in self.users.iter().enumerate() {
            let waits = user.rpc.pending() > 0;
            assert!(
                !waits || user.rpc.poll_timeout().is_some(),
                "I4: a request of client {index} waits without a timer"
            );
            // An answer waits for the connection while that is detached, and the connection has a timer of its own.
            let is_attached = self.world.clients[index].client.status() == client::Status::Attached;
            for (number, watcher) in &user.watchers {
                let session = watcher.session();
                let dialogs = watcher.dialogs().dialogs();
                let waits = is_attached && dialogs.iter().any(|(_, dialog)| dialog.status.is_in_flight());
                assert!(
                    !waits || watcher.poll_timeout().is_some(),
                    "I4: an answer of client {index} in {session} waits without one"
                );
                // A client that has stopped trying asks for nothing until it goes on. One that asks has the timer of its request.
                let status = self.world.clients[index].client.status();
                let has_stopped = matches!(
                    status,
                    client::Status::Superseded | client::Status::Closed(_) | client::Status::Failed(_)
                );
                let is_asking = user.asking.get(number).is_some_and(|id| user.inner.contains_key(id));
                let has_timer = is_asking || watcher.poll_timeout().is_some();
                assert!(
                    watcher.is_over() || watcher.wants_messages() || has_timer || has_stopped,
                    "I4: client {index} waits for {session} and asks for nothing"
                );
            }
        }
        for (cid, desk) in &self.house.desks {
            assert!(desk.rpc.pending() == 0 || desk.rpc.poll_timeout().is_some(), "I4: a request to {cid} has none");
        }
        let is_open = self
            .house
            .asked_in
            .values()
            .any(|session| self.house.hub.broker().open(session, self.world.now).count() > 0);
        assert!(!is_open || self.house.hub.broker().poll_timeout().is_some(), "I4: a question waits without one");
    }

    /// Lets everything come to rest, has all clients go, and checks what is left.
    fn finish(&mut self) {
        self.rest();
        for index in 0..self.users.len() {
            let client = &self.world.clients[index].client;
            let cid = client.connection_id();
            let open = self.ledger.up.get(&index).map_or(0, |sent| sent.open.len());
            assert_eq!(open, 0, "I2: client {index} waits for an outcome still");
            let peer = self.world.server.peer(&cid).filter(|peer| peer.is_attached());
            if let (client::Status::Attached, Some(peer)) = (client.status(), peer) {
                agree(client.connection(), peer.connection())
                    .unwrap_or_else(|broken| panic!("I6: client {index}: {broken}"));
                self.check_watched(index, cid);
            }
        }
        for index in 0..self.users.len() {
            self.disconnect(index);
        }
        // Longer than anything is kept but for receipts: questions, sessions, logs.
        self.run_for(Duration::from_secs(2 * 60 * 60));
        for (name, session) in &self.house.asked_in {
            let is_known = self.house.owners.contains_key(session);
            let count = self.house.verdicts.iter().filter(|(_, id, _)| id == name).count();
            assert!(!is_known || count == 1, "I7: {name} was decided {count} times");
        }
        let registry = self.world.server.registry();
        assert_eq!((registry.connections(), registry.transports()), (0, 0), "I9: connections are left");
        assert_eq!((self.house.desks.len(), self.next_timer()), (0, None), "I9: something above the links is left");
        assert!(self.house.events.iter().all(|(at, _)| *at <= self.world.now));
        for session in self.house.owners.keys() {
            let owner = self.house.hub.sessions().ownership(session).and_then(|ownership| ownership.owner());
            assert_eq!((owner, self.house.hub.sessions().observers(session)), (None, 0), "I9: {session} has somebody");
        }
        assert!(self.world.clients.iter().all(|side| side.client.poll_timeout().is_none()), "I9: a client has a timer");
        // Receipts go last.
        self.run_for(Duration::from_secs(24 * 60 * 60));
        assert_eq!(self.world.server.registry().receipts(), 0, "I9: receipts are left");
        assert_eq!(self.world.server.poll_timeout(), None, "I9: the server has a timer");
    }

    /// I6, above the links: where nothing is on its way, a client knows what there is of the sessions that it watches.
    fn check_watched(&self, index: usize, cid: ConnectionId) {
        let (user, hub) = (&self.users[index], &self.house.hub);
        let is_quiet = self.world.clients[index].is_reading
            && self.ledger.down.get(&cid).is_none_or(|sent| sent.open.is_empty())
            && !self.world.clients[index].client.has_delivery();
        for watcher in user.watchers.values().filter(|watcher| is_quiet && !watcher.is_over()) {
            let session = watcher.session();
            let end = hub.sessions().log(session).map(|log| WatchFrom::After(log.end()));
            assert_eq!(Some(watcher.position()), end, "I6: client {index} has seen everything of {session}");
            let told = user.queues.get(session);
            assert_eq!(told, Some(&hub.broker().status(session)), "I6: client {index}: the queue of {session}");
            let dialogs = watcher.dialogs().dialogs().into_iter().map(|(id, _)| id.clone());
            let open = hub.broker().open(session, self.world.now).map(|request| request.id);
            let (dialogs, open): (BTreeSet<_>, BTreeSet<_>) = (dialogs.collect(), open.collect());
            assert_eq!(dialogs, open, "I6: client {index}: the questions of {session}");
        }
    }

    /// Everything that was written, closed, told and taken.
    fn trace(&self) -> Vec<String> {
        let world = &self.world;
        let mut trace: Vec<_> = world.texts.iter().map(|text| format!("{text:?}")).collect();
        trace.extend(world.closes.iter().map(|close| format!("{close:?}")));
        trace.extend(world.registry_events.iter().map(|event| format!("{event:?}")));
        trace.extend(world.peer_events.iter().map(|event| format!("{event:?}")));
        trace.extend(world.clients.iter().flat_map(|side| side.events.iter().map(|event| format!("{event:?}"))));
        trace.extend(world.taken.iter().map(|taken| format!("{taken:?}")));
        trace.extend(self.house.verdicts.iter().map(|verdict| format!("{verdict:?}")));
        trace.extend(self.house.events.iter().map(|event| format!("{event:?}")));
        trace.extend(self.users.iter().map(|user| format!("{:?} {:?} {:?}", user.seen, user.removed, user.finished)));
        trace.extend(self.users.iter().map(|user| format!("{:?} {:?} {:?}", user.shown, user.queues, user.ended)));
        trace
    }
}
