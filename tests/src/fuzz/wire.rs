//! Any bytes at all as what came in a WebSocket message.
//!
//! Nothing may panic. What can be read can be written, and is then read as the same; the two ways to read a message agree
//! wherever its payload is JSON; whether a text is JSON is what `serde_json` says; and what an application says by it is read
//! again as it was.

use reattach_core::id::MessageId;
use reattach_core::id::Seq;
use reattach_core::messages::AnyMessage;
use reattach_core::wire;
use reattach_core::wire::Bye;
use reattach_core::wire::Ephemeral;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;
use reattach_core::wire::MAX_DEPTH;
use reattach_core::wire::Message;
use reattach_core::wire::Payload;
use reattach_core::wire::Report;
use reattach_core::wire::UncheckedPayload;
use serde::de::IgnoredAny;

/// The body of the target.
pub fn run(input: &[u8]) {
    let lossy = String::from_utf8_lossy(input);
    read(&lossy);
    payload(&lossy);
    let valid: String = input.utf8_chunks().map(|chunk| chunk.valid()).collect();
    if valid != lossy {
        read(&valid);
        payload(&valid);
    }
}

/// Reads every frame of a text.
fn read(text: &str) {
    let mut rest = text;
    let mut seen = 0;
    while let Some(line) = wire::next_line(&mut rest) {
        assert!(!line.is_empty() && !line.contains('\n'), "a line is one line");
        seen += line.len();
        frame(line);
    }
    assert!(rest.is_empty());
    let breaks = text.bytes().filter(|byte| *byte == b'\n').count();
    assert_eq!(seen + breaks, text.len(), "nothing is lost between the lines");
}

fn frame(line: &str) {
    let (hot, general) = (wire::decode(line), wire::decode_generally(line));
    if hot != general {
        let Ok(Frame::Message(Message { payload, .. })) = hot else {
            panic!("only a message has two readers: {hot:?}, {general:?}");
        };
        // The hot path does not scan the payload. What it takes for one is judged when it is read as a type.
        if is_json(payload) && depth(payload) <= MAX_DEPTH {
            assert_eq!(general, hot, "one verdict on a payload that is JSON");
        }
    }
    for read in [&hot, &general] {
        match read {
            Ok(frame) => {
                let mut text = String::new();
                frame.encode(&mut text);
                assert!(!text.contains('\n'), "a frame is one line");
                assert_eq!(wire::decode(&text), Ok(as_written(frame)), "what was read can be written: {text}");
                assert!(held(frame) <= 4 * line.len(), "what is kept is in proportion to what came");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// The frame without the parts that mean nothing and are not written.
fn as_written<'a>(frame: &Frame<'a>) -> Frame<'a> {
    match frame.clone() {
        // Numbers belong to an epoch. A hello that names none has none.
        Frame::Hello(hello) if hello.epoch.is_none() => {
            let sent = Seq::ZERO;
            let (seen, report) = Default::default();
            Frame::Hello(Box::new(Hello { sent, base: sent.next(), seen, report, ..*hello }))
        }
        // Messages in hands are part of a report.
        Frame::Bye(bye) if bye.report.is_none() => Frame::Bye(Box::new(Bye { handed: Vec::new(), ..*bye })),
        same @ (Frame::Hello(_)
        | Frame::Challenge(_)
        | Frame::Welcome(_)
        | Frame::Message(_)
        | Frame::Ephemeral(_)
        | Frame::Void(_)
        | Frame::Ack(_)
        | Frame::Ping(_)
        | Frame::Pong(_)
        | Frame::Bye(_)
        | Frame::Unknown) => same,
    }
}

/// How many values a frame has made room for, whatever numbers stand in it.
fn held(frame: &Frame<'_>) -> usize {
    let of_report = |report: &Report| report.except.capacity();
    match frame {
        Frame::Hello(hello) => of_report(&hello.report),
        Frame::Welcome(welcome) => {
            let receipt = welcome.receipt.as_ref();
            let receipt = receipt.map_or(0, |receipt| receipt.except.capacity() + receipt.handed.capacity());
            of_report(&welcome.report) + receipt
        }
        Frame::Ack(ack) => of_report(&ack.report),
        Frame::Pong(pong) => of_report(&pong.report),
        Frame::Bye(bye) => bye.report.as_ref().map_or(0, of_report) + bye.handed.capacity() + bye.reason.capacity(),
        Frame::Challenge(_)
        | Frame::Void(_)
        | Frame::Message(_)
        | Frame::Ephemeral(_)
        | Frame::Ping(_)
        | Frame::Unknown => 0,
    }
}

/// A text as a payload, ours and a peer's.
fn payload(text: &str) {
    let (ours, theirs) = (Payload::from_json(text), UncheckedPayload::new(text).check());
    assert_eq!(ours.is_ok(), is_json(text) && depth(text) <= MAX_DEPTH, "a payload is JSON, and no more");
    assert_eq!(ours.is_ok(), theirs.is_ok());
    let reads = UncheckedPayload::new(text).parse::<IgnoredAny>().is_ok();
    assert_eq!(ours.is_ok(), reads, "reading a payload checks it");
    let Ok(ours) = ours else { return };
    let value = serde_json::from_str::<serde_json::Value>(text).ok();
    assert_eq!(serde_json::from_str(ours.as_str()).ok(), value, "the value is the same");
    application(&ours);
    splice(&ours);
    splice(&theirs.expect("the two agree"));
}

/// A payload as what an application says. What can be read can be written, and is then read as the same.
fn application(payload: &Payload) {
    match AnyMessage::read(payload) {
        Ok(message) => {
            let written = message.write().expect("what came was not too deep");
            assert_eq!(AnyMessage::read(&written), Ok(message));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A payload in a frame is read back, by either reader, and nothing else of the frame is touched.
fn splice(payload: &Payload) {
    assert!(!payload.as_str().contains(['\n', '\r']), "a payload has no line break");
    assert_eq!(payload.as_str().trim_matches([' ', '\t']), payload.as_str(), "nor white space around it");
    let seq = Seq::MAX;
    let mut text = String::new();
    Frame::Message(Message::plain(seq, payload.as_str())).encode(&mut text);
    let plain = Message::plain(seq, payload.as_str());
    assert_eq!(wire::decode(&text), Ok(Frame::Message(plain.clone())));
    assert_eq!(wire::decode_generally(&text), Ok(Frame::Message(plain)));
    text.clear();
    let id: Option<MessageId> = ID.parse().ok();
    assert!(id.is_some(), "a UUID");
    let message = Message { id, ..Message::plain(seq, payload.as_str()) };
    Frame::Message(message).encode(&mut text);
    assert_eq!(wire::decode(&text), Ok(Frame::Message(Message { id, ..Message::plain(seq, payload.as_str()) })));
    assert!(text.len() <= payload.len() + wire::MESSAGE_OVERHEAD);
    text.clear();
    wire::encode_ephemeral("key", payload, &mut text);
    assert_eq!(wire::decode(&text), Ok(Frame::Ephemeral(Ephemeral { key: "key".into(), payload: payload.as_str() })));
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// How deep a JSON text is nested, by another way than the core's.
fn depth(json: &str) -> usize {
    let (mut deepest, mut depth, mut quoted, mut escaped) = (0_usize, 0_usize, false, false);
    for character in json.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' | '{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

const ID: &str = "01234567-89ab-4def-8123-456789abcdef";
