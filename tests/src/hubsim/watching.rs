//! What each session was told, and who has seen what of it.

use std::collections::BTreeMap;
use std::time::Duration;

use reattach_driver::core::id::Epoch;

use super::coverage::Coverage;
use super::ledger::check;
use super::schedule::From;
use crate::oracle::Checked;

/// All lives of all sessions: a session that ends and begins again under its name has another one.
#[derive(Debug)]
pub(super) struct Sessions {
    /// Whether nothing is ever dropped from a log.
    is_roomy: bool,
    lives: Vec<Life>,
}

/// One life of a session.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) session: usize,
    pub(super) principal: usize,
    /// The application's events: the offset, the number within the life, and when it was published.
    events: BTreeMap<u64, (u64, Duration)>,
    snapshots: Vec<u64>,
    pub(super) begun: Duration,
    pub(super) ended: Option<Duration>,
}

/// How far somebody has seen a session.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    session: usize,
    principal: usize,
    from: From,
    begun: Duration,
    place: Place,
    /// The last event that was seen, which nothing later may be before.
    last: Option<(usize, u64)>,
    /// Whether everything up to its beginning was told since it was begun.
    pub(super) is_up_to_date: bool,
    pub(super) is_ended: bool,
}

/// What has to come next.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Whatever the beginning says.
    Beginning,
    /// What comes after this, in this life.
    At(usize, u64),
    /// What comes after this, in the life of this epoch: something before was missed.
    After(Epoch, u64),
}

impl Sessions {
    pub(super) const fn new(is_roomy: bool) -> Self {
        Self { is_roomy, lives: Vec::new() }
    }

    pub(super) fn create(&mut self, session: usize, principal: usize, now: Duration) -> usize {
        let (events, snapshots) = (BTreeMap::new(), Vec::new());
        self.lives.push(Life { session, principal, events, snapshots, begun: now, ended: None });
        self.lives.len() - 1
    }

    pub(super) fn end(&mut self, life: usize, now: Duration) {
        self.lives[life].ended.get_or_insert(now);
    }

    pub(super) fn life(&self, life: usize) -> &Life {
        &self.lives[life]
    }

    /// The life that a session is in.
    pub(super) fn current(&self, session: usize) -> Option<usize> {
        self.lives.iter().rposition(|life| life.session == session && life.ended.is_none())
    }

    /// How many events the application has published in a life.
    pub(super) fn count(&self, life: usize) -> u64 {
        self.lives[life].events.len() as u64
    }

    pub(super) fn publish(&mut self, life: usize, offset: u64, now: Duration) -> Checked {
        let life = &mut self.lives[life];
        let number = life.events.len() as u64;
        let is_later = life.events.last_key_value().is_none_or(|(last, _)| *last < offset);
        life.events.insert(offset, (number, now));
        check(is_later, "S1", || format!("event {offset} is numbered as one before it"))
    }

    /// Returns what the snapshot says it covers: the last event.
    pub(super) fn snapshot(&mut self, life: usize) -> u64 {
        let life = &mut self.lives[life];
        let last = life.events.last_key_value().map_or(0, |(offset, _)| *offset);
        life.snapshots.push(last);
        last
    }

    /// Whether a session began, or ended, since then.
    pub(super) fn has_changed_since(&self, session: usize, then: Duration) -> bool {
        let of_session = self.lives.iter().filter(|life| life.session == session);
        of_session.into_iter().any(|life| life.begun >= then || life.ended.is_some_and(|ended| ended >= then))
    }

    /// How many of the application's events lie between two offsets, both excluded.
    fn between(&self, life: usize, after: u64, before: u64) -> usize {
        if before <= after + 1 {
            return 0;
        }
        self.lives[life].events.range(after + 1..before).count()
    }
}

impl Seen {
    pub(super) const fn new(session: usize, principal: usize, from: From, begun: Duration) -> Self {
        let (place, last, is_up_to_date, is_ended) = (Place::Beginning, None, false, false);
        Self { session, principal, from, begun, place, last, is_up_to_date, is_ended }
    }

    /// Watches again from where it stopped.
    pub(super) fn again(&self) -> Self {
        Self { is_up_to_date: false, is_ended: false, ..self.clone() }
    }

    fn may_see(&self, sessions: &Sessions, life: usize) -> Checked {
        let of = sessions.life(life);
        check(of.session == self.session, "S5", || format!("an event of session {} in {}", of.session, self.session))?;
        check(of.principal == self.principal, "X1", || format!("session {} is somebody else's", self.session))
    }

