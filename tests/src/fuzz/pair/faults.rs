//! What goes wrong, and what is ended on purpose: wires that break, programs that die, connections that are detached or closed.

use std::time::Duration;

use reattach_core::server::Server;
use reattach_core::wire::CloseCode;

use crate::oracle::Fault;
use crate::oracle::Restart;
use crate::oracle::Why;

use super::Run;
use super::wires::End;
use super::wires::Item;

impl Run<'_> {
    /// A transport breaks: the first texts on it still arrive, and then both ends hear of it.
    pub(super) fn cut(&mut self) {
        let Some(number) = self.any_wire() else { return };
        self.disturb(number, Fault::Cut);
        let (up, down) = (self.bytes.below(4), self.bytes.below(4));
        let code = self.bytes.pick(&[CloseCode::ABNORMAL, CloseCode::NORMAL, CloseCode::TRY_LATER]);
        let Some(wire) = self.wires.get_mut(&number) else { return };
        for (end, keep) in [(&mut wire.server, up), (&mut wire.client, down)] {
            end.coming.truncate(keep);
            end.coming.push_back(Item::Closed(code));
        }
        self.drop_dead_wires();
    }

    /// Time passes with everybody asleep.
    pub(super) fn pass(&mut self) {
        let late = Duration::from_millis(self.bytes.number().min(10_000));
        self.sleep(late);
        self.now = self.now + late;
    }

    /// Nobody will have done anything for so long.
    pub(super) fn sleep(&mut self, late: Duration) {
        self.faults += 1;
        self.oracle.on_late(late);
        self.oracle.on_fault_everywhere(Fault::Paused);
    }

    /// Something happens to a wire that explains its end.
    pub(super) fn disturb(&mut self, number: u64, fault: Fault) {
        self.faults += 1;
        self.oracle.on_fault(number, fault);
    }

    pub(super) fn reconnect(&mut self) {
        let Some(side) = self.any_side() else { return };
        self.faults += 1;
        self.go_on(side);
    }

    /// A client is told to connect now. Returns whether it can.
    pub(super) fn go_on(&mut self, side: usize) -> bool {
        let can = self.sides[side].client.reconnect(self.now).is_ok();
        if can {
            self.oracle.on_client_command(side, false);
        }
        can
    }

    pub(super) fn detach(&mut self) {
        let Some(cid) = self.any_cid() else { return };
        self.faults += 1;
        self.oracle.on_server_command(cid, None);
        let code = self.bytes.pick(&[CloseCode::RESTART, CloseCode::GOING_AWAY]);
        _ = self.server.detach(&cid, code, self.now);
    }

    /// A program dies, or a second copy of the client starts.
    pub(super) fn crash(&mut self) {
        self.faults += 1;
        self.losses += 1;
        match self.bytes.below(3) {
            0 => {
                self.server = Server::new(self.server_config.clone(), self.now);
                self.oracle.on_server_down();
                self.oracle.on_server_restarted(Restart::Lost, None, self.now);
                for (number, wire) in self.wires.iter_mut().filter(|(_, wire)| wire.is_open) {
                    self.oracle.on_fault(*number, Fault::Crashed);
                    wire.server = End::default();
                    wire.client.coming.push_back(Item::Closed(CloseCode::ABNORMAL));
                }
            }
            1 if self.sides.len() < 6 => {
                if let Some(gone) = self.any_side() {
                    self.sides[gone].lives = false;
                    for (number, wire) in self.wires.iter_mut().filter(|(_, wire)| wire.side == gone) {
                        self.oracle.on_fault(*number, Fault::Crashed);
                        wire.client = End::default();
                        wire.server.coming.push_back(Item::Closed(CloseCode::ABNORMAL));
                    }
                    self.oracle.on_client_gone(gone);
                    self.wires.retain(|_, wire| wire.is_open || wire.side != gone);
                }
                self.begin();
            }
            2 if self.sides.len() < 6 => self.begin(),
            _ => {}
        }
        self.drop_dead_wires();
    }

    /// An application ends a connection.
    pub(super) fn end(&mut self) {
        self.faults += 1;
        self.losses += 1;
        let patience = Duration::from_millis(self.bytes.pick(&[100, 0, 1_000]));
        let choice = self.bytes.below(4);
        if let (0 | 1, Some(side)) = (choice, self.any_side()) {
            let client = &mut self.sides[side].client;
            if choice == 0 {
                client.close(patience, self.now)
            } else {
                client.disconnect(self.now)
            }
            self.oracle.on_client_command(side, true);
        } else if let Some(cid) = self.any_cid() {
            let ended = if choice == 2 {
                self.server.close(&cid, patience, self.now)
            } else {
                self.server.disconnect(&cid, self.now)
            };
            ended.expect("it is registered");
            self.oracle.on_server_command(cid, Some(Why::Closed));
        }
    }
}
