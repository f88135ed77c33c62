//! The account that the applications keep together. It knows what they sent, took and decided and which outcomes they were
//! told, and nothing of what the machines did in between.

use std::collections::BTreeMap;

use reattach_core::error::ApiMisuse;
use reattach_core::id::MessageId;
use reattach_core::link::Decision;
use reattach_core::link::Handed;
use reattach_core::link::Handle;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::time::Instant;

/// Who sends, or takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A client, by its place in the list.
    Client(usize),
    /// The server's application.
    Server,
}

/// Names a message: who sent it, and as the how manyth. It is the payload.
pub(super) type Number = (u8, u8);

/// What was done that explains what follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Causes {
    /// Things that explain the end of a transport.
    pub(super) faults: u8,
    /// Things that explain a loss of state.
    pub(super) losses: u8,
    /// Those of them that left no receipt.
    pub(super) forgot: u8,
    /// Times that a message may have been lost on its way.
    pub(super) lost: u8,
    /// Whether time has passed.
    pub(super) has_waited: bool,
    /// What time it is.
    pub(super) now: Instant,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Sent {
    by: Party,
    id: MessageId,
    is_idempotent: bool,
    has_deadline: bool,
    attempts: u32,
    hands: u32,
    is_cancelled: bool,
    /// How often it was handed over.
    turns: u32,
    /// Whether it was put off and not handed over since.
    is_put_off: bool,
    deferrals: u32,
    deferrals_told: u32,
    is_accepted: bool,
    is_rejected: bool,
    outcome: Option<Outcome>,
    /// Whether the life of the sender that sent it goes on, so that it is owed one outcome.
    is_owed: bool,
}

/// A message, as it was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) is_idempotent: bool,
    pub(super) has_deadline: bool,
    pub(super) attempts: u32,
    pub(super) hands: u32,
}

/// The account.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Ledger {
    messages: BTreeMap<Number, Sent>,
    /// The last message that a party has taken from another.
    taken: BTreeMap<(Party, u8), Number>,
    /// What is in an application's hands, and when its lease is over.
    held: BTreeMap<(Party, Handle), (Number, Instant)>,
}

type Checked = Result<(), String>;

fn check(holds: bool, words: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(words()) }
}

impl Ledger {
    /// A message was sent.
    pub(super) fn on_sent(&mut self, by: Party, number: Number, id: MessageId, terms: Terms) {
        let Terms { is_idempotent, has_deadline, attempts, hands } = terms;
        let sent = Sent {
            by,
            id,
            is_idempotent,
            has_deadline,
            attempts,
            hands,
            is_cancelled: false,
            turns: 0,
            is_put_off: false,
            deferrals: 0,
            deferrals_told: 0,
            is_accepted: false,
            is_rejected: false,
            outcome: None,
            is_owed: true,
        };
        self.messages.insert(number, sent);
    }

    /// A message was withdrawn, or was said to have its outcome.
    pub(super) fn on_cancelled(&mut self, number: Number, result: Result<(), ApiMisuse>) -> Checked {
        let sent = self.sent_mut(number)?;
        let owes = sent.outcome.is_none() && sent.is_owed;
        sent.is_cancelled |= result.is_ok();
        check(result.is_ok() == owes, || format!("withdrawing {number:?} gives {result:?}"))
    }

    /// A message was handed over.
    pub(super) fn on_handed(
        &mut self,
        by: Party,
        number: Number,
        handed: &Handed,
        until: Instant,
        causes: Causes,
    ) -> Checked {
        self.held.retain(|_, (_, until)| *until > causes.now);
        let before = self.taken.insert((by, number.0), number);
        let in_hands = self.held.iter().any(|((of, _), (held, _))| *of == by && held.0 == number.0);
        let sent = self.sent_mut(number)?;
        let is_across = matches!(sent.by, Party::Server) != matches!(by, Party::Server);
        check(is_across, || format!("{by:?} is handed {number:?}, which its own side sent"))?;
        check(!in_hands, || format!("{number:?} is handed over while its lane waits for a decision"))?;
        let may_repeat = sent.is_idempotent && causes.losses > 0;
        let is_over = matches!(sent.outcome, Some(Outcome::NotDelivered { .. } | Outcome::Rejected { .. }));
        check(!is_over, || format!("{number:?} is handed over after its outcome {:?}", sent.outcome))?;
        check(sent.turns == 0 || sent.is_put_off || may_repeat, || format!("{number:?} is handed over twice"))?;
        check(may_repeat || handed.turn == sent.turns + 1, || format!("{number:?} is handed over as {}", handed.turn))?;
        check(handed.turn <= sent.hands, || format!("{number:?} is handed over too often"))?;
        let may_equal = sent.turns > 0;
        check(may_repeat || before.is_none_or(|before| before < number || (may_equal && before == number)), || {
            format!("{number:?} is handed over behind {before:?}")
        })?;
        sent.turns += 1;
        sent.is_put_off = false;
        match handed.handle {
            None => sent.is_accepted = true,
            Some(handle) => _ = self.held.insert((by, handle), (number, until)),
        }
        Ok(())
    }

