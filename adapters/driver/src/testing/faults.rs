//! What a test has the network do, everywhere or at one place.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::testing::incident::Direction;

/// Which streams are meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// All of them; of a stream, that it was dialled from no place in particular.
    Everywhere,
    /// Those that were dialled from a place.
    Place(Arc<str>),
}

impl Scope {
    /// Whether a stream that was dialled from there is meant.
    pub(super) fn covers(&self, other: &Self) -> bool {
        *self == Self::Everywhere || self == other
    }
}

/// The faults of every scope.
#[derive(Default)]
pub(super) struct Faults(BTreeMap<Scope, Fault>);

/// Those of one scope, and what it has carried.
#[derive(Default)]
struct Fault {
    is_stalled: [bool; 2],
    is_refusing: bool,
    /// How many bytes arrive before the cut, each way.
    cut_after: [Option<u64>; 2],
    carried: [u64; 2],
    delay: Option<RangeInclusive<Duration>>,
    /// How many bytes one read or write takes at most.
    piece: Option<usize>,
    /// How far clocks are ahead.
    ahead: Duration,
}

/// Near enough for tests that are easy to follow, and unequal enough that seeds differ in who comes first.
const DELAY: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_millis(15);

impl Faults {
    fn of(&mut self, scope: &Scope) -> &mut Fault {
        self.0.entry(scope.clone()).or_default()
    }

    /// Those that apply to what is dialled from somewhere.
    fn at(&self, scope: &Scope) -> impl Iterator<Item = &Fault> {
        self.0.iter().filter(|(of, _)| of.covers(scope)).map(|(_, fault)| fault)
    }

    pub(super) fn stall(&mut self, scope: &Scope, direction: Direction) {
        self.of(scope).is_stalled[direction.index()] = true;
    }

    pub(super) fn refuse(&mut self, scope: &Scope, is_refusing: bool) {
        self.of(scope).is_refusing = is_refusing;
    }

    pub(super) fn cut_after(&mut self, scope: &Scope, direction: Direction, bytes: u64) {
        self.of(scope).cut_after[direction.index()] = Some(bytes);
    }

    pub(super) fn set_delay(&mut self, scope: &Scope, delay: RangeInclusive<Duration>) {
        self.of(scope).delay = Some(delay);
    }

    pub(super) fn set_piece(&mut self, scope: &Scope, most: usize) {
        self.of(scope).piece = Some(most.max(1));
    }

    pub(super) fn leap(&mut self, scope: &Scope, by: Duration) {
        self.of(scope).ahead += by;
    }

    /// Ends the faults of a scope; delays, pieces and clocks stay, for they are none.
    pub(super) fn heal(&mut self, scope: &Scope) {
        for (_, fault) in self.0.iter_mut().filter(|(of, _)| scope.covers(of)) {
            (fault.is_stalled, fault.is_refusing, fault.cut_after) = ([false; 2], false, [None; 2]);
        }
    }

    pub(super) fn is_stalled(&self, scope: &Scope, direction: Direction) -> bool {
        self.at(scope).any(|fault| fault.is_stalled[direction.index()])
    }

    pub(super) fn is_refusing(&self, scope: &Scope) -> bool {
        self.at(scope).any(|fault| fault.is_refusing)
    }

    /// How many bytes may arrive before a cut, where one waits.
    pub(super) fn left(&self, scope: &Scope, direction: Direction) -> Option<u64> {
        self.at(scope).filter_map(|fault| fault.cut_after[direction.index()]).min()
    }

    /// Counts bytes that have arrived. Returns whether the stream that carried them is to be cut.
    pub(super) fn carry(&mut self, scope: &Scope, direction: Direction, bytes: u64) -> bool {
        let mut is_cut = false;
        self.of(&Scope::Everywhere);
        self.of(scope);
        for (_, fault) in self.0.iter_mut().filter(|(of, _)| of.covers(scope)) {
            fault.carried[direction.index()] += bytes;
            let cut_after = &mut fault.cut_after[direction.index()];
            *cut_after = cut_after.map(|left| left.saturating_sub(bytes));
            is_cut |= cut_after.take_if(|left| *left == 0).is_some();
        }
        is_cut
    }

    pub(super) fn carried(&self, scope: &Scope, direction: Direction) -> u64 {
        self.0.get(scope).map_or(0, |fault| fault.carried[direction.index()])
    }

    /// What is set for the place itself goes before what is set everywhere.
    pub(super) fn delay(&self, scope: &Scope) -> RangeInclusive<Duration> {
        self.at(scope).filter_map(|fault| fault.delay.clone()).last().unwrap_or(DELAY)
    }

    /// How many bytes one read or write takes at most.
    pub(super) fn piece(&self, scope: &Scope) -> usize {
        self.at(scope).filter_map(|fault| fault.piece).min().unwrap_or(usize::MAX)
    }

    /// How far the clock of a place is ahead.
    pub(super) fn ahead(&self, scope: &Scope) -> Duration {
        self.at(scope).map(|fault| fault.ahead).sum()
    }
}
