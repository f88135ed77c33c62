//! From frames to text: compact objects, keys in one order, absent options omitted, the payload last.

use alloc::string::String;

use core::fmt::Write as _;
use core::time::Duration;

use crate::id::ReportNo;
use crate::id::Seq;
use crate::wire::decode::MAX_REASON;
use crate::wire::frame::Ack;
use crate::wire::frame::Bye;
use crate::wire::frame::DEFAULT_HANDS;
use crate::wire::frame::Disposition;
use crate::wire::frame::Exception;
use crate::wire::frame::Frame;
use crate::wire::frame::Hello;
use crate::wire::frame::Limits;
use crate::wire::frame::Message;
use crate::wire::frame::Receipt;
use crate::wire::frame::Report;
use crate::wire::frame::Welcome;
use crate::wire::names;
use crate::wire::payload::Payload;

/// The most bytes that the envelope of a `msg` frame adds to its payload.
pub const MESSAGE_OVERHEAD: usize = 1_024;

impl Frame<'_> {
    /// Writes the frame behind what stands in `out`. A payload is spliced in as it is, so it must have been checked.
    pub fn encode(&self, out: &mut String) {
        match self {
            Self::Hello(hello) => encode_hello(hello, out),
            Self::Challenge(challenge) => {
                let mut object = Object::frame(out, names::CHALLENGE);
                object.display("fence", &challenge.fence);
                object.end();
            }
            Self::Welcome(welcome) => encode_welcome(welcome, out),
            Self::Message(message) => encode_message(message, out),
            Self::Ephemeral(ephemeral) => encode_ephemeral(&ephemeral.key, ephemeral.payload, out),
            Self::Void(void) => {
                let mut object = Object::frame(out, names::VOID);
                object.number("seq", void.seq.get());
                object.end();
            }
            Self::Ack(ack) => encode_ack(ack, out),
            Self::Ping(ping) => {
                let mut object = Object::frame(out, names::PING);
                object.number("n", ping.n.get());
                object.report_no("seen", ping.seen);
                object.end();
            }
            Self::Pong(pong) => {
                let mut object = Object::frame(out, names::PONG);
                object.number("n", pong.n.get());
                object.report(&pong.report);
                object.end();
            }
            Self::Bye(bye) => encode_bye(bye, out),
            // Nothing says what an unknown frame was. An object without a known type stands for one.
            Self::Unknown => Object::frame(out, self.name()).end(),
        }
    }
}

/// Ends what stands in `out`, so that another frame can stand behind it in the same WebSocket message.
pub fn separate(out: &mut String) {
    if !out.is_empty() {
        out.push('\n');
    }
}

/// Writes an ephemeral message.
pub fn ephemeral(key: &str, payload: &Payload, out: &mut String) {
    encode_ephemeral(key, payload.as_str(), out);
}

fn encode_message(message: &Message<'_>, out: &mut String) {
    out.push_str(names::MESSAGE_HEADER);
    push_number(out, message.seq.get());
    if let Some(id) = message.id {
        _ = write!(out, "{}{id}\"", names::ID_HEADER);
    }
    if let Some(name) = message.lane.name() {
        push_key(out, "lane");
        push_string(out, name.as_str());
    }
    if message.idempotent {
        out.push_str(names::IDEMPOTENT_HEADER);
    }
    if message.hands != DEFAULT_HANDS {
        out.push_str(names::HANDS_HEADER);
        push_number(out, message.hands.into());
    }
    push_payload(out, message.payload);
}

fn encode_ephemeral(key: &str, payload: &str, out: &mut String) {
    let mut object = Object::frame(out, names::MESSAGE);
    object.string("key", key);
    push_payload(object.out, payload);
}

fn push_payload(out: &mut String, payload: &str) {
    out.reserve(names::PAYLOAD_HEADER.len() + payload.len() + 1);
    out.push_str(names::PAYLOAD_HEADER);
    out.push_str(payload);
    out.push('}');
}

fn encode_hello(hello: &Hello, out: &mut String) {
    let mut object = Object::frame(out, names::HELLO);
    object.string("key", &hello.key.reveal());
    object.display("cid", &hello.cid);
    object.display("instance", &hello.instance);
    object.number("attempt", hello.attempt.get());
    if let Some(epoch) = &hello.epoch {
        object.display("epoch", epoch);
        object.number("sent", hello.sent.get());
        object.number("base", hello.base.get());
        object.report_no("seen", hello.seen);
        object.report(&hello.report);
    }
    object.limits(&hello.limits);
    if let Some(token) = &hello.token {
        object.string("token", token.reveal());
    }
    if let Some(fence) = &hello.fence {
        object.display("fence", fence);
    }
    object.end();
}

fn encode_welcome(welcome: &Welcome, out: &mut String) {
    let mut object = Object::frame(out, names::WELCOME);
    object.display("cid", &welcome.cid);
    object.display("epoch", &welcome.epoch);
    object.bool("resumed", welcome.resumed);
    object.report(&welcome.report);
    object.report_no("seen", welcome.seen);
    object.limits(&welcome.limits);
    object.number("detachTtl", whole_millis(welcome.detach_ttl));
    if let Some(receipt) = &welcome.receipt {
        object.key("receipt");
        encode_receipt(receipt, object.out);
    }
    object.end();
}

fn encode_receipt(receipt: &Receipt, out: &mut String) {
    let mut object = Object::start(out);
    object.display("epoch", &receipt.epoch);
    object.number("received", receipt.received.get());
    object.number("settled", receipt.settled.get());
    object.except(&receipt.except);
    object.report_no("seen", receipt.seen);
    object.seqs("handed", &receipt.handed);
    object.bool("final", receipt.is_final);
    object.end();
}

