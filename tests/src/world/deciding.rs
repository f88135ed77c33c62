//! Applications that decide about what they take, and that withdraw what they sent.

use std::time::Duration;

use reattach_core::error::ApiMisuse;
use reattach_core::id::Code;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::link::Acceptance;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Handle;
use reattach_core::link::Outgoing;
use reattach_core::server;

use crate::world::World;
use crate::world::patient;
use crate::world::payload;
use crate::world::text_of;

/// The default server configuration, but that its application decides about each message.
pub fn manual() -> server::Config {
    let mut config = server::Config::default();
    config.connection.link.acceptance = Acceptance::Manual;
    config
}

/// A code for programs.
pub fn code(text: &str) -> Code {
    text.parse().expect("a short code")
}

/// It has taken effect.
pub const fn accept() -> Decision {
    Decision::Accept
}

/// It had no effect and shall not come again.
pub fn reject(text: &str) -> Decision {
    Decision::Reject { code: code(text), reason: String::new() }
}

/// It shall come again so much later.
pub fn defer(text: &str, secs: impl Into<Option<u64>>) -> Decision {
    Decision::Defer { retry_after: secs.into().map(Duration::from_secs), code: code(text) }
}

/// A message with a text, in the lane of a name.
pub fn in_lane(lane: &str, text: &str) -> Outgoing {
    Outgoing::from(payload(text)).in_lane(Name::new(lane).expect("a short name"))
}

impl World {
    /// A world with one patient client, attached, and a server whose application decides about each message.
    pub fn attached_manual() -> Self {
        Self::attached_with(manual(), patient())
    }

    /// The first client sends a message as it stands.
    pub fn send_as(&mut self, message: Outgoing) -> MessageId {
        self.try_send_as(message).expect("room in the outbox")
    }

    /// The first client sends a message as it stands.
    ///
    /// # Errors
    ///
    /// As `Client::send`.
    pub fn try_send_as(&mut self, message: Outgoing) -> Result<MessageId, ApiMisuse> {
        let now = self.now;
        let id = self.clients[0].client.send(message, now);
        self.pump();
        id
    }

    /// What the server's application decides by, for the newest hand-over of the message with this text.
    pub fn handle_of(&self, text: &str) -> Handle {
        let mut of_text = self.deliveries.iter().rev().map(|(_, delivery)| delivery);
        of_text.find(|delivery| text_of(delivery) == text).and_then(Delivery::handle).expect("it was handed over")
    }

    /// The server's application decides about the newest hand-over of the message with this text.
    ///
    /// # Errors
    ///
    /// As `Server::decide`.
    pub fn decide(&mut self, text: &str, decision: Decision) -> Result<(), ApiMisuse> {
        self.decide_by(self.handle_of(text), decision)
    }

    /// The server's application decides by a handle about a message of the first client.
    ///
    /// # Errors
    ///
    /// As `Server::decide`.
    pub fn decide_by(&mut self, handle: Handle, decision: Decision) -> Result<(), ApiMisuse> {
        let (cid, now) = (self.cid(), self.now);
        let result = self.server.decide(&cid, handle, decision, now);
        self.pump();
        result
    }

    /// The server's application needs longer for the message with this text.
    ///
    /// # Errors
    ///
    /// As `Server::extend`.
    pub fn extend(&mut self, text: &str, lease: Duration) -> Result<(), ApiMisuse> {
        let (cid, now, handle) = (self.cid(), self.now, self.handle_of(text));
        let result = self.server.extend(&cid, handle, lease, now);
        self.pump();
        result
    }

    /// The first client withdraws a message.
    ///
    /// # Errors
    ///
    /// As `Client::cancel`.
    pub fn cancel(&mut self, id: &MessageId) -> Result<(), ApiMisuse> {
        let now = self.now;
        let result = self.clients[0].client.cancel(id, now);
        self.pump();
        result
    }
}
