//! What became of messages that travel under a name, so that the same one again is answered as the first time.

use alloc::collections::BTreeMap;
use alloc::collections::VecDeque;
use alloc::string::String;

use crate::id::Code;
use crate::id::MessageId;

/// What the application decided about a message, for good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It accepted it.
    Accepted,
    /// It refused it.
    Rejected {
        /// Its code for why.
        code: Code,
        /// Its words for people.
        reason: String,
    },
    /// It took it and never decided.
    Abandoned,
}

/// The newest verdicts, by name. It outlives epochs: what is sent again after one has ended is recognised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Known {
    verdicts: BTreeMap<MessageId, Verdict>,
    /// The oldest first; exactly the names in `verdicts`.
    order: VecDeque<MessageId>,
}

impl Known {
    /// The most names that are remembered.
    pub const CAPACITY: usize = 256;

    /// Remembers a verdict. The oldest goes to make room; the first of a name stays.
    pub fn insert(&mut self, id: MessageId, verdict: Verdict) {
        if self.verdicts.contains_key(&id) {
            return;
        }
        if self.order.len() == Self::CAPACITY {
            let oldest = self.order.pop_front().expect("a full queue has a front");
            self.verdicts.remove(&oldest);
        }
        self.order.push_back(id);
        self.verdicts.insert(id, verdict);
    }

    /// What became of the message of this name, where that is remembered.
    #[must_use]
    pub fn get(&self, id: &MessageId) -> Option<&Verdict> {
        self.verdicts.get(id)
    }

    /// How many names are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether no name is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    fn id(number: usize) -> MessageId {
        format!("00000000-0000-4000-8000-{number:012}").parse().expect("a UUID")
    }

    #[test]
    fn the_first_verdict_stays_and_the_oldest_name_goes() {
        let mut known = Known::default();
        known.insert(id(0), Verdict::Accepted);
        known.insert(id(0), Verdict::Abandoned);
        assert_eq!(known.get(&id(0)), Some(&Verdict::Accepted));
        (1..=Known::CAPACITY).for_each(|number| known.insert(id(number), Verdict::Abandoned));
        assert_eq!((known.get(&id(0)), known.len()), (None, Known::CAPACITY));
        assert_eq!(known.get(&id(1)), Some(&Verdict::Abandoned));
    }
}
