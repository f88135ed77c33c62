//! What will go wrong, and when: a function of the seed, the same for everybody who is put through it.

use std::time::Duration;

use reattach_tokio::core::rng::Rng;
use reattach_tokio::core::wire::CloseCode;

use crate::proxy::Cut;

/// How one connection will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The network breaks it.
    Network(Cut),
    /// The server closes it with a code and keeps its state.
    Server(CloseCode),
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::Network(Cut::Fin),
        Self::Network(Cut::Reset),
        Self::Network(Cut::Torn),
        Self::Network(Cut::Stall),
        Self::Server(CloseCode::GOING_AWAY),
        Self::Server(CloseCode::INTERNAL),
        Self::Server(CloseCode::RESTART),
    ];

    /// What to call it in a table.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Network(Cut::Fin) => "fin".to_owned(),
            Self::Network(Cut::Reset) => "rst".to_owned(),
            Self::Network(Cut::Torn) => "torn frame".to_owned(),
            Self::Network(Cut::Stall) => "stall".to_owned(),
            Self::Server(code) => format!("close {}", code.get()),
        }
    }
}

/// One connection's fate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    /// How long it lives once it is established.
    pub(crate) lifetime: Duration,
    /// How it ends.
    pub(crate) fault: Fault,
}

/// The fates of the first connections; later ones live on.
pub(crate) fn plan(seed: u64, cuts: u32) -> Vec<Planned> {
    let mut rng = Rng::new(seed);
    let mut kinds = Vec::new();
    (0..cuts)
        .map(|_| {
            // Each kind comes once before any comes again, in an order of its own, so that every run has all of them.
            if kinds.is_empty() {
                kinds.extend(Fault::ALL);
            }
            let drawn = usize::try_from(rng.below(kinds.len() as u64)).expect("a small number");
            let fault = kinds.swap_remove(drawn);
            Planned { lifetime: rng.between(Duration::from_millis(60), Duration::from_millis(260)), fault }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_every_kind_and_follows_from_its_seed() {
        let names = |seed| plan(seed, 14).iter().map(|planned| planned.fault.name()).collect::<Vec<_>>();
        for fault in Fault::ALL {
            assert_eq!(names(1).iter().filter(|name| **name == fault.name()).count(), 2);
        }
        assert_eq!(names(1), names(1));
        assert_ne!(names(1), names(2));
    }
}
