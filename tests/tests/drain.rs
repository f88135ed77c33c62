//! How a server ends things in good order: it drains.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::time::Duration;

use harness::alone::LoneServer;
use harness::frames::attempt;
use harness::frames::hello;
use harness::net::Way;
use harness::world::Road;
use harness::world::World;
use harness::world::patient;
use harness::world::payload;
use harness::world::secrets;
use reattach_core::client::Event;
use reattach_core::client::Status;
use reattach_core::error::ApiMisuse;
use reattach_core::id::Code;
use reattach_core::id::Name;
use reattach_core::id::TransportId;
use reattach_core::link::Acceptance;
use reattach_core::link::Decision;
use reattach_core::link::Handle;
use reattach_core::link::Outgoing;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::reconnect::Ended;
use reattach_core::server;
use reattach_core::server::Output;
use reattach_core::server::PeerClosed;
use reattach_core::server::PeerEvent;
use reattach_core::server::Unfinished;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;

const SECOND: Duration = Duration::from_secs(1);
const COME_BACK: (Duration, Duration) = (Duration::from_secs(7), Duration::from_secs(7));

#[test]
fn a_draining_server_hands_nothing_more_over_awaits_decisions_and_says_what_became_of_everything() {
    let mut world = deciding();
    let ids = ["decided", "waiting", "waiting too"].map(|text| world.send_up(text));
    world.run_for(SECOND);
    let handle = take(&mut world).expect("the first of the lane");
    drain(&mut world, 10 * SECOND);
    world.run_for(3 * SECOND);
    assert_eq!(world.outcomes_up(0), [], "a decision is awaited");
    assert_eq!(world.try_send_down(&world.cid(), "more"), Err(ApiMisuse::Ended));
    let late = world.send_up("late");
    world.run_for(SECOND);
    let cid = world.cid();
    world.server.decide(&cid, handle, Decision::Accept, world.now).unwrap();
    assert_eq!(take(&mut world), None, "nothing more is handed over");
    world.run_for(SECOND / 10);
    let forgotten = Outcome::NotDelivered { reason: NotDelivered::Forgotten };
    let expected =
        [(ids[0], Outcome::Delivered), (ids[1], forgotten.clone()), (ids[2], forgotten.clone()), (late, forgotten)];
    assert_eq!(world.outcomes_up(0), expected);
    assert_eq!(world.ends(), [PeerClosed::Drained { unfinished: Unfinished::default() }]);
    let frames = world.frames(Way::Down);
    let Some((_, Frame::Bye(bye))) = frames.last() else { panic!("a last word") };
    assert!(!bye.end && bye.is_final && bye.retry_after == Some(7 * SECOND), "{bye:?}");
    assert!(world.clients[0].events.contains(&Event::Detached { ended: Ended::Closed(CloseCode::RESTART) }));
}

#[test]
fn a_client_comes_back_after_the_delay_that_the_draining_server_named() {
    let mut world = World::attached();
    drain(&mut world, 10 * SECOND);
    world.run_for(SECOND / 100);
    let Status::Detached { retry_at, .. } = world.client().client.status() else { panic!("it waits") };
    assert_eq!(retry_at, world.now + 7 * SECOND);
    let id = world.send_up("for the next server");
    world.run_for(8 * SECOND);
    assert_eq!(world.attaches(0), [false, false], "the next server's state is new");
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    world.cut(0);
    world.run_for(10 * SECOND);
    assert_eq!(world.attaches(0), [false, false, true]);
    assert_eq!(world.server.registry().receipts(), 0, "nothing is kept for a client that knows it all");
}

#[test]
fn what_is_in_the_application_s_hands_at_the_deadline_of_a_drain_is_unknown_and_the_deferred_is_rejected() {
    let mut world = deciding();
    let now = world.now;
    let in_lane = |lane: &str| Outgoing::from(payload(lane)).in_lane(Name::new(lane).unwrap());
    let ids = ["held", "busy"].map(|lane| world.client().client.send(in_lane(lane), now).unwrap());
    world.run_for(SECOND);
    let held = take(&mut world).expect("the one lane");
    let busy = take(&mut world).expect("the other lane");
    let cid = world.cid();
    let code = Code::new("busy").unwrap();
    let decision = Decision::Defer { retry_after: Some(2 * SECOND), code: code.clone() };
    world.server.decide(&cid, busy, decision, world.now).unwrap();
    drain(&mut world, 10 * SECOND);
    world.run_for(10 * SECOND - Duration::from_micros(1));
    assert_eq!(world.ends(), []);
    world.run_for(SECOND);
    assert_eq!(
        world.ends(),
        [PeerClosed::Drained { unfinished: Unfinished { undecided: 1, ..Unfinished::default() } }]
    );
    let expected = [
        (ids[0], Outcome::Unknown { reason: Unknown::InHands }),
        (ids[1], Outcome::Rejected { code, reason: String::new() }),
    ];
    assert_eq!(world.outcomes_up(0), expected);
    assert!(world.server.decide(&cid, held, Decision::Accept, world.now).is_err(), "too late");
}

