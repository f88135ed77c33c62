//! Whom a server lets in no longer: connections that are revoked, and credentials that run out.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use harness::alone::LoneClient;
use harness::alone::LoneServer;
use harness::frames::attempt;
use harness::frames::hello;
use harness::frames::seq;
use harness::frames::token;
use harness::world::Road;
use harness::world::World;
use harness::world::payload;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client::Closed;
use reattach_core::client::Event;
use reattach_core::client::Output as ClientOutput;
use reattach_core::client::Status;
use reattach_core::error::ApiMisuse;
use reattach_core::id::Epoch;
use reattach_core::id::Name;
use reattach_core::id::Principal;
use reattach_core::id::TransportId;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::reconnect::Ended;
use reattach_core::server;
use reattach_core::server::Output;
use reattach_core::server::PeerClosed;
use reattach_core::server::PeerEvent;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Hello;

const SECOND: Duration = Duration::from_secs(1);

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
    assert_eq!(world.ends(), [PeerClosed::Revoked]);
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
    assert_eq!(world.ends(), [PeerClosed::Revoked]);
    world.road = Road::Open;
    world.run_for(30 * SECOND);
    assert_eq!(world.attaches(0), [false, false], "nothing of the old one goes on");
    assert_eq!(world.outcomes_up(0), [(up, Outcome::NotDelivered { reason: NotDelivered::Forgotten })]);
}

#[test]
fn revoking_a_principal_ends_each_of_its_connections_and_no_other() {
    let mut world = World::with_server(authenticating());
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
fn credentials_that_run_out_close_the_transport_and_keep_the_state() {
    let mut lone = LoneServer::new(authenticating());
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
    let mut lone = LoneServer::new(authenticating());
    let transport = admit(&mut lone, 1, None, Some(Duration::ZERO));
    let registry = lone.server.registry();
    assert_eq!((registry.connections(), registry.transports()), (0, 0), "{transport:?}");
}

fn authenticating() -> server::Config {
    let mut config = server::Config::default();
    config.authenticate = true;
    config
}

/// The client of number 1 says hello for the n-th time, and its credentials hold for so long.
fn admit(lone: &mut LoneServer, number: u64, epoch: Option<Epoch>, holds: Option<Duration>) -> TransportId {
    let sent = seq(u64::from(epoch.is_some()));
    lone.admit(Hello { attempt: attempt(number), epoch, sent, ..hello(1) }, "ann", holds).0
}
