//! Ten thousand connections that never say hello, from one address; and a well-behaved client from another.

use std::io::BufRead as _;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use reattach::ConnectionState;

use super::loopback::client_config;
use super::loopback::echo;
use super::loopback::listen;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::server_config;
use super::loopback::server_core;
use super::loopback::soon;
use super::loopback::until;

/// As many as the system lets a process have, but no more than this.
const MANY: usize = 10_000;

/// A flood that ends with the test, however that ends.
struct Flood(Child);

impl Drop for Flood {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

// S003-45
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_silent_connections_is_bounded_and_leaves_others_alone() {
    let mut core = server_core();
    core.hello_timeout = Duration::from_secs(4);
    core.max_per_address = 1_000;
    // The client's own heartbeat must not be what is tested on a machine that is busy with a flood.
    core.connection = reattach::core::connection::Config::default();
    let (server, url) = listen(server_config().with_core(core)).await;
    echo(&server);
    let client = soon(reattach::connect(&url, client_config().with_core(Default::default()))).await.unwrap();
    let before = resident_bytes();

    let address = server.local_addr().unwrap().to_string();
    let mut child = Command::new(env!("CARGO_BIN_EXE_flood"))
        .args([address.as_str(), "127.0.0.2", &MANY.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the flood starts");
    let mut said = BufReader::new(child.stdout.take().expect("its stdout is piped"));
    let mut flood = Flood(child);
    let opened = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        said.read_line(&mut line).expect("the flood says how many");
        (line.trim().parse::<usize>().expect("a number"), said)
    });

    let (mut asked, mut slowest, mut most, mut peak) = (0, Duration::ZERO, 0, before);
    while !opened.is_finished() || asked < 200 {
        asked += 1;
        let start = Instant::now();
        _ = client.send(number(asked)).await.unwrap();
        assert_eq!(number_of(&soon(client.recv()).await.unwrap()), asked);
        slowest = slowest.max(start.elapsed());
        most = most.max(server.transports());
        peak = peak.max(resident_bytes());
    }
    let (opened, mut said) = soon(opened).await.unwrap();
    assert!(opened >= MANY.min(file_limit().saturating_sub(200)), "only {opened} connections could be opened");
    assert!(most <= 1_001, "{most} transports were counted where 1,000 of an address are taken");
    assert!(most > 500, "the flood never came near the cap: {most}");
    assert_eq!((client.state(), client.stats().attached), (ConnectionState::Attached, 1));
    let grown = peak.saturating_sub(before) / 1024;
    eprintln!(
        "{opened} connections, {most} held at once, {grown} KiB more, {asked} echoes, the slowest in {slowest:?}"
    );
    // 1,000 streams, half of them with a WebSocket and its 8 KiB buffer.
    assert!(grown < 96 * 1024, "the flood costs {grown} KiB");

    until(|| server.transports() == 1).await;
    drop(flood.0.stdin.take());
    let closed = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        said.read_line(&mut line).expect("the flood says how many were closed");
        line.trim().parse::<usize>().expect("a number")
    });
    assert_eq!(soon(closed).await.unwrap(), opened, "every one of them was closed");
    assert_eq!(server.connections(), 1);
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

fn file_limit() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or("");
    line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(1_024)
}
