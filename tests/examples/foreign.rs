//! Puts a client that was written from PROTOCOL.md alone through cuts, through a server that forgets, and through applications
//! that decide about each message, and compares what it claims with what the server's application has taken and decided.
//!
//! `foreign PYTHON CLIENT.py`. Exit code 1 where a claim is false or a message was lost, doubled or late.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use reattach_cli::proxy::Cut;
use reattach_cli::proxy::FaultProxy;
use reattach_tokio::Connection;
use reattach_tokio::Received;
use reattach_tokio::Server;
use reattach_tokio::ServerConfig;
use reattach_tokio::core::id::Code;
use reattach_tokio::core::id::Lane;
use reattach_tokio::core::id::Name;
use reattach_tokio::core::link::Acceptance;
use reattach_tokio::core::link::Outgoing;
use reattach_tokio::core::outcome::Outcome;
use reattach_tokio::core::server;
use reattach_tokio::core::wire::Payload;
use serde::Deserialize;
use serde::Serialize;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;

#[derive(Debug, Deserialize, Serialize)]
struct Numbered {
    n: u64,
}

/// What the client says at its end.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    delivered: Vec<u64>,
    rejected: Vec<u64>,
    not_delivered: Vec<u64>,
    unknown: Vec<u64>,
    received: Vec<u64>,
    /// Failed for now, as often as that was told.
    deferred: Vec<u64>,
    /// Was cancelled or had a deadline.
    withdrawn: BTreeSet<u64>,
    /// What its application decided about what came, in order.
    decisions: Vec<(u64, Did)>,
    resumed: u64,
    fresh: u64,
    violations: Vec<String>,
}

/// What an application did with a message.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum Did {
    Accepted,
    Rejected,
    Deferred,
    Abandoned,
    /// It decided when there was nothing left to decide.
    Late,
}

/// What the sender of a message was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Delivered,
    Rejected,
    NotDelivered,
    Unknown,
}

/// What the server's application has done.
#[derive(Default)]
struct Record {
    taken: Mutex<Vec<u64>>,
    told: Mutex<Vec<Outcome>>,
    connections: watch::Sender<u32>,
    ended: watch::Sender<u32>,
    /// Whether messages are taken.
    is_reading: watch::Sender<bool>,
}

const MESSAGES: u64 = 2_000;
/// Session lanes, the default one included.
const LANES: u64 = 7;
/// The number of the message that tells a deciding client that nothing more comes.
const LAST: u64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [python, client] = args.as_slice() else {
        eprintln!("usage: foreign PYTHON CLIENT.py");
        return ExitCode::from(2);
    };
    let mut faults = Vec::new();
    for (name, found) in [
        ("cuts, the server keeps its state", cuts(python, client).await),
        ("the server forgets, with receipts", forgets(python, client, true).await),
        ("the server forgets, without receipts", forgets(python, client, false).await),
        ("both applications decide", decides(python, client).await),
        ("the client gives up and comes back", gives_up(python, client).await),
    ] {
        println!("{name}: {}", if found.is_empty() { "kept" } else { "BROKEN" });
        faults.extend(found);
    }
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(python: &str, client: &str, proxy: &FaultProxy, receive: u64, more: &[&str]) -> Claims {
    let url = format!("ws://{}/", proxy.address());
    let (messages, receive) = (MESSAGES.to_string(), receive.to_string());
    let child = Command::new(python)
        .args([client, "--url", &url, "--messages", &messages, "--receive", &receive])
        .args(more)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the client starts");
    let done = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends in time").expect("it ends");
    assert!(done.status.success(), "the client gave up: {}", done.status);
    serde_json::from_slice(&done.stdout).expect("one JSON object on stdout")
}

