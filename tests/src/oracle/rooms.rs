//! Who holds how many places in an outbox, as far as an application can know.

use reattach_core::link::Quota;

/// What is held: messages, bytes of those that are not large, large ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Held {
    messages: u64,
    bytes: u64,
    large: u64,
}

impl Held {
    /// One more message.
    pub(super) const fn add(&mut self, quota: &Quota, len: u64) {
        self.messages += 1;
        if len > quota.bytes / 2 {
            self.large += 1;
        } else {
            self.bytes += len;
        }
    }
}

/// Whether a lane may take a place for `len` bytes: it holds fewer than are free, of messages and of bytes, and a large one,
/// which does not count against the bytes, is alone of its kind.
pub(super) const fn admits(quota: &Quota, all: Held, lane: Held, len: u64) -> bool {
    let free = (quota.count as u64).saturating_sub(all.messages);
    let bytes_free = quota.bytes.saturating_sub(all.bytes);
    if lane.messages >= free {
        return false;
    }
    if len > quota.bytes / 2 {
        return all.large == 0;
    }
    len <= bytes_free && (lane.bytes == 0 || lane.bytes < bytes_free)
}
