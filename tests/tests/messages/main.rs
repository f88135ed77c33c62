//! What applications say stands on the wire as it always has, and what is not such a message is refused by name.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod golden;

use std::time::Duration;

use harness::net::Way;
use harness::sim::Chance;
use harness::world::World;
use reattach_core::id::SessionId;
use reattach_core::messages::AnyMessage;
use reattach_core::messages::ChatMessage;
use reattach_core::messages::ConnectionState;
use reattach_core::messages::ConnectionStatus;
use reattach_core::messages::Envelope;
use reattach_core::messages::GlobalEvent;
use reattach_core::messages::InteractionId;
use reattach_core::messages::InteractionResponse;
use reattach_core::messages::MessageError;
use reattach_core::messages::OtherUpdate;
use reattach_core::messages::PermissionMessage;
use reattach_core::messages::ServerEvent;
use reattach_core::messages::SessionNotification;
use reattach_core::messages::SessionUpdate;
use reattach_core::messages::StreamEnd;
use reattach_core::messages::Timestamp;
use reattach_core::messages::Topic;
use reattach_core::wire::DecodeError;
use reattach_core::wire::MAX_DEPTH;
use reattach_core::wire::Payload;
use reattach_core::wire::PayloadError;
use reattach_core::wire::Problem;

use crate::golden::chat;
use crate::golden::envelope_id;
use crate::golden::golden;
use crate::golden::interaction;
use crate::golden::json;
use crate::golden::notification;
use crate::golden::request;
use crate::golden::session;
use crate::golden::status;
use crate::golden::stream;

fn read(text: &str) -> Result<AnyMessage, MessageError> {
    AnyMessage::read(&json(text))
}

// S000-11, S000-12, S001-13, S001-15, S003-08, S003-40
#[test]
fn every_message_stands_on_the_wire_as_it_always_has_and_is_read_back() {
    for (message, text) in golden() {
        assert_eq!(message.write().unwrap().as_str(), text);
        assert_eq!(read(text), Ok(message), "{text}");
    }
}

