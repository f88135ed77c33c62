//! The end of a run: faults stop, everybody is told what they wait for, both sides agree, everybody leaves, nothing stays.

use std::collections::BTreeSet;
use std::time::Duration;

use reattach_core::client::Client;
use reattach_core::client::Status;
use reattach_core::server::Peer;
use reattach_core::time::Instant;

use crate::oracle;
use crate::oracle::Broken;
use crate::oracle::Checked;
use crate::oracle::Fault;

use super::schedule::Act;
use super::schedule::Schedule;
use super::schedule::Way;
use super::world::World;

/// How long everything may take once nothing more goes wrong: a few tries, a lease, a withdrawal that nobody answers.
const REST: Duration = Duration::from_secs(60);

/// How long the last reports may take: a ping after a quiet while, and its answer.
const TAIL: Duration = Duration::from_secs(9);

impl Schedule {
    /// How far apart clocks can be.
    pub(super) fn skew(&self) -> Duration {
        let jump = |act: &Act| if let Act::Clock { millis, .. } = act { millis.unsigned_abs() } else { 0 };
        Duration::from_millis(self.acts.iter().map(|(_, _, act)| jump(act)).sum())
    }

    /// How much later than its time anything may happen: programs were stopped, clocks jumped, servers were away.
    pub(super) fn slack(&self) -> Duration {
        let mut slack = Duration::from_secs(1) + Duration::from_millis(self.plan.lateness * 4) + self.skew();
        for (_, _, act) in &self.acts {
            if let Act::Pause { millis, .. } | Act::ServerCrash { millis, .. } = act {
                slack += Duration::from_millis(*millis);
            }
        }
        slack
    }
}

