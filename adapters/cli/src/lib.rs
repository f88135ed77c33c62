//! The `reattach` command, as a library: the demonstration, the bench, and the proxy that breaks connections for the one and for
//! tests.

#![forbid(unsafe_code)]

pub mod agent;
pub mod bench;
pub mod chat;
pub mod connect;
pub mod demo;
pub mod dial;
pub mod listen;
pub mod log;
pub mod messages;
mod proxied;
pub mod proxy;
pub mod runtime;
pub mod serve;
mod show;
mod stdin;
