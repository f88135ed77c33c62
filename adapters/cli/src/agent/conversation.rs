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
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use reattach_tokio::Session;
use reattach_tokio::core::chat::StreamKey;
use reattach_tokio::core::chat::StreamWriter;
use reattach_tokio::core::id::MessageIds;
use reattach_tokio::core::messages::ChatMessage;
use reattach_tokio::core::messages::ChatRequest;
use reattach_tokio::core::messages::ChatStream;
use reattach_tokio::core::messages::Envelope;
use reattach_tokio::core::messages::EnvelopeId;
use reattach_tokio::core::messages::StreamEnd;
use reattach_tokio::core::messages::Timestamp;
use reattach_tokio::core::rpc::ErrorObject;
use reattach_tokio::core::session::SessionMisuse;
use reattach_tokio::core::wire::Payload;
use tokio::sync::mpsc;

use crate::connect::tell;
use crate::messages::ANOTHER_LIFE;
use crate::messages::BUSY;
use crate::messages::Send;
use crate::messages::Sent;
use crate::messages::Transcript;
use crate::messages::Written;

/// The longest message, in bytes: more than any instruction needs.
const MAX_MESSAGE: usize = 96 * 1024;
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

#[derive(Debug)]
struct State {
    transcript: VecDeque<Entry>,
    /// The number of the last of them.
    last: u64,
    known: BTreeSet<EnvelopeId>,
    /// The same, the oldest first.
    known_in_order: VecDeque<EnvelopeId>,
    /// How much was published since the snapshot.
    published: u64,
    ids: MessageIds,
}

/// What was said, or all of an answer so far.
#[derive(Clone, Debug)]
struct Entry {
    id: EnvelopeId,
    at: Timestamp,
    message: ChatMessage,
}

/// Something that was said and is not answered yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: EnvelopeId,
    pub(super) message: String,
}

/// An answer that has begun. Dropped before its end, it ends as interrupted.
#[derive(Debug)]
pub(super) struct Answer {
    conversation: Conversation,
    number: u64,
    writer: StreamWriter,
}

impl Conversation {
    /// A conversation in a session, and what waits to be answered, at most so much.
    pub(super) fn new(session: Session, limit: usize) -> (Self, mpsc::Receiver<Waiting>) {
        let (waiting, to_answer) = mpsc::channel(limit);
        let state = Mutex::new(State {
            transcript: VecDeque::new(),
            last: 0,
            known: BTreeSet::new(),
            known_in_order: VecDeque::new(),
            published: 0,
            ids: MessageIds::new(reattach_tokio::connection_key().as_bytes()),
        });
        let conversation = Self(Arc::new(Shared { session, waiting, state }));
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
        let Send { message, message_id: id, epoch } = send;
        if message.trim().is_empty() || message.len() > MAX_MESSAGE {
            let problem = format!("a message has 1 to {MAX_MESSAGE} bytes, and not only spaces");
            return Err(ErrorObject::new(ErrorObject::INVALID_PARAMS, problem));
        }
        let life = self.0.session.end().map(|end| end.epoch);
        if epoch.is_some_and(|epoch| Some(epoch) != life) {
            return Err(ErrorObject::new(ANOTHER_LIFE, "the session began anew meanwhile"));
        }
        let mut state = self.lock();
        if state.known.contains(&id) {
            return Ok(Sent { accepted: true });
        }
        let Ok(place) = self.0.waiting.try_reserve() else {
            let limit = self.0.waiting.max_capacity();
            return Err(ErrorObject::new(
                BUSY,
                format!("{limit} messages wait, which is as many as may; try again later"),
            ));
        };
        let session_id = self.0.session.id().clone();
        let request = ChatMessage::Request(ChatRequest { session_id, message: message.clone(), model: None });
        let entry = Entry { id: id.clone(), at: now(), message: request };
        if let Err(misuse) = self.publish(&mut state, &entry) {
            return Err(ErrorObject::new(ErrorObject::INTERNAL_ERROR, misuse.to_string()));
        }
        state.push(entry);
        state.remember(id.clone());
        place.send(Waiting { id, message });
        Ok(Sent { accepted: true })
    }

    /// Begins the answer to something.
    pub(super) fn begin(&self, request: EnvelopeId) -> Answer {
        let key = StreamKey { session: self.0.session.id().clone(), in_reply_to: Some(request) };
        let mut answer = Answer { conversation: self.clone(), number: 0, writer: StreamWriter::new(key) };
        let mut state = self.lock();
        let entry = state.entry(answer.piece(""));
        self.tell(&mut state, &entry);
        answer.number = state.push(entry);
        drop(state);
        answer
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

    fn publish(&self, state: &mut State, entry: &Entry) -> Result<(), SessionMisuse> {
        self.0.session.publish(&entry.envelope().write().expect("it holds nothing but texts"))?;
        state.published += 1;
        Ok(())
    }

    /// Publishes what is too small to be refused.
    fn tell(&self, state: &mut State, entry: &Entry) {
        if let Err(misuse) = self.publish(state, entry) {
            tell(&format!("nobody was told of an event: {misuse}"));
        }
    }

    /// Says more of an answer, or its end.
    fn stream(&self, stream: ChatStream) {
        let mut state = self.lock();
        state.extend(&stream);
        let is_end = stream.end.is_some();
        let entry = state.entry(stream);
        self.tell(&mut state, &entry);
        if is_end || state.published >= RENEWED_AFTER {
            self.renew_under_lock(&mut state);
        }
    }
}

impl State {
    /// A piece of an answer, in an envelope of its own.
    fn entry(&mut self, stream: ChatStream) -> Entry {
        let id = EnvelopeId::new(&self.ids.mint().to_string()).expect("a UUID is short");
        Entry { id, at: now(), message: ChatMessage::Stream(stream) }
    }

