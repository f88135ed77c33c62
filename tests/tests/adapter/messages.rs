//! The adapter over real loopback sockets: sending, receiving, waiting, cancelling, ending.

use std::time::Duration;

use futures_util::FutureExt as _;
use harness::alone::LoneClient;
use harness::world::payload;
use harness::world::steady;
use reattach::ClientConfig;
use reattach::ConnectError;
use reattach::ConnectionState;
use reattach::PeerState;
use reattach::UrlError;
use reattach::core::client;
use reattach::core::client::Closed;
use reattach::core::client::Event;
use reattach::core::error::ApiMisuse;
use reattach::core::id::MessageId;
use reattach::core::id::Name;
use reattach::core::link::Delivery;
use reattach::core::link::Outgoing;
use reattach::core::outcome::Failure;
use reattach::core::outcome::NotDelivered;
use reattach::core::outcome::Outcome;
use reattach::core::outcome::SendFailed;
use reattach::core::outcome::Unknown;
use reattach::core::reconnect::GiveUp;
use reattach::core::server::PeerClosed;
use reattach::core::server::PeerEvent;

use super::loopback::Record;
use super::loopback::client_config;
use super::loopback::client_core;
use super::loopback::listen;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::pair;
use super::loopback::server_config;
use super::loopback::soon;
use super::loopback::text;
use super::loopback::until;

#[tokio::test]
async fn messages_go_both_ways_and_their_senders_are_told() {
    let (client, connection, _server) = pair().await;
    let up = client.send(text("up")).await.unwrap();
    let down = connection.send(text("down")).await.unwrap();
    assert_eq!(soon(connection.recv()).await.unwrap().payload().parse::<String>().unwrap(), "up");
    assert_eq!(soon(client.recv()).await.unwrap().payload().parse::<String>().unwrap(), "down");
    assert_eq!(soon(up).await, Outcome::Delivered);
    assert_eq!(soon(down).await, Outcome::Delivered);
}

#[tokio::test]
async fn a_message_is_delivered_when_recv_returns_it_and_not_before() {
    let (client, connection, _server) = pair().await;
    let mut receipt = client.send(number(1)).await.unwrap();
    until(|| connection.stats().link.received == 1).await;
    // The server has it; its application has not. A round trip later the sender is still not told otherwise.
    let echo = connection.send(number(2)).await.unwrap();
    soon(client.recv()).await.unwrap();
    assert_eq!(soon(echo).await, Outcome::Delivered);
    assert!((&mut receipt).now_or_never().is_none(), "received is not delivered");
    soon(connection.recv()).await.unwrap();
    assert_eq!(soon(receipt).await, Outcome::Delivered);
}

// S004-071
#[tokio::test]
async fn send_waits_for_room_and_try_send_does_not() {
    let (client, connection, _server) = pair().await;
    let receipts: Vec<_> = (0..100).map(|n| client.try_send(number(n)).expect("room for a hundred")).collect();
    assert_eq!(client.try_send(number(100)).unwrap_err(), ApiMisuse::QueueFull);
    let waiting = client.send(number(100));
    tokio::pin!(waiting);
    assert!((&mut waiting).now_or_never().is_none());
    soon(connection.recv()).await.unwrap();
    soon(waiting).await.unwrap();
    for n in 1..=100 {
        assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), n);
    }
    for receipt in receipts {
        assert_eq!(soon(receipt).await, Outcome::Delivered);
    }
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
async fn a_send_that_is_dropped_while_it_waits_sends_nothing() {
    let (client, connection, _server) = pair().await;
    for n in 0..100 {
        _ = client.try_send(number(n)).unwrap();
    }
    for n in 1_000..1_010 {
        let waiting = client.send(number(n));
        tokio::pin!(waiting);
        assert!((&mut waiting).now_or_never().is_none());
    }
    for n in 0..100 {
        assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), n);
    }
    _ = client.send(number(2_000)).await.unwrap();
    assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), 2_000, "none of the dropped ones came");
}

#[tokio::test]
async fn a_recv_that_is_dropped_takes_nothing() {
    let (client, connection, _server) = pair().await;
    let sending = tokio::spawn(async move {
        for n in 0..500 {
            _ = client.send(number(n)).await.unwrap();
        }
        client
    });
    let mut taken = Vec::new();
    while taken.len() < 500 {
        // Most of these futures are dropped after one poll.
        match connection.recv().now_or_never() {
            Some(delivery) => taken.push(number_of(&delivery.expect("the connection goes on"))),
            None => tokio::task::yield_now().await,
        }
    }
    assert_eq!(taken, (0..500).collect::<Vec<_>>());
    drop(soon(sending).await.unwrap());
}

