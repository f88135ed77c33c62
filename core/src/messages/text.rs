//! What all messages share of reading and writing them.

use alloc::borrow::Cow;
use alloc::string::String;

use core::fmt::Write as _;

use crate::id::SessionId;
use crate::messages::error::MessageError;
use crate::wire::DecodeError;
use crate::wire::Fields;
use crate::wire::Payload;
use crate::wire::Problem;
use crate::wire::push_string;

/// What the types of local events begin with (S004-094).
const LOCAL: char = '_';

/// The type of a message.
pub(super) fn kind_of<'a>(fields: &Fields<'a>) -> Result<Cow<'a, str>, MessageError> {
    let kind = fields.string("type")?.ok_or_else(|| fields.missing("type"))?;
    if kind.starts_with(LOCAL) { Err(MessageError::LocalOnly) } else { Ok(kind) }
}

/// A text that must be there, of any length.
pub(super) fn text(fields: &Fields<'_>, key: &'static str) -> Result<String, DecodeError> {
    fields.string(key)?.map(Cow::into_owned).ok_or_else(|| fields.missing(key))
}

/// A text that may be missing, of any length.
pub(super) fn optional_text(fields: &Fields<'_>, key: &'static str) -> Result<Option<String>, DecodeError> {
    Ok(fields.string(key)?.map(Cow::into_owned))
}

/// A value of any kind that must be there. `null` is one.
pub(super) fn json(fields: &Fields<'_>, key: &'static str) -> Result<Payload, DecodeError> {
    fields.raw(key)?.map(Payload::of_known_parts).ok_or_else(|| fields.missing(key))
}

/// An object that must be there.
pub(super) fn object<'a>(
    fields: &Fields<'a>,
    key: &'static str,
    frame: &'static str,
) -> Result<Fields<'a>, DecodeError> {
    match fields.object(key) {
        Ok(object) => object.map(|object| object.named(frame)).ok_or_else(|| fields.missing(key)),
        Err(DecodeError::NotAnObject { .. }) => Err(fields.bad(key, Problem::Type { expected: "an object" })),
        Err(error) => Err(error),
    }
}

/// The session that a message belongs to.
pub(super) fn session_id(fields: &Fields<'_>) -> Result<SessionId, DecodeError> {
    fields.required_id("sessionId")
}

/// Begins an object with its type. The last brace is the caller's.
pub(super) fn begin(out: &mut String, kind: &str) {
    out.push_str("{\"type\":");
    push_string(out, kind);
}

pub(super) fn push_text(out: &mut String, key: &str, text: &str) {
    write!(out, ",\"{key}\":").expect("a string takes all");
    push_string(out, text);
}

pub(super) fn push_json(out: &mut String, key: &str, json: &str) {
    write!(out, ",\"{key}\":{json}").expect("a string takes all");
}

pub(super) fn push_number(out: &mut String, key: &str, number: u64) {
    write!(out, ",\"{key}\":{number}").expect("a string takes all");
}

pub(super) fn push_session_id(out: &mut String, session: &SessionId) {
    push_text(out, "sessionId", session.as_str());
}
