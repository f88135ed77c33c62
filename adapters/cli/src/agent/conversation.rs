//! The agent's side of a session: what was said waits to be answered, in order, and everything that happens is told to who watches.
//!
//! What is published and the transcript change together, under one lock, so that a snapshot says just what the events before it
//! amount to.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use reattach_tokio::Session;
use reattach_tokio::core::rpc::ErrorObject;
use reattach_tokio::core::session::SessionMisuse;
use reattach_tokio::core::wire::Payload;
use tokio::sync::mpsc;

use crate::connect::tell;
use crate::messages::ANOTHER_LIFE;
use crate::messages::BUSY;
use crate::messages::ChatEvent;
use crate::messages::ChatRequest;
use crate::messages::ChatStream;
use crate::messages::MessageStart;
use crate::messages::Said;
use crate::messages::Send;
use crate::messages::Sent;
use crate::messages::Transcript;

/// The longest message, in bytes: more than any instruction needs.
const MAX_MESSAGE: usize = 96 * 1024;
/// The longest name of a message, in bytes.
const MAX_ID: usize = 128;
/// How many names of messages are remembered. Who sends one again does so within minutes.
const REMEMBERED: usize = 10_000;
/// The most bytes of a snapshot, a good deal less than a session takes.
const MAX_SNAPSHOT: usize = 450 * 1024;
/// After how many events of an answer the snapshot is renewed, so that the log always reaches back to one.
const RENEWED_AFTER: u64 = 100;

/// A conversation. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Conversation(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    session: Session,
    waiting: mpsc::Sender<Waiting>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    transcript: VecDeque<Said>,
    /// The last number that was given.
    last: u64,
    known: BTreeSet<String>,
    /// The same, the oldest first.
    known_in_order: VecDeque<String>,
    /// How much was published since the snapshot.
    published: u64,
}

/// Something that was said and is not answered yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) message_id: String,
    pub(super) message: String,
}

/// An answer that has begun. It ends once: dropped before, as a failure.
#[derive(Debug)]
pub(super) struct Answer {
    conversation: Conversation,
    message_id: String,
    number: u64,
    has_ended: bool,
}

impl Conversation {
    /// A conversation in a session, and what waits to be answered, at most so much.
    pub(super) fn new(session: Session, limit: usize) -> (Self, mpsc::Receiver<Waiting>) {
        let (waiting, to_answer) = mpsc::channel(limit);
        let conversation = Self(Arc::new(Shared { session, waiting, state: Mutex::default() }));
        // Who was here in an earlier life of the session is told that nothing of it is left.
        conversation.renew();
        (conversation, to_answer)
    }

