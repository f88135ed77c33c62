//! The same thing read twice: frames by the core and by a reader made from PROTOCOL.md alone, frames written in one way and
//! in another, texts by a client and by a server, and texts with garbage between the frames and without.
//!
//! Frames are made as honest machines write them, and then written with other orders of keys, white space, escapes, keys that
//! stand twice, numbers in every form, unknown keys, deep nesting, halves of characters, and cuts.

mod frames;
mod json;
mod mangle;
mod reference;
mod sides;

use std::time::Duration;

use reattach_core::connection::Incoming;
use reattach_core::error::ProtocolError;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::TransportId;
use reattach_core::link::Outgoing;
use reattach_core::server::Command;
use reattach_core::server::Config;
use reattach_core::server::Mint;
use reattach_core::server::Registry;
use reattach_core::server::RegistryInput;
use reattach_core::server::RegistryOutput;
use reattach_core::time::Instant;
use reattach_core::wire;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Ephemeral;
use reattach_core::wire::Frame;
use reattach_core::wire::Message;

use crate::fuzz::bytes::Bytes;
use crate::fuzz::shapes;

use self::reference::Faults;
use self::sides::Said;
use self::sides::Sides;

/// The body of the target.
pub fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    match bytes.byte() % 4 {
        0 => while_any(bytes, rewrite),
        1 => while_any(bytes, mangle),
        2 => while_any(bytes, greet),
        _ => converse(bytes),
    }
}

fn while_any(mut bytes: Bytes<'_>, mut step: impl FnMut(&mut Bytes<'_>)) {
    while !bytes.is_empty() {
        step(&mut bytes);
    }
}

/// A frame that is written in another way is the same frame.
fn rewrite(bytes: &mut Bytes<'_>) {
    let line = frames::any(bytes);
    compare(&line);
    let frame = wire::decode(&line);
    let keeps_last = bytes.pick(&[true, false]);
    let Some(other) = mangle::rewritten(bytes, &line, keeps_last) else { return };
    compare(&other);
    let is_shallow = json::parse(&line).is_some_and(|node| node.depth() <= 65);
    if let (Ok(frame), true) = (frame, is_shallow) {
        // Only the general way looks for a payload that does not stand last.
        let read = if keeps_last { wire::decode(&other) } else { wire::decode_generally(&other) };
        assert_eq!(read, Ok(frame), "{line} written as {other}");
    }
}

/// A frame that is changed is read as the page says, whatever it has become.
fn mangle(bytes: &mut Bytes<'_>) {
    let line = frames::any(bytes);
    compare(&mangle::mangled(bytes, &line));
    if bytes.rarely(16) {
        compare(&bytes.text().replace('\n', " "));
    }
}

/// One line, as the core reads it in two ways and as the reference does.
fn compare(line: &str) {
    let (hot, general) = (wire::decode(line), wire::decode_generally(line));
    let strict = reference::read(line);
    match (&general, &strict) {
        (Ok(read), Ok(expected)) => assert_eq!(read, expected, "{line}"),
        (Err(_), Err(_)) => {}
        (_, _) => panic!("the core says {general:?} and the page {strict:?} of {line}"),
    }
    if hot != general {
        // A reader may take what stands behind `"d":` for the payload, without a look into it.
        let Some(Ok(expected)) = reference::read_header(line) else {
            panic!("{hot:?} is read where {general:?} is: {line}")
        };
        assert_eq!(hot, Ok(expected), "{line}");
        assert!(general.is_err() || !is_json(&hot), "a payload that is JSON is read by both: {line}");
    }
}

fn is_json(read: &Result<Frame<'_>, wire::DecodeError>) -> bool {
    let Ok(Frame::Message(Message { payload, .. }) | Frame::Ephemeral(Ephemeral { payload, .. })) = read else {
        return false;
    };
    json::parse(payload).is_some_and(|node| node.depth() <= 64)
}

/// The first text on a server's transport is answered as the page says.
fn greet(bytes: &mut Bytes<'_>) {
    let mut line = String::new();
    if bytes.rarely(8) {
        line = frames::any(bytes);
    } else {
        Frame::Hello(Box::new(frames::hello(bytes))).encode(&mut line);
    }
    let line = mangle::mangled(bytes, &line);
    let (now, transport) = (Instant::from_secs(1_000), TransportId(1));
    let mut registry = Registry::new(Config::default(), now);
    let mint = Mint { epoch: Epoch::from_bytes([8; 16]), fence: Fence::from_bytes([9; 16]) };
    registry.handle_input(RegistryInput::Accepted { transport, address: None, mint }, now);
    registry.handle_input(RegistryInput::Received { transport, incoming: Incoming::Text(&line) }, now);
    let mut code = None;
    let mut attached = None;
    while let Some(output) = registry.poll_output() {
        match output {
            RegistryOutput::Close { code: closed, .. } => code = Some(closed),
            RegistryOutput::Command { command: Command::Attach(attach), .. } => attached = Some(attach.hello),
            RegistryOutput::Write { .. }
            | RegistryOutput::Authenticate { .. }
            | RegistryOutput::Create(_)
            | RegistryOutput::Command { .. }
            | RegistryOutput::Event(_) => {}
        }
    }
    let allowed: &[CloseCode] = match reference::read(&line) {
        Ok(Frame::Hello(hello)) if hello.cid == hello.key.connection_id() => {
            assert_eq!(attached, Some(*hello), "{line}");
            &[]
        }
        Ok(Frame::Hello(_)) => &[CloseCode::UNAUTHENTICATED],
        Err(Faults { of_identifier: true, of_rest: false }) => &[CloseCode::MALFORMED_ID],
        Err(Faults { of_identifier: true, of_rest: true }) => &[CloseCode::MALFORMED_ID, CloseCode::PROTOCOL],
        Ok(_) | Err(_) => &[CloseCode::PROTOCOL],
    };
    match code {
        Some(code) => assert!(allowed.contains(&code), "{code} is the answer where {allowed:?} is due: {line}"),
        None => assert!(allowed.is_empty(), "no answer where {allowed:?} is due: {line}"),
    }
}

