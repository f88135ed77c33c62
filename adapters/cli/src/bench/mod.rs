//! `reattach bench`: what the layer costs, measured against the WebSocket below it, used raw.
//!
//! Client and server are two processes on one core, so that what either does costs the other its time, and what is summed is
//! all that a message costs. Figures of one machine say little about another; the ratios carry over. Both subjects have the
//! same payload, the same buffers and no delay for small writes, both write all that is ready before they flush once, and they
//! take turns, so that whatever else the machine does meets both alike.

mod case;
mod gauge;
mod host;
mod layered;
mod orders;
mod raw;
mod report;
mod rounds;
mod server;

use std::fmt;
use std::io;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use clap::ValueEnum;
use futures_util::future::Either;
use futures_util::future::select;
use reattach_tokio::ConnectError;
use reattach_tokio::core::error::ApiMisuse;

use crate::runtime::RuntimeName;
use crate::show::Show;

pub use self::server::ServerOptions;
pub use self::server::serve;

use self::case::Case;
use self::case::Kind;
use self::host::Host;
use self::host::Smol;
use self::host::Tokio;
use self::report::Idle;
use self::report::Report;
use self::report::Row;

/// What the bench can be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// What runs the sockets of both subjects
    #[arg(long, value_enum, default_value_t)]
    pub runtime: RuntimeName,
    /// Rounds of each case; in each of them both subjects have a turn, and the medians count
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// How long a turn takes
    #[arg(long, value_name = "SECONDS", default_value_t = 0.2)]
    pub seconds: f64,
    /// Measure this case alone: round-trip, pipelined, settled, with or without a size (settled-1024), resume, idle; may be
    /// repeated
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// How many idle connections to measure the memory of
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub connections: u64,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    Raw,
    Reattach,
}

impl Subject {
    const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Reattach => "reattach",
        }
    }
}

/// Why a bench did not come to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failed {
    /// An option makes no sense.
    Option(String),
    /// The system did not play along.
    Io(io::Error),
    /// The layer's connection could not be made.
    Connect(ConnectError),
    /// The layer refused a message.
    Misuse(ApiMisuse),
    /// A message was not delivered, on a connection that nobody breaks.
    Outcome(String),
    /// The raw WebSocket failed.
    Raw(String),
    /// The server's process ended, or made no sense.
    Server,
    /// A connection ended before its time.
    Ended,
    /// The measuring panicked.
    Panicked,
    /// It took longer than it ever should.
    Stuck,
}

impl Failed {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Option(_) => "`reattach bench --help` lists the options",
            Self::Io(_) => "are there enough ports and open files? --connections takes fewer of them",
            Self::Server => "its own words stand above; was this program replaced while it ran?",
            Self::Connect(_) | Self::Misuse(_) | Self::Outcome(_) | Self::Raw(_) | Self::Ended | Self::Panicked => {
                "run the case alone with --only to see whether it comes again"
            }
            Self::Stuck => "is the machine busy with something else? --seconds and --connections make it shorter",
        }
    }

    /// Whether the command line makes no sense.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Option(_))
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(problem) => f.write_str(problem),
            Self::Io(error) => write!(f, "the system did not play along: {error}"),
            Self::Connect(error) => write!(f, "{error}"),
            Self::Misuse(error) => write!(f, "a message was refused: {error}"),
            Self::Outcome(outcome) => write!(f, "a message was not delivered: {outcome}"),
            Self::Raw(problem) => write!(f, "the raw WebSocket failed: {problem}"),
            Self::Server => f.write_str("the server's process ended before its time, or made no sense"),
            Self::Ended => f.write_str("a connection ended before its time"),
            Self::Panicked => f.write_str("the bench panicked"),
            Self::Stuck => f.write_str("the bench is stuck"),
        }
    }
}