impl World<'_> {
    /// Plays the schedule to its end.
    pub(super) fn play(&mut self) -> Checked {
        self.settle()?;
        let end = self.now + self.schedule.plan.span;
        self.run_to(end)?;
        self.heal()?;
        self.rest()?;
        self.agree()?;
        self.leave_all()
    }

    /// Nothing more goes wrong.
    fn heal(&mut self) -> Checked {
        self.tell(|_| String::from("-- faults stop"));
        self.is_healing = true;
        self.road = None;
        self.on_server_back();
        let programs = self.seats.iter_mut().map(|seat| &mut seat.program).chain([&mut self.host]);
        for program in programs {
            (program.stopped_until, program.unread_until, program.is_dirty) = (None, None, true);
        }
        for seat in &mut self.seats {
            seat.rate = None;
        }
        let numbers: Vec<u64> = self.wires.keys().copied().collect();
        for number in numbers {
            let wire = self.wires.get_mut(&number).expect("it was just listed");
            (wire.stalled, wire.rate) = ([None; 2], None);
            // What was held up comes now.
            let counts = wire.coming.iter().map(|coming| coming.len()).collect::<Vec<_>>();
            for way in Way::BOTH {
                for _ in 0..counts[way.index()] {
                    self.plan(self.now, super::world::Coming::Arrive(number, way));
                }
            }
        }
        self.settle()?;
        self.thin_out();
        // The rest stays in hands until its lease ends: who never decides must not keep anybody waiting.
        self.accept_all(Some(3))?;
        self.settle()
    }

    /// A client's program is gone for good, without a word.
    fn retire(&mut self, seat: usize) {
        self.seats[seat].client = None;
        self.oracle.on_client_gone(seat);
        for (number, wire) in &mut self.wires {
            if wire.seat == Some(seat) {
                (wire.ends[0].lives, wire.is_cut) = (false, true);
                self.oracle.on_fault(*number, Fault::Crashed);
            }
        }
    }

    /// Of one account no more stay than the server lets in, with one place for what a life before has left there.
    fn thin_out(&mut self) {
        if !self.schedule.plan.server.authenticate {
            // Each connection is its own principal.
            return;
        }
        let most = self.schedule.plan.server.max_per_principal - 1;
        let accounts: BTreeSet<u8> = self.seats.iter().map(|seat| seat.account).collect();
        for account in accounts {
            let of_account = (0..self.seats.len()).filter(|seat| self.seats[*seat].account == account);
            let living: Vec<usize> = of_account.filter(|seat| self.seats[*seat].client.is_some()).collect();
            living.into_iter().skip(most).for_each(|seat| self.retire(seat));
        }
    }

    fn wants_to_attach(&self, seat: usize) -> bool {
        let client = self.seats[seat].client.as_ref();
        client.is_some_and(|client| !matches!(client.status(), Status::Superseded | Status::Closed(_)))
            && !self.is_robbed(seat)
            && self.seats.iter().filter(|seat| seat.client.is_some()).count()
                < self.schedule.plan.server.max_connections
    }

    /// Whether both sides believe so, of the same wire.
    fn is_attached(&self, seat: usize) -> bool {
        let (Some(client), Some(server)) = (&self.seats[seat].client, &self.server) else { return false };
        let peer = server.peer(&client.connection_id()).and_then(|peer| peer.connection().transport());
        client.status() == Status::Attached && peer.map(|transport| transport.0) == self.seats[seat].wire
    }

    /// Everybody is told what they wait for, and attaches.
    fn rest(&mut self) -> Checked {
        // A message that kills its wires takes those before it with it, one after the other.
        let patience = if self.schedule.plan.poison.is_some() { REST * 4 } else { REST };
        let rest = self.now + patience + self.schedule.slack() * 2;
        loop {
            for seat in 0..self.seats.len() {
                let status = self.seats[seat].client.as_ref().map(Client::status);
                if matches!(status, Some(Status::Failed(_) | Status::Suspended)) {
                    self.reconnect(seat);
                }
            }
            self.settle()?;
            self.run_to(self.now + Duration::from_secs(3))?;
            let are_attached = (0..self.seats.len()).all(|seat| !self.wants_to_attach(seat) || self.is_attached(seat));
            if are_attached && self.oracle.is_settled() {
                break;
            }
            if self.now > rest {
                self.oracle.check_settled()?;
                let late = (0..self.seats.len()).find(|seat| self.wants_to_attach(*seat) && !self.is_attached(*seat));
                let status = late.and_then(|seat| self.seats[seat].client.as_ref()).map(Client::status);
                return Err(Broken::new("L1", format!("client {late:?} does not come to attach: {status:?}")));
            }
        }
        // What nobody waits for any more may still be in hands, for a lease that was made longer.
        self.accept_all(None)?;
        self.settle()?;
        // A ping that was lost on a wire that lives is written again after twice the time in which a dead one is given up.
        let again = self.schedule.plan.client.connection.heartbeat.dead_after * 2;
        // A clock that was set back stands still until then.
        let tail = TAIL + self.schedule.skew() + if self.is_damaged { again } else { Duration::ZERO };
        self.run_to(self.now + tail)?;
        self.oracle.check_settled()?;
        self.oracle.check_time(self.host.latest)
    }

    /// Both sides of every attached connection are of one mind.
    fn agree(&self) -> Checked {
        let server = self.server.as_ref().expect("the server is back");
        for (index, seat) in self.seats.iter().enumerate() {
            let Some(client) = seat.client.as_ref().filter(|client| client.status() == Status::Attached) else {
                continue;
            };
            let peer = server.peer(&client.connection_id()).filter(|peer| peer.is_attached());
            match peer.map(Peer::connection) {
                Some(peer) => oracle::agree(client.connection(), peer)?,
                // Its credentials may have run out a moment ago.
                None if self.schedule.plan.expiry.is_some() => {}
                None => return Err(Broken::new("L2", format!("client {index} believes that it is attached"))),
            }
        }
        let window = &self.schedule.plan;
        let most = window.client.connection.link.window.count.max(window.server.connection.link.window.count);
        let again = self.oracle.most_again();
        if again > most && !self.is_damaged {
            return Err(Broken::new("E1", format!("{again} messages were written again where {most} can be out")));
        }
        let budget = self.budget();
        if self.texts > budget {
            let texts = self.texts;
            return Err(Broken::new("E1", format!("{texts} texts were written where {budget} should do")));
        }
        Ok(())
    }

    /// The most texts that may be written for what was done: a handful for each message and each wire, and a question and its
    /// answer for each while that nothing else is said.
    fn budget(&self) -> u64 {
        let idle = self.schedule.plan.client.connection.heartbeat.idle;
        let elapsed = (self.now - Instant::from_secs(1_000)).as_secs() + self.schedule.skew().as_secs();
        let quiet = (elapsed / idle.as_secs() + 1) * 4 * self.seats.len() as u64;
        let [sent, handed, ..] = self.oracle.counts();
        quiet + 8 * self.opened + 6 * (sent + handed) + 4 * self.schedule.acts.len() as u64
    }

    /// Everybody leaves, with a word or without, and nothing of them stays.
    fn leave_all(&mut self) -> Checked {
        self.tell(|_| String::from("-- everybody leaves"));
        for seat in 0..self.seats.len() {
            let now = self.now;
            let it = &mut self.seats[seat];
            let raw = it.program.show(now);
            let Some(client) = it.client.as_mut() else { continue };
            if seat % 2 == 0 {
                client.disconnect(raw);
                it.program.is_dirty = true;
                self.oracle.on_client_command(seat, true);
            } else {
                self.retire(seat);
            }
        }
        self.settle()?;
        for seat in &self.seats {
            if let Some(at) = seat.client.as_ref().and_then(Client::poll_timeout) {
                return Err(Broken::new("B3", format!("a client that has left wants to be woken at {at:?}")));
            }
        }
        let config = &self.schedule.plan.server;
        let gone = REST + config.suspended_ttl + config.detach_ttl + self.schedule.slack();
        self.run_to(self.now + gone)?;
        let server = self.server.as_ref().expect("the server runs");
        let registry = server.registry();
        let left = (registry.connections(), registry.transports(), server.connections().count());
        if left != (0, 0, 0) {
            return Err(Broken::new("B2", format!("when all have gone there are still {left:?}")));
        }
        let ttl = self.schedule.plan.server.receipts.ttl;
        self.run_to(self.now + ttl + Duration::from_secs(1))?;
        let server = self.server.as_ref().expect("the server runs");
        let (receipts, timer) = (server.registry().receipts(), server.poll_timeout());
        if receipts > 0 || timer.is_some() {
            return Err(Broken::new("B2", format!("{receipts} receipts are left, and a timer at {timer:?}")));
        }
        Ok(())
    }
}
