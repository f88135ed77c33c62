//! What is known of a registry from what it was told and what it said, and whether the two fit.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use reattach_core::id::ConnectionId;
use reattach_core::id::Epoch;
use reattach_core::id::InstanceId;
use reattach_core::id::Principal;
use reattach_core::id::TransportId;
use reattach_core::server::Admission;
use reattach_core::server::Answer;
use reattach_core::server::Attach;
use reattach_core::server::Config;
use reattach_core::server::Mint;
use reattach_core::server::Origin;
use reattach_core::server::PeerId;
use reattach_core::time::Instant;
use reattach_core::wire::Hello;
use reattach_core::wire::Receipt;

/// A transport that no peer has.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    /// Where it comes from; 0 is not known.
    pub(super) network: u8,
    pub(super) mint: Mint,
    /// The last hello on it.
    pub(super) hello: Option<Hello>,
    /// Whether the application was asked about it and has not answered.
    pub(super) is_asked: bool,
    /// What the application said.
    pub(super) admission: Option<Admission>,
    /// Whether the fence was asked for.
    pub(super) is_challenged: bool,
    /// Bytes written on it.
    pub(super) produced: usize,
}

/// What a peer was asked for and has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    Attach(TransportId),
    End,
}

/// A connection.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) peer: PeerId,
    pub(super) principal: Principal,
    pub(super) asked: Asked,
    /// The transport that its peer has, or is to have.
    pub(super) carries: Option<TransportId>,
    /// The epoch that its peer last spoke of.
    pub(super) epoch: Epoch,
    /// Where it began.
    network: u8,
    instance: InstanceId,
    /// The last hello that was attached.
    pub(super) hello: Option<Hello>,
    evicted: VecDeque<InstanceId>,
}

/// Everything that is known.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) config: Config,
    pub(super) visitors: BTreeMap<TransportId, Visitor>,
    pub(super) connections: BTreeMap<ConnectionId, Known>,
    /// Where the transports that peers have come from.
    networks: BTreeMap<TransportId, u8>,
    /// Receipts that were handed in, with the time until which they are kept at most.
    kept: BTreeMap<(ConnectionId, Epoch, Principal), (Receipt, Instant)>,
    generation: u64,
    /// When time was last let pass.
    pub(super) woken: Instant,
}

impl Ledger {
    pub(super) const fn new(config: Config, now: Instant) -> Self {
        Self {
            config,
            visitors: BTreeMap::new(),
            connections: BTreeMap::new(),
            networks: BTreeMap::new(),
            kept: BTreeMap::new(),
            generation: 0,
            woken: now,
        }
    }

    /// The transports that the registry counts.
    pub(super) fn transports(&self) -> usize {
        self.visitors.len() + self.connections.values().filter(|known| known.carries.is_some()).count()
    }

    /// Those of a network.
    pub(super) fn transports_from(&self, network: u8) -> usize {
        let visitors = self.visitors.values().filter(|visitor| visitor.network == network);
        let carried = self.connections.values().filter_map(|known| known.carries);
        visitors.count() + carried.filter(|transport| self.networks.get(transport) == Some(&network)).count()
    }

    /// Whether a connection of this owner that begins at this network has a place.
    pub(super) fn has_room(&self, principal: &Principal, network: u8) -> bool {
        let all = || self.connections.values();
        let of_principal = all().filter(|known| known.principal == *principal).count();
        let of_network = all().filter(|known| known.network == network).count();
        all().count() < self.config.max_connections
            && of_principal < self.config.max_per_principal
            && (network == 0 || of_network < self.config.max_per_address)
    }

    /// Whether anybody waits for anything.
    pub(super) fn is_waiting(&self) -> bool {
        let waits = |known: &Known| known.asked != Asked::Nothing || known.carries.is_none();
        !self.visitors.is_empty() || self.connections.values().any(waits)
    }

    /// A peer is made.
    pub(super) fn on_create(&mut self, origin: &Origin) {
        assert!(origin.id.generation.0 > self.generation, "every peer has a number of its own");
        self.generation = origin.id.generation.0;
        let known = Known {
            peer: origin.id,
            principal: origin.principal.clone(),
            asked: Asked::Nothing,
            carries: None,
            epoch: origin.epoch,
            network: 0,
            instance: origin.instance,
            hello: None,
            evicted: VecDeque::new(),
        };
        let other = self.connections.insert(origin.id.cid, known);
        assert!(other.is_none(), "a connection has one peer");
    }