/// A client and a server's peer in the same place hear the same, and do the same; with garbage between the frames, too.
fn converse(mut bytes: Bytes<'_>) {
    let mut config = shapes::connection(&mut bytes);
    config.malformed.count = bytes.pick(&[2, 8, 0]);
    let budget = config.malformed.count as usize;
    let mut sides = Sides::new(config, shapes::limits(&mut bytes));
    let (mut skipped, end) = (0, sides.now + Duration::from_millis(90));
    while !bytes.is_empty() && sides.is_attached() {
        let patience = end - sides.now;
        let said = match bytes.byte() % 16 {
            0..=5 => {
                let text = texts(&mut bytes, &sides, false).join("\n");
                sides.hear(&text)
            }
            6..=8 => {
                let lines = texts(&mut bytes, &sides, true);
                with_garbage(&mut bytes, &mut sides, &lines, budget.saturating_sub(skipped))
            }
            9..=11 => {
                let payload = shapes::payload(&mut bytes);
                let id = Some(shapes::id(&mut bytes));
                let message = Outgoing { id, ..shapes::outgoing(&mut bytes, payload) };
                sides.send(&message)
            }
            12..=14 => {
                let decision = shapes::decision(&mut bytes);
                sides.take(&decision)
            }
            // Long enough for a report to be due, and not for a ping: those are numbered by who asked first.
            _ => sides.wait(Duration::from_millis(bytes.pick(&[20, 0, 1, 7])).min(patience)),
        };
        skipped += said.iter().filter(|said| matches!(said, Said::Skipped(_))).count();
    }
}

/// Frames of any peer at this moment, and where `all_good` only such as can be read.
fn texts(bytes: &mut Bytes<'_>, sides: &Sides, all_good: bool) -> Vec<String> {
    let (sent, received) = sides.standing();
    let mut lines = Vec::new();
    for ahead in 1..=1 + bytes.below(4) as u64 {
        let line =
            if bytes.rarely(16) { frames::any(bytes) } else { frames::of_either(bytes, sent, received.get() + ahead) };
        let line = if bytes.rarely(3) { mangle::mangled(bytes, &line) } else { line };
        if !all_good || wire::decode(&line).is_ok() {
            lines.push(line);
        }
    }
    lines
}

/// Frames with garbage between them mean what they mean without it, while there is no more of it than a peer bears.
fn with_garbage(bytes: &mut Bytes<'_>, sides: &mut Sides, lines: &[String], left: usize) -> Vec<Said> {
    let (mut all, mut malformed) = (Vec::new(), 0);
    for line in lines {
        for _ in 0..bytes.below(3) {
            let garbage = match bytes.byte() % 4 {
                0 => String::new(),
                1 => "{\"t\":\"later\",\"d\":[1]}".to_owned(),
                _ => mangle::mangled(bytes, line),
            };
            // An empty line is skipped, and what is read by nobody is malformed.
            let is_nothing = matches!(wire::decode(&garbage), Ok(Frame::Unknown)) || garbage.is_empty();
            let is_malformed = !is_nothing
                && reference::read(&garbage).is_err()
                && !matches!(reference::read_header(&garbage), Some(Ok(_)));
            if is_nothing || is_malformed {
                malformed += usize::from(is_malformed);
                all.push(garbage);
            }
        }
        all.push(line.clone());
    }
    let mut plain = sides.clone();
    let (with, without) = (sides.hear(&all.join("\n")), plain.hear(&lines.join("\n")));
    if malformed <= left {
        let is_meant = |said: &&Said| !matches!(said, Said::Skipped(_));
        assert!(with.iter().filter(is_meant).eq(&without), "{with:?} and {without:?}");
        assert!(sides.looks() == plain.looks(), "{:?} and {:?}", sides.looks(), plain.looks());
    } else {
        let is_too_much = |said: &Said| matches!(said, Said::Broken(ProtocolError::TooManyMalformed(_)));
        assert!(with.iter().any(is_too_much) || !plain.is_attached(), "{with:?}");
    }
    with
}
