//! What the server has above its links: a hub, and the requests of each connection.

use std::collections::BTreeMap;

use reattach_core::hub;
use reattach_core::hub::Hub;
use reattach_core::id::ConnectionId;
use reattach_core::id::Epoch;
use reattach_core::id::Principal;
use reattach_core::id::SessionId;
use reattach_core::link::Delivery;
use reattach_core::link::Outgoing;
use reattach_core::messages::PermissionId;
use reattach_core::permission::Verdict;
use reattach_core::rpc;
use reattach_core::rpc::Call;
use reattach_core::rpc::ErrorObject;
use reattach_core::rpc::IncomingCall;
use reattach_core::rpc::IncomingId;
use reattach_core::rpc::RequestId;
use reattach_core::rpc::Rpc;
use reattach_core::server::PeerEvent;
use reattach_core::server::RegistryEvent;
use reattach_core::session;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;

use super::Ensemble;
use super::channel_of;
use super::in_channel;
use super::question;

/// What a server has above its links. A copy of it is its state on a disk.
#[derive(Clone, Debug)]
pub struct House {
    /// The sessions, and the questions in them.
    pub hub: Hub,
    /// The requests of each connection.
    pub desks: BTreeMap<ConnectionId, Desk>,
    /// What was decided, in order.
    pub verdicts: Vec<(Instant, PermissionId, Verdict)>,
    /// What happened to sessions, in order.
    pub events: Vec<(Instant, session::Event)>,
    /// In which session each question was asked.
    pub asked_in: BTreeMap<PermissionId, SessionId>,
    /// The sessions, and whose they are.
    pub owners: BTreeMap<SessionId, Principal>,
    principals: BTreeMap<ConnectionId, Principal>,
    /// How many desks there were: each is another life of its machine.
    lives: u8,
}

/// The requests of one connection at the server.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The machine.
    pub rpc: Rpc,
    /// What the client wants and the ensemble does not serve.
    pub calls: Vec<IncomingCall>,
    /// What became of the requests of this side, and what else the machine told.
    pub events: Vec<rpc::Event>,
    /// Whether it has joined an epoch.
    has_epoch: bool,
}

impl House {
    /// Without anything.
    pub fn new(now: Instant) -> Self {
        Self {
            hub: Hub::new(hub::Config::default(), now),
            desks: BTreeMap::new(),
            verdicts: Vec::new(),
            events: Vec::new(),
            asked_in: BTreeMap::new(),
            owners: BTreeMap::new(),
            principals: BTreeMap::new(),
            lives: 0,
        }
    }

    /// Begins a session of a connection's principal.
    pub fn create(&mut self, session: &SessionId, of: ConnectionId, life: u8) {
        let principal = self.principals[&of].clone();
        self.owners.insert(session.clone(), principal.clone());
        self.hub.create(session.clone(), principal, Epoch::from_bytes([life; 16])).expect("it is new");
    }

    /// The server's application answers a request.
    ///
    /// # Errors
    ///
    /// As `Rpc::respond`.
    pub fn respond(
        &mut self,
        to: ConnectionId,
        id: IncomingId,
        result: Result<Payload, ErrorObject>,
        now: Instant,
    ) -> Result<(), rpc::RpcMisuse> {
        let desk = self.desks.get_mut(&to).ok_or(rpc::RpcMisuse::NotWaiting)?;
        desk.rpc.respond(id, result, now)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let desks = self.desks.values().filter_map(|desk| desk.rpc.poll_timeout());
        desks.chain(self.hub.poll_timeout()).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.hub.handle_timeout(now);
        self.desks.values_mut().for_each(|desk| desk.rpc.handle_timeout(now));
    }

    /// The server's application takes a call: the hub serves what is the hub's, the rest is left to the test.
    fn take(&mut self, from: ConnectionId, call: IncomingCall, now: Instant) {
        let served = self.hub.handle_request(from, &call.method, call.params.as_ref(), now);
        assert_eq!(served.is_some(), hub::Call::is_method(&call.method), "{}", call.method);
        match (served, call.id) {
            // Nobody may wait any more.
            (Some(result), Some(id)) => _ = self.respond(from, id, result, now),
            (Some(_), None) => {}
            (None, _) => self.desks.get_mut(&from).expect("it has a desk").calls.push(call),
        }
    }
}

impl Ensemble {
    /// Begins a session of a client's principal.
    pub fn create_session(&mut self, name: &str, client: usize) -> SessionId {
        let session = super::session(name);
        let cid = self.world.clients[client].client.connection_id();
        self.house.create(&session, cid, 1);
        session
    }

    /// The server begins a request to a client.
    pub fn request_down(&mut self, client: usize, call: Call) -> RequestId {
        let (cid, now) = (self.world.clients[client].client.connection_id(), self.world.now);
        let desk = self.house.desks.get_mut(&cid).expect("a connection has a desk");
        let id = desk.rpc.request(call, now).expect("scripts are short");
        self.settle();
        id
    }

    /// The server's application answers a request of the first client.
    ///
    /// # Errors
    ///
    /// As `Rpc::respond`.
    pub fn respond_up(&mut self, id: IncomingId, result: Result<Payload, ErrorObject>) -> Result<(), rpc::RpcMisuse> {
        let (cid, now) = (self.world.cid(), self.world.now);
        let responded = self.house.respond(cid, id, result, now);
        self.settle();
        responded
    }

    /// What was decided about a question, which is one thing at most.
    pub fn verdicts(&self, name: &str) -> Vec<Verdict> {
        let verdicts = self.house.verdicts.iter().filter(|(_, id, _)| *id == question(name));
        verdicts.map(|(_, _, verdict)| verdict.clone()).collect()
    }

