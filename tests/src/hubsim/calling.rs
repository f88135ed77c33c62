//! Which requests were made, who served them, and how they ended.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use reattach_driver::core::rpc::ErrorObject;
use reattach_driver::core::rpc::Failure;
use reattach_driver::core::wire::Payload;

use super::coverage::Coverage;
use super::ledger::Clocks;
use super::ledger::check;
use super::schedule::Ask;
use crate::oracle::Checked;

/// All requests.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) all: BTreeMap<u64, Requested>,
    /// Which programs may have lost their state, or have had it lost to them: what explains that a request has no end of its own.
    pub(super) outages: BTreeSet<usize>,
    /// The notifications that came.
    pub(super) notified: BTreeSet<u64>,
}

/// One request.
#[derive(Debug)]
pub(super) struct Requested {
    pub(super) ask: Ask,
    /// Whose it is.
    pub(super) program: usize,
    /// The client's program at one of its ends.
    client: usize,
    begun: Duration,
    /// When, by its program's clock.
    clock: Duration,
    timeout: Duration,
    end: Option<Result<Payload, Failure>>,
    pub(super) is_withdrawn: bool,
    pub(super) is_aborted: bool,
    served: Vec<Served>,
    progress: u64,
}

/// Somebody serves it.
#[derive(Debug, Default)]
struct Served {
    given: Option<Given>,
}

/// What whoever serves a request gave.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    /// A result.
    Result(Payload),
    /// A refusal of this code.
    Refusal(i64),
    /// Nothing: it was dropped.
    Nothing,
}

/// How much later than it should an end may be told.
const SOON: Duration = Duration::from_millis(5);

impl Requests {
    pub(super) fn begin(
        &mut self,
        ask: Ask,
        (program, client): (usize, usize),
        timeout: Duration,
        (begun, clock): (Duration, Duration),
    ) -> u64 {
        let number = self.all.len() as u64 + 1;
        let (end, served) = (None, Vec::new());
        let (is_withdrawn, is_aborted, progress) = (false, false, 0);
        let requested =
            Requested { ask, program, client, begun, clock, timeout, end, is_withdrawn, is_aborted, served, progress };
        self.all.insert(number, requested);
        number
    }

    /// It was not begun.
    pub(super) fn forget(&mut self, number: u64) {
        if let Some(requested) = self.all.get_mut(&number) {
            requested.is_withdrawn = true;
        }
    }

    /// Somebody begins to serve a request. Returns what is to be done about it.
    pub(super) fn serve(&mut self, number: u64) -> Result<Ask, crate::oracle::Broken> {
        let Some(requested) = self.all.get_mut(&number) else {
            return Err(crate::oracle::Broken::new("S5", format!("request {number} was never made")));
        };
        requested.served.push(Served::default());
        check(requested.served.len() == 1, "S1", || format!("request {number} is served twice"))?;
        requested.is_honest(number)?;
        Ok(requested.ask)
    }

    /// Whoever serves it is done.
    pub(super) fn give(&mut self, number: u64, given: Given) {
        let served = self.all.get_mut(&number).and_then(|requested| requested.served.last_mut());
        if let Some(served) = served {
            served.given.get_or_insert(given);
        }
    }

    pub(super) fn progress(&mut self, number: u64, step: u64) -> Checked {
        let Some(requested) = self.all.get_mut(&number) else { return Ok(()) };
        let before = std::mem::replace(&mut requested.progress, step);
        check(step > before, "S1", || format!("request {number} is at {step} after {before}"))
    }

