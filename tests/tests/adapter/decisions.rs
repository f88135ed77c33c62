//! The adapter over real sockets: decisions about messages, orderly ends, and sleep.

use std::io;
use std::pin::Pin;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use async_tungstenite::tokio::TokioAdapter;
use reattach::Admitted;
use reattach::ClientConfig;
use reattach::Connection;
use reattach::ConnectionState;
use reattach::Credentials;
use reattach::CredentialsProvider;
use reattach::ServerConfig;
use reattach::core::client::Closed;
use reattach::core::client::Event;
use reattach::core::client::Light;
use reattach::core::error::ApiMisuse;
use reattach::core::flow::Config as Flow;
use reattach::core::heartbeat::Config as Heartbeat;
use reattach::core::id::ConnectionKey;
use reattach::core::id::Name;
use reattach::core::link::Outgoing;
use reattach::core::outcome::NotDelivered;
use reattach::core::outcome::Outcome;
use reattach::core::outcome::Unknown;
use reattach::core::reconnect::Ended;
use reattach::core::server::PeerClosed;
use reattach::core::server::PeerEvent;
use reattach::core::server::Unfinished;
use reattach::core::wire::CloseCode;
use reattach::core::wire::Payload;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use super::loopback::client_config;
use super::loopback::client_core;
use super::loopback::code;
use super::loopback::deciding;
use super::loopback::deciding_pair;
use super::loopback::listen;
use super::loopback::next;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::pair;
use super::loopback::pair_at;
use super::loopback::server_config;
use super::loopback::server_core;
use super::loopback::soon;
use super::loopback::text;
use super::loopback::until;

const ABANDONED: Outcome = Outcome::Unknown { reason: Unknown::Abandoned };

async fn next_number(connection: &Connection) -> u64 {
    let received = next(connection).await;
    number_of(&received)
}

#[tokio::test]
async fn what_the_application_decides_is_what_the_sender_is_told() {
    let (client, connection, _server) = deciding_pair().await;
    let accepted = client.send(number(1)).await.unwrap();
    let rejected = client.send(number(2)).await.unwrap();
    next(&connection).await.accept().unwrap();
    next(&connection).await.reject(code("no"), "not today").unwrap();
    assert_eq!(soon(accepted).await, Outcome::Delivered);
    assert_eq!(soon(rejected).await, Outcome::Rejected { code: code("no"), reason: "not today".into() });
}

#[tokio::test]
async fn a_lane_waits_for_the_decision_and_the_others_do_not() {
    let (client, connection, _server) = deciding_pair().await;
    let in_lane = |n: u64, lane: &str| Outgoing::from(number(n)).in_lane(Name::new(lane).unwrap());
    for (n, lane) in [(1, "a"), (2, "a"), (3, "b")] {
        _ = client.send(in_lane(n, lane)).await.unwrap();
    }
    let first = next(&connection).await;
    let other = next(&connection).await;
    assert_eq!((number_of(&first), number_of(&other)), (1, 3));
    assert!(connection.try_recv().is_none());
    // Whoever waits is woken by the decision, wherever it is made.
    let waiting = tokio::spawn({
        let connection = connection.clone();
        async move { next_number(&connection).await }
    });
    tokio::task::yield_now().await;
    first.accept().unwrap();
    assert_eq!(soon(waiting).await.unwrap(), 2);
}

#[tokio::test]
async fn a_message_that_is_deferred_comes_again_and_its_sender_knows() {
    let (client, connection, _server) = deciding_pair().await;
    let mut events = client.events();
    let receipt = client.send(number(1)).await.unwrap();
    next(&connection).await.defer(Duration::from_millis(50), code("busy")).unwrap();
    let failed = soon(async {
        loop {
            if let Event::SendFailed(failed) = events.next().await.expect("the client goes on") {
                return failed;
            }
        }
    })
    .await;
    assert!(failed.will_retry() && failed.id == receipt.id(), "{failed:?}");
    next(&connection).await.accept().unwrap();
    assert_eq!(soon(receipt).await, Outcome::Delivered);
}

