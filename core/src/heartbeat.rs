//! Is the other side there?
//!
//! Any progress counts as life. After a while without any a ping goes out, as a frame, for a browser cannot send a WebSocket
//! ping; without an answer in time the transport is dead. The answer's deadline starts when the ping has left the adapter, and
//! a frame that is still coming in, slowly, holds it off: a slow link is not a dead one.
//!
//! An answered ping also measures the round trip.

use core::hash::Hash;
use core::hash::Hasher;
use core::time::Duration;

use crate::id::PingNo;
use crate::time::Instant;
use crate::time::Rate;

/// When to ask, and when to give up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// How long nothing may come before a ping goes out. Default 20 s: common proxies cut an idle connection at 60 s.
    pub idle: Duration,
    /// How long nothing may come before the transport is dead, a ping having left in between. Default 50 s: two and a half
    /// times [`Config::idle`], so that one lost chance does not kill it.
    pub dead_after: Duration,
    /// The slowest arrival of a frame that counts as life. Default 256 bytes per second.
    pub min_rate: Rate,
    /// How long an answer to a probe may take, life holding it off. Default 10 s. A probe asks about an unsettled message, or
    /// for life after a gap.
    pub probe_timeout: Duration,
    /// How much later than asked for a machine must be woken for the time between to count as a gap: the computer was asleep,
    /// or the program was stopped. Default 10 s.
    pub gap: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(20),
            dead_after: Duration::from_secs(50),
            min_rate: Rate(256),
            probe_timeout: Duration::from_secs(10),
            gap: Duration::from_secs(10),
        }
    }
}

/// What a heartbeat wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Write a ping, then tell with [`Heartbeat::on_ping_written`].
    Ping,
    /// Give the transport up.
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outstanding {
    n: PingNo,
    /// The offset behind it in the outgoing bytes.
    end: u64,
    /// When it was handed to the adapter, then when it had left.
    since: Instant,
    has_left: bool,
    is_probe: bool,
}

impl Hash for Outstanding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { n, end, since, has_left, is_probe } = self;
        // Once it has left nobody asks where it ended.
        (n, Some(end).filter(|_| !has_left), since, is_probe).hash(state);
    }
}

/// The liveness check of one transport.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Heartbeat {
    config: Config,
    /// When the last frame came, or enough of one.
    last_life: Instant,
    /// Bytes that came since, of a frame that is not complete.
    partial: u64,
    outstanding: Option<Outstanding>,
    last: PingNo,
    /// Since a gap only the answer to this ping, or to a later one, is life: what else comes may have been waiting.
    distrusts_until: Option<PingNo>,
}

impl Heartbeat {
    /// A heartbeat for a transport that showed life at `now`.
    #[must_use]
    pub const fn new(config: Config, now: Instant) -> Self {
        Self { config, last_life: now, partial: 0, outstanding: None, last: PingNo::ZERO, distrusts_until: None }
    }

    /// A frame came.
    pub const fn on_frame(&mut self, now: Instant) {
        if self.distrusts_until.is_none() {
            self.last_life = now;
        }
        self.partial = 0;
    }

    /// Much more time has passed than was asked for. Nothing that was waited for may be held against the peer; a ping is
    /// wanted, and only its answer counts.
    pub const fn on_gap(&mut self, now: Instant) {
        self.last_life = now;
        self.partial = 0;
        self.outstanding = None;
        self.distrusts_until = Some(self.last.next());
    }

    /// So many bytes came, of a frame that may not be complete.
    pub const fn on_read(&mut self, bytes: u64) {
        self.partial = self.partial.saturating_add(bytes);
    }

    /// The number that the next ping carries.
    #[must_use]
    pub const fn next_ping(&self) -> PingNo {
        self.last.next()
    }

    /// Whether a ping is out that was not answered, and whether it is a probe.
    #[must_use]
    pub fn outstanding(&self) -> Option<bool> {
        self.outstanding.map(|ping| ping.is_probe)
    }

    /// The ping was handed to the adapter and ends at offset `end`. A probe is answered sooner than a sign of life need be.
    pub const fn on_ping_written(&mut self, end: u64, is_probe: bool, now: Instant) {
        self.last = self.last.next();
        let is_probe = is_probe || self.distrusts_until.is_some();
        self.outstanding = Some(Outstanding { n: self.last, end, since: now, has_left: false, is_probe });
    }

    /// All bytes up to offset `written` have left the adapter.
    pub fn on_written(&mut self, written: u64, now: Instant) {
        if let Some(ping) = &mut self.outstanding {
            if !ping.has_left && ping.end <= written {
                ping.has_left = true;
                ping.since = now;
            }
        }
    }

    /// A pong came. Returns the round trip when it answers the ping that is out; any other pong says nothing.
    pub fn on_pong(&mut self, n: PingNo, now: Instant) -> Option<Duration> {
        if self.distrusts_until.is_some_and(|until| n >= until && n <= self.last) {
            self.distrusts_until = None;
            self.on_frame(now);
        }
        let ping = self.outstanding.take_if(|ping| ping.n == n)?;
        Some(now - ping.since)
    }

