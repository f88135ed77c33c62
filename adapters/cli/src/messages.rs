//! What a chat client and an agent say to each other: a request, and the events of a session. Each is one JSON object, and keys
//! that are not known are skipped.
//!
//! | what | is | with |
//! |---|---|---|
//! | `chat/send` | a request | `message`, `messageId`, `epoch` |
//! | `chat_request` | an event: somebody has said something | `sessionId`, `messageId`, `number`, `message` |
//! | `message_start` | an event: the answer to it begins | `sessionId`, `messageId`, `number` |
//! | `chat_stream` | an event: the answer goes on, and ends where `isComplete` says so, as a failure where there is an `error` | `sessionId`, `messageId`, `number`, `delta`, `isComplete`, `error` |
//!
//! What is said and each answer to it are numbered from 1 within one life of a session. `messageId` is what the client calls what
//! was said, in the answer too.

use serde::Deserialize;
use serde::Serialize;

/// The method by which a client says something.
pub const SEND: &str = "chat/send";

/// The code with which [`SEND`] is refused where the session is not in the life that the request names. It had no effect.
pub const ANOTHER_LIFE: i64 = 1;
/// The code with which [`SEND`] is refused where as much waits as may. It had no effect.
pub const BUSY: i64 = 2;

/// The parameters of [`SEND`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Send {
    /// What is said.
    pub message: String,
    /// What the client calls it. The same id is taken once, however often it comes.
    pub message_id: String,
    /// The life of the session for which this is meant, where the client knows it: in another it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
}

/// The result of [`SEND`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// It will be answered.
    pub accepted: bool,
}

/// An event of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
pub enum ChatEvent {
    /// Somebody has said something.
    ChatRequest(ChatRequest),
    /// The answer to it begins.
    MessageStart(MessageStart),
    /// The answer goes on, or ends.
    ChatStream(ChatStream),
}

/// Somebody has said something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatRequest {
    /// The session.
    pub session_id: String,
    /// What the client calls it.
    pub message_id: String,
    /// Its number.
    pub number: u64,
    /// What was said.
    pub message: String,
}

/// An answer begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageStart {
    /// The session.
    pub session_id: String,
    /// What it answers.
    pub message_id: String,
    /// Its number.
    pub number: u64,
}

/// An answer goes on, or ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatStream {
    /// The session.
    pub session_id: String,
    /// What it answers.
    pub message_id: String,
    /// Its number.
    pub number: u64,
    /// More of its text.
    pub delta: String,
    /// Whether that was all. This is told once.
    pub is_complete: bool,
    /// Why it could not be completed, where it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A session up to some place: what was said and answered, as much of it as is kept, in the order in which it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transcript {
    /// The messages.
    pub messages: Vec<Said>,
}

/// Something that was said, or an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// Its number.
    pub number: u64,
    /// What it is, or what it answers.
    pub message_id: String,
    /// Whether it is an answer.
    pub is_answer: bool,
    /// Its text up to there.
    pub text: String,
    /// Whether that is all.
    pub is_complete: bool,
    /// Why it could not be completed, where it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
