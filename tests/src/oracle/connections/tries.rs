//! How often clients have tried, and when they may give up.

use super::super::Checked;
use super::super::Party;
use super::super::check;
use super::Connections;

impl Connections {
    /// A wire of a client has ended, after its welcome or before.
    pub(in super::super) fn on_wire_ended(&mut self, client: usize, was_attached: bool) {
        let client = self.client(client);
        client.is_attached = false;
        client.ends += 1;
        client.failures += u32::from(!was_attached);
    }

    /// Something came to a client on a wire after the welcome.
    pub(in super::super) fn on_heard(&mut self, client: usize) {
        self.client(client).ends = 0;
    }

    /// A client gives up after so many tries in a row.
    pub(in super::super) fn check_exhausted(&self, client: usize, attempts: u32) -> Checked {
        let ends = self.clients[&client].ends;
        check(ends > attempts, "J1", || {
            format!("client {client} gives up after {attempts} tries, and only {ends} wires have ended in a row")
        })
    }

    /// How many tries in a row have failed; a server makes none.
    pub(in super::super) fn failures(&self, party: Party) -> u32 {
        match party {
            Party::Client(client) => self.clients[&client].failures,
            Party::Server(_) => 0,
        }
    }
}
