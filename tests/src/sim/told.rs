//! What applications are told of the messages that they send, and why.

use reattach_core::error::ApiMisuse;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;

/// What an application was told of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    Delivered,
    Rejected,
    NotDelivered(NotDelivered),
    Unknown(Unknown),
    Refused(&'static str),
}

impl Told {
    pub(super) fn outcome(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Delivered => Self::Delivered,
            Outcome::Rejected { .. } => Self::Rejected,
            Outcome::NotDelivered { reason } => Self::NotDelivered(*reason),
            Outcome::Unknown { reason } => Self::Unknown(*reason),
        }
    }

    /// A send was refused.
    pub(super) const fn refusal(error: ApiMisuse) -> Self {
        Self::Refused(match error {
            ApiMisuse::QueueFull => "refused QueueFull",
            ApiMisuse::TooLarge { .. } => "refused TooLarge",
            ApiMisuse::Ended => "refused Ended",
            ApiMisuse::UnknownConnection => "refused UnknownConnection",
            ApiMisuse::IdInUse
            | ApiMisuse::NotAttached
            | ApiMisuse::UnknownMessage
            | ApiMisuse::Undecidable
            | ApiMisuse::ReservedCode(_)
            | _ => "refused otherwise",
        })
    }

    pub(super) fn words(self) -> String {
        match self {
            Self::Delivered => String::from("told Delivered"),
            Self::Rejected => String::from("told Rejected"),
            Self::NotDelivered(reason) => format!("told NotDelivered {reason:?}"),
            Self::Unknown(reason) => format!("told Unknown {reason:?}"),
            Self::Refused(what) => format!("told {what}"),
        }
    }
}

/// What applications can be told of a message that they send.
pub(super) const TOLD: [&str; 36] = [
    "Delivered",
    "Rejected",
    "NotDelivered Attempts",
    "NotDelivered Cancelled",
    "NotDelivered Closed",
    "NotDelivered Deadline",
    "NotDelivered Ended",
    "NotDelivered Expired",
    "NotDelivered Forgotten",
    "NotDelivered Shutdown",
    "NotDelivered Superseded",
    "NotDelivered TooLarge",
    "NotDelivered TooOld",
    "NotDelivered Unavailable",
    "NotDelivered Unreachable",
    "NotDelivered Voided",
    "Unknown Abandoned",
    "Unknown Closed",
    "Unknown Ended",
    "Unknown EpochEnded",
    "Unknown Expired",
    "Unknown InHands",
    "Unknown NoReceipt",
    "Unknown ReceiptNotFinal",
    "Unknown ReceiptUnclear",
    "Unknown Resent",
    "Unknown Restored",
    "Unknown Shutdown",
    "Unknown Superseded",
    "Unknown Unreachable",
    "Unknown VoidUnanswered",
    "refused Ended",
    "refused QueueFull",
    "refused TooLarge",
    "refused UnknownConnection",
    "refused otherwise",
];
