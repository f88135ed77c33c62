//! The adapter over real sockets: decisions about messages.

use std::time::Duration;

use reattach::ClientConfig;
use reattach::ServerConfig;
use reattach::core::client::Event;
use reattach::core::error::ApiMisuse;
use reattach::core::flow::Config as Flow;
use reattach::core::heartbeat::Config as Heartbeat;
use reattach::core::id::Name;
use reattach::core::link::Outgoing;
use reattach::core::outcome::NotDelivered;
use reattach::core::outcome::Outcome;
use reattach::core::outcome::Unknown;
use reattach::core::wire::Payload;

use super::loopback::client_core;
use super::loopback::code;
use super::loopback::deciding;
use super::loopback::deciding_pair;
use super::loopback::listen;
use super::loopback::next;
use super::loopback::next_number;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::pair_at;
use super::loopback::server_core;
use super::loopback::soon;
use super::loopback::until;

const ABANDONED: Outcome = Outcome::Unknown { reason: Unknown::Abandoned };

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
