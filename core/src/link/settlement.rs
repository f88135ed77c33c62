//! What a receiver reports about the messages of one epoch: its watermarks and the exceptions to them.

use alloc::collections::VecDeque;
use alloc::string::String;

use crate::id::ReportNo;
use crate::id::Seq;
use crate::wire::Disposition;
use crate::wire::Exception;
use crate::wire::Report;

/// The receiver's side of settlement.
///
/// `settled` is the highest number with a final disposition. All up to it are accepted but for those that are listed: what is
/// not final yet although a later one is, what was deferred, and what ended in another way. A final entry is dropped once the
/// sender is known to have taken it in, so the list stays as short as the inbox keeps it ([`Settlement::MAX_LISTED`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settlement {
    /// Every number up to it has come.
    received: Seq,
    /// The highest number with a final disposition. Never above `received`.
    settled: Seq,
    /// How many changes there were to the list.
    no: ReportNo,
    /// How many of them the sender is known to have taken in. Never above `no`.
    seen: ReportNo,
    /// By rising number.
    listed: VecDeque<Listed>,
    /// How many of them are final.
    finals: usize,
    /// Bytes of words for people in the list.
    words: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Listed {
    seq: Seq,
    /// The number of the change that made it what it is.
    no: ReportNo,
    disposition: Disposition,
}

impl Settlement {
    /// The most entries in the list, so that a report always fits into a frame.
    pub const MAX_LISTED: usize = 512;

    /// The most bytes of words for people in the list; beyond it words are left out. Escaped they are six times as long.
    const MAX_WORDS: usize = 4 * 1024;

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

    /// The number of the newest change to the list.
    #[must_use]
    pub const fn no(&self) -> ReportNo {
        self.no
    }

    /// The newest change that the sender is known to have taken in.
    #[must_use]
    pub const fn seen(&self) -> ReportNo {
        self.seen
    }

    /// How many final entries the sender may not have taken in. Each holds its place in the window.
    #[must_use]
    pub const fn finals(&self) -> usize {
        self.finals
    }

    /// Every number up to `seq` has come.
    pub const fn on_received(&mut self, seq: Seq) {
        debug_assert!(seq.get() >= self.received.get(), "a watermark only rises");
        self.received = seq;
    }

    /// The sender has taken in the list up to the change `seen`, which must not be above [`Settlement::no`].
    pub fn on_seen(&mut self, seen: ReportNo) {
        debug_assert!(seen <= self.no, "checked by the caller");
        if seen <= self.seen {
            return;
        }
        self.seen = seen;
        let (finals, words) = (&mut self.finals, &mut self.words);
        self.listed.retain(|entry| {
            let is_known = entry.disposition.is_final() && entry.no <= seen;
            if is_known {
                *finals -= 1;
                *words -= words_of(&entry.disposition);
            }
            !is_known
        });
    }

    /// A message is accepted. `open` are the numbers below it that are not final, rising.
    pub fn on_accepted(&mut self, seq: Seq, open: impl Iterator<Item = Seq>) {
        if self.unlist(seq) {
            self.no = self.no.next();
        }
        self.raise(seq, open);
    }

    /// A message ends in another way than by acceptance. `open` are the numbers below it that are not final, rising.
    pub fn on_ended(&mut self, seq: Seq, mut disposition: Disposition, open: impl Iterator<Item = Seq>) {
        debug_assert!(disposition.is_final(), "it ends");
        if let Disposition::Rejected { reason, .. } = &mut disposition {
            if self.words + reason.len() > Self::MAX_WORDS {
                *reason = String::new();
            }
        }
        self.list(seq, disposition);
        self.raise(seq, open);
    }

    /// A message is put off.
    pub fn on_deferred(&mut self, seq: Seq, disposition: Disposition) {
        debug_assert!(!disposition.is_final(), "it does not end");
        self.list(seq, disposition);
    }

    /// What goes on the wire.
    #[must_use]
    pub fn report(&self) -> Report {
        let except =
            self.listed.iter().map(|entry| Exception { seq: entry.seq, disposition: entry.disposition.clone() });
        Report { received: self.received, settled: self.settled, no: self.no, except: except.collect() }
    }

    /// The watermark rises to a final number; what is open below it is listed from here on.
    fn raise(&mut self, seq: Seq, open: impl Iterator<Item = Seq>) {
        if seq <= self.settled {
            return;
        }
        let before = core::mem::replace(&mut self.settled, seq);
        for open in open.filter(|open| *open > before) {
            if self.place(open).is_err() {
                self.list(open, Disposition::Pending);
            }
        }
    }

