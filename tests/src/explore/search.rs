//! The search: depth first, through every order in which things can happen.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::hash::Hasher;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use crate::oracle::Broken;

use super::actions::Action;
use super::actions::enabled;
use super::fingerprint::Print;
use super::shapes::Shape;
use super::state::State;

/// Where a search stops.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most memory for the fingerprints, in bytes.
    pub bytes: usize,
    /// The most time.
    pub time: Duration,
    /// Fingerprints are a function of this too: a search with another seed that counts the same number of states has lost none
    /// to a collision.
    pub seed: u64,
    /// Whether states differ by the whole history that the oracle keeps, rather than by what of it can still matter. Such a
    /// search merges less, and has to find the same.
    pub is_whole: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 4 << 30, time: Duration::from_secs(10 * 60), seed: 0, is_whole: false }
    }
}

/// How far a search came.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many steps were taken, the same state being reached by many.
    pub steps: u64,
    /// How many different states were found.
    pub states: u64,
    /// How many of them are at rest.
    pub rests: u64,
    /// Every outcome that was told, as it is printed.
    pub outcomes: BTreeSet<String>,
    /// The longest way that was gone.
    pub depth: usize,
    /// How long it took.
    pub time: Duration,
    /// How it ended.
    pub end: End,
}

/// How a search ended.
#[derive(Clone, Debug)]
pub enum End {
    /// It is still going on.
    GoingOn,
    /// Everything was seen, and every property holds.
    Finished,
    /// It came to a limit.
    Stopped(&'static str),
    /// A property does not hold.
    Failed(Failure),
}

/// A property that does not hold, and a way there.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What is broken.
    pub words: String,
    /// What was done, shortened as far as leaving single actions out can.
    pub trace: Vec<Action>,
    /// How long the way was that the search had gone.
    pub found_at: usize,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.words)?;
        for (index, action) in self.trace.iter().enumerate() {
            writeln!(f, "{:4}. {action}", index + 1)?;
        }
        write!(f, "found at depth {}", self.found_at)
    }
}

/// A state on the way that the search is on, and what is to be tried in it.
struct Step {
    state: State,
    actions: Vec<Action>,
    next: usize,
}

/// Fingerprints are hashes already.
#[derive(Clone, Copy, Default)]
struct Keep(u64);

impl Hasher for Keep {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    #[allow(clippy::cast_possible_truncation, reason = "either half will do")]
    fn write_u128(&mut self, print: u128) {
        self.0 = print as u64;
    }
}

/// No honest world has so long a story.
const MAX_DEPTH: usize = 1_000;

/// How often a search says how far it is.
const TELLING: Duration = Duration::from_secs(5);

/// Of so many states one is tried with inputs that name dead transports.
const TRIED: Print = 16;

/// What a place in the table of fingerprints costs: the fingerprint and a byte.
const PLACE: usize = size_of::<Print>() + 1;

