//! The account that the applications of both sides keep together. It knows what they sent, what they took and which outcomes
//! they were told, and nothing of what the machines did in between.

use std::collections::BTreeMap;

use reattach_core::id::ConnectionId;
use reattach_core::id::MessageId;
use reattach_core::link::Delivery;
use reattach_core::outcome::Outcome;

/// Who sends, or takes: one life of a client's application, or the server's as it speaks with one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    /// A client, by its place in the list.
    Client(usize),
    /// The server's application, of a connection.
    Server(ConnectionId),
}

#[derive(Clone, Debug)]
struct Sent {
    by: Party,
    id: MessageId,
    is_taken: bool,
    outcome: Option<Outcome>,
    /// Whether the sender lives, so that it is owed an outcome.
    is_owed: bool,
}

/// The account. A message is known by its number, which is its payload; later ones have higher numbers.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    messages: Vec<Sent>,
    by_id: BTreeMap<MessageId, usize>,
    /// The last number that one party has taken from another, and of which key where it was ephemeral.
    taken: BTreeMap<(Party, Party, Option<String>), usize>,
    ephemerals: Vec<Party>,
}

impl Ledger {
    /// The number of the next message.
    pub(super) fn next(&self) -> usize {
        self.messages.len()
    }

    /// The number of the next ephemeral message.
    pub(super) fn next_ephemeral(&self) -> usize {
        self.ephemerals.len()
    }

    /// A message was sent.
    pub(super) fn on_sent(&mut self, by: Party, id: MessageId) {
        assert!(self.by_id.insert(id, self.messages.len()).is_none(), "a name is of one message");
        self.messages.push(Sent { by, id, is_taken: false, outcome: None, is_owed: true });
    }

    /// An ephemeral message was sent.
    pub(super) fn on_ephemeral(&mut self, by: Party) {
        self.ephemerals.push(by);
    }

    /// A message was taken.
    pub(super) fn on_taken(&mut self, by: Party, delivery: &Delivery) {
        let (number, _) = delivery.payload().parse::<(usize, String)>().expect("what was sent comes");
        let (from, key) = match delivery {
            Delivery::Message { id, payload: _ } => {
                let sent = self.messages.get_mut(number).expect("only what was sent comes");
                assert!(!sent.is_taken, "message {number} is handed over twice: {sent:?}");
                assert!(!matches!(sent.outcome, Some(Outcome::NotDelivered { .. })), "{number} was never to come");
                assert!(id.is_none_or(|id| id == sent.id), "a message keeps its name");
                sent.is_taken = true;
                (sent.by, None)
            }
            Delivery::Ephemeral { key, payload: _ } => (self.ephemerals[number], Some(key.to_string())),
        };
        match (from, by) {
            (Party::Client(_), Party::Server(_)) | (Party::Server(_), Party::Client(_)) => {}
            (Party::Client(_), Party::Client(_)) | (Party::Server(_), Party::Server(_)) => {
                panic!("{by:?} took what {from:?} sent");
            }
        }
        let before = self.taken.insert((by, from, key), number);
        assert!(before.is_none_or(|before| before < number), "{number} comes after {before:?}");
    }

    /// An outcome was told.
    pub(super) fn on_outcome(&mut self, to: Party, id: &MessageId, outcome: Outcome) {
        let number = *self.by_id.get(id).expect("an outcome is of what was sent");
        let sent = &mut self.messages[number];
        assert_eq!(sent.by, to, "an outcome is told to the sender");
        assert_eq!(sent.outcome, None, "one outcome for message {number}, and then {outcome}");
        match &outcome {
            Outcome::Delivered => assert!(sent.is_taken, "delivered means taken: {number}"),
            Outcome::NotDelivered { .. } => assert!(!sent.is_taken, "not delivered means not taken: {number}"),
            Outcome::Unknown { .. } => {}
            Outcome::Rejected { .. } => panic!("nobody rejects"),
        }
        sent.outcome = Some(outcome);
    }

    /// A sender is gone, and nobody is left to be told.
    pub(super) fn on_gone(&mut self, is_gone: impl Fn(&Party) -> bool) {
        self.messages.iter_mut().filter(|sent| is_gone(&sent.by)).for_each(|sent| sent.is_owed = false);
    }

    /// Whether every sender that lives was told every outcome.
    pub(super) fn is_settled(&self) -> bool {
        self.messages.iter().all(|sent| sent.outcome.is_some() || !sent.is_owed)
    }

    /// The first message that was not delivered, where every one should have been.
    pub(super) fn check_all_delivered(&self) {
        for (number, sent) in self.messages.iter().enumerate() {
            assert_eq!(sent.outcome, Some(Outcome::Delivered), "message {number} of {:?} without a cause", sent.by);
        }
    }
}
