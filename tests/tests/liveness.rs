//! Is the other side there? Heartbeats both ways, slow links that are not dead ones, and stalled ones that are.

use std::time::Duration;

use harness::alone::LoneClient;
use harness::frames::hello;
use harness::frames::text;
use harness::frames::welcome;
use harness::net::Way;
use harness::pair::NOW;
use harness::pair::Pair;
use harness::world::World;
use harness::world::frames_of;
use harness::world::key;
use harness::world::payload;
use harness::world::steady;
use reattach_core::client::Event;
use reattach_core::client::Output;
use reattach_core::client::Status;
use reattach_core::outcome::Outcome;
use reattach_core::reconnect::Ended;
use reattach_core::server::PeerEvent;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;
use reattach_core::wire::decode;

const SECOND: Duration = Duration::from_secs(1);

// S003-31, S003-32, S002-31, S001-42
#[test]
fn an_idle_connection_is_pinged_from_both_sides_and_stays() {
    let mut world = World::attached();
    world.texts.clear();
    world.run_for(600 * SECOND);
    assert_eq!(world.attaches(0), [false]);
    assert_eq!(world.client().client.status(), Status::Attached);
    for way in Way::BOTH {
        let frames = world.frames(way);
        let pings = frames.iter().filter(|(_, frame)| matches!(frame, Frame::Ping(_))).count();
        let pongs = frames.iter().filter(|(_, frame)| matches!(frame, Frame::Pong(_))).count();
        assert!((15..=30).contains(&pings), "{pings} pings {way:?} in ten minutes");
        assert!((15..=30).contains(&pongs), "{pongs} pongs {way:?} in ten minutes");
        assert_eq!(frames.len(), pings + pongs, "an idle connection writes nothing else");
    }
}

#[test]
fn a_busy_connection_is_not_pinged() {
    let mut world = World::attached();
    world.texts.clear();
    for number in 0..50 {
        world.send_up(&number.to_string());
        world.run_for(4 * SECOND);
    }
    for way in Way::BOTH {
        assert!(!world.frames(way).iter().any(|(_, frame)| matches!(frame, Frame::Ping(_))));
    }
}

