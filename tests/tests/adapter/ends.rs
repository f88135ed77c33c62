//! Endings and beginnings that overlap: what a program that stops, a runtime that goes, or an application that panics leaves
//! behind.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use reattach::ClientConfig;
use reattach::ConnectError;
use reattach::Credentials;
use reattach::CredentialsProvider;
use reattach::core::id::Name;
use reattach::core::reconnect::GiveUp;

use super::loopback::client_config;
use super::loopback::client_core;
use super::loopback::listen;
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
