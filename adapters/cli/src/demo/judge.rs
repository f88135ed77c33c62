//! Reads the book of the third phase and finds every promise that was not kept.

use std::collections::BTreeMap;
use std::time::Duration;

use reattach_tokio::core::id::MessageId;
use reattach_tokio::core::outcome::NotDelivered;
use reattach_tokio::core::outcome::Outcome;
use reattach_tokio::core::outcome::Unknown;
use serde::Serialize;

use crate::demo::book::Decided;
use crate::demo::book::Line;
use crate::demo::book::Word;
use crate::demo::script::LANES;
use crate::demo::script::LEASE;
use crate::demo::script::lane_of;

/// How long an answer to a withdrawal is waited for. The default is 30 seconds.
pub(crate) const VOID_TIMEOUT: Duration = Duration::from_millis(200);
/// The machines' clock counts microseconds, the book's is finer.
const GRAIN: Duration = Duration::from_millis(1);

/// A promise that was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Broken {
    FalseDelivered,
    FalseRejected,
    FalseNotDelivered,
    FalseUnknown,
    FalseDeferral,
    NoClaim,
    NotToldOnce,
    OutOfOrder,
    Overtaken,
    HandedTwice,
    TooOften,
    TooEarly,
    Changed,
    RefusedInTime,
    DecidedTwice,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FalseDelivered => "claimed delivered, and the application did not accept it",
            Self::FalseRejected => "claimed rejected, and the application did not refuse it, or not like this",
            Self::FalseNotDelivered => "claimed not delivered, and it was handed over, or not withdrawn",
            Self::FalseUnknown => "claimed unknown, and the application decided, or was not asked in vain",
            Self::FalseDeferral => "claimed put off, and it was not, or not like this",
            Self::NoClaim => "no outcome was claimed",
            Self::NotToldOnce => "its outcome was not told exactly once, and as claimed",
            Self::OutOfOrder => "handed over behind a later one of its lane",
            Self::Overtaken => "handed over while the one before it in its lane was open",
            Self::HandedTwice => "handed over again, and not after its own deferral",
            Self::TooOften => "handed over more often than it may be",
            Self::TooEarly => "handed over again before its time",
            Self::Changed => "handed over in another form or lane than it was sent",
            Self::RefusedInTime => "a decision was refused within the lease",
            Self::DecidedTwice => "a decision was taken after its lane had gone on",
        })
    }
}

/// What was found, for one lane or for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    /// Messages sent.
    pub(crate) sent: u64,
    /// Hand-overs, with those after a deferral.
    pub(crate) hand_overs: u64,
    /// Messages claimed delivered, and those that the application accepted.
    pub(crate) delivered: u64,
    pub(crate) accepted: u64,
    /// Messages claimed rejected: because the application said so, because it put them off as often as it may, and because
    /// they were withdrawn after it had put them off.
    pub(crate) rejected: u64,
    pub(crate) rejected_outright: u64,
    pub(crate) rejected_exhausted: u64,
    pub(crate) rejected_withdrawn: u64,
    /// Messages claimed not delivered, and those that were never handed over.
    pub(crate) not_delivered: u64,
    pub(crate) never_handed_over: u64,
    /// Messages claimed unknown, and those that the application abandoned.
    pub(crate) unknown: u64,
    pub(crate) abandoned: u64,
    /// Times that the application put a message off, and times that its sender was told.
    pub(crate) deferrals: u64,
    pub(crate) deferrals_told: u64,
    /// Messages whose sender was told that they take long.
    pub(crate) delayed_told: u64,
    /// Claims that the application's own record disproves.
    pub(crate) false_claims: u64,
    /// Messages without an outcome, or with more than one.
    pub(crate) unclaimed: u64,
    /// Hand-overs out of their lane's order.
    pub(crate) out_of_order: u64,
    /// Hand-overs of what must not come again, or not yet.
    pub(crate) handed_twice: u64,
    /// Everything else that was promised and not kept.
    pub(crate) otherwise_broken: u64,
    /// The unknown ones, by the reason that was given.
    pub(crate) unknown_because: BTreeMap<String, u64>,
    /// The ones not delivered, by the reason that was given.
    pub(crate) not_delivered_because: BTreeMap<String, u64>,
}

/// The judgement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judgement {
    pub(crate) all: Tally,
    pub(crate) lanes: Vec<Tally>,
    /// What was not kept, with the number of the message.
    pub(crate) broken: Vec<(u64, Broken)>,
}

/// Where a message stands with the receiver's application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Stand {
    #[default]
    Never,
    InHands {
        lease: Duration,
    },
    PutOff {
        until: Duration,
        code: String,
    },
    Accepted,
    Rejected {
        code: String,
        reason: String,
    },
    Abandoned,
}

