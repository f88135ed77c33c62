//! The session as it is seen here: the core's view of it, and what of it was shown already, so that each character is shown once,
//! whether it came as a piece of an answer or in a snapshot, before a cut or after it, in this run of the client or in the one before.
//!
//! One answer is shown at a time, as it comes. What begins meanwhile is shown behind it.

use std::collections::VecDeque;

use reattach_tokio::core::chat::Ended;
use reattach_tokio::core::chat::Received;
use reattach_tokio::core::chat::Stream;
use reattach_tokio::core::chat::StreamKey;
use reattach_tokio::core::id::MessageId;
use reattach_tokio::core::id::SessionId;
use reattach_tokio::core::messages::ChatMessage;
use reattach_tokio::core::messages::ChatRequest;
use reattach_tokio::core::messages::ChatStream;
use reattach_tokio::core::messages::Envelope;
use reattach_tokio::core::messages::EnvelopeId;
use reattach_tokio::core::messages::StreamEnd;
use reattach_tokio::core::time::Instant;
use reattach_tokio::core::view::SessionViews;
use reattach_tokio::core::view::ViewConfig;
use reattach_tokio::core::wire::Payload;
use serde::Deserialize;
use serde::Serialize;

use crate::messages::Transcript;
use crate::messages::Written;

/// How many answers may be waited for: as many as an agent lets wait, and what is shown.
const MAX_WAITING: usize = 1_024;

/// A session and what was shown of it.
#[derive(Debug)]
pub(super) struct Seen {
    session: SessionId,
    pub(super) views: SessionViews,
    shown: Shown,
    /// How much of the first answer was shown of what the view has of it: that begins where this run of the client did.
    viewed: usize,
}

/// What was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    /// The number of the last message that has come.
    last: u64,
    /// What is not shown to its end: an answer that is shown as it comes, and what began meanwhile. Kept with what is to be shown.
    queue: VecDeque<Written>,
    /// How many bytes of the first answer were shown.
    bytes: usize,
    /// Whether these end in the middle of a line.
    is_in_line: bool,
}

/// Something to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// Somebody has said something.
    Said {
        /// What it is called.
        id: EnvelopeId,
        /// What was said.
        message: String,
    },
    /// The answer goes on.
    Text(String),
    /// It ends.
    End {
        /// Whether its line is still open.
        is_in_line: bool,
        /// How.
        ended: Ended,
    },
    /// So many messages are not kept any more.
    Skipped(u64),
}

impl Seen {
    /// Goes on from what was shown before.
    pub(super) fn new(session: SessionId, shown: Shown, now: Instant) -> Self {
        let mut config = ViewConfig::default();
        config.chat.max_streams = MAX_WAITING;
        let views = SessionViews::new(config, now);
        let mut seen = Self { session, views, shown, viewed: 0 };
        for Written(envelope) in seen.shown.queue.clone() {
            seen.catch_up(&envelope, 0, now);
        }
        seen
    }

    /// What was shown, to be kept.
    pub(super) fn shown(&self) -> Shown {
        let mut shown = self.shown.clone();
        let mut viewed = self.viewed;
        for Written(envelope) in &mut shown.queue {
            let (Some(id), Some(at)) = (envelope.id(), envelope.timestamp()) else { continue };
            let ChatMessage::Stream(stream) = envelope.message() else { continue };
            let Some(come) = self.views.streams().get(&StreamKey::of(stream)) else { continue };
            let delta = come.text().get(std::mem::take(&mut viewed)..).unwrap_or_default().to_owned();
            let end =
                come.end().map(|end| if let Ended::Told(end) = end { end.clone() } else { StreamEnd::Interrupted });
            let stream = ChatStream { delta, end, ..stream.clone() };
            *envelope = Envelope::new(id.clone(), at.clone(), ChatMessage::Stream(stream));
        }
        shown
    }

    /// Whether an answer is under way.
    pub(super) fn is_answering(&self) -> bool {
        !self.shown.queue.is_empty()
    }

    /// The answer to a message, as far as it has come, once the session has told of the message.
    pub(super) fn answer_to(&self, message: MessageId) -> Option<&Stream> {
        self.views.streams().get(&self.key(&request(message)))
    }

    /// Whether the answer to a message that was taken is still to be heard to its end. The session may not have told of it yet.
    pub(super) fn awaits_answer_to(&self, message: MessageId) -> bool {
        self.answer_to(message).is_none_or(|answer| answer.end().is_none())
    }

