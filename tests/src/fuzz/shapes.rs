//! What the targets make of decisions: configurations with small caps, payloads, and frames whose numbers are near to what
//! an honest peer would write.

use std::time::Duration;

use reattach_core::connection;
use reattach_core::connection::MalformedBudget;
use reattach_core::id::Lane;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::id::PingNo;
use reattach_core::id::ReportNo;
use reattach_core::id::Seq;
use reattach_core::link::Acceptance;
use reattach_core::link::Decision;
use reattach_core::link::Outgoing;
use reattach_core::link::Quota;
use reattach_core::time::Rate;
use reattach_core::wire;
use reattach_core::wire::Ack;
use reattach_core::wire::Bye;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Disposition;
use reattach_core::wire::Ephemeral;
use reattach_core::wire::Exception;
use reattach_core::wire::Frame;
use reattach_core::wire::Limits;
use reattach_core::wire::MAX_DEPTH;
use reattach_core::wire::Message;
use reattach_core::wire::Payload;
use reattach_core::wire::Ping;
use reattach_core::wire::Pong;
use reattach_core::wire::Report;
use reattach_core::wire::Void;

use super::bytes::Bytes;

/// A connection with room for few messages and little patience.
pub(super) fn connection(bytes: &mut Bytes<'_>) -> connection::Config {
    let mut config = connection::Config::default();
    config.link.outbox = quota(bytes);
    config.link.window = quota(bytes);
    config.link.max_payload = bytes.pick(&[4_096, 256, 24]);
    config.link.ack_delay = Duration::from_millis(bytes.pick(&[20, 0]));
    config.link.ephemerals = 2;
    config.link.ephemeral_bytes = 64;
    config.heartbeat.idle = Duration::from_millis(200);
    config.heartbeat.dead_after = Duration::from_millis(500);
    config.heartbeat.min_rate = Rate(1_000);
    config.flow.write_budget = bytes.pick(&[4_096, 64, 512]);
    config.flow.stalled_after = Duration::from_millis(600);
    config.flow.min_rate = Rate(1_000);
    config.malformed = MalformedBudget { count: 2, per: Duration::from_secs(1) };
    config.heartbeat.probe_timeout = Duration::from_millis(150);
    config.heartbeat.gap = Duration::from_secs(1);
    config.link.ack_timeout = Duration::from_millis(100);
    config.link.void_timeout = Duration::from_millis(150);
    config.link.lease = Duration::from_millis(300);
    config.link.deferral = Duration::from_millis(30);
    let choice = bytes.byte();
    config.link.acceptance = if choice & 1 == 0 { Acceptance::Automatic } else { Acceptance::Manual };
    config.link.attempts = [4, 1, 2, 4][usize::from(choice >> 1 & 3)];
    config.link.age = [AGE, Duration::from_secs(2)][usize::from(choice >> 3 & 1)];
    config
}

/// Longer than any run that is not about it.
const AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// One of three lanes.
pub(super) fn lane(choice: u8) -> Lane {
    match choice % 3 {
        0 => Lane::DEFAULT,
        1 => Name::new("left").expect("a short name").into(),
        _ => Name::new("right").expect("a short name").into(),
    }
}

/// A message of an application: mostly a plain one, now and then with whatever can be asked for.
pub(super) fn outgoing(bytes: &mut Bytes<'_>, payload: Payload) -> Outgoing {
    let mut outgoing = Outgoing::from(payload);
    let choice = bytes.byte();
    if choice & 0xc0 != 0xc0 {
        outgoing.lane = lane(choice >> 4);
        return outgoing;
    }
    outgoing.lane = lane(choice);
    outgoing.is_idempotent = choice & 4 != 0;
    outgoing.is_fail_fast = choice & 8 != 0;
    if choice & 16 != 0 {
        outgoing.within = Some(Duration::from_millis(bytes.pick(&[50, 0, 300, 1_000])));
    }
    if choice & 32 != 0 {
        outgoing.hands = bytes.pick(&[1, 2, 8]);
    }
    outgoing
}

/// What an application decides.
pub(super) fn decision(bytes: &mut Bytes<'_>) -> Decision {
    let code = "busy".parse().expect("a code");
    match bytes.byte() % 8 {
        0..=2 => Decision::Accept,
        3..=4 => Decision::Reject { code, reason: "no".to_owned() },
        5..=6 => Decision::Defer { retry_after: bytes.pick(&[None, Some(Duration::ZERO), Some(AGE)]), code },
        _ => Decision::Abandon,
    }
}

fn quota(bytes: &mut Bytes<'_>) -> Quota {
    Quota { count: bytes.pick(&[4, 8, 2, 3, 1]), bytes: bytes.pick(&[256, 4_096, 40]) }
}

