//! Manual acceptance: the receiving application decides about each message, within a lease, and the sender hears it.

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
use harness::world::reject;
use reattach_core::error::ApiMisuse;
use reattach_core::id::MessageId;
use reattach_core::link::Acceptance;
use reattach_core::link::Decision;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::wire::Frame;

const SECOND: Duration = Duration::from_secs(1);

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn taking_a_message_does_not_accept_it_and_accepting_it_does() {
    let mut world = World::attached_manual();
    let id = world.send_as(in_lane("a", "one"));
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["one"]);
    assert_eq!(world.outcomes_up(0), []);
    world.decide("one", accept()).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

// S004-061
#[test]
fn a_rejection_arrives_with_its_code_and_its_words() {
    let mut world = World::attached_manual();
    let id = world.send_up("one");
    world.run_for(SECOND);
    let (code, reason) = (code("no-such-chat"), "this chat is gone".to_owned());
    world.decide("one", Decision::Reject { code: code.clone(), reason: reason.clone() }).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Rejected { code, reason })]);
    assert_eq!(world.taken_texts(), ["one"], "it does not come again");
}

#[test]
fn the_client_decides_about_what_comes_down_by_the_same_rules() {
    let mut config = patient();
    config.connection.link.acceptance = Acceptance::Manual;
    let mut world = World::attached_with(manual(), config);
    let [accepted, rejected] = ["accepted", "rejected"].map(|text| {
        let id = world.send_down(text);
        world.run_for(SECOND);
        let handle = world.clients[0].deliveries.last().and_then(|delivery| delivery.handle()).expect("a handle");
        let decision = if text == "accepted" { accept() } else { reject("no") };
        let now = world.now;
        world.clients[0].client.decide(handle, decision, now).expect("it is in hands");
        id
    });
    world.run_for(SECOND);
    let refused = Outcome::Rejected { code: code("no"), reason: String::new() };
    assert_eq!(world.outcomes_down(), [(accepted, Outcome::Delivered), (rejected, refused)]);
}

#[test]
fn a_lease_that_is_over_is_abandoned_and_the_sender_is_told_unknown() {
    let mut world = World::attached_manual();
    let id = world.send_up("one");
    world.run_for(5 * MINUTE - SECOND);
    assert_eq!(world.outcomes_up(0), []);
    world.run_for(2 * SECOND);
    assert_eq!(world.outcomes_up(0), [abandoned(id)]);
}

#[test]
fn a_decision_that_comes_too_late_is_refused_and_changes_nothing() {
    let mut world = World::attached_manual();
    let id = world.send_up("one");
    world.run_for(5 * MINUTE + SECOND);
    let before = world.server.clone();
    for decision in [accept(), reject("no"), defer("busy", None), Decision::Abandon] {
        assert_eq!(world.decide("one", decision), Err(ApiMisuse::Undecidable));
    }
    assert_eq!(world.extend("one", MINUTE), Err(ApiMisuse::Undecidable));
    assert_eq!(world.server, before);
    world.run_for(MINUTE);
    assert_eq!(world.outcomes_up(0), [abandoned(id)]);
}

#[test]
fn a_second_decision_is_refused_and_changes_nothing() {
    for first in [accept(), reject("no"), Decision::Abandon] {
        let mut world = World::attached_manual();
        world.send_up("one");
        world.run_for(SECOND);
        world.decide("one", first).expect("it is in hands");
        world.run_for(SECOND);
        let before = (world.server.clone(), world.outcomes_up(0));
        assert_eq!(world.decide("one", accept()), Err(ApiMisuse::Undecidable));
        assert_eq!(world.decide("one", reject("other")), Err(ApiMisuse::Undecidable));
        assert_eq!((world.server.clone(), world.outcomes_up(0)), before);
    }
}

#[test]
fn a_lease_can_be_extended_again_and_again() {
    let mut world = World::attached_manual();
    let id = world.send_up("one");
    world.run_for(SECOND);
    for _ in 0..5 {
        world.extend("one", 4 * MINUTE).expect("it is in hands");
        world.run_for(3 * MINUTE);
    }
    world.decide("one", accept()).expect("it is still in hands");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

#[test]
fn an_extended_lease_ends_too() {
    let mut world = World::attached_manual();
    let id = world.send_up("one");
    world.run_for(SECOND);
    world.extend("one", MINUTE).expect("it is in hands");
    world.run_for(MINUTE - SECOND);
    assert_eq!(world.outcomes_up(0), []);
    world.run_for(2 * SECOND);
    assert_eq!(world.outcomes_up(0), [abandoned(id)]);
}

// What an adapter does with a message that is dropped undecided.
#[test]
fn abandoning_a_message_ends_it_at_once() {
    let mut world = World::attached_manual();
    let id = world.send_up("one");
    world.run_for(SECOND);
    world.decide("one", Decision::Abandon).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [abandoned(id)]);
}

