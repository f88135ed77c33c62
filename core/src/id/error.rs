//! What can be wrong with an identifier.

/// What is wrong with the text of an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// A connection id does not start with `cid-`.
    #[error("it does not start with \"cid-\"")]
    Prefix,
    /// A UUID is not of the form 8-4-4-4-12 hexadecimal digits.
    #[error("it is not a UUID of the form 8-4-4-4-12 hexadecimal digits")]
    Uuid,
    /// A key or nonce is not 32 hexadecimal digits.
    #[error("it is not 32 hexadecimal digits")]
    Hex,
    /// A name or a code is empty.
    #[error("it is empty")]
    Empty,
    /// A name or a code is too long.
    #[error("it is longer than {limit} bytes")]
    TooLong {
        /// How many bytes it may have.
        limit: usize,
    },
    /// A code holds something else than letters, digits and `_ - . : /`.
    #[error("it holds something else than letters, digits and _ - . : /")]
    Characters,
}
