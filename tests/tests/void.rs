//! Void: a message is withdrawn by its sender or by its deadline, and still ends only as its receiver says.

use std::time::Duration;

use harness::net::Way;
use harness::world::Road;
use harness::world::World;
use harness::world::accept;
use harness::world::code;
use harness::world::defer;
use harness::world::in_lane;
use harness::world::manual;
use harness::world::patient;
use harness::world::payload;
use harness::world::reject;
use reattach_core::error::ApiMisuse;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::link::Decision;
use reattach_core::link::Outgoing;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::server::PeerEvent;
use reattach_core::wire::Frame;
use reattach_core::wire::Payload;

const SECOND: Duration = Duration::from_secs(1);

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn cancelling_what_was_never_written_ends_it_at_once_and_it_never_is() {
    let mut world = World::attached();
    world.road = Road::Silent;
    world.cut(0);
    let id = world.send_up("queued");
    world.cancel(&id).expect("it waits");
    assert_eq!(world.outcomes_up(0), [cancelled(id)]);
    world.road = Road::Open;
    world.run_for(60 * SECOND);
    assert_eq!((world.writes(Way::Up, "queued").len(), voids(&world)), (0, 0));
    assert_eq!(world.outcomes_up(0).len(), 1);
}

#[test]
fn cancelling_what_was_written_and_has_not_come_voids_it() {
    let mut world = World::attached();
    let id = world.send_up("written");
    world.pump();
    let wire = world.wire(0);
    world.net.drop_texts(wire, Way::Up, |_| true);
    world.cancel(&id).expect("it is written");
    assert_eq!(world.outcomes_up(0), [], "only the receiver ends it");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [cancelled(id)]);
    assert_eq!(world.taken_texts(), [""; 0]);
}

#[test]
fn cancelling_what_was_received_and_not_handed_over_voids_it() {
    let mut world = World::attached();
    world.is_reading = false;
    let id = world.send_up("received");
    world.run_for(SECOND);
    world.cancel(&id).expect("it is written");
    world.run_for(SECOND);
    world.is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [cancelled(id)]);
    assert_eq!(world.taken_texts(), [""; 0]);
}

#[test]
fn cancelling_what_is_in_hands_leaves_it_to_the_next_decision() {
    let refused = |text| Outcome::Rejected { code: code(text), reason: String::new() };
    let cases = [
        (accept(), Outcome::Delivered),
        (reject("no"), refused("no")),
        (defer("busy", 1), refused("busy")),
        (Decision::Abandon, Outcome::Unknown { reason: Unknown::Abandoned }),
    ];
    for (decision, outcome) in cases {
        let mut world = World::attached_manual();
        let id = world.send_up("in hands");
        world.run_for(SECOND);
        world.cancel(&id).expect("it is written");
        world.run_for(SECOND);
        assert_eq!(world.outcomes_up(0), []);
        world.decide("in hands", decision).expect("it is in hands");
        world.run_for(60 * SECOND);
        assert_eq!(world.outcomes_up(0), [(id, outcome)]);
        assert_eq!(world.taken_texts(), ["in hands"]);
    }
}

#[test]
fn cancelling_what_waits_after_a_deferral_rejects_it_with_the_last_code() {
    let mut world = World::attached_manual();
    let id = world.send_up("put off");
    world.run_for(SECOND);
    world.decide("put off", defer("busy", 20)).expect("it is in hands");
    world.run_for(SECOND);
    world.cancel(&id).expect("it is written");
    world.run_for(60 * SECOND);
    let outcome = Outcome::Rejected { code: code("busy"), reason: String::new() };
    assert_eq!(world.outcomes_up(0), [(id, outcome)]);
    assert_eq!(world.taken_texts(), ["put off"], "it was not handed over again");
}

#[test]
fn cancelling_what_waits_to_be_handed_over_again_rejects_it_with_the_last_code() {
    let mut world = World::attached_manual();
    let id = world.send_up("put off");
    world.run_for(SECOND);
    world.decide("put off", defer("busy", 2)).expect("it is in hands");
    world.is_reading = false;
    world.run_for(5 * SECOND);
    world.cancel(&id).expect("it is written");
    world.run_for(SECOND);
    world.is_reading = true;
    world.run_for(SECOND);
    let outcome = Outcome::Rejected { code: code("busy"), reason: String::new() };
    assert_eq!(world.outcomes_up(0), [(id, outcome)]);
    assert_eq!(world.taken_texts(), ["put off"]);
}