    pub(super) fn on_registry_event(&mut self, event: RegistryEvent) {
        match event {
            RegistryEvent::Registered { cid, principal } => {
                self.house.lives += 1;
                let rpc = Rpc::new(rpc::Config::default(), &[100 + self.house.lives; 16], self.world.now);
                let desk = Desk { rpc, calls: Vec::new(), events: Vec::new(), has_epoch: false };
                self.house.desks.insert(cid, desk);
                self.house.principals.insert(cid, principal);
            }
            RegistryEvent::Removed { cid } => {
                self.house.hub.handle_gone(cid, self.world.now);
            }
            RegistryEvent::Refused { .. }
            | RegistryEvent::TakenOver { .. }
            | RegistryEvent::Expired { .. }
            | RegistryEvent::Fenced { .. }
            | _ => {}
        }
    }

    pub(super) fn on_peer_event(&mut self, cid: ConnectionId, event: &PeerEvent) {
        let now = self.world.now;
        if let Some((id, outcome)) = event.outcome() {
            self.ledger.on_outcome_down(cid, id);
            if let Some(desk) = self.house.desks.get_mut(&cid) {
                desk.rpc.handle_outcome(&id, outcome, now);
            }
            return;
        }
        match event {
            PeerEvent::Attached { resumed } => {
                let principal = self.house.principals[&cid].clone();
                self.house.hub.handle_attached(cid, &principal);
                let desk = self.house.desks.get_mut(&cid).expect("a connection has a desk");
                if !resumed && core::mem::replace(&mut desk.has_epoch, true) {
                    self.house.hub.handle_epoch_ended(cid);
                    let peer = self.world.server.peer(&cid);
                    let holds = |id: &_| peer.is_some_and(|peer| peer.connection().link().outbox().holds(id));
                    desk.rpc.handle_epoch_ended(holds, now);
                }
            }
            PeerEvent::Detached { .. } => self.house.hub.handle_detached(cid, now),
            PeerEvent::Closed { reason } => {
                // Every message had its outcome before.
                self.ledger.on_closed(&cid);
                if let Some(mut desk) = self.house.desks.remove(&cid) {
                    desk.rpc.handle_ended(&reason.to_string(), now);
                }
            }
            PeerEvent::Delivered { .. }
            | PeerEvent::SendFailed(_)
            | PeerEvent::Delayed { .. }
            | PeerEvent::FrameSkipped { .. }
            | PeerEvent::PeerBrokeProtocol { .. }
            | _ => {}
        }
    }

    pub(super) fn on_taken_up(&mut self, cid: ConnectionId, delivery: Delivery, is_left: bool) {
        let Delivery::Message(handed) = delivery else { return };
        let desk = self.house.desks.get_mut(&cid).filter(|_| !is_left);
        match (channel_of(handed.lane.name()), desk) {
            (Some(channel), Some(desk)) => {
                assert!(desk.rpc.has_room(), "scripts are short");
                desk.rpc.handle_message(channel, handed.payload, self.world.now);
            }
            (Some(_), None) => {}
            (None, _) => self.ledger.on_handed_up(&handed),
        }
    }

    /// Does what the server wants above its links. Returns whether there was anything.
    pub(super) fn drain_house(&mut self) -> bool {
        let now = self.world.now;
        let mut is_busy = false;
        let cids: Vec<_> = self.house.desks.keys().copied().collect();
        for cid in &cids {
            while let Some(call) = self.house.desks.get_mut(cid).and_then(|desk| desk.rpc.take()) {
                is_busy = true;
                self.house.take(*cid, call, now);
            }
        }
        while let Some(event) = self.house.hub.poll_event() {
            is_busy = true;
            match event {
                hub::Event::Session(event) => self.house.events.push((now, event)),
                hub::Event::Decided { id, verdict } => self.house.verdicts.push((now, id, verdict)),
                // Everybody is fed after every step.
                hub::Event::Published { .. } | _ => {}
            }
        }
        for cid in cids {
            is_busy |= self.drain_desk(cid);
            is_busy |= self.feed(cid);
        }
        is_busy
    }

    fn drain_desk(&mut self, cid: ConnectionId) -> bool {
        let now = self.world.now;
        let mut is_busy = false;
        while let Some(output) = self.house.desks.get_mut(&cid).and_then(|desk| desk.rpc.poll_output()) {
            is_busy = true;
            match output {
                rpc::Output::Send { channel, within, payload } => {
                    let sent = self.try_send_down(&cid, in_channel(channel, within, payload));
                    self.house.desks.get_mut(&cid).expect("it has a desk").rpc.handle_sent(sent, now);
                }
                rpc::Output::Withdraw(id) => _ = self.world.server.cancel(&cid, &id, now),
                rpc::Output::Event(event) => {
                    self.house.desks.get_mut(&cid).expect("it has a desk").events.push(event);
                }
            }
        }
        is_busy
    }

    /// Gives a connection what happened in the sessions that it watches, as long as there is room for it.
    fn feed(&mut self, cid: ConnectionId) -> bool {
        let mut is_busy = false;
        loop {
            let Some(peer) = self.world.server.peer(&cid).filter(|peer| peer.is_attached()) else { return is_busy };
            let takes = |session: &SessionId, len: usize| peer.has_room(&session.lane().into(), len as u64);
            let Some(pulled) = self.house.hub.pull(cid, takes) else { return is_busy };
            let message = Outgoing::from(pulled.payload).in_lane(pulled.session.lane());
            self.try_send_down(&cid, message).expect("there was room");
            is_busy = true;
        }
    }
}
