//! What an application sends: a JSON value, as text.
//!
//! There are two types for it, because trust differs. A [`Payload`] is known to be one JSON value without a raw line break
//! and may be spliced into a frame. An [`UncheckedPayload`] is what a peer put behind `"d":`; the hot path never scans it.
//! Reading it as a type checks it; handing it on needs [`UncheckedPayload::check`] first, for a text such as
//! `1,"seq":9` spliced into a frame would forge the frame's other keys.

use alloc::string::String;
use alloc::string::ToString;
use alloc::sync::Arc;

use core::fmt;

use serde::Deserialize;
use serde::Serialize;
use serde::de::IgnoredAny;

/// The deepest nesting of arrays and objects, in a payload and in a frame as a whole.
///
/// 64 is deeper than people's documents and shallow enough for a recursive reader on any stack.
pub const MAX_DEPTH: usize = 64;

/// One JSON value, checked, ready to be spliced into a frame. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Payload(Arc<str>);

/// What a peer sent as a payload, not looked into yet. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UncheckedPayload(Arc<str>);

/// Why something is not a payload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The value cannot be written as JSON: a map whose keys are not strings, for instance.
    #[error("the value cannot be written as JSON: {problem}")]
    Unserializable {
        /// What the serializer said.
        problem: String,
    },
    /// The text is not one JSON value, or not of the type asked for.
    #[error("{problem}")]
    Unreadable {
        /// What the reader said, with line and column. It may quote the payload.
        problem: String,
    },
    /// Arrays and objects are nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

impl Payload {
    /// Writes a value as JSON.
    ///
    /// # Errors
    ///
    /// [`PayloadError::Unserializable`] or [`PayloadError::TooDeep`]. The size is checked when it is sent.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        let text = serde_json::to_string(value)
            .map_err(|error| PayloadError::Unserializable { problem: error.to_string() })?;
        check_depth(&text)?;
        Ok(Self::without_line_breaks(&text))
    }

    /// Takes text that is already JSON. White space around it goes: it is no part of the value, and is not counted by who
    /// receives it. White space between the tokens is kept unless it holds a line break; then all of it goes, for a line break
    /// separates frames.
    ///
    /// # Errors
    ///
    /// [`PayloadError::Unreadable`] or [`PayloadError::TooDeep`].
    pub fn from_json(text: &str) -> Result<Self, PayloadError> {
        check(text)?;
        Ok(Self::without_line_breaks(text))
    }

    /// Takes a JSON text that is known to be one.
    fn without_line_breaks(text: &str) -> Self {
        if memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_some() {
            return Self(without_white_space(text).into());
        }
        Self(without_white_space_around(text).into())
    }

    /// Takes a text that was put together of values that are known to be JSON, without a raw line break, and is not too deep.
    pub(crate) fn of_known_parts(text: &str) -> Self {
        debug_assert!(check(text).is_ok() && memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_none());
        Self(text.into())
    }

    /// The same for values that come from a caller, which together may be too deep.
    pub(crate) fn of_parts(text: &str) -> Result<Self, PayloadError> {
        check_depth(text)?;
        Ok(Self::of_known_parts(text))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The length of the text in bytes, which is what limits and windows count.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no JSON text is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether arrays and objects are nested deeper than this in it.
    pub(crate) fn is_deeper_than(&self, limit: usize) -> bool {
        is_deeper_than(&self.0, limit)
    }

    /// Reads the value as a type.
    ///
    /// # Errors
    ///
    /// [`PayloadError::Unreadable`] where the value is not of that type.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, PayloadError> {
        read(&self.0)
    }
}

impl UncheckedPayload {
    /// Keeps a copy of what stood behind `"d":`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Reads the value as a type, which checks it.
    ///
    /// # Errors
    ///
    /// [`PayloadError::Unreadable`] where it is not one JSON value of that type, [`PayloadError::TooDeep`].
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, PayloadError> {
        check_depth(&self.0)?;
        read(&self.0)
    }

    /// Checks that it is one JSON value, so that it can be sent on.
    ///
    /// # Errors
    ///
    /// [`PayloadError::Unreadable`] or [`PayloadError::TooDeep`].
    pub fn check(self) -> Result<Payload, PayloadError> {
        check(&self.0)?;
        let is_compact = without_white_space_around(&self.0).len() == self.0.len();
        if !is_compact || memchr::memchr2(b'\n', b'\r', self.0.as_bytes()).is_some() {
            return Ok(Payload::without_line_breaks(&self.0));
        }
        Ok(Payload(self.0))
    }

