//! Idempotent messages and the names of messages: what may be sent again, and what is recognised when it comes again.

use std::time::Duration;

use harness::net::Way;
use harness::world::Road;
use harness::world::World;
use harness::world::accept;
use harness::world::code;
use harness::world::manual;
use harness::world::payload;
use harness::world::reject;
use reattach_core::connection::Currency;
use reattach_core::error::ApiMisuse;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::link::Decision;
use reattach_core::link::Known;
use reattach_core::link::Outgoing;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::server::Server;
use reattach_core::wire::Frame;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn only_names_that_somebody_needs_travel() {
    let mut world = World::attached();
    world.send_as(payload("plain").into());
    let named = world.send_as(Outgoing::from(payload("named")).named(id(7)));
    let idempotent = world.send_as(idempotent("idempotent"));
    let frames = world.frames(Way::Up);
    let names: Vec<_> = frames
        .iter()
        .filter_map(
            |(_, frame)| {
                if let Frame::Message(message) = frame { Some((message.id, message.idempotent)) } else { None }
            },
        )
        .collect();
    assert_eq!(names, [(None, false), (Some(named), false), (Some(idempotent), true)]);
}

#[test]
fn a_name_that_is_still_in_the_outbox_is_refused_and_is_free_after_the_outcome() {
    let mut world = World::attached_manual();
    world.send_as(Outgoing::from(payload("one")).named(id(1)));
    let again = || Outgoing::from(payload("two")).named(id(1));
    assert_eq!(world.try_send_as(again()), Err(ApiMisuse::IdInUse));
    world.run_for(SECOND);
    assert_eq!(world.try_send_as(again()), Err(ApiMisuse::IdInUse));
    world.decide("one", accept()).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.try_send_as(again()), Ok(id(1)));
}

#[test]
fn the_same_name_again_is_settled_as_it_was_the_first_time_and_not_handed_over() {
    let refused = Outcome::Rejected { code: code("no"), reason: String::new() };
    let abandoned = Outcome::Unknown { reason: Unknown::Abandoned };
    let cases = [(accept(), Outcome::Delivered), (reject("no"), refused), (Decision::Abandon, abandoned)];
    for (decision, outcome) in cases {
        let mut world = World::attached_manual();
        world.send_as(Outgoing::from(payload("first")).named(id(1)));
        world.run_for(SECOND);
        world.decide("first", decision).expect("it is in hands");
        world.run_for(SECOND);
        for _ in 0..3 {
            world.send_as(Outgoing::from(payload("again")).named(id(1)));
            world.run_for(SECOND);
        }
        assert_eq!(world.taken_texts(), ["first"]);
        assert_eq!(world.outcomes_up(0), vec![(id(1), outcome); 4]);
    }
}

#[test]
fn the_table_holds_256_names_and_the_oldest_goes_first() {
    let mut world = World::attached();
    for number in 0..=Known::CAPACITY {
        world.send_as(Outgoing::from(payload(&number.to_string())).named(id(number)));
        world.run_for(SECOND / 10);
    }
    let again = |world: &mut World, number: usize| {
        let before = world.taken.len();
        world.send_as(Outgoing::from(payload("again")).named(id(number)));
        world.run_for(SECOND / 10);
        world.taken.len() > before
    };
    assert_eq!(world.server.peer(&world.cid()).expect("a peer").connection().link().known().len(), 256);
    assert!(!again(&mut world, Known::CAPACITY), "the newest is known");
    assert!(!again(&mut world, 1), "the oldest that has a place is known");
    assert!(again(&mut world, 0), "the one before it is not");
}

#[test]
fn messages_without_a_name_take_no_place_in_the_table() {
    let mut world = World::attached();
    for number in 0..50 {
        world.send_up(&number.to_string());
        world.run_for(SECOND / 10);
    }
    assert!(world.server.peer(&world.cid()).expect("a peer").connection().link().known().is_empty());
}

// S2, S004-140
#[test]
fn an_idempotent_message_whose_epoch_was_lost_is_sent_again_under_its_name() {
    let mut world = World::attached();
    world.is_reading = false;
    let [kept, plain] = [world.send_as(idempotent("kept")), world.send_up("plain")];
    world.run_for(SECOND);
    lose_state(&mut world);
    world.is_reading = true;
    world.run_for(20 * SECOND);
    let unknown = Outcome::Unknown { reason: Unknown::NoReceipt };
    assert_eq!(world.outcomes_up(0), [(plain, unknown), (kept, Outcome::Delivered)]);
    assert_eq!(world.taken_texts(), ["kept"]);
    assert_eq!(world.writes(Way::Up, "kept").len(), 2);
}

#[test]
fn what_is_sent_again_goes_ahead_of_what_was_never_written_in_its_order() {
    let mut world = World::attached();
    world.is_reading = false;
    let _: [MessageId; 3] = ["1", "2", "3"].map(|text| world.send_as(idempotent(text)));
    world.run_for(SECOND);
    lose_state(&mut world);
    world.send_up("4");
    world.is_reading = true;
    world.run_for(20 * SECOND);
    assert_eq!(world.taken_texts(), ["1", "2", "3", "4"]);
}

#[test]
fn what_a_final_receipt_proves_is_not_sent_again() {
    let mut world = World::attached_manual();
    let ids = ["accepted", "rejected", "held"].map(|text| world.send_as(idempotent(text)));
    world.run_for(SECOND);
    world.decide("accepted", accept()).expect("it is in hands");
    world.run_for(SECOND / 10);
    world.decide("rejected", reject("no")).expect("it is in hands");
    let wire = world.wire(0);
    world.net.drop_texts(wire, Way::Down, |_| true);
    world.run_for(SECOND / 100);
    expire(&mut world);
    let refused = Outcome::Rejected { code: code("no"), reason: String::new() };
    let in_hands = Outcome::Unknown { reason: Unknown::InHands };
    let expected = [(ids[0], Outcome::Delivered), (ids[1], refused), (ids[2], in_hands)];
    assert_eq!(world.outcomes_up(0), expected);
    assert_eq!(world.taken_texts(), ["accepted", "rejected", "held"]);
}

