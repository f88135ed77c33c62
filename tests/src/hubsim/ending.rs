//! How a run ends: the faults stop, everybody must be told what they wait for, and nothing may stay.

use std::collections::BTreeSet;
use std::time::Duration;

use reattach_driver::ConnectionState;

use super::ledger::check;
use super::schedule::Schedule;
use super::world::World;
use crate::oracle::Checked;

/// How long everything may take to be as it should once the faults have stopped: a silent transport is found out after 50 s, whoever
/// comes back waits for 30 s at most, and requests may hold all the room there is for 150 s.
const SETTLE: Duration = Duration::from_secs(180);
/// Longer than any request or question takes.
const LONGEST: Duration = Duration::from_secs(400);

impl World {
    /// Plays all acts, and the end.
    pub(super) async fn play(&mut self, schedule: &Schedule) -> Checked {
        for step in &schedule.steps {
            let wait = step.at.saturating_sub(self.net.elapsed());
            self.net.sleep(wait).await;
            self.known().tell(&format!("act {}: {}", step.number, step.act.word()));
            self.act(&step.act).await;
            self.look().await?;
        }
        self.settle().await?;
        self.finish().await?;
        self.leave().await
    }

    /// Looks at what can be seen at any time.
    async fn look(&self) -> Checked {
        if self.see().is_err() {
            // What happens at the same time may not have been told yet.
            self.net.sleep(Duration::from_millis(20)).await;
            self.see()?;
        }
        self.checked()
    }

    fn see(&self) -> Checked {
        for (session, serving) in &self.server.sessions {
            let owner = serving.owner();
            let known = self.known();
            let Some(life) = known.sessions.current(*session) else { continue };
            known.owners.is_there(life, owner)?;
            let is_resumed = known.owners.is_resumed(life);
            drop(known);
            let (observers, reachable) = (serving.observers(), serving.reachable());
            let most = self.plan.clients.len() * 4;
            check(reachable <= observers && observers <= most, "B1", || {
                format!("session {session} has {observers} observers, of which {reachable} can be reached")
            })?;
            if let Some(owner) = owner {
                check(is_resumed || self.server.connections.of(owner).is_some(), "S8", || {
                    format!("session {session} is owned by {owner}, which has ended")
                })?;
            }
        }
        let now = self.net.elapsed();
        let known = self.known();
        known.questions.is_complete(now.saturating_sub(Duration::from_secs(1)), &known.clocks)?;
        known.requests.is_complete(&known.programs, now.saturating_sub(Duration::from_secs(1)), &known.clocks)
    }

    /// The faults stop. Everybody sees what there is.
    async fn settle(&mut self) -> Checked {
        self.known().tell("the faults stop");
        self.net.heal();
        self.end_firsts();
        // Who has just been cut hears of it first, and so does whose identity another one takes on with its last word.
        self.net.sleep(Duration::from_secs(5)).await;
        self.net.set_delay(Duration::from_millis(1)..=Duration::from_millis(10));
        for client in &self.clients {
            client.net.set_delay(Duration::from_millis(1)..=Duration::from_millis(10));
            if client.client.state() != ConnectionState::Attached {
                _ = client.client.reconnect();
            }
        }
        self.net.sleep(SETTLE).await;
        if self.replace_superseded().await {
            self.net.sleep(SETTLE).await;
        }
        for client in &self.clients {
            let state = client.client.state();
            check(state == ConnectionState::Attached, "L1", || format!("program {} is {state:?}", client.program))?;
        }
        for session in 0..self.plan.sessions.len() {
            self.create(session);
            self.publish(session, 1, 0);
            self.ask(session, Some(Duration::from_secs(250)));
            self.ask(session, Some(Duration::from_secs(200)));
        }
        self.net.sleep(Duration::from_secs(5)).await;
        self.look().await?;
        // Somebody may be answering at this very moment, which others hear of a little later.
        for _ in 0..10 {
            if self.is_shown().is_ok() {
                break;
            }
            self.net.sleep(Duration::from_secs(1)).await;
        }
        self.is_shown()
    }

