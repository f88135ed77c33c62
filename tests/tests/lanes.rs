//! Lanes: what is in order with each other shares a lane, and a lane that is stuck leaves room for the others.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::alone::LoneClient;
use harness::alone::epoch;
use harness::frames;
use harness::net::Way;
use harness::world::Road;
use harness::world::World;
use harness::world::accept;
use harness::world::defer;
use harness::world::frames_of;
use harness::world::in_lane;
use harness::world::manual;
use harness::world::patient;
use harness::world::payload;
use harness::world::secrets;
use reattach_core::client;
use reattach_core::error::ApiMisuse;
use reattach_core::id::Lane;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::link::Lanes;
use reattach_core::link::Quota;
use reattach_core::outcome::Outcome;
use reattach_core::server;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;

const SECOND: Duration = Duration::from_secs(1);

// N12, S004-071, S004-072
#[test]
fn n12_a_full_queue_is_refused_visibly_and_a_cut_before_any_answer_loses_nothing() {
    let mut world = World::attached_with(server::Config::default(), patient());
    world.cut(0);
    let mut sent: Vec<_> = (0..100).map(|number| send(&mut world, number)).collect();
    assert_eq!(world.try_send_up(0, "100"), Err(ApiMisuse::QueueFull));
    world.is_reading = false;
    world.run_until(60 * SECOND, |world| world.clients[0].client.connection().link().outbox().queued() == 0);
    let mut refused = 0;
    for number in 100..150 {
        match world.try_send_up(0, &number.to_string()) {
            Ok(id) => sent.push(id),
            Err(error) => {
                assert_eq!(error, ApiMisuse::QueueFull);
                refused += 1;
            }
        }
    }
    assert_eq!((sent.len(), refused), (100, 50), "what is written and not settled holds its place");
    world.cut(0);
    let pending = world.clients[0].client.stats();
    assert!(pending.queued + pending.written <= 100);
    let before = world.texts.len();
    world.is_reading = true;
    world.run_for(60 * SECOND);
    let writes = world.texts[before..].iter().filter(|(_, _, way, _)| *way == Way::Up);
    let messages: usize = writes.map(|(_, _, _, text)| text.matches("\"t\":\"msg\"").count()).sum();
    assert!(messages <= 100, "{messages} messages were written after the welcome");
    assert_eq!(world.taken_texts(), (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(world.outcomes_up(0), sent.into_iter().map(|id| (id, Outcome::Delivered)).collect::<Vec<_>>());
}

// S004-071
#[test]
fn one_lane_takes_half_of_the_outbox_and_the_next_half_of_the_rest() {
    let mut world = offline();
    let counts = ["a", "b", "c", "d", "e"].map(|lane| fill(&mut world, lane));
    assert_eq!(counts, [100, 50, 25, 13, 6]);
}

#[test]
fn a_lane_that_fills_its_share_does_not_take_the_last_place_of_another() {
    let mut world = offline();
    fill(&mut world, "greedy");
    for number in 0..7 {
        world.try_send_as(in_lane(&format!("lane {number}"), "1")).expect("a lane without messages has a place");
    }
    assert_eq!(world.try_send_as(in_lane("greedy", "1")), Err(ApiMisuse::QueueFull));
}

#[test]
fn the_default_lane_is_a_lane_like_any_other() {
    let mut world = offline();
    let lane = (0..).take_while(|_| world.try_send_up(0, "1").is_ok()).count();
    assert_eq!(lane, 100);
    assert_eq!(world.try_send_up(0, "1"), Err(ApiMisuse::QueueFull));
    assert_eq!(fill(&mut world, "named"), 50);
    let outbox = world.clients[0].client.connection().link().outbox();
    assert!(!outbox.has_room(&Lane::DEFAULT, 3));
}

#[test]
fn bytes_are_shared_like_places() {
    let mut config = patient();
    config.connection.link.outbox = Quota { count: 200, bytes: 1_000 };
    let mut world = World::attached_with(server::Config::default(), config);
    world.road = Road::Silent;
    world.cut(0);
    let text = "x".repeat(98);
    let mut count = |lane| (0..).take_while(|_| world.try_send_as(in_lane(lane, &text)).is_ok()).count();
    assert_eq!([count("a"), count("b"), count("c")], [5, 3, 1]);
}

#[test]
fn the_window_is_shared_by_the_same_rule() {
    let mut config = manual();
    config.connection.link.window.count = 16;
    let mut world = World::attached_with(config, patient());
    for lane in ["a", "b", "c"] {
        for number in 0..20 {
            world.send_as(in_lane(lane, &format!("{lane}{number}")));
        }
    }
    world.run_for(SECOND);
    let written =
        |lane: &str| (0..20).filter(|number| !world.writes(Way::Up, &format!("{lane}{number}")).is_empty()).count();
    assert_eq!(["a", "b", "c"].map(written), [8, 4, 2]);
}

// S004-074
#[test]
fn a_lane_that_holds_all_it_may_does_not_hold_another_up() {
    let mut config = manual();
    config.connection.link.window.count = 16;
    let mut world = World::attached_with(config, patient());
    for number in 0..50 {
        world.send_as(in_lane("stuck", &format!("stuck {number}")));
    }
    world.run_for(SECOND);
    for number in 0..100 {
        let text = format!("free {number}");
        let id = world.send_as(in_lane("free", &text));
        world.run_for(SECOND / 10);
        world.decide(&text, accept()).expect("it is in hands");
        world.run_for(SECOND / 10);
        assert_eq!(world.outcomes_up(0).last(), Some(&(id, Outcome::Delivered)));
    }
    assert_eq!(world.taken_texts().iter().filter(|text| text.starts_with("stuck")).count(), 1);
}

#[test]
fn each_lane_keeps_its_order_under_cuts_and_small_windows() {
    let mut config = server::Config::default();
    config.connection.link.window.count = 4;
    let mut world = World::attached_with(config, patient());
    for number in 0..40 {
        world.send_as(in_lane(["a", "b", "c"][number % 3], &format!("{number}")));
    }
    for _ in 0..6 {
        world.run_for(SECOND / 25);
        world.cut_keeping(0, 1);
        world.run_until(120 * SECOND, |world| world.clients[0].client.connection().transport().is_some());
    }
    world.run_for(60 * SECOND);
    let taken: Vec<usize> = world.taken_texts().iter().map(|text| text.parse().expect("a number")).collect();
    assert_eq!(taken.len(), 40);
    for lane in 0..3 {
        let of_lane: Vec<_> = taken.iter().copied().filter(|number| number % 3 == lane).collect();
        assert!(of_lane.is_sorted(), "{of_lane:?}");
    }
}

#[test]
fn the_place_of_a_deferred_message_stays_taken_until_it_is_final() {
    let mut config = manual();
    config.connection.link.window.count = 2;
    let mut world = World::attached_with(config, patient());
    world.send_as(in_lane("a", "put off"));
    world.run_for(SECOND);
    world.decide("put off", defer("busy", 20)).expect("it is in hands");
    world.run_for(SECOND);
    world.send_as(in_lane("b", "b"));
    world.send_as(in_lane("c", "c"));
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["put off", "b"], "two places, and one is the deferred message's");
    world.decide("b", accept()).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["put off", "b", "c"]);
}

