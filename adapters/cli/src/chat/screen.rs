//! What a person sees: the conversation on stdout, and everything about it on stderr. On a terminal the last row of stderr says how
//! things stand; elsewhere each change of that is a line.

use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::time::Duration;

use console::Term;
use reattach_tokio::core::chat::Ended;
use reattach_tokio::core::messages::EnvelopeId;
use reattach_tokio::core::messages::StreamEnd;
use reattach_tokio::core::view::SendError;
use reattach_tokio::core::view::SessionView;

use crate::chat::seen::Show;
use crate::connect::tell;

/// Stdout and stderr.
#[derive(Debug)]
pub(super) struct Screen {
    /// Whether what is shown on stdout is seen by a terminal, which takes some characters for commands.
    is_terminal: bool,
    /// Whether what a person types is on the screen already.
    is_echoed: bool,
    row: Option<Row>,
    /// Whether the conversation stands in the middle of a line.
    is_in_line: bool,
    /// The last line about how things stand.
    told: String,
}

/// The last row of a terminal, kept apart from those that scroll. It goes when this is dropped.
#[derive(Debug)]
struct Row {
    term: Term,
    /// The size for which it was set apart.
    size: (u16, u16),
    shown: String,
}

impl Screen {
    pub(super) fn new() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_echoed = is_terminal && io::stdin().is_terminal();
        Self { is_terminal, is_echoed, row: Row::new(), is_in_line: false, told: String::new() }
    }

    /// Whether there is a row that wants to be kept up to date.
    pub(super) const fn has_row(&self) -> bool {
        self.row.is_some()
    }

    /// Shows more of the conversation. `is_own` says which messages were typed here.
    pub(super) fn show(&mut self, show: &[Show], is_own: impl Fn(&EnvelopeId) -> bool) -> io::Result<()> {
        let mut text = String::new();
        for show in show {
            match show {
                Show::Said { id, .. } if self.is_echoed && is_own(id) => {}
                Show::Said { message, .. } => {
                    for line in message.lines() {
                        text.push_str(&format!("> {line}\n"));
                    }
                }
                Show::Text(more) => text.push_str(more),
                Show::End { is_in_line, ended, .. } => {
                    text.push_str(if *is_in_line { "\n" } else { "" });
                    if let Some(problem) = problem(ended) {
                        text.push_str(&format!("! {problem}\n"));
                    }
                }
                Show::Skipped(_) => {}
            }
        }
        if text.is_empty() {
            return Ok(());
        }
        self.is_in_line = !text.ends_with('\n');
        let text = if self.is_terminal { visible(&text) } else { text };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// A line was typed: what comes next is on a line of its own where the terminal shows that.
    pub(super) const fn on_typed(&mut self) {
        self.is_in_line &= !self.is_echoed;
    }

    /// Says something that is not part of the conversation.
    pub(super) fn tell(&mut self, text: &str) {
        let shared = self.row.is_some() && self.is_terminal && self.is_in_line;
        // Where the conversation is on the same screen, this goes on a line of its own.
        let before = if shared { "\n" } else { "" };
        self.is_in_line &= !shared;
        tell(&format!("{before}{}", visible(text)));
    }

    /// Says how things stand: `kind` is what of it is worth a line, where there is no row.
    pub(super) fn stand(&mut self, kind: &str, line: &str, details: &str) {
        match &mut self.row {
            Some(row) => row.show(&format!("{line}{details}")),
            None if self.told != kind => {
                kind.clone_into(&mut self.told);
                tell(line);
            }
            None => {}
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // What is said after this is no part of the conversation.
        if self.is_terminal && self.is_in_line {
            _ = writeln!(io::stdout());
        }
    }
}

impl Row {
    fn new() -> Option<Self> {
        let term = Term::stderr();
        let is_able = term.is_term() && std::env::var("TERM").is_ok_and(|term| term != "dumb");
        is_able.then(|| {
            let mut row = Self { term, size: (0, 0), shown: String::new() };
            row.set_apart();
            row
        })
    }

    /// Has all rows but the last scroll.
    fn set_apart(&mut self) {
        self.size = self.term.size();
        let (rows, _) = self.size;
        // A line of room first, for the cursor may stand in the last row. Setting the region moves the cursor.
        write(&format!("\n\x1b[1;{}r\x1b[{};1H", rows.saturating_sub(1).max(1), rows.saturating_sub(1).max(1)));
    }

    fn show(&mut self, line: &str) {
        if self.term.size() != self.size {
            self.set_apart();
        } else if self.shown == line {
            return;
        }
        line.clone_into(&mut self.shown);
        let (rows, columns) = self.size;
        let line: String = visible(line).chars().take(usize::from(columns)).collect();
        write(&format!("\x1b7\x1b[{rows};1H\x1b[2K\x1b[7m{line}\x1b[0m\x1b8"));
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        let (rows, _) = self.size;
        write(&format!("\x1b7\x1b[r\x1b[{rows};1H\x1b[2K\x1b8"));
    }
}

/// Writes to the terminal. Nobody need be there.
fn write(text: &str) {
    let mut terminal = io::stderr().lock();
    _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}

/// How it stands with the session, behind how it stands with the connection.
pub(super) fn details(view: &SessionView<'_>, latency: Option<Duration>, waiting: usize) -> String {
    let SessionView { running, send_errors, dialogs, .. } = view;
    let mut details = String::new();
    if let Some(latency) = latency {
        details.push_str(&format!(", {:.0} ms", latency.as_secs_f64() * 1_000.0));
    }
    if *running {
        details.push_str(", working");
    }
    if waiting > 0 {
        details.push_str(&format!(", {waiting} to be delivered"));
    }
    if *dialogs > 0 {
        details
            .push_str(&format!(", {dialogs} open {} (/dialogs)", if *dialogs == 1 { "question" } else { "questions" }));
    }
    if let Some(SendError { problem, .. }) = send_errors.last() {
        details.push_str(&format!(", {} not sent: {problem}", send_errors.len()));
    }
    details
}

/// Why an answer is not complete, where its writer says so or nothing more of it is shown.
fn problem(ended: &Ended) -> Option<&str> {
    match ended {
        Ended::Told(StreamEnd::Failed { error }) => Some(error),
        Ended::Told(StreamEnd::Interrupted) => Some("the agent was stopped before it was done"),
        Ended::TooLong => Some("the rest of it is too long"),
        Ended::Told(StreamEnd::Complete) | Ended::Lost => None,
    }
}

/// A text without what a terminal would take for a command.
fn visible(text: &str) -> String {
    let is_plain = |c: char| !c.is_control() || c == '\n' || c == '\t';
    text.chars().map(|c| if is_plain(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use reattach_tokio::core::id::MessageIds;
    use reattach_tokio::core::id::SessionId;
    use reattach_tokio::core::outcome::Failure;
    use reattach_tokio::core::outcome::NotDelivered;
    use reattach_tokio::core::outcome::Outcome;
    use reattach_tokio::core::outcome::SendFailed;
    use reattach_tokio::core::time::Instant;
    use reattach_tokio::core::view::SessionViews;
    use reattach_tokio::core::view::ViewConfig;

    use super::*;

    #[test]
    fn how_it_stands_is_what_the_view_says() {
        let (now, session) = (Instant::ZERO, SessionId::new("s").unwrap());
        let mut views = SessionViews::new(ViewConfig::default(), now);
        let mut ids = MessageIds::new(&[1; 16]);
        let (first, second) = (ids.mint(), ids.mint());
        views.handle_accepted(first, &session, now);
        let offline = ", 1 to be delivered, 1 not sent: Not connected. Message will be sent when reconnected.";
        assert_eq!(details(&views.view(&session), None, 1), offline);
        views.handle_attached(true);
        views.handle_delivered(first);
        views.handle_accepted(second, &session, now);
        let latency = Some(Duration::from_millis(12));
        assert_eq!(details(&views.view(&session), latency, 1), ", 12 ms, working, 1 to be delivered");
        let failure = Failure::ForGood(Outcome::NotDelivered { reason: NotDelivered::Deadline });
        views.handle_send_failed(&SendFailed { id: second, failure });
        let failed = ", 1 not sent: Message not delivered: its deadline passed first. Send it again.";
        assert_eq!(details(&views.view(&session), None, 0), failed);
    }

    #[test]
    fn a_terminal_gets_no_commands_from_the_other_side() {
        assert_eq!(visible("a\x1b[2Jb\n\tc\u{9b}\u{7f}d"), "a\u{fffd}[2Jb\n\tc\u{fffd}\u{fffd}d");
    }
}
