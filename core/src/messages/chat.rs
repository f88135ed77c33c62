//! The messages of a chat, each in an envelope: `{id, type, payload, timestamp}`.
//!
//! Where nothing else says what a payload holds, it is the least that is of use: a `chat_response` is a whole answer at once, a
//! `session_update` brings any JSON along. Three keys are additions, and those who do not know them lose nothing that they knew
//! before: `inReplyTo` names the request that something answers (two requests of one session are told apart by it), `error` and
//! `interrupted` say that a stream has ended without being complete.

use alloc::string::String;

use core::time::Duration;

use crate::id::Name;
use crate::id::Seq;
use crate::id::SessionId;
use crate::messages::error::MessageError;
use crate::messages::name::EnvelopeId;
use crate::messages::text::kind_of;
use crate::messages::text::object;
use crate::messages::text::optional_text;
use crate::messages::text::push_json;
use crate::messages::text::push_number;
use crate::messages::text::push_session_id;
use crate::messages::text::push_text;
use crate::messages::text::session_id;
use crate::messages::text::text;
use crate::messages::timestamp::Timestamp;
use crate::wire::DecodeError;
use crate::wire::Fields;
use crate::wire::Payload;
use crate::wire::PayloadError;
use crate::wire::Problem;
use crate::wire::push_string;

/// A message of a chat in its envelope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// Missing only in pings and pongs that came without.
    id: Option<EnvelopeId>,
    /// Missing only in pings and pongs that came without.
    timestamp: Option<Timestamp>,
    message: ChatMessage,
}

/// What stands in an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChatMessage {
    /// Somebody says something.
    Request(ChatRequest),
    /// The whole answer at once.
    Response(ChatResponse),
    /// A piece of an answer, or its end.
    Stream(ChatStream),
    /// Something about a session has changed.
    SessionUpdate {
        /// Which session.
        session_id: SessionId,
        /// What: any JSON, `null` where nothing is said.
        update: Payload,
    },
    /// How it stands with the connection.
    ConnectionStatus(ConnectionStatus),
    /// Are you there?
    Ping,
    /// Here I am.
    Pong {
        /// The ping that it answers, where that had an id.
        in_reply_to: Option<EnvelopeId>,
    },
}

/// Somebody says something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChatRequest {
    /// Where.
    pub session_id: SessionId,
    /// What.
    pub message: String,
    /// Which model is to answer, where that is said.
    pub model: Option<Name>,
}

/// The whole answer at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChatResponse {
    /// Where.
    pub session_id: SessionId,
    /// The request that it answers, where that is said.
    pub in_reply_to: Option<EnvelopeId>,
    /// The answer.
    pub message: String,
}

/// A piece of an answer, or its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChatStream {
    /// Where.
    pub session_id: SessionId,
    /// The request that it answers, where that is said.
    pub in_reply_to: Option<EnvelopeId>,
    /// What comes next of the text. Empty with the end, where its writer follows the rules.
    pub delta: String,
    /// How the stream has ended, where it has. Nothing comes after that.
    pub end: Option<StreamEnd>,
}

/// How a stream has ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamEnd {
    /// All of it was said.
    Complete,
    /// What wrote it has failed. What came before stands.
    Failed {
        /// Why, in words for people.
        error: String,
    },
    /// Somebody or something has stopped it. What came before stands.
    Interrupted,
}

/// How it stands with the connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionStatus {
    /// Whether there is one.
    pub status: ConnectionState,
    /// The round trip, in whole milliseconds, where it was measured.
    pub latency: Option<Duration>,
    /// What is wrong, in words for people, where something is.
    pub error: Option<String>,
}

/// Whether there is a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionState {
    /// It is being made.
    Connecting,
    /// There is.
    Connected,
    /// There is none.
    Disconnected,
    /// There is none, and none will be made by itself.
    Error,
}

impl ConnectionState {
    const ALL: [Self; 4] = [Self::Connecting, Self::Connected, Self::Disconnected, Self::Error];

    /// The word for it on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Error => "error",
        }
    }
}

const REQUEST: &str = "chat_request";
const RESPONSE: &str = "chat_response";
const STREAM: &str = "chat_stream";
const SESSION_UPDATE: &str = "session_update";
const CONNECTION_STATUS: &str = "connection_status";
const PING: &str = "ping";
const PONG: &str = "pong";
const NAMES: [&str; 7] = [REQUEST, RESPONSE, STREAM, SESSION_UPDATE, CONNECTION_STATUS, PING, PONG];

