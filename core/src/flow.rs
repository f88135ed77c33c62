//! What has been handed to the adapter for one transport, and how much of it has left.
//!
//! The adapter reports progress; the difference is what it holds. That difference is bounded: beyond the budget no more
//! messages are written, which stay in the outbox, where they can still be counted and moved. It is also what tells a slow
//! transport from a stalled one: what is held must shrink at a minimum rate.

use core::hash::Hash;
use core::hash::Hasher;
use core::time::Duration;

use crate::deadline::Deadline;
use crate::time::Instant;
use crate::time::Rate;

/// How much may be held, and how slow is too slow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// The bytes that may be held by the adapter before no more messages are written. Default 256 KiB: it keeps a fast
    /// network busy between two turns of the loop. One message of any size may go beyond it.
    pub write_budget: u64,
    /// How long held bytes may make no progress. Default 50 s, as the heartbeat's deadline.
    pub stalled_after: Duration,
    /// The slowest progress that counts as such. Default 256 bytes per second: a phone at the edge of a 2G cell does better.
    pub min_rate: Rate,
}

impl Default for Config {
    fn default() -> Self {
        Self { write_budget: 256 * 1024, stalled_after: Duration::from_secs(50), min_rate: Rate(256) }
    }
}

/// The outgoing bytes of one transport.
///
/// Where they began to be counted decides nothing, so only differences take part in a hash; equality compares all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    config: Config,
    /// All bytes handed to the adapter.
    produced: u64,
    /// Those of them that have left it. Never above `produced`.
    written: u64,
    /// When progress was last judged, and how much had left then. Held while `deadline` is armed.
    judged: (Instant, u64),
    /// When held bytes without progress mean a stall. Armed while any are held.
    deadline: Deadline,
}

impl Hash for Flow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { config, produced, written, judged: (at, before), deadline } = self;
        (config, produced - written, deadline).hash(state);
        if deadline.poll_timeout().is_some() {
            (at, written - before).hash(state);
        }
    }
}

impl Flow {
    /// Nothing has been handed over.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self { config, produced: 0, written: 0, judged: (Instant::ZERO, 0), deadline: Deadline::UNARMED }
    }

    /// How many bytes of messages may be written before the budget is used up.
    #[must_use]
    pub fn room(&self) -> u64 {
        // With no budget at all nothing would ever be written.
        self.config.write_budget.max(1).saturating_sub(self.produced - self.written)
    }

    /// Whether an answer of a few hundred bytes may be written although the budget for messages is used up.
    #[must_use]
    pub fn has_room_for_control(&self) -> bool {
        self.produced - self.written < self.config.write_budget.max(1).saturating_mul(2)
    }

    /// So many more bytes were handed to the adapter. Returns the offset behind them.
    pub fn on_produced(&mut self, bytes: usize, now: Instant) -> u64 {
        if self.produced == self.written {
            self.judged = (now, self.written);
            self.deadline.arm(now + self.config.stalled_after);
        }
        self.produced += bytes as u64;
        self.produced
    }

    /// So many of all bytes have left the adapter.
    pub fn on_written(&mut self, total: u64) {
        self.written = total.clamp(self.written, self.produced);
        if self.written == self.produced {
            self.deadline.disarm();
        }
    }

    /// Much more time has passed than was asked for: the progress is judged from here on.
    pub fn on_gap(&mut self, now: Instant) {
        if self.deadline.poll_timeout().is_some() {
            self.judged = (now, self.written);
            self.deadline.arm(now + self.config.stalled_after);
        }
    }

    /// How many bytes were handed to the adapter.
    #[must_use]
    pub const fn produced(&self) -> u64 {
        self.produced
    }

    /// How many bytes have left.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Judges the progress once it is time. Returns whether the transport is stalled.
    pub fn is_stalled(&mut self, now: Instant) -> bool {
        if !self.deadline.take_due(now) {
            return false;
        }
        let (since, before) = self.judged;
        let stalled = !self.config.min_rate.is_met(self.written - before, now - since);
        self.judged = (now, self.written);
        self.deadline.arm(now + self.config.stalled_after);
        stalled
    }

    /// When the progress is to be judged.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.deadline.poll_timeout()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    #[test]
    fn held_bytes_are_bounded_by_the_budget() {
        let mut flow = Flow::new(Config { write_budget: 10, ..Config::default() });
        flow.on_produced(9, at(0));
        assert_eq!(flow.room(), 1);
        flow.on_produced(1, at(0));
        assert_eq!(flow.room(), 0);
        assert!(flow.has_room_for_control());
        flow.on_produced(10, at(0));
        assert!(!flow.has_room_for_control());
        flow.on_written(11);
        assert_eq!(flow.room(), 1);
    }

    #[test]
    fn a_slow_transport_is_not_a_stalled_one() {
        let mut flow = Flow::new(Config::default());
        flow.on_produced(1_000_000, at(0));
        assert_eq!(flow.poll_timeout(), Some(at(50)));
        flow.on_written(50 * 256);
        assert!(!flow.is_stalled(at(50)), "256 bytes a second is slow");
        flow.on_written(50 * 256 + 50 * 255);
        assert!(flow.is_stalled(at(100)), "less is stalled");
    }

    #[test]
    fn nothing_is_judged_while_nothing_is_held() {
        let mut flow = Flow::new(Config::default());
        assert_eq!(flow.poll_timeout(), None);
        flow.on_produced(10, at(0));
        flow.on_written(10);
        assert_eq!(flow.poll_timeout(), None);
        assert!(!flow.is_stalled(at(1_000)));
        flow.on_written(5);
        assert_eq!(flow.written(), 10, "progress does not run backwards");
        flow.on_written(99);
        assert_eq!(flow.written(), 10, "nor beyond what was produced");
    }
}
