//! Frames made by hand, as a foreign client or server would write them.

use std::time::Duration;

use reattach_core::client::Secrets;
use reattach_core::id::Attempt;
use reattach_core::id::ConnectionId;
use reattach_core::id::Epoch;
use reattach_core::id::PingNo;
use reattach_core::id::ReportNo;
use reattach_core::id::Seq;
use reattach_core::link;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;
use reattach_core::wire::Report;
use reattach_core::wire::Token;
use reattach_core::wire::Welcome;

use crate::world::numbered_key;
use crate::world::secrets;

/// A frame as it stands on the wire.
pub fn text(frame: &Frame<'_>) -> String {
    let mut out = String::new();
    frame.encode(&mut out);
    out
}

/// The first hello of the client with these small numbers' secrets.
pub fn hello(number: u8) -> Hello {
    let Secrets { key, spare: _, instance } = secrets(number);
    Hello {
        key,
        cid: key.connection_id(),
        instance,
        attempt: attempt(1),
        epoch: None,
        sent: Seq::ZERO,
        base: Seq::ZERO.next(),
        seen: ReportNo::ZERO,
        report: Report::default(),
        limits: link::Config::default().limits(),
        token: None,
        fence: None,
    }
}

/// The first hello of one of very many clients.
pub fn numbered_hello(number: u64) -> Hello {
    let key = numbered_key(number);
    Hello { key, cid: key.connection_id(), ..hello(1) }
}

/// A hello as a text.
pub fn hello_text(hello: Hello) -> String {
    text(&Frame::Hello(Box::new(hello)))
}

/// A welcome to a new epoch.
pub fn welcome(cid: ConnectionId, epoch: Epoch) -> Welcome {
    Welcome {
        cid,
        epoch,
        resumed: false,
        report: Report::default(),
        seen: ReportNo::ZERO,
        limits: link::Config::default().limits(),
        detach_ttl: Duration::from_secs(60),
        receipt: None,
    }
}

/// A report without exceptions.
pub fn report(received: u64, settled: u64) -> Report {
    Report { received: seq(received), settled: seq(settled), ..Report::default() }
}

/// The number of a message.
pub fn seq(number: u64) -> Seq {
    Seq::new(number).expect("a number that can stand on the wire")
}

/// The number of a hello.
pub fn attempt(number: u64) -> Attempt {
    Attempt::new(number).expect("a number that can stand on the wire")
}

/// The number of a ping.
pub fn ping_no(number: u64) -> PingNo {
    PingNo::new(number).expect("a number that can stand on the wire")
}

/// The number of a change to a report.
pub fn report_no(number: u64) -> ReportNo {
    ReportNo::new(number).expect("a number that can stand on the wire")
}

/// Credentials.
pub fn token(text: &str) -> Token {
    Token::new(text.into()).expect("a short token")
}
