//! How a server ends things in good order: draining, revoking, and credentials that run out.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::time::Duration;

use harness::alone::LoneClient;
use harness::alone::LoneServer;
use harness::alone::mint;
use harness::frames::attempt;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::frames::token;
use harness::net::Way;
use harness::world::Road;
use harness::world::World;
use harness::world::patient;
use harness::world::payload;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client::Closed;
use reattach_core::client::Event;
use reattach_core::client::Output as ClientOutput;
use reattach_core::client::Status;
use reattach_core::connection::Incoming;
use reattach_core::error::ApiMisuse;
use reattach_core::id::Code;
use reattach_core::id::Name;
use reattach_core::id::Principal;
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
use reattach_core::server::Admission;
use reattach_core::server::Answer;
use reattach_core::server::Command;
use reattach_core::server::Output;
use reattach_core::server::PeerClosed;
use reattach_core::server::PeerEvent;
use reattach_core::server::Registry;
use reattach_core::server::RegistryInput;
use reattach_core::server::RegistryOutput;
use reattach_core::server::Unfinished;
use reattach_core::time::Instant;
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
    assert_eq!(ends(&world), [PeerClosed::Drained { unfinished: Unfinished::default() }]);
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
    assert_eq!(ends(&world), []);
    world.run_for(SECOND);
    assert_eq!(
        ends(&world),
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
    assert_eq!(ends(&world), []);
    world.clients[0].is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.outcomes_down(), [(id, Outcome::Delivered)]);
    assert_eq!(ends(&world), [PeerClosed::Drained { unfinished: Unfinished::default() }]);
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
        ends(&world),
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
    assert_eq!(ends(&world), [PeerClosed::Drained { unfinished: Unfinished::default() }]);
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

#[test]
fn a_client_that_is_revoked_is_told_and_ends() {
    let mut world = World::attached();
    world.is_reading = false;
    let up = world.send_up("up");
    world.run_for(SECOND);
    let cid = world.cid();
    world.server.revoke(&cid, world.now).unwrap();
    world.run_for(SECOND);
    let Status::Closed(Closed::ByPeer { code, .. }) = world.client().client.status() else { panic!("it is over") };
    assert_eq!(code, CloseCode::FORBIDDEN);
    assert_eq!(code.get(), 4403);
    assert_eq!(ends(&world), [PeerClosed::Revoked]);
    assert_eq!(world.outcomes_up(0), [(up, Outcome::NotDelivered { reason: NotDelivered::Forgotten })]);
    let registry = world.server.registry();
    assert_eq!((registry.connections(), registry.transports()), (0, 0));
    assert_eq!(world.server.revoke(&cid, world.now), Err(ApiMisuse::UnknownConnection));
    world.run_for(25 * 3_600 * SECOND);
    assert_eq!(world.server.registry().receipts(), 0);
    assert_eq!(world.server.poll_timeout(), None);
}

#[test]
fn a_client_that_is_revoked_while_it_is_away_begins_anew_and_learns_what_became_of_its_messages() {
    let mut world = World::attached();
    let cid = world.cid();
    world.road = Road::Silent;
    world.is_reading = false;
    let up = world.send_up("up");
    world.run_for(SECOND);
    world.cut(0);
    world.server.revoke(&cid, world.now).unwrap();
    world.pump();
    let registry = world.server.registry();
    assert_eq!((registry.connections(), registry.transports()), (0, 0));
    assert_eq!(ends(&world), [PeerClosed::Revoked]);
    world.road = Road::Open;
    world.run_for(30 * SECOND);
    assert_eq!(world.attaches(0), [false, false], "nothing of the old one goes on");
    assert_eq!(world.outcomes_up(0), [(up, Outcome::NotDelivered { reason: NotDelivered::Forgotten })]);
}

#[test]
fn revoking_a_principal_ends_each_of_its_connections_and_no_other() {
    let config = authenticating();
    let mut world = World::with_server(config);
    for (number, name) in [(1, "ann"), (2, "bob"), (3, "ann")] {
        world.accounts.insert(name.into(), name.into());
        let client = world.add_client(steady(), secrets(number));
        world.clients[client].token = Some(token(name));
    }
    world.run_for(SECOND);
    world.cut(2);
    let ann = Principal::Named(Name::new("ann").unwrap());
    assert_eq!(world.server.revoke_all(&ann, world.now), 2);
    assert_eq!(world.server.revoke_all(&ann, world.now), 0);
    assert_eq!(world.server.registry().connections(), 1);
    world.run_for(SECOND / 2);
    assert!(matches!(world.clients[0].client.status(), Status::Closed(Closed::ByPeer { .. })));
    assert_eq!(world.clients[1].client.status(), Status::Attached);
    // Its principal may begin as many connections again as before.
    world.run_for(10 * SECOND);
    assert_eq!(world.server.registry().connections(), 2);
}