#[test]
fn what_was_never_handed_over_for_certain_is_not_delivered_and_not_sent_again() {
    let mut world = World::attached();
    world.is_reading = false;
    let id = world.send_as(idempotent("held"));
    world.run_for(SECOND);
    expire(&mut world);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::NotDelivered { reason: NotDelivered::Forgotten })]);
}

// S1, S2: the table outlives the epoch, as the connection does.
#[test]
fn what_was_accepted_before_a_fresh_epoch_is_recognised_in_it() {
    let mut world = World::attached_manual();
    let id = world.send_as(idempotent("once"));
    world.run_for(SECOND);
    let copy = world.clients[0].client.clone();
    world.decide("once", accept()).expect("it is in hands");
    world.run_for(SECOND);
    world.clients[0].events.clear();
    restore(&mut world, copy);
    world.run_for(20 * SECOND);
    assert_eq!(world.attaches(0), [false]);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    assert_eq!(world.taken_texts(), ["once"]);
    assert_eq!(world.writes(Way::Up, "once").len(), 2);
}

// S3: a rejection of the second copy says nothing about the first.
#[test]
fn what_was_sent_again_ends_only_as_delivered_or_unknown() {
    let mut world = World::attached_manual();
    let id = world.send_as(idempotent("m"));
    world.run_for(SECOND);
    lose_state(&mut world);
    world.run_until(20 * SECOND, |world| world.taken.len() == 2);
    world.decide("m", reject("no")).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Unknown { reason: Unknown::Resent })]);
}

#[test]
fn what_was_sent_again_and_is_then_withdrawn_is_unknown() {
    let mut world = World::attached();
    world.is_reading = false;
    let id = world.send_as(idempotent("m"));
    world.run_for(SECOND);
    lose_state(&mut world);
    world.run_for(20 * SECOND);
    assert_eq!(world.writes(Way::Up, "m").len(), 2);
    world.cancel(&id).expect("it is written");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Unknown { reason: Unknown::Resent })]);
}

#[test]
fn what_was_withdrawn_is_not_sent_again() {
    let mut world = World::attached();
    world.is_reading = false;
    let id = world.send_as(idempotent("m"));
    world.run_for(SECOND);
    world.road = Road::Silent;
    world.cut(0);
    world.cancel(&id).expect("it is written");
    lose_state(&mut world);
    world.road = Road::Open;
    world.is_reading = true;
    world.run_for(20 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Unknown { reason: Unknown::NoReceipt })]);
    assert_eq!(world.taken_texts(), [""; 0]);
}

#[test]
fn each_time_that_it_is_sent_again_burns_an_attempt() {
    let mut world = World::attached();
    world.is_reading = false;
    let id = world.send_as(idempotent("m"));
    world.run_for(SECOND);
    for _ in 0..6 {
        lose_state(&mut world);
        world.run_for(20 * SECOND);
    }
    assert_eq!(world.writes(Way::Up, "m").len(), 4);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Unknown { reason: Unknown::NoReceipt })]);
}

#[test]
fn a_server_sends_its_idempotent_messages_again_too() {
    let mut world = World::attached();
    let copy = world.clients[0].client.clone();
    world.clients[0].is_reading = false;
    let (cid, now) = (world.cid(), world.now);
    let id = world.server.send(&cid, idempotent("down"), now).expect("room in the outbox");
    world.run_for(SECOND);
    restore(&mut world, copy);
    world.clients[0].is_reading = true;
    world.run_for(20 * SECOND);
    assert_eq!(world.clients[0].taken, ["down"]);
    assert_eq!(world.outcomes_down(), [(id, Outcome::Delivered)]);
}

#[test]
fn an_idempotent_message_in_hands_at_a_restore_is_handed_over_again_and_counted() {
    let mut world = World::attached_with(manual(), harness::world::patient());
    let id = world.send_as(idempotent("m"));
    world.run_for(SECOND);
    let instance = InstanceId::from_bytes([9; 16]);
    let stored = world.server.clone().restored(instance, Currency::Current, world.now);
    world.replace_server(stored);
    world.run_for(20 * SECOND);
    assert_eq!(world.taken_texts(), ["m", "m"]);
    world.decide("m", accept()).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

fn idempotent(text: &str) -> Outgoing {
    Outgoing::from(payload(text)).idempotent()
}

fn id(number: usize) -> MessageId {
    format!("00000000-0000-4000-8000-{number:012}").parse().expect("a UUID")
}

/// The server crashes and keeps nothing.
fn lose_state(world: &mut World) {
    let server = Server::new(world.server_config(), world.now);
    world.replace_server(server);
}

/// The first client's program crashes and goes on from a copy that may be old.
fn restore(world: &mut World, copy: reattach_core::client::Client) {
    let client = copy.restored(InstanceId::from_bytes([77; 16]), Currency::Stale, world.now);
    world.restore_client(0, client);
}

/// The first client comes back when its connection has expired.
fn expire(world: &mut World) {
    world.road = Road::Silent;
    world.cut(0);
    world.run_for(61 * SECOND);
    assert_eq!(world.server.registry().connections(), 0);
    world.road = Road::Open;
    world.run_for(60 * SECOND);
}
