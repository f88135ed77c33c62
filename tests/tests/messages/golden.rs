//! Every message, and the very text of it.

use std::time::Duration;

use reattach_core::id::Name;
use reattach_core::id::SessionId;
use reattach_core::messages::AnyMessage;
use reattach_core::messages::ChatMessage;
use reattach_core::messages::ChatRequest;
use reattach_core::messages::ChatResponse;
use reattach_core::messages::ChatStream;
use reattach_core::messages::ConnectionState;
use reattach_core::messages::ConnectionStatus;
use reattach_core::messages::Envelope;
use reattach_core::messages::EnvelopeId;
use reattach_core::messages::GlobalEvent;
use reattach_core::messages::InteractionId;
use reattach_core::messages::InteractionResponse;
use reattach_core::messages::OtherUpdate;
use reattach_core::messages::PermissionId;
use reattach_core::messages::PermissionMessage;
use reattach_core::messages::ServerEvent;
use reattach_core::messages::SessionNotification;
use reattach_core::messages::SessionUpdate;
use reattach_core::messages::StreamEnd;
use reattach_core::messages::Timestamp;
use reattach_core::messages::Topic;
use reattach_core::wire::Payload;

/// The time of all the envelopes.
pub(super) const TIME: &str = "2026-11-21T19:00:00.000Z";

/// The value of a text.
pub(super) fn json(text: &str) -> Payload {
    Payload::from_json(text).unwrap()
}

/// The session of all the messages.
pub(super) fn session() -> SessionId {
    SessionId::new("s1").unwrap()
}

/// The name of an envelope.
pub(super) fn envelope_id(name: &str) -> EnvelopeId {
    EnvelopeId::new(name).unwrap()
}

/// An answer to i1.
pub(super) fn interaction(response: &str, retry_count: Option<u32>) -> AnyMessage {
    let interaction_id = InteractionId::new("i1").unwrap();
    AnyMessage::Interaction(InteractionResponse { interaction_id, response: json(response), retry_count })
}

/// A message in an envelope.
pub(super) fn chat(message: ChatMessage) -> AnyMessage {
    AnyMessage::Chat(Envelope::new(envelope_id("m1"), Timestamp::new(TIME).unwrap(), message))
}

/// Somebody says hi.
pub(super) fn request(model: Option<&str>) -> AnyMessage {
    let model = model.map(|model| Name::new(model).unwrap());
    chat(ChatMessage::Request(ChatRequest { session_id: session(), message: "say \"hi\"".to_owned(), model }))
}

/// A piece of an answer, or its end.
pub(super) fn stream(delta: &str, in_reply_to: Option<&str>, end: Option<StreamEnd>) -> AnyMessage {
    let (delta, in_reply_to) = (delta.to_owned(), in_reply_to.map(envelope_id));
    chat(ChatMessage::Stream(ChatStream { session_id: session(), in_reply_to, delta, end }))
}

/// How it stands with the connection.
pub(super) fn status(status: ConnectionState, latency: Option<u64>, error: Option<&str>) -> AnyMessage {
    let (latency, error) = (latency.map(Duration::from_millis), error.map(str::to_owned));
    chat(ChatMessage::ConnectionStatus(ConnectionStatus { status, latency, error }))
}

/// What an agent says.
pub(super) fn notification(session_id: Option<SessionId>, update: SessionUpdate) -> AnyMessage {
    AnyMessage::Notification(SessionNotification { session_id, update })
}

/// What belongs to no session.
pub(super) fn global(topic: Topic, details: &str) -> AnyMessage {
    AnyMessage::Event(ServerEvent::Global(GlobalEvent::new(topic, &json(details)).unwrap()))
}

