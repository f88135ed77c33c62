//! The reference model: what two applications are promised, as simply as it can be said.
//!
//! It knows nothing of frames, epochs, windows or timers. It looks at what was sent, what each application took and which
//! outcomes were told, and says what contradicts the promise.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use reattach_core::id::MessageId;
use reattach_core::outcome::Outcome;

/// What contradicts the promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

/// One direction: a sender, who is told outcomes, and a receiver, who takes messages. Messages are numbered as sent, from 0.
#[derive(Clone, Debug, Default)]
pub struct Direction {
    sent: Vec<Sent>,
    by_id: BTreeMap<MessageId, usize>,
    /// What the receiver took in this life of both sides.
    taken: Vec<usize>,
    /// What any receiver ever took.
    ever_taken: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
struct Sent {
    outcome: Option<Outcome>,
    /// The sender's state was lost, or is one from before: nobody need be told of it.
    is_orphan: bool,
    /// The sender's state is one from before its outcome, or before it was written: it can come again, and be told again.
    may_repeat: bool,
    /// The sender's state is one from before it was sent: its place in the order means nothing any more.
    is_discarded: bool,
}

impl Direction {
    /// How many messages were sent.
    pub fn sent(&self) -> usize {
        self.sent.len()
    }

    /// The machine has accepted the next message for sending.
    ///
    /// # Errors
    ///
    /// If another message that it knows has this id.
    pub fn on_sent(&mut self, id: MessageId) -> Result<(), Broken> {
        let number = self.sent.len();
        self.sent.push(Sent { outcome: None, is_orphan: false, may_repeat: false, is_discarded: false });
        match self.by_id.insert(id, number) {
            Some(other) => Err(Broken(format!("messages {other} and {number} have the same id"))),
            None => Ok(()),
        }
    }

    /// The receiver has taken a message.
    ///
    /// # Errors
    ///
    /// If it was never sent, comes twice or out of order, or was told not delivered.
    pub fn on_taken(&mut self, number: usize) -> Result<(), Broken> {
        let Some(sent) = self.sent.get(number) else {
            return Err(Broken(format!("message {number} was taken and never sent")));
        };
        if sent.may_repeat && self.ever_taken.contains(&number) {
            // Its sender is an older self of the one that had written it.
            return Ok(());
        }
        if self.taken.contains(&number) || (self.ever_taken.contains(&number) && self.is_one_life()) {
            return Err(Broken(format!("message {number} was taken twice")));
        }
        if sent.is_discarded {
            let is_first = self.ever_taken.insert(number);
            return if is_first { Ok(()) } else { Err(Broken(format!("message {number} was taken twice"))) };
        }
        if let Some(last) = self.taken.last().filter(|last| **last > number) {
            return Err(Broken(format!("message {number} was taken after {last}")));
        }
        if let Some(outcome @ Outcome::NotDelivered { .. }) = sent.outcome.as_ref().filter(|_| !sent.may_repeat) {
            return Err(Broken(format!("message {number} was taken although it is {outcome}")));
        }
        self.taken.push(number);
        self.ever_taken.insert(number);
        Ok(())
    }

    /// The sender was told an outcome.
    ///
    /// # Errors
    ///
    /// If it is of nothing that was sent, the second one, or untrue.
    pub fn on_outcome(&mut self, id: MessageId, outcome: &Outcome) -> Result<(), Broken> {
        let Some(number) = self.by_id.get(&id).copied() else {
            return Err(Broken(format!("an outcome of {id}, which was never sent: {outcome}")));
        };
        let is_taken = self.taken.contains(&number);
        let was_taken = self.ever_taken.contains(&number);
        let sent = &mut self.sent[number];
        if let Some(before) = &sent.outcome {
            return Err(Broken(format!("message {number} is {outcome} and was {before}")));
        }
        let is_true = match outcome {
            Outcome::Delivered => was_taken,
            Outcome::NotDelivered { .. } => !is_taken || sent.may_repeat,
            Outcome::Unknown { .. } => true,
            Outcome::Rejected { .. } => false,
        };
        sent.outcome = Some(outcome.clone());
        if is_true { Ok(()) } else { Err(Broken(format!("message {number} is {outcome}, and taken: {was_taken}"))) }
    }

    /// The sender lost its state: whatever had no outcome may never have one.
    pub fn on_sender_lost(&mut self) {
        self.sent.iter_mut().for_each(|sent| sent.is_orphan = true);
        self.by_id.clear();
    }

    /// The sender is again as it was when this direction was `then`: it knows nothing of what it sent since, may tell again
    /// what it told since, and may write again what it wrote since.
    pub fn on_sender_restored(&mut self, then: &Self) {
        for (number, sent) in self.sent.iter_mut().enumerate() {
            sent.may_repeat = number < then.sent.len();
            sent.is_discarded = !sent.may_repeat || then.sent[number].is_discarded;
            sent.is_orphan = !sent.may_repeat || then.sent[number].is_orphan;
            sent.outcome = then.sent.get(number).and_then(|sent| sent.outcome.clone());
        }
        self.by_id.clone_from(&then.by_id);
        self.taken.clear();
    }

    /// The receiver is again as it was when this direction was `then`.
    pub fn on_receiver_restored(&mut self, then: &Self) {
        self.taken.clone_from(&then.taken);
    }

    /// Everything has come to rest.
    ///
    /// # Errors
    ///
    /// If a message has no outcome and its sender could have told one.
    pub fn check_end(&self) -> Result<(), Broken> {
        let open = self.sent.iter().position(|sent| sent.outcome.is_none() && !sent.is_orphan);
        open.map_or(Ok(()), |number| Err(Broken(format!("message {number} has no outcome"))))
    }

    /// Nothing happened that could have cost a message.
    ///
    /// # Errors
    ///
    /// If a message was not delivered all the same.
    pub fn check_all_delivered(&self) -> Result<(), Broken> {
        let lost = self.sent.iter().position(|sent| sent.outcome != Some(Outcome::Delivered));
        if let Some(number) = lost {
            let outcome = &self.sent[number].outcome;
            return Err(Broken(format!("message {number} is {outcome:?}, and nothing happened that explains it")));
        }
        if self.taken.len() < self.sent.len() {
            return Err(Broken(format!("{} of {} were taken", self.taken.len(), self.sent.len())));
        }
        Ok(())
    }

    /// Whether this is the first life of both sides.
    fn is_one_life(&self) -> bool {
        self.taken.len() == self.ever_taken.len()
    }
}

/// Ephemeral messages of one direction: each comes at most once, and of one key only newer ones.
#[derive(Clone, Debug, Default)]
pub struct EphemeralDirection {
    sent: u64,
    newest: BTreeMap<String, u64>,
}

impl EphemeralDirection {
    /// The number of the next one.
    pub const fn next(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// The receiver is again as it was when this direction was `then`.
    pub fn on_receiver_restored(&mut self, then: &Self) {
        self.newest.clone_from(&then.newest);
    }

    /// The receiver has taken one.
    ///
    /// # Errors
    ///
    /// If it was never sent, or is not newer than the last one of its key.
    pub fn on_taken(&mut self, key: &str, number: u64) -> Result<(), Broken> {
        let before = self.newest.insert(key.into(), number);
        if number > self.sent || before.is_some_and(|before| before >= number) {
            return Err(Broken(format!("the ephemeral {number} of {key:?} came after {before:?}, of {}", self.sent)));
        }
        Ok(())
    }
}
