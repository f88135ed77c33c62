//! Futures that are dropped at every point at which they wait: nothing is lost, nothing comes twice, and nobody else waits in
//! vain for it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::future::Future;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::AsyncReadExt as _;
use futures_util::AsyncWriteExt as _;
use reattach_smol::Client;
use reattach_smol::ClientConfig;
use reattach_smol::Connection;
use reattach_smol::ConnectionState;
use reattach_smol::PeerState;
use reattach_smol::Received;
use reattach_smol::Server;
use reattach_smol::ServerConfig;
use reattach_smol::core::client;
use reattach_smol::core::client::Closed;
use reattach_smol::core::id::Lane;
use reattach_smol::core::id::Name;
use reattach_smol::core::outcome::Outcome;
use reattach_smol::core::server;
use reattach_smol::core::wire::Payload;
use reattach_smol::testing::Net;
use reattach_smol::testing::Simulation;
use reattach_smol::testing::Spawned;

const URL: &str = "ws://server.test/";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// How long a future is kept.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// So many polls find it waiting.
    polls: usize,
    /// It is woken once more, and dropped before it can look why. Otherwise it is dropped as soon as it waits.
    is_woken: bool,
}

/// Both ways to be dropped at each of the first points.
fn points() -> impl Iterator<Item = Kept> {
    (1..=POINTS).flat_map(|polls| [false, true].map(|is_woken| Kept { polls, is_woken }))
}

/// No future here waits as often on its way to the end.
const POINTS: usize = 8;

