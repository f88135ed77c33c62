//! The dialogs: what people see of questions, and what became of their answers.
//!
//! ```text
//!  asked ---> Pending --- answer ---> Sending --- confirmed ------------> removed
//!                ^                     |   ^ |--- decided by another ---> removed
//!                |                     |   | '--- not confirmed --> Waiting to be sent again, or Failed
//!                |                     |   '----------------------------'        |
//!                '---- answered again: Failed -----------------------------------'
//! ```
//!
//! A dialog goes only when the server has said what became of the question, or the time is over in which it could be answered.

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::deadline::Deadline;
use crate::deadline::soonest;
use crate::id::ConnectionId;
use crate::id::SessionId;
use crate::messages::Choice;
use crate::messages::PermissionId;
use crate::messages::PermissionMessage;
use crate::messages::PermissionRequest;
use crate::messages::PermissionResponse;
use crate::permission::config::DialogsConfig;
use crate::permission::event::AnswerError;
use crate::permission::event::AnswerFailed;
use crate::permission::event::DialogMisuse;
use crate::permission::event::DialogOutput;
use crate::permission::event::MAX_DEPTH;
use crate::permission::event::Removed;
use crate::permission::stats::DialogsStats;
use crate::time::Clock;
use crate::time::Instant;

/// The dialogs of one client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dialogs {
    clock: Clock,
    config: DialogsConfig,
    me: ConnectionId,
    dialogs: BTreeMap<PermissionId, Dialog>,
    numbers: u64,
    /// Whether the server can be reached: while it cannot, nothing is waited for.
    is_attached: bool,
    stats: DialogsStats,
    outputs: VecDeque<DialogOutput>,
}

/// One dialog.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dialog {
    /// The session that it belongs to.
    pub session: SessionId,
    /// What is asked.
    pub request: PermissionRequest,
    /// When the server stops waiting for an answer, as far as is known.
    pub expires: Option<Instant>,
    /// Where it stands.
    pub status: Status,
    /// In which order they came.
    number: u64,
    /// When an answer has to be confirmed, or is sent again.
    due: Deadline,
    /// Whether another answer was given before this one, and may have been taken.
    has_changed: bool,
}

impl Dialog {
    /// Whether a request is the one that is shown, however long it is open still.
    fn asks_the_same(&self, request: &PermissionRequest) -> bool {
        let PermissionRequest { id, tool_name, input, context, timestamp, remaining: _ } = &self.request;
        let same = (&request.id, &request.tool_name, &request.input, &request.context, &request.timestamp);
        (id, tool_name, input, context, timestamp) == same
    }
}

/// Where a dialog stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It waits for an answer.
    Pending,
    /// Its answer is on its way.
    Sending {
        /// The answer.
        choice: Choice,
        /// How often it was sent before.
        retry: u32,
    },
    /// Its answer was not confirmed, and will be sent again.
    Retrying {
        /// The answer.
        choice: Choice,
        /// How often it will have been sent before.
        retry: u32,
    },
    /// Its answer was not confirmed. It can be answered again.
    Failed {
        /// The answer.
        choice: Choice,
        /// How often it was sent again.
        retries: u32,
    },
}

impl Status {
    /// The answer that was given.
    #[must_use]
    pub const fn choice(&self) -> Option<&Choice> {
        match self {
            Self::Pending => None,
            Self::Sending { choice, .. } | Self::Retrying { choice, .. } | Self::Failed { choice, .. } => Some(choice),
        }
    }

    /// Whether an answer was given and may still arrive by itself. Another cannot be given then.
    #[must_use]
    pub const fn is_in_flight(&self) -> bool {
        matches!(self, Self::Sending { .. } | Self::Retrying { .. })
    }
}

impl Dialogs {
    /// None. `me` is the connection that the answers come from, by which the server calls who decided.
    #[must_use]
    pub const fn new(config: DialogsConfig, me: ConnectionId, now: Instant) -> Self {
        Self {
            clock: Clock::new(now),
            config,
            me,
            dialogs: BTreeMap::new(),
            numbers: 0,
            is_attached: true,
            stats: DialogsStats::NONE,
            outputs: VecDeque::new(),
        }
    }

    /// The answers come from another connection from here on.
    pub const fn handle_identity_changed(&mut self, me: ConnectionId) {
        self.me = me;
    }

    /// Takes in what the server says about a session's questions. Saying it twice changes nothing.
    pub fn handle_message(&mut self, session: &SessionId, message: PermissionMessage, now: Instant) {
        let now = self.clock.advance(now);
        match message {
            PermissionMessage::Request(request) => self.add(session, request, now),
            PermissionMessage::Timeout { request_id, .. } => self.remove(&request_id, Removed::TimedOut),
            PermissionMessage::Cancelled { request_id } => self.remove(&request_id, Removed::Cancelled),
            PermissionMessage::Resolved { request_id, is_allowed, by } => {
                // Where several were sent, only what comes back for them tells which was taken.
                let own = self.dialogs.get(&request_id).filter(|dialog| !dialog.has_changed);
                let own = own.and_then(|dialog| dialog.status.choice());
                let is_own = own.is_some_and(|own| own.is_allow() == is_allowed) && by == Some(self.me.to_string());
                let why = match own {
                    Some(choice) if is_own => Removed::Confirmed(choice.clone()),
                    Some(_) | None => Removed::Decided { is_allowed, by },
                };
                self.remove(&request_id, why);
            }
            PermissionMessage::Response(_) | PermissionMessage::QueueStatus { .. } => {}
        }
    }

