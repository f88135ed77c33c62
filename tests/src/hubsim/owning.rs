//! Who owns which session, as the hub tells, and what was done about it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use reattach_driver::core::id::ConnectionId;
use reattach_driver::core::session::Detached;

use super::coverage::Coverage;
use super::ledger::check;
use crate::oracle::Checked;

/// The owners of all lives of sessions.
#[derive(Debug)]
pub(super) struct Owners {
    session_ttl: Duration,
    lives: BTreeMap<usize, Owned>,
    /// Which owners of which session were asked to let go, and which to sleep since when. What is asked may arrive in a later life.
    released: BTreeSet<(usize, u64)>,
    asleep: BTreeMap<(usize, u64), Duration>,
    /// Who is asking to own which life, how often at once.
    asking: BTreeMap<(usize, ConnectionId), usize>,
}

/// One life.
#[derive(Debug, Default)]
struct Owned {
    generation: u64,
    owner: Option<ConnectionId>,
    by_generation: BTreeMap<u64, ConnectionId>,
    /// The owner has been gone. A session that somebody takes up is kept for them though.
    is_owner_gone: bool,
    /// How many take it up.
    resuming: usize,
    /// The owner came again, and says that it owns it.
    is_kept: bool,
}

impl Owners {
    pub(super) const fn new(session_ttl: Duration) -> Self {
        Self {
            session_ttl,
            lives: BTreeMap::new(),
            released: BTreeSet::new(),
            asleep: BTreeMap::new(),
            asking: BTreeMap::new(),
        }
    }

    /// A connection is gone, says the hub. `is_there` says whether it is.
    pub(super) fn gone(&mut self, connection: ConnectionId, is_there: bool) -> Checked {
        for owned in self.lives.values_mut().filter(|owned| owned.owner == Some(connection)) {
            (owned.is_owner_gone, owned.is_kept) = (true, false);
        }
        check(!is_there, "S8", || "a connection that is there is said to be gone".to_owned())
    }

    /// Somebody asks to own a session.
    pub(super) fn ask(&mut self, life: usize, by: ConnectionId) {
        *self.asking.entry((life, by)).or_default() += 1;
    }

    /// Somebody who asked to own a session was told what became of that. `may_be` says whether they may own it.
    pub(super) fn answered(&mut self, life: usize, by: ConnectionId, may_be: bool) {
        if let Some(asking) = self.asking.get_mut(&(life, by)) {
            *asking -= 1;
        }
        if may_be {
            self.keep(life, by);
        }
    }

    /// A session is kept for its owner, who came again and has asked for it.
    pub(super) fn keep(&mut self, life: usize, by: ConnectionId) {
        let owned = self.lives.entry(life).or_default();
        owned.is_kept |= owned.owner == Some(by);
    }

    /// Somebody takes a session up, or does no longer.
    pub(super) fn resume(&mut self, life: usize, more: bool) {
        let owned = self.lives.entry(life).or_default();
        owned.resuming = if more { owned.resuming + 1 } else { owned.resuming - 1 };
    }

    pub(super) fn owned(
        &mut self,
        (session, life): (usize, usize),
        by: ConnectionId,
        generation: u64,
        before: Option<ConnectionId>,
        coverage: &mut Coverage,
    ) -> Checked {
        let owned = self.lives.entry(life).or_default();
        check(generation == owned.generation + 1, "S8", || {
            format!("owner {generation} of life {life} comes after {}", owned.generation)
        })?;
        let is_asleep = self.asleep.contains_key(&(session, owned.generation));
        check(before == owned.owner || is_asleep, "S8", || {
            format!("before owner {generation} of life {life} there was {:?}, not {before:?}", owned.owner)
        })?;
        coverage.reach(if before.is_some() { "session taken over" } else { "session owned" });
        owned.generation = generation;
        (owned.owner, owned.is_owner_gone, owned.is_kept) = (Some(by), false, false);
        owned.by_generation.insert(generation, by);
        Ok(())
    }

    pub(super) fn detached(
        &mut self,
        (session, life): (usize, usize),
        generation: u64,
        why: Detached,
        now: Duration,
        coverage: &mut Coverage,
    ) -> Checked {
        let owned = self.lives.entry(life).or_default();
        check(generation == owned.generation, "S8", || format!("owner {generation} of life {life} is not the last"))?;
        owned.owner = None;
        match why {
            Detached::Released => {
                coverage.reach("session Released");
                check(self.released.contains(&(session, generation)), "S8", || {
                    format!("life {life} was released by nobody")
                })
            }
            Detached::OwnerGone => {
                coverage.reach("session OwnerGone");
                check(owned.is_owner_gone, "S8", || format!("life {life} is detached, and its owner is not gone"))
            }
            Detached::SuspendedTooLong => {
                coverage.reach("session SuspendedTooLong");
                let since = self.asleep.get(&(session, generation));
                check(since.is_some_and(|since| now >= *since + self.session_ttl), "S8", || {
                    format!("life {life} slept since {since:?}")
                })
            }
            why => check(false, "S8", || format!("life {life} is detached as {why:?}")),
        }
    }

    /// An owner is asked to let go.
    pub(super) fn release(&mut self, session: usize, generation: u64) {
        self.released.insert((session, generation));
    }

    /// An owner is asked to sleep.
    pub(super) fn sleep(&mut self, session: usize, generation: u64, now: Duration) {
        self.asleep.entry((session, generation)).or_insert(now);
    }

    /// Somebody was told that it owns a session now, or did.
    pub(super) fn told(&self, life: usize, by: ConnectionId, generation: u64) -> Checked {
        let of = self.lives.get(&life).and_then(|owned| owned.by_generation.get(&generation));
        check(of == Some(&by), "S8", || {
            format!("{by} is told that it is owner {generation} of life {life}; that is {of:?}")
        })
    }

    /// Whether somebody takes a session up, or it is kept for one who came again, or may be: its owner may have ended.
    pub(super) fn is_resumed(&self, life: usize) -> bool {
        self.lives.get(&life).is_some_and(|owned| {
            let is_asking =
                owned.owner.and_then(|owner| self.asking.get(&(life, owner))).is_some_and(|asking| *asking > 0);
            owned.resuming > 0 || owned.is_kept || is_asking
        })
    }

    /// The owner of a session, as the session says itself.
    pub(super) fn is_there(&self, life: usize, owner: Option<ConnectionId>) -> Checked {
        let Some(owner) = owner else { return Ok(()) };
        let owned = self.lives.get(&life);
        let is_kept = owned.is_some_and(|owned| !owned.is_owner_gone) || self.is_resumed(life);
        check(is_kept, "S8", || format!("the owner of life {life} is gone"))?;
        let told = owned.and_then(|owned| owned.owner);
        check(told == Some(owner), "S8", || format!("the owner of life {life} is {owner}, and {told:?} was told"))
    }
}
