//! Lines from stdin, read on a thread of their own: a read that blocks holds up neither an interrupt nor the end.

use std::io;
use std::io::BufRead as _;
use std::io::Read as _;
use std::thread;

use tokio::sync::mpsc;

/// What stdin gave.
#[derive(Debug)]
pub(crate) enum Line {
    /// A line, without its end.
    Text(String),
    /// Something else, and why.
    Bad(String),
}

/// How many lines are read ahead.
const AHEAD: usize = 64;

/// Reads lines of at most `max` bytes until stdin ends, or until one is bad: that one is the last.
pub(crate) fn lines(max: u64) -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            let mut bytes = Vec::new();
            let line = match stdin.by_ref().take(max + 2).read_until(b'\n', &mut bytes) {
                Ok(0) => return,
                Ok(_) => line_of(bytes, max),
                Err(error) => Line::Bad(error.to_string()),
            };
            let is_last = matches!(line, Line::Bad(_));
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

fn line_of(mut bytes: Vec<u8>, max: u64) -> Line {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.len() as u64 > max {
        return Line::Bad(format!("it has more than {max} bytes"));
    }
    String::from_utf8(bytes).map_or_else(|error| Line::Bad(error.utf8_error().to_string()), Line::Text)
}
