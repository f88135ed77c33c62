//! The reference model: what two applications are promised, as simply as it can be said.
//!
//! It knows nothing of frames, epochs, windows or timers. It looks at what was sent, what each application was handed and
//! decided, and which outcomes were told, and says what contradicts the promise.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use reattach_core::id::MessageId;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;

/// What contradicts the promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

/// What the sender asks for, beside the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Post {
    /// The lane, 0 for the default one.
    pub lane: u8,
    /// A deadline, in milliseconds.
    pub within: Option<u64>,
    /// Whether it may be sent again when nobody can tell what became of it.
    pub is_idempotent: bool,
    /// Whether it is worth nothing while the peer cannot be reached.
    pub is_fail_fast: bool,
    /// How often it may be handed over, where it is not for the default to say.
    pub hands: Option<u32>,
}

/// What a receiver decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has taken effect.
    Accepted,
    /// It had none, and shall not come again.
    Rejected,
    /// It shall come again.
    Deferred,
    /// Nobody will decide.
    Abandoned,
}

/// One direction: a sender, who is told outcomes, and a receiver, who takes messages. Messages are numbered as sent, from 0.
#[derive(Clone, Debug, Default)]
pub struct Direction {
    sent: Vec<Sent>,
    by_id: BTreeMap<MessageId, usize>,
    /// What the receiver was handed in this life of both sides; each once, where it came first.
    taken: Vec<usize>,
    /// What any receiver was ever handed.
    ever_taken: BTreeSet<usize>,
    /// What the receiver has in its hands, undecided.
    in_hands: BTreeSet<usize>,
    /// What it has put off and was not handed again, or may be handed again after a restart.
    put_off: BTreeSet<usize>,
    /// What any receiver ever decided: accepted, refused (or put off), and never decided.
    accepted: BTreeSet<usize>,
    refused: BTreeSet<usize>,
    abandoned: BTreeSet<usize>,
    /// Whether a receiver was lost with what it knew, so that what is idempotent can come again.
    was_lost: bool,
}

#[derive(Clone, Debug)]
struct Sent {
    post: Post,
    outcome: Option<Outcome>,
    /// The sender has withdrawn it.
    is_cancelled: bool,
    /// The sender's state was lost, or is one from before: nobody need be told of it.
    is_orphan: bool,
    /// The sender's state is one from before its outcome, or before it was written: it can come again, and be told again.
    may_repeat: bool,
    /// The sender's state is one from before it was sent: its place in the order means nothing any more.
    is_discarded: bool,
    /// The sender's state is one from before it withdrew it: it can come behind what was sent after it.
    is_revived: bool,
}

impl Direction {
    /// How many messages were sent.
    pub fn sent(&self) -> usize {
        self.sent.len()
    }

    /// Whether a message waits for its outcome.
    pub fn is_open(&self, number: usize) -> bool {
        self.sent.get(number).is_some_and(|sent| sent.outcome.is_none() && !sent.is_orphan)
    }

    /// The machine has accepted the next plain message for sending.
    ///
    /// # Errors
    ///
    /// If another message that it knows has this id.
    pub fn on_sent(&mut self, id: MessageId) -> Result<(), Broken> {
        self.on_posted(id, Post::default())
    }

    /// The machine has accepted the next message for sending.
    ///
    /// # Errors
    ///
    /// If another message that it knows has this id.
    pub fn on_posted(&mut self, id: MessageId, post: Post) -> Result<(), Broken> {
        let number = self.sent.len();
        self.sent.push(Sent {
            post,
            outcome: None,
            is_cancelled: false,
            is_orphan: false,
            may_repeat: false,
            is_discarded: false,
            is_revived: false,
        });
        match self.by_id.insert(id, number) {
            Some(other) => Err(Broken(format!("messages {other} and {number} have the same id"))),
            None => Ok(()),
        }
    }

    /// The sender has withdrawn a message, or could not.
    ///
    /// # Errors
    ///
    /// If that does not fit what it was told.
    pub fn on_cancelled(&mut self, id: &MessageId, was_known: bool) -> Result<(), Broken> {
        let Some(number) = self.by_id.get(id).copied() else { return Ok(()) };
        if self.is_open(number) != was_known {
            return Err(Broken(format!("a cancel of {number} is answered with {was_known}: {:?}", self.sent[number])));
        }
        self.sent[number].is_cancelled |= was_known;
        Ok(())
    }

    /// The receiver has taken a message, which accepts it.
    ///
    /// # Errors
    ///
    /// As [`Direction::on_handed`].
    pub fn on_taken(&mut self, number: usize) -> Result<(), Broken> {
        self.on_handed(number, 1)?;
        self.on_decided(number, Verdict::Accepted)
    }