    /// The session.
    pub(super) fn session(&self) -> &Session {
        &self.0.session
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes something that a client says. It is told to everybody, and waits to be answered.
    pub(super) fn accept(&self, send: Send) -> Result<Sent, ErrorObject> {
        let Send { message, message_id, epoch } = send;
        if message.trim().is_empty() || message.len() > MAX_MESSAGE {
            return Err(invalid(format!("a message has 1 to {MAX_MESSAGE} bytes, and not only spaces")));
        }
        if message_id.is_empty() || message_id.len() > MAX_ID {
            return Err(invalid(format!("a messageId has 1 to {MAX_ID} bytes")));
        }
        let life = self.0.session.end().map(|end| end.epoch.to_string());
        if epoch.is_some_and(|epoch| Some(epoch) != life) {
            return Err(ErrorObject::new(ANOTHER_LIFE, "the session began anew meanwhile"));
        }
        let mut state = self.lock();
        if state.known.contains(&message_id) {
            return Ok(Sent { accepted: true });
        }
        let Ok(place) = self.0.waiting.try_reserve() else {
            let limit = self.0.waiting.max_capacity();
            return Err(ErrorObject::new(
                BUSY,
                format!("{limit} messages wait, which is as many as may; try again later"),
            ));
        };
        let number = state.last + 1;
        let said = Said {
            number,
            message_id: message_id.clone(),
            is_answer: false,
            text: message.clone(),
            is_complete: true,
            error: None,
        };
        let event = ChatEvent::ChatRequest(ChatRequest {
            session_id: self.0.session.id().to_string(),
            message_id: message_id.clone(),
            number,
            message: message.clone(),
        });
        if let Err(misuse) = self.publish(&mut state, &event) {
            return Err(ErrorObject::new(ErrorObject::INTERNAL_ERROR, misuse.to_string()));
        }
        state.last = number;
        state.transcript.push_back(said);
        state.remember(message_id.clone());
        place.send(Waiting { message_id, message });
        Ok(Sent { accepted: true })
    }

    /// Begins the answer to something.
    pub(super) fn begin(&self, message_id: String) -> Answer {
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        state.transcript.push_back(Said {
            number,
            message_id: message_id.clone(),
            is_answer: true,
            text: String::new(),
            is_complete: false,
            error: None,
        });
        let session_id = self.0.session.id().to_string();
        let start = MessageStart { session_id, message_id: message_id.clone(), number };
        self.tell(&mut state, &ChatEvent::MessageStart(start));
        Answer { conversation: self.clone(), message_id, number, has_ended: false }
    }

    /// Says anew what everything up to now amounts to.
    pub(super) fn renew(&self) {
        self.renew_under_lock(&mut self.lock());
    }

    fn renew_under_lock(&self, state: &mut State) {
        state.published = 0;
        let snapshot = state.snapshot();
        if let Err(misuse) = self.0.session.set_snapshot(snapshot) {
            tell(&format!("no snapshot: {misuse}"));
        }
    }

    fn publish(&self, state: &mut State, event: &ChatEvent) -> Result<(), SessionMisuse> {
        let event = Payload::new(event).expect("an event is JSON");
        self.0.session.publish(&event)?;
        state.published += 1;
        Ok(())
    }

    /// Publishes what is too small to be refused.
    fn tell(&self, state: &mut State, event: &ChatEvent) {
        if let Err(misuse) = self.publish(state, event) {
            tell(&format!("nobody was told of an event: {misuse}"));
        }
    }
}

impl State {
    fn of(&mut self, number: u64) -> Option<&mut Said> {
        self.transcript.iter_mut().rev().find(|said| said.number == number)
    }

    fn remember(&mut self, message_id: String) {
        self.known.insert(message_id.clone());
        self.known_in_order.push_back(message_id);
        if self.known_in_order.len() > REMEMBERED {
            if let Some(oldest) = self.known_in_order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    /// What everything up to now amounts to. What is too much goes for good, the oldest first.
    fn snapshot(&mut self) -> Payload {
        loop {
            let transcript = Transcript { messages: self.transcript.iter().cloned().collect() };
            let snapshot = Payload::new(&transcript).expect("a transcript is JSON");
            if snapshot.len() <= MAX_SNAPSHOT || self.transcript.len() <= 1 {
                return snapshot;
            }
            self.transcript.pop_front();
        }
    }
}

impl Answer {
    /// Its number.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Says more.
    pub(super) fn say(&self, delta: &str) {
        let mut state = self.conversation.lock();
        if let Some(said) = state.of(self.number) {
            said.text.push_str(delta);
        }
        self.stream(&mut state, delta, false, None);
        if state.published >= RENEWED_AFTER {
            self.conversation.renew_under_lock(&mut state);
        }
    }

    /// Ends it: completely, or with why it could not be completed.
    pub(super) fn end(mut self, result: Result<(), String>) {
        self.has_ended = true;
        self.close(result.err());
    }

    fn close(&self, error: Option<String>) {
        let mut state = self.conversation.lock();
        if let Some(said) = state.of(self.number) {
            said.is_complete = true;
            said.error.clone_from(&error);
        }
        self.stream(&mut state, "", true, error);
        self.conversation.renew_under_lock(&mut state);
    }

    fn stream(&self, state: &mut State, delta: &str, is_complete: bool, error: Option<String>) {
        let stream = ChatStream {
            session_id: self.conversation.0.session.id().to_string(),
            message_id: self.message_id.clone(),
            number: self.number,
            delta: delta.to_owned(),
            is_complete,
            error,
        };
        self.conversation.tell(state, &ChatEvent::ChatStream(stream));
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.has_ended {
            self.close(Some("the agent was stopped before it was done".to_owned()));
        }
    }
}

fn invalid(problem: String) -> ErrorObject {
    ErrorObject::new(ErrorObject::INVALID_PARAMS, problem)
}
