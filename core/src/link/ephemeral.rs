//! Messages that are worth nothing when they are late: presence, progress, a cursor.
//!
//! No number, no outcome, no queue: the newest of a key replaces the one before it, and what does not fit replaces the
//! oldest of another key.

use alloc::collections::VecDeque;

use crate::id::Name;

/// The ephemeral messages of one direction that wait for the transport, or for the application.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ephemerals<P> {
    max_count: usize,
    max_bytes: usize,
    bytes: usize,
    waiting: VecDeque<(Name, usize, P)>,
}

impl<P> Ephemerals<P> {
    /// Room for as many keys, and as many bytes, as given.
    #[must_use]
    pub const fn new(max_count: usize, max_bytes: usize) -> Self {
        Self { max_count, max_bytes, bytes: 0, waiting: VecDeque::new() }
    }

    /// Puts a payload of `len` bytes behind the others, in place of an older one of the same key. The oldest go to make room.
    /// Returns how many were dropped unread.
    pub fn put(&mut self, key: Name, len: usize, payload: P) -> u64 {
        let mut dropped = 0;
        if let Some(index) = self.waiting.iter().position(|(other, _, _)| *other == key) {
            let (_, old, _) = self.waiting.remove(index).expect("the position was just found");
            self.bytes -= old;
            dropped += 1;
        }
        self.waiting.push_back((key, len, payload));
        self.bytes += len;
        while self.waiting.len() > self.max_count || (self.bytes > self.max_bytes && self.waiting.len() > 1) {
            _ = self.take();
            dropped += 1;
        }
        dropped
    }

    /// Takes the oldest.
    pub fn take(&mut self) -> Option<(Name, P)> {
        let (key, len, payload) = self.waiting.pop_front()?;
        self.bytes -= len;
        Some((key, payload))
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many bytes wait.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Drops what waits, and returns how many that were.
    pub fn clear(&mut self) -> u64 {
        let dropped = self.waiting.len() as u64;
        self.waiting.clear();
        self.bytes = 0;
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a short name")
    }

    #[test]
    fn the_newest_of_a_key_replaces_the_one_before() {
        let mut ephemerals = Ephemerals::new(4, 100);
        assert_eq!(ephemerals.put(name("a"), 1, 1), 0);
        assert_eq!(ephemerals.put(name("b"), 1, 2), 0);
        assert_eq!(ephemerals.put(name("a"), 1, 3), 1);
        assert_eq!(ephemerals.take(), Some((name("b"), 2)));
        assert_eq!(ephemerals.take(), Some((name("a"), 3)));
        assert_eq!(ephemerals.take(), None);
    }

    #[test]
    fn the_oldest_go_to_make_room_in_count_and_in_bytes() {
        let mut ephemerals = Ephemerals::new(2, 100);
        for (number, key) in ["a", "b", "c"].into_iter().enumerate() {
            ephemerals.put(name(key), 10, number);
        }
        assert_eq!(ephemerals.put(name("d"), 1_000, 3), 2, "one too large for the bytes stands alone");
        assert_eq!(ephemerals.take(), Some((name("d"), 3)));
        assert_eq!(ephemerals, Ephemerals::new(2, 100));
    }
}
