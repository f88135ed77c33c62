//! The `reattach` command.
//!
//! Exit codes: 0, all went well; 1, it could not be done, or a promise was broken; 2, the command line makes no sense; 3, some
//! messages were not delivered, or not answered, or nobody can tell; 130, interrupted.

use std::io;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;
use reattach_cli::agent;
use reattach_cli::bench;
use reattach_cli::chat;
use reattach_cli::connect;
use reattach_cli::demo;
use reattach_cli::log::Filter;
use reattach_cli::serve;

/// Messages that survive their sockets
#[derive(Debug, Parser)]
#[command(name = "reattach", version, about, max_term_width = 100)]
struct Cli {
    /// Log to stderr what these parts do, such as `reattach::permission=debug,reattach=info`. The parts are `reattach::server`,
    /// `reattach::socket`, `reattach::link`, `reattach::request`, `reattach::session` and `reattach::permission`
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<Filter>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Break real sockets on purpose, with and without the layer, and count what arrives
    Demo(demo::Options),
    /// Measure what the layer costs, against the WebSocket below it
    Bench(bench::Options),
    /// The other process of the bench
    #[command(hide = true)]
    BenchServer(bench::ServerOptions),
    /// Serve connections, for trying things out
    Serve(serve::Options),
    /// Send lines from stdin and print messages as lines, whatever happens to the socket
    Connect(connect::Options),
    /// Run an agent that works on the files of a folder, for `chat` to talk to
    Agent(agent::Options),
    /// Take part in a session with an agent: talk, answer its questions, leave and come back
    Chat(chat::Options),
}

/// Some messages were not delivered, or not answered, or nobody can tell.
const NOT_ALL_DELIVERED: u8 = 3;
/// The command line makes no sense. The parser of options says the same.
const USAGE: u8 = 2;
/// What shells make of an interrupt.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let Cli { log, command } = Cli::parse();
    if let Some(filter) = log {
        filter.log();
    }
    match command {
        Command::Demo(options) => on_all_cores(show(options)),
        Command::Serve(options) => on_all_cores(serve(options)),
        Command::Connect(options) => on_all_cores(connect(options)),
        Command::Agent(options) => on_all_cores(agent(options)),
        Command::Chat(options) => on_all_cores(chat(options)),
        // These bring a runtime of their own, on one core.
        Command::Bench(options) => measure(&options),
        Command::BenchServer(options) => match bench::serve(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, error.hint()),
        },
    }
}

fn on_all_cores(work: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, "the system refuses threads or files; are there too many already?"),
    };
    let code = runtime.block_on(work);
    // Whatever still runs has nothing to say any more.
    runtime.shutdown_background();
    code
}

async fn show(options: demo::Options) -> ExitCode {
    match interruptible(demo::run(&options)).await {
        Some(Ok((text, kept))) => {
            print(&text);
            if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Some(Err(error)) => fail(&error, "run it again with --seed to repeat the same faults"),
        None => ExitCode::from(INTERRUPTED),
    }
}

async fn serve(options: serve::Options) -> ExitCode {
    match serve::run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, error.hint()),
    }
}

async fn agent(options: agent::Options) -> ExitCode {
    match agent::run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail_by(&error, error.hint(), error.is_usage()),
    }
}

async fn connect(options: connect::Options) -> ExitCode {
    match interruptible(connect::run(&options)).await {
        Some(Ok(tally)) => {
            if !options.quiet {
                _ = writeln!(io::stderr(), "{}", connect::summary(&tally));
            }
            if tally.failed + tally.unknown > 0 { ExitCode::from(NOT_ALL_DELIVERED) } else { ExitCode::SUCCESS }
        }
        Some(Err(error)) => fail_by(&error, error.hint(), error.is_usage()),
        None => ExitCode::from(INTERRUPTED),
    }
}

async fn chat(options: chat::Options) -> ExitCode {
    match chat::run(&options).await {
        Ok(chat::Left { tally, is_interrupted }) => {
            _ = writeln!(io::stderr(), "{tally}");
            match tally.failed + tally.unknown + tally.unanswered {
                _ if is_interrupted => ExitCode::from(INTERRUPTED),
                0 => ExitCode::SUCCESS,
                _ => ExitCode::from(NOT_ALL_DELIVERED),
            }
        }
        Err(error) => fail_by(&error, error.hint(), error.is_usage()),
    }
}

fn measure(options: &bench::Options) -> ExitCode {
    match bench::run(options) {
        Ok(Some(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::from(INTERRUPTED),
        Err(error) => fail_by(&error, error.hint(), error.is_usage()),
    }
}

/// Prints the results. Whoever does not read them can still read the exit code.
fn print(text: &str) {
    _ = io::stdout().write_all(text.as_bytes());
}

async fn interruptible<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        _ = tokio::signal::ctrl_c() => None,
    }
}

fn fail(error: &dyn std::error::Error, hint: &str) -> ExitCode {
    _ = writeln!(io::stderr(), "error: {error}\nhint: {hint}");
    ExitCode::FAILURE
}

fn fail_by(error: &dyn std::error::Error, hint: &str, is_usage: bool) -> ExitCode {
    let code = fail(error, hint);
    if is_usage { ExitCode::from(USAGE) } else { code }
}