    /// A request has come to its end.
    pub(super) fn end(
        &mut self,
        number: u64,
        end: Result<Payload, Failure>,
        now: Duration,
        clocks: &Clocks,
        coverage: &mut Coverage,
    ) -> Checked {
        let Some(requested) = self.all.get_mut(&number) else { return Ok(()) };
        check(requested.end.is_none(), "S4", || format!("request {number} ends twice"))?;
        let is_in_time = now <= requested.begun + requested.timeout + SOON || clocks.is_late(requested.program);
        check(is_in_time, "L1", || {
            format!("request {number} ends {:?} after its deadline", now - requested.begun - requested.timeout)
        })?;
        let has_cause = self.outages.contains(&requested.client);
        let age = clocks.at(requested.program) - requested.clock;
        let explained = |what: &str| check(has_cause, "J1", || format!("request {number}: {what} without a cause"));
        coverage.reach(word(&end));
        match &end {
            Err(Failure::TimedOut { after }) => check(age >= *after && *after == requested.timeout, "S4", || {
                format!("request {number} timed out after {age:?}")
            })?,
            Err(Failure::Idle { after }) => check(requested.ask.idle == Some(*after) && age >= *after, "S4", || {
                format!("request {number} was idle after {age:?}")
            })?,
            Err(Failure::Cancelled) => {
                check(requested.is_aborted, "S4", || format!("request {number} was cancelled by nobody"))?;
            }
            Err(Failure::EpochEnded) => explained("its epoch ended")?,
            Err(Failure::Unknown(_) | Failure::Rejected { .. }) => explained("its message is lost")?,
            Err(Failure::Ended { .. }) => explained("its connection ended")?,
            Err(failure @ (Failure::BadResponse { .. } | Failure::NotSent(_))) => {
                check(has_cause && !matches!(failure, Failure::BadResponse { .. }), "S4", || {
                    format!("request {number}: {failure}")
                })?;
            }
            Ok(_) | Err(_) => {}
        }
        requested.end = Some(end);
        requested.is_honest(number)
    }

    /// Everything has had its time.
    pub(super) fn is_complete(&self, programs: &[bool], now: Duration, clocks: &Clocks) -> Checked {
        for (number, requested) in &self.all {
            let is_excused = !programs[requested.program] || clocks.is_late(requested.program);
            let is_over = requested.end.is_some() || requested.is_withdrawn || is_excused;
            check(is_over || now < requested.begun + requested.timeout + SOON, "L1", || {
                format!("request {number} never ends: {requested:?}")
            })?;
        }
        Ok(())
    }
}

impl Requested {
    /// Whether what its sender was told is true of those who served it.
    fn is_honest(&self, number: u64) -> Checked {
        let given = |wanted: &Given| self.served.iter().any(|served| served.given.as_ref() == Some(wanted));
        match &self.end {
            Some(Ok(result)) => check(given(&Given::Result(result.clone())), "S3", || {
                format!("request {number} has a result that nobody gave: {result:?}")
            }),
            Some(Err(Failure::Refused(error))) => {
                let is_given = given(&Given::Refusal(error.code))
                    || error.code == ErrorObject::INTERNAL_ERROR && given(&Given::Nothing);
                check(is_given, "S3", || format!("request {number} is refused by nobody: {error}"))
            }
            Some(Err(failure @ (Failure::NotDelivered(_) | Failure::Rejected { .. } | Failure::NotSent(_)))) => {
                check(self.served.is_empty(), "S3", || format!("request {number} is served, and said: {failure}"))
            }
            Some(Err(_)) | None => Ok(()),
        }
    }
}

const fn word(end: &Result<Payload, Failure>) -> &'static str {
    match end {
        Ok(_) => "request has a result",
        Err(Failure::Refused(_)) => "request Refused",
        Err(Failure::TimedOut { .. }) => "request TimedOut",
        Err(Failure::Idle { .. }) => "request Idle",
        Err(Failure::Cancelled) => "request Cancelled",
        Err(Failure::NotDelivered(_)) => "request NotDelivered",
        Err(Failure::Rejected { .. }) => "request Rejected",
        Err(Failure::Unknown(_)) => "request Unknown",
        Err(Failure::EpochEnded) => "request EpochEnded",
        Err(Failure::Ended { .. }) => "request Ended",
        Err(Failure::NotSent(_)) => "request NotSent",
        Err(Failure::BadResponse { .. }) => "request BadResponse",
        Err(_) => "request ended otherwise",
    }
}