    /// The text as it came. It need not be JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Payload> for UncheckedPayload {
    fn from(payload: Payload) -> Self {
        Self(payload.0)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl fmt::Debug for UncheckedPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UncheckedPayload({} bytes)", self.0.len())
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, PayloadError> {
    serde_json::from_str(text).map_err(|error| PayloadError::Unreadable { problem: error.to_string() })
}

fn check(text: &str) -> Result<(), PayloadError> {
    check_depth(text)?;
    read::<IgnoredAny>(text).map(|_| ())
}

fn check_depth(text: &str) -> Result<(), PayloadError> {
    if is_deeper_than(text, MAX_DEPTH) { Err(PayloadError::TooDeep) } else { Ok(()) }
}

/// Whether brackets outside of strings nest deeper than `limit`. Right for every JSON text; for any other text it may say
/// either, and the reader that comes after refuses that.
pub(crate) fn is_deeper_than(text: &str, limit: usize) -> bool {
    // Each level takes two bytes of a JSON text; and looking for brackets is many times faster than following strings, and settles
    // it for nearly every text.
    if text.len() < 2 * (limit + 1) || memchr::memchr2_iter(b'[', b'{', text.as_bytes()).nth(limit).is_none() {
        return false;
    }
    let mut depth = 0_usize;
    outside_strings(text, |byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            0..=u8::MAX => {}
        }
        depth <= limit
    });
    depth > limit
}

/// Calls `visit` for each byte of a JSON text that is not within a string, quotes included, until it returns false.
fn outside_strings(text: &str, mut visit: impl FnMut(u8) -> bool) {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if !visit(byte) {
            return;
        }
        if byte == b'"' {
            loop {
                match bytes.next() {
                    Some(b'\\') => _ = bytes.next(),
                    Some(b'"') | None => break,
                    Some(0..=u8::MAX) => {}
                }
            }
        }
    }
}

/// A text without what JSON takes for white space around it.
pub(super) fn without_white_space_around(text: &str) -> &str {
    let is_white = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t' | b'\n' | b'\r'));
    // Nearly no text has any.
    if !is_white(text.as_bytes().first()) && !is_white(text.as_bytes().last()) {
        return text;
    }
    text.trim_matches([' ', '\t', '\n', '\r'])
}

/// A JSON text without the white space between its tokens.
fn without_white_space(text: &str) -> String {
    let mut compact = String::with_capacity(text.len());
    let mut within_string = false;
    let mut escaped = false;
    for character in text.chars() {
        if within_string {
            within_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else if matches!(character, ' ' | '\t' | '\n' | '\r') {
            continue;
        } else {
            within_string = character == '"';
        }
        compact.push(character);
    }
    compact
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_value_is_written_compactly_and_read_back() {
        let payload = Payload::new(&BTreeMap::from([("a", 1)])).expect("a map of strings");
        assert_eq!(payload.as_str(), r#"{"a":1}"#);
        assert_eq!(payload.parse::<BTreeMap<String, u8>>().expect("the same map")["a"], 1);
        assert_eq!(payload.len(), 7);
    }

    #[test]
    fn a_line_break_between_tokens_goes_and_one_within_a_string_cannot_be() {
        let payload = Payload::from_json("{\r\n \"a b\\\"\\n\" :\n [1, 2] }").expect("JSON");
        assert_eq!(payload.as_str(), r#"{"a b\"\n":[1,2]}"#);
        assert_eq!(Payload::from_json("[1, 2]").expect("JSON").as_str(), "[1, 2]");
        assert!(matches!(Payload::from_json("\"a\nb\""), Err(PayloadError::Unreadable { .. })));
    }

    #[test]
    fn white_space_around_a_value_is_no_part_of_it() {
        assert_eq!(Payload::from_json(" [1, 2]\t").expect("JSON").as_str(), "[1, 2]");
        assert_eq!(UncheckedPayload::new(" [1, 2]\t").check().expect("JSON").as_str(), "[1, 2]");
    }

    #[test]
    fn what_would_forge_a_frame_is_refused_before_it_is_handed_on() {
        for forged in [r#"1,"seq":9"#, "", "}", "{}{}", "1 2", "nul", "\u{0}"] {
            let unchecked = UncheckedPayload::new(forged);
            assert!(matches!(unchecked.check(), Err(PayloadError::Unreadable { .. })), "{forged:?}");
        }
        assert_eq!(UncheckedPayload::new("[1]").check().expect("JSON").as_str(), "[1]");
    }

    #[test]
    fn depth_is_bounded_and_brackets_in_strings_do_not_count() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Payload::from_json(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(Payload::from_json(&nested(MAX_DEPTH + 1)), Err(PayloadError::TooDeep));
        assert_eq!(UncheckedPayload::new(&nested(100_000)).check(), Err(PayloadError::TooDeep));
        assert_eq!(UncheckedPayload::new(&"[".repeat(100_000)).parse::<IgnoredAny>(), Err(PayloadError::TooDeep));
        let in_string = alloc::format!("\"\\\"{}\"", "[".repeat(1_000));
        assert!(Payload::from_json(&in_string).is_ok());
        let wide = alloc::format!("[{}[]]", "[],".repeat(1_000));
        assert!(Payload::from_json(&wide).is_ok());
    }
}
