//! What a receipt proves of a written message.

use alloc::string::String;

use crate::id::ReportNo;
use crate::id::Seq;
use crate::outcome::NotDelivered;
use crate::outcome::Outcome;
use crate::outcome::Unknown;
use crate::wire::Disposition;
use crate::wire::Exception;
use crate::wire::Receipt;

/// What a list of exceptions says of a message.
pub(super) fn disposition_of(except: &[Exception], seq: Seq) -> Option<&Disposition> {
    let index = except.binary_search_by_key(&seq, |exception| exception.seq).ok()?;
    Some(&except[index].disposition)
}

/// What a receipt proves. `seen` is the newest change to the peer's report that this side took in, and `voided` why a message
/// was not delivered that the receipt lists as withdrawn.
pub(super) fn outcome_by(receipt: &Receipt, seen: ReportNo, seq: Seq, voided: NotDelivered) -> Outcome {
    let unknown = |reason| Outcome::Unknown { reason };
    let in_hands = receipt.handed.binary_search(&seq).is_ok();
    match disposition_of(&receipt.except, seq) {
        Some(Disposition::Rejected { code, reason }) => {
            Outcome::Rejected { code: code.clone(), reason: reason.clone() }
        }
        Some(Disposition::Voided) => Outcome::NotDelivered { reason: voided },
        Some(Disposition::Abandoned) => unknown(Unknown::Abandoned),
        Some(Disposition::Pending | Disposition::Deferred { .. }) | None if in_hands => unknown(Unknown::InHands),
        // Final entries that the sender has seen are dropped from the list, so a sender that has not seen them cannot tell
        // an accepted message from one of those.
        None if seq <= receipt.settled && seen < receipt.seen => unknown(Unknown::ReceiptUnclear),
        None if seq <= receipt.settled => Outcome::Delivered,
        Some(Disposition::Pending | Disposition::Deferred { .. }) | None if !receipt.is_final => {
            unknown(Unknown::ReceiptNotFinal)
        }
        Some(Disposition::Deferred { code, .. }) => Outcome::Rejected { code: code.clone(), reason: String::new() },
        Some(Disposition::Pending) | None => Outcome::NotDelivered { reason: NotDelivered::Forgotten },
    }
}

/// Whether the receipt, or its absence, leaves room for the message to be sent again where it may be: nobody knows that it is
/// or was in an application's hands.
pub(super) const fn leaves_open(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Unknown { reason } => !matches!(reason, Unknown::InHands | Unknown::Abandoned),
        Outcome::Delivered | Outcome::Rejected { .. } | Outcome::NotDelivered { .. } => false,
    }
}
