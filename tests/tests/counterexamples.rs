//! The counterexamples that the rules of the link answer, each as a test with its trace, and two scripted scenarios about what
//! the network may eat.
//!
//! In a trace C is the client and S the server, an arrow that ends in x is lost, and time runs downwards.

use std::time::Duration;

use harness::frames::hello;
use harness::frames::hello_text;
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
use harness::world::secrets;
use reattach_core::client::Secrets;
use reattach_core::connection::Currency;
use reattach_core::id::InstanceId;
use reattach_core::link::Outgoing;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::server;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;

const SECOND: Duration = Duration::from_secs(1);

// N01, S000-04, S000-26
//   C --- msg 1 ---x S
//   5 s: C --- ping ---> S, S --- pong received 0 ---> C: the path ate it
//   C --- msg 1 ---> S, once
#[test]
fn n01_a_message_that_the_path_ate_is_asked_about_first_and_then_written_again() {
    let mut world = World::attached();
    let start = world.now;
    let id = world.send_up("answer");
    eat(&mut world, "answer");
    world.run_for(4 * SECOND);
    assert_eq!((world.outcomes_up(0), world.writes(Way::Up, "answer").len()), (vec![], 1));
    world.run_for(20 * SECOND);
    let writes = world.writes(Way::Up, "answer");
    let probe = first_ping_after(&world, start);
    assert_eq!(writes.len(), 2);
    assert!(probe >= start + 5 * SECOND && probe < writes[1], "the probe comes before the rewrite");
    assert!(writes[1] < start + 6 * SECOND);
    assert_eq!(world.taken_texts(), ["answer"]);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    let stats = world.clients[0].client.stats();
    assert_eq!((stats.probes, stats.link.lost, stats.link.rewritten), (1, 1, 1));
}

// N01, variant: the path eats every copy.
#[test]
fn n01_a_message_whose_four_attempts_are_all_lost_ends_as_not_delivered() {
    let mut world = World::attached();
    let id = world.send_up("answer");
    while world.outcomes_up(0).is_empty() {
        eat(&mut world, "answer");
        assert!(world.step());
    }
    world.run_for(60 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::NotDelivered { reason: NotDelivered::Attempts })]);
    assert_eq!(world.writes(Way::Up, "answer").len(), 4);
    assert_eq!(world.taken_texts(), [""; 0]);
}

