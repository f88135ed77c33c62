//! How the registry and one connection's peer stand to each other, and every way from one standing to another.
//!
//! ```text
//!   (new)                      attached                 detached
//!     |         +-------------------------> Attached ------------+
//!     v         |                               |                v
//!   Attaching --+<------ hello ------------- hello ----------- Detached
//!     |                                                          |
//!     |                      ended                          ttl runs out
//!     |  ended, late    +----------------- Attached              v
//!     +-----------------+----> (gone) <---- ended, late ------ Ending <--- any, revoked
//! ```
//!
//! The registry asks for one thing at a time (`Attaching`, `Ending`) and waits for the peer's answer with a deadline; a hello
//! that comes meanwhile is queued. *Late* means that the deadline passed: the peer is fenced and a receipt is kept that is not
//! final.

use crate::id::TransportId;

/// Where one connection stands, as the registry sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Standing(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Attaching { transport: TransportId },
    Attached { transport: TransportId },
    Detached,
    Ending { transport: Option<TransportId> },
}

impl Standing {
    /// The peer was asked to attach its first transport.
    pub(super) const fn attaching(transport: TransportId) -> Self {
        Self(Kind::Attaching { transport })
    }

    /// No transport lives.
    pub(super) const fn detached() -> Self {
        Self(Kind::Detached)
    }

    /// The peer was asked to attach another transport. Returns the one that it holds.
    pub(super) fn move_to_attaching(&mut self, transport: TransportId) -> Option<TransportId> {
        let held = match &self.0 {
            Kind::Attached { transport } => Some(*transport),
            Kind::Detached => None,
            Kind::Attaching { .. } | Kind::Ending { .. } => unreachable!("one thing is asked at a time"),
        };
        self.0 = Kind::Attaching { transport };
        held
    }

    /// The peer has attached the transport. Returns whether that was asked for.
    pub(super) fn move_to_attached(&mut self, attached: TransportId) -> bool {
        match &self.0 {
            Kind::Attaching { transport } if *transport == attached => {
                self.0 = Kind::Attached { transport: attached };
                true
            }
            Kind::Attaching { .. } | Kind::Attached { .. } | Kind::Detached | Kind::Ending { .. } => false,
        }
    }

    /// The peer has lost the transport. Returns whether it was the one that is attached.
    pub(super) fn move_to_detached(&mut self, lost: TransportId) -> bool {
        match &self.0 {
            Kind::Attached { transport } if *transport == lost => {
                self.0 = Kind::Detached;
                true
            }
            Kind::Attaching { .. } | Kind::Attached { .. } | Kind::Detached | Kind::Ending { .. } => false,
        }
    }

    /// The peer was asked to end.
    pub(super) fn move_to_ending(&mut self) {
        self.0 = Kind::Ending { transport: self.transport() };
    }

    /// The transport that the peer holds, or was asked to attach.
    pub(super) const fn transport(&self) -> Option<TransportId> {
        match &self.0 {
            Kind::Attaching { transport } | Kind::Attached { transport } => Some(*transport),
            Kind::Ending { transport } => *transport,
            Kind::Detached => None,
        }
    }

    /// Whether the peer owes an answer.
    pub(super) const fn is_asked(&self) -> bool {
        matches!(self.0, Kind::Attaching { .. } | Kind::Ending { .. })
    }
}
