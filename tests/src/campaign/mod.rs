//! What the simulators' programs share: schedules from many seeds are run, and one that contradicts the design is made small and
//! told.
//!
//! ```text
//! NAME [--minutes M | --schedules N] [--seed S] [--threads T]    schedules from seed S on, by default for a minute
//! NAME --seed S --only 3,7                                       replays one, with the acts of these numbers only
//! NAME --seed S --replay                                         replays one whole
//! NAME --stored FILE                                             replays the seeds in a file, and says what they reach
//! NAME --gather --schedules N [--seed S]                         says which seeds reach something that none before did
//! ```
//!
//! Results go to stdout, progress to stderr. The exit code is 0 where nothing was found, 1 where something was, 2 where the
//! command line is not understood.

mod exploring;
mod options;
mod replaying;
mod shrinking;

use std::env;
use std::io;
use std::io::Write;
use std::process::ExitCode;

use crate::oracle::Broken;

pub use self::shrinking::shrink;
pub use self::shrinking::shrink_while;

use self::options::Options;

/// A schedule: all that happens in a run, drawn whole from a seed.
pub trait Schedule: Clone {
    /// The program that runs them.
    const SIMULATOR: &'static str;
    /// One in so many is run twice, to see that the same happens.
    const TWICE: u64;
    /// What runs reach.
    type Coverage: Coverage;

    /// The schedule of a seed.
    #[must_use]
    fn of(seed: u64) -> Self;
    /// What it was drawn from.
    fn seed(&self) -> u64;
    /// How everything is set up, in words.
    fn plan(&self) -> String;
    /// The numbers of its acts.
    fn numbers(&self) -> Vec<u32>;
    /// The same with some of its acts only, named by their numbers.
    #[must_use]
    fn only(self, numbers: &[u32]) -> Self;
    /// Runs it. `tells` says whether somebody wants to read what happens.
    fn run(&self, coverage: &mut Self::Coverage, tells: bool) -> Report;
}

/// What runs have reached, and how often: a simulator that never gets anywhere finds nothing.
pub trait Coverage: Default + Send {
    /// Adds what others have reached.
    fn merge(&mut self, other: &Self);
    /// Everything that was reached, in words, with how often.
    fn reached(&self) -> Vec<(String, u64)>;
    /// What was not reached and should be.
    fn missing(&self) -> Vec<String>;
    /// What the runs came to, in lines.
    fn summary(&self) -> String;
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// What contradicts the design, if anything does.
    pub broken: Option<Broken>,
    /// A hash over everything that was done and told, and when.
    pub hash: u64,
    /// What happened, line by line, where that was asked for.
    pub story: Vec<String>,
}

/// The program.
pub fn main<S: Schedule>() -> ExitCode {
    let options = match Options::parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(what) => {
            let name = S::SIMULATOR;
            eprintln!("{name}: {what}\nTry: {name} --minutes 1, or {name} --seed 7 --replay");
            return ExitCode::from(2);
        }
    };
    if let Some(path) = &options.stored {
        return replaying::replay_stored::<S>(path);
    }
    if options.replay || options.only.is_some() {
        return replaying::replay::<S>(&options);
    }
    if options.gather {
        return replaying::gather::<S>(&options);
    }
    exploring::explore::<S>(&options)
}

/// A reader that has gone wants nothing more.
fn print(text: &str) {
    _ = io::stdout().lock().write_all(text.as_bytes());
}
