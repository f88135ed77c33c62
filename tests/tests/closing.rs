//! How a connection ends on purpose: at once, with patience, from either side, and what becomes of the messages.

use std::time::Duration;

use harness::alone::LoneClient;
use harness::net::Arrival;
use harness::net::Way;
use harness::pair::NOW;
use harness::pair::Pair;
use harness::world::Road;
use harness::world::World;
use harness::world::patient;
use harness::world::payload;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client::Client;
use reattach_core::client::Closed;
use reattach_core::client::Event;
use reattach_core::client::OnSuperseded;
use reattach_core::client::Output;
use reattach_core::client::Status;
use reattach_core::error::ApiMisuse;
use reattach_core::link::Acceptance;
use reattach_core::link::Decision;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::server::PeerClosed;
use reattach_core::server::PeerEvent;
use reattach_core::server::RegistryEvent;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;

const SECOND: Duration = Duration::from_secs(1);

// N19 step 7, S003-52, S000-28
#[test]
fn after_a_disconnect_in_any_state_nothing_is_left_to_do() {
    for (name, mut lone) in every_state() {
        lone.client.disconnect(lone.now);
        let outputs = lone.drain();
        let over = matches!(lone.client.status(), Status::Closed(_));
        assert!(over, "{name}");
        assert_eq!(lone.client.poll_timeout(), None, "{name}: a timer is left");
        assert_eq!(lone.wait(600 * SECOND), [], "{name}");
        assert!(!outputs.iter().any(|output| matches!(output, Output::Open { .. })), "{name}");
    }
}

#[test]
fn a_client_that_is_over_waits_for_nothing() {
    let mut pair = Pair::new(None);
    pair.attach();
    pair.client.disconnect(NOW);
    pair.up();
    assert_eq!(pair.client.poll_timeout(), None, "every timer stops");
}

// S001-33
#[test]
fn a_second_disconnect_is_silent() {
    for (name, mut lone) in every_state() {
        lone.client.disconnect(lone.now);
        lone.drain();
        let before = lone.client.clone();
        lone.client.disconnect(lone.now);
        lone.client.close(SECOND, lone.now);
        assert_eq!(lone.drain(), [], "{name}");
        assert_eq!(lone.client, before, "{name}");
    }
}

#[test]
fn every_message_has_one_outcome_after_a_disconnect_in_any_state() {
    for (name, mut lone) in every_state() {
        let sent = lone.client.send(payload("1").into(), lone.now);
        let mut outputs = lone.drain();
        lone.client.disconnect(lone.now);
        outputs.extend(lone.drain());
        let failed = outputs.iter().filter(|output| matches!(output, Output::Event(Event::SendFailed(_)))).count();
        assert_eq!(failed, usize::from(sent.is_ok()), "{name}");
        assert_eq!(lone.client.send(payload("2").into(), lone.now), Err(ApiMisuse::Ended), "{name}");
    }
}

#[test]
fn a_disconnect_says_goodbye_where_somebody_hears_it() {
    let mut world = World::attached();
    let now = world.now;
    world.client().client.disconnect(now);
    world.run_for(SECOND / 10);
    assert_eq!(world.server.registry().connections(), 0, "the server need not wait for the ttl");
    let reason = PeerClosed::ByPeer { code: CloseCode::NORMAL, reason: String::new() };
    assert!(world.peer_events.iter().any(|(_, event)| *event == PeerEvent::Closed { reason: reason.clone() }));
    assert_eq!(world.server.registry().transports(), 0);
}

#[test]
fn a_disconnect_tells_apart_what_was_written_and_what_was_not() {
    let mut world = World::attached();
    world.is_reading = false;
    let written = world.send_up("written");
    world.run_for(SECOND);
    world.cut(0);
    let queued = world.send_up("queued");
    let now = world.now;
    world.client().client.disconnect(now);
    world.run_for(SECOND);
    let expected = [
        (written, Outcome::Unknown { reason: Unknown::Closed }),
        (queued, Outcome::NotDelivered { reason: NotDelivered::Closed }),
    ];
    assert_eq!(world.outcomes_up(0), expected);
    assert_eq!(world.client().client.status(), Status::Closed(Closed::Cut));
}

