//! The conversation, as it goes on: lines come from stdin, events from the session, outcomes from the outbox.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reattach_tokio::Client;
use reattach_tokio::ConnectionState;
use reattach_tokio::SessionWatch;
use reattach_tokio::core::chat::Ended;
use reattach_tokio::core::hub;
use reattach_tokio::core::hub::WatcherEvent;
use reattach_tokio::core::id::MessageId;
use reattach_tokio::core::id::MessageIds;
use reattach_tokio::core::messages::Choice;
use reattach_tokio::core::messages::EnvelopeId;
use reattach_tokio::core::outcome::Failure;
use reattach_tokio::core::outcome::Outcome;
use reattach_tokio::core::outcome::SendFailed;
use reattach_tokio::core::session::WatchFrom;
use reattach_tokio::core::view::SendError;
use reattach_tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::sleep_until;

use crate::chat::Failed;
use crate::chat::Left;
use crate::chat::Tally;
use crate::chat::dialogs::Questions;
use crate::chat::input;
use crate::chat::input::Input;
use crate::chat::memory::Memory;
use crate::chat::memory::Typed;
use crate::chat::outbox::Outbox;
use crate::chat::screen;
use crate::chat::screen::Screen;
use crate::chat::seen::Seen;
use crate::chat::seen::Show;
use crate::chat::seen::request;
use crate::dial;
use crate::listen::told_to_stop;
use crate::messages::Transcript;
use crate::stdin::Line;

/// A conversation.
pub(super) struct Talk {
    client: Client,
    /// Whose clock the views go by.
    runtime: Arc<dyn Runtime>,
    watch: SessionWatch,
    outbox: Outbox,
    screen: Screen,
    questions: Questions,
    seen: Seen,
    memory: Memory,
    path: Option<PathBuf>,
    ids: MessageIds,
    /// What was typed in this run and is not told of yet.
    own: BTreeSet<EnvelopeId>,
    /// The last of them that were not delivered, or of which nobody can tell: they can be sent again as they were.
    failed: VecDeque<Typed>,
    tally: Tally,
    /// What was taken and is not told of by what everything up to some place amounts to: told of behind that, or never.
    missed: BTreeSet<MessageId>,
    /// Whether everything that had happened before is told.
    is_current: bool,
    /// How long silence is waited out after the end of stdin.
    patience: Duration,
    heard: Instant,
}

/// Why a conversation is left.
enum Leave {
    /// To come back.
    Detach,
    /// For good.
    Quit,
    /// Somebody at the terminal, or a supervisor, wants it to.
    Interrupted,
    /// Something went wrong.
    Failed(Failed),
}

/// How many messages may wait for their outcome. A person types no more than that; a script is told.
const MAX_UNSETTLED: usize = 256;
/// How much of a message tells which it is, in characters.
const BEGINNING: usize = 200;
/// How many messages that failed can be sent again.
const MAX_FAILED: usize = 100;
/// How long a connection may take to end.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often the row about how things stand is brought up to date.
const TICK: Duration = Duration::from_millis(500);

impl Talk {
    pub(super) fn new(
        client: Client,
        runtime: Arc<dyn Runtime>,
        watch: SessionWatch,
        memory: Memory,
        path: Option<PathBuf>,
        patience: Duration,
    ) -> Self {
        Self {
            outbox: Outbox::new(client.clone()),
            seen: Seen::new(watch.session().clone(), memory.shown.clone(), runtime.now()),
            client,
            runtime,
            watch,
            screen: Screen::new(),
            questions: Questions::default(),
            memory,
            path,
            ids: MessageIds::new(reattach_tokio::connection_key().as_bytes()),
            own: BTreeSet::new(),
            failed: VecDeque::new(),
            tally: Tally::default(),
            missed: BTreeSet::new(),
            is_current: false,
            patience,
            heard: Instant::now(),
        }
    }

    /// Goes on until somebody or something ends it. `is_back` says that this client was here before.
    pub(super) async fn run(mut self, lines: mpsc::Receiver<Line>, is_back: bool) -> Result<Left, Failed> {
        if is_back {
            self.screen.tell("going on where this client stopped");
        }
        for typed in self.memory.unsettled.clone() {
            self.seen.views.handle_accepted(typed.message_id, self.watch.session(), self.runtime.now());
            self.outbox.send(typed);
        }
        self.await_answers();
        let leave = self.go_on(lines).await;
        self.leave(leave).await
    }