#[tokio::test]
async fn a_message_that_is_known_already_is_settled_at_once() {
    // Nothing but the report itself tells the sender in time.
    let (mut here, mut there) = (server_core(), client_core());
    for config in [&mut here.connection, &mut there.connection] {
        config.heartbeat = Heartbeat::default();
        config.flow = Flow::default();
    }
    let (server, url) = listen(ServerConfig::new().with_core(here)).await;
    let client = soon(reattach::connect(&url, ClientConfig::new().with_core(there))).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    let named = || Outgoing::from(number(1)).named("00000000-0000-4000-8000-000000000001".parse().unwrap());
    let first = client.send(named()).await.unwrap();
    let taken = next(&connection).await;
    assert_eq!(number_of(&taken), 1);
    assert_eq!(soon(first).await, Outcome::Delivered);
    let second = client.send(named()).await.unwrap();
    until(|| connection.stats().link.received == 2).await;
    // That it came is said in front of this; from then on the server has nothing to do until somebody takes.
    connection.send_ephemeral(Name::new("here").unwrap(), Payload::new(&0).unwrap()).unwrap();
    soon(client.recv()).await.unwrap();
    let taking = tokio::spawn({
        let connection = connection.clone();
        async move { connection.recv().await.is_none() }
    });
    let began = std::time::Instant::now();
    assert_eq!(soon(second).await, Outcome::Delivered);
    assert!(began.elapsed() < Duration::from_secs(2), "it did not have to be asked about: {:?}", began.elapsed());
    client.disconnect();
    assert!(soon(taking).await.unwrap(), "it is not handed over again");
}

#[tokio::test]
async fn a_lease_that_is_extended_holds_and_one_that_is_not_ends_as_abandoned() {
    let lease = Duration::from_millis(100);
    let config = deciding(|core| core.connection.link.lease = lease);
    let (client, connection, _server) = pair_at(config).await;
    let receipt = client.send(number(1)).await.unwrap();
    let handed = next(&connection).await;
    handed.extend(Duration::from_secs(60)).unwrap();
    tokio::time::sleep(lease * 3).await;
    handed.accept().unwrap();
    assert_eq!(soon(receipt).await, Outcome::Delivered);
    let receipt = client.send(number(2)).await.unwrap();
    let handed = next(&connection).await;
    assert_eq!(soon(receipt).await, ABANDONED);
    assert_eq!(handed.extend(lease), Err(ApiMisuse::Undecidable));
    assert_eq!(handed.accept(), Err(ApiMisuse::Undecidable));
}

#[tokio::test]
async fn a_message_that_is_dropped_undecided_is_abandoned_at_once_by_a_panic_too() {
    let (client, connection, _server) = deciding_pair().await;
    let dropped = client.send(number(1)).await.unwrap();
    drop(next(&connection).await);
    assert_eq!(soon(dropped).await, ABANDONED);
    let panicked = client.send(number(2)).await.unwrap();
    let application = tokio::spawn({
        let connection = connection.clone();
        async move {
            let _handed = next(&connection).await;
            panic!("the application's own fault");
        }
    });
    assert!(soon(application).await.unwrap_err().is_panic());
    assert_eq!(soon(panicked).await, ABANDONED);
    let after = client.send(number(3)).await.unwrap();
    next(&connection).await.accept().unwrap();
    assert_eq!(soon(after).await, Outcome::Delivered, "the connection goes on");
}

#[tokio::test]
async fn a_message_that_is_cancelled_in_time_is_never_handed_over() {
    let (client, connection, _server) = deciding_pair().await;
    let first = client.send(number(1)).await.unwrap();
    let second = client.send(number(2)).await.unwrap();
    let handed = next(&connection).await;
    until(|| connection.stats().link.received == 2).await;
    client.cancel(&second.id()).unwrap();
    assert_eq!(soon(second).await, Outcome::NotDelivered { reason: NotDelivered::Cancelled });
    // What is in the application's hands is its decision.
    client.cancel(&first.id()).unwrap();
    handed.accept().unwrap();
    let id = first.id();
    assert_eq!(soon(first).await, Outcome::Delivered);
    assert_eq!(client.cancel(&id), Err(ApiMisuse::UnknownMessage));
    assert!(connection.try_recv().is_none());
}

