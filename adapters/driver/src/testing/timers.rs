//! Virtual time: it stands still while anything can run, and then jumps to the next timer.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use reattach_core::time::Instant;

use crate::runtime::Timer;

/// The clock and who waits for it.
pub(super) struct Timers(Mutex<State>);

struct State {
    now: Instant,
    /// How many timers were set: those of the same time go off in the order in which they were set.
    set: u64,
    waiting: BTreeMap<(Instant, u64), Waker>,
}

/// What became of an attempt to let time pass.
pub(super) enum Passed {
    /// The next timers have gone off.
    ToTimer,
    /// The next timer is set for a time beyond the limit.
    BeyondLimit,
    /// No timer is set.
    NoTimer,
}

impl Timers {
    /// Virtual clocks start here: far enough from zero that a time before the start can be named.
    pub(super) const START: Instant = Instant::from_secs(1_000_000);

    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { now: Self::START, set: 0, waiting: BTreeMap::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Instant {
        self.lock().now
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now() - Self::START
    }

    /// Jumps to the next timer, unless that is beyond a limit.
    pub(super) fn pass(&self, limit: Instant) -> Passed {
        let mut state = self.lock();
        let Some((at, _)) = state.waiting.keys().next().copied() else { return Passed::NoTimer };
        if at > limit {
            return Passed::BeyondLimit;
        }
        state.now = state.now.max(at);
        let later = state.waiting.split_off(&(at, u64::MAX));
        let due = std::mem::replace(&mut state.waiting, later);
        drop(state);
        due.into_values().for_each(Waker::wake);
        Passed::ToTimer
    }

    /// A future that is ready after so long.
    pub(super) fn sleep(self: &Arc<Self>, after: Duration) -> Alarm {
        let mut alarm = Alarm::new(Arc::clone(self));
        alarm.set(after);
        alarm
    }
}

/// A timer of virtual time. It goes off for good: it stays elapsed until it is set again.
pub(super) struct Alarm {
    timers: Arc<Timers>,
    at: Option<Instant>,
    waiting: Option<(Instant, u64)>,
}

impl Alarm {
    /// One that is not set.
    pub(super) const fn new(timers: Arc<Timers>) -> Self {
        Self { timers, at: None, waiting: None }
    }

    /// Sets it to go off at a time, and has a task woken then.
    pub(super) fn wake_at(&mut self, at: Instant, waker: &Waker) {
        if self.at != Some(at) {
            self.unset();
            self.at = Some(at);
        }
        let mut state = self.timers.lock();
        let key = *self.waiting.get_or_insert_with(|| {
            state.set += 1;
            (at, state.set)
        });
        state.waiting.insert(key, waker.clone());
    }

    /// Nobody waits for it.
    pub(super) fn unset(&mut self) {
        self.at = None;
        if let Some(key) = self.waiting.take() {
            self.timers.lock().waiting.remove(&key);
        }
    }
}

impl Timer for Alarm {
    fn set(&mut self, after: Duration) {
        self.unset();
        self.at = Some(self.timers.now() + after);
    }

    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.at {
            Some(at) if at <= self.timers.now() => Poll::Ready(()),
            Some(at) => {
                self.wake_at(at, cx.waker());
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_elapsed(cx)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.unset();
    }
}
