//! The sessions that a client watches, as a program drives its watchers.

use reattach_core::hub;
use reattach_core::hub::CallNo;
use reattach_core::hub::Ended;
use reattach_core::hub::Watcher;
use reattach_core::hub::WatcherEvent;
use reattach_core::hub::WatcherOutput;
use reattach_core::id::ConnectionId;
use reattach_core::id::SessionId;
use reattach_core::messages::Choice;
use reattach_core::permission::DialogsConfig;
use reattach_core::permission::Status;
use reattach_core::rpc::Failure;
use reattach_core::rpc::RpcMisuse;
use reattach_core::session::WatchFrom;
use reattach_core::time::Instant;

use super::Ensemble;
use super::User;
use super::client_side::to_hub;
use super::question;

impl User {
    /// The watcher of a session, while there is one.
    pub fn watcher(&self, session: &SessionId) -> Option<&Watcher> {
        self.watchers.values().find(|watcher| watcher.session() == session)
    }

    pub(super) fn on_attached(&mut self, is_another_epoch: bool, now: Instant) {
        let was_attached = core::mem::replace(&mut self.is_attached, true);
        for watcher in self.watchers.values_mut() {
            if !was_attached {
                watcher.handle_attached(true, now);
            } else if is_another_epoch {
                watcher.handle_epoch_ended();
            }
        }
    }

    pub(super) fn on_detached(&mut self, now: Instant) {
        self.is_attached = false;
        self.watchers.values_mut().for_each(|watcher| watcher.handle_attached(false, now));
    }

    pub(super) fn on_identity_changed(&mut self, new: ConnectionId) {
        self.me = new;
        self.watchers.values_mut().for_each(|watcher| watcher.handle_identity_changed(new));
    }

    fn watch(&mut self, session: SessionId, now: Instant) {
        self.lives += 1;
        let mut nonce = [self.number; 16];
        nonce[0] = self.lives;
        let mut watcher = Watcher::new(session, WatchFrom::Start, DialogsConfig::default(), self.me, &nonce, now);
        watcher.handle_attached(self.is_attached, now);
        self.watchers.insert(self.lives, watcher);
    }

    /// Forgets the watcher of a session. Returns whether there was one.
    fn forget(&mut self, session: &SessionId) -> bool {
        let before = self.watchers.len();
        self.watchers.retain(|_, watcher| watcher.session() != session);
        self.watchers.len() < before
    }

    /// Makes a watcher's request.
    fn call(&mut self, number: u8, call_no: CallNo, call: &hub::Call, now: Instant) {
        let Some(watcher) = self.watchers.get_mut(&number) else { return };
        if let hub::Call::Answer(response) = call {
            let dialog = watcher.dialogs().get(&response.request_id);
            let is_again = dialog.is_some_and(|dialog| matches!(dialog.status, Status::Sending { retry: 1.., .. }));
            self.retries += u32::from(is_again);
        }
        match self.rpc.request(to_hub(call), now) {
            Ok(id) => {
                self.inner.insert(id, (number, call_no));
                if matches!(call, hub::Call::Watch { .. }) {
                    // Nobody waits for the one before any more.
                    if let Some(before) = self.asking.insert(number, id) {
                        self.rpc.cancel(before, now).expect("it waits");
                    }
                }
            }
            Err(misuse) => {
                assert_eq!(misuse, RpcMisuse::Ended, "scripts are short");
                let ended = Failure::Ended { cause: "the client has ended".into() };
                watcher.handle_response(call_no, Err(ended), now);
            }
        }
    }

