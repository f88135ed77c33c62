//! From text to frames.
//!
//! There are two ways, with one verdict. A message whose keys stand in the order in which this crate writes them is read off
//! its short header, and the payload is what lies between `"d":` and the closing brace, not scanned. So is an `ack` that lists
//! nothing, which there is for every few messages. Every other frame goes through the general reader.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::id::Lane;
use crate::id::MessageId;
use crate::id::Name;
use crate::id::PingNo;
use crate::id::ReportNo;
use crate::id::Seq;
use crate::wire::close::CloseCode;
use crate::wire::fields::DecodeError;
use crate::wire::fields::Fields;
use crate::wire::fields::Problem;
use crate::wire::frame::Ack;
use crate::wire::frame::Bye;
use crate::wire::frame::Challenge;
use crate::wire::frame::DEFAULT_HANDS;
use crate::wire::frame::Disposition;
use crate::wire::frame::Ephemeral;
use crate::wire::frame::Exception;
use crate::wire::frame::Frame;
use crate::wire::frame::Hello;
use crate::wire::frame::Limits;
use crate::wire::frame::MAX_HANDS;
use crate::wire::frame::MAX_WINDOW;
use crate::wire::frame::Message;
use crate::wire::frame::Ping;
use crate::wire::frame::Pong;
use crate::wire::frame::Receipt;
use crate::wire::frame::Report;
use crate::wire::frame::Token;
use crate::wire::frame::Void;
use crate::wire::frame::Welcome;
use crate::wire::names;
use crate::wire::payload::without_white_space_around;

/// Words for people in a frame are cut at this many bytes when written and refused above it when read.
pub const MAX_REASON: usize = 256;

/// The most digits of a number on the wire.
const MAX_DIGITS: usize = 16;

/// Takes the first frame's text off a WebSocket message: up to the next line break, empty lines skipped.
pub fn next_line<'a>(rest: &mut &'a str) -> Option<&'a str> {
    loop {
        if rest.is_empty() {
            return None;
        }
        let (line, after) = match memchr::memchr(b'\n', rest.as_bytes()) {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (*rest, ""),
        };
        *rest = after;
        if !line.is_empty() {
            return Some(line);
        }
    }
}

/// Reads one frame.
///
/// # Errors
///
/// [`DecodeError`] says what is wrong and where. A frame of an unknown type is no error but [`Frame::Unknown`].
pub fn decode(line: &str) -> Result<Frame<'_>, DecodeError> {
    if let Some(message) = message_by_header(line) {
        return Ok(Frame::Message(message));
    }
    match ack_by_header(line) {
        Some(ack) => Ok(Frame::Ack(ack)),
        None => decode_generally(line),
    }
}

/// The hot path: the keys of the envelope in the order in which this crate writes them, without white space or escapes.
fn message_by_header(line: &str) -> Option<Message<'_>> {
    let mut rest = line.strip_prefix(names::MESSAGE_HEADER)?;
    let seq = Seq::new(take_number(&mut rest)?)?;
    let mut id = None;
    if let Some(after) = rest.strip_prefix(names::ID_HEADER) {
        rest = after;
        id = Some(take_string(&mut rest)?.parse::<MessageId>().ok()?);
    }
    let mut lane = Lane::DEFAULT;
    if let Some(after) = rest.strip_prefix(names::LANE_HEADER) {
        rest = after;
        lane = Lane::named(Name::new(take_string(&mut rest)?).ok()?);
    }
    let after = rest.strip_prefix(names::IDEMPOTENT_HEADER);
    let idempotent = after.is_some();
    rest = after.unwrap_or(rest);
    let mut hands = DEFAULT_HANDS;
    if let Some(after) = rest.strip_prefix(names::HANDS_HEADER) {
        rest = after;
        hands = take_number(&mut rest).and_then(hand_overs)?;
    }
    let payload = without_white_space_around(rest.strip_prefix(names::PAYLOAD_HEADER)?.strip_suffix('}')?);
    if payload.is_empty() {
        return None;
    }
    Some(Message { seq, id, lane, idempotent, hands, payload })
}

