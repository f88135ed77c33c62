//! Programs that end, and programs that are there twice.

use std::time::Duration;

use reattach_driver::ConnectionState;
use reattach_driver::testing::Direction;

use super::world::Running;
use super::world::World;

impl World {
    /// A client's program breaks down, and another one starts in its place.
    pub(super) async fn replace(&mut self, client: usize, same_key: bool) {
        self.on_outage(client);
        let running = &mut self.clients[client];
        // It says nothing more.
        running.net.stall_one_way(Direction::ToServer);
        running.net.cut();
        self.end_program(client);
        let running = &mut self.clients[client];
        for (_, watching) in std::mem::take(&mut running.watching) {
            drop(watching.watch.take());
        }
        let (net, keys) = (running.net.clone(), if same_key { running.keys } else { running.keys + 1 });
        self.net.sleep(Duration::from_millis(20)).await;
        net.heal();
        _ = self.start_in_place(client, keys);
    }

    /// A second program starts with the identity of one that goes on: a cloned tab, a copied file. What was asked of either may be
    /// lost to it, but nothing may be doubled, and each is told how everything ended.
    pub(super) fn twin(&mut self, client: usize) {
        self.on_outage(client);
        let keys = self.clients[client].keys;
        let first = self.start_in_place(client, keys);
        self.firsts.push(first);
        self.doubled.insert(client);
    }

    /// Those that were there twice end.
    pub(super) fn end_firsts(&mut self) {
        for first in std::mem::take(&mut self.firsts) {
            self.end(&first);
        }
    }

    /// Who was evicted does not come back: its program starts anew. Returns whether there was any.
    pub(super) async fn replace_superseded(&mut self) -> bool {
        let is_superseded = |client: &usize| self.clients[*client].client.state() == ConnectionState::Superseded;
        let superseded: Vec<_> = self.doubled.iter().copied().filter(is_superseded).collect();
        for client in &superseded {
            self.known().coverage.reach("client superseded");
            self.replace(*client, true).await;
        }
        !superseded.is_empty()
    }

    fn start_in_place(&mut self, client: usize, keys: u64) -> Running {
        let net = self.clients[client].net.clone();
        let mut next = self.start_client(net, client, keys);
        next.cuts = self.clients[client].cuts;
        let first = std::mem::replace(&mut self.clients[client], next);
        // What the server asked of the one before may be asked of this one, and what it had is lost.
        self.on_outage(client);
        first
    }

    fn end_program(&self, client: usize) {
        self.end(&self.clients[client]);
    }

    fn end(&self, running: &Running) {
        let program = running.program;
        self.ledger.note(&format!("program {program} breaks down"), |known| {
            known.programs[program] = false;
            Ok(())
        });
        running.client.disconnect();
    }
}
