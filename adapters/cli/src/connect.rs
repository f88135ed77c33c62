//! `reattach connect`: lines from stdin go out as messages, messages come in as lines on stdout, and drops do not matter.

use std::io;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use clap::Args;
use reattach_tokio::Client;
use reattach_tokio::ConnectionState;
use reattach_tokio::Receipt;
use reattach_tokio::UrlError;
use reattach_tokio::core::client::OnSuperseded;
use reattach_tokio::core::error::ApiMisuse;
use reattach_tokio::core::link;
use reattach_tokio::core::reconnect::Ended;
use reattach_tokio::core::reconnect::GiveUp;
use reattach_tokio::core::reconnect::Insecure;
use reattach_tokio::core::reconnect::OpenError;
use reattach_tokio::core::wire::Payload;
use reattach_tokio::core::wire::PayloadError;
use reattach_tokio::core::wire::UncheckedPayload;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::dial;
use crate::dial::Dialling;
use crate::dial::Misdialled;
use crate::stdin;
use crate::stdin::Line;

/// What the client can be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Whom to connect to, and how.
    #[command(flatten)]
    pub dialling: Dialling,
    /// Each line is a JSON value, on stdin and on stdout; without this it is plain text, sent as a JSON string
    #[arg(long)]
    pub json: bool,
    /// After the end of stdin, how many seconds to wait for more messages after the last one
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub linger: f64,
    /// How many seconds to wait for outcomes that are still out then
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub patience: f64,
    /// Say nothing on stderr but errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// Why the client ended before its time.
#[derive(Debug)]
pub enum Failed {
    /// An option makes no sense.
    Option(String),
    /// The URL cannot be dialled.
    Url(UrlError),
    /// A line of stdin cannot be sent.
    Line {
        /// Which one, from 1.
        number: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// Stdout failed.
    Io(io::Error),
    /// The server is not, or may not be, who it should be.
    Insecure(Insecure),
    /// The connection ended, or trying stopped.
    Ended(String),
}

impl Failed {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Option(_) => "`reattach connect --help` lists the options",
            Self::Url(_) => "give an address such as ws://127.0.0.1:9400/",
            Self::Line { .. } => "what came before it was sent; go on behind it",
            Self::Io(_) => "look at what reads stdout",
            Self::Insecure(_) => "--ca names a file with the certificates of whom to trust",
            Self::Ended(_) => "is the server running? `reattach serve --echo` starts one",
        }
    }

    /// Whether the command line makes no sense.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Option(_) | Self::Url(_))
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Option(problem) => f.write_str(problem),
            Self::Url(error) => write!(f, "{error}"),
            Self::Line { number, problem } => write!(f, "line {number} of stdin cannot be sent: {problem}"),
            Self::Io(error) => write!(f, "{error}"),
            Self::Insecure(why) => write!(f, "no secure channel: {why}"),
            Self::Ended(how) => f.write_str(how),
        }
    }
}

impl std::error::Error for Failed {}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<UrlError> for Failed {
    fn from(error: UrlError) -> Self {
        Self::Url(error)
    }
}

impl From<Misdialled> for Failed {
    fn from(error: Misdialled) -> Self {
        match error {
            Misdialled::Option(problem) => Self::Option(problem),
            Misdialled::Url(error) => Self::Url(error),
        }
    }
}

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines whose delivery was confirmed.
    pub delivered: u64,
    /// Lines that were not delivered, or refused.
    pub failed: u64,
    /// Lines of which nobody can tell.
    pub unknown: u64,
}

