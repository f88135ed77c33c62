//! The answers: one after the other, in pieces, with a question to the people before anything is changed.

use std::sync::Arc;
use std::time::Duration;

use reattach_tokio::core::messages::EnvelopeId;
use reattach_tokio::core::messages::PermissionId;
use reattach_tokio::core::messages::PermissionRequest;
use reattach_tokio::core::messages::StreamEnd;
use reattach_tokio::core::permission::DenyReason;
use reattach_tokio::core::permission::PermissionMisuse;
use reattach_tokio::core::permission::Verdict;
use reattach_tokio::core::wire::Payload;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::agent::conversation::Answer;
use crate::agent::conversation::Conversation;
use crate::agent::conversation::Waiting;
use crate::agent::conversation::now;
use crate::agent::script::HELP;
use crate::agent::script::Instruction;
use crate::agent::script::Misunderstood;
use crate::agent::work::Manner;
use crate::agent::work::WorkError;
use crate::agent::work::Workplace;

/// How many characters of an answer go out at once.
const PIECE: usize = 24;
/// How often the snapshot is renewed while nothing happens: before what came after it grows too old to be kept.
const RENEWED_EVERY: Duration = Duration::from_secs(600);

/// Who answers.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) conversation: Conversation,
    pub(super) workplace: Arc<Workplace>,
    /// What passes between two pieces of an answer.
    pub(super) pace: Duration,
    /// How long a permission is waited for.
    pub(super) patience: Duration,
}

/// With what a file would be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct WriteInput {
    path: String,
    text: String,
}

/// Why something was not done.
#[derive(Debug)]
enum NotDone {
    Misunderstood(Misunderstood),
    Work(WorkError),
    /// Nobody could be asked.
    NotAsked(PermissionMisuse),
    /// It was not allowed.
    Denied {
        tool: &'static str,
        why: DenyReason,
    },
    /// What was allowed instead of what was asked for makes no sense.
    Input {
        problem: String,
    },
    /// The work broke.
    Broke,
}

impl Answering {
    /// Answers what waits until it is told to stop, or nothing more can come. What is not answered then is ended as a failure.
    pub(super) async fn run(self, mut waiting: mpsc::Receiver<Waiting>, mut is_stopped: watch::Receiver<bool>) {
        loop {
            let next = tokio::select! {
                _ = is_stopped.wait_for(|is_stopped| *is_stopped) => break,
                next = waiting.recv() => next,
                () = tokio::time::sleep(RENEWED_EVERY) => {
                    self.conversation.renew();
                    continue;
                }
            };
            let Some(Waiting { id, message }) = next else { return };
            let answer = self.conversation.begin(id.clone());
            tokio::select! {
                _ = is_stopped.wait_for(|is_stopped| *is_stopped) => break,
                () = self.answer(answer, &id, &message) => {}
            }
        }
        waiting.close();
        while let Ok(Waiting { id, .. }) = waiting.try_recv() {
            drop(self.conversation.begin(id));
        }
    }

    async fn answer(&self, answer: Answer, request: &EnvelopeId, message: &str) {
        let result = self.perform(&answer, request, message).await;
        answer.end(match result {
            Ok(()) => StreamEnd::Complete,
            Err(not_done) => StreamEnd::Failed { error: not_done.to_string() },
        });
    }

    async fn perform(&self, answer: &Answer, request: &EnvelopeId, message: &str) -> Result<(), NotDone> {
        match Instruction::parse(message).map_err(NotDone::Misunderstood)? {
            Instruction::Read { path } => {
                let text = self.work(move |workplace| workplace.read(&path)).await?;
                self.say(answer, &text).await;
            }
            Instruction::Count { path } => {
                let name = path.clone();
                let counted = self.work(move |workplace| workplace.count(&path)).await?;
                let (words, lines, bytes) = (counted.words, counted.lines, counted.bytes);
                self.say(answer, &format!("{name}: {words} words, {lines} lines, {bytes} bytes\n")).await;
            }
            Instruction::List => {
                let (names, more) = self.work(Workplace::list).await?;
                let mut text: String = names.iter().flat_map(|name| [name.as_str(), "\n"]).collect();
                if more > 0 {
                    text.push_str(&format!("and {more} more\n"));
                }
                self.say(answer, if text.is_empty() { "nothing\n" } else { &text }).await;
            }
            Instruction::Help => self.say(answer, HELP).await,
            Instruction::Write { path, text } => {
                self.write(answer, request, WriteInput { path, text }, Manner::Replace).await?;
            }
            Instruction::Append { path, text } => {
                self.write(answer, request, WriteInput { path, text }, Manner::Append).await?;
            }
        }
        Ok(())
    }

