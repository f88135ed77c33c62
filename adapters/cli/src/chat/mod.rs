//! `reattach chat`: a person's end of a session with an agent. It stays in the conversation whatever happens to the socket, and
//! can leave in the middle of an answer and come back.

mod dialogs;
mod input;
mod memory;
mod outbox;
mod screen;
mod seen;
mod talk;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use reattach_tokio::Client;
use reattach_tokio::ConnectionState;
use reattach_tokio::core::client::OnSuperseded;
use reattach_tokio::core::hub::Ended;
use reattach_tokio::core::id::SessionId;
use reattach_tokio::core::link;
use reattach_tokio::core::reconnect::GiveUp;
use reattach_tokio::core::session::WatchFrom;

pub use self::memory::Forgotten;
use self::memory::Memory;
use self::talk::Talk;
use crate::dial;
use crate::dial::Dialling;
use crate::dial::Misdialled;
use crate::runtime::RuntimeName;
use crate::stdin;

/// What the client can be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Whom to connect to, and how.
    #[command(flatten)]
    pub dialling: Dialling,
    /// What the session is called
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub session: SessionId,
    /// Keep in this file who this client is and how far it has read, and go on from there the next time. Whoever has the file can be
    /// this client
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// After the end of stdin, how many seconds of silence to wait for answers that are still out
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub patience: u64,
    /// What runs its socket
    #[arg(long, value_enum, default_value_t)]
    pub runtime: RuntimeName,
}

/// Why the client ended before its time.
#[derive(Debug)]
pub enum Failed {
    /// The command line makes no sense.
    Usage(Misdialled),
    /// The file of `--state` is of no use.
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        why: Forgotten,
    },
    /// Stdout or the file of `--state` failed.
    Io(io::Error),
    /// A line of stdin cannot be read.
    Line(String),
    /// The connection ended, or trying stopped.
    Disconnected(ConnectionState),
    /// There is no such session, or not any more.
    Session(Ended),
}

impl Failed {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Usage(_) => "`reattach chat --help` lists the options",
            Self::State { .. } => {
                "--state names a file that an earlier chat has written, or none, in a folder that this user may write to"
            }
            Self::Io(_) => "look at what reads stdout, and at the folder of --state",
            Self::Line(_) => "one line of text is one message; what came before was sent",
            Self::Disconnected(ConnectionState::Failed(GiveUp::Unauthorized { .. })) => {
                "--token is the one that the agent was started with"
            }
            Self::Disconnected(ConnectionState::Superseded) => "each client needs a --state file of its own",
            Self::Disconnected(_) => "is the agent running? `reattach agent` starts one",
            Self::Session(Ended::UnknownSession) => "--session names one that the agent has",
            Self::Session(_) => "start over; the agent may know another --session",
        }
    }

    /// Whether the command line makes no sense.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_) | Self::State { .. })
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage(misuse) => write!(f, "{misuse}"),
            Self::State { path, why } => write!(f, "--state {}: {why}", path.display()),
            Self::Io(error) => write!(f, "{error}"),
            Self::Line(problem) => write!(f, "stdin: {problem}"),
            Self::Disconnected(state) => f.write_str(&dial::end(state)),
            Self::Session(Ended::Over) => f.write_str("the session has ended"),
            Self::Session(Ended::UnknownSession) => f.write_str("the server knows no such session"),
            Self::Session(Ended::Refused(failure)) => write!(f, "the session cannot be watched: {failure}"),
            Self::Session(Ended::Confused) => f.write_str("what the server sends makes no sense"),
            Self::Session(Ended::Closed) => f.write_str("the connection ended"),
            Self::Session(ended) => write!(f, "the session cannot be watched any more: {ended:?}"),
        }
    }
}

impl std::error::Error for Failed {}

impl From<Misdialled> for Failed {
    fn from(misuse: Misdialled) -> Self {
        Self::Usage(misuse)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What became of what was typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that the agent has taken.
    pub delivered: u64,
    /// Messages that it has not.
    pub failed: u64,
    /// Messages of which nobody can tell.
    pub unknown: u64,
    /// Messages that the agent has taken, and whose answers were not heard to their end.
    pub unanswered: u64,
    /// Messages that are kept for the next time, and answers that will be heard then.
    pub kept: u64,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { delivered, failed, unknown, unanswered, kept } = self;
        write!(f, "{delivered} delivered, {failed} not delivered, {unknown} unknown, {unanswered} unanswered")?;
        if *kept > 0 { write!(f, ", {kept} kept for the next time") } else { Ok(()) }
    }
}

/// How a person left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// What became of what was typed.
    pub tally: Tally,
    /// Whether it was by an interrupt.
    pub is_interrupted: bool,
}

/// Takes part until the person leaves, or stdin has ended and everything is answered, or the connection or the session ends.
/// Whatever happens, what became of each message is told.
///
/// # Errors
///
/// [`Failed`].
pub async fn run(options: &Options) -> Result<Left, Failed> {
    let memory = match &options.state {
        Some(path) => Memory::load(path, &options.session).map_err(|why| Failed::State { path: path.clone(), why })?,
        None => Memory::new(&options.session),
    };
    if let Some(path) = &options.state {
        // Where nothing can be kept, that is known before anything is sent that is to be kept.
        memory.save(path).map_err(|error| Failed::State { path: path.clone(), why: Forgotten::Io(error) })?;
    }
    let from = memory.seen.map_or(WatchFrom::Start, WatchFrom::After);
    // Two that share a file must not go on apart: what each would keep there is the other's loss.
    let config = options.dialling.config(OnSuperseded::Stop)?.with_key(memory.key);
    let runtime = options.runtime.get();
    let client = Client::start(Arc::clone(&runtime), &options.dialling.url, config)
        .map_err(|error| Failed::Usage(Misdialled::Url(error)))?;
    let watch = client.watch_session(options.session.clone(), from).expect("nobody else watches with this client");
    let lines = stdin::lines(link::Config::default().max_payload);
    let talk = Talk::new(client, runtime, watch, memory, options.state.clone(), Duration::from_secs(options.patience));
    talk.run(lines, from != WatchFrom::Start).await
}