    /// Takes in an event. A later version may say more than this one knows.
    pub(super) fn on_event(&mut self, event: &Payload, now: Instant) -> Vec<Show> {
        let Ok(envelope) = Envelope::read(event) else { return Vec::new() };
        let stream = if let ChatMessage::Stream(stream) = envelope.message() { Some(stream) } else { None };
        let goes_on = |stream: &&ChatStream| {
            let is_begun = |begun: &Written| answered(&begun.0) == stream.in_reply_to.as_ref();
            !stream.delta.is_empty() || stream.end.is_some() || self.shown.queue.iter().any(is_begun)
        };
        if let Some(stream) = stream.filter(goes_on) {
            // What began unheard is not known here, and changes nothing.
            _ = self.views.handle_stream(stream, now);
        } else if self.catch_up(&envelope, 0, now) {
            self.shown.last = self.shown.last.saturating_add(1);
            self.shown.queue.push_back(Written(envelope));
        }
        self.show()
    }

    /// Takes in what everything up to some place amounts to. What is not there any more is not heard to its end.
    pub(super) fn on_snapshot(&mut self, transcript: Transcript, now: Instant) -> Vec<Show> {
        let Transcript { first, messages } = transcript;
        let skipped = first.saturating_sub(self.shown.last.saturating_add(1));
        let open = self.shown.queue.front().and_then(|Written(open)| answered(open).cloned());
        self.forget();
        for (behind, Written(envelope)) in (0..).zip(messages) {
            let number = first.saturating_add(behind);
            let is_open = open.is_some() && answered(&envelope) == open.as_ref();
            self.catch_up(&envelope, if is_open { self.shown.bytes } else { 0 }, now);
            if number > self.shown.last {
                self.shown.last = number;
                self.shown.queue.push_back(Written(envelope));
            }
        }
        let mut show = self.show();
        if skipped > 0 {
            show.insert(0, Show::Skipped(skipped));
        }
        show
    }

    /// Some of what happened is lost: of the answers that are under way as well, as far as anybody can tell.
    pub(super) fn on_missed(&mut self) -> Vec<Show> {
        self.forget();
        self.show()
    }

    /// The session began anew: nothing of what was seen goes on.
    pub(super) fn begin_anew(&mut self) -> Vec<Show> {
        self.shown.last = 0;
        self.on_missed()
    }

    /// Takes in a message with all that has come of it; of an answer, what is behind so many bytes. Whether it is one to be shown.
    fn catch_up(&mut self, envelope: &Envelope, bytes: usize, now: Instant) -> bool {
        if let (ChatMessage::Request(_), Some(id)) = (envelope.message(), envelope.id()) {
            self.expect(id);
            return true;
        }
        let (ChatMessage::Stream(stream), Some(request)) = (envelope.message(), answered(envelope)) else {
            return false;
        };
        let Some(rest) = stream.delta.get(bytes..) else { return false };
        self.expect(request);
        let rest = ChatStream { delta: rest.to_owned(), ..stream.clone() };
        matches!(self.views.handle_stream(&rest, now), Received::Added | Received::Ended)
    }

    /// An answer is to come. Where that is known, or it has come, nothing changes.
    fn expect(&mut self, request: &EnvelopeId) {
        _ = self.views.expect_reply(self.key(request));
    }

    fn forget(&mut self) {
        self.views.resync(&self.session, false, None);
        self.viewed = 0;
    }

    fn key(&self, request: &EnvelopeId) -> StreamKey {
        StreamKey { session: self.session.clone(), in_reply_to: Some(request.clone()) }
    }

    /// Shows what can be shown: what has come of the first answer, and what is behind it once that has ended.
    fn show(&mut self) -> Vec<Show> {
        let mut show = Vec::new();
        while let Some(Written(envelope)) = self.shown.queue.front() {
            if let (ChatMessage::Request(ChatRequest { message, .. }), Some(id)) = (envelope.message(), envelope.id()) {
                show.push(Show::Said { id: id.clone(), message: message.clone() });
            } else if let Some(request) = answered(envelope) {
                let stream = self.views.streams().get(&self.key(request));
                let text = stream.and_then(|stream| stream.text().get(self.viewed..)).unwrap_or_default();
                if !text.is_empty() {
                    self.shown.bytes += text.len();
                    self.viewed += text.len();
                    self.shown.is_in_line = !text.ends_with('\n');
                    show.push(Show::Text(text.to_owned()));
                }
                let Some(ended) = stream.map_or(Some(&Ended::Lost), Stream::end).cloned() else { break };
                show.push(Show::End { is_in_line: std::mem::take(&mut self.shown.is_in_line), ended });
                (self.shown.bytes, self.viewed) = (0, 0);
            }
            self.shown.queue.pop_front();
        }
        show
    }
}

/// The request that an answer is to.
fn answered(envelope: &Envelope) -> Option<&EnvelopeId> {
    if let ChatMessage::Stream(stream) = envelope.message() { stream.in_reply_to.as_ref() } else { None }
}