    /// Only these questions of a session are open, after something of it was missed: the others are no longer there. An answer that
    /// is on its way stays until it is known what became of it.
    pub fn forget_unlisted(&mut self, session: &SessionId, listed: &BTreeSet<PermissionId>) {
        let is_over = |(id, dialog): (&PermissionId, &Dialog)| {
            let is_in_flight = dialog.status.is_in_flight();
            (dialog.session == *session && !is_in_flight && !listed.contains(id)).then(|| id.clone())
        };
        for id in self.dialogs.iter().filter_map(is_over).collect::<Vec<_>>() {
            self.remove(&id, Removed::Forgotten);
        }
    }

    /// Nothing will be known of any question any more: no dialog is there, whatever was answered.
    pub fn forget_all(&mut self) {
        for id in self.dialogs.keys().cloned().collect::<Vec<_>>() {
            self.remove(&id, Removed::Forgotten);
        }
    }

    /// Whether the server can be reached has changed. While it cannot, an answer waits without being taken for lost.
    pub fn handle_attached(&mut self, is_attached: bool, now: Instant) {
        let now = self.clock.advance(now);
        let was_attached = core::mem::replace(&mut self.is_attached, is_attached);
        for dialog in self.dialogs.values_mut() {
            if matches!(dialog.status, Status::Sending { .. }) && was_attached != is_attached {
                dialog.due =
                    if is_attached { Deadline::after(now, self.config.ack_timeout) } else { Deadline::UNARMED };
            }
        }
    }

    /// Somebody answers. The dialog stays until that is confirmed.
    ///
    /// # Errors
    ///
    /// [`DialogMisuse::UnknownInteraction`], [`DialogMisuse::AlreadySending`], [`DialogMisuse::TooDeep`].
    pub fn answer(&mut self, id: &PermissionId, choice: Choice, now: Instant) -> Result<(), DialogMisuse> {
        let now = self.clock.advance(now);
        let dialog = self.dialogs.get(id).ok_or(DialogMisuse::UnknownInteraction)?;
        if dialog.status.is_in_flight() {
            return Err(DialogMisuse::AlreadySending);
        }
        if matches!(&choice, Choice::Allow { updated_input: Some(input) } if input.is_deeper_than(MAX_DEPTH)) {
            return Err(DialogMisuse::TooDeep);
        }
        let is_another = dialog.status.choice().is_some_and(|before| *before != choice);
        if let Some(dialog) = self.dialogs.get_mut(id) {
            dialog.has_changed |= is_another;
        }
        self.send(id, choice, 0, now);
        Ok(())
    }

    /// What came back for an answer that was to be sent. It counts whenever it comes; for a dialog that is no longer there it means
    /// nothing.
    pub fn handle_answered(&mut self, answer: &PermissionResponse, result: Result<(), AnswerFailed>, now: Instant) {
        let now = self.clock.advance(now);
        let PermissionResponse { request_id: id, choice } = answer;
        let Some(dialog) = self.dialogs.get(id) else { return };
        let is_current = dialog.status.choice() == Some(choice);
        let why = match result {
            // It is this answer that was taken, whatever was chosen after it.
            Ok(()) => Removed::Confirmed(choice.clone()),
            Err(AnswerFailed::NotConfirmed) if !is_current => return,
            Err(AnswerFailed::NotConfirmed) => return self.fail(id, now),
            Err(AnswerFailed::Refused(AnswerError::AlreadyResolved { is_allowed, by })) => {
                Removed::Decided { is_allowed, by: Some(by.to_string()) }
            }
            Err(AnswerFailed::Refused(AnswerError::Expired)) => Removed::TimedOut,
            Err(AnswerFailed::Refused(AnswerError::Cancelled)) => Removed::Cancelled,
            Err(AnswerFailed::Refused(AnswerError::UnknownRequest)) => Removed::Forgotten,
            Err(AnswerFailed::Refused(AnswerError::Forbidden)) => Removed::Forbidden,
        };
        self.remove(id, why);
    }

