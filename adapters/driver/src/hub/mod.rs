//! Sessions and questions to people, on a server: the hub of the core behind a lock, fed by the connections that serve it.
//!
//! A connection's driver pulls what its client watches, each time it takes a turn and as long as the client takes more. So what
//! is published is encoded once, waits in the log of its session and nowhere else, and costs a slow client's connection nothing.
//!
//! The lock of a hub may be taken under that of a connection, and never the other way round.

mod feed;
mod log;
mod question;
mod session;
mod session_watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::task::Poll;

use futures_util::task::AtomicWaker;
use reattach_core::hub;
use reattach_core::hub::Config;
use reattach_core::hub::Event;
use reattach_core::id::ConnectionId;
use reattach_core::id::Epoch;
use reattach_core::id::Principal;
use reattach_core::id::SessionId;
use reattach_core::messages::PermissionId;
use reattach_core::permission::BrokerStats;
use reattach_core::server::Peer;
use reattach_core::session::SessionMisuse;
use reattach_core::time::Instant;

use crate::alarm;
use crate::alarm::Alarm;
use crate::connection::Connection;
use crate::events::Events;
use crate::events::Subscription;
use crate::hub::feed::HubFeed;
use crate::hub::question::Promise;
use crate::meter::QuestionsMeter;
use crate::mint;
use crate::requests::IncomingCall;
use crate::requests::Router;
use crate::runtime::Runtime;
use crate::runtime::Task;
use crate::server::Server;
use crate::shared::Shared;

pub(crate) use self::feed::Feed;
pub(crate) use self::feed::Standing;
pub use self::question::Question;
pub use self::session::Session;
pub use self::session_watch::SessionWatch;

/// The sessions of a server, and the questions in them. Cheap to clone. When the last clone and the last [`Session`] is dropped, or
/// the runtime is gone, questions are denied, and whoever watches hears no more.
#[derive(Clone)]
pub struct Hub(Arc<Handle>);

struct Handle(Arc<HubShared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
        self.0.timer.wake();
    }
}

/// Held by the task that keeps the time. With the runtime that goes too, and nothing would be denied any more.
struct Timekeeper(Arc<HubShared>);

impl Drop for Timekeeper {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What the handles, the connections and the timer share.
pub(crate) struct HubShared {
    state: Mutex<State>,
    runtime: Arc<dyn Runtime>,
    timer: AtomicWaker,
}

struct State {
    hub: hub::Hub,
    /// Who waits for which verdict. An entry goes when its question is decided.
    verdicts: BTreeMap<PermissionId, Promise>,
    connections: BTreeMap<ConnectionId, Served>,
    /// How many feeds there were.
    feeds: u64,
    subscribers: Vec<Weak<Subscription<Event>>>,
    /// What the timer is set for.
    armed: Option<Instant>,
    is_closed: bool,
    meter: QuestionsMeter,
}

/// A connection that serves the hub.
struct Served {
    shared: Weak<Shared<Peer>>,
    /// Which feed fills it.
    number: u64,
    /// Whether its driver was woken and has not pulled since.
    is_woken: bool,
}

/// Whom to tell what once the hub is unlocked: who is woken may come back here.
#[derive(Default)]
struct After {
    events: Vec<Event>,
    subscribers: Vec<Arc<Subscription<Event>>>,
    pulling: Vec<Arc<Shared<Peer>>>,
    decided: Vec<(Promise, reattach_core::permission::Verdict)>,
    wakes_timer: bool,
}

impl Hub {
    /// A hub without sessions, on the runtime of a server. It lives as long as its handles, whatever becomes of the server.
    #[must_use]
    pub fn new(server: &Server, config: Config) -> Self {
        let runtime = Arc::clone(server.runtime());
        let now = runtime.now();
        let state = State {
            hub: hub::Hub::new(config, now),
            verdicts: BTreeMap::new(),
            connections: BTreeMap::new(),
            feeds: 0,
            subscribers: Vec::new(),
            armed: None,
            is_closed: false,
            meter: QuestionsMeter::new(),
        };
        let shared = Arc::new(HubShared { state: Mutex::new(state), runtime, timer: AtomicWaker::new() });
        shared.spawn_timer();
        server.enlist(Arc::downgrade(&shared));
        Self(Arc::new(Handle(shared)))
    }

