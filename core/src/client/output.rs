//! What a client wants done.

use alloc::string::String;

use crate::client::event::Event;
use crate::id::TransportId;
use crate::wire::CloseCode;

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Open a transport, then say [`Input::Opened`](super::Input::Opened) or [`Input::OpenFailed`](super::Input::OpenFailed).
    Open {
        /// What to call it.
        transport: TransportId,
    },
    /// Write one WebSocket text message. Nothing else holds the text, so it can go to the socket without a copy.
    Write {
        /// On which transport.
        transport: TransportId,
        /// The message.
        text: String,
    },
    /// Close the transport, after what was written. It is dead from here on: nothing more will name it.
    Close {
        /// Which one.
        transport: TransportId,
        /// The close code to send.
        code: CloseCode,
    },
    /// Tell the application.
    Event(Event),
}
