//! Endings and beginnings that overlap: what a program that stops, a runtime that goes, or an application that panics leaves
//! behind.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use async_tungstenite::tokio::TokioAdapter;
use futures_util::FutureExt as _;
use reattach::ClientConfig;
use reattach::ConnectError;
use reattach::Credentials;
use reattach::CredentialsProvider;
use reattach::core::error::ApiMisuse;
use reattach::core::id::Name;
use reattach::core::outcome::Outcome;
use reattach::core::reconnect::GiveUp;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use super::loopback::client_config;
use super::loopback::client_core;
use super::loopback::deciding;
use super::loopback::listen;
use super::loopback::next;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::server_config;
use super::loopback::server_core;
use super::loopback::soon;
use super::loopback::until;
use super::raw::Raw;
use super::raw::hello;

#[tokio::test]
async fn a_program_that_disconnects_can_wait_until_the_server_was_told() {
    let (server, url) = listen(server_config()).await;
    let client = soon(reattach::connect(&url, client_config())).await.unwrap();
    client.disconnect();
    soon(client.closed()).await;
    until(|| server.connections() == 0).await;
    let mut watch = client.watch();
    _ = watch.state();
    soon(watch.changed()).await;
}

#[tokio::test]
async fn two_who_wait_to_accept_are_both_woken() {
    let (server, url) = listen(server_config()).await;
    let accepted = Arc::new(AtomicU32::new(0));
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let (server, accepted) = (server.clone(), Arc::clone(&accepted));
            tokio::spawn(async move {
                let connection = server.accept().await;
                accepted.fetch_add(1, Ordering::SeqCst);
                connection
            })
        })
        .collect();
    tokio::task::yield_now().await;
    let (mut first, mut second) = (Raw::open(&url).await, Raw::open(&url).await);
    // Both lie in the sockets before the runtime, which has one thread, turns.
    let (one, two) = (hello(&reattach::connection_key(), 1, 1, ""), hello(&reattach::connection_key(), 2, 1, ""));
    tokio::join!(first.send(&one), second.send(&two));
    until(|| accepted.load(Ordering::SeqCst) == 2).await;
    for task in waiting {
        assert!(soon(task).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn connections_that_nobody_accepts_are_bounded() {
    let mut core = server_core();
    core.max_connections = 10;
    let (server, url) = listen(server_config().with_core(core)).await;
    for _ in 0..40 {
        let client = soon(reattach::connect(&url, client_config())).await.unwrap();
        soon(client.close(Duration::from_secs(1))).await;
        until(|| server.connections() == 0).await;
    }
    let mut kept = 0;
    while let Some(Some(_)) = server.accept().now_or_never() {
        kept += 1;
    }
    assert!(kept <= 10, "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_that_is_being_authenticated_does_not_outlive_the_server() {
    let is_busy = Arc::new(AtomicBool::new(false));
    let busy = Arc::clone(&is_busy);
    let (server, url) = listen(server_config().with_authentication(move |_| {
        let busy = Arc::clone(&busy);
        async move {
            busy.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(300)); // a password hash
            Name::new("alice").ok()
        }
    }))
    .await;
    let _client = reattach::start(&url, client_config()).unwrap();
    until(|| is_busy.load(Ordering::SeqCst)).await;
    server.shut_down();
    soon(server.closed()).await;
    assert_eq!(server.connections(), 0);
    assert!(soon(server.accept()).await.is_none());
}

#[tokio::test]
async fn a_provider_of_credentials_that_panics_has_none() {
    let (_server, url) = listen(server_config()).await;
    let at_once = CredentialsProvider::new(|| {
        assert!(url_is_known(), "the application panics");
        async { Ok(Credentials::none()) }
    });
    let later = CredentialsProvider::new(|| async {
        assert!(url_is_known(), "the application panics");
        Ok(Credentials::none())
    });
    for provider in [at_once, later] {
        let result = soon(reattach::connect(&url, client_config().with_credentials(provider))).await;
        assert!(
            matches!(result, Err(ConnectError::GaveUp(GiveUp::Unauthorized { .. }))),
            "refused twice, not ended: {result:?}"
        );
    }
}

fn url_is_known() -> bool {
    false
}

#[tokio::test]
async fn what_applications_log_holds_no_credentials() {
    let config = ClientConfig::new().with_header("Authorization", "Bearer hunter2").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let (sender, mut shown) = tokio::sync::mpsc::unbounded_channel();
    let (_server, url) = listen(server_config().with_authentication(move |hello| {
        sender.send(format!("{hello:?}")).unwrap();
        async { None }
    }))
    .await;
    let config = client_config().with_header("Cookie", "sid=hunter2").unwrap();
    let _client = reattach::start(&format!("{url}?token=hunter2"), config).unwrap();
    let shown = soon(shown.recv()).await.unwrap();
    assert!(shown.contains("cookie") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transport_that_comes_as_its_connection_ends_is_told() {
    let mut core = server_core();
    core.hello_timeout = Duration::from_millis(500);
    let (server, url) = listen(server_config().with_core(core)).await;
    for round in 0..60 {
        let key = reattach::connection_key();
        let _first = Raw::attach(&url, key).await;
        let connection = soon(server.accept()).await.unwrap();
        let mut second = Raw::open(&url).await;
        let ending = {
            let connection = connection.clone();
            tokio::spawn(async move {
                (0..round * 400).for_each(|_| std::hint::spin_loop());
                connection.disconnect();
            })
        };
        second.send(&hello(&key, 1, 2, "")).await;
        soon(ending).await.unwrap();
        // A welcome to another connection, or a word that says no; not silence.
        assert!(tokio::time::timeout(Duration::from_secs(5), second.next()).await.is_ok(), "round {round}");
        while let Some(Some(_)) = server.accept().now_or_never() {}
    }
}

#[tokio::test]
async fn a_credentials_provider_that_never_answers_ends_with_the_connect_timeout() {
    let (_server, url) = listen(server_config()).await;
    let mut core = client_core();
    core.reconnect.attempts = Some(1);
    core.connect_timeout = Duration::from_millis(200);
    let config = ClientConfig::new().with_core(core).with_credentials(CredentialsProvider::new(std::future::pending));
    let result = soon(reattach::connect(&url, config)).await;
    assert!(matches!(result, Err(ConnectError::GaveUp(GiveUp::Exhausted { .. }))), "{result:?}");
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
