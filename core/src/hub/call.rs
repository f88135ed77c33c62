//! What a client asks of a hub: requests, as they stand on the wire, and what comes back.

use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;

use core::fmt::Write as _;

use crate::id::ConnectionId;
use crate::id::Name;
use crate::id::SessionId;
use crate::messages::MessageError;
use crate::messages::PermissionId;
use crate::messages::PermissionMessage;
use crate::messages::PermissionRequest;
use crate::messages::PermissionResponse;
use crate::permission::AnswerError;
use crate::rpc::ErrorObject;
use crate::session::Cursor;
use crate::session::Generation;
use crate::session::Offset;
use crate::session::SessionMisuse;
use crate::session::WatchFrom;
use crate::wire::DecodeError;
use crate::wire::Fields;
use crate::wire::Payload;
use crate::wire::Problem;
use crate::wire::push_string;

/// One request to a hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Call {
    /// Watch a session. Watching again begins anew.
    Watch {
        /// Which session.
        session: SessionId,
        /// From where on.
        from: WatchFrom,
        /// What the client calls this watch.
        tag: Name,
    },
    /// Watch a session no more.
    Unwatch {
        /// Which session.
        session: SessionId,
    },
    /// Own a session, whoever did before.
    Own {
        /// Which session.
        session: SessionId,
    },
    /// Own a session no more.
    Release {
        /// Which session.
        session: SessionId,
        /// As which owner.
        generation: Generation,
    },
    /// Go to sleep: the end of the connection does not detach the session for a while.
    Suspend {
        /// Which session.
        session: SessionId,
        /// As which owner.
        generation: Generation,
    },
    /// Answer a question.
    Answer(PermissionResponse),
    /// Look at a question, or no longer.
    Look {
        /// Which question.
        request_id: PermissionId,
        /// Whether somebody looks at it.
        is_looking: bool,
    },
}

const WATCH: &str = "session/watch";
const UNWATCH: &str = "session/unwatch";
const OWN: &str = "session/own";
const RELEASE: &str = "session/release";
const SUSPEND: &str = "session/suspend";
const ANSWER: &str = "permission/answer";
const LOOK: &str = "permission/look";

impl Call {
    /// Whether a method is one of a hub's.
    #[must_use]
    pub fn is_method(method: &str) -> bool {
        matches!(method, WATCH | UNWATCH | OWN | RELEASE | SUSPEND | ANSWER | LOOK)
    }

    /// Whether a method answers a question.
    pub(super) fn is_answer(method: &str) -> bool {
        method == ANSWER
    }

    /// Reads a request. `None` where the method is not a hub's.
    #[must_use]
    pub fn read(method: &str, params: Option<&Payload>) -> Option<Result<Self, MessageError>> {
        if !Self::is_method(method) {
            return None;
        }
        let params = params.map_or("{}", Payload::as_str);
        Some(Fields::parse("the parameters", params).map_err(MessageError::from).and_then(|fields| {
            Ok(match method {
                WATCH => Self::Watch { session: session(&fields)?, from: read_from(&fields)?, tag: tag(&fields)? },
                UNWATCH => Self::Unwatch { session: session(&fields)? },
                OWN => Self::Own { session: session(&fields)? },
                RELEASE => Self::Release { session: session(&fields)?, generation: generation(&fields)? },
                SUSPEND => Self::Suspend { session: session(&fields)?, generation: generation(&fields)? },
                ANSWER => Self::Answer(PermissionResponse::read(&fields)?),
                _ => {
                    let is_looking = fields.bool("looking")?.ok_or_else(|| fields.missing("looking"))?;
                    Self::Look { request_id: PermissionId::read(&fields, "requestId")?, is_looking }
                }
            })
        }))
    }

