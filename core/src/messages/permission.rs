//! The messages about permissions.
//!
//! The id of a request is its `id` there, and `requestId` in all that is said about it.

use alloc::string::String;

use core::fmt;
use core::fmt::Write as _;
use core::time::Duration;

use crate::id::IdError;
use crate::id::Name;
use crate::messages::error::MessageError;
use crate::messages::text::begin;
use crate::messages::text::kind_of;
use crate::messages::text::push_json;
use crate::messages::text::push_text;
use crate::wire::DecodeError;
use crate::wire::Fields;
use crate::wire::Payload;
use crate::wire::Problem;

/// Names a question to people: 1 to [`Name::MAX_LEN`] bytes of text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermissionId(Name);

impl PermissionId {
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

    pub(crate) fn read(fields: &Fields<'_>, key: &'static str) -> Result<Self, DecodeError> {
        let text = fields.string(key)?.ok_or_else(|| fields.missing(key))?;
        Self::new(&text).map_err(|error| fields.bad(key, Problem::Id(error)))
    }
}

impl fmt::Display for PermissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for PermissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A program asks whether it may do something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PermissionRequest {
    /// Its name.
    pub id: PermissionId,
    /// What it wants to use.
    pub tool_name: String,
    /// With what: any JSON.
    pub input: Payload,
    /// What else is to be known about it: any JSON, `null` where there is nothing.
    pub context: Payload,
    /// When it asked, as it puts it.
    pub timestamp: String,
    /// How long an answer is waited for from now on, in whole milliseconds, where that is said.
    pub remaining: Option<Duration>,
}

impl PermissionRequest {
    /// Asks with nothing else to be known about it, and at no time.
    #[must_use]
    pub fn new(id: PermissionId, tool_name: impl Into<String>, input: Payload) -> Self {
        let (context, timestamp) = (Payload::of_known_parts("null"), String::new());
        Self { id, tool_name: tool_name.into(), input, context, timestamp, remaining: None }
    }
}

/// What somebody chose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// It may.
    Allow {
        /// With another input than it asked for.
        updated_input: Option<Payload>,
    },
    /// It may not.
    Deny,
}

impl Choice {
    /// The word for it on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Allow { .. } => ALLOW,
            Self::Deny => DENY,
        }
    }

    /// Whether it may.
    #[must_use]
    pub const fn is_allow(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

/// Somebody answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PermissionResponse {
    /// What.
    pub request_id: PermissionId,
    /// How.
    pub choice: Choice,
}

impl PermissionResponse {
    /// Reads what it says from an object, whatever the object's type is.
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, MessageError> {
        let request_id = PermissionId::read(fields, "requestId")?;
        let updated_input = fields.raw("updatedInput")?.filter(|raw| *raw != "null").map(Payload::of_known_parts);
        let choice = match (decision(fields)?, updated_input) {
            (true, updated_input) => Choice::Allow { updated_input },
            (false, None) => Choice::Deny,
            (false, Some(_)) => return Err(MessageError::InputWithoutAllowance),
        };
        Ok(Self { request_id, choice })
    }
}

/// Any of the messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PermissionMessage {
    /// A program asks.
    Request(PermissionRequest),
    /// Somebody answers.
    Response(PermissionResponse),
    /// Nobody has answered in time, which is a refusal.
    Timeout {
        /// What.
        request_id: PermissionId,
        /// What was to be used.
        tool_name: String,
    },
    /// It was decided.
    Resolved {
        /// What.
        request_id: PermissionId,
        /// Whether it was allowed.
        is_allowed: bool,
        /// Who decided, as the server calls them, where somebody did.
        by: Option<String>,
    },
    /// Whoever asked does not want to know any more.
    Cancelled {
        /// What.
        request_id: PermissionId,
    },
    /// How many questions are open.
    QueueStatus {
        /// Those that nobody looks at.
        pending: u64,
        /// Those that somebody looks at.
        processing: u64,
    },
}

const REQUEST: &str = "permission-request";
const RESPONSE: &str = "permission-response";
const TIMEOUT: &str = "permission-timeout";
const RESOLVED: &str = "permission-resolved";
const CANCELLED: &str = "permission-cancelled";
const QUEUE_STATUS: &str = "permission-queue-status";
const ALLOW: &str = "allow";
const DENY: &str = "deny";
/// The longest name of a tool, time, and name of who decided, in bytes.
pub const MAX_TEXT: usize = 256;

