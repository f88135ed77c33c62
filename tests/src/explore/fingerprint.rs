//! A hash of a state in which time is relative to its present.

use std::hash::Hash;
use std::hash::Hasher;
use std::time::Duration;

use reattach_core::time::Instant;

/// Where the clocks of explored worlds start: far from every number, id and duration that a machine may hold.
pub(super) const ORIGIN: Instant = Instant::from_micros(1 << 62);

/// How far from the origin a number counts as a point in time: some 35 years, more than any world lasts.
const REACH: u64 = 1 << 50;

/// What is further away than this, in microseconds, looks as if it never came: no world lasts so long, and no world waits for what
/// is beyond its horizon.
const FAR: u64 = 5 * 60 * 60 * 1_000_000;

/// Two states with the same fingerprint are taken for the same.
pub(super) type Print = u128;

/// A hasher of 128 bits to which every [`Instant`] looks like its distance from `now`.
///
/// An instant hashes as the `u64` that it holds. The world's clock starts at 2^62 microseconds, and no other number near that
/// is ever hashed, so a number near it is a point in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fold {
    eyes: Eyes,
    high: u64,
    low: u64,
}

/// How times are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Eyes {
    pub(super) now: Instant,
    /// Whether it makes no difference how long ago something was.
    pub(super) forgets: bool,
    /// Changes every fingerprint.
    pub(super) seed: u64,
    /// Whether the whole history of the oracle makes a difference.
    pub(super) remembers: bool,
}

impl Eyes {
    /// What stands for a point in time.
    const fn see(self, micros: u64) -> u64 {
        let now = self.now.as_micros();
        if micros > now + FAR {
            1 << 63
        } else if self.forgets && micros < now {
            0
        } else {
            micros.wrapping_sub(now)
        }
    }
}

impl Fold {
    pub(super) const fn new(eyes: Eyes) -> Self {
        Self { eyes, high: eyes.seed ^ 0x243f_6a88_85a3_08d3, low: eyes.seed ^ 0x1319_8a2e_0370_7344 }
    }

    pub(super) fn of(value: &impl Hash, eyes: Eyes) -> Print {
        let mut fold = Self::new(eyes);
        value.hash(&mut fold);
        fold.print()
    }

    pub(super) fn print(mut self) -> Print {
        self.mix(0x9216_d5d9_8979_fb1b);
        self.mix(0xd131_0ba6_98df_b5ac);
        (u128::from(self.high) << 64) | u128::from(self.low)
    }

    /// Two lanes that see the same words through different multipliers, and each other.
    const fn mix(&mut self, word: u64) {
        let high = fold(self.high ^ word, 0xa409_3822_299f_31d1);
        let low = fold(self.low.rotate_left(23) ^ word ^ 0x4528_21e6_38d0_1377, 0xbe54_66cf_34e9_0c6d);
        self.high = high.wrapping_add(self.low);
        self.low = low ^ high.rotate_left(32);
    }
}

/// The halves of a product of 128 bits, laid over each other.
#[allow(clippy::cast_possible_truncation, reason = "each half is wanted")]
const fn fold(a: u64, b: u64) -> u64 {
    let wide = a as u128 * b as u128;
    wide as u64 ^ (wide >> 64) as u64
}

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.high ^ self.low
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(bytes.len() as u64);
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(u64::from(number));
    }

    fn write_u16(&mut self, number: u16) {
        self.mix(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(if number.abs_diff(ORIGIN.as_micros()) < REACH { self.eyes.see(number) } else { number });
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.mix(number as u64);
    }
}

/// A duration so long that no world waits for it.
pub(super) const NEVER: Duration = Duration::from_secs(20 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(now: Instant) -> Eyes {
        Eyes { now, forgets: false, seed: 0, remembers: false }
    }

    fn print(value: &impl Hash, now: Instant) -> Print {
        Fold::of(value, at(now))
    }

    #[test]
    fn times_look_alike_from_the_same_distance() {
        let second = Duration::from_secs(1);
        let (early, late) = (ORIGIN + second, ORIGIN + second * 2);
        assert_eq!(print(&(early, Some(late)), ORIGIN), print(&(late, Some(late + second)), early));
        assert_ne!(print(&early, ORIGIN), print(&early, early));
        assert_ne!(print(&(1_u64, 2_u64), ORIGIN), print(&(2_u64, 3_u64), early), "small numbers are no times");
    }

    #[test]
    fn what_is_far_away_looks_alike_and_what_is_over_where_nobody_asks() {
        let second = Duration::from_secs(1);
        let (now, far) = (ORIGIN + second * 2, ORIGIN + NEVER);
        assert_eq!(print(&far, now), print(&(far + second), now));
        assert_ne!(print(&ORIGIN, now), print(&(ORIGIN + second), now));
        let forgetful = Eyes { forgets: true, ..at(now) };
        assert_eq!(Fold::of(&ORIGIN, forgetful), Fold::of(&(ORIGIN + second), forgetful));
        assert_eq!(Fold::of(&ORIGIN, forgetful), Fold::of(&now, forgetful));
        assert_ne!(Fold::of(&(now + second), forgetful), Fold::of(&now, forgetful));
    }

    #[test]
    fn neighbours_differ_in_both_halves() {
        let prints: Vec<Print> = (0..1_000_u64).map(|number| print(&number, ORIGIN)).collect();
        let mut halves: Vec<u64> = prints.iter().flat_map(|print| [(print >> 64) as u64, *print as u64]).collect();
        halves.sort_unstable();
        halves.dedup();
        assert_eq!(halves.len(), 2_000);
        assert_ne!(print(&"ab", ORIGIN), print(&"a\0b", ORIGIN));
        assert_ne!(print(&[1_u8, 0], ORIGIN), print(&[1_u8], ORIGIN));
    }
}