    /// A peer is told to attach a transport.
    pub(super) fn on_attach(&mut self, peer: PeerId, attach: &Attach, now: Instant) {
        let visitor = self.visitors.remove(&attach.transport).expect("only a visitor is attached, once");
        let hello = visitor.hello.expect("who is attached has said hello");
        assert_eq!(attach.hello, hello, "the hello is that of the transport");
        assert!(hello.cid == peer.cid && hello.cid.is_owned_by(&hello.key), "the key owns the connection");
        assert_eq!((attach.mint, attach.produced), (visitor.mint.epoch, visitor.produced));
        let known = self.connections.get_mut(&peer.cid).expect("who is told to attach is registered");
        assert_eq!((known.peer, known.asked), (peer, Asked::Nothing), "one thing is asked at a time");
        if self.config.authenticate {
            let admission = visitor.admission.expect("who is attached was let in");
            assert_eq!((&admission.principal, admission.expires), (&known.principal, attach.expires));
            assert!(admission.expires.is_none_or(|at| at > now), "credentials that have run out let nobody in");
        }
        assert!(!known.evicted.contains(&hello.instance), "who was evicted does not come back");
        let is_other = known.instance != hello.instance;
        assert_eq!(attach.takes_over, is_other);
        if is_other {
            let is_alive = visitor.is_challenged && hello.fence == Some(visitor.mint.fence);
            assert!(is_alive, "only who has answered a challenge takes over");
            known.evicted.push_back(known.instance);
            if known.evicted.len() > 8 {
                known.evicted.pop_front();
            }
        } else {
            let last = known.hello.as_ref().map(|hello| hello.attempt);
            assert!(last < Some(hello.attempt), "hellos are taken in their order");
        }
        if known.hello.is_none() {
            known.network = visitor.network;
        }
        known.instance = hello.instance;
        (known.asked, known.carries) = (Asked::Attach(attach.transport), Some(attach.transport));
        self.networks.insert(attach.transport, visitor.network);
        if let Some(receipt) = &attach.receipt {
            assert_eq!(hello.epoch, Some(receipt.epoch), "a receipt is of the epoch that was named");
            let key = (peer.cid, receipt.epoch, known.principal.clone());
            let (kept, until) = self.kept.get(&key).expect("no receipt comes before it was sealed");
            assert_eq!(kept, receipt, "a receipt is given as it was sealed");
            assert!(*until > self.woken, "and while it is kept");
        }
        known.hello = Some(hello);
    }

    /// Whether an answer of a peer that is spoken to means anything. It is taken in.
    pub(super) fn on_answer(&mut self, peer: PeerId, answer: &Answer, now: Instant) -> bool {
        let Some(known) = self.connections.get_mut(&peer.cid).filter(|known| known.peer == peer) else { return false };
        match answer {
            Answer::Attached { transport, epoch, .. } => {
                let is_meant = known.asked == Asked::Attach(*transport);
                if is_meant {
                    (known.asked, known.epoch) = (Asked::Nothing, *epoch);
                }
                is_meant
            }
            Answer::Detached { transport, .. } => {
                let is_meant = known.asked == Asked::Nothing && known.carries == Some(*transport);
                if is_meant {
                    known.carries = None;
                }
                is_meant
            }
            Answer::Sealed { receipt } | Answer::Ended { receipt: Some(receipt) } => {
                self.keep(peer.cid, receipt.clone(), now);
                true
            }
            Answer::Ended { receipt: None } => true,
        }
    }

    /// A receipt is handed in.
    pub(super) fn keep(&mut self, cid: ConnectionId, receipt: Receipt, now: Instant) {
        let principal = self.connections[&cid].principal.clone();
        let until = now + self.config.receipts.ttl;
        self.kept.insert((cid, receipt.epoch, principal), (receipt, until));
    }

    /// The most receipts that there can be.
    pub(super) fn receipts(&self) -> usize {
        self.kept.values().filter(|(_, until)| *until > self.woken).count().min(self.config.receipts.max)
    }

    /// Caps are kept.
    pub(super) fn check(&self) {
        let (config, connections) = (&self.config, self.connections.values());
        assert!(connections.len() <= config.max_connections && self.transports() <= config.max_connections);
        for known in connections {
            let of_principal = self.connections.values().filter(|other| other.principal == known.principal).count();
            assert!(of_principal <= config.max_per_principal, "too many of one principal");
        }
        for network in 1..=2 {
            assert!(self.transports_from(network) <= config.max_per_address, "too many transports of one address");
            let began = self.connections.values().filter(|known| known.network == network).count();
            assert!(began <= config.max_per_address, "too many connections of one address");
        }
        let mut carried: Vec<_> = self.connections.values().filter_map(|known| known.carries).collect();
        let count = carried.len();
        carried.sort_unstable();
        carried.dedup();
        assert_eq!(carried.len(), count, "a transport carries one connection");
    }
}
