//! What is logged, where somebody wants to know.

use std::io;
use std::str::FromStr;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Which parts log, and from which level on: targets with levels, separated by commas, as in `reattach::permission=debug`. A target
/// stands for all below it, and a level alone for everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(Targets);

impl FromStr for Filter {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.parse().map(Self)
    }
}

impl Filter {
    /// Logs to stderr from here on. Where something logs already, that goes on.
    pub fn log(self) {
        let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
        _ = tracing_subscriber::registry().with(self.0).with(lines).try_init();
    }
}