/// Every message, with the very text of it, typed by hand.
pub(super) fn golden() -> Vec<(AnyMessage, &'static str)> {
    let (session_id, content) = (session(), |text: &str| Some(json(text)));
    let plan = r#"{"sessionUpdate":"plan","entries":[{"content":"look"}]}"#;
    let resolved =
        PermissionMessage::Resolved { request_id: PermissionId::new("p").unwrap(), is_allowed: true, by: None };
    vec![
        // S000-11, S000-12
        (interaction("\"allow\"", None), r#"{"type":"interaction-response","interactionId":"i1","response":"allow"}"#),
        (
            interaction(r#"{"choice":[1,null]}"#, Some(0)),
            r#"{"type":"interaction-response","interactionId":"i1","response":{"choice":[1,null]},"retryCount":0}"#,
        ),
        (
            interaction("null", Some(3)),
            r#"{"type":"interaction-response","interactionId":"i1","response":null,"retryCount":3}"#,
        ),
        // S003-08, S003-09, S003-10
        (
            request(None),
            r#"{"id":"m1","type":"chat_request","payload":{"sessionId":"s1","message":"say \"hi\""},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
        ),
        (
            request(Some("large")),
            r#"{"id":"m1","type":"chat_request","payload":{"sessionId":"s1","message":"say \"hi\"","model":"large"},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
        ),
        (
            chat(ChatMessage::Response(ChatResponse {
                session_id: session(),
                in_reply_to: None,
                message: "hi".to_owned(),
            })),
            r#"{"id":"m1","type":"chat_response","payload":{"sessionId":"s1","message":"hi"},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
        ),
        (
            chat(ChatMessage::Response(ChatResponse {
                session_id: session(),
                in_reply_to: Some(envelope_id("m0")),
                message: String::new(),
            })),
            r#"{"id":"m1","type":"chat_response","payload":{"sessionId":"s1","inReplyTo":"m0","message":""},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
        ),
        // S003-11, S003-13, S003-40, S003-42, S003-43
        (
            stream("\u{1f980}\n", None, None),
            "{\"id\":\"m1\",\"type\":\"chat_stream\",\"payload\":{\"sessionId\":\"s1\",\"delta\":\"\u{1f980}\\n\",\"isComplete\":false},\"timestamp\":\"2026-11-21T19:00:00.000Z\"}",
        ),
        (
            stream("", None, Some(StreamEnd::Complete)),
            r#"{"id":"m1","type":"chat_stream","payload":{"sessionId":"s1","delta":"","isComplete":true},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
        ),
        (
            stream("", Some("m0"), Some(StreamEnd::Failed { error: "no model".to_owned() })),
            r#"{"id":"m1","type":"chat_stream","payload":{"sessionId":"s1","inReplyTo":"m0","delta":"","isComplete":true,"error":"no model"},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
        ),
        (
            stream("", None, Some(StreamEnd::Interrupted)),
            r#"{"id":"m1","type":"chat_stream","payload":{"sessionId":"s1","delta":"","isComplete":true,"interrupted":true},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
        ),
        (
            chat(ChatMessage::SessionUpdate { session_id: session(), update: json(r#"{"title":"t"}"#) }),
            r#"{"id":"m1","type":"session_update","payload":{"sessionId":"s1","update":{"title":"t"}},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
        ),
        // S003-12
        (
            status(ConnectionState::Connecting, None, None),
            r#"{"id":"m1","type":"connection_status","payload":{"status":"connecting"},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
        ),
        (
            status(ConnectionState::Connected, Some(42), None),
            r#"{"id":"m1","type":"connection_status","payload":{"status":"connected","latency":42},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
        ),
        (
            status(ConnectionState::Disconnected, Some(0), Some("")),
            r#"{"id":"m1","type":"connection_status","payload":{"status":"disconnected","latency":0,"error":""},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
        ),
        (
            status(ConnectionState::Error, None, Some("check the network")),
            r#"{"id":"m1","type":"connection_status","payload":{"status":"error","error":"check the network"},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
        ),
        // S003-32, S003-35
        (chat(ChatMessage::Ping), r#"{"id":"m1","type":"ping","payload":{},"timestamp":"2026-11-21T19:00:00.000Z"}"#),
        (
            chat(ChatMessage::Pong { in_reply_to: Some(envelope_id("m0")) }),
            r#"{"id":"m1","type":"pong","payload":{"inReplyTo":"m0"},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
        ),
        (
            chat(ChatMessage::Pong { in_reply_to: None }),
            r#"{"id":"m1","type":"pong","payload":{},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
        ),
        // S001-11, S001-12, S001-14
        (
            notification(
                Some(session()),
                SessionUpdate::AgentMessageChunk { content: content(r#"{"type":"text","text":"hi"}"#) },
            ),
            r#"{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"hi"}}}}"#,
        ),
        (
            notification(None, SessionUpdate::AgentMessageChunk { content: None }),
            r#"{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"agent_message_chunk"}}}"#,
        ),
        (
            notification(Some(session()), SessionUpdate::Other(OtherUpdate::new(json(plan)).unwrap())),
            r#"{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","update":{"sessionUpdate":"plan","entries":[{"content":"look"}]}}}"#,
        ),
        // The events of 004.
        (
            AnyMessage::Event(ServerEvent::MessageStart { session_id: session_id.clone() }),
            r#"{"type":"message_start","sessionId":"s1"}"#,
        ),
        (
            AnyMessage::Event(ServerEvent::BlockDelta { session_id: session_id.clone(), delta: "h\\".to_owned() }),
            r#"{"type":"block_delta","sessionId":"s1","delta":"h\\"}"#,
        ),
        (
            AnyMessage::Event(ServerEvent::SessionId { session_id: session_id.clone() }),
            r#"{"type":"session_id","sessionId":"s1"}"#,
        ),
        (
            AnyMessage::Event(ServerEvent::SessionEnd { session_id: session_id.clone(), error: None }),
            r#"{"type":"session_end","sessionId":"s1"}"#,
        ),
        (
            AnyMessage::Event(ServerEvent::SessionEnd { session_id, error: Some("out of memory".to_owned()) }),
            r#"{"type":"session_end","sessionId":"s1","error":"out of memory"}"#,
        ),
        (global(Topic::TaskState, r#"{"tasks":[1]}"#), r#"{"type":"task_state","tasks":[1]}"#),
        (global(Topic::LoopStatus, "{}"), r#"{"type":"loop_status"}"#),
        (global(Topic::InboxUpdated, r#"{ "unread" : 2 }"#), r#"{"type":"inbox_updated","unread" : 2}"#),
        // Its own table stands beside the broker's tests.
        (AnyMessage::Permission(resolved), r#"{"type":"permission-resolved","requestId":"p","decision":"allow"}"#),
    ]
}
