//! What sessions may hold.

use core::time::Duration;

/// How sessions behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// What each session keeps of its events.
    pub log: LogLimits,
    /// The most bytes of one event or snapshot. Default 512 KiB. Choose no more than the smallest payload that any client takes, less
    /// 64 bytes: what is larger cannot be sent, and is a gap to who watches.
    pub max_event: u64,
    /// How long a suspended session waits to be taken up again. Default 10 min: a page in the background, as for connections.
    pub suspended_ttl: Duration,
    /// The most sessions. Default 10,000.
    pub max_sessions: usize,
    /// The most connections that watch one session. Default 1,000.
    pub max_observers: usize,
    /// The most sessions that one connection watches. Default 100.
    pub max_watched: usize,
}

/// The bounds of one session's log. What is beyond any of them goes, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogLimits {
    /// The most events. Default 1,000.
    pub count: usize,
    /// The most bytes of them, but for the newest, which is kept whatever its size. Default 1 MiB.
    pub bytes: u64,
    /// The oldest event. Default 1 h: longer than any connection waits for its client.
    pub age: Duration,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { count: 1_000, bytes: 1024 * 1024, age: Duration::from_secs(3_600) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: LogLimits::default(),
            max_event: 512 * 1024,
            suspended_ttl: Duration::from_secs(600),
            max_sessions: 10_000,
            max_observers: 1_000,
            max_watched: 100,
        }
    }
}
