//! What a client can be told.

use core::time::Duration;

use crate::connection;
use crate::reconnect;

/// How a client behaves. Construct it with `Config::default()` and change what matters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// How long a transport may take to open. Default 10 s.
    pub connect_timeout: Duration,
    /// How long the server may take to welcome. Default 10 s.
    pub hello_timeout: Duration,
    /// When to try again, and when to stop.
    pub reconnect: reconnect::Config,
    /// What to do when another instance took the connection over. Default: go on under a new identity.
    pub on_superseded: OnSuperseded,
    /// The link, its heartbeat and its limits.
    pub connection: connection::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            hello_timeout: Duration::from_secs(10),
            reconnect: reconnect::Config::default(),
            on_superseded: OnSuperseded::default(),
            connection: connection::Config::default(),
        }
    }
}

/// What a client does that learns that another instance of its identity took the connection over: it is a clone, such as a
/// duplicated browser tab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnSuperseded {
    /// Take the spare key, move the never-written messages to the new identity and connect. Both clones go on, apart.
    #[default]
    NewIdentity,
    /// Stop.
    Stop,
}
