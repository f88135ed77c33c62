//! The `reattach` command, as a library: the demonstration, and the proxy that breaks connections for it and for tests.

#![forbid(unsafe_code)]

pub mod connect;
pub mod demo;
mod proxied;
pub mod proxy;
pub mod runtime;
pub mod serve;
mod stdin;
