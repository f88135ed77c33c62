//! What a server can be told.

use core::time::Duration;

use crate::connection;

/// How a server behaves. Construct it with `Config::default()` and change what matters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// How long a transport may take from its acceptance to an accepted hello, the application's authentication included.
    /// Default 10 s.
    pub hello_timeout: Duration,
    /// Whether the application authenticates each hello. Then [`Output::Authenticate`](super::Output::Authenticate) asks it;
    /// otherwise each connection is its own principal. Default false.
    pub authenticate: bool,
    /// How long a connection's state is kept once no transport is attached. Default 60 s.
    pub detach_ttl: Duration,
    /// How long the state of a client is kept that said it goes to sleep. Default 10 min.
    pub suspended_ttl: Duration,
    /// How long the registry waits for a peer's answer before it fences the peer, at least 1 ms. Default 5 s.
    pub peer_timeout: Duration,
    /// What is kept of epochs that have ended.
    pub receipts: Receipts,
    /// The most connections, attached or not, and the most transports. Default 100,000 of each.
    pub max_connections: usize,
    /// The most connections of one principal, attached or not. Default 100.
    pub max_per_principal: usize,
    /// The most transports from one address, and the most connections that began there, attached or not. An IPv6 network of
    /// 64 bits is one address. Default 1,000 of each.
    pub max_per_address: usize,
    /// The links, their heartbeats and their limits.
    pub connection: connection::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hello_timeout: Duration::from_secs(10),
            authenticate: false,
            detach_ttl: Duration::from_secs(60),
            suspended_ttl: Duration::from_secs(10 * 60),
            peer_timeout: Duration::from_secs(5),
            receipts: Receipts::default(),
            max_connections: 100_000,
            max_per_principal: 100,
            max_per_address: 1_000,
            connection: connection::Config::default(),
        }
    }
}

/// What is kept of epochs that have ended, so that a client can be told what became of what it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Receipts {
    /// How long one is kept. Default 24 h: longer than a night, and than the age of a message.
    pub ttl: Duration,
    /// The most in all; the oldest goes first. 0 keeps none. Default 10,000.
    pub max: usize,
    /// The most of one principal; its oldest goes first. Default 100.
    pub max_per_principal: usize,
    /// The most bytes in all, as they stand on the wire and roughly; the oldest goes first, but for the newest. Most take about
    /// a hundred bytes, and one that lists many exceptions some ten thousand. Default 16 MiB.
    pub max_bytes: u64,
}

impl Default for Receipts {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(24 * 60 * 60),
            max: 10_000,
            max_per_principal: 100,
            max_bytes: 16 * 1024 * 1024,
        }
    }
}
