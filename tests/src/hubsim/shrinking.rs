//! A failing schedule is made small: acts are left out as long as what is left still fails.

use super::schedule::Schedule;

/// The smallest schedule that was found with acts of this one and fails.
#[must_use]
pub fn shrink_while(schedule: &Schedule, fails: impl Fn(&Schedule) -> bool) -> Schedule {
    let mut smallest = schedule.clone();
    let mut piece = smallest.steps.len().div_ceil(2);
    while piece > 0 {
        let (mut from, mut has_shrunk) = (0, false);
        while from < smallest.steps.len() {
            let numbers = smallest.numbers();
            let to = (from + piece).min(numbers.len());
            let candidate = smallest.clone().only(&[&numbers[..from], &numbers[to..]].concat());
            if fails(&candidate) {
                (smallest, has_shrunk) = (candidate, true);
            } else {
                from = to;
            }
        }
        piece = match (piece, has_shrunk) {
            (1, true) => 1,
            (1, false) => 0,
            _ => piece / 2,
        };
    }
    smallest
}