// S001-48, S003-08
#[test]
fn the_tables_of_the_protocol_name_every_type_and_its_examples_are_messages() {
    let (_, section) = include_str!("../../../core/PROTOCOL.md").split_once("## 20. ").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let named: Vec<_> = rows.map(str::to_owned).collect();
    assert_eq!(named.len(), 21);
    for name in &named {
        assert_ne!(read(&format!(r#"{{"type":"{name}"}}"#)), Err(MessageError::UnknownType), "{name}");
    }
    for (_, text) in golden() {
        let Some((_, name)) = text.split_once("\"type\":\"") else { continue };
        let name = name.split('"').next().unwrap();
        assert!(text.contains("session/update") || named.iter().any(|known| known == name), "{name}");
    }
    let examples: Vec<_> = section.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(examples.len(), 6);
    for example in examples {
        assert_eq!(read(example).unwrap().write().unwrap().as_str(), example);
    }
}

// S001-45, S003-07, S002-80
#[test]
fn keys_that_are_not_known_are_skipped_and_the_order_of_keys_means_nothing() {
    for (message, text) in golden() {
        // What a server tells of itself is kept as it came.
        if matches!(message, AnyMessage::Event(ServerEvent::Global(_))) {
            continue;
        }
        let added = text.replacen('{', "{ \"unknown\" : [1] , ", 1);
        assert_eq!(read(&added), Ok(message.clone()), "{added}");
        let added_within = text.replacen("\"payload\":{", "\"payload\":{\"unknown\":null,", 1);
        let added_within = added_within.replace("\"unknown\":null,}", "\"unknown\":null}");
        assert_eq!(read(&added_within), Ok(message), "{added_within}");
    }
    let turned = r#"{"timestamp":"2026-11-21T19:00:00.000Z","payload":{"message":"say \"hi\"","sessionId":"s1"},"type":"chat_request","id":"m1"}"#;
    assert_eq!(read(turned), Ok(request(None)));
}

// S001-12
#[test]
fn what_may_be_missing_may_be_null_and_is_left_out_where_it_is_written() {
    for (text, same) in [
        (
            r#"{"type":"interaction-response","interactionId":"i1","response":"allow","retryCount":null}"#,
            interaction("\"allow\"", None),
        ),
        (
            r#"{"id":"m1","type":"chat_request","payload":{"sessionId":"s1","message":"say \"hi\"","model":null},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
            request(None),
        ),
        (
            r#"{"id":"m1","type":"chat_stream","payload":{"sessionId":"s1","inReplyTo":null,"delta":"","isComplete":true,"error":null,"interrupted":null},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
            stream("", None, Some(StreamEnd::Complete)),
        ),
        (
            r#"{"id":"m1","type":"connection_status","payload":{"status":"connecting","latency":null,"error":null},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
            status(ConnectionState::Connecting, None, None),
        ),
        (
            r#"{"id":"m1","type":"session_update","payload":{"sessionId":"s1"},"timestamp":"2026-11-21T19:00:00.000Z"}"#,
            chat(ChatMessage::SessionUpdate { session_id: session(), update: json("null") }),
        ),
        (
            r#"{"type":null,"method":"session/update","params":{"sessionId":null,"update":{"sessionUpdate":"agent_message_chunk","content":null}}}"#,
            notification(None, SessionUpdate::AgentMessageChunk { content: None }),
        ),
        (
            r#"{"type":"session_end","sessionId":"s1","error":null}"#,
            AnyMessage::Event(ServerEvent::SessionEnd { session_id: session(), error: None }),
        ),
    ] {
        let message = read(text);
        assert_eq!(message.as_ref(), Ok(&same), "{text}");
        assert_eq!(
            same.write().unwrap().as_str().matches(":null").count(),
            usize::from(text.contains("session_update"))
        );
    }
}

// S003-35: the ping of a client that was there before lacks both.
#[test]
fn only_pings_and_pongs_may_come_without_an_id_and_a_time() {
    for text in [r#"{"type":"ping","payload":{}}"#, r#"{"id":null,"type":"ping","payload":{},"timestamp":null}"#] {
        let Ok(AnyMessage::Chat(ping)) = read(text) else { panic!("{text}") };
        assert_eq!((ping.id(), ping.timestamp(), ping.message()), (None, None, &ChatMessage::Ping));
        assert_eq!(ping.write().unwrap().as_str(), r#"{"type":"ping","payload":{}}"#);
    }
    let pong = read(r#"{"type":"pong","payload":{"inReplyTo":"m1"}}"#).unwrap();
    let AnyMessage::Chat(pong) = pong else { panic!("{pong:?}") };
    assert_eq!(pong.into_message(), ChatMessage::Pong { in_reply_to: Some(envelope_id("m1")) });
    for (key, left) in [("id", r#""timestamp":"2026-11-21T19:00:00Z""#), ("timestamp", r#""id":"m1""#)] {
        let text = format!(r#"{{"type":"chat_request","payload":{{"sessionId":"s1","message":""}},{left}}}"#);
        let missing = DecodeError::MissingKey { frame: "chat_request", key };
        assert_eq!(read(&text), Err(MessageError::Decode(missing)));
    }
}

/// Each text with the error that it is, exactly.
fn malformed() -> Vec<(&'static str, MessageError)> {
    fn missing(frame: &'static str, key: &'static str) -> MessageError {
        MessageError::Decode(DecodeError::MissingKey { frame, key })
    }
    fn bad(frame: &'static str, key: &'static str, problem: Problem) -> MessageError {
        MessageError::Decode(DecodeError::BadValue { frame, key, problem })
    }
    let (text, truth) = (Problem::Type { expected: "a string" }, Problem::Type { expected: "true or false" });
    let number = Problem::Type { expected: "a non-negative whole number" };
    let time = Problem::Type { expected: "a time in ISO 8601" };
    let object = Problem::Type { expected: "an object" };
    let empty = Problem::Id(reattach_core::id::IdError::Empty);
    vec![
        ("{}", missing("a message", "type")),
        (r#"{"type":1}"#, bad("a message", "type", text)),
        (r#"{"type":"zzz"}"#, MessageError::UnknownType),
        (r#"{"type":"Ping","payload":{}}"#, MessageError::UnknownType),
        (r#"{"type":"chatRequest","payload":{}}"#, MessageError::UnknownType),
        (
            r#"{"type":"ping","type":"pong","payload":{}}"#,
            MessageError::Decode(DecodeError::DuplicateKey { frame: "a message", key: "type" }),
        ),
        (r#"{"type":"interaction-response","response":1}"#, missing("interaction-response", "interactionId")),
        (
            r#"{"type":"interaction-response","interaction_id":"i","response":1}"#,
            missing("interaction-response", "interactionId"),
        ),
        (
            r#"{"type":"interaction-response","interactionId":"","response":1}"#,
            bad("interaction-response", "interactionId", empty),
        ),
        (r#"{"type":"interaction-response","interactionId":"i"}"#, missing("interaction-response", "response")),
        (
            r#"{"type":"interaction-response","interactionId":"i","response":1,"retryCount":-1}"#,
            bad("interaction-response", "retryCount", number),
        ),
        (
            r#"{"type":"interaction-response","interactionId":"i","response":1,"retryCount":4294967296}"#,
            bad("interaction-response", "retryCount", Problem::Range),
        ),
        (r#"{"id":"m","type":"ping","timestamp":"2026-11-21T19:00:00Z"}"#, missing("ping", "payload")),
        (r#"{"type":"ping","payload":null}"#, missing("ping", "payload")),
        (r#"{"type":"ping","payload":[]}"#, bad("ping", "payload", object)),
        (r#"{"type":"ping","payload":{},"id":7}"#, bad("ping", "id", text)),
        (r#"{"type":"ping","payload":{},"timestamp":"yesterday"}"#, bad("ping", "timestamp", time)),
        (r#"{"type":"ping","payload":{},"timestamp":1795287600}"#, bad("ping", "timestamp", text)),
        (
            r#"{"id":"m","type":"chat_request","payload":{"session_id":"s","message":"m"}}"#,
            missing("chat_request", "sessionId"),
        ),
        (r#"{"id":"m","type":"chat_request","payload":{"sessionId":"s"}}"#, missing("chat_request", "message")),
        (
            r#"{"id":"m","type":"chat_request","payload":{"sessionId":"s","message":{}}}"#,
            bad("chat_request", "message", text),
        ),
        (
            r#"{"id":"m","type":"chat_request","payload":{"sessionId":"s","message":"m","model":""}}"#,
            bad("chat_request", "model", empty),
        ),
        (r#"{"type":"chat_stream","payload":{"delta":"","isComplete":true}}"#, missing("chat_stream", "sessionId")),
        (r#"{"type":"chat_stream","payload":{"sessionId":"s","isComplete":true}}"#, missing("chat_stream", "delta")),
        (r#"{"type":"chat_stream","payload":{"sessionId":"s","delta":""}}"#, missing("chat_stream", "isComplete")),
        (
            r#"{"type":"chat_stream","payload":{"sessionId":"s","delta":"","isComplete":"true"}}"#,
            bad("chat_stream", "isComplete", truth),
        ),
        (
            r#"{"type":"chat_stream","payload":{"sessionId":"s","delta":"","isComplete":false,"error":"e"}}"#,
            bad("chat_stream", "isComplete", Problem::Contradiction),
        ),
        (
            r#"{"type":"chat_stream","payload":{"sessionId":"s","delta":"","isComplete":true,"error":"e","interrupted":true}}"#,
            bad("chat_stream", "interrupted", Problem::Contradiction),
        ),
        (r#"{"type":"connection_status","payload":{}}"#, missing("connection_status", "status")),
        (
            r#"{"type":"connection_status","payload":{"status":"Connected"}}"#,
            bad("connection_status", "status", Problem::Range),
        ),
        (
            r#"{"type":"connection_status","payload":{"status":"connected","latency":-1}}"#,
            bad("connection_status", "latency", number),
        ),
        (
            r#"{"type":"connection_status","payload":{"status":"connected","latency":9007199254740992}}"#,
            bad("connection_status", "latency", Problem::Range),
        ),
        (r#"{"type":"message_start"}"#, missing("message_start", "sessionId")),
        (r#"{"type":"block_delta","sessionId":"s"}"#, missing("block_delta", "delta")),
        (r#"{"type":"session_end","sessionId":""}"#, bad("session_end", "sessionId", empty)),
        (
            r#"{"jsonrpc":"1.0","method":"session/update","params":{}}"#,
            bad("a notification", "jsonrpc", Problem::Range),
        ),
        (r#"{"jsonrpc":"2.0","method":"session/cancel","params":{}}"#, MessageError::UnknownType),
        (r#"{"jsonrpc":"2.0","id":"1","method":"session/update","params":{}}"#, MessageError::UnknownType),
        (r#"{"jsonrpc":"2.0","method":"session/update"}"#, missing("session/update", "params")),
        (r#"{"jsonrpc":"2.0","method":"session/update","params":[]}"#, bad("session/update", "params", object)),
        (r#"{"jsonrpc":"2.0","method":"session/update","params":{}}"#, missing("session/update", "update")),
        (
            // S001-14
            r#"{"jsonrpc":"2.0","method":"session/update","params":{"update":{"session_update":"agent_message_chunk"}}}"#,
            missing("session/update", "sessionUpdate"),
        ),
    ]
}

// S002-15, S002-29, S003-07, S003-09, S003-11, S003-38
#[test]
fn what_is_no_message_is_refused_with_the_key_and_the_problem() {
    for (text, error) in malformed() {
        assert_eq!(read(text), Err(error), "{text}");
        assert!(!error.to_string().is_empty());
    }
    for text in ["1", "null", "\"ping\"", "[]", "[{\"type\":\"ping\"}]", "true"] {
        let read = read(text);
        assert!(matches!(read, Err(MessageError::Decode(DecodeError::NotAnObject { .. }))), "{text}: {read:?}");
    }
    let long = format!(r#"{{"type":"message_start","sessionId":"{}"}}"#, "x".repeat(SessionId::MAX_LEN + 1));
    assert!(matches!(read(&long), Err(MessageError::Decode(DecodeError::BadValue { key: "sessionId", .. }))));
    let wide = format!(r#"{{"type":"task_state"{}}}"#, (0..64).map(|n| format!(r#","k{n}":1"#)).collect::<String>());
    assert_eq!(read(&wide), Err(MessageError::Decode(DecodeError::TooManyKeys)));
    // A lone surrogate is JSON, and no text.
    let lone = read(r#"{"type":"block_delta","sessionId":"s","delta":"\ud800"}"#);
    assert!(matches!(lone, Err(MessageError::Decode(DecodeError::BadValue { key: "delta", .. }))), "{lone:?}");
}

// S004-094, N10, X3
#[test]
fn events_that_a_client_tells_itself_are_refused_from_the_network_by_every_reader() {
    for name in ["_open", "_close", "_send_failed", "_send_succeeded", "_", "\\u005fopen"] {
        let payload = json(&format!(
            r#"{{"type":"{name}","clientMsgId":"user-1","willRetry":true,"sessionId":"s","payload":{{}}}}"#
        ));
        assert_eq!(AnyMessage::read(&payload), Err(MessageError::LocalOnly), "{name}");
        assert_eq!(ServerEvent::read(&payload), Err(MessageError::LocalOnly), "{name}");
        assert_eq!(Envelope::read(&payload), Err(MessageError::LocalOnly), "{name}");
        assert_eq!(PermissionMessage::read(&payload), Err(MessageError::LocalOnly), "{name}");
        assert_eq!(InteractionResponse::read(&payload), Err(MessageError::LocalOnly), "{name}");
    }
}

#[test]
fn each_reader_takes_its_own_messages_and_leaves_the_others() {
    fn is_left<T>(read: &Result<T, MessageError>) -> bool {
        matches!(read, Err(MessageError::UnknownType))
    }
    for (message, text) in golden() {
        let payload = json(text);
        let is_notification = matches!(message, AnyMessage::Notification(_));
        assert_eq!(SessionNotification::read(&payload).is_ok(), is_notification, "{text}");
        if is_notification {
            continue;
        }
        let is_event = matches!(message, AnyMessage::Event(_));
        assert_eq!(is_left(&ServerEvent::read(&payload)), !is_event, "{text}");
        let is_chat = matches!(message, AnyMessage::Chat(_));
        assert_eq!(is_left(&Envelope::read(&payload)), !is_chat, "{text}");
        let is_permission = matches!(message, AnyMessage::Permission(_));
        assert_eq!(is_left(&PermissionMessage::read(&payload)), !is_permission, "{text}");
        let is_interaction = matches!(message, AnyMessage::Interaction(_));
        assert_eq!(is_left(&InteractionResponse::read(&payload)), !is_interaction, "{text}");
    }
}

// S003-05, S003-47
#[test]
fn a_chat_request_reaches_whoever_serves_it_once_with_what_it_holds() {
    let mut world = World::attached();
    let text = r#"{"id":"m1","type":"chat_request","payload":{"sessionId":"s1","message":"hi"},"timestamp":"2026-11-21T19:00:00.000Z"}"#;
    let asked = AnyMessage::read(&Payload::from_json(text).unwrap()).unwrap();
    assert!(matches!(&asked, AnyMessage::Chat(_)), "{asked:?}");
    let now = world.now;
    world.client().client.send(asked.write().unwrap().into(), now).unwrap();
    world.pump();
    world.cut(0);
    world.run_for(Duration::from_secs(60));
    let written = world.texts.iter().filter(|(_, _, way, text)| *way == Way::Up && text.contains("chat_request"));
    assert_eq!(written.count(), 2, "the first was lost with its transport");
    let [(_, taken)] = &world.deliveries[..] else { panic!("once: {:?}", world.deliveries) };
    assert_eq!(AnyMessage::read(&Payload::from_json(taken.payload().as_str()).unwrap()), Ok(asked));
}

// S001-14
#[test]
fn the_text_of_an_agent_is_read_where_there_is_one_and_any_other_update_is_kept_as_it_came() {
    let chunk = |content: &str| SessionUpdate::AgentMessageChunk { content: Some(json(content)) };
    assert_eq!(chunk(r#"{"type":"text","text":"a\nb"}"#).text().as_deref(), Some("a\nb"));
    for content in [r#"{"type":"image","text":"a"}"#, r#"{"text":"a"}"#, r#"{"type":"text"}"#, "\"a\"", "null"] {
        assert_eq!(chunk(content).text(), None, "{content}");
    }
    assert_eq!(chunk("1").kind(), "agent_message_chunk");
    let other = OtherUpdate::new(json(r#"{"sessionUpdate":"tool_call","toolCallId":"c"}"#)).unwrap();
    let notification = SessionNotification { session_id: None, update: SessionUpdate::Other(other.clone()) };
    assert_eq!((notification.update.kind(), notification.update.text()), ("tool_call", None));
    let params = notification.write_params().unwrap();
    assert_eq!(params.as_str(), r#"{"update":{"sessionUpdate":"tool_call","toolCallId":"c"}}"#);
    assert_eq!(SessionNotification::read_params(&params), Ok(notification));
    assert_eq!(other.json().as_str(), r#"{"sessionUpdate":"tool_call","toolCallId":"c"}"#);
    for no_update in ["1", "{}", r#"{"sessionUpdate":1}"#, r#"{"sessionUpdate":"agent_message_chunk"}"#] {
        assert!(OtherUpdate::new(json(no_update)).is_err(), "{no_update}");
    }
}

#[test]
fn what_an_event_of_no_session_holds_is_kept_and_cannot_bring_a_second_type() {
    let event = GlobalEvent::new(Topic::TaskState, &json(r#"{"sessionId":"s","tasks":{}}"#)).unwrap();
    assert_eq!(event.json().as_str(), r#"{"type":"task_state","sessionId":"s","tasks":{}}"#);
    assert_eq!(ServerEvent::Global(event).session_id(), None, "it belongs to none, whatever it holds");
    for details in ["[]", "1", r#"{"type":"ping"}"#, r#"{"\u0074ype":"ping"}"#] {
        assert!(GlobalEvent::new(Topic::TaskState, &json(details)).is_err(), "{details}");
    }
}

#[test]
fn what_is_too_deep_to_be_sent_is_refused_where_it_is_written() {
    let deep = json(&format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH)));
    let interaction_id = InteractionId::new("i").unwrap();
    let response = InteractionResponse { interaction_id, response: deep.clone(), retry_count: None };
    assert_eq!(response.write(), Err(PayloadError::TooDeep));
    let update = ChatMessage::SessionUpdate { session_id: session(), update: deep.clone() };
    assert_eq!(chat(update).write(), Err(PayloadError::TooDeep));
    let update = SessionUpdate::AgentMessageChunk { content: Some(deep) };
    assert_eq!(notification(None, update).write(), Err(PayloadError::TooDeep));
}

#[test]
fn the_longest_latency_can_be_read_again() {
    let message = status(ConnectionState::Connected, None, None);
    let AnyMessage::Chat(envelope) = message else { panic!("{message:?}") };
    let (id, timestamp) = (envelope.id().unwrap().clone(), envelope.timestamp().unwrap().clone());
    let (status, latency) = (ConnectionState::Connected, Some(Duration::MAX));
    let message = ChatMessage::ConnectionStatus(ConnectionStatus { status, latency, error: None });
    let written = Envelope::new(id, timestamp, message).write().unwrap();
    assert!(Envelope::read(&written).is_ok(), "{}", written.as_str());
}

// S003-09
#[test]
fn a_time_is_one_of_iso_8601_and_is_kept_as_it_came() {
    for text in [
        "2026-11-21T19:00:00Z",
        "2026-11-21T19:00:00.1Z",
        "2026-11-21T19:00:00.123456789+23:59",
        "0000-01-01T00:00:60-00:00",
    ] {
        assert_eq!(Timestamp::new(text).unwrap().as_str(), text);
    }
    for text in [
        "",
        "2026-11-21",
        "2026-11-21T19:00:00",
        "2026-11-21 19:00:00Z",
        "2026-13-21T19:00:00Z",
        "2026-00-21T19:00:00Z",
        "2026-11-32T19:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T19:60:00Z",
        "2026-11-21T19:00:61Z",
        "2026-11-21T19:00:00.Z",
        "2026-11-21T19:00:00.1234567890Z",
        "2026-11-21T19:00:00z",
        "2026-11-21T19:00:00+24:00",
        "2026-11-21T19:00:00+01:60",
        "2026-11-21T19:00:00+0100",
        "2026-11-21T19:00:00Z ",
        "+026-11-21T19:00:00Z",
        "2026-11-21T19:00:\u{0660}0Z",
        "\u{1f980}\u{1f980}\u{1f980}\u{1f980}\u{1f980}\u{1f980}",
    ] {
        assert!(Timestamp::new(text).is_err(), "{text}");
    }
    for (millis, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (951_868_799_999, "2000-02-29T23:59:59.999Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (1_795_287_600_001, "2026-11-21T19:00:00.001Z"),
        (u64::MAX, "9999-12-31T23:59:59.999Z"),
    ] {
        assert_eq!(Timestamp::from_unix_millis(millis).as_str(), text);
        assert_eq!(Timestamp::new(text).unwrap(), Timestamp::from_unix_millis(millis));
    }
}

/// Changes a text in one to four places.
fn mutate(text: &str, chance: &mut Chance) -> Vec<u8> {
    const SPLICES: [&[u8]; 12] = [
        b"null",
        b"{}",
        b"[]",
        b"-1",
        b"1e999",
        b"\"\"",
        b"true",
        b"\"_open\"",
        b"\\ud800",
        b"\xff",
        b"\"type\":\"pong\",",
        b"{\"a\":",
    ];
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..chance.between(1, 4) {
        let at = usize::try_from(chance.below(bytes.len() as u64 + 1)).unwrap();
        let to = (at + usize::try_from(chance.below(12)).unwrap()).min(bytes.len());
        match chance.below(4) {
            0 => drop(bytes.drain(at..to)),
            1 => drop(bytes.splice(at..to, chance.pick(&SPLICES).iter().copied())),
            2 => drop(bytes.splice(at..at, bytes[at..to].to_vec())),
            _ if at < bytes.len() => bytes[at] = chance.next().to_le_bytes()[0],
            _ => {}
        }
    }
    bytes
}

// X2, X3, S001-06
#[test]
fn no_change_to_a_text_breaks_a_reader_and_what_is_read_is_written_and_read_again() {
    let golden = golden();
    let mut chance = Chance::new(4);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..40_000 {
        let (_, text) = &golden[round % golden.len()];
        let mutated = mutate(text, &mut chance);
        let Ok(Ok(payload)) = std::str::from_utf8(&mutated).map(Payload::from_json) else { continue };
        match AnyMessage::read(&payload) {
            Ok(message) => {
                let written = message.write().unwrap();
                assert_eq!(AnyMessage::read(&written).as_ref(), Ok(&message), "{}", payload.as_str());
                assert_eq!(message.write().unwrap(), written);
                taken += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    assert!(taken > 1_000 && refused > 1_000, "{taken} were taken, {refused} refused");
}
