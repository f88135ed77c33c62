//! What a registry wants done.

use alloc::string::String;

use crate::id::ConnectionId;
use crate::id::TransportId;
use crate::server::command::Command;
use crate::server::command::Origin;
use crate::server::command::PeerId;
use crate::server::event::RegistryEvent;
use crate::wire::CloseCode;
use crate::wire::Token;

/// What a registry wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegistryOutput {
    /// Write one WebSocket text message on a transport that is not attached.
    Write {
        /// On which transport.
        transport: TransportId,
        /// The message.
        text: String,
    },
    /// Close a transport that is not attached. It is dead from here on.
    Close {
        /// Which one.
        transport: TransportId,
        /// The close code to send.
        code: CloseCode,
    },
    /// Ask the application whose credentials these are, then say [`RegistryInput::Authenticated`](crate::server::RegistryInput::Authenticated).
    Authenticate {
        /// For which transport.
        transport: TransportId,
        /// The connection that it asks for.
        cid: ConnectionId,
        /// The credentials in its hello.
        token: Option<Token>,
    },
    /// Make a peer: the connection is new.
    Create(Origin),
    /// Tell a peer.
    Command {
        /// Which peer.
        peer: PeerId,
        /// What to tell it.
        command: Command,
    },
    /// Tell the application.
    Event(RegistryEvent),
}