#[tokio::test]
async fn a_server_that_drains_waits_for_decisions_and_its_clients_come_back_to_the_next_one() {
    let (client, connection, server) = deciding_pair().await;
    let address = server.local_addr().unwrap().to_string();
    let mut events = connection.events();
    let accepted = client.send(number(1)).await.unwrap();
    let waiting = client.send(number(2)).await.unwrap();
    let handed = next(&connection).await;
    until(|| connection.stats().link.received == 2).await;
    let draining = tokio::spawn(async move {
        let delay = Duration::from_millis(200);
        server.drain(Duration::from_secs(20), delay..=delay).await
    });
    // What was sent before it began is taken, so that nothing but the decision is waited for.
    let taking = tokio::spawn({
        let client = client.clone();
        async move { while client.recv().await.is_some() {} }
    });
    until(|| matches!(connection.try_send(number(9)), Err(ApiMisuse::Ended))).await;
    assert!(connection.try_recv().is_none(), "nothing more is handed over");
    handed.accept().unwrap();
    assert_eq!(soon(draining).await.unwrap(), [], "nobody was cut off");
    assert_eq!(soon(accepted).await, Outcome::Delivered);
    assert_eq!(soon(waiting).await, Outcome::NotDelivered { reason: NotDelivered::Forgotten });
    let closed = soon(async {
        let mut last = None;
        while let Some(event) = events.next().await {
            last = Some(event);
        }
        last
    })
    .await;
    assert_eq!(closed, Some(PeerEvent::Closed { reason: PeerClosed::Drained { unfinished: Unfinished::default() } }));
    assert!(soon(connection.recv()).await.is_none());
    let for_the_next = client.send(number(3)).await.unwrap();
    let successor = reattach::bind(&address, server_config()).await.unwrap();
    let connection = soon(successor.accept()).await.unwrap();
    assert_eq!(next_number(&connection).await, 3);
    assert_eq!(soon(for_the_next).await, Outcome::Delivered);
    taking.abort();
}

#[tokio::test]
async fn what_is_undecided_when_a_drain_runs_out_is_unknown() {
    let (client, connection, server) = deciding_pair().await;
    let receipt = client.send(number(1)).await.unwrap();
    let handed = next(&connection).await;
    let delay = Duration::from_millis(200);
    let undrained = soon(server.drain(Duration::from_millis(100), delay..=delay)).await;
    let unfinished = Unfinished { undecided: 1, ..Unfinished::default() };
    let [only] = &undrained[..] else { panic!("one connection: {undrained:?}") };
    assert_eq!((only.id, only.unfinished), (connection.id(), unfinished));
    assert_eq!(&only.principal, connection.principal());
    assert_eq!(soon(receipt).await, Outcome::Unknown { reason: Unknown::InHands });
    assert_eq!(handed.accept(), Err(ApiMisuse::Undecidable));
}

#[tokio::test]
async fn a_drain_says_what_the_application_left_undone_when_it_cut_a_connection_off_meanwhile() {
    let (client, connection, server) = deciding_pair().await;
    client.suspend().unwrap();
    until(|| !connection.is_attached()).await;
    let lost = connection.send(number(1)).await.unwrap();
    let draining =
        tokio::spawn(async move { server.drain(Duration::from_secs(20), Duration::ZERO..=Duration::ZERO).await });
    until(|| matches!(connection.try_send(number(9)), Err(ApiMisuse::Ended))).await;
    connection.disconnect();
    let undrained = soon(draining).await.unwrap();
    let [only] = &undrained[..] else { panic!("one connection: {undrained:?}") };
    assert!(only.unfinished.unwritten > 0 && only.unfinished.undecided == 0, "{only:?}");
    assert!(matches!(soon(lost).await, Outcome::NotDelivered { .. }));
}

#[tokio::test]
async fn a_stranger_who_has_not_said_hello_is_sent_away_by_a_drain() {
    let (server, _) = listen(server_config()).await;
    let stranger = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
    until(|| server.transports() == 1).await;
    let delay = Duration::ZERO;
    assert_eq!(soon(server.drain(Duration::from_secs(20), delay..=delay)).await, []);
    assert_eq!(server.connections(), 0);
    drop(stranger);
}

#[tokio::test]
async fn a_client_that_is_revoked_is_told_and_ends() {
    let (client, connection, server) = pair().await;
    assert!(server.revoke(&connection.id()));
    soon(connection.ended()).await;
    soon(client.closed()).await;
    let ConnectionState::Closed(Closed::ByPeer { code, .. }) = client.state() else { panic!("{:?}", client.state()) };
    assert_eq!(code, CloseCode::FORBIDDEN);
    until(|| (server.connections(), server.transports()) == (0, 0)).await;
    assert!(!server.revoke(&connection.id()));
    assert_eq!(server.revoke_all(&Name::new("nobody").unwrap()), 0);
}