/// The same for a report that lists nothing.
fn ack_by_header(line: &str) -> Option<Ack> {
    let mut rest = line.strip_prefix(names::ACK_HEADER)?;
    let received = Seq::new(take_watermark(&mut rest)?)?;
    rest = rest.strip_prefix(names::SETTLED_HEADER)?;
    let settled = Seq::new(take_watermark(&mut rest)?)?;
    let mut no = ReportNo::ZERO;
    if let Some(after) = rest.strip_prefix(names::NO_HEADER) {
        rest = after;
        no = ReportNo::new(take_number(&mut rest)?)?;
    }
    let mut seen = ReportNo::ZERO;
    if let Some(after) = rest.strip_prefix(names::SEEN_HEADER) {
        rest = after;
        seen = ReportNo::new(take_number(&mut rest)?)?;
    }
    let report = Report { received, settled, no, except: Vec::new() };
    (rest == "}" && settled <= received).then_some(Ack { report, seen })
}

/// Takes a number of 0 or more off the text.
fn take_watermark(rest: &mut &str) -> Option<u64> {
    if let Some(after) = rest.strip_prefix('0') {
        *rest = after;
        return Some(0);
    }
    take_number(rest)
}

/// Takes a number of 1 or more off the text.
fn take_number(rest: &mut &str) -> Option<u64> {
    // 16 digits hold every number on the wire, and one more does not overflow 64 bits either; JSON knows no leading zero.
    let (mut number, mut digits) = (0, 0);
    for digit in rest.bytes().take(MAX_DIGITS + 1).take_while(u8::is_ascii_digit) {
        number = number * 10 + u64::from(digit - b'0');
        digits += 1;
    }
    if digits == 0 || digits > MAX_DIGITS || rest.starts_with('0') {
        return None;
    }
    *rest = &rest[digits..];
    Some(number)
}

/// Takes what is left of a string, and its closing quote, off the text. One that needs a closer look is left to the general
/// reader.
fn take_string<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let end = rest.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < b' ')?;
    let text = &rest[..end];
    *rest = rest[end..].strip_prefix('"')?;
    Some(text)
}

/// Reads one frame whatever the order of its keys.
///
/// # Errors
///
/// [`DecodeError`] says what is wrong and where.
pub fn decode_generally(line: &str) -> Result<Frame<'_>, DecodeError> {
    let fields = Fields::parse("frame", line)?;
    let Some(kind) = fields.string(names::TYPE)? else {
        return Err(fields.missing(names::TYPE));
    };
    match &*kind {
        names::HELLO => hello(&fields.named(names::HELLO)).map(|hello| Frame::Hello(Box::new(hello))),
        names::CHALLENGE => {
            let fields = fields.named(names::CHALLENGE);
            Ok(Frame::Challenge(Challenge { fence: fields.required_id("fence")? }))
        }
        names::WELCOME => welcome(&fields.named(names::WELCOME)).map(|welcome| Frame::Welcome(Box::new(welcome))),
        names::MESSAGE => message(&fields.named(names::MESSAGE)),
        names::VOID => {
            let fields = fields.named(names::VOID);
            let seq = fields.number("seq", numbered_seq)?.ok_or_else(|| fields.missing("seq"))?;
            Ok(Frame::Void(Void { seq }))
        }
        names::ACK => {
            let fields = fields.named(names::ACK);
            Ok(Frame::Ack(Ack { report: report(&fields)?, seen: report_no(&fields, "seen")? }))
        }
        names::PING => {
            let fields = fields.named(names::PING);
            Ok(Frame::Ping(Ping { n: ping_no(&fields)?, seen: report_no(&fields, "seen")? }))
        }
        names::PONG => {
            let fields = fields.named(names::PONG);
            Ok(Frame::Pong(Pong { n: ping_no(&fields)?, report: report(&fields)? }))
        }
        names::BYE => bye(&fields.named(names::BYE)).map(|bye| Frame::Bye(Box::new(bye))),
        _ => Ok(Frame::Unknown),
    }
}

