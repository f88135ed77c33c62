//! The account that the applications of both sides keep together. It knows what they sent, what they took and decided, and
//! which outcomes they were told, and nothing of what the machines did in between.

use std::collections::BTreeMap;
use std::time::Duration;

use reattach_core::error::ApiMisuse;
use reattach_core::id::ConnectionId;
use reattach_core::id::MessageId;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Handed;
use reattach_core::link::Handle;
use reattach_core::link::Outgoing;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::time::Instant;

/// Who sends, or takes: one life of a client's application, or the server's as it speaks with one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    /// A client, by its place in the list.
    Client(usize),
    /// The server's application, of a connection.
    Server(ConnectionId),
}

/// A moment, and how much was done before it that explains a detachment, or a loss.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    pub(super) now: Instant,
    pub(super) faults: u32,
    pub(super) losses: u32,
}

#[derive(Clone, Debug)]
struct Sent {
    by: Party,
    id: MessageId,
    at: Instant,
    message: Outgoing,
    is_cancelled: bool,
    /// How often it was handed over.
    turns: u32,
    /// Whether it was put off and not handed over since.
    is_put_off: bool,
    /// When its last lease is over, where nobody has decided since.
    lease: Option<Instant>,
    /// How often it was put off, and how often its sender knows of.
    deferrals: u32,
    deferrals_told: u32,
    /// What any receiver decided.
    is_accepted: bool,
    is_rejected: bool,
    is_abandoned: bool,
    outcome: Option<Outcome>,
    /// Whether the sender lives, so that it is owed an outcome.
    is_owed: bool,
}

/// A message in an application's hands.
#[derive(Clone, Copy, Debug)]
struct Held {
    number: usize,
    until: Instant,
    /// Whether the connection has ended, after which it may be too late for a decision.
    has_ended: bool,
}