/// Twenty cuts of every kind, messages both ways all the while.
async fn cuts(python: &str, client: &str) -> Vec<String> {
    let (server, proxy) = listen(|_| {}).await;
    let record = Arc::new(Record::default());
    record.is_reading.send_replace(true);
    tokio::spawn(serve(server, Arc::clone(&record), MESSAGES));
    let cutting = async {
        let kinds = [Cut::Fin, Cut::Reset, Cut::Torn, Cut::Stall];
        let taken = || record.taken.lock().expect("no panics").len();
        for number in 0..20 {
            // Not before something flows again.
            let before = taken();
            while taken() < before + 30 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            proxy.cut(kinds[number % kinds.len()]);
        }
    };
    let (claims, ()) = tokio::join!(run(python, client, &proxy, MESSAGES, &[]), cutting);
    let all: Vec<_> = (0..MESSAGES).collect();
    let mut faults = Vec::new();
    let mut check = |holds: bool, what: String| {
        if !holds {
            faults.push(format!("cuts: {what}"));
        }
    };
    check(claims.delivered.len() as u64 == MESSAGES, format!("{} claimed delivered", claims.delivered.len()));
    check(claims.received == all, format!("{} received, not all of them once and in order", claims.received.len()));
    check(*record.taken.lock().expect("no panics") == all, "the server did not take all once and in order".to_owned());
    check(claims.resumed >= 20, format!("only {} resumed", claims.resumed));
    check(claims.violations.is_empty(), format!("violations: {:?}", claims.violations));
    let told = record.told.lock().expect("no panics");
    check(told.iter().all(Outcome::is_delivered), format!("the server was told {told:?}"));
    println!("  {} resumed, {} fresh", claims.resumed, claims.fresh);
    faults
}

/// The connection runs out three times, with messages on their way, in the inbox, and queued.
async fn forgets(python: &str, client: &str, receipts: bool) -> Vec<String> {
    let (server, proxy) = listen(|core| {
        core.detach_ttl = Duration::from_millis(200);
        if !receipts {
            core.receipts.max = 0;
        }
    })
    .await;
    let upstream = server.local_addr();
    let record = Arc::new(Record::default());
    record.is_reading.send_replace(true);
    tokio::spawn(serve(server, Arc::clone(&record), 0));
    let forgetting = async {
        for round in 1..=3 {
            record.connections.subscribe().wait_for(|count| *count >= round).await.expect("the record lives");
            tokio::time::sleep(Duration::from_millis(300)).await;
            record.is_reading.send_replace(false);
            tokio::time::sleep(Duration::from_millis(40)).await;
            proxy.set_upstream(None);
            proxy.cut(Cut::Reset);
            record.ended.subscribe().wait_for(|count| *count >= round).await.expect("the record lives");
            record.is_reading.send_replace(true);
            proxy.set_upstream(upstream);
        }
    };
    let (claims, ()) = tokio::join!(run(python, client, &proxy, 0, &[]), forgetting);
    let mut taken = BTreeMap::<u64, u32>::new();
    record.taken.lock().expect("no panics").iter().for_each(|n| *taken.entry(*n).or_default() += 1);
    let times = |n: &u64| taken.get(n).copied().unwrap_or(0);
    let mut faults = Vec::new();
    let mut check = |holds: bool, what: String| {
        if !holds {
            faults.push(format!("forgotten, receipts {receipts}: {what}"));
        }
    };
    let count = claims.delivered.len() + claims.not_delivered.len() + claims.unknown.len() + claims.rejected.len();
    check(count as u64 == MESSAGES, format!("{count} outcomes for {MESSAGES} messages"));
    check(claims.delivered.iter().all(|n| times(n) == 1), "one claimed delivered was not taken once".to_owned());
    check(claims.not_delivered.iter().all(|n| times(n) == 0), "one claimed not delivered was taken".to_owned());
    check(claims.unknown.iter().all(|n| times(n) <= 1), "one came twice".to_owned());
    check(claims.rejected.is_empty(), "some claimed rejected".to_owned());
    check(claims.violations.is_empty(), format!("violations: {:?}", claims.violations));
    check(!receipts || claims.unknown.is_empty(), format!("unknown with a receipt: {:?}", claims.unknown));
    check(receipts || !claims.unknown.is_empty(), "nothing was unknown although nothing was kept".to_owned());
    check(!receipts || !claims.not_delivered.is_empty(), "no receipt had anything to prove".to_owned());
    println!(
        "  {} delivered, {} not delivered, {} unknown, {} fresh",
        claims.delivered.len(),
        claims.not_delivered.len(),
        claims.unknown.len(),
        claims.fresh
    );
    faults
}

