//! The adapter over real sockets: servers that drain.

use std::time::Duration;

use reattach::core::error::ApiMisuse;
use reattach::core::outcome::NotDelivered;
use reattach::core::outcome::Outcome;
use reattach::core::outcome::Unknown;
use reattach::core::server::PeerClosed;
use reattach::core::server::PeerEvent;
use reattach::core::server::Unfinished;
use tokio::net::TcpStream;

use super::loopback::deciding_pair;
use super::loopback::listen;
use super::loopback::next;
use super::loopback::next_number;
use super::loopback::number;
use super::loopback::server_config;
use super::loopback::soon;
use super::loopback::until;

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