#[test]
fn cancelling_what_is_settled_changes_nothing() {
    let mut world = World::attached_manual();
    let id = world.send_up("settled");
    world.run_for(SECOND);
    let wire = world.wire(0);
    world.net.stall(wire, Way::Down);
    world.decide("settled", accept()).expect("it is in hands");
    world.cancel(&id).expect("the sender has not heard of it");
    world.run_for(SECOND);
    world.net.unstall(wire, Way::Down);
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    assert_eq!(world.cancel(&id), Err(ApiMisuse::UnknownMessage));
}

#[test]
fn a_message_that_never_was_cannot_be_cancelled() {
    let mut world = World::attached();
    let id = world.send_up("done");
    world.run_for(SECOND);
    assert_eq!(world.cancel(&id), Err(ApiMisuse::UnknownMessage));
}

#[test]
fn a_message_cancelled_twice_is_voided_once() {
    let mut world = World::attached();
    world.is_reading = false;
    let id = world.send_up("received");
    world.run_for(SECOND);
    for _ in 0..3 {
        world.cancel(&id).expect("it has no outcome");
    }
    world.run_for(SECOND);
    assert_eq!(voids(&world), 1);
    assert_eq!(world.outcomes_up(0), [cancelled(id)]);
}

#[test]
fn the_rest_of_the_lane_goes_on_behind_a_voided_message() {
    let mut world = World::attached();
    world.is_reading = false;
    let ids = ["one", "two", "three"].map(|text| world.send_as(in_lane("a", text)));
    world.run_for(SECOND);
    world.cancel(&ids[1]).expect("it is written");
    world.run_for(SECOND);
    world.is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["one", "three"]);
    let delivered = [ids[0], ids[2]].map(|id| (id, Outcome::Delivered));
    assert_eq!(world.outcomes_up(0), [cancelled(ids[1]), delivered[0].clone(), delivered[1].clone()]);
}

#[test]
fn a_deadline_ends_what_was_never_written() {
    let mut world = World::attached();
    world.road = Road::Silent;
    world.cut(0);
    let id = world.send_as(Outgoing::from(payload("queued")).within(7 * SECOND));
    world.run_for(7 * SECOND - SECOND / 10);
    assert_eq!(world.outcomes_up(0), []);
    world.run_for(SECOND / 5);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::NotDelivered { reason: NotDelivered::Deadline })]);
}

#[test]
fn a_deadline_voids_what_was_written() {
    let mut world = World::attached();
    world.is_reading = false;
    let id = world.send_as(Outgoing::from(payload("held")).within(7 * SECOND));
    world.run_for(8 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::NotDelivered { reason: NotDelivered::Deadline })]);
    world.is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), [""; 0]);
}

#[test]
fn a_deadline_that_passes_while_the_message_is_settled_in_time_says_nothing() {
    let mut world = World::attached();
    let id = world.send_as(Outgoing::from(payload("fast")).within(7 * SECOND));
    world.run_for(60 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    assert_eq!(voids(&world), 0);
}

#[test]
fn a_message_without_a_deadline_ends_after_a_day() {
    let mut world = World::attached_with(server::Config::default(), patient());
    world.road = Road::Silent;
    world.cut(0);
    let ids =
        [world.send_up("queued"), world.send_as(Outgoing::from(payload("with a far deadline")).within(240 * HOUR))];
    world.run_for(24 * HOUR - SECOND);
    assert_eq!(world.outcomes_up(0), []);
    world.run_for(2 * SECOND);
    let reason = NotDelivered::TooOld;
    assert_eq!(world.outcomes_up(0), ids.map(|id| (id, Outcome::NotDelivered { reason })));
}

#[test]
fn a_held_message_is_voided_after_a_day() {
    let mut world = World::attached();
    world.is_reading = false;
    let id = world.send_up("held");
    world.run_for(24 * HOUR + SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::NotDelivered { reason: NotDelivered::TooOld })]);
}

#[test]
fn a_void_without_an_answer_is_unknown_after_thirty_seconds_and_its_place_stays_taken_until_it_is_settled() {
    let mut world = World::attached_manual();
    let id = world.send_up("in hands");
    world.run_for(SECOND);
    world.cancel(&id).expect("it is written");
    world.run_for(29 * SECOND);
    assert_eq!(world.outcomes_up(0), []);
    world.run_for(2 * SECOND);
    let unknown = [(id, Outcome::Unknown { reason: Unknown::VoidUnanswered })];
    assert_eq!(world.outcomes_up(0), unknown);
    assert_eq!(places(&world), 1);
    assert_eq!(world.cancel(&id), Err(ApiMisuse::UnknownMessage), "it has its outcome");
    world.decide("in hands", accept()).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(places(&world), 0);
    assert_eq!(world.outcomes_up(0), unknown, "an outcome is never revised");
}

