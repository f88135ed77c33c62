//! What the handles of a connection and the task that drives it share: the machine, behind one lock.
//!
//! Because the application takes messages out of the machine itself, under that lock, the moment of hand-over is exact: what
//! an application has not taken, a machine that ends can say for certain that nobody took.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use event_listener::Event;
use event_listener::EventListener;
use futures_util::task::AtomicWaker;
use reattach_core::connection::Stats;
use reattach_core::error::ApiMisuse;
use reattach_core::id::Epoch;
use reattach_core::id::Lane;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::id::TransportId;
use reattach_core::link::Acceptance;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Handle;
use reattach_core::link::Lanes;
use reattach_core::link::Outgoing;
use reattach_core::rpc;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;
use rustc_hash::FxHashMap;

use crate::alarm;
use crate::events::Events;
use crate::events::Subscription;
use crate::hub::Feed;
use crate::hub::Standing;
use crate::machine::Machine;
use crate::mint;
use crate::receipt::Promise;
use crate::receipt::Receipt;
use crate::received::Deciding;
use crate::received::Received;
use crate::requests::rpc::LANES;
use crate::requests::rpc::RESERVED;
use crate::requests::rpc::RpcState;
use crate::requests::rpc::Woken;
use crate::runtime::Runtime;
use crate::runtime::Timer;
use crate::socket::Socket;

/// For how many lanes without a reader it is remembered that nobody shall have them: somewhat more than a client watches sessions.
const MAX_ABANDONED: usize = 128;

/// The machine and what surrounds it.
pub(crate) struct State<M: Machine> {
    pub(crate) machine: M,
    /// Who waits for which outcome. An entry goes when its outcome comes. There are no more than the outbox holds and this
    /// program names them, so their hash need not withstand anybody.
    receipts: FxHashMap<MessageId, Promise>,
    /// Requests, once there is any.
    pub(crate) requests: Option<Box<RpcState>>,
    /// What fills the connection while its peer takes more.
    pub(crate) feed: Option<Box<dyn Feed>>,
    /// Lanes whose reader is gone, the oldest first: what still comes in them is for nobody.
    abandoned: VecDeque<Lane>,
    /// Whom to wake once this is unlocked.
    pub(crate) woken: Woken,
    /// When it is closed at the latest: answers that were given are sent before.
    closing: Option<Instant>,
    /// The time at which messages are taken until the driver's next turn.
    taking: Option<Instant>,
    subscribers: Vec<Weak<Subscription<M::Event>>>,
    /// Lanes whose messages are kept for a reader of their own; those of requests always are.
    claimed: Cow<'static, BTreeSet<Lane>>,
    /// Transports that the server has handed over and the driver has not picked up.
    pub(crate) arrivals: Vec<(TransportId, Socket)>,
    /// What the driver's timer is set for.
    pub(crate) armed: Option<Instant>,
    /// Counts changes that watchers are told of.
    pub(crate) version: u64,
    /// Whether a driver looks after the machine, or is about to.
    pub(crate) is_driven: bool,
    /// Whether there is somebody who waits for the leases of what is in the application's hands after the end.
    pub(crate) lingers: bool,
}

impl<M: Machine> State<M> {
    /// Tells an event to whoever waits for it. Returns whether it was an outcome, which frees room; anything else is a change
    /// that watchers are told of.
    pub(crate) fn tell(&mut self, event: &M::Event, now: Instant) -> bool {
        self.subscribers.retain(|subscriber| match subscriber.upgrade() {
            Some(subscription) => {
                subscription.push(event.clone());
                true
            }
            None => false,
        });
        let told = M::outcome(event);
        if let Some(requests) = &mut self.requests {
            if let Some((id, outcome)) = &told {
                requests.on_outcome(id, outcome, now);
            } else if let Some(cause) = M::end(event) {
                requests.rpc.handle_ended(&cause, now);
            }
        }
        let Some((id, outcome)) = told else {
            self.version += 1;
            return false;
        };
        if let Some(promise) = self.receipts.remove(&id) {
            self.woken.wakers.extend(promise.keep(outcome));
        }
        true
    }

