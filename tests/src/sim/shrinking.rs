//! A failing schedule is made small: acts are left out as long as what is left still fails.

use super::Coverage;
use super::Schedule;
use super::run;

/// The smallest schedule that was found with acts of this one and breaks the same rule.
#[must_use]
pub fn shrink(schedule: &Schedule) -> Schedule {
    let rule = |schedule: &Schedule| run(schedule, &mut Coverage::default(), false).broken.map(|broken| broken.rule);
    match rule(schedule) {
        Some(wanted) => shrink_while(schedule, |candidate| rule(candidate) == Some(wanted)),
        None => schedule.clone(),
    }
}

/// The smallest schedule that was found with acts of this one and fails.
#[must_use]
pub fn shrink_while(schedule: &Schedule, fails: impl Fn(&Schedule) -> bool) -> Schedule {
    let mut smallest = schedule.clone();
    let mut piece = smallest.acts.len().div_ceil(2);
    while piece > 0 {
        let mut from = 0;
        let mut has_shrunk = false;
        while from < smallest.acts.len() {
            let numbers = smallest.numbers();
            let to = (from + piece).min(numbers.len());
            let kept: Vec<u32> = [&numbers[..from], &numbers[to..]].concat();
            let candidate = smallest.clone().only(&kept);
            if fails(&candidate) {
                smallest = candidate;
                has_shrunk = true;
            } else {
                from = to;
            }
        }
        if piece == 1 && !has_shrunk {
            break;
        }
        piece = if piece == 1 { 1 } else { piece / 2 };
    }
    smallest
}
