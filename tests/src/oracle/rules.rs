//! What is configured.

use std::time::Duration;

use reattach_core::link;
use reattach_core::server::ReceiptsConfig;

use super::Party;

/// How the machines are configured, as far as it bears on what is true.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// The clients' links.
    pub client: link::Config,
    /// The server's links.
    pub server: link::Config,
    /// How the server keeps receipts.
    pub receipts: ReceiptsConfig,
    /// How long a detached connection is kept.
    pub detach_ttl: Duration,
    /// How long one is kept whose client sleeps.
    pub suspended_ttl: Duration,
    /// The most transports at the server, and the most connections.
    pub max_connections: usize,
    /// The most connections of one principal.
    pub max_per_principal: usize,
    /// How many tries in a row must fail before what would rather fail than wait fails.
    pub failures: u32,
    /// How many retries in a row a client makes, where there is a limit.
    pub tries: Option<u32>,
    /// How far apart the clocks of two programs can be.
    pub skew: Duration,
    /// How much later than its time anything may happen, for clocks that jumped and programs that were stopped. Without it
    /// nothing is held against time.
    pub slack: Option<Duration>,
}

impl Rules {
    pub(super) fn link(&self, party: Party) -> &link::Config {
        match party {
            Party::Client(_) => &self.client,
            Party::Server(_) => &self.server,
        }
    }
}