#[test]
fn a_void_deadline_that_passes_while_detached_is_unknown_too() {
    let mut world = World::attached();
    world.is_reading = false;
    let id = world.send_up("received");
    world.run_for(SECOND);
    world.road = Road::Silent;
    world.cut(0);
    world.cancel(&id).expect("it is written");
    world.run_for(31 * SECOND);
    let unknown = [(id, Outcome::Unknown { reason: Unknown::VoidUnanswered })];
    assert_eq!(world.outcomes_up(0), unknown);
    world.road = Road::Open;
    world.run_for(60 * SECOND);
    assert_eq!(places(&world), 0);
    assert_eq!(world.outcomes_up(0), unknown);
}

#[test]
fn after_a_resume_only_the_void_is_written_again() {
    let mut world = World::attached();
    let texts = ["kept 1", "withdrawn", "kept 2"];
    let wire = world.wire(0);
    world.net.stall(wire, Way::Up);
    let ids = texts.map(|text| world.send_as(in_lane(text, text)));
    world.cancel(&ids[1]).expect("it is written");
    world.run_for(SECOND);
    world.cut(0);
    world.run_for(40 * SECOND);
    assert_eq!(world.attaches(0), [false, true]);
    assert_eq!(texts.map(|text| world.writes(Way::Up, text).len()), [2, 1, 2]);
    assert_eq!(voids(&world), 2);
    assert_eq!(world.taken_texts(), ["kept 1", "kept 2"]);
    assert!(world.outcomes_up(0).contains(&cancelled(ids[1])));
    assert_eq!(world.outcomes_up(0).len(), 3);
}

#[test]
fn a_void_that_was_lost_with_the_transport_is_written_on_the_next() {
    let mut world = World::attached();
    world.is_reading = false;
    let id = world.send_up("received");
    world.run_for(SECOND);
    for _ in 0..3 {
        world.run_until(60 * SECOND, |world| world.clients[0].client.connection().transport().is_some());
        _ = world.cancel(&id);
        world.pump();
        world.cut(0);
    }
    world.run_for(20 * SECOND);
    assert_eq!(world.outcomes_up(0), [cancelled(id)]);
    world.is_reading = true;
    world.run_for(20 * SECOND);
    assert_eq!(world.taken_texts(), [""; 0]);
}

#[test]
fn what_only_holds_its_place_is_neither_pending_nor_delayed() {
    let mut world = World::attached_manual();
    let id = world.send_up("in hands");
    world.run_for(20 * SECOND);
    let view = world.clients[0].client.view();
    assert_eq!((view.pending, view.delayed, view.failed), (1, 1, 0));
    world.cancel(&id).expect("it is written");
    world.run_for(31 * SECOND);
    let view = world.clients[0].client.view();
    assert_eq!((view.pending, view.delayed, view.failed), (0, 0, 1));
}

// Void is sticky: it holds for a message that comes behind it.
#[test]
fn a_copy_that_comes_behind_its_void_is_not_handed_over() {
    let mut world = World::attached();
    world.inject_up(0, r#"{"t":"void","seq":1}"#);
    let id = world.send_up("behind it");
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), [""; 0]);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::NotDelivered { reason: NotDelivered::Voided })]);
}

#[test]
fn a_void_that_comes_again_and_again_changes_nothing() {
    let mut world = World::attached_manual();
    let ids = ["settled", "in hands"].map(|text| world.send_as(in_lane(text, text)));
    world.run_for(SECOND);
    world.decide("settled", accept()).expect("it is in hands");
    for _ in 0..3 {
        world.inject_up(0, r#"{"t":"void","seq":1}"#);
        world.inject_up(0, r#"{"t":"void","seq":2}"#);
        world.run_for(SECOND);
    }
    world.decide("in hands", accept()).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), ids.map(|id| (id, Outcome::Delivered)));
}

