//! The requests of two sides: what their applications do, what becomes of their messages, and bytes that are no request.
//!
//! Every request ends once and by its time, nothing grows without bound, nothing waits without a timer, and what is written is
//! JSON-RPC as another reader sees it.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use reattach_core::error::ApiMisuse;
use reattach_core::id::MessageId;
use reattach_core::id::MessageIds;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::rpc::Call;
use reattach_core::rpc::Channel;
use reattach_core::rpc::Config;
use reattach_core::rpc::ErrorObject;
use reattach_core::rpc::Event;
use reattach_core::rpc::IncomingId;
use reattach_core::rpc::Output;
use reattach_core::rpc::RequestId;
use reattach_core::rpc::Rpc;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;
use reattach_core::wire::UncheckedPayload;
use serde_json::Value;

use crate::fuzz::bytes::Bytes;

/// The body of the target.
pub fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let mut world = World { now: Instant::ZERO, sides: [Side::new(1), Side::new(2)] };
    while !bytes.is_empty() {
        world.step(&mut bytes);
        world.check();
    }
    world.end();
}

const PENDING: usize = 6;
const OPEN: usize = 3;
const BATCH: usize = 3;
/// The most that an answer, or anything else of a side that waits for room, may be behind: what is open, and what is said.
const UNSENT: usize = PENDING + 2 * (OPEN + BATCH) + 2;

fn config() -> Config {
    let mut config = Config::default();
    (config.max_pending, config.max_open, config.max_batch) = (PENDING, OPEN, BATCH);
    config
}

struct Side {
    rpc: Rpc,
    ids: MessageIds,
    /// There is no room in the connection.
    is_full: bool,
    is_ended: bool,
    sent: VecDeque<(Channel, Payload, MessageId)>,
    begun: BTreeSet<RequestId>,
    ended: BTreeSet<RequestId>,
    open: Vec<IncomingId>,
}

impl Side {
    fn new(seed: u8) -> Self {
        Self {
            rpc: Rpc::new(config(), &[seed; 16], Instant::ZERO),
            ids: MessageIds::new(&[seed; 16]),
            is_full: false,
            is_ended: false,
            sent: VecDeque::new(),
            begun: BTreeSet::new(),
            ended: BTreeSet::new(),
            open: Vec::new(),
        }
    }

    fn drain(&mut self, now: Instant) {
        let before = self.sent.len();
        while let Some(output) = self.rpc.poll_output() {
            match output {
                Output::Send { .. } if self.is_full => self.rpc.handle_sent(Err(ApiMisuse::QueueFull), now),
                Output::Send { channel, payload, .. } => {
                    let id = self.ids.mint();
                    self.rpc.handle_sent(Ok(id), now);
                    is_json_rpc(&payload);
                    self.sent.push_back((channel, payload, id));
                }
                Output::Withdraw(_) => {}
                Output::Event(Event::Finished { id, .. }) => {
                    assert!(self.begun.contains(&id), "something ended that never began");
                    assert!(self.ended.insert(id), "a request ended twice");
                }
                Output::Event(Event::Abandoned { id }) => self.open.retain(|open| *open != id),
                Output::Event(_) => {}
            }
        }
        assert!(!self.is_ended || self.sent.len() == before, "a connection that has ended is asked to send");
    }
}

struct World {
    now: Instant,
    sides: [Side; 2],
}

impl World {
    fn step(&mut self, bytes: &mut Bytes<'_>) {
        let now = self.now;
        let choice = bytes.byte();
        let [one, two] = &mut self.sides;
        let (side, other) = if choice & 0x80 == 0 { (one, two) } else { (two, one) };
        match choice % 16 {
            0 => {
                let call = call("m", bytes);
                side.begun.extend(side.rpc.request(call, now));
            }
            1 => {
                let calls = (0..bytes.below(BATCH + 2)).map(|n| (call("b", bytes), n != 1)).collect();
                side.begun.extend(side.rpc.request_batch(calls, now).into_iter().flatten());
            }
            2 => _ = side.rpc.notify(&call("n", bytes), now),
            3 => {
                let id = bytes.pick_of(side.begun.iter().copied());
                _ = id.map(|id| side.rpc.cancel(id, now));
            }
            4..=6 => {
                if let Some((channel, payload, id)) = side.sent.pop_front() {
                    other.rpc.handle_message(channel, payload.into(), now);
                    side.rpc.handle_outcome(&id, &Outcome::Delivered, now);
                }
            }
            7 => {
                let outcome = bytes.pick_of([
                    Outcome::Unknown { reason: Unknown::NoReceipt },
                    Outcome::NotDelivered { reason: NotDelivered::Expired },
                ]);
                if let (Some((_, _, id)), Some(outcome)) = (side.sent.pop_front(), outcome) {
                    side.rpc.handle_outcome(&id, &outcome, now);
                }
            }
            8 => side.open.extend(side.rpc.take().and_then(|incoming| incoming.id)),
            9 => {
                if let Some(asked) = bytes.pick_of(side.open.iter().copied()) {
                    side.open.retain(|open| *open != asked);
                    let result = if bytes.rarely(3) { Err(ErrorObject::new(1, "no")) } else { Ok(json("1")) };
                    assert_eq!(side.rpc.respond(asked, result, now), Ok(()), "what was not abandoned is answered");
                }
            }
            10 => _ = side.open.last().map(|asked| side.rpc.progress(*asked, &json("[1]"), now)),
            11 => {
                let text = text(bytes, &side.begun);
                let channel = if bytes.rarely(4) { Channel::Responses } else { Channel::Calls };
                side.rpc.handle_message(channel, UncheckedPayload::new(&text), now);
            }
            12 => {
                self.now = now + Duration::from_millis(bytes.number().min(100_000));
                side.rpc.handle_timeout(self.now);
            }
            13 => {
                let goes_on: BTreeSet<_> = side.sent.iter().map(|(_, _, id)| *id).filter(|_| bytes.rarely(2)).collect();
                side.rpc.handle_epoch_ended(|id| goes_on.contains(id), now);
            }
            14 => {
                side.is_full = !side.is_full;
                side.rpc.handle_room();
            }
            _ if bytes.rarely(4) => {
                side.rpc.handle_ended("it ended", now);
                side.drain(now);
                side.is_ended = true;
            }
            _ => side.rpc.handle_timeout(now),
        }
        for side in &mut self.sides {
            side.drain(self.now);
        }
    }