fn message<'a>(fields: &Fields<'a>) -> Result<Frame<'a>, DecodeError> {
    let payload = fields.raw("d")?.ok_or_else(|| fields.missing("d"))?;
    if let Some(key) = fields.string("key")? {
        if fields.has("seq")? {
            return Err(fields.bad("key", Problem::Contradiction));
        }
        if key.is_empty() || key.len() > Name::MAX_LEN {
            return Err(fields.bad("key", Problem::TooLong));
        }
        return Ok(Frame::Ephemeral(Ephemeral { key, payload }));
    }
    let seq = fields.number("seq", numbered_seq)?.ok_or_else(|| fields.missing("seq"))?;
    Ok(Frame::Message(Message {
        seq,
        id: fields.id("id")?,
        lane: fields.id::<Name>("lane")?.map(Lane::named).unwrap_or_default(),
        idempotent: fields.bool("idem")?.unwrap_or(false),
        hands: fields.number("hands", hand_overs)?.unwrap_or(DEFAULT_HANDS),
        payload,
    }))
}

fn hello(fields: &Fields<'_>) -> Result<Hello, DecodeError> {
    let attempt = fields.number("attempt", |number| crate::id::Attempt::new(number).filter(|_| number > 0))?;
    let sent = watermark(fields, "sent")?;
    Ok(Hello {
        key: fields.required_id("key")?,
        cid: fields.required_id("cid")?,
        instance: fields.required_id("instance")?,
        attempt: attempt.ok_or_else(|| fields.missing("attempt"))?,
        epoch: fields.id("epoch")?,
        sent,
        base: fields.number("base", numbered_seq)?.unwrap_or_else(|| sent.next()),
        seen: report_no(fields, "seen")?,
        report: report(fields)?,
        limits: limits(fields)?,
        token: token(fields)?,
        fence: fields.id("fence")?,
    })
}

fn token(fields: &Fields<'_>) -> Result<Option<Token>, DecodeError> {
    match fields.short("token", Token::MAX_LEN)? {
        Some(text) => Token::new(text).map(Some).ok_or_else(|| fields.bad("token", Problem::Range)),
        None => Ok(None),
    }
}

fn welcome(fields: &Fields<'_>) -> Result<Welcome, DecodeError> {
    Ok(Welcome {
        cid: fields.required_id("cid")?,
        epoch: fields.required_id("epoch")?,
        resumed: fields.bool("resumed")?.ok_or_else(|| fields.missing("resumed"))?,
        report: report(fields)?,
        seen: report_no(fields, "seen")?,
        limits: limits(fields)?,
        detach_ttl: fields.millis("detachTtl")?.ok_or_else(|| fields.missing("detachTtl"))?,
        receipt: fields.object("receipt")?.map(|fields| receipt(&fields).map(Box::new)).transpose()?,
    })
}

fn receipt(fields: &Fields<'_>) -> Result<Receipt, DecodeError> {
    let Report { received, settled, no: _, except } = standing(fields)?;
    Ok(Receipt {
        epoch: fields.required_id("epoch")?,
        received,
        settled,
        except,
        seen: report_no(fields, "seen")?,
        handed: seqs(fields, "handed")?,
        is_final: fields.bool("final")?.unwrap_or(false),
    })
}

fn bye(fields: &Fields<'_>) -> Result<Bye, DecodeError> {
    // What cannot stand in a close frame (RFC 6455, 7.4.1) cannot announce one.
    let code =
        fields.number("code", |code| u16::try_from(code).ok().map(CloseCode::new).filter(|code| code.is_sendable()))?;
    Ok(Bye {
        code: code.ok_or_else(|| fields.missing("code"))?,
        end: fields.bool("end")?.unwrap_or(false),
        report: if fields.has("received")? { Some(report(fields)?) } else { None },
        handed: seqs(fields, "handed")?,
        is_final: fields.bool("final")?.unwrap_or(false),
        reason: fields.short("reason", MAX_REASON)?.unwrap_or_default(),
        retry_after: fields.millis("retryAfter")?,
        suspend: fields.bool("suspend")?.unwrap_or(false),
    })
}

