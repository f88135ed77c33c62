//! What a receiver reports about the messages of one epoch: its watermarks and the exceptions to them.

use crate::id::ReportNo;
use crate::id::Seq;
use crate::wire::Report;

/// The receiver's side of settlement.
///
/// With automatic acceptance every message is accepted the moment it is handed over, in order; then the watermark says it
/// all and there are no exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settlement {
    /// Every number up to it has come.
    received: Seq,
    /// Every number up to it is accepted. Never above `received`.
    settled: Seq,
}

impl Settlement {
    /// Every number up to this one has come.
    #[must_use]
    pub const fn received(&self) -> Seq {
        self.received
    }

    /// The highest number with a final disposition.
    #[must_use]
    pub const fn settled(&self) -> Seq {
        self.settled
    }

    /// The number of the newest change to the exceptions: none has been made.
    #[must_use]
    pub const fn no(&self) -> ReportNo {
        ReportNo::ZERO
    }

    /// The newest change that the sender is known to have taken in.
    #[must_use]
    pub const fn seen(&self) -> ReportNo {
        ReportNo::ZERO
    }

    /// The next number has come.
    pub const fn on_received(&mut self, seq: Seq) {
        debug_assert!(seq.get() == self.received.get() + 1, "messages come in order");
        self.received = seq;
    }

    /// The application has accepted the next number.
    pub const fn on_accepted(&mut self, seq: Seq) {
        debug_assert!(seq.get() == self.settled.get() + 1 && seq.get() <= self.received.get(), "accepted in order");
        self.settled = seq;
    }

    /// What goes on the wire.
    #[must_use]
    pub fn report(&self) -> Report {
        Report { received: self.received, settled: self.settled, ..Report::default() }
    }
}