/// Both applications accept, reject, defer and abandon by number, on several lanes; both sides withdraw some; and the transport
/// is cut twenty times.
async fn decides(python: &str, client: &str) -> Vec<String> {
    let (server, proxy) = listen(|core| {
        core.connection.link.acceptance = Acceptance::Manual;
        core.connection.link.ack_timeout = Duration::from_millis(200);
    })
    .await;
    let decided: Arc<Mutex<Vec<(u64, Did)>>> = Arc::default();
    let of_application = Arc::clone(&decided);
    let (attached, connection) = tokio::sync::oneshot::channel();
    let ours = tokio::spawn(async move {
        let connection = server.accept().await.expect("the client attaches");
        _ = attached.send(connection.clone());
        let told = tokio::spawn(send_lanes(connection.clone()));
        while let Some(received) = connection.recv().await {
            decide(received, &of_application);
        }
        told.await.expect("no panics")
    });
    let cutting = async {
        let kinds = [Cut::Fin, Cut::Reset, Cut::Torn, Cut::Stall];
        let done = || decided.lock().expect("no panics").len();
        let connection = connection.await.expect("the client attaches");
        let mut transports = 0;
        for number in 0..20 {
            // Not before the next transport is there, and something was decided over it.
            _ = proxy.established().wait_for(|count| *count > transports).await.expect("the proxy lives");
            while !connection.is_attached() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let before = done();
            while done() < before + 30 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            transports = *proxy.established().borrow();
            proxy.cut(kinds[number % kinds.len()]);
        }
    };
    let theirs = "--manual --lanes 7 --hands 3 --cancel-each 6 --deadline-each 11 --idem-each 9 --naps 2";
    let theirs: Vec<_> = theirs.split(' ').collect();
    let (claims, ()) = tokio::join!(run(python, client, &proxy, LAST, &theirs), cutting);
    let (told, withdrawn) = ours.await.expect("no panics");
    let (mut to_server, mut count) = (BTreeMap::new(), 0);
    for (list, outcome) in [
        (&claims.delivered, Told::Delivered),
        (&claims.rejected, Told::Rejected),
        (&claims.not_delivered, Told::NotDelivered),
        (&claims.unknown, Told::Unknown),
    ] {
        count += list.len() as u64;
        to_server.extend(list.iter().map(|n| (*n, outcome)));
    }
    let decided = decided.lock().expect("no panics").clone();
    let mut faults = judge("to the server", &decided, &to_server, &claims.withdrawn, 3);
    faults.extend(judge("to the client", &claims.decisions, &told, &withdrawn, 4));
    let deferrals = |n: u64| decided.iter().filter(|did| **did == (n, Did::Deferred)).count();
    let mut check = |holds: bool, what: String| {
        if !holds {
            faults.push(format!("decided: {what}"));
        }
    };
    check(count == MESSAGES && to_server.len() as u64 == MESSAGES, format!("{count} outcomes for {MESSAGES} messages"));
    check(claims.deferred.iter().all(|n| deferrals(*n) > 0), "told of a deferral that never was".to_owned());
    check(!claims.deferred.is_empty(), "never told of a deferral".to_owned());
    check(claims.resumed >= 15 && claims.fresh == 1, format!("{} resumed, {} fresh", claims.resumed, claims.fresh));
    check(claims.violations.is_empty(), format!("violations: {:?}", claims.violations));
    println!("  {} resumed, {} fresh", claims.resumed, claims.fresh);
    faults
}