    /// Carries between the connection and its requests, where there are any. Returns whether anything was done.
    pub(crate) fn pump(&mut self, now: Instant) -> bool {
        let Self { requests: Some(requests), machine, woken, .. } = self else { return false };
        requests.pump(machine, woken, now)
    }

    /// Has the connection filled with what there is for it, as long as the peer takes more. Returns whether anything was sent.
    pub(crate) fn fill(&mut self, now: Instant) -> bool {
        let Self { feed: Some(feed), machine, woken, .. } = self else { return false };
        let standing =
            Standing { epoch: machine.epoch(), is_attached: machine.is_attached(), is_over: machine.is_over() };
        feed.begin(standing, woken, now);
        let mut is_done = false;
        if standing.is_attached && !standing.is_over {
            let takes = |machine: &M, lane: &Lane, len| machine.connection().link().outbox().would_write(lane, len);
            let mut refused = BTreeSet::new();
            while let Some((lane, payload)) = feed.next(&|lane, len| takes(machine, lane, len)) {
                if machine.send(Outgoing::from(payload).in_lane(lane.clone()), now).is_ok() {
                    is_done = true;
                    continue;
                }
                feed.unsent(woken);
                // Not even that something was lost can be said: the connection is being closed, or its peer takes next to nothing.
                if !refused.insert(lane) {
                    break;
                }
            }
        }
        is_done
    }

    /// Takes what comes for readers that are gone. Returns whether there was anything.
    pub(crate) fn clear_abandoned(&mut self, now: Instant) -> bool {
        let mut is_done = false;
        if self.abandoned.is_empty() || !self.machine.has_delivery_from(Lanes::All) {
            return false;
        }
        for lane in &self.abandoned {
            while let Some(delivery) = self.machine.take_from(Lanes::Only(lane), now) {
                is_done = true;
                if let Some(handle) = delivery.handle() {
                    _ = self.machine.decide(handle, Decision::Accept, now);
                }
            }
        }
        is_done
    }

    fn has_unsent_responses(&self) -> bool {
        self.requests.as_ref().is_some_and(|requests| requests.rpc.unsent_responses() > 0)
    }

    /// Closes what waits for that, if it is time. Returns whether it was.
    pub(crate) fn close_if_due(&mut self, now: Instant) -> bool {
        let has_unsent_responses = self.has_unsent_responses();
        let Some(at) = self.closing.take_if(|at| *at <= now || !has_unsent_responses) else { return false };
        self.machine.close(at - now, now);
        true
    }

    /// Whether requests have come, or answers, and nobody is there yet to take them.
    pub(crate) fn wants_requests(&self) -> bool {
        self.requests.is_none() && LANES.iter().any(|lane| self.machine.has_delivery_from(Lanes::Only(lane)))
    }

    /// Whether the driver takes a turn: what time it is is asked again.
    pub(crate) const fn begin_turn(&mut self) {
        self.taking = None;
    }

    /// Whether nobody will ask anything any more.
    pub(crate) fn has_no_more_requests(&self) -> bool {
        self.machine.is_over() && !self.has_incoming() && !self.machine.has_delivery_from(Lanes::Only(&LANES[0]))
    }

    /// Whether somebody who serves requests has something to take.
    pub(crate) fn has_incoming(&self) -> bool {
        self.requests.as_ref().is_some_and(|requests| requests.rpc.has_incoming())
    }

    /// When time matters next, to the connection or to its requests.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let of_requests = self.requests.as_ref().and_then(|requests| requests.rpc.poll_timeout());
        self.machine.poll_timeout().into_iter().chain(of_requests).chain(self.closing).min()
    }

    /// Whether nothing of these lanes can be handed over any more.
    pub(crate) fn is_silent_for_good(&self, lanes: Lanes<'_>) -> bool {
        let is_over = !self.is_driven && !self.lingers;
        let is_held_up = !is_over && self.machine.held_up_until(lanes).is_some();
        !self.machine.has_delivery_from(lanes) && !self.machine.is_expecting() && !is_held_up
    }

    /// Nothing more will be told.
    pub(crate) fn end_subscriptions(&mut self) {
        for subscriber in self.subscribers.drain(..) {
            if let Some(subscription) = subscriber.upgrade() {
                subscription.end();
            }
        }
    }
}

