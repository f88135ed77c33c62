//! What goes on the wire next: withdrawals, what has to be written again, and what was never written.

use alloc::collections::BTreeSet;
use alloc::string::String;

use crate::id::Lane;
use crate::link::outbox::Outbox;
use crate::link::outbox::entry::Written;
use crate::link::window::Quota;
use crate::wire;
use crate::wire::Frame;
use crate::wire::Void;

/// What a frame without a name and a lane is longer than its payload, and some more.
const ENVELOPE: usize = 64;

impl Outbox {
    /// Writes the frames that may be written behind what stands in `out`, until it holds `up_to` bytes. `base` is the offset at
    /// which `out` begins. Returns how many messages it wrote, and how many of them again.
    pub fn write(&mut self, out: &mut String, up_to: usize, base: u64) -> (u64, u64) {
        while out.len() < up_to {
            let Some(seq) = self.flight.voids.pop_front() else { break };
            wire::separate(out);
            Frame::Void(Void { seq }).encode(out);
        }
        let mut again = 0;
        while out.len() < up_to {
            let Some(index) = self.flight.next_again() else {
                self.flight.cursor = self.flight.sent;
                let fresh = self.write_queued(out, up_to, base);
                return (again + fresh, again);
            };
            let written = &mut self.flight.written[index];
            wire::separate(out);
            written.message.entry.encode(written.seq, out);
            written.end = base + out.len() as u64;
            written.left_at = None;
            self.flight.cursor = written.seq;
            again += 1;
        }
        (again, again)
    }

    /// Writes for the first time what may be. Returns how many messages.
    fn write_queued(&mut self, out: &mut String, up_to: usize, base: u64) -> u64 {
        let Some(window) = self.window else { return 0 };
        let mut held = self.lanes_put_off();
        let (mut fresh, mut index) = (0, 0);
        while out.len() < up_to {
            let Some(next) = self.next_queued(&window, index, &mut held) else { break };
            index = next;
            let message = self.queued.remove(index).expect("the index was just found");
            if fresh == 0 {
                // What stands behind it is taken to be like it. The last one may reach beyond `up_to`, and growing for it would
                // double the whole.
                let one = message.entry.payload.len() + ENVELOPE;
                out.reserve(one.saturating_mul(self.queued.len() + 1).min(up_to - out.len() + one));
            }
            wire::separate(out);
            let seq = self.flight.sent.next();
            message.entry.encode(seq, out);
            self.in_window.add(&window, &message.entry.lane, message.len());
            let end = base + out.len() as u64;
            let (deferred, void, is_told, left_at) = (0, None, false, None);
            self.flight.written.push_back(Written { seq, message, deferred, void, is_told, end, left_at });
            self.flight.sent = seq;
            self.flight.cursor = seq;
            fresh += 1;
        }
        fresh
    }

    /// Whether [`Outbox::write`] has something to write.
    #[must_use]
    pub fn can_write(&self) -> bool {
        let may_go = |window| self.next_queued(window, 0, &mut self.lanes_put_off()).is_some();
        !self.flight.voids.is_empty()
            || self.flight.next_again().is_some()
            || (!self.queued.is_empty() && self.window.as_ref().is_some_and(may_go))
    }

    /// The lanes whose messages are being put off: nothing of them goes.
    fn lanes_put_off(&self) -> BTreeSet<Lane> {
        if self.flight.put_off == 0 {
            return BTreeSet::new();
        }
        let put_off = self.flight.written.iter().filter(|written| written.deferred > 0);
        put_off.map(|written| written.message.entry.lane.clone()).collect()
    }

    /// The next message to write for the first time, from `index` on: of each lane only the first may go, if the lane is not
    /// `held` and has room in the window. A lane without room is held from then on.
    fn next_queued(&self, window: &Quota, index: usize, held: &mut BTreeSet<Lane>) -> Option<usize> {
        if self.flight.sent.next() == self.flight.sent || self.in_window.all().count() >= window.count {
            return None;
        }
        let after = self.queued.range(index..).position(|queued| {
            let lane = &queued.entry.lane;
            if !held.is_empty() && held.contains(lane) {
                return false;
            }
            let may_go = self.in_window.admits(window, lane, queued.len());
            if !may_go {
                held.insert(lane.clone());
            }
            may_go
        })?;
        Some(index + after)
    }
}
