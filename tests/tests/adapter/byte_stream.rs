//! A lane as a stream of bytes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::pin::pin;
use std::time::Duration;

use futures_util::AsyncReadExt as _;
use futures_util::AsyncWriteExt as _;
use futures_util::FutureExt as _;
use futures_util::future;
use reattach::ByteStream;
use reattach::LaneInUse;
use reattach::StreamError;
use reattach::core::id::Lane;
use reattach::core::id::Name;
use reattach::core::link::Outgoing;
use reattach::core::outcome::Outcome;
use reattach::core::wire::Payload;

use super::loopback::client_config;
use super::loopback::code;
use super::loopback::deciding;
use super::loopback::deciding_pair;
use super::loopback::listen;
use super::loopback::next;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::pair;
use super::loopback::pair_at;
use super::loopback::server_config;
use super::loopback::soon;
use super::loopback::until;

fn lane() -> Lane {
    Lane::named(Name::new("a file").unwrap())
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|number| u8::try_from(number * 7 % 251).unwrap()).collect()
}

fn raw(json: &str) -> Outgoing {
    Outgoing::from(Payload::from_json(json).unwrap()).in_lane(lane())
}

fn reason(error: &io::Error) -> &StreamError {
    error.get_ref().and_then(|inner| inner.downcast_ref()).expect("a reason of ours")
}

async fn read(stream: &mut ByteStream) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    soon(stream.read_to_end(&mut read)).await.map(|_| read)
}

/// It waits for a while, and is hardly ever woken.
async fn waits_in_peace<T>(mut waiting: Pin<&mut impl Future<Output = T>>) {
    let mut polls = 0;
    let counting = future::poll_fn(|cx| {
        polls += 1;
        waiting.as_mut().poll(cx)
    });
    assert!(tokio::time::timeout(Duration::from_millis(300), counting).await.is_err(), "it waits for its lane");
    assert!(polls < 20, "{polls} polls of what waits");
}

#[tokio::test]
async fn bytes_go_both_ways_once_and_in_order_whatever_happens_to_the_socket() {
    let (client, connection, _server) = pair().await;
    let (up, down) = (bytes(1_500_000), bytes(700_001));
    let one = client.byte_stream(lane()).unwrap();
    let other = connection.byte_stream(lane()).unwrap();
    let cutting = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(15)).await;
            client.reconnect().unwrap();
        }
    };
    let carry = |stream: ByteStream, out: Vec<u8>| async move {
        let (mut reader, mut writer) = stream.split();
        let mut came = Vec::new();
        let write = async {
            for part in out.chunks(50_000) {
                writer.write_all(part).await.unwrap();
            }
            writer.close().await.unwrap();
        };
        let (read, ()) = future::join(reader.read_to_end(&mut came), write).await;
        read.unwrap();
        came
    };
    let all = future::join3(carry(one, up.clone()), carry(other, down.clone()), cutting);
    let (came_down, came_up, ()) = soon(all).await;
    assert!(client.stats().resumed > 3, "it went over several sockets");
    assert!(came_up == up, "{} of {} bytes came up, or others", came_up.len(), up.len());
    assert!(came_down == down, "{} of {} bytes came down, or others", came_down.len(), down.len());
}

#[tokio::test]
async fn whoever_receives_sees_nothing_of_a_lane_that_is_a_stream_until_it_is_dropped() {
    let (client, connection, _server) = pair().await;
    let mut stream = connection.byte_stream(lane()).unwrap();
    assert_eq!(connection.byte_stream(lane()).unwrap_err(), LaneInUse { lane: lane() });
    client.send(raw("[0,\"AQI=\"]")).await.unwrap();
    client.send(number(1)).await.unwrap();
    client.send(raw("[2,\"Aw==\"]")).await.unwrap();
    assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), 1);
    let mut some = [0; 2];
    soon(stream.read_exact(&mut some)).await.unwrap();
    assert_eq!(some, [1, 2]);
    until(|| connection.stats().link.received == 3).await;
    assert!(connection.try_recv().is_none());
    assert!(connection.recv().now_or_never().is_none());
    drop(stream);
    assert_eq!(soon(connection.recv()).await.unwrap().payload().as_str(), "[2,\"Aw==\"]");
    assert!(connection.byte_stream(lane()).is_ok());
}