/// What a message of this client is called in its envelope.
pub(super) fn request(message: MessageId) -> EnvelopeId {
    EnvelopeId::new(&message.to_string()).expect("a UUID is short")
}

#[cfg(test)]
mod tests {
    use reattach_tokio::core::chat::StreamWriter;
    use reattach_tokio::core::messages::Timestamp;

    use super::*;

    const NOW: Instant = Instant::ZERO;

    fn session() -> SessionId {
        SessionId::new("s").unwrap()
    }

    fn id(name: &str) -> EnvelopeId {
        EnvelopeId::new(name).unwrap()
    }

    fn envelope(name: &str, message: ChatMessage) -> Envelope {
        Envelope::new(id(name), Timestamp::from_unix_millis(0), message)
    }

    fn request(name: &str, message: &str) -> Envelope {
        let message = message.to_owned();
        envelope(name, ChatMessage::Request(ChatRequest { session_id: session(), message, model: None }))
    }

    fn writer(name: &str) -> StreamWriter {
        StreamWriter::new(StreamKey { session: session(), in_reply_to: Some(id(name)) })
    }

    fn piece(name: &str, delta: &str) -> Envelope {
        envelope("p", ChatMessage::Stream(writer(name).piece(delta).unwrap()))
    }

    fn end(name: &str, end: StreamEnd) -> Envelope {
        envelope("e", ChatMessage::Stream(writer(name).end(end).unwrap()))
    }

    /// All of an answer.
    fn whole(name: &str, text: &str) -> Envelope {
        let end = Some(StreamEnd::Complete);
        let all = ChatStream { session_id: session(), in_reply_to: Some(id(name)), delta: text.to_owned(), end };
        envelope("w", ChatMessage::Stream(all))
    }

    fn transcript(first: u64, messages: &[Envelope]) -> Transcript {
        Transcript { first, messages: messages.iter().cloned().map(Written).collect() }
    }

    /// A client, and what it has shown.
    struct Client(Seen, String);

    impl Client {
        fn new() -> Self {
            Self(Seen::new(session(), Shown::default(), NOW), String::new())
        }

        fn look(&mut self, show: &[Show]) {
            for show in show {
                match show {
                    Show::Said { message, .. } => self.1.push_str(&format!("> {message}\n")),
                    Show::Text(text) => self.1.push_str(text),
                    Show::End { is_in_line, ended } => {
                        self.1.push_str(if *is_in_line { "\n" } else { "" });
                        if *ended != Ended::Told(StreamEnd::Complete) {
                            self.1.push_str(&format!("[{ended:?}]\n"));
                        }
                    }
                    Show::Skipped(count) => self.1.push_str(&format!("[{count} skipped]\n")),
                }
            }
        }

        fn hears(&mut self, envelopes: &[Envelope]) {
            for envelope in envelopes {
                let show = self.0.on_event(&envelope.write().unwrap(), NOW);
                self.look(&show);
            }
        }

        fn catches_up(&mut self, first: u64, messages: &[Envelope]) {
            let show = self.0.on_snapshot(transcript(first, messages), NOW);
            self.look(&show);
        }

        fn begins_anew(&mut self) {
            let show = self.0.begin_anew();
            self.look(&show);
        }

        /// Stops, and comes back from what it has kept.
        fn comes_back(&mut self) {
            let kept = serde_json::to_string(&self.0.shown()).unwrap();
            self.0 = Seen::new(session(), serde_json::from_str(&kept).unwrap(), NOW);
            assert_eq!(serde_json::to_string(&self.0.shown()).unwrap(), kept, "nothing is lost by coming back");
        }
    }

    #[test]
    fn each_character_is_shown_once_whether_it_comes_as_events_or_in_snapshots() {
        let mut client = Client::new();
        client.hears(&[request("a", "hi"), piece("a", ""), piece("a", "ab")]);
        for _ in 0..2 {
            client.catches_up(1, &[request("a", "hi"), piece("a", "abcd")]);
        }
        client.hears(&[request("b", "more")]);
        client.comes_back();
        client.hears(&[piece("a", "e")]);
        for _ in 0..2 {
            let all = [request("a", "hi"), whole("a", "abcdef"), request("b", "more"), whole("b", "x\n")];
            client.catches_up(1, &all);
        }
        assert_eq!(client.1, "> hi\nabcdef\n> more\nx\n");
        assert!(!client.0.is_answering() && !client.0.views.view(&session()).running);
    }

