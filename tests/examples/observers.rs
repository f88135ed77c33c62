//! One session, many observers: what each costs, and that each has every event once or is told what it missed.
//!
//! `observers [--observers 200] [--events 10000] [--rounds 5] [--seed 1]`
//!
//! First the cost: `events` events are published while `observers` clients watch over loopback, and the same are sent through a
//! bare `tokio::sync::broadcast` to as many tasks, and through one to as many raw WebSockets, in turns and in this process on one
//! thread; the figures are its CPU time for each observer and event, medians of the rounds. Then the proof: the same again through
//! a proxy that cuts all of them at random, with a log that keeps too little on purpose, and the memory that this took.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use futures_util::SinkExt as _;
use futures_util::StreamExt as _;
use reattach_cli::proxy::Cut;
use reattach_cli::proxy::FaultProxy;
use reattach_tokio::ClientConfig;
use reattach_tokio::Hub;
use reattach_tokio::Router;
use reattach_tokio::Server;
use reattach_tokio::ServerConfig;
use reattach_tokio::Session;
use reattach_tokio::core::client;
use reattach_tokio::core::hub::Config;
use reattach_tokio::core::hub::WatcherEvent;
use reattach_tokio::core::id::Name;
use reattach_tokio::core::id::Principal;
use reattach_tokio::core::id::SessionId;
use reattach_tokio::core::rng::Rng;
use reattach_tokio::core::server;
use reattach_tokio::core::session::LogLimits;
use reattach_tokio::core::session::WatchFrom;
use reattach_tokio::core::wire::Payload;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinSet;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many events are published before others have a turn.
const BURST: u64 = 50;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
struct Options {
    observers: u64,
    events: u64,
    rounds: u64,
    seed: u64,
}

#[derive(Debug)]
struct Failed(String);

impl<E: std::fmt::Display> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