// S001-39
#[tokio::test]
async fn a_reader_that_does_not_read_stops_its_writer_and_leaves_room_for_other_lanes() {
    let (client, connection, _server) = pair().await;
    let (mut writer, mut reader) = (client.byte_stream(lane()).unwrap(), connection.byte_stream(lane()).unwrap());
    let part = bytes(30_000);
    let mut written = 0;
    while let Ok(result) = tokio::time::timeout(Duration::from_millis(300), writer.write(&part)).await {
        written += result.unwrap();
        assert!(written < 100_000_000, "nothing stops the writer");
    }
    let receipt = client.send(number(1)).await.unwrap();
    assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), 1);
    assert_eq!(soon(receipt).await, Outcome::Delivered);
    let finish = async {
        writer.close().await.unwrap();
    };
    let mut came = Vec::new();
    let (read, ()) = soon(future::join(reader.read_to_end(&mut came), finish)).await;
    assert_eq!(read.unwrap(), written);
}

#[tokio::test]
async fn a_reader_that_is_slower_than_its_lease_reads_on_and_its_writer_hears_of_the_end() {
    let (client, connection, _server) =
        pair_at(deciding(|core| core.connection.link.lease = Duration::from_millis(100))).await;
    let (mut writer, mut reader) = (client.byte_stream(lane()).unwrap(), connection.byte_stream(lane()).unwrap());
    soon(writer.write_all(&[1, 2, 3])).await.unwrap();
    soon(writer.write_all(&[4])).await.unwrap();
    let mut some = [0; 2];
    soon(reader.read_exact(&mut some)).await.unwrap();
    until(|| client.stats().written == 1).await;
    assert!(writer.close().now_or_never().is_none(), "a part of it is not taken");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(read(&mut reader).await.unwrap(), [3, 4]);
    soon(writer.close()).await.unwrap();
    soon(writer.close()).await.unwrap();
    assert_eq!(client.stats().link.failed, 0);
    let error = writer.write(&[5]).await.unwrap_err();
    assert_eq!((error.kind(), reason(&error)), (io::ErrorKind::BrokenPipe, &StreamError::Closed));
}

#[tokio::test]
async fn a_stream_that_its_writer_drops_or_fails_to_write_is_broken_off() {
    let (client, connection, _server) = pair().await;
    let (mut writer, mut reader) = (client.byte_stream(lane()).unwrap(), connection.byte_stream(lane()).unwrap());
    soon(writer.write_all(&[1, 2])).await.unwrap();
    drop(writer);
    let error = read(&mut reader).await.unwrap_err();
    assert_eq!((error.kind(), reason(&error)), (io::ErrorKind::ConnectionAborted, &StreamError::Aborted));

    let (client, connection, _server) = deciding_pair().await;
    let mut writer = client.byte_stream(lane()).unwrap();
    soon(writer.write_all(&[1, 2])).await.unwrap();
    soon(connection.recv()).await.unwrap().reject(code("no"), "").unwrap();
    let mut reader = connection.byte_stream(lane()).unwrap();
    let error = soon(writer.close()).await.unwrap_err();
    assert!(matches!(reason(&error), StreamError::Failed(Outcome::Rejected { .. })), "{error}");
    assert_eq!(reason(&read(&mut reader).await.unwrap_err()), &StreamError::Misplaced { expected: 0, found: 2 });
}

#[tokio::test]
async fn an_end_is_heard_of_by_each_lane_though_others_are_held_up() {
    let (client, connection, _server) = deciding_pair().await;
    let mut reader = connection.byte_stream(lane()).unwrap();
    let in_lane = |name: &str| Outgoing::from(number(1)).in_lane(Name::new(name).unwrap());
    for name in ["one", "one", "two"] {
        client.send(in_lane(name)).await.unwrap();
    }
    client.send(raw("[0,\"AQI=\"]")).await.unwrap();
    let held = next(&connection).await;
    until(|| connection.stats().link.received == 4).await;
    client.disconnect();
    soon(connection.ended()).await;
    // What waits behind `held` keeps nobody from hearing that their own lane is at its end, and nobody spins meanwhile.
    let mut bytes = [0; 2];
    soon(reader.read_exact(&mut bytes)).await.unwrap();
    let error = read(&mut reader).await.unwrap_err();
    assert_eq!(reason(&error), &StreamError::Ended);
    drop(next(&connection).await);
    let mut receiving = Box::pin(connection.recv());
    waits_in_peace(receiving.as_mut()).await;
    drop(held);
    drop(soon(receiving).await.expect("the second of its lane"));
    assert!(soon(connection.recv()).await.is_none());
}