impl ChatMessage {
    /// The type of it on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Request(_) => REQUEST,
            Self::Response(_) => RESPONSE,
            Self::Stream(_) => STREAM,
            Self::SessionUpdate { .. } => SESSION_UPDATE,
            Self::ConnectionStatus(_) => CONNECTION_STATUS,
            Self::Ping => PING,
            Self::Pong { .. } => PONG,
        }
    }

    /// The session that it belongs to, where it belongs to one.
    #[must_use]
    pub const fn session_id(&self) -> Option<&SessionId> {
        match self {
            Self::Request(ChatRequest { session_id, .. })
            | Self::Response(ChatResponse { session_id, .. })
            | Self::Stream(ChatStream { session_id, .. })
            | Self::SessionUpdate { session_id, .. } => Some(session_id),
            Self::ConnectionStatus(_) | Self::Ping | Self::Pong { .. } => None,
        }
    }

    /// Whether it may come without an id and a time, as pings of some clients do.
    const fn may_be_bare(&self) -> bool {
        matches!(self, Self::Ping | Self::Pong { .. })
    }
}

impl Envelope {
    /// Puts a message into an envelope. The id is unique, and what answers refer to.
    #[must_use]
    pub const fn new(id: EnvelopeId, timestamp: Timestamp, message: ChatMessage) -> Self {
        Self { id: Some(id), timestamp: Some(timestamp), message }
    }

    /// The id. Only a ping or a pong comes without one.
    #[must_use]
    pub const fn id(&self) -> Option<&EnvelopeId> {
        self.id.as_ref()
    }

    /// When it was written, as its writer puts it. Only a ping or a pong comes without.
    #[must_use]
    pub const fn timestamp(&self) -> Option<&Timestamp> {
        self.timestamp.as_ref()
    }

    /// The message.
    #[must_use]
    pub const fn message(&self) -> &ChatMessage {
        &self.message
    }

    /// Takes the message out.
    #[must_use]
    pub fn into_message(self) -> ChatMessage {
        self.message
    }

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
        let name = NAMES.into_iter().find(|name| *name == kind).ok_or(MessageError::UnknownType)?;
        let fields = fields.named(name);
        let payload = object(&fields, "payload", name)?;
        let message = match name {
            REQUEST => read_request(&payload)?,
            RESPONSE => read_response(&payload)?,
            STREAM => read_stream(&payload)?,
            SESSION_UPDATE => read_session_update(&payload)?,
            CONNECTION_STATUS => read_connection_status(&payload)?,
            PING => ChatMessage::Ping,
            PONG => ChatMessage::Pong { in_reply_to: payload.id("inReplyTo")? },
            _ => return Err(MessageError::UnknownType),
        };
        let (id, timestamp) = (fields.id("id")?, timestamp(&fields)?);
        if !message.may_be_bare() {
            id.as_ref().ok_or_else(|| fields.missing("id"))?;
            timestamp.as_ref().ok_or_else(|| fields.missing("timestamp"))?;
        }
        Ok(Self { id, timestamp, message })
    }

    /// Writes the message. What is not there is left out.
    ///
    /// # Errors
    ///
    /// [`PayloadError::TooDeep`], where the update of a session is nearly as deep as a payload may be by itself.
    pub fn write(&self) -> Result<Payload, PayloadError> {
        let mut out = String::from("{");
        if let Some(id) = &self.id {
            out.push_str("\"id\":");
            push_string(&mut out, id.as_str());
            out.push(',');
        }
        out.push_str("\"type\":");
        push_string(&mut out, self.message.name());
        push_json(&mut out, "payload", &write_payload(&self.message));
        if let Some(timestamp) = &self.timestamp {
            push_text(&mut out, "timestamp", timestamp.as_str());
        }
        out.push('}');
        Payload::of_parts(&out)
    }
}

fn timestamp(fields: &Fields<'_>) -> Result<Option<Timestamp>, DecodeError> {
    let Some(text) = fields.string("timestamp")? else { return Ok(None) };
    let bad = |_| fields.bad("timestamp", Problem::Type { expected: Timestamp::FORM });
    Timestamp::new(&text).map(Some).map_err(bad)
}

fn read_request(payload: &Fields<'_>) -> Result<ChatMessage, DecodeError> {
    let (session_id, message) = (session_id(payload)?, text(payload, "message")?);
    Ok(ChatMessage::Request(ChatRequest { session_id, message, model: payload.id("model")? }))
}