fn encode_ack(ack: &Ack, out: &mut String) {
    let mut object = Object::frame(out, names::ACK);
    object.report(&ack.report);
    object.report_no("seen", ack.seen);
    object.end();
}

fn encode_bye(bye: &Bye, out: &mut String) {
    let mut object = Object::frame(out, names::BYE);
    object.number("code", bye.code.get().into());
    if bye.end {
        object.bool("end", true);
    }
    if let Some(report) = &bye.report {
        object.report(report);
        object.seqs("handed", &bye.handed);
    }
    if bye.is_final {
        object.bool("final", true);
    }
    if !bye.reason.is_empty() {
        object.string("reason", cut(&bye.reason));
    }
    if let Some(retry_after) = bye.retry_after {
        object.number("retryAfter", whole_millis(retry_after));
    }
    if bye.suspend {
        object.bool("suspend", true);
    }
    object.end();
}

fn encode_exception(exception: &Exception, out: &mut String) {
    let mut object = Object::start(out);
    object.number("seq", exception.seq.get());
    match &exception.disposition {
        Disposition::Pending => object.string("is", "pending"),
        Disposition::Deferred { times, retry_after, code } => {
            object.string("is", "deferred");
            object.number("times", (*times).into());
            object.number("retryAfter", whole_millis(*retry_after));
            object.string("code", code.as_str());
        }
        Disposition::Rejected { code, reason } => {
            object.string("is", "rejected");
            object.string("code", code.as_str());
            if !reason.is_empty() {
                object.string("reason", cut(reason));
            }
        }
        Disposition::Voided => object.string("is", "voided"),
        Disposition::Abandoned => object.string("is", "abandoned"),
    }
    object.end();
}

/// The first [`MAX_REASON`] bytes of a text, less what would split a character.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_REASON);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn push_number(out: &mut String, number: u64) {
    // 20 digits hold every u64. Digit by digit is several times faster than the formatting machinery.
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    let mut rest = number;
    loop {
        first -= 1;
        digits[first] += u8::try_from(rest % 10).expect("a digit is below 10");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.push_str(core::str::from_utf8(&digits[first..]).expect("digits are ASCII"));
}

/// A key behind others. It needs no escape.
fn push_key(out: &mut String, key: &str) {
    out.push_str(",\"");
    out.push_str(key);
    out.push_str("\":");
}

pub(crate) fn push_string(out: &mut String, text: &str) {
    if text.bytes().any(|byte| byte == b'"' || byte == b'\\' || byte < b' ') {
        return out.push_str(&serde_json::to_string(text).expect("a string is always JSON"));
    }
    // Nearly no text needs an escape.
    out.push('"');
    out.push_str(text);
    out.push('"');
}

/// A JSON object that is being written.
struct Object<'o> {
    out: &'o mut String,
    is_empty: bool,
}

impl<'o> Object<'o> {
    fn start(out: &'o mut String) -> Self {
        out.push('{');
        Self { out, is_empty: true }
    }

    fn frame(out: &'o mut String, kind: &str) -> Self {
        let mut object = Self::start(out);
        object.string(names::TYPE, kind);
        object
    }

    fn end(self) {
        self.out.push('}');
    }

    /// Writes a key, which needs no escaping, and leaves the value to the caller.
    fn key(&mut self, key: &str) {
        if !self.is_empty {
            self.out.push(',');
        }
        self.is_empty = false;
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
    }

    fn number(&mut self, key: &str, number: u64) {
        self.key(key);
        push_number(self.out, number);
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.key(key);
        self.out.push_str(if value { "true" } else { "false" });
    }

    /// Writes a value that needs no escaping as a string.
    fn display(&mut self, key: &str, value: &impl core::fmt::Display) {
        self.key(key);
        _ = write!(self.out, "\"{value}\"");
    }

    fn string(&mut self, key: &str, text: &str) {
        self.key(key);
        push_string(self.out, text);
    }

    /// Writes a number that is 0 where it is absent.
    fn report_no(&mut self, key: &str, no: ReportNo) {
        if no > ReportNo::ZERO {
            self.number(key, no.get());
        }
    }

    fn report(&mut self, report: &Report) {
        self.number("received", report.received.get());
        self.number("settled", report.settled.get());
        self.report_no("no", report.no);
        self.except(&report.except);
    }

    fn except(&mut self, except: &[Exception]) {
        if !except.is_empty() {
            self.list("except", except, encode_exception);
        }
    }

    fn seqs(&mut self, key: &str, seqs: &[Seq]) {
        if !seqs.is_empty() {
            self.list(key, seqs, |seq, out| push_number(out, seq.get()));
        }
    }

    fn list<T>(&mut self, key: &str, items: &[T], encode: impl Fn(&T, &mut String)) {
        self.key(key);
        for (index, item) in items.iter().enumerate() {
            self.out.push(if index == 0 { '[' } else { ',' });
            encode(item, self.out);
        }
        self.out.push(']');
    }

    fn limits(&mut self, limits: &Limits) {
        self.number("window", limits.window.into());
        self.number("windowBytes", limits.window_bytes);
        self.number("maxPayload", limits.max_payload);
    }
}

/// A duration as the wire carries it: whole milliseconds, no more than the largest number.
fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).map_or(Seq::MAX.get(), |millis| millis.min(Seq::MAX.get()))
}
