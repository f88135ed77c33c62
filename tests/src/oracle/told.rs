//! What machines tell, held against what explains it.

use reattach_core::client;
use reattach_core::error::ProtocolError;
use reattach_core::id::ConnectionId;
use reattach_core::id::MessageId;
use reattach_core::outcome::Failure;
use reattach_core::outcome::Outcome;
use reattach_core::reconnect::GiveUp;
use reattach_core::server::PeerClosed;
use reattach_core::server::PeerEvent;
use reattach_core::server::RegistryEvent;
use reattach_core::time::Instant;

use super::Broken;
use super::Checked;
use super::Oracle;
use super::Party;
use super::causes::Why;
use super::check;
use super::wires::Fault;
use super::wires::Rivals;

impl Oracle {
    /// A client told something.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_client_event(
        &mut self,
        client: usize,
        wire: Option<u64>,
        event: &client::Event,
        now: Instant,
    ) -> Checked {
        use client::Event;
        let party = Party::Client(client);
        match event {
            Event::Attached { resumed } if !self.knows_wires => self.on_attached_unseen(party, *resumed),
            Event::Attached { resumed } => {
                let Some(wire) = wire else { return Err(Broken::new("S5", "attached without a wire")) };
                self.wires.on_attached_client(wire);
                let (epoch, was_resumed) = self.wires.answer_of(wire);
                check(was_resumed == Some(*resumed), "J1", || format!("the welcome on {wire} was {was_resumed:?}"))?;
                let had_epoch = self.connections.had_epoch(party);
                self.connections.on_attached_client(client, epoch, *resumed)?;
                if !resumed {
                    self.messages.on_epoch_over(party);
                    if had_epoch {
                        self.note(party, Why::EpochEnded);
                    }
                    if !self.wires.has_receipt(wire) {
                        self.note(party, Why::ReceiptLost);
                    }
                    self.hands.on_sealed(|of| of == party, false, &mut self.messages);
                }
                Ok(())
            }
            Event::Detached { ended } | Event::TryFailed { ended } => {
                if self.connections.has_ended(party) {
                    // It may give up without a word but its last one.
                    self.note(party, Why::GaveUp);
                }
                self.connections.on_wire_ended(client, matches!(event, Event::Detached { .. }));
                if self.connections.has_other_ended(client) {
                    // It may have been the last word of the epoch.
                    self.hands.on_ended(party, &mut self.messages);
                }
                self.check_end_unseen(party)?;
                let Some(wire) = wire else { return Ok(()) };
                self.wires.expect_cause(wire, format!("client {client} says that {wire} ended: {ended}"));
                Ok(())
            }
            Event::Delivered { id } => self.on_outcome(party, id, &Outcome::Delivered, now),
            Event::SendFailed(failed) => self.on_failed(party, &failed.id, &failed.failure, now),
            Event::Delayed { id } => self.on_delayed(party, id),
            Event::Superseded => {
                let cid = self.connections.cid_of(client);
                let has_rival = self.connections.was_taken_over(cid);
                check(has_rival, "J1", || format!("nobody else took {cid} over from client {client}"))?;
                self.note(party, Why::Superseded);
                self.note(party, Why::EpochEnded);
                if self.causes.ever(party, Why::Restored) {
                    self.note(party, Why::Restored);
                }
                self.connections.on_stopped(client);
                self.ends.on_over(party, &self.rules, now)?;
                self.hands.on_ended(party, &mut self.messages);
                Ok(())
            }
            Event::IdentityChanged { old: _, new } => {
                self.connections.on_identity_changed(client, *new);
                self.hands.on_ended(party, &mut self.messages);
                Ok(())
            }
            Event::FrameSkipped { error } => {
                let is_garbled = wire.is_some_and(|wire| self.wires.has(wire, Fault::Garbled));
                check(is_garbled, "J1", || format!("client {client} skips a frame that nobody garbled: {error}"))
            }
            Event::PeerBrokeProtocol { error } => self.on_broken_protocol(party, wire, *error),
            Event::Failed { reason } => {
                self.ends.on_over(party, &self.rules, now)?;
                self.note(party, Why::GaveUp);
                self.connections.on_stopped(client);
                self.hands.on_ended(party, &mut self.messages);
                match reason {
                    GiveUp::Exhausted { attempts, .. } if self.knows_wires => {
                        self.connections.check_exhausted(client, *attempts)
                    }
                    // Each of its tries ended with a cause of its own.
                    GiveUp::Exhausted { .. } | GiveUp::Unauthorized { .. } | GiveUp::Hopeless { .. } | _ => Ok(()),
                }
            }
            Event::Closed { reason } => {
                let is_wanted = self.connections.has_ended(party) || self.causes.ever(party, Why::Ended);
                check(is_wanted, "J1", || format!("client {client} ended, and nobody wanted it: {reason:?}"))?;
                if *reason == client::Closed::Flushed {
                    self.check_flushed(party)?;
                }
                self.ends.on_over(party, &self.rules, now)?;
                self.note(Party::Server(self.connections.cid_of(client)), Why::Ended);
                self.connections.on_over(client);
                self.hands.on_ended(party, &mut self.messages);
                Ok(())
            }
            other => Err(Broken::new("J1", format!("what is this? {other:?}"))),
        }
    }

    /// The server told something of a connection. `wire` is the one that was attached, where that is the news.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_peer_event(&mut self, cid: ConnectionId, wire: Option<u64>, event: &PeerEvent, now: Instant) -> Checked {
        let party = Party::Server(cid);
        match event {
            PeerEvent::Attached { resumed } if !self.knows_wires => self.on_attached_unseen(party, *resumed),
            PeerEvent::Attached { resumed } => {
                let Some(wire) = wire else { return Err(Broken::new("S5", "attached without a wire")) };
                let (client, known) = (self.wires.client_of(wire), self.wires.hello_of(wire));
                self.wires.on_overtaken(cid, wire);
                self.connections.check_owner(cid, self.wires.has(wire, Fault::Thief))?;
                let instance = self.wires.instance_of(wire);
                self.connections.check_holder(cid, instance, self.wires.was_challenged(wire))?;
                let had_epoch = self.connections.had_epoch(party);
                let epoch =
                    self.connections.on_attached_server(cid, wire, client, known, *resumed, &self.rules, now)?;
                let has_receipt = !resumed && self.connections.has_receipt(cid, known, &self.rules, now);
                self.wires.on_attached_server(wire, cid, epoch, *resumed, has_receipt);
                if !resumed {
                    self.messages.on_epoch_over(party);
                    if had_epoch {
                        self.note(party, Why::EpochEnded);
                    }
                    self.hands.on_sealed(|of| of == party, false, &mut self.messages);
                }
                Ok(())
            }
            PeerEvent::Detached { ended } => {
                self.check_end_unseen(party)?;
                if let Some(wire) = self.connections.on_detached(&cid, now) {
                    self.wires.expect_cause(wire, format!("the server says that {wire} ended: {ended}"));
                }
                Ok(())
            }
            PeerEvent::Delivered { id } => self.on_outcome(party, id, &Outcome::Delivered, now),
            PeerEvent::SendFailed(failed) => self.on_failed(party, &failed.id, &failed.failure, now),
            PeerEvent::Delayed { id } => self.on_delayed(party, id),
            PeerEvent::Closed { reason } => {
                let has_cause = match reason {
                    PeerClosed::ByPeer { .. } => self.causes.ever(party, Why::Ended),
                    PeerClosed::Expired => self.causes.ever(party, Why::Expired),
                    PeerClosed::Flushed | PeerClosed::Cut { .. } | PeerClosed::Revoked => {
                        self.causes.ever(party, Why::Closed)
                    }
                    PeerClosed::Drained { .. } | PeerClosed::ShutDown => self.causes.ever(party, Why::Shutdown),
                    PeerClosed::Fenced | _ => false,
                };
                check(has_cause, "J1", || format!("{cid} ended, and nobody wanted it: {reason:?}"))?;
                let is_drained = matches!(reason, PeerClosed::Drained { unfinished } if unfinished.is_nothing());
                if is_drained || *reason == PeerClosed::Flushed {
                    self.check_flushed(party)?;
                }
                self.ends.on_over(party, &self.rules, now)?;
                for client in self.connections.clients_of(cid) {
                    self.note(Party::Client(client), Why::Ended);
                    self.note(Party::Client(client), Why::EpochEnded);
                }
                self.connections.on_ended(cid);
                self.messages.on_left(party);
                self.hands.on_ended(party, &mut self.messages);
                Ok(())
            }
            PeerEvent::FrameSkipped { error } => {
                let wire = self.connections.wire_of(&cid);
                let is_garbled = wire.is_some_and(|wire| self.wires.has(wire, Fault::Garbled));
                check(is_garbled, "J1", || format!("{cid} skips a frame that nobody garbled: {error}"))
            }
            PeerEvent::PeerBrokeProtocol { error } => {
                let wire = self.connections.wire_of(&cid);
                self.on_broken_protocol(party, wire, *error)
            }
            other => Err(Broken::new("J1", format!("what is this? {other:?}"))),
        }
    }

    /// The server's registry told something. `now` is the server's time.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_registry_event(&mut self, event: &RegistryEvent, now: Instant) -> Checked {
        match event {
            RegistryEvent::Registered { cid, principal } => {
                self.connections.on_registered(*cid, principal, self.rules.max_connections)
            }
            RegistryEvent::Refused { transport, refusal } => {
                let wire = transport.0;
                let names = self.wires.client_of(wire).map(|client| self.connections.cids_of(client).to_vec());
                let names = names.unwrap_or_default();
                let was_taken_over = names.iter().any(|cid| self.connections.was_taken_over(*cid));
                let has_clones = names.iter().any(|cid| self.connections.lives(*cid) > 1);
                let has_rivals = has_clones || self.wires.has_ghosts();
                let rivals = Rivals { was_taken_over, has_rivals };
                self.wires.on_refused(wire, *refusal, rivals, &self.rules, &self.connections)
            }
            RegistryEvent::TakenOver { cid } => self.connections.on_taken_over(*cid, self.wires.has_ghosts()),
            RegistryEvent::Expired { cid } => {
                self.connections.on_expired(cid, &self.rules, now)?;
                self.note(Party::Server(*cid), Why::Expired);
                for client in self.connections.clients_of(*cid) {
                    self.note(Party::Client(client), Why::EpochEnded);
                }
                Ok(())
            }
            RegistryEvent::Removed { cid } => self.connections.on_removed(cid, &self.rules, now),
            RegistryEvent::Fenced { .. } | _ => {
                Err(Broken::new("J1", format!("within one thread nothing is late: {event:?}")))
            }
        }
    }

    fn on_failed(&mut self, party: Party, id: &MessageId, failure: &Failure, now: Instant) -> Checked {
        match failure {
            Failure::ForGood(outcome) => {
                check(*outcome != Outcome::Delivered, "S3", || format!("{id} failed, and is delivered"))?;
                self.on_outcome(party, id, outcome, now)
            }
            Failure::ForNow { attempt, .. } => self.messages.on_put_off_told(party, id, *attempt),
        }
    }

    /// Who ends with nothing left has heard of all that it sent, and of nothing that its end cost it.
    fn check_flushed(&self, party: Party) -> Checked {
        let is_flushed = self.messages.are_all_told(party) && !self.ends.has_cost(party);
        check(is_flushed, "J1", || format!("{party:?} says that it had nothing left to send, and it had"))
    }

    fn on_delayed(&self, party: Party, id: &MessageId) -> Checked {
        let is_open = self.messages.is_open(party, id);
        check(is_open, "S4", || format!("{party:?} is told that {id} is delayed, which has its outcome"))
    }

    fn on_broken_protocol(&mut self, party: Party, wire: Option<u64>, error: ProtocolError) -> Checked {
        let Some(wire) = wire else { return Err(Broken::new("J1", format!("{party:?} on no wire: {error}"))) };
        if let (ProtocolError::OldState, Party::Client(client)) = (error, party) {
            let is_old = self.connections.is_server_old() || self.connections.is_copy(client);
            check(is_old, "J1", || format!("client {client} says that the server's state is old, and it is not"))?;
            self.note(party, Why::EpochEnded);
            self.note(party, Why::ReceiptLost);
            self.connections.on_epoch_forgotten(client);
            self.hands.on_ended(party, &mut self.messages);
            self.wires.on_fault(wire, Fault::OldState);
            return Ok(());
        }
        // The word that places were freed may be what was lost. A WebSocket loses no text while it lives, so what follows costs a
        // transport that cannot be.
        let is_unheard = error == ProtocolError::WindowExceeded && self.wires.has(wire, Fault::Lost);
        let is_explained = self.wires.is_corrupt(wire) || is_unheard;
        check(is_explained, "J1", || format!("both ends of {wire} are honest, and {party:?} says: {error}"))
    }
}
