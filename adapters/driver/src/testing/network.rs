//! The network: hosts, listeners, streams, and the faults that they meet.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use reattach_core::rng::Rng;
use reattach_core::time::Instant;

use crate::testing::faults::Faults;
use crate::testing::faults::Scope;
use crate::testing::incident::Direction;
use crate::testing::incident::Happening;
use crate::testing::incident::Incidents;
use crate::testing::stream::Stream;
use crate::testing::timers::Timers;

/// The whole network.
pub(super) struct Network {
    timers: Arc<Timers>,
    rng: Rng,
    pub(super) faults: Faults,
    pub(super) incidents: Incidents,
    /// The addresses of names, given when they are first mentioned.
    hosts: BTreeMap<String, IpAddr>,
    last_port: u16,
    listening: BTreeMap<SocketAddr, Listening>,
    opened: u64,
    streams: BTreeMap<u64, Stream>,
    /// Who is to be woken once the lock is free.
    pub(super) wakers: Vec<Waker>,
}

#[derive(Default)]
struct Listening {
    /// The streams that nobody has accepted yet, and where they come from.
    arrived: VecDeque<(u64, SocketAddr)>,
    waker: Option<Waker>,
}

/// The first of the ports that systems give to those who ask for none.
const FIRST_FREE_PORT: u16 = 49_152;

impl Network {
    pub(super) fn new(seed: u64, timers: Arc<Timers>) -> Self {
        Self {
            timers,
            rng: Rng::new(seed),
            faults: Faults::default(),
            incidents: Incidents::default(),
            hosts: BTreeMap::new(),
            last_port: FIRST_FREE_PORT,
            listening: BTreeMap::new(),
            opened: 0,
            streams: BTreeMap::new(),
            wakers: Vec::new(),
        }
    }

    pub(super) const fn random(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn note(&mut self, what: Happening) {
        self.incidents.push(self.timers.elapsed(), what);
    }

    /// How long something takes from one end to the other.
    pub(super) fn delay(&mut self, scope: &Scope) -> Duration {
        let delay = self.faults.delay(scope);
        self.rng.between(*delay.start(), *delay.end())
    }

    /// How many bytes one read or write takes this time.
    fn piece(&mut self, scope: &Scope) -> usize {
        match self.faults.piece(scope) {
            usize::MAX => usize::MAX,
            most => 1 + usize::try_from(self.rng.next_u64() % most as u64).unwrap_or(0),
        }
    }

    fn due(&mut self, number: u64) -> Instant {
        let scope = self.stream(number).scope.clone();
        self.timers.now() + self.delay(&scope)
    }

    fn stream(&mut self, number: u64) -> &mut Stream {
        self.streams.get_mut(&number).expect("an end keeps its stream")
    }

    /// The address of a name, or the one that is written there.
    fn host(&mut self, name: &str) -> IpAddr {
        let name = name.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if let Ok(address) = name.parse() {
            return address;
        }
        if name == "localhost" {
            return Ipv4Addr::LOCALHOST.into();
        }
        let number = u32::try_from(self.hosts.len() + 1).expect("a test has fewer hosts than addresses");
        *self
            .hosts
            .entry(name)
            .or_insert_with(|| Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + number).into())
    }

    fn free_port(&mut self) -> u16 {
        self.last_port = self.last_port.checked_add(1).unwrap_or(FIRST_FREE_PORT);
        self.last_port
    }

    /// Begins to listen on a host and a port.
    pub(super) fn listen(&mut self, address: &str) -> io::Result<SocketAddr> {
        let (host, port) = address.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
        let port = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        let host = self.host(host);
        let is_taken = |network: &Self, port| network.listening.contains_key(&SocketAddr::new(host, port));
        let port = match port {
            0 => {
                let tried = (FIRST_FREE_PORT..=u16::MAX).map(|_| self.free_port()).collect::<Vec<_>>();
                tried.into_iter().find(|port| !is_taken(self, *port)).ok_or(io::ErrorKind::AddrNotAvailable)?
            }
            port if is_taken(self, port) => return Err(io::ErrorKind::AddrInUse.into()),
            port => port,
        };
        let address = SocketAddr::new(host, port);
        self.listening.insert(address, Listening::default());
        Ok(address)
    }

