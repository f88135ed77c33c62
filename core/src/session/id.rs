//! The names and numbers of sessions.

use core::fmt;
use core::str::FromStr;

use crate::id::Epoch;
use crate::id::IdError;
use crate::id::Name;

/// Names a session: 1 to [`SessionId::MAX_LEN`] bytes of text. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Name);

impl SessionId {
    /// The longest name, in bytes: it stands behind a prefix in the name of a lane.
    pub const MAX_LEN: usize = Name::MAX_LEN - PREFIX.len();

    /// Checks the length and keeps the text.
    ///
    /// # Errors
    ///
    /// [`IdError::Empty`] or [`IdError::TooLong`].
    pub fn new(text: &str) -> Result<Self, IdError> {
        if text.len() > Self::MAX_LEN {
            return Err(IdError::TooLong { limit: Self::MAX_LEN });
        }
        Name::new(text).map(Self)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The name of the lane that carries the session's events.
    #[must_use]
    pub fn lane(&self) -> Name {
        Name::new(&alloc::format!("{PREFIX}{}", self.0)).expect("the prefix was left room for")
    }
}

/// What the names of sessions' lanes begin with.
const PREFIX: &str = "session/";

impl FromStr for SessionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Number of an event within one life of a session's log, from 1. 0 stands before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// Before the first event.
    pub const ZERO: Self = Self(0);

    /// The number as given, or `None` above 2^53 - 1, the largest that every JSON parser keeps exact.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number < 1 << 53 { Some(Self(number)) } else { None }
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The next number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How far a session has been seen: everything up to an event, in one life of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Which life of the log. Compared for equality only.
    pub epoch: Epoch,
    /// The last event that was seen.
    pub offset: Offset,
}

/// Numbers the owners of one session, from 1: who acts for an owner names it, and one that has been replaced changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub(super) u64);

impl Generation {
    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}
