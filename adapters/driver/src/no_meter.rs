//! In place of the measures where the program was built without them.

use reattach_core::connection::Stats;
use reattach_core::outcome::Outcome;
use reattach_core::permission::BrokerStats;
use reattach_core::permission::DialogsStats;

/// Measures nothing.
pub(crate) struct Meter;

impl Meter {
    pub(crate) const fn new(_: &'static str) -> Self {
        Self
    }

    #[expect(clippy::needless_pass_by_ref_mut, clippy::unused_self, reason = "it stands for one that measures")]
    pub(crate) fn measure(&mut self, _: impl FnOnce() -> Stats, _: bool) {}

    #[expect(clippy::unused_self, reason = "it stands for one that counts")]
    pub(crate) const fn count_outcome(&self, _: &Outcome) {}
}

/// Measures nothing.
pub(crate) struct QuestionsMeter;

impl QuestionsMeter {
    pub(crate) const fn new() -> Self {
        Self
    }

    #[expect(clippy::needless_pass_by_ref_mut, clippy::unused_self, reason = "it stands for one that measures")]
    pub(crate) const fn measure(&mut self, _: &BrokerStats, _: usize) {}
}

/// Measures nothing.
#[derive(Debug)]
pub(crate) struct DialogsMeter;

impl DialogsMeter {
    pub(crate) const fn new() -> Self {
        Self
    }

    #[expect(clippy::needless_pass_by_ref_mut, clippy::unused_self, reason = "it stands for one that measures")]
    pub(crate) const fn measure(&mut self, _: &DialogsStats) {}
}
