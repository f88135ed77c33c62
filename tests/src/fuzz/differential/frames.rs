//! Frames of every type, as honest machines would write them, to be written in other ways.

use std::time::Duration;

use reattach_core::id::Attempt;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::id::Seq;
use reattach_core::wire::Challenge;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;
use reattach_core::wire::Receipt;
use reattach_core::wire::Report;
use reattach_core::wire::Token;
use reattach_core::wire::Welcome;

use crate::fuzz::bytes::Bytes;
use crate::fuzz::shapes;

/// Whose frames they are.
pub(super) const KEY: ConnectionKey = ConnectionKey::from_bytes([1; 16]);

/// A frame that either side may write on an attached transport, of a writer that stands at these numbers: what it was sent
/// last, and what it writes next.
pub(super) fn of_either(bytes: &mut Bytes<'_>, sent: Seq, due: u64) -> String {
    let mut text = String::new();
    match bytes.byte() % 16 {
        0..=5 => _ = shapes::message(bytes, due, &mut text),
        6..=8 => shapes::ack(bytes, sent, &mut text),
        9 => shapes::void(bytes, Seq::new(due).unwrap_or(Seq::MAX), &mut text),
        10 => shapes::ping(bytes, &mut text),
        11 => shapes::pong(bytes, sent, 1, &mut text),
        12..=13 => shapes::ephemeral(bytes, &mut text),
        14 => text.push_str("{\"t\":\"later\",\"seq\":\"x\"}"),
        _ => shapes::bye(bytes, sent, &mut text),
    }
    text
}

/// A frame of any type.
pub(super) fn any(bytes: &mut Bytes<'_>) -> String {
    let sent = Seq::new(9).expect("a small number");
    let frame = match bytes.byte() % 8 {
        0 => Frame::Hello(Box::new(hello(bytes))),
        1 => Frame::Challenge(Challenge { fence: Fence::from_bytes([bytes.byte(); 16]) }),
        2 => Frame::Welcome(Box::new(welcome(bytes, sent))),
        _ => return of_either(bytes, sent, 9),
    };
    let mut text = String::new();
    shapes::put(&frame, &mut text);
    text
}

/// The first frame on a transport.
pub(super) fn hello(bytes: &mut Bytes<'_>) -> Hello {
    let sent = Seq::new(u64::from(bytes.byte())).expect("a small number");
    let cid = if bytes.rarely(8) { ConnectionKey::from_bytes([2; 16]) } else { KEY }.connection_id();
    let epoch = bytes.pick(&[None, Some(Epoch::from_bytes([0xab; 16]))]);
    Hello {
        key: KEY,
        cid,
        instance: InstanceId::from_bytes([bytes.byte(); 16]),
        attempt: Attempt::new(1 + u64::from(bytes.byte())).expect("a small number"),
        epoch,
        sent,
        base: shapes::seq(bytes, sent.next()).max(Seq::ZERO.next()),
        seen: shapes::report_no(bytes),
        report: shapes::report(bytes, sent),
        limits: shapes::limits(bytes),
        token: if bytes.rarely(3) { Token::new("a\"b\u{e9}".to_owned()) } else { None },
        fence: bytes.pick(&[None, Some(Fence::from_bytes([0xcd; 16]))]),
    }
}

fn welcome(bytes: &mut Bytes<'_>, sent: Seq) -> Welcome {
    let Report { received, settled, no: _, except } = shapes::report(bytes, sent);
    let handed = if bytes.pick(&[false, true]) { vec![received.next(), received.next().next()] } else { Vec::new() };
    let seen = shapes::report_no(bytes);
    let is_final = bytes.pick(&[true, false]);
    let receipt = Receipt { epoch: Epoch::from_bytes([3; 16]), received, settled, except, seen, handed, is_final };
    Welcome {
        cid: KEY.connection_id(),
        epoch: Epoch::from_bytes([4; 16]),
        resumed: bytes.pick(&[false, true]),
        report: shapes::report(bytes, sent),
        seen,
        limits: shapes::limits(bytes),
        detach_ttl: Duration::from_millis(bytes.number().min(1_000)),
        receipt: if bytes.pick(&[false, true]) { Some(Box::new(receipt)) } else { None },
    }
}
