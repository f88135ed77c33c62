//! When a transport is lost: whether, when and how often another one is tried.

use std::time::Duration;

use harness::alone::LoneClient;
use harness::frames::token;
use harness::net::Arrival;
use harness::net::Way;
use harness::pair::NOW;
use harness::pair::Pair;
use harness::world::Road;
use harness::world::World;
use harness::world::frames_of;
use harness::world::key;
use harness::world::patient;
use harness::world::payload;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Event;
use reattach_core::client::Output;
use reattach_core::client::Status;
use reattach_core::error::ApiMisuse;
use reattach_core::id::TransportId;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::reconnect::Ended;
use reattach_core::reconnect::GiveUp;
use reattach_core::reconnect::Insecure;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Option<u32> = Some(5);

// N19 step 1, S003-15, S003-16, S003-24, S003-50
#[test]
fn five_retries_follow_a_first_try_that_times_out_and_then_trying_stops() {
    let mut world = World::new();
    world.road = Road::Silent;
    world.add_client(steady(), secrets(1));
    let start = world.now;
    let ids = [world.send_up("a"), world.send_up("b")];
    assert_eq!(world.client().client.status(), Status::Connecting { retry: 0, limit: LIMIT });
    for (retry, ends, next) in [(1, 10, 11), (2, 21, 23), (3, 33, 37), (4, 47, 55), (5, 65, 81)] {
        world.run_to(start + ends * SECOND);
        let retry_at = start + next * SECOND;
        assert_eq!(world.client().client.status(), Status::Detached { retry, limit: LIMIT, retry_at });
    }
    world.run_for(60 * SECOND);
    let opens: Vec<_> = world.clients[0].opens.iter().map(|at| (*at - start).as_secs()).collect();
    assert_eq!(opens, [0, 11, 23, 37, 55, 81]);
    let reason = GiveUp::Exhausted { attempts: 5, last: Ended::ConnectTimeout };
    assert_eq!(world.client().client.status(), Status::Failed(reason));
    assert!(world.clients[0].events.contains(&Event::Failed { reason }));
    let not_delivered = Outcome::NotDelivered { reason: NotDelivered::Unreachable };
    assert_eq!(world.outcomes_up(0), ids.map(|id| (id, not_delivered.clone())));
    assert_eq!(world.try_send_up(0, "c"), Err(ApiMisuse::Ended));
    assert_eq!(world.client().client.poll_timeout(), None);
}

// S003-18
#[test]
fn a_reconnect_by_hand_after_trying_stopped_starts_the_count_over() {
    let mut world = World::new();
    world.road = Road::Failing(OpenError::Unreachable);
    world.add_client(steady(), secrets(1));
    world.run_for(60 * SECOND);
    assert_eq!(world.clients[0].opens.len(), 6);
    let now = world.now;
    world.client().client.reconnect(now).expect("it is not over");
    world.run_for(60 * SECOND);
    assert_eq!(world.clients[0].opens.len(), 12);
    world.road = Road::Open;
    let now = world.now;
    world.client().client.reconnect(now).expect("it is not over");
    world.run_for(SECOND);
    world.send_up("at last");
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["at last"]);
}

// N19 step 5, S003-17
#[test]
fn a_flapping_server_is_not_tried_faster_than_the_backoff_allows() {
    let mut world = World::attached();
    let start = world.now;
    for attach in 2.. {
        // Long enough that frames come after the welcome, too short to be stable.
        world.run_for(SECOND / 10);
        world.server.detach(&world.cid(), CloseCode::GOING_AWAY, world.now).expect("it is there");
        world.run_until(60 * SECOND, |world| world.attaches(0).len() == attach);
        if world.now - start > 300 * SECOND {
            break;
        }
    }
    let opens = &world.clients[0].opens;
    assert!((10..=16).contains(&opens.len()), "{} tries in 300 s", opens.len());
    let gaps: Vec<_> = opens.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(gaps[..7], [1, 2, 4, 8, 16, 30, 30]);
}

#[test]
fn a_server_that_closes_at_every_welcome_uses_the_attempts_up() {
    let mut lone = LoneClient::new(steady());
    for _ in 0..6 {
        lone.opened();
        lone.welcomed();
        lone.closed(CloseCode::INTERNAL);
        lone.wait(60 * SECOND);
    }
    assert!(matches!(lone.client.status(), Status::Failed(GiveUp::Exhausted { attempts: 5, .. })));
}

