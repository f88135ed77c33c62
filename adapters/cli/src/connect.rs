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
use reattach_tokio::ClientConfig;
use reattach_tokio::ConnectionState;
use reattach_tokio::Credentials;
use reattach_tokio::CredentialsError;
use reattach_tokio::CredentialsProvider;
use reattach_tokio::Receipt;
use reattach_tokio::UrlError;
use reattach_tokio::core::client;
use reattach_tokio::core::error::ApiMisuse;
use reattach_tokio::core::wire::Payload;
use reattach_tokio::core::wire::PayloadError;
use reattach_tokio::core::wire::UncheckedPayload;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::BufReader;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What the client can be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The server, such as ws://127.0.0.1:9400/
    pub url: String,
    /// Each line is a JSON value, on stdin and on stdout; without this it is plain text, sent as a JSON string
    #[arg(long)]
    pub json: bool,
    /// A header for the WebSocket handshake, as `Name: value`; may be repeated
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// Send `Authorization: Bearer TOKEN` with the WebSocket handshake
    #[arg(long, value_name = "TOKEN")]
    pub bearer: Option<String>,
    /// A token for the hello, for servers that authenticate there
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// How many retries in a row may fail before giving up; without this there is no limit
    #[arg(long, value_name = "N")]
    pub attempts: Option<u32>,
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
    /// Stdin or stdout failed.
    Io(io::Error),
    /// The connection ended, or trying stopped.
    Ended(String),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Option(problem) => f.write_str(problem),
            Self::Url(error) => write!(f, "{error}; give an address such as ws://127.0.0.1:9400/"),
            Self::Io(error) => write!(f, "{error}"),
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

/// Runs until stdin has ended and everything has its outcome, or until the connection ends.
///
/// # Errors
///
/// [`Failed`] where the connection could not be had or kept, or stdin or stdout failed.
pub async fn run(options: &Options) -> Result<Tally, Failed> {
    let client = reattach_tokio::start(&options.url, config(options)?)?;
    let status = (!options.quiet).then(|| tokio::spawn(tell_status(client.clone())));
    let (claims, tallying) = tally();
    let last_arrival = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut receiving = tokio::spawn(receive(client.clone(), start, Arc::clone(&last_arrival), options.json));
    let sending = send_lines(&client, options.json, &claims);
    let ended = tokio::select! {
        sent = sending => {
            sent?;
            // Everything was sent. What is still to come is waited for until it has been quiet for a while.
            linger(options, start, &last_arrival, &mut receiving).await?
        }
        received = &mut receiving => Some(received),
    };
    drop(claims);
    client.close(seconds(options.patience)?).await;
    let tally = tallying.await.expect("the tally does not panic");
    if let Some(status) = status {
        status.abort();
    }
    match ended {
        Some(received) => received.expect("receiving does not panic")?,
        None => {
            receiving.await.expect("receiving does not panic")?;
            return Ok(tally);
        }
    }
    let state = client.state();
    let how = if let ConnectionState::Closed(client::Closed::ByPeer { code, reason }) = state {
        format!("the server ended the connection: {code} {reason}")
    } else if let ConnectionState::Failed(reason) = state {
        format!("no connection: {reason}")
    } else {
        "the connection ended".to_owned()
    };
    eprintln!("{}", summary(&tally));
    Err(Failed::Ended(how))
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

fn config(options: &Options) -> Result<ClientConfig, Failed> {
    let mut core = client::Config::default();
    core.reconnect.attempts = options.attempts;
    let mut config = ClientConfig::new().with_core(core);
    for header in &options.headers {
        let Some((name, value)) = header.split_once(':') else {
            return Err(Failed::Option(format!("--header {header:?}: it should look like `Name: value`")));
        };
        config = config.with_header(name.trim(), value.trim())?;
    }
    if let Some(bearer) = &options.bearer {
        config = config.with_header("Authorization", &format!("Bearer {bearer}"))?;
    }
    if let Some(token) = &options.token {
        let credentials = Credentials::token(token.clone())
            .map_err(|CredentialsError| Failed::Option("--token: it is empty or too long".to_owned()))?;
        config = config.with_credentials(CredentialsProvider::new(move || {
            let credentials = credentials.clone();
            async move { Ok(credentials) }
        }));
    }
    seconds(options.linger)?;
    seconds(options.patience)?;
    Ok(config)
}

fn seconds(seconds: f64) -> Result<Duration, Failed> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| Failed::Option(format!("{seconds} is not a number of seconds to wait")))
}

