//! What runs did, in numbers.

use std::fmt;

/// What some runs did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Events.
    pub steps: u64,
    /// Texts that were written.
    pub texts: u64,
    /// Messages sent and handed over; outcomes delivered, rejected, not delivered, unknown.
    pub messages: [u64; 6],
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.texts += other.texts;
        self.messages.iter_mut().zip(other.messages).for_each(|(sum, count)| *sum += count);
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [sent, handed, delivered, rejected, not_delivered, unknown] = self.messages;
        writeln!(f, "events           {}", self.steps)?;
        writeln!(f, "texts written    {}", self.texts)?;
        writeln!(f, "messages sent    {sent}, handed over {handed}")?;
        writeln!(
            f,
            "outcomes         delivered {delivered}, rejected {rejected}, not delivered {not_delivered}, unknown {unknown}"
        )
    }
}