    async fn go_on(&mut self, mut lines: mpsc::Receiver<Line>) -> Leave {
        let mut states = self.client.watch();
        let mut has_input = true;
        let mut misread = None;
        let mut tick = tokio::time::interval(TICK);
        let mut stop = std::pin::pin!(told_to_stop());
        loop {
            let state = states.state();
            self.stand(&state);
            if matches!(state, ConnectionState::Failed(_) | ConnectionState::Superseded | ConnectionState::Closed(_)) {
                return Leave::Failed(Failed::Disconnected(state));
            }
            if !has_input && self.has_all() {
                return end_of_input(misread);
            }
            let left = tokio::select! {
                event = self.watch.next() => match event {
                    Some(event) => self.on_event(event),
                    None => Err(Leave::Failed(Failed::Session(hub::Ended::Closed))),
                },
                line = lines.recv(), if has_input => match line {
                    Some(Line::Text(line)) => {
                        self.screen.on_typed();
                        self.on_line(&line)
                    }
                    ended => {
                        // What came before a line that cannot be read is sent and answered as before any other end.
                        if let Some(Line::Bad(problem)) = ended {
                            self.screen.tell(&format!("nothing more is read from stdin: {problem}"));
                            misread = Some(problem);
                        }
                        has_input = false;
                        self.heard = Instant::now();
                        Ok(())
                    }
                },
                Some((message_id, outcome)) = self.outbox.next() => self.on_outcome(message_id, outcome),
                told = &mut stop => Err(told.map_or_else(|error| Leave::Failed(Failed::Io(error)), |()| Leave::Interrupted)),
                () = states.changed() => Ok(()),
                _ = tick.tick(), if self.screen.has_row() => Ok(()),
                () = sleep_until(self.heard + self.patience), if !has_input => {
                    self.screen.tell("nothing more was heard for as long as was to be waited");
                    Err(end_of_input(misread.take()))
                }
            };
            if let Err(leave) = left {
                return leave;
            }
        }
    }

    /// Whether nothing is left to be waited for.
    fn has_all(&self) -> bool {
        let is_answered = self.memory.unanswered.is_empty() && !self.seen.is_answering();
        self.is_current && is_answered && self.memory.unsettled.is_empty()
    }

    fn on_event(&mut self, event: WatcherEvent) -> Result<(), Leave> {
        self.heard = Instant::now();
        let now = self.runtime.now();
        let mut show = self.follow();
        match event {
            WatcherEvent::Snapshot(snapshot) => match snapshot.parse::<Transcript>() {
                Ok(transcript) => {
                    show.extend(self.seen.on_snapshot(transcript, now));
                    self.look_for_missed();
                }
                Err(error) => self.screen.tell(&format!("what was said before cannot be read: {error}")),
            },
            WatcherEvent::Event(_, event) => show.extend(self.seen.on_event(&event, now)),
            WatcherEvent::Missed { .. } => {
                self.screen.tell("some of what was said is lost");
                show.extend(self.seen.on_missed());
                self.look_for_missed();
            }
            WatcherEvent::UpToDate => {
                self.is_current = true;
                self.give_missed_up();
            }
            WatcherEvent::Dialog(id) => {
                if let Some(line) = Questions::on_dialog(&self.watch, &id) {
                    self.screen.tell(&line);
                }
            }
            WatcherEvent::DialogRemoved { id, why } => {
                let me = self.client.connection_id().to_string();
                let line = self.questions.on_removed(&me, &id, &why);
                self.screen.tell(&line);
            }
            WatcherEvent::Ended(ended) => {
                let state = self.client.state();
                // Where the connection is over, the session is over because of that.
                let failed = if is_over(&state) { Failed::Disconnected(state) } else { Failed::Session(ended) };
                return Err(Leave::Failed(failed));
            }
            // How many questions are open is known from the dialogs. A later version may tell more.
            WatcherEvent::QueueStatus { .. } | _ => {}
        }
        self.show(&show)
    }