// S004-073
#[test]
fn a_lane_hands_its_next_message_over_only_when_the_one_before_is_final() {
    for decision in [accept(), reject("no"), Decision::Abandon] {
        let mut world = World::attached_manual();
        ["one", "two"].into_iter().for_each(|text| _ = world.send_as(in_lane("a", text)));
        world.run_for(MINUTE);
        assert_eq!(world.taken_texts(), ["one"]);
        world.decide("one", decision).expect("it is in hands");
        assert_eq!(world.taken_texts(), ["one", "two"]);
    }
}

#[test]
fn the_end_of_a_lease_lets_the_lane_go_on() {
    let mut world = World::attached_manual();
    ["one", "two"].into_iter().for_each(|text| _ = world.send_as(in_lane("a", text)));
    world.run_for(5 * MINUTE + SECOND);
    assert_eq!(world.taken_texts(), ["one", "two"]);
}

// S004-074
#[test]
fn other_lanes_go_on_while_one_is_held() {
    let mut world = World::attached_manual();
    world.send_as(in_lane("a", "held"));
    world.send_as(in_lane("a", "behind it"));
    for number in 0..10 {
        let text = format!("{number}");
        let id = world.send_as(in_lane("b", &text));
        world.run_for(SECOND);
        world.decide(&text, accept()).expect("it is in hands");
        world.run_for(SECOND);
        assert_eq!(world.outcomes_up(0).last(), Some(&(id, Outcome::Delivered)));
    }
    assert!(!world.taken_texts().contains(&"behind it"));
}

// S004-159
#[test]
fn events_keep_coming_down_while_everything_that_goes_up_is_refused() {
    let mut world = World::attached_manual();
    for number in 0..20 {
        let text = number.to_string();
        world.send_as(in_lane(&format!("lane {number}"), &text));
        world.send_down(&text);
        world.run_for(SECOND);
        world.decide(&text, reject("no")).expect("it is in hands");
    }
    world.run_for(SECOND);
    let outcomes = world.outcomes_up(0);
    assert!(outcomes.len() == 20 && outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Rejected { .. })));
    assert_eq!((world.clients[0].taken.len(), world.attaches(0)), (20, vec![false]));
}

#[test]
fn messages_are_accepted_out_of_order_across_lanes_and_each_sender_hears_of_its_own() {
    let mut world = World::attached_manual();
    let ids = ["a", "b", "c", "d"].map(|lane| world.send_as(in_lane(lane, lane)));
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["a", "b", "c", "d"]);
    for (lane, id) in [("d", ids[3]), ("b", ids[1]), ("a", ids[0]), ("c", ids[2])] {
        world.decide(lane, accept()).expect("it is in hands");
        world.run_for(SECOND);
        assert_eq!(world.outcomes_up(0).last(), Some(&(id, Outcome::Delivered)));
    }
    assert_eq!(world.outcomes_up(0).len(), 4);
    assert!(world.clients[0].client.connection().link().outbox().is_empty());
}

#[test]
fn what_is_open_below_the_settled_watermark_stands_on_the_wire_as_pending() {
    let mut world = World::attached_manual();
    ["a", "b", "c"].into_iter().for_each(|lane| _ = world.send_as(in_lane(lane, lane)));
    world.run_for(SECOND);
    world.decide("b", accept()).expect("it is in hands");
    world.run_for(SECOND);
    let frames = world.frames(Way::Down);
    let report =
        frames.iter().rev().find_map(|(_, frame)| if let Frame::Ack(ack) = frame { Some(&ack.report) } else { None });
    let report = report.expect("an ack");
    assert_eq!((report.received.get(), report.settled.get()), (3, 2));
    let pending: Vec<_> = report.except.iter().map(|entry| (entry.seq.get(), entry.disposition.is_final())).collect();
    assert_eq!(pending, [(1, false)]);
}

