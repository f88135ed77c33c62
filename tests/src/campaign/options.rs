//! The command line.

use std::num::NonZero;
use std::str::FromStr;
use std::thread;

/// What was asked for.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) minutes: Option<f64>,
    pub(super) schedules: Option<u64>,
    pub(super) seed: u64,
    pub(super) only: Option<Vec<u32>>,
    pub(super) replay: bool,
    pub(super) threads: usize,
    pub(super) stored: Option<String>,
    pub(super) gather: bool,
}

impl Options {
    pub(super) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            minutes: None,
            schedules: None,
            seed: 1,
            only: None,
            replay: false,
            threads: thread::available_parallelism().map_or(1, NonZero::get),
            stored: None,
            gather: false,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--minutes" => options.minutes = Some(number(&value()?)?),
                "--schedules" => options.schedules = Some(number(&value()?)?),
                "--seed" => options.seed = number(&value()?)?,
                "--threads" => options.threads = number::<usize>(&value()?)?.max(1),
                "--only" => options.only = Some(value()?.split(',').map(number).collect::<Result<_, _>>()?),
                "--stored" => options.stored = Some(value()?),
                "--replay" => options.replay = true,
                "--gather" => options.gather = true,
                other => return Err(format!("{other:?} is not known")),
            }
        }
        Ok(options)
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}