// N02, S000-24, S004-140, S000-22
//   C --- msg 1 ---> S takes it, S --- ack settled 1 ---x C
//   5 s: C --- ping ---> S, S --- pong settled 1 ---> C: delivered, nothing is written again
//   the lost ack comes late and changes nothing
#[test]
fn n02_a_lost_settlement_is_asked_about_and_nothing_is_written_again() {
    let mut world = World::attached();
    let (start, wire) = (world.now, world.wire(0));
    let id = world.send_up("answer");
    world.run_until(SECOND, |world| !world.taken.is_empty());
    world.pump();
    let late = world.net.in_flight(wire, Way::Down).concat();
    assert!(late.contains("ack"));
    world.net.drop_texts(wire, Way::Down, |_| true);
    world.run_for(4 * SECOND);
    assert_eq!(world.outcomes_up(0), []);
    world.run_for(2 * SECOND);
    assert!(first_ping_after(&world, start) >= start + 5 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    world.inject_down(0, &late);
    world.run_for(60 * SECOND);
    assert_eq!(world.writes(Way::Up, "answer").len(), 1);
    assert_eq!(world.taken_texts(), ["answer"]);
    assert_eq!((world.outcomes_up(0).len(), world.attaches(0)), (1, vec![false]));
}

// Rejection lost with the transport.
//   C --- msg 1, msg 2 ---> S rejects 1, accepts 2
//   S --- ack settled 2, except 1 rejected ---x C, cut
//   A watermark alone would say that 1 was accepted.
#[test]
fn a_rejection_that_is_lost_with_the_transport_is_heard_after_it() {
    let mut world = World::attached_manual();
    let ids = ["one", "two"].map(|text| world.send_as(in_lane(text, text)));
    world.run_for(SECOND);
    world.decide("one", reject("no")).expect("it is in hands");
    world.decide("two", accept()).expect("it is in hands");
    world.cut(0);
    world.run_for(20 * SECOND);
    assert_eq!(world.attaches(0), [false, true]);
    assert_eq!(world.outcomes_up(0), [(ids[0], rejected("no")), (ids[1], Outcome::Delivered)]);
}

// Deferral and cut.
//   C --- msg 1 ---> S defers it; S --- ack except 1 deferred ---x C, cut
//   S hands 1 over again while detached and accepts it. A nack on the wire would have been lost, and 1 with it.
#[test]
fn a_deferral_that_is_lost_with_the_transport_loses_nothing() {
    let mut world = World::attached_manual();
    let id = world.send_as(in_lane("a", "one"));
    let next = world.send_as(in_lane("a", "two"));
    world.run_for(SECOND);
    world.road = Road::Silent;
    world.decide("one", defer("busy", 20)).expect("it is in hands");
    world.cut(0);
    world.run_for(SECOND);
    assert_eq!(world.retries_up(0), [], "it has not heard of it");
    world.road = Road::Open;
    world.run_until(19 * SECOND, |world| world.attaches(0).len() == 2);
    world.run_for(SECOND / 10);
    assert_eq!(world.retries_up(0).len(), 1);
    world.run_for(30 * SECOND);
    assert_eq!(world.taken_texts(), ["one", "one"], "its lane waits for it");
    world.cut(0);
    world.decide("one", accept()).expect("it is in hands");
    world.decide("two", accept()).expect("it is in hands");
    world.run_for(40 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered), (next, Outcome::Delivered)]);
}