/// Runs until stdin has ended and everything has its outcome, or until the connection ends. Whatever happens, each line that
/// was sent has its outcome told.
///
/// # Errors
///
/// [`Failed`] where the connection could not be had or kept, or stdin or stdout failed.
pub async fn run(options: &Options) -> Result<Tally, Failed> {
    let (linger, patience) = (seconds("--linger", options.linger)?, seconds("--patience", options.patience)?);
    let client = reattach_tokio::start(&options.dialling.url, options.dialling.config(OnSuperseded::default())?)?;
    let status = (!options.quiet).then(|| tokio::spawn(tell_status(client.clone())));
    let activity = Arc::new(Activity::new());
    let (claims, tallying) = tally(Arc::clone(&activity));
    let mut receiving = tokio::spawn(receive(client.clone(), Arc::clone(&activity), options.json));
    let work = async {
        let sent = send_lines(&client, options.json, &claims, &activity).await;
        let deadline = Instant::now() + patience;
        if sent.is_ok() {
            // What is still to come is waited for until it has been quiet for a while.
            wait_for_quiet(&client, &activity, linger, deadline).await;
        }
        (sent, deadline)
    };
    let (mut ended, deadline) = tokio::select! {
        (sent, deadline) = work => (sent.map(|()| true), deadline),
        received = &mut receiving => {
            // Nobody reads what comes any more, or nothing more will come: there is nothing to be patient for.
            (received.expect("receiving does not panic").map(|()| false), Instant::now())
        }
    };
    let state = client.state();
    drop(claims);
    client.close(deadline.saturating_duration_since(Instant::now())).await;
    let tally = tallying.await.expect("the tally does not panic");
    if let Some(status) = status {
        status.abort();
    }
    if !receiving.is_finished() {
        let received = receiving.await.expect("receiving does not panic");
        ended = ended.and_then(|is_done| received.map(|()| is_done));
    }
    match ended {
        Ok(true) => Ok(tally),
        // Whoever reads has read enough.
        Err(Failed::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(tally),
        Ok(false) => {
            tell(&summary(&tally));
            Err(failed(state))
        }
        Err(failed) => {
            tell(&summary(&tally));
            Err(failed)
        }
    }
}

fn failed(state: ConnectionState) -> Failed {
    if let ConnectionState::Failed(GiveUp::Hopeless { last: Ended::NotOpened(OpenError::Insecure(why)) }) = state {
        return Failed::Insecure(why);
    }
    Failed::Ended(dial::end(&state))
}

/// Says something on stderr. Nobody need be listening.
pub(crate) fn tell(line: &str) {
    _ = writeln!(io::stderr(), "{line}");
}

/// What is still going on, and when something happened last.
struct Activity {
    start: Instant,
    /// Milliseconds from the start.
    last: AtomicU64,
    /// Lines without an outcome.
    pending: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0), pending: AtomicU64::new(0) }
    }

    fn happened(&self) {
        self.last.store(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn quiet(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// How often to look whether it is quiet.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until the client has been attached, and every line had its outcome, and nothing came, for so long; at most until the
/// deadline.
async fn wait_for_quiet(client: &Client, activity: &Activity, quiet: Duration, deadline: Instant) {
    activity.happened();
    while Instant::now() < deadline {
        if client.state() != ConnectionState::Attached || activity.pending.load(Ordering::Relaxed) > 0 {
            activity.happened();
        } else if activity.quiet() >= quiet {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What became of the lines, in words.
#[must_use]
pub fn summary(tally: &Tally) -> String {
    format!("{} delivered, {} not delivered, {} unknown", tally.delivered, tally.failed, tally.unknown)
}

/// A message as a line: a JSON string as its text, unless that would break the line; anything else as it came.
#[must_use]
pub fn line_of(payload: &UncheckedPayload) -> String {
    match payload.parse::<String>() {
        Ok(text) if !text.contains(['\n', '\r']) => text,
        Ok(_) | Err(_) => payload.as_str().to_owned(),
    }
}

fn seconds(option: &str, seconds: f64) -> Result<Duration, Failed> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| Failed::Option(format!("{option}: {seconds} is not a number of seconds to wait")))
}

/// Sends line after line. A line that cannot be sent is the last; those before it are on their way.
async fn send_lines(
    client: &Client,
    json: bool,
    claims: &mpsc::Sender<(u64, Receipt)>,
    activity: &Activity,
) -> Result<(), Failed> {
    let mut lines = stdin::lines(link::Config::default().max_payload);
    let mut number = 0;
    while let Some(line) = lines.recv().await {
        number += 1;
        let cannot = |problem: &dyn std::fmt::Display| Failed::Line { number, problem: problem.to_string() };
        let payload = match line {
            Line::Text(text) => payload_of(&text, json).map_err(|error| cannot(&error))?,
            Line::Bad(problem) => return Err(cannot(&problem)),
        };
        match client.send(payload).await {
            Ok(receipt) => {
                activity.pending.fetch_add(1, Ordering::Relaxed);
                _ = claims.send((number, receipt)).await;
            }
            Err(error @ (ApiMisuse::TooLarge { .. } | ApiMisuse::IdInUse)) => return Err(cannot(&error)),
            // The receiving side says how it ended.
            Err(_) => std::future::pending().await,
        }
    }
    Ok(())
}

fn payload_of(line: &str, json: bool) -> Result<Payload, PayloadError> {
    if json { Payload::from_json(line) } else { Payload::new(line) }
}

/// Receives until nothing more will come.
async fn receive(client: Client, activity: Arc<Activity>, json: bool) -> Result<(), Failed> {
    while let Some(delivery) = client.recv().await {
        let payload = delivery.payload();
        let line = if json { payload.as_str().to_owned() } else { line_of(payload) };
        activity.happened();
        let mut out = io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush())?;
    }
    Ok(())
}

/// Awaits receipts one after the other, names the lines that failed, and counts.
fn tally(activity: Arc<Activity>) -> (mpsc::Sender<(u64, Receipt)>, JoinHandle<Tally>) {
    // An outbox holds fewer messages than this, so a sender never waits here.
    let (sender, mut receipts) = mpsc::channel::<(u64, Receipt)>(1_024);
    let task = tokio::spawn(async move {
        use reattach_tokio::core::outcome::Outcome;
        let mut tally = Tally::default();
        while let Some((number, receipt)) = receipts.recv().await {
            let outcome = receipt.await;
            activity.pending.fetch_sub(1, Ordering::Relaxed);
            activity.happened();
            match &outcome {
                Outcome::Delivered => {
                    tally.delivered += 1;
                    continue;
                }
                Outcome::Rejected { .. } | Outcome::NotDelivered { .. } => tally.failed += 1,
                Outcome::Unknown { .. } => tally.unknown += 1,
            }
            tell(&format!("line {number}: {outcome}"));
        }
        tally
    });
    (sender, task)
}

async fn tell_status(client: Client) {
    let mut watch = client.watch();
    drop(client);
    let mut told = None;
    loop {
        let state = watch.state();
        let Some(line) = dial::standing(&state) else { return };
        if told.as_ref() != Some(&line) {
            tell(&line);
            told = Some(line);
        }
        watch.changed().await;
    }
}
