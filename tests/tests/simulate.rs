//! The simulator: its stored seeds hold and reach everything, the same seed gives the same trace, and what fails is made small.
//!
//! The seeds stand in `tests/seeds/simulate.txt`, each with what it was first to reach. `simulate --gather` makes such a list;
//! a seed that has found something is added to it by hand, with a word on what that was.

use harness::campaign::Coverage as _;
use harness::campaign::Schedule as _;
use harness::campaign::shrink_while;
use harness::sim::Coverage;
use harness::sim::IMPOSSIBLE;
use harness::sim::Schedule;

/// The seeds that are replayed, one in a line, words behind a number sign apart.
const STORED: &str = include_str!("../seeds/simulate.txt");

fn stored() -> Vec<u64> {
    let seeds = STORED.lines().map(|line| line.split('#').next().expect("a split has a first part").trim());
    seeds.filter(|seed| !seed.is_empty()).map(|seed| seed.parse().expect("a seed is a number")).collect()
}

// V1; S1 to S6, X1, L1 to L3, B1, B2, J1, E1
#[test]
fn the_stored_seeds_hold_and_reach_every_fault_every_cell_and_every_outcome() {
    let mut coverage = Coverage::default();
    for seed in stored() {
        let report = Schedule::of(seed).run(&mut coverage, false);
        if let Some(broken) = report.broken {
            panic!("{broken}\nreplay: cargo run --release -p reattach-tests --bin simulate -- --seed {seed} --replay");
        }
    }
    assert_eq!(coverage.missing(), Vec::<String>::new(), "the stored seeds reach everything that can be reached");
}

// D1
#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in stored().into_iter().take(12) {
        let hash = || Schedule::of(seed).run(&mut Coverage::default(), false).hash;
        assert_eq!(hash(), hash(), "seed {seed}");
    }
}

#[test]
fn a_schedule_is_made_small_without_losing_what_makes_it_fail() {
    let schedule = Schedule::of(stored()[0]);
    let numbers = schedule.numbers();
    let (first, last) = (numbers[1], numbers[numbers.len() - 1]);
    let fails = |schedule: &Schedule| {
        let numbers = schedule.numbers();
        numbers.contains(&first) && numbers.contains(&last)
    };
    let mut smallest = shrink_while(&schedule, fails).numbers();
    smallest.sort_unstable();
    let mut wanted = vec![first, last];
    wanted.sort_unstable();
    assert_eq!(smallest, wanted);
}

#[test]
fn what_is_out_of_reach_has_a_reason() {
    assert!(IMPOSSIBLE.iter().all(|(pattern, reason)| pattern.contains(' ') && reason.len() > 10));
}
