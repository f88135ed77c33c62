//! The probe: a message that is unsettled for long proves nothing lost, so its sender asks. Only the answer says whether it is to
//! be written again.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use harness::alone::LoneClient;
use harness::net::Way;
use harness::world::World;
use harness::world::payload;
use harness::world::steady;
use reattach_core::client::Event;
use reattach_core::client::Output;
use reattach_core::client::Status;
use reattach_core::connection::Stats;
use reattach_core::id::MessageId;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::reconnect::Ended;
use reattach_core::server::PeerEvent;
use reattach_core::wire::Frame;

const SECOND: Duration = Duration::from_secs(1);
const MICRO: Duration = Duration::from_micros(1);

// N01, S000-04
#[test]
fn a_message_that_the_network_ate_is_asked_about_and_only_then_written_again() {
    for way in Way::BOTH {
        let mut world = World::attached();
        world.texts.clear();
        let id = send(&mut world, way, "eaten");
        drop_in_flight(&mut world, way, r#""t":"msg""#);
        world.run_for(5 * SECOND - MICRO);
        assert_eq!(kinds(&world, way), ["msg"], "{way:?}: before the ack timeout nothing happens");
        world.run_for(SECOND / 10);
        assert_eq!(kinds(&world, way), ["msg", "ping", "msg"], "{way:?}: the question comes before the rewrite");
        assert_eq!(taken(&world, way), ["eaten"], "{way:?}");
        assert_eq!(outcomes(&world, way), [(id, Outcome::Delivered)], "{way:?}");
        let stats = stats(&world, way);
        assert_eq!((stats.probes, stats.link.lost, stats.link.rewritten), (1, 1, 1), "{way:?}");
        assert_eq!(world.attaches(0), [false], "{way:?}: the transport stays");
    }
}

// N02, S000-24, S004-140
#[test]
fn a_message_whose_settlement_was_lost_is_asked_about_and_never_written_again() {
    for way in Way::BOTH {
        let mut world = World::attached();
        world.texts.clear();
        let id = send(&mut world, way, "acted upon");
        world.run_for(SECOND / 100);
        assert_eq!(taken(&world, way), ["acted upon"], "{way:?}");
        drop_in_flight(&mut world, back(way), r#""t":"ack""#);
        world.run_for(5 * SECOND - SECOND / 50);
        assert_eq!(outcomes(&world, way), [], "{way:?}");
        world.run_for(SECOND / 10);
        assert_eq!(kinds(&world, way), ["msg", "ping"], "{way:?}");
        assert_eq!(outcomes(&world, way), [(id, Outcome::Delivered)], "{way:?}");
        assert_eq!(taken(&world, way), ["acted upon"], "{way:?}");
        world.run_for(10 * SECOND);
        assert_eq!(outcomes(&world, way).len(), 1, "{way:?}: once");
        assert_eq!(stats(&world, way).link.lost, 0, "{way:?}");
    }
}

#[test]
fn a_message_that_the_peer_holds_is_delayed_which_is_told_once_and_nothing_is_written_again() {
    for way in Way::BOTH {
        let mut world = World::attached();
        world.texts.clear();
        set_reading(&mut world, way, false);
        let id = send(&mut world, way, "slow");
        world.run_for(120 * SECOND);
        assert_eq!(delayed(&world, way), [id], "{way:?}: told once");
        assert_eq!(messages(&world, way), 1, "{way:?}");
        assert_eq!((stats(&world, way).delayed, stats(&world, way).probes), (1, 1), "{way:?}");
        assert_eq!(outcomes(&world, way), [], "{way:?}: delayed is no outcome");
        set_reading(&mut world, way, true);
        world.run_for(SECOND);
        assert_eq!(outcomes(&world, way), [(id, Outcome::Delivered)], "{way:?}");
        assert_eq!(stats(&world, way).delayed, 0, "{way:?}");
        assert_eq!(world.attaches(0), [false], "{way:?}");
    }
}

// S002-46
#[test]
fn a_malformed_frame_leaves_a_gap_that_is_buffered_and_mended_without_closing_the_transport() {
    for way in Way::BOTH {
        let mut world = World::attached();
        world.texts.clear();
        send(&mut world, way, "one");
        world.pump();
        let two = send(&mut world, way, "two");
        drop_in_flight(&mut world, way, "two");
        let broken = r#"{"t":"msg","seq":2,"d":"tw"#;
        match way {
            Way::Up => world.inject_up(0, broken),
            Way::Down => world.inject_down(0, broken),
        }
        send(&mut world, way, "three");
        world.run_for(SECOND);
        assert_eq!(taken(&world, way), ["one"], "{way:?}: nothing above a gap is handed over");
        assert_eq!(stats(&world, back(way)).undelivered, 1, "{way:?}: what is above it is kept");
        assert_eq!(stats(&world, back(way)).malformed, 1, "{way:?}");
        world.run_for(5 * SECOND);
        assert_eq!(taken(&world, way), ["one", "two", "three"], "{way:?}");
        assert!(outcomes(&world, way).iter().all(|(_, outcome)| *outcome == Outcome::Delivered), "{way:?}");
        assert!(outcomes(&world, way).iter().any(|(id, _)| *id == two), "{way:?}");
        assert_eq!(world.attaches(0), [false], "{way:?}");
        assert_eq!(world.closes, [], "{way:?}");
    }
}

#[test]
fn a_question_that_is_not_answered_in_ten_seconds_ends_the_transport_as_stalled() {
    let mut lone = LoneClient::attached(steady());
    lone.client.send(payload("into the void").into(), lone.now).unwrap();
    assert_eq!(pings(&lone.wait(5 * SECOND - MICRO)), 0);
    assert_eq!(pings(&lone.wait(MICRO)), 1, "5 s after the bytes have left");
    assert_eq!(pings(&lone.wait(10 * SECOND - MICRO)), 0);
    assert_eq!(lone.client.status(), Status::Attached);
    let outputs = lone.wait(MICRO);
    assert!(outputs.contains(&Output::Event(Event::Detached { ended: Ended::Stalled })), "{outputs:?}");
}

#[test]
fn the_server_too_gives_a_transport_up_that_does_not_answer_its_question() {
    let mut world = World::attached();
    world.stall(0);
    world.send_down("into the void");
    let took = world.run_until(16 * SECOND, |world| {
        world.peer_events.iter().any(|(_, event)| *event == PeerEvent::Detached { ended: Ended::Stalled })
    });
    assert_eq!(took, 15 * SECOND);
    world.run_for(60 * SECOND);
    assert_eq!(world.clients[0].taken, ["into the void"]);
    assert_eq!(world.outcomes_down().len(), 1);
}

// Section 3, rule 6
#[test]
fn the_ack_timeout_starts_when_the_bytes_have_left() {
    let mut lone = LoneClient::attached(steady());
    lone.is_draining = false;
    lone.client.send(payload("stuck").into(), lone.now).unwrap();
    lone.drain();
    assert_eq!(pings(&lone.wait(15 * SECOND)), 0, "what has not left cannot be missing");
    lone.is_draining = true;
    let written = lone.written();
    lone.hear(r#"{"t":"ack","received":0}"#);
    lone.progress(0, written);
    assert_eq!(pings(&lone.wait(5 * SECOND - MICRO)), 0);
    assert_eq!(pings(&lone.wait(MICRO)), 1);
}

// "a slow link against the pong deadline"
#[test]
fn a_slow_link_is_not_given_up_while_the_answer_waits_behind_a_large_message() {
    let mut lone = LoneClient::attached(steady());
    // Long before the question nothing came, for there was nothing to say.
    lone.wait(12 * SECOND);
    lone.client.send(payload("question").into(), lone.now).unwrap();
    assert_eq!(pings(&lone.wait(5 * SECOND)), 1);
    for second in 0..120 {
        lone.wait(SECOND);
        let written = lone.written();
        lone.progress(300, written);
        assert_eq!(lone.client.status(), Status::Attached, "after {second} s");
    }
    lone.hear(r#"{"t":"pong","n":2,"received":1,"settled":1}"#);
    assert_eq!(lone.client.stats().queued + lone.client.stats().written, 0);
}

#[test]
fn a_link_below_the_minimum_rate_is_given_up() {
    let mut lone = LoneClient::attached(steady());
    lone.client.send(payload("question").into(), lone.now).unwrap();
    assert_eq!(pings(&lone.wait(5 * SECOND)), 1);
    for _ in 0..10 {
        lone.wait(SECOND);
        let written = lone.written();
        lone.progress(200, written);
    }
    assert!(matches!(lone.client.status(), Status::Detached { .. }));
}

// E1
#[test]
fn many_slow_messages_cause_no_more_than_one_question_per_ack_timeout() {
    for way in Way::BOTH {
        let mut world = World::attached();
        set_reading(&mut world, way, false);
        world.texts.clear();
        let ids: Vec<_> = (0..90)
            .map(|number| {
                let id = send(&mut world, way, &number.to_string());
                world.run_for(SECOND * 2 / 3);
                id
            })
            .collect();
        let asked = world.frames(way).iter().filter(|(_, frame)| matches!(frame, Frame::Ping(_))).count();
        assert!((1..=12).contains(&asked), "{way:?}: {asked} questions in a minute");
        world.run_for(20 * SECOND);
        assert_eq!(delayed(&world, way), ids, "{way:?}: each is told once, in order");
        assert_eq!(messages(&world, way), 90, "{way:?}");
    }
}

// S002-45
#[test]
fn a_message_that_is_lost_again_and_again_is_withdrawn_after_its_attempts_and_the_others_go_on() {
    for way in Way::BOTH {
        let mut world = World::attached();
        let id = send(&mut world, way, "cursed");
        // Everything travels for 10 ms.
        for _ in 0..5_000 {
            drop_in_flight(&mut world, way, "cursed");
            world.run_for(SECOND / 200);
        }
        world.run_for(SECOND);
        let [(ended, outcome)] = &outcomes(&world, way)[..] else { panic!("{way:?}: one outcome") };
        assert_eq!(*ended, id);
        assert_eq!(*outcome, Outcome::NotDelivered { reason: NotDelivered::Attempts }, "{way:?}");
        assert_eq!(stats(&world, way).link.lost, 4, "{way:?}");
        assert_eq!(taken(&world, way), [""; 0]);
        send(&mut world, way, "next");
        world.run_for(SECOND);
        assert_eq!(taken(&world, way), ["next"], "{way:?}");
        assert_eq!(world.attaches(0), [false], "{way:?}");
    }
}

const fn back(way: Way) -> Way {
    match way {
        Way::Up => Way::Down,
        Way::Down => Way::Up,
    }
}

fn send(world: &mut World, way: Way, text: &str) -> MessageId {
    let id = match way {
        Way::Up => world.send_up(text),
        Way::Down => world.send_down(text),
    };
    world.pump();
    id
}

fn drop_in_flight(world: &mut World, way: Way, part: &str) {
    let wire = world.wire(0);
    world.net.drop_texts(wire, way, |text| text.contains(part));
}

fn set_reading(world: &mut World, way: Way, is_reading: bool) {
    match way {
        Way::Up => world.is_reading = is_reading,
        Way::Down => world.clients[0].is_reading = is_reading,
    }
}

fn taken(world: &World, way: Way) -> Vec<&str> {
    match way {
        Way::Up => world.taken_texts(),
        Way::Down => world.clients[0].taken.iter().map(String::as_str).collect(),
    }
}

fn outcomes(world: &World, way: Way) -> Vec<(MessageId, Outcome)> {
    match way {
        Way::Up => world.outcomes_up(0),
        Way::Down => world.outcomes_down(),
    }
}

/// What the side has counted that sends this way.
fn stats(world: &World, way: Way) -> Stats {
    match way {
        Way::Up => world.clients[0].client.stats(),
        Way::Down => world.server.peer(&world.cid()).expect("a peer").stats(),
    }
}

fn delayed(world: &World, way: Way) -> Vec<MessageId> {
    match way {
        Way::Up => {
            let events = world.clients[0].events.iter();
            events.filter_map(|event| if let Event::Delayed { id } = event { Some(*id) } else { None }).collect()
        }
        Way::Down => {
            let events = world.peer_events.iter();
            events
                .filter_map(|(_, event)| if let PeerEvent::Delayed { id } = event { Some(*id) } else { None })
                .collect()
        }
    }
}

/// The frames that were written this way, but for reports and answers.
fn kinds(world: &World, way: Way) -> Vec<&'static str> {
    let frames = world.frames(way).into_iter();
    frames.map(|(_, frame)| frame.name()).filter(|name| !matches!(*name, "ack" | "pong")).collect()
}

fn messages(world: &World, way: Way) -> usize {
    kinds(world, way).iter().filter(|name| **name == "msg").count()
}

fn pings(outputs: &[Output]) -> usize {
    let is_ping = |output: &&Output| matches!(output, Output::Write { text, .. } if text.contains(r#""t":"ping""#));
    outputs.iter().filter(is_ping).count()
}

#[test]
fn a_question_that_is_lost_while_the_peer_talks_is_asked_again() {
    for lost in [r#""t":"ping""#, r#""t":"pong""#] {
        let mut world = World::attached();
        let id = world.send_up("eaten");
        world.pump();
        drop_in_flight(&mut world, Way::Up, "eaten");
        let mut losses = 0;
        for second in 0..200 {
            world.send_down(&format!("{second}"));
            let end = world.now + SECOND;
            while world.now < end {
                world.run_for(SECOND / 200);
                for way in Way::BOTH {
                    let wire = world.wire(0);
                    let is_lost = losses == 0 && world.net.in_flight(wire, way).iter().any(|text| text.contains(lost));
                    if is_lost {
                        drop_in_flight(&mut world, way, lost);
                        losses += 1;
                    }
                }
            }
        }
        assert_eq!(losses, 1, "{lost}");
        assert_eq!(world.taken_texts(), ["eaten"], "{lost}: its life alone does not say what became of it");
        assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)], "{lost}");
        assert_eq!(world.attaches(0), [false], "{lost}");
    }
}

#[test]
fn what_is_reported_before_its_bytes_are_known_to_have_left_holds_no_question_off() {
    let mut lone = LoneClient::attached(steady());
    lone.is_draining = false;
    lone.client.send(payload("a").into(), lone.now).unwrap();
    lone.drain();
    lone.hear(r#"{"t":"ack","received":1,"seen":0}"#);
    lone.progress(0, lone.written());
    lone.is_draining = true;
    lone.client.send(payload("b").into(), lone.now).unwrap();
    lone.drain();
    assert_eq!(pings(&lone.wait(5 * SECOND)), 1);
}

// Found by the model: the report that settles the oldest message shows one behind it that has waited for long.
#[test]
fn the_message_behind_one_that_is_settled_at_last_is_asked_about_at_once_where_it_is_due() {
    let mut lone = LoneClient::attached(steady());
    lone.wait(18 * SECOND);
    lone.client.send(payload("covered by the heartbeat's ping").into(), lone.now).unwrap();
    assert_eq!(pings(&lone.wait(2 * SECOND)), 1, "nothing has come for 20 s");
    lone.client.send(payload("not covered").into(), lone.now).unwrap();
    assert_eq!(pings(&lone.wait(7 * SECOND)), 0);
    let outputs = lone.hear(r#"{"t":"ack","received":1,"settled":1,"seen":0}"#);
    assert_eq!(pings(&outputs), 1);
    assert!(lone.client.poll_timeout().is_some_and(|at| at > lone.now), "no timer lies in the past");
}

// Found by reading: each copy was taken for another proof, and used up an attempt.
#[test]
fn a_pong_that_comes_again_proves_nothing_again() {
    let mut lone = LoneClient::attached(steady());
    let now = lone.now;
    lone.client.send(payload("lost").into(), now).unwrap();
    lone.drain();
    let outputs = lone.wait(6 * SECOND);
    let asks = |output: &&Output| matches!(output, Output::Write { text, .. } if text.contains(r#""t":"ping""#));
    assert_eq!(outputs.iter().filter(asks).count(), 1);
    let n = lone.client.stats().pings;
    let pong = format!(r#"{{"t":"pong","n":{n},"received":0,"settled":0}}"#);
    for _ in 0..5 {
        lone.hear(&pong);
    }
    assert_eq!(lone.client.stats().link.rewritten, 1);
}
