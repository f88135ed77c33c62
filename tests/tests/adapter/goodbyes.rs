//! The adapter over real sockets: what came before the other side's goodbye.

use std::sync::Arc;
use std::time::Duration;

use reattach::Client;
use reattach::Connection;
use reattach::Received;
use reattach::Server;
use reattach::ServerConfig;
use reattach::core::error::ApiMisuse;
use reattach::core::id::Name;
use reattach::core::link::Outgoing;

use super::counting::Counting;
use super::loopback::client_config;
use super::loopback::code;
use super::loopback::deciding;
use super::loopback::deciding_pair;
use super::loopback::next;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::pair_at;
use super::loopback::soon;
use super::loopback::until;

/// A client has said goodbye; of two messages in a lane the first is in the application's hands.
async fn left_with_two(config: ServerConfig) -> (Received, Connection, Server) {
    let (client, connection, server) = pair_at(config).await;
    for value in 1..=2 {
        client.send(number(value)).await.unwrap();
    }
    let first = next(&connection).await;
    client.disconnect();
    soon(connection.ended()).await;
    (first, connection, server)
}

#[tokio::test]
async fn what_came_before_a_goodbye_and_waits_behind_a_decision_is_waited_for() {
    let (first, connection, _server) = left_with_two(deciding(|_| {})).await;
    let others = [0; 2].map(|_| {
        let connection = connection.clone();
        tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Some(received) = connection.recv().await {
                taken.push(number_of(&received));
                received.accept().unwrap();
            }
            taken
        })
    });
    tokio::task::yield_now().await;
    first.defer(Duration::from_secs(3_600), code("busy")).unwrap();
    let mut taken = Vec::new();
    for other in others {
        taken.extend(soon(other).await.unwrap());
    }
    assert_eq!(taken, [2], "whoever waits is told when there is no more to wait for, and nothing is put off any more");
}

#[tokio::test]
async fn a_lease_frees_what_waits_behind_it_after_a_goodbye_too() {
    let config = deciding(|core| core.connection.link.lease = Duration::from_millis(300));
    let (first, connection, server) = left_with_two(config).await;
    std::mem::forget(first);
    server.shut_down();
    soon(server.closed()).await;
    let second = next(&connection).await;
    assert_eq!(number_of(&second), 2);
    second.accept().unwrap();
    assert!(soon(connection.recv()).await.is_none());
}

#[tokio::test]
async fn whoever_disconnects_after_a_goodbye_waits_for_nothing_more() {
    let (first, connection, _server) = left_with_two(deciding(|_| {})).await;
    let waiting = tokio::spawn({
        let connection = connection.clone();
        async move { connection.recv().await.is_none() }
    });
    tokio::task::yield_now().await;
    connection.disconnect();
    assert!(soon(waiting).await.unwrap());
    assert_eq!(first.accept(), Err(ApiMisuse::Undecidable));
}

#[tokio::test]
async fn whoever_waits_behind_what_was_taken_after_the_goodbye_gets_the_rest() {
    let (client, connection, _server) = deciding_pair().await;
    for value in 1..=3 {
        client.send(number(value)).await.unwrap();
    }
    until(|| connection.stats().link.received == 3).await;
    client.disconnect();
    soon(connection.ended()).await;
    for value in 1..=2 {
        let taken = next(&connection).await;
        assert_eq!(number_of(&taken), value);
        let waiting = tokio::spawn({
            let connection = connection.clone();
            async move {
                let next = connection.recv().await?;
                let value = number_of(&next);
                next.accept().unwrap();
                Some(value)
            }
        });
        tokio::task::yield_now().await;
        taken.accept().unwrap();
        if value == 2 {
            assert_eq!(soon(waiting).await.unwrap(), Some(3));
        } else {
            waiting.abort();
            _ = waiting.await;
        }
    }
    assert!(soon(connection.recv()).await.is_none());
}

#[tokio::test]
async fn a_lease_that_began_after_the_goodbye_ends_though_another_was_extended() {
    let (client, connection, _server) =
        pair_at(deciding(|core| core.connection.link.lease = Duration::from_millis(500))).await;
    for (lane, value) in [("a", 1), ("a", 2), ("b", 3), ("b", 4)] {
        client.send(Outgoing::from(number(value)).in_lane(Name::new(lane).unwrap())).await.unwrap();
    }
    until(|| connection.stats().link.received == 4).await;
    let first = next(&connection).await;
    client.disconnect();
    soon(connection.ended()).await;
    first.extend(Duration::from_secs(60)).unwrap();
    // Whoever waits for leases sets the timer.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let third = next(&connection).await;
    assert_eq!(number_of(&third), 3);
    std::mem::forget(third);
    let fourth = next(&connection).await;
    assert_eq!(number_of(&fourth), 4);
    fourth.accept().unwrap();
    first.accept().unwrap();
}

#[tokio::test]
async fn whoever_waits_on_a_drained_connection_that_its_client_ended_is_told_at_once() {
    let (client, connection, server) = deciding_pair().await;
    for value in 1..=2 {
        client.send(number(value)).await.unwrap();
    }
    let first = next(&connection).await;
    until(|| connection.stats().link.received == 2).await;
    let draining = tokio::spawn(async move {
        let delay = Duration::from_millis(200);
        server.drain(Duration::from_secs(20), delay..=delay).await
    });
    until(|| matches!(connection.try_send(number(9)), Err(ApiMisuse::Ended))).await;
    client.disconnect();
    soon(connection.ended()).await;
    soon(draining).await.unwrap();
    assert!(soon(connection.recv()).await.is_none());
    drop(first);
}

#[tokio::test]
async fn nothing_is_left_once_the_handles_are_gone() {
    let runtime = Arc::new(Counting::new(crate::runtime()));
    let alive = || runtime.alive();
    let server = Server::bind(Arc::<Counting>::clone(&runtime), "127.0.0.1:0", deciding(|_| {})).await.unwrap();
    let url = format!("ws://{}/", server.local_addr().unwrap());
    let client = soon(Client::connect(Arc::<Counting>::clone(&runtime), &url, client_config())).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    for value in 1..=3 {
        client.send(number(value)).await.unwrap();
    }
    let first = next(&connection).await;
    until(|| connection.stats().link.received == 3).await;
    client.disconnect();
    soon(connection.ended()).await;
    soon(client.closed()).await;
    drop(client);
    server.shut_down();
    soon(server.closed()).await;
    drop(server);
    until(|| alive() == 1).await;
    drop(connection);
    until(|| alive() == 0).await;
    assert_eq!(first.accept(), Err(ApiMisuse::Undecidable));
}