    /// Takes in up to where the session was seen, and whether it began anew.
    fn follow(&mut self) -> Vec<Show> {
        let WatchFrom::After(cursor) = self.watch.position() else { return Vec::new() };
        if self.memory.seen.replace(cursor).is_none_or(|before| before.epoch == cursor.epoch) {
            return Vec::new();
        }
        self.screen.tell("the session began anew: the agent has lost what was said before");
        for typed in std::mem::take(&mut self.memory.unanswered) {
            self.tally.unanswered += 1;
            self.screen.tell(&format!("{}: nobody can tell whether it was done", short(typed.message_id)));
        }
        self.seen.begin_anew()
    }

    fn show(&mut self, show: &[Show]) -> Result<(), Leave> {
        self.screen.show(show, |id| self.own.contains(id)).map_err(left_by)?;
        for show in show {
            match show {
                Show::End { ended: Ended::Lost, .. } => self.screen.tell("the rest of this answer is lost"),
                Show::Skipped(count) => self.screen.tell(&format!("{count} earlier messages are not kept any more")),
                Show::Said { id, .. } => _ = self.own.remove(id),
                Show::Text(_) | Show::End { .. } => {}
            }
        }
        self.settle()?;
        self.outbox.on_epoch(self.memory.seen.filter(|_| self.is_current).map(|seen| seen.epoch));
        self.save()
    }

    /// What was typed here was taken where the session tells of it, whatever comes back for it.
    fn settle(&mut self) -> Result<(), Leave> {
        let is_taken = |typed: &&Typed| self.seen.answer_to(typed.message_id).is_some();
        let taken: Vec<_> = self.memory.unsettled.iter().filter(is_taken).map(|typed| typed.message_id).collect();
        self.await_answers();
        taken.into_iter().try_for_each(|id| self.on_outcome(id, Outcome::Delivered))
    }

    /// What was taken is answered once its answer has ended.
    fn await_answers(&mut self) {
        let Self { seen, memory, .. } = self;
        memory.unanswered.retain(|typed| seen.awaits_answer_to(typed.message_id));
    }

    /// Of what was taken, some is not kept any more: its answer is told of no more.
    fn look_for_missed(&mut self) {
        let is_untold = |typed: &&Typed| self.seen.answer_to(typed.message_id).is_none();
        self.missed = self.memory.unanswered.iter().filter(is_untold).map(|typed| typed.message_id).collect();
    }

    /// What is not told of by now is not waited for: that would be for ever.
    fn give_missed_up(&mut self) {
        let missed = std::mem::take(&mut self.missed);
        let is_gone = |id: MessageId| missed.contains(&id) && self.seen.answer_to(id).is_none();
        let unanswered = std::mem::take(&mut self.memory.unanswered).into_iter();
        let (gone, awaited): (Vec<_>, Vec<_>) = unanswered.partition(|typed| is_gone(typed.message_id));
        self.memory.unanswered = awaited;
        for Typed { message_id, .. } in gone {
            self.tally.unanswered += 1;
            self.screen.tell(&format!("{}: its answer is not kept any more", short(message_id)));
        }
    }

    fn on_line(&mut self, line: &str) -> Result<(), Leave> {
        let input = match Input::parse(line) {
            Ok(input) => input,
            Err(mistyped) => {
                self.screen.tell(&mistyped.to_string());
                return Ok(());
            }
        };
        match input {
            Input::Nothing => {}
            Input::Say(message) => {
                let message_id = self.ids.mint();
                self.send(Typed { message_id, message, sent: None });
                return self.save();
            }
            Input::Allow(named) => self.answer(named.as_deref(), Choice::Allow { updated_input: None }),
            Input::Edit(named, input) => {
                self.answer(named.as_deref(), Choice::Allow { updated_input: Some(input) });
            }
            Input::Deny(named) => self.answer(named.as_deref(), Choice::Deny),
            Input::Dialogs => {
                let open = Questions::list(&self.watch);
                self.screen.tell(&if open.is_empty() { "no question is open".to_owned() } else { open.join("\n") });
            }
            Input::Retry(named) => return self.retry(&named),
            Input::Detach if self.path.is_none() => {
                self.screen.tell("nothing would be kept to come back with: start with --state FILE, or /quit");
            }
            Input::Detach => return Err(Leave::Detach),
            Input::Quit => return Err(Leave::Quit),
            Input::Help => self.screen.tell(input::HELP),
        }
        Ok(())
    }

