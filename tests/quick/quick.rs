//! The simulator, the corpus and the model checker in one binary and a few seconds, for `.ci/mutants` to run against each mutant
//! of the core.
//!
//! Nothing is proved here that the tests of each do not prove at greater length. Building and linking is most of the time that
//! a mutant takes, so this needs the harness alone, and takes the inputs that find most in a second.

use std::fs;
use std::path::Path;
use std::time::Duration;

use harness::explore::End;
use harness::explore::Limits;
use harness::explore::Shape;
use harness::explore::search;
use harness::fuzz::TARGETS;
use harness::sim;
use harness::sim::Coverage;
use harness::sim::Schedule;

/// How many schedules run, from the first seed on.
const SCHEDULES: u64 = 1_500;

/// The shapes that are searched: the smallest ones.
const SHAPES: [&str; 4] = ["(2,0,0)", "(1,1,0)", "expiry", "probe"];

#[test]
fn the_simulator_finds_nothing() {
    let mut coverage = Coverage::default();
    for seed in 1..=SCHEDULES {
        if let Some(broken) = sim::run(&Schedule::of(seed), &mut coverage, false).broken {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[test]
fn the_model_checker_finds_nothing() {
    for name in SHAPES {
        let shape = Shape::named(name).expect("the shape has this name");
        let limits = Limits { bytes: 1 << 28, time: Duration::from_secs(30), ..Limits::default() };
        match search(&shape, &limits, |_| {}).end {
            End::Finished => {}
            End::Failed(failure) => panic!("{name}: {failure}"),
            end => panic!("{name}: there are more states than there were: {end:?}"),
        }
    }
}

#[test]
fn the_corpus_finds_nothing() {
    for target in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target.name);
        for entry in fs::read_dir(&directory).expect("the target has a corpus") {
            let input = fs::read(entry.expect("the directory can be read").path()).expect("the file can be read");
            (target.run)(&input);
        }
    }
}