fn main() -> std::process::ExitCode {
    let Some(options) = options() else {
        eprintln!("usage: observers [--observers N] [--events N] [--rounds N] [--seed N]");
        return std::process::ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(run(options)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(Failed(problem)) => {
            eprintln!("observers: {problem}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn options() -> Option<Options> {
    let mut options = Options { observers: 200, events: 10_000, rounds: 5, seed: 1 };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next()?.parse().ok().filter(|value| *value > 0)?;
        match name.as_str() {
            "--observers" => options.observers = value,
            "--events" => options.events = value,
            "--rounds" => options.rounds = value,
            "--seed" => options.seed = value,
            _ => return None,
        }
    }
    Some(options)
}

async fn run(options: Options) -> Result<(), Failed> {
    let Options { observers, events, rounds, .. } = options;
    let (mut bare, mut raw, mut layered) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        bare.push(soon(bare_broadcast(options)).await?);
        raw.push(soon(raw_websockets(options)).await?);
        layered.push(soon(session(options)).await?);
    }
    let each = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_nanos() as f64 / (observers * events) as f64
    };
    let (bare, raw, layered) = (each(&mut bare), each(&mut raw), each(&mut layered));
    println!("{observers} observers, {events} events, CPU for each observer and event:");
    println!("  a bare broadcast channel      {bare:8.0} ns");
    println!("  the same to raw WebSockets    {raw:8.0} ns");
    println!("  a session                     {layered:8.0} ns");
    println!("  a session to the channel {:.1}, to the WebSockets {:.2}", layered / bare, layered / raw);
    soon(cuts(options)).await
}

async fn soon<T>(what: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::time::timeout(PATIENCE, what).await.map_err(|_| Failed("it takes longer than it ever should".to_owned()))?
}

/// The CPU time of this process.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// How many bytes of memory this process has, where the system says so.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split(' ').nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

/// What an agent says: a small object.
fn event(number: u64) -> Payload {
    Payload::from_json(&format!(
        r#"{{"type":"chat_stream","sessionId":"main","number":{number},"delta":"some words of it"}}"#
    ))
    .expect("it is JSON")
}

async fn bare_broadcast(options: Options) -> Result<Duration, Failed> {
    let (sender, _) = broadcast::channel::<Arc<str>>(1_024);
    let mut tasks = JoinSet::new();
    for _ in 0..options.observers {
        let mut receiver = sender.subscribe();
        tasks.spawn(async move {
            for _ in 0..options.events {
                receiver.recv().await?;
            }
            Ok::<_, Failed>(())
        });
    }
    broadcast_all(&sender, options.events, &mut tasks).await
}

/// Sends every event, a burst at a time, and waits for whoever takes them. Returns the CPU time of it.
async fn broadcast_all(
    sender: &broadcast::Sender<Arc<str>>,
    events: u64,
    tasks: &mut JoinSet<Result<(), Failed>>,
) -> Result<Duration, Failed> {
    let begun = cpu();
    for number in 0..events {
        sender.send(event(number).as_str().into())?;
        if number % BURST == 0 {
            pause(|| sender.len() < 512).await;
        }
    }
    all(tasks).await?;
    Ok(cpu() - begun)
}

async fn all(tasks: &mut JoinSet<Result<(), Failed>>) -> Result<(), Failed> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn raw_websockets(options: Options) -> Result<Duration, Failed> {
    let sizes = || {
        let sizes = WebSocketConfig::default();
        Some(sizes.read_buffer_size(8 * 1024).write_buffer_size(64 * 1024))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (sender, _) = broadcast::channel::<Arc<str>>(1_024);
    let mut tasks: JoinSet<Result<(), Failed>> = JoinSet::new();
    for _ in 0..options.observers {
        let connect = tokio::net::TcpStream::connect(address);
        let (client, accepted) = futures_util::try_join!(connect, listener.accept())?;
        let server = accepted.0;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let url = format!("ws://{address}/");
        let (client, server) = futures_util::try_join!(
            async_tungstenite::tokio::client_async_with_config(url, client, sizes()),
            async_tungstenite::tokio::accept_async_with_config(server, sizes()),
        )?;
        let (mut client, mut server) = (client.0, server);
        let mut receiver = sender.subscribe();
        tasks.spawn(async move {
            let mut sent = 0;
            while sent < options.events {
                let mut text = Ok(receiver.recv().await?);
                // All that is there goes with one flush.
                while let Ok(now) = text {
                    server.feed((&*now).into()).await?;
                    sent += 1;
                    text = receiver.try_recv();
                }
                server.flush().await?;
            }
            Ok(())
        });
        tasks.spawn(async move {
            for _ in 0..options.events {
                client.next().await.ok_or("it ended")??;
            }
            Ok(())
        });
    }
    broadcast_all(&sender, options.events, &mut tasks).await
}

/// Has the others run, until something holds.
async fn pause(is_enough: impl Fn() -> bool) {
    loop {
        tokio::task::yield_now().await;
        if is_enough() {
            return;
        }
    }
}

/// A server with a hub, for which everybody is the same.
async fn serve(config: Config) -> Result<(Server, Hub, Session), Failed> {
    let everybody = || Name::new("everybody").ok();
    // All of them come from one address, as one principal.
    let mut core = server::Config::default();
    (core.max_per_address, core.max_per_principal) = (core.max_connections, core.max_connections);
    let server_config = ServerConfig::new().with_core(core).with_authentication(move |_| async move { everybody() });
    let server = reattach_tokio::bind("127.0.0.1:0", server_config).await?;
    let hub = Hub::new(&server, config);
    let name = everybody().ok_or("a name")?;
    let session = hub.create(SessionId::new("main")?, Principal::Named(name))?;
    let (accepting, serving) = (server.clone(), hub.clone());
    tokio::spawn(async move {
        while let Some(connection) = accepting.accept().await {
            let hub = serving.clone();
            tokio::spawn(async move { hub.serve(&connection, &Router::new()).await });
        }
    });
    Ok((server, hub, session))
}

async fn session(options: Options) -> Result<Duration, Failed> {
    let mut config = Config::default();
    config.sessions.log = LogLimits { count: 1_024, ..LogLimits::default() };
    let (server, _hub, session) = serve(config).await?;
    let url = format!("ws://{}/", server.local_addr().ok_or("an address")?);
    let mut tasks = JoinSet::new();
    let seen = Arc::new(Mutex::new(BTreeMap::<u64, u64>::new()));
    for observer in 0..options.observers {
        let client = reattach_tokio::connect(&url, ClientConfig::new()).await?;
        let seen = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut watch = client.watch_session(SessionId::new("main")?, WatchFrom::Start)?;
            let mut next = 1;
            while next <= options.events {
                let event = watch.next().await.ok_or("it ended")?;
                if matches!(event, WatcherEvent::Event(offset, _) if offset.get() == next) {
                    next += 1;
                } else if !is_aside(&event) {
                    return Err(Failed(format!("{event:?} where {next} was to come")));
                }
                if next % BURST == 0 {
                    seen.lock().map_err(|_| "somebody panicked")?.insert(observer, next);
                }
            }
            Ok(())
        });
    }
    while session.observers() < usize::try_from(options.observers)? {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let begun = cpu();
    for number in 0..options.events {
        session.publish(&event(number))?;
        if number % BURST == 0 {
            // No further ahead than the log reaches back.
            let slowest = || seen.lock().map_or(0, |seen| seen.values().copied().min().unwrap_or_default());
            pause(|| number < slowest() + 800).await;
        }
    }
    all(&mut tasks).await?;
    Ok(cpu() - begun)
}

fn is_aside(event: &WatcherEvent) -> bool {
    matches!(event, WatcherEvent::UpToDate | WatcherEvent::QueueStatus { .. })
}

fn missed_up_to(event: &WatcherEvent) -> Option<u64> {
    if let WatcherEvent::Missed { up_to } = event { Some(up_to.offset.get()) } else { None }
}

/// Every observer has each event once, or is told what it missed, whatever is cut.
async fn cuts(options: Options) -> Result<(), Failed> {
    let mut config = Config::default();
    config.sessions.log = LogLimits { count: 300, ..LogLimits::default() };
    let (server, _hub, session) = serve(config).await?;
    let proxy = FaultProxy::start(server.local_addr().ok_or("an address")?, Duration::from_millis(1)).await?;
    let url = format!("ws://{}/", proxy.address());
    let before = resident();
    let mut tasks = JoinSet::new();
    let tally = Arc::new(Mutex::new((0_u64, 0_u64)));
    for _ in 0..options.observers {
        let mut core = client::Config::default();
        core.reconnect.attempts = None;
        core.reconnect.backoff.base = Duration::from_millis(20);
        core.reconnect.backoff.cap = Duration::from_millis(200);
        let client = reattach_tokio::connect(&url, ClientConfig::new().with_core(core)).await?;
        let tally = Arc::clone(&tally);
        tasks.spawn(async move {
            let mut watch = client.watch_session(SessionId::new("main")?, WatchFrom::Start)?;
            let (mut last, mut seen, mut missed) = (0, 0, 0);
            while last < options.events {
                let event = watch.next().await.ok_or("it ended")?;
                if matches!(event, WatcherEvent::Event(offset, _) if offset.get() == last + 1) {
                    (last, seen) = (last + 1, seen + 1);
                } else if let Some(up_to) = missed_up_to(&event).filter(|up_to| *up_to > last) {
                    (last, missed) = (up_to, missed + up_to - last);
                } else if !is_aside(&event) {
                    return Err(Failed(format!("{event:?} after {last}")));
                }
            }
            let mut tally = tally.lock().map_err(|_| "somebody panicked")?;
            (tally.0, tally.1) = (tally.0 + seen, tally.1 + missed);
            Ok(())
        });
    }
    while session.observers() < usize::try_from(options.observers)? {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (mut rng, mut cuts, mut peak) = (Rng::new(options.seed), 0, 0);
    for number in 0..options.events {
        session.publish(&event(number))?;
        if rng.below(20) == 0 {
            tokio::time::sleep(Duration::from_millis(rng.below(20))).await;
            peak = peak.max(resident().unwrap_or_default());
        }
        if rng.below(200) == 0 {
            proxy.cut(if rng.below(2) == 0 { Cut::Reset } else { Cut::Fin });
            cuts += 1;
        }
    }
    all(&mut tasks).await?;
    let (seen, missed) = *tally.lock().map_err(|_| "somebody panicked")?;
    if seen + missed != options.observers * options.events {
        return Err(Failed(format!("{seen} were seen and {missed} missed, which is not all")));
    }
    println!(
        "{cuts} times all of them were cut (seed {}): {seen} events seen once, {missed} told to be missed",
        options.seed
    );
    if let Some(before) = before {
        let each = peak.saturating_sub(before) / options.observers / 1_024;
        println!("  at most {each} KiB of memory for each observer, both ends and the proxy between them");
    }
    Ok(())
}
