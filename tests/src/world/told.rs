//! What was told and written in the world, as tests ask for it.

use reattach_core::client;
use reattach_core::id::MessageId;
use reattach_core::outcome::Failure;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::SendFailed;
use reattach_core::server::PeerEvent;
use reattach_core::server::Refusal;
use reattach_core::server::RegistryEvent;
use reattach_core::wire;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;

use crate::net::Way;
use crate::net::WireId;
use crate::world::World;

impl World {
    /// The outcomes that a client's application was told, in order.
    pub fn outcomes_up(&self, client: usize) -> Vec<(MessageId, Outcome)> {
        let events = self.clients[client].events.iter();
        events
            .filter_map(|event| {
                if let client::Event::Delivered { id } = event {
                    Some((*id, Outcome::Delivered))
                } else if let client::Event::SendFailed(SendFailed { id, failure: Failure::ForGood(outcome) }) = event {
                    Some((*id, outcome.clone()))
                } else {
                    None
                }
            })
            .collect()
    }

    /// The outcomes that the server's application was told, in order.
    pub fn outcomes_down(&self) -> Vec<(MessageId, Outcome)> {
        let events = self.peer_events.iter();
        events
            .filter_map(|(_, event)| {
                if let PeerEvent::Delivered { id } = event {
                    Some((*id, Outcome::Delivered))
                } else if let PeerEvent::SendFailed(SendFailed { id, failure: Failure::ForGood(outcome) }) = event {
                    Some((*id, outcome.clone()))
                } else {
                    None
                }
            })
            .collect()
    }

    /// What the server's application took, of whatever connection.
    pub fn taken_texts(&self) -> Vec<&str> {
        self.taken.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// Whether each attach that a client was told of went on with the epoch, in order.
    pub fn attaches(&self, client: usize) -> Vec<bool> {
        let events = self.clients[client].events.iter();
        events
            .filter_map(|event| if let client::Event::Attached { resumed } = event { Some(*resumed) } else { None })
            .collect()
    }

    /// The texts that the server wrote on a wire.
    pub fn texts_down(&self, wire: WireId) -> Vec<&str> {
        self.texts_on(wire, Way::Down)
    }

    /// The texts that were written on a wire one way.
    pub fn texts_on(&self, wire: WireId, way: Way) -> Vec<&str> {
        let written = self.texts.iter().filter(|(_, id, to, _)| *id == wire && *to == way);
        written.map(|(_, _, _, text)| text.as_str()).collect()
    }

    /// Every frame that was written one way, in order, with its wire.
    pub fn frames(&self, way: Way) -> Vec<(WireId, Frame<'_>)> {
        let texts = self.texts.iter().filter(|(_, _, to, _)| *to == way);
        texts.flat_map(|(_, wire, _, text)| frames_of(text).into_iter().map(|frame| (*wire, frame))).collect()
    }

    /// Every hello that a client wrote, in order.
    pub fn hellos(&self) -> Vec<Hello> {
        let frames = self.frames(Way::Up).into_iter();
        frames.filter_map(|(_, frame)| if let Frame::Hello(hello) = frame { Some(*hello) } else { None }).collect()
    }

    /// The code with which the server closed a wire.
    pub fn closed_by_server(&self, wire: WireId) -> Option<CloseCode> {
        let mut closes = self.closes.iter();
        closes.find(|(id, way, _)| *id == wire && *way == Way::Down).map(|(_, _, code)| *code)
    }

    /// Why the server refused a wire.
    pub fn refusal(&self, wire: WireId) -> Option<Refusal> {
        self.refusals().into_iter().find(|(refused, _)| *refused == wire).map(|(_, refusal)| refusal)
    }

    /// Every wire that the server refused, and why, in order.
    pub fn refusals(&self) -> Vec<(WireId, Refusal)> {
        let events = self.registry_events.iter();
        events
            .filter_map(|event| {
                if let RegistryEvent::Refused { transport, refusal } = event {
                    Some((WireId(transport.0), *refusal))
                } else {
                    None
                }
            })
            .collect()
    }
}

/// The frames in a text that a machine wrote.
///
/// # Panics
///
/// If there is anything else in it (S003-40).
pub fn frames_of(text: &str) -> Vec<Frame<'_>> {
    let frame =
        |line| wire::decode(line).unwrap_or_else(|error| panic!("a machine wrote no frame: {error}: {line:.300}"));
    text.split('\n').map(frame).collect()
}
