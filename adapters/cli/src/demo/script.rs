//! What is done with each message of the third phase: a function of the seed and the number, the same in every run.

use std::time::Duration;

use reattach_tokio::core::rng::Rng;

/// How many lanes there are.
pub(crate) const LANES: u64 = 6;
/// How long the application may take to decide. The default is five minutes.
pub(crate) const LEASE: Duration = Duration::from_millis(250);

/// What becomes of one message, as far as that is anybody's to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// How often it may be handed over.
    pub(crate) hands: u32,
    /// How long it may take, where its sender says so.
    pub(crate) within: Option<Duration>,
    /// How long after sending it its sender tries to take it back.
    pub(crate) cancelled_after: Option<Duration>,
    /// How long the application thinks before it puts it off or decides.
    pub(crate) thinks: Duration,
    /// How often it is put off before the last word, and for how long; nothing leaves that to the configuration.
    pub(crate) put_off: u32,
    pub(crate) retry_after: Option<Duration>,
    /// The last word.
    pub(crate) last: Last,
}

/// How the application is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Last {
    Accept,
    Reject,
    /// It is dropped without a decision.
    Drop,
    /// It is accepted when the lease is over.
    Late,
    /// It asks for more time than the lease, and accepts within that.
    Extend,
}

impl Script {
    /// What is done with a message.
    pub(crate) fn new(seed: u64, n: u64) -> Self {
        let mut rng = Rng::new(Rng::new(seed).next_u64() ^ n);
        let millis = |rng: &mut Rng, low, high| rng.between(Duration::from_millis(low), Duration::from_millis(high));
        let hands = if rng.below(5) == 0 { 2 } else { 4 };
        let (mut within, mut cancelled_after) = (None, None);
        match rng.below(100) {
            0..8 => within = Some(millis(&mut rng, 5, 200)),
            8..16 => cancelled_after = Some(millis(&mut rng, 0, 150)),
            _ => {}
        }
        let thinks = if rng.below(10) == 0 { millis(&mut rng, 5, 60) } else { Duration::ZERO };
        let put_off = match rng.below(1_000) {
            0..110 => 1 + u32::try_from(rng.below(3)).expect("a small number"),
            110..130 => hands,
            _ => 0,
        };
        let retry_after = (rng.below(2) == 0).then(|| millis(&mut rng, 5, 60));
        let last = match rng.below(1_000) {
            0..100 => Last::Reject,
            100..130 => Last::Drop,
            130..136 => Last::Late,
            136..140 => Last::Extend,
            _ => Last::Accept,
        };
        Self { hands, within, cancelled_after, thinks, put_off, retry_after, last }
    }
}

/// The lane of a number.
pub(crate) const fn lane_of(n: u64) -> u64 {
    n % LANES
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_of_message_comes_in_every_run_and_follows_from_its_seed() {
        for seed in 0..20 {
            let all: Vec<_> = (0..2_000).map(|n| Script::new(seed, n)).collect();
            assert_eq!(all[7], Script::new(seed, 7));
            assert_eq!(all.iter().map(|script| script.last).collect::<BTreeSet<_>>().len(), 5);
            assert!(all.iter().any(|script| script.put_off >= script.hands), "put off until it may be no more");
            assert!(all.iter().any(|script| (1..script.hands).contains(&script.put_off)));
            assert!(all.iter().any(|script| script.within.is_some()));
            assert!(all.iter().any(|script| script.cancelled_after.is_some()));
            assert_ne!(all, (0..2_000).map(|n| Script::new(seed + 1, n)).collect::<Vec<_>>());
        }
    }
}
