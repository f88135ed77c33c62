//! Deferral: the receiver has the message and hands it over again by itself, and the sender is told of every failed attempt.

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
use reattach_core::connection::Currency;
use reattach_core::error::ApiMisuse;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Outgoing;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

// N09, S004-061, S004-058, S004-141
#[test]
fn n09_a_transient_failure_is_told_each_time_and_then_the_message_is_delivered_once() {
    let mut world = World::attached_manual();
    let id = world.send_up("m");
    let mut due = Vec::new();
    for attempt in 1..=3 {
        until_handed(&mut world, attempt);
        world.decide("m", defer("busy", None)).expect("it is in hands");
        due.push(world.now + 3 * SECOND);
    }
    until_handed(&mut world, 4);
    world.decide("m", accept()).expect("it is in hands");
    world.run_for(60 * SECOND);
    let told = world.retries_up(0);
    assert_eq!(told.iter().map(|(of, attempt, _)| (*of, *attempt)).collect::<Vec<_>>(), [(id, 1), (id, 2), (id, 3)]);
    for ((_, _, retry_at), due) in told.iter().zip(due) {
        let late = *retry_at - due;
        assert!(late <= SECOND / 10, "it was told {late:?} later than it was due");
    }
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    assert_eq!(world.writes(Way::Up, "m").len(), 1, "the receiver has it and needs no other copy");
    assert_eq!(turns(&world, "m"), [1, 2, 3, 4]);
}

// N09, S004-061, S004-143
#[test]
fn n09_a_message_that_is_put_off_too_often_ends_as_rejected_with_the_last_code_and_nothing_follows() {
    let mut world = World::attached_manual();
    let id = world.send_up("m");
    for (attempt, why) in [(1, "busy"), (2, "busy"), (3, "busy"), (4, "overloaded")] {
        until_handed(&mut world, attempt);
        world.decide("m", defer(why, None)).expect("it is in hands");
    }
    world.run_for(300 * SECOND);
    assert_eq!(world.retries_up(0).len(), 3);
    assert!(matches!(&world.outcomes_up(0)[..], [(of, Outcome::Rejected { code: why, .. })]
        if *of == id && *why == code("overloaded")));
    assert_eq!(turns(&world, "m"), [1, 2, 3, 4]);
}

// N09
#[test]
fn n09_a_permanent_failure_is_one_terminal_failure_at_once() {
    for why in ["not-found", "bad-request", "unauthorized", "forbidden", "unprocessable"] {
        let mut world = World::attached_manual();
        let id = world.send_up("m");
        world.run_for(SECOND);
        world.decide("m", reject(why)).expect("it is in hands");
        world.run_for(SECOND / 10);
        let outcome = Outcome::Rejected { code: code(why), reason: String::new() };
        assert_eq!(world.outcomes_up(0), [(id, outcome)]);
        world.run_for(60 * SECOND);
        assert_eq!((world.retries_up(0).len(), world.outcomes_up(0).len(), world.taken.len()), (0, 1, 1));
    }
}

// N09
#[test]
fn n09_the_receivers_own_delay_is_kept() {
    let mut world = World::attached_manual();
    world.send_up("m");
    until_handed(&mut world, 1);
    let at = world.now;
    world.decide("m", defer("rate-limited", 10)).expect("it is in hands");
    until_handed(&mut world, 2);
    assert_eq!(world.now - at, 10 * SECOND);
}

// N09
#[test]
fn n09_total_silence_ends_at_the_deadline_of_the_message() {
    let mut world = World::attached_manual();
    let id = world.send_as(Outgoing::from(payload("m")).within(20 * SECOND));
    until_handed(&mut world, 1);
    world.run_for(40 * SECOND);
    assert_eq!(world.outcomes_up(0), []);
    world.run_for(20 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Unknown { reason: Unknown::VoidUnanswered })]);
}

