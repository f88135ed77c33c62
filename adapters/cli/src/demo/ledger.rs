//! What the receivers saw, counted by the demonstration itself, and what the senders were told, side by side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use reattach_tokio::Receipt;
use reattach_tokio::core::outcome::Outcome;
use reattach_tokio::core::outcome::Unknown;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::sync::mpsc;

/// A numbered message.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Numbered {
    /// Its number, from 0.
    pub(crate) n: u64,
    /// Something to carry.
    pub(crate) text: String,
}

impl Numbered {
    pub(crate) fn new(n: u64) -> Self {
        Self { n, text: format!("message {n} of a demonstration") }
    }

    /// Whether it is as it was sent.
    pub(crate) fn is_intact(&self) -> bool {
        self.text == Self::new(self.n).text
    }
}

/// One direction: what was sent, what arrived, what was claimed.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    state: Mutex<State>,
    pub(crate) arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    sent: u64,
    /// How often each number arrived.
    arrivals: Vec<u32>,
    distinct: u64,
    highest: Option<u64>,
    out_of_order: u64,
    /// What the sender was told of each number; nothing where nobody was there to be told.
    claims: BTreeMap<u64, Outcome>,
    /// Numbers whose sender died before it was told.
    orphaned: u64,
}

/// One direction in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Figures {
    /// Messages sent.
    pub(crate) sent: u64,
    /// Those of them that arrived.
    pub(crate) delivered: u64,
    /// Those whose sender was told that they were not delivered.
    pub(crate) not_delivered: u64,
    /// Those whose sender was told that nobody can tell.
    pub(crate) unknown: u64,
    /// Those that did not arrive although nobody was told so.
    pub(crate) lost: u64,
    /// Arrivals of messages that had arrived before.
    pub(crate) duplicated: u64,
    /// Arrivals of messages behind a later one.
    pub(crate) out_of_order: u64,
    /// Claims that the arrivals disprove.
    pub(crate) false_claims: u64,
    /// Messages whose sender was told nothing, though it lived.
    pub(crate) unclaimed: u64,
    /// Messages whose sender died before it could be told.
    pub(crate) orphaned: u64,
    /// The unknown ones, by the reason that was given.
    pub(crate) unknown_because: BTreeMap<String, u64>,
    /// The ones not delivered, by the reason that was given.
    pub(crate) not_delivered_because: BTreeMap<String, u64>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next number is sent.
    pub(crate) fn on_sent(&self) {
        self.lock().sent += 1;
    }

    pub(crate) fn sent(&self) -> u64 {
        self.lock().sent
    }

    /// A message arrived. One that is not as it was sent is none.
    pub(crate) fn on_message(&self, message: &Numbered) {
        if message.is_intact() {
            self.on_arrived(message.n);
        }
    }

    fn on_arrived(&self, n: u64) {
        let mut state = self.lock();
        let index = usize::try_from(n).expect("a number fits the memory");
        if state.arrivals.len() <= index {
            state.arrivals.resize(index + 1, 0);
        }
        state.arrivals[index] += 1;
        if state.arrivals[index] == 1 {
            state.distinct += 1;
            state.out_of_order += u64::from(state.highest.is_some_and(|highest| n < highest));
        }
        state.highest = state.highest.max(Some(n));
        drop(state);
        self.arrived.notify_waiters();
    }

    /// How many different numbers arrived.
    pub(crate) fn distinct(&self) -> u64 {
        self.lock().distinct
    }

    /// The sender was told what became of a number.
    pub(crate) fn on_claim(&self, n: u64, outcome: Outcome) {
        self.lock().claims.insert(n, outcome);
        self.arrived.notify_waiters();
    }

    /// So many numbers have lost their sender.
    pub(crate) fn on_orphaned(&self) {
        let mut state = self.lock();
        state.orphaned = state.sent - state.claims.len() as u64;
    }

    /// Whether the sender was told of everything that it sent and lived to hear of.
    pub(crate) fn is_settled(&self) -> bool {
        let state = self.lock();
        state.claims.len() as u64 + state.orphaned >= state.sent
    }

    /// The figures. `has_claims` says whether the sender is one that is told what becomes of its messages.
    pub(crate) fn figures(&self, has_claims: bool) -> Figures {
        let state = self.lock();
        let mut figures = Figures {
            sent: state.sent,
            delivered: state.distinct,
            out_of_order: state.out_of_order,
            orphaned: state.orphaned,
            duplicated: state.arrivals.iter().map(|count| u64::from(count.saturating_sub(1))).sum(),
            ..Figures::default()
        };
        for n in 0..state.sent {
            let arrivals = usize::try_from(n).ok().and_then(|index| state.arrivals.get(index)).copied().unwrap_or(0);
            match state.claims.get(&n) {
                Some(Outcome::Delivered) => {
                    figures.lost += u64::from(arrivals == 0);
                    figures.false_claims += u64::from(arrivals == 0);
                }
                Some(Outcome::Rejected { .. }) => figures.false_claims += 1,
                Some(Outcome::NotDelivered { reason }) => {
                    figures.not_delivered += 1;
                    figures.false_claims += u64::from(arrivals > 0);
                    *figures.not_delivered_because.entry(reason.to_string()).or_default() += 1;
                }
                Some(Outcome::Unknown { reason }) => {
                    figures.unknown += 1;
                    // What was in the application's hands had arrived there.
                    figures.false_claims += u64::from(*reason == Unknown::InHands && arrivals == 0);
                    *figures.unknown_because.entry(reason.to_string()).or_default() += 1;
                }
                None if has_claims => figures.unclaimed += 1,
                None => figures.lost += u64::from(arrivals == 0),
            }
        }
        figures.unclaimed = figures.unclaimed.saturating_sub(state.orphaned);
        figures
    }
}

