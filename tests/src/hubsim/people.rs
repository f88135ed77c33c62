//! Who watches a session: a task that hears everything, and a person who answers what is shown.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use reattach_driver::Client;
use reattach_driver::ConnectionState;
use reattach_driver::SessionWatch;
use reattach_driver::core::hub::Ended;
use reattach_driver::core::hub::WatcherEvent;
use reattach_driver::core::messages::Choice;
use reattach_driver::core::messages::PermissionId;
use reattach_driver::core::permission::Removed;
use reattach_driver::core::permission::Status;
use reattach_driver::core::session::WatchFrom;
use reattach_driver::core::wire::Payload;
use reattach_driver::testing::Net;

use super::ledger::Known;
use super::ledger::Ledger;
use super::ledger::check;
use super::schedule::Chosen;
use super::schedule::Plan;
use super::slot::Slot;
use super::watching::Seen;
use crate::oracle::Checked;
use crate::sim::Chance;
use crate::sim::mix;

/// One watch of a session.
#[derive(Clone)]
pub(super) struct Watching {
    pub(super) watch: Slot<SessionWatch>,
    seen: Arc<Mutex<Seen>>,
    net: Net,
    ledger: Ledger,
    client: Client,
    program: usize,
    session: usize,
    principal: usize,
    /// Whether the client may have the session.
    is_theirs: bool,
    /// When this watch began.
    begun: Duration,
    answers: u64,
    thinks: Duration,
    seed: u64,
}

/// What somebody chooses, as the machines have it.
pub(super) fn choice(chosen: Chosen) -> Choice {
    match chosen {
        Chosen::Allow => Choice::Allow { updated_input: None },
        Chosen::Updated(number) => {
            Choice::Allow { updated_input: Some(Payload::new(&[number]).expect("a number is JSON")) }
        }
        Chosen::Deny => Choice::Deny,
    }
}

/// Who watches what.
pub(super) struct Whose {
    pub(super) client: Client,
    pub(super) program: usize,
    pub(super) session: usize,
    pub(super) principal: usize,
    pub(super) is_theirs: bool,
    pub(super) begun: Duration,
}

