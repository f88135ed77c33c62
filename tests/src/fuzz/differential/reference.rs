//! A second reader of frames, written from PROTOCOL.md alone.
//!
//! It finds all that is wrong with a frame, not only the first. Where the page leaves something open it does as the core does:
//!
//! - A key that names half of a character (`"\ud800"`) makes the frame malformed, whatever it stands for. RFC 8259, 8.2, calls
//!   such a text JSON and leaves open what a reader does. In a value that is not looked at it means nothing.
//! - The limit of 64 keys holds in each object of which keys are known.
//! - A payload that is read by the general way keeps the limit of depth.
//! - Of an ephemeral message `id`, `lane`, `idem` and `hands` are unknown keys; so are the other keys of an exception whose
//!   `is` does not need them.
//! - A `bye` without `received` has no report, and what else is said of one is not looked at.

use std::time::Duration;

use reattach_core::id::Attempt;
use reattach_core::id::Code;
use reattach_core::id::ConnectionId;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::id::Lane;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::id::PingNo;
use reattach_core::id::ReportNo;
use reattach_core::id::Seq;
use reattach_core::wire::Ack;
use reattach_core::wire::Bye;
use reattach_core::wire::Challenge;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Disposition;
use reattach_core::wire::Ephemeral;
use reattach_core::wire::Exception;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;
use reattach_core::wire::Limits;
use reattach_core::wire::Message;
use reattach_core::wire::Ping;
use reattach_core::wire::Pong;
use reattach_core::wire::Receipt;
use reattach_core::wire::Report;
use reattach_core::wire::Token;
use reattach_core::wire::Void;
use reattach_core::wire::Welcome;

use super::json;
use super::json::Node;
use super::json::Pair;
use super::json::Value;

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// An identifier of a hello is malformed.
    pub(super) of_identifier: bool,
    /// Anything else.
    pub(super) of_rest: bool,
}

const OTHERWISE: Faults = Faults { of_identifier: false, of_rest: true };

/// 2^53 - 1.
const MAX: u64 = 9_007_199_254_740_991;

/// Reads a frame as JSON, whatever the order of its keys.
pub(super) fn read(line: &str) -> Result<Frame<'_>, Faults> {
    let node = json::parse(line).ok_or(OTHERWISE)?;
    let Value::Object(pairs) = &node.value else { return Err(OTHERWISE) };
    if pairs.iter().any(|pair| pair.value.depth() > 64) {
        return Err(OTHERWISE);
    }
    let payload = of_key(pairs, "d").map(|pair| pair.value.text).last();
    frame(pairs, payload)
}

/// Reads a `msg` by its header: everything from `"d":` to the last brace of the line is the payload. `None` where the line
/// cannot be read in that way.
pub(super) fn read_header(line: &str) -> Option<Result<Frame<'_>, Faults>> {
    let (pairs, rest) = json::parse_up_to_payload(line)?;
    let payload = json::trim(rest.strip_suffix('}')?);
    let is_message = of_key(&pairs, "t").any(|pair| matches!(&pair.value.value, Value::String(Some(t)) if t == "msg"));
    (is_message && !payload.is_empty()).then(|| frame(&pairs, Some(payload)))
}

fn of_key<'n, 'a>(pairs: &'n [Pair<'a>], key: &str) -> impl Iterator<Item = &'n Pair<'a>> {
    pairs.iter().filter(move |pair| pair.key.as_deref() == Some(key))
}

fn frame<'a>(pairs: &[Pair<'a>], payload: Option<&'a str>) -> Result<Frame<'a>, Faults> {
    let mut keys = Keys::of(pairs);
    let Some(t) = keys.string("t") else { return Err(OTHERWISE) };
    let frame = match t.as_str() {
        "hello" => hello(&mut keys).map(|hello| Frame::Hello(Box::new(hello))),
        "challenge" => keys.nonce("fence").map(|fence| Frame::Challenge(Challenge { fence: Fence::from_bytes(fence) })),
        "welcome" => welcome(&mut keys).map(|welcome| Frame::Welcome(Box::new(welcome))),
        "msg" => message(&mut keys, payload),
        "void" => keys.seq("seq").map(|seq| Frame::Void(Void { seq })),
        "ack" => Some(Frame::Ack(Ack { report: report(&mut keys, true), seen: keys.report_no("seen") })),
        "ping" => {
            let (n, seen) = (keys.number("n", 1, MAX), keys.report_no("seen"));
            n.map(|n| Frame::Ping(Ping { n: PingNo::new(n).expect("in range"), seen }))
        }
        "pong" => {
            let (n, report) = (keys.number("n", 1, MAX), report(&mut keys, true));
            n.map(|n| Frame::Pong(Pong { n: PingNo::new(n).expect("in range"), report }))
        }
        "bye" => bye(&mut keys).map(|bye| Frame::Bye(Box::new(bye))),
        _ => Some(Frame::Unknown),
    };
    match (frame, keys.faults) {
        (Some(frame), Faults { of_identifier: false, of_rest: false }) => Ok(frame),
        (_, faults @ Faults { of_identifier: true, .. }) => Err(faults),
        // What is not there is missing.
        (_, _) => Err(OTHERWISE),
    }
}