    // S003-41
    #[test]
    fn an_answer_that_is_cut_anywhere_goes_on_where_it_stood() {
        let events = [
            request("a", "hi"),
            piece("a", ""),
            piece("a", "on"),
            request("b", "more"),
            piece("a", "e"),
            end("a", StreamEnd::Complete),
            piece("b", ""),
            end("b", StreamEnd::Failed { error: "no".to_owned() }),
        ];
        // All that there is up to each of the events.
        let up_to = |count: usize| {
            let text = if count > 4 { "one" } else { ["", "", "", "on", "on"][count] };
            let a = if count > 5 { whole("a", text) } else { piece("a", text) };
            let b = if count > 7 { end("b", StreamEnd::Failed { error: "no".to_owned() }) } else { piece("b", "") };
            let all = [(1, request("a", "hi")), (2, a), (4, request("b", "more")), (7, b)];
            all.into_iter().filter(|(at, _)| *at <= count).map(|(_, envelope)| envelope).collect::<Vec<_>>()
        };
        for cut in 0..=events.len() {
            // Those that it does not hear while it is away are in the snapshot.
            for back in cut..=events.len() {
                for has_stopped in [false, true] {
                    let mut client = Client::new();
                    client.hears(&events[..cut]);
                    if has_stopped {
                        client.comes_back();
                    }
                    if back > cut {
                        client.catches_up(1, &up_to(back));
                    }
                    client.hears(&events[back..]);
                    let expected = "> hi\none\n> more\n[Told(Failed { error: \"no\" })]\n";
                    assert_eq!(client.1, expected, "cut at {cut}, back at {back}, stopped: {has_stopped}");
                }
            }
        }
    }

    #[test]
    fn of_two_answers_at_once_each_is_shown_whole_and_the_second_behind_the_first() {
        for stop in 0..8 {
            let mut client = Client::new();
            let events = [
                request("a", "1"),
                request("b", "2"),
                piece("a", ""),
                piece("b", ""),
                piece("b", "x"),
                piece("a", "a"),
                piece("b", "y"),
                end("b", StreamEnd::Interrupted),
                piece("a", "b"),
                end("a", StreamEnd::Complete),
            ];
            client.hears(&events[..stop]);
            client.comes_back();
            client.hears(&events[stop..]);
            assert_eq!(client.1, "> 1\n> 2\nab\nxy\n[Told(Interrupted)]\n", "it came back at {stop}");
        }
    }

    #[test]
    fn a_piece_of_nothing_within_an_answer_begins_no_other() {
        let mut client = Client::new();
        client.hears(&[request("a", "hi"), piece("a", ""), piece("a", "on"), piece("a", ""), piece("a", "e")]);
        let all = [request("a", "hi"), whole("a", "one"), request("b", "more")];
        client.catches_up(1, &all);
        assert_eq!(client.1, "> hi\none\n> more\n");
    }

    #[test]
    fn numbers_that_make_no_sense_are_survived() {
        let mut client = Client::new();
        client.catches_up(u64::MAX, &[request("a", "hi"), piece("a", "")]);
        client.hears(&[piece("a", "x"), request("b", "more"), piece("b", "")]);
        client.catches_up(0, &[request("c", "other")]);
        client.catches_up(u64::MAX, &[]);
        assert!(client.1.starts_with("[18446744073709551614 skipped]\n> hi\n"), "{}", client.1);
    }

    #[test]
    fn what_is_lost_or_not_kept_is_said_and_what_goes_on_unheard_is_not_shown() {
        let mut client = Client::new();
        client.hears(&[request("a", "hi"), piece("a", ""), piece("a", "ab")]);
        client.begins_anew();
        client.catches_up(5, &[request("b", "late")]);
        // An answer of the life before, one whose beginning nobody has heard, and what is of another kind.
        let other = ChatMessage::SessionUpdate { session_id: session(), update: Payload::new(&1).unwrap() };
        client.hears(&[piece("a", "cd"), piece("c", "x"), end("c", StreamEnd::Complete), envelope("o", other)]);
        client.hears(&[piece("b", ""), piece("b", "so"), request("c", "lost")]);
        client.catches_up(8, &[request("d", "after")]);
        client.hears(&[piece("b", "far"), end("b", StreamEnd::Complete)]);
        let expected = "> hi\nab\n[Lost]\n[4 skipped]\n> late\nso\n[Lost]\n> lost\n> after\n";
        assert_eq!(client.1, expected);
        assert!(!client.0.is_answering());
    }

    #[test]
    fn a_message_that_is_said_again_in_the_next_life_is_answered_there() {
        let mut client = Client::new();
        client.hears(&[request("a", "hi"), piece("a", ""), piece("a", "first"), end("a", StreamEnd::Complete)]);
        client.hears(&[request("b", "again"), piece("b", "")]);
        client.begins_anew();
        client.catches_up(1, &[]);
        client.hears(&[request("b", "again"), piece("b", ""), piece("b", "yes"), end("b", StreamEnd::Complete)]);
        assert_eq!(client.1, "> hi\nfirst\n> again\n[Lost]\n> again\nyes\n");
    }
}