impl Watching {
    pub(super) fn begin(
        net: &Net,
        ledger: &Ledger,
        (plan, seed): (&Plan, u64),
        whose: Whose,
        watch: SessionWatch,
        seen: Seen,
    ) -> Self {
        let Whose { client, program, session, principal, is_theirs, begun } = whose;
        let (answers, thinks) = (plan.answers, plan.thinks);
        let watching = Self {
            watch: Slot::new(watch),
            seen: Arc::new(Mutex::new(seen)),
            net: net.clone(),
            ledger: ledger.clone(),
            client,
            program,
            session,
            principal,
            is_theirs,
            begun,
            answers,
            thinks,
            seed,
        };
        let own = watching.clone();
        net.spawn(async move { own.hear().await });
        watching
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> String {
        format!("program {} of session {}", self.program, self.session)
    }

    async fn hear(&self) {
        let mut shown = BTreeMap::new();
        while let Some(Some(event)) = self.watch.wait(|watch, cx| pin!(watch.next()).poll(cx)).await {
            let position = self.watch.with(|watch| watch.position());
            self.ledger
                .note(&format!("{}: {}", self.name(), brief(&event)), |known| self.check(known, &event, position));
            if let WatcherEvent::Dialog(id) = &event {
                self.on_dialog(id, &mut shown);
            }
        }
    }

    fn check(&self, known: &mut Known, event: &WatcherEvent, position: Option<WatchFrom>) -> Checked {
        let is_over = !known.is_running(self.program);
        let Known { sessions, questions, coverage, clocks, .. } = known;
        let mut seen = self.seen();
        let is_end = matches!(event, WatcherEvent::Ended(_));
        if !is_end {
            seen.may_be_told(sessions)?;
        }
        let wrong = || check(false, "S5", || format!("{event:?} is nothing that was published"));
        match event {
            WatcherEvent::Event(offset, payload) => {
                let Ok((life, number, _)) = payload.parse::<(usize, u64, String)>() else { return wrong() };
                let epoch = match position {
                    Some(WatchFrom::After(cursor)) => Some(cursor.epoch),
                    Some(WatchFrom::Start | WatchFrom::Now) | None => None,
                };
                seen.event(sessions, offset.get(), (life, number), epoch)
            }
            WatcherEvent::Snapshot(payload) => {
                coverage.reach("told Snapshot");
                let Ok((life, up_to)) = payload.parse::<(usize, u64)>() else { return wrong() };
                seen.snapshot(sessions, (life, up_to), coverage)
            }
            WatcherEvent::Missed { up_to } => {
                coverage.reach("watch Missed");
                seen.missed(sessions, up_to.epoch, up_to.offset.get())
            }
            WatcherEvent::UpToDate => {
                if std::mem::replace(&mut seen.is_up_to_date, true) {
                    coverage.reach("watch UpToDate again");
                }
                Ok(())
            }
            WatcherEvent::Dialog(id) => {
                let input = self.watch.with(|watch| watch.dialogs().get(id).map(|dialog| dialog.request.input.clone()));
                match input.flatten() {
                    Some(input) => questions.shown(sessions, id.as_str(), self.session, self.principal, &input),
                    // It has gone since.
                    None => Ok(()),
                }
            }
            // A client that is closed shows nothing any more.
            WatcherEvent::DialogRemoved { why: Removed::Forgotten, .. } if is_over => Ok(()),
            WatcherEvent::DialogRemoved { id, why } => {
                let me = (self.program, self.client.connection_id());
                questions.removed(sessions, id.as_str(), why, me, clocks, coverage)
            }
            WatcherEvent::QueueStatus { .. } => Ok(()),
            WatcherEvent::Ended(why) => {
                seen.is_ended = true;
                drop(seen);
                self.on_end(known, why)
            }
            event => check(false, "S5", || format!("an unknown event: {event:?}")),
        }
    }

    fn on_end(&self, known: &mut Known, why: &Ended) -> Checked {
        let is_running = known.is_running(self.program);
        let has_changed = known.sessions.has_changed_since(self.session, self.begun)
            || known.sessions.current(self.session).is_none();
        let without_cause = || format!("{} ends as {why:?} without a cause", self.name());
        match why {
            Ended::Over => {
                known.coverage.reach("watch Over");
                check(has_changed, "J1", without_cause)
            }
            Ended::UnknownSession => {
                known.coverage.reach("watch UnknownSession");
                check(has_changed, "J1", without_cause)
            }
            Ended::Refused(_) => {
                known.coverage.reach("watch Refused");
                check(!self.is_theirs || !is_running, "J1", without_cause)
            }
            Ended::Closed => {
                known.coverage.reach("watch Closed");
                let is_closed = matches!(self.client.state(), ConnectionState::Closed(_));
                check(is_closed && !is_running, "J1", without_cause)
            }
            Ended::Confused => check(false, "S1", || format!("{} is confused", self.name())),
            why => check(false, "J1", || format!("{} ends as {why:?}", self.name())),
        }
    }

    /// A dialog is shown, or has changed. Now and then somebody answers it, after some thought.
    fn on_dialog(&self, id: &PermissionId, shown: &mut BTreeMap<PermissionId, u64>) {
        let status = self.watch.with(|watch| watch.dialogs().get(id).map(|dialog| dialog.status.clone()));
        let Some(status) = status.flatten() else { return };
        let turn = match status {
            Status::Pending => 0,
            Status::Sending { retry, .. } => {
                if retry > 0 {
                    self.ledger.lock().coverage.reach("answer sent again");
                }
                return;
            }
            Status::Retrying { .. } => return,
            Status::Failed { .. } => {
                self.ledger.lock().coverage.reach("answer failed");
                1
            }
        };
        let times = shown.entry(id.clone()).or_default();
        if turn < *times {
            return;
        }
        *times += 1;
        let number: u64 = id.as_str().trim_start_matches('q').parse().unwrap_or_default();
        let chance = &mut Chance::new(mix(self.seed, mix(number, self.program as u64 * 10 + *times)));
        if !chance.percent(self.answers) || *times > 3 {
            return;
        }
        let after = Duration::from_millis(chance.below(u64::try_from(self.thinks.as_millis()).unwrap_or(1)));
        let updated = Chosen::Updated(chance.below(1_000));
        let chosen = chance.pick(&[Chosen::Allow, updated, Chosen::Deny]);
        let (own, id) = (self.clone(), id.clone());
        self.net.spawn(async move {
            own.net.sleep(after).await;
            own.answer(&id, chosen);
        });
    }

    /// Somebody answers.
    pub(super) fn answer(&self, id: &PermissionId, chosen: Chosen) {
        let choice = choice(chosen);
        let answered = self.watch.with(|watch| watch.answer(id, choice.clone()));
        let Some(answered) = answered else { return };
        self.ledger.note(&format!("{} answers {id}: {choice:?}: {answered:?}", self.name()), |known| {
            match answered {
                Ok(()) => {
                    known.questions.answered(id.as_str(), self.program, self.client.connection_id(), &choice, false)
                }
                Err(_) => known.coverage.reach("answer refused"),
            }
            Ok(())
        });
    }

    /// The names of the dialogs that are there.
    pub(super) fn dialogs(&self) -> Vec<PermissionId> {
        let dialogs = |watch: &mut SessionWatch| -> Vec<PermissionId> {
            watch.dialogs().dialogs().into_iter().map(|(id, _)| id.clone()).collect()
        };
        self.watch.with(dialogs).unwrap_or_default()
    }
}

/// What happened, without the padding.
fn brief(event: &WatcherEvent) -> String {
    let mut text = format!("{event:?}");
    if text.len() > 200 {
        let end = (0..=200).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
    }
    text
}
