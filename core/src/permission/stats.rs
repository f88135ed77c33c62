//! What the broker and the dialogs have counted.
//!
//! It decides nothing, so it takes no part in a hash; equality compares it.

use core::hash::Hash;
use core::hash::Hasher;

use crate::permission::event::AnswerError;

/// What a broker has counted since it was made. Each question that was asked is open, or counted in exactly one of `allowed`,
/// `denied`, `timed_out` and `cancelled`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStats {
    /// Questions that were asked.
    pub asked: u64,
    /// Those of them that somebody allowed.
    pub allowed: u64,
    /// Those of them that somebody denied.
    pub denied: u64,
    /// Those of them that nobody answered in time.
    pub timed_out: u64,
    /// Those of them that were taken back, or whose session ended.
    pub cancelled: u64,
    /// Answers that had been taken before: the same of the same connection, sent again.
    pub duplicates: u64,
    /// Answers that were not taken because another came first.
    pub beaten: u64,
    /// Answers that were not taken because the time was over.
    pub late: u64,
    /// Answers that were not taken because the question had been cancelled.
    pub withdrawn: u64,
    /// Answers that were not taken because whoever answered may not.
    pub foreign: u64,
    /// Answers that were not taken because nobody knows the question: never asked, long decided, or of a session that has ended.
    pub unknown: u64,
    /// Answers that made no sense.
    pub malformed: u64,
}

impl BrokerStats {
    /// Questions that have been decided, one way or another.
    #[must_use]
    pub const fn decided(&self) -> u64 {
        self.allowed + self.denied + self.timed_out + self.cancelled
    }

    pub(super) const fn count_refused(&mut self, error: &AnswerError) {
        let count = match error {
            AnswerError::UnknownRequest => &mut self.unknown,
            AnswerError::AlreadyResolved { .. } => &mut self.beaten,
            AnswerError::Expired => &mut self.late,
            AnswerError::Cancelled => &mut self.withdrawn,
            AnswerError::Forbidden => &mut self.foreign,
        };
        *count += 1;
    }
}

impl Hash for BrokerStats {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What dialogs have counted since they were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DialogsStats {
    /// Questions that were shown.
    pub shown: u64,
    /// Answers that somebody gave and that were sent, however often: one that is given again after it failed counts again.
    pub sent: u64,
    /// How often one of them was sent again by itself.
    pub retried: u64,
    /// Answers that the server has taken.
    pub confirmed: u64,
    /// Answers that were given up after the last retry. One that turns out to have been taken after all counts as confirmed too.
    pub failed: u64,
    /// Answers on their way whose dialog went in another way: another answer was first, of somebody else or an earlier one of this
    /// side, the time was over, nobody wanted to know any more, or nothing is known of the question.
    pub not_taken: u64,
}

impl DialogsStats {
    pub(super) const NONE: Self = Self { shown: 0, sent: 0, retried: 0, confirmed: 0, failed: 0, not_taken: 0 };
}

impl Hash for DialogsStats {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
