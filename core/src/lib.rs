//! The pure core of Reattach: a reliable, resumable messaging layer as state machines without I/O.
//!
//! What an application sends is delivered exactly once and in order across any number of dropped sockets, or its sender is
//! told, honestly, what became of it. The machines here decide that. They open no socket, read no clock and draw no random
//! number: an adapter hands in what happened ([`client::Input`], [`server::Input`]) and the time, and does what comes out
//! ([`client::Output`], [`server::Output`]). The same inputs give the same outputs, to the byte.
//!
//! Start at [`client`], whose documentation states the law of every machine with an example that compiles. The bytes between
//! the two sides are described in `PROTOCOL.md`, beside the manifest of this crate.
//!
//! # Layers
//!
//! A module imports only from lower layers, and modules of one layer never import each other; a test walks the sources.
//!
//! | layer | modules |
//! |---|---|
//! | 5 | [`client`], [`server`]: the machines |
//! | 4 | [`hub`] (sessions and questions, for those who watch), [`connection`] (link, epoch, heartbeat and flow of one connection), [`reconnect`] (close codes and tries), [`view`] (what people see of a session) |
//! | 3 | [`link`] (who owes what), [`rpc`] (requests), [`session`] (conversations), [`permission`] (questions to people), [`chat`] (answers in pieces), [`heartbeat`], [`flow`], [`backoff`], [`breaker`] |
//! | 2 | [`error`] (whose fault), [`outcome`] (what became of a message), [`messages`] (what applications say to people) |
//! | 1 | [`wire`] (frames), [`deadline`], [`expiring`] |
//! | 0 | [`time`], [`rng`], [`id`] |
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::std_instead_of_core, clippy::std_instead_of_alloc, clippy::alloc_instead_of_core)]

extern crate alloc;

pub mod backoff;
pub mod breaker;
pub mod chat;
pub mod client;
pub mod connection;
pub mod deadline;
pub mod error;
pub mod expiring;
pub mod flow;
pub mod heartbeat;
pub mod hub;
pub mod id;
pub mod link;
pub mod messages;
pub mod outcome;
pub mod permission;
pub mod reconnect;
pub mod rng;
pub mod rpc;
pub mod server;
pub mod session;
pub mod time;
pub mod view;
pub mod wire;