fn message<'a>(keys: &mut Keys<'_, 'a>, payload: Option<&'a str>) -> Option<Frame<'a>> {
    _ = keys.once("d");
    let (key, seq) = (keys.name("key"), keys.seq("seq"));
    if keys.has("key") && keys.has("seq") {
        keys.faults.of_rest = true;
    }
    if let Some(key) = key {
        return Some(Frame::Ephemeral(Ephemeral { key: key.into(), payload: payload? }));
    }
    let lane = keys.name("lane").map(|lane| Lane::named(Name::new(&lane).expect("1 to 128 bytes")));
    let (id, idempotent, hands) = (keys.uuid("id", ""), keys.flag("idem"), keys.number("hands", 1, 1000));
    Some(Frame::Message(Message {
        seq: seq?,
        id: id.map(|id| id.parse::<MessageId>().expect("a UUID")),
        lane: lane.unwrap_or_default(),
        idempotent: idempotent.unwrap_or(false),
        hands: hands.map_or(4, |hands| u32::try_from(hands).expect("at most 1000")),
        payload: payload?,
    }))
}

fn hello(keys: &mut Keys<'_, '_>) -> Option<Hello> {
    let [key, instance] = [keys.identifier("key", nonce), keys.identifier("instance", nonce)];
    let [epoch, fence] = [keys.identifier("epoch", nonce), keys.identifier("fence", nonce)];
    let cid = keys.identifier("cid", |text| uuid(text, "cid-"));
    let needed = ["key", "cid", "instance", "attempt", "window", "windowBytes", "maxPayload"];
    keys.faults.of_rest |= !needed.iter().all(|key| keys.has(key));
    let (attempt, sent, base) = (keys.number("attempt", 1, MAX), keys.watermark("sent"), keys.seq("base"));
    let (seen, report, limits) = (keys.report_no("seen"), report(keys, true), limits(keys));
    let token = keys.text("token", 1, 8192);
    Some(Hello {
        key: ConnectionKey::from_bytes(key?),
        cid: cid?.parse::<ConnectionId>().expect("a connection id"),
        instance: InstanceId::from_bytes(instance?),
        attempt: Attempt::new(attempt?).expect("in range"),
        epoch: epoch.map(Epoch::from_bytes),
        sent,
        base: base.unwrap_or_else(|| Seq::new((sent.get() + 1).min(MAX)).expect("in range")),
        seen,
        report,
        limits: limits?,
        token: token.and_then(Token::new),
        fence: fence.map(Fence::from_bytes),
    })
}

fn welcome(keys: &mut Keys<'_, '_>) -> Option<Welcome> {
    let (cid, epoch, resumed) = (keys.uuid("cid", "cid-"), keys.nonce("epoch"), keys.flag("resumed"));
    let (report, seen, limits) = (report(keys, true), keys.report_no("seen"), limits(keys));
    let detach_ttl = keys.millis("detachTtl");
    let receipt = keys.object("receipt").map(|pairs| keys.within(pairs, receipt));
    Some(Welcome {
        cid: cid?.parse().expect("a connection id"),
        epoch: Epoch::from_bytes(epoch?),
        resumed: resumed?,
        report,
        seen,
        limits: limits?,
        detach_ttl: detach_ttl?,
        receipt: receipt.flatten().map(Box::new),
    })
}

fn receipt(keys: &mut Keys<'_, '_>) -> Option<Receipt> {
    let Report { received, settled, no: _, except } = report(keys, false);
    let (epoch, seen, handed) = (keys.nonce("epoch"), keys.report_no("seen"), keys.seqs("handed"));
    let is_final = keys.flag("final").unwrap_or(false);
    if epoch.is_none() {
        keys.faults.of_rest = true;
    }
    Some(Receipt { epoch: Epoch::from_bytes(epoch?), received, settled, except, seen, handed, is_final })
}

