//! JSON-RPC 2.0 as text: what came, told apart, and what goes.
//!
//! What came is told apart by its keys, responses first: whoever serves a request may ask its sender something meanwhile, and
//! that answer must never be taken for a request.
//!
//! | `result` or `error` | `method` | `id` | it is |
//! |---|---|---|---|
//! | one | any | a string or number | a response; `method` is not looked at |
//! | both, neither of them `null` | any | a string or number | a response that makes no sense: the request fails |
//! | `error` | any | none that can be | a complaint about something unreadable |
//! | `result` | any | none that can be | nothing, and is not answered |
//! | none | a string | missing | a notification |
//! | none | a string | a string or number | a request |
//! | none | a string | anything else | invalid |
//! | none | missing, or no string | any | invalid |

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;

use core::fmt::Write as _;

use serde_json::value::RawValue;

use crate::rpc::error::ErrorObject;
use crate::rpc::error::MAX_METHOD;
use crate::rpc::id::RequestId;
use crate::wire::Fields;
use crate::wire::Payload;
use crate::wire::UncheckedPayload;
use crate::wire::push_string;

/// The longest id of the other side, in bytes of JSON.
pub(super) const MAX_ID: usize = 128;
/// The longest message of an error, in bytes.
const MAX_MESSAGE: usize = 4 * 1024;

/// What a message holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Text<'a> {
    One(Item<'a>),
    /// A batch, which is not empty.
    Batch(Vec<Item<'a>>),
    /// A batch of nothing, or of too much.
    BadBatch(&'static str),
    /// No JSON.
    Unreadable,
}

/// One thing that a message holds. Ids are the text of JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Request {
        id: &'a str,
        method: Cow<'a, str>,
        params: Option<&'a str>,
    },
    Notification {
        method: Cow<'a, str>,
        params: Option<&'a str>,
    },
    Response {
        id: &'a str,
        result: Result<&'a str, NoResult>,
    },
    Complaint(ErrorObject),
    /// A response to nothing. It is not answered: two sides that complain about responses never end.
    Stray(&'static str),
    Invalid {
        id: Option<&'a str>,
        problem: &'static str,
    },
}

/// What a response holds that is not a result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoResult {
    Error(ErrorObject),
    Bad(&'static str),
}

/// Reads a message. A batch has `max_batch` items at most.
pub(super) fn read(payload: &Payload, max_batch: usize) -> Text<'_> {
    let text = payload.as_str();
    if !text.starts_with('[') {
        return Text::One(item(text));
    }
    // A list of everything costs as much as the message has brackets, which its size bounds.
    match serde_json::from_str::<Vec<&RawValue>>(text) {
        Err(_) => Text::Unreadable,
        Ok(items) if items.is_empty() => Text::BadBatch("a batch of nothing"),
        Ok(items) if items.len() > max_batch => Text::BadBatch("a batch of too much"),
        Ok(items) => Text::Batch(items.into_iter().map(|raw| item(raw.get())).collect()),
    }
}

/// Checks that a message is JSON.
pub(super) fn check(payload: UncheckedPayload) -> Option<Payload> {
    payload.check().ok()
}

fn item(text: &str) -> Item<'_> {
    let invalid = |problem| Item::Invalid { id: None, problem };
    let Ok(fields) = Fields::parse("a request", text) else { return invalid("it is not an object") };
    let keys = ["jsonrpc", "id", "method", "params", "result", "error"].map(|key| fields.raw(key));
    let [Ok(version), Ok(raw_id), Ok(method), Ok(params), Ok(result), Ok(error)] = keys else {
        return invalid("a key stands in it twice");
    };
    let id = raw_id.filter(|id| is_id(id));
    let is_right = version == Some(r#""2.0""#);
    // Others write both, of which one is null.
    let (result, error) = match (result, error) {
        (Some(result), Some("null")) => (Some(result), None),
        (Some("null"), Some(error)) => (None, Some(error)),
        both => both,
    };
    if result.is_some() || error.is_some() {
        return response_item(id, is_right, result, error);
    }
    if !is_right {
        return Item::Invalid { id, problem: "\"jsonrpc\" is not \"2.0\"" };
    }
    let invalid = |problem| Item::Invalid { id, problem };
    if method.is_none() {
        return invalid("it has neither a method nor a result");
    }
    let Ok(Some(method)) = fields.string("method") else { return invalid("the method is no string") };
    if method.is_empty() || method.len() > MAX_METHOD {
        return invalid("the method's name is empty or too long");
    }
    if params.is_some_and(|params| !is_structure(params)) {
        return invalid("the parameters are neither an array nor an object");
    }
    match (raw_id, id) {
        (None, _) => Item::Notification { method, params },
        (Some(_), Some(id)) => Item::Request { id, method, params },
        (Some(_), None) => invalid("the id is neither a string nor a number, or too long"),
    }
}

