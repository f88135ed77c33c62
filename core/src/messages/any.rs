//! Any of the messages: what comes is told apart here, once, before anybody looks at it.

use crate::messages::chat::Envelope;
use crate::messages::error::MessageError;
use crate::messages::event::ServerEvent;
use crate::messages::interaction::InteractionResponse;
use crate::messages::notification::SessionNotification;
use crate::messages::permission::PermissionMessage;
use crate::messages::text::kind_of;
use crate::wire::Fields;
use crate::wire::Payload;
use crate::wire::PayloadError;

/// Any of the messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnyMessage {
    /// About permissions.
    Permission(PermissionMessage),
    /// An answer to what waits for somebody.
    Interaction(InteractionResponse),
    /// Of a chat.
    Chat(Envelope),
    /// What a server tells.
    Event(ServerEvent),
    /// What an agent says of its work.
    Notification(SessionNotification),
}

impl AnyMessage {
    /// Reads a message. What has a `type` is told apart by that, and what has none by its `method`.
    ///
    /// # Errors
    ///
    /// [`MessageError`]: what is wrong with it where its type is known, else [`MessageError::UnknownType`], and
    /// [`MessageError::LocalOnly`] for what only a client tells itself.
    pub fn read(payload: &Payload) -> Result<Self, MessageError> {
        let fields = Fields::parse("a message", payload.as_str())?;
        if !fields.has("type")? && fields.has("method")? {
            return SessionNotification::read(payload).map(Self::Notification);
        }
        let kind = kind_of(&fields)?;
        let mut read = ServerEvent::of(&kind, fields.clone(), payload).map(Self::Event);
        if is_unknown(&read) {
            read = Envelope::of(&kind, fields.clone()).map(Self::Chat);
        }
        if is_unknown(&read) {
            read = PermissionMessage::of(&kind, fields.clone()).map(Self::Permission);
        }
        if is_unknown(&read) {
            read = InteractionResponse::of(&kind, fields).map(Self::Interaction);
        }
        read
    }

    /// Writes the message. What is not there is left out.
    ///
    /// # Errors
    ///
    /// [`PayloadError::TooDeep`], where what it brings along is nearly as deep as a payload may be by itself.
    pub fn write(&self) -> Result<Payload, PayloadError> {
        match self {
            Self::Permission(message) => Ok(message.write()),
            Self::Interaction(message) => message.write(),
            Self::Chat(message) => message.write(),
            Self::Event(message) => Ok(message.write()),
            Self::Notification(message) => message.write(),
        }
    }
}

/// Whether a message is of a type that belongs elsewhere.
const fn is_unknown(read: &Result<AnyMessage, MessageError>) -> bool {
    matches!(read, Err(MessageError::UnknownType))
}
