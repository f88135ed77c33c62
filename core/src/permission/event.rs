//! What comes out of the broker and of the dialogs, and what callers do wrong.

use alloc::string::String;

use crate::id::ConnectionId;
use crate::id::SessionId;
use crate::messages::Choice;
use crate::messages::PermissionId;
use crate::messages::PermissionMessage;
use crate::messages::PermissionResponse;
use crate::wire::Payload;

/// What the broker wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "what is not done is waited for"]
pub enum BrokerOutput {
    /// Tell everybody who watches the session.
    Publish {
        /// The session.
        session: SessionId,
        /// What to tell.
        message: PermissionMessage,
    },
    /// Tell whoever asked. This is told once for each question.
    Decided {
        /// Which question.
        id: PermissionId,
        /// What was decided.
        verdict: Verdict,
    },
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may.
    Allow {
        /// With this input: its own, or another.
        input: Payload,
        /// Who allowed it.
        by: ConnectionId,
    },
    /// It may not.
    Deny(DenyReason),
}

/// Why something may not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DenyReason {
    /// Somebody said so.
    Denied {
        /// Who.
        by: ConnectionId,
    },
    /// Nobody answered in time.
    TimedOut,
    /// Whoever asked does not want to know any more, or the session has ended.
    Cancelled,
}

/// An answer was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Answered {
    /// Whether it had been before: the same answer of the same connection, sent again.
    pub is_duplicate: bool,
}

/// Why an answer was not taken. What had been decided stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// Nobody asked that, or it is long ago.
    #[error("there is no such question")]
    UnknownRequest,
    /// Another answer came first.
    #[error("another answer came first: {}", if *.is_allowed { "allow" } else { "deny" })]
    AlreadyResolved {
        /// Whether it was allowed.
        is_allowed: bool,
        /// Who answered.
        by: ConnectionId,
    },
    /// It came too late: nobody had answered in time, which is a refusal.
    #[error("it came too late")]
    Expired,
    /// Whoever asked does not want to know any more.
    #[error("nobody wants to know any more")]
    Cancelled,
    /// Who answers may not.
    #[error("this is not yours to answer")]
    Forbidden,
}

/// The most levels of arrays and objects in what a question asks about: the response in which it is shown takes four more.
pub const MAX_DEPTH: usize = crate::wire::MAX_DEPTH - 4;

/// What the caller of a command of the broker did wrong. The command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PermissionMisuse {
    /// A question of this name is open, or was not long ago.
    #[error("a question of this name is open, or was not long ago")]
    IdInUse,
    /// As many questions as may are open in this session.
    #[error("{limit} questions are open in this session, which is as many as may")]
    TooMany {
        /// The bound.
        limit: usize,
    },
    /// The open questions of this session would be too much to be shown to somebody.
    #[error("the open questions of this session would have more than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: u64,
    },
    /// Its input or context is nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {} levels", MAX_DEPTH)]
    TooDeep,
    /// The name of the tool or the time is longer than [`MAX_TEXT`](crate::messages::MAX_TEXT).
    #[error("the name of the tool or the time has more than {} bytes", crate::messages::MAX_TEXT)]
    TextTooLong,
    /// There is no such session.
    #[error("there is no such session")]
    UnknownSession,
    /// No question of this name is open.
    #[error("no question of this name is open")]
    NotOpen,
}

/// What the dialogs want done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "what is not done is waited for"]
pub enum DialogOutput {
    /// Show something else for this dialog.
    Changed {
        /// Which.
        id: PermissionId,
    },
    /// Send an answer, and say with [`Dialogs::handle_answered`](crate::permission::Dialogs::handle_answered) what came back.
    Send {
        /// The answer.
        response: PermissionResponse,
        /// How often it was sent before.
        retry: u32,
    },
    /// The dialog is no longer there.
    Removed {
        /// Which.
        id: PermissionId,
        /// Why.
        why: Removed,
    },
}

/// Why a dialog is no longer there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Removed {
    /// The server has taken this answer.
    Confirmed(Choice),
    /// It was decided by another answer than this dialog's last.
    Decided {
        /// Whether it was allowed.
        is_allowed: bool,
        /// Who decided, as the server calls them, where it says so.
        by: Option<String>,
    },
    /// Nobody answered in time.
    TimedOut,
    /// Whoever asked does not want to know any more.
    Cancelled,
    /// The server knows nothing of it, or nothing comes from it any more: what became of an answer that was on its way is not known.
    Forgotten,
    /// The server says that this is not theirs to answer.
    Forbidden,
}

/// Why nothing confirmed an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnswerFailed {
    /// The broker did not take it.
    Refused(AnswerError),
    /// It did not get there, or nobody can tell.
    NotConfirmed,
}

/// What somebody who answers did wrong. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DialogMisuse {
    /// There is no such dialog.
    #[error("there is no such dialog")]
    UnknownInteraction,
    /// The updated input is nested deeper than [`MAX_DEPTH`], so that no message can carry it.
    #[error("nested deeper than {} levels", MAX_DEPTH)]
    TooDeep,
    /// Its answer is on its way.
    #[error("its answer is on its way")]
    AlreadySending,
}
