//! The tokio adapter over real loopback sockets.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod cuts;
mod decisions;
mod ends;
mod flood;
mod goodbyes;
mod hostile;
mod loopback;
mod messages;
mod raw;
mod server;
mod watched;
