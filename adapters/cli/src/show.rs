//! Progress: a bar on a terminal, plain lines elsewhere, on stderr either way. Stdout is for results.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use tokio::task::JoinHandle;

use crate::connect::tell;

/// Where progress is shown.
pub(crate) struct Show {
    is_terminal: bool,
}

/// Something that goes on step by step, and shows nothing between the steps: what is measured is not disturbed.
pub(crate) struct Steps {
    what: &'static str,
    bar: Option<ProgressBar>,
}

/// Something that is being watched.
pub(crate) struct Watching {
    bar: Option<ProgressBar>,
    task: JoinHandle<()>,
}

impl Show {
    pub(crate) fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal() }
    }

    /// A line.
    pub(crate) fn say(&self, line: &str) {
        tell(line);
    }

    /// Shows how far something is, until it ends. `look` says how much is done, of how much, and a word about it.
    pub(crate) fn watch(&self, what: &'static str, look: impl Fn() -> (u64, u64, String) + Send + 'static) -> Watching {
        if self.is_terminal {
            let style = "{prefix} [{bar:40}] {pos}/{len} messages, {msg} [{elapsed}]";
            let style = ProgressStyle::with_template(style).expect("the template is well formed").progress_chars("=> ");
            let bar = ProgressBar::new(1).with_style(style).with_prefix(what);
            let shown = bar.clone();
            let task = tokio::spawn(async move {
                loop {
                    let (done, all, word) = look();
                    shown.set_length(all.max(done));
                    shown.set_position(done);
                    shown.set_message(word);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
            return Watching { bar: Some(bar), task };
        }
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(3)).await;
                let (done, all, word) = look();
                tell(&format!("{what}: {done} of {} messages, {word}", all.max(done)));
            }
        });
        Watching { bar: None, task }
    }
}

impl Show {
    /// Shows how far something is that has so many steps.
    pub(crate) fn steps(&self, what: &'static str, count: u64) -> Steps {
        let bar = self.is_terminal.then(|| {
            let style = "{prefix} [{bar:40}] {pos}/{len} rounds, {msg} [{elapsed}]";
            let style = ProgressStyle::with_template(style).expect("the template is well formed").progress_chars("=> ");
            ProgressBar::new(count).with_style(style).with_prefix(what)
        });
        Steps { what, bar }
    }
}

impl Steps {
    /// Says what the next steps are about.
    pub(crate) fn turn_to(&self, word: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(word.to_owned()),
            None => tell(&format!("{}: {word}", self.what)),
        }
    }

    /// A step is done.
    pub(crate) fn advance(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    pub(crate) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Watching {
    pub(crate) fn end(self) {
        self.task.abort();
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