    /// The method.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Watch { .. } => WATCH,
            Self::Unwatch { .. } => UNWATCH,
            Self::Own { .. } => OWN,
            Self::Release { .. } => RELEASE,
            Self::Suspend { .. } => SUSPEND,
            Self::Answer(_) => ANSWER,
            Self::Look { .. } => LOOK,
        }
    }

    /// The parameters.
    #[must_use]
    pub fn params(&self) -> Payload {
        let mut out = String::from("{");
        match self {
            Self::Watch { session, from, tag } => {
                push_text(&mut out, "session", session.as_str());
                match from {
                    WatchFrom::Start => {}
                    WatchFrom::Now => out.push_str(",\"from\":\"now\""),
                    WatchFrom::After(cursor) => {
                        out.push_str(",\"from\":");
                        push_cursor(&mut out, *cursor);
                    }
                }
                out.push(',');
                push_text(&mut out, "tag", tag.as_str());
            }
            Self::Unwatch { session } | Self::Own { session } => push_text(&mut out, "session", session.as_str()),
            Self::Release { session, generation } | Self::Suspend { session, generation } => {
                push_text(&mut out, "session", session.as_str());
                write!(out, ",\"generation\":{}", generation.get()).expect("a string takes all");
            }
            Self::Answer(response) => return PermissionMessage::Response(response.clone()).write(),
            Self::Look { request_id, is_looking } => {
                push_text(&mut out, "requestId", request_id.as_str());
                write!(out, ",\"looking\":{is_looking}").expect("a string takes all");
            }
        }
        out.push('}');
        Payload::of_known_parts(&out)
    }
}

/// What comes back for [`Call::Watch`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Watched {
    /// After what the session is told in its lane, behind the message with the tag; `None` where that is not kept any more, and
    /// nothing is watched.
    pub after: Option<Cursor>,
    /// Where the session is now: up to there its events have happened before.
    pub end: Cursor,
    /// The questions that are open now, with the time that is left.
    pub permissions: Vec<PermissionRequest>,
    /// How many of them nobody looks at.
    pub pending: u64,
    /// How many of them somebody looks at.
    pub processing: u64,
}

impl Watched {
    /// As the result of the request.
    #[must_use]
    pub fn write(&self) -> Payload {
        let mut out = String::from("{");
        if let Some(after) = self.after {
            out.push_str("\"after\":");
            push_cursor(&mut out, after);
            out.push(',');
        }
        out.push_str("\"end\":");
        push_cursor(&mut out, self.end);
        out.push_str(",\"permissions\":[");
        for (index, request) in self.permissions.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(PermissionMessage::Request(request.clone()).write().as_str());
        }
        write!(out, "],\"pending\":{},\"processing\":{}}}", self.pending, self.processing).expect("a string takes all");
        Payload::of_known_parts(&out)
    }

    /// Reads the result of the request.
    ///
    /// # Errors
    ///
    /// [`MessageError`].
    pub fn read(result: &Payload) -> Result<Self, MessageError> {
        let fields = Fields::parse("the result", result.as_str())?;
        let mut permissions = Vec::new();
        for text in fields.array("permissions", Ok)? {
            let message = PermissionMessage::read(&Payload::of_known_parts(text))?;
            let PermissionMessage::Request(request) = message else {
                return Err(fields.bad("permissions", Problem::Range).into());
            };
            permissions.push(request);
        }
        let count = |key| fields.number(key, Some).map(Option::unwrap_or_default);
        Ok(Self {
            after: read_cursor(&fields, "after")?,
            end: read_cursor(&fields, "end")?.ok_or_else(|| fields.missing("end"))?,
            permissions,
            pending: count("pending")?,
            processing: count("processing")?,
        })
    }
}

/// The number of an owner, as the result of [`Call::Own`].
#[must_use]
pub fn write_generation(generation: Generation) -> Payload {
    Payload::of_known_parts(&alloc::format!("{{\"generation\":{}}}", generation.get()))
}

/// Reads the result of [`Call::Own`].
///
/// # Errors
///
/// [`DecodeError`].
pub fn read_generation(result: &Payload) -> Result<Generation, DecodeError> {
    generation(&Fields::parse("the result", result.as_str())?)
}

/// The codes of the errors that a hub answers with.
mod code {
    pub(super) const UNKNOWN_SESSION: i64 = -32_010;
    pub(super) const FORBIDDEN: i64 = -32_011;
    pub(super) const REPLACED: i64 = -32_012;
    pub(super) const TOO_MANY: i64 = -32_013;
    pub(super) const UNKNOWN_CONNECTION: i64 = -32_014;
    pub(super) const UNKNOWN_REQUEST: i64 = -32_020;
    pub(super) const ALREADY_RESOLVED: i64 = -32_021;
    pub(super) const EXPIRED: i64 = -32_022;
    pub(super) const CANCELLED: i64 = -32_023;
}

