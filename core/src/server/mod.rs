//! The server machines.
//!
//! There are two, so that one slow connection never delays another: a [`Registry`], which knows who is who, and for each
//! connection a [`Peer`], which knows what was sent. [`Server`] composes them for an embedding with one thread, and for tests;
//! an adapter with many threads runs each peer by itself and carries what the two say to each other.

mod command;
mod config;
mod ended;
mod event;
mod greeting;
mod peer;
mod receipts;
mod registry;
mod state;
mod visitors;

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use core::net::IpAddr;
use core::time::Duration;

use crate::connection::Currency;
use crate::connection::Incoming;
use crate::deadline::soonest;
use crate::error::ApiMisuse;
use crate::expiring::ExpiringMap;
use crate::id::ConnectionId;
use crate::id::InstanceId;
use crate::id::MessageId;
use crate::id::Name;
use crate::id::Principal;
use crate::id::TransportId;
use crate::link::Decision;
use crate::link::Delivery;
use crate::link::Handle;
use crate::link::Lanes;
use crate::link::Outgoing;
use crate::rng::Rng;
use crate::time::Clock;
use crate::time::Instant;
use crate::wire::CloseCode;
use crate::wire::Payload;
use crate::wire::Token;

pub use self::command::Answer;
pub use self::command::Attach;
pub use self::command::Command;
pub use self::command::Generation;
pub use self::command::Origin;
pub use self::command::PeerId;
pub use self::config::Config;
pub use self::config::Receipts as ReceiptsConfig;
pub use self::event::PeerClosed;
pub use self::event::PeerEvent;
pub use self::event::Refusal;
pub use self::event::RegistryEvent;
pub use self::event::Unfinished;
pub use self::peer::Peer;
pub use self::peer::PeerInput;
pub use self::peer::PeerOutput;
pub use self::registry::Registry;
pub use self::registry::RegistryInput;
pub use self::registry::RegistryOutput;
pub use self::visitors::Admission;
pub use self::visitors::Mint;

use self::ended::Ended;

/// What happened outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<'a> {
    /// A transport was accepted. Say so before its WebSocket handshake: the caps and the deadline count from here.
    Accepted {
        /// What to call it: a number never used before.
        transport: TransportId,
        /// Where it comes from, where that is known.
        address: Option<IpAddr>,
        /// What only the system's CSPRNG may make.
        mint: Mint,
    },
    /// A WebSocket message came.
    Received {
        /// On which transport.
        transport: TransportId,
        /// What came.
        incoming: Incoming<'a>,
    },
    /// Bytes moved. Report it in every turn in which they did, before what the turn received: room for more, and what
    /// counts as life, are reckoned by it.
    Progress {
        /// On which transport.
        transport: TransportId,
        /// How many more bytes came, whether or not they make whole frames.
        read: u64,
        /// How many bytes of the texts handed out for this transport have left, in all.
        written: u64,
    },
    /// The transport is gone.
    Closed {
        /// Which one.
        transport: TransportId,
        /// The close code; [`CloseCode::ABNORMAL`] where none came.
        code: CloseCode,
    },
    /// The application answers [`Output::Authenticate`].
    Authenticated {
        /// Which transport.
        transport: TransportId,
        /// Whose credentials they are, and until when; `None` refuses them.
        admission: Option<Admission>,
    },
}

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Write one WebSocket text message. Nothing else holds the text, so it can go to the socket without a copy.
    Write {
        /// On which transport.
        transport: TransportId,
        /// The message.
        text: String,
    },
    /// Close the transport, after what was written. It is dead from here on.
    Close {
        /// Which one.
        transport: TransportId,
        /// The close code to send.
        code: CloseCode,
    },
    /// Ask the application whose credentials these are, then say [`Input::Authenticated`].
    Authenticate {
        /// For which transport.
        transport: TransportId,
        /// The connection that it asks for.
        cid: ConnectionId,
        /// The credentials in its hello.
        token: Option<Token>,
    },
    /// Tell the application what happened to a connection.
    Peer {
        /// Which connection.
        cid: ConnectionId,
        /// What happened.
        event: PeerEvent,
    },
    /// Tell the application what happened at the registry.
    Registry(RegistryEvent),
}

/// A registry and its peers, driven by one thread. The law is the client's (see [`crate::client`]).
///
/// *Getters* take `&self`. `handle_*` take in what happened outside and never fail. *Commands* name a connection and fail only
/// for the caller's own faults. `poll_*` say what is to be done, and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    config: Config,
    clock: Clock,
    registry: Registry,
    /// The peers of registered connections.
    peers: BTreeMap<ConnectionId, Peer>,
    /// Peers of connections that their clients have ended while messages waited to be taken.
    ended: Ended,
    /// Which connection a transport is attached to; exactly the transports that peers hold.
    routes: BTreeMap<TransportId, ConnectionId>,
    /// Peers that may have outputs.
    dirty: BTreeSet<ConnectionId>,
    /// Peers from which something can be taken, but for those that are dirty, which may have changed since.
    deliverable: BTreeSet<ConnectionId>,
    /// When each peer wants to be woken.
    timers: ExpiringMap<ConnectionId, ()>,
    outputs: VecDeque<Output>,
    /// For delays that keep clients apart.
    rng: Rng,
}

