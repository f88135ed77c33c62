//! Questions, to be asked and answered.

use reattach_core::id::ConnectionId;
use reattach_core::id::ConnectionKey;
use reattach_core::id::SessionId;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionId;
use reattach_core::messages::PermissionRequest;
use reattach_core::messages::PermissionResponse;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;

/// It may, with the input that it asked for.
pub const ALLOW: Choice = Choice::Allow { updated_input: None };

/// A connection, by number.
pub fn connection(number: u8) -> ConnectionId {
    ConnectionKey::from_bytes([number; 16]).connection_id()
}

/// The name of a question.
pub fn id(name: &str) -> PermissionId {
    PermissionId::new(name).expect("the test says what may be")
}

/// A session.
pub fn session() -> SessionId {
    SessionId::new("s").expect("the test says what may be")
}

/// JSON.
pub fn json(text: &str) -> Payload {
    Payload::from_json(text).expect("the test says what may be")
}

/// So many seconds after the beginning.
pub fn secs(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

/// A question.
pub fn request(name: &str) -> PermissionRequest {
    let (tool_name, timestamp) = ("write".to_owned(), "2026-11-21T19:00:00Z".to_owned());
    let (input, context) = (json(r#"{"path":"a"}"#), json("null"));
    PermissionRequest { id: id(name), tool_name, input, context, timestamp, remaining: None }
}

/// An answer.
pub fn response(name: &str, choice: Choice) -> PermissionResponse {
    PermissionResponse { request_id: id(name), choice }
}
