//! The clock that the machines are given: monotonic, and counting the time that the computer was asleep.
//!
//! A clock that stops in suspend would make a phone that slept for an hour believe that its connection is a minute old. Linux
//! and Android have `CLOCK_BOOTTIME`. Elsewhere the monotonic clock is compared with the wall clock at every reading, and a
//! gap that only suspend explains is added.

use std::time::Duration;

use reattach_core::time::Instant;

/// The time now.
#[must_use]
pub fn now() -> Instant {
    imp::now()
}

/// How long it is until `at`; zero when that is past.
#[must_use]
pub fn until(at: Instant) -> Duration {
    at - now()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod imp {
    use reattach_core::time::Instant;
    use rustix::time::ClockId;
    use rustix::time::clock_gettime;

    pub(super) fn now() -> Instant {
        let since_boot = clock_gettime(ClockId::Boottime);
        let secs = u64::try_from(since_boot.tv_sec).expect("the time since boot is not negative");
        let micros = u64::try_from(since_boot.tv_nsec).expect("nanoseconds are not negative") / 1_000;
        Instant::from_micros(secs * 1_000_000 + micros)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod imp {
    use std::sync::LazyLock;
    use std::sync::Mutex;
    use std::time;

    use reattach_core::time::Instant;

    use super::SuspendGap;

    static ORIGIN: LazyLock<(time::Instant, Mutex<SuspendGap>)> =
        LazyLock::new(|| (time::Instant::now(), Mutex::new(SuspendGap::default())));

    pub(super) fn now() -> Instant {
        let (origin, gap) = &*ORIGIN;
        let wall = time::SystemTime::now().duration_since(time::UNIX_EPOCH).unwrap_or_default();
        let mut gap = gap.lock().expect("nothing panics while it reads the clock");
        Instant::ZERO + gap.correct(origin.elapsed(), wall)
    }
}

/// Finds the time that a monotonic clock did not count, by a wall clock that did.
#[cfg_attr(any(target_os = "linux", target_os = "android"), allow(dead_code))]
#[derive(Debug, Default)]
struct SuspendGap {
    /// The last readings, monotonic and wall.
    last: Option<(Duration, Duration)>,
    /// All the time that was missed.
    missed: Duration,
}

#[cfg_attr(any(target_os = "linux", target_os = "android"), allow(dead_code))]
impl SuspendGap {
    /// A wall clock that runs this far ahead between two readings was not merely adjusted: time services slew, and step by
    /// less.
    const SUSPEND: Duration = Duration::from_secs(5);

    /// The monotonic time with what it missed.
    fn correct(&mut self, monotonic: Duration, wall: Duration) -> Duration {
        if let Some((last_monotonic, last_wall)) = self.last.replace((monotonic, wall)) {
            let ran = monotonic.saturating_sub(last_monotonic);
            let gap = wall.saturating_sub(last_wall).saturating_sub(ran);
            if gap >= Self::SUSPEND {
                self.missed += gap;
            }
        }
        monotonic + self.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_clock_runs_forward() {
        let first = now();
        assert!(now() >= first);
        assert_eq!(until(first), Duration::ZERO);
    }

    #[test]
    fn time_asleep_is_counted_and_an_adjusted_wall_clock_is_not() {
        let mut gap = SuspendGap::default();
        assert_eq!(gap.correct(secs(10), secs(1_000)), secs(10));
        assert_eq!(gap.correct(secs(11), secs(1_003)), secs(11), "two seconds are an adjustment");
        assert_eq!(gap.correct(secs(12), secs(1_604)), secs(612), "ten minutes are not");
        assert_eq!(gap.correct(secs(13), secs(0)), secs(613), "a wall clock set back changes nothing");
    }
}
