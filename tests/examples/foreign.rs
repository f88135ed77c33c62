//! Puts a client that was written from PROTOCOL.md alone through cuts, and through a server that forgets, and compares what it
//! claims with what the server's application has taken.
//!
//! `foreign PYTHON CLIENT.py`. Exit code 1 where a claim is false or a message was lost, doubled or late.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use reattach_cli::proxy::Cut;
use reattach_cli::proxy::FaultProxy;
use reattach_tokio::Server;
use reattach_tokio::ServerConfig;
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
    resumed: u64,
    fresh: u64,
    violations: Vec<String>,
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
    ] {
        println!("{name}: {}", if found.is_empty() { "kept" } else { "BROKEN" });
        faults.extend(found);
    }
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(python: &str, client: &str, proxy: &FaultProxy, receive: u64) -> Claims {
    let url = format!("ws://{}/", proxy.address());
    let (messages, receive) = (MESSAGES.to_string(), receive.to_string());
    let child = Command::new(python)
        .args([client, "--url", &url, "--messages", &messages, "--receive", &receive])
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
    let (claims, ()) = tokio::join!(run(python, client, &proxy, MESSAGES), cutting);
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
    let (claims, ()) = tokio::join!(run(python, client, &proxy, 0), forgetting);
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
                let payload = Payload::new(&Numbered { n }).expect("a number is JSON");
                let Ok(receipt) = sending.send(payload).await else { return };
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