/// Sends numbers on lanes, every sixth withdrawn, and last the one that tells the client to end. Returns what was told of them,
/// and which were withdrawn.
async fn send_lanes(connection: Connection) -> (BTreeMap<u64, Told>, BTreeSet<u64>) {
    let (mut receipts, mut withdrawn) = (Vec::new(), BTreeSet::new());
    for n in 0..MESSAGES / 2 {
        let lane = match n % LANES {
            0 => Lane::DEFAULT,
            lane => Lane::named(Name::new(&format!("lane {lane}")).expect("a short name")),
        };
        let mut message = Outgoing::from(payload(n)).in_lane(lane);
        if n % 6 == 2 {
            withdrawn.insert(n);
            message = message.within(Duration::from_millis(n % 40));
        }
        let Ok(receipt) = connection.send(message).await else { break };
        receipts.push((n, receipt));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut told = BTreeMap::new();
    for (n, receipt) in receipts {
        let outcome = match receipt.await {
            Outcome::Delivered => Told::Delivered,
            Outcome::Rejected { .. } => Told::Rejected,
            Outcome::NotDelivered { .. } => Told::NotDelivered,
            Outcome::Unknown { .. } => Told::Unknown,
        };
        told.insert(n, outcome);
    }
    _ = connection.send(payload(LAST)).await;
    (told, withdrawn)
}

/// Decides by number: most are accepted, some late, some rejected, deferred twice, deferred until it is over, or abandoned.
fn decide(received: Received, decided: &Arc<Mutex<Vec<(u64, Did)>>>) {
    let Numbered { n } = received.payload().parse().expect("numbered messages only");
    let code = || Code::new(&format!("because-{n}")).expect("a short code");
    let note = |did| decided.lock().expect("no panics").push((n, did));
    let deferrals = decided.lock().expect("no panics").iter().filter(|did| did.0 == n).count();
    let (did, done) = match n % 20 {
        3 => (Did::Rejected, received.reject(code(), "no")),
        6 => (Did::Deferred, received.defer(Duration::from_millis(10), code())),
        9 if deferrals < 2 => (Did::Deferred, received.defer(Duration::from_millis(10), code())),
        12 => {
            drop(received);
            (Did::Abandoned, Ok(()))
        }
        15 => {
            let decided = Arc::clone(decided);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(15)).await;
                // Noted first: the next one of its lane may come before the accepting returns.
                decided.lock().expect("no panics").push((n, Did::Accepted));
                if received.accept().is_err() {
                    decided.lock().expect("no panics").push((n, Did::Late));
                }
            });
            return;
        }
        _ => (Did::Accepted, received.accept()),
    };
    note(if done.is_ok() { did } else { Did::Late });
}

/// Compares what the senders were told with what the receiving application did.
fn judge(
    way: &str,
    decided: &[(u64, Did)],
    told: &BTreeMap<u64, Told>,
    withdrawn: &BTreeSet<u64>,
    hands: usize,
) -> Vec<String> {
    let mut faults = Vec::new();
    let (mut acts, mut newest) = (BTreeMap::<u64, Vec<Did>>::new(), BTreeMap::new());
    for (n, did) in decided.iter().filter(|(n, _)| *n != LAST) {
        acts.entry(*n).or_default().push(*did);
        let newest = newest.entry(n % LANES).or_insert(*n);
        if n < newest {
            faults.push(format!("{way}: {n} came after {newest} in its lane"));
        }
        *newest = *n;
    }
    let (mut counts, mut gave_up) = (BTreeMap::<Told, u32>::new(), 0);
    for (n, outcome) in told {
        let acts = acts.remove(n).unwrap_or_default();
        let has_deferred_first = acts.iter().rev().skip(1).all(|did| *did == Did::Deferred);
        let is_true = match (outcome, acts.last()) {
            (Told::Delivered, Some(Did::Accepted))
            | (Told::Rejected, Some(Did::Rejected))
            | (Told::Unknown, Some(Did::Abandoned)) => has_deferred_first,
            (Told::Rejected, Some(Did::Deferred)) if withdrawn.contains(n) && acts.len() < hands => {
                gave_up += 1;
                has_deferred_first
            }
            (Told::Rejected, Some(Did::Deferred)) => has_deferred_first && acts.len() == hands,
            (Told::NotDelivered, None) => withdrawn.contains(n),
            _ => false,
        };
        if !is_true {
            faults.push(format!("{way}: {n} was told {outcome:?}, but the application did {acts:?}"));
        }
        *counts.entry(*outcome).or_default() += 1;
    }
    if !acts.is_empty() {
        faults.push(format!("{way}: decided, and nothing told: {acts:?}"));
    }
    if counts.len() < 4 {
        faults.push(format!("{way}: not every outcome was tried: {counts:?}"));
    }
    println!("  {way}: {counts:?}, {gave_up} of the rejected withdrawn after a deferral");
    faults
}

fn payload(n: u64) -> Payload {
    Payload::new(&Numbered { n }).expect("a number is JSON")
}