/// What has a result or an error is a response, or nothing that could be answered.
fn response_item<'a>(id: Option<&'a str>, is_right: bool, result: Option<&'a str>, error: Option<&'a str>) -> Item<'a> {
    let answer = match (result, error.map(error_object)) {
        _ if !is_right => Err(NoResult::Bad("\"jsonrpc\" is not \"2.0\"")),
        (Some(result), None) => Ok(result),
        (None, Some(Ok(error))) => Err(NoResult::Error(error)),
        (None, Some(Err(problem))) => Err(NoResult::Bad(problem)),
        (Some(_), Some(_)) | (None, None) => Err(NoResult::Bad("it holds a result and an error")),
    };
    match (id, answer) {
        (Some(id), result) => Item::Response { id, result },
        (None, Err(NoResult::Error(error))) => Item::Complaint(error),
        (None, Ok(_) | Err(NoResult::Bad(_))) => Item::Stray("the response names no request"),
    }
}

/// Whether a JSON text is what an id may be.
fn is_id(text: &str) -> bool {
    text.len() <= MAX_ID && text.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit())
}

/// Whether a JSON text is an array or an object.
pub(super) fn is_structure(text: &str) -> bool {
    text.starts_with(['{', '['])
}

fn error_object(text: &str) -> Result<ErrorObject, &'static str> {
    let Ok(fields) = Fields::parse("an error", text) else { return Err("its error is not an object") };
    let code = fields.raw("code").ok().flatten().and_then(|code| code.parse().ok());
    let message = fields.string("message").ok().flatten();
    let (Some(code), Some(message), Ok(data)) = (code, message, fields.raw("data")) else {
        return Err("its error lacks a code or a message");
    };
    let end = (0..=MAX_MESSAGE.min(message.len())).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    let data = data.filter(|data| *data != "null").map(Payload::of_known_parts);
    Ok(ErrorObject { code, message: message[..end].to_string(), data })
}

/// The name of the notification by which a request is withdrawn, as in the Language Server Protocol 3.17.
pub(super) const CANCEL: &str = "$/cancelRequest";
/// The name of the notification that tells how far a request has come, as in the Language Server Protocol 3.17.
pub(super) const PROGRESS: &str = "$/progress";

/// Writes a request.
pub(super) fn write_request(out: &mut String, id: RequestId, method: &str, params: Option<&Payload>) {
    write!(out, r#"{{"jsonrpc":"2.0","id":"{id}","method":"#).expect("a string takes all");
    push_call(out, method, params.map(Payload::as_str));
}

/// Writes a notification.
pub(super) fn write_notification(out: &mut String, method: &str, params: Option<&str>) {
    out.push_str(r#"{"jsonrpc":"2.0","method":"#);
    push_call(out, method, params);
}

fn push_call(out: &mut String, method: &str, params: Option<&str>) {
    push_string(out, method);
    if let Some(params) = params {
        out.push_str(r#","params":"#);
        out.push_str(params);
    }
    out.push('}');
}

/// The notification that withdraws a request.
pub(super) fn cancel(id: RequestId) -> Payload {
    let mut text = String::new();
    write_notification(&mut text, CANCEL, Some(&alloc::format!(r#"{{"id":"{id}"}}"#)));
    Payload::of_known_parts(&text)
}

/// The notification that tells how far a request of the other side has come.
pub(super) fn progress(id: &str, value: &Payload) -> Payload {
    let mut text = String::new();
    write_notification(&mut text, PROGRESS, Some(&alloc::format!(r#"{{"token":{id},"value":{}}}"#, value.as_str())));
    Payload::of_known_parts(&text)
}

/// A response. An id that is not known is `null`.
pub(super) fn response(id: Option<&str>, result: Result<&Payload, &ErrorObject>) -> String {
    let mut out = String::from(r#"{"jsonrpc":"2.0","id":"#);
    out.push_str(id.unwrap_or("null"));
    match result {
        Ok(result) => {
            out.push_str(r#","result":"#);
            out.push_str(result.as_str());
        }
        Err(error) => {
            write!(out, r#","error":{{"code":{},"message":"#, error.code).expect("a string takes all");
            push_string(&mut out, &error.message);
            if let Some(data) = &error.data {
                out.push_str(r#","data":"#);
                out.push_str(data.as_str());
            }
            out.push('}');
        }
    }
    out.push('}');
    out
}

/// A batch of texts.
pub(super) fn batch(texts: &[String]) -> Payload {
    Payload::of_known_parts(&alloc::format!("[{}]", texts.join(",")))
}