#[test]
fn the_server_withdraws_by_the_same_rules() {
    let mut world = World::attached_with(manual(), patient());
    world.clients[0].is_reading = false;
    let ids = ["kept", "withdrawn"].map(|text| world.send_down(text));
    world.run_for(SECOND);
    let (cid, now) = (world.cid(), world.now);
    world.server.cancel(&cid, &ids[1], now).expect("it is written");
    world.run_for(SECOND);
    world.clients[0].is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.clients[0].taken, ["kept"]);
    assert_eq!(world.outcomes_down(), [cancelled(ids[1]), (ids[0], Outcome::Delivered)]);
}

// L1: the window is full to the byte, and the withdrawn payload is shorter than any stand-in for it.
#[test]
fn a_void_takes_no_more_room_than_the_message_that_it_withdraws() {
    let mut config = manual();
    config.connection.link.window.bytes = 40;
    let mut world = World::attached_with(config, patient());
    let wire = world.wire(0);
    world.net.stall(wire, Way::Up);
    let long = "x".repeat(18 - 1);
    let mut ids = vec![world.send_as(in_lane("a", &long[..16])), world.send_as(in_lane("b", &long))];
    let short = Outgoing::from(Payload::new(&1).expect("a number is JSON"));
    ids.push(world.send_as(short.in_lane(Name::new("c").expect("short"))));
    assert_eq!(world.clients[0].client.connection().link().outbox().flight().sent().get(), 3);
    world.cancel(&ids[2]).expect("it is written");
    world.run_for(SECOND);
    world.cut(0);
    world.run_for(60 * SECOND);
    let has_broken = |event: &PeerEvent| matches!(event, PeerEvent::PeerBrokeProtocol { .. });
    assert!(!world.peer_events.iter().any(|(_, event)| has_broken(event)), "{:?}", world.peer_events);
    assert_eq!(world.taken.len(), 2);
    assert_eq!(world.outcomes_up(0), [cancelled(ids[2])]);
}

fn cancelled(id: MessageId) -> (MessageId, Outcome) {
    (id, Outcome::NotDelivered { reason: NotDelivered::Cancelled })
}

/// How many voids the clients wrote.
fn voids(world: &World) -> usize {
    world.times(Way::Up, |frame| matches!(frame, Frame::Void(_))).len()
}

/// How many places in the first client's outbox are taken.
fn places(world: &World) -> u32 {
    world.clients[0].client.connection().link().outbox().usage().count()
}

// Whatever stands above a withdrawn message that has not come waits for its void.
#[test]
fn a_void_that_is_lost_after_its_outcome_was_told_is_written_again() {
    let mut world = World::attached();
    let eaten = world.send_up("eaten");
    world.pump();
    let wire = world.wire(0);
    world.net.drop_texts(wire, Way::Up, |_| true);
    world.road = Road::Failing(OpenError::Refused { status: 400, retry_after: None });
    world.cut(0);
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(eaten, Outcome::Unknown { reason: Unknown::Unreachable })]);
    world.road = Road::Open;
    let now = world.now;
    world.client().client.reconnect(now).expect("it may try again");
    let is_void = |text: &str| text.contains(r#""t":"void""#);
    let under_way = |world: &World| {
        world.live_wire(0).is_some_and(|wire| world.net.in_flight(wire, Way::Up).iter().any(|text| is_void(text)))
    };
    world.run_until(SECOND, under_way);
    let wire = world.wire(0);
    world.net.drop_texts(wire, Way::Up, is_void);
    let behind = world.send_up("behind it");
    world.run_for(20 * SECOND);
    assert_eq!(world.taken_texts(), ["behind it"]);
    assert_eq!(world.outcomes_up(0)[1..], [(behind, Outcome::Delivered)]);
    assert_eq!(world.clients[0].client.stats().outbox_bytes, 0, "and its place is free");
}

// Found by reading: with more in hands than a report can list, the void waited for the sender's next ping.
#[test]
fn a_void_that_waits_for_room_in_the_report_is_answered_once_a_decision_makes_it() {
    let (mut server, mut client) = (manual(), patient());
    server.connection.link.window.count = 16_384;
    client.connection.link.outbox.count = 16_384;
    let mut world = World::attached_with(server, client);
    let ids: Vec<MessageId> =
        (1..=513).map(|number| world.send_as(in_lane(&format!("lane {number}"), &format!("m{number}")))).collect();
    let last = ids[512];
    world.run_for(30 * SECOND);
    world.cancel(&last).expect("it is pending");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [], "the report has no room to say it");
    world.decide("m1", accept()).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(ids[0], Outcome::Delivered), cancelled(last)]);
}
