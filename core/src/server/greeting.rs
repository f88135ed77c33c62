//! The first text on a transport: a hello and nothing else, or a reason to turn the transport away.

use alloc::boxed::Box;

use crate::error::ProtocolError;
use crate::server::event::Refusal;
use crate::wire;
use crate::wire::DecodeError;
use crate::wire::Frame;
use crate::wire::Hello;
use crate::wire::Problem;

/// The hello that a text holds, which must be all that it holds. `misplaced` says why no hello may come at all.
///
/// # Errors
///
/// [`Refusal::Protocol`] or [`Refusal::MalformedId`].
pub(super) fn read_hello(text: &str, misplaced: Option<&'static str>) -> Result<Box<Hello>, Refusal> {
    let (len, limit) = (text.len() as u64, wire::MAX_CONTROL_FRAME as u64);
    if len > limit {
        return Err(Refusal::Protocol(ProtocolError::TooLarge { len, limit }));
    }
    let mut rest = text;
    let line = wire::next_line(&mut rest).ok_or(Refusal::Protocol(ProtocolError::NotAHello))?;
    let frame = wire::decode(line).map_err(refusal_of)?;
    if let Some(place) = misplaced {
        return Err(Refusal::Protocol(ProtocolError::Unexpected { frame: frame.name(), place }));
    }
    match frame {
        Frame::Hello(hello) if wire::next_line(&mut rest).is_none() => Ok(hello),
        Frame::Hello(_)
        | Frame::Challenge(_)
        | Frame::Welcome(_)
        | Frame::Message(_)
        | Frame::Ephemeral(_)
        | Frame::Void(_)
        | Frame::Ack(_)
        | Frame::Ping(_)
        | Frame::Pong(_)
        | Frame::Bye(_)
        | Frame::Unknown => Err(Refusal::Protocol(ProtocolError::NotAHello)),
    }
}

fn refusal_of(error: DecodeError) -> Refusal {
    // The codes within a hello's report are no identifiers of its own, and other frames have no place here.
    if let DecodeError::BadValue { frame: "hello", key, problem: Problem::Id(error) } = error {
        return Refusal::MalformedId { key, error };
    }
    Refusal::Protocol(ProtocolError::Malformed(error))
}
