//! The network in memory with which applications test themselves: what it promises, shown on applications.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::future::pending;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use futures_util::SinkExt;
use reattach_smol::Client;
use reattach_smol::ClientConfig;
use reattach_smol::ConnectError;
use reattach_smol::Connection;
use reattach_smol::ConnectionState;
use reattach_smol::MessageSink;
use reattach_smol::Received;
use reattach_smol::Server;
use reattach_smol::ServerConfig;
use reattach_smol::core::client;
use reattach_smol::core::error::ApiMisuse;
use reattach_smol::core::link::Acceptance;
use reattach_smol::core::outcome::Outcome;
use reattach_smol::core::server;
use reattach_smol::core::wire::Payload;
use reattach_smol::testing::Direction;
use reattach_smol::testing::Happening;
use reattach_smol::testing::Incident;
use reattach_smol::testing::Net;
use reattach_smol::testing::Simulation;

const URL: &str = "ws://server.test/";
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn messages_survive_a_cut_at_every_byte_of_a_conversation() {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let (bytes, cuts) = conversation(direction, None);
        assert!(bytes > 500, "{bytes} bytes are no conversation");
        assert_eq!(cuts, 0);
        for cut_after in 0..bytes {
            let (_, cuts) = conversation(direction, Some(cut_after));
            assert_eq!(cuts, 1, "{cut_after} bytes {direction}");
        }
    }
}

#[test]
fn messages_survive_cuts_without_end_at_times_that_the_seed_chooses() {
    for seed in 0..20 {
        Simulation::new(seed).run(async |net| {
            let echo = net.spawn(echo(net.bind("server.test:80", ServerConfig::new()).await.unwrap()));
            let client = net.connect(URL, tireless()).await.unwrap();
            let cutting = net.clone();
            net.spawn(async move {
                loop {
                    cutting.sleep(Duration::from_millis(cutting.random() % 5_000)).await;
                    cutting.cut();
                }
            });
            for value in 0..100 {
                send(&client, value).await;
                assert_eq!(value_of(&client.recv().await.unwrap()), value, "seed {seed}");
            }
            client.disconnect();
            assert_eq!(echo.await, (0..100).collect::<Vec<_>>(), "seed {seed}");
        });
    }
}

#[test]
fn a_detach_of_59_seconds_is_survived() {
    Simulation::new(1).run(async |net| {
        let (client, connection, _server) = pair(&net, ServerConfig::new()).await;
        let receipt = client.send(Payload::new(&1).unwrap()).await.unwrap();
        detach(&net, &client, Duration::from_secs(59)).await;
        assert_eq!(value_of(&connection.recv().await.unwrap()), 1);
        assert_eq!(receipt.await, Outcome::Delivered);
    });
}

#[test]
fn a_detach_of_61_seconds_is_not_and_every_outcome_is_honest() {
    let mut core = server::Config::default();
    core.connection.link.acceptance = Acceptance::Manual;
    Simulation::new(1).run(async |net| {
        let (client, connection, server) = pair(&net, ServerConfig::new().with_core(core)).await;
        let accepted = client.send(Payload::new(&1).unwrap()).await.unwrap();
        connection.recv().await.unwrap().accept().unwrap();
        assert_eq!(accepted.await, Outcome::Delivered);
        let undecided = client.send(Payload::new(&2).unwrap()).await.unwrap();
        let in_hand = connection.recv().await.unwrap();
        // It is under way when the stream breaks, and never arrives.
        let lost = client.send(Payload::new(&3).unwrap()).await.unwrap();
        net.sleep(Duration::from_millis(1)).await;
        let detaching = net.clone();
        let waiting = client.clone();
        let detached = net.spawn(async move { detach(&detaching, &waiting, Duration::from_secs(61)).await });
        net.sleep(SECOND).await;
        let unwritten = client.send(Payload::new(&4).unwrap()).await.unwrap();
        detached.await;

        connection.ended().await;
        let next = server.accept().await.unwrap();
        let received = next.recv().await.unwrap();
        assert_eq!(value_of(&received), 4);
        received.accept().unwrap();
        assert_eq!(unwritten.await, Outcome::Delivered);
        assert!(matches!(undecided.await, Outcome::Unknown { .. }));
        assert!(matches!(lost.await, Outcome::NotDelivered { .. }));
        assert!(connection.recv().await.is_none());
        assert!(in_hand.accept().is_err(), "the epoch has ended");
    });
}

