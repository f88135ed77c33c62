//! One stream of the network: two ways for bytes, and the tasks at its ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use reattach_core::time::Instant;

use crate::testing::faults::Scope;
use crate::testing::incident::Direction;
use crate::testing::timers::Alarm;
use crate::testing::timers::Timers;

/// One stream.
pub(super) struct Stream {
    /// The place from which it was dialled.
    pub(super) scope: Scope,
    pub(super) is_cut: bool,
    /// How many of its ends somebody holds.
    pub(super) ends: u8,
    ways: [Way; 2],
}

/// The bytes that go one way.
pub(super) struct Way {
    under_way: VecDeque<Chunk>,
    /// How many bytes are under way.
    held: usize,
    /// When the last of them is due. What comes later overtakes nothing.
    last_due: Instant,
    /// When the reader hears that nothing more will come.
    pub(super) ends_at: Option<Instant>,
    /// Bytes to a reader that has gone are lost, as on any network: its own end tells the writer.
    pub(super) has_reader: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// Wakes the reader when the next bytes are due.
    alarm: Alarm,
}

/// Bytes that were written together.
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    read: usize,
}

impl Stream {
    pub(super) fn new(scope: Scope, timers: &Arc<Timers>) -> Self {
        let way = || Way::new(Arc::clone(timers));
        Self { scope, is_cut: false, ends: 2, ways: [way(), way()] }
    }

    pub(super) const fn way(&mut self, direction: Direction) -> &mut Way {
        &mut self.ways[direction.index()]
    }

    /// Breaks it: what is under way is lost, and both ends hear of it.
    pub(super) fn cut(&mut self, wakers: &mut Vec<Waker>) {
        self.is_cut = true;
        for way in &mut self.ways {
            way.lose();
            wakers.extend(way.reader.take());
            wakers.extend(way.writer.take());
        }
    }
}

impl Way {
    /// What a system's socket buffers hold, more or less: a writer that is further ahead waits.
    const CAPACITY: usize = 64 * 1024;

    const fn new(timers: Arc<Timers>) -> Self {
        Self {
            under_way: VecDeque::new(),
            held: 0,
            last_due: Instant::ZERO,
            ends_at: None,
            has_reader: true,
            reader: None,
            writer: None,
            alarm: Alarm::new(timers),
        }
    }

    /// When there is something for the reader.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.under_way.front().map(|chunk| chunk.due).or(self.ends_at)
    }

    pub(super) const fn has_room(&self) -> bool {
        self.held < Self::CAPACITY
    }

    /// Takes bytes that are due at a time, or after those before them, and returns how many.
    pub(super) fn put(&mut self, bytes: &[u8], due: Instant) -> usize {
        let count = bytes.len().min(Self::CAPACITY - self.held);
        self.last_due = self.last_due.max(due);
        self.held += count;
        self.under_way.push_back(Chunk { due: self.last_due, bytes: bytes[..count].to_vec(), read: 0 });
        count
    }

    /// Nothing more will be put in.
    pub(super) fn end(&mut self, due: Instant) {
        self.ends_at = Some(self.last_due.max(due));
    }

    /// Hands out bytes of the first chunk, at most so many; none where nothing is under way.
    pub(super) fn take(&mut self, buf: &mut [u8], most: usize) -> usize {
        let Some(chunk) = self.under_way.front_mut() else { return 0 };
        let rest = &chunk.bytes[chunk.read..];
        let count = rest.len().min(buf.len()).min(most);
        buf[..count].copy_from_slice(&rest[..count]);
        chunk.read += count;
        self.held -= count;
        if chunk.read == chunk.bytes.len() {
            self.under_way.pop_front();
        }
        count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// What is under way is lost.
    pub(super) fn lose(&mut self) {
        self.under_way.clear();
        self.held = 0;
        self.alarm.unset();
    }

    /// Has the reader woken as soon as there is something for it.
    pub(super) fn rouse(&mut self, now: Instant, wakers: &mut Vec<Waker>) {
        let (Some(at), Some(reader)) = (self.next_at(), &self.reader) else { return };
        if at > now {
            self.alarm.wake_at(at, reader);
        } else {
            wakers.extend(self.reader.take());
        }
    }
}
