//! How long a connection's state is kept once no transport is attached, and that nothing of it is left then.

use std::time::Duration;

use harness::alone::LoneServer;
use harness::alone::mint;
use harness::frames::attempt;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::world::Road;
use harness::world::World;
use harness::world::frames_of;
use harness::world::patient;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client::Client;
use reattach_core::id::ConnectionId;
use reattach_core::id::InstanceId;
use reattach_core::id::TransportId;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::server;
use reattach_core::server::Config;
use reattach_core::server::Output;
use reattach_core::server::PeerClosed;
use reattach_core::server::PeerEvent;
use reattach_core::server::RegistryEvent;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;

const SECOND: Duration = Duration::from_secs(1);
const MICRO: Duration = Duration::from_micros(1);

// N03, S004-052, S004-118
#[test]
fn a_stale_close_arms_no_timer_and_a_reattach_disarms_it() {
    let mut lone = LoneServer::new(Config::default());
    let mut outputs = n03_up_to_the_second_close(&mut lone);
    outputs.extend(lone.wait(50 * SECOND));
    let (t3, said) = greet(&mut lone, 3);
    assert!(resumed(&said));
    outputs.extend(lone.wait(10 * SECOND));
    lone.server.handle_input(server::Input::Progress { transport: t3, read: 0, written: 10_000 }, lone.now);
    outputs.extend(lone.wait(35 * SECOND));
    assert_eq!(expired(&outputs), [], "nothing expires at 61.5, 90 or 125 s");
}

// N03, its variant, S004-033, S004-036
#[test]
fn without_a_reattach_the_connection_expires_exactly_at_its_time_and_once() {
    let mut lone = LoneServer::new(Config::default());
    assert_eq!(expired(&n03_up_to_the_second_close(&mut lone)), []);
    assert_eq!(expired(&lone.wait(60 * SECOND - MICRO)), []);
    assert_eq!(expired(&lone.wait(MICRO)), [hello(1).cid]);
    assert_eq!(lone.server.registry().connections(), 0);
    assert_eq!(expired(&lone.wait(600 * SECOND)), []);
}

// S001-22, S004-032
#[test]
fn a_connection_is_registered_once_however_often_it_comes_back_and_again_after_it_expired() {
    let mut world = World::attached_with(Config::default(), patient());
    let cid = world.cid();
    for _ in 0..3 {
        world.cut(0);
        world.run_for(30 * SECOND);
    }
    let registered = |world: &World| {
        let is_it = |event: &&RegistryEvent| matches!(event, RegistryEvent::Registered { cid: of, .. } if *of == cid);
        world.registry_events.iter().filter(is_it).count()
    };
    assert_eq!((registered(&world), world.attaches(0)), (1, vec![false, true, true, true]));
    world.road = Road::Silent;
    world.cut(0);
    world.run_for(61 * SECOND);
    world.road = Road::Open;
    world.run_for(60 * SECOND);
    assert_eq!((registered(&world), world.attaches(0).last()), (2, Some(&false)));
}

// S004-035
#[test]
fn the_ttl_counts_only_while_detached() {
    let mut world = World::attached();
    world.run_for(3 * 3_600 * SECOND);
    assert_eq!(world.attaches(0), [false]);
    for _ in 0..20 {
        world.cut(0);
        world.run_for(55 * SECOND);
    }
    assert!(!world.attaches(0)[1..].contains(&false));
    assert!(!world.registry_events.iter().any(|event| matches!(event, RegistryEvent::Expired { .. })));
}

