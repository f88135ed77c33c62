//! What a peer wants done.

use alloc::string::String;

use crate::id::TransportId;
use crate::server::command::Answer;
use crate::server::event::PeerEvent;
use crate::wire::CloseCode;

/// What a peer wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerOutput {
    /// Write one WebSocket text message. Nothing else holds the text, so it can go to the socket without a copy.
    Write {
        /// On which transport.
        transport: TransportId,
        /// The message.
        text: String,
    },
    /// Close the transport, after what was written. It is dead from here on.
    Close {
        /// Which one.
        transport: TransportId,
        /// The close code to send.
        code: CloseCode,
    },
    /// Tell the registry.
    Answer(Answer),
    /// Tell the application.
    Event(PeerEvent),
}