impl std::error::Error for Failed {}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ConnectError> for Failed {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl From<ApiMisuse> for Failed {
    fn from(error: ApiMisuse) -> Self {
        Self::Misuse(error)
    }
}

/// Runs the bench. Returns the text to print; nothing where it was interrupted.
///
/// # Errors
///
/// [`Failed`] where it did not come to its end.
pub fn run(options: &Options) -> Result<Option<String>, Failed> {
    match options.runtime {
        RuntimeName::Tokio => run_on(Tokio, options),
        RuntimeName::Smol => run_on(Smol, options),
    }
}

fn run_on<H: Host>(host: H, options: &Options) -> Result<Option<String>, Failed> {
    let cases = chosen(&options.only)?;
    let time = Duration::try_from_secs_f64(options.seconds).ok().filter(|time| *time <= LONGEST);
    let time = time.ok_or_else(|| Failed::Option(format!("--seconds: {} is no time for a turn", options.seconds)))?;
    let show = Show::new();
    // The server's process is started by this one, and stays on its core.
    let core = gauge::pin().inspect_err(|error| {
        show.say(&format!("both processes run unpinned, so the figures are rough: {error}"));
    });
    let connections = affordable(options.connections, &cases, &show);
    let work = measure(host, cases, options.runs, time, connections, show);
    let done = host.block_on(async {
        match select(pin!(host::spawned(host, work)), pin!(host.interrupted())).await {
            Either::Left((done, _)) => done.ok_or(Failed::Panicked)?.map(Some),
            Either::Right(((), _)) => Ok(None),
        }
    })??;
    let Some((rows, idle)) = done else { return Ok(None) };
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        runtime: H::NAME,
        core: core.ok(),
        runs: options.runs,
        seconds: options.seconds,
        cases: rows,
        idle,
    };
    let text =
        if options.json { serde_json::to_string(&report).map_err(io::Error::from)? + "\n" } else { report.text() };
    Ok(Some(text))
}

/// A turn of an hour says no more than one of a minute.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The cases that were asked for.
fn chosen(names: &[String]) -> Result<Vec<Case>, Failed> {
    let all = Case::all();
    if let Some(name) = names.iter().find(|name| !all.iter().any(|case| case.is_called(name))) {
        let known: Vec<_> = all.iter().map(ToString::to_string).collect();
        return Err(Failed::Option(format!("--only: there is no case {name:?}; there are {}", known.join(", "))));
    }
    let is_chosen = |case: &Case| names.is_empty() || names.iter().any(|name| case.is_called(name));
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// As many connections as were asked for and the system lets a process open.
fn affordable(connections: u64, cases: &[Case], show: &Show) -> u64 {
    /// What a process opens beside its connections.
    const OTHERS: u64 = 64;
    let Some(limit) = gauge::raise_open_files() else { return connections };
    let most = limit.saturating_sub(OTHERS).max(1);
    if most < connections && cases.iter().any(|case| case.kind == Kind::Idle) {
        show.say(&format!("{most} idle connections instead of {connections}: the system allows {limit} open files"));
    }
    connections.min(most)
}

async fn measure<H: Host>(
    host: H,
    cases: Vec<Case>,
    runs: u32,
    time: Duration,
    connections: u64,
    show: Show,
) -> Result<(Vec<Row>, Option<Idle>), Failed> {
    let steps_of = |case: &Case| if case.kind == Kind::Idle { 2 } else { u64::from(runs) };
    let steps = show.steps("bench", cases.iter().map(steps_of).sum());
    let (mut rows, mut idle) = (Vec::new(), None);
    for case in &cases {
        steps.turn_to(&case.title());
        if case.kind == Kind::Idle {
            let held = rounds::hold(host, *case, connections, || steps.advance()).await?;
            idle = Some(Idle::new(connections, held));
        } else {
            let samples = rounds::measure(host, *case, runs, time, || steps.advance()).await?;
            rows.push(Row::new(*case, &samples));
        }
    }
    steps.end();
    Ok((rows, idle))
}