    /// What is to be done at `now`.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Action> {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return None;
        }
        let Some(ping) = self.outstanding else { return Some(Action::Ping) };
        if self.gone_at(ping) > now {
            // The peer lives and does not answer: the ping or its pong was lost.
            return Some(Action::Ping);
        }
        // The rate is that of the time in which the answer was due: before it nobody had to say anything.
        let waited = now - self.last_life.max(ping.since);
        if self.distrusts_until.is_none() && self.config.min_rate.is_met(self.partial, waited) {
            self.on_frame(now);
            return (self.again_at(ping) <= now).then_some(Action::Ping);
        }
        Some(Action::Dead)
    }

    /// When it wants to be asked again. A ping that has not left the adapter has no deadline here: that the bytes do not move
    /// is the flow's concern.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.outstanding {
            None => Some(self.last_life + self.config.idle),
            Some(ping) if ping.has_left => Some(self.gone_at(ping).min(self.again_at(ping))),
            Some(_) => None,
        }
    }

    /// When a ping that is not answered, though the peer lives, is written again.
    fn again_at(&self, ping: Outstanding) -> Instant {
        ping.since + self.config.dead_after.saturating_mul(2)
    }

    /// When the silence behind a ping that has left means that the transport is dead.
    fn gone_at(&self, ping: Outstanding) -> Instant {
        let grace = self.config.dead_after.saturating_sub(self.config.idle);
        let ordinary = (self.last_life + self.config.dead_after).max(ping.since + grace);
        // A probe shortens the wait; it never makes it longer.
        let of_probe = self.last_life.max(ping.since) + self.config.probe_timeout;
        if ping.is_probe { ordinary.min(of_probe) } else { ordinary }
    }
}

/// The smoothed round trip (RFC 6298, 2: a new sample weighs an eighth). It decides nothing, so it takes no part in a hash;
/// equality compares it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rtt {
    smoothed: Option<Duration>,
}

impl Hash for Rtt {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Rtt {
    /// Takes a sample in.
    pub fn on_sample(&mut self, sample: Duration) {
        self.smoothed = Some(self.smoothed.map_or(sample, |smoothed| (smoothed * 7 + sample) / 8));
    }

    /// The smoothed round trip, once one was measured.
    #[must_use]
    pub const fn get(&self) -> Option<Duration> {
        self.smoothed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    fn pinged() -> Heartbeat {
        let mut heartbeat = Heartbeat::new(Config::default(), at(0));
        assert_eq!(heartbeat.handle_timeout(at(19)), None);
        assert_eq!(heartbeat.handle_timeout(at(20)), Some(Action::Ping));
        heartbeat.on_ping_written(100, false, at(20));
        heartbeat
    }

    #[test]
    fn a_silent_peer_is_asked_and_then_given_up() {
        let mut heartbeat = pinged();
        heartbeat.on_written(100, at(20));
        assert_eq!(heartbeat.poll_timeout(), Some(at(50)));
        assert_eq!(heartbeat.handle_timeout(at(50)), Some(Action::Dead));
    }

    #[test]
    fn a_ping_that_has_not_left_is_not_held_against_the_peer() {
        let mut heartbeat = pinged();
        heartbeat.on_written(99, at(40));
        assert_eq!(heartbeat.poll_timeout(), None);
        heartbeat.on_written(100, at(45));
        assert_eq!(heartbeat.poll_timeout(), Some(at(75)), "it has as long as it would have had in time");
    }

    #[test]
    fn a_frame_that_comes_slowly_holds_the_deadline_off() {
        let mut heartbeat = pinged();
        heartbeat.on_written(100, at(20));
        heartbeat.on_read(50 * 256);
        assert_eq!(heartbeat.handle_timeout(at(50)), None);
        assert_eq!(heartbeat.poll_timeout(), Some(at(100)));
        heartbeat.on_read(10);
        assert_eq!(heartbeat.handle_timeout(at(100)), Some(Action::Dead), "a trickle is not life");
    }

    // Found by fuzzing: the deadline stayed in the past.
    #[test]
    fn a_frame_that_comes_slowly_and_hides_the_answer_has_it_asked_for_again() {
        let mut heartbeat = pinged();
        heartbeat.on_written(100, at(20));
        for secs in [50, 100] {
            heartbeat.on_read(50 * 256);
            assert_eq!(heartbeat.handle_timeout(at(secs)), None);
        }
        assert_eq!(heartbeat.poll_timeout(), Some(at(120)));
        heartbeat.on_read(50 * 256);
        assert_eq!(heartbeat.handle_timeout(at(150)), Some(Action::Ping));
    }

    // S003-34
    #[test]
    fn each_round_trip_is_measured_from_its_own_ping() {
        let mut heartbeat = Heartbeat::new(Config::default(), at(0));
        for secs in [30, 60, 90] {
            let sent = at(secs);
            assert_eq!(heartbeat.handle_timeout(sent), Some(Action::Ping));
            let n = heartbeat.next_ping();
            heartbeat.on_ping_written(secs, false, sent);
            let answered = sent + Duration::from_millis(40);
            assert_eq!(heartbeat.on_pong(n.next(), answered), None, "a pong of no ping");
            assert_eq!(heartbeat.on_pong(n, answered), Some(Duration::from_millis(40)));
            assert_eq!(heartbeat.on_pong(n, answered), None, "the same pong again");
            heartbeat.on_frame(answered);
        }
    }

    // N19 step 6
    #[test]
    fn a_jump_of_the_clock_asks_once() {
        let mut heartbeat = Heartbeat::new(Config::default(), at(0));
        assert_eq!(heartbeat.handle_timeout(at(600)), Some(Action::Ping));
        heartbeat.on_ping_written(1, false, at(600));
        heartbeat.on_written(1, at(600));
        assert_eq!(heartbeat.handle_timeout(at(600)), None);
        assert_eq!(heartbeat.poll_timeout(), Some(at(630)));
    }

    #[test]
    fn the_round_trip_is_smoothed() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.get(), None);
        rtt.on_sample(Duration::from_millis(80));
        rtt.on_sample(Duration::from_millis(160));
        assert_eq!(rtt.get(), Some(Duration::from_millis(90)));
    }
}