// Void against acceptance.
//   C --- void 1 ---> S, crossing S --- ack settled 1 ---> C
//   The message was accepted: NotDelivered would be a lie.
#[test]
fn a_void_that_crosses_the_acceptance_leaves_it_delivered() {
    let mut world = World::attached_manual();
    let id = world.send_up("one");
    world.run_for(SECOND);
    world.cancel(&id).expect("it is written");
    world.decide("one", accept()).expect("it is in hands");
    world.run_for(60 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

// Void against deferral.
//   C --- void 1 ---> S, crossing S --- ack except 1 deferred ---> C
//   It was handed over, so it is not voided, and it had no effect: rejected, with the deferral's code. In the other order the
//   deferral of a withdrawn message is the rejection.
#[test]
fn a_void_that_crosses_a_deferral_ends_it_as_rejected_with_the_last_code() {
    for void_first in [false, true] {
        let mut world = World::attached_manual();
        let id = world.send_up("one");
        world.run_for(SECOND);
        world.cancel(&id).expect("it is written");
        if void_first {
            world.run_for(SECOND);
        }
        world.decide("one", defer("busy", None)).expect("it is in hands");
        world.run_for(60 * SECOND);
        assert_eq!(world.outcomes_up(0), [(id, rejected("busy"))]);
        assert_eq!(world.taken_texts(), ["one"]);
    }
}

// Void against hand-over.
//   S holds 1; C --- void 1 ---> S, and S's application takes 1 before it comes
//   The hand-over wins, and what the application decides is the outcome. Had the void won it would never be handed over.
#[test]
fn a_void_that_comes_behind_the_hand_over_leaves_it_to_the_application() {
    for taken_first in [true, false] {
        let mut world = World::attached_manual();
        world.is_reading = false;
        let id = world.send_up("one");
        world.run_for(SECOND);
        world.cancel(&id).expect("it is written");
        if !taken_first {
            world.run_for(SECOND);
        }
        let cid = world.cid();
        assert_eq!(world.take_from(&cid), taken_first);
        world.run_for(SECOND);
        if taken_first {
            assert_eq!(world.outcomes_up(0), []);
            world.decide("one", accept()).expect("it is in hands");
            world.run_for(SECOND);
            assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
        } else {
            assert_eq!(world.outcomes_up(0), [(id, Outcome::NotDelivered { reason: NotDelivered::Cancelled })]);
        }
    }
}

// Receipt while deferred.
//   S defers 1, 2 and 3; 3 is handed over again and undecided; the epoch expires
//   1 waits after a deferral: rejected, it had no effect. 3 is in hands, deferred before or not: nobody can tell.
#[test]
fn a_receipt_tells_what_waits_after_a_deferral_from_what_is_in_hands_again() {
    let mut world = World::attached_manual();
    let ids = ["waits", "due", "again"].map(|text| world.send_as(in_lane(text, text)));
    world.run_for(SECOND);
    world.decide("waits", defer("busy", 600)).expect("it is in hands");
    world.decide("again", defer("busy", 1)).expect("it is in hands");
    world.run_for(3 * SECOND);
    assert_eq!(world.taken_texts(), ["waits", "due", "again", "again"]);
    world.is_reading = false;
    world.decide("due", defer("full", 1)).expect("it is in hands");
    world.run_for(3 * SECOND);
    expire(&mut world);
    let in_hands = Outcome::Unknown { reason: Unknown::InHands };
    assert_eq!(world.outcomes_up(0), [(ids[0], rejected("busy")), (ids[1], rejected("full")), (ids[2], in_hands)]);
}

// Lost fresh welcome, twice.
//   S loses its state; C --- hello E1 ---> S, S --- welcome E2, msg 1 ---x C; twice
//   C says hello with E1 each time. A third epoch would make what S wrote in E2 unknown, though nobody can have it.
#[test]
fn a_fresh_welcome_that_is_lost_twice_begins_the_same_epoch_again() {
    let mut world = World::attached();
    world.is_reading = false;
    let old = world.send_as(Outgoing::from(payload("old")).idempotent());
    world.run_for(SECOND);
    let server = Server::new(world.server_config(), world.now);
    world.replace_server(server);
    let mut down = Vec::new();
    for count in 1..=2 {
        world.run_until(60 * SECOND, |world| fresh_welcomes(world) == 1 + count);
        down.push(world.send_down(&format!("down {count}")));
        world.pump();
        world.cut(0);
    }
    world.is_reading = true;
    world.run_for(60 * SECOND);
    assert_eq!(world.clients[0].taken, ["down 1", "down 2"]);
    let delivered: Vec<_> = down.into_iter().map(|id| (id, Outcome::Delivered)).collect();
    assert_eq!(world.outcomes_down(), delivered);
    assert_eq!((world.taken_texts(), world.outcomes_up(0)), (vec!["old"], vec![(old, Outcome::Delivered)]));
}

// Ghost hello.
//   C's first hello is held by the path; C gives that transport up, attaches on another, and sends
//   The first hello arrives at last: it must not evict the live transport, nor begin an epoch. The hello of a dead instance
//   is asked a question that nobody answers.
#[test]
fn a_ghost_hello_changes_nothing_for_the_live_transport() {
    for instance in [1, 9] {
        let mut world = World::attached();
        world.cut(0);
        world.run_for(10 * SECOND);
        let id = world.send_up("live");
        let wire = world.stranger();
        let ghost = Hello { instance: InstanceId::from_bytes([instance; 16]), ..hello(1) };
        world.say(wire, &hello_text(ghost));
        world.run_for(30 * SECOND);
        assert_eq!(world.attaches(0), [false, true]);
        assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
        assert!(world.closed_by_server(wire).is_some(), "the ghost is told to go");
    }
}

// False Rejected across epochs.
//   C --- msg M ---> S accepts it, S --- ack ---x C, S loses its state
//   C --- msg M, again ---> S's application knows M and rejects it as a duplicate
//   M had its effect: Rejected would be a lie.
#[test]
fn a_rejection_of_the_second_copy_is_not_told_as_a_rejection_of_the_message() {
    let mut world = World::attached_manual();
    let id = world.send_as(Outgoing::from(payload("m")).idempotent());
    world.run_for(SECOND);
    let wire = world.wire(0);
    world.net.stall(wire, Way::Down);
    world.decide("m", accept()).expect("it is in hands");
    world.run_for(SECOND);
    let server = Server::new(world.server_config(), world.now);
    world.replace_server(server);
    world.run_until(60 * SECOND, |world| world.taken.len() == 2);
    world.decide("m", reject("duplicate")).expect("it is in hands");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Unknown { reason: Unknown::Resent })]);
}

