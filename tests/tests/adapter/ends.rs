//! Endings and beginnings that overlap: what a program that stops, a runtime that goes, or an application that panics leaves
//! behind.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use futures_util::FutureExt as _;
use reattach_tokio::ClientConfig;
use reattach_tokio::ConnectError;
use reattach_tokio::Credentials;
use reattach_tokio::CredentialsProvider;
use reattach_tokio::core::id::Name;
use reattach_tokio::core::reconnect::GiveUp;
use tokio::runtime;
use tokio::runtime::Runtime;

use crate::loopback::client_config;
use crate::loopback::client_core;
use crate::loopback::listen;
use crate::loopback::server_config;
use crate::loopback::server_core;
use crate::loopback::soon;
use crate::loopback::until;
use crate::raw::Raw;
use crate::raw::hello;

fn single_threaded() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_program_that_ends_right_after_close_has_said_goodbye() {
    let server_runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (server, url) = server_runtime.block_on(listen(server_config()));
    for _ in 0..20 {
        let program = single_threaded();
        program.block_on(async {
            let client = reattach_tokio::connect(&url, client_config()).await.unwrap();
            client.close(Duration::from_secs(1)).await;
        });
        drop(program);
        server_runtime.block_on(async {
            let connection = soon(server.accept()).await.unwrap();
            soon(connection.ended()).await;
        });
    }
}

#[tokio::test]
async fn a_program_that_disconnects_can_wait_until_the_server_was_told() {
    let (server, url) = listen(server_config()).await;
    let client = soon(reattach_tokio::connect(&url, client_config())).await.unwrap();
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
    let (one, two) =
        (hello(&reattach_tokio::connection_key(), 1, 1, ""), hello(&reattach_tokio::connection_key(), 2, 1, ""));
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
        let client = soon(reattach_tokio::connect(&url, client_config())).await.unwrap();
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
    let _client = reattach_tokio::start(&url, client_config()).unwrap();
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
        let result = soon(reattach_tokio::connect(&url, client_config().with_credentials(provider))).await;
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
    let _client = reattach_tokio::start(&format!("{url}?token=hunter2"), config).unwrap();
    let shown = soon(shown.recv()).await.unwrap();
    assert!(shown.contains("cookie") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transport_that_comes_as_its_connection_ends_is_told() {
    let mut core = server_core();
    core.hello_timeout = Duration::from_millis(500);
    let (server, url) = listen(server_config().with_core(core)).await;
    for round in 0..60 {
        let key = reattach_tokio::connection_key();
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

#[test]
fn a_runtime_that_goes_while_a_hello_waits_for_an_answer_does_not_hang() {
    for _ in 0..5 {
        let hellos = Arc::new(AtomicU32::new(0));
        let counting = Arc::clone(&hellos);
        let config = server_config().with_authentication(move |_| {
            counting.fetch_add(1, Ordering::SeqCst);
            async { Name::new("alice").ok() }
        });
        let key = reattach_tokio::connection_key();
        let going = runtime::Builder::new_current_thread().event_interval(1).enable_all().build().unwrap();
        let kept = going.block_on(async {
            let (server, url) = listen(config).await;
            let first = Raw::attach(&url, key).await;
            let connection = soon(server.accept()).await.unwrap();
            let (mut second, mut third) = (Raw::open(&url).await, Raw::open(&url).await);
            second.send(&hello(&key, 1, 2, "")).await;
            third.send(&hello(&key, 1, 3, "")).await;
            until(|| hellos.load(Ordering::SeqCst) == 3).await;
            (server, first, second, third, connection)
        });
        let (gone, is_gone) = mpsc::channel();
        std::thread::spawn(move || {
            drop(going);
            gone.send(()).unwrap();
        });
        assert!(is_gone.recv_timeout(Duration::from_secs(20)).is_ok(), "dropping the runtime hangs");
        drop(kept);
    }
}

#[tokio::test]
async fn a_credentials_provider_that_never_answers_ends_with_the_connect_timeout() {
    let (_server, url) = listen(server_config()).await;
    let mut core = client_core();
    core.reconnect.attempts = Some(1);
    core.connect_timeout = Duration::from_millis(200);
    let config = ClientConfig::new().with_core(core).with_credentials(CredentialsProvider::new(std::future::pending));
    let result = soon(reattach_tokio::connect(&url, config)).await;
    assert!(matches!(result, Err(ConnectError::GaveUp(GiveUp::Exhausted { .. }))), "{result:?}");
}
