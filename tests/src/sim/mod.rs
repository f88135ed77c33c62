//! The simulator: many short runs of real clients and a real server in virtual time, each under faults drawn from a seed.
//!
//! A [`Schedule`] is drawn whole from its seed: a plan (configurations with small bounds, how applications behave, how the
//! network is) and a list of acts at their times, from a subset of the faults that is drawn too. Its run goes from one event to
//! the next; the [`oracle`](crate::oracle) hears everything. Then the faults stop, everybody must be told what they wait for
//! within a bounded time, both sides must agree, everybody leaves, and nothing of them may stay.
//!
//! A schedule that contradicts the design is made small by leaving acts out ([`shrink`](crate::campaign::shrink)); it is named by its seed and the
//! numbers of the acts that are left, and replays with `simulate --seed N --only 3,7`.

mod acting;
mod applications;
mod carrying;
mod chance;
mod coverage;
mod ending;
mod outputs;
mod schedule;
mod strangers;
mod sums;
mod told;
mod wires;
mod world;

use std::cell::Cell;
use std::hash::Hasher;
use std::panic;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

use crate::campaign::Report;
use crate::oracle::Broken;

pub use self::chance::Chance;
pub use self::chance::mix;
pub use self::coverage::ClientEvent;
pub use self::coverage::ClientState;
pub use self::coverage::Coverage;
pub use self::coverage::IMPOSSIBLE;
pub use self::coverage::ServerEvent;
pub use self::coverage::ServerState;
pub use self::coverage::everything;
pub use self::schedule::Act;
pub use self::schedule::Back;
pub use self::schedule::Hostility;
pub use self::schedule::Plan;
pub use self::schedule::Post;
pub use self::schedule::Schedule;
pub use self::schedule::Way;
pub use self::schedule::Who;
pub use self::sums::Sums;

use self::world::World;

/// Runs a schedule. `tells` says whether somebody wants to read what happens.
fn run(schedule: &Schedule, coverage: &mut Coverage, tells: bool) -> Report {
    let mut world = World::new(schedule, coverage, tells);
    let played = quietly(|| world.play());
    let hash = world.hasher.finish();
    world.coverage.sums.add(&Sums { steps: world.steps, texts: world.texts, messages: world.oracle.counts() });
    let story = world.story.take().unwrap_or_default();
    Report { broken: played.err(), hash, story }
}

/// Turns a panic into a contradiction, without a word on the terminal: a run that fails is played again and again until it is
/// small.
pub(crate) fn quietly(play: impl FnOnce() -> Result<(), Broken>) -> Result<(), Broken> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(|place| format!("{}:{}", place.file(), place.line()));
            PLACE.set(place);
            if !IS_QUIET.get() {
                loud(info);
            }
        }));
    });
    IS_QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(play));
    IS_QUIET.set(false);
    result.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        let place = PLACE.take().unwrap_or_default();
        Err(Broken::new("X2", format!("a panic at {place}: {}", words.unwrap_or_default())))
    })
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}