    /// Whether everybody who watches has seen all, and is shown what is open and nothing else.
    fn is_shown(&self) -> Checked {
        for client in &self.clients {
            for (session, watching) in &client.watching {
                let known = self.known();
                let seen = watching.seen().clone();
                if seen.is_ended {
                    continue;
                }
                seen.is_complete(&known.sessions)?;
                let life = known.sessions.current(*session);
                let mut open: Vec<_> = life.map(|life| known.questions.open(life)).unwrap_or_default();
                let mut shown: Vec<_> = watching.dialogs().iter().map(ToString::to_string).collect();
                open.sort();
                shown.sort();
                check(open == shown, "L2", || {
                    format!("of session {session} {open:?} are open, and program {} shows {shown:?}", client.program)
                })?;
            }
        }
        Ok(())
    }

    /// Everything has had its time.
    async fn finish(&self) -> Checked {
        self.known().tell("everything ends");
        self.net.sleep(LONGEST).await;
        self.look().await?;
        let now = self.net.elapsed();
        self.is_served(now)?;
        for client in &self.clients {
            let stats = client.client.request_stats();
            let ended = stats.results + stats.failures;
            check(ended == stats.requests, "S4", || format!("of {} requests {ended} have ended", stats.requests))?;
            check(stats.malformed == 0, "S5", || format!("{} messages make no sense", stats.malformed))?;
            if let Some(connection) = self.server.connections.of(client.client.connection_id()) {
                let stats = connection.request_stats();
                let ended = stats.results + stats.failures;
                check(ended == stats.requests, "S4", || format!("of {} requests {ended} have ended", stats.requests))?;
                check(stats.malformed == 0, "S5", || format!("{} messages make no sense", stats.malformed))?;
            }
            for (session, watching) in &client.watching {
                let dialogs = watching.dialogs();
                check(dialogs.is_empty(), "L2", || format!("session {session} still shows {dialogs:?}"))?;
            }
        }
        Ok(())
    }

    fn is_served(&self, now: Duration) -> Checked {
        let known = self.known();
        known.questions.is_complete(now, &known.clocks)?;
        known.requests.is_complete(&known.programs, now, &known.clocks)?;
        let serving: usize = known.serving.values().sum();
        check(serving == 0, "L1", || format!("{serving} requests are still served"))
    }

    /// Everybody leaves, and nothing of them stays.
    async fn leave(&mut self) -> Checked {
        self.known().tell("everybody leaves");
        for client in 0..self.clients.len() {
            for session in 0..self.plan.sessions.len() {
                self.unwatch(client, session);
            }
        }
        self.net.sleep(Duration::from_secs(5)).await;
        let unsaid = self.clients.iter().filter(|client| client.is_unsaid).count();
        for (session, serving) in &self.server.sessions {
            let observers = serving.observers();
            check(observers <= unsaid, "B2", || format!("{observers} still watch session {session}"))?;
        }
        let programs: Vec<_> = self.clients.iter().map(|client| client.program).collect();
        self.ledger.note("every program ends", |known| {
            programs.iter().for_each(|program| known.programs[*program] = false);
            known.requests.outages.extend(programs);
            Ok(())
        });
        for client in &self.clients {
            client.client.disconnect();
        }
        self.net.sleep(self.plan.suspended_ttl + self.plan.session_ttl + Duration::from_secs(120)).await;
        self.look().await?;
        let connections = self.server.server.connections();
        check(connections == 0, "B2", || format!("{connections} connections stay"))?;
        for (session, serving) in &self.server.sessions {
            let owner = serving.owner();
            check(owner.is_none(), "B2", || format!("session {session} is still owned by {owner:?}"))?;
        }
        let sessions: BTreeSet<_> = self.server.sessions.keys().copied().collect();
        sessions.into_iter().for_each(|session| self.remove(session));
        let sessions = self.server.hub.sessions();
        check(sessions == 0, "B2", || format!("{sessions} sessions stay"))?;
        let stats = self.server.hub.question_stats();
        check(stats.asked == stats.decided(), "S7", || format!("not every question has one end: {stats:?}"))?;
        self.checked()
    }
}