// Window filled by held lanes.
//   S's application holds the first message of lane after lane and decides about none
//   With a window shared by who comes first the first lane would take it all, and no other lane would ever move.
#[test]
fn held_lanes_do_not_fill_the_window() {
    let mut config = manual();
    config.connection.link.window.count = 32;
    let mut world = World::attached_with(config, patient());
    for lane in ["a", "b", "c", "d"] {
        for number in 0..12 {
            world.send_as(in_lane(lane, &format!("{lane}{number}")));
        }
    }
    world.run_for(10 * SECOND);
    for number in 0..20 {
        let text = format!("free {number}");
        let id = world.send_as(in_lane("free", &text));
        world.run_for(SECOND);
        world.decide(&text, accept()).expect("it was handed over past the held lanes");
        world.run_for(SECOND);
        assert_eq!(world.outcomes_up(0).last(), Some(&(id, Outcome::Delivered)));
    }
}

// A large message behind a held one.
//   a1 is in hands; a2, larger than half of the window, stands behind it at S; b1 is large too, b0 and c are small
//   a2 takes no bytes from the others: small ones pass it. Only another large one waits, until a2 is final.
#[test]
fn a_large_message_behind_a_held_one_holds_up_only_large_ones() {
    let mut config = manual();
    config.connection.link.window.bytes = 100;
    let mut world = World::attached_with(config, patient());
    let large = ["L", "M"].map(|text| text.repeat(200));
    let held = world.send_as(in_lane("a", "a1"));
    world.run_for(SECOND);
    let behind = world.send_as(in_lane("a", &large[0]));
    world.run_for(SECOND);
    let second = world.send_as(in_lane("b", &large[1]));
    for text in ["c1", "c2", "c3"] {
        let id = world.send_as(in_lane("c", text));
        world.run_for(SECOND);
        world.decide(text, accept()).expect("it is in hands");
        world.run_for(SECOND);
        assert_eq!(world.outcomes_up(0).last(), Some(&(id, Outcome::Delivered)));
    }
    assert!(world.writes(Way::Up, &large[1]).is_empty(), "one large message at a time");
    for text in ["a1", &large[0], &large[1]] {
        world.decide(text, accept()).expect("it is in hands");
        world.run_for(SECOND);
    }
    assert_eq!(world.outcomes_up(0)[3..], [held, behind, second].map(|id| (id, Outcome::Delivered)));
}

// Cuts with progress.
//   fifty times: C --- msgs ---> S, some come, cut
//   A budget of attempts that each cut burns would give up a message that nothing is wrong with.
#[test]
fn fifty_cuts_with_progress_burn_nothing() {
    let mut world = World::attached_with(server::Config::default(), patient());
    let mut ids = Vec::new();
    for number in 0..50 {
        ids.push(world.send_up(&format!("{number} a")));
        world.pump();
        ids.push(world.send_up(&format!("{number} b")));
        world.pump();
        world.cut_keeping(0, 1);
        world.run_until(120 * SECOND, |world| world.clients[0].client.connection().transport().is_some());
    }
    world.run_for(60 * SECOND);
    assert_eq!(world.taken.len(), 100);
    assert_eq!(world.outcomes_up(0), ids.into_iter().map(|id| (id, Outcome::Delivered)).collect::<Vec<_>>());
}