#[test]
fn a_day_passes_in_moments() {
    let start = Instant::now();
    Simulation::new(1).run(async |net| {
        let (client, connection, _server) = pair(&net, ServerConfig::new()).await;
        net.sleep(DAY).await;
        assert_eq!(client.state(), ConnectionState::Attached);
        send(&client, 1).await;
        assert_eq!(value_of(&connection.recv().await.unwrap()), 1);
        assert!(net.elapsed() > DAY);
        assert!(net.carried(Direction::ToServer) > 10_000, "heartbeats went on all day");
    });
    // Half a second where nothing is optimized and the machine is idle; a busy one may take longer.
    assert!(start.elapsed() < DAY / 10_000, "it took {:?}", start.elapsed());
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_one_another() {
    let first = trace(1);
    assert!(first.0.len() > 30 && first.1.len() > 10, "{} incidents, {} events", first.0.len(), first.1.len());
    assert_eq!(first, trace(1));
    assert_ne!(first, trace(2));
}

#[test]
#[should_panic(expected = "a deadlock: everything waits and no timer is set, 3s after the start; not done: the test")]
fn a_deadlock_is_reported() {
    Simulation::new(1).run(async |net| {
        net.sleep(3 * SECOND).await;
        pending::<()>().await;
    });
}

#[test]
#[should_panic(expected = "of virtual time")]
fn a_wait_for_what_never_comes_is_reported_though_heartbeats_go_on() {
    Simulation::new(1).with_limit(DAY).run(async |net| {
        let (client, _connection, _server) = pair(&net, ServerConfig::new()).await;
        client.recv().await
    });
}

#[test]
#[should_panic(expected = "tests/testing.rs:")]
fn a_report_names_the_tasks_that_wait() {
    Simulation::new(1).run(async |net| net.spawn(pending::<()>()).await);
}

#[test]
#[should_panic(expected = "tasks wake each other and no time passes")]
fn a_task_that_runs_in_circles_is_reported() {
    Simulation::new(1).run(async |_| {
        std::future::poll_fn::<(), _>(|cx| {
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    });
}

#[test]
fn a_stall_is_noticed_when_the_heartbeat_is_overdue() {
    Simulation::new(1).run(async |net| {
        let (client, connection, _server) = pair(&net, ServerConfig::new()).await;
        net.sleep(SECOND).await;
        let stalled_at = net.elapsed();
        net.stall();
        let mut watch = client.watch();
        while watch.state() == ConnectionState::Attached {
            watch.changed().await;
        }
        let noticed_after = net.elapsed() - stalled_at;
        let dead_after = client::Config::default().connection.heartbeat.dead_after;
        assert!(noticed_after > dead_after - 2 * SECOND && noticed_after <= dead_after, "{noticed_after:?}");
        net.heal();
        send(&client, 1).await;
        assert_eq!(value_of(&connection.recv().await.unwrap()), 1);
    });
}

#[test]
fn a_stall_of_one_way_holds_up_only_that() {
    Simulation::new(1).run(async |net| {
        let (client, connection, _server) = pair(&net, ServerConfig::new()).await;
        net.stall_one_way(Direction::ToClient);
        let receipt = client.send(Payload::new(&1).unwrap()).await.unwrap();
        assert_eq!(value_of(&connection.recv().await.unwrap()), 1);
        assert!(net.timeout(2 * SECOND, receipt).await.is_none(), "the word that it was delivered is held up");
        net.heal();
        let receipt = connection.send(Payload::new(&2).unwrap()).await.unwrap();
        assert_eq!(value_of(&client.recv().await.unwrap()), 2);
        assert_eq!(receipt.await, Outcome::Delivered);
    });
}

#[test]
#[should_panic(expected = "the application has a bug")]
fn a_task_that_panics_fails_the_run_with_its_message() {
    Simulation::new(1).run(async |net| {
        let (_client, connection, _server) = pair(&net, ServerConfig::new()).await;
        net.spawn(async move {
            let _kept = connection.clone();
            connection.ended().await;
        });
        net.spawn(async { panic!("the application has a bug") });
        pending::<()>().await;
    });
}

#[test]
fn the_faults_of_a_place_meet_no_other_place() {
    Simulation::new(1).run(async |net| {
        let server = net.bind("server.test:80", ServerConfig::new()).await.unwrap();
        let (phone, desk) = (net.at("phone"), net.at("desk"));
        let on_phone = phone.connect(URL, tireless()).await.unwrap();
        let from_phone = server.accept().await.unwrap();
        let on_desk = desk.connect(URL, tireless()).await.unwrap();
        let from_desk = server.accept().await.unwrap();

        phone.stall();
        send(&on_desk, 1).await;
        assert_eq!(value_of(&from_desk.recv().await.unwrap()), 1);
        send(&on_phone, 2).await;
        assert!(net.timeout(5 * SECOND, from_phone.recv()).await.is_none());
        net.heal();
        assert_eq!(value_of(&from_phone.recv().await.unwrap()), 2);

        phone.refuse(true);
        assert_eq!(phone.cut(), 1);
        net.sleep(5 * SECOND).await;
        assert!(matches!(on_phone.state(), ConnectionState::Detached { .. } | ConnectionState::Connecting { .. }));
        assert_eq!(on_desk.state(), ConnectionState::Attached);
    });
}

#[test]
fn a_client_that_nobody_listens_to_gives_up() {
    Simulation::new(1).run(async |net| {
        let refused = net.connect(URL, ClientConfig::new()).await.unwrap_err();
        assert!(matches!(refused, ConnectError::GaveUp(_)), "{refused}");
        let server = net.bind("server.test:80", ServerConfig::new()).await.unwrap();
        assert!(net.bind("server.test:80", ServerConfig::new()).await.is_err(), "one listens there");
        net.connect(URL, ClientConfig::new()).await.unwrap();
        server.shut_down();
        server.closed().await;
        net.bind("server.test:80", ServerConfig::new()).await.unwrap();
    });
}

#[test]
fn a_wait_for_the_next_try_is_told_in_virtual_time() {
    let mut core = client::Config::default();
    core.reconnect.backoff.base = Duration::from_secs(20);
    Simulation::new(1).run(async |net| {
        net.refuse(true);
        let client = net.start(URL, ClientConfig::new().with_core(core)).unwrap();
        net.sleep(SECOND).await;
        let ConnectionState::Detached { next_try_in, .. } = client.state() else { panic!("{:?}", client.state()) };
        assert_eq!(client.until(client.view().retry_at.unwrap()), next_try_in);
        net.sleep(next_try_in - Duration::from_micros(1)).await;
        assert!(matches!(client.state(), ConnectionState::Detached { .. }));
        net.sleep(Duration::from_micros(1)).await;
        assert!(matches!(client.state(), ConnectionState::Connecting { .. }));
    });
}

#[test]
fn what_is_larger_than_the_buffers_under_way_arrives() {
    Simulation::new(1).run(async |net| {
        let (client, connection, _server) = pair(&net, ServerConfig::new()).await;
        let text = "x".repeat(1_000_000);
        let receipt = client.send(Payload::new(&text).unwrap()).await.unwrap();
        assert!(connection.recv().await.unwrap().payload().parse::<String>().unwrap() == text);
        assert_eq!(receipt.await, Outcome::Delivered);
    });
}

#[test]
fn a_simulation_that_ends_drops_its_tasks() {
    let held = Arc::new(());
    let mut simulation = Simulation::new(1);
    let kept = simulation.run(async |net| {
        let (client, connection, server) = pair(&net, ServerConfig::new()).await;
        let holding = Arc::clone(&held);
        net.spawn(async move {
            let _holding = (holding, connection);
            pending::<()>().await;
        });
        net.sleep(SECOND).await;
        (client, server)
    });
    assert_eq!(Arc::strong_count(&held), 2);
    simulation.run(async |net| net.sleep(SECOND).await);
    assert_eq!(kept.0.state(), ConnectionState::Attached, "what was spawned goes on in the next run");
    drop(simulation);
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(matches!(kept.0.state(), ConnectionState::Closed(_)));
}

/// Sends five messages and waits for their echoes. Returns how many bytes went one way, and how many streams were cut.
fn conversation(direction: Direction, cut_after: Option<u64>) -> (u64, usize) {
    let mut simulation = Simulation::new(1);
    simulation.run(async |net| {
        let echo = net.spawn(echo(net.bind("server.test:80", ServerConfig::new()).await.unwrap()));
        if let Some(bytes) = cut_after {
            net.cut_after(direction, bytes);
        }
        let client = net.connect(URL, tireless()).await.unwrap();
        let mut receipts = Vec::new();
        for value in 0..5 {
            receipts.push(client.send(Payload::new(&value).unwrap()).await.unwrap());
        }
        for value in 0..5 {
            assert_eq!(value_of(&client.recv().await.unwrap()), value);
        }
        for receipt in receipts {
            assert_eq!(receipt.await, Outcome::Delivered);
        }
        let (bytes, cuts) = (net.carried(direction), cuts(&net.incidents()));
        client.close(SECOND).await;
        assert_eq!(echo.await, [0, 1, 2, 3, 4]);
        (bytes, cuts)
    })
}

fn cuts(incidents: &[Incident]) -> usize {
    incidents.iter().filter(|incident| matches!(incident.what, Happening::Cut { .. })).count()
}

/// What happens on the network and what a client tells, while streams break.
fn trace(seed: u64) -> (Vec<Incident>, Vec<String>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let incidents = Simulation::new(seed).run(async |net| {
        net.spawn(echo(net.bind("server.test:80", ServerConfig::new()).await.unwrap()));
        let client = net.start(URL, tireless()).unwrap();
        let (mut events, clock) = (client.events(), net.clone());
        net.spawn(async move {
            while let Some(event) = events.next().await {
                telling.lock().unwrap().push(format!("{:?} {event:?}", clock.elapsed()));
            }
        });
        for value in 0..10 {
            send(&client, value).await;
            net.sleep(Duration::from_millis(net.random() % 2_000)).await;
            net.cut();
        }
        for value in 0..10 {
            assert_eq!(value_of(&client.recv().await.unwrap()), value);
        }
        net.incidents()
    });
    let told = told.lock().unwrap().clone();
    (incidents, told)
}

/// Serves one connection: sends back what comes, and returns it all when the connection has ended.
async fn echo(server: Server) -> Vec<u32> {
    let connection = server.accept().await.unwrap();
    let mut taken = Vec::new();
    while let Some(received) = connection.recv().await {
        taken.push(value_of(&received));
        _ = connection.send(Payload::new(&value_of(&received)).unwrap()).await;
    }
    taken
}

async fn pair(net: &Net, config: ServerConfig) -> (Client, Connection, Server) {
    let server = net.bind("server.test:80", config).await.unwrap();
    let client = net.connect(URL, tireless()).await.unwrap();
    let connection = server.accept().await.unwrap();
    (client, connection, server)
}

/// Cuts a client off for so long, to the moment at which it attaches again.
async fn detach(net: &Net, client: &Client, duration: Duration) {
    net.cut();
    net.refuse(true);
    net.sleep(duration - Duration::from_millis(200)).await;
    net.heal();
    client.reconnect().unwrap();
    net.sleep(Duration::from_millis(200)).await;
}

/// A client that goes on trying.
fn tireless() -> ClientConfig {
    let mut core = client::Config::default();
    core.reconnect.attempts = None;
    ClientConfig::new().with_core(core)
}

async fn send(client: &Client, value: u32) {
    client.send(Payload::new(&value).unwrap()).await.unwrap();
}

fn value_of(received: &Received) -> u32 {
    received.payload().parse().unwrap()
}

#[test]
fn a_sink_that_is_closed_while_nothing_leaves_ends_within_its_patience_and_says_so() {
    Simulation::new(1).run(async |net| {
        let _server = net.bind("server.test:80", ServerConfig::new()).await.unwrap();
        let client = net.connect(URL, tireless()).await.unwrap();
        net.refuse(true);
        net.cut();
        while client.try_send(Payload::new(&0).unwrap()).is_ok() {}
        let mut sink = client.duplex();
        sink.feed(Payload::new(&1).unwrap()).await.unwrap();
        let before = net.elapsed();
        let closed = SinkExt::<Payload>::close(&mut sink).await;
        assert_eq!(closed, Err(ApiMisuse::QueueFull));
        assert!(net.elapsed() - before <= MessageSink::PATIENCE + SECOND);
        assert!(matches!(client.state(), ConnectionState::Closed(_)));
    });
}

#[test]
fn whoever_waits_for_room_is_woken_when_a_place_comes_free_without_a_word() {
    Simulation::new(1).run(async |net| {
        let mut core = server::Config::default();
        core.connection.link.acceptance = Acceptance::Manual;
        let server = net.bind("server.test:80", ServerConfig::new().with_core(core)).await.unwrap();
        let mut core = client::Config::default();
        core.reconnect.attempts = None;
        // A lane may hold half of it.
        core.connection.link.outbox.count = 4;
        let client = net.connect(URL, ClientConfig::new().with_core(core)).await.unwrap();
        let connection = server.accept().await.unwrap();
        let _first = client.send(Payload::new(&1).unwrap()).await.unwrap();
        let in_hands = connection.recv().await.unwrap();
        let second = client.send(Payload::new(&2).unwrap()).await.unwrap();
        net.sleep(SECOND).await;
        net.refuse(true);
        net.cut();
        client.cancel(&second.id()).unwrap();
        // Nobody can tell within the time that there is for it; the place stays taken.
        assert!(matches!(second.await, Outcome::Unknown { .. }));
        let waiting = net.spawn({
            let client = client.clone();
            async move { client.send(Payload::new(&3).unwrap()).await.map(drop) }
        });
        net.refuse(false);
        client.reconnect().unwrap();
        assert_eq!(net.timeout(3 * SECOND, waiting).await, Some(Ok(())));
        drop(in_hands);
    });
}

#[test]
fn what_is_read_and_written_in_pieces_arrives_whole() {
    Simulation::new(1).run(async |net| {
        let (client, connection, _server) = pair(&net, ServerConfig::new()).await;
        net.set_piece(3);
        let large = "x".repeat(5_000);

        client.send(Payload::new(&large).unwrap()).await.unwrap();
        let received = connection.recv().await.unwrap();

        assert_eq!(received.payload().parse::<String>().unwrap(), large);
        let is_carried = |incident: &Incident| matches!(incident.what, Happening::Carried { bytes, .. } if bytes <= 3);
        assert!(net.incidents().iter().filter(|incident| is_carried(incident)).count() > 2_000);
    });
}

// L9
#[test]
fn a_clock_that_leaps_costs_nothing_but_what_its_time_is_up_for() {
    Simulation::new(1).run(async |net| {
        let (home, there) = (net.at("home"), net.at("there"));
        let server = there.bind("server.test:80", ServerConfig::new()).await.unwrap();
        let client = home.connect(URL, tireless()).await.unwrap();
        let connection = server.accept().await.unwrap();
        let before = (home.now(), there.now(), net.elapsed());

        home.leap(Duration::from_secs(3_600));

        assert_eq!((home.now(), there.now()), (before.0 + Duration::from_secs(3_600), before.1));
        assert_eq!(net.elapsed(), before.2);
        send(&client, 7).await;
        assert_eq!(value_of(&connection.recv().await.unwrap()), 7);
        there.leap(Duration::from_secs(3_600));
        net.sleep(Duration::from_secs(60)).await;
        send(&client, 8).await;
        assert_eq!(value_of(&connection.recv().await.unwrap()), 8);
        assert_eq!(client.state(), ConnectionState::Attached);
    });
}
