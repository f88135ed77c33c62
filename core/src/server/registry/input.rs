//! What a registry is told.

use core::net::IpAddr;

use crate::connection::Incoming;
use crate::id::TransportId;
use crate::server::command::Answer;
use crate::server::command::PeerId;
use crate::server::visitors::Admission;
use crate::server::visitors::Mint;

/// What happened outside of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegistryInput<'a> {
    /// A transport was accepted. Say so before its WebSocket handshake: the caps and the deadline count from here.
    Accepted {
        /// What to call it: a number never used before.
        transport: TransportId,
        /// Where it comes from, where that is known.
        address: Option<IpAddr>,
        /// What only the system's CSPRNG may make.
        mint: Mint,
    },
    /// A WebSocket message came on a transport that is not attached.
    Received {
        /// On which transport.
        transport: TransportId,
        /// What came.
        incoming: Incoming<'a>,
    },
    /// A transport that is not attached is gone.
    Closed {
        /// Which one.
        transport: TransportId,
    },
    /// The application answers [`RegistryOutput::Authenticate`](crate::server::RegistryOutput::Authenticate).
    Authenticated {
        /// Which transport.
        transport: TransportId,
        /// Whose credentials they are, and until when; `None` refuses them.
        admission: Option<Admission>,
    },
    /// A peer answers.
    Answered {
        /// Which peer.
        peer: PeerId,
        /// What it says.
        answer: Answer,
    },
    /// A peer is gone without a last answer: its task has died.
    PeerGone {
        /// Which peer.
        peer: PeerId,
    },
}
