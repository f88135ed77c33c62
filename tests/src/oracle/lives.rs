//! Which programs run, and from which state each goes on.

use reattach_core::id::ConnectionId;
use reattach_core::time::Instant;

use super::ClientCopy;
use super::Oracle;
use super::Party;
use super::Restart;
use super::ServerCopy;
use super::causes::Why;

impl Oracle {
    /// A client begins that nobody has been before, or one that has the key of another and nothing else.
    pub fn on_client(&mut self, client: usize, cid: ConnectionId) {
        self.connections.on_client(client, cid);
    }

    /// What a client's application knows now.
    pub fn copy_client(&self, client: usize) -> ClientCopy {
        ClientCopy { of: client, messages: self.messages.clone(), connections: self.connections.clone() }
    }

    /// Another life of a client goes on from a copy of an earlier one's state.
    pub fn on_client_restored(&mut self, client: usize, copy: &ClientCopy, cid: ConnectionId) {
        self.connections.on_client_copy(client, cid, copy.of, &copy.connections);
        self.messages.on_copied(Party::Client(copy.of), Party::Client(client), &copy.messages);
        self.note(Party::Client(client), Why::Restored);
        self.note(Party::Client(client), Why::EpochEnded);
        // Which of the two lives has joined which epoch, nobody keeps account of.
        self.note(Party::Server(cid), Why::EpochEnded);
        if self.connections.has_ended(Party::Client(client)) {
            self.on_client_leaving(client);
        }
    }

    /// A client's program dies and goes on from its very state, as another instance. What its application had in its hands
    /// nobody decides about any more.
    pub fn on_client_restarted(&mut self, client: usize) {
        self.hands.on_restarted(|party| party == Party::Client(client), &mut self.messages);
        self.connections.on_client_restarted(client);
        self.ends.forget(|party| party == Party::Client(client));
        self.note(Party::Client(client), Why::Restored);
    }

    /// A client's program is gone for good.
    pub fn on_client_gone(&mut self, client: usize) {
        self.messages.on_gone(|party| party == Party::Client(client));
        self.hands.on_gone(|party| party == Party::Client(client));
        self.connections.on_client_gone(client);
        self.ends.forget(|party| party == Party::Client(client));
        self.wires.on_client_gone(client);
    }

    /// A client's program is gone: its ends of wires are dead.
    pub fn on_client_wires_dead(&mut self, client: usize) {
        self.wires.on_client_gone(client);
    }

    /// The server's program is gone, and its ends of wires with it.
    pub fn on_server_down(&mut self) {
        self.wires.on_server_gone();
    }

    /// What the server and its applications know now.
    pub fn copy_server(&self) -> ServerCopy {
        ServerCopy { messages: self.messages.clone(), connections: self.connections.clone() }
    }

    /// The server's program dies, and another one runs: from its very state, from a copy, or from nothing.
    pub fn on_server_restarted(&mut self, how: Restart, copy: Option<&ServerCopy>, now: Instant) {
        let is_server = |party| matches!(party, Party::Server(_));
        match (how, copy) {
            (Restart::Current, _) => self.hands.on_restarted(is_server, &mut self.messages),
            (Restart::Stale, Some(copy)) => {
                self.hands.on_sealed(is_server, true, &mut self.messages);
                self.messages.on_server_copied(&copy.messages, now);
            }
            (Restart::Stale | Restart::Lost, _) => {
                self.messages.on_gone(is_server);
                self.hands.on_sealed(is_server, true, &mut self.messages);
                self.hands.on_gone(is_server);
            }
        }
        self.ends.forget(is_server);
        self.connections.on_server_restarted(how, copy.map(|copy| &copy.connections), now);
        if how == Restart::Stale {
            for cid in self.connections.known() {
                self.note(Party::Server(cid), Why::Restored);
                self.note(Party::Server(cid), Why::EpochEnded);
            }
        }
    }
}