    fn send(&mut self, typed: Typed) {
        let (id, session) = (typed.message_id, self.watch.session());
        if self.memory.unsettled.len() < MAX_UNSETTLED {
            self.outbox.send(typed.clone());
            self.seen.views.handle_accepted(id, session, self.runtime.now());
            if let Some(SendError { problem, .. }) = self.seen.views.error_of(id) {
                self.screen.tell(&format!("{}: {problem}", short(id)));
            }
            self.own.insert(request(id));
            self.memory.unsettled.push(typed);
        } else {
            self.seen.views.handle_refused(session);
            self.tally.failed += 1;
            self.screen.tell(&format!("not delivered: too many messages wait: {}", beginning(&typed.message)));
        }
    }

    /// Sends the message of this name again, or the only one whose name ends so.
    fn retry(&mut self, named: &str) -> Result<(), Leave> {
        let names: Vec<_> = self.failed.iter().map(|typed| short(typed.message_id)).collect();
        let exact = names.iter().position(|name| name == named);
        let meant: Vec<_> = (0..).zip(&names).filter(|(_, name)| name.ends_with(named)).collect();
        let at = match (exact, meant.as_slice()) {
            (Some(at), _) | (None, &[(at, _)]) => Some(at),
            (None, _) => None,
        };
        if let Some(typed) = at.and_then(|at| self.failed.remove(at)) {
            self.send(typed);
            return self.save();
        }
        let several: Vec<_> = meant.into_iter().map(|(_, name)| name.as_str()).collect();
        self.screen.tell(&if several.is_empty() {
            format!("no message that can be sent again is called {named}")
        } else {
            format!("which? {}", several.join(", "))
        });
        Ok(())
    }

    fn answer(&mut self, named: Option<&str>, choice: Choice) {
        if let Err(unanswerable) = self.questions.answer(&mut self.watch, named, choice) {
            self.screen.tell(&unanswerable.to_string());
        }
    }

    fn on_outcome(&mut self, message_id: MessageId, outcome: Outcome) -> Result<(), Leave> {
        self.heard = Instant::now();
        let Some(at) = self.memory.unsettled.iter().position(|typed| typed.message_id == message_id) else {
            return Ok(());
        };
        let typed = self.memory.unsettled.remove(at);
        // One that fails may be told of by nobody.
        if outcome != Outcome::Delivered {
            self.own.remove(&request(message_id));
        }
        let id = short(message_id);
        let why = match &outcome {
            Outcome::Delivered => {
                self.tally.delivered += 1;
                self.screen.tell(&format!("{id}: delivered"));
                self.seen.views.handle_delivered(message_id);
                self.memory.unanswered.push(typed);
                self.await_answers();
                return self.save();
            }
            Outcome::Rejected { reason, .. } => format!("not delivered: {reason}"),
            Outcome::NotDelivered { .. } | Outcome::Unknown { .. } => outcome.to_string(),
        };
        let is_unknown = matches!(outcome, Outcome::Unknown { .. });
        *(if is_unknown { &mut self.tally.unknown } else { &mut self.tally.failed }) += 1;
        // Whoever leaves types nothing more.
        let again = if self.outbox.is_open() { format!(" (/retry {id} sends it again)") } else { String::new() };
        self.screen.tell(&format!("{id}: {why}: {}{again}", beginning(&typed.message)));
        let failure = Failure::ForGood(outcome);
        self.seen.views.handle_send_failed(&SendFailed { id: message_id, failure });
        // Whoever sends one again of which nobody can tell knows that it may be done twice.
        if self.failed.len() >= MAX_FAILED {
            self.failed.pop_front();
        }
        self.failed.push_back(Typed { sent: None, ..typed });
        self.save()
    }

