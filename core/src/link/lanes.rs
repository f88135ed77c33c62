//! Who holds how much of a quota, lane by lane.

use alloc::collections::BTreeMap;

use crate::id::Lane;
use crate::link::window::Quota;
use crate::link::window::Usage;

/// The use of a quota, in all and by lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shares {
    all: Usage,
    /// Lanes that hold something, but for the default lane, which needs no entry.
    named: BTreeMap<Lane, Usage>,
    default: Usage,
}

impl Shares {
    /// What is held in all.
    #[must_use]
    pub const fn all(&self) -> &Usage {
        &self.all
    }

    /// How many messages.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.all.count()
    }

    /// How many bytes of payload, large messages not counted.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.all.bytes()
    }

    /// Whether the lane may take a place for `len` more bytes.
    #[must_use]
    pub fn admits(&self, quota: &Quota, lane: &Lane, len: u64) -> bool {
        let nothing = Usage::default();
        let of_lane = if *lane == Lane::DEFAULT { &self.default } else { self.named.get(lane).unwrap_or(&nothing) };
        quota.admits(&self.all, of_lane, len)
    }

    /// Counts a message in.
    pub fn add(&mut self, quota: &Quota, lane: &Lane, len: u64) {
        self.all.add(quota, len);
        if *lane == Lane::DEFAULT {
            self.default.add(quota, len);
        } else {
            self.named.entry(lane.clone()).or_default().add(quota, len);
        }
    }

    /// Counts a message out that was counted in under the same quota.
    pub fn remove(&mut self, quota: &Quota, lane: &Lane, len: u64) {
        self.all.remove(quota, len);
        if *lane == Lane::DEFAULT {
            return self.default.remove(quota, len);
        }
        if let Some(usage) = self.named.get_mut(lane) {
            usage.remove(quota, len);
            if usage.count() == 0 {
                self.named.remove(lane);
            }
        }
    }
}