    /// Returns its number.
    fn push(&mut self, entry: Entry) -> u64 {
        self.transcript.push_back(entry);
        self.last += 1;
        self.last
    }

    /// Adds to what is kept of an answer.
    fn extend(&mut self, more: &ChatStream) {
        let answers = self.transcript.iter_mut().rev().filter_map(Entry::answer);
        if let Some(answer) = answers.into_iter().find(|answer| answer.in_reply_to == more.in_reply_to) {
            answer.delta.push_str(&more.delta);
            answer.end.clone_from(&more.end);
        }
    }

    fn remember(&mut self, id: EnvelopeId) {
        self.known.insert(id.clone());
        self.known_in_order.push_back(id);
        if self.known_in_order.len() > REMEMBERED {
            if let Some(oldest) = self.known_in_order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    /// What everything up to now amounts to. What is too much goes for good, the oldest first.
    fn snapshot(&mut self) -> Payload {
        let snapshot = self.written();
        let mut over = snapshot.len().saturating_sub(MAX_SNAPSHOT);
        if over == 0 {
            return snapshot;
        }
        // Much may go at once: where everything were written for each that goes, everybody would wait for it.
        while over > 0 && self.transcript.len() > 1 {
            let gone = self.transcript.pop_front().map_or(0, |entry| entry.size());
            over = over.saturating_sub(gone);
        }
        self.written()
    }

    fn written(&self) -> Payload {
        let first = self.last + 1 - self.transcript.len() as u64;
        let messages = self.transcript.iter().map(|entry| Written(entry.envelope())).collect();
        Payload::new(&Transcript { first, messages }).expect("a transcript is JSON")
    }
}

impl Entry {
    /// How many bytes it takes up in a snapshot.
    fn size(&self) -> usize {
        self.envelope().write().map_or(0, |payload| payload.len() + 1)
    }

    fn envelope(&self) -> Envelope {
        Envelope::new(self.id.clone(), self.at.clone(), self.message.clone())
    }

    fn answer(&mut self) -> Option<&mut ChatStream> {
        if let ChatMessage::Stream(answer) = &mut self.message { Some(answer) } else { None }
    }
}

impl Answer {
    /// Its number.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Says more.
    pub(super) fn say(&self, delta: &str) {
        self.conversation.stream(self.piece(delta));
    }

    /// Ends it.
    pub(super) fn end(mut self, end: StreamEnd) {
        self.close(end);
    }

    fn piece(&self, delta: &str) -> ChatStream {
        self.writer.piece(delta).expect("it ends when it goes")
    }

    fn close(&mut self, end: StreamEnd) {
        if let Some(end) = self.writer.end(end) {
            self.conversation.stream(end);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.close(StreamEnd::Interrupted);
    }
}

/// The time by the calendar.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use reattach_tokio::core::id::SessionId;

    use super::*;

    fn said(number: u64, message: String) -> Entry {
        let session_id = SessionId::new("s").unwrap();
        let message = ChatMessage::Request(ChatRequest { session_id, message, model: None });
        Entry { id: EnvelopeId::new(&format!("m{number}")).unwrap(), at: Timestamp::from_unix_millis(0), message }
    }

    #[test]
    fn much_that_goes_at_once_costs_about_as_much_as_a_little() {
        let mut state = State {
            transcript: VecDeque::new(),
            last: 0,
            known: BTreeSet::new(),
            known_in_order: VecDeque::new(),
            published: 0,
            ids: MessageIds::new(&[1; 16]),
        };
        for number in 1..=2_000 {
            state.push(said(number, "short".to_owned()));
        }
        let begun = Instant::now();
        let whole = state.snapshot();
        let at_most = begun.elapsed() * 100;
        assert_eq!(whole.parse::<Transcript>().unwrap().first, 1);
        for number in 2_001..=2_006 {
            state.push(said(number, "x".repeat(MAX_MESSAGE)));
        }
        let begun = Instant::now();
        let snapshot = state.snapshot();
        let took = begun.elapsed();
        assert!(snapshot.len() <= MAX_SNAPSHOT, "{}", snapshot.len());
        let Transcript { first, messages } = snapshot.parse().unwrap();
        assert_eq!((first, messages.len()), (2_003, 4));
        assert!(took < at_most, "{took:?} for 2,002 that went, {at_most:?} at most");
    }
}