/// The report that stands among a frame's own keys. Every part that is absent is 0 or empty.
fn report(fields: &Fields<'_>) -> Result<Report, DecodeError> {
    Ok(Report { no: report_no(fields, "no")?, ..standing(fields)? })
}

/// A report without the number of its changes, which a receipt does not have.
fn standing(fields: &Fields<'_>) -> Result<Report, DecodeError> {
    let received = watermark(fields, "received")?;
    let settled = watermark(fields, "settled")?;
    if settled > received {
        return Err(fields.bad("settled", Problem::Contradiction));
    }
    let except = fields.array("except", exception)?;
    let rising = except.windows(2).all(|pair| pair[0].seq < pair[1].seq);
    if !rising || except.last().is_some_and(|last| last.seq > received) {
        return Err(fields.bad("except", Problem::Contradiction));
    }
    Ok(Report { received, settled, no: ReportNo::ZERO, except })
}

fn exception(text: &str) -> Result<Exception, DecodeError> {
    let fields = Fields::parse("except", text)?;
    let seq = fields.number("seq", numbered_seq)?.ok_or_else(|| fields.missing("seq"))?;
    let is = fields.string("is")?.unwrap_or(Cow::Borrowed(""));
    let disposition = match &*is {
        "pending" => Disposition::Pending,
        "deferred" => Disposition::Deferred {
            times: fields
                .number("times", |times| u32::try_from(times).ok().filter(|times| *times > 0))?
                .ok_or_else(|| fields.missing("times"))?,
            retry_after: fields.millis("retryAfter")?.unwrap_or_default(),
            code: fields.required_id("code")?,
        },
        "rejected" => Disposition::Rejected {
            code: fields.required_id("code")?,
            reason: fields.short("reason", MAX_REASON)?.unwrap_or_default(),
        },
        "voided" => Disposition::Voided,
        "abandoned" => Disposition::Abandoned,
        _ => return Err(fields.bad("is", Problem::Type { expected: "a known disposition" })),
    };
    Ok(Exception { seq, disposition })
}

fn limits(fields: &Fields<'_>) -> Result<Limits, DecodeError> {
    let positive = |number| (1..=Seq::MAX.get()).contains(&number).then_some(number);
    let window = |number| u32::try_from(number).ok().filter(|window| (1..=MAX_WINDOW).contains(window));
    Ok(Limits {
        window: fields.number("window", window)?.ok_or_else(|| fields.missing("window"))?,
        window_bytes: fields.number("windowBytes", positive)?.ok_or_else(|| fields.missing("windowBytes"))?,
        max_payload: fields.number("maxPayload", positive)?.ok_or_else(|| fields.missing("maxPayload"))?,
    })
}

fn seqs(fields: &Fields<'_>, key: &'static str) -> Result<Vec<Seq>, DecodeError> {
    let seqs = fields
        .array(key, |text| text.parse().ok().and_then(numbered_seq).ok_or_else(|| fields.bad(key, Problem::Range)))?;
    if seqs.windows(2).all(|pair| pair[0] < pair[1]) { Ok(seqs) } else { Err(fields.bad(key, Problem::Contradiction)) }
}

/// A number of a message: 1 or more.
fn numbered_seq(number: u64) -> Option<Seq> {
    Seq::new(number).filter(|seq| *seq > Seq::ZERO)
}

fn hand_overs(number: u64) -> Option<u32> {
    u32::try_from(number).ok().filter(|hands| (1..=MAX_HANDS).contains(hands))
}

fn watermark(fields: &Fields<'_>, key: &'static str) -> Result<Seq, DecodeError> {
    Ok(fields.number(key, Seq::new)?.unwrap_or(Seq::ZERO))
}

fn report_no(fields: &Fields<'_>, key: &'static str) -> Result<ReportNo, DecodeError> {
    Ok(fields.number(key, ReportNo::new)?.unwrap_or(ReportNo::ZERO))
}

fn ping_no(fields: &Fields<'_>) -> Result<PingNo, DecodeError> {
    let number = fields.number("n", |number| PingNo::new(number).filter(|n| *n > PingNo::ZERO))?;
    number.ok_or_else(|| fields.missing("n"))
}
