//! The simulator of what stands above the link: sessions, requests and questions, under the real driver, in virtual time.
//!
//! A [`Schedule`] is drawn whole from its seed: a plan (who may what, how large logs are, how long things last) and a list of acts
//! at their times, of applications, of people and of the network. One server with a hub serves a few clients, of two principals.
//! Everything that the applications and the people do and see goes into a ledger, which knows nothing else, and says what
//! contradicts the design. Then the faults stop: everybody must see what there is, everything that waits must end in its time,
//! everybody leaves, and nothing of them may stay.
//!
//! | file | what it knows | rules |
//! |---|---|---|
//! | `watching` | what was published, and who saw what of it | S1, S5, X1, J1, L2 |
//! | `asking` | what was asked of whom, who answered, what was decided | S7, X1, L1 |
//! | `calling` | requests, who served them, how they ended | S1, S3, S4, J1, L1 |
//! | `owning` | who owns what | S8 |
//! | `ending` | that nothing stays | L1, L2, B1, B2 |
//!
//! A schedule that fails is named by its seed and the numbers of the acts that are left of it, and replays with
//! `simulate_hub --seed N --only 3,7`.

mod acting;
mod asking;
mod calling;
mod coverage;
mod ending;
mod instances;
mod ledger;
mod owning;
mod people;
mod schedule;
mod slot;
mod strangers;
mod watching;
mod working;
mod world;

use std::hash::Hasher;
use std::time::Duration;

use reattach_driver::testing::Simulation;

use crate::campaign::Coverage as _;
use crate::campaign::Report;
use crate::sim::quietly;

pub use self::coverage::Coverage;
pub use self::coverage::WANTED;
pub use self::schedule::Act;
pub use self::schedule::Ask;
pub use self::schedule::Chosen;
pub use self::schedule::From;
pub use self::schedule::Plan;
pub use self::schedule::Schedule;
pub use self::schedule::Step;
pub use self::schedule::Work;
pub use self::strangers::Stranger;

use self::ledger::Ledger;
use self::world::World;

/// How much virtual time a run may take.
const LIMIT: Duration = Duration::from_secs(4 * 3_600);

/// Runs a schedule. `tells` says whether somebody wants to read what happens.
fn run(schedule: &Schedule, coverage: &mut Coverage, tells: bool) -> Report {
    let mut ledger = None;
    let (own, plan) = (&mut ledger, schedule.plan.clone());
    let played = quietly(|| {
        Simulation::new(schedule.seed).with_limit(LIMIT).run(async |net| {
            let ledger = Ledger::new(net.clone(), plan.is_roomy(), plan.session_ttl, tells);
            *own = Some(ledger.clone());
            let mut world = World::new(net, plan, schedule.seed, ledger).await?;
            world.play(schedule).await
        })
    });
    let Some(ledger) = ledger else { return Report { broken: played.err(), hash: 0, story: Vec::new() } };
    let mut known = ledger.lock();
    coverage.merge(&known.coverage);
    let broken = played.err();
    if let Some(broken) = &broken {
        known.tell(&format!("!! {broken}"));
    }
    Report { broken, hash: known.hasher.finish(), story: known.story.take().unwrap_or_default() }
}
