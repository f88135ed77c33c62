//! What a chat client and an agent say to each other, beside what the core has words for: the events of a session are its
//! [envelopes](Envelope), and keys that are not known are skipped.
//!
//! | what | is | with |
//! |---|---|---|
//! | `chat/send` | a request | `message`, `messageId`, `epoch` |
//! | `chat_request` | an event: somebody has said something, and the envelope's `id` is what the client calls it | `sessionId`, `message` |
//! | `chat_stream` | an event: the answer to it begins with an empty `delta`, goes on, and ends | `sessionId`, `inReplyTo`, `delta`, `isComplete`, `error`, `interrupted` |
//! | the snapshot | all of it up to some place | `first`, `messages` |
//!
//! What is said and each answer to it are numbered, in the order in which they begin, from 1 within one life of a session.

use reattach_tokio::core::id::Epoch;
use reattach_tokio::core::messages::Envelope;
use reattach_tokio::core::messages::EnvelopeId;
use reattach_tokio::core::wire::Payload;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde_json::value::RawValue;

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
    pub message_id: EnvelopeId,
    /// The life of the session for which this is meant, where the client knows it: in another it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

/// The result of [`SEND`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// It will be answered.
    pub accepted: bool,
}

/// A session up to some place: what was said and answered, as much of it as is kept, in the order in which it began. An answer is
/// one message with all of its text, and with its end where it has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transcript {
    /// The number of the first message.
    pub first: u64,
    /// The messages.
    pub messages: Vec<Written>,
}

/// An envelope within other JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written(pub Envelope);

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let payload = self.0.write().map_err(S::Error::custom)?;
        RawValue::from_string(payload.as_str().to_owned()).map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let payload = Payload::from_json(raw.get()).map_err(D::Error::custom)?;
        Envelope::read(&payload).map(Self).map_err(D::Error::custom)
    }
}