#[test]
fn a_close_with_nothing_to_send_ends_at_once_in_any_state() {
    for (name, mut lone) in every_state() {
        if lone.client.stats().queued + lone.client.stats().written > 0 {
            continue;
        }
        lone.client.close(60 * SECOND, lone.now);
        lone.drain();
        assert_eq!(lone.client.status(), Status::Closed(Closed::Flushed), "{name}");
        assert_eq!(lone.client.poll_timeout(), None, "{name}: a timer is left");
    }
}

#[test]
fn a_close_with_messages_waits_at_most_its_patience_in_any_state() {
    for (name, mut lone) in every_state() {
        if lone.client.send(payload("1").into(), lone.now).is_err() {
            continue;
        }
        lone.is_draining = false;
        lone.drain();
        let end = lone.now + 3 * SECOND;
        lone.client.close(3 * SECOND, lone.now);
        assert!(!matches!(lone.client.status(), Status::Closed(_)), "{name}");
        assert_eq!(lone.client.send(payload("2").into(), lone.now), Err(ApiMisuse::Ended), "{name}");
        lone.wait(end - lone.now);
        assert_eq!(lone.client.status(), Status::Closed(Closed::Cut), "{name}");
        assert_eq!(lone.client.poll_timeout(), None, "{name}: a timer is left");
    }
}

#[test]
fn a_close_waits_until_every_message_has_its_outcome() {
    let mut world = World::attached();
    let id = world.send_up("last words");
    let now = world.now;
    world.client().client.close(60 * SECOND, now);
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    assert_eq!(world.client().client.status(), Status::Closed(Closed::Flushed));
    assert_eq!(world.taken_texts(), ["last words"]);
    assert_eq!(world.server.registry().connections(), 0);
}