/// The account. A message is known by its number, which is its payload; later ones have higher numbers.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    messages: Vec<Sent>,
    by_id: BTreeMap<MessageId, usize>,
    /// The last number that one party has taken from another: of which lane, or of which key where it was ephemeral.
    taken: BTreeMap<(Party, Party, Road), usize>,
    ephemerals: Vec<Party>,
    handles: Vec<(Party, Handle)>,
    held: BTreeMap<(Party, Handle), Held>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Road {
    Lane(String),
    Key(String),
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

    /// Everything that was sent.
    pub(super) fn sent(&self) -> impl DoubleEndedIterator<Item = (Party, MessageId)> {
        self.messages.iter().map(|sent| (sent.by, sent.id))
    }

    /// Everything that there ever was to decide by.
    pub(super) fn handles(&self) -> impl DoubleEndedIterator<Item = (Party, Handle)> {
        self.handles.iter().copied()
    }

    /// What is in somebody's hands, as far as applications know.
    pub(super) fn in_hands(&self) -> Vec<(Party, Handle)> {
        self.held.keys().copied().collect()
    }

    /// A message was sent.
    pub(super) fn on_sent(&mut self, by: Party, id: MessageId, message: Outgoing, at: Instant) {
        assert!(self.by_id.insert(id, self.messages.len()).is_none(), "a name is of one message");
        self.messages.push(Sent {
            by,
            id,
            at,
            message,
            is_cancelled: false,
            turns: 0,
            is_put_off: false,
            lease: None,
            deferrals: 0,
            deferrals_told: 0,
            is_accepted: false,
            is_rejected: false,
            is_abandoned: false,
            outcome: None,
            is_owed: true,
        });
    }

    /// An ephemeral message was sent.
    pub(super) fn on_ephemeral(&mut self, by: Party) {
        self.ephemerals.push(by);
    }

    /// A message was withdrawn, or was said to have its outcome.
    pub(super) fn on_cancelled(&mut self, id: &MessageId, is_withdrawn: bool) {
        let sent = &mut self.messages[self.by_id[id]];
        let owes = sent.outcome.is_none() && sent.is_owed;
        assert_eq!(is_withdrawn, owes, "what has no outcome can be withdrawn: {sent:?}");
        sent.is_cancelled |= is_withdrawn;
    }

    /// A message was taken.
    pub(super) fn on_taken(&mut self, by: Party, delivery: &Delivery, lease: Duration, has_ended: bool, when: When) {
        let (number, _) = delivery.payload().parse::<(usize, String)>().expect("what was sent comes");
        let (from, road, may_equal) = match delivery {
            Delivery::Message(handed) => {
                let lane = self.on_handed(by, handed, Held { number, until: when.now + lease, has_ended }, when);
                let sent = &self.messages[number];
                if sent.message.is_idempotent && when.losses > 0 {
                    // It may be sent again behind its successors.
                    return;
                }
                (sent.by, Road::Lane(lane), sent.turns > 1)
            }
            Delivery::Ephemeral { key, payload: _ } => (self.ephemerals[number], Road::Key(key.to_string()), false),
        };
        match (from, by) {
            (Party::Client(_), Party::Server(_)) | (Party::Server(_), Party::Client(_)) => {}
            (Party::Client(_), Party::Client(_)) | (Party::Server(_), Party::Server(_)) => {
                panic!("{by:?} took what {from:?} sent");
            }
        }
        let before = self.taken.insert((by, from, road), number);
        let is_next = before.is_none_or(|before| before < number || (may_equal && before == number));
        assert!(is_next, "{number} comes after {before:?}");
    }

    fn on_handed(&mut self, by: Party, handed: &Handed, hold: Held, when: When) -> String {
        let Held { number, until, has_ended } = hold;
        let lane = self.messages.get(number).expect("only what was sent comes").message.lane.clone();
        for ((of, _), held) in self.held.iter().filter(|((of, _), _)| *of == by) {
            let is_free = self.messages[held.number].message.lane != lane || held.until <= when.now;
            assert!(is_free || held.has_ended || has_ended, "{of:?} is handed {number} while its lane holds {held:?}");
        }
        let sent = &mut self.messages[number];
        assert_eq!(handed.lane, lane, "a message keeps its lane");
        assert!(handed.id.is_none_or(|id| id == sent.id), "a message keeps its name");
        // One that may be sent again begins anew where its receiver's state was lost.
        if !(sent.message.is_idempotent && when.losses > 0) {
            assert!(sent.turns == 0 || sent.is_put_off, "message {number} is handed over twice: {sent:?}");
            assert_eq!(handed.turn, sent.turns + 1, "hand-overs are counted: {sent:?}");
        }
        assert!(handed.turn <= sent.message.hands, "message {number} is handed over too often: {sent:?}");
        let is_over = matches!(sent.outcome, Some(Outcome::NotDelivered { .. } | Outcome::Rejected { .. }));
        assert!(!is_over, "message {number} was never to come: {sent:?}");
        sent.turns += 1;
        sent.is_put_off = false;
        match handed.handle {
            None => sent.is_accepted = true,
            Some(handle) => {
                sent.lease = Some(until);
                self.handles.push((by, handle));
                let before = self.held.insert((by, handle), hold);
                assert!(before.is_none(), "a handle is of one hand-over");
            }
        }
        format!("{lane:?}")
    }

    /// An application decided, or was told that it is too late.
    pub(super) fn on_decided(
        &mut self,
        by: Party,
        handle: Handle,
        decision: &Decision,
        result: Result<(), ApiMisuse>,
        now: Instant,
    ) {
        let held = self.held.get(&(by, handle)).copied();
        let Some(held) = Self::check_in_hands(held, result, now) else { return };
        self.held.remove(&(by, handle));
        let sent = &mut self.messages[held.number];
        sent.lease = None;
        match decision {
            Decision::Accept => {
                let is_belied = matches!(sent.outcome, Some(Outcome::NotDelivered { .. } | Outcome::Rejected { .. }));
                assert!(!is_belied, "{} is accepted, and its sender believes otherwise: {sent:?}", held.number);
                sent.is_accepted = true;
            }
            Decision::Reject { .. } => sent.is_rejected = true,
            Decision::Defer { .. } => {
                sent.is_put_off = true;
                sent.deferrals += 1;
            }
            Decision::Abandon => sent.is_abandoned = true,
        }
    }

    /// An application asked for more time, or was told that it is too late.
    pub(super) fn on_extended(
        &mut self,
        by: Party,
        handle: Handle,
        lease: Duration,
        result: Result<(), ApiMisuse>,
        now: Instant,
    ) {
        let held = self.held.get(&(by, handle)).copied();
        if let Some(held) = Self::check_in_hands(held, result, now) {
            let until = now + lease;
            self.held.insert((by, handle), Held { until, ..held });
            self.messages[held.number].lease = Some(until);
        }
    }

    /// What is in hands is there until its lease is over, and nothing else is.
    fn check_in_hands(held: Option<Held>, result: Result<(), ApiMisuse>, now: Instant) -> Option<Held> {
        match result {
            Ok(()) => Some(held.expect("only what is in hands can be decided about")),
            Err(error) => {
                let is_late = held.is_none_or(|held| held.until <= now || held.has_ended);
                assert!(is_late, "{held:?} was not to be decided about: {error}");
                None
            }
        }
    }

    /// An epoch of a receiver has ended, and what it had in its hands with it. What a server has of a connection that ended
    /// before can still be decided about.
    pub(super) fn on_sealed(&mut self, by: Party) {
        let is_kept = |held: &Held| held.has_ended && matches!(by, Party::Server(_));
        self.held.retain(|(of, _), held| *of != by || is_kept(held));
    }

    /// A receiver's connection has ended; what came before can perhaps be decided about.
    pub(super) fn on_ended(&mut self, by: Party) {
        self.held.iter_mut().filter(|((of, _), _)| *of == by).for_each(|(_, held)| held.has_ended = true);
    }

    /// A sender was told that its message was put off.
    pub(super) fn on_put_off(&mut self, to: Party, id: &MessageId, times: u32, losses: u32) {
        let sent = &mut self.messages[self.by_id[id]];
        assert_eq!((sent.by, &sent.outcome), (to, &None), "what is put off waits");
        let is_new = times > sent.deferrals_told || (sent.message.is_idempotent && losses > 0);
        assert!(is_new && times <= sent.deferrals, "put off {times} times: {sent:?}");
        sent.deferrals_told = times;
    }

    /// An outcome was told.
    pub(super) fn on_outcome(&mut self, to: Party, id: &MessageId, outcome: Outcome, when: When) {
        let number = *self.by_id.get(id).expect("an outcome is of what was sent");
        let sent = &mut self.messages[number];
        let is_late = sent.lease.is_some_and(|until| until <= when.now);
        assert_eq!(sent.by, to, "an outcome is told to the sender");
        assert_eq!(sent.outcome, None, "one outcome for message {number}, and then {outcome}");
        let is_old = sent.at + LEAST_AGE <= when.now;
        let is_asked = sent.is_cancelled || sent.message.within.is_some();
        let is_withdrawn = is_asked || is_old || when.faults > 0;
        let is_true = match &outcome {
            Outcome::Delivered => sent.is_accepted,
            Outcome::NotDelivered { reason } => {
                let has_cause = match reason {
                    NotDelivered::Cancelled => sent.is_cancelled,
                    NotDelivered::Deadline => sent.message.within.is_some(),
                    NotDelivered::Unavailable => sent.message.is_fail_fast,
                    NotDelivered::TooOld => is_old,
                    // The limits of the peer are known only once it has said them.
                    NotDelivered::TooLarge => true,
                    NotDelivered::Closed
                    | NotDelivered::Ended
                    | NotDelivered::Forgotten
                    | NotDelivered::Unreachable
                    | NotDelivered::Expired
                    | NotDelivered::Voided
                    | NotDelivered::Attempts
                    | NotDelivered::Superseded
                    | NotDelivered::Shutdown
                    | _ => when.faults > 0,
                };
                has_cause && sent.turns == 0
            }
            Outcome::Rejected { .. } => {
                let is_exhausted = sent.turns >= sent.message.hands || is_withdrawn;
                !sent.is_accepted && (sent.is_rejected || (sent.deferrals > 0 && is_exhausted))
            }
            Outcome::Unknown { reason: Unknown::Abandoned } => {
                sent.is_abandoned || is_late || (sent.message.is_idempotent && when.losses > 0)
            }
            Outcome::Unknown { reason: Unknown::VoidUnanswered } => is_withdrawn,
            Outcome::Unknown { reason: _ } => when.faults > 0,
        };
        assert!(is_true, "message {number} is {outcome}, {when:?}: {sent:?}");
        sent.outcome = Some(outcome);
    }

    /// A party is gone, and nobody is left to be told, or to decide.
    pub(super) fn on_gone(&mut self, is_gone: impl Fn(&Party) -> bool) {
        self.messages.iter_mut().filter(|sent| is_gone(&sent.by)).for_each(|sent| sent.is_owed = false);
        self.held.retain(|(of, _), _| !is_gone(of));
    }

    /// Whether every sender that lives was told every outcome.
    pub(super) fn is_settled(&self) -> bool {
        self.messages.iter().all(|sent| sent.outcome.is_some() || !sent.is_owed)
    }

    /// Nothing was lost that explains that somebody does not know what became of a message, or that it was dropped: the
    /// applications did it, or its way was too long.
    pub(super) fn check_all_explained(&self) {
        for (number, sent) in self.messages.iter().enumerate() {
            let is_explained = match &sent.outcome {
                Some(Outcome::Delivered | Outcome::Rejected { .. }) => true,
                Some(Outcome::NotDelivered { reason }) => matches!(
                    reason,
                    NotDelivered::Cancelled
                        | NotDelivered::Deadline
                        | NotDelivered::Unavailable
                        | NotDelivered::TooOld
                        | NotDelivered::TooLarge
                        | NotDelivered::Attempts
                ),
                Some(Outcome::Unknown { reason }) => {
                    matches!(reason, Unknown::Abandoned | Unknown::VoidUnanswered)
                }
                None => false,
            };
            assert!(is_explained, "message {number} without a cause: {sent:?}");
        }
    }
}

/// No message is too old before.
const LEAST_AGE: Duration = Duration::from_secs(2);