#[test]
fn a_draining_server_waits_for_what_it_sent_to_be_settled() {
    let mut world = World::attached();
    world.clients[0].is_reading = false;
    let id = world.send_down("last");
    world.run_for(SECOND);
    drain(&mut world, 10 * SECOND);
    world.run_for(3 * SECOND);
    assert_eq!(world.ends(), []);
    world.clients[0].is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.outcomes_down(), [(id, Outcome::Delivered)]);
    assert_eq!(world.ends(), [PeerClosed::Drained { unfinished: Unfinished::default() }]);
    assert_eq!(world.clients[0].taken, ["last"]);
}

#[test]
fn a_draining_server_waits_in_vain_for_whoever_is_away_and_keeps_a_receipt() {
    let mut world = deciding();
    let id = world.send_up("refused");
    world.run_for(SECOND);
    let handle = take(&mut world).expect("a message");
    world.road = Road::Silent;
    world.cut(0);
    let down = world.send_down("nobody there");
    drain(&mut world, 5 * SECOND);
    let cid = world.cid();
    let code = Code::new("no").unwrap();
    world.server.decide(&cid, handle, Decision::Reject { code: code.clone(), reason: "x".into() }, world.now).unwrap();
    world.run_for(5 * SECOND);
    assert_eq!(
        world.ends(),
        [PeerClosed::Drained { unfinished: Unfinished { unwritten: 1, ..Unfinished::default() } }]
    );
    assert_eq!(world.outcomes_down(), [(down, Outcome::NotDelivered { reason: NotDelivered::Shutdown })]);
    world.road = Road::Open;
    world.run_for(30 * SECOND);
    assert_eq!(world.attaches(0), [false, false]);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Rejected { code, reason: "x".into() })], "the receipt says so");
}

#[test]
fn a_client_that_comes_back_while_the_server_drains_hears_the_last_word() {
    let mut world = deciding();
    let id = world.send_up("decided");
    world.run_for(SECOND);
    let handle = take(&mut world).expect("a message");
    drain(&mut world, 20 * SECOND);
    world.cut(0);
    world.run_for(2 * SECOND);
    assert_eq!(world.attaches(0), [false, true]);
    let cid = world.cid();
    world.server.decide(&cid, handle, Decision::Accept, world.now).unwrap();
    world.run_for(SECOND / 10);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    assert_eq!(world.ends(), [PeerClosed::Drained { unfinished: Unfinished::default() }]);
}

#[test]
fn each_client_is_asked_to_come_back_at_a_time_of_its_own() {
    let mut world = World::new();
    for number in 1..=20 {
        world.add_client(patient(), secrets(number));
    }
    world.run_for(SECOND);
    let now = world.now;
    world.server.drain(SECOND, (5 * SECOND, 30 * SECOND), now);
    world.run_for(SECOND / 100);
    let delays: BTreeSet<_> = world
        .clients
        .iter()
        .map(|side| {
            let Status::Detached { retry_at, .. } = side.client.status() else { panic!("it waits") };
            retry_at - world.now
        })
        .collect();
    assert!(delays.len() >= 19, "no stampede: {delays:?}");
    assert!(delays.iter().all(|delay| (5 * SECOND..=30 * SECOND).contains(delay)), "{delays:?}");
    assert_eq!(world.server.registry().connections(), 0);
}

/// A server that decides about each message, with one client, attached.
fn deciding() -> World {
    let mut config = server::Config::default();
    config.connection.link.acceptance = Acceptance::Manual;
    let mut world = World::attached_with(config, patient());
    world.is_reading = false;
    world
}

/// The server's application takes the next message.
fn take(world: &mut World) -> Option<Handle> {
    let cid = world.cid();
    let now = world.now;
    world.server.take(&cid, now)?.handle()
}

fn drain(world: &mut World, patience: Duration) {
    let now = world.now;
    world.server.drain(patience, COME_BACK, now);
}

/// A server whose application decides, and a client of it whose credentials are good for so long.
fn admitted_for(duration: Duration) -> (LoneServer, TransportId) {
    let mut config = server::Config::default();
    config.authenticate = true;
    config.connection.link.acceptance = Acceptance::Manual;
    let mut lone = LoneServer::new(config);
    let (transport, _) = lone.admit(hello(1), "ann", Some(duration));
    (lone, transport)
}