/// Everything about one message.
#[derive(Debug, Default)]
struct Account {
    is_sent: bool,
    /// How often it may be handed over.
    hands: u32,
    /// When its deadline passes, and when it was cancelled.
    deadline: Option<Duration>,
    cancelled: Option<Duration>,
    claims: Vec<(Duration, Outcome)>,
    words: Vec<Word>,
    stand: Stand,
    turns: u32,
    /// The lease of the hand-over that was decided last.
    lease: Duration,
    /// Whether its lane has gone on although it was undecided, for its lease was over.
    has_lapsed: bool,
    /// The code of each deferral.
    put_off: Vec<String>,
}

impl Account {
    /// Whether its sender had withdrawn it by then.
    fn is_withdrawn(&self, by: Duration) -> bool {
        self.withdrawn_at().is_some_and(|at| at <= by)
    }

    fn withdrawn_at(&self) -> Option<Duration> {
        self.cancelled.into_iter().chain(self.deadline).min()
    }

    /// Whether what the sender was told is true.
    fn check_claim(&self, at: Duration, outcome: &Outcome, tally: &mut Tally) -> Option<Broken> {
        match outcome {
            Outcome::Delivered => {
                tally.delivered += 1;
                (self.stand != Stand::Accepted).then_some(Broken::FalseDelivered)
            }
            Outcome::Rejected { code, reason } => {
                tally.rejected += 1;
                let is_true = match &self.stand {
                    Stand::Rejected { code: own, reason: words } => {
                        tally.rejected_outright += 1;
                        // Words for people may be left out where there are too many.
                        *own == code.to_string() && (words == reason || reason.is_empty())
                    }
                    Stand::PutOff { code: own, .. } => {
                        let is_exhausted = self.turns >= self.hands;
                        let count =
                            if is_exhausted { &mut tally.rejected_exhausted } else { &mut tally.rejected_withdrawn };
                        *count += 1;
                        *own == code.to_string() && (is_exhausted || self.is_withdrawn(at))
                    }
                    Stand::Never | Stand::InHands { .. } | Stand::Accepted | Stand::Abandoned => false,
                };
                (!is_true).then_some(Broken::FalseRejected)
            }
            Outcome::NotDelivered { reason } => {
                tally.not_delivered += 1;
                *tally.not_delivered_because.entry(reason.to_string()).or_default() += 1;
                let is_due = |due: Option<Duration>| due.is_some_and(|due| due <= at);
                // Nothing else happens to messages here.
                let has_cause = (*reason == NotDelivered::Cancelled && is_due(self.cancelled))
                    || (*reason == NotDelivered::Deadline && is_due(self.deadline));
                (self.stand != Stand::Never || !has_cause).then_some(Broken::FalseNotDelivered)
            }
            Outcome::Unknown { reason } => {
                tally.unknown += 1;
                *tally.unknown_because.entry(reason.to_string()).or_default() += 1;
                let asked_by = (at + GRAIN).saturating_sub(VOID_TIMEOUT);
                let is_true = (*reason == Unknown::Abandoned && self.stand == Stand::Abandoned)
                    || (*reason == Unknown::VoidUnanswered && self.is_withdrawn(asked_by));
                (!is_true).then_some(Broken::FalseUnknown)
            }
        }
    }

    /// Whether the events agree with what the application did, and with the receipt.
    fn check_words(&self, tally: &mut Tally) -> Vec<Broken> {
        let mut broken = Vec::new();
        let (mut told, mut last) = (0, 0);
        for word in &self.words {
            match word {
                Word::Outcome(outcome) => {
                    told += 1;
                    if self.claims.first().is_none_or(|(_, claimed)| claimed != outcome) {
                        broken.push(Broken::NotToldOnce);
                    }
                }
                Word::PutOff { attempt, code } => {
                    tally.deferrals_told += 1;
                    let own =
                        usize::try_from(*attempt).ok().and_then(|attempt| self.put_off.get(attempt.checked_sub(1)?));
                    if own != Some(code) || *attempt <= last || told > 0 {
                        broken.push(Broken::FalseDeferral);
                    }
                    last = *attempt;
                }
                Word::Delayed => tally.delayed_told += 1,
            }
        }
        if told != 1 && !self.claims.is_empty() {
            broken.push(Broken::NotToldOnce);
        }
        broken
    }
}