#[test]
fn a_hello_that_was_let_in_before_a_revocation_and_waits_has_to_be_let_in_again() {
    let now = Instant::from_secs(1_000);
    let mut registry = Registry::new(server::Config::default(), now);
    let peer = greet_registry(&mut registry, 1, 1);
    // The peer has not answered yet, so the next hello waits.
    greet_registry(&mut registry, 2, 2);
    let cid = hello(1).cid;
    assert!(registry.revoke(&cid, now));
    let outputs = outputs_of(&mut registry);
    assert!(outputs.iter().any(|output| matches!(output, RegistryOutput::Command { command: Command::Revoke, .. })));
    let refused = RegistryOutput::Close { transport: TransportId(2), code: CloseCode::UNAUTHENTICATED };
    assert!(outputs.contains(&refused), "{outputs:?}");
    let peer = peer.expect("a peer was made");
    registry.handle_input(RegistryInput::Answered { peer, answer: Answer::Ended { receipt: None } }, now);
    assert_eq!((registry.connections(), registry.transports(), registry.receipts()), (0, 0, 0));
    assert_eq!(registry.poll_timeout(), None);
}

#[test]
fn a_hello_that_waits_goes_on_waiting_where_somebody_else_is_revoked() {
    let now = Instant::from_secs(1_000);
    let mut registry = Registry::new(server::Config::default(), now);
    greet_registry(&mut registry, 1, 1);
    greet_registry(&mut registry, 2, 2);
    let somebody = Principal::Named(Name::new("somebody").unwrap());
    assert_eq!(registry.revoke_all(&somebody, now), 0);
    assert_eq!(outputs_of(&mut registry), []);
}

#[test]
fn a_peer_that_dies_while_its_connection_says_hello_again_leaves_a_receipt_that_is_not_final_and_the_hello_begins_anew()
{
    let now = Instant::from_secs(1_000);
    let mut registry = Registry::new(server::Config::default(), now);
    let peer = greet_registry(&mut registry, 1, 1).expect("a peer was made");
    assert_eq!(greet_registry(&mut registry, 2, 2), None, "it waits");
    registry.handle_input(RegistryInput::PeerGone { peer }, now);
    let outputs = outputs_of(&mut registry);
    let created = outputs.iter().find_map(|output| match output {
        RegistryOutput::Create(origin) => Some(origin.id),
        RegistryOutput::Write { .. }
        | RegistryOutput::Close { .. }
        | RegistryOutput::Authenticate { .. }
        | RegistryOutput::Command { .. }
        | RegistryOutput::Event(_) => None,
    });
    let successor = created.expect("the hello that waited has another peer");
    assert_ne!(successor, peer);
    let is_attach = |output: &RegistryOutput| {
        matches!(output, RegistryOutput::Command { peer, command: Command::Attach(attach) }
            if *peer == successor && attach.transport == TransportId(2))
    };
    assert!(outputs.iter().any(is_attach), "{outputs:?}");
    assert_eq!((registry.connections(), registry.receipts()), (1, 1));
    // What the dead one still says changes nothing.
    registry.handle_input(RegistryInput::PeerGone { peer }, now);
    registry.handle_input(RegistryInput::Answered { peer, answer: Answer::Ended { receipt: None } }, now);
    assert_eq!(registry.connections(), 1);
    let answer = Answer::Attached { transport: TransportId(2), epoch: mint(2).epoch, is_named: false };
    registry.handle_input(RegistryInput::Answered { peer: successor, answer }, now);
    assert!(registry.is_reachable(&hello(1).cid));
}