    /// Says how things stand.
    fn stand(&mut self, state: &ConnectionState) {
        let Some(line) = dial::standing(state) else { return };
        // When the next try is due changes all the time.
        let kind = match state {
            ConnectionState::Detached { attempt, .. } => format!("detached {attempt}"),
            ConnectionState::Connecting { .. } | ConnectionState::Attached | _ => line.clone(),
        };
        let is_attached = *state == ConnectionState::Attached;
        self.is_current &= is_attached;
        let (views, session) = (&mut self.seen.views, self.watch.session());
        if is_attached {
            // What the session goes on from is told by the session: it outlives the connection, and the other way round.
            views.handle_attached(true);
        } else {
            views.handle_detached();
        }
        views.sync_dialogs(session, self.watch.dialogs());
        views.handle_timeout(self.runtime.now());
        let latency = self.client.latency().filter(|_| is_attached);
        let details = screen::details(&views.view(session), latency, self.memory.unsettled.len());
        self.screen.stand(&kind, &line, &details);
    }

    fn save(&mut self) -> Result<(), Leave> {
        let Some(path) = &self.path else { return Ok(()) };
        // They are sent one after the other: only the first of them may have been taken.
        let seen = self.memory.seen;
        if let Some(first) = self.memory.unsettled.first_mut() {
            first.sent = first.sent.or(seen);
        }
        self.memory.shown = self.seen.shown();
        self.memory.save(path).map_err(|error| {
            let problem = format!("--state {}: {error}", path.display());
            Leave::Failed(Failed::Io(io::Error::new(error.kind(), problem)))
        })
    }

    async fn leave(mut self, leave: Leave) -> Result<Left, Failed> {
        let is_interrupted = matches!(leave, Leave::Interrupted);
        let failed = match leave {
            Leave::Detach => return self.detach(false).await,
            // What can be come back to is not thrown away.
            Leave::Interrupted if self.path.is_some() => return self.detach(true).await,
            Leave::Quit | Leave::Interrupted => None,
            Leave::Failed(failed) => Some(failed),
        };
        // What is on its way has its end by then, or never.
        self.client.close(FAREWELL).await;
        self.outbox.end();
        let mut problem = None;
        while let Some((message_id, outcome)) = self.outbox.next().await {
            if let Err(Leave::Failed(failed)) = self.on_outcome(message_id, outcome) {
                problem = Some(failed);
            }
        }
        self.tally.unanswered += self.memory.unanswered.len() as u64;
        if let Some(failed) = problem {
            self.screen.tell(&failed.to_string());
        }
        match failed {
            None => Ok(self.left(is_interrupted)),
            Some(failed) => {
                self.screen.tell(&self.tally.to_string());
                Err(failed)
            }
        }
    }

    /// Leaves the connection as it is, for the next run to come back to.
    async fn detach(mut self, is_interrupted: bool) -> Result<Left, Failed> {
        if let Err(Leave::Failed(failed)) = self.save() {
            return Err(failed);
        }
        self.outbox.stop();
        self.tally.kept = (self.memory.unsettled.len() + self.memory.unanswered.len()) as u64;
        // The server keeps the connection for longer when it is told; where it cannot be told, it keeps it for its usual time.
        if self.client.suspend().is_ok() {
            self.client.disconnect();
        }
        self.client.closed().await;
        Ok(self.left(is_interrupted))
    }

    fn left(&self, is_interrupted: bool) -> Left {
        Left { tally: self.tally, is_interrupted }
    }
}

/// Why a conversation is left when nothing more is typed.
fn end_of_input(misread: Option<String>) -> Leave {
    misread.map_or(Leave::Quit, |problem| Leave::Failed(Failed::Line(problem)))
}

/// Whether nothing more comes of a connection by itself.
const fn is_over(state: &ConnectionState) -> bool {
    matches!(state, ConnectionState::Failed(_) | ConnectionState::Superseded | ConnectionState::Closed(_))
}

/// A message's name as it is told: the end of it, which differs from one to the next.
fn short(message_id: MessageId) -> String {
    message_id.to_string().split_off(32)
}

/// How a message begins.
fn beginning(message: &str) -> String {
    let end = message.char_indices().nth(BEGINNING).map(|(at, _)| at);
    end.map_or_else(|| message.to_owned(), |end| format!("{}...", &message[..end]))
}

/// Whoever does not read any more has read enough.
fn left_by(error: io::Error) -> Leave {
    if error.kind() == io::ErrorKind::BrokenPipe { Leave::Quit } else { Leave::Failed(Failed::Io(error)) }
}
