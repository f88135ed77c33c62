//! Is it worth waiting for the server? A breaker says so to messages that would rather fail now than arrive late.
//!
//! It never schedules a try; the backoff does. It opens after repeated failures, and then only fails the messages that asked
//! for it. The first try after its pause is made half open; a welcome closes it.
//!
//! ```text
//!  Closed -- so many failures in a row --> Open -- a try after the pause --> HalfOpen
//!    ^                                       ^                                 |  |
//!    |                                       '------------- failure -----------'  |
//!    '------------------------------- welcome ------------------------------------'
//! ```

use core::time::Duration;

use crate::time::Instant;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// How many tries in a row must fail for it to open. Default 5.
    pub failures: u32,
    /// How long it stays open before a try may close it. Default 30 s.
    pub pause: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { failures: 5, pause: Duration::from_secs(30) }
    }
}

/// What a breaker says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// The server can be reached, as far as anybody knows.
    #[default]
    Closed,
    /// It cannot.
    Open,
    /// A try is on that will tell.
    HalfOpen,
}

/// One breaker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Breaker {
    config: Config,
    /// Failures in a row.
    failures: u32,
    state: State,
    /// When the pause is over. Of meaning while it is open.
    until: Instant,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self { config, failures: 0, state: State::Closed, until: Instant::ZERO }
    }

    /// A try begins.
    pub fn on_try(&mut self, now: Instant) {
        if self.state == State::Open && now >= self.until {
            self.state = State::HalfOpen;
        }
    }

    /// A try failed.
    pub fn on_failure(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.state == State::HalfOpen || self.failures >= self.config.failures.max(1) {
            if self.state != State::Open {
                self.until = now + self.config.pause;
            }
            self.state = State::Open;
        }
    }

    /// A welcome came.
    pub const fn on_success(&mut self) {
        self.failures = 0;
        self.state = State::Closed;
    }

    /// What it says.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    #[test]
    fn it_opens_after_five_failures_and_a_try_after_the_pause_decides() {
        let mut breaker = Breaker::new(Config::default());
        for _ in 0..4 {
            breaker.on_try(at(0));
            breaker.on_failure(at(0));
        }
        assert_eq!(breaker.state(), State::Closed);
        breaker.on_failure(at(0));
        assert_eq!(breaker.state(), State::Open);
        breaker.on_try(at(29));
        assert_eq!(breaker.state(), State::Open, "not before the pause is over");
        breaker.on_failure(at(29));
        breaker.on_try(at(30));
        assert_eq!(breaker.state(), State::HalfOpen, "a failure in the pause does not extend it");
        breaker.on_failure(at(31));
        breaker.on_try(at(60));
        assert_eq!(breaker.state(), State::Open);
        breaker.on_try(at(61));
        breaker.on_success();
        assert_eq!(breaker.state(), State::Closed);
        breaker.on_failure(at(62));
        assert_eq!(breaker.state(), State::Closed, "the count starts over");
    }
}
