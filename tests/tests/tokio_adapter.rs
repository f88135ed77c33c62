//! The suite of the adapters on tokio, and what only tokio has: runtimes that go.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

extern crate reattach_tokio as reattach;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use reattach::core::id::Name;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::runtime::Runtime;

use self::adapter::loopback::client_config;
use self::adapter::loopback::listen;
use self::adapter::loopback::number;
use self::adapter::loopback::number_of;
use self::adapter::loopback::server_config;
use self::adapter::loopback::soon;
use self::adapter::loopback::until;
use self::adapter::raw::Raw;
use self::adapter::raw::hello;

mod adapter;

/// The runtime that the suite runs on.
fn runtime() -> Arc<dyn reattach::runtime::Runtime> {
    Arc::new(reattach::Tokio)
}

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
            let client = reattach::connect(&url, client_config()).await.unwrap();
            client.close(Duration::from_secs(1)).await;
        });
        drop(program);
        server_runtime.block_on(async {
            let connection = soon(server.accept()).await.unwrap();
            soon(connection.ended()).await;
        });
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
        let key = reattach::connection_key();
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
async fn a_stream_of_the_callers_own_is_served() {
    let server = reattach::server(server_config());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let serving = server.clone();
    tokio::spawn(async move {
        while let Ok((stream, remote)) = listener.accept().await {
            reattach::serve(&serving, stream, Some(remote));
        }
    });
    let client = soon(reattach::connect(&url, client_config())).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    _ = client.send(number(1)).await.unwrap();
    assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), 1);
    assert_eq!(server.local_addr(), None);
}
