//! What of a session was shown already, so that each character is shown once, whether it came as a piece of an answer or in a
//! snapshot, before a cut or after it, in this run of the client or in the one before.

use serde::Deserialize;
use serde::Serialize;

use crate::messages::ChatEvent;
use crate::messages::ChatRequest;
use crate::messages::ChatStream;
use crate::messages::MessageStart;
use crate::messages::Said;
use crate::messages::Transcript;

/// What was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The highest number that was seen.
    last: u64,
    /// The answer that is under way.
    open: Option<Open>,
    /// What was said meanwhile: it is shown behind the answer.
    held: Vec<Held>,
}

/// An answer that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    number: u64,
    message_id: String,
    /// How many bytes of it were shown.
    shown: usize,
    /// Whether these end with the end of a line, or there are none.
    is_at_line_start: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    message_id: String,
    message: String,
}

/// Something to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// Somebody has said something.
    Said {
        /// What it is called.
        message_id: String,
        /// What was said.
        message: String,
    },
    /// The answer goes on.
    Text(String),
    /// It ends.
    End {
        /// What it answers.
        message_id: String,
        /// Whether its line is still open.
        is_in_line: bool,
        /// Why it could not be completed, where it could not.
        error: Option<String>,
    },
    /// It will not be completed: what is left of it is lost.
    Lost {
        /// What it answers.
        message_id: String,
        /// Whether its line is still open.
        is_in_line: bool,
    },
    /// So many messages are not kept any more.
    Skipped(u64),
}

impl Seen {
    /// Whether an answer is under way.
    pub(super) const fn is_answering(&self) -> bool {
        self.open.is_some()
    }

    /// Takes in an event.
    pub(super) fn on_event(&mut self, event: ChatEvent, show: &mut Vec<Show>) {
        match event {
            ChatEvent::ChatRequest(ChatRequest { message_id, number, message, .. }) => {
                if number > self.last {
                    self.on_said(number, message_id, message, show);
                }
            }
            ChatEvent::MessageStart(MessageStart { message_id, number, .. }) => {
                if number > self.last {
                    self.on_start(number, message_id, show);
                }
            }
            ChatEvent::ChatStream(ChatStream { number, delta, is_complete, error, .. }) => {
                if self.open.as_ref().is_some_and(|open| open.number == number) {
                    self.on_text(&delta, show);
                    if is_complete {
                        self.on_end(error, show);
                    }
                }
            }
        }
    }

    /// Takes in what everything up to some place amounts to.
    pub(super) fn on_snapshot(&mut self, transcript: Transcript, show: &mut Vec<Show>) {
        let is_open = |said: &Said| self.open.as_ref().is_some_and(|open| open.number == said.number);
        if self.open.is_some() && !transcript.messages.iter().any(is_open) {
            self.lose(show);
        }
        for said in transcript.messages {
            let Said { number, message_id, is_answer, text, is_complete, error } = said;
            let is_open = self.open.as_ref().is_some_and(|open| open.number == number);
            if number <= self.last && !is_open {
                continue;
            }
            if number > self.last + 1 {
                show.push(Show::Skipped(number - self.last - 1));
            }
            if !is_answer {
                self.on_said(number, message_id, text, show);
                continue;
            }
            if !is_open {
                self.on_start(number, message_id, show);
            }
            let shown = self.open.as_ref().map_or(0, |open| open.shown);
            if let Some(rest) = text.get(shown..) {
                self.on_text(rest, show);
            }
            if is_complete {
                self.on_end(error, show);
            }
        }
    }

    /// The session began anew: nothing of what was seen goes on.
    pub(super) fn begin_anew(&mut self, show: &mut Vec<Show>) {
        self.lose(show);
        self.last = 0;
    }

    fn on_said(&mut self, number: u64, message_id: String, message: String, show: &mut Vec<Show>) {
        self.last = number;
        if self.open.is_some() {
            self.held.push(Held { message_id, message });
        } else {
            show.push(Show::Said { message_id, message });
        }
    }

    fn on_start(&mut self, number: u64, message_id: String, show: &mut Vec<Show>) {
        // One that has another begin has ended, whatever was heard of it.
        self.lose(show);
        self.last = number;
        self.open = Some(Open { number, message_id, shown: 0, is_at_line_start: true });
    }

