//! A network of a few wires: what is written waits in order until somebody lets it arrive, or breaks the wire.

use std::collections::VecDeque;

use reattach_core::id::TransportId;
use reattach_core::wire::CloseCode;

use crate::oracle;

/// Which way something travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

impl Way {
    /// The end towards which it goes.
    pub(super) const fn to(self) -> oracle::End {
        match self {
            Self::Up => oracle::End::Server,
            Self::Down => oracle::End::Client,
        }
    }
}

/// What arrives at an end of a wire.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Text(String),
    Closed(CloseCode),
}

/// One end of a wire: what is on its way there, and what its machine has written.
#[derive(Debug, Default)]
pub(super) struct End {
    pub(super) lives: bool,
    pub(super) coming: VecDeque<Item>,
    pub(super) produced: u64,
    pub(super) written: u64,
}

/// A wire between a client and the server, which calls it by its number.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) side: usize,
    pub(super) transport: TransportId,
    pub(super) is_open: bool,
    pub(super) client: End,
    pub(super) server: End,
}

impl Wire {
    /// Whether something is on its way, or held by an adapter, so that time hurts it.
    pub(super) fn is_busy(&self) -> bool {
        let is_travelling = !self.client.coming.is_empty() || !self.server.coming.is_empty();
        !self.is_open || is_travelling || self.client.is_held() || self.server.is_held()
    }
}

impl End {
    /// Whether an adapter that lives holds bytes.
    pub(super) fn is_held(&self) -> bool {
        self.lives && self.written < self.produced
    }

    /// All that was written leaves. Returns how much that is in all, where it is news to a machine that lives.
    pub(super) fn leave(&mut self) -> Option<u64> {
        if !self.is_held() {
            return None;
        }
        self.written = self.produced;
        Some(self.written)
    }
}