    /// Begins a session of a principal. It lasts until it is [removed](Session::remove).
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::SessionExists`], [`SessionMisuse::TooMany`].
    pub fn create(&self, id: SessionId, principal: Principal) -> Result<Session, SessionMisuse> {
        let epoch = Epoch::from_bytes(mint::nonce(&*self.shared().runtime));
        self.shared().change(|state, _| state.hub.create(id.clone(), principal, epoch))?;
        log::begun(&id);
        Ok(Session::new(self.clone(), id))
    }

    /// A session, where there is one of this name.
    #[must_use]
    pub fn session(&self, id: &SessionId) -> Option<Session> {
        let exists = self.shared().lock().hub.sessions().log(id).is_some();
        exists.then(|| Session::new(self.clone(), id.clone()))
    }

    /// Serves a connection until it ends: what it asks of the hub, what it watches, and everything else by a router. Two of these
    /// for one connection share its requests; a connection serves one hub, the one that it was given last.
    pub async fn serve(&self, connection: &Connection, router: &Router) {
        self.attach(connection);
        let cid = connection.id();
        let shared = Arc::clone(self.shared());
        connection.serve_where(router, move |call| shared.serve(cid, call)).await;
    }

    /// Sends a connection what it watches, from here on. [`Hub::serve`] does that and more; this is for applications that take
    /// requests themselves, and give the hub its own by [`Hub::handle_call`].
    pub fn attach(&self, connection: &Connection) {
        let (shared, cid) = (connection.shared(), connection.id());
        let now = self.shared().runtime.now();
        // Until the feed is in its place, so that of several the last one counts here and there.
        let mut state = shared.lock();
        let (number, after) = self.shared().lock().admit(cid, Arc::downgrade(shared), now);
        let feed = HubFeed::new(Arc::clone(self.shared()), cid, number, connection.principal().clone());
        let before = state.feed.replace(Box::new(feed));
        // The hub knows of the connection before anything that it asks for is served.
        _ = state.fill(now);
        let woken = std::mem::take(&mut state.woken);
        drop(state);
        self.shared().finish(after);
        woken.wake();
        // That one locks its hub.
        drop(before);
        shared.wake_driver();
    }

    /// Does what a connection asks for, where that is for a hub; else gives it back.
    ///
    /// # Errors
    ///
    /// The call itself, where its method is not one of a hub's.
    pub fn handle_call(&self, connection: &Connection, call: IncomingCall) -> Result<(), IncomingCall> {
        self.shared().serve(connection.id(), call).map_or(Ok(()), Err)
    }

    /// What happens from here on: sessions that are owned or detached, connections that are gone, questions that are decided.
    #[must_use]
    pub fn events(&self) -> Events<Event> {
        let subscription = Arc::new(Subscription::new());
        let mut state = self.shared().lock();
        if state.is_closed {
            subscription.end();
        } else {
            state.subscribers.push(Arc::downgrade(&subscription));
        }
        Events::new(subscription)
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared().lock().hub.sessions().len()
    }

    /// What was counted of the questions since the hub was made, and of the answers to them. Every question that was asked is open
    /// or is counted under its one end.
    #[must_use]
    pub fn question_stats(&self) -> BrokerStats {
        self.shared().lock().hub.question_stats()
    }

    /// How many questions are open, in all sessions.
    #[must_use]
    pub fn open_questions(&self) -> usize {
        self.shared().open_questions()
    }

    pub(crate) fn shared(&self) -> &Arc<HubShared> {
        &self.0.0
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("sessions", &self.sessions()).finish_non_exhaustive()
    }
}

impl HubShared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the hub, and tells whom it concerns.
    fn change<T>(&self, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = self.runtime.now();
        let mut state = self.lock();
        let result = change(&mut state, now);
        let after = state.settle(now);
        drop(state);
        self.finish(after);
        result
    }

    /// How many questions are open.
    pub(crate) fn open_questions(&self) -> usize {
        self.lock().hub.broker().len()
    }

    /// Nobody asks any more, or nobody would end what is asked: whoever waits is told.
    fn close(&self) {
        self.change(|state, now| {
            state.is_closed = true;
            for id in state.verdicts.keys().cloned().collect::<Vec<_>>() {
                // It is open, or it would not be waited for.
                _ = state.hub.cancel(&id, now);
            }
        });
        let subscribers = std::mem::take(&mut self.lock().subscribers);
        for subscriber in subscribers.iter().filter_map(Weak::upgrade) {
            subscriber.end();
        }
    }

    fn finish(&self, after: After) {
        for shared in after.pulling {
            shared.wake_driver();
        }
        for event in &after.events {
            for subscriber in &after.subscribers {
                subscriber.push(event.clone());
            }
        }
        for (promise, verdict) in after.decided {
            promise.keep(verdict);
        }
        if after.wakes_timer {
            self.timer.wake();
        }
    }

    /// Does what a connection asks for; gives back what is not for a hub.
    fn serve(&self, connection: ConnectionId, call: IncomingCall) -> Option<IncomingCall> {
        let about = match &call {
            IncomingCall::Request(request) => &**request,
            IncomingCall::Notification(notification) => notification,
        };
        let result = self.change(|state, now| {
            // A connection that has ended meanwhile is not made anew.
            state.hub.handle_request(connection, about.method(), about.payload(), now)
        });
        let Some(result) = result else { return Some(call) };
        log::served(connection, about.method(), about.payload(), &result);
        if let IncomingCall::Request(request) = call {
            // Nobody may wait any more.
            _ = request.respond_with(result);
        }
        None
    }

    /// Has a task keep the time, for as long as there is a handle.
    fn spawn_timer(self: &Arc<Self>) {
        let keeper = Timekeeper(Arc::clone(self));
        let mut alarm = Alarm::new(self.runtime.timer());
        self.runtime.spawn(Task::new(std::future::poll_fn(move |cx| {
            let shared = &keeper.0;
            shared.timer.register(cx.waker());
            loop {
                let is_closed = shared.change(|state, now| {
                    if state.hub.poll_timeout().is_some_and(|at| at <= now) {
                        state.hub.handle_timeout(now);
                    }
                    if let Some(at) = state.hub.poll_timeout() {
                        alarm.arm(at, now);
                    }
                    state.armed = alarm.set_for();
                    state.is_closed
                });
                if is_closed {
                    return Poll::Ready(());
                }
                if alarm.poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })));
    }
}

impl State {
    /// Whom to tell what, after something was done.
    fn settle(&mut self, now: Instant) -> After {
        let mut after = After::default();
        while let Some(event) = self.hub.poll_event() {
            log::happened(&event);
            match &event {
                Event::Decided { id, verdict } => {
                    if let Some(promise) = self.verdicts.remove(id) {
                        after.decided.push((promise, verdict.clone()));
                    }
                }
                Event::Published { session } => {
                    let observers = self.hub.sessions().reachable(session);
                    wake(&mut self.connections, observers, &mut after);
                    continue;
                }
                Event::Ended { observers, .. } => wake(&mut self.connections, observers.iter().copied(), &mut after),
                Event::Session(_) | _ => {}
            }
            after.events.push(event);
        }
        if !after.events.is_empty() {
            self.subscribers.retain(|subscriber| subscriber.strong_count() > 0);
            after.subscribers.extend(self.subscribers.iter().filter_map(Weak::upgrade));
        }
        self.meter.measure(&self.hub.question_stats(), self.hub.broker().len());
        let next = self.hub.poll_timeout();
        after.wakes_timer = next.is_some_and(|at| alarm::is_sooner(at, self.armed, now));
        after
    }

    /// A connection is to be served. Returns the number of its feed, and whom to tell what.
    fn admit(&mut self, connection: ConnectionId, shared: Weak<Shared<Peer>>, now: Instant) -> (u64, After) {
        self.feeds += 1;
        let served = Served { shared: shared.clone(), number: self.feeds, is_woken: false };
        let before = self.connections.insert(connection, served);
        if before.is_some_and(|before| !before.shared.ptr_eq(&shared)) {
            // Another one of this name, of which it was not told yet that it is gone.
            self.hub.handle_gone(connection, now);
        }
        (self.feeds, self.settle(now))
    }

    /// A connection is gone for good, unless another feed than this one fills it.
    fn forget(&mut self, connection: ConnectionId, number: u64, now: Instant) {
        if self.connections.get(&connection).is_some_and(|served| served.number == number) {
            self.connections.remove(&connection);
            self.hub.handle_gone(connection, now);
        }
    }
}

/// The drivers of these connections shall pull.
fn wake(
    connections: &mut BTreeMap<ConnectionId, Served>,
    observers: impl Iterator<Item = ConnectionId>,
    after: &mut After,
) {
    for observer in observers {
        if let Some(served) = connections.get_mut(&observer).filter(|served| !served.is_woken) {
            served.is_woken = true;
            after.pulling.extend(served.shared.upgrade());
        }
    }
}