    fn on_text(&mut self, text: &str, show: &mut Vec<Show>) {
        if let Some(open) = self.open.as_mut().filter(|_| !text.is_empty()) {
            open.shown += text.len();
            open.is_at_line_start = text.ends_with('\n');
            show.push(Show::Text(text.to_owned()));
        }
    }

    fn on_end(&mut self, error: Option<String>, show: &mut Vec<Show>) {
        if let Some(Open { message_id, is_at_line_start, .. }) = self.open.take() {
            show.push(Show::End { message_id, is_in_line: !is_at_line_start, error });
            self.let_go(show);
        }
    }

    fn lose(&mut self, show: &mut Vec<Show>) {
        if let Some(Open { message_id, is_at_line_start, .. }) = self.open.take() {
            show.push(Show::Lost { message_id, is_in_line: !is_at_line_start });
            self.let_go(show);
        }
    }

    fn let_go(&mut self, show: &mut Vec<Show>) {
        let held = self.held.drain(..);
        show.extend(held.map(|Held { message_id, message }| Show::Said { message_id, message }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(number: u64, text: &str) -> Said {
        let (is_answer, is_complete) = (number % 2 == 0, true);
        Said { number, message_id: format!("m{number}"), is_answer, text: text.to_owned(), is_complete, error: None }
    }

    fn start(number: u64) -> ChatEvent {
        ChatEvent::MessageStart(MessageStart { session_id: String::new(), message_id: format!("m{number}"), number })
    }

    fn stream(number: u64, delta: &str, is_complete: bool) -> ChatEvent {
        let (session_id, message_id) = (String::new(), format!("m{number}"));
        ChatEvent::ChatStream(ChatStream {
            session_id,
            message_id,
            number,
            delta: delta.to_owned(),
            is_complete,
            error: None,
        })
    }

    fn request(number: u64, message: &str) -> ChatEvent {
        let (session_id, message_id) = (String::new(), format!("m{number}"));
        ChatEvent::ChatRequest(ChatRequest { session_id, message_id, number, message: message.to_owned() })
    }

    fn text(show: &[Show]) -> String {
        let line = |show: &Show| match show {
            Show::Said { message, .. } => format!("> {message}\n"),
            Show::Text(text) => text.clone(),
            Show::End { is_in_line, .. } => if *is_in_line { "\n" } else { "" }.to_owned(),
            Show::Lost { .. } => "[lost]\n".to_owned(),
            Show::Skipped(count) => format!("[{count} skipped]\n"),
        };
        show.iter().map(line).collect()
    }

    #[test]
    fn each_character_is_shown_once_whether_it_comes_as_events_or_in_snapshots() {
        let (mut seen, mut show) = (Seen::default(), Vec::new());
        for event in [request(1, "hi"), start(2), stream(2, "ab", false)] {
            seen.on_event(event, &mut show);
        }
        let under_way = Transcript { messages: vec![said(1, "hi"), Said { is_complete: false, ..said(2, "abcd") }] };
        seen.on_snapshot(under_way.clone(), &mut show);
        seen.on_snapshot(under_way, &mut show);
        // What was held is kept through a stop, and comes behind the answer.
        seen.on_event(request(3, "more"), &mut show);
        let mut seen: Seen = serde_json::from_str(&serde_json::to_string(&seen).unwrap()).unwrap();
        seen.on_event(stream(2, "e", false), &mut show);
        let all = Transcript { messages: vec![said(1, "hi"), said(2, "abcdef"), said(3, "more"), said(4, "x\n")] };
        seen.on_snapshot(all.clone(), &mut show);
        seen.on_snapshot(all, &mut show);
        assert_eq!(text(&show), "> hi\nabcdef\n> more\nx\n");
        assert!(!seen.is_answering());
    }

    #[test]
    fn what_is_lost_or_not_kept_is_said() {
        let (mut seen, mut show) = (Seen::default(), Vec::new());
        for event in [request(1, "hi"), start(2), stream(2, "ab", false)] {
            seen.on_event(event, &mut show);
        }
        seen.begin_anew(&mut show);
        seen.on_snapshot(Transcript { messages: vec![said(5, "late")] }, &mut show);
        assert_eq!(text(&show), "> hi\nab[lost]\n[4 skipped]\n> late\n");
    }
}