    /// The receiver is handed a message, for the time that `turn` says.
    ///
    /// # Errors
    ///
    /// If it was never sent, comes twice or out of order, or was told not delivered.
    pub fn on_handed(&mut self, number: usize, turn: u32) -> Result<(), Broken> {
        let Some(sent) = self.sent.get(number) else {
            return Err(Broken(format!("message {number} was taken and never sent")));
        };
        let lane = sent.post.lane;
        if turn > sent.post.hands.unwrap_or(4) {
            return Err(Broken(format!("message {number} was handed over {turn} times")));
        }
        if let Some(before) = self.in_hands.iter().find(|other| self.sent[**other].post.lane == lane) {
            return Err(Broken(format!("message {number} was handed over while its lane holds {before}")));
        }
        self.in_hands.insert(number);
        let is_again = self.put_off.remove(&number);
        let may_come_again = sent.may_repeat || (sent.post.is_idempotent && self.was_lost);
        if is_again || (may_come_again && self.ever_taken.contains(&number)) {
            // Its sender is an older self of the one that had written it, or it was to come again.
            return self.check_not_ended(number);
        }
        if self.taken.contains(&number) || (self.ever_taken.contains(&number) && self.is_one_life()) {
            return Err(Broken(format!("message {number} was taken twice")));
        }
        if sent.is_discarded {
            let is_first = self.ever_taken.insert(number);
            return if is_first { Ok(()) } else { Err(Broken(format!("message {number} was taken twice"))) };
        }
        let of_lane = self.taken.iter().rev().find(|other| self.sent[**other].post.lane == lane);
        if let Some(last) = of_lane.filter(|last| **last > number && !sent.is_revived) {
            return Err(Broken(format!("message {number} was taken after {last}")));
        }
        self.check_not_ended(number)?;
        self.taken.push(number);
        self.ever_taken.insert(number);
        Ok(())
    }

    fn check_not_ended(&self, number: usize) -> Result<(), Broken> {
        let sent = &self.sent[number];
        match sent.outcome.as_ref().filter(|_| !sent.may_repeat) {
            Some(outcome @ (Outcome::NotDelivered { .. } | Outcome::Rejected { .. })) => {
                Err(Broken(format!("message {number} was taken although it is {outcome}")))
            }
            Some(Outcome::Delivered | Outcome::Unknown { .. }) | None => Ok(()),
        }
    }

    /// Whether the receiver has a message in its hands.
    pub fn is_in_hands(&self, number: usize) -> bool {
        self.in_hands.contains(&number)
    }