// S003-17
#[test]
fn a_transport_that_was_stable_starts_the_delays_over() {
    let mut world = World::attached();
    for _ in 0..6 {
        world.run_for(6 * SECOND);
        world.cut(0);
        let Status::Detached { retry_at, retry, .. } = world.client().client.status() else { panic!("it was cut") };
        assert_eq!((retry_at - world.now, retry), (SECOND, 1));
        world.run_for(2 * SECOND);
    }
}

#[test]
fn the_delays_after_a_reconnect_by_hand_grow_as_after_any_other() {
    let mut lone = LoneClient::attached(steady());
    lone.client.reconnect(lone.now).expect("it is attached");
    lone.drain();
    let mut delays = Vec::new();
    for _ in 0..5 {
        lone.open_fails(OpenError::Unreachable);
        let Status::Detached { retry_at, .. } = lone.client.status() else { panic!("it waits") };
        delays.push((retry_at - lone.now).as_secs());
        lone.wait(retry_at - lone.now);
    }
    assert_eq!(delays, [1, 2, 4, 8, 16]);
}

// S003-15
#[test]
fn jitter_spreads_the_retries_of_many_clients_below_the_same_ceiling() {
    let mut firsts = Vec::new();
    for seed in 0..50 {
        let mut client = Client::new(client::Config::default(), secrets(1), seed, Instant::ZERO);
        let Some(Output::Open { transport }) = client.poll_output() else { panic!("it opens a transport") };
        let error = OpenError::Unreachable;
        client.handle_input(client::Input::OpenFailed { transport, error }, Instant::ZERO);
        let Status::Detached { retry_at, .. } = client.status() else { panic!("it waits") };
        firsts.push(retry_at.as_millis());
    }
    assert!(firsts.iter().all(|millis| *millis <= 1_000));
    firsts.sort_unstable();
    firsts.dedup();
    assert!(firsts.len() > 40, "{firsts:?}");
    assert!(firsts[0] < 200 && firsts[firsts.len() - 1] > 800, "{firsts:?}");
}

// S003-14, S003-26
// Field notes, section 7
#[test]
fn each_close_code_has_its_policy() {
    let retried = [1000, 1001, 1005, 1006, 1011, 1014, 1015, 3000, 4000, 4400, 4408, 4410, 4425, 4460, 4999];
    for code in retried {
        assert_eq!(after_close(code), Some(1), "{code}");
    }
    for code in [1012, 1013, 4429] {
        assert_eq!(after_close(code), Some(30), "{code}");
    }
    for code in [1002, 1003, 1007, 1010, 4422] {
        assert_eq!(after_close(code), None, "{code}");
    }
    for code in [1008, 1009, 4401, 4403, 4413] {
        assert_eq!(after_close(code), Some(1), "{code}");
    }
}

// S003-26
#[test]
fn each_way_in_which_a_transport_cannot_be_opened_has_its_policy() {
    let refused = |status| OpenError::Refused { status, retry_after: None };
    for error in [OpenError::Unreachable, refused(404), refused(408), refused(500), refused(502)] {
        assert_eq!(after_failed_open(error), Some(1), "{error:?}");
    }
    for error in [refused(429), refused(503)] {
        assert_eq!(after_failed_open(error), Some(30), "{error:?}");
    }
    for error in [OpenError::Insecure(Insecure::Expired), OpenError::WrongProtocol, refused(400), refused(426)] {
        assert_eq!(after_failed_open(error), None, "{error:?}");
    }
    for error in [OpenError::NoCredentials, refused(401), refused(403)] {
        assert_eq!(after_failed_open(error), Some(1), "{error:?}");
    }
}

#[test]
fn a_restarting_server_is_given_five_to_thirty_seconds() {
    let mut delays = Vec::new();
    for seed in 0..50 {
        let mut client = Client::new(client::Config::default(), secrets(1), seed, Instant::ZERO);
        let Some(Output::Open { transport }) = client.poll_output() else { panic!("it opens a transport") };
        client.handle_input(client::Input::Closed { transport, code: CloseCode::RESTART }, Instant::ZERO);
        let Status::Detached { retry_at, .. } = client.status() else { panic!("it waits") };
        delays.push(retry_at.as_millis());
    }
    assert!(delays.iter().all(|millis| (5_000..=30_000).contains(millis)), "{delays:?}");
    assert!(delays.iter().any(|millis| *millis < 12_000) && delays.iter().any(|millis| *millis > 23_000));
}

