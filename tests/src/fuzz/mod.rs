//! The bodies of the fuzz targets, as plain functions, so that every build compiles them and `cargo test` replays what they
//! have found.
//!
//! A body takes any bytes and panics when an invariant of the design is broken; nothing else is a failure. The crate
//! `fuzz/` beside this one hands them to libFuzzer, one thin target each, and `tests/fuzz_corpus.rs` replays the committed
//! corpus.
//!
//! | target | what the bytes are |
//! |---|---|
//! | [`wire`] | a WebSocket message |
//! | [`differential`] | frames in unusual forms, read by the core and by another reader, by a client and by a server |
//! | [`client`] | what happens to one client: its transports, a hostile server, its application, the clock |
//! | [`server`] | what happens to one server: strangers, clients that are honest or not, the application, the clock |
//! | [`parts`] | the same, but registry and peers run apart, and what they say to each other is late |
//! | [`registry`] | what happens to a registry without peers: strangers, and answers that are true or not, in any order or never |
//! | [`requests`] | what happens to the requests of two sides: their applications, their messages, and bytes that are no request |
//! | [`hub`] | what clients ask of a hub, and what a hub says to who watches, true or not |
//! | [`pair`] | faults and commands, between real clients and a real server whose applications keep account |

pub mod client;
pub mod differential;
pub mod hub;
pub mod pair;
pub mod parts;
pub mod registry;
pub mod requests;
pub mod server;
pub mod wire;

mod bytes;
mod callers;
mod checks;
mod minter;
mod shapes;

/// A fuzz target: its name, which is that of its corpus, and its body.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As in `cargo fuzz run`.
    pub name: &'static str,
    /// Takes any bytes, and panics when an invariant is broken.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 9] = [
    Target { name: "wire", run: wire::run },
    Target { name: "differential", run: differential::run },
    Target { name: "client", run: client::run },
    Target { name: "server", run: server::run },
    Target { name: "registry", run: registry::run },
    Target { name: "parts", run: parts::run },
    Target { name: "requests", run: requests::run },
    Target { name: "hub", run: hub::run },
    Target { name: "pair", run: pair::run },
];