/// The state of reading.
#[derive(Default)]
struct Reader {
    accounts: BTreeMap<u64, Account>,
    /// Of each lane the message handed over last, and the highest.
    lanes: BTreeMap<u64, (u64, u64)>,
    hand_overs: BTreeMap<u64, u64>,
    is_closing: bool,
    broken: Vec<(u64, Broken)>,
}

/// Reads the book.
pub(crate) fn judge(lines: &[Line]) -> Judgement {
    let mut reader = Reader::default();
    // What the sender did is read first: its lines may stand behind the receiver's that follow from them.
    let mut numbers = BTreeMap::new();
    for line in lines {
        reader.read_sender(line, &mut numbers);
    }
    for line in lines {
        reader.read_words(line, &numbers);
        reader.read_receiver(line);
    }
    reader.finish()
}

impl Reader {
    fn read_sender(&mut self, line: &Line, numbers: &mut BTreeMap<MessageId, u64>) {
        match line {
            Line::Sent { n, id, at, within, hands } => {
                numbers.insert(*id, *n);
                let account = self.account(*n);
                account.is_sent = true;
                account.hands = *hands;
                account.deadline = within.map(|within| *at + within);
            }
            Line::Cancelling { n, at } => self.account(*n).cancelled = Some(*at),
            Line::NotCancelled { n } => self.account(*n).cancelled = None,
            Line::Claimed { n, at, outcome } => self.account(*n).claims.push((*at, outcome.clone())),
            Line::Told { .. }
            | Line::Handed { .. }
            | Line::Deciding { .. }
            | Line::Refused { .. }
            | Line::Extended { .. }
            | Line::Closing => {}
        }
    }

    fn read_words(&mut self, line: &Line, numbers: &BTreeMap<MessageId, u64>) {
        if let Line::Told { id, word } = line {
            // What nobody sent is told of a number that nobody has.
            let n = numbers.get(id).copied().unwrap_or(u64::MAX);
            self.account(n).words.push(word.clone());
        }
    }

    fn read_receiver(&mut self, line: &Line) {
        match line {
            Line::Handed { n, lane, turn, since, at, is_intact } => {
                *self.hand_overs.entry(lane_of(*n)).or_default() += 1;
                if !is_intact || *lane != lane_of(*n) {
                    self.broken.push((*n, Broken::Changed));
                }
                self.check_order(*n, *at);
                self.check_turn(*n, *turn, *at);
                let account = self.account(*n);
                account.turns += 1;
                account.stand = Stand::InHands { lease: *since + LEASE };
            }
            Line::Extended { n, at, lease: longer } => {
                if let Stand::InHands { lease } = &mut self.account(*n).stand {
                    *lease = *at + *longer;
                }
            }
            Line::Deciding { n, at, decision } => {
                let account = self.account(*n);
                let Stand::InHands { lease } = account.stand else {
                    return self.broken.push((*n, Broken::DecidedTwice));
                };
                account.lease = lease;
                account.stand = match decision.clone() {
                    Decided::Accept => Stand::Accepted,
                    Decided::Reject { code, reason } => Stand::Rejected { code, reason },
                    Decided::Drop => Stand::Abandoned,
                    Decided::Defer { code, retry_after } => {
                        account.put_off.push(code.clone());
                        Stand::PutOff { until: *at + retry_after, code }
                    }
                };
            }
            Line::Refused { n, at } => {
                let is_closing = self.is_closing;
                let account = self.account(*n);
                if let Stand::PutOff { .. } = account.stand {
                    account.put_off.pop();
                }
                account.stand = Stand::Abandoned;
                account.has_lapsed = false;
                if *at + GRAIN < account.lease && !is_closing {
                    self.broken.push((*n, Broken::RefusedInTime));
                }
            }
            Line::Closing => self.is_closing = true,
            Line::Sent { .. }
            | Line::Cancelling { .. }
            | Line::NotCancelled { .. }
            | Line::Told { .. }
            | Line::Claimed { .. } => {}
        }
    }

    /// A lane hands over in the order of sending, and only when the one before is done with.
    fn check_order(&mut self, n: u64, at: Duration) {
        let lane = lane_of(n);
        let Some((before, highest)) = self.lanes.insert(lane, (n, n)) else { return };
        self.lanes.insert(lane, (n, n.max(highest)));
        if n < highest {
            self.broken.push((n, Broken::OutOfOrder));
        }
        if before == n {
            return;
        }
        let account = self.account(before);
        let is_done = match &account.stand {
            Stand::InHands { lease } => {
                account.has_lapsed = true;
                at + GRAIN >= *lease
            }
            Stand::PutOff { .. } => account.turns >= account.hands || account.is_withdrawn(at),
            Stand::Never | Stand::Accepted | Stand::Rejected { .. } | Stand::Abandoned => true,
        };
        if !is_done {
            self.broken.push((n, Broken::Overtaken));
        }
    }

