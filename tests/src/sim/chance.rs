//! Where schedules come from: a generator whose every draw is a function of its seed.

/// A small generator (the finaliser of MurmurHash3 over a counter), for tests only.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

/// Mixes numbers into one that looks like chance, so that what is drawn for one thing does not depend on what else is drawn.
pub const fn mix(a: u64, b: u64) -> u64 {
    let mut z = a ^ b.wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(31);
    z ^= z >> 33;
    z = z.wrapping_mul(0xff51_afd7_ed55_8ccd);
    z ^= z >> 33;
    z = z.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    z ^ (z >> 33)
}

impl Chance {
    /// The generator of a seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: mix(seed, 1) }
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state, 2)
    }

    /// A number below a bound.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number from `low` to `high`, both included.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True so often in a hundred.
    pub const fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = self.below(choices.len() as u64);
        choices[usize::try_from(index).expect("an index of a slice")]
    }

    /// One of several, each as often as its weight says.
    pub fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let mut left = self.below(choices.iter().map(|(weight, _)| weight).sum());
        for (weight, choice) in choices {
            if left < *weight {
                return *choice;
            }
            left -= weight;
        }
        unreachable!("what is left is below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_another_does_not() {
        let draw = |seed: u64| {
            let mut chance = Chance::new(seed);
            (0..32).map(|_| chance.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn what_is_weighed_comes_as_often_as_its_weight_says() {
        let mut chance = Chance::new(1);
        let mut counts = [0_u32; 3];
        for _ in 0..10_000 {
            counts[chance.weighted(&[(1, 0), (0, 1), (9, 2)])] += 1;
        }
        assert!(counts[1] == 0 && (700..1_300).contains(&counts[0]), "{counts:?}");
    }
}