/// Searches a shape. `tell` hears how far it is every few seconds.
pub fn search(shape: &Shape, limits: &Limits, mut tell: impl FnMut(&Report)) -> Report {
    let (begin, shape) = (Instant::now(), Rc::new(shape.clone()));
    let mut report = Report {
        steps: 0,
        states: 0,
        rests: 0,
        outcomes: BTreeSet::new(),
        depth: 0,
        time: Duration::ZERO,
        end: End::GoingOn,
    };
    let mut seen: HashSet<Print, BuildHasherDefault<Keep>> = HashSet::default();
    let mut way: Vec<Step> = Vec::new();
    let mut told = Duration::ZERO;
    let mut found = look_at(first(&shape), &mut report, &mut seen, limits);
    loop {
        let broken = match found {
            Ok(Some(_)) if way.len() >= MAX_DEPTH => Some(Broken::new("L1", "it goes on for ever")),
            Ok(Some(step)) => {
                way.push(step);
                None
            }
            Ok(None) => None,
            Err(broken) => Some(broken),
        };
        report.depth = report.depth.max(way.len());
        report.time = begin.elapsed();
        if let Some(broken) = broken {
            let trace: Vec<Action> =
                way.iter().filter_map(|step| step.actions.get(step.next.checked_sub(1)?)).copied().collect();
            let found_at = trace.len();
            let (words, trace) = shorten(&shape, broken.to_string(), trace);
            report.end = End::Failed(Failure { words, trace, found_at });
            return report;
        }
        let is_full = seen.len() == seen.capacity() && seen.capacity() * 8 / 7 * PLACE * 3 > limits.bytes;
        if is_full || report.time > limits.time {
            report.end = End::Stopped(if is_full { "the limit of memory" } else { "the limit of time" });
            return report;
        }
        if report.time > told + TELLING {
            told = report.time;
            tell(&report);
        }
        let Some(step) = way.last_mut() else {
            report.end = End::Finished;
            return report;
        };
        let Some(action) = step.actions.get(step.next).copied() else {
            way.pop();
            found = Ok(None);
            continue;
        };
        step.next += 1;
        report.steps += 1;
        found = look_at(after(&step.state, action), &mut report, &mut seen, limits);
    }
}

/// Looks at a state: whether it is new, what may happen next, and whether it is right where nothing does.
fn look_at(
    state: Result<State, Broken>,
    report: &mut Report,
    seen: &mut HashSet<Print, BuildHasherDefault<Keep>>,
    limits: &Limits,
) -> Result<Option<Step>, Broken> {
    let state = state?;
    report.outcomes.extend(state.told.iter().map(ToString::to_string));
    let print = state.print(limits);
    if !seen.insert(print) {
        return Ok(None);
    }
    report.states += 1;
    if print.is_multiple_of(TRIED) {
        state.check_dead()?;
    }
    let (actions, is_at_rest) = enabled(&state);
    if is_at_rest {
        report.rests += 1;
        state.check_at_rest()?;
    }
    Ok(Some(Step { state, actions, next: 0 }))
}

fn first(shape: &Rc<Shape>) -> Result<State, Broken> {
    State::new(shape).begun()
}

/// The state after an action, or what is broken; a panic is a broken property too.
fn after(state: &State, action: Action) -> Result<State, Broken> {
    catch_unwind(AssertUnwindSafe(|| state.after(action))).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
        Err(Broken::new("X2", format!("a machine panics: {words}")))
    })
}

/// Goes a way again. What is broken at its end or before it, and where; nothing where an action is not possible.
fn replay(shape: &Rc<Shape>, trace: &[Action]) -> Option<(String, usize)> {
    let mut state = first(shape).ok()?;
    for (index, action) in trace.iter().enumerate() {
        if !enabled(&state).0.contains(action) {
            return None;
        }
        let next = after(&state, *action).and_then(|next| {
            next.check_dead()?;
            if enabled(&next).1 {
                next.check_at_rest()?;
            }
            Ok(next)
        });
        match next {
            Ok(next) => state = next,
            Err(broken) => return Some((broken.to_string(), index + 1)),
        }
    }
    None
}

/// Leaves out of a trace what it needs not.
fn shorten(shape: &Rc<Shape>, mut words: String, mut trace: Vec<Action>) -> (String, Vec<Action>) {
    let mut len = trace.len() + 1;
    while trace.len() < len {
        len = trace.len();
        for span in [8, 4, 2, 1] {
            let mut index = trace.len();
            while index >= span {
                index -= 1;
                let mut shorter = trace.clone();
                if index + span > shorter.len() {
                    continue;
                }
                shorter.drain(index..index + span);
                if let Some((other, end)) = replay(shape, &shorter) {
                    shorter.truncate(end);
                    (words, trace) = (other, shorter);
                }
            }
        }
    }
    (words, trace)
}

/// Does the actions of a trace, and says what is broken on the way, if anything is.
#[must_use]
pub fn retrace(shape: &Shape, trace: &[Action]) -> Option<String> {
    replay(&Rc::new(shape.clone()), trace).map(|(words, _)| words)
}