/// A payload: mostly a small number, now and then as deep or as long as one may be.
pub(super) fn payload(bytes: &mut Bytes<'_>) -> Payload {
    let nested = |levels| "[".repeat(levels) + &"]".repeat(levels);
    let text = match bytes.byte() {
        0..=0xbf => "1".to_owned(),
        0xc0..=0xcf => format!("\"{}\"", "x".repeat(bytes.below(64))),
        0xd0..=0xdf => format!("\"{}\"", "x".repeat(bytes.below(256) * 20)),
        0xe0..=0xe7 => " [ \"\\n\" , {} ] ".to_owned(),
        0xe8..=0xef => nested(bytes.pick(&[MAX_DEPTH, MAX_DEPTH - 1])),
        0xf0..=u8::MAX => bytes.text(),
    };
    Payload::from_json(&text).unwrap_or_else(|_| Payload::from_json("null").expect("JSON"))
}

/// One line of any bytes for a place where a payload is to stand.
pub(super) fn unchecked(bytes: &mut Bytes<'_>) -> String {
    match bytes.byte() {
        0..=0xdf => payload(bytes).as_str().to_owned(),
        0xe0..=u8::MAX => bytes.text().replace('\n', " "),
    }
}

/// A short name of few.
pub(super) fn name(bytes: &mut Bytes<'_>) -> Name {
    Name::new(bytes.pick(&["a", "b", "c", "\u{e9}\n\""])).expect("a short name")
}

/// A number of a message that is mostly `expected`.
pub(super) fn seq(bytes: &mut Bytes<'_>, expected: Seq) -> Seq {
    Seq::new(bytes.near(expected.get())).unwrap_or(Seq::MAX)
}

/// One of few names that an application chose.
pub(super) fn id(bytes: &mut Bytes<'_>) -> MessageId {
    let text = format!("01234567-89ab-4def-8123-4567890000{:02x}", bytes.below(4));
    text.parse().expect("a UUID")
}

/// A number of a change, mostly none.
pub(super) fn report_no(bytes: &mut Bytes<'_>) -> ReportNo {
    if bytes.rarely(16) { ReportNo::new(bytes.number()).unwrap_or(ReportNo::MAX) } else { ReportNo::ZERO }
}

/// A report of a receiver to which `sent` was the last number written. It is one that can be read: what it contradicts is
/// the truth, not itself.
pub(super) fn report(bytes: &mut Bytes<'_>, sent: Seq) -> Report {
    let received = match bytes.byte() {
        0..=0x7f => sent,
        0x80..=0xbf => Seq::new(u64::from(bytes.byte()).min(sent.get())).expect("at most what was sent"),
        0xc0..=u8::MAX => seq(bytes, sent),
    };
    let settled = match bytes.byte() {
        0..=0x7f => received,
        0x80..=0xbf => Seq::ZERO,
        0xc0..=u8::MAX => seq(bytes, received).min(received),
    };
    let mut except = Vec::new();
    if bytes.rarely(8) {
        let mut next = Seq::ZERO;
        for _ in 0..bytes.below(4) {
            next = Seq::new(next.get() + 1 + bytes.below(3) as u64).expect("a small number");
            if next <= received {
                except.push(Exception { seq: next, disposition: disposition(bytes) });
            }
        }
    }
    Report { received, settled, no: report_no(bytes), except }
}

fn disposition(bytes: &mut Bytes<'_>) -> Disposition {
    let code = bytes.pick(&["busy", "no", "http/422"]).parse().expect("a code");
    match bytes.below(5) {
        0 => Disposition::Pending,
        1 => {
            let times = u32::try_from(bytes.number()).unwrap_or(u32::MAX).max(1);
            let retry_after = Duration::from_millis(bytes.number().min(1 << 53));
            Disposition::Deferred { times, retry_after, code }
        }
        2 => Disposition::Rejected { code, reason: "no".to_owned() },
        3 => Disposition::Voided,
        _ => Disposition::Abandoned,
    }
}

/// What a peer takes: little.
pub(super) fn limits(bytes: &mut Bytes<'_>) -> Limits {
    Limits {
        window: bytes.pick(&[4, 1, 2, 8, wire::MAX_WINDOW]),
        window_bytes: bytes.pick(&[4_096, 1, 40, 256, Seq::MAX.get()]),
        max_payload: bytes.pick(&[4_096, 1, 24, 256, Seq::MAX.get()]),
    }
}

/// Any close code that may come.
pub(super) fn code(bytes: &mut Bytes<'_>) -> CloseCode {
    let known = usize::from(bytes.byte());
    match CloseCode::ALL.get(known) {
        Some(code) => *code,
        None if known % 2 == 0 => CloseCode::ABNORMAL,
        None => CloseCode::new(u16::from(bytes.byte()) << 8 | u16::from(bytes.byte())),
    }
}

