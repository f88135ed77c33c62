//! What applications have in their hands, and until when they may decide about it.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::hash::Hasher;
use std::time::Duration;

use reattach_core::error::ApiMisuse;
use reattach_core::id::Lane;
use reattach_core::link::Decision;
use reattach_core::link::Handle;
use reattach_core::time::Instant;

use super::Broken;
use super::Checked;
use super::Party;
use super::check;
use super::messages::Messages;
use super::prints::Lens;
use super::prints::time_of;

/// A message in an application's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Held {
    number: u32,
    until: Instant,
    /// Whether the connection has ended, after which it may be too late for a decision.
    has_ended: bool,
}

/// Everything that is in hands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Hands {
    held: BTreeMap<(Party, Handle), Held>,
}

impl Hands {
    /// What there is to decide about.
    pub(super) fn all(&self) -> impl Iterator<Item = (Party, Handle)> {
        self.held.keys().copied()
    }

    /// A message may be handed over: nothing of its lane and sender is in these hands.
    pub(super) fn check_lane(
        &self,
        to: Party,
        number: u32,
        lane: &Lane,
        is_left: bool,
        messages: &Messages,
        now: Instant,
    ) -> Checked {
        let from = messages.sender(number);
        for (_, held) in self.held.iter().filter(|((of, _), _)| *of == to) {
            let is_same = messages.lane(held.number) == Some(lane) && messages.sender(held.number) == from;
            let is_free = !is_same || held.until <= now || held.has_ended || is_left;
            check(is_free, "S1", || format!("{to:?} is handed {number} while its lane holds {held:?}"))?;
        }
        Ok(())
    }

    /// A message was handed over.
    pub(super) fn on_handed(
        &mut self,
        to: Party,
        handle: Handle,
        number: u32,
        until: Instant,
        is_left: bool,
        messages: &mut Messages,
    ) -> Checked {
        messages.on_lease(to, number, Some(until));
        let before = self.held.insert((to, handle), Held { number, until, has_ended: is_left });
        check(before.is_none(), "S1", || format!("{to:?} is handed {number} by the handle of {before:?}"))
    }

    /// Whether something is in hands of a connection that goes on.
    pub(super) fn is_live(&self, by: Party, handle: Handle) -> bool {
        self.held.get(&(by, handle)).is_some_and(|held| !held.has_ended)
    }

    /// An application decided. `deferral` is how long a message is put off that is put off for no certain time.
    #[expect(clippy::too_many_arguments, reason = "each is what a decision is held against")]
    pub(super) fn on_decided(
        &mut self,
        by: Party,
        handle: Handle,
        decision: &Decision,
        result: Result<(), ApiMisuse>,
        deferral: Duration,
        messages: &mut Messages,
        now: Instant,
    ) -> Checked {
        let Some(held) = self.check_in_hands(by, handle, result, now)? else { return Ok(()) };
        self.held.remove(&(by, handle));
        messages.on_lease(by, held.number, None);
        match decision {
            Decision::Accept => messages.on_decided_accept(held.number),
            Decision::Reject { .. } => {
                messages.on_rejected(held.number);
                Ok(())
            }
            Decision::Defer { retry_after, .. } => {
                let until = now + retry_after.unwrap_or(deferral);
                messages.on_deferred(by, held.number, until, held.has_ended);
                Ok(())
            }
            Decision::Abandon => {
                messages.on_abandoned(held.number);
                Ok(())
            }
        }
    }

    /// An application asked for more time.
    pub(super) fn on_extended(
        &mut self,
        by: Party,
        handle: Handle,
        lease: Duration,
        result: Result<(), ApiMisuse>,
        messages: &mut Messages,
        now: Instant,
    ) -> Checked {
        if let Some(held) = self.check_in_hands(by, handle, result, now)? {
            let until = now + lease;
            self.held.insert((by, handle), Held { until, ..held });
            messages.on_lease(by, held.number, Some(until));
        }
        Ok(())
    }

    /// What is in hands is there until its lease is over, and nothing else is.
    fn check_in_hands(
        &self,
        by: Party,
        handle: Handle,
        result: Result<(), ApiMisuse>,
        now: Instant,
    ) -> Result<Option<Held>, Broken> {
        let held = self.held.get(&(by, handle)).copied();
        match (result, held) {
            (Ok(()), Some(held)) => Ok(Some(held)),
            (Ok(()), None) => Err(Broken::new("S3", format!("{by:?} decides about what is not in its hands"))),
            (Err(error), held) => {
                let is_late = held.is_none_or(|held| held.until <= now || held.has_ended);
                check(is_late, "S3", || format!("{by:?} has {held:?} and may not decide: {error}"))?;
                Ok(None)
            }
        }
    }

    /// An epoch of a receiver has ended, and what it had in its hands with it. What came on a connection that had ended before
    /// can still be decided about, unless the program is gone too.
    pub(super) fn on_sealed(&mut self, is_it: impl Fn(Party) -> bool, is_program: bool, messages: &mut Messages) {
        self.held.retain(|(of, _), held| {
            let is_kept = held.has_ended && matches!(of, Party::Server(_)) && !is_program;
            if is_it(*of) && !is_kept {
                messages.on_let_go(*of, held.number);
                return false;
            }
            true
        });
        messages.on_sealed(is_it, is_program);
    }

    /// A program goes on from its very state, and whoever had a message in hand is gone.
    pub(super) fn on_restarted(&mut self, is_it: impl Fn(Party) -> bool, messages: &mut Messages) {
        self.held.retain(|(of, _), held| {
            if is_it(*of) {
                messages.on_doubted(*of, held.number);
            }
            !is_it(*of)
        });
    }

    /// A receiver's connection has ended; what came before can perhaps be decided about.
    pub(super) fn on_ended(&mut self, by: Party, messages: &mut Messages) {
        messages.forget_delays(|of| of == by);
        self.held.iter_mut().filter(|((of, _), _)| *of == by).for_each(|(_, held)| held.has_ended = true);
    }

    /// A party is gone.
    pub(super) fn on_gone(&mut self, is_gone: impl Fn(Party) -> bool) {
        self.held.retain(|(of, _), _| !is_gone(*of));
    }

    /// What can still matter. Once a connection has ended, it is always too late.
    pub(super) fn fingerprint(&self, lens: &Lens<'_>, hasher: &mut impl Hasher) {
        self.held.len().hash(hasher);
        for (key, held) in &self.held {
            (key, held.number, held.has_ended).hash(hasher);
            time_of((!held.has_ended).then_some(held.until), lens, hasher);
        }
    }
}
