//! What became of a message: exactly one [`Outcome`] for every reliable send, emitted once, never revised.
//!
//! The four outcomes differ in what is *known*. Nothing that is not known is guessed into one of the other three: it is
//! [`Outcome::Unknown`], with the reason why nobody can tell.

use alloc::string::String;

use core::fmt;

use crate::id::Code;
use crate::id::MessageId;
use crate::time::Instant;

/// The one terminal result of a reliable send.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "a message that was not delivered must not be shown as delivered"]
pub enum Outcome {
    /// The peer's application accepted it.
    Delivered,
    /// The peer's application refused it; it says that it had no effect.
    Rejected {
        /// The application's code for why.
        code: Code,
        /// The application's words for people; may be empty.
        reason: String,
    },
    /// It certainly was never handed over to the peer's application.
    NotDelivered {
        /// Why not.
        reason: NotDelivered,
    },
    /// It was, or may have been, written, and nobody can tell.
    Unknown {
        /// Why nobody can tell.
        reason: Unknown,
    },
}

impl Outcome {
    /// Whether the peer's application accepted the message.
    #[must_use]
    pub const fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::Rejected { code, reason } if reason.is_empty() => write!(f, "rejected ({code})"),
            Self::Rejected { code, reason } => write!(f, "rejected ({code}: {reason})"),
            Self::NotDelivered { reason } => write!(f, "not delivered: {reason}"),
            Self::Unknown { reason } => write!(f, "unknown: {reason}"),
        }
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)+ })
            }
        }
    };
}

reasons! {
    /// Why a message certainly was never handed over.
    NotDelivered {
        /// This side closed the connection before it was written.
        Closed = "this side closed the connection first",
        /// The peer ended the connection and says that it was never handed over.
        Ended = "the peer ended the connection first",
        /// The peer's state ended before its application had taken it, which a final receipt proves.
        Forgotten = "the peer dropped it before its application took it",
        /// No transport could be had in as many attempts as the policy allows.
        Unreachable = "the peer could not be reached",
        /// The connection's time without a transport ran out before it was written.
        Expired = "the connection expired first",
        /// The peer takes no message of this size.
        TooLarge = "the peer takes no message of this size",
        /// It was withdrawn before it was handed over.
        Voided = "it was withdrawn first",
        /// The application cancelled it before it was handed over.
        Cancelled = "it was cancelled first",
        /// Its deadline passed before it was handed over.
        Deadline = "its deadline passed first",
        /// It grew too old before it was handed over.
        TooOld = "it grew too old first",
        /// It was lost on its way as often as it may be.
        Attempts = "it was lost on its way too often",
        /// The peer could not be reached, and it was not to wait.
        Unavailable = "the peer could not be reached at the time",
        /// Another instance took the connection over before it was written, and this one stopped.
        Superseded = "another instance took the connection over",
        /// The server lost the connection's state before it was written.
        Shutdown = "the server stopped first",
    }
}

reasons! {
    /// Why nobody can tell what became of a message.
    Unknown {
        /// The peer's state ended and it kept no receipt.
        NoReceipt = "the peer's state ended and left no receipt",
        /// The receipt was recovered after a crash; it does not prove what was handed over.
        ReceiptNotFinal = "the receipt is not final",
        /// This side was restored from an older state than the receipt assumes.
        ReceiptUnclear = "the receipt assumes a newer state of this side",
        /// The peer's application had taken it and had not decided when the peer's state ended.
        InHands = "it was in the application's hands when the peer's state ended",
        /// It had been written when this side's state ended, and its settlement had not come back.
        EpochEnded = "its epoch ended before it was settled",
        /// Another instance took the connection over.
        Superseded = "another instance took the connection over",
        /// This side was restored from an older state; a later one may have sent it.
        Restored = "this side was restored from an older state",
        /// It was sent again after an epoch ended, and its first sending may have been accepted.
        Resent = "it was sent again, and may have been accepted the first time",
        /// It was withdrawn, and the peer did not say in time whether it could be.
        VoidUnanswered = "it was withdrawn, and the peer did not answer in time",
        /// The peer's application took it and never decided.
        Abandoned = "the peer's application never decided",
        /// This side closed the connection before the settlement came.
        Closed = "this side closed the connection first",
        /// The peer ended the connection without saying what became of it.
        Ended = "the peer ended the connection first",
        /// It had been written, and then no transport could be had in as many attempts as the policy allows.
        Unreachable = "the peer could not be reached again",
        /// It had been written, and then the connection's time without a transport ran out.
        Expired = "the connection expired first",
        /// It had been written, and then the server lost the connection's state.
        Shutdown = "the server stopped first",
    }
}

/// A send that did not work, for now or for good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SendFailed {
    /// The message, as `send` named it.
    pub id: MessageId,
    /// For now or for good.
    pub failure: Failure,
}

impl SendFailed {
    /// Whether it will be tried again without anybody doing anything.
    #[must_use]
    pub const fn will_retry(&self) -> bool {
        match self.failure {
            Failure::ForNow { .. } => true,
            Failure::ForGood(_) => false,
        }
    }

    /// The outcome, where this is the terminal failure.
    #[must_use]
    pub const fn outcome(&self) -> Option<&Outcome> {
        match &self.failure {
            Failure::ForNow { .. } => None,
            Failure::ForGood(outcome) => Some(outcome),
        }
    }
}

/// The two kinds of failure.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// This attempt failed; another follows.
    ForNow {
        /// Which attempt it was, from 1.
        attempt: u32,
        /// When the next one is due.
        retry_at: Instant,
        /// The peer's code for why.
        reason: Code,
    },
    /// The terminal failure, with the outcome: one of the three that are not [`Outcome::Delivered`].
    ForGood(Outcome),
}
