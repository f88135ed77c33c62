//! The tokio adapter over real loopback sockets.

mod cuts;
mod flood;
mod hostile;
mod loopback;
mod messages;
mod raw;
mod server;
