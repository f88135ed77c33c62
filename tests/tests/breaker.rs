//! The breaker, and what the server says about coming back.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use harness::alone::LoneClient;
use harness::world::Road;
use harness::world::World;
use harness::world::patient;
use harness::world::payload;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::breaker::State;
use reattach_core::client::Status;
use reattach_core::id::MessageId;
use reattach_core::link::Outgoing;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::reconnect::OpenError;
use reattach_core::wire::CloseCode;

const SECOND: Duration = Duration::from_secs(1);
const UNAVAILABLE: Outcome = Outcome::NotDelivered { reason: NotDelivered::Unavailable };

// S002-49
#[test]
fn the_breaker_opens_after_five_failed_tries_and_fails_only_what_would_rather_fail() {
    let mut world = unreachable();
    let waits = world.send_up("waits");
    let fast = send_fast(&mut world, "fast");
    world.run_for(15 * SECOND - Duration::from_micros(1));
    assert_eq!((breaker(&world), world.clients[0].opens.len()), (State::Closed, 4), "tries at 0, 1, 3 and 7 s");
    assert_eq!(world.outcomes_up(0), []);
    world.run_for(Duration::from_micros(1));
    assert_eq!((breaker(&world), world.clients[0].opens.len()), (State::Open, 5));
    assert_eq!(world.outcomes_up(0), [(fast, UNAVAILABLE)]);
    let late = send_fast(&mut world, "late");
    world.pump();
    assert_eq!(world.outcomes_up(0)[1..], [(late, UNAVAILABLE)], "a new one fails at once");
    world.road = Road::Open;
    world.run_for(60 * SECOND);
    assert_eq!(world.outcomes_up(0)[2..], [(waits, Outcome::Delivered)]);
    assert_eq!(world.taken_texts(), ["waits"]);
}

// S002-49
#[test]
fn the_first_try_after_the_pause_is_half_open_and_a_welcome_closes_it() {
    let mut world = unreachable();
    world.run_for(20 * SECOND);
    assert_eq!(breaker(&world), State::Open);
    world.run_for(20 * SECOND);
    assert_eq!((breaker(&world), world.clients[0].opens.len()), (State::Open, 6), "31 s is within the pause");
    world.road = Road::Silent;
    world.run_for(22 * SECOND);
    assert_eq!((breaker(&world), world.clients[0].opens.len()), (State::HalfOpen, 7));
    let fast = send_fast(&mut world, "fast");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [], "while it is tested nothing fails");
    world.road = Road::Open;
    let took = world.run_until(60 * SECOND, |world| breaker(world) == State::Open);
    assert_eq!(took, 8 * SECOND, "the try fails when its ten seconds to connect are over");
    assert_eq!(world.outcomes_up(0), [(fast, UNAVAILABLE)]);
    world.run_until(120 * SECOND, |world| world.clients[0].client.status() == Status::Attached);
    assert_eq!(breaker(&world), State::Closed);
    let after = send_fast(&mut world, "after");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0)[1..], [(after, Outcome::Delivered)]);
}

#[test]
fn a_transport_that_breaks_after_its_welcome_is_no_failure() {
    let mut world = World::attached_with(reattach_core::server::Config::default(), patient());
    for _ in 0..20 {
        world.cut(0);
        world.run_until(60 * SECOND, |world| world.clients[0].client.status() == Status::Attached);
        assert_eq!(breaker(&world), State::Closed);
    }
}

#[test]
fn a_welcome_that_a_hand_made_try_finds_closes_it_within_the_pause() {
    let mut world = unreachable();
    world.run_for(16 * SECOND);
    assert_eq!(breaker(&world), State::Open);
    world.road = Road::Open;
    let now = world.now;
    world.client().client.reconnect(now).unwrap();
    world.run_for(SECOND);
    assert_eq!(breaker(&world), State::Closed);
    assert_eq!(world.clients[0].client.status(), Status::Attached);
}

#[test]
fn what_would_rather_fail_is_not_withdrawn_once_it_was_written() {
    let mut world = World::attached_with(reattach_core::server::Config::default(), patient());
    world.is_reading = false;
    let fast = send_fast(&mut world, "written");
    world.run_for(SECOND);
    world.road = Road::Failing(OpenError::Unreachable);
    world.cut(0);
    world.run_for(40 * SECOND);
    assert_eq!(breaker(&world), State::Open);
    assert_eq!(world.outcomes_up(0), []);
    world.is_reading = true;
    world.road = Road::Open;
    let now = world.now;
    world.client().client.reconnect(now).unwrap();
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(fast, Outcome::Delivered)]);
}