/// Says a message whose number is mostly the one that is due, and returns the number that it has.
pub(super) fn message(bytes: &mut Bytes<'_>, due: u64, out: &mut String) -> Seq {
    let due = Seq::new(due).unwrap_or(Seq::MAX);
    let seq = seq(bytes, due).max(Seq::ZERO.next());
    let choice = bytes.byte();
    let id = if choice % 4 == 3 { Some(id(bytes)) } else { None };
    let payload = unchecked(bytes);
    let mut message = Message { id, ..Message::plain(seq, &payload) };
    if choice >= 0x80 {
        message.lane = lane(choice >> 3);
        message.idempotent = id.is_some() && choice & 4 != 0;
        message.hands = if choice & 0x40 == 0 { wire::DEFAULT_HANDS } else { 1 + u32::from(choice & 1) };
    }
    put(&Frame::Message(message), out);
    seq
}

/// Withdraws a message that is mostly one near `last`, the newest that was written.
pub(super) fn void(bytes: &mut Bytes<'_>, last: Seq, out: &mut String) {
    let back = u64::from(bytes.byte() % 4);
    let near = Seq::new(last.get().saturating_sub(back)).expect("a smaller number");
    let seq = seq(bytes, near).max(Seq::ZERO.next());
    put(&Frame::Void(Void { seq }), out);
}

/// Says a report of a receiver to which `sent` was the last number written.
pub(super) fn ack(bytes: &mut Bytes<'_>, sent: Seq, out: &mut String) {
    let report = report(bytes, sent);
    put(&Frame::Ack(Ack { report, seen: report_no(bytes) }), out);
}

/// Answers the ping numbered `pinged`, or another.
pub(super) fn pong(bytes: &mut Bytes<'_>, sent: Seq, pinged: u64, out: &mut String) {
    let n = PingNo::new(bytes.near(pinged)).filter(|n| *n > PingNo::ZERO).unwrap_or(PingNo::MAX);
    put(&Frame::Pong(Pong { n, report: report(bytes, sent) }), out);
}

/// Asks for a pong.
pub(super) fn ping(bytes: &mut Bytes<'_>, out: &mut String) {
    let n = PingNo::new(bytes.number()).filter(|n| *n > PingNo::ZERO).unwrap_or(PingNo::MAX);
    put(&Frame::Ping(Ping { n, seen: report_no(bytes) }), out);
}

/// Says something that is worth nothing when it is late.
pub(super) fn ephemeral(bytes: &mut Bytes<'_>, out: &mut String) {
    let (key, payload) = (name(bytes), payload(bytes));
    put(&Frame::Ephemeral(Ephemeral { key: key.as_str().into(), payload: payload.as_str() }), out);
}

/// Says the last word on a transport, or on the connection, of a receiver to which `sent` was the last number written.
pub(super) fn bye(bytes: &mut Bytes<'_>, sent: Seq, out: &mut String) {
    let code = code(bytes);
    let code = if (1_000..5_000).contains(&code.get()) { code } else { CloseCode::GOING_AWAY };
    let report = if bytes.rarely(3) { None } else { Some(report(bytes, sent)) };
    let (end, is_final) = (bytes.rarely(4), !bytes.rarely(4));
    let handed = if report.is_some() && bytes.rarely(8) { vec![sent.next()] } else { Vec::new() };
    let choice = bytes.byte();
    let retry_after = (choice & 0xc0 == 0x40).then(|| Duration::from_millis(u64::from(choice & 0x3f)));
    let suspend = choice & 0xc0 == 0x80;
    put(
        &Frame::Bye(Box::new(Bye {
            code,
            end,
            report,
            handed,
            is_final,
            reason: "done".to_owned(),
            retry_after,
            suspend,
        })),
        out,
    );
}

/// Puts a frame behind the others of a text.
pub(super) fn put(frame: &Frame<'_>, text: &mut String) {
    if !text.is_empty() {
        text.push('\n');
    }
    frame.encode(text);
}

/// A text that is longer than any frame may be.
pub(super) fn long_text() -> String {
    "x".repeat(wire::MAX_CONTROL_FRAME + 1)
}

/// Breaks a text now and then: cuts it, lengthens it, or changes a byte.
pub(super) fn garble(bytes: &mut Bytes<'_>, text: String) -> String {
    if !bytes.rarely(24) {
        return text;
    }
    let (at, to) = (usize::from(bytes.byte()) * 7 % text.len().max(1), bytes.byte());
    match to {
        0..=0x3f => text.get(..at).unwrap_or_default().to_owned(),
        0x40..=0x7f => text + &bytes.text(),
        0x80..=0xbf => format!("\n{text}\n\n"),
        0xc0..=u8::MAX => {
            let broken = text.bytes().enumerate().map(|(index, byte)| if index == at { to & 0x7f } else { byte });
            String::from_utf8_lossy(&broken.collect::<Vec<_>>()).into_owned()
        }
    }
}

/// The frames of a text that one of our machines wrote: well formed, in the one way in which we write them.
pub(super) fn frames_written(text: &str) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    for line in text.split('\n') {
        let frame = wire::decode(line).unwrap_or_else(|error| panic!("a machine wrote {line:?}: {error}"));
        let mut again = String::new();
        frame.encode(&mut again);
        assert_eq!(again, line, "a frame is written in one way");
        frames.push(frame);
    }
    frames
}