#[test]
fn a_deferral_that_names_no_delay_lasts_three_seconds() {
    let mut world = World::attached_manual();
    world.send_up("m");
    until_handed(&mut world, 1);
    let at = world.now;
    world.decide("m", defer("busy", None)).expect("it is in hands");
    until_handed(&mut world, 2);
    assert_eq!(world.now - at, 3 * SECOND);
}

// N11, S004-073, S004-074, S004-157
#[test]
fn n11_a_lane_keeps_its_order_while_its_head_is_put_off_and_others_pass_it() {
    let mut world = offline_with_four();
    world.run_until(60 * SECOND, |world| world.attaches(0).len() == 2);
    world.send_as(in_lane("s1", "D"));
    world.run_until(SECOND, |world| world.taken_texts().contains(&"A"));
    world.decide("A", defer("busy", None)).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["A", "X"], "X is not blocked, and nothing of its lane passes A");
    accept_all(&mut world);
    let of_s1: Vec<_> = world.taken_texts().into_iter().filter(|text| *text != "X").collect();
    assert_eq!(of_s1, ["A", "A", "B", "C", "D"]);
    assert_eq!(world.outcomes_up(0).len(), 5);
    assert!(world.outcomes_up(0).iter().all(|(_, outcome)| outcome.is_delivered()));
}

// N11
#[test]
fn n11_a_head_that_is_rejected_lets_the_rest_of_its_lane_go_in_order() {
    let mut world = offline_with_four();
    world.run_until(60 * SECOND, |world| world.attaches(0).len() == 2);
    world.send_as(in_lane("s1", "D"));
    world.run_until(SECOND, |world| world.taken_texts().contains(&"A"));
    world.decide("A", reject("no")).expect("it is in hands");
    accept_all(&mut world);
    let of_s1: Vec<_> = world.taken_texts().into_iter().filter(|text| *text != "X").collect();
    assert_eq!(of_s1, ["A", "B", "C", "D"]);
    let delivered = world.outcomes_up(0).iter().filter(|(_, outcome)| outcome.is_delivered()).count();
    assert_eq!((delivered, world.outcomes_up(0).len()), (4, 5));
}

