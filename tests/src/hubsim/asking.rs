//! What was asked of people, what they chose, and what was decided.

use std::collections::BTreeMap;
use std::time::Duration;

use reattach_driver::core::id::ConnectionId;
use reattach_driver::core::messages::Choice;
use reattach_driver::core::permission::DenyReason;
use reattach_driver::core::permission::Removed;
use reattach_driver::core::permission::Verdict;
use reattach_driver::core::wire::Payload;

use super::coverage::Coverage;
use super::ledger::Clocks;
use super::ledger::check;
use super::watching::Sessions;
use crate::oracle::Checked;

/// All questions.
#[derive(Debug, Default)]
pub(super) struct Questions {
    pub(super) all: BTreeMap<String, Asked>,
}

/// One question.
#[derive(Debug)]
pub(super) struct Asked {
    /// The life of the session that it was asked in.
    pub(super) life: usize,
    pub(super) input: Payload,
    pub(super) at: Duration,
    /// When, by the clock of the program that asked.
    clock: Duration,
    pub(super) timeout: Duration,
    /// Which program that is.
    pub(super) program: usize,
    /// What the hub said was decided.
    pub(super) decided: Option<(Verdict, Duration)>,
    /// What whoever asked was told.
    pub(super) verdict: Option<Verdict>,
    pub(super) taken_back: bool,
    /// The program that asked has ended.
    pub(super) is_void: bool,
    answers: Vec<Answer>,
}

/// Somebody answered.
#[derive(Debug)]
struct Answer {
    program: usize,
    by: ConnectionId,
    choice: Choice,
    /// Whether it was given beside the dialogs, which know nothing of it.
    is_raw: bool,
}

/// How much later than it is decided something may be told.
const SOON: Duration = Duration::from_millis(5);

impl Asked {
    pub(super) fn new(
        life: usize,
        input: Payload,
        (at, clock): (Duration, Duration),
        timeout: Duration,
        program: usize,
    ) -> Self {
        let (decided, verdict, answers) = (None, None, Vec::new());
        let (taken_back, is_void) = (false, false);
        Self { life, input, at, clock, timeout, program, decided, verdict, taken_back, is_void, answers }
    }

    /// Whether somebody still may answer.
    pub(super) const fn is_open(&self) -> bool {
        self.decided.is_none() && !self.is_void && !self.taken_back
    }

    pub(super) fn expires(&self) -> Duration {
        self.at + self.timeout
    }

    /// Whether its time is up, by a clock of the program that asked.
    fn is_due(&self, clock: Duration) -> bool {
        clock >= self.clock + self.timeout
    }

    pub(super) fn is_decided_as(&self, by: ConnectionId, choice: &Choice) -> bool {
        match (self.decided.as_ref().map(|(verdict, _)| verdict), choice) {
            (Some(Verdict::Allow { input, by: who }), Choice::Allow { updated_input }) => {
                *who == by && input == updated_input.as_ref().unwrap_or(&self.input)
            }
            (Some(Verdict::Deny(DenyReason::Denied { by: who })), Choice::Deny) => *who == by,
            (Some(Verdict::Allow { .. } | Verdict::Deny(_)) | None, _) => false,
        }
    }
}

impl Questions {
    /// Somebody answers: from here on the answer may arrive.
    pub(super) fn answered(&mut self, id: &str, program: usize, by: ConnectionId, choice: &Choice, is_raw: bool) {
        if let Some(asked) = self.all.get_mut(id) {
            asked.answers.push(Answer { program, by, choice: choice.clone(), is_raw });
        }
    }

    /// The hub says what was decided.
    pub(super) fn decided(
        &mut self,
        sessions: &Sessions,
        id: &str,
        verdict: &Verdict,
        now: Duration,
        clocks: &Clocks,
        coverage: &mut Coverage,
    ) -> Checked {
        let asked = self.all.get_mut(id);
        check(asked.is_some(), "S7", || format!("{id} was decided and never asked"))?;
        let Some(asked) = asked else { return Ok(()) };
        check(asked.decided.is_none(), "S7", || format!("{id} was decided twice"))?;
        asked.decided = Some((verdict.clone(), now));
        let asked = &*asked;
        let is_late = now > asked.expires() + SOON && !clocks.is_late(asked.program);
        check(!is_late, "L1", || format!("{id} was decided {:?} late", now - asked.expires()))?;
        let is_answered = |is_it: &dyn Fn(&Answer) -> bool| asked.answers.iter().any(is_it);
        match verdict {
            Verdict::Allow { input, by } => {
                coverage.reach("told Allow");
                let chosen = |answer: &Answer| match &answer.choice {
                    Choice::Allow { updated_input } => {
                        answer.by == *by && updated_input.as_ref().unwrap_or(&asked.input) == input
                    }
                    Choice::Deny => false,
                };
                check(is_answered(&chosen), "S7", || format!("{id} is allowed with {input:?}, which nobody did"))
            }
            Verdict::Deny(DenyReason::Denied { by }) => {
                coverage.reach("told Denied");
                let chosen = |answer: &Answer| answer.by == *by && answer.choice == Choice::Deny;
                check(is_answered(&chosen), "S7", || format!("{id} is denied by somebody who did not"))
            }
            Verdict::Deny(DenyReason::TimedOut) => {
                coverage.reach("told TimedOut");
                check(asked.is_due(clocks.at(asked.program)), "S7", || format!("{id} timed out before its time"))
            }
            Verdict::Deny(DenyReason::Cancelled) => {
                coverage.reach("told Cancelled");
                let has_ended = sessions.life(asked.life).ended.is_some();
                check(asked.taken_back || has_ended, "S7", || format!("{id} is cancelled without a cause"))
            }
            Verdict::Deny(_) => check(false, "S7", || format!("{id} has an unknown verdict")),
        }
    }

