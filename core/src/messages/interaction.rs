//! The answer to what waits for somebody: a question of any kind, with any JSON as its answer.

use alloc::string::String;

use crate::messages::error::MessageError;
use crate::messages::name::InteractionId;
use crate::messages::text::begin;
use crate::messages::text::json;
use crate::messages::text::kind_of;
use crate::messages::text::push_json;
use crate::messages::text::push_number;
use crate::messages::text::push_text;
use crate::wire::Fields;
use crate::wire::Payload;
use crate::wire::PayloadError;

/// Somebody answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InteractionResponse {
    /// What. The same answer sent again has the same, and is applied once.
    pub interaction_id: InteractionId,
    /// How: any JSON, `null` included.
    pub response: Payload,
    /// How often the answer was sent before, where that is said. It tells people where it stands and means nothing else.
    pub retry_count: Option<u32>,
}

const RESPONSE: &str = "interaction-response";

impl InteractionResponse {
    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`MessageError`].
    pub fn read(payload: &Payload) -> Result<Self, MessageError> {
        let fields = Fields::parse("a message", payload.as_str())?;
        Self::of(&kind_of(&fields)?, fields)
    }

    /// Reads a message whose type is known.
    pub(super) fn of(kind: &str, fields: Fields<'_>) -> Result<Self, MessageError> {
        if kind != RESPONSE {
            return Err(MessageError::UnknownType);
        }
        let fields = fields.named(RESPONSE);
        Ok(Self {
            interaction_id: fields.required_id("interactionId")?,
            response: json(&fields, "response")?,
            retry_count: fields.number("retryCount", |count| u32::try_from(count).ok())?,
        })
    }

    /// Writes the message. What is not there is left out.
    ///
    /// # Errors
    ///
    /// [`PayloadError::TooDeep`], where the answer is as deep as a payload may be by itself.
    pub fn write(&self) -> Result<Payload, PayloadError> {
        let mut out = String::new();
        begin(&mut out, RESPONSE);
        push_text(&mut out, "interactionId", self.interaction_id.as_str());
        push_json(&mut out, "response", self.response.as_str());
        if let Some(count) = self.retry_count {
            push_number(&mut out, "retryCount", count.into());
        }
        out.push('}');
        Payload::of_parts(&out)
    }
}