// N13, S004-066, S004-156
#[test]
fn n13_a_deferral_whose_time_comes_while_detached_writes_nothing_and_burns_nothing() {
    let mut config = manual();
    config.detach_ttl = 3_600 * SECOND;
    let mut world = World::attached_with(config, patient());
    let id = world.send_up("m");
    until_handed(&mut world, 1);
    world.decide("m", defer("busy", None)).expect("it is in hands");
    world.run_for(SECOND);
    world.road = Road::Silent;
    world.cut(0);
    world.is_reading = false;
    world.run_for(5 * SECOND);
    assert_eq!(world.retries_up(0).len(), 1);
    world.jump(600 * SECOND);
    world.road = Road::Open;
    world.run_for(40 * SECOND);
    assert_eq!(world.attaches(0), [false, true]);
    world.is_reading = true;
    world.run_for(SECOND);
    assert_eq!(turns(&world, "m"), [1, 2], "the timer and the welcome together are one hand-over");
    world.extend("m", 3_600 * SECOND).expect("it is in hands");
    for _ in 0..30 {
        world.cut(0);
        world.run_until(60 * SECOND, |world| world.live_wire(0).is_some());
    }
    world.run_until(60 * SECOND, |world| world.attaches(0).len() > 2);
    world.decide("m", accept()).expect("it is in hands");
    world.run_for(40 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    assert_eq!(world.writes(Way::Up, "m").len(), 1);
}

#[test]
fn a_message_carries_how_often_it_may_be_handed_over() {
    for hands in [1, 2, 7] {
        let mut world = World::attached_manual();
        world.send_as(Outgoing::from(payload("m")).hands(hands));
        for turn in 1..=hands as usize {
            until_handed(&mut world, turn);
            world.decide("m", defer("busy", 1)).expect("it is in hands");
        }
        world.run_for(60 * SECOND);
        assert_eq!(world.taken.len(), hands as usize);
        assert!(matches!(&world.outcomes_up(0)[..], [(_, Outcome::Rejected { .. })]));
    }
}

#[test]
fn the_handle_of_an_earlier_hand_over_decides_about_nothing() {
    let mut world = World::attached_manual();
    world.send_up("m");
    until_handed(&mut world, 1);
    let first = world.handle_of("m");
    world.decide("m", defer("busy", 1)).expect("it is in hands");
    assert_eq!(world.decide_by(first, accept()), Err(ApiMisuse::Undecidable), "while it waits");
    until_handed(&mut world, 2);
    assert_eq!(world.decide_by(first, accept()), Err(ApiMisuse::Undecidable), "while the second one is out");
    world.decide("m", accept()).expect("it is in hands");
}

#[test]
fn a_lane_that_is_known_to_be_put_off_is_written_nothing_more() {
    let mut world = World::attached_manual();
    world.send_as(in_lane("a", "put off"));
    until_handed(&mut world, 1);
    world.decide("put off", defer("busy", 30)).expect("it is in hands");
    world.run_for(SECOND);
    let [behind, beside] = ["a", "b"].map(|lane| world.send_as(in_lane(lane, lane)));
    world.run_for(SECOND);
    assert_eq!((world.writes(Way::Up, "a").len(), world.writes(Way::Up, "b").len()), (0, 1));
    accept_all(&mut world);
    world.run_for(60 * SECOND);
    accept_all(&mut world);
    assert!(world.outcomes_up(0).contains(&(behind, Outcome::Delivered)));
    assert!(world.outcomes_up(0).contains(&(beside, Outcome::Delivered)));
}

#[test]
fn a_deferral_is_told_once_however_often_it_is_reported() {
    let mut world = World::attached_manual();
    world.send_as(in_lane("a", "put off"));
    until_handed(&mut world, 1);
    world.decide("put off", defer("busy", 50)).expect("it is in hands");
    for attaches in 2..5 {
        world.cut(0);
        world.run_until(60 * SECOND, |world| world.attaches(0).len() == attaches);
        world.run_for(SECOND);
    }
    assert_eq!(world.retries_up(0).len(), 1);
}

#[test]
fn the_lease_starts_over_with_each_hand_over() {
    let mut world = World::attached_manual();
    let id = world.send_up("m");
    until_handed(&mut world, 1);
    world.run_for(200 * SECOND);
    world.decide("m", defer("busy", None)).expect("it is in hands");
    until_handed(&mut world, 2);
    world.run_for(200 * SECOND);
    world.decide("m", accept()).expect("its lease is not over");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

// B1: whatever an application asks for stands on the wire as a frame and leaves every timer where it can be reached.
#[test]
fn the_longest_deferral_is_one_that_the_message_can_still_be_withdrawn_from() {
    let mut world = World::attached_manual();
    let id = world.send_as(Outgoing::from(payload("m")).within(60 * SECOND));
    until_handed(&mut world, 1);
    let forever = Decision::Defer { retry_after: Some(Duration::MAX), code: code("never") };
    world.decide("m", forever).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.retries_up(0).len(), 1);
    world.run_for(60 * SECOND);
    let outcome = Outcome::Rejected { code: code("never"), reason: String::new() };
    assert_eq!(world.outcomes_up(0), [(id, outcome)]);
}

// A message that brings its receiver down each time it is handed over.
#[test]
fn poison_ends_as_abandoned_when_its_hand_overs_are_used_up() {
    let mut world = World::attached_manual();
    let id = world.send_as(Outgoing::from(payload("poison")).idempotent());
    for turn in 1..=4_u8 {
        until_handed(&mut world, turn.into());
        let instance = InstanceId::from_bytes([turn; 16]);
        let stored = world.server.clone().restored(instance, Currency::Current, world.now);
        world.is_reading = false;
        world.replace_server(stored);
        world.run_for(5 * SECOND);
        world.is_reading = true;
    }
    world.run_for(60 * SECOND);
    assert_eq!(turns(&world, "poison"), [1, 2, 3, 4]);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Unknown { reason: Unknown::Abandoned })]);
}