// S001-23
#[test]
fn decisions_are_made_while_no_transport_is_attached_and_heard_after_it() {
    let mut world = World::attached_manual();
    let ids = ["a", "b", "c"].map(|lane| world.send_as(in_lane(lane, lane)));
    world.run_for(SECOND);
    world.road = Road::Silent;
    world.cut(0);
    world.run_for(SECOND);
    world.decide("c", accept()).expect("it is in hands");
    world.decide("a", reject("no")).expect("it is in hands");
    world.road = Road::Open;
    world.run_for(40 * SECOND);
    world.decide("b", accept()).expect("it is in hands");
    world.run_for(SECOND);
    let refused = Outcome::Rejected { code: code("no"), reason: String::new() };
    let outcomes = [(ids[0], refused), (ids[2], Outcome::Delivered), (ids[1], Outcome::Delivered)];
    assert_eq!(world.outcomes_up(0), outcomes);
    assert_eq!(world.attaches(0), [false, true]);
}

#[test]
fn a_cut_takes_no_message_out_of_the_applications_hands() {
    let mut world = World::attached_manual();
    let id = world.send_up("one");
    world.run_for(SECOND);
    for _ in 0..5 {
        world.cut(0);
        world.run_for(20 * SECOND);
    }
    assert_eq!(world.taken_texts(), ["one"]);
    world.decide("one", accept()).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

#[test]
fn a_handle_dies_with_its_epoch() {
    let mut world = World::attached_manual();
    let id = world.send_up("one");
    world.run_for(SECOND);
    let handle = world.handle_of("one");
    expire(&mut world);
    assert_eq!(world.decide_by(handle, accept()), Err(ApiMisuse::UnknownConnection));
    world.road = Road::Open;
    world.run_for(MINUTE);
    assert_eq!(world.decide_by(handle, accept()), Err(ApiMisuse::Undecidable));
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Unknown { reason: Unknown::InHands })]);
}

// S3: the old handle stands for the first message of the old epoch, the new message is the first of the new one.
#[test]
fn a_handle_of_an_epoch_that_ended_decides_about_nothing_in_the_next_one() {
    let mut world = World::attached_manual();
    world.send_up("old");
    world.run_for(SECOND);
    let old = world.handle_of("old");
    expire(&mut world);
    world.road = Road::Open;
    world.run_for(MINUTE);
    let id = world.send_up("new");
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["old", "new"]);
    assert_eq!(world.decide_by(old, accept()), Err(ApiMisuse::Undecidable));
    world.decide("new", reject("no")).expect("it is in hands");
    world.run_for(SECOND);
    let refused = Outcome::Rejected { code: code("no"), reason: String::new() };
    assert_eq!(world.outcomes_up(0).last(), Some(&(id, refused)));
}

#[test]
fn what_is_held_for_long_is_told_to_be_delayed_once_and_is_not_written_again() {
    let mut world = World::attached_manual();
    let id = world.send_up("one");
    world.run_for(2 * MINUTE);
    assert_eq!(world.delayed_up(0), [id]);
    assert_eq!(world.writes(Way::Up, "one").len(), 1);
    world.decide("one", accept()).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

// B1: words are shortened before they break a frame; the code never is.
#[test]
fn words_of_any_length_and_kind_leave_the_rejection_what_it_is() {
    for reason in ["\u{0}\"\\\n".repeat(1_000), "é".repeat(2_000), "w".repeat(100_000)] {
        let mut world = World::attached_manual();
        let ids = ["a", "b"].map(|lane| world.send_as(in_lane(lane, lane)));
        world.run_for(SECOND);
        for lane in ["a", "b"] {
            let decision = Decision::Reject { code: code("no"), reason: reason.clone() };
            world.decide(lane, decision).expect("it is in hands");
        }
        world.run_for(SECOND);
        let outcomes = world.outcomes_up(0);
        assert_eq!(outcomes.len(), 2);
        for ((id, outcome), of) in outcomes.into_iter().zip(ids) {
            let Outcome::Rejected { code: why, reason: words } = outcome else { panic!("{outcome:?}") };
            assert_eq!((id, why), (of, code("no")));
            assert!(words.len() > 250 && reason.starts_with(&words));
        }
    }
}

#[test]
fn the_longest_lease_can_be_asked_for() {
    let mut world = World::attached_manual();
    let id = world.send_up("one");
    world.run_for(SECOND);
    world.extend("one", Duration::MAX).expect("it is in hands");
    world.run_for(60 * MINUTE);
    world.decide("one", accept()).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

fn abandoned(id: MessageId) -> (MessageId, Outcome) {
    (id, Outcome::Unknown { reason: Unknown::Abandoned })
}

/// The connection of the first client is gone from the server, and its transports lead nowhere.
fn expire(world: &mut World) {
    world.road = Road::Silent;
    world.cut(0);
    world.run_for(MINUTE + SECOND);
    assert_eq!(world.server.registry().connections(), 0);
}
