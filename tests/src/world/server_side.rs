//! The server of the world: the machine, its application, and its end of the network.

use reattach_core::connection::Incoming;
use reattach_core::id::ConnectionId;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::Name;
use reattach_core::id::Principal;
use reattach_core::id::TransportId;
use reattach_core::link::Delivery;
use reattach_core::server;
use reattach_core::server::Mint;
use reattach_core::server::RegistryEvent;
use reattach_core::wire::CloseCode;

use crate::net::Arrival;
use crate::net::Way;
use crate::net::WireId;
use crate::world::Heard;
use crate::world::World;
use crate::world::frames_of;
use crate::world::text_of;

impl World {
    /// The server's application takes the next message of a connection. Returns whether there was one.
    pub fn take_from(&mut self, cid: &ConnectionId) -> bool {
        let before = self.handed_over(cid);
        let Some(delivery) = self.server.take(cid, self.now) else { return false };
        // What came before the end of an earlier connection is no concern of this one.
        let is_left = before == self.handed_over(cid);
        self.hear(|| Heard::TakenUp(*cid, delivery.clone(), is_left));
        if let Delivery::Message(_) = &delivery {
            self.taken.push((*cid, text_of(&delivery)));
        }
        self.deliveries.push((*cid, delivery));
        true
    }

    /// Something arrives at the server.
    pub(super) fn arrive_up(&mut self, id: WireId, arrival: Arrival) {
        let (now, transport) = (self.now, id.transport());
        match arrival {
            Arrival::Open => {
                let mint = Mint { epoch: Epoch::from_bytes(self.random()), fence: Fence::from_bytes(self.random()) };
                self.written.insert(transport, 0);
                self.hear(|| Heard::Accepted(id));
                let input = server::Input::Accepted { transport, address: None, mint };
                self.server.handle_input(input, now);
            }
            Arrival::Text(text) => {
                let read = text.len() as u64;
                if text.starts_with("{\"t\":\"bye\"") && text.contains("\"suspend\":true") {
                    self.hear(|| Heard::Suspended(id));
                }
                let written = self.written.get(&transport).copied().unwrap_or(0);
                self.server.handle_input(server::Input::Progress { transport, read, written }, now);
                let incoming = Incoming::Text(&text);
                self.server.handle_input(server::Input::Received { transport, incoming }, now);
            }
            Arrival::Closed(code) => {
                self.written.remove(&transport);
                self.hear(|| Heard::ServerToldClosed(id));
                self.server.handle_input(server::Input::Closed { transport, code }, now);
            }
        }
    }

    /// Does what the server asks for and lets its application read. Returns whether anything happened.
    pub(super) fn drain_server(&mut self) -> bool {
        let mut happened = false;
        loop {
            let Some(output) = self.server.poll_output() else {
                if !(self.is_reading && self.take_any()) {
                    return happened;
                }
                happened = true;
                continue;
            };
            happened = true;
            match output {
                server::Output::Write { transport, text } => self.write_down(transport, text),
                server::Output::Close { transport, code } => self.close_down(transport, code),
                server::Output::Authenticate { transport, cid: _, token } => {
                    self.authentications += 1;
                    let account = token.as_ref().and_then(|token| self.accounts.get(token.reveal()));
                    let name = account.map(|account| Name::new(account).expect("a short name"));
                    let principal = name.map(Principal::Named);
                    let admission = principal.map(Into::into);
                    let input = server::Input::Authenticated { transport, admission };
                    self.server.handle_input(input, self.now);
                }
                server::Output::Peer { cid, event } => {
                    self.hear(|| Heard::Peer(cid, event.clone()));
                    self.peer_events.push((cid, event));
                }
                server::Output::Registry(event) => {
                    if let RegistryEvent::Registered { cid, .. } = &event {
                        self.known.insert(*cid);
                    }
                    self.hear(|| Heard::Registry(event.clone()));
                    self.registry_events.push(event);
                }
            }
        }
    }

    fn write_down(&mut self, transport: TransportId, text: String) {
        let now = self.now;
        let wire = WireId(transport.0);
        frames_of(&text);
        self.hear(|| Heard::ServerWrote(wire, text.clone()));
        let written = self.written.get_mut(&transport).expect("only live transports are written to");
        *written += text.len() as u64;
        let input = server::Input::Progress { transport, read: 0, written: *written };
        self.server.handle_input(input, now);
        self.texts.push((now, wire, Way::Down, text.clone()));
        self.net.put(wire, Way::Down, Arrival::Text(text), now);
    }

    fn close_down(&mut self, transport: TransportId, code: CloseCode) {
        let wire = WireId(transport.0);
        let closed = self.written.remove(&transport);
        assert!(closed.is_some(), "only live transports are closed, and once");
        self.closes.push((wire, Way::Down, code));
        self.hear(|| Heard::ServerClosed(wire));
        self.net.close(wire, Way::Down, code, self.now);
    }

    fn take_any(&mut self) -> bool {
        let cids: Vec<_> = self.known.iter().copied().collect();
        cids.iter().any(|cid| self.take_from(cid))
    }
}
