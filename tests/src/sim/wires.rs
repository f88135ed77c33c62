//! The network: wires that carry texts in order, and everything that can happen to them.

use std::collections::VecDeque;

use reattach_core::id::TransportId;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;

use super::schedule::Way;

impl Way {
    /// Both.
    pub(super) const BOTH: [Self; 2] = [Self::Up, Self::Down];

    /// Where the end lies towards which it goes: the client's is 0.
    pub(super) const fn end(self) -> usize {
        match self {
            Self::Up => 1,
            Self::Down => 0,
        }
    }

    pub(super) const fn index(self) -> usize {
        1 - self.end()
    }
}

/// What arrives at an end.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Open,
    Failed(reattach_core::reconnect::OpenError),
    Text(String),
    Binary,
    /// Bytes of a text that is not complete.
    Part(u64),
    Closed(CloseCode),
}

/// One end: what its machine has handed over, and what of it has left.
#[derive(Clone, Debug, Default)]
pub(super) struct EndOf {
    pub(super) lives: bool,
    pub(super) produced: u64,
    pub(super) written: u64,
}

/// One wire. The server calls it by its number.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    /// Whose it is; a stranger's where nobody's.
    pub(super) seat: Option<usize>,
    pub(super) transport: TransportId,
    /// The client's, and the server's.
    pub(super) ends: [EndOf; 2],
    /// What travels up, and down, with the time of its arrival.
    pub(super) coming: [VecDeque<(Instant, Item)>; 2],
    /// When the last thing arrives each way, and when the last byte leaves.
    pub(super) last: [Instant; 2],
    pub(super) leaves: [Instant; 2],
    /// Until when nothing arrives, each way.
    pub(super) stalled: [Option<Instant>; 2],
    /// Bytes a second, where it is slow.
    pub(super) rate: Option<u64>,
    /// Whether what is written vanishes.
    pub(super) is_cut: bool,
    /// How many things were put on it.
    pub(super) puts: u64,
}

impl Wire {
    pub(super) fn new(seat: Option<usize>, transport: TransportId, now: Instant) -> Self {
        Self {
            seat,
            transport,
            ends: [EndOf { lives: true, ..EndOf::default() }, EndOf::default()],
            coming: [VecDeque::new(), VecDeque::new()],
            last: [now; 2],
            leaves: [now; 2],
            stalled: [None; 2],
            rate: None,
            is_cut: false,
            puts: 0,
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        !self.ends[0].lives && !self.ends[1].lives && self.coming[1].is_empty() && self.coming[0].is_empty()
    }

    /// The texts on their way.
    pub(super) fn texts(&self, way: Way) -> impl Iterator<Item = usize> + '_ {
        let coming = self.coming[way.index()].iter().enumerate();
        coming.filter(|(_, (_, item))| matches!(item, Item::Text(_))).map(|(index, _)| index)
    }
}