// S003-36
#[test]
fn messages_between_heartbeats_all_arrive_and_the_heart_beats_on() {
    let mut world = World::attached();
    world.texts.clear();
    for number in 0..20 {
        world.send_down(&number.to_string());
        world.run_for(45 * SECOND);
    }
    assert_eq!(world.clients[0].taken, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    let pings = world.frames(Way::Up).iter().filter(|(_, frame)| matches!(frame, Frame::Ping(_))).count();
    assert!(pings > 10, "{pings}");
    assert_eq!(world.attaches(0), [false]);
}

// N04, S004-006, S004-007, S004-158
#[test]
fn a_silently_dead_transport_costs_nothing_once_the_client_reconnects() {
    let mut world = World::attached();
    world.stall(0);
    for event in ["e1", "e2", "e3"] {
        world.send_down(event);
    }
    world.run_for(20 * SECOND);
    assert_eq!(world.clients[0].taken, [""; 0]);
    let now = world.now;
    world.client().client.reconnect(now).expect("it is not over");
    world.run_for(SECOND / 10);
    assert_eq!(world.attaches(0), [false, true], "the server does not wait for the old one to die");
    assert_eq!(world.clients[0].taken, ["e1", "e2", "e3"]);
    world.send_up("wake");
    world.run_for(SECOND / 10);
    world.send_down("reply");
    world.run_for(SECOND / 10);
    assert_eq!(world.taken_texts(), ["wake"]);
    assert_eq!(world.clients[0].taken, ["e1", "e2", "e3", "reply"]);
    assert!(world.outcomes_down().iter().all(|(_, outcome)| *outcome == Outcome::Delivered));
}

// N04, its variant
#[test]
fn a_silently_dead_transport_is_found_dead_by_both_sides_in_fifty_seconds() {
    let mut world = World::attached();
    let start = world.now;
    world.stall(0);
    world.run_until(51 * SECOND, |world| found_dead_by_client(world) && found_dead_by_server(world));
    assert!(world.now - start > 40 * SECOND, "not before its time");
}

// S004-159
#[test]
fn a_transport_that_is_dead_one_way_only_is_found_dead() {
    for way in Way::BOTH {
        let mut world = World::attached();
        let wire = world.wire(0);
        world.net.stall(wire, way);
        world.run_for(60 * SECOND);
        world.send_up("after");
        world.send_down("after");
        world.run_for(60 * SECOND);
        assert_eq!(world.taken_texts(), ["after"], "dead {way:?}");
        assert_eq!(world.clients[0].taken, ["after"], "dead {way:?}");
        assert_eq!(world.attaches(0), [false, true], "dead {way:?}");
    }
}

// S003-33
#[test]
fn a_peer_that_does_not_answer_a_ping_is_given_up() {
    let mut lone = LoneClient::attached(steady());
    let transport = lone.transport;
    assert_eq!(pings(&lone.wait(50 * SECOND - Duration::from_micros(1))), 1);
    let outputs = lone.wait(Duration::from_micros(1));
    let ended = Ended::Stalled;
    assert!(matches!(&outputs[0], Output::Write { text, .. } if text.starts_with(r#"{"t":"bye","code":4460,"#)));
    assert_eq!(outputs[1], Output::Close { transport, code: CloseCode::STALLED });
    assert_eq!(outputs[2], Output::Event(Event::Detached { ended }));
    assert!(matches!(lone.client.status(), Status::Detached { .. }));
}

#[test]
fn any_frame_counts_as_life_even_one_of_an_unknown_type() {
    let mut lone = LoneClient::attached(steady());
    for _ in 0..10 {
        lone.wait(45 * SECOND);
        lone.hear(r#"{"t":"zzz"}"#);
    }
    assert_eq!(lone.client.status(), Status::Attached);
}

// S002-72
#[test]
fn a_frame_that_comes_slowly_is_life() {
    let mut lone = LoneClient::attached(steady());
    for _ in 0..300 {
        lone.wait(SECOND);
        let written = lone.written();
        lone.progress(300, written);
    }
    assert_eq!(lone.client.status(), Status::Attached);
}

#[test]
fn a_trickle_of_bytes_is_not_life() {
    let mut lone = LoneClient::attached(steady());
    for _ in 0..60 {
        lone.wait(SECOND);
        let written = lone.written();
        lone.progress(10, written);
    }
    assert!(!matches!(lone.client.status(), Status::Attached));
}

// S004-159
#[test]
fn bytes_that_do_not_leave_are_a_stall_although_the_peer_is_heard() {
    let mut lone = LoneClient::attached(steady());
    lone.is_draining = false;
    let start = lone.now;
    lone.client.send(payload("stuck").into(), lone.now).expect("room");
    lone.drain();
    while matches!(lone.client.status(), Status::Attached) {
        lone.wait(SECOND);
        lone.hear(r#"{"t":"ack","received":0}"#);
        assert!(lone.now - start <= 51 * SECOND, "the stall is not noticed");
    }
    assert!(lone.now - start >= 50 * SECOND, "it was given up after {:?}", lone.now - start);
}

#[test]
fn bytes_that_leave_slowly_are_no_stall() {
    let mut lone = LoneClient::attached(steady());
    lone.is_draining = false;
    let before = lone.written();
    lone.client.send(payload(&"x".repeat(100_000)).into(), lone.now).expect("room");
    lone.drain();
    for second in 1..=300 {
        lone.wait(SECOND);
        lone.hear(r#"{"t":"ack","received":0}"#);
        lone.progress(0, before + 300 * second);
    }
    assert_eq!(lone.client.status(), Status::Attached);
}

// Section 3, rule 6: the deadline of an answer starts when the question has left.
#[test]
fn a_ping_that_waits_behind_a_large_message_is_not_held_against_the_peer() {
    let mut lone = LoneClient::attached(steady());
    lone.is_draining = false;
    let before = lone.written();
    lone.client.send(payload(&"x".repeat(30_000)).into(), lone.now).expect("room");
    lone.drain();
    for second in 1..=100 {
        lone.wait(SECOND);
        lone.progress(0, before + 300 * second);
        assert_eq!(lone.client.status(), Status::Attached, "after {second} s");
    }
    let written = lone.written();
    lone.progress(0, written);
    lone.wait(29 * SECOND);
    assert_eq!(lone.client.status(), Status::Attached);
    lone.wait(2 * SECOND);
    assert!(!matches!(lone.client.status(), Status::Attached), "the answer is due 30 s after the ping has left");
}

// S003-34
#[test]
fn the_round_trip_is_measured_at_once_and_again_with_each_ping() {
    let mut world = World::attached();
    assert_eq!(world.client().client.stats().rtt, Some(Duration::from_millis(20)));
    world.net.latency = Duration::from_millis(110);
    world.run_for(3_600 * SECOND);
    let rtt = world.client().client.stats().rtt.expect("it was measured");
    assert!(rtt > Duration::from_millis(200) && rtt <= Duration::from_millis(220), "{rtt:?}");
    let cid = world.cid();
    let rtt = world.server.peer(&cid).expect("a peer").stats().rtt.expect("it was measured");
    assert!(rtt > Duration::from_millis(200) && rtt <= Duration::from_millis(220), "{rtt:?}");
}

#[test]
fn a_pong_of_another_ping_or_transport_measures_nothing() {
    let mut lone = LoneClient::new(steady());
    lone.opened();
    lone.welcomed();
    lone.wait(SECOND);
    for n in [2, 3, 9_000] {
        lone.hear(&format!("{{\"t\":\"pong\",\"n\":{n}}}"));
    }
    assert_eq!(lone.client.stats().rtt, None);
    lone.hear(r#"{"t":"pong","n":1}"#);
    assert_eq!(lone.client.stats().rtt, Some(SECOND));
    lone.wait(SECOND);
    lone.hear(r#"{"t":"pong","n":1}"#);
    assert_eq!(lone.client.stats().rtt, Some(SECOND), "the same answer again");
}

// S003-32, S003-35
#[test]
fn a_ping_is_answered_with_its_number_and_a_report() {
    let mut lone = LoneClient::attached(steady());
    lone.hear(r#"{"t":"msg","seq":1,"d":"held"}"#);
    let outputs = lone.hear(r#"{"t":"ping","n":77}"#);
    let [Output::Write { text, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    let [Frame::Pong(pong)] = &frames_of(text)[..] else { panic!("{text}") };
    assert_eq!((pong.n.get(), pong.report.received.get(), pong.report.settled.get()), (77, 1, 0));
}

#[test]
fn of_several_pings_the_newest_is_answered() {
    let mut lone = LoneClient::attached(steady());
    let outputs = lone.hear("{\"t\":\"ping\",\"n\":1}\n{\"t\":\"ping\",\"n\":2}\n{\"t\":\"ping\",\"n\":3}");
    let [Output::Write { text, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    assert!(matches!(&frames_of(text)[..], [Frame::Pong(pong)] if pong.n.get() == 3));
}

#[test]
fn a_ping_and_a_report_share_a_text_as_two_frames() {
    let mut lone = LoneClient::new(steady());
    lone.opened();
    let welcome = text(&Frame::Welcome(Box::new(welcome(key(1).connection_id(), harness::alone::epoch(1)))));
    let said = format!("{welcome}\n{{\"t\":\"msg\",\"seq\":1,\"d\":1}}\n{{\"t\":\"msg\",\"seq\":2,\"d\":2}}");
    let outputs = [lone.hear(&said), lone.wait(Duration::ZERO)].concat();
    let text =
        outputs.iter().find_map(|output| if let Output::Write { text, .. } = output { Some(text) } else { None });
    let text = text.expect("the round trip is measured at once");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.len() == 2 && lines[0].ends_with('}') && lines[1].starts_with(r#"{"t":"#), "{text}");
    let frames = frames_of(text);
    assert!(frames.iter().any(|frame| matches!(frame, Frame::Ping(_))));
    assert!(frames.iter().any(|frame| matches!(frame, Frame::Ack(ack) if ack.report.received.get() == 2)));
}

/// Everyday: the server's first message comes with its welcome, and the first ping goes out with the report on it.
#[test]
fn a_report_that_follows_a_ping_is_a_frame_of_its_own() {
    let mut pair = Pair::new(None);
    pair.attach();
    pair.server.send(&key(1).connection_id(), payload("first").into(), NOW).expect("room");
    pair.down().iter().for_each(|text| pair.client_hears(text));
    pair.client.handle_timeout(NOW); // the ping that measures the round trip is due at once
    for text in pair.up() {
        for line in text.split('\n') {
            assert!(decode(line).is_ok(), "the client writes {line}");
        }
    }
}

// N19 step 6, S003-55
#[test]
fn a_jump_of_the_clock_over_an_idle_connection_asks_once_and_keeps_it() {
    let mut world = World::attached();
    world.run_for(5 * SECOND);
    world.texts.clear();
    world.jump(600 * SECOND);
    world.run_for(SECOND);
    let pings = world.frames(Way::Up).iter().filter(|(_, frame)| matches!(frame, Frame::Ping(_))).count();
    assert_eq!(pings, 1);
    assert_eq!(world.client().client.status(), Status::Attached);
    assert_eq!(world.attaches(0), [false]);
    assert_eq!(world.client().client.stats().rtt, Some(Duration::from_millis(20)));
}

// S003-37
#[test]
fn a_server_whose_clients_are_gone_has_no_heartbeat_left() {
    let mut world = World::attached();
    let now = world.now;
    world.client().client.disconnect(now);
    world.run_for(SECOND);
    assert_eq!(world.server.poll_timeout(), None);
}

#[test]
fn the_defaults_ask_after_twenty_seconds_and_give_up_after_fifty() {
    let config = reattach_core::connection::Config::default();
    assert_eq!(config.heartbeat.idle, 20 * SECOND);
    assert_eq!(config.heartbeat.dead_after, 50 * SECOND);
    assert_eq!(config.flow.stalled_after, 50 * SECOND);
    assert_eq!(steady().connect_timeout, 10 * SECOND);
    assert_eq!(steady().hello_timeout, 10 * SECOND);
    assert_eq!(Instant::ZERO + config.malformed.per, Instant::from_secs(60));
    assert_eq!(hello(1).limits.window, 256);
}

fn found_dead_by_client(world: &World) -> bool {
    let ended = Ended::Stalled;
    world.clients[0].events.contains(&Event::Detached { ended })
}

fn found_dead_by_server(world: &World) -> bool {
    let ended = Ended::Stalled;
    world.peer_events.iter().any(|(_, event)| *event == PeerEvent::Detached { ended })
}

fn pings(outputs: &[Output]) -> usize {
    outputs
        .iter()
        .filter(|output| matches!(output, Output::Write { text, .. } if text.contains(r#""t":"ping""#)))
        .count()
}
