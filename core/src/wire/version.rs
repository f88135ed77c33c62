//! The version of the protocol, which the WebSocket subprotocol carries.

/// The WebSocket subprotocol (RFC 6455, 1.9) that both sides must agree on. It is the version: a peer that does not echo it
/// speaks something else.
pub const SUBPROTOCOL: &str = "reattach.v1";