// S004-034
#[test]
fn each_detach_has_the_whole_ttl() {
    let mut lone = LoneServer::new(Config::default());
    for number in 1..10 {
        let (transport, said) = greet(&mut lone, number);
        assert_eq!(resumed(&said), number > 1);
        lone.hear(transport, r#"{"t":"ping","n":1}"#);
        lone.closed(transport);
        assert_eq!(expired(&lone.wait(59 * SECOND)), []);
    }
}

#[test]
fn a_ttl_can_be_configured_and_is_told_to_the_client() {
    let mut config = Config::default();
    config.detach_ttl = 7 * SECOND;
    let mut lone = LoneServer::new(config);
    let (transport, said) = greet(&mut lone, 1);
    assert!(format!("{said:?}").contains(r#"\"detachTtl\":7000"#));
    lone.closed(transport);
    assert_eq!(expired(&lone.wait(7 * SECOND - MICRO)), []);
    assert_eq!(expired(&lone.wait(MICRO)), [hello(1).cid]);
}

// S004-032
#[test]
fn a_hello_in_the_tick_of_the_expiry_resumes_when_it_comes_first() {
    let mut lone = LoneServer::new(Config::default());
    let transport = joined(&mut lone);
    lone.closed(transport);
    lone.wait(60 * SECOND - MICRO);
    lone.now = lone.now + MICRO;
    let (_, said) = greet(&mut lone, 2);
    assert!(resumed(&said));
    assert_eq!(expired(&lone.wait(SECOND)), []);
    assert_eq!(lone.server.registry().receipts(), 0);
}

// S004-032
#[test]
fn a_hello_in_the_tick_of_the_expiry_is_fresh_when_it_comes_second_and_has_the_receipt() {
    let mut lone = LoneServer::new(Config::default());
    let transport = joined(&mut lone);
    lone.closed(transport);
    assert_eq!(expired(&lone.wait(60 * SECOND)), [hello(1).cid]);
    let (_, said) = greet(&mut lone, 2);
    assert!(!resumed(&said));
    assert!(format!("{said:?}").contains("receipt"), "it is told what became of what it had written");
    assert_eq!(lone.server.registry().connections(), 1);
}

// S004-036
#[test]
fn the_application_is_told_of_an_expiry_in_order_and_once() {
    let mut world = World::attached();
    world.cut(0);
    world.road = Road::Silent;
    world.run_for(120 * SECOND);
    let cid = world.cid();
    let ends = world.registry_events[1..].to_vec();
    assert_eq!(ends, [RegistryEvent::Expired { cid }, RegistryEvent::Removed { cid }]);
    let reason = PeerClosed::Expired;
    assert_eq!(world.peer_events.last(), Some(&(cid, PeerEvent::Closed { reason })));
}

#[test]
fn a_peer_has_a_moment_to_answer_however_short_the_timeout() {
    let mut config = Config::default();
    config.peer_timeout = Duration::ZERO;
    let mut world = World::attached_with(config, patient());
    world.is_reading = false;
    let id = world.send_up("never taken");
    world.run_for(SECOND);
    world.cut(0);
    world.road = Road::Silent;
    world.run_for(70 * SECOND);
    world.road = Road::Open;
    world.run_for(60 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::NotDelivered { reason: NotDelivered::Forgotten })]);
}

// S004-148
#[test]
fn a_connection_in_its_grace_period_is_not_reachable() {
    let mut world = World::attached();
    let cid = world.cid();
    assert!(world.server.registry().is_reachable(&cid));
    world.road = Road::Silent;
    world.cut(0);
    assert!(!world.server.registry().is_reachable(&cid));
    world.road = Road::Open;
    world.run_for(30 * SECOND);
    assert!(world.server.registry().is_reachable(&cid));
    assert!(!world.server.registry().is_reachable(&hello(9).cid));
}

// S004-046, S004-151, S002-22, S003-39
#[test]
fn what_is_sent_in_the_grace_period_comes_once_and_in_order_after_it() {
    let mut world = World::attached_with(Config::default(), patient());
    world.road = Road::Silent;
    world.cut(0);
    let texts = world.texts.len();
    for number in 18..=20 {
        world.run_for(5 * SECOND);
        world.send_down(&format!("e{number}"));
    }
    world.run_for(SECOND);
    assert_eq!(world.texts.len(), texts, "nothing is written to a dead transport");
    world.road = Road::Open;
    world.run_for(40 * SECOND);
    assert_eq!(world.clients[0].taken, ["e18", "e19", "e20"]);
    assert!(world.outcomes_down().iter().all(|(_, outcome)| *outcome == Outcome::Delivered));
}

#[test]
fn after_an_expiry_a_single_send_is_enough() {
    let mut world = World::attached_with(Config::default(), patient());
    world.road = Road::Silent;
    world.cut(0);
    world.run_for(90 * SECOND);
    world.road = Road::Open;
    world.send_up("wake");
    world.run_for(60 * SECOND);
    assert_eq!(world.taken_texts(), ["wake"]);
    assert_eq!(world.attaches(0), [false, false]);
}

// B2, S004-044, S002-20, S002-69
#[test]
fn after_all_clients_have_gone_the_server_is_as_new() {
    let mut config = Config::default();
    config.receipts.max = 0;
    let mut world = World::with_server(config.clone());
    for number in 1..=20 {
        world.add_client(patient(), secrets(number));
    }
    world.run_for(SECOND);
    for round in 0..10 {
        for index in 0..20 {
            let cid = world.clients[index].client.connection_id();
            world.try_send_up(index, "up").expect("room");
            _ = world.try_send_down(&cid, "down");
            if (index + round) % 3 == 0 {
                world.cut(index);
            }
        }
        world.run_for(7 * SECOND);
    }
    end_all_clients(&mut world);
    world.run_for(200 * SECOND);
    let now = world.now;
    assert_eq!(state_of(&world.server, now), state_of(&Server::new(config, now), now));
    assert_eq!(world.server.poll_timeout(), None);
}

#[test]
fn after_all_ttls_only_receipts_are_left_and_they_go_too() {
    let mut world = World::with_server(Config::default());
    for number in 1..=5 {
        world.add_client(patient(), secrets(number));
    }
    world.run_for(SECOND);
    world.road = Road::Silent;
    (0..5).for_each(|index| world.cut(index));
    world.run_for(100 * SECOND);
    assert_eq!(world.server.registry().connections(), 0);
    assert_eq!(world.server.registry().receipts(), 5);
    end_all_clients(&mut world);
    world.run_for(24 * 3_600 * SECOND);
    let now = world.now;
    assert_eq!(state_of(&world.server, now), state_of(&Server::new(Config::default(), now), now));
}

// S004-044, S002-20
#[test]
fn a_thousand_reattaches_leave_nothing_behind() {
    let mut lone = LoneServer::new(Config::default());
    let mut counts = Vec::new();
    for number in 1..=1_000 {
        let (transport, _) = greet(&mut lone, number);
        lone.hear(transport, r#"{"t":"ping","n":1}"#);
        if number % 3 == 0 {
            lone.closed(transport);
        }
        lone.wait(SECOND / 10);
        counts.push(format!("{:?}", lone.server).len());
    }
    let registry = lone.server.registry();
    assert_eq!((registry.connections(), registry.receipts()), (1, 0));
    assert!(registry.transports() <= 1);
    let (early, late) = (counts[10..20].iter().max(), counts[990..].iter().max());
    assert!(late.expect("some") < &(early.expect("some") + 100), "it grows: {early:?} to {late:?}");
}

#[test]
fn instances_that_come_and_go_leave_a_bounded_memory() {
    let mut lone = LoneServer::new(Config::default());
    let mut sizes = Vec::new();
    for number in 1..=200_u8 {
        let hello = Hello { instance: InstanceId::from_bytes([number; 16]), ..hello(1) };
        let (transport, _) = lone.accept(None);
        let outputs = lone.hear(transport, &hello_text(hello.clone()));
        if let [Output::Write { text, .. }] = &outputs[..]
            && let [Frame::Challenge(challenge)] = frames_of(text)[..]
        {
            lone.hear(transport, &hello_text(Hello { fence: Some(challenge.fence), ..hello }));
        }
        lone.hear(transport, r#"{"t":"ping","n":1}"#);
        sizes.push(format!("{:?}", lone.server.registry()).len());
    }
    assert_eq!(lone.server.registry().connections(), 1);
    assert!(lone.server.registry().receipts() <= 100, "as many as one principal may have");
    let (half, end) = (sizes[150], sizes[199]);
    assert!(end < half + half / 20, "it grows: {half} to {end}");
}

/// T1 says hello at 0 s, T2 at 1 s, the close of T1 comes at 1.5 s, that of T2 at 30 s.
fn n03_up_to_the_second_close(lone: &mut LoneServer) -> Vec<Output> {
    let t1 = joined(lone);
    let mut outputs = lone.wait(SECOND);
    let (t2, said) = greet(lone, 2);
    assert!(said.contains(&Output::Close { transport: t1, code: CloseCode::SUPERSEDED }));
    outputs.extend(lone.wait(SECOND / 2));
    outputs.extend(lone.closed(t1));
    outputs.extend(lone.wait(28 * SECOND + SECOND / 2));
    outputs.extend(lone.closed(t2));
    outputs
}

/// The first client on its first transport, heard since its welcome.
fn joined(lone: &mut LoneServer) -> TransportId {
    let transport = lone.greet(hello(1));
    lone.hear(transport, r#"{"t":"ping","n":1}"#);
    transport
}

/// The first client says the hello of a number, naming its epoch.
fn greet(lone: &mut LoneServer, number: u64) -> (TransportId, Vec<Output>) {
    let epoch = lone.server.peer(&hello(1).cid).and_then(|peer| peer.connection().epoch());
    let epoch = epoch.or_else(|| (number > 1).then_some(mint(1).epoch));
    let (transport, _) = lone.accept(None);
    let outputs = lone.hear(transport, &hello_text(Hello { attempt: attempt(number), epoch, ..hello(1) }));
    (transport, outputs)
}

fn resumed(outputs: &[Output]) -> bool {
    format!("{outputs:?}").contains(r#"\"resumed\":true"#)
}

fn expired(outputs: &[Output]) -> Vec<ConnectionId> {
    let expired = |output: &Output| {
        if let Output::Registry(RegistryEvent::Expired { cid }) = output { Some(*cid) } else { None }
    };
    outputs.iter().filter_map(expired).collect()
}

/// Half of the clients say goodbye, the others die.
fn end_all_clients(world: &mut World) {
    let now = world.now;
    for index in 0..world.clients.len() {
        if index % 2 == 1 {
            world.net.abandon(index, now);
            let mut gone = Client::new(steady(), secrets(100), 0, now);
            gone.disconnect(now);
            while gone.poll_output().is_some() {}
            world.clients[index].client = gone;
        }
        world.clients[index].client.disconnect(now);
    }
}

/// All that a server holds at a time, less how many peers it ever made.
fn state_of(server: &Server, now: Instant) -> String {
    let mut server = server.clone();
    server.handle_timeout(now);
    let shown = format!("{server:#?}");
    shown.lines().filter(|line| !line.trim_start().starts_with("generations:")).collect::<Vec<_>>().join("\n")
}