#[tokio::test]
async fn many_senders_and_receivers_share_one_connection() {
    let (client, connection, _server) = pair().await;
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let client = client.clone();
            tokio::spawn(async move {
                for n in 0..200 {
                    assert_eq!(client.send(number(sender * 1_000 + n)).await.unwrap().await, Outcome::Delivered);
                }
            })
        })
        .collect();
    let record = Record::default();
    for _ in 0..4 {
        let (connection, record) = (connection.clone(), record.clone());
        tokio::spawn(async move {
            while let Some(delivery) = connection.recv().await {
                record.enter(&delivery);
            }
        });
    }
    for sender in senders {
        soon(sender).await.unwrap();
    }
    let mut numbers = record.numbers();
    numbers.sort_unstable();
    let expected: Vec<_> = (0..8).flat_map(|sender| (0..200).map(move |n| sender * 1_000 + n)).collect();
    assert_eq!(numbers, expected);
}

// S002-77
#[tokio::test]
async fn large_messages_cross_each_other_without_a_deadlock() {
    let (client, connection, _server) = pair().await;
    let large = text(&"x".repeat(4 * 1024 * 1024 - 2));
    assert_eq!(large.len(), 4 * 1024 * 1024);
    let up = client.send(large.clone()).await.unwrap();
    let down = connection.send(large.clone()).await.unwrap();
    let (at_server, at_client) = soon(async { tokio::join!(connection.recv(), client.recv()) }).await;
    assert_eq!(at_server.unwrap().payload().as_str().len(), large.len());
    assert_eq!(at_client.unwrap().payload().as_str().len(), large.len());
    assert_eq!((soon(up).await, soon(down).await), (Outcome::Delivered, Outcome::Delivered));
    let too_large = text(&"x".repeat(4 * 1024 * 1024 - 1));
    assert_eq!(
        client.send(too_large).await.unwrap_err(),
        ApiMisuse::TooLarge { len: 4 * 1024 * 1024 + 1, limit: 4 * 1024 * 1024 }
    );
}

#[tokio::test]
async fn ephemeral_messages_go_now_or_never() {
    let (client, connection, server) = pair().await;
    let key = Name::new("typing").unwrap();
    client.send_ephemeral(key.clone(), text("yes")).unwrap();
    let Some(Delivery::Ephemeral { key: came, payload }) =
        soon(connection.recv()).await.map(reattach::Received::into_delivery)
    else {
        panic!("an ephemeral message was sent");
    };
    assert_eq!((came, payload.parse::<String>().unwrap().as_str()), (key.clone(), "yes"));
    server.shut_down();
    until(|| !matches!(client.state(), ConnectionState::Attached)).await;
    assert_eq!(client.send_ephemeral(key, text("no")), Err(ApiMisuse::NotAttached));
}

#[tokio::test]
async fn close_waits_for_the_outcomes_and_ends_both_sides() {
    let (client, connection, _server) = pair().await;
    let receipt = client.send(number(7)).await.unwrap();
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close(Duration::from_secs(20)).await }
    });
    // Too large to be taken at any time, so that asking changes nothing.
    let too_large = text(&"x".repeat(5 * 1024 * 1024));
    until(|| client.try_send(too_large.clone()).is_err_and(|error| error == ApiMisuse::Ended)).await;
    assert!(!closing.is_finished(), "the message has no outcome yet");
    assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), 7);
    soon(closing).await.unwrap();
    assert_eq!(soon(receipt).await, Outcome::Delivered);
    assert_eq!(client.state(), ConnectionState::Closed(Closed::Flushed));
    assert!(soon(connection.recv()).await.is_none(), "the client said goodbye");
    assert!(soon(client.recv()).await.is_none());
}

#[tokio::test]
async fn a_disconnect_ends_every_message_with_the_truth() {
    let (client, connection, _server) = pair().await;
    let written: Vec<_> = (0..3).map(|n| client.try_send(number(n)).unwrap()).collect();
    until(|| connection.stats().link.received == 3).await;
    soon(connection.recv()).await.unwrap();
    until(|| client.stats().written == 2).await;
    client.disconnect();
    let mut outcomes = Vec::new();
    for receipt in written {
        outcomes.push(soon(receipt).await);
    }
    let unknown = Outcome::Unknown { reason: Unknown::Closed };
    assert_eq!(outcomes, [Outcome::Delivered, unknown.clone(), unknown]);
    soon(connection.ended()).await;
    assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), 1, "what had come can still be taken");
}

// S004-088, S004-089, S004-092: the type has the name under which a program that depends on one runtime's crate finds it.
#[test]
fn a_failed_send_is_told_with_its_type_and_the_id_that_send_gave() {
    let of = |event: &Event| if let Event::SendFailed(failed) = event { Some(failed.clone()) } else { None };
    let mut lone = LoneClient::new(steady());
    let now = lone.now;
    let sent: MessageId = lone.client.send(payload("x").into(), now).unwrap();
    lone.client.cancel(&sent, now).unwrap();
    let outputs = lone.drain();
    let told =
        outputs.iter().find_map(|output| if let client::Output::Event(event) = output { of(event) } else { None });
    let reason = NotDelivered::Cancelled;
    let failed = SendFailed { id: sent, failure: Failure::ForGood(Outcome::NotDelivered { reason }) };
    assert_eq!(told, Some(failed));
}