#[test]
fn a_smaller_window_after_a_reattach_stops_new_writes_only() {
    let mut lone = LoneClient::attached(patient());
    let send = |lone: &mut LoneClient, lane: &str| {
        let now = lone.now;
        lone.client.send(in_lane(lane, lane), now).expect("room in the outbox");
        lone.drain()
    };
    ["a", "b", "c", "d"].iter().for_each(|lane| _ = send(&mut lone, lane));
    lone.closed(CloseCode::ABNORMAL);
    lone.wait(SECOND);
    lone.opened();
    let mut welcome = frames::welcome(lone.client.connection_id(), epoch(1));
    welcome.resumed = true;
    welcome.limits.window = 2;
    let outputs = lone.receive(&Frame::Welcome(Box::new(welcome)));
    assert_eq!(messages_in(&outputs), 4, "what was written is written again");
    assert_eq!(messages_in(&send(&mut lone, "e")), 0);
    lone.hear(r#"{"t":"ack","received":4,"settled":2}"#);
    assert_eq!(messages_in(&send(&mut lone, "f")), 0, "as many are open as the window holds");
    let outputs = lone.hear(r#"{"t":"ack","received":4,"settled":4}"#);
    assert_eq!(messages_in(&outputs), 2);
}

fn send(world: &mut World, number: usize) -> MessageId {
    world.try_send_up(0, &number.to_string()).expect("room in the outbox")
}

/// A client that cannot reach its server.
fn offline() -> World {
    let config: client::Config = patient();
    let mut world = World::attached_with(server::Config::default(), config);
    world.road = Road::Silent;
    world.cut(0);
    world
}

/// Sends in a lane until it is refused, and returns how many were taken.
fn fill(world: &mut World, lane: &str) -> usize {
    (0..).take_while(|_| world.try_send_as(in_lane(lane, "1")).is_ok()).count()
}

/// How many reliable messages a client wrote.
fn messages_in(outputs: &[client::Output]) -> usize {
    let texts = outputs.iter().filter_map(|output| match output {
        client::Output::Write { text, .. } => Some(text),
        client::Output::Open { .. } | client::Output::Close { .. } | client::Output::Event(_) => None,
    });
    texts.flat_map(|text| frames_of(text)).filter(|frame| matches!(frame, Frame::Message(_))).count()
}

#[test]
fn a_lane_can_be_taken_from_alone_and_the_others_without_it() {
    let mut world = World::attached();
    let (apart, cid) = (Lane::named(Name::new("apart").expect("it is valid")), world.cid());
    for (lane, text) in [("left", "1"), ("apart", "2"), ("left", "3"), ("apart", "4")] {
        let now = world.now;
        world.client().client.send(in_lane(lane, text), now).expect("it is valid");
    }
    let now = world.now;
    world.is_reading = false;
    world
        .client()
        .client
        .send_ephemeral(Name::new("typing").expect("it is valid"), payload("5"), now)
        .expect("it is valid");
    world.run_for(SECOND);
    let now = world.now;
    let mut take = |lanes: Lanes<'_>| {
        let delivery = world.server.take_from(&cid, lanes, now)?;
        Some(delivery.payload().parse::<String>().expect("it is valid"))
    };
    let others = BTreeSet::from([apart.clone()]);
    assert_eq!(take(Lanes::Only(&apart)).as_deref(), Some("2"));
    let rest: Vec<_> = std::iter::from_fn(|| take(Lanes::Except(&others))).collect();
    assert_eq!(rest, ["5", "1", "3"]);
    assert_eq!(take(Lanes::All).as_deref(), Some("4"));
    assert_eq!(take(Lanes::All), None);
}

#[test]
fn a_server_says_from_which_connections_something_can_be_taken_also_when_they_have_ended() {
    let mut world = World::attached();
    world.add_client(patient(), secrets(2));
    world.run_for(SECOND);
    let deliverable = |world: &World| world.server.deliverable().copied().collect::<Vec<_>>();
    world.is_reading = false;
    let cid = world.cid();
    world.send_up("1");
    world.send_up("2");
    assert_eq!(deliverable(&world), []);
    world.run_for(SECOND);
    assert_eq!(deliverable(&world), [cid]);
    assert!(world.server.take(&cid, world.now).is_some());
    world.run_for(SECOND);
    assert_eq!(deliverable(&world), [cid], "another one waits");
    let now = world.now;
    world.client().client.disconnect(now);
    world.run_for(SECOND);
    assert!(world.server.connections().all(|other| *other != cid), "it has ended");
    assert_eq!(deliverable(&world), [cid]);
    assert!(world.server.take(&cid, world.now).is_some());
    world.run_for(SECOND);
    assert_eq!(deliverable(&world), []);
}

#[test]
fn a_lane_that_nobody_reads_does_not_delay_what_is_said_of_others() {
    let mut world = World::attached();
    let (unread, cid) = (Lane::named(Name::new("unread").expect("it is valid")), world.cid());
    world.is_reading = false;
    let now = world.now;
    world.client().client.send(in_lane("unread", "1"), now).expect("there is room");
    world.client().client.send(in_lane("left", "2"), now).expect("there is room");
    world.run_for(SECOND);
    let (before, others) = (world.texts.len(), BTreeSet::from([unread]));
    assert!(world.server.take_from(&cid, Lanes::Except(&others), world.now).is_some());
    world.pump();
    let said = |world: &World| world.texts[before..].iter().any(|(.., text)| text.contains("\"t\":\"ack\""));
    assert!(said(&world), "with no company to wait for the report goes at once");
}