/// Three times the server cannot be reached for so long that the client gives up: what it had written it calls unknown, and
/// withdraws when it tries again, in the same epoch.
async fn gives_up(python: &str, client: &str) -> Vec<String> {
    let (server, proxy) = listen(|_| {}).await;
    let upstream = server.local_addr();
    let record = Arc::new(Record::default());
    record.is_reading.send_replace(true);
    tokio::spawn(serve(server, Arc::clone(&record), 0));
    let leaving = async {
        for _ in 0..3 {
            record.connections.subscribe().wait_for(|count| *count >= 1).await.expect("the record lives");
            tokio::time::sleep(Duration::from_millis(300)).await;
            record.is_reading.send_replace(false);
            tokio::time::sleep(Duration::from_millis(40)).await;
            proxy.set_upstream(None);
            proxy.cut(Cut::Reset);
            tokio::time::sleep(Duration::from_millis(600)).await;
            let transports = *proxy.established().borrow();
            proxy.set_upstream(upstream);
            proxy.established().wait_for(|count| *count > transports).await.expect("the proxy lives");
            tokio::time::sleep(Duration::from_millis(100)).await;
            record.is_reading.send_replace(true);
        }
    };
    let patience = ["--attempts", "2", "--revive-ms", "200", "--pace-ms", "2"];
    let (claims, ()) = tokio::join!(run(python, client, &proxy, 0, &patience), leaving);
    let taken = record.taken.lock().expect("no panics").clone();
    let times = |n: &u64| taken.iter().filter(|taken| *taken == n).count();
    let mut faults = Vec::new();
    let mut check = |holds: bool, what: &str| {
        if !holds {
            faults.push(format!("given up: {what}"));
        }
    };
    let count = claims.delivered.len() + claims.not_delivered.len() + claims.unknown.len() + claims.rejected.len();
    check(count as u64 == MESSAGES, "not one outcome for each message");
    check(claims.delivered.iter().all(|n| times(n) == 1), "one claimed delivered was not taken once");
    check(claims.not_delivered.iter().all(|n| times(n) == 0), "one claimed not delivered was taken");
    check(claims.unknown.iter().all(|n| times(n) <= 1), "one came twice");
    check(claims.unknown.iter().any(|n| times(n) == 0), "nothing was withdrawn in time");
    check(taken.is_sorted(), "one came late");
    check(claims.rejected.is_empty(), "some claimed rejected");
    check(claims.resumed >= 3 && claims.fresh == 1, "the epoch did not go on");
    check(claims.violations.is_empty(), "the server broke the protocol");
    println!(
        "  {} delivered, {} not delivered, {} unknown, {} of them never taken",
        claims.delivered.len(),
        claims.not_delivered.len(),
        claims.unknown.len(),
        claims.unknown.iter().filter(|n| times(n) == 0).count()
    );
    faults
}

async fn listen(change: impl FnOnce(&mut server::Config)) -> (Server, FaultProxy) {
    let mut core = server::Config::default();
    core.connection.heartbeat.idle = Duration::from_millis(100);
    core.connection.heartbeat.dead_after = Duration::from_millis(400);
    core.connection.flow.stalled_after = Duration::from_millis(400);
    change(&mut core);
    let server = reattach_tokio::bind("127.0.0.1:0", ServerConfig::new().with_core(core)).await.expect("a free port");
    let upstream = server.local_addr().expect("a bound server has an address");
    let proxy = FaultProxy::start(upstream, Duration::from_millis(3)).await.expect("a free port");
    (server, proxy)
}

async fn serve(server: Server, record: Arc<Record>, messages: u64) {
    while let Some(connection) = server.accept().await {
        record.connections.send_modify(|count| *count += 1);
        let (sending, telling) = (connection.clone(), Arc::clone(&record));
        tokio::spawn(async move {
            let mut receipts = Vec::new();
            for n in 0..messages {
                let Ok(receipt) = sending.send(payload(n)).await else { return };
                receipts.push(receipt);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            for receipt in receipts {
                let outcome = receipt.await;
                telling.told.lock().expect("no panics").push(outcome);
            }
            sending.ended().await;
        });
        let record = Arc::clone(&record);
        tokio::spawn(async move {
            let mut is_reading = record.is_reading.subscribe();
            let next = async |is_reading: &mut watch::Receiver<bool>| {
                is_reading.wait_for(|is_reading| *is_reading).await.expect("the record lives");
                connection.recv().await
            };
            loop {
                tokio::select! {
                    biased;
                    // An application that pauses still notices that its connection has ended.
                    () = connection.ended() => break,
                    delivery = next(&mut is_reading) => {
                        let Some(delivery) = delivery else { break };
                        let numbered: Numbered = delivery.payload().parse().expect("numbered messages only");
                        record.taken.lock().expect("no panics").push(numbered.n);
                    }
                }
            }
            record.ended.send_modify(|count| *count += 1);
        });
    }
}