#[test]
fn nothing_ephemeral_is_handed_over_by_a_draining_server() {
    let mut config = server::Config::default();
    config.connection.link.acceptance = Acceptance::Manual;
    let mut lone = LoneServer::new(config);
    let cid = hello(1).cid;
    let transport = lone.greet(hello(1));
    lone.hear_message(transport, 1, "in hands, so that the drain lasts");
    assert!(lone.server.take(&cid, lone.now).is_some());
    lone.server.drain(10 * SECOND, (SECOND, SECOND), lone.now);
    lone.drain();
    lone.hear(transport, r#"{"t":"msg","key":"k","d":1}"#);
    assert_eq!(lone.server.take(&cid, lone.now), None);
}

// Found by reading: the transport was closed without it, and nobody was let in again to hear it.
#[test]
fn credentials_that_run_out_while_the_server_drains_cost_nobody_the_last_word() {
    let (mut lone, transport) = admitted_for(5 * SECOND);
    lone.hear(transport, "{\"t\":\"msg\",\"seq\":1,\"d\":1}\n{\"t\":\"msg\",\"seq\":2,\"d\":2}");
    let cid = hello(1).cid;
    assert!(lone.server.take(&cid, lone.now).is_some());
    lone.server.drain(20 * SECOND, (SECOND, SECOND), lone.now);
    lone.drain();
    lone.now = lone.now + 5 * SECOND;
    lone.server.handle_timeout(lone.now);
    let is_last_word = |output: &Output| matches!(output, Output::Write { text, .. } if text.contains(r#""received":2"#) && text.contains(r#""final":true"#));
    assert!(lone.drain().iter().any(is_last_word));
}

#[test]
fn credentials_that_run_out_after_the_goodbye_do_not_take_the_decision_away() {
    for drains in [false, true] {
        let (mut lone, transport) = admitted_for(5 * SECOND);
        lone.hear(transport, r#"{"t":"msg","seq":1,"d":1}"#);
        let cid = hello(1).cid;
        let taken = lone.server.take(&cid, lone.now).expect("it came");
        if drains {
            lone.server.drain(20 * SECOND, (SECOND, SECOND), lone.now);
        }
        lone.hear(transport, r#"{"t":"bye","code":1000,"end":true}"#);
        lone.now = lone.now + 6 * SECOND;
        let handle = taken.handle().expect("a manual acceptance");
        assert_eq!(lone.server.decide(&cid, handle, Decision::Accept, lone.now), Ok(()), "{drains}");
    }
}

#[test]
fn a_draining_server_hands_nothing_over_of_an_epoch_that_begins_meanwhile() {
    let mut lone = LoneServer::new(server::Config::default());
    let cid = hello(1).cid;
    let transport = lone.greet(hello(1));
    lone.hear_message(transport, 1, "1");
    assert!(lone.server.take(&cid, lone.now).is_some());
    // It may be sent again in the next epoch, so the connection waits for it.
    let message = Outgoing::from(payload("open")).idempotent();
    lone.server.send(&cid, message, lone.now).unwrap();
    lone.drain();
    let epoch = lone.server.peer(&cid).unwrap().connection().epoch();
    lone.server.drain(10 * SECOND, (SECOND, SECOND), lone.now);
    lone.drain();
    lone.closed(transport);
    // An older copy of the client, which has not sent what was taken.
    let transport = lone.greet(Hello { attempt: attempt(2), epoch, ..hello(1) });
    assert_ne!(lone.server.peer(&cid).unwrap().connection().epoch(), epoch);
    lone.hear_message(transport, 1, "2");
    assert_eq!(lone.server.take(&cid, lone.now), None);
}

#[test]
fn a_lease_and_credentials_that_run_out_together_leave_nothing_undone_in_a_drain() {
    let (mut lone, transport) = admitted_for(5 * SECOND);
    lone.hear(transport, r#"{"t":"msg","seq":1,"d":1}"#);
    let cid = hello(1).cid;
    let taken = lone.server.take(&cid, lone.now).expect("it came");
    lone.server.extend(&cid, taken.handle().unwrap(), 4 * SECOND, lone.now).unwrap();
    lone.server.drain(20 * SECOND, (SECOND, SECOND), lone.now);
    lone.drain();
    lone.now = lone.now + 5 * SECOND;
    lone.server.handle_timeout(lone.now);
    let ends = lone.drain().into_iter().filter_map(|output| match output {
        Output::Peer { event: PeerEvent::Closed { reason }, .. } => Some(reason),
        Output::Peer { .. } | Output::Write { .. } | Output::Close { .. } | Output::Authenticate { .. } => None,
        Output::Registry(_) => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [PeerClosed::Drained { unfinished: Unfinished::default() }]);
}

#[test]
fn a_drain_counts_what_was_written_and_has_no_outcome() {
    let mut world = World::attached();
    world.clients[0].is_reading = false;
    world.send_down("taken by nobody");
    world.run_for(SECOND);
    drain(&mut world, 5 * SECOND);
    world.run_for(6 * SECOND);
    let unfinished = Unfinished { unsettled: 1, ..Unfinished::default() };
    assert_eq!(world.ends(), [PeerClosed::Drained { unfinished }]);
}
