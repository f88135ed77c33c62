//! What a side allows itself and the other.

use core::time::Duration;

/// How requests behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// How long a request may take in all. Default 30 s: somebody waits for it.
    pub timeout: Duration,
    /// How long one may take that is said to be long: a prompt, a build. Default 300 s.
    pub long_timeout: Duration,
    /// The most requests of this side that wait for their response. Default 256: what the other side's window holds.
    pub max_pending: usize,
    /// The most requests and notifications of the other side that are held here, those included that the application works on. At
    /// the bound no more are taken from the connection, and they wait within its window. Default 64.
    pub max_open: usize,
    /// The most bytes that wait here, one message more or less: of calls to be sent, of responses to be sent, and of what the other
    /// side wants and nobody has taken, each by itself. Default 2 MiB, as the outbox.
    pub max_bytes: u64,
    /// The most requests and notifications in one batch, either way. Default 32.
    pub max_batch: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            long_timeout: Duration::from_secs(300),
            max_pending: 256,
            max_open: 64,
            max_bytes: 2 * 1024 * 1024,
            max_batch: 32,
        }
    }
}