#[test]
fn a_close_while_detached_reattaches_to_flush() {
    let mut world = World::attached();
    world.cut(0);
    let id = world.send_up("last words");
    let now = world.now;
    world.client().client.close(60 * SECOND, now);
    world.run_for(10 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    assert_eq!(world.client().client.status(), Status::Closed(Closed::Flushed));
}

#[test]
fn a_close_whose_tries_run_out_ends_before_its_patience() {
    let mut world = World::attached();
    world.cut(0);
    world.road = Road::Failing(OpenError::Unreachable);
    let id = world.send_up("never");
    let now = world.now;
    world.client().client.close(600 * SECOND, now);
    world.run_for(60 * SECOND);
    let reason = NotDelivered::Unreachable;
    assert_eq!(world.outcomes_up(0), [(id, Outcome::NotDelivered { reason })]);
    assert_eq!(world.client().client.status(), Status::Closed(Closed::Cut));
    assert_eq!(world.client().client.poll_timeout(), None);
}

#[test]
fn a_second_close_can_only_shorten_the_patience() {
    let mut world = World::attached();
    world.is_reading = false;
    world.send_up("never taken");
    let now = world.now;
    for patience in [20, 5, 60] {
        world.client().client.close(patience * SECOND, now);
    }
    world.run_for(5 * SECOND);
    assert_eq!(world.client().client.status(), Status::Closed(Closed::Cut));
}

#[test]
fn a_close_that_is_overtaken_by_a_clone_is_cut() {
    let mut world = World::new();
    let mut s = secrets(1);
    s.spare = None;
    world.add_client(patient(), s);
    world.run_for(SECOND);
    world.is_reading = false;
    world.send_up("written");
    world.run_for(SECOND);
    let now = world.now;
    world.clients[0].client.close(100 * SECOND, now);
    let wire = world.wire(0);
    world.net.put(wire, Way::Down, Arrival::Closed(CloseCode::SUPERSEDED), now);
    world.run_for(SECOND);
    assert_eq!(world.clients[0].client.status(), Status::Closed(Closed::Cut));
}

#[test]
fn a_server_that_ends_a_connection_says_what_became_of_each_message() {
    let mut world = World::attached();
    world.is_reading = false;
    let wire = world.wire(0);
    let taken = world.send_up("taken");
    let held = world.send_up("held");
    world.run_for(SECOND / 10);
    world.net.drop_texts(wire, Way::Down, |_| true);
    let cid = world.cid();
    assert!(world.take_from(&cid));
    world.pump();
    world.net.drop_texts(wire, Way::Down, |_| true);
    let unreceived = world.send_up("crossing the goodbye");
    world.pump();
    world.server.disconnect(&cid, world.now).expect("it is there");
    world.run_for(SECOND);
    let reason = NotDelivered::Forgotten;
    let expected = [
        (taken, Outcome::Delivered),
        (held, Outcome::NotDelivered { reason }),
        (unreceived, Outcome::NotDelivered { reason }),
    ];
    assert_eq!(world.outcomes_up(0), expected);
    let closed = Closed::ByPeer { code: CloseCode::ENDED, reason: String::new() };
    assert_eq!(world.client().client.status(), Status::Closed(closed));
    assert_eq!(world.client().client.poll_timeout(), None);
    assert_eq!(world.taken_texts(), ["taken"]);
}

#[test]
fn what_a_client_never_wrote_is_not_delivered_when_the_server_ends() {
    let mut lone = LoneClient::attached(steady());
    lone.is_draining = false;
    let large = "x".repeat(1_500_000);
    let written = lone.client.send(payload(&large).into(), lone.now).expect("room");
    lone.drain();
    let queued = lone.client.send(payload("behind it").into(), lone.now).expect("room");
    assert_eq!(lone.client.stats().queued, 1);
    let outputs = lone.hear(r#"{"t":"bye","code":4410,"end":true}"#);
    let told = format!("{outputs:?}");
    assert!(told.contains(&format!("{written}, failure: ForGood(Unknown {{ reason: Ended }})")), "{told}");
    assert!(told.contains(&format!("{queued}, failure: ForGood(NotDelivered {{ reason: Ended }})")), "{told}");
}

#[test]
fn a_server_closes_with_patience_as_a_client_does() {
    let mut world = World::attached();
    world.clients[0].is_reading = false;
    let id = world.send_down("last words");
    let cid = world.cid();
    world.server.close(&cid, 60 * SECOND, world.now).expect("it is there");
    world.run_for(SECOND);
    assert_eq!(world.try_send_down(&cid, "more"), Err(ApiMisuse::Ended));
    world.clients[0].is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.outcomes_down(), [(id, Outcome::Delivered)]);
    assert!(matches!(world.client().client.status(), Status::Closed(Closed::ByPeer { .. })));
    assert!(world.registry_events.contains(&RegistryEvent::Removed { cid }));
    assert_eq!(world.clients[0].taken, ["last words"]);
}

#[test]
fn a_connection_that_the_server_ended_while_its_client_was_away_leaves_a_final_receipt() {
    let mut world = World::attached_with(server::Config::default(), patient());
    world.is_reading = false;
    let held = world.send_up("held");
    world.run_for(SECOND);
    world.cut(0);
    let cid = world.cid();
    world.server.disconnect(&cid, world.now).expect("it is there");
    world.is_reading = true;
    world.run_for(10 * SECOND);
    let reason = NotDelivered::Forgotten;
    assert_eq!(world.outcomes_up(0), [(held, Outcome::NotDelivered { reason })]);
    assert_eq!(world.attaches(0), [false, false]);
    assert_eq!(world.taken_texts(), [""; 0]);
}

#[test]
fn both_sides_may_close_at_once() {
    let mut world = World::attached();
    let (up, down) = (world.send_up("up"), world.send_down("down"));
    world.run_for(SECOND);
    let (now, cid) = (world.now, world.cid());
    world.client().client.close(SECOND, now);
    world.server.close(&cid, SECOND, now).expect("it is there");
    world.run_for(5 * SECOND);
    assert_eq!(world.outcomes_up(0), [(up, Outcome::Delivered)]);
    assert_eq!(world.outcomes_down(), [(down, Outcome::Delivered)]);
    assert!(matches!(world.client().client.status(), Status::Closed(_)));
    assert_eq!(world.server.registry().connections(), 0);
}

#[test]
fn nothing_is_told_after_the_end() {
    let mut world = World::attached();
    world.is_reading = false;
    world.clients[0].is_reading = false;
    world.send_up("written");
    world.send_down("written");
    world.run_for(SECOND);
    world.road = Road::Silent;
    world.cut(0);
    world.send_up("queued");
    world.send_down("queued");
    let now = world.now;
    world.client().client.disconnect(now);
    world.run_for(120 * SECOND);
    assert!(matches!(world.clients[0].events.last(), Some(Event::Closed { .. })), "{:?}", world.clients[0].events);
    assert!(matches!(world.peer_events.last(), Some((_, PeerEvent::Closed { .. }))), "{:?}", world.peer_events);
    assert_eq!((world.outcomes_up(0).len(), world.outcomes_down().len()), (2, 2));
}

#[test]
fn a_close_code_alone_never_ends_a_connection() {
    for code in (1000..1016).chain(4400..4500) {
        let mut lone = LoneClient::attached(steady());
        lone.closed(CloseCode::new(code));
        assert!(!matches!(lone.client.status(), Status::Closed(_)), "{code}");
    }
}

#[test]
fn a_client_that_was_never_attached_can_be_closed() {
    let mut client = Client::new(steady(), secrets(1), 0, Instant::ZERO);
    client.close(SECOND, Instant::ZERO);
    assert_eq!(client.status(), Status::Closed(Closed::Flushed));
}

#[test]
fn no_decision_counts_after_a_close_that_nobody_hears() {
    let mut config = patient();
    config.connection.link.acceptance = Acceptance::Manual;
    config.reconnect.attempts = Some(1);
    let mut world = World::attached_with(server::Config::default(), config);
    world.send_down("in hands");
    world.send_up("never");
    world.pump();
    world.run_for(SECOND / 100);
    world.cut(0);
    world.road = Road::Failing(OpenError::Unreachable);
    world.send_up("flushed by nobody");
    let now = world.now;
    world.client().client.close(600 * SECOND, now);
    world.run_for(120 * SECOND);
    assert_eq!(world.client().client.status(), Status::Closed(Closed::Cut));
    let handle = world.clients[0].deliveries[0].handle().expect("it is decided about by hand");
    let now = world.now;
    assert_eq!(world.client().client.decide(handle, Decision::Accept, now), Err(ApiMisuse::Undecidable));
}

/// A client in each of its states, with a name.
fn every_state() -> Vec<(&'static str, LoneClient)> {
    let opening = LoneClient::new(steady());
    let mut greeting = opening.clone();
    greeting.opened();
    let attached = LoneClient::attached(steady());
    let mut stable = attached.clone();
    stable.wait(10 * SECOND);
    let mut waiting = attached.clone();
    waiting.closed(CloseCode::ABNORMAL);
    let mut failed = attached.clone();
    failed.closed(CloseCode::WEBSOCKET_ERROR);
    let mut config = steady();
    config.on_superseded = OnSuperseded::Stop;
    let mut superseded = LoneClient::attached(config);
    superseded.closed(CloseCode::SUPERSEDED);
    let mut renewed = attached.clone();
    renewed.closed(CloseCode::SUPERSEDED);
    vec![
        ("opening", opening),
        ("greeting", greeting),
        ("attached", attached),
        ("attached for long", stable),
        ("waiting", waiting),
        ("failed", failed),
        ("superseded", superseded),
        ("renewed", renewed),
    ]
}