    /// Whoever asked is told.
    pub(super) fn told(&mut self, id: &str, verdict: &Verdict, now: Duration, clocks: &Clocks) -> Checked {
        let Some(asked) = self.all.get_mut(id) else { return Ok(()) };
        check(asked.verdict.is_none(), "S7", || format!("whoever asked {id} is told twice"))?;
        asked.verdict = Some(verdict.clone());
        let is_late = now > asked.expires() + SOON && !clocks.is_late(asked.program);
        check(!is_late, "L1", || format!("{id} is told late"))?;
        let decided = asked.decided.as_ref().map(|(verdict, _)| verdict);
        check(asked.is_void || decided.is_none_or(|decided| decided == verdict), "S7", || {
            format!("{id} was decided as {decided:?}, and told as {verdict:?}")
        })
    }

    /// A dialog is shown.
    pub(super) fn shown(
        &self,
        sessions: &Sessions,
        id: &str,
        session: usize,
        principal: usize,
        input: &Payload,
    ) -> Checked {
        let Some(asked) = self.all.get(id) else { return check(false, "S5", || format!("{id} was never asked")) };
        let life = sessions.life(asked.life);
        check(life.principal == principal, "X1", || format!("{id} is somebody else's"))?;
        check(life.session == session, "S5", || format!("{id} is of another session"))?;
        check(asked.input == *input, "S5", || format!("{id} asks about {input:?}"))
    }

    /// A dialog is no longer there.
    pub(super) fn removed(
        &self,
        sessions: &Sessions,
        id: &str,
        why: &Removed,
        (program, me): (usize, ConnectionId),
        clocks: &Clocks,
        coverage: &mut Coverage,
    ) -> Checked {
        let Some(asked) = self.all.get(id) else { return check(false, "S5", || format!("{id} was never asked")) };
        let has_ended = asked.is_void || sessions.life(asked.life).ended.is_some();
        let verdict = asked.decided.as_ref().map(|(verdict, _)| verdict);
        let wrong = || format!("the dialog of {id} goes as {why:?}, and it is decided as {verdict:?}");
        match why {
            Removed::Confirmed(choice) => {
                coverage.reach("dialog Confirmed");
                let own = asked.answers.iter().any(|answer| answer.program == program && answer.choice == *choice);
                check(own, "S7", || format!("an answer to {id} is confirmed which nobody gave"))?;
                // What is told to everybody names the connection and not the input: a dialog takes what its connection has said beside
                // it for its own answer.
                let beside = |answer: &Answer| {
                    let is_like = answer.choice.is_allow() == choice.is_allow();
                    answer.is_raw && answer.by == me && is_like && asked.is_decided_as(me, &answer.choice)
                };
                check(asked.is_decided_as(me, choice) || asked.answers.iter().any(beside), "S7", wrong)
            }
            Removed::Decided { is_allowed, by } => {
                coverage.reach("dialog Decided");
                let (allowed, who) = match verdict {
                    Some(Verdict::Allow { by, .. }) => (true, by),
                    Some(Verdict::Deny(DenyReason::Denied { by })) => (false, by),
                    Some(Verdict::Deny(_)) | None => return check(false, "S7", wrong),
                };
                let is_so = allowed == *is_allowed && by.as_ref().is_none_or(|by| *by == who.to_string());
                check(is_so, "S7", wrong)
            }
            Removed::TimedOut => {
                coverage.reach("dialog TimedOut");
                // Whoever shows it has a clock too, and reckons with what was left when it came.
                let is_due = asked.is_due(clocks.at(asked.program) + clocks.ahead(program));
                check(is_due, "S7", wrong)
            }
            Removed::Cancelled => {
                coverage.reach("dialog Cancelled");
                check(matches!(verdict, Some(Verdict::Deny(DenyReason::Cancelled))), "S7", wrong)
            }
            Removed::Forgotten => {
                coverage.reach("dialog Forgotten");
                check(has_ended || verdict.is_some(), "S7", wrong)
            }
            Removed::Forbidden => check(false, "S7", wrong),
            why => check(false, "S7", || format!("the dialog of {id} goes for an unknown reason: {why:?}")),
        }
    }

    /// The program that asked has ended.
    pub(super) fn end_program(&mut self) {
        for asked in self.all.values_mut() {
            asked.is_void |= asked.decided.is_none();
        }
    }

    /// The names of the questions that are open in a life.
    pub(super) fn open(&self, life: usize) -> Vec<String> {
        let open = self.all.iter().filter(|(_, asked)| asked.life == life && asked.is_open());
        open.map(|(id, _)| id.clone()).collect()
    }

    /// Everything has had its time.
    pub(super) fn is_complete(&self, now: Duration, clocks: &Clocks) -> Checked {
        for (id, asked) in &self.all {
            if clocks.is_late(asked.program) {
                continue;
            }
            let is_over = asked.is_void || asked.taken_back || asked.verdict.is_some() && asked.decided.is_some();
            check(is_over || now < asked.expires() + SOON, "L1", || format!("{id} has no verdict: {asked:?}"))?;
            check(asked.is_void || asked.decided.is_some() || now < asked.expires(), "L1", || {
                format!("{id} is open for ever")
            })?;
        }
        Ok(())
    }
}