    /// Asks, and writes what was allowed.
    async fn write(
        &self,
        answer: &Answer,
        said: &EnvelopeId,
        asked: WriteInput,
        manner: Manner,
    ) -> Result<(), NotDone> {
        let (tool, verb) = match manner {
            Manner::Replace => ("write_file", "write"),
            Manner::Append => ("append_file", "add to"),
        };
        self.say(answer, &format!("May I {verb} {}? ", asked.path)).await;
        let input = Payload::new(&asked).expect("two strings are JSON");
        let request = PermissionRequest {
            id: self.question(answer),
            tool_name: tool.to_owned(),
            input,
            context: Payload::new(&serde_json::json!({ "messageId": said.as_str() })).expect("an object is JSON"),
            timestamp: now().to_string(),
            remaining: None,
        };
        let asking = self.conversation.session().ask_within(request, self.patience).map_err(NotDone::NotAsked)?;
        let (input, by) = match asking.await {
            Verdict::Allow { input, by } => (input, by),
            Verdict::Deny(why) => return Err(NotDone::Denied { tool, why }),
        };
        let allowed: WriteInput = input.parse().map_err(|error| NotDone::Input { problem: error.to_string() })?;
        let otherwise = if allowed == asked { "" } else { ", otherwise than asked" };
        let path = allowed.path.clone();
        let bytes = self.work(move |workplace| workplace.write(&allowed.path, &allowed.text, manner)).await?;
        self.say(answer, &format!("Wrote {bytes} bytes to {path}: {by} has allowed it{otherwise}.\n")).await;
        Ok(())
    }

    /// A name that no question had before, in this life of the session or another: an answer never meets another question.
    fn question(&self, answer: &Answer) -> PermissionId {
        let life = self.conversation.session().end().map(|end| end.epoch.to_string()).unwrap_or_default();
        PermissionId::new(&format!("q{}-{}", answer.number(), &life[..life.len().min(16)])).expect("it is short")
    }

    /// Says something, piece by piece.
    async fn say(&self, answer: &Answer, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.char_indices().nth(PIECE).map_or(rest.len(), |(at, _)| at);
            let (piece, behind) = rest.split_at(end);
            answer.say(piece);
            rest = behind;
            tokio::time::sleep(self.pace).await;
        }
    }

    /// Does something that may take the disk a while.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Workplace) -> Result<T, WorkError> + Send + 'static,
    ) -> Result<T, NotDone> {
        let workplace = Arc::clone(&self.workplace);
        let done = tokio::task::spawn_blocking(move || work(&workplace)).await;
        done.map_err(|_| NotDone::Broke)?.map_err(NotDone::Work)
    }
}

impl std::fmt::Display for NotDone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Misunderstood(problem) => write!(f, "{problem}"),
            Self::Work(error) => write!(f, "{error}"),
            Self::NotAsked(misuse) => write!(f, "nobody could be asked: {misuse}"),
            Self::Denied { tool, why: DenyReason::Denied { by } } => write!(f, "{by} has denied {tool}"),
            Self::Denied { tool, why: DenyReason::TimedOut } => write!(f, "nobody has allowed {tool} in time"),
            Self::Denied { tool, why: DenyReason::Cancelled } => write!(f, "{tool} was called off"),
            Self::Denied { tool, why } => write!(f, "{tool} was denied: {why:?}"),
            Self::Input { problem } => write!(f, "what was allowed instead makes no sense: {problem}"),
            Self::Broke => f.write_str("the agent broke while it worked"),
        }
    }
}

impl std::error::Error for NotDone {}
