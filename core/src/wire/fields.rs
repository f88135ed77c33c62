//! The general reading of a frame: any order of keys, any white space, unknown keys skipped, every complaint with the name
//! of its key.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::id::IdError;
use crate::id::Seq;
use crate::wire::frame::MAX_WINDOW;
use crate::wire::payload::MAX_DEPTH;
use crate::wire::payload::is_deeper_than;

/// Why a text is not a frame.
///
/// It names the frame, the key and the problem and never quotes what the peer sent, which may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is not one JSON object.
    #[error("not one JSON object (column {column})")]
    NotAnObject {
        /// The column at which reading stopped, from 1.
        column: usize,
    },
    /// Arrays and objects are nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// It has more keys than any frame of this or a later version may have.
    #[error("more than {} keys", MAX_KEYS)]
    TooManyKeys,
    /// A key that the frame must have is missing.
    #[error("{frame} lacks \"{key}\"")]
    MissingKey {
        /// The type of the frame.
        frame: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A key stands in it twice.
    #[error("{frame} has \"{key}\" twice")]
    DuplicateKey {
        /// The type of the frame.
        frame: &'static str,
        /// The key.
        key: &'static str,
    },
    /// The value of a key is not what it must be.
    #[error("{frame} has a bad \"{key}\": {problem}")]
    BadValue {
        /// The type of the frame.
        frame: &'static str,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It is of another JSON type.
    #[error("it is not {expected}")]
    Type {
        /// What it should have been.
        expected: &'static str,
    },
    /// It is outside of its range.
    #[error("it is out of range")]
    Range,
    /// It is longer than its limit.
    #[error("it is too long")]
    TooLong,
    /// It is not an identifier.
    #[error("{0}")]
    Id(IdError),
    /// It contradicts another key.
    #[error("it contradicts another key")]
    Contradiction,
}

/// The most keys that a frame may have: several times what any has, so that later versions have room.
const MAX_KEYS: usize = 64;

/// The most values that an array may have: no list in a frame is longer than the largest window.
const MAX_VALUES: usize = MAX_WINDOW as usize;

/// The pairs of one JSON object, values not looked into yet.
#[derive(Clone)]
pub(crate) struct Fields<'a> {
    /// What complaints call this object.
    frame: &'static str,
    pairs: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Fields<'a> {
    /// Reads one JSON object. `frame` is what complaints call it.
    pub(crate) fn parse(frame: &'static str, text: &'a str) -> Result<Self, DecodeError> {
        // The envelope is one level more than the payload in it.
        if is_deeper_than(text, MAX_DEPTH + 1) {
            return Err(DecodeError::TooDeep);
        }
        match serde_json::from_str::<Pairs<'a>>(text) {
            Ok(Pairs { overflowed: true, .. }) => Err(DecodeError::TooManyKeys),
            Ok(Pairs { pairs, overflowed: false }) => Ok(Self { frame, pairs }),
            Err(error) => Err(DecodeError::NotAnObject { column: error.column() }),
        }
    }

    /// Names the frame once its type is known.
    pub(crate) fn named(self, frame: &'static str) -> Self {
        Self { frame, ..self }
    }

    /// A complaint about the value of `key`.
    pub(crate) fn bad(&self, key: &'static str, problem: Problem) -> DecodeError {
        DecodeError::BadValue { frame: self.frame, key, problem }
    }

    /// The complaint that `key` is missing.
    pub(crate) fn missing(&self, key: &'static str) -> DecodeError {
        DecodeError::MissingKey { frame: self.frame, key }
    }

    /// The text of a value, `null` included.
    pub(crate) fn raw(&self, key: &'static str) -> Result<Option<&'a str>, DecodeError> {
        let mut found = None;
        for (name, value) in &self.pairs {
            if name == key && found.replace(value.get()).is_some() {
                return Err(DecodeError::DuplicateKey { frame: self.frame, key });
            }
        }
        Ok(found)
    }

    /// Whether the key stands in the object with a value other than `null`.
    pub(crate) fn has(&self, key: &'static str) -> Result<bool, DecodeError> {
        Ok(self.raw(key)?.is_some_and(|value| value != "null"))
    }

    /// A value of type `T`; absent and `null` are the same.
    fn value<T: Deserialize<'a>>(&self, key: &'static str, expected: &'static str) -> Result<Option<T>, DecodeError> {
        match self.raw(key)? {
            None | Some("null") => Ok(None),
            Some(text) => match serde_json::from_str(text) {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(self.bad(key, Problem::Type { expected })),
            },
        }
    }

    pub(crate) fn bool(&self, key: &'static str) -> Result<Option<bool>, DecodeError> {
        self.value(key, "true or false")
    }

    pub(crate) fn string(&self, key: &'static str) -> Result<Option<Cow<'a, str>>, DecodeError> {
        Ok(self.value::<Text<'a>>(key, "a string")?.map(|text| text.0))
    }

    /// A string of at most `max` bytes.
    pub(crate) fn short(&self, key: &'static str, max: usize) -> Result<Option<String>, DecodeError> {
        match self.string(key)? {
            Some(text) if text.len() > max => Err(self.bad(key, Problem::TooLong)),
            Some(text) => Ok(Some(text.into_owned())),
            None => Ok(None),
        }
    }

    /// A non-negative whole number that `accept` takes.
    pub(crate) fn number<T>(
        &self,
        key: &'static str,
        accept: impl FnOnce(u64) -> Option<T>,
    ) -> Result<Option<T>, DecodeError> {
        match self.value::<u64>(key, "a non-negative whole number")? {
            Some(number) => accept(number).map(Some).ok_or_else(|| self.bad(key, Problem::Range)),
            None => Ok(None),
        }
    }

    /// A duration in whole milliseconds.
    pub(crate) fn millis(&self, key: &'static str) -> Result<Option<Duration>, DecodeError> {
        self.number(key, |millis| (millis <= Seq::MAX.get()).then(|| Duration::from_millis(millis)))
    }

    /// An identifier.
    pub(crate) fn id<T: FromStr<Err = IdError>>(&self, key: &'static str) -> Result<Option<T>, DecodeError> {
        match self.string(key)? {
            Some(text) => text.parse().map(Some).map_err(|error| self.bad(key, Problem::Id(error))),
            None => Ok(None),
        }
    }

    /// An identifier that must be there.
    pub(crate) fn required_id<T: FromStr<Err = IdError>>(&self, key: &'static str) -> Result<T, DecodeError> {
        self.id(key)?.ok_or_else(|| self.missing(key))
    }

    /// An object within the object.
    pub(crate) fn object(&self, key: &'static str) -> Result<Option<Self>, DecodeError> {
        match self.raw(key)? {
            None | Some("null") => Ok(None),
            Some(text) => Self::parse(key, text).map(Some),
        }
    }

    /// An array, each value of which is read by `read`.
    pub(crate) fn array<T>(
        &self,
        key: &'static str,
        read: impl FnMut(&'a str) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        match self.value::<Values<'a>>(key, "an array")? {
            None => Ok(Vec::new()),
            Some(Values { overflowed: true, .. }) => Err(self.bad(key, Problem::TooLong)),
            Some(Values { values, overflowed: false }) => values.into_iter().map(RawValue::get).map(read).collect(),
        }
    }
}

/// A string that is borrowed unless it holds escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.into())))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// The pairs of an object, up to [`MAX_KEYS`]; what comes after is skipped and not kept.
struct Pairs<'a> {
    pairs: Vec<(Cow<'a, str>, &'a RawValue)>,
    overflowed: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::with_capacity(8);
                while pairs.len() < MAX_KEYS {
                    match map.next_entry::<Text<'de>, &'de RawValue>()? {
                        Some((key, value)) => pairs.push((key.0, value)),
                        None => return Ok(Pairs { pairs, overflowed: false }),
                    }
                }
                let overflowed = map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some();
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Pairs { pairs, overflowed })
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The values of an array, up to [`MAX_VALUES`]; what comes after is skipped and not kept.
struct Values<'a> {
    values: Vec<&'a RawValue>,
    overflowed: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Values<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Values<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Values<'de>, A::Error> {
                let mut values = Vec::new();
                while values.len() < MAX_VALUES {
                    match seq.next_element::<&'de RawValue>()? {
                        Some(value) => values.push(value),
                        None => return Ok(Values { values, overflowed: false }),
                    }
                }
                let overflowed = seq.next_element::<IgnoredAny>()?.is_some();
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Values { values, overflowed })
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}