#[tokio::test]
async fn the_last_handle_ends_the_connection() {
    let (client, connection, _server) = pair().await;
    let clone = client.clone();
    drop(client);
    assert!(connection.is_attached());
    drop(clone);
    soon(connection.ended()).await;
    let (client, connection, _server) = pair().await;
    drop(connection);
    until(|| matches!(client.state(), ConnectionState::Closed(Closed::ByPeer { .. }))).await;
    assert!(soon(client.recv()).await.is_none());
}

// N19, S003-16, S003-51
#[tokio::test]
async fn a_client_that_reaches_nobody_gives_up_and_starts_over_when_asked() {
    let (server, url) = listen(server_config()).await;
    server.shut_down();
    let mut core = client_core();
    core.reconnect.attempts = Some(2);
    let failed = soon(reattach::connect(&url, ClientConfig::new().with_core(core.clone()))).await;
    assert!(matches!(failed, Err(ConnectError::GaveUp(GiveUp::Exhausted { attempts: 2, .. }))), "{failed:?}");

    let client = reattach::start(&url, ClientConfig::new().with_core(core)).unwrap();
    let receipt = client.try_send(number(1)).unwrap();
    assert_eq!(soon(receipt).await, Outcome::NotDelivered { reason: NotDelivered::Unreachable });
    until(|| matches!(client.state(), ConnectionState::Failed(_))).await;
    assert!(soon(client.recv()).await.is_none(), "nothing will come until somebody asks");
    assert_eq!(client.send(number(2)).await.unwrap_err(), ApiMisuse::Ended);
    let address = url.trim_start_matches("ws://").trim_end_matches('/');
    let server = soon(async {
        loop {
            // The port may take a moment to be free again.
            if let Ok(server) = reattach::bind(address, server_config()).await {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    client.reconnect().unwrap();
    until(|| client.state() == ConnectionState::Attached).await;
    _ = client.send(number(3)).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), 3);
}

#[tokio::test]
async fn a_bad_url_is_refused_with_its_fault() {
    let fault = |url: &str| reattach::start(url, client_config()).unwrap_err();
    assert!(matches!(fault("http://127.0.0.1/"), UrlError::Scheme { .. }));
    assert!(matches!(fault("127.0.0.1:80"), UrlError::Invalid { .. }));
    assert!(matches!(client_config().with_header("a b", "c"), Err(UrlError::Header { .. })));
}

// S002-43, S003-51
#[tokio::test]
async fn a_watch_and_a_subscription_see_a_drop_and_the_return() {
    let (client, connection, _server) = pair().await;
    let mut events = client.events();
    let mut peer_events = connection.events();
    let mut watch = client.watch();
    assert_eq!(watch.state(), ConnectionState::Attached);
    connection.detach(reattach::core::wire::CloseCode::RESTART).expect("a code that may be sent");
    soon(watch.changed()).await;
    assert!(matches!(soon(events.next()).await, Some(Event::Detached { .. })));
    assert_eq!(soon(events.next()).await, Some(Event::Attached { resumed: true }));
    assert!(matches!(soon(peer_events.next()).await, Some(PeerEvent::Detached { .. })));
    assert_eq!(soon(peer_events.next()).await, Some(PeerEvent::Attached { resumed: true }));
    until(|| client.latency().is_some()).await;
    client.disconnect();
    while soon(events.next()).await.is_some() {}
    assert_eq!(events.missed(), 0);
}

// S002-30
#[tokio::test]
async fn a_watch_of_the_servers_side_sees_a_drop_the_return_and_the_end() {
    let (client, connection, _server) = pair().await;
    let mut watch = connection.watch();
    assert_eq!(watch.state(), PeerState::Attached);
    client.suspend().unwrap();
    until(|| watch.state() == PeerState::Detached).await;
    client.reconnect().unwrap();
    soon(async {
        while watch.state() != PeerState::Attached {
            watch.changed().await;
        }
    })
    .await;
    assert_eq!(watch.stats().resumed, 1);
    // Before its welcome it could not say goodbye.
    until(|| client.state() == ConnectionState::Attached).await;
    client.disconnect();
    soon(async {
        while !matches!(watch.state(), PeerState::Closed(PeerClosed::ByPeer { .. })) {
            watch.changed().await;
        }
    })
    .await;
    assert_eq!(connection.state(), watch.state());
    soon(watch.changed()).await;
}

#[tokio::test]
async fn a_reconnect_by_hand_replaces_the_transport_and_loses_nothing() {
    let (client, connection, _server) = pair().await;
    for round in 0..20 {
        let receipt = client.send(number(round)).await.unwrap();
        client.reconnect().unwrap();
        assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), round);
        assert_eq!(soon(receipt).await, Outcome::Delivered);
    }
    assert!(client.stats().resumed >= 1);
}