    /// An application decided, or was told that it is too late.
    pub(super) fn on_decided(
        &mut self,
        by: Party,
        handle: Handle,
        decision: &Decision,
        result: Result<(), ApiMisuse>,
        causes: Causes,
    ) -> Checked {
        let (number, until) = self.held.remove(&(by, handle)).ok_or("a decision about nothing")?;
        let sent = self.sent_mut(number)?;
        if let Err(error) = result {
            let is_late = until <= causes.now;
            return check(is_late, || format!("{number:?} was not to be decided about: {error}"));
        }
        match decision {
            Decision::Accept => {
                sent.is_accepted = true;
                let is_belied = matches!(sent.outcome, Some(Outcome::NotDelivered { .. } | Outcome::Rejected { .. }));
                check(!is_belied, || format!("{number:?} is accepted after its outcome {:?}", sent.outcome))
            }
            Decision::Reject { .. } => {
                sent.is_rejected = true;
                check(sent.outcome != Some(Outcome::Delivered), || format!("{number:?} is refused, and was delivered"))
            }
            Decision::Defer { .. } => {
                sent.is_put_off = true;
                sent.deferrals += 1;
                check(sent.outcome != Some(Outcome::Delivered), || format!("{number:?} is put off, and was delivered"))
            }
            Decision::Abandon => Ok(()),
        }
    }

    /// A receiver's epoch has ended, and what was in its hands with it.
    pub(super) fn on_sealed(&mut self, by: Party) {
        self.held.retain(|(of, _), _| *of != by);
    }

    /// A sender was told that its message was put off.
    pub(super) fn on_put_off(&mut self, by: Party, id: &MessageId, times: u32, causes: Causes) -> Checked {
        let number = self.number_of(by, id)?;
        let sent = self.sent_mut(number)?;
        check(sent.outcome.is_none() || !sent.is_owed, || format!("{number:?} is put off after its outcome"))?;
        let is_new = times > sent.deferrals_told || causes.losses > 0;
        sent.deferrals_told = times;
        check(is_new && times <= sent.deferrals, || format!("{number:?} is said to be put off {times} times: {sent:?}"))
    }

    /// A sender was told an outcome.
    pub(super) fn on_outcome(&mut self, by: Party, id: &MessageId, outcome: Outcome, causes: Causes) -> Checked {
        let number = self.number_of(by, id)?;
        let sent = self.sent_mut(number)?;
        let is_first = sent.outcome.is_none() || !sent.is_owed;
        check(is_first, || format!("{number:?} has a second outcome: {:?}, and then {outcome:?}", sent.outcome))?;
        check(sent.is_true(&outcome), || format!("the outcome of {number:?} is not true: {outcome:?}, {sent:?}"))?;
        check(sent.has_cause(&outcome, causes), || format!("nothing explains {outcome:?} of {number:?}: {causes:?}"))?;
        sent.outcome = Some(outcome);
        Ok(())
    }

    /// A sender's life is over: nobody owes it anything.
    pub(super) fn on_gone(&mut self, is_gone: impl Fn(Party) -> bool) {
        self.messages.values_mut().filter(|sent| is_gone(sent.by)).for_each(|sent| sent.is_owed = false);
    }

    /// What an application holds, undecided.
    pub(super) fn in_hands(&self) -> impl Iterator<Item = (Party, Handle)> {
        self.held.keys().copied()
    }

    /// What was sent, has no outcome and was not withdrawn.
    pub(super) fn withdrawable(&self) -> impl Iterator<Item = (Party, Number, MessageId)> {
        let open =
            self.messages.iter().filter(|(_, sent)| sent.outcome.is_none() && !sent.is_cancelled && sent.is_owed);
        open.map(|(number, sent)| (sent.by, *number, sent.id))
    }

    /// Every outcome that was told, as it is printed.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = String> {
        self.messages.values().filter_map(|sent| Some(sent.outcome.as_ref()?.to_string()))
    }

    /// Whether everybody who lives was told every outcome.
    pub(super) fn check_settled(&self) -> Checked {
        let open = self.messages.iter().find(|(_, sent)| sent.outcome.is_none() && sent.is_owed);
        open.map_or(Ok(()), |(number, sent)| Err(format!("{number:?} is owed an outcome: {sent:?}")))
    }

    fn number_of(&self, by: Party, id: &MessageId) -> Result<Number, String> {
        let found = self.messages.iter().find(|(_, sent)| sent.id == *id && sent.by == by);
        found.map(|(number, _)| *number).ok_or_else(|| format!("{by:?} is told of {id:?}, which it never sent"))
    }

    fn sent_mut(&mut self, number: Number) -> Result<&mut Sent, String> {
        self.messages.get_mut(&number).ok_or_else(|| format!("{number:?} was never sent"))
    }
}

impl Sent {
    fn is_true(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Delivered => self.is_accepted,
            Outcome::Rejected { .. } => !self.is_accepted && (self.is_rejected || self.deferrals > 0),
            Outcome::NotDelivered { .. } => self.turns == 0,
            Outcome::Unknown { .. } => true,
        }
    }

    fn has_cause(&self, outcome: &Outcome, causes: Causes) -> bool {
        match outcome {
            Outcome::Delivered => true,
            Outcome::Rejected { .. } => {
                self.is_rejected || self.is_cancelled || self.turns >= self.hands || causes.losses > 0
            }
            Outcome::NotDelivered { reason: NotDelivered::Cancelled } => self.is_cancelled,
            Outcome::NotDelivered { reason: NotDelivered::Deadline } => self.has_deadline && causes.has_waited,
            Outcome::NotDelivered { reason: NotDelivered::Attempts } => u32::from(causes.lost) >= self.attempts,
            Outcome::NotDelivered { .. } => causes.losses > 0,
            Outcome::Unknown { reason: Unknown::Abandoned } => {
                self.turns > 0 && (causes.has_waited || causes.losses > 0)
            }
            Outcome::Unknown { reason: Unknown::VoidUnanswered } => causes.has_waited,
            // Where its receiver had taken it, somebody had joined its epoch, and that leaves a receipt.
            Outcome::Unknown { reason: Unknown::NoReceipt } => {
                causes.forgot > 0 || (causes.losses > 0 && self.turns == 0)
            }
            Outcome::Unknown { .. } => causes.losses > 0,
        }
    }
}
