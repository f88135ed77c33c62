//! The network between the machines: what is written waits in order until somebody lets it arrive, or breaks the wire.

use std::collections::VecDeque;
use std::hash::Hash;
use std::hash::Hasher;
use std::rc::Rc;

use reattach_core::id::TransportId;
use reattach_core::wire::CloseCode;

/// Which way something travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// From a client to the server.
    Up,
    /// From the server to a client.
    Down,
}

/// What arrives at an end of a wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Item {
    Text(Rc<str>),
    Closed(CloseCode),
}

/// One end of a wire: what is on its way there, and how many bytes its machine has written.
#[derive(Clone, Debug, Default)]
pub(super) struct End {
    pub(super) lives: bool,
    pub(super) coming: VecDeque<Item>,
    /// It follows from the machine's own count of the same bytes, so it takes no part in a hash.
    pub(super) written: u64,
}

impl Hash for End {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.lives.hash(state);
        self.coming.hash(state);
    }
}

/// A wire between a client and the server, which calls it by its number.
#[derive(Clone, Debug, Hash)]
pub(super) struct Wire {
    pub(super) side: usize,
    pub(super) transport: TransportId,
    pub(super) is_open: bool,
    pub(super) client: End,
    pub(super) server: End,
}

impl Wire {
    /// A wire that a client asks for.
    pub(super) fn asked(side: usize, transport: TransportId) -> Self {
        let client = End { lives: true, ..End::default() };
        Self { side, transport, is_open: false, client, server: End::default() }
    }

    /// The end to which something travels.
    pub(super) const fn end(&self, way: Way) -> &End {
        match way {
            Way::Up => &self.server,
            Way::Down => &self.client,
        }
    }

    /// The same, to be changed.
    pub(super) const fn end_mut(&mut self, way: Way) -> &mut End {
        match way {
            Way::Up => &mut self.server,
            Way::Down => &mut self.client,
        }
    }

    /// Whether the client still has something to hear of it, or to be heard with.
    pub(super) fn is_busy(&self) -> bool {
        self.client.lives && (!self.is_open || !self.client.coming.is_empty() || !self.server.coming.is_empty())
    }
}
