//! One timer: a point in time that is armed, or not.
//!
//! Machines hold deadlines, not timers; a parent folds the deadlines of its children with [`soonest`] into the one that
//! the adapter waits for. There is no sentinel for "never": that is `None`.

use core::time::Duration;

use crate::time::Instant;

/// A deadline that may be armed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// Not armed.
    pub const UNARMED: Self = Self(None);

    /// Armed for `after` from `now`.
    #[must_use]
    pub fn after(now: Instant, after: Duration) -> Self {
        Self(Some(now + after))
    }

    /// Arms it for `at`, whatever it was armed for.
    pub fn arm(&mut self, at: Instant) {
        self.0 = Some(at);
    }

    /// Arms it for `at` unless it is armed for an earlier time.
    pub fn arm_no_later_than(&mut self, at: Instant) {
        self.0 = Some(self.0.map_or(at, |armed| armed.min(at)));
    }

    /// Disarms it.
    pub fn disarm(&mut self) {
        self.0 = None;
    }

    /// Whether it is armed and its time has come.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.0.is_some_and(|at| at <= now)
    }

    /// Disarms it if its time has come, and says whether it had.
    pub fn take_due(&mut self, now: Instant) -> bool {
        let due = self.is_due(now);
        if due {
            self.0 = None;
        }
        due
    }

    /// What it is armed for.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.0
    }
}

/// The earliest of several deadlines.
pub fn soonest(deadlines: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    deadlines.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_due_at_its_time_and_only_once() {
        let mut deadline = Deadline::after(Instant::from_secs(1), Duration::from_secs(4));
        assert!(!deadline.take_due(Instant::from_micros(4_999_999)));
        assert!(deadline.take_due(Instant::from_secs(5)));
        assert!(!deadline.take_due(Instant::from_secs(6)));
        assert_eq!(deadline, Deadline::UNARMED);
    }

    #[test]
    fn the_soonest_deadline_ignores_what_is_not_armed() {
        let mut deadline = Deadline::UNARMED;
        deadline.arm_no_later_than(Instant::from_secs(3));
        deadline.arm_no_later_than(Instant::from_secs(9));
        assert_eq!(soonest([None, deadline.poll_timeout(), Some(Instant::from_secs(4))]), Some(Instant::from_secs(3)));
        assert_eq!(soonest([None, None]), None);
    }
}
