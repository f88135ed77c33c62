//! A network without sockets: transports that deliver in order after a while, and every way in which they can fail.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

use reattach_core::id::TransportId;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;

/// Which way something travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// From a client to the server.
    Up,
    /// From the server to a client.
    Down,
}

impl Way {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];
}

/// Names one wire between a client and the server. The server calls its end by the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireId(pub u64);

impl WireId {
    /// What the server calls it.
    pub const fn transport(self) -> TransportId {
        TransportId(self.0)
    }
}

/// What arrives at an end of a wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The wire is open (at the client), or was accepted (at the server).
    Open,
    /// A WebSocket text message.
    Text(String),
    /// The wire is gone.
    Closed(CloseCode),
}

/// One wire.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Which client it belongs to.
    pub client: usize,
    /// What that client calls it.
    pub transport: TransportId,
    queues: BTreeMap<Way, VecDeque<(Instant, Arrival)>>,
    /// Directions in which nothing arrives any more, without anybody being told.
    stalled: BTreeMap<Way, bool>,
    /// Ends that have closed it or heard that it is gone: what arrives there is dropped. The way is the one towards the end.
    deaf: BTreeMap<Way, bool>,
}

/// All wires.
#[derive(Clone, Debug, Default)]
pub struct Net {
    wires: BTreeMap<WireId, Wire>,
    /// How long everything travels.
    pub latency: Duration,
    opened: u64,
    /// Texts that were dropped on their way.
    pub dropped: u64,
}

impl Net {
    /// A network on which everything travels for so long.
    pub fn new(latency: Duration) -> Self {
        Self { latency, ..Self::default() }
    }

    /// A wire that a client asks for. It opens after one round trip.
    pub fn open(&mut self, client: usize, transport: TransportId, now: Instant) -> WireId {
        self.opened += 1;
        let id = WireId(self.opened);
        let up = VecDeque::from([(now + self.latency, Arrival::Open)]);
        let down = VecDeque::from([(now + self.latency * 2, Arrival::Open)]);
        let queues = BTreeMap::from([(Way::Up, up), (Way::Down, down)]);
        let none = BTreeMap::from([(Way::Up, false), (Way::Down, false)]);
        self.wires.insert(id, Wire { client, transport, queues, stalled: none.clone(), deaf: none });
        id
    }

    /// Puts something on its way.
    pub fn put(&mut self, id: WireId, way: Way, arrival: Arrival, now: Instant) {
        let latency = self.latency;
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.queues.get_mut(&way).expect("both ways have a queue").push_back((now + latency, arrival));
        }
    }

    /// An end closes the wire: it hears nothing more, the other end hears of it behind what is on its way.
    pub fn close(&mut self, id: WireId, way: Way, code: CloseCode, now: Instant) {
        self.put(id, way, Arrival::Closed(code), now);
        self.deafen(id, other(way));
    }

    /// Cuts a wire. What is on its way is lost but for the first `keep` arrivals each way, and both ends hear of it
    /// `after` that.
    pub fn cut(&mut self, id: WireId, keep: usize, after: Duration, now: Instant) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        for way in Way::BOTH {
            let queue = wire.queues.get_mut(&way).expect("both ways have a queue");
            self.dropped += queue.len().saturating_sub(keep) as u64;
            queue.truncate(keep);
            queue.push_back((now + after, Arrival::Closed(CloseCode::ABNORMAL)));
        }
    }

    /// From here on nothing arrives this way, and nobody is told.
    pub fn stall(&mut self, id: WireId, way: Way) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.stalled.insert(way, true);
        }
    }

    /// What was stalled goes on.
    pub fn unstall(&mut self, id: WireId, way: Way) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.stalled.insert(way, false);
        }
    }

    /// Whatever was stalled goes on.
    pub fn unstall_all(&mut self) {
        self.wires.values_mut().flat_map(|wire| wire.stalled.values_mut()).for_each(|stalled| *stalled = false);
    }

    /// The next thing to arrive by `now`, over all wires in their order.
    pub fn take(&mut self, now: Instant) -> Option<(WireId, Way, Wire, Arrival)> {
        let mut found = None;
        for (id, wire) in &self.wires {
            for way in Way::BOTH {
                if !wire.stalled[&way] && wire.queues[&way].front().is_some_and(|(at, _)| *at <= now) {
                    found = found.or(Some((*id, way)));
                }
            }
        }
        let (id, way) = found?;
        let wire = self.wires.get_mut(&id).expect("the wire was just found");
        let (_, arrival) = wire.queues.get_mut(&way).expect("both ways").pop_front().expect("a first arrival");
        if wire.deaf[&way] {
            self.dropped += u64::from(matches!(arrival, Arrival::Text(_)));
            self.forget_dead();
            return self.take(now);
        }
        let ends = matches!(arrival, Arrival::Closed(_));
        let copy = Wire { queues: BTreeMap::new(), ..wire.clone() };
        if ends {
            self.deafen(id, way);
        }
        Some((id, way, copy, arrival))
    }

    /// When the next thing arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ways = self.wires.values().flat_map(|wire| Way::BOTH.map(|way| (wire, way)));
        let moving = ways.filter(|(wire, way)| !wire.stalled[way]);
        moving.filter_map(|(wire, way)| wire.queues[&way].front().map(|(at, _)| *at)).min()
    }

    /// The newest wire that a client calls by this name.
    pub fn wire_of(&self, client: usize, transport: TransportId) -> Option<WireId> {
        let mut wires = self.wires.iter();
        wires.rfind(|(_, wire)| wire.client == client && wire.transport == transport).map(|(id, _)| *id)
    }

    /// A client dies: nothing reaches it any more, and the server hears of it behind what is on its way.
    pub fn abandon(&mut self, client: usize, now: Instant) {
        let of_client = self.wires.iter().filter(|(_, wire)| wire.client == client);
        for id in of_client.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close(id, Way::Up, CloseCode::ABNORMAL, now);
        }
    }

    /// Every wire that somebody still listens to.
    pub fn wires(&self) -> Vec<WireId> {
        self.wires.keys().copied().collect()
    }

    /// How many wires there ever were; they are numbered from 1.
    pub const fn opened(&self) -> u64 {
        self.opened
    }

    /// The texts that are on their way.
    pub fn in_flight(&self, id: WireId, way: Way) -> Vec<String> {
        let Some(wire) = self.wires.get(&id) else { return Vec::new() };
        wire.queues[&way]
            .iter()
            .filter_map(|(_, arrival)| match arrival {
                Arrival::Text(text) => Some(text.clone()),
                Arrival::Open | Arrival::Closed(_) => None,
            })
            .collect()
    }

    /// Drops the texts that are on their way and for which `which` holds.
    pub fn drop_texts(&mut self, id: WireId, way: Way, which: impl Fn(&str) -> bool) {
        if let Some(wire) = self.wires.get_mut(&id) {
            let queue = wire.queues.get_mut(&way).expect("both ways have a queue");
            let before = queue.len();
            queue.retain(|(_, arrival)| !matches!(arrival, Arrival::Text(text) if which(text)));
            self.dropped += (before - queue.len()) as u64;
        }
    }

    fn deafen(&mut self, id: WireId, way: Way) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.deaf.insert(way, true);
        }
        self.forget_dead();
    }

    fn forget_dead(&mut self) {
        self.wires.retain(|_, wire| {
            Way::BOTH.iter().any(|way| !wire.deaf[way] || (!wire.queues[way].is_empty() && !wire.stalled[way]))
        });
    }
}

const fn other(way: Way) -> Way {
    match way {
        Way::Up => Way::Down,
        Way::Down => Way::Up,
    }
}