impl PermissionMessage {
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
        Ok(match kind {
            REQUEST => Self::Request(read_request(fields.named(REQUEST))?),
            RESPONSE => Self::Response(PermissionResponse::read(&fields.named(RESPONSE))?),
            TIMEOUT => {
                let fields = fields.named(TIMEOUT);
                let (request_id, tool_name) = (PermissionId::read(&fields, "requestId")?, text(&fields, "toolName")?);
                Self::Timeout { request_id, tool_name }
            }
            RESOLVED => {
                let fields = fields.named(RESOLVED);
                let is_allowed = decision(&fields)?;
                Self::Resolved {
                    request_id: PermissionId::read(&fields, "requestId")?,
                    is_allowed,
                    by: fields.short("by", MAX_TEXT)?,
                }
            }
            CANCELLED => Self::Cancelled { request_id: PermissionId::read(&fields.named(CANCELLED), "requestId")? },
            QUEUE_STATUS => {
                let fields = fields.named(QUEUE_STATUS);
                let count = |key| fields.number(key, Some)?.ok_or_else(|| fields.missing(key));
                Self::QueueStatus { pending: count("pending")?, processing: count("processing")? }
            }
            _ => return Err(MessageError::UnknownType),
        })
    }

    /// Writes the message. What is not there is left out.
    #[must_use]
    pub fn write(&self) -> Payload {
        let mut out = String::new();
        match self {
            Self::Request(request) => {
                let PermissionRequest { id, tool_name, input, context, timestamp, remaining } = request;
                begin(&mut out, REQUEST);
                push_text(&mut out, "id", id.as_str());
                push_text(&mut out, "toolName", tool_name);
                push_json(&mut out, "input", input.as_str());
                push_json(&mut out, "context", context.as_str());
                push_text(&mut out, "timestamp", timestamp);
                if let Some(remaining) = remaining {
                    write!(out, ",\"remaining\":{}", remaining.as_millis()).expect("a string takes all");
                }
            }
            Self::Response(PermissionResponse { request_id, choice }) => {
                begin(&mut out, RESPONSE);
                push_text(&mut out, "requestId", request_id.as_str());
                push_text(&mut out, "decision", choice.name());
                if let Choice::Allow { updated_input: Some(input) } = choice {
                    push_json(&mut out, "updatedInput", input.as_str());
                }
            }
            Self::Timeout { request_id, tool_name } => {
                begin(&mut out, TIMEOUT);
                push_text(&mut out, "requestId", request_id.as_str());
                push_text(&mut out, "toolName", tool_name);
            }
            Self::Resolved { request_id, is_allowed, by } => {
                begin(&mut out, RESOLVED);
                push_text(&mut out, "requestId", request_id.as_str());
                push_text(&mut out, "decision", if *is_allowed { ALLOW } else { DENY });
                if let Some(by) = by {
                    push_text(&mut out, "by", by);
                }
            }
            Self::Cancelled { request_id } => {
                begin(&mut out, CANCELLED);
                push_text(&mut out, "requestId", request_id.as_str());
            }
            Self::QueueStatus { pending, processing } => {
                begin(&mut out, QUEUE_STATUS);
                write!(out, ",\"pending\":{pending},\"processing\":{processing}").expect("a string takes all");
            }
        }
        out.push('}');
        Payload::of_known_parts(&out)
    }
}

fn read_request(fields: Fields<'_>) -> Result<PermissionRequest, MessageError> {
    let json = |key| fields.raw(key).map(|raw| raw.map(Payload::of_known_parts));
    Ok(PermissionRequest {
        id: PermissionId::read(&fields, "id")?,
        tool_name: text(&fields, "toolName")?,
        input: json("input")?.ok_or_else(|| fields.missing("input"))?,
        context: json("context")?.unwrap_or_else(|| Payload::of_known_parts("null")),
        timestamp: text(&fields, "timestamp")?,
        remaining: fields.number("remaining", |millis| Some(Duration::from_millis(millis)))?,
    })
}

/// Whether something is allowed: only the one word for it says so.
fn decision(fields: &Fields<'_>) -> Result<bool, DecodeError> {
    match fields.string("decision")?.as_deref() {
        Some(ALLOW) => Ok(true),
        Some(DENY) => Ok(false),
        Some(_) => Err(fields.bad("decision", Problem::Range)),
        None => Err(fields.missing("decision")),
    }
}

fn text(fields: &Fields<'_>, key: &'static str) -> Result<String, DecodeError> {
    fields.short(key, MAX_TEXT)?.ok_or_else(|| fields.missing(key))
}
