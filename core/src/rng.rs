//! A small seeded generator, for jitter only.
//!
//! Jitter spreads reconnects; nothing secret comes from here. Keys, epochs, nonces and fences are minted by the adapter
//! from the system's CSPRNG and handed in. The seed is a constructor's argument, so that the same inputs give the same
//! outputs.

use core::time::Duration;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose sequence is a function of `seed` alone.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of the 128-bit product: the bias is below bound / 2^64, which jitter can bear.
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the high half of a 128-bit product fits 64 bits")
    }

    /// A duration from `low` to `high`, both included, in whole microseconds; `low` when the range is empty.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let span = u64::try_from(high.saturating_sub(low).as_micros()).unwrap_or(u64::MAX - 1);
        low + Duration::from_micros(self.below(span.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
    }

    #[test]
    fn a_range_is_kept_at_both_ends() {
        let mut rng = Rng::new(1);
        let (low, high) = (Duration::from_micros(5), Duration::from_micros(7));
        let mut seen = [0_u32; 3];
        for _ in 0..300 {
            let drawn = rng.between(low, high);
            assert!((low..=high).contains(&drawn));
            seen[usize::try_from(drawn.as_micros() - 5).expect("0 to 2")] += 1;
        }
        assert!(seen.iter().all(|count| *count > 0));
        assert_eq!(rng.between(high, low), high);
    }
}
