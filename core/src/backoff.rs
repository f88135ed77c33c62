//! How long to wait before the next try: doubling, with a cap, spread by full jitter so that many clients that lost the same
//! server do not come back at once.

use core::time::Duration;

use crate::rng::Rng;

/// How the delays grow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// The ceiling of the first delay. Default 1 s.
    pub base: Duration,
    /// The ceiling of every delay. Default 30 s.
    pub cap: Duration,
    /// Whether a delay is drawn from zero to its ceiling (full jitter) or is the ceiling itself. Default true.
    pub jitter: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { base: Duration::from_secs(1), cap: Duration::from_secs(30), jitter: true }
    }
}

/// A growing delay.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    config: Config,
    /// How often the ceiling has doubled.
    exponent: u32,
    rng: Rng,
}

impl Backoff {
    /// A delay that has not grown yet.
    #[must_use]
    pub const fn new(config: Config, seed: u64) -> Self {
        Self { config, exponent: 0, rng: Rng::new(seed) }
    }

    /// The next delay. The one after it has twice the ceiling, up to the cap.
    pub fn next_delay(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.exponent).unwrap_or(u32::MAX);
        let ceiling = self.config.base.saturating_mul(factor).min(self.config.cap);
        if ceiling < self.config.cap {
            self.exponent += 1;
        }
        self.spread(Duration::ZERO, ceiling)
    }

    /// A delay between two bounds, which does not grow: the upper one without jitter.
    pub fn spread(&mut self, low: Duration, high: Duration) -> Duration {
        if self.config.jitter { self.rng.between(low, high) } else { high }
    }

    /// The ceiling of every delay.
    #[must_use]
    pub const fn cap(&self) -> Duration {
        self.config.cap
    }

    /// Starts over with the first delay.
    pub const fn reset(&mut self) {
        self.exponent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // S003-15
    #[test]
    fn delays_double_up_to_the_cap_and_never_overflow() {
        let mut backoff = Backoff::new(Config { jitter: false, ..Config::default() }, 0);
        let delays: [u64; 7] = core::array::from_fn(|_| backoff.next_delay().as_secs());
        assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
        assert!((0..100).all(|_| backoff.next_delay() == Duration::from_secs(30)));
        let uncapped = Config { cap: Duration::MAX, jitter: false, ..Config::default() };
        let mut backoff = Backoff::new(uncapped, 0);
        assert!((0..100).all(|_| backoff.next_delay() >= Duration::from_secs(1)));
    }

    #[test]
    fn jitter_is_full_and_stays_below_the_ceiling() {
        let mut backoff = Backoff::new(Config::default(), 3);
        let mut low = 0;
        for ceiling in [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30] {
            let delay = backoff.next_delay();
            assert!(delay <= Duration::from_secs(ceiling));
            low += u32::from(delay < Duration::from_secs(ceiling) / 2);
        }
        assert!((2..=10).contains(&low), "{low} of 12 in the lower half");
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_secs(1));
    }
}
