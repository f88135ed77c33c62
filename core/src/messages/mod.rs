//! What applications say to people and to each other, typed in one place: each message is one JSON object, told apart by its
//! `type`. Reading is strict where a value matters and skips keys that are not known.

mod error;
mod permission;

pub use self::error::MessageError;
pub use self::permission::Choice;
pub use self::permission::MAX_TEXT;
pub use self::permission::PermissionId;
pub use self::permission::PermissionMessage;
pub use self::permission::PermissionRequest;
pub use self::permission::PermissionResponse;