#[tokio::test]
async fn nobody_spins_after_an_end_while_a_stream_is_not_read() {
    let (client, connection, _server) = deciding_pair().await;
    let stream = connection.byte_stream(lane()).unwrap();
    let unrelated = Outgoing::from(number(1)).in_lane(Name::new("one").unwrap());
    client.send(unrelated.clone()).await.unwrap();
    client.send(unrelated).await.unwrap();
    client.send(raw("[0,\"AQI=\"]")).await.unwrap();
    let held = next(&connection).await;
    until(|| connection.stats().link.received == 3).await;
    client.disconnect();
    soon(connection.ended()).await;
    waits_in_peace(pin!(connection.recv())).await;
    drop((held, stream));
}

#[tokio::test]
async fn what_is_no_part_of_a_stream_is_an_error_and_is_refused_where_the_application_decides() {
    for (json, expected) in [
        ("\"text\"", StreamError::NoBytes),
        ("[0,\"not base64\"]", StreamError::NoBytes),
        ("[0,\"\"]", StreamError::NoBytes),
        ("[7,\"AQI=\"]", StreamError::Misplaced { expected: 0, found: 7 }),
        ("[7]", StreamError::Misplaced { expected: 0, found: 7 }),
    ] {
        let (client, connection, _server) = deciding_pair().await;
        let mut reader = connection.byte_stream(lane()).unwrap();
        let receipt = client.send(raw(json)).await.unwrap();
        let error = read(&mut reader).await.unwrap_err();
        assert_eq!((error.kind(), reason(&error)), (io::ErrorKind::InvalidData, &expected), "{json}");
        assert!(matches!(soon(receipt).await, Outcome::Rejected { .. }), "{json}");
        assert_eq!(reason(&read(&mut reader).await.unwrap_err()), &expected, "it is for good");
    }
}

#[tokio::test]
async fn an_end_without_the_streams_own_is_an_error_on_both_sides() {
    let (client, connection, _server) = pair().await;
    let (mut writer, mut reader) = (client.byte_stream(lane()).unwrap(), connection.byte_stream(lane()).unwrap());
    soon(writer.write_all(&bytes(10))).await.unwrap();
    let mut some = [0; 10];
    soon(reader.read_exact(&mut some)).await.unwrap();
    connection.disconnect();
    let error = read(&mut reader).await.unwrap_err();
    assert_eq!((error.kind(), reason(&error)), (io::ErrorKind::UnexpectedEof, &StreamError::Ended));
    soon(client.closed()).await;
    let error = soon(writer.write(&[1])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(soon(writer.close()).await.is_err());
}

#[tokio::test]
async fn a_server_that_has_lost_its_state_resets_a_stream_in_the_middle_of_it() {
    let (server, url) = listen(server_config()).await;
    let client = soon(reattach::connect(&url, client_config())).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    let (mut one, mut other) = (client.byte_stream(lane()).unwrap(), connection.byte_stream(lane()).unwrap());
    let mut some = [0; 2];
    soon(one.write_all(&[1, 2])).await.unwrap();
    soon(other.read_exact(&mut some)).await.unwrap();
    soon(other.write_all(&[3, 4])).await.unwrap();
    soon(one.read_exact(&mut some)).await.unwrap();
    let address = server.local_addr().unwrap().to_string();
    server.shut_down();
    soon(server.closed()).await;
    let successor = reattach::bind(&address, server_config()).await.unwrap();
    let error = read(&mut one).await.unwrap_err();
    assert_eq!((error.kind(), reason(&error)), (io::ErrorKind::ConnectionReset, &StreamError::Reset));
    let error = soon(one.write(&[5])).await.unwrap_err();
    assert_eq!((error.kind(), reason(&error)), (io::ErrorKind::ConnectionReset, &StreamError::Reset));
    drop(successor);
}
