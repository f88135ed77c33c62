//! Where one session stands.

use alloc::collections::VecDeque;

use crate::id::MessageId;
use crate::time::Instant;
use crate::view::event::SendProblem;

/// Where one session stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Session {
    run: Run,
    /// Those whose outcome is waited for or shown, the oldest first.
    messages: VecDeque<Sent>,
    /// How often what is wrong with them has changed.
    changes: u64,
    pub(super) dialogs: usize,
    /// When something happened in it, as a count of all that happened.
    pub(super) touched: u64,
    /// What was last told.
    pub(super) shown: Shown,
}

/// Whether the session works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Run {
    #[default]
    Idle,
    /// Something was sent, and the server has not said anything yet.
    Expected { until: Instant },
    /// The server says so.
    Running,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sent {
    /// What was not accepted has none.
    id: Option<MessageId>,
    problem: Option<SendProblem>,
}

/// What tells one view from another. Two views that look alike are alike here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Shown {
    pub(super) running: bool,
    pub(super) has_hidden: bool,
    pub(super) changes: u64,
    pub(super) dialogs: usize,
    /// Which text it is, how long it is, and whether it has ended.
    pub(super) text: (u64, usize, bool),
}

impl Session {
    /// Something was sent. What was wrong before it is of no more interest; what is not settled may be wrong again. Returns the
    /// oldest message where there are more than `limit`.
    pub(super) fn accept(&mut self, id: MessageId, until: Option<Instant>, limit: usize) -> Option<MessageId> {
        self.clear();
        let problem = until.is_none().then_some(SendProblem::NotConnected);
        self.changes += u64::from(problem.is_some());
        self.messages.push_back(Sent { id: Some(id), problem });
        match (until, &self.run) {
            (Some(until), Run::Idle | Run::Expected { .. }) => self.run = Run::Expected { until },
            (Some(_), Run::Running) | (None, _) => {}
        }
        if self.messages.len() > limit.max(1) { self.messages.pop_front()?.id } else { None }
    }

    /// Something was not accepted.
    pub(super) fn refuse(&mut self) {
        self.messages.retain(|sent| sent.id.is_some());
        self.messages.push_back(Sent { id: None, problem: Some(SendProblem::NotAccepted) });
        self.changes += 1;
        self.expect_no_more();
    }

    /// A message was delivered: nothing is wrong with it. It says nothing about whether the session works.
    pub(super) fn deliver(&mut self, id: MessageId) {
        let delivered = self.messages.iter().position(|sent| sent.id == Some(id));
        let removed = delivered.and_then(|at| self.messages.remove(at));
        self.changes += u64::from(removed.is_some_and(|sent| sent.problem.is_some()));
    }

    /// Something is wrong with a message. What is final stays.
    pub(super) fn fail(&mut self, id: MessageId, problem: SendProblem) {
        let Some(sent) = self.messages.iter_mut().find(|sent| sent.id == Some(id)) else { return };
        if sent.problem.as_ref().is_some_and(SendProblem::is_final) || sent.problem.as_ref() == Some(&problem) {
            return;
        }
        sent.problem = Some(problem);
        self.changes += 1;
        self.expect_no_more();
    }

    /// The server works on something of it.
    pub(super) fn run(&mut self) {
        self.run = Run::Running;
    }

    /// The server works on nothing of it.
    pub(super) fn rest(&mut self) {
        self.run = Run::Idle;
    }

    /// Something more is expected of the server.
    pub(super) fn expect(&mut self, until: Instant) {
        self.run = Run::Expected { until };
    }

    /// Lets time pass: nothing is expected for ever.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|until| until > now) {
            return;
        }
        self.run = Run::Idle;
        for sent in &mut self.messages {
            if sent.problem.is_none() {
                sent.problem = Some(SendProblem::NoAnswer);
                self.changes += 1;
            }
        }
    }

    /// When to call [`Session::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.run {
            Run::Expected { until } => Some(*until),
            Run::Idle | Run::Running => None,
        }
    }

    /// Whether it works, as far as is known. Nothing is known of a server that cannot be reached.
    pub(super) fn is_running(&self, is_attached: bool) -> bool {
        is_attached
            && match &self.run {
                Run::Idle => false,
                Run::Expected { .. } => self.problems().next().is_none(),
                Run::Running => true,
            }
    }

    /// What is wrong, shown or kept back.
    pub(super) fn problems(&self) -> impl Iterator<Item = (Option<MessageId>, &SendProblem)> {
        self.messages.iter().filter_map(|sent| sent.problem.as_ref().map(|problem| (sent.id, problem)))
    }

    /// The ids of its messages.
    pub(super) fn ids(&self) -> impl Iterator<Item = MessageId> {
        self.messages.iter().filter_map(|sent| sent.id)
    }

    /// The ids of those that have failed for good, which the next message takes away.
    pub(super) fn failed(&self) -> impl Iterator<Item = MessageId> {
        let failed = self.messages.iter().filter(|sent| sent.problem.as_ref().is_some_and(SendProblem::is_final));
        failed.filter_map(|sent| sent.id)
    }

    /// Whether it can be forgotten without anybody missing it.
    pub(super) fn is_idle(&self) -> bool {
        self.run == Run::Idle && self.messages.is_empty() && self.dialogs == 0
    }

    /// How often what is wrong with its messages has changed.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    fn clear(&mut self) {
        let had_any = self.problems().next().is_some();
        self.changes += u64::from(had_any);
        self.messages.retain(|sent| !sent.problem.as_ref().is_some_and(SendProblem::is_final));
        for sent in &mut self.messages {
            sent.problem = None;
        }
    }

    /// An error ends what was only expected.
    fn expect_no_more(&mut self) {
        match self.run {
            Run::Expected { .. } => self.run = Run::Idle,
            Run::Idle | Run::Running => {}
        }
    }
}
