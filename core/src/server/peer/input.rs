//! What a peer is told of its transport.

use crate::connection::Incoming;
use crate::id::TransportId;
use crate::wire::CloseCode;

/// What happened on the transport that a peer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerInput<'a> {
    /// A WebSocket message came.
    Received {
        /// On which transport.
        transport: TransportId,
        /// What came.
        incoming: Incoming<'a>,
    },
    /// Bytes moved. Report it in every turn in which they did, before what the turn received: room for more, and what
    /// counts as life, are reckoned by it.
    Progress {
        /// On which transport.
        transport: TransportId,
        /// How many more bytes came, whether or not they make whole frames.
        read: u64,
        /// How many bytes of the texts handed out for this transport have left, in all, those of the registry included.
        written: u64,
    },
    /// The transport is gone.
    Closed {
        /// Which one.
        transport: TransportId,
        /// The close code; [`CloseCode::ABNORMAL`] where none came.
        code: CloseCode,
    },
}