    fn on_watcher_event(&mut self, number: u8, event: WatcherEvent) {
        let watcher = &self.watchers[&number];
        let session = watcher.session().clone();
        match event {
            WatcherEvent::Event(_, event) => self.seen.push((session, event.parse().expect("agents say texts"))),
            WatcherEvent::Dialog(id) => {
                let is_new = watcher.dialogs().get(&id).is_some_and(|dialog| dialog.status == Status::Pending);
                self.shown.extend(is_new.then_some(id));
            }
            WatcherEvent::DialogRemoved { id, why } => self.removed.push((id, why)),
            WatcherEvent::QueueStatus { pending, processing } => {
                self.queues.insert(session, (pending, processing));
            }
            WatcherEvent::Ended(why) => {
                assert_ne!(why, Ended::Confused, "{session} makes sense");
                self.ended.push((session, why));
            }
            WatcherEvent::UpToDate => {}
            event @ (WatcherEvent::Snapshot(_) | WatcherEvent::Missed { .. } | _) => panic!("{session}: {event:?}"),
        }
    }

    /// Does what a watcher wants. Returns whether there was anything.
    fn drain_watcher(&mut self, number: u8, now: Instant) -> bool {
        let mut is_busy = false;
        while let Some(output) = self.watchers.get_mut(&number).and_then(Watcher::poll_output) {
            is_busy = true;
            match output {
                WatcherOutput::Call { number: call_no, call } => self.call(number, call_no, &call, now),
                WatcherOutput::Event(event) => self.on_watcher_event(number, event),
            }
        }
        is_busy
    }
}

impl Ensemble {
    /// A client watches a session from now on, with everything that is kept of it.
    pub fn watch(&mut self, client: usize, session: &SessionId) {
        let now = self.world.now;
        let user = &mut self.users[client];
        assert!(user.watcher(session).is_none_or(Watcher::is_over), "it watches {session} already");
        user.forget(session);
        user.watch(session.clone(), now);
        self.world.clients[client].apart.insert(session.lane().into());
        self.settle();
    }

    /// A client watches a session no more.
    pub fn unwatch(&mut self, client: usize, session: &SessionId) {
        let now = self.world.now;
        let user = &mut self.users[client];
        assert!(user.forget(session), "it watches {session}");
        user.unwatched.insert(session.clone());
        let call = to_hub(&hub::Call::Unwatch { session: session.clone() });
        user.rpc.notify(&call, now).expect("scripts are short");
        self.world.clients[client].apart.remove(&session.lane().into());
        self.settle();
    }

    /// Somebody answers a question.
    pub fn answer(&mut self, client: usize, name: &str, choice: Choice) {
        let (now, id) = (self.world.now, question(name));
        let mut watchers = self.users[client].watchers.values_mut();
        let watcher = watchers.find(|watcher| watcher.dialogs().get(&id).is_some()).expect("there is the dialog");
        watcher.answer(&id, choice, now).expect("it can be answered");
        self.settle();
    }

    /// Somebody looks at a question, or no longer does.
    pub fn look(&mut self, client: usize, name: &str, is_looking: bool) {
        let id = question(name);
        let mut watchers = self.users[client].watchers.values_mut();
        let watcher = watchers.find(|watcher| watcher.dialogs().get(&id).is_some()).expect("there is the dialog");
        watcher.look(&id, is_looking);
        self.settle();
    }

    /// Does what the watchers of a client want, and gives them what they take. Returns whether there was anything.
    pub(super) fn drain_watchers(&mut self, index: usize) -> bool {
        let now = self.world.now;
        let mut is_busy = false;
        for number in self.users[index].watchers.keys().copied().collect::<Vec<_>>() {
            is_busy |= self.users[index].drain_watcher(number, now);
            loop {
                let user = &mut self.users[index];
                let watcher = user.watchers.get_mut(&number).filter(|watcher| watcher.wants_messages());
                let Some(watcher) = watcher else { break };
                match self.world.take_in(index, &watcher.session().lane().into()) {
                    Some(payload) => watcher.handle_message(payload, now),
                    None if user.is_over => watcher.handle_closed(),
                    None => break,
                }
                is_busy = true;
                user.drain_watcher(number, now);
            }
        }
        is_busy
    }
}