#[test]
fn refused_credentials_are_asked_for_once_more_and_then_trying_stops() {
    for code in [CloseCode::POLICY, CloseCode::UNAUTHENTICATED, CloseCode::FORBIDDEN] {
        let mut lone = LoneClient::new(steady());
        lone.opened();
        lone.closed(code);
        assert!(matches!(lone.client.status(), Status::Detached { .. }));
        lone.wait(SECOND);
        lone.opened();
        lone.closed(code);
        let reason = GiveUp::Unauthorized { last: Ended::Closed(code) };
        assert_eq!(lone.client.status(), Status::Failed(reason));
    }
}

#[test]
fn each_attempt_carries_the_credentials_that_it_was_given() {
    let mut lone = LoneClient::new(steady());
    for credentials in ["first", "second"] {
        let transport = lone.transport;
        let input = client::Input::Opened { transport, token: Some(token(credentials)) };
        lone.client.handle_input(input, lone.now);
        let challenge = r#"{"t":"challenge","fence":"0123456789abcdef0123456789abcdef"}"#;
        let outputs = [lone.drain(), lone.hear(challenge)].concat();
        let texts =
            outputs.iter().filter_map(|output| if let Output::Write { text, .. } = output { Some(text) } else { None });
        let tokens: Vec<_> = texts
            .flat_map(|text| frames_of(text))
            .filter_map(|frame| if let Frame::Hello(hello) = frame { hello.token } else { None })
            .collect();
        assert_eq!(tokens, [token(credentials), token(credentials)], "the answer to a challenge repeats them");
        lone.closed(CloseCode::ABNORMAL);
        lone.wait(SECOND);
    }
}