// Cuts without progress.
//   C --- msg 1, msg 2 ---x S, cut, whenever msg 1's bytes have left: msg 1 kills whatever carries it
//   After four of these 1 is voided and 2, which is innocent, is delivered.
#[test]
fn four_cuts_without_progress_withdraw_the_lowest_message_and_no_other() {
    let mut world = World::attached_with(server::Config::default(), patient());
    let killer = world.send_up("killer");
    let innocent = world.send_up("innocent");
    for _ in 0..8 {
        world.pump();
        let wire = world.wire(0);
        if world.net.in_flight(wire, Way::Up).concat().contains("killer") {
            world.cut(0);
        }
        world.run_until(120 * SECOND, |world| world.clients[0].client.connection().transport().is_some());
    }
    world.run_for(60 * SECOND);
    assert_eq!(world.writes(Way::Up, "killer").len(), 4);
    let voided = Outcome::NotDelivered { reason: NotDelivered::Attempts };
    assert_eq!(world.outcomes_up(0), [(killer, voided), (innocent, Outcome::Delivered)]);
    assert_eq!(world.taken_texts(), ["innocent"]);
}

// S004-143
// Cuts before the bytes have left, and being offline, burn nothing.
#[test]
fn fifty_cuts_before_the_message_was_written_burn_nothing() {
    let mut world = World::attached_with(server::Config::default(), patient());
    world.cut(0);
    let id = world.send_up("patient");
    for _ in 0..50 {
        world.run_until(120 * SECOND, |world| world.live_wire(0).is_some());
        world.cut(0);
    }
    world.run_for(120 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    assert_eq!(world.writes(Way::Up, "patient").len(), 1);
}

// Client restored from an old snapshot.
//   C writes 1 (snapshot), 2 is written and accepted, 1 rejected and seen; C goes on from the snapshot
//   S has dropped the entry of 1, which C has seen: settled alone would say that 1 was accepted. C is behind its `seen`.
#[test]
fn a_client_from_an_old_snapshot_is_not_told_delivered_of_what_was_rejected() {
    for is_marked in [false, true] {
        let mut world = World::attached_manual();
        let id = world.send_as(in_lane("a", "one"));
        world.run_for(SECOND);
        let mut copy = world.clients[0].client.clone();
        world.decide("one", reject("no")).expect("it is in hands");
        world.send_as(in_lane("b", "two"));
        world.run_for(SECOND);
        world.decide("two", accept()).expect("it is in hands");
        world.run_for(30 * SECOND);
        assert_eq!(world.outcomes_up(0)[0], (id, rejected("no")));
        world.clients[0].events.clear();
        if is_marked {
            copy = copy.restored(InstanceId::from_bytes([9; 16]), Currency::Stale, world.now);
        }
        world.restore_client(0, copy);
        world.run_for(30 * SECOND);
        let outcomes = world.outcomes_up(0);
        assert!(matches!(outcomes[..], [(of, Outcome::Unknown { .. })] if of == id), "{outcomes:?}");
    }
}

// Recreated client with a live epoch.
//   C dies, and a new instance with its key says hello without an epoch while the epoch lives at S
//   It cannot go on with numbers that it does not have: what S had written is unknown, what it had not moves.
#[test]
fn a_recreated_client_gets_a_new_epoch_and_nothing_twice() {
    let mut world = World::attached_with(manual(), patient());
    world.send_up("of the first life");
    world.run_for(SECOND);
    world.stall(0);
    let written = world.send_down("written");
    world.run_for(SECOND);
    world.server.detach(&world.cid(), CloseCode::RESTART, world.now).expect("it is attached");
    let queued = world.send_down("queued");
    let handle = world.handle_of("of the first life");
    world.add_client(patient(), Secrets { instance: InstanceId::from_bytes([9; 16]), ..secrets(1) });
    world.run_for(SECOND);
    assert!(world.decide_by(handle, accept()).is_err(), "its epoch is over");
    assert_eq!(world.attaches(1), [false]);
    assert_eq!(world.clients[1].taken, ["queued"]);
    let unknown = Outcome::Unknown { reason: Unknown::EpochEnded };
    assert_eq!(world.outcomes_down(), [(written, unknown), (queued, Outcome::Delivered)]);
}

// Server restored from an old clone.
//   S (clone) holds 1; S hands 1 over and accepts it, the report is lost; S goes on from the clone
//   The clone believes that 1 was never handed over. Its receipt is not final: Unknown, and 1 does not come twice.
#[test]
fn a_server_from_an_old_clone_does_not_claim_what_its_newer_self_did() {
    let mut world = World::attached();
    world.is_reading = false;
    let ids = [world.send_up("plain"), world.send_as(Outgoing::from(payload("idempotent")).idempotent())];
    world.run_for(SECOND);
    let clone = world.server.clone();
    let wire = world.wire(0);
    world.net.stall(wire, Way::Down);
    world.is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["plain", "idempotent"]);
    let restored = clone.restored(InstanceId::from_bytes([3; 16]), Currency::Stale, world.now);
    world.replace_server(restored);
    world.run_for(30 * SECOND);
    assert_eq!(world.attaches(0), [false, false]);
    assert_eq!(world.taken_texts(), ["plain", "idempotent", "idempotent"], "only what may come twice does");
    let outcomes = world.outcomes_up(0);
    assert!(matches!(outcomes[0], (id, Outcome::Unknown { .. }) if id == ids[0]));
    assert_eq!(outcomes[1..], [(ids[1], Outcome::Delivered)]);
}

