//! What an agent says of its work while it works: the JSON-RPC notification `session/update`.
//!
//! Its `params.update.sessionUpdate` tells one kind of update from another. One kind has a type here; every other is kept as it
//! came, whatever it is called.

use alloc::borrow::Cow;
use alloc::string::String;

use crate::id::SessionId;
use crate::messages::error::MessageError;
use crate::messages::text::json;
use crate::messages::text::object;
use crate::messages::text::push_json;
use crate::messages::text::push_text;
use crate::messages::text::text;
use crate::wire::DecodeError;
use crate::wire::Fields;
use crate::wire::Payload;
use crate::wire::PayloadError;
use crate::wire::Problem;

/// An agent says something of its work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionNotification {
    /// In which session, where that is said.
    pub session_id: Option<SessionId>,
    /// What.
    pub update: SessionUpdate,
}

/// What an agent says of its work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionUpdate {
    /// A piece of what it says to people.
    AgentMessageChunk {
        /// The piece: any JSON, where there is one. [`SessionUpdate::text`] reads the usual kind.
        content: Option<Payload>,
    },
    /// Something else.
    Other(OtherUpdate),
}

/// An update of a kind that has no type here, as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OtherUpdate {
    kind: String,
    json: Payload,
}

const FRAME: &str = "session/update";
const KIND: &str = "sessionUpdate";
const AGENT_MESSAGE_CHUNK: &str = "agent_message_chunk";

impl SessionNotification {
    /// The method of the notification.
    pub const METHOD: &'static str = FRAME;

    /// Reads a whole notification.
    ///
    /// # Errors
    ///
    /// [`MessageError`]; [`MessageError::UnknownType`] for another method, and for what has an `id` and so is a request.
    pub fn read(payload: &Payload) -> Result<Self, MessageError> {
        let fields = Fields::parse("a notification", payload.as_str())?;
        if fields.string("jsonrpc")?.is_some_and(|version| version != "2.0") {
            return Err(fields.bad("jsonrpc", Problem::Range).into());
        }
        let method = fields.string("method")?.ok_or_else(|| fields.missing("method"))?;
        if method != Self::METHOD || fields.raw("id")?.is_some() {
            return Err(MessageError::UnknownType);
        }
        let fields = fields.named(FRAME);
        Ok(read_params(&object(&fields, "params", FRAME)?)?)
    }

    /// Reads the parameters of a notification whose method is [`SessionNotification::METHOD`].
    ///
    /// # Errors
    ///
    /// [`MessageError`].
    pub fn read_params(params: &Payload) -> Result<Self, MessageError> {
        Ok(read_params(&Fields::parse(FRAME, params.as_str())?)?)
    }

    /// Writes a whole notification. What is not there is left out.
    ///
    /// # Errors
    ///
    /// [`PayloadError::TooDeep`], where the update is nearly as deep as a payload may be by itself.
    pub fn write(&self) -> Result<Payload, PayloadError> {
        let mut out = String::from("{\"jsonrpc\":\"2.0\"");
        push_text(&mut out, "method", Self::METHOD);
        push_json(&mut out, "params", &params(self));
        out.push('}');
        Payload::of_parts(&out)
    }

    /// Writes the parameters alone, for what writes notifications by itself.
    ///
    /// # Errors
    ///
    /// [`PayloadError::TooDeep`], where the update is nearly as deep as a payload may be by itself.
    pub fn write_params(&self) -> Result<Payload, PayloadError> {
        Payload::of_parts(&params(self))
    }
}

impl SessionUpdate {
    /// Which kind it is, as the wire calls it.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::AgentMessageChunk { .. } => AGENT_MESSAGE_CHUNK,
            Self::Other(update) => update.kind(),
        }
    }

    /// The text of a piece of what an agent says, where its content is `{"type":"text","text":...}`.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'_, str>> {
        let Self::AgentMessageChunk { content: Some(content) } = self else { return None };
        let fields = Fields::parse("content", content.as_str()).ok()?;
        let is_text = fields.string("type").ok()?? == "text";
        if is_text { fields.string("text").ok()? } else { None }
    }
}

impl OtherUpdate {
    /// Takes an update: an object whose `sessionUpdate` says which kind it is.
    ///
    /// # Errors
    ///
    /// [`MessageError`]; also for a kind that has a type here.
    pub fn new(json: Payload) -> Result<Self, MessageError> {
        let fields = Fields::parse(FRAME, json.as_str())?;
        let kind = text(&fields, KIND)?;
        if kind == AGENT_MESSAGE_CHUNK {
            return Err(fields.bad(KIND, Problem::Range).into());
        }
        Ok(Self { kind, json })
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The update, its kind included.
    #[must_use]
    pub const fn json(&self) -> &Payload {
        &self.json
    }
}

fn read_params(params: &Fields<'_>) -> Result<SessionNotification, DecodeError> {
    let update = object(params, "update", FRAME)?;
    let kind = text(&update, KIND)?;
    let update = if kind == AGENT_MESSAGE_CHUNK {
        let content = update.raw("content")?.filter(|content| *content != "null").map(Payload::of_known_parts);
        SessionUpdate::AgentMessageChunk { content }
    } else {
        SessionUpdate::Other(OtherUpdate { kind, json: json(params, "update")? })
    };
    Ok(SessionNotification { session_id: params.id("sessionId")?, update })
}

/// The parameters, whose first key is written with a comma before it, which is no part of them.
fn params(notification: &SessionNotification) -> String {
    let mut out = String::new();
    if let Some(session_id) = &notification.session_id {
        push_text(&mut out, "sessionId", session_id.as_str());
    }
    match &notification.update {
        SessionUpdate::Other(update) => push_json(&mut out, "update", update.json.as_str()),
        SessionUpdate::AgentMessageChunk { content } => {
            let mut update = alloc::format!("{{\"{KIND}\":\"{AGENT_MESSAGE_CHUNK}\"");
            if let Some(content) = content {
                push_json(&mut update, "content", content.as_str());
            }
            update.push('}');
            push_json(&mut out, "update", &update);
        }
    }
    alloc::format!("{{{}}}", out.strip_prefix(',').unwrap_or_default())
}
