//! Connections as streams and sinks, and with types.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::SinkExt as _;
use futures_util::StreamExt as _;
use futures_util::poll;
use reattach::SendError;
use reattach::Typed;
use reattach::core::error::ApiMisuse;
use reattach::core::link::Outgoing;
use reattach::core::outcome::Outcome;
use reattach::core::wire::Payload;

use super::loopback::code;
use super::loopback::deciding_pair;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::pair;
use super::loopback::soon;
use super::loopback::text;
use super::loopback::until;

#[tokio::test]
async fn what_goes_into_a_sink_comes_out_of_the_others_stream_whatever_happens_to_the_socket() {
    const COUNT: u64 = 1_000;
    let (client, connection, _server) = pair().await;
    let (mut sink, _) = client.duplex().split();
    let sending = tokio::spawn(async move {
        for n in 0..COUNT {
            if n % 250 == 100 {
                client.reconnect().unwrap();
            }
            // More than an outbox holds: the sink waits for room.
            sink.send(number(n)).await.unwrap();
        }
        <_ as futures_util::SinkExt<Payload>>::close(&mut sink).await.unwrap();
        <_ as futures_util::SinkExt<Payload>>::close(&mut sink).await.unwrap();
    });
    let came: Vec<u64> = soon(connection.duplex().map(|received| number_of(&received)).collect()).await;
    assert_eq!(came, (0..COUNT).collect::<Vec<_>>());
    soon(sending).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_is_dropped_while_it_waits_has_taken_nothing() {
    let (client, connection, _server) = pair().await;
    for n in 0..50 {
        let mut stream = connection.duplex();
        {
            let mut waiting = stream.next();
            assert!(poll!(&mut waiting).is_pending());
            _ = client.send(number(n)).await.unwrap();
            until(|| connection.stats().link.received == n + 1).await;
        }
        drop(stream);
        assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), n);
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_connection_and_stays_ended() {
    let (client, connection, _server) = pair().await;
    let mut stream = connection.duplex();
    soon(client.close(Duration::from_secs(5))).await;
    assert!(soon(stream.next()).await.is_none());
    assert!(soon(stream.next()).await.is_none());
    let error = soon(stream.send(number(1))).await.unwrap_err();
    assert_eq!(error, ApiMisuse::Ended);
}

#[tokio::test]
async fn a_sink_refuses_what_can_never_be_sent_and_goes_on() {
    let (client, connection, _server) = pair().await;
    let mut sink = client.duplex();
    let long = text(&"x".repeat(5 * 1024 * 1024));
    assert!(matches!(soon(sink.send(long)).await, Err(ApiMisuse::TooLarge { .. })));
    soon(sink.send(Outgoing::from(number(1)))).await.unwrap();
    assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), 1);
}

#[tokio::test]
async fn two_who_read_one_stream_each_get_every_other_message_and_none_is_lost() {
    let (client, connection, _server) = pair().await;
    let readers = [0; 2].map(|_| {
        let stream = connection.duplex();
        tokio::spawn(async move { stream.map(|received| number_of(&received)).collect::<Vec<_>>().await })
    });
    for n in 0..90 {
        _ = client.send(number(n)).await.unwrap();
    }
    soon(client.close(Duration::from_secs(5))).await;
    let mut all = Vec::new();
    for reader in readers {
        all.extend(soon(reader).await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (0..90).collect::<Vec<_>>());
}

#[tokio::test]
async fn typed_connections_send_and_take_values() {
    let (client, connection, _server) = pair().await;
    let client: Typed<_, (u32, String), bool> = client.typed();
    let connection: Typed<_, bool, (u32, String)> = connection.typed();
    let receipt = soon(client.send(&(7, "seven".to_owned()))).await.unwrap();
    let message = soon(connection.recv()).await.unwrap().unwrap();
    assert_eq!(message.value, (7, "seven".to_owned()));
    assert_eq!(soon(receipt).await, Outcome::Delivered);
    _ = soon(connection.send_as(&true, |message| message.within(Duration::from_secs(9)))).await.unwrap();
    assert!(soon(client.recv()).await.unwrap().unwrap().value);
    connection.into_inner().disconnect();
    assert!(soon(client.recv()).await.is_none());
    assert_eq!(soon(client.send(&(8, String::new()))).await.unwrap_err(), SendError::Misuse(ApiMisuse::Ended));
}

#[tokio::test]
async fn a_message_of_another_type_comes_with_its_fault_and_can_be_refused() {
    let (client, connection, _server) = deciding_pair().await;
    let typed = connection.typed::<(), u32>();
    let (wrong, right) = (client.send(text("one")).await.unwrap(), client.send(number(1)).await.unwrap());
    let mistyped = soon(typed.recv()).await.unwrap().unwrap_err();
    assert!(mistyped.to_string().contains("not of the type"), "{mistyped}");
    mistyped.received.reject(code("type"), "a number, please").unwrap();
    let message = soon(typed.recv()).await.unwrap().unwrap();
    assert_eq!(message.value, 1);
    message.received.accept().unwrap();
    assert!(matches!(soon(wrong).await, Outcome::Rejected { .. }));
    assert_eq!(soon(right).await, Outcome::Delivered);
    assert!(typed.recv().now_or_never().is_none());
}