    /// Whether anything of the session may be shown at all, whatever it is.
    pub(super) fn may_be_told(&self, sessions: &Sessions) -> Checked {
        let mut of_session = sessions.lives.iter().filter(|life| life.session == self.session);
        check(of_session.any(|life| life.principal == self.principal), "X1", || {
            format!("session {} is somebody else's, and something of it is told", self.session)
        })
    }

    /// An event came. `epoch` is that of the log, as the watch has it.
    pub(super) fn event(
        &mut self,
        sessions: &Sessions,
        offset: u64,
        (life, number): (usize, u64),
        epoch: Option<Epoch>,
    ) -> Checked {
        check(life < sessions.lives.len(), "S5", || "an event of no life".to_owned())?;
        self.may_see(sessions, life)?;
        let published = sessions.lives[life].events.get(&offset).copied();
        let Some((wanted, at)) = published else {
            return check(false, "S5", || format!("event {offset} of life {life} was never published"));
        };
        check(wanted == number, "S5", || format!("event {offset} of life {life} is number {number}, not {wanted}"))?;
        if let Some((last_life, last)) = self.last {
            let is_later = (life, offset) > (last_life, last);
            check(is_later, "S1", || format!("event {offset} of {life} comes after {last} of {last_life}"))?;
        }
        let skipped = |after: u64| {
            let count = sessions.between(life, after, offset);
            check(count == 0, "J1", || format!("{count} events before {offset} of life {life} were skipped in silence"))
        };
        match self.place {
            Place::Beginning => match self.from {
                From::Start => skipped(0)?,
                From::Now | From::Position => check(at >= self.begun, "S1", || {
                    format!("event {offset} of life {life} came before it was watched from then on")
                })?,
            },
            Place::At(before, after) => {
                check(before == life, "S1", || format!("life {before} goes on as life {life} without a word"))?;
                skipped(after)?;
            }
            Place::After(of, after) => {
                if epoch == Some(of) {
                    check(offset > after, "S1", || format!("event {offset} was said to be missed up to {after}"))?;
                    skipped(after)?;
                }
            }
        }
        self.place = Place::At(life, offset);
        self.last = Some((life, offset));
        Ok(())
    }

    /// A snapshot came, which says up to where it reaches.
    pub(super) fn snapshot(
        &mut self,
        sessions: &Sessions,
        (life, up_to): (usize, u64),
        coverage: &mut Coverage,
    ) -> Checked {
        check(life < sessions.lives.len(), "S5", || "a snapshot of no life".to_owned())?;
        self.may_see(sessions, life)?;
        let is_one = sessions.lives[life].snapshots.contains(&up_to);
        check(is_one, "S5", || format!("a snapshot up to {up_to} of life {life} was never made"))?;
        if let Some((last_life, last)) = self.last {
            let is_back = (life, up_to) < (last_life, last);
            check(!is_back, "S1", || format!("a snapshot up to {up_to} after event {last}"))?;
            coverage.reach("told Snapshot in place of events");
            self.has_cause(sessions, "a snapshot in place of events")?;
        }
        self.place = Place::At(life, up_to);
        self.last = Some((life, up_to)).max(self.last);
        Ok(())
    }

    /// It was said that something was missed.
    pub(super) fn missed(&mut self, sessions: &Sessions, epoch: Epoch, up_to: u64) -> Checked {
        self.has_cause(sessions, "a gap")?;
        self.place = Place::After(epoch, up_to);
        Ok(())
    }

    /// What a log with room never drops is lost only with its session.
    fn has_cause(&self, sessions: &Sessions, what: &str) -> Checked {
        let has_cause = !sessions.is_roomy || sessions.has_changed_since(self.session, self.begun);
        check(has_cause, "J1", || format!("{what} of session {} without a cause", self.session))
    }

    /// Nothing more is on its way: everything was seen.
    pub(super) fn is_complete(&self, sessions: &Sessions) -> Checked {
        let Some(life) = sessions.current(self.session) else { return Ok(()) };
        let unseen = match self.place {
            Place::Beginning => sessions.lives[life].events.values().filter(|(_, at)| *at > self.begun).count(),
            Place::At(seen, offset) if seen == life => sessions.between(life, offset, u64::MAX),
            Place::At(..) => sessions.lives[life].events.len(),
            Place::After(_, offset) => sessions.between(life, offset, u64::MAX),
        };
        check(unseen == 0, "L2", || format!("{unseen} events of session {} are not seen: {self:?}", self.session))?;
        check(self.is_up_to_date, "L2", || format!("who watches session {} was never up to date", self.session))
    }
}