impl Figures {
    /// Whether every promise was kept, but for what is unknown or not delivered.
    pub(crate) fn is_honest(&self) -> bool {
        self.lost == 0
            && self.duplicated == 0
            && self.out_of_order == 0
            && self.false_claims == 0
            && self.unclaimed == 0
    }
}

/// Awaits receipts one after the other and enters what they say.
pub(crate) fn enter_claims(ledger: Arc<Ledger>) -> mpsc::Sender<(u64, Receipt)> {
    // An outbox holds fewer messages than this, so a sender never waits here.
    let (sender, mut receipts) = mpsc::channel::<(u64, Receipt)>(1_024);
    tokio::spawn(async move {
        while let Some((n, receipt)) = receipts.recv().await {
            ledger.on_claim(n, receipt.await);
        }
    });
    sender
}

#[cfg(test)]
mod tests {
    use reattach_tokio::core::outcome::NotDelivered;

    use super::*;

    fn ledger(sent: u64, arrivals: &[u64]) -> Ledger {
        let ledger = Ledger::default();
        (0..sent).for_each(|_| ledger.on_sent());
        arrivals.iter().for_each(|n| ledger.on_arrived(*n));
        ledger
    }

    #[test]
    fn losses_duplicates_and_disorder_are_counted_at_the_receiver() {
        let figures = ledger(6, &[0, 1, 1, 4, 3]).figures(false);
        assert_eq!((figures.delivered, figures.lost), (4, 2));
        assert_eq!((figures.duplicated, figures.out_of_order), (1, 1));
        assert!(!figures.is_honest());
    }

    #[test]
    fn a_claim_that_the_arrivals_disprove_is_false() {
        let ledger = ledger(5, &[0, 1, 4]);
        ledger.on_claim(0, Outcome::Delivered);
        ledger.on_claim(1, Outcome::NotDelivered { reason: NotDelivered::Closed });
        ledger.on_claim(2, Outcome::Delivered);
        ledger.on_claim(3, Outcome::Unknown { reason: Unknown::Closed });
        let figures = ledger.figures(true);
        assert_eq!(figures.false_claims, 2, "1 had arrived, 2 had not");
        assert_eq!((figures.lost, figures.unknown, figures.unclaimed), (1, 1, 1));
        ledger.on_claim(3, Outcome::Unknown { reason: Unknown::InHands });
        assert_eq!(ledger.figures(true).false_claims, 3, "3 was in nobody's hands");
    }

    #[test]
    fn a_message_that_was_changed_on_its_way_has_not_arrived() {
        let ledger = ledger(2, &[]);
        ledger.on_message(&Numbered::new(0));
        ledger.on_message(&Numbered { text: "another".to_owned(), ..Numbered::new(1) });
        assert_eq!(ledger.figures(false).lost, 1);
    }

    #[test]
    fn a_sender_that_died_is_owed_nothing() {
        let ledger = ledger(2, &[0]);
        ledger.on_claim(0, Outcome::Delivered);
        ledger.on_orphaned();
        assert!(ledger.is_settled());
        assert!(ledger.figures(true).is_honest());
    }
}