    /// The next stream that has come to an address, and where it comes from.
    pub(super) fn accept(&mut self, address: SocketAddr, waker: &Waker) -> Poll<(u64, SocketAddr)> {
        let listening = self.listening.get_mut(&address).expect("a listener keeps its address");
        match listening.arrived.pop_front() {
            Some(arrived) => Poll::Ready(arrived),
            None => {
                listening.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    /// Nobody listens there any more. What was not accepted ends.
    pub(super) fn stop_listening(&mut self, address: SocketAddr) {
        let Some(listening) = self.listening.remove(&address) else { return };
        for (number, _) in listening.arrived {
            self.leave(number, Direction::ToClient);
        }
    }

    /// Opens a stream to whoever listens there.
    pub(super) fn open(&mut self, scope: &Scope, host: &str, port: u16) -> io::Result<u64> {
        let from = match scope {
            Scope::Everywhere => Ipv4Addr::LOCALHOST.into(),
            Scope::Place(place) => self.host(place),
        };
        let from = SocketAddr::new(from, self.free_port());
        let to = SocketAddr::new(self.host(host), port);
        let is_refusing = self.faults.is_refusing(scope);
        // A listener on no host in particular hears those who come to any.
        let anywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        let at = [to, anywhere].into_iter().find(|at| self.listening.contains_key(at) && !is_refusing);
        let Some(listening) = at.and_then(|at| self.listening.get_mut(&at)) else {
            self.note(Happening::Refused { host: host.to_owned(), port });
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        self.opened += 1;
        listening.arrived.push_back((self.opened, from));
        self.wakers.extend(listening.waker.take());
        self.streams.insert(self.opened, Stream::new(scope.clone(), &self.timers));
        self.note(Happening::Opened { stream: self.opened, host: host.to_owned(), port });
        Ok(self.opened)
    }

    /// Reads what has arrived.
    pub(super) fn read(
        &mut self,
        number: u64,
        direction: Direction,
        buf: &mut [u8],
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let now = self.timers.now();
        let stream = self.streams.get_mut(&number).expect("an end keeps its stream");
        if stream.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let scope = stream.scope.clone();
        let way = stream.way(direction);
        way.reader = Some(waker.clone());
        if self.faults.is_stalled(&scope, direction) {
            return Poll::Pending;
        }
        if way.next_at().is_none_or(|at| at > now) {
            way.rouse(now, &mut self.wakers);
            return Poll::Pending;
        }
        if way.is_empty() || buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let left = self.faults.left(&scope, direction);
        let most = left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let most = most.min(self.piece(&scope));
        let way = self.stream(number).way(direction);
        let bytes = way.take(buf, most);
        let writer = way.writer.take();
        self.wakers.extend(writer);
        if bytes > 0 {
            self.note(Happening::Carried { stream: number, direction, bytes });
        }
        if self.faults.carry(&scope, direction, bytes as u64) {
            self.cut_one(number);
        }
        // A cut before the first byte leaves nothing to hand out.
        if bytes > 0 { Poll::Ready(Ok(bytes)) } else { Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())) }
    }

    /// Sends bytes on their way.
    pub(super) fn write(
        &mut self,
        number: u64,
        direction: Direction,
        buf: &[u8],
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream(number);
        if stream.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let way = stream.way(direction);
        if way.ends_at.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !way.has_reader || buf.is_empty() {
            return Poll::Ready(Ok(buf.len()));
        }
        if !way.has_room() {
            way.writer = Some(waker.clone());
            return Poll::Pending;
        }
        let due = self.due(number);
        let scope = self.stream(number).scope.clone();
        let most = self.piece(&scope).min(buf.len());
        let bytes = self.stream(number).way(direction).put(&buf[..most], due);
        self.rouse(number);
        Poll::Ready(Ok(bytes))
    }

    /// Nothing more is written that way.
    pub(super) fn end(&mut self, number: u64, direction: Direction) {
        let stream = self.stream(number);
        if stream.is_cut || stream.way(direction).ends_at.is_some() {
            return;
        }
        let due = self.due(number);
        self.stream(number).way(direction).end(due);
        self.note(Happening::Ended { stream: number, direction });
        self.rouse(number);
    }

    /// The end that writes that way has gone.
    pub(super) fn leave(&mut self, number: u64, direction: Direction) {
        self.end(number, direction);
        let stream = self.stream(number);
        stream.ends -= 1;
        let is_gone = stream.ends == 0;
        let incoming = stream.way(direction.back());
        incoming.has_reader = false;
        incoming.reader = None;
        incoming.lose();
        let writer = incoming.writer.take();
        self.wakers.extend(writer);
        if is_gone {
            self.streams.remove(&number);
        }
    }

    /// Has the readers of a stream woken when there is something for them.
    fn rouse(&mut self, number: u64) {
        let now = self.timers.now();
        let stream = self.streams.get_mut(&number).expect("an end keeps its stream");
        for direction in [Direction::ToServer, Direction::ToClient] {
            if !self.faults.is_stalled(&stream.scope, direction) {
                stream.way(direction).rouse(now, &mut self.wakers);
            }
        }
    }

    fn cut_one(&mut self, number: u64) {
        let stream = self.streams.get_mut(&number).expect("an end keeps its stream");
        stream.cut(&mut self.wakers);
        self.note(Happening::Cut { stream: number });
    }

    fn live(&self, scope: &Scope) -> Vec<u64> {
        let covered = self.streams.iter().filter(|(_, stream)| scope.covers(&stream.scope) && !stream.is_cut);
        covered.map(|(number, _)| *number).collect()
    }

    /// Breaks every stream that is meant.
    pub(super) fn cut(&mut self, scope: &Scope) -> usize {
        let live = self.live(scope);
        live.iter().for_each(|number| self.cut_one(*number));
        live.len()
    }

    pub(super) fn stall(&mut self, scope: &Scope, direction: Direction) {
        self.faults.stall(scope, direction);
        self.note(Happening::Stalled { direction });
    }

    /// Whether no stream can be opened for now: that takes both ways.
    pub(super) fn is_stalled(&self, scope: &Scope) -> bool {
        [Direction::ToServer, Direction::ToClient].into_iter().any(|way| self.faults.is_stalled(scope, way))
    }

    /// Ends faults. What was held up arrives.
    pub(super) fn heal(&mut self, scope: &Scope) {
        self.faults.heal(scope);
        self.note(Happening::Healed);
        for number in self.live(scope) {
            self.rouse(number);
        }
    }
}