impl Server {
    /// A server without connections.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            clock: Clock::new(now),
            registry: Registry::new(config.clone(), now),
            peers: BTreeMap::new(),
            ended: Ended::default(),
            routes: BTreeMap::new(),
            dirty: BTreeSet::new(),
            deliverable: BTreeSet::new(),
            timers: ExpiringMap::default(),
            outputs: VecDeque::new(),
            rng: Rng::new(0),
            config,
        }
    }

    /// Takes in what happened outside. An input that names a dead transport changes nothing.
    pub fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        let now = self.clock.advance(now);
        match input {
            Input::Accepted { transport, address, mint } => {
                self.registry.handle_input(RegistryInput::Accepted { transport, address, mint }, now);
            }
            Input::Received { transport, incoming } => {
                if !self.tell_peer(transport, PeerInput::Received { transport, incoming }, now) {
                    self.registry.handle_input(RegistryInput::Received { transport, incoming }, now);
                }
            }
            Input::Progress { transport, read, written } => {
                self.tell_peer(transport, PeerInput::Progress { transport, read, written }, now);
            }
            Input::Closed { transport, code } => {
                if !self.tell_peer(transport, PeerInput::Closed { transport, code }, now) {
                    self.registry.handle_input(RegistryInput::Closed { transport }, now);
                }
            }
            Input::Authenticated { transport, admission } => {
                self.registry.handle_input(RegistryInput::Authenticated { transport, admission }, now);
            }
        }
        self.settle(now);
    }

    /// Lets time pass. Call it when [`Server::poll_timeout`] is due; calling it earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.advance(now);
        self.registry.handle_timeout(now);
        while let Some((cid, ())) = self.timers.take_expired(now) {
            let peer = self.peers.get_mut(&cid).expect("a timer belongs to a peer");
            peer.handle_timeout(now);
            self.dirty.insert(cid);
        }
        self.ended.handle_timeout(now);
        self.settle(now);
    }

    /// Queues a reliable message on a connection, attached or not, and names it.
    ///
    /// # Errors
    ///
    /// As [`Peer::send`], and [`ApiMisuse::UnknownConnection`].
    pub fn send(&mut self, cid: &ConnectionId, message: Outgoing, now: Instant) -> Result<MessageId, ApiMisuse> {
        self.command(cid, now, |peer, now| peer.send(message, now))?
    }

    /// Sends an ephemeral message on a connection: now or never, without an outcome.
    ///
    /// # Errors
    ///
    /// As [`Peer::send_ephemeral`], and [`ApiMisuse::UnknownConnection`].
    pub fn send_ephemeral(
        &mut self,
        cid: &ConnectionId,
        key: Name,
        payload: Payload,
        now: Instant,
    ) -> Result<(), ApiMisuse> {
        self.command(cid, now, |peer, now| peer.send_ephemeral(key, payload, now))?
    }

    /// Hands the next message of a connection over to the application: see [`Peer::take`]. What came on an earlier one of this
    /// name, which its client has ended, comes first.
    pub fn take(&mut self, cid: &ConnectionId, now: Instant) -> Option<Delivery> {
        self.take_from(cid, Lanes::All, now)
    }

    /// The same for some of the lanes: the others keep what they hold.
    pub fn take_from(&mut self, cid: &ConnectionId, lanes: Lanes<'_>, now: Instant) -> Option<Delivery> {
        let now = self.clock.advance(now);
        if let Some(delivery) = self.ended.take(cid, lanes, now) {
            return Some(delivery);
        }
        self.command(cid, now, |peer, now| peer.take_from(lanes, now)).ok().flatten()
    }

    /// Closes a connection's transport with a code and keeps the state.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::UnknownConnection`], [`ApiMisuse::ReservedCode`].
    pub fn detach(&mut self, cid: &ConnectionId, code: CloseCode, now: Instant) -> Result<(), ApiMisuse> {
        self.command(cid, now, |peer, now| peer.detach(code, now))?
    }

    /// Ends a connection at once. What came on an earlier one of this name, which its client has ended, can still be taken.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::UnknownConnection`].
    pub fn disconnect(&mut self, cid: &ConnectionId, now: Instant) -> Result<(), ApiMisuse> {
        self.command(cid, now, Peer::disconnect)
    }

    /// Ends a connection once every message has its outcome, or after `patience`. What came on an earlier one of this name, which
    /// its client has ended, can still be taken.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::UnknownConnection`].
    pub fn close(&mut self, cid: &ConnectionId, patience: Duration, now: Instant) -> Result<(), ApiMisuse> {
        self.command(cid, now, |peer, now| peer.close(patience, now))
    }

    /// Withdraws a message that was sent on a connection.
    ///
    /// # Errors
    ///
    /// As [`Peer::cancel`], and [`ApiMisuse::UnknownConnection`].
    pub fn cancel(&mut self, cid: &ConnectionId, id: &MessageId, now: Instant) -> Result<(), ApiMisuse> {
        self.command(cid, now, |peer, now| peer.cancel(id, now))?
    }

    /// Decides about a message of a connection that is in the application's hands.
    ///
    /// # Errors
    ///
    /// As [`Peer::decide`], and [`ApiMisuse::UnknownConnection`].
    pub fn decide(
        &mut self,
        cid: &ConnectionId,
        handle: Handle,
        decision: Decision,
        now: Instant,
    ) -> Result<(), ApiMisuse> {
        let now = self.clock.advance(now);
        if self.ended.decide(cid, handle, &decision, now).is_ok() {
            return Ok(());
        }
        self.command(cid, now, |peer, now| peer.decide(handle, decision, now))?
    }

    /// Starts the lease of a message in the application's hands over, with this length.
    ///
    /// # Errors
    ///
    /// As [`Peer::extend`], and [`ApiMisuse::UnknownConnection`].
    pub fn extend(
        &mut self,
        cid: &ConnectionId,
        handle: Handle,
        lease: Duration,
        now: Instant,
    ) -> Result<(), ApiMisuse> {
        let now = self.clock.advance(now);
        if self.ended.extend(cid, handle, lease, now).is_ok() {
            return Ok(());
        }
        self.command(cid, now, |peer, now| peer.extend(handle, lease, now))?
    }

    /// Drains every connection: see [`Peer::drain`]. Each client is told to come back after a time of its own between the two.
    pub fn drain(&mut self, patience: Duration, come_back: (Duration, Duration), now: Instant) {
        let now = self.clock.advance(now);
        let cids: Vec<ConnectionId> = self.peers.keys().copied().collect();
        for cid in cids {
            let retry_after = self.rng.between(come_back.0, come_back.1);
            self.command(&cid, now, |peer, now| peer.drain(patience, retry_after, now)).expect("it was just listed");
        }
    }

    /// Revokes a connection: see [`Registry::revoke`].
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::UnknownConnection`].
    pub fn revoke(&mut self, cid: &ConnectionId, now: Instant) -> Result<(), ApiMisuse> {
        let now = self.clock.advance(now);
        let is_known = self.registry.revoke(cid, now);
        self.settle(now);
        if is_known { Ok(()) } else { Err(ApiMisuse::UnknownConnection) }
    }

    /// Revokes every connection of a principal, and returns how many there were.
    pub fn revoke_all(&mut self, principal: &Principal, now: Instant) -> usize {
        let now = self.clock.advance(now);
        let count = self.registry.revoke_all(principal, now);
        self.settle(now);
        count
    }

    /// Goes on from a stored state, in which no transport lives any more. `instance` is unique to this life of the server: it
    /// names messages. `currency` says whether the state has every frame that was written and every hand-over that was made;
    /// only then epochs go on.
    #[must_use]
    pub fn restored(mut self, instance: InstanceId, currency: Currency, now: Instant) -> Self {
        let now = self.clock.advance(now);
        // What became of messages is told once, and by nobody else any more.
        self.outputs.retain(|output| matches!(output, Output::Peer { .. }));
        self.registry.restore(now);
        self.routes.clear();
        self.ended.restore(&instance, currency);
        for (cid, peer) in &mut self.peers {
            peer.restore(&instance, currency);
            self.dirty.insert(*cid);
        }
        self.settle(now);
        self
    }

    /// The next thing to do. Poll until there is none, then wait.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            // What peers write is made when it is asked for, so that frames share a message.
            let cid = *self.dirty.first()?;
            let peer = self.peers.get_mut(&cid).expect("a dirty peer is there");
            match peer.poll_output() {
                Some(output) => self.forward(cid, output),
                None => {
                    self.dirty.remove(&cid);
                    self.look_after(cid);
                }
            }
        }
    }

    /// When to call [`Server::handle_timeout`]: the one timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        soonest([self.registry.poll_timeout(), self.timers.poll_timeout(), self.ended.poll_timeout()])
    }

    /// The registry, to look at.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The peer of a connection, to look at.
    #[must_use]
    pub fn peer(&self, cid: &ConnectionId) -> Option<&Peer> {
        self.peers.get(cid)
    }

    /// The connections that have a peer, by name.
    pub fn connections(&self) -> impl Iterator<Item = &ConnectionId> {
        self.peers.keys()
    }

    /// The connections from which [`Server::take`] has something to hand over, once every output was polled: by name, and then
    /// by name those of which only an earlier life has. It does not look at connections that have nothing.
    pub fn deliverable(&self) -> impl Iterator<Item = &ConnectionId> {
        self.deliverable.iter().chain(self.ended.deliverable().filter(|cid| !self.deliverable.contains(cid)))
    }

    fn tell_peer(&mut self, transport: TransportId, input: PeerInput<'_>, now: Instant) -> bool {
        let Some(cid) = self.routes.get(&transport).copied() else { return false };
        let peer = self.peers.get_mut(&cid).expect("a route leads to a peer");
        peer.handle_input(input, now);
        if let PeerInput::Closed { .. } = input {
            self.routes.remove(&transport);
        }
        self.dirty.insert(cid);
        true
    }

    fn command<T>(
        &mut self,
        cid: &ConnectionId,
        now: Instant,
        command: impl FnOnce(&mut Peer, Instant) -> T,
    ) -> Result<T, ApiMisuse> {
        let now = self.clock.advance(now);
        let peer = self.peers.get_mut(cid).ok_or(ApiMisuse::UnknownConnection)?;
        let result = command(peer, now);
        self.dirty.insert(*cid);
        self.settle(now);
        Ok(result)
    }

    /// Carries what registry and peers say to each other until they are silent. What peers write waits to be polled.
    fn settle(&mut self, now: Instant) {
        loop {
            while let Some(output) = self.registry.poll_output() {
                self.route(output, now);
            }
            let answers: VecDeque<_> = (self.dirty.iter())
                .filter_map(|cid| {
                    let peer = self.peers.get_mut(cid)?;
                    Some((peer.id(), peer.take_answer()?))
                })
                .collect();
            if answers.is_empty() {
                return;
            }
            for (peer, answer) in answers {
                self.registry.handle_input(RegistryInput::Answered { peer, answer }, now);
            }
        }
    }

    fn route(&mut self, output: RegistryOutput, now: Instant) {
        match output {
            RegistryOutput::Write { transport, text } => self.outputs.push_back(Output::Write { transport, text }),
            RegistryOutput::Close { transport, code } => self.outputs.push_back(Output::Close { transport, code }),
            RegistryOutput::Authenticate { transport, cid, token } => {
                self.outputs.push_back(Output::Authenticate { transport, cid, token });
            }
            RegistryOutput::Event(event) => self.outputs.push_back(Output::Registry(event)),
            RegistryOutput::Create(origin) => {
                let cid = origin.id.cid;
                if let Some(mut ended) = self.peers.insert(cid, Peer::new(&self.config, origin, now)) {
                    // The registry has given it up or seen it end; what it still has to say is said.
                    while let Some(output) = ended.poll_output() {
                        self.forward(cid, output);
                    }
                    self.ended.keep(ended, now + self.config.detach_ttl);
                }
            }
            RegistryOutput::Command { peer: id, command } => {
                if let Command::Attach(attach) = &command {
                    self.routes.insert(attach.transport, id.cid);
                }
                let peer = self.peers.get_mut(&id.cid).expect("the registry speaks to peers that it made");
                peer.handle_command(command, now);
                self.dirty.insert(id.cid);
            }
        }
    }

    fn forward(&mut self, cid: ConnectionId, output: PeerOutput) {
        match output {
            PeerOutput::Write { transport, text } => self.outputs.push_back(Output::Write { transport, text }),
            PeerOutput::Close { transport, code } => {
                self.routes.remove(&transport);
                self.outputs.push_back(Output::Close { transport, code });
            }
            PeerOutput::Event(event) => self.outputs.push_back(Output::Peer { cid, event }),
            PeerOutput::Answer(_) => debug_assert!(false, "answers are carried before outputs are polled"),
        }
    }

    /// Whether something can be taken from a peer that has nothing more to say, and when to wake it. One that is over is kept
    /// only while its last messages may be taken, as long as a detached connection would be.
    fn look_after(&mut self, cid: ConnectionId) {
        let peer = &self.peers[&cid];
        if peer.has_delivery() && !peer.is_over() {
            self.deliverable.insert(cid);
        } else {
            self.deliverable.remove(&cid);
        }
        if peer.is_over() {
            self.timers.remove(&cid);
            let peer = self.peers.remove(&cid).expect("the peer was just looked at");
            self.ended.keep(peer, self.clock.now() + self.config.detach_ttl);
            return;
        }
        match peer.poll_timeout() {
            Some(at) => _ = self.timers.insert(cid, (), at),
            None => _ = self.timers.remove(&cid),
        }
    }
}
