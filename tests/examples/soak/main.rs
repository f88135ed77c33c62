//! A soak: many connections over real sockets, messages both ways all the time, and cuts all the time.
//!
//! ```text
//! cargo run --release -p reattach-tests --example soak -- [--minutes M] [--connections N] [--runtime tokio|smol] [--seed S]
//! ```
//!
//! Every side sends numbers and the other side expects the next one, so that nothing is lost, doubled or out of order without
//! being seen; every message has to be told delivered, and every epoch has to go on. Memory has to stay what it was once the
//! connections had warmed up, and in the end no task and no socket may be left. Results go to stdout, progress to stderr; the
//! exit code is 0 where all of that held, 1 where it did not, 2 where the command line is not understood.

#[path = "../../tests/adapter/counting.rs"]
mod counting;
mod gauge;
mod talk;

extern crate reattach_tokio as reattach;

use std::env;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use reattach::Client;
use reattach::ClientConfig;
use reattach::Connection;
use reattach::Server;
use reattach::ServerConfig;
use reattach::core::client;
use reattach::core::connection;
use reattach::core::rng::Rng;
use reattach::core::server;
use reattach::runtime::Runtime;
use reattach_cli::proxy::Cut;
use reattach_cli::proxy::FaultProxy;

use self::counting::Counting;
use self::gauge::Memory;
use self::talk::Tally;

/// How many connections share a proxy, and so their cuts.
const PER_PROXY: usize = 25;
/// Between the cuts of a proxy.
const CUT_AFTER: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(12));
/// How long everything may take to come to its end.
const PATIENCE: Duration = Duration::from_secs(60);

struct Options {
    minutes: f64,
    connections: usize,
    runtime: Arc<dyn Runtime>,
    seed: u64,
}

fn main() -> ExitCode {
    let options = match parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(what) => {
            eprintln!("soak: {what}\nTry: soak --minutes 1 --connections 200 --runtime tokio --seed 1");
            return ExitCode::from(2);
        }
    };
    let program = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match program.and_then(|program| program.block_on(soak(&options))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { minutes: 1.0, connections: 200, runtime: Arc::new(reattach_tokio::Tokio), seed: 1 };
    while let Some(arg) = args.next() {
        let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
        let bad = || format!("{value:?} is no value of {arg}");
        match arg.as_str() {
            "--minutes" => options.minutes = value.parse().map_err(|_| bad())?,
            "--connections" => options.connections = value.parse().map_err(|_| bad())?,
            "--seed" => options.seed = value.parse().map_err(|_| bad())?,
            "--runtime" if value == "tokio" => options.runtime = Arc::new(reattach_tokio::Tokio),
            "--runtime" if value == "smol" => options.runtime = Arc::new(reattach_smol::Smol::global()),
            "--runtime" => return Err(bad()),
            other => return Err(format!("{other:?} is not known")),
        }
    }
    Ok(options)
}

/// Returns whether everything held.
async fn soak(options: &Options) -> io::Result<bool> {
    let runtime = Arc::new(Counting::new(Arc::clone(&options.runtime)));
    // A runtime keeps files of its own from its first socket on.
    let first = Server::bind(Arc::<Counting>::clone(&runtime), "127.0.0.1:0", ServerConfig::new()).await?;
    first.shut_down();
    first.closed().await;
    let files = gauge::open_files();
    let tally = Arc::new(Tally::default());
    let cuts = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);

    let server = serve(&runtime, &tally, until).await?;
    let proxies = proxies(options, &server, &cuts, until).await?;
    let mut clients = Vec::new();
    let mut talks = Vec::new();
    for number in 0..options.connections {
        let url = format!("ws://{}/", proxies[number / PER_PROXY].address());
        let client = Client::connect(Arc::<Counting>::clone(&runtime), &url, client_config()).await;
        let client = client.map_err(io::Error::other)?;
        talks.push(talk::begin(client.clone(), &tally, number as u64, until));
        clients.push(client);
    }
    let memory = watch(&tally, &cuts, until).await;

    let mut is_ended = true;
    for talking in talks {
        is_ended &= tokio::time::timeout(PATIENCE, talking).await.is_ok_and(|ended| ended.is_ok());
    }
    tally.check(is_ended, || "a conversation does not come to its end".to_owned());
    for client in clients {
        client.close(PATIENCE).await;
    }
    let undrained = server.drain(PATIENCE, Duration::ZERO..=Duration::ZERO).await;
    tally.check(undrained.is_empty(), || format!("a drain leaves something undone: {undrained:?}"));
    drop((server, proxies));
    let is_left = || runtime.alive() > 0 || gauge::open_files() > files;
    let ended = Instant::now();
    while is_left() && ended.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (tasks, sockets) = (runtime.alive(), gauge::open_files());
    tally.check(!is_left(), || format!("{tasks} tasks are left, and {sockets} files open where {files} were"));
    tally.check(memory.is_flat(), || format!("memory grows: {memory}"));
    println!("{tally}\ncuts of a proxy's connections   {}\nmemory   {memory}", cuts.load(Ordering::Relaxed));
    println!("tasks left   {tasks}\nopen files   {sockets}, and {files} before");
    Ok(tally.is_clean())
}

