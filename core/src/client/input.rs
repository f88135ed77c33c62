//! What a client is told: its secrets, and what happened outside.

use crate::connection::Incoming;
use crate::id::ConnectionKey;
use crate::id::InstanceId;
use crate::id::TransportId;
use crate::reconnect::OpenError;
use crate::wire::CloseCode;
use crate::wire::Token;

/// What only the system's CSPRNG may make.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Secrets {
    /// The key of the connection: minted once, kept as long as the identity is to live.
    pub key: ConnectionKey,
    /// The key to go on with should another instance take the connection over.
    pub spare: Option<ConnectionKey>,
    /// The nonce of this life of the client: minted for each machine, never stored.
    pub instance: InstanceId,
}

/// What happened outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<'a> {
    /// The transport that was asked for is open: the WebSocket handshake is done.
    Opened {
        /// Which one.
        transport: TransportId,
        /// The application's credentials for this attempt.
        token: Option<Token>,
    },
    /// The transport that was asked for could not be opened.
    OpenFailed {
        /// Which one.
        transport: TransportId,
        /// Why not.
        error: OpenError,
    },
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
        /// How many bytes of the texts handed out for this transport have left, in all.
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