async fn send_lines(client: &Client, json: bool, claims: &mpsc::Sender<(u64, Receipt)>) -> Result<(), Failed> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut number = 0;
    while let Some(line) = lines.next_line().await? {
        number += 1;
        let payload = match payload_of(&line, json) {
            Ok(payload) => payload,
            Err(error) => {
                return Err(Failed::Option(format!("line {number} of stdin cannot be sent: {error}")));
            }
        };
        match client.send(payload).await {
            Ok(receipt) => _ = claims.send((number, receipt)).await,
            Err(error @ (ApiMisuse::TooLarge { .. } | ApiMisuse::IdInUse)) => {
                return Err(Failed::Option(format!("line {number} of stdin cannot be sent: {error}")));
            }
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
async fn receive(client: Client, start: Instant, last_arrival: Arc<AtomicU64>, json: bool) -> Result<(), Failed> {
    while let Some(delivery) = client.recv().await {
        let payload = delivery.payload();
        let line = if json { payload.as_str().to_owned() } else { line_of(payload) };
        last_arrival.store(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let mut out = io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush())?;
    }
    Ok(())
}

/// Waits until nothing has come for a while and the connection is up. Something comes back where receiving ended first.
async fn linger(
    options: &Options,
    start: Instant,
    last_arrival: &AtomicU64,
    receiving: &mut JoinHandle<Result<(), Failed>>,
) -> Result<Option<Result<Result<(), Failed>, tokio::task::JoinError>>, Failed> {
    let quiet = seconds(options.linger)?;
    let sent_at = start.elapsed();
    loop {
        let last = Duration::from_millis(last_arrival.load(Ordering::Relaxed)).max(sent_at);
        let left = quiet.saturating_sub(start.elapsed().saturating_sub(last));
        if left.is_zero() {
            return Ok(None);
        }
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            received = &mut *receiving => return Ok(Some(received)),
        }
    }
}

/// Awaits receipts one after the other, names the lines that failed, and counts.
fn tally() -> (mpsc::Sender<(u64, Receipt)>, JoinHandle<Tally>) {
    // An outbox holds fewer messages than this, so a sender never waits here.
    let (sender, mut receipts) = mpsc::channel::<(u64, Receipt)>(1_024);
    let task = tokio::spawn(async move {
        use reattach_tokio::core::outcome::Outcome;
        let mut tally = Tally::default();
        while let Some((number, receipt)) = receipts.recv().await {
            let outcome = receipt.await;
            match &outcome {
                Outcome::Delivered => {
                    tally.delivered += 1;
                    continue;
                }
                Outcome::Rejected { .. } | Outcome::NotDelivered { .. } => tally.failed += 1,
                Outcome::Unknown { .. } => tally.unknown += 1,
            }
            eprintln!("line {number}: {outcome}");
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
        let line = match &state {
            ConnectionState::Connecting { attempt: 0, .. } => "connecting".to_owned(),
            ConnectionState::Connecting { attempt, limit } => format!("reconnecting, retry {}", of(*attempt, *limit)),
            ConnectionState::Attached => "attached".to_owned(),
            ConnectionState::Detached { attempt, limit, next_try } => {
                let wait = next_try.saturating_duration_since(Instant::now());
                format!("detached; retry {} in {:.1} s", of(*attempt, *limit), wait.as_secs_f64())
            }
            ConnectionState::Superseded => "another instance took the connection over".to_owned(),
            ConnectionState::Failed(reason) => format!("gave up: {reason}"),
            ConnectionState::Closed(_) => return,
            state => format!("{state:?}"),
        };
        if told.as_ref() != Some(&line) {
            eprintln!("{line}");
            told = Some(line);
        }
        watch.changed().await;
    }
}

fn of(attempt: u32, limit: Option<u32>) -> String {
    limit.map_or_else(|| attempt.to_string(), |limit| format!("{attempt}/{limit}"))
}