fn read_response(payload: &Fields<'_>) -> Result<ChatMessage, DecodeError> {
    let (session_id, in_reply_to) = (session_id(payload)?, payload.id("inReplyTo")?);
    Ok(ChatMessage::Response(ChatResponse { session_id, in_reply_to, message: text(payload, "message")? }))
}

fn read_stream(payload: &Fields<'_>) -> Result<ChatMessage, DecodeError> {
    let (session_id, in_reply_to) = (session_id(payload)?, payload.id("inReplyTo")?);
    let delta = text(payload, "delta")?;
    let is_complete = payload.bool("isComplete")?.ok_or_else(|| payload.missing("isComplete"))?;
    let error = optional_text(payload, "error")?;
    let is_interrupted = payload.bool("interrupted")?.unwrap_or(false);
    let end = match (is_complete, error, is_interrupted) {
        (false, None, false) => None,
        (true, None, false) => Some(StreamEnd::Complete),
        (true, Some(error), false) => Some(StreamEnd::Failed { error }),
        (true, None, true) => Some(StreamEnd::Interrupted),
        // What goes on has not failed, and what was interrupted has not failed either.
        (true, Some(_), true) => return Err(payload.bad("interrupted", Problem::Contradiction)),
        (false, _, _) => return Err(payload.bad("isComplete", Problem::Contradiction)),
    };
    Ok(ChatMessage::Stream(ChatStream { session_id, in_reply_to, delta, end }))
}

fn read_session_update(payload: &Fields<'_>) -> Result<ChatMessage, DecodeError> {
    let update = payload.raw("update")?.unwrap_or("null");
    Ok(ChatMessage::SessionUpdate { session_id: session_id(payload)?, update: Payload::of_known_parts(update) })
}

fn read_connection_status(payload: &Fields<'_>) -> Result<ChatMessage, DecodeError> {
    let word = payload.string("status")?.ok_or_else(|| payload.missing("status"))?;
    let known = ConnectionState::ALL.into_iter().find(|state| state.name() == word);
    let status = known.ok_or_else(|| payload.bad("status", Problem::Range))?;
    let (latency, error) = (payload.millis("latency")?, optional_text(payload, "error")?);
    Ok(ChatMessage::ConnectionStatus(ConnectionStatus { status, latency, error }))
}

/// The payload of a message, whose first key is written with a comma before it, which is no part of it.
fn write_payload(message: &ChatMessage) -> String {
    let mut out = String::new();
    match message {
        ChatMessage::Request(ChatRequest { session_id, message, model }) => {
            push_session_id(&mut out, session_id);
            push_text(&mut out, "message", message);
            if let Some(model) = model {
                push_text(&mut out, "model", model.as_str());
            }
        }
        ChatMessage::Response(ChatResponse { session_id, in_reply_to, message }) => {
            push_session_id(&mut out, session_id);
            push_reply(&mut out, in_reply_to.as_ref());
            push_text(&mut out, "message", message);
        }
        ChatMessage::Stream(ChatStream { session_id, in_reply_to, delta, end }) => {
            push_session_id(&mut out, session_id);
            push_reply(&mut out, in_reply_to.as_ref());
            push_text(&mut out, "delta", delta);
            push_json(&mut out, "isComplete", if end.is_some() { "true" } else { "false" });
            match end {
                None | Some(StreamEnd::Complete) => {}
                Some(StreamEnd::Failed { error }) => push_text(&mut out, "error", error),
                Some(StreamEnd::Interrupted) => push_json(&mut out, "interrupted", "true"),
            }
        }
        ChatMessage::SessionUpdate { session_id, update } => {
            push_session_id(&mut out, session_id);
            push_json(&mut out, "update", update.as_str());
        }
        ChatMessage::ConnectionStatus(ConnectionStatus { status, latency, error }) => {
            push_text(&mut out, "status", status.name());
            if let Some(latency) = latency {
                let millis = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
                push_number(&mut out, "latency", millis.min(Seq::MAX.get()));
            }
            if let Some(error) = error {
                push_text(&mut out, "error", error);
            }
        }
        ChatMessage::Ping => {}
        ChatMessage::Pong { in_reply_to } => push_reply(&mut out, in_reply_to.as_ref()),
    }
    alloc::format!("{{{}}}", out.strip_prefix(',').unwrap_or_default())
}

fn push_reply(out: &mut String, in_reply_to: Option<&EnvelopeId>) {
    if let Some(id) = in_reply_to {
        push_text(out, "inReplyTo", id.as_str());
    }
}
