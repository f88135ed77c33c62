//! The loop: from one event to the next, in virtual time.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::BinaryHeap;
use std::hash::DefaultHasher;
use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Secrets;
use reattach_core::id::ConnectionId;
use reattach_core::id::ConnectionKey;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::TransportId;
use reattach_core::link::Handle;
use reattach_core::reconnect::OpenError;
use reattach_core::server::Server;
use reattach_core::time::Instant;

use crate::oracle::Broken;
use crate::oracle::Checked;
use crate::oracle::ClientCopy;
use crate::oracle::Oracle;
use crate::oracle::Party;
use crate::oracle::Rules;
use crate::oracle::ServerCopy;

use super::chance::mix;
use super::coverage;
use super::coverage::ClientEvent;
use super::coverage::Coverage;
use super::coverage::ServerEvent;
use super::coverage::ServerState;
use super::schedule::Schedule;
use super::schedule::Way;
use super::wires::Wire;

/// A program's clock, and whether it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    /// How far its clock is ahead.
    pub(super) ahead: i64,
    /// The latest time that it has seen.
    pub(super) latest: Instant,
    pub(super) stopped_until: Option<Instant>,
    pub(super) unread_until: Option<Instant>,
    pub(super) is_dirty: bool,
    /// When its machine wants to be called, as it said when it was last drained.
    pub(super) timer: Option<Instant>,
    /// Whether it was ever stopped, or its clock jumped.
    pub(super) is_troubled: bool,
}

impl Program {
    /// Its time, as its clock has it.
    pub(super) fn raw(&self, now: Instant) -> Instant {
        Instant::from_micros(now.as_micros().saturating_add_signed(self.ahead))
    }

    /// Its time as it can be told apart: clocks that run backwards stand still.
    pub(super) fn local(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(self.raw(now));
        self.latest
    }

    /// Its time as its clock has it, which its machine is shown.
    pub(super) fn show(&mut self, now: Instant) -> Instant {
        self.local(now);
        self.raw(now)
    }

    /// When its machine wants to be called. One that nobody has touched still wants what it wanted.
    fn timer_or(&self, ask: impl FnOnce() -> Option<Instant>) -> Option<Instant> {
        if self.is_dirty { ask() } else { self.timer }
    }

    /// When it is due, where its machine says when by its own clock.
    fn due(&self, at: Instant, lateness: Duration) -> Instant {
        let at = Instant::from_micros(at.as_micros().saturating_add_signed(-self.ahead)) + lateness;
        self.stopped_until.map_or(at, |until| at.max(until))
    }

    const fn is_stopped(&self) -> bool {
        self.stopped_until.is_some()
    }
}

/// One life of a client.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) client: Option<Client>,
    pub(super) program: Program,
    pub(super) account: u8,
    pub(super) key: ConnectionKey,
    /// The wire of the transport that it asked for last.
    pub(super) wire: Option<u64>,
    /// Whether that is open.
    pub(super) is_open: bool,
    /// Its transports, by its own names.
    pub(super) transports: BTreeMap<TransportId, u64>,
    pub(super) hellos: Vec<String>,
    pub(super) copy: Option<(Client, ClientCopy, Instant)>,
    /// What its application has sent.
    pub(super) sent: Vec<MessageId>,
    /// Bytes a second of its wires, where they are slow.
    pub(super) rate: Option<u64>,
    /// Whether somebody else has its key.
    pub(super) is_robbed: bool,
}

/// Something that is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Coming {
    Arrive(u64, Way),
    Leave(u64, Way, u64),
    Act(usize),
    Decide(Party, Handle, u32, u32),
    Wake,
    ServerBack,
    Resume(usize),
}