/// A server, each of whose connections talks as its clients do.
async fn serve(runtime: &Arc<Counting>, tally: &Arc<Tally>, until: Instant) -> io::Result<Server> {
    let mut core = server::Config::default();
    core.max_per_address = core.max_connections;
    hurry(&mut core.connection);
    let config = ServerConfig::new().with_core(core);
    let server = Server::bind(Arc::<Counting>::clone(runtime), "127.0.0.1:0", config).await?;
    let (accepting, tally) = (server.clone(), Arc::clone(tally));
    tokio::spawn(async move {
        for number in 1_000_000.. {
            let Some(connection) = accepting.accept().await else { return };
            talk::begin::<Connection>(connection, &tally, number, until);
        }
    });
    Ok(server)
}

/// Proxies that break what goes through them.
async fn proxies(
    options: &Options,
    server: &Server,
    cuts: &Arc<AtomicU64>,
    until: Instant,
) -> io::Result<Vec<Arc<FaultProxy>>> {
    let upstream = server.local_addr().ok_or_else(|| io::Error::other("the server has no address"))?;
    let mut proxies = Vec::new();
    for number in 0..options.connections.div_ceil(PER_PROXY) {
        let proxy = Arc::new(FaultProxy::start(upstream, Duration::from_millis(1)).await?);
        let (cutting, cuts, mut rng) = (Arc::clone(&proxy), Arc::clone(cuts), Rng::new(options.seed + number as u64));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(rng.between(CUT_AFTER.0, CUT_AFTER.1)).await;
                if Instant::now() >= until {
                    return;
                }
                let kinds = [Cut::Fin, Cut::Reset, Cut::Torn, Cut::Stall];
                let kind = kinds[usize::try_from(rng.below(4)).expect("it is below four")];
                cutting.cut(kind);
                cuts.fetch_add(1, Ordering::Relaxed);
            }
        });
        proxies.push(proxy);
    }
    Ok(proxies)
}

/// Says how it goes, and keeps account of the memory, until it is time.
async fn watch(tally: &Tally, cuts: &AtomicU64, until: Instant) -> Memory {
    const EVERY: Duration = Duration::from_secs(5);
    let began = Instant::now();
    let mut memory = Memory::default();
    while Instant::now() < until {
        tokio::time::sleep(EVERY.min(until.saturating_duration_since(Instant::now()))).await;
        memory.measure();
        let (elapsed, cuts) = (began.elapsed().as_secs(), cuts.load(Ordering::Relaxed));
        eprintln!("{elapsed} s: {}, {cuts} cuts, {memory}", tally.short());
    }
    memory
}

fn client_config() -> ClientConfig {
    let mut core = client::Config::default();
    core.reconnect.attempts = None;
    core.reconnect.backoff.base = Duration::from_millis(100);
    core.reconnect.backoff.cap = Duration::from_secs(2);
    hurry(&mut core.connection);
    ClientConfig::new().with_core(core)
}

/// A stall is to be noticed within seconds.
fn hurry(connection: &mut connection::Config) {
    connection.heartbeat.idle = Duration::from_secs(2);
    connection.heartbeat.dead_after = Duration::from_secs(5);
    connection.flow.stalled_after = Duration::from_secs(5);
}