    fn list(&mut self, seq: Seq, disposition: Disposition) {
        self.unlist(seq);
        self.no = self.no.next();
        self.finals += usize::from(disposition.is_final());
        self.words += words_of(&disposition);
        let place = self.place(seq).expect_err("it was just taken out");
        self.listed.insert(place, Listed { seq, no: self.no, disposition });
    }

    fn unlist(&mut self, seq: Seq) -> bool {
        let Ok(place) = self.place(seq) else { return false };
        let entry = self.listed.remove(place).expect("the place was just found");
        debug_assert!(!entry.disposition.is_final(), "what is final does not change");
        true
    }

    fn place(&self, seq: Seq) -> Result<usize, usize> {
        self.listed.binary_search_by_key(&seq, |entry| entry.seq)
    }
}

fn words_of(disposition: &Disposition) -> usize {
    match disposition {
        Disposition::Rejected { reason, .. } => reason.len(),
        Disposition::Pending | Disposition::Deferred { .. } | Disposition::Voided | Disposition::Abandoned => 0,
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use alloc::vec::Vec;

    use super::*;

    fn seq(number: u64) -> Seq {
        Seq::new(number).expect("a small number")
    }

    fn no(number: u64) -> ReportNo {
        ReportNo::new(number).expect("a small number")
    }

    fn open(numbers: &[u64]) -> impl Iterator<Item = Seq> {
        numbers.iter().map(|number| seq(*number))
    }

    fn rejected(words: &str) -> Disposition {
        Disposition::Rejected { code: "no".parse().expect("a code"), reason: words.into() }
    }

    fn listed(settlement: &Settlement) -> Vec<(u64, Disposition)> {
        settlement.report().except.into_iter().map(|entry| (entry.seq.get(), entry.disposition)).collect()
    }

    #[test]
    fn what_is_open_below_the_watermark_is_listed_until_it_is_accepted() {
        let mut settlement = Settlement::default();
        settlement.on_received(seq(3));
        settlement.on_accepted(seq(3), open(&[1, 2]));
        assert_eq!(settlement.settled(), seq(3));
        assert_eq!(listed(&settlement), [(1, Disposition::Pending), (2, Disposition::Pending)]);
        settlement.on_accepted(seq(1), open(&[]));
        assert_eq!(listed(&settlement), [(2, Disposition::Pending)]);
        assert_eq!(settlement.no(), no(3), "each change has a number, a message that leaves the list too");
    }

    #[test]
    fn a_final_entry_is_kept_until_its_sender_has_seen_it() {
        let mut settlement = Settlement::default();
        settlement.on_received(seq(2));
        settlement.on_ended(seq(1), rejected("why"), open(&[]));
        settlement.on_ended(seq(2), Disposition::Voided, open(&[]));
        assert_eq!(settlement.finals(), 2);
        settlement.on_seen(no(1));
        assert_eq!(listed(&settlement), [(2, Disposition::Voided)]);
        settlement.on_seen(no(2));
        assert_eq!((listed(&settlement), settlement.finals()), (Vec::new(), 0));
    }

    #[test]
    fn a_deferred_entry_is_not_dropped_whatever_was_seen() {
        let mut settlement = Settlement::default();
        settlement.on_received(seq(1));
        let code: crate::id::Code = "busy".parse().expect("a code");
        let deferred = Disposition::Deferred { times: 1, retry_after: Duration::ZERO, code };
        settlement.on_deferred(seq(1), deferred.clone());
        settlement.on_seen(no(1));
        assert_eq!(listed(&settlement), [(1, deferred)]);
        assert_eq!(settlement.settled(), Seq::ZERO);
        settlement.on_accepted(seq(1), open(&[]));
        assert_eq!((listed(&settlement), settlement.settled()), (Vec::new(), seq(1)));
    }

    #[test]
    fn words_for_people_are_bounded_and_codes_are_kept() {
        let mut settlement = Settlement::default();
        settlement.on_received(seq(100));
        for number in 1..=100 {
            settlement.on_ended(seq(number), rejected(&"w".repeat(256)), open(&[]));
        }
        let words: usize = listed(&settlement).iter().map(|(_, entry)| words_of(entry)).sum();
        assert_eq!(words, Settlement::MAX_WORDS);
        assert_eq!(listed(&settlement).len(), 100);
    }
}