/// A run.
pub(super) struct World<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) now: Instant,
    pub(super) seats: Vec<Seat>,
    pub(super) server: Option<Server>,
    pub(super) host: Program,
    /// How the server comes back, while it is away, and the latest time that it had seen.
    pub(super) back: Option<(Option<Server>, crate::oracle::Restart, Instant)>,
    pub(super) server_copy: Option<(Server, ServerCopy, Instant)>,
    pub(super) wires: BTreeMap<u64, Wire>,
    pub(super) opened: u64,
    pub(super) minted: u64,
    pub(super) oracle: Oracle,
    pub(super) coverage: &'a mut Coverage,
    pub(super) coming: BinaryHeap<Reverse<(Instant, u64, Coming)>>,
    pub(super) queued: u64,
    pub(super) cids: Vec<ConnectionId>,
    pub(super) sent_down: BTreeMap<ConnectionId, Vec<MessageId>>,
    /// What becomes of transports that are asked for: they open, fail, or nothing is heard of them; and until when.
    pub(super) road: Option<(Option<OpenError>, Instant)>,
    pub(super) is_healing: bool,
    pub(super) steps: u64,
    pub(super) hasher: DefaultHasher,
    /// Lines for people, where somebody wants to read them.
    pub(super) story: Option<Vec<String>>,
    pub(super) texts: u64,
    /// What strangers said first, on each wire.
    pub(super) strangers: BTreeMap<u64, String>,
    /// Whether a text was lost or damaged on a wire that went on.
    pub(super) is_damaged: bool,
    /// The wire on which the server has welcomed somebody last.
    pub(super) welcomed: Option<u64>,
    /// Connections that are about to end.
    pub(super) leaving: BTreeSet<ConnectionId>,
}

/// More than any run takes that is not about to run for ever.
const MAX_STEPS: u64 = 60_000;

impl<'a> World<'a> {
    pub(super) fn new(schedule: &'a Schedule, coverage: &'a mut Coverage, tells: bool) -> Self {
        let plan = &schedule.plan;
        let now = Instant::from_secs(1_000);
        let rules = Rules {
            client: plan.client.connection.link.clone(),
            server: plan.server.connection.link.clone(),
            receipts: plan.server.receipts,
            detach_ttl: plan.server.detach_ttl,
            suspended_ttl: plan.server.suspended_ttl,
            max_connections: plan.server.max_connections,
            max_per_principal: plan.server.max_per_principal,
            failures: plan.client.reconnect.breaker.failures,
            tries: plan.client.reconnect.attempts,
            skew: schedule.skew(),
            slack: Some(schedule.slack()),
        };
        let mut world = Self {
            now,
            seats: Vec::new(),
            server: Some(Server::new(plan.server.clone(), now)),
            host: Program { latest: now, ..Program::default() },
            back: None,
            server_copy: None,
            wires: BTreeMap::new(),
            opened: 0,
            minted: 0,
            oracle: Oracle::new(rules),
            coverage,
            coming: BinaryHeap::new(),
            queued: 0,
            cids: Vec::new(),
            sent_down: BTreeMap::new(),
            road: None,
            is_healing: false,
            steps: 0,
            hasher: DefaultHasher::new(),
            story: tells.then(Vec::new),
            texts: 0,
            strangers: BTreeMap::new(),
            is_damaged: false,
            welcomed: None,
            leaving: BTreeSet::new(),
            schedule,
        };
        for (index, (_, after, _)) in schedule.acts.iter().enumerate() {
            world.plan(now + *after, Coming::Act(index));
        }
        for number in 0..plan.clients {
            world.begin(ConnectionKey::from_bytes([number + 1; 16]), number);
        }
        world
    }

    /// A client begins with a key.
    pub(super) fn begin(&mut self, key: ConnectionKey, account: u8) -> usize {
        let instance = InstanceId::from_bytes(self.random());
        let spare = Some(ConnectionKey::from_bytes(self.random()));
        let secrets = Secrets { key, spare, instance };
        let seed = mix(self.schedule.seed, self.minted);
        let client = Client::new(self.schedule.plan.client.clone(), secrets, seed, self.now);
        let seat = self.sit(client, key, account);
        self.oracle.on_client(seat, key.connection_id());
        seat
    }

