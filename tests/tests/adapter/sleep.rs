//! The adapter over real sockets: clients that sleep, and processes that are stopped.

use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use reattach::ConnectionState;
use reattach::ServerConfig;
use reattach::core::client::Light;
use reattach::core::id::ConnectionKey;
use reattach::core::outcome::Outcome;

use super::loopback::client_config;
use super::loopback::client_core;
use super::loopback::listen;
use super::loopback::next_number;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::pair_at;
use super::loopback::server_config;
use super::loopback::server_core;
use super::loopback::soon;
use super::loopback::until;

const SLEEPER: &str = "REATTACH_SLEEPER_URL";
const BURST: u64 = 50;

#[tokio::test]
async fn a_client_that_sleeps_is_kept_longer_and_finds_everything_again() {
    let mut core = server_core();
    core.detach_ttl = Duration::from_millis(50);
    let (client, connection, server) = pair_at(ServerConfig::new().with_core(core)).await;
    client.suspend().unwrap();
    assert_eq!(client.state(), ConnectionState::Suspended);
    assert_eq!(client.view().light, Light::Red);
    until(|| !connection.is_attached()).await;
    let up = client.send(number(1)).await.unwrap();
    let down = connection.send(number(2)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.connections(), 1, "a detached one would have been forgotten");
    client.reconnect().unwrap();
    assert_eq!(next_number(&connection).await, 1);
    assert_eq!(number_of(&soon(client.recv()).await.unwrap()), 2);
    assert_eq!((soon(up).await, soon(down).await), (Outcome::Delivered, Outcome::Delivered));
}

/// The other process of the test below, and nothing by itself: echoes what it is sent until the server ends the connection.
#[tokio::test]
async fn sleeper() {
    let Ok(url) = std::env::var(SLEEPER) else { return };
    let mut core = client_core();
    core.connection.heartbeat.gap = Duration::from_millis(500);
    core.connection.heartbeat.probe_timeout = Duration::from_millis(500);
    core.connection.link.ack_timeout = Duration::from_millis(200);
    let config = client_config().with_core(core).with_key(ConnectionKey::from_bytes([7; 16]));
    let client = soon(reattach::connect(&url, config)).await.unwrap();
    while let Some(received) = client.recv().await {
        let echo = number_of(&received) + 1_000;
        _ = client.send(number(echo)).await;
    }
}

// Section 6: a process that is stopped for longer than every link timer comes back and loses nothing.
#[tokio::test]
async fn a_process_that_was_stopped_comes_back_and_loses_nothing() {
    let (server, url) = listen(server_config()).await;
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "adapter::sleep::sleeper", "--quiet"])
        .env(SLEEPER, &url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = Process(child.unwrap());
    let connection = soon(server.accept()).await.unwrap();
    let mut receipts = Vec::new();
    for n in 0..BURST {
        receipts.push(connection.send(number(n)).await.unwrap());
    }
    signal(&child.0, "-STOP");
    for n in BURST..2 * BURST {
        receipts.push(connection.try_send(number(n)).unwrap());
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(server.connections(), 1, "within the time that a detached connection is kept");
    signal(&child.0, "-CONT");
    let mut echoed = Vec::new();
    while echoed.len() < 2 * BURST as usize {
        echoed.push(next_number(&connection).await);
    }
    assert_eq!(echoed, (1_000..1_000 + 2 * BURST).collect::<Vec<_>>());
    for receipt in receipts {
        assert_eq!(soon(receipt).await, Outcome::Delivered);
    }
    assert!(connection.stats().attached >= 1);
    soon(connection.close(Duration::from_secs(5))).await;
    // On a slow machine it may have been without a transport just then, and comes back to another connection.
    let ending = tokio::spawn(async move {
        while let Some(again) = server.accept().await {
            again.close(Duration::ZERO).await;
        }
    });
    until(|| child.0.try_wait().unwrap().is_some()).await;
    assert!(child.0.wait().unwrap().success());
    ending.abort();
}

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}
