//! What was told and written in the world, as tests ask for it.

use reattach_core::client;
use reattach_core::id::MessageId;
use reattach_core::outcome::Failure;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::SendFailed;
use reattach_core::server::PeerClosed;
use reattach_core::server::PeerEvent;
use reattach_core::server::Refusal;
use reattach_core::server::RegistryEvent;
use reattach_core::time::Instant;
use reattach_core::wire;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;

use crate::net::Way;
use crate::net::WireId;
use crate::world::World;
use crate::world::payload;

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

    /// The failures for now that a client's application was told, in order: which message, which attempt, when the next is
    /// due.
    pub fn retries_up(&self, client: usize) -> Vec<(MessageId, u32, Instant)> {
        let events = self.clients[client].events.iter();
        let failures =
            events.filter_map(|event| if let client::Event::SendFailed(failed) = event { Some(failed) } else { None });
        failures
            .filter_map(|SendFailed { id, failure }| match failure {
                Failure::ForNow { attempt, retry_at, reason: _ } => Some((*id, *attempt, *retry_at)),
                Failure::ForGood(_) => None,
            })
            .collect()
    }

    /// The messages of which a client's application was told that they take longer, in order.
    pub fn delayed_up(&self, client: usize) -> Vec<MessageId> {
        let events = self.clients[client].events.iter();
        events.filter_map(|event| if let client::Event::Delayed { id } = event { Some(*id) } else { None }).collect()
    }

    /// When each reliable message with this text was written one way, in order.
    pub fn writes(&self, way: Way, text: &str) -> Vec<Instant> {
        let payload = payload(text);
        let is_it = |frame: &Frame<'_>| matches!(frame, Frame::Message(message) if message.payload == payload.as_str());
        self.times(way, is_it)
    }

    /// When each frame for which `is_it` holds was written one way, in order.
    pub fn times(&self, way: Way, is_it: impl Fn(&Frame<'_>) -> bool) -> Vec<Instant> {
        let texts = self.texts.iter().filter(|(_, _, to, _)| *to == way);
        texts.flat_map(|(at, _, _, text)| frames_of(text).into_iter().filter(&is_it).map(|_| *at)).collect()
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

    /// Why each peer that has ended did, in order.
    pub fn ends(&self) -> Vec<PeerClosed> {
        let end =
            |event: &PeerEvent| if let PeerEvent::Closed { reason } = event { Some(reason.clone()) } else { None };
        self.peer_events.iter().filter_map(|(_, event)| end(event)).collect()
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
