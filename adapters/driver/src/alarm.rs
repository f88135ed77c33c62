//! A timer for times on a clock that goes on while the computer sleeps, over timers of runtimes, which may stop with it.

use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use reattach_core::time::Instant;

use crate::runtime::Timer;

/// The longest that a timer is set for, so that one which stops while the computer sleeps is late by no more than this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Wakes a task at a time, or sooner: whoever is woken looks at the clock, and arms it again.
pub(crate) struct Alarm {
    timer: Box<dyn Timer>,
    set_for: Option<Instant>,
}

/// Whether an alarm that is set for a time has to be set again to go off by `at`. One that has passed and has not woken anybody was
/// slept through.
pub(crate) fn is_sooner(at: Instant, set_for: Option<Instant>, now: Instant) -> bool {
    set_for.is_none_or(|set_for| at < set_for || set_for <= now)
}

impl Alarm {
    pub(crate) const fn new(timer: Box<dyn Timer>) -> Self {
        Self { timer, set_for: None }
    }

    /// For when it is set, if it is.
    pub(crate) const fn set_for(&self) -> Option<Instant> {
        self.set_for
    }

    /// Has it go off at a time, or sooner. Deadlines are put off with every message, and setting a runtime's timer costs more than
    /// being woken once for nothing: a later time is set when the sooner one has come.
    pub(crate) fn arm(&mut self, at: Instant, now: Instant) {
        if is_sooner(at, self.set_for, now) {
            let at = at.min(now + LONGEST_WAIT);
            self.set_for = Some(at);
            self.timer.set(at - now);
        }
    }

    /// Ready when it has gone off, once; pending before, with the task woken when it does, and where it is not set.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.set_for.is_none() || self.timer.poll_elapsed(cx).is_pending() {
            return Poll::Pending;
        }
        self.set_for = None;
        Poll::Ready(())
    }
}

impl std::fmt::Debug for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alarm").field("set_for", &self.set_for).finish_non_exhaustive()
    }
}