/// What the reader of a lane finds.
pub(crate) enum Taken {
    /// A message, and the epoch in which it came.
    Message(Received, Option<Epoch>),
    /// The epoch is another one than before: what was on its way may be lost.
    InAnotherEpoch,
    /// Nothing, and nothing more will come.
    Nothing,
}

/// The lock, and the ways to wake each other.
pub(crate) struct Shared<M: Machine> {
    state: Mutex<State<M>>,
    /// Whose clock it is.
    runtime: Arc<dyn Runtime>,
    rpc_config: rpc::Config,
    driver: AtomicWaker,
    /// Something can be taken, or nothing will come any more.
    pub(crate) delivery: Event,
    /// Room came free, or none will any more.
    pub(crate) room: Event,
    /// The version has changed.
    pub(crate) changed: Event,
}

impl<M: Machine> Shared<M> {
    pub(crate) fn new(machine: M, runtime: Arc<dyn Runtime>, rpc_config: rpc::Config) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            rpc_config,
            state: Mutex::new(State {
                machine,
                receipts: FxHashMap::default(),
                requests: None,
                feed: None,
                abandoned: VecDeque::new(),
                woken: Woken::default(),
                closing: None,
                taking: None,
                subscribers: Vec::new(),
                claimed: Cow::Borrowed(&RESERVED),
                arrivals: Vec::new(),
                armed: None,
                version: 0,
                is_driven: true,
                lingers: false,
            }),
            driver: AtomicWaker::new(),
            delivery: Event::new(),
            room: Event::new(),
            changed: Event::new(),
        })
    }

    /// The state. A panic elsewhere does not make it unusable: the driver that panicked ends the machine.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A timer that is not set.
    pub(crate) fn timer(&self) -> Box<dyn Timer> {
        self.runtime.timer()
    }

    /// The time now.
    pub(crate) fn now(&self) -> Instant {
        self.runtime.now()
    }

    pub(crate) const fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }

    /// The requests of a connection, which are made with the first.
    pub(crate) fn requests<'s>(&self, state: &'s mut State<M>, now: Instant) -> &'s mut RpcState {
        let State { requests, machine, .. } = state;
        requests.get_or_insert_with(|| {
            let mut requests =
                Box::new(RpcState::new(self.rpc_config, &mint::nonce(&*self.runtime), machine.epoch(), now));
            if machine.is_over() {
                requests.rpc.handle_ended("it had ended before", now);
            }
            requests
        })
    }

    /// Whether it is being closed, but for answers.
    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing.is_some()
    }

    /// Calls a command on the requests, and sees to what follows.
    pub(crate) fn with_requests<T>(&self, command: impl FnOnce(&mut RpcState, Instant) -> T) -> T {
        let now = self.now();
        let result;
        let mut state = self.lock();
        // What has come is taken first.
        self.requests(&mut state, now);
        let had_come = state.pump(now);
        result = command(self.requests(&mut state, now), now);
        let is_changed = state.pump(now) || had_come;
        // What finds no room changes nothing, and has its time all the same.
        let is_sooner = || state.poll_timeout().is_some_and(|at| alarm::is_sooner(at, state.armed, now));
        let needs_driver = is_changed || is_sooner();
        let has_incoming = state.has_incoming();
        let woken = std::mem::take(&mut state.woken);
        drop(state);
        woken.wake();
        if has_incoming {
            self.delivery.notify(usize::MAX);
        }
        if needs_driver {
            self.wake_driver();
        }
        result
    }

    /// Has the driver take a turn.
    pub(crate) fn wake_driver(&self) {
        self.driver.wake();
    }

    /// The driver is about to look at everything; what happens from here on wakes it.
    pub(crate) fn register_driver(&self, cx: &Context<'_>) {
        self.driver.register(cx.waker());
    }

    /// Wakes everybody who waits for something that may have happened.
    pub(crate) fn notify_all(&self) {
        self.delivery.notify(usize::MAX);
        self.room.notify(usize::MAX);
        self.changed.notify(usize::MAX);
    }

    /// Calls a command on the machine and has the driver see to what follows.
    pub(crate) fn command<T>(&self, command: impl FnOnce(&mut M, Instant) -> T) -> T {
        let result = command(&mut self.lock().machine, self.now());
        self.wake_driver();
        result
    }

    pub(crate) fn try_send(&self, message: Outgoing) -> Result<Receipt, ApiMisuse> {
        let mut state = self.lock();
        if state.closing.is_some() {
            return Err(ApiMisuse::Ended);
        }
        let id = state.machine.send(message, self.now())?;
        let (receipt, promise) = Receipt::new(id);
        state.receipts.insert(id, promise);
        drop(state);
        self.wake_driver();
        Ok(receipt)
    }

    pub(crate) async fn send(&self, message: Outgoing) -> Result<Receipt, ApiMisuse> {
        loop {
            match self.try_send(message.clone()) {
                Err(ApiMisuse::QueueFull) => {}
                result => return result,
            }
            // Listening before the second look: room that comes free between it and the wait is not missed.
            let room = self.room.listen();
            match self.try_send(message.clone()) {
                Err(ApiMisuse::QueueFull) => room.await,
                result => return result,
            }
        }
    }

    pub(crate) fn send_ephemeral(&self, key: Name, payload: Payload) -> Result<(), ApiMisuse> {
        self.command(|machine, now| machine.send_ephemeral(key, payload, now))
    }

    /// Hands the next message over, if there is one.
    pub(crate) fn try_recv(self: &Arc<Self>) -> Option<Received> {
        let mut state = self.lock();
        let now = self.time_of_taking(&mut state);
        let State { machine, claimed, .. } = &mut *state;
        let delivery = machine.take_from(Lanes::Except(claimed), now);
        self.hand_over(state, delivery)
    }

    /// The time for taking a message. A lease is reckoned from it. Where there is none, it is asked once between two turns of the
    /// driver, for asking costs as much as taking a message; what is taken much later has the driver report, which is a turn.
    fn time_of_taking(&self, state: &mut State<M>) -> Instant {
        match state.machine.connection().link().config().acceptance {
            Acceptance::Manual => self.now(),
            Acceptance::Automatic => *state.taking.get_or_insert_with(|| self.now()),
        }
    }

    /// Goes on after a message was taken, or none was there.
    fn hand_over(self: &Arc<Self>, state: MutexGuard<'_, State<M>>, delivery: Option<Delivery>) -> Option<Received> {
        let has_more = delivery.is_some() && state.machine.has_delivery_from(Lanes::All);
        let due = state.machine.connection().poll_timeout_of_inbox();
        let is_report_due = due.is_some_and(|at| state.armed.is_none_or(|armed| at < armed));
        // After the end, once something was taken, there may be another lease to wait for, or nothing more.
        let is_awaited = is_report_due || (state.lingers && delivery.is_some());
        drop(state);
        if has_more {
            self.delivery.notify(usize::MAX);
        }
        if is_awaited {
            self.wake_driver();
        }
        Some(Received::new(delivery?, || Arc::clone(self) as Arc<dyn Deciding>))
    }

    pub(crate) async fn recv(self: &Arc<Self>) -> Option<Received> {
        let mut listener = None;
        std::future::poll_fn(|cx| self.poll_recv(&mut listener, cx)).await
    }

    /// Hands the next message over, or has the task woken when there may be one.
    pub(crate) fn poll_recv(
        self: &Arc<Self>,
        listener: &mut Option<EventListener>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Received>> {
        let is_silent = || {
            let state = self.lock();
            state.is_silent_for_good(Lanes::Except(&state.claimed))
        };
        self.poll_until(listener, cx, || self.try_recv().map(Some), || is_silent().then_some(None))
    }

    /// The same for the messages of a lane that was claimed. Where `epoch` is given, nothing is taken in another one.
    pub(crate) fn poll_recv_in(
        self: &Arc<Self>,
        lane: &Lane,
        epoch: Option<Epoch>,
        listener: &mut Option<EventListener>,
        cx: &mut Context<'_>,
    ) -> Poll<Taken> {
        let take = || {
            let mut state = self.lock();
            let current = state.machine.epoch();
            if epoch.is_some() && current.is_some() && epoch != current {
                return Some(Taken::InAnotherEpoch);
            }
            let now = self.time_of_taking(&mut state);
            let delivery = state.machine.take_from(Lanes::Only(lane), now);
            self.hand_over(state, delivery).map(|received| Taken::Message(received, current))
        };
        let is_silent = || self.lock().is_silent_for_good(Lanes::Only(lane)).then_some(Taken::Nothing);
        self.poll_until(listener, cx, take, is_silent)
    }

    /// Looks for something, or for a reason not to wait for it; else has the task woken when there may be something.
    pub(crate) fn poll_until<T>(
        &self,
        listener: &mut Option<EventListener>,
        cx: &mut Context<'_>,
        look: impl Fn() -> Option<T>,
        is_in_vain: impl Fn() -> Option<T>,
    ) -> Poll<T> {
        loop {
            if let Some(found) = look() {
                *listener = None;
                return Poll::Ready(found);
            }
            if let Some(listening) = listener {
                ready!(Pin::new(listening).poll(cx));
                *listener = None;
                continue;
            }
            // Listening before another look: what comes between it and the wait is not missed.
            *listener = Some(self.delivery.listen());
            if let Some(nothing) = is_in_vain() {
                *listener = None;
                // Whoever else waits for it waits in vain too.
                self.delivery.notify(usize::MAX);
                return Poll::Ready(nothing);
            }
        }
    }

    /// Keeps a lane's messages for one reader. Returns whether nobody had them before.
    pub(crate) fn claim(&self, lane: &Lane) -> bool {
        let mut state = self.lock();
        let abandoned = state.abandoned.iter().position(|abandoned| abandoned == lane);
        let was_abandoned = abandoned.and_then(|index| state.abandoned.remove(index)).is_some();
        was_abandoned || state.claimed.to_mut().insert(lane.clone())
    }

    /// A lane's reader is gone, and nobody else shall have what comes in it.
    pub(crate) fn abandon(&self, lane: &Lane) {
        let now = self.now();
        let mut state = self.lock();
        state.abandoned.push_back(lane.clone());
        _ = state.clear_abandoned(now);
        // By then nothing comes in the first of them any more.
        while state.abandoned.len() > MAX_ABANDONED {
            if let Some(oldest) = state.abandoned.pop_front() {
                state.claimed.to_mut().remove(&oldest);
            }
        }
        drop(state);
        self.wake_driver();
    }

    /// Lets whoever receives have a lane's messages again.
    pub(crate) fn release(&self, lane: &Lane) {
        self.lock().claimed.to_mut().remove(lane);
        self.delivery.notify(usize::MAX);
    }

    /// The epoch that the connection is in, and how many it has been through.
    pub(crate) fn epoch(&self) -> (Option<Epoch>, u64) {
        let state = self.lock();
        let Stats { attached, resumed, .. } = state.machine.stats();
        (state.machine.epoch(), attached - resumed)
    }

    fn begin_close(&self, patience: Duration) {
        let now = self.now();
        let mut state = self.lock();
        state.closing = Some(now + patience);
        _ = state.close_if_due(now);
        drop(state);
        self.wake_driver();
    }

    pub(crate) async fn close(&self, patience: Duration) {
        self.begin_close(patience);
        self.ended().await;
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(&self) {
        loop {
            let changed = self.changed.listen();
            if self.lock().machine.is_over() {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn subscribe(&self) -> Events<M::Event> {
        let subscription = Arc::new(Subscription::new());
        let mut state = self.lock();
        if state.machine.is_over() {
            subscription.end();
        } else {
            state.subscribers.push(Arc::downgrade(&subscription));
        }
        Events::new(subscription)
    }

    pub(crate) fn stats(&self) -> Stats {
        self.lock().machine.stats()
    }
}

impl<M: Machine> Deciding for Shared<M> {
    fn decide(&self, handle: Handle, decision: Decision) -> Result<(), ApiMisuse> {
        let result = self.command(|machine, now| machine.decide(handle, decision, now));
        // The next of its lane may be free, or nothing is waited for any more.
        self.delivery.notify(usize::MAX);
        result
    }

    fn extend(&self, handle: Handle, lease: Duration) -> Result<(), ApiMisuse> {
        self.command(|machine, now| machine.extend(handle, lease, now))
    }
}