fn bye(keys: &mut Keys<'_, '_>) -> Option<Bye> {
    let code = keys.number("code", 0, MAX);
    let is_sendable = |code: &u64| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    let code = code.filter(is_sendable).and_then(|code| u16::try_from(code).ok());
    let report = if keys.has("received") { Some(report(keys, true)) } else { keys.once("received").and(None) };
    let (end, handed, is_final) = (keys.flag("end"), keys.seqs("handed"), keys.flag("final"));
    let (reason, retry_after, suspend) = (keys.text("reason", 0, 256), keys.millis("retryAfter"), keys.flag("suspend"));
    Some(Bye {
        code: CloseCode::new(code?),
        end: end.unwrap_or(false),
        report,
        handed,
        is_final: is_final.unwrap_or(false),
        reason: reason.unwrap_or_default(),
        retry_after,
        suspend: suspend.unwrap_or(false),
    })
}

/// `is_numbered` says whether `no` is among the keys.
fn report(keys: &mut Keys<'_, '_>, is_numbered: bool) -> Report {
    let (received, settled) = (keys.watermark("received"), keys.watermark("settled"));
    let no = if is_numbered { keys.report_no("no") } else { ReportNo::ZERO };
    let mut except: Vec<Exception> = Vec::new();
    for node in keys.array("except") {
        let Value::Object(pairs) = &node.value else {
            keys.faults.of_rest = true;
            continue;
        };
        match keys.within(pairs, exception) {
            Some(entry) if except.last().is_none_or(|last| last.seq < entry.seq) => except.push(entry),
            Some(_) | None => keys.faults.of_rest = true,
        }
    }
    if settled > received || except.last().is_some_and(|last| last.seq > received) {
        keys.faults.of_rest = true;
    }
    Report { received, settled, no, except }
}

fn exception(keys: &mut Keys<'_, '_>) -> Option<Exception> {
    let (seq, is) = (keys.seq("seq"), keys.string("is"));
    let disposition = match is?.as_str() {
        "pending" => Disposition::Pending,
        "deferred" => {
            let (times, code) = (keys.number("times", 1, u64::from(u32::MAX)), keys.code("code"));
            let retry_after = keys.millis("retryAfter").unwrap_or_default();
            Disposition::Deferred { times: u32::try_from(times?).expect("in range"), retry_after, code: code? }
        }
        "rejected" => {
            let (code, reason) = (keys.code("code"), keys.text("reason", 0, 256));
            Disposition::Rejected { code: code?, reason: reason.unwrap_or_default() }
        }
        "voided" => Disposition::Voided,
        "abandoned" => Disposition::Abandoned,
        _ => return None,
    };
    Some(Exception { seq: seq?, disposition })
}

fn limits(keys: &mut Keys<'_, '_>) -> Option<Limits> {
    let (window, window_bytes) = (keys.number("window", 1, 16_384), keys.number("windowBytes", 1, MAX));
    let max_payload = keys.number("maxPayload", 1, MAX);
    let window = u32::try_from(window?).expect("in range");
    Some(Limits { window, window_bytes: window_bytes?, max_payload: max_payload? })
}

/// The keys of one object, and what was found to be wrong.
struct Keys<'n, 'a> {
    pairs: &'n [Pair<'a>],
    faults: Faults,
}

