//! How long people have, and how many questions there may be.

use core::time::Duration;

/// How the broker behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BrokerConfig {
    /// How long an answer is waited for. Default 300 s: a person can think.
    pub timeout: Duration,
    /// The most open questions of one session. Default 100.
    pub max_open: usize,
    /// The most bytes that the open questions of one session ask about. Default 512 KiB: all of them together go to who begins to
    /// watch, in one message.
    pub max_bytes: u64,
    /// How long it is known what became of a question. Default 10 min: whoever answers late is told.
    pub remembered: Duration,
    /// Of how many questions that is known at most. Default 1,000; of more the oldest go.
    pub max_remembered: usize,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(300),
            max_open: 100,
            max_bytes: 512 * 1024,
            remembered: Duration::from_secs(600),
            max_remembered: 1_000,
        }
    }
}

/// How dialogs behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DialogsConfig {
    /// How long an answer that was sent is waited for to be confirmed while the server can be reached. Default 5 s.
    pub ack_timeout: Duration,
    /// How often an answer is sent again by itself. Default 3.
    pub retries: u32,
    /// The delay before the first of these; each takes as much longer than the one before. Default 1 s: 1, 2, 3 s.
    pub retry_delay: Duration,
    /// The most dialogs. Default 200; of more the server's questions are left to others.
    pub max_dialogs: usize,
    /// The most bytes of what they ask, one dialog more or less. Default 8 MiB; of more they are left to others too.
    pub max_bytes: u64,
}

impl Default for DialogsConfig {
    fn default() -> Self {
        Self {
            ack_timeout: Duration::from_secs(5),
            retries: 3,
            retry_delay: Duration::from_secs(1),
            max_dialogs: 200,
            max_bytes: 8 * 1024 * 1024,
        }
    }
}
