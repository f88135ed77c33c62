//! The simulator of sessions, requests and questions: a number of schedules hold and reach what there is, the same seed gives the
//! same trace, and what fails is made small. `simulate_hub` runs as many more as there is time for.

use harness::campaign::Coverage as _;
use harness::campaign::Schedule as _;
use harness::campaign::shrink_while;
use harness::hubsim::Coverage;
use harness::hubsim::Schedule;

/// From where on, and how many.
const FIRST: u64 = 8_100_000;
const COUNT: u64 = 200;

// V1; S1, S3 to S5, S7, S8, X1, L1, L2, B1, B2, J1
#[test]
fn schedules_hold_and_reach_what_there_is() {
    let mut coverage = Coverage::default();
    for seed in FIRST..FIRST + COUNT {
        if let Some(broken) = Schedule::of(seed).run(&mut coverage, false).broken {
            panic!(
                "{broken}\nreplay: cargo run --release -p reattach-tests --bin simulate_hub -- --seed {seed} --replay"
            );
        }
    }
    assert_eq!(coverage.missing(), Vec::<&str>::new(), "what is never reached is never tested");
}

// D1
#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in FIRST..FIRST + 10 {
        let hash = || Schedule::of(seed).run(&mut Coverage::default(), false).hash;
        assert_eq!(hash(), hash(), "seed {seed}");
    }
}

#[test]
fn a_schedule_is_made_small_without_losing_what_makes_it_fail() {
    let schedule = Schedule::of(FIRST);
    let numbers = schedule.numbers();
    let wanted = [numbers[1], numbers[numbers.len() - 1]];
    let fails = |schedule: &Schedule| wanted.iter().all(|number| schedule.numbers().contains(number));
    assert_eq!(shrink_while(&schedule, fails).numbers(), wanted);
}
