//! The names of sessions.

use core::fmt;
use core::str::FromStr;

use crate::id::error::IdError;
use crate::id::name::Name;

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
