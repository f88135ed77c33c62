//! A failing schedule is made small: acts are left out as long as what is left still fails.

use super::Schedule;

/// The smallest schedule that was found with acts of this one and breaks the same rule.
#[must_use]
pub fn shrink<S: Schedule>(schedule: &S) -> S {
    let rule = |schedule: &S| schedule.run(&mut S::Coverage::default(), false).broken.map(|broken| broken.rule);
    match rule(schedule) {
        Some(wanted) => shrink_while(schedule, |candidate| rule(candidate) == Some(wanted)),
        None => schedule.clone(),
    }
}

/// The smallest schedule that was found with acts of this one and fails.
#[must_use]
pub fn shrink_while<S: Schedule>(schedule: &S, fails: impl Fn(&S) -> bool) -> S {
    let mut smallest = schedule.clone();
    let mut numbers = smallest.numbers();
    let mut piece = numbers.len().div_ceil(2);
    while piece > 0 {
        let (mut from, mut has_shrunk) = (0, false);
        while from < numbers.len() {
            let to = (from + piece).min(numbers.len());
            let kept = [&numbers[..from], &numbers[to..]].concat();
            let candidate = smallest.clone().only(&kept);
            if fails(&candidate) {
                (smallest, numbers, has_shrunk) = (candidate, kept, true);
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
