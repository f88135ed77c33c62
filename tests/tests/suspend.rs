//! Sleep: of the client, which says so, and of the whole computer, which does not.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use harness::alone::LoneClient;
use harness::net::Way;
use harness::world::Road;
use harness::world::World;
use harness::world::payload;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client::Closed;
use reattach_core::client::Event;
use reattach_core::client::Output;
use reattach_core::client::Status;
use reattach_core::error::ApiMisuse;
use reattach_core::link::Outgoing;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::reconnect::Ended;
use reattach_core::reconnect::OpenError;
use reattach_core::server::RegistryEvent;
use reattach_core::wire::Frame;

const SECOND: Duration = Duration::from_secs(1);
const MICRO: Duration = Duration::from_micros(1);

// S003-56
#[test]
fn a_client_that_goes_to_sleep_is_kept_for_ten_minutes_and_finds_everything_again() {
    let mut world = World::attached();
    suspend(&mut world);
    world.run_for(SECOND);
    let (_, frame) = world.frames(Way::Up).pop().expect("it said something");
    assert!(matches!(&frame, Frame::Bye(bye) if bye.suspend && !bye.end), "{frame:?}");
    let up = world.send_up("up");
    let down = world.send_down("down");
    world.run_for(598 * SECOND);
    assert_eq!(world.client().client.status(), Status::Suspended);
    assert_eq!(world.server.registry().connections(), 1);
    assert_eq!(world.clients[0].opens.len(), 1, "it holds no transport and opens none");
    let now = world.now;
    world.client().client.reconnect(now).unwrap();
    world.run_for(SECOND / 10);
    assert_eq!(world.attaches(0), [false, true]);
    assert_eq!(world.outcomes_up(0), [(up, Outcome::Delivered)]);
    assert_eq!(world.outcomes_down(), [(down, Outcome::Delivered)]);
}

#[test]
fn a_sleeper_is_forgotten_after_ten_minutes_and_one_that_just_vanished_after_one() {
    for (sleeps, seconds) in [(true, 600), (false, 60)] {
        let mut world = World::attached();
        world.road = Road::Silent;
        if sleeps {
            suspend(&mut world);
        } else {
            world.cut(0);
        }
        world.pump();
        let took = world.run_until(700 * SECOND, |world| {
            world.registry_events.iter().any(|event| matches!(event, RegistryEvent::Expired { .. }))
        });
        assert!(took >= seconds * SECOND && took <= seconds * SECOND + SECOND / 10, "{took:?}");
    }
}

#[test]
fn a_client_can_go_to_sleep_wherever_it_stands_and_only_reconnect_wakes_it() {
    for (road, wait) in
        [(Road::Silent, 1), (Road::Failing(OpenError::Unreachable), 1), (Road::Open, 0), (Road::Open, 1)]
    {
        let mut world = World::new();
        world.road = road;
        world.add_client(steady(), secrets(1));
        world.run_for(wait * SECOND / 100);
        suspend(&mut world);
        world.pump();
        let opens = world.clients[0].opens.len();
        assert_eq!(world.client().client.poll_timeout(), None, "{road:?}: no timer is left");
        world.road = Road::Open;
        let id = world.send_up("waits");
        world.run_for(3_600 * SECOND);
        assert_eq!(world.clients[0].opens.len(), opens, "{road:?}");
        assert_eq!(world.client().client.status(), Status::Suspended);
        suspend(&mut world);
        let now = world.now;
        world.client().client.reconnect(now).unwrap();
        world.run_for(SECOND / 10);
        assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)], "{road:?}");
    }
}

#[test]
fn messages_of_a_sleeper_still_have_their_deadlines() {
    let mut world = World::attached();
    suspend(&mut world);
    let id = send_within(&mut world, 30 * SECOND);
    world.run_for(30 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::NotDelivered { reason: NotDelivered::Deadline })]);
}

#[test]
fn a_sleeper_can_be_closed_and_what_is_over_does_not_sleep() {
    let mut world = World::attached();
    suspend(&mut world);
    let id = world.send_up("too late");
    let now = world.now;
    world.client().client.close(10 * SECOND, now);
    world.run_for(10 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::NotDelivered { reason: NotDelivered::Closed })]);
    assert_eq!(world.client().client.status(), Status::Closed(Closed::Cut));
    let now = world.now;
    assert_eq!(world.client().client.suspend(now), Err(ApiMisuse::Ended));
}

// N19 step 6, S003-55
#[test]
fn after_ten_minutes_asleep_both_sides_ask_once_and_the_connection_stays() {
    let mut world = World::attached();
    world.run_for(5 * SECOND);
    world.texts.clear();
    world.jump(600 * SECOND);
    world.run_for(15 * SECOND);
    for way in Way::BOTH {
        let pings = world.frames(way).iter().filter(|(_, frame)| matches!(frame, Frame::Ping(_))).count();
        assert_eq!(pings, 1, "{way:?}");
    }
    assert_eq!(world.attaches(0), [false]);
    let cid = world.cid();
    assert_eq!((world.client().client.stats().gaps, world.server.peer(&cid).unwrap().stats().gaps), (1, 1));
    assert_eq!(world.client().client.stats().rtt, Some(SECOND / 50), "no bogus round trip");
}

