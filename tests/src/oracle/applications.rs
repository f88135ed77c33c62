//! For whoever sees what applications see, and no wires: over real sockets nobody knows which of them carried what.

use reattach_core::id::ConnectionId;
use reattach_core::id::Principal;

use super::Checked;
use super::Oracle;
use super::Party;
use super::Rules;
use super::check;

impl Oracle {
    /// An oracle that hears nothing of wires. It is as strict as any other about messages; of what ends, and of epochs, it knows
    /// only that there has to be a cause at all.
    pub fn of_applications(rules: Rules) -> Self {
        Self { knows_wires: false, ..Self::new(rules) }
    }

    /// The server's application is given a connection.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_connection(&mut self, cid: ConnectionId) -> Checked {
        self.connections.on_registered(cid, &Principal::Connection(cid), self.rules.max_connections)
    }

    /// Whatever wires a client has were disturbed.
    pub fn on_disturbed(&mut self, client: usize) {
        self.connections.on_strike(client);
    }

    /// A party is attached on some wire.
    pub(super) fn on_attached_unseen(&mut self, party: Party, resumed: bool) -> Checked {
        let was_attached = self.connections.was_attached(party);
        let may_be_new = !was_attached || self.connections.has_ended(party) || self.connections.is_other_leaving(party);
        check(resumed || may_be_new, "J1", || format!("{party:?} begins another epoch without a cause"))?;
        match party {
            Party::Client(client) => {
                check(was_attached || !resumed, "S2", || format!("{party:?} goes on in an epoch that it never began"))?;
                self.connections.on_attached_unseen(client, resumed);
            }
            Party::Server(cid) => self.connections.on_attached_unseen_server(cid),
        }
        Ok(())
    }

    /// Some wire of a party has ended.
    pub(super) fn check_end_unseen(&self, party: Party) -> Checked {
        let is_wanted = self.connections.has_ended(party) || self.connections.is_other_leaving(party);
        check(self.knows_wires || is_wanted || self.connections.strikes(party) > 0, "J1", || {
            format!("a wire of {party:?} ended, and nothing had happened to any")
        })
    }
}