impl Kept {
    /// What a future comes to, unless it is dropped before.
    async fn poll<T>(self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut polls = 0;
        poll_fn(|cx| {
            if polls == self.polls {
                return Poll::Ready(None);
            }
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            polls += 1;
            if polls == self.polls && !self.is_woken { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}

#[test]
fn a_send_that_is_dropped_while_it_waits_for_room_has_sent_nothing_and_keeps_no_room() {
    for kept in points() {
        Simulation::new(1).run(async |net| {
            let (client, connection, _server) = pair(&net).await;
            net.stall();
            let mut expected = 0;
            while client.try_send(number(expected)).is_ok() {
                expected += 1;
            }
            let (one, other) = (client.clone(), client.clone());
            let dropped = net.spawn(async move { kept.poll(one.send(number(1_000))).await.is_some() });
            let waiting = net.spawn(async move { other.send(number(2_000)).await.unwrap().await });
            net.sleep(SECOND).await;
            net.heal();
            let mut came = Vec::new();
            while came.last() != Some(&2_000) {
                came.push(value_of(&connection.recv().await.unwrap()));
            }
            assert_eq!(waiting.await, Outcome::Delivered, "{kept:?}");
            let was_sent = dropped.await;
            net.sleep(MINUTE).await;
            came.extend(connection.try_recv().as_ref().map(value_of));
            let mut all: Vec<u32> = (0..expected).chain(was_sent.then_some(1_000)).chain([2_000]).collect();
            came.sort_unstable();
            all.sort_unstable();
            assert_eq!(came, all, "{kept:?}");
        });
    }
}

#[test]
fn a_recv_that_is_dropped_has_taken_nothing() {
    for kept in points() {
        Simulation::new(2).run(async |net| {
            let (client, connection, _server) = pair(&net).await;
            let sending = client.clone();
            let slow = net.clone();
            net.spawn(async move {
                for value in 0..30 {
                    slow.sleep(Duration::from_millis(20)).await;
                    sending.send(number(value)).await.unwrap();
                }
            });
            let (mut came, mut drops) = (Vec::new(), 0);
            while came.len() < 30 {
                // Whoever waits beside it is not kept from what it leaves.
                let other = connection.clone();
                let beside = net.spawn(async move { other.recv().await.as_ref().map(value_of) });
                match kept.poll(connection.recv()).await {
                    Some(received) => came.push(value_of(&received.unwrap())),
                    None => drops += 1,
                }
                came.extend(if came.len() < 30 { beside.await } else { None });
            }
            came.sort_unstable();
            assert_eq!(came, (0..30).collect::<Vec<_>>(), "{kept:?}");
            assert!(drops > 0 || kept.polls > 1, "{kept:?} drops nothing");
        });
    }
}

#[test]
fn an_accept_that_is_dropped_has_accepted_nobody() {
    for kept in points() {
        Simulation::new(3).run(async |net| {
            let server = net.bind("server.test:80", ServerConfig::new()).await.unwrap();
            let mut clients = Vec::new();
            let mut accepted = Vec::new();
            for _ in 0..5 {
                let client = net.start(URL, ClientConfig::new()).unwrap();
                while accepted.len() <= clients.len() {
                    match kept.poll(server.accept()).await {
                        Some(connection) => accepted.push(connection.unwrap()),
                        None => net.sleep(Duration::from_millis(1)).await,
                    }
                }
                clients.push(client);
            }
            let names: Vec<_> = accepted.iter().map(Connection::id).collect();
            assert_eq!(names, clients.iter().map(Client::connection_id).collect::<Vec<_>>(), "{kept:?}");
        });
    }
}

#[test]
fn whoever_watches_and_is_dropped_has_missed_nothing() {
    for kept in points() {
        Simulation::new(4).run(async |net| {
            let (client, connection, _server) = pair(&net).await;
            let (mut events, mut seen) = (client.events(), 0);
            let (mut watch, mut peer_watch) = (client.watch(), connection.watch());
            for _ in 0..3 {
                net.cut();
                while watch.state() == ConnectionState::Attached {
                    _ = kept.poll(watch.changed()).await;
                    net.sleep(Duration::from_millis(1)).await;
                }
                while watch.state() != ConnectionState::Attached {
                    _ = kept.poll(watch.changed()).await;
                    net.sleep(Duration::from_millis(1)).await;
                }
                while peer_watch.state() != PeerState::Attached {
                    _ = kept.poll(peer_watch.changed()).await;
                    net.sleep(Duration::from_millis(1)).await;
                }
            }
            client.disconnect();
            loop {
                match kept.poll(events.next()).await {
                    Some(Some(_)) => seen += 1,
                    Some(None) => break,
                    None => net.sleep(Duration::from_millis(1)).await,
                }
            }
            // Three times detached, failed tries left aside, three times attached, and closed.
            assert!(seen >= 7, "{kept:?}: {seen} events");
            assert_eq!(events.missed(), 0);
        });
    }
}

#[test]
fn a_receipt_that_nobody_awaited_for_a_while_has_its_outcome_all_the_same() {
    for kept in points() {
        Simulation::new(5).run(async |net| {
            let (client, connection, _server) = pair(&net).await;
            let mut receipt = client.send(number(1)).await.unwrap();
            let taken = take_later(&net, &connection);
            let outcome = match kept.poll(&mut receipt).await {
                Some(outcome) => outcome,
                None => receipt.await,
            };
            assert_eq!(outcome, Outcome::Delivered, "{kept:?}");
            assert_eq!(taken.await, Some(1));
        });
    }
}

#[test]
fn a_connect_that_is_dropped_leaves_nobody_behind() {
    for kept in points() {
        Simulation::new(6).run(async |net| {
            let server = net.bind("server.test:80", ServerConfig::new()).await.unwrap();
            let connected = kept.poll(net.connect(URL, ClientConfig::new())).await;
            drop(connected);
            // A client that goes before its welcome says nothing, and its connection waits for it.
            net.sleep(2 * MINUTE).await;
            assert_eq!((server.connections(), server.transports()), (0, 0), "{kept:?}");
        });
    }
}

#[test]
fn an_end_that_nobody_waits_for_comes_all_the_same() {
    for kept in points() {
        Simulation::new(7).run(async |net| {
            let (client, connection, server) = pair(&net).await;
            _ = client.send(number(1)).await.unwrap();
            let taken = take_later(&net, &connection);
            _ = kept.poll(client.close(MINUTE)).await;
            assert_eq!(taken.await, Some(1));
            _ = kept.poll(client.closed()).await;
            _ = kept.poll(connection.ended()).await;
            connection.ended().await;
            client.closed().await;
            assert_eq!(client.state(), ConnectionState::Closed(Closed::Flushed), "{kept:?}");

            let client = net.connect(URL, ClientConfig::new()).await.unwrap();
            let connection = server.accept().await.unwrap();
            _ = client.send(number(2)).await.unwrap();
            net.sleep(SECOND).await;
            _ = kept.poll(server.drain(MINUTE, SECOND..=SECOND)).await;
            connection.ended().await;
            assert!(matches!(connection.state(), PeerState::Closed(server::PeerClosed::Drained { .. })), "{kept:?}");
            server.shut_down();
            _ = kept.poll(server.closed()).await;
            server.closed().await;
        });
    }
}

#[test]
fn bytes_survive_reads_and_writes_that_are_dropped() {
    let lane = || Lane::named(Name::new("a file").unwrap());
    for kept in points() {
        Simulation::new(8).run(async |net| {
            let (client, connection, _server) = pair(&net).await;
            let out: Vec<u8> = (0..400_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
            let expected = out.clone();
            let mut writer = client.byte_stream(lane()).unwrap();
            let pause = net.clone();
            let writing = net.spawn(async move {
                let mut left = &out[..];
                while !left.is_empty() {
                    match kept.poll(writer.write(left)).await {
                        Some(written) => left = &left[written.unwrap()..],
                        None => pause.sleep(Duration::from_millis(1)).await,
                    }
                }
                while kept.poll(writer.close()).await.is_none() {
                    pause.sleep(Duration::from_millis(1)).await;
                }
            });
            let mut reader = connection.byte_stream(lane()).unwrap();
            let (mut came, mut buf) = (Vec::new(), [0; 10_000]);
            loop {
                match kept.poll(reader.read(&mut buf)).await {
                    Some(read) => match read.unwrap() {
                        0 => break,
                        read => came.extend_from_slice(&buf[..read]),
                    },
                    None => net.sleep(Duration::from_millis(1)).await,
                }
            }
            assert!(came == expected, "{kept:?}: {} of {} bytes, or others", came.len(), expected.len());
            writing.await;
        });
    }
}

/// Takes a message after a while.
fn take_later(net: &Net, connection: &Connection) -> Spawned<Option<u32>> {
    let (later, connection) = (net.clone(), connection.clone());
    net.spawn(async move {
        later.sleep(SECOND).await;
        connection.recv().await.as_ref().map(value_of)
    })
}

async fn pair(net: &Net) -> (Client, Connection, Server) {
    let mut core = client::Config::default();
    core.reconnect.attempts = None;
    let server = net.bind("server.test:80", ServerConfig::new()).await.unwrap();
    let client = net.connect(URL, ClientConfig::new().with_core(core)).await.unwrap();
    let connection = server.accept().await.unwrap();
    (client, connection, server)
}

fn number(value: u32) -> Payload {
    Payload::new(&value).unwrap()
}

fn value_of(received: &Received) -> u32 {
    received.payload().parse().unwrap()
}
