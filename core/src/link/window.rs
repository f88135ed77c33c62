//! Room: how many messages, and how many bytes of them, a queue may hold, and who may take the next place.
//!
//! One rule serves the outbox (what the application has queued) and the window (what is written and not final). Places are
//! shared between lanes: a lane may take one only while it holds fewer than are free, so that a lane that is stuck leaves
//! room for the others. With one lane in use that is half of the places.
//!
//! A message above half of the byte cap would never fit beside another one. It is *large*: it does not count against the
//! bytes, and only one large message may be in at a time. So a queue holds its cap plus at most one large message.

/// The bound of a queue: messages and bytes of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    /// The most messages.
    pub count: u32,
    /// The most bytes of their payloads, a large message not counted.
    pub bytes: u64,
}

/// What a queue, or one lane of it, holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Usage {
    count: u32,
    bytes: u64,
    large: u32,
}

impl Quota {
    /// Whether a message of `len` bytes is large.
    #[must_use]
    pub const fn is_large(&self, len: u64) -> bool {
        len > self.bytes / 2
    }

    /// Whether a queue that holds `all`, of which `lane` is the lane's share, has a place for `len` more bytes of that lane.
    #[must_use]
    pub const fn admits(&self, all: &Usage, lane: &Usage, len: u64) -> bool {
        let free = self.count.saturating_sub(all.count);
        if lane.count >= free {
            return false;
        }
        if self.is_large(len) {
            return all.large == 0;
        }
        let free = self.bytes.saturating_sub(all.bytes);
        len <= free && (lane.bytes < free || lane.bytes == 0)
    }

    /// Whether a queue that holds `all` stays within the bound with `len` more bytes, whoever shares it.
    #[must_use]
    pub const fn holds(&self, all: &Usage, len: u64) -> bool {
        let bytes_fit = if self.is_large(len) { all.large == 0 } else { all.bytes.saturating_add(len) <= self.bytes };
        all.count < self.count && bytes_fit
    }
}

impl Usage {
    /// Counts a message in.
    pub const fn add(&mut self, quota: &Quota, len: u64) {
        self.count += 1;
        if quota.is_large(len) {
            self.large += 1;
        } else {
            self.bytes += len;
        }
    }

    /// Counts a message out that was counted in under the same quota.
    pub const fn remove(&mut self, quota: &Quota, len: u64) {
        self.count = self.count.saturating_sub(1);
        if quota.is_large(len) {
            self.large = self.large.saturating_sub(1);
        } else {
            self.bytes = self.bytes.saturating_sub(len);
        }
    }

    /// How many messages.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// How many bytes of payload, large messages not counted.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(quota: &Quota, lens: &[u64]) -> Usage {
        let mut usage = Usage::default();
        for len in lens {
            usage.add(quota, *len);
        }
        usage
    }

    // S004-071, N12
    #[test]
    fn one_lane_gets_at_most_half_of_the_places() {
        let quota = Quota { count: 200, bytes: 1_000_000 };
        let mut usage = Usage::default();
        while quota.admits(&usage, &usage, 1) {
            usage.add(&quota, 1);
        }
        assert_eq!(usage.count(), 100);
    }

    #[test]
    fn held_lanes_leave_room_for_others() {
        let quota = Quota { count: 256, bytes: 1_000_000 };
        let mut all = Usage::default();
        let mut lanes_with_room = 0;
        loop {
            let mut lane = Usage::default();
            while quota.admits(&all, &lane, 1) {
                all.add(&quota, 1);
                lane.add(&quota, 1);
            }
            if lane.count() == 0 {
                break;
            }
            lanes_with_room += 1;
        }
        assert!(lanes_with_room >= 8, "{lanes_with_room} lanes found room in 256 places");
    }

    #[test]
    fn bytes_are_bounded_and_one_large_message_goes_beside_them() {
        let quota = Quota { count: 10, bytes: 100 };
        assert!(quota.admits(&Usage::default(), &Usage::default(), 50));
        let half = filled(&quota, &[50]);
        assert!(!quota.admits(&half, &half, 51 - 1), "the lane already holds as many bytes as are free");
        assert!(quota.admits(&half, &Usage::default(), 50), "another lane does not");
        assert!(quota.admits(&half, &half, 1_000), "a large one ignores the bytes");
        let with_large = filled(&quota, &[40, 1_000]);
        assert!(!quota.admits(&with_large, &with_large, 1_000));
        assert!(quota.admits(&with_large, &with_large, 40));
        assert!(quota.holds(&with_large, 60 - 15));
        assert!(!quota.holds(&filled(&quota, &[50, 50]), 1));
    }

    #[test]
    fn what_is_counted_in_is_counted_out() {
        let quota = Quota { count: 10, bytes: 100 };
        let mut usage = filled(&quota, &[10, 1_000, 20]);
        for len in [20, 10, 1_000] {
            usage.remove(&quota, len);
        }
        assert_eq!(usage, Usage::default());
    }
}