    /// Lets time pass. Call it when [`Dialogs::poll_timeout`] is due; calling it earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.advance(now);
        for id in self.dialogs.keys().cloned().collect::<Vec<_>>() {
            let Some(dialog) = self.dialogs.get_mut(&id) else { continue };
            if dialog.due.take_due(now) {
                match dialog.status.clone() {
                    Status::Retrying { choice, retry } => self.send(&id, choice, retry, now),
                    Status::Sending { .. } => self.fail(&id, now),
                    Status::Pending | Status::Failed { .. } => {}
                }
            }
            // An answer that is on its way may have been in time.
            let is_over = |dialog: &Dialog| !dialog.status.is_in_flight() && dialog.expires.is_some_and(|at| at <= now);
            if self.dialogs.get(&id).is_some_and(is_over) {
                self.remove(&id, Removed::TimedOut);
            }
        }
    }

    /// The next thing to do. Poll until there is none.
    pub fn poll_output(&mut self) -> Option<DialogOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Dialogs::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        soonest(self.dialogs.values().map(|dialog| match dialog.status {
            Status::Pending | Status::Failed { .. } => dialog.expires,
            Status::Sending { .. } | Status::Retrying { .. } => dialog.due.poll_timeout(),
        }))
    }

    /// The dialogs, in the order in which they came.
    #[must_use]
    pub fn dialogs(&self) -> Vec<(&PermissionId, &Dialog)> {
        let mut dialogs: Vec<_> = self.dialogs.iter().collect();
        dialogs.sort_by_key(|(_, dialog)| dialog.number);
        dialogs
    }

    /// What was counted.
    #[must_use]
    pub const fn stats(&self) -> DialogsStats {
        self.stats
    }

    /// One dialog.
    #[must_use]
    pub fn get(&self, id: &PermissionId) -> Option<&Dialog> {
        self.dialogs.get(id)
    }

    fn add(&mut self, session: &SessionId, request: PermissionRequest, now: Instant) {
        let id = request.id.clone();
        let expires = request.remaining.map(|remaining| now + remaining);
        if let Some(dialog) = self.dialogs.get_mut(&id) {
            if dialog.asks_the_same(&request) {
                dialog.expires = expires.or(dialog.expires);
                return;
            }
            // A name that is used anew: nobody has seen what is asked under it.
            self.remove(&id, Removed::Forgotten);
        }
        if self.dialogs.len() >= self.config.max_dialogs || self.bytes() >= self.config.max_bytes {
            return;
        }
        self.numbers += 1;
        self.stats.shown += 1;
        let (number, due, session, has_changed) = (self.numbers, Deadline::UNARMED, session.clone(), false);
        self.dialogs.insert(
            id.clone(),
            Dialog { session, request, expires, status: Status::Pending, number, due, has_changed },
        );
        self.outputs.push_back(DialogOutput::Changed { id });
    }

    fn bytes(&self) -> u64 {
        let bytes = |dialog: &Dialog| (dialog.request.input.len() + dialog.request.context.len()) as u64;
        self.dialogs.values().map(bytes).sum()
    }

    fn remove(&mut self, id: &PermissionId, why: Removed) {
        if let Some(dialog) = self.dialogs.remove(id) {
            // What was taken may have been given up before, and another chosen meanwhile.
            let last = dialog.status.choice();
            let (is_own, is_last) = match &why {
                Removed::Confirmed(choice) => (true, last == Some(choice)),
                Removed::Decided { is_allowed, by } => {
                    let is_own = last.is_some() && *by == Some(self.me.to_string());
                    (is_own, is_own && last.is_some_and(|last| last.is_allow() == *is_allowed))
                }
                Removed::TimedOut | Removed::Cancelled | Removed::Forgotten | Removed::Forbidden => (false, false),
            };
            self.stats.confirmed += u64::from(is_own);
            self.stats.not_taken += u64::from(dialog.status.is_in_flight() && !is_last);
            self.outputs.push_back(DialogOutput::Removed { id: id.clone(), why });
        }
    }

    fn send(&mut self, id: &PermissionId, choice: Choice, retry: u32, now: Instant) {
        let due = if self.is_attached { Deadline::after(now, self.config.ack_timeout) } else { Deadline::UNARMED };
        self.move_to(id, Status::Sending { choice: choice.clone(), retry }, due);
        if retry == 0 {
            self.stats.sent += 1;
        } else {
            self.stats.retried += 1;
        }
        let response = PermissionResponse { request_id: id.clone(), choice };
        self.outputs.push_back(DialogOutput::Send { response, retry });
    }

    /// An answer was not confirmed.
    fn fail(&mut self, id: &PermissionId, now: Instant) {
        let Some(Status::Sending { choice, retry }) = self.dialogs.get(id).map(|dialog| dialog.status.clone()) else {
            return;
        };
        let next = retry + 1;
        if next > self.config.retries {
            self.stats.failed += 1;
            self.move_to(id, Status::Failed { choice, retries: retry }, Deadline::UNARMED);
        } else {
            let due = Deadline::after(now, self.config.retry_delay * next);
            self.move_to(id, Status::Retrying { choice, retry: next }, due);
        }
    }

    fn move_to(&mut self, id: &PermissionId, status: Status, due: Deadline) {
        if let Some(dialog) = self.dialogs.get_mut(id) {
            (dialog.status, dialog.due) = (status, due);
            self.outputs.push_back(DialogOutput::Changed { id: id.clone() });
        }
    }
}