// Backlog longer than a lease.
//   thirty messages wait at S, and its application takes one a minute: the last one waits half an hour, six leases
//   The lease counts from the hand-over, not from the arrival.
#[test]
fn a_backlog_longer_than_a_lease_abandons_nothing() {
    for lanes in [1, 7] {
        let mut world = World::attached_manual();
        world.is_reading = false;
        let lane = |number: usize| format!("lane {}", number % lanes);
        let ids: Vec<_> = (0..30).map(|number| world.send_as(in_lane(&lane(number), &number.to_string()))).collect();
        world.run_for(SECOND);
        let cid = world.cid();
        for _ in 0..30 {
            assert!(world.take_from(&cid));
            world.run_for(60 * SECOND);
            let text = world.taken.last().expect("one was taken").1.clone();
            world.decide(&text, accept()).expect("a minute is within the lease");
        }
        world.run_for(SECOND);
        assert_eq!(world.outcomes_up(0).len(), ids.len());
        assert!(world.outcomes_up(0).iter().all(|(_, outcome)| outcome.is_delivered()));
        assert!(
            ids.iter()
                .all(|id| world.writes(Way::Up, "0").len() == 1 && world.outcomes_up(0).iter().any(|(of, _)| of == id))
        );
    }
}

fn rejected(text: &str) -> Outcome {
    Outcome::Rejected { code: code(text), reason: String::new() }
}

/// The path eats the reliable messages with this text that are on their way up.
fn eat(world: &mut World, text: &str) {
    if let Some(wire) = world.live_wire(0) {
        world.pump();
        world.net.drop_texts(wire, Way::Up, |line| line.contains(text));
    }
}

fn first_ping_after(world: &World, at: Instant) -> Instant {
    let pings = world.times(Way::Up, |frame| matches!(frame, Frame::Ping(_)));
    pings.into_iter().find(|ping| *ping > at).expect("a ping")
}

fn fresh_welcomes(world: &World) -> usize {
    world.times(Way::Down, |frame| matches!(frame, Frame::Welcome(welcome) if !welcome.resumed)).len()
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