#[tokio::test]
async fn credentials_that_run_out_are_renewed_and_the_connection_notices_nothing_else() {
    let asked = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&asked);
    let config = server_config().with_admission(move |hello| {
        let is_first = hello.token.is_some_and(|token| token.reveal() == "0");
        let expires_in = is_first.then_some(Duration::from_millis(100));
        async move { Some(Admitted { principal: Name::new("ann").unwrap(), expires_in }) }
    });
    let (server, url) = listen(config).await;
    let provider = CredentialsProvider::new(move || {
        let n = counting.fetch_add(1, Ordering::Relaxed);
        async move { Credentials::token(n.to_string()) }
    });
    let client = soon(reattach::connect(&url, client_config().with_credentials(provider))).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    let mut events = connection.events();
    soon(async {
        while events.next().await != Some(PeerEvent::Detached { ended: Ended::CredentialsExpired }) {}
        while events.next().await != Some(PeerEvent::Attached { resumed: true }) {}
    })
    .await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let receipt = client.send(text("after")).await.unwrap();
    next(&connection).await.accept().unwrap();
    assert_eq!(soon(receipt).await, Outcome::Delivered);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn what_would_rather_fail_fails_once_the_server_cannot_be_reached() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", closed.local_addr().unwrap());
    drop(closed);
    let client = reattach::start(&url, client_config()).unwrap();
    let fast = client.send(Outgoing::from(number(1)).fail_fast()).await.unwrap();
    let mut waits = client.send(number(2)).await.unwrap();
    let unavailable = Outcome::NotDelivered { reason: NotDelivered::Unavailable };
    assert_eq!(soon(fast).await, unavailable);
    let fast = client.send(Outgoing::from(number(3)).fail_fast()).await.unwrap();
    assert_eq!(soon(fast).await, unavailable);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waits).await.is_err());
    client.disconnect();
    assert_eq!(soon(waits).await, Outcome::NotDelivered { reason: NotDelivered::Closed });
}

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

/// A stream that panics when it is read, once it is told to.
struct Cursed {
    stream: TcpStream,
    is_cursed: Arc<AtomicBool>,
}

impl AsyncRead for Cursed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        assert!(!self.is_cursed.load(Ordering::Relaxed), "the stream is cursed");
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cursed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

// "a peer task that panics while its connection says hello again"
#[tokio::test]
async fn a_connection_whose_task_panics_ends_honestly_and_its_client_begins_anew() {
    let server = reattach::server(deciding(|_| {}));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let is_cursed = Arc::new(AtomicBool::new(false));
    let accepting = tokio::spawn({
        let (server, is_cursed) = (server.clone(), Arc::clone(&is_cursed));
        async move {
            for number in 0_u32.. {
                let (stream, remote) = listener.accept().await.unwrap();
                let is_cursed = if number == 0 { Arc::clone(&is_cursed) } else { Arc::default() };
                server.serve(TokioAdapter::new(Cursed { stream, is_cursed }), Some(remote));
            }
        }
    });
    let client = soon(reattach::connect(&url, client_config())).await.unwrap();
    let first = soon(server.accept()).await.unwrap();
    let receipt = client.send(number(1)).await.unwrap();
    let down = first.send(number(2)).await.unwrap();
    let handed = next(&first).await;
    is_cursed.store(true, Ordering::Relaxed);
    // Its next byte kills the task, while the client says hello on another transport.
    client.reconnect().unwrap();
    soon(first.ended()).await;
    let second = soon(server.accept()).await.unwrap();
    assert_eq!(second.id(), first.id());
    assert!(matches!(soon(receipt).await, Outcome::Unknown { .. }));
    assert!(!matches!(soon(down).await, Outcome::Rejected { .. }));
    assert_eq!(handed.accept(), Err(ApiMisuse::Undecidable));
    let after = client.send(number(3)).await.unwrap();
    let handed = next(&second).await;
    assert_eq!(number_of(&handed), 3);
    handed.accept().unwrap();
    assert_eq!(soon(after).await, Outcome::Delivered);
    until(|| (server.connections(), server.transports()) == (1, 1)).await;
    accepting.abort();
}

const SLEEPER: &str = "REATTACH_SLEEPER_URL";
const BURST: u64 = 50;

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
        .args(["--exact", "adapter::decisions::sleeper", "--quiet"])
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