#[test]
fn a_bye_and_the_close_that_follows_it_count_once() {
    let mut lone = LoneClient::attached(steady());
    lone.hear(r#"{"t":"bye","code":1012}"#);
    let status = lone.client.status();
    assert!(matches!(status, Status::Detached { retry: 1, .. }));
    assert_eq!(lone.closed(CloseCode::RESTART), []);
    assert_eq!(lone.client.status(), status);
}

// Section 6: too large never loops.
#[test]
fn a_path_that_refuses_a_message_for_its_size_fails_that_message_only() {
    let mut world = World::attached_with(server::Config::default(), patient());
    let too_large = world.send_up(&"x".repeat(100_000));
    for _ in 0..20 {
        world.run_until(120 * SECOND, |world| {
            let refused = |text: &String| text.len() > 50_000;
            let wire = world.live_wire(0);
            let ended = !world.outcomes_up(0).is_empty();
            ended || wire.is_some_and(|wire| world.net.in_flight(wire, Way::Up).iter().any(refused))
        });
        let Some(wire) = world.live_wire(0).filter(|_| world.outcomes_up(0).is_empty()) else { break };
        world.net.drop_texts(wire, Way::Up, |_| true);
        for way in Way::BOTH {
            world.net.put(wire, way, Arrival::Closed(CloseCode::TOO_BIG), world.now);
        }
        world.run_for(SECOND / 10);
    }
    assert!(world.clients[0].opens.len() < 10, "{} tries", world.clients[0].opens.len());
    let next = world.send_up("next");
    world.run_for(60 * SECOND);
    let reason = NotDelivered::Attempts;
    let outcomes = [(too_large, Outcome::NotDelivered { reason }), (next, Outcome::Delivered)];
    assert_eq!(world.outcomes_up(0), outcomes);
}

#[test]
fn a_message_that_is_too_large_does_not_loop_because_the_other_direction_moves() {
    let mut lone = LoneClient::new(patient());
    for round in 1..200_u64 {
        lone.opened();
        lone.welcomed();
        let now = lone.now;
        if lone.client.send(payload("tick").into(), now).is_err() {
            break;
        }
        lone.drain();
        lone.hear(&format!(r#"{{"t":"ack","received":{round},"settled":{round}}}"#));
        lone.closed(CloseCode::TOO_BIG);
        if !matches!(lone.client.status(), Status::Detached { .. }) {
            break;
        }
        lone.wait(31 * SECOND);
    }
    assert_eq!(lone.client.stats().attached, 5);
    assert!(matches!(lone.client.status(), Status::Failed(_)));
}

#[test]
fn when_trying_stops_every_send_has_one_outcome() {
    let mut world = World::attached();
    world.is_reading = false;
    let written = [world.send_up("written 1"), world.send_up("written 2")];
    world.run_for(SECOND);
    world.cut(0);
    world.road = Road::Silent;
    let queued = [world.send_up("queued 1"), world.send_up("queued 2")];
    world.run_for(300 * SECOND);
    let unknown = Outcome::Unknown { reason: Unknown::Unreachable };
    let not_delivered = Outcome::NotDelivered { reason: NotDelivered::Unreachable };
    let expected = [
        (written[0], unknown.clone()),
        (written[1], unknown),
        (queued[0], not_delivered.clone()),
        (queued[1], not_delivered),
    ];
    assert_eq!(world.outcomes_up(0), expected);
    // What was written keeps its place until the server says what became of it.
    let stats = world.client().client.stats();
    assert_eq!((stats.queued, stats.written), (0, 0));
    world.road = Road::Open;
    let now = world.now;
    world.client().client.reconnect(now).expect("it is not over");
    world.is_reading = true;
    world.run_for(30 * SECOND);
    assert_eq!(world.taken_texts(), [""; 0], "what has its outcome is not written behind the application's back");
}

// S003-18
#[test]
fn a_reconnect_by_hand_does_what_each_state_needs() {
    let now = Instant::from_secs(1_000);
    let mut opening = LoneClient::new(steady());
    opening.client.reconnect(now).expect("it is not over");
    assert_eq!(opening.drain(), [], "a transport is being opened");
    opening.opened();
    opening.client.reconnect(now).expect("it is not over");
    assert_eq!(opening.drain(), [], "the server is being asked");

    let mut attached = LoneClient::attached(steady());
    let old = attached.transport;
    attached.client.reconnect(now).expect("it is not over");
    let outputs = attached.drain();
    let ended = Ended::Local;
    assert!(matches!(&outputs[0], Output::Write { text, .. } if text.starts_with(r#"{"t":"bye","code":1000,"#)));
    assert_eq!(
        outputs[1..3],
        [Output::Close { transport: old, code: CloseCode::NORMAL }, Output::Event(Event::Detached { ended })]
    );
    assert!(matches!(outputs[3..], [Output::Open { .. }]));

    let mut waiting = LoneClient::attached(steady());
    waiting.closed(CloseCode::TRY_LATER);
    waiting.client.reconnect(now).expect("it is not over");
    assert!(matches!(waiting.drain()[..], [Output::Open { .. }]));
    assert_eq!(waiting.wait(9 * SECOND), [], "the retry that was due is not made as well");

    let mut failed = LoneClient::attached(steady());
    failed.closed(CloseCode::WEBSOCKET_ERROR);
    failed.client.reconnect(now).expect("it is not over");
    assert!(matches!(failed.drain()[..], [Output::Open { .. }]));

    let mut over = LoneClient::attached(steady());
    over.client.disconnect(now);
    over.drain();
    assert_eq!(over.client.reconnect(now), Err(ApiMisuse::Ended));
    assert_eq!(over.drain(), []);
}

// Found by simulate_hub, seed 1940000014340: the last retry was on its way when the network came back and somebody asked for a
// reconnect. It failed, and trying stopped.
#[test]
fn a_reconnect_by_hand_during_the_last_retry_has_the_retries_counted_again() {
    let mut world = World::new();
    world.road = Road::Silent;
    world.add_client(steady(), secrets(1));
    world.run_for(82 * SECOND);
    assert_eq!(world.client().client.status(), Status::Connecting { retry: 5, limit: LIMIT });

    let now = world.now;
    world.client().client.reconnect(now).expect("it is not over");

    assert_eq!(world.client().client.status(), Status::Connecting { retry: 0, limit: LIMIT });
    world.run_for(9 * SECOND);
    let retry_at = now + 10 * SECOND;
    assert_eq!(world.client().client.status(), Status::Detached { retry: 1, limit: LIMIT, retry_at });
    world.road = Road::Open;
    world.run_for(2 * SECOND);
    assert_eq!(world.client().client.status(), Status::Attached);
}

#[test]
fn what_a_client_took_before_it_gave_up_is_delivered_when_it_tries_again() {
    let mut config = patient();
    config.reconnect.attempts = Some(1);
    let mut world = World::attached_with(server::Config::default(), config);
    world.send_up("earlier, delivered");
    world.run_for(SECOND);
    let wire = world.wire(0);
    world.net.stall(wire, Way::Up);
    let id = world.send_down("taken");
    world.run_for(SECOND);
    assert_eq!(world.clients[0].taken, ["taken"]);
    world.road = Road::Failing(OpenError::Unreachable);
    world.cut(0);
    world.run_for(10 * SECOND);
    assert!(matches!(world.clients[0].client.status(), Status::Failed(_)));
    world.road = Road::Open;
    let now = world.now;
    world.clients[0].client.reconnect(now).expect("it is not over");
    world.run_for(5 * SECOND);
    assert_eq!(world.outcomes_down(), [(id, Outcome::Delivered)]);
}

#[test]
fn what_a_client_had_received_before_it_gave_up_can_still_be_taken() {
    let mut config = patient();
    config.reconnect.attempts = Some(1);
    let mut world = World::attached_with(server::Config::default(), config);
    world.send_up("earlier, delivered");
    world.run_for(SECOND);
    world.clients[0].is_reading = false;
    let id = world.send_down("received");
    world.run_for(SECOND);
    world.road = Road::Failing(OpenError::Unreachable);
    world.cut(0);
    world.run_for(10 * SECOND);
    world.road = Road::Open;
    let now = world.now;
    world.clients[0].client.reconnect(now).expect("it is not over");
    world.run_for(5 * SECOND);
    world.clients[0].is_reading = true;
    world.run_for(5 * SECOND);
    assert_eq!(world.outcomes_down(), [(id, Outcome::Delivered)]);
}

#[test]
fn a_client_that_gave_up_before_its_first_word_arrived_takes_nothing_twice() {
    let mut pair = Pair::new(Some(0));
    pair.attach();
    pair.server.send(&key(1).connection_id(), payload("once").into(), NOW).expect("room");
    pair.down().iter().for_each(|text| pair.client_hears(text));
    assert!(pair.client.take(NOW).is_some());
    drop(pair.up()); // the report is lost with the transport
    let transport = TransportId(1);
    pair.client.handle_input(client::Input::Closed { transport, code: CloseCode::ABNORMAL }, NOW);
    pair.up();
    assert!(matches!(pair.client.status(), Status::Failed(_)));
    pair.client.reconnect(NOW).expect("it is not over");
    pair.up();
    pair.attach();
    assert!(pair.client.take(NOW).is_none(), "it was handed over before");
}

// S003-49, S002-38, S003-02
#[test]
fn the_status_tells_where_the_client_stands() {
    let mut lone = LoneClient::new(steady());
    assert_eq!(lone.client.status(), Status::Connecting { retry: 0, limit: LIMIT });
    lone.opened();
    assert_eq!(lone.client.status(), Status::Connecting { retry: 0, limit: LIMIT });
    lone.welcomed();
    assert_eq!(lone.client.status(), Status::Attached);
    lone.closed(CloseCode::ABNORMAL);
    let retry_at = lone.now + SECOND;
    assert_eq!(lone.client.status(), Status::Detached { retry: 1, limit: LIMIT, retry_at });
    lone.wait(SECOND);
    assert_eq!(lone.client.status(), Status::Connecting { retry: 1, limit: LIMIT });
}

/// The seconds until the retry that follows a close of an attached transport, or none where trying stops.
fn after_close(code: u16) -> Option<u64> {
    let mut lone = LoneClient::attached(steady());
    lone.closed(CloseCode::new(code));
    retry_of(&lone)
}

fn after_failed_open(error: OpenError) -> Option<u64> {
    let mut lone = LoneClient::new(steady());
    lone.open_fails(error);
    retry_of(&lone)
}

fn retry_of(lone: &LoneClient) -> Option<u64> {
    let status = lone.client.status();
    if let Status::Detached { retry_at, .. } = status {
        return Some((retry_at - lone.now).as_secs());
    }
    assert!(matches!(status, Status::Failed(GiveUp::Hopeless { .. })), "neither waiting nor failed but {status:?}");
    None
}
