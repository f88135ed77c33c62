//! What holds of a run as a whole.

use std::time::Duration;

use super::Checked;
use super::Oracle;

impl Oracle {
    /// Whoever should have done something was asleep for so long, or nobody woke it: everything may come later by as much.
    pub fn on_late(&mut self, by: Duration) {
        self.rules.slack = self.rules.slack.map(|slack| slack + by);
    }

    /// No client went from one epoch to another, and every message that has its outcome was delivered or refused, or was
    /// dropped because its own application had asked for that, because nobody ever decided about it, or because too much of
    /// what was sent for it was lost. That is so wherever nothing happened that may cost a message.
    ///
    /// # Errors
    ///
    /// What contradicts that.
    pub fn check_none_lost(&self) -> Checked {
        self.connections.check_one_epoch()?;
        self.messages.check_none_lost()
    }
}
