//! What is said about a transport that has died changes nothing.

use reattach_core::client;
use reattach_core::id::TransportId;
use reattach_core::server;
use reattach_core::wire::CloseCode;

use super::Run;

impl Run<'_> {
    /// Nobody heeds the close of a transport that died before. It is tried on copies.
    pub(super) fn check_stale(&self) {
        for (index, side) in self.sides.iter().enumerate().filter(|(_, side)| side.lives) {
            let wires = self.wires.values().filter(|wire| wire.side == index && wire.client.lives);
            let Some(living) = wires.map(|wire| wire.transport).max() else { continue };
            let Some(transport) = living.0.checked_sub(1).map(TransportId) else { continue };
            let mut client = side.client.clone();
            // The time passes whatever is said.
            client.handle_input(client::Input::Progress { transport: NOBODY, read: 0, written: 0 }, self.now);
            let before = client.clone();
            client.handle_input(client::Input::Closed { transport, code: CloseCode::ABNORMAL }, self.now);
            assert!(client == before, "S6: client {index} heeds {transport:?}, which has died");
        }
        let is_dead = |number: &u64| self.wires.get(number).is_none_or(|wire| !wire.server.lives);
        let Some(transport) = (1..=self.opened).rev().find(is_dead).map(TransportId) else { return };
        let mut server = self.server.clone();
        server.handle_input(server::Input::Closed { transport: NOBODY, code: CloseCode::ABNORMAL }, self.now);
        let before = server.clone();
        server.handle_input(server::Input::Closed { transport, code: CloseCode::ABNORMAL }, self.now);
        assert!(server == before, "S6: the server heeds {transport:?}, which has died");
    }
}

/// No transport has this name.
const NOBODY: TransportId = TransportId(u64::MAX);
