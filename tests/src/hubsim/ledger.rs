//! What the applications and the people did and saw. Everything that contradicts the design is noticed here.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use reattach_driver::testing::Net;

use super::asking::Questions;
use super::calling::Requests;
use super::coverage::Coverage;
use super::owning::Owners;
use super::watching::Sessions;
use crate::oracle::Broken;
use crate::oracle::Checked;

/// Everything that is known of a run, shared by all who take part.
#[derive(Clone, Debug)]
pub(super) struct Ledger(Arc<Mutex<Known>>, Net);

/// What is known.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) broken: Option<Broken>,
    pub(super) hasher: DefaultHasher,
    pub(super) story: Option<Vec<String>>,
    pub(super) coverage: Coverage,
    pub(super) now: Duration,
    pub(super) sessions: Sessions,
    pub(super) questions: Questions,
    pub(super) requests: Requests,
    pub(super) owners: Owners,
    /// How many programs there were: each start of a client or of the server is another one. Which of them have ended.
    pub(super) programs: Vec<bool>,
    pub(super) clocks: Clocks,
    /// How many tasks serve requests, by the program that they run in.
    pub(super) serving: BTreeMap<usize, usize>,
}

/// The clocks of all places. Programs of one place go by one clock.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    now: Duration,
    /// Where each program runs.
    places: Vec<Place>,
    /// How far clocks have leapt ahead.
    ahead: BTreeMap<Place, Duration>,
    /// When they leapt last.
    leapt: BTreeMap<Place, Duration>,
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// With the server.
    Server,
    /// With this client of the plan.
    Client(usize),
}

/// How long a timer goes on after a leap as it was set before it, a little more or less.
const SLEPT: Duration = Duration::from_millis(30_005);

impl Clocks {
    /// The time on a program's clock.
    pub(super) fn at(&self, program: usize) -> Duration {
        self.now + self.ahead(program)
    }

    /// How far it has leapt ahead.
    pub(super) fn ahead(&self, program: usize) -> Duration {
        self.ahead.get(&self.places[program]).copied().unwrap_or_default()
    }

    /// Whether a program's timers may be late: its clock leapt a short while ago.
    pub(super) fn is_late(&self, program: usize) -> bool {
        self.leapt.get(&self.places[program]).is_some_and(|leapt| self.now <= *leapt + SLEPT)
    }
}

impl Ledger {
    pub(super) fn new(net: Net, is_roomy: bool, session_ttl: Duration, tells: bool) -> Self {
        let known = Known {
            broken: None,
            hasher: DefaultHasher::new(),
            story: tells.then(Vec::new),
            coverage: Coverage::default(),
            now: Duration::ZERO,
            sessions: Sessions::new(is_roomy),
            questions: Questions::default(),
            requests: Requests::default(),
            owners: Owners::new(session_ttl),
            programs: Vec::new(),
            clocks: Clocks::default(),
            serving: BTreeMap::new(),
        };
        Self(Arc::new(Mutex::new(known)), net)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.now = self.1.elapsed();
        known.clocks.now = known.now;
        known
    }

    /// Notes that something happened, and what contradicts the design in it.
    pub(super) fn note(&self, what: &str, check: impl FnOnce(&mut Known) -> Checked) {
        let mut known = self.lock();
        known.tell(what);
        let checked = check(&mut known);
        known.judge(checked);
    }
}

impl Known {
    /// Another program starts.
    pub(super) fn start(&mut self, place: Place) -> usize {
        self.clocks.places.push(place);
        self.programs.push(true);
        self.programs.len() - 1
    }

    pub(super) fn is_running(&self, program: usize) -> bool {
        self.programs[program]
    }

    /// A clock leaps ahead.
    pub(super) fn leap(&mut self, place: Place, by: Duration) {
        self.tell(&format!("the clock of {place:?} leaps by {by:?}"));
        *self.clocks.ahead.entry(place).or_default() += by;
        self.clocks.leapt.insert(place, self.now);
    }

    pub(super) fn tell(&mut self, what: &str) {
        (self.now, what).hash(&mut self.hasher);
        let now = self.now.as_secs_f64();
        if let Some(story) = &mut self.story {
            story.push(format!("{now:>12.6}  {what}"));
        }
    }

    pub(super) fn judge(&mut self, checked: Checked) {
        if let Err(broken) = checked {
            self.tell(&format!("!! {broken}"));
            self.broken.get_or_insert(broken);
        }
    }
}

/// Fails unless something holds.
pub(super) fn check(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Broken::new(rule, what())) }
}