    /// A message comes again only after its own deferral, in its time, and as often as it may.
    fn check_turn(&mut self, n: u64, turn: u32, at: Duration) {
        let account = self.account(n);
        let (turns, hands) = (account.turns, account.hands);
        let broken = match &account.stand {
            _ if !account.is_sent => Some(Broken::Changed),
            Stand::Never if turn == 1 => None,
            Stand::PutOff { .. } if turns >= hands => Some(Broken::TooOften),
            Stand::PutOff { until, .. } if at + GRAIN < *until => Some(Broken::TooEarly),
            Stand::PutOff { .. } if turn == turns + 1 => None,
            Stand::Never
            | Stand::PutOff { .. }
            | Stand::InHands { .. }
            | Stand::Accepted
            | Stand::Rejected { .. }
            | Stand::Abandoned => Some(Broken::HandedTwice),
        };
        self.broken.extend(broken.map(|broken| (n, broken)));
    }

    fn finish(mut self) -> Judgement {
        let mut lanes = vec![Tally::default(); usize::try_from(LANES).expect("a few")];
        for (n, account) in &self.accounts {
            let tally = &mut lanes[usize::try_from(lane_of(*n)).expect("a few")];
            tally.sent += u64::from(account.is_sent);
            tally.accepted += u64::from(account.stand == Stand::Accepted);
            tally.abandoned += u64::from(account.stand == Stand::Abandoned);
            tally.never_handed_over += u64::from(account.stand == Stand::Never);
            tally.deferrals += account.put_off.len() as u64;
            let mut broken = account.check_words(tally);
            match &account.claims[..] {
                [] => broken.push(Broken::NoClaim),
                [(at, outcome)] => broken.extend(account.check_claim(*at, outcome, tally)),
                [_, ..] => broken.push(Broken::NotToldOnce),
            }
            if account.has_lapsed && !matches!(account.stand, Stand::InHands { .. }) {
                broken.push(Broken::DecidedTwice);
            }
            self.broken.extend(broken.into_iter().map(|broken| (*n, broken)));
        }
        for (lane, count) in self.hand_overs {
            lanes[usize::try_from(lane).expect("a few")].hand_overs += count;
        }
        self.broken.sort_unstable();
        for (n, broken) in &self.broken {
            let tally = &mut lanes[usize::try_from(lane_of(*n)).expect("a few")];
            *match broken {
                Broken::FalseDelivered
                | Broken::FalseRejected
                | Broken::FalseNotDelivered
                | Broken::FalseUnknown
                | Broken::FalseDeferral => &mut tally.false_claims,
                Broken::NoClaim | Broken::NotToldOnce => &mut tally.unclaimed,
                Broken::OutOfOrder | Broken::Overtaken => &mut tally.out_of_order,
                Broken::HandedTwice | Broken::TooOften | Broken::TooEarly => &mut tally.handed_twice,
                Broken::Changed | Broken::RefusedInTime | Broken::DecidedTwice => &mut tally.otherwise_broken,
            } += 1;
        }
        let all = lanes.iter().fold(Tally::default(), |all, lane| all.plus(lane));
        Judgement { all, lanes, broken: self.broken }
    }

    fn account(&mut self, n: u64) -> &mut Account {
        self.accounts.entry(n).or_default()
    }
}

impl Tally {
    fn plus(mut self, other: &Self) -> Self {
        self.sent += other.sent;
        self.hand_overs += other.hand_overs;
        self.delivered += other.delivered;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.rejected_outright += other.rejected_outright;
        self.rejected_exhausted += other.rejected_exhausted;
        self.rejected_withdrawn += other.rejected_withdrawn;
        self.not_delivered += other.not_delivered;
        self.never_handed_over += other.never_handed_over;
        self.unknown += other.unknown;
        self.abandoned += other.abandoned;
        self.deferrals += other.deferrals;
        self.deferrals_told += other.deferrals_told;
        self.delayed_told += other.delayed_told;
        self.false_claims += other.false_claims;
        self.unclaimed += other.unclaimed;
        self.out_of_order += other.out_of_order;
        self.handed_twice += other.handed_twice;
        self.otherwise_broken += other.otherwise_broken;
        for (own, of_other) in [
            (&mut self.unknown_because, &other.unknown_because),
            (&mut self.not_delivered_because, &other.not_delivered_because),
        ] {
            for (reason, count) in of_other {
                *own.entry(reason.clone()).or_default() += count;
            }
        }
        self
    }
}

#[cfg(test)]
mod tests;
