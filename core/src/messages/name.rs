//! The names that messages call each other by.

use core::fmt;
use core::str::FromStr;

use crate::id::IdError;
use crate::id::Name;
use crate::id::as_text;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Name);

        impl $name {
            /// Checks the length and keeps the text.
            ///
            /// # Errors
            ///
            /// [`IdError::Empty`] or [`IdError::TooLong`].
            pub fn new(text: &str) -> Result<Self, IdError> {
                Name::new(text).map(Self)
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )+};
}

names! {
    /// Names what waits for somebody's answer: 1 to [`Name::MAX_LEN`] bytes of text.
    InteractionId
    /// Names one envelope, and is what an answer refers to: 1 to [`Name::MAX_LEN`] bytes of text.
    EnvelopeId
}

as_text!(EnvelopeId);
