//! One client of the world: the machine, its application, and its end of the network.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::connection::Incoming;
use reattach_core::id::Lane;
use reattach_core::id::TransportId;
use reattach_core::link::Delivery;
use reattach_core::link::Lanes;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Token;
use reattach_core::wire::UncheckedPayload;

use crate::net::Arrival;
use crate::net::Way;
use crate::world::Heard;
use crate::world::Road;
use crate::world::World;
use crate::world::frames_of;
use crate::world::text_of;

/// One client with its application.
#[derive(Debug)]
pub struct ClientSide {
    /// The machine.
    pub client: Client,
    /// What it told, in order.
    pub events: Vec<client::Event>,
    /// The reliable messages that its application took, in order: the payloads' text.
    pub taken: Vec<String>,
    /// Everything that its application took, in order.
    pub deliveries: Vec<Delivery>,
    /// Whether its application takes what comes.
    pub is_reading: bool,
    /// Lanes from which it takes only by [`World::take_in`].
    pub apart: BTreeSet<Lane>,
    /// What it puts into its hellos.
    pub token: Option<Token>,
    /// When it asked for each transport.
    pub opens: Vec<Instant>,
    /// The transport that it asked for last.
    pub transport: Option<TransportId>,
    /// Bytes of texts written for each live transport.
    written: BTreeMap<TransportId, u64>,
}

impl ClientSide {
    pub(super) const fn new(client: Client) -> Self {
        Self {
            client,
            events: Vec::new(),
            taken: Vec::new(),
            deliveries: Vec::new(),
            is_reading: true,
            apart: BTreeSet::new(),
            token: None,
            opens: Vec::new(),
            transport: None,
            written: BTreeMap::new(),
        }
    }

    /// Its application takes the next message. Returns whether there was one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.take_one(now).is_some()
    }

    fn take_one(&mut self, now: Instant) -> Option<&Delivery> {
        let delivery = self.client.take_from(Lanes::Except(&self.apart), now)?;
        Some(self.keep(delivery))
    }

    fn keep(&mut self, delivery: Delivery) -> &Delivery {
        if let Delivery::Message(_) = &delivery {
            self.taken.push(text_of(&delivery));
        }
        self.deliveries.push(delivery);
        &self.deliveries[self.deliveries.len() - 1]
    }
}

impl World {
    /// A client's application takes the next message. Returns whether there was one.
    pub fn take_at(&mut self, client: usize) -> bool {
        let now = self.now;
        let Some(delivery) = self.clients[client].take_one(now) else { return false };
        self.journal.enter(now, || Heard::TakenDown(client, delivery.clone()));
        true
    }

    /// A client's application takes the next message of a lane, if it takes any. Nobody else is told of it.
    pub fn take_in(&mut self, client: usize, lane: &Lane) -> Option<UncheckedPayload> {
        let now = self.now;
        let side = &mut self.clients[client];
        let delivery = if side.is_reading { side.client.take_from(Lanes::Only(lane), now)? } else { return None };
        Some(side.keep(delivery).payload().clone())
    }

    /// Something arrives at a client.
    pub(super) fn arrive_down(&mut self, client: usize, transport: TransportId, arrival: Arrival) {
        let now = self.now;
        let Some(side) = self.clients.get_mut(client) else { return };
        match arrival {
            Arrival::Open => {
                let token = side.token.clone();
                side.client.handle_input(client::Input::Opened { transport, token }, now);
            }
            Arrival::Text(text) => {
                let read = text.len() as u64;
                let written = side.written.get(&transport).copied().unwrap_or(0);
                side.client.handle_input(client::Input::Progress { transport, read, written }, now);
                let incoming = Incoming::Text(&text);
                side.client.handle_input(client::Input::Received { transport, incoming }, now);
            }
            Arrival::Closed(code) => {
                side.written.remove(&transport);
                self.journal.enter(now, || Heard::ClientToldClosed(client, transport));
                side.client.handle_input(client::Input::Closed { transport, code }, now);
            }
        }
    }

    /// Does what a client asks for and lets its application read. Returns whether anything happened.
    pub(super) fn drain_client(&mut self, index: usize) -> bool {
        let mut happened = false;
        loop {
            let side = &mut self.clients[index];
            let Some(output) = side.client.poll_output() else {
                if !(side.is_reading && self.take_at(index)) {
                    return happened;
                }
                happened = true;
                continue;
            };
            happened = true;
            match output {
                client::Output::Open { transport } => self.open(index, transport),
                client::Output::Write { transport, text } => self.write_up(index, transport, text),
                client::Output::Close { transport, code } => self.close_up(index, transport, code),
                client::Output::Event(event) => {
                    self.hear(|| Heard::Client(index, event.clone()));
                    self.clients[index].events.push(event);
                }
            }
        }
    }

    fn open(&mut self, index: usize, transport: TransportId) {
        let now = self.now;
        let side = &mut self.clients[index];
        side.opens.push(now);
        side.transport = Some(transport);
        side.written.insert(transport, 0);
        match self.road {
            Road::Open => {
                let wire = self.net.open(index, transport, now);
                self.journal.enter(now, || Heard::Asked(index, transport, Some(wire)));
            }
            Road::Silent => self.journal.enter(now, || Heard::Asked(index, transport, None)),
            Road::Failing(error) => {
                side.written.remove(&transport);
                self.journal.enter(now, || Heard::Asked(index, transport, None));
                self.journal.enter(now, || Heard::ClientToldClosed(index, transport));
                side.client.handle_input(client::Input::OpenFailed { transport, error }, now);
            }
        }
    }

    fn write_up(&mut self, index: usize, transport: TransportId, text: String) {
        let now = self.now;
        let side = &mut self.clients[index];
        frames_of(&text);
        self.journal.enter(now, || Heard::ClientWrote(index, transport, text.clone()));
        let written = side.written.get_mut(&transport).expect("only live transports are written to");
        *written += text.len() as u64;
        let input = client::Input::Progress { transport, read: 0, written: *written };
        side.client.handle_input(input, now);
        if let Some(wire) = self.net.wire_of(index, transport) {
            self.texts.push((now, wire, Way::Up, text.clone()));
            self.net.put(wire, Way::Up, Arrival::Text(text), now);
        }
    }

    fn close_up(&mut self, index: usize, transport: TransportId, code: CloseCode) {
        let closed = self.clients[index].written.remove(&transport);
        assert!(closed.is_some(), "only live transports are closed, and once");
        self.hear(|| Heard::ClientClosed(index, transport));
        if let Some(wire) = self.net.wire_of(index, transport) {
            self.closes.push((wire, Way::Up, code));
            self.net.close(wire, Way::Up, code, self.now);
        }
    }
}
