//! What a server tells of the work in its sessions, and of itself.
//!
//! Four events belong to a session; three belong to none and say nothing about any message. What these three hold is the
//! application's affair, and is kept as it came.

use alloc::string::String;

use crate::id::SessionId;
use crate::messages::error::MessageError;
use crate::messages::text::begin;
use crate::messages::text::kind_of;
use crate::messages::text::optional_text;
use crate::messages::text::push_session_id;
use crate::messages::text::push_text;
use crate::messages::text::session_id;
use crate::messages::text::text;
use crate::wire::DecodeError;
use crate::wire::Fields;
use crate::wire::Payload;

/// Something that a server tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerEvent {
    /// Something begins to be said: the session works.
    MessageStart {
        /// In which session.
        session_id: SessionId,
    },
    /// What comes next of it.
    BlockDelta {
        /// In which session.
        session_id: SessionId,
        /// The text.
        delta: String,
    },
    /// The session is called this.
    SessionId {
        /// Its name.
        session_id: SessionId,
    },
    /// The session works no more, until something is said to it.
    SessionEnd {
        /// Which session.
        session_id: SessionId,
        /// What went wrong, in words for people, where something did.
        error: Option<String>,
    },
    /// Something that belongs to no session.
    Global(GlobalEvent),
}

/// Something that belongs to no session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GlobalEvent {
    topic: Topic,
    json: Payload,
}

/// What an event that belongs to no session is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// The tasks.
    TaskState,
    /// The loop that works through them.
    LoopStatus,
    /// The inbox.
    InboxUpdated,
}

impl Topic {
    const ALL: [Self; 3] = [Self::TaskState, Self::LoopStatus, Self::InboxUpdated];

    /// The type of the event on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TaskState => "task_state",
            Self::LoopStatus => "loop_status",
            Self::InboxUpdated => "inbox_updated",
        }
    }
}

const MESSAGE_START: &str = "message_start";
const BLOCK_DELTA: &str = "block_delta";
const SESSION_ID: &str = "session_id";
const SESSION_END: &str = "session_end";

impl ServerEvent {
    /// Reads an event.
    ///
    /// # Errors
    ///
    /// [`MessageError`]; [`MessageError::LocalOnly`] for what only a client tells itself.
    pub fn read(payload: &Payload) -> Result<Self, MessageError> {
        let fields = Fields::parse("a message", payload.as_str())?;
        Self::of(&kind_of(&fields)?, fields, payload)
    }

    /// Reads an event whose type is known.
    pub(super) fn of(kind: &str, fields: Fields<'_>, payload: &Payload) -> Result<Self, MessageError> {
        Ok(match kind {
            MESSAGE_START => Self::MessageStart { session_id: session_id(&fields.named(MESSAGE_START))? },
            BLOCK_DELTA => {
                let fields = fields.named(BLOCK_DELTA);
                Self::BlockDelta { session_id: session_id(&fields)?, delta: text(&fields, "delta")? }
            }
            SESSION_ID => Self::SessionId { session_id: session_id(&fields.named(SESSION_ID))? },
            SESSION_END => {
                let fields = fields.named(SESSION_END);
                Self::SessionEnd { session_id: session_id(&fields)?, error: optional_text(&fields, "error")? }
            }
            other => {
                let known = Topic::ALL.into_iter().find(|topic| topic.name() == other);
                let topic = known.ok_or(MessageError::UnknownType)?;
                Self::Global(GlobalEvent { topic, json: payload.clone() })
            }
        })
    }

    /// Writes the event. What is not there is left out.
    #[must_use]
    pub fn write(&self) -> Payload {
        let mut out = String::new();
        match self {
            Self::Global(event) => return event.json.clone(),
            Self::MessageStart { session_id } => {
                begin(&mut out, MESSAGE_START);
                push_session_id(&mut out, session_id);
            }
            Self::BlockDelta { session_id, delta } => {
                begin(&mut out, BLOCK_DELTA);
                push_session_id(&mut out, session_id);
                push_text(&mut out, "delta", delta);
            }
            Self::SessionId { session_id } => {
                begin(&mut out, SESSION_ID);
                push_session_id(&mut out, session_id);
            }
            Self::SessionEnd { session_id, error } => {
                begin(&mut out, SESSION_END);
                push_session_id(&mut out, session_id);
                if let Some(error) = error {
                    push_text(&mut out, "error", error);
                }
            }
        }
        out.push('}');
        Payload::of_known_parts(&out)
    }

    /// The session that it belongs to, where it belongs to one.
    #[must_use]
    pub const fn session_id(&self) -> Option<&SessionId> {
        match self {
            Self::MessageStart { session_id }
            | Self::BlockDelta { session_id, .. }
            | Self::SessionId { session_id }
            | Self::SessionEnd { session_id, .. } => Some(session_id),
            Self::Global(_) => None,
        }
    }
}

impl GlobalEvent {
    /// Takes what there is to tell: an object without a `type`, which is put before it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], where it is no such object.
    pub fn new(topic: Topic, details: &Payload) -> Result<Self, DecodeError> {
        let frame = topic.name();
        let is_object = details.as_str().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let inner = is_object.ok_or(DecodeError::NotAnObject { column: 1 })?.trim();
        let mut out = String::new();
        begin(&mut out, frame);
        if !inner.is_empty() {
            out.push(',');
            out.push_str(inner);
        }
        out.push('}');
        // Read as it will be by others: a second type, or too many keys, are found here.
        Fields::parse(frame, &out)?.raw("type")?;
        Ok(Self { topic, json: Payload::of_known_parts(&out) })
    }

    /// What it is about.
    #[must_use]
    pub const fn topic(&self) -> Topic {
        self.topic
    }

    /// All that it says, its type included.
    #[must_use]
    pub const fn json(&self) -> &Payload {
        &self.json
    }
}