    pub(super) fn sit(&mut self, client: Client, key: ConnectionKey, account: u8) -> usize {
        let program = Program { latest: self.now, is_dirty: true, ..Program::default() };
        self.seats.push(Seat {
            client: Some(client),
            program,
            account,
            key,
            wire: None,
            is_open: false,
            transports: BTreeMap::new(),
            hellos: Vec::new(),
            copy: None,
            sent: Vec::new(),
            rate: None,
            is_robbed: false,
        });
        self.seats.len() - 1
    }

    /// Sixteen bytes that never come again.
    pub(super) fn random(&mut self) -> [u8; 16] {
        self.minted += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&mix(self.minted, 0xa5).to_be_bytes());
        bytes[8..].copy_from_slice(&self.minted.to_be_bytes());
        bytes
    }

    pub(super) fn plan(&mut self, at: Instant, coming: Coming) {
        self.queued += 1;
        self.coming.push(Reverse((at, self.queued, coming)));
    }

    pub(super) fn tell(&mut self, line: impl FnOnce(&Self) -> String) {
        let Some(mut story) = self.story.take() else { return };
        let at = self.now - Instant::from_secs(1_000);
        story.push(format!("{:>9.3} {}", at.as_secs_f64(), line(self)));
        self.story = Some(story);
    }

    /// When the next machine is to be woken.
    fn next_timer(&self) -> Option<Instant> {
        let lateness = Duration::from_millis(if self.is_healing { 0 } else { self.schedule.plan.lateness });
        let mut next: Option<Instant> = None;
        let mut soonest = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        for seat in &self.seats {
            if let Some(at) = seat.client.as_ref().and_then(|client| seat.program.timer_or(|| client.poll_timeout())) {
                soonest(seat.program.due(at, lateness));
            }
        }
        if let Some(at) = self.server.as_ref().and_then(|server| self.host.timer_or(|| server.poll_timeout())) {
            soonest(self.host.due(at, lateness));
        }
        next.map(|next| next.max(self.now))
    }

    /// The next thing happens, at `end` at the latest. False where nothing is left before it.
    pub(super) fn step(&mut self, end: Instant) -> Result<bool, Broken> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(Broken::new("L3", format!("the machines are still busy at {:?}", self.now)));
        }
        let timer = self.next_timer();
        let next = self.coming.peek().map(|Reverse((at, ..))| *at);
        let at = match (timer, next) {
            (Some(timer), Some(next)) => timer.min(next),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => {
                self.now = self.now.max(end);
                return Ok(false);
            }
        };
        if at > end {
            self.now = self.now.max(end);
            return Ok(false);
        }
        self.now = self.now.max(at);
        if next.is_some_and(|next| next <= at) {
            let Reverse((_, _, coming)) = self.coming.pop().expect("it was just looked at");
            self.happen(coming)?;
        } else {
            self.wake()?;
        }
        self.settle()?;
        Ok(true)
    }

    /// Everything up to some time happens.
    pub(super) fn run_to(&mut self, end: Instant) -> Checked {
        while self.step(end)? {}
        Ok(())
    }

    fn happen(&mut self, coming: Coming) -> Checked {
        match coming {
            Coming::Arrive(wire, way) => self.arrive(wire, way),
            Coming::Leave(wire, way, total) => {
                self.leave(wire, way, total);
                Ok(())
            }
            Coming::Act(index) => {
                let act = self.schedule.acts[index].2;
                self.tell(|_| format!("{act:?}"));
                let number = self.schedule.acts[index].0;
                self.act(number, act)
            }
            Coming::Decide(party, handle, number, turn) => self.decide(party, handle, number, turn),
            Coming::Wake => {
                self.wake_up();
                Ok(())
            }
            Coming::ServerBack => {
                self.on_server_back();
                Ok(())
            }
            // Whoever sleeps when the faults stop is woken then. One who stopped for another instance since leaves it in peace.
            Coming::Resume(_) if self.is_healing => Ok(()),
            Coming::Resume(seat) => {
                self.reconnect(seat);
                Ok(())
            }
        }
    }

    /// Programs that were stopped go on, and applications read again.
    fn wake_up(&mut self) {
        let now = self.now;
        let programs = self.seats.iter_mut().map(|seat| &mut seat.program).chain([&mut self.host]);
        for program in programs {
            program.stopped_until = program.stopped_until.filter(|until| *until > now);
            let is_over = program.unread_until.is_some_and(|until| until <= now);
            program.unread_until = program.unread_until.filter(|until| *until > now);
            program.is_dirty |= is_over;
        }
        self.road = self.road.filter(|(_, until)| *until > now);
        for wire in self.wires.values_mut() {
            for stalled in &mut wire.stalled {
                *stalled = stalled.filter(|until| *until > now);
            }
        }
    }

    /// Timers fire that are due.
    fn wake(&mut self) -> Checked {
        let now = self.now;
        for index in 0..self.seats.len() {
            let seat = &mut self.seats[index];
            let raw = seat.program.raw(now);
            let Some(client) = seat.client.as_mut().filter(|_| !seat.program.is_stopped()) else { continue };
            if client.poll_timeout().is_some_and(|at| at <= raw) {
                let state = coverage::client_state(client, seat.is_open);
                self.coverage.client(state, ClientEvent::Timeout);
                client.handle_timeout(raw);
                seat.program.latest = seat.program.latest.max(raw);
                seat.program.is_dirty = true;
            }
        }
        let raw = self.host.raw(now);
        let is_due = |server: &&mut Server| server.poll_timeout().is_some_and(|at| at <= raw);
        if let Some(server) = self.server.as_mut().filter(|_| !self.host.is_stopped()).filter(is_due) {
            {
                for cid in server.connections() {
                    let state = coverage::server_state(server, Some(cid), self.leaving.contains(cid));
                    self.coverage.server(state, ServerEvent::Timeout);
                }
                if server.registry().transports() > 0 {
                    self.coverage.server(ServerState::Visitor, ServerEvent::Timeout);
                }
                server.handle_timeout(raw);
                self.host.latest = self.host.latest.max(raw);
                self.host.is_dirty = true;
            }
        }
        Ok(())
    }

    /// The machines say what follows, and applications take what comes, until nothing more does.
    pub(super) fn settle(&mut self) -> Checked {
        loop {
            let mut moved = false;
            for seat in 0..self.seats.len() {
                if core::mem::take(&mut self.seats[seat].program.is_dirty) {
                    moved = true;
                    self.drain_client(seat)?;
                    let it = &mut self.seats[seat];
                    it.program.timer = it.client.as_ref().and_then(Client::poll_timeout);
                }
            }
            if core::mem::take(&mut self.host.is_dirty) {
                moved = true;
                self.drain_server()?;
                self.host.timer = self.server.as_ref().and_then(Server::poll_timeout);
            }
            if !moved {
                break;
            }
        }
        self.oracle.check_step()?;
        self.check_machines()
    }

    /// What holds whenever all is said.
    fn check_machines(&self) -> Checked {
        for (index, seat) in self.seats.iter().enumerate() {
            let Some(client) = &seat.client else { continue };
            let waits = matches!(
                client.status(),
                client::Status::Connecting { .. } | client::Status::Attached | client::Status::Detached { .. }
            );
            if waits && seat.program.timer.is_none() {
                return Err(Broken::new("L3", format!("client {index} waits without a timer: {:?}", client.status())));
            }
            if self.steps.is_multiple_of(16) {
                self.oracle.check_connection(Party::Client(index), client.connection())?;
            }
        }
        let Some(server) = &self.server else { return Ok(()) };
        let registry = server.registry();
        let waits = registry.connections() + registry.transports() + registry.receipts() > 0;
        if waits && self.host.timer.is_none() {
            return Err(Broken::new("L3", "the server waits without a timer"));
        }
        if self.steps.is_multiple_of(16) {
            for cid in server.connections() {
                let peer = server.peer(cid).expect("a connection has a peer");
                self.oracle.check_connection(Party::Server(*cid), peer.connection())?;
            }
        }
        Ok(())
    }
}
