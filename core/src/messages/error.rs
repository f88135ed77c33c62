//! Why something is not a message.

use crate::wire::DecodeError;

/// Why something is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// A value is missing, or is not what it must be.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is of a type that is not known.
    #[error("it is of a type that is not known")]
    UnknownType,
    /// Its type begins with an underscore. Such names are of events that a client tells itself, as `_open`, `_close` and
    /// `_send_failed`; none of them ever comes from the network.
    #[error("it is of a type that only this side tells itself")]
    LocalOnly,
    /// A refusal brings an input along, which only an allowance may.
    #[error("permission-response has an \"updatedInput\" without allowing anything")]
    InputWithoutAllowance,
}
