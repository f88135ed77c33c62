//! The driver of Reattach: the one event loop that carries the bytes between the pure machines of `reattach-core` and real
//! WebSockets.
//!
//! Applications use it through a runtime's crate, such as `reattach-tokio`, which re-exports everything here. The types are
//! the same on every runtime: [`Client`], [`Server`] and [`Connection`] are handles on tasks, and only dialling and listening
//! differ ([`runtime::Runtime`]).
//!
//! There is no protocol here. What is written when, what is retried, what is lost and who is told: all that is decided in the
//! core, and this crate does as it is told.

//! # Logs
//!
//! All of it is logged through `tracing`, under one target for each part, so that one can be looked at alone: see [`targets`].
//!
//! # Health
//!
//! [`Server::health`] says how a server is. Over HTTP it says so on the port on which it listens, where it was told to
//! ([`ServerConfig::with_health`]).
//!
//! # Measures
//!
//! With the feature `metrics` every connection and every hub is measured by the facade of the crate `metrics`: the program installs
//! the recorder of its choice, before its first connection; it is called with a connection or a hub locked, and must not call back.
//! Each measure has the label `side`, `client` or `server`.
//!
//! | measure | kind | what |
//! |---|---|---|
//! | `reattach_connections`, `reattach_connections_attached` | gauges | connections, and those that have a transport |
//! | `reattach_attaches_total`, `reattach_resumes_total` | counters | transports attached, and those over which the epoch went on |
//! | `reattach_outcomes_total` | counter | messages that have their outcome; label `outcome`: `delivered`, `rejected`, `not_delivered`, `unknown` |
//! | `reattach_messages_written_total`, `reattach_messages_rewritten_total`, `reattach_messages_lost_total` | counters | reliable messages written, written again, lost on a live transport |
//! | `reattach_messages_received_total`, `reattach_messages_duplicate_total`, `reattach_messages_handed_over_total` | counters | reliable messages that came, came again, were taken |
//! | `reattach_messages_queued`, `reattach_messages_unsettled`, `reattach_messages_delayed`, `reattach_messages_untaken` | gauges | what stands in the queues of both directions |
//! | `reattach_ephemerals_dropped_total`, `reattach_malformed_frames_total`, `reattach_gaps_total` | counters | what was dropped, what was skipped, time that was slept through |
//! | `reattach_round_trip_seconds` | histogram | the smoothed round trip, whenever it has changed |
//! | `reattach_questions_open` | gauge | questions to people that nobody has decided yet; of servers |
//! | `reattach_questions_asked_total`, `reattach_questions_decided_total` | counters | questions that were asked, and those that have their end; label `outcome`: `allowed`, `denied`, `timed_out`, `cancelled`; of servers |
//! | `reattach_answers_refused_total` | counter | answers that decided nothing; label `reason`: `duplicate`, `beaten`, `late`, `withdrawn`, `foreign`, `unknown`, `malformed`; of servers |
//! | `reattach_dialogs_shown_total`, `reattach_answers_sent_total`, `reattach_answers_retried_total` | counters | questions that were shown, answers that somebody gave, times that one was sent again by itself; of clients |
//! | `reattach_answers_confirmed_total`, `reattach_answers_failed_total`, `reattach_answers_not_taken_total` | counters | answers that the server has taken, that were given up, whose question was decided otherwise or is gone; of clients |

#![forbid(unsafe_code)]

mod alarm;
mod byte_stream;
mod client;
pub mod clock;
mod closing;
mod connection;
mod connector;
mod count;
mod dial;
mod drive;
mod duplex;
mod events;
mod held;
mod hub;
mod machine;
#[cfg(feature = "metrics")]
mod meter;
#[cfg(not(feature = "metrics"))]
#[path = "no_meter.rs"]
mod meter;
mod mint;
#[cfg(feature = "proxy")]
mod proxy;
mod receipt;
mod received;
mod requests;
pub mod runtime;
mod server;
mod shared;
mod socket;
pub mod targets;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc-rs"))]
mod tls;
#[cfg(not(any(feature = "rustls-ring", feature = "rustls-aws-lc-rs")))]
#[path = "no_tls.rs"]
mod tls;
mod typed;
mod watch;

pub use async_tungstenite::tungstenite::http;
pub use reattach_core as core;
#[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc-rs"))]
pub use rustls;

pub use self::byte_stream::ByteStream;
pub use self::byte_stream::LaneInUse;
pub use self::byte_stream::StreamError;
pub use self::client::Client;
pub use self::client::ClientConfig;
pub use self::client::ConnectError;
pub use self::connection::Connection;
pub use self::connector::Connector;
pub use self::connector::Destination;
pub use self::dial::Credentials;
pub use self::dial::CredentialsError;
pub use self::dial::CredentialsProvider;
pub use self::dial::UrlError;
pub use self::duplex::Duplex;
pub use self::duplex::MessageSink;
pub use self::duplex::MessageStream;
pub use self::events::Events;
pub use self::hub::Hub;
pub use self::hub::Question;
pub use self::hub::Session;
pub use self::hub::SessionWatch;
pub use self::mint::connection_key;
#[cfg(feature = "proxy")]
pub use self::proxy::{Proxy, ProxyError};
pub use self::receipt::Receipt;
pub use self::received::Received;
pub use self::requests::CallError;
pub use self::requests::IncomingCall;
pub use self::requests::Notification;
pub use self::requests::Request;
pub use self::requests::Requests;
pub use self::requests::Response;
pub use self::requests::Router;
pub use self::server::Admitted;
pub use self::server::ClientCounts;
pub use self::server::Health;
pub use self::server::HealthPath;
pub use self::server::HealthPathError;
pub use self::server::Hello;
pub use self::server::Origins;
pub use self::server::PendingCounts;
pub use self::server::Server;
pub use self::server::ServerConfig;
pub use self::server::Undrained;
pub use self::server::Upgrade;

#[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc-rs"))]
pub use self::tls::{ClientTls, ServerTls, TlsError};
pub use self::typed::Mistyped;
pub use self::typed::SendError;
pub use self::typed::Typed;
pub use self::typed::TypedMessage;
pub use self::watch::ConnectionState;
pub use self::watch::PeerState;
pub use self::watch::PeerWatch;
pub use self::watch::StateWatch;