    /// The receiver has decided about a message in its hands.
    ///
    /// # Errors
    ///
    /// If it has not got it, or its sender was told what this decision belies.
    pub fn on_decided(&mut self, number: usize, verdict: Verdict) -> Result<(), Broken> {
        if !self.in_hands.remove(&number) {
            return Err(Broken(format!("message {number} is {verdict:?} and was not in the receiver's hands")));
        }
        match verdict {
            Verdict::Accepted => _ = self.accepted.insert(number),
            Verdict::Rejected => _ = self.refused.insert(number),
            Verdict::Deferred => {
                self.refused.insert(number);
                self.put_off.insert(number);
            }
            Verdict::Abandoned => _ = self.abandoned.insert(number),
        }
        let sent = &self.sent[number];
        let told = sent.outcome.as_ref().filter(|_| !sent.may_repeat);
        match told {
            Some(outcome @ (Outcome::Rejected { .. } | Outcome::NotDelivered { .. }))
                if verdict == Verdict::Accepted =>
            {
                Err(Broken(format!("message {number} is accepted after it was told {outcome}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The receiver has decided about a message of a connection that had ended.
    ///
    /// # Errors
    ///
    /// If its sender was told what this decision belies.
    pub fn on_decided_late(&mut self, number: usize, verdict: Verdict) -> Result<(), Broken> {
        self.in_hands.insert(number);
        self.on_decided(number, verdict)
    }

    /// The receiver's epoch has ended: nothing in its hands can be decided about, and nothing that was put off comes again,
    /// but for what its sender may send again.
    pub fn on_sealed(&mut self) {
        self.put_off.append(&mut self.in_hands);
        self.put_off.retain(|number| self.sent[*number].post.is_idempotent);
    }

    /// The receiver's connection has ended, and what came before can still be decided about, beside the next connection.
    pub fn on_left(&mut self) {
        self.in_hands.clear();
    }

    /// Nobody can tell whether the receiver can still decide about a message.
    pub fn on_let_go(&mut self, number: usize) {
        self.in_hands.remove(&number);
        if self.sent[number].post.is_idempotent {
            self.put_off.insert(number);
        }
    }

    /// The receiver goes on from its very state, but for what its application had in its hands.
    pub fn on_receiver_restarted(&mut self) {
        for number in core::mem::take(&mut self.in_hands) {
            // What may come again and was handed over as often as it may be is abandoned too.
            self.abandoned.insert(number);
            if self.sent[number].post.is_idempotent {
                self.put_off.insert(number);
            }
        }
    }

    /// The receiver lost its state.
    pub fn on_receiver_lost(&mut self) {
        self.on_sealed();
        self.was_lost = true;
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
        let (accepted, refused) = (self.accepted.contains(&number), self.refused.contains(&number));
        let sent = &mut self.sent[number];
        if let Some(before) = &sent.outcome {
            return Err(Broken(format!("message {number} is {outcome} and was {before}")));
        }
        let is_true = match outcome {
            Outcome::Delivered => accepted,
            Outcome::NotDelivered { reason } => {
                let is_asked = match reason {
                    NotDelivered::Cancelled => sent.is_cancelled,
                    NotDelivered::Deadline => sent.post.within.is_some(),
                    NotDelivered::Unavailable => sent.post.is_fail_fast,
                    NotDelivered::Closed
                    | NotDelivered::Ended
                    | NotDelivered::Forgotten
                    | NotDelivered::Unreachable
                    | NotDelivered::Expired
                    | NotDelivered::TooLarge
                    | NotDelivered::Voided
                    | NotDelivered::TooOld
                    | NotDelivered::Attempts
                    | NotDelivered::Superseded
                    | NotDelivered::Shutdown
                    | _ => true,
                };
                is_asked && (!is_taken || sent.may_repeat)
            }
            Outcome::Rejected { .. } => refused && (!accepted || sent.may_repeat),
            Outcome::Unknown { reason: Unknown::Abandoned } => self.abandoned.contains(&number),
            Outcome::Unknown { .. } => true,
        };
        sent.outcome = Some(outcome.clone());
        if is_true {
            return Ok(());
        }
        Err(Broken(format!(
            "message {number} is {outcome}, taken: {was_taken}, accepted: {accepted}, refused: {refused}: {sent:?}"
        )))
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
            let is_withdrawn = sent.is_cancelled || sent.post.within.is_some();
            sent.is_revived |= sent.may_repeat && sent.post.is_idempotent && is_withdrawn;
            sent.is_discarded = !sent.may_repeat || then.sent[number].is_discarded;
            sent.is_orphan = !sent.may_repeat || then.sent[number].is_orphan;
            sent.is_cancelled = then.sent.get(number).is_some_and(|sent| sent.is_cancelled);
            sent.outcome = then.sent.get(number).and_then(|sent| sent.outcome.clone());
        }
        self.by_id.clone_from(&then.by_id);
        self.taken.clear();
    }

    /// The receiver is again as it was when this direction was `then`.
    pub fn on_receiver_restored(&mut self, then: &Self) {
        self.taken.clone_from(&then.taken);
        self.in_hands.clone_from(&then.in_hands);
        self.put_off.clone_from(&then.put_off);
        self.was_lost = true;
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

    /// Nothing happened that could have cost a message, but for what the two applications did, and perhaps the loss of as many
    /// attempts as one may have.
    ///
    /// # Errors
    ///
    /// If a message ended in another way than they made it end.
    pub fn check_all_delivered(&self, is_worn_out: bool) -> Result<(), Broken> {
        for (number, sent) in self.sent.iter().enumerate() {
            let is_withdrawn = sent.is_cancelled || sent.post.within.is_some();
            let is_explained = match &sent.outcome {
                Some(Outcome::Delivered) => self.ever_taken.contains(&number),
                Some(Outcome::Rejected { .. }) => true,
                Some(Outcome::NotDelivered { reason: NotDelivered::Unavailable }) => sent.post.is_fail_fast,
                Some(Outcome::NotDelivered { reason: NotDelivered::Attempts }) => is_worn_out,
                Some(Outcome::NotDelivered { .. }) => is_withdrawn,
                Some(Outcome::Unknown { reason: Unknown::Abandoned }) => true,
                Some(Outcome::Unknown { reason: Unknown::VoidUnanswered }) => is_withdrawn || is_worn_out,
                Some(Outcome::Unknown { .. }) | None => false,
            };
            if !is_explained {
                let outcome = &sent.outcome;
                return Err(Broken(format!("message {number} is {outcome:?}, and nothing happened that explains it")));
            }
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
