//! A map whose entries run out: what a registry remembers only for a while.
//!
//! It speaks the same verbs as every machine: [`ExpiringMap::poll_timeout`] says when it wants to be woken, and
//! [`ExpiringMap::take_expired`] hands out what ran out. Its cost does not grow with the number of idle entries.

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;

use core::ops::RangeBounds;

use crate::time::Instant;

/// A map from `K` to `V` in which every entry has a time to go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExpiringMap<K, V> {
    /// The entries, each with the time it runs out.
    entries: BTreeMap<K, (Instant, V)>,
    /// The same keys by time; always as many as there are entries.
    by_time: BTreeSet<(Instant, K)>,
}

impl<K, V> Default for ExpiringMap<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Clone, V> ExpiringMap<K, V> {
    /// Puts an entry that runs out at `expires`, and returns the value that stood under the same key.
    pub fn insert(&mut self, key: K, value: V, expires: Instant) -> Option<V> {
        let replaced = self.remove(&key);
        self.by_time.insert((expires, key.clone()));
        self.entries.insert(key, (expires, value));
        replaced
    }

    /// Takes an entry out before its time.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (expires, value) = self.entries.remove(key)?;
        self.by_time.remove(&(expires, key.clone()));
        Some(value)
    }

    /// Takes out one entry whose time has come, the earliest first.
    pub fn take_expired(&mut self, now: Instant) -> Option<(K, V)> {
        if self.by_time.first()?.0 > now {
            return None;
        }
        self.take_soonest()
    }

    /// Takes out the entry that would run out first: how a full table makes room.
    pub fn take_soonest(&mut self) -> Option<(K, V)> {
        let (_, key) = self.by_time.pop_first()?;
        let (_, value) = self.entries.remove(&key).expect("every key by time has an entry");
        Some((key, value))
    }

    /// An entry whose time has come, the earliest first. It stays.
    #[must_use]
    pub fn first_expired(&self, now: Instant) -> Option<(&K, &V)> {
        let (_, key) = self.by_time.first().filter(|(expires, _)| *expires <= now)?;
        self.get(key).map(|value| (key, value))
    }

    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// The value under `key`, to be changed in place.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// When the entry under `key` runs out.
    #[must_use]
    pub fn expires(&self, key: &K) -> Option<Instant> {
        self.entries.get(key).map(|(expires, _)| *expires)
    }

    /// The keys in a range, in order.
    pub fn keys_in(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = &K> {
        self.entries.range(range).map(|(key, _)| key)
    }

    /// The entries, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (_, value))| (key, value))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When the next entry runs out.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.by_time.first().map(|(expires, _)| *expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    #[test]
    fn entries_run_out_in_order_and_not_before_their_time() {
        let mut map = ExpiringMap::default();
        map.insert("b", 2, at(5));
        map.insert("a", 1, at(9));
        assert_eq!(map.poll_timeout(), Some(at(5)));
        assert_eq!(map.take_expired(at(4)), None);
        assert_eq!(map.take_expired(at(5)), Some(("b", 2)));
        assert_eq!(map.take_expired(at(8)), None);
        assert_eq!(map.take_expired(at(9)), Some(("a", 1)));
        assert_eq!(map.poll_timeout(), None);
        assert!(map.is_empty());
    }

    #[test]
    fn an_entry_put_again_runs_out_at_its_new_time_only() {
        let mut map = ExpiringMap::default();
        assert_eq!(map.insert("a", 1, at(5)), None);
        assert_eq!(map.insert("a", 2, at(7)), Some(1));
        assert_eq!(map.take_expired(at(6)), None);
        assert_eq!(map.take_expired(at(7)), Some(("a", 2)));
        assert_eq!(map, ExpiringMap::default());
    }

    #[test]
    fn a_removed_entry_leaves_no_timer() {
        let mut map = ExpiringMap::default();
        map.insert("a", 1, at(5));
        assert_eq!(map.remove(&"a"), Some(1));
        assert_eq!(map.remove(&"a"), None);
        assert_eq!(map, ExpiringMap::default());
    }
}
