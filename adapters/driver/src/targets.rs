//! The targets under which everything here is logged, one for each part. They stay as they are: filters in configurations name them.
//!
//! | target | what it tells |
//! |---|---|
//! | `reattach::server` | connections that begin, expire, are taken over or end, and hellos that are refused |
//! | `reattach::socket` | what becomes of a stream before its hello: TCP, proxies, TLS, the upgrade; in the span `transport` |
//! | `reattach::link` | what becomes of a connection: attached, detached, tried again, slow, broken, ended; the spans `client` and `connection`, of level info, in which everything of a connection is |
//! | `reattach::request` | requests and notifications that make no sense, or whose response was dropped |
//! | `reattach::session` | sessions that begin, are watched, owned, missed and end |
//! | `reattach::permission` | questions that are asked, shown, looked at, answered and decided |
//!
//! Everything is at the level debug but for what somebody should look into, which is a warning. There are names and numbers, and never
//! keys, credentials, payloads or what was asked and answered beyond "allow" and "deny".
//!
//! A filter that has one target has its events alone. What a connection logs under another target than its own is in its span, and so
//! says which connection it was, where the filter lets the span through: `reattach::link=info,reattach::request=debug`. Events of
//! sessions and questions name the connection (`cid`), the session and the question themselves.

/// Who comes to a server and goes.
pub const SERVER: &str = "reattach::server";
/// Streams before their hello.
pub const SOCKET: &str = "reattach::socket";
/// Connections and their messages.
pub const LINK: &str = "reattach::link";
/// Requests and notifications.
pub const REQUEST: &str = "reattach::request";
/// Sessions.
pub const SESSION: &str = "reattach::session";
/// Questions to people.
pub const PERMISSION: &str = "reattach::permission";

/// All of them.
pub const ALL: [&str; 6] = [SERVER, SOCKET, LINK, REQUEST, SESSION, PERMISSION];