#[test]
fn what_was_in_hands_when_its_receiver_went_down_is_abandoned() {
    let mut world = World::attached_manual();
    let id = world.send_up("m");
    until_handed(&mut world, 1);
    let handle = world.handle_of("m");
    let instance = InstanceId::from_bytes([1; 16]);
    let stored = world.server.clone().restored(instance, Currency::Current, world.now);
    world.replace_server(stored);
    world.run_for(10 * SECOND);
    assert_eq!(world.decide_by(handle, accept()), Err(ApiMisuse::Undecidable));
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Unknown { reason: Unknown::Abandoned })]);
    assert_eq!(world.taken_texts(), ["m"]);
}

/// Lets time pass until the server's application has taken so many messages.
fn until_handed(world: &mut World, count: usize) -> Instant {
    world.run_until(60 * SECOND, |world| world.taken.len() >= count);
    world.now
}

/// Which hand-overs of the message with this text there were.
fn turns(world: &World, text: &str) -> Vec<u32> {
    let deliveries = world.deliveries.iter().map(|(_, delivery)| delivery);
    let of_text = deliveries.filter(|delivery| delivery.payload().as_str() == payload(text).as_str());
    of_text
        .filter_map(|delivery| if let Delivery::Message(handed) = delivery { Some(handed.turn) } else { None })
        .collect()
}

/// A client that is offline, with A, B, C queued in one lane and X in another.
fn offline_with_four() -> World {
    let mut world = World::attached_manual();
    world.cut(0);
    let messages = [("s1", "A"), ("s1", "B"), ("s1", "C"), ("s2", "X")];
    let _: [MessageId; 4] = messages.map(|(lane, text)| world.send_as(in_lane(lane, text)));
    world
}

/// The server's application accepts whatever it is handed for a while.
fn accept_all(world: &mut World) {
    for _ in 0..60 {
        for (_, delivery) in world.deliveries.clone() {
            if let Some(handle) = delivery.handle() {
                _ = world.decide_by(handle, accept());
            }
        }
        world.run_for(SECOND / 10);
    }
}

#[test]
fn what_was_put_off_can_be_taken_a_last_time_once_its_client_has_said_goodbye() {
    let mut world = World::attached_manual();
    world.send_up("first");
    world.send_up("second, behind it");
    world.run_for(SECOND);
    world.is_reading = false;
    world.decide("first", defer("busy", 3_600)).expect("it is in hands");
    let (now, cid) = (world.now, world.cid());
    world.client().client.disconnect(now);
    world.run_for(SECOND / 10);
    assert!(world.take_from(&cid), "nobody waits for what its sender does not hear of");
    assert!(!world.take_from(&cid), "the lane is held by it");
    world.decide("first", defer("busy", 1)).expect("it is in hands again");
    assert!(world.take_from(&cid), "to put it off again gives it up");
    assert_eq!(world.taken_texts(), ["first", "first", "second, behind it"]);
    world.run_for(10 * SECOND);
    assert!(!world.take_from(&cid));
}

// L3
#[test]
fn a_lease_that_ends_after_the_clients_goodbye_frees_its_lane_by_the_servers_timer() {
    let mut world = World::attached_manual();
    world.send_up("first");
    world.send_up("second, behind it");
    world.run_for(SECOND);
    world.is_reading = false;
    let (now, cid) = (world.now, world.cid());
    world.client().client.disconnect(now);
    world.run_for(SECOND / 10);
    let handle = world.deliveries[0].1.handle().expect("a manual acceptance");
    world.server.extend(&cid, handle, 20 * SECOND, world.now).expect("it is in hands");
    let due = world.server.poll_timeout().expect("the lease holds something up");
    assert_eq!(due, world.now + 20 * SECOND);
    world.server.handle_timeout(due);
    world.run_to(due);
    assert!(world.take_from(&cid), "the lane is free");
    assert_eq!(world.taken_texts(), ["first", "second, behind it"]);
}
