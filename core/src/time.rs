//! Time as the machines see it: a number that the caller hands in.
//!
//! The core reads no clock. Each input and each command carries `now`, and [`Instant`] is what it carries: microseconds
//! since an origin that the caller chose once for the life of a machine (the start of the process, the first input of a
//! test). That makes literals in tests, traces that can be replayed, and machines that run without `std`.
//!
//! The one rule: for one machine the origin stays the same and the clock should count the time that the computer was
//! asleep (`CLOCK_BOOTTIME` on Linux). A clock that runs backwards is harmless: an earlier `now` is taken for the latest
//! one seen (see [`Clock`]).

use core::fmt;
use core::ops::Add;
use core::ops::Sub;
use core::time::Duration;

/// A point in time, in microseconds since the caller's origin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The caller's origin.
    pub const ZERO: Self = Self(0);

    /// The point `micros` microseconds after the origin.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The point `millis` milliseconds after the origin, saturating at the end of time.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// The point `secs` seconds after the origin, saturating at the end of time.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the origin.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Milliseconds since the origin, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// The time from `earlier` to `self`, zero when `earlier` is the later one.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the end of time. A fraction of a microsecond counts as a whole one, so that no deadline is early.
    fn add(self, duration: Duration) -> Self {
        let micros = duration.as_secs().saturating_mul(1_000_000);
        Self(self.0.saturating_add(micros).saturating_add(duration.subsec_nanos().div_ceil(1_000).into()))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The same as [`Instant::saturating_since`].
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// The latest time that a machine has seen.
///
/// Every machine passes the caller's `now` through one of these first, so that a clock that runs backwards freezes time
/// for a moment and does nothing worse: no timer is lost and no subtraction underflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that has seen `now`.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self(now)
    }

    /// Takes the caller's `now` and returns the time to reckon with, which never runs backwards.
    pub fn advance(&mut self, now: Instant) -> Instant {
        self.0 = self.0.max(now);
        self.0
    }

    /// The latest time seen.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.0
    }
}

/// A rate in bytes per second: the slowest that still counts as progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate(pub u32);

impl Rate {
    /// Whether `bytes` in `elapsed` are progress at this rate. No bytes never are.
    #[must_use]
    pub fn is_met(self, bytes: u64, elapsed: Duration) -> bool {
        bytes > 0 && u128::from(bytes) * 1_000_000 >= u128::from(self.0) * elapsed.as_micros()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early_by_a_rounded_fraction() {
        let at = Instant::ZERO + Duration::from_nanos(1_500);
        assert_eq!(at, Instant::from_micros(2));
    }

    #[test]
    fn time_saturates_at_its_end() {
        let end = Instant::from_micros(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(Instant::from_secs(u64::MAX), end);
        assert_eq!(Instant::ZERO + Duration::MAX, end);
    }

    #[test]
    fn a_clock_that_runs_backwards_stands_still() {
        let mut clock = Clock::new(Instant::from_secs(10));
        assert_eq!(clock.advance(Instant::from_secs(3)), Instant::from_secs(10));
        assert_eq!(clock.advance(Instant::from_secs(11)), Instant::from_secs(11));
    }
}
