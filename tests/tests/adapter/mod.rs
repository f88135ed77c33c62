//! The adapter over real loopback sockets: one suite, run on each runtime. The crate that includes it names the runtime's crate
//! `reattach`. The tests themselves run on tokio; the driver's tasks, sockets and timers are those of the runtime.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod byte_stream;
mod clock;
pub(crate) mod counting;
mod cuts;
mod decisions;
mod drain;
mod duplex;
mod ends;
mod flood;
mod goodbyes;
mod health;
mod hostile;
pub(crate) mod loopback;
mod messages;
mod proxies;
pub(crate) mod raw;
mod requests;
mod server;
mod sessions;
mod sleep;
mod tls;
mod watched;
