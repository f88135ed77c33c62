//! What was written in this epoch and is not final, and where it stands on this transport.

use alloc::collections::VecDeque;

use core::time::Duration;

use crate::id::ReportNo;
use crate::id::Seq;
use crate::link::outbox::entry::Written;
use crate::time::Instant;
use crate::wire::Report;

/// The messages that are on their way, or with the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flight {
    /// By rising number; numbers may be missing between.
    pub(super) written: VecDeque<Written>,
    /// The highest number written in this epoch.
    pub(super) sent: Seq,
    /// The highest number that needs no write on this transport. Never above `sent`.
    pub(super) cursor: Seq,
    /// The highest number whose bytes have left on this transport, or need not. Never above `cursor`.
    pub(super) left: Seq,
    /// How many of what is written the peer is known to be putting off.
    pub(super) put_off: usize,
    /// Withdrawals to write on this transport.
    pub(super) voids: VecDeque<Seq>,
    /// The peer's watermarks, merged.
    pub(super) received: Seq,
    pub(super) settled: Seq,
    /// The newest change to the peer's report that has been taken in.
    pub(super) seen: ReportNo,
    /// Everything up to it that is not final was told to be delayed.
    pub(super) delayed: Seq,
    /// The peer's `received` when the transport was attached, and the message that its end may have swallowed.
    pub(super) at_attach: Seq,
    pub(super) swallowed: Option<Seq>,
}

impl Flight {
    /// The highest number written in this epoch.
    #[must_use]
    pub const fn sent(&self) -> Seq {
        self.sent
    }

    /// The highest number that was written on this transport, or need not be.
    #[must_use]
    pub const fn cursor(&self) -> Seq {
        self.cursor
    }

    /// The peer's watermarks, received and settled.
    #[must_use]
    pub const fn taken(&self) -> (Seq, Seq) {
        (self.received, self.settled)
    }

    /// The newest change to the peer's report that has been taken in.
    #[must_use]
    pub const fn seen(&self) -> ReportNo {
        self.seen
    }

    /// A question that left after everything up to `asked` is answered, and the report with the answer taken in: what has not
    /// been received is lost, and is to be written again. Returns how many messages that are not withdrawn were lost.
    pub(super) fn lose(&mut self, asked: Seq) -> usize {
        let start = self.written.partition_point(|written| written.seq <= self.received);
        let mut lost = 0;
        for written in self.written.iter().take_while(|written| written.seq <= asked) {
            // A withdrawal has no number by which its loss could be seen. It may be repeated, and is short.
            // Where its message has not come either, whatever stands above it waits for it, whoever was told what.
            if written.void.is_some() && (!written.is_told || written.seq > self.received) {
                if !self.voids.contains(&written.seq) {
                    self.voids.push_back(written.seq);
                }
            } else if written.void.is_none() && written.seq > self.received {
                lost += 1;
            }
        }
        if lost > 0 {
            self.written.iter_mut().skip(start).for_each(|written| written.left_at = None);
            self.cursor = self.received;
            self.left = self.left.min(self.received);
        }
        lost
    }

    /// The next message that the peer has had for `patience` and longer, and was asked about.
    pub(super) fn next_delayed(&mut self, asked: Seq, patience: Duration, now: Instant) -> Option<&Written> {
        let first = self.written.partition_point(|written| written.seq <= self.delayed);
        let written = self.written.get(first).filter(|written| written.seq <= asked.min(self.received))?;
        if written.left_at? + patience > now {
            return None;
        }
        self.delayed = written.seq;
        Some(written)
    }

    /// All bytes up to offset `offset` of the transport have left.
    pub(super) fn on_left(&mut self, offset: u64, now: Instant) {
        let mut index = self.written.partition_point(|written| written.seq <= self.left);
        while let Some(written) = self.written.get_mut(index) {
            if written.seq > self.cursor || written.end > offset {
                break;
            }
            written.left_at = Some(now);
            self.left = written.seq;
            index += 1;
        }
    }

    /// The oldest message that is not settled and not known to be delayed, and when it had left, if it has.
    pub(super) fn first_open(&self) -> Option<(Seq, Option<Instant>)> {
        let first = self.written.partition_point(|written| written.seq <= self.delayed);
        self.written.get(first).map(|written| (written.seq, written.left_at))
    }

    /// The lowest number that is written and not final, or the next one to be written.
    #[must_use]
    pub fn base(&self) -> Seq {
        self.written.front().map_or_else(|| self.sent.next(), |written| written.seq)
    }

    /// Whether a report is one that the peer of this very state can make: no watermark below what it has said before, none
    /// beyond what was sent.
    #[must_use]
    pub fn is_continued_by(&self, report: &Report) -> Continuity {
        if report.received > self.sent || report.settled > self.sent {
            Continuity::PeerIsAhead
        } else if report.received < self.received || report.settled < self.settled || report.no < self.seen {
            Continuity::PeerIsBehind
        } else {
            Continuity::Continued
        }
    }

    /// The lowest written message that the peer has not received and that is not withdrawn.
    pub(super) fn lowest_unreceived(&self) -> Option<&Written> {
        let start = self.written.partition_point(|written| written.seq <= self.received);
        self.written.iter().skip(start).find(|written| written.void.is_none())
    }

    /// The next message to write again on this transport.
    pub(super) fn next_again(&self) -> Option<usize> {
        if self.cursor >= self.sent {
            return None;
        }
        let start = self.written.partition_point(|written| written.seq <= self.cursor);
        let after = self.written.iter().skip(start).position(|written| written.void.is_none())?;
        Some(start + after)
    }
}

/// How a peer's report relates to what this side knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Continuity {
    /// The report continues what was known.
    Continued,
    /// The peer runs from an older state than one that was known before.
    PeerIsBehind,
    /// The peer knows more than this side ever did: this side runs from an older state.
    PeerIsAhead,
}
