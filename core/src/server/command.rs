//! What the registry and a connection's peer say to each other.
//!
//! They are two machines, so that one slow connection never delays another. The registry alone attaches, expires and gives
//! up; a peer answers, and its last answer hands over the receipt of its epoch. Every exchange names the generation of the
//! peer, so that a peer that was given up cannot speak for its successor.

use alloc::boxed::Box;

use crate::id::ConnectionId;
use crate::id::Epoch;
use crate::id::InstanceId;
use crate::id::Principal;
use crate::id::TransportId;
use crate::time::Instant;
use crate::wire::Hello;
use crate::wire::Receipt;

/// Numbers the peers that a registry made, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// Which peer: of which connection, and which of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    /// The connection.
    pub cid: ConnectionId,
    /// The peer's number.
    pub generation: Generation,
}

/// What a new peer begins with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Which peer it is.
    pub id: PeerId,
    /// Whom it belongs to.
    pub principal: Principal,
    /// The first epoch of its state.
    pub epoch: Epoch,
    /// The instance for which that epoch was minted.
    pub instance: InstanceId,
}

/// What the registry tells a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Attach a transport; a transport that is attached is evicted. Answered by [`Answer::Attached`].
    Attach(Box<Attach>),
    /// No transport came back in time: end. Answered by [`Answer::Ended`].
    Expire,
    /// The application revoked the connection: end. Answered by [`Answer::Ended`].
    Revoke,
    /// The registry gave the peer up: end. Nobody listens to an answer.
    Fence,
}

/// A hello that the registry has accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attach {
    /// The transport that it came on.
    pub transport: TransportId,
    /// The hello.
    pub hello: Hello,
    /// Whether another instance than before says it.
    pub takes_over: bool,
    /// The epoch to begin, should the current one not go on.
    pub mint: Epoch,
    /// What is kept of the epoch that the hello names.
    pub receipt: Option<Receipt>,
    /// The bytes that were written on the transport before.
    pub produced: usize,
    /// When its credentials run out, if they do.
    pub expires: Option<Instant>,
}

/// What a peer tells the registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The transport is attached and the welcome is out.
    Attached {
        /// Which transport.
        transport: TransportId,
        /// The epoch from here on.
        epoch: Epoch,
        /// Whether the hello named it: then the client has taken in what became of the epochs before.
        is_named: bool,
    },
    /// The transport is gone; the state is kept.
    Detached {
        /// Which transport.
        transport: TransportId,
        /// Whether the client went to sleep, and asked for its state to be kept longer.
        is_suspended: bool,
    },
    /// An epoch has ended and another began; this is what is to be kept of it.
    Sealed {
        /// The receipt.
        receipt: Receipt,
    },
    /// The peer's last answer: the connection has ended.
    Ended {
        /// What is to be kept of its last epoch; nothing where nobody joined it or needs it.
        receipt: Option<Receipt>,
    },
}
