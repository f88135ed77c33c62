//! What machines ask for and tell.

use std::hash::Hash;
use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Event;
use reattach_core::id::Name;
use reattach_core::id::Principal;
use reattach_core::id::TransportId;
use reattach_core::outcome::Failure;
use reattach_core::outcome::Outcome;
use reattach_core::server;
use reattach_core::server::Admission;
use reattach_core::server::PeerEvent;
use reattach_core::server::RegistryEvent;
use reattach_core::server::Server;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Token;

use crate::oracle::Broken;
use crate::oracle::Checked;
use crate::oracle::End;
use crate::oracle::Fault;

use super::schedule::Way;
use super::wires::Item;
use super::wires::Wire;
use super::world::World;

impl World<'_> {
    /// A client says all that it has to say, and its application takes what there is.
    pub(super) fn drain_client(&mut self, seat: usize) -> Checked {
        loop {
            while let Some(output) = self.seats[seat].client.as_mut().and_then(Client::poll_output) {
                self.on_client_output(seat, output)?;
            }
            if !self.take_down(seat)? {
                return Ok(());
            }
        }
    }

    /// The server says all that it has to say, and its application takes what there is.
    pub(super) fn drain_server(&mut self) -> Checked {
        loop {
            while let Some(output) = self.server.as_mut().and_then(Server::poll_output) {
                self.on_server_output(output)?;
            }
            if !self.take_up()? {
                return Ok(());
            }
        }
    }

    fn on_client_output(&mut self, seat: usize, output: client::Output) -> Checked {
        match output {
            client::Output::Open { transport } => {
                self.open(seat, transport);
                Ok(())
            }
            client::Output::Write { transport, text } => {
                let wire = self.seats[seat].transports.get(&transport).copied();
                let Some(wire) = wire else {
                    return Err(Broken::new("S5", format!("client {seat} writes on {transport:?}, which never was")));
                };
                if text.starts_with("{\"t\":\"hello\"") {
                    self.seats[seat].hellos.push(text.clone());
                }
                self.write(wire, Way::Up, text)
            }
            client::Output::Close { transport, code } => {
                let wire = self.seats[seat].transports.get(&transport).copied();
                let Some(wire) = wire else {
                    return Err(Broken::new("S5", format!("client {seat} closes {transport:?}, which never was")));
                };
                self.close(wire, Way::Up, code)
            }
            client::Output::Event(event) => {
                self.tell(|_| format!("client {seat} tells {event:?}"));
                event.hash(&mut self.hasher);
                let wire = self.seats[seat].wire;
                let now = self.seats[seat].program.latest;
                self.oracle.on_client_event(seat, wire, &event, now)?;
                if let Event::SendFailed(failed) = &event {
                    self.note_failure(&failed.failure);
                } else if let Event::Delivered { .. } = &event {
                    self.coverage.told(&Outcome::Delivered);
                }
                self.after_client_event(seat, &event);
                Ok(())
            }
        }
    }

    fn note_failure(&mut self, failure: &Failure) {
        if let Failure::ForGood(outcome) = failure {
            self.coverage.told(outcome);
        }
    }

    fn after_client_event(&mut self, seat: usize, event: &Event) {
        if let Event::IdentityChanged { new: _, .. } = event {
            let spare = reattach_core::id::ConnectionKey::from_bytes(self.random());
            if let Some(client) = &mut self.seats[seat].client {
                client.provide_key(spare);
            }
        }
    }

    /// Whether somebody else has its key, and may have come first.
    pub(super) fn is_robbed(&self, seat: usize) -> bool {
        let key = self.seats[seat].key;
        self.seats.iter().any(|seat| seat.is_robbed && seat.key == key)
    }

    fn open(&mut self, seat: usize, transport: TransportId) {
        self.opened += 1;
        let number = self.opened;
        self.tell(|_| format!("client {seat} opens {number}"));
        self.oracle.on_asked(number, seat);
        let mut wire = Wire::new(Some(seat), transport, self.now);
        wire.rate = self.seats[seat].rate;
        if wire.rate.is_some() {
            self.oracle.on_fault(number, Fault::Slow);
        }
        self.wires.insert(number, wire);
        let it = &mut self.seats[seat];
        (it.wire, it.is_open) = (Some(number), false);
        it.transports.insert(transport, number);
        if self.is_robbed(seat) {
            self.oracle.on_fault(number, Fault::Credentials);
        }
        let it = &self.seats[seat];
        // What was wrong with the programs before is wrong with it too.
        if it.program.is_troubled || self.host.is_troubled {
            self.oracle.on_fault(number, Fault::Paused);
        }
        match self.road {
            None => self.put(number, Way::Up, Item::Open, Duration::ZERO),
            Some((error, _)) => {
                self.oracle.on_fault(number, Fault::Road);
                if let Some(error) = error {
                    self.put(number, Way::Down, Item::Failed(error), Duration::ZERO);
                }
            }
        }
    }

    /// A machine closes its end of a wire.
    fn close(&mut self, number: u64, way: Way, code: CloseCode) -> Checked {
        let end = if way == Way::Up { End::Client } else { End::Server };
        self.tell(|_| format!("{end:?} closes {number} with {code:?}"));
        code.hash(&mut self.hasher);
        self.oracle.on_close(number, end)?;
        if let Some(wire) = self.wires.get_mut(&number) {
            wire.ends[1 - way.end()].lives = false;
            if wire.is_cut {
                return Ok(());
            }
        }
        self.put(number, way, Item::Closed(code), Duration::ZERO);
        Ok(())
    }

    fn on_server_output(&mut self, output: server::Output) -> Checked {
        match output {
            server::Output::Write { transport, text } => {
                if text.starts_with("{\"t\":\"welcome\"") {
                    self.welcomed = Some(transport.0);
                }
                self.write(transport.0, Way::Down, text)
            }
            server::Output::Close { transport, code } => self.close(transport.0, Way::Down, code),
            server::Output::Authenticate { transport, cid: _, token } => {
                self.authenticate(transport, token.as_ref());
                Ok(())
            }
            server::Output::Peer { cid, event } => {
                self.tell(|_| format!("the server tells {event:?} of {cid}"));
                event.hash(&mut self.hasher);
                // The welcome has just been written.
                let wire = self.welcomed.filter(|_| matches!(event, PeerEvent::Attached { .. }));
                if let PeerEvent::SendFailed(failed) = &event {
                    self.note_failure(&failed.failure);
                } else if let PeerEvent::Delivered { .. } = &event {
                    self.coverage.told(&Outcome::Delivered);
                }
                self.oracle.on_peer_event(cid, wire, &event, self.host.latest)
            }
            server::Output::Registry(event) => {
                self.tell(|_| format!("the registry tells {event:?}"));
                event.hash(&mut self.hasher);
                if let RegistryEvent::Registered { cid, .. } = &event {
                    self.leaving.remove(cid);
                    if !self.cids.contains(cid) {
                        self.cids.push(*cid);
                    }
                }
                self.oracle.on_registry_event(&event, self.host.latest)
            }
        }
    }

    fn authenticate(&mut self, transport: TransportId, token: Option<&Token>) {
        let account = token.map(Token::reveal).and_then(|token| token.strip_prefix("account "));
        let expires = self.schedule.plan.expiry.map(|expiry| self.host.latest + expiry);
        if expires.is_some() {
            self.oracle.on_fault(transport.0, Fault::Credentials);
        }
        let principal = account.and_then(|account| Name::new(account).ok()).map(Principal::Named);
        if let Some(principal) = &principal {
            self.oracle.on_admitted(transport.0, principal.clone());
        }
        let admission = principal.map(|principal| Admission { principal, expires });
        self.tell_server(server::Input::Authenticated { transport, admission });
    }

    /// A stranger hears something.
    pub(super) fn arrive_at_stranger(&mut self, number: u64, item: &Item) {
        if let Item::Text(text) = item {
            self.answer_as_stranger(number, text);
        }
    }
}
