//! The adapter through a proxy that breaks connections: every kind of cut, and nothing lost, doubled or late.

use std::time::Duration;

use reattach::ClientConfig;
use reattach::ConnectionState;
use reattach::core::outcome::Outcome;
use reattach::core::server::PeerClosed;
use reattach::core::server::PeerEvent;
use reattach::core::wire::CloseCode;
use reattach_cli::proxy::Cut;
use reattach_cli::proxy::FaultProxy;

use super::loopback::Record;
use super::loopback::client_config;
use super::loopback::client_core;
use super::loopback::listen;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::server_config;
use super::loopback::server_core;
use super::loopback::soon;
use super::loopback::until;

const DELAY: Duration = Duration::from_millis(2);

/// Sends numbers both ways while the connection is broken again and again, and finds every one of them taken once and in
/// order, and claimed so.
async fn survives(cuts: impl Fn(&FaultProxy, &reattach::Connection, u32)) {
    const MESSAGES: u64 = 1_500;
    let (server, _) = listen(server_config()).await;
    let proxy = FaultProxy::start(server.local_addr().unwrap(), DELAY).await.unwrap();
    let url = format!("ws://{}/", proxy.address());
    let client = soon(reattach::connect(&url, client_config())).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    let (up, down) = (Record::default(), Record::default());
    let at_server = tokio::spawn({
        let (connection, up) = (connection.clone(), up.clone());
        async move {
            while up.len() < MESSAGES as usize {
                up.enter(&connection.recv().await.expect("one connection for all of it"));
            }
        }
    });
    let at_client = tokio::spawn({
        let (client, down) = (client.clone(), down.clone());
        async move {
            while down.len() < MESSAGES as usize {
                down.enter(&client.recv().await.expect("the client goes on"));
            }
        }
    });
    let sending_up = tokio::spawn({
        let client = client.clone();
        async move {
            let mut receipts = Vec::new();
            for n in 0..MESSAGES {
                receipts.push(client.send(number(n)).await.unwrap());
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
            receipts
        }
    });
    let sending_down = tokio::spawn({
        let connection = connection.clone();
        async move {
            let mut receipts = Vec::new();
            for n in 0..MESSAGES {
                receipts.push(connection.send(number(n)).await.unwrap());
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
            receipts
        }
    });
    for round in 0..6 {
        let (before, attached) = (up.len() + down.len(), client.stats().attached);
        until(|| up.len() + down.len() > before + 100 || up.len() + down.len() == 2 * MESSAGES as usize).await;
        cuts(&proxy, &connection, round);
        until(|| client.stats().attached > attached).await;
    }
    soon(at_server).await.unwrap();
    soon(at_client).await.unwrap();
    let expected: Vec<_> = (0..MESSAGES).collect();
    assert_eq!(up.numbers(), expected);
    assert_eq!(down.numbers(), expected);
    for receipt in soon(sending_up).await.unwrap().into_iter().chain(soon(sending_down).await.unwrap()) {
        assert_eq!(soon(receipt).await, Outcome::Delivered);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orderly_ends_lose_nothing() {
    survives(|proxy, _, _| proxy.cut(Cut::Fin)).await;
}

// S001-24
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_lose_nothing() {
    survives(|proxy, _, _| proxy.cut(Cut::Reset)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_frames_lose_nothing() {
    survives(|proxy, _, _| proxy.cut(Cut::Torn)).await;
}

// S000-34
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalls_that_nobody_is_told_of_lose_nothing() {
    survives(|proxy, _, _| proxy.cut(Cut::Stall)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closes_by_the_server_lose_nothing() {
    let codes = [CloseCode::NORMAL, CloseCode::GOING_AWAY, CloseCode::INTERNAL, CloseCode::RESTART];
    survives(move |_, connection, round| {
        connection.detach(codes[round as usize % codes.len()]).expect("a code that may be sent");
    })
    .await;
}

// N04, S003-33
#[tokio::test]
async fn a_stall_is_noticed_by_both_sides() {
    let (server, _) = listen(server_config()).await;
    let proxy = FaultProxy::start(server.local_addr().unwrap(), DELAY).await.unwrap();
    let url = format!("ws://{}/", proxy.address());
    let client = soon(reattach::connect(&url, client_config())).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    proxy.set_upstream(None);
    proxy.cut(Cut::Stall);
    until(|| !matches!(client.state(), ConnectionState::Attached)).await;
    until(|| !connection.is_attached()).await;
    proxy.set_upstream(server.local_addr());
    let receipt = client.send(number(1)).await.unwrap();
    assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), 1);
    assert_eq!(soon(receipt).await, Outcome::Delivered);
}

// N03, S004-033
#[tokio::test]
async fn a_connection_that_nobody_comes_back_to_runs_out_and_the_next_one_is_new() {
    let mut core = server_core();
    core.detach_ttl = Duration::from_millis(200);
    let (server, _) = listen(server_config().with_core(core)).await;
    let proxy = FaultProxy::start(server.local_addr().unwrap(), DELAY).await.unwrap();
    let url = format!("ws://{}/", proxy.address());
    let client = soon(reattach::connect(&url, client_config())).await.unwrap();
    let first = soon(server.accept()).await.unwrap();
    let mut events = first.events();
    let taken = client.send(number(1)).await.unwrap();
    soon(first.recv()).await.unwrap();
    assert_eq!(soon(taken).await, Outcome::Delivered);
    let not_taken = client.send(number(2)).await.unwrap();
    until(|| first.stats().link.received == 2).await;
    proxy.set_upstream(None);
    proxy.cut(Cut::Reset);
    until(|| client.state() != ConnectionState::Attached).await;
    let queued = client.send(number(3)).await.unwrap();
    soon(async {
        while let Some(event) = events.next().await {
            if let PeerEvent::Closed { reason } = event {
                assert_eq!(reason, PeerClosed::Expired);
                return;
            }
        }
        panic!("the connection ended without a word");
    })
    .await;
    assert!(soon(first.recv()).await.is_none(), "what was not taken never will be");
    proxy.set_upstream(server.local_addr());
    let second = soon(server.accept()).await.unwrap();
    assert_eq!(second.id(), first.id());
    assert_eq!(number_of(&soon(second.recv()).await.unwrap()), 3);
    assert!(matches!(soon(not_taken).await, Outcome::NotDelivered { .. }), "the receipt proves it");
    assert_eq!(soon(queued).await, Outcome::Delivered);
}

#[tokio::test]
async fn a_proxy_that_is_killed_and_comes_back_loses_nothing() {
    let (server, _) = listen(server_config()).await;
    let upstream = server.local_addr().unwrap();
    let mut proxy = FaultProxy::start(upstream, DELAY).await.unwrap();
    let address = proxy.address();
    let client = soon(reattach::connect(&format!("ws://{address}/"), client_config())).await.unwrap();
    let record = Record::of_server(&server);
    for n in 0..300 {
        if n % 60 == 30 {
            drop(proxy);
            proxy = soon(async {
                loop {
                    if let Ok(proxy) = FaultProxy::start_on(address, upstream, DELAY).await {
                        return proxy;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
        }
        _ = client.send(number(n)).await.unwrap();
    }
    until(|| record.len() == 300).await;
    assert_eq!(record.numbers(), (0..300).collect::<Vec<_>>());
}

// S004-098
#[tokio::test]
async fn what_is_sent_before_anybody_listens_waits_for_somebody() {
    let (server, url) = listen(server_config()).await;
    let upstream = server.local_addr().unwrap();
    let proxy = FaultProxy::start(upstream, DELAY).await.unwrap();
    proxy.set_upstream(None);
    let url = url.replace(&upstream.to_string(), &proxy.address().to_string());
    let client = reattach::start(&url, ClientConfig::new().with_core(client_core())).unwrap();
    let receipt = client.try_send(number(1)).unwrap();
    until(|| matches!(client.state(), ConnectionState::Detached { attempt: 3.., .. })).await;
    proxy.set_upstream(Some(upstream));
    let connection = soon(server.accept()).await.unwrap();
    assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), 1);
    assert_eq!(soon(receipt).await, Outcome::Delivered);
}
