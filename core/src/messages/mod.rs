//! What applications say to people and to each other, typed in one place: each message is one JSON object, told apart by its
//! `type`, or by its `method` where it is a notification. Reading is strict where a value matters and skips keys that are not
//! known; a key that may be missing may be `null` as well, and is left out by who writes.
//!
//! [`AnyMessage`] reads whatever comes. A type that begins with an underscore is refused by every reader: such names are of events
//! that a client tells itself.

mod any;
mod chat;
mod error;
mod event;
mod interaction;
mod name;
mod notification;
mod permission;
mod text;
mod timestamp;

pub use self::any::AnyMessage;
pub use self::chat::ChatMessage;
pub use self::chat::ChatRequest;
pub use self::chat::ChatResponse;
pub use self::chat::ChatStream;
pub use self::chat::ConnectionState;
pub use self::chat::ConnectionStatus;
pub use self::chat::Envelope;
pub use self::chat::StreamEnd;
pub use self::error::MessageError;
pub use self::event::GlobalEvent;
pub use self::event::ServerEvent;
pub use self::event::Topic;
pub use self::interaction::InteractionResponse;
pub use self::name::EnvelopeId;
pub use self::name::InteractionId;
pub use self::notification::OtherUpdate;
pub use self::notification::SessionNotification;
pub use self::notification::SessionUpdate;
pub use self::permission::Choice;
pub use self::permission::MAX_TEXT;
pub use self::permission::PermissionId;
pub use self::permission::PermissionMessage;
pub use self::permission::PermissionRequest;
pub use self::permission::PermissionResponse;
pub use self::timestamp::NotATimestamp;
pub use self::timestamp::Timestamp;