impl<'n, 'a> Keys<'n, 'a> {
    fn of(pairs: &'n [Pair<'a>]) -> Self {
        let is_bad = pairs.len() > 64 || pairs.iter().any(|pair| pair.key.is_none());
        Self { pairs, faults: Faults { of_identifier: false, of_rest: is_bad } }
    }

    /// Reads an object within this one.
    fn within<T>(&mut self, pairs: &'n [Pair<'a>], read: fn(&mut Self) -> Option<T>) -> Option<T> {
        let mut keys = Self::of(pairs);
        let read = read(&mut keys);
        self.faults.of_rest |= keys.faults != Faults::default();
        read
    }

    /// The value of a key that may stand once; `null` is none.
    fn once(&mut self, key: &str) -> Option<&'n Node<'a>> {
        let mut found = of_key(self.pairs, key).map(|pair| &pair.value);
        let first = found.next();
        self.faults.of_rest |= found.next().is_some();
        first.filter(|node| !matches!(node.value, Value::Null))
    }

    fn has(&self, key: &str) -> bool {
        of_key(self.pairs, key).any(|pair| !matches!(pair.value.value, Value::Null))
    }

    /// What `read` makes of the value; a fault where it makes nothing of it.
    fn value<T>(&mut self, key: &str, read: impl FnOnce(&'n Node<'a>) -> Option<T>) -> Option<T> {
        let node = self.once(key)?;
        let read = read(node);
        self.faults.of_rest |= read.is_none();
        read
    }

    fn string(&mut self, key: &str) -> Option<String> {
        self.value(key, |node| if let Value::String(text) = &node.value { text.clone() } else { None })
    }

    fn text(&mut self, key: &str, least: usize, most: usize) -> Option<String> {
        let text = self.string(key)?;
        let is_good = (least..=most).contains(&text.len());
        self.faults.of_rest |= !is_good;
        is_good.then_some(text)
    }

    fn name(&mut self, key: &str) -> Option<String> {
        self.text(key, 1, 128)
    }

    fn code(&mut self, key: &str) -> Option<Code> {
        let text = self.text(key, 1, 64)?;
        let is_good = text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.:/".contains(letter));
        self.faults.of_rest |= !is_good;
        is_good.then(|| Code::new(&text).expect("a code"))
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        self.value(key, |node| if let Value::Bool(flag) = node.value { Some(flag) } else { None })
    }

    fn number(&mut self, key: &str, least: u64, most: u64) -> Option<u64> {
        self.value(key, |node| whole_number(node).filter(|number| (least..=most).contains(number)))
    }

    fn seq(&mut self, key: &str) -> Option<Seq> {
        self.number(key, 1, MAX).map(|number| Seq::new(number).expect("in range"))
    }

    fn watermark(&mut self, key: &str) -> Seq {
        self.number(key, 0, MAX).map_or(Seq::ZERO, |number| Seq::new(number).expect("in range"))
    }

    fn report_no(&mut self, key: &str) -> ReportNo {
        self.number(key, 0, MAX).map_or(ReportNo::ZERO, |number| ReportNo::new(number).expect("in range"))
    }

    fn millis(&mut self, key: &str) -> Option<Duration> {
        self.number(key, 0, MAX).map(Duration::from_millis)
    }

    fn nonce(&mut self, key: &str) -> Option<[u8; 16]> {
        let text = self.string(key)?;
        let bytes = nonce(&text);
        self.faults.of_rest |= bytes.is_none();
        bytes
    }

    fn uuid(&mut self, key: &str, prefix: &str) -> Option<String> {
        let text = self.string(key)?;
        let uuid = uuid(&text, prefix);
        self.faults.of_rest |= uuid.is_none();
        uuid
    }

    /// An identifier of a hello.
    fn identifier<T>(&mut self, key: &str, read: fn(&str) -> Option<T>) -> Option<T> {
        let text = self.string(key)?;
        let identifier = read(&text);
        self.faults.of_identifier |= identifier.is_none();
        identifier
    }

    fn array(&mut self, key: &str) -> &'n [Node<'a>] {
        self.value(key, |node| if let Value::Array(nodes) = &node.value { Some(nodes.as_slice()) } else { None })
            .unwrap_or_default()
    }

    fn object(&mut self, key: &str) -> Option<&'n [Pair<'a>]> {
        self.value(key, |node| if let Value::Object(pairs) = &node.value { Some(pairs.as_slice()) } else { None })
    }

    fn seqs(&mut self, key: &str) -> Vec<Seq> {
        let seq = |node| whole_number(node).filter(|seq| (1..=MAX).contains(seq)).and_then(Seq::new);
        let seqs: Option<Vec<Seq>> = self.array(key).iter().map(seq).collect();
        let seqs = seqs.filter(|seqs| seqs.is_sorted_by(|one, next| one < next));
        self.faults.of_rest |= seqs.is_none();
        seqs.unwrap_or_default()
    }
}

/// A number that is written without a sign, a fraction or an exponent.
fn whole_number(node: &Node<'_>) -> Option<u64> {
    let is_whole = matches!(node.value, Value::Number) && node.text.bytes().all(|digit| digit.is_ascii_digit());
    if is_whole { node.text.parse().ok() } else { None }
}

fn nonce(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

/// A UUID behind a prefix, in lower case.
fn uuid(text: &str, prefix: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let groups: Vec<_> = text.strip_prefix(prefix)?.split('-').collect();
    let is_hex = |group: &&str| group.bytes().all(|digit| digit.is_ascii_hexdigit());
    let is_good = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(is_hex);
    is_good.then_some(text)
}
