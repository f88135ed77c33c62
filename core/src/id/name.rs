//! What applications give names to: keys, lanes, and the reasons of their decisions.

use core::fmt;
use core::str::FromStr;

use alloc::sync::Arc;

use crate::id::error::IdError;

/// A short name that an application gives: the key of an ephemeral message, a principal.
///
/// 1 to [`Name::MAX_LEN`] bytes of text, cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The longest name, in bytes: long enough for a UUID with a prefix or an e-mail address, short enough to bound tables.
    pub const MAX_LEN: usize = 128;

    /// Checks the length and keeps the text.
    ///
    /// # Errors
    ///
    /// [`IdError::Empty`] or [`IdError::TooLong`].
    pub fn new(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            Err(IdError::Empty)
        } else if text.len() > Self::MAX_LEN {
            Err(IdError::TooLong { limit: Self::MAX_LEN })
        } else {
            Ok(Self(text.into()))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// An application's short code for why it refused a message, or put it off: `busy`, `rate-limited`, `http/422`.
///
/// 1 to [`Code::MAX_LEN`] letters, digits and `_ - . : /` of ASCII: a receiver lists the codes of many messages in one frame,
/// so each is small and needs no escape. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(Arc<str>);

impl Code {
    /// The longest code, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Checks the text and keeps it.
    ///
    /// # Errors
    ///
    /// [`IdError::Empty`], [`IdError::TooLong`] or [`IdError::Characters`].
    pub fn new(text: &str) -> Result<Self, IdError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
        if text.is_empty() {
            Err(IdError::Empty)
        } else if text.len() > Self::MAX_LEN {
            Err(IdError::TooLong { limit: Self::MAX_LEN })
        } else if !text.bytes().all(is_plain) {
            Err(IdError::Characters)
        } else {
            Ok(Self(text.into()))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Code {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The ordering key of a message, mostly a session's id. Order is kept within a lane, and lanes do not block each other.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(Option<Name>);

impl Lane {
    /// The lane of messages that name none.
    pub const DEFAULT: Self = Self(None);

    /// The lane of this name.
    #[must_use]
    pub const fn named(name: Name) -> Self {
        Self(Some(name))
    }

    /// Its name; the default lane has none.
    #[must_use]
    pub const fn name(&self) -> Option<&Name> {
        self.0.as_ref()
    }
}

impl From<Name> for Lane {
    fn from(name: Name) -> Self {
        Self::named(name)
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "Lane({name:?})"),
            None => f.write_str("Lane::DEFAULT"),
        }
    }
}