#[test]
fn credentials_that_run_out_close_the_transport_and_keep_the_state() {
    let config = authenticating();
    let mut lone = LoneServer::new(config);
    let first = admit(&mut lone, 1, None, Some(15 * SECOND));
    lone.hear(first, r#"{"t":"msg","seq":1,"d":"kept"}"#);
    let outputs = lone.wait(15 * SECOND - Duration::from_micros(1));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Close { .. })));
    let outputs = lone.wait(Duration::from_micros(1));
    let close = Output::Close { transport: first, code: CloseCode::UNAUTHENTICATED };
    assert!(outputs.contains(&close), "{outputs:?}");
    let cid = hello(1).cid;
    let event = PeerEvent::Detached { ended: Ended::CredentialsExpired };
    assert!(outputs.contains(&Output::Peer { cid, event }), "{outputs:?}");
    let current = lone.server.peer(&cid).unwrap().connection().epoch();
    let second = admit(&mut lone, 2, current, Some(15 * SECOND));
    assert_ne!(first, second);
    assert_eq!(lone.server.peer(&cid).unwrap().stats().resumed, 1);
    assert_eq!(lone.server.take(&cid, lone.now).unwrap().payload().as_str(), r#""kept""#);
    // The second ones start their own time; credentials that hold for ever have none.
    lone.wait(14 * SECOND);
    assert!(lone.server.peer(&cid).unwrap().is_attached());
    let third = admit(&mut lone, 3, current, None);
    for _ in 0..4 {
        lone.wait(10 * SECOND);
        lone.hear(third, r#"{"t":"ack","received":0}"#);
    }
    assert!(lone.server.peer(&cid).unwrap().is_attached());
}

#[test]
fn a_client_whose_credentials_ran_out_comes_back_with_fresh_ones() {
    let mut lone = LoneClient::attached(steady());
    lone.client.send(payload("kept").into(), lone.now).unwrap();
    lone.drain();
    lone.closed(CloseCode::UNAUTHENTICATED);
    assert!(matches!(lone.client.status(), Status::Detached { retry: 1, .. }));
    let outputs = lone.wait(SECOND);
    assert!(outputs.iter().any(|output| matches!(output, ClientOutput::Open { .. })), "it asks for credentials anew");
    lone.opened();
    let outputs = lone.welcomed();
    assert!(outputs.contains(&ClientOutput::Event(Event::Attached { resumed: true })));
    lone.hear(r#"{"t":"ack","received":1,"settled":1}"#);
    assert_eq!(lone.client.stats().written, 0);
    // The next time too, for these were good.
    lone.closed(CloseCode::UNAUTHENTICATED);
    assert!(matches!(lone.client.status(), Status::Detached { .. }));
}

#[test]
fn credentials_that_have_run_out_already_let_nobody_in() {
    let config = authenticating();
    let mut lone = LoneServer::new(config);
    let transport = admit(&mut lone, 1, None, Some(Duration::ZERO));
    let registry = lone.server.registry();
    assert_eq!((registry.connections(), registry.transports()), (0, 0), "{transport:?}");
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

fn ends(world: &World) -> Vec<PeerClosed> {
    let events = world.peer_events.iter();
    events
        .filter_map(|(_, event)| if let PeerEvent::Closed { reason } = event { Some(reason.clone()) } else { None })
        .collect()
}

/// The client of number 1 says hello for the n-th time, and its credentials hold for so long.
fn admit(
    lone: &mut LoneServer,
    number: u64,
    epoch: Option<reattach_core::id::Epoch>,
    holds: Option<Duration>,
) -> TransportId {
    let mut hello = hello(1);
    (hello.attempt, hello.epoch) = (attempt(number), epoch);
    if epoch.is_some() {
        hello.sent = harness::frames::seq(1);
    }
    let transport = lone.greet(hello);
    let principal = Principal::Named(Name::new("ann").unwrap());
    let admission = Admission { principal, expires: holds.map(|holds| lone.now + holds) };
    let input = server::Input::Authenticated { transport, admission: Some(admission) };
    lone.server.handle_input(input, lone.now);
    lone.drain();
    transport
}

/// The client of number 1 says hello for the n-th time on a transport of that number. Returns the peer that was made for it.
fn greet_registry(registry: &mut Registry, number: u64, hello_no: u64) -> Option<server::PeerId> {
    let now = Instant::from_secs(1_000);
    let transport = TransportId(number);
    registry.handle_input(RegistryInput::Accepted { transport, address: None, mint: mint(number) }, now);
    let mut hello = hello(1);
    hello.attempt = attempt(hello_no);
    let text = hello_text(hello);
    registry.handle_input(RegistryInput::Received { transport, incoming: Incoming::Text(&text) }, now);
    outputs_of(registry).into_iter().find_map(|output| match output {
        RegistryOutput::Create(origin) => Some(origin.id),
        RegistryOutput::Write { .. }
        | RegistryOutput::Close { .. }
        | RegistryOutput::Authenticate { .. }
        | RegistryOutput::Command { .. }
        | RegistryOutput::Event(_) => None,
    })
}

fn outputs_of(registry: &mut Registry) -> Vec<RegistryOutput> {
    core::iter::from_fn(|| registry.poll_output()).collect()
}

/// A server whose application decides, and a client of it whose credentials are good for so long.
fn admitted_for(duration: Duration) -> (LoneServer, TransportId) {
    let mut config = authenticating();
    config.connection.link.acceptance = Acceptance::Manual;
    let mut lone = LoneServer::new(config);
    let transport = lone.greet(hello(1));
    let principal = Principal::Named(Name::new("ann").expect("a name"));
    let admission = Admission { principal, expires: Some(lone.now + duration) };
    lone.server.handle_input(server::Input::Authenticated { transport, admission: Some(admission) }, lone.now);
    lone.drain();
    (lone, transport)
}

fn authenticating() -> server::Config {
    let mut config = server::Config::default();
    config.authenticate = true;
    config
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
    assert_eq!(ends(&world), [PeerClosed::Drained { unfinished }]);
}