/// How a hub says that something of a session cannot be.
pub(super) fn session_error(misuse: SessionMisuse) -> ErrorObject {
    let code = match misuse {
        SessionMisuse::UnknownSession => code::UNKNOWN_SESSION,
        SessionMisuse::Forbidden => code::FORBIDDEN,
        SessionMisuse::Replaced => code::REPLACED,
        SessionMisuse::UnknownConnection => code::UNKNOWN_CONNECTION,
        SessionMisuse::TooMany { .. } => code::TOO_MANY,
        SessionMisuse::SessionExists | SessionMisuse::TooLarge { .. } | SessionMisuse::TooDeep => {
            ErrorObject::INTERNAL_ERROR
        }
    };
    ErrorObject::new(code, misuse.to_string())
}

/// Whether an error says that there is no such session.
pub(super) const fn is_unknown_session(error: &ErrorObject) -> bool {
    error.code == code::UNKNOWN_SESSION
}

/// How a hub says that it did not take an answer.
pub(super) fn answer_error(error: AnswerError) -> ErrorObject {
    let object = |code| ErrorObject::new(code, error.to_string());
    match error {
        AnswerError::UnknownRequest => object(code::UNKNOWN_REQUEST),
        AnswerError::AlreadyResolved { is_allowed, by } => {
            let data = alloc::format!("{{\"allowed\":{is_allowed},\"by\":\"{by}\"}}");
            object(code::ALREADY_RESOLVED).with_data(Payload::of_known_parts(&data))
        }
        AnswerError::Expired => object(code::EXPIRED),
        AnswerError::Cancelled => object(code::CANCELLED),
        AnswerError::Forbidden => object(code::FORBIDDEN),
    }
}

/// Reads why a hub did not take an answer. `None` where it says something else.
pub(super) fn read_answer_error(error: &ErrorObject) -> Option<AnswerError> {
    Some(match error.code {
        code::UNKNOWN_REQUEST => AnswerError::UnknownRequest,
        code::EXPIRED => AnswerError::Expired,
        code::CANCELLED => AnswerError::Cancelled,
        code::FORBIDDEN => AnswerError::Forbidden,
        code::ALREADY_RESOLVED => {
            let fields = Fields::parse("the error", error.data.as_ref()?.as_str()).ok()?;
            let by: ConnectionId = fields.required_id("by").ok()?;
            AnswerError::AlreadyResolved { is_allowed: fields.bool("allowed").ok()??, by }
        }
        _ => return None,
    })
}

fn push_text(out: &mut String, key: &str, text: &str) {
    write!(out, "\"{key}\":").expect("a string takes all");
    push_string(out, text);
}

fn push_cursor(out: &mut String, cursor: Cursor) {
    write!(out, "{{\"epoch\":\"{}\",\"offset\":{}}}", cursor.epoch, cursor.offset).expect("a string takes all");
}

fn read_cursor(fields: &Fields<'_>, key: &'static str) -> Result<Option<Cursor>, DecodeError> {
    let cursor = fields.object(key);
    if let Err(DecodeError::NotAnObject { .. }) = cursor {
        return Err(fields.bad(key, Problem::Type { expected: "a cursor" }));
    }
    let Some(fields) = cursor? else { return Ok(None) };
    let offset = fields.number("offset", Offset::new)?.ok_or_else(|| fields.missing("offset"))?;
    Ok(Some(Cursor { epoch: fields.required_id("epoch")?, offset }))
}

fn read_from(fields: &Fields<'_>) -> Result<WatchFrom, DecodeError> {
    match fields.string("from") {
        Ok(Some(word)) if word == "now" => Ok(WatchFrom::Now),
        Ok(None) => Ok(WatchFrom::Start),
        Ok(Some(_)) | Err(_) => Ok(read_cursor(fields, "from")?.map_or(WatchFrom::Start, WatchFrom::After)),
    }
}

fn session(fields: &Fields<'_>) -> Result<SessionId, DecodeError> {
    let text = fields.string("session")?.ok_or_else(|| fields.missing("session"))?;
    SessionId::new(&text).map_err(|error| fields.bad("session", Problem::Id(error)))
}

fn tag(fields: &Fields<'_>) -> Result<Name, DecodeError> {
    let text = fields.string("tag")?.ok_or_else(|| fields.missing("tag"))?;
    Name::new(&text).map_err(|error| fields.bad("tag", Problem::Id(error)))
}

fn generation(fields: &Fields<'_>) -> Result<Generation, DecodeError> {
    fields.number("generation", |number| Some(Generation::new(number)))?.ok_or_else(|| fields.missing("generation"))
}