    fn check(&self) {
        for side in &self.sides {
            let waiting = side.begun.len() - side.ended.len();
            assert_eq!(waiting, side.rpc.pending(), "what has not ended waits");
            assert!(waiting <= PENDING);
            assert_eq!(waiting > 0, side.rpc.poll_timeout().is_some(), "nothing waits without a timer");
            assert!(!side.is_ended || waiting == 0);
            let mut copy = side.rpc.clone();
            assert_eq!(copy, side.rpc);
            let mut unsent = 0;
            copy.handle_room();
            while let Some(output) = copy.poll_output() {
                if let Output::Send { .. } = output {
                    copy.handle_sent(Err(ApiMisuse::Ended), self.now);
                    unsent += 1;
                }
            }
            let notifications = side.rpc.stats().requests as usize;
            assert!(unsent <= UNSENT + PENDING + notifications.min(PENDING), "{unsent} messages wait for room");
        }
    }

    /// Time passes, and every request has ended.
    fn end(&mut self) {
        for side in &mut self.sides {
            let at = self.now + Duration::from_secs(400);
            side.rpc.handle_timeout(at);
            side.drain(at);
            assert_eq!(side.rpc.pending(), 0, "a request outlives its time");
            assert_eq!(side.begun, side.ended);
        }
    }
}

fn json(text: &str) -> Payload {
    Payload::from_json(text).expect("it is JSON")
}

fn call(method: &str, bytes: &mut Bytes<'_>) -> Call {
    let call = Call::new(method).expect("a good name");
    match bytes.below(6) {
        0 => call,
        1 => call.with_params(json("[1]")).expect("an array"),
        2 => call.with_params(json("{\"a\":\"\\u0041\"}")).expect("an object"),
        3 => call.long(),
        4 => call.within(Duration::from_millis(bytes.number().min(400_000))),
        _ => call.idle(Duration::from_millis(bytes.number().min(100_000))),
    }
}

/// What may come: pieces of JSON-RPC, or any bytes.
fn text(bytes: &mut Bytes<'_>, begun: &BTreeSet<RequestId>) -> String {
    let mut text = String::new();
    for _ in 0..bytes.below(12) {
        match bytes.below(24) {
            0 => text.push_str(r#"{"jsonrpc":"2.0""#),
            1 => text.push_str(r#","id":1"#),
            2 => text.push_str(r#","id":"a""#),
            3 => {
                if let Some(id) = bytes.pick_of(begun.iter().copied()) {
                    text.push_str(&format!(",\"id\":\"{id}\""));
                }
            }
            4 => text.push_str(r#","method":"m""#),
            5 => text.push_str(r#","method":"$/cancelRequest","params":{"id":1}"#),
            6 => {
                if let Some(id) = bytes.pick_of(begun.iter().copied()) {
                    text.push_str(&format!(r#","method":"$/progress","params":{{"token":"{id}","value":1}}"#));
                }
            }
            7 => text.push_str(r#","params":[1]"#),
            8 => text.push_str(r#","result":null"#),
            9 => text.push_str(r#","error":{"code":-1,"message":"x","data":{}}"#),
            10 => text.push_str(r#","error":{}"#),
            11 => text.push_str(r#","id":null"#),
            12..=15 => text.push('}'),
            16 => text.push('['),
            17 => text.push(']'),
            18 => text.push(','),
            19 => text.push_str(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#),
            20 => text.push_str(r#"{"jsonrpc":"2.0","id":2,"method":"m"}"#),
            _ => text.push(char::from(bytes.byte())),
        }
    }
    text
}

/// Whether a message is JSON-RPC 2.0, by the words of its specification.
fn is_json_rpc(payload: &Payload) {
    let value: Value = serde_json::from_str(payload.as_str()).expect("what is written is JSON");
    let items = value.as_array().map_or_else(|| std::slice::from_ref(&value), Vec::as_slice);
    assert!(!items.is_empty(), "a batch holds something");
    for item in items {
        let has = |key: &str| item.get(key).is_some();
        assert_eq!(item["jsonrpc"], "2.0", "{item}");
        if has("method") {
            assert!(item["method"].is_string() && !has("result") && !has("error"), "{item}");
            assert!(!has("params") || item["params"].is_array() || item["params"].is_object(), "{item}");
            assert!(!has("id") || item["id"].is_string(), "{item}");
        } else {
            assert!(has("result") != has("error"), "{item}");
            assert!(item["id"].is_string() || item["id"].is_number() || item["id"].is_null(), "{item}");
            if let Some(error) = item.get("error") {
                assert!(error["code"].is_i64() && error["message"].is_string(), "{item}");
            }
        }
    }
}
