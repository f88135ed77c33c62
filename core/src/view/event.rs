//! What people see.

use alloc::vec::Vec;

use core::fmt;

use crate::chat::Ended;
use crate::id::MessageId;
use crate::id::SessionId;
use crate::outcome::Outcome;

/// What people see of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionView<'a> {
    /// Whether it works. Never together with an error.
    pub running: bool,
    /// What did not work, or not yet, of what was sent in it: the oldest first.
    pub send_errors: Vec<SendError>,
    /// How many errors are kept back while it works.
    pub hidden_errors: usize,
    /// How many questions are shown.
    pub dialogs: usize,
    /// What is said, or was said last, as far as it has come.
    pub text: &'a str,
    /// How that has ended, where it has.
    pub ended: Option<&'a Ended>,
}

/// A message did not go, or not yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SendError {
    /// Where it was sent.
    pub session: SessionId,
    /// Which. What was not even accepted has no id.
    pub message: Option<MessageId>,
    /// What is wrong. Its text is for people.
    pub problem: SendProblem,
}

/// What is wrong with a message. The text is for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendProblem {
    /// There was no connection when it was sent.
    NotConnected,
    /// It failed, and is sent again by itself.
    Retrying,
    /// The other side has it, and has not decided about it.
    Undecided,
    /// Nothing was heard of it for long.
    NoAnswer,
    /// Too many are waiting, and it was not accepted.
    NotAccepted,
    /// It failed for good. It can be sent again, as a new message.
    Failed(Outcome),
}

impl SendProblem {
    /// Whether nothing more happens by itself.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::NotConnected | Self::Retrying | Self::Undecided | Self::NoAnswer => false,
            Self::NotAccepted | Self::Failed(_) => true,
        }
    }
}

impl fmt::Display for SendProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected => f.write_str("Not connected. Message will be sent when reconnected."),
            Self::Retrying => f.write_str("Message delivery delayed \u{2014} retrying..."),
            Self::Undecided => f.write_str("Message arrived and waits to be taken."),
            Self::NoAnswer => f.write_str("Nothing was heard of the message yet. It is not lost."),
            Self::NotAccepted => f.write_str("Message not accepted: too many are waiting. Send it again later."),
            Self::Failed(Outcome::Delivered) => f.write_str("Message delivered."),
            Self::Failed(Outcome::Rejected { code, reason }) if reason.is_empty() => {
                write!(f, "Message refused ({code}).")
            }
            Self::Failed(Outcome::Rejected { reason, .. }) => write!(f, "Message refused: {reason}"),
            Self::Failed(Outcome::NotDelivered { reason }) => {
                write!(f, "Message not delivered: {reason}. Send it again.")
            }
            Self::Failed(Outcome::Unknown { reason }) => {
                write!(f, "Message may have been delivered: {reason}. Look before you send it again.")
            }
        }
    }
}
