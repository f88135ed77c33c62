//! What can go wrong in the world: cuts, crashes, strangers, and machines that come back from an older copy.

use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::id::TransportId;
use reattach_core::server;
use reattach_core::server::Server;
use reattach_core::wire::CloseCode;

use crate::net::Arrival;
use crate::net::Way;
use crate::net::WireId;
use crate::world::World;

impl World {
    /// Cuts a client's live wire, losing what is on its way, and tells both ends at once.
    pub fn cut(&mut self, client: usize) {
        self.cut_keeping(client, 0);
    }

    /// Cuts a client's live wire. Of what is on its way so many arrivals each way still come.
    pub fn cut_keeping(&mut self, client: usize, keep: usize) {
        let wire = self.wire(client);
        self.net.cut(wire, keep, Duration::ZERO, self.now);
        self.pump();
    }

    /// A client's wire dies without anybody being told.
    pub fn stall(&mut self, client: usize) {
        let wire = self.wire(client);
        Way::BOTH.into_iter().for_each(|way| self.net.stall(wire, way));
    }

    /// Replaces the server machine, as a crash and a restart do: every transport breaks.
    pub fn replace_server(&mut self, server: Server) {
        self.server = server;
        for wire in self.net.wires() {
            self.net.cut(wire, 0, Duration::ZERO, self.now);
        }
        // A copy of an earlier server may believe that transports live which have died since.
        for id in 1..=self.net.opened() {
            let (transport, code) = (TransportId(id), CloseCode::ABNORMAL);
            self.server.handle_input(server::Input::Closed { transport, code }, self.now);
        }
        self.written.clear();
        // Its timers may have passed while nobody ran it.
        self.server.handle_timeout(self.now);
        self.pump();
    }

    /// Replaces a client's machine by a copy of an earlier one, as a crash of the program and a restore do.
    pub fn restore_client(&mut self, index: usize, mut client: Client) {
        self.net.abandon(index, self.now);
        for id in 1..=self.clients[index].opens.len() as u64 {
            let (transport, code) = (TransportId(id), CloseCode::ABNORMAL);
            client.handle_input(client::Input::Closed { transport, code }, self.now);
        }
        // Its timers may have passed while nobody ran it.
        client.handle_timeout(self.now);
        self.clients[index].client = client;
        self.pump();
    }

    /// A hostile or foreign end: puts a text on a client's wire towards the server as if the client had written it.
    pub fn inject_up(&mut self, client: usize, text: &str) {
        let wire = self.wire(client);
        self.say(wire, text);
    }

    /// A hostile or foreign end: puts a text on a client's wire as if the server had written it.
    pub fn inject_down(&mut self, client: usize, text: &str) {
        let wire = self.wire(client);
        self.net.put(wire, Way::Down, Arrival::Text(text.into()), self.now);
    }

    /// A wire of a stranger: nobody reads its lower end.
    pub fn stranger(&mut self) -> WireId {
        let wire = self.net.open(usize::MAX, TransportId(0), self.now);
        self.drive();
        wire
    }

    /// Somebody says something to the server on a wire.
    pub fn say(&mut self, wire: WireId, text: &str) {
        self.net.put(wire, Way::Up, Arrival::Text(text.into()), self.now);
    }

    /// Somebody closes a wire towards the server.
    pub fn hang_up(&mut self, wire: WireId, code: CloseCode) {
        self.net.put(wire, Way::Up, Arrival::Closed(code), self.now);
    }
}