// S003-21
#[test]
fn the_server_that_says_when_to_come_back_is_obeyed_whatever_the_backoff_says() {
    for status in [429, 503, 500] {
        let mut lone = LoneClient::new(steady());
        lone.open_fails(OpenError::Refused { status, retry_after: Some(120 * SECOND) });
        let Status::Detached { retry_at, .. } = lone.client.status() else { panic!("it waits") };
        assert_eq!(retry_at - lone.now, 120 * SECOND, "status {status}");
    }
    for (code, seconds) in [(CloseCode::RESTART, 77), (CloseCode::TRY_LATER, 1), (CloseCode::GOING_AWAY, 300)] {
        let mut lone = LoneClient::attached(steady());
        let bye = format!(r#"{{"t":"bye","code":{},"retryAfter":{}}}"#, code.get(), seconds * 1_000);
        lone.hear(&bye);
        let Status::Detached { retry_at, .. } = lone.client.status() else { panic!("it waits") };
        assert_eq!(retry_at - lone.now, seconds * SECOND, "{code}");
    }
}

#[test]
fn nobody_is_told_to_hammer_the_server_or_to_stay_away_for_ever() {
    let cases: [(u64, Duration); 4] =
        [(0, SECOND / 10), (50, SECOND / 10), (100, SECOND / 10), ((1 << 53) - 1, 86_400 * SECOND)];
    for (millis, delay) in cases {
        let mut lone = LoneClient::attached(steady());
        lone.hear(&format!(r#"{{"t":"bye","code":1012,"retryAfter":{millis}}}"#));
        let Status::Detached { retry_at, .. } = lone.client.status() else { panic!("it waits") };
        assert_eq!(retry_at - lone.now, delay, "{millis} ms");
    }
}

#[test]
fn a_refusal_before_the_welcome_says_when_to_come_back_too() {
    let mut lone = LoneClient::new(steady());
    lone.opened();
    lone.hear(r#"{"t":"bye","code":4429,"retryAfter":45000}"#);
    let Status::Detached { retry_at, retry, .. } = lone.client.status() else { panic!("{:?}", lone.client.status()) };
    assert_eq!((retry_at - lone.now, retry), (45 * SECOND, 1));
}

#[test]
fn what_the_server_says_does_not_revive_what_is_hopeless_and_still_counts_as_a_retry() {
    let mut lone = LoneClient::new(steady());
    lone.open_fails(OpenError::Refused { status: 410, retry_after: Some(SECOND) });
    assert!(matches!(lone.client.status(), Status::Failed(_)));
    let mut lone = LoneClient::new(steady());
    for _ in 0..5 {
        lone.open_fails(OpenError::Refused { status: 503, retry_after: Some(SECOND) });
        lone.wait(SECOND);
    }
    lone.open_fails(OpenError::Refused { status: 503, retry_after: Some(SECOND) });
    assert!(matches!(lone.client.status(), Status::Failed(_)));
}

#[test]
fn a_time_beyond_all_clocks_is_waited_for_without_a_panic() {
    let mut lone = LoneClient::new(steady());
    lone.open_fails(OpenError::Refused { status: 503, retry_after: Some(Duration::MAX) });
    assert!(matches!(lone.client.status(), Status::Detached { .. }));
    lone.client.reconnect(lone.now).unwrap();
    assert!(matches!(lone.client.status(), Status::Connecting { .. }));
}

#[test]
fn the_defaults_open_after_five_failures_for_thirty_seconds() {
    let config = steady().reconnect.breaker;
    assert_eq!((config.failures, config.pause), (5, 30 * SECOND));
}

fn unreachable() -> World {
    let mut world = World::new();
    world.road = Road::Failing(OpenError::Unreachable);
    world.add_client(patient(), secrets(1));
    world.pump();
    world
}

fn breaker(world: &World) -> State {
    world.clients[0].client.breaker()
}

fn send_fast(world: &mut World, text: &str) -> MessageId {
    let now = world.now;
    world.clients[0].client.send(Outgoing::from(payload(text)).fail_fast(), now).unwrap()
}