// N19 step 6
#[test]
fn after_a_sleep_only_the_answer_to_the_new_question_is_life() {
    let mut lone = asleep_for_ten_minutes();
    for _ in 0..9 {
        lone.wait(SECOND);
        let written = lone.written();
        lone.progress(100_000, written);
        lone.hear("{\"t\":\"ack\",\"received\":0}\n{\"t\":\"pong\",\"n\":1}\n{\"t\":\"ping\",\"n\":7}");
    }
    let written = lone.written();
    lone.progress(100_000, written);
    lone.wait(SECOND - MICRO);
    assert_eq!(lone.client.status(), Status::Attached);
    let outputs = lone.wait(MICRO);
    assert!(outputs.contains(&Output::Event(Event::Detached { ended: Ended::Stalled })), "{outputs:?}");
}

#[test]
fn after_a_sleep_the_answer_to_the_new_question_keeps_the_transport() {
    let mut lone = asleep_for_ten_minutes();
    lone.wait(9 * SECOND);
    lone.hear(r#"{"t":"pong","n":2}"#);
    assert_eq!(lone.client.stats().rtt, Some(9 * SECOND / 8), "smoothed");
    lone.wait(19 * SECOND);
    assert_eq!(lone.client.status(), Status::Attached);
}

#[test]
fn one_sleep_is_one_gap_however_many_inputs_come_before_the_timer() {
    let mut lone = LoneClient::attached(steady());
    lone.client.send(Outgoing::from(payload("held")).within(60 * SECOND), lone.now).unwrap();
    lone.drain();
    lone.hear(r#"{"t":"pong","n":1,"received":1}"#);
    lone.now = lone.now + 600 * SECOND;
    let mut written = String::new();
    for _ in 0..5 {
        for output in lone.hear(r#"{"t":"ack","received":1}"#) {
            if let Output::Write { text, .. } = output {
                written.push_str(&text);
            }
        }
    }
    assert_eq!(written.matches(r#""t":"ping""#).count(), 1, "{written}");
    assert_eq!(lone.client.stats().gaps, 1);
}

#[test]
fn deadlines_of_messages_do_fire_after_a_sleep() {
    let mut world = World::attached();
    world.road = Road::Silent;
    world.cut(0);
    let id = send_within(&mut world, 60 * SECOND);
    world.jump(600 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::NotDelivered { reason: NotDelivered::Deadline })]);
    let mut world = World::attached();
    world.is_reading = false;
    let id = send_within(&mut world, 60 * SECOND);
    world.run_for(SECOND);
    world.jump(600 * SECOND);
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::NotDelivered { reason: NotDelivered::Deadline })]);
    assert_eq!(world.attaches(0), [false]);
}

#[test]
fn a_try_that_became_due_in_a_sleep_is_made_at_once() {
    let mut world = World::attached();
    world.road = Road::Silent;
    world.cut(0);
    world.run_for(12 * SECOND);
    let opens = world.clients[0].opens.len();
    assert!(matches!(world.client().client.status(), Status::Detached { .. }));
    world.road = Road::Open;
    world.jump(40 * SECOND);
    assert_eq!(world.clients[0].opens.len(), opens + 1);
    world.run_for(SECOND / 10);
    assert_eq!(world.client().client.status(), Status::Attached);
}

#[test]
fn messages_that_were_under_way_in_a_sleep_are_delivered_once() {
    for way in Way::BOTH {
        let mut world = World::attached();
        match way {
            Way::Up => world.send_up("under way"),
            Way::Down => world.send_down("under way"),
        };
        world.pump();
        world.jump(600 * SECOND);
        world.run_for(30 * SECOND);
        let taken = match way {
            Way::Up => world.taken_texts(),
            Way::Down => world.clients[0].taken.iter().map(String::as_str).collect(),
        };
        assert_eq!(taken, ["under way"], "{way:?}");
        assert_eq!(world.attaches(0), [false], "{way:?}");
    }
}

fn suspend(world: &mut World) {
    let now = world.now;
    world.client().client.suspend(now).unwrap();
}

fn send_within(world: &mut World, within: Duration) -> reattach_core::id::MessageId {
    let now = world.now;
    world.clients[0].client.send(Outgoing::from(payload("urgent")).within(within), now).unwrap()
}

/// A client that was attached, slept for ten minutes, and has just asked.
fn asleep_for_ten_minutes() -> LoneClient {
    let mut lone = LoneClient::attached(steady());
    lone.wait(5 * SECOND);
    lone.now = lone.now + 600 * SECOND;
    let outputs = lone.wait(Duration::ZERO);
    let pings = outputs.iter().filter(|output| matches!(output, Output::Write { text, .. } if text.contains("ping")));
    assert_eq!(pings.count(), 1, "{outputs:?}");
    assert_eq!(lone.client.status(), Status::Attached);
    lone
}
