//! What careful reading found, one test each.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use harness::alone::LoneClient;
use harness::alone::LoneServer;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::net::Arrival;
use harness::net::Way;
use harness::world::Road;
use harness::world::World;
use harness::world::patient;
use harness::world::payload;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client;
use reattach_core::client::Status;
use reattach_core::id::ConnectionKey;
use reattach_core::id::InstanceId;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Hello;

const SECOND: Duration = Duration::from_secs(1);

fn numbered_key(number: u64) -> ConnectionKey {
    let mut bytes = [9; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    ConnectionKey::from_bytes(bytes)
}

fn numbered_hello(number: u64) -> Hello {
    let key = numbered_key(number);
    Hello { key, cid: key.connection_id(), ..hello(1) }
}

#[test]
fn a_client_that_stopped_when_superseded_and_tries_again_takes_nothing_twice() {
    let mut world = World::new();
    let mut s = secrets(1);
    s.spare = None;
    world.add_client(patient(), s);
    world.run_until(SECOND, |w| w.peer_events.iter().any(|(_, e)| matches!(e, server::PeerEvent::Attached { .. })));
    let wire = world.wire(0);
    world.net.stall(wire, Way::Up); // nothing that the client writes after its hello arrives
    world.send_down("once");
    world.run_for(SECOND);
    assert_eq!(world.clients[0].taken, ["once"]);
    let cid = world.cid();
    world.server.detach(&cid, CloseCode::SUPERSEDED, world.now).unwrap();
    world.run_for(SECOND);
    assert_eq!(world.clients[0].client.status(), Status::Superseded);
    let now = world.now;
    world.clients[0].client.reconnect(now).unwrap();
    world.run_for(5 * SECOND);
    assert_eq!(world.clients[0].taken, ["once"]);
}

#[test]
fn a_final_receipt_that_takes_back_what_was_said_before_proves_nothing() {
    let mut world = World::attached_with(server::Config::default(), patient());
    world.is_reading = false;
    let old = world.server.clone();
    world.send_up("m");
    world.run_for(SECOND);
    assert_eq!(
        world.clients[0].client.connection().link().outbox().flight().taken().0.get(),
        1,
        "the client knows: received"
    );
    let wire = world.wire(0);
    world.net.stall(wire, Way::Down);
    world.is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["m"]);
    world.road = Road::Failing(OpenError::Unreachable);
    world.replace_server(old);
    world.run_for(120 * SECOND);
    world.road = Road::Open;
    world.run_for(60 * SECOND);
    assert!(!matches!(world.outcomes_up(0)[0].1, Outcome::NotDelivered { .. }), "S3: {:?}", world.outcomes_up(0));
}

#[test]
fn a_client_that_is_superseded_again_and_again_does_not_try_without_delay() {
    let mut lone = LoneClient::new(client::Config::default());
    let mut opens = 0;
    for round in 0..1000_u64 {
        lone.client.provide_key(numbered_key(round)); // as an adapter does for each transport
        lone.opened();
        let out = lone.closed(CloseCode::SUPERSEDED);
        opens += out.iter().filter(|o| matches!(o, client::Output::Open { .. })).count();
        if !matches!(lone.client.status(), Status::Connecting { .. }) {
            break;
        }
    }
    assert!(opens <= 5, "{opens} transports were asked for at the same instant, though attempts is 5");
}

#[test]
fn a_window_of_nothing_is_brought_to_one() {
    let mut config = server::Config::default();
    config.connection.link.window.count = 0;
    let mut world = World::with_server(config);
    world.add_client(patient(), secrets(1));
    let id = world.send_up("x");
    world.run_for(600 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

#[test]
fn without_any_budget_a_message_at_a_time_is_written() {
    let mut config = patient();
    config.connection.flow.write_budget = 0;
    let mut world = World::attached_with(server::Config::default(), config);
    world.send_up("x");
    world.run_for(600 * SECOND);
    assert_eq!(world.outcomes_up(0).len(), 1);
}

#[test]
fn what_clients_leave_behind_is_bounded() {
    let mut config = server::Config::default();
    config.max_connections = 2;
    let mut lone = LoneServer::new(config);
    let mut cids = Vec::new();
    for number in 0..500_u64 {
        let h = numbered_hello(number);
        cids.push(h.cid);
        let t = lone.greet(h);
        let big = format!("\"{}\"", "x".repeat(1_000_000));
        let _ = lone.hear_message(t, 1, &big);
        lone.hear(t, r#"{"t":"bye","code":1000,"end":true,"received":0,"settled":0,"final":true}"#);
        lone.closed(t);
    }
    let now = lone.now;
    let kept: usize =
        cids.iter().filter_map(|cid| lone.server.take(cid, now)).map(|d| d.payload().as_str().len()).sum();
    assert!(kept < 70_000_000, "a server of at most 2 connections held {kept} bytes of peers that are gone");
}

#[test]
fn of_many_clients_that_have_left_the_last_thousand_can_still_be_read() {
    let mut lone = LoneServer::new(server::Config::default());
    let cids: Vec<_> = (0..1_001)
        .map(|number| {
            let hello = numbered_hello(number);
            let cid = hello.cid;
            let transport = lone.greet(hello);
            _ = lone.hear_message(transport, 1, "1");
            lone.hear(transport, r#"{"t":"bye","code":1000,"end":true,"received":0,"settled":0,"final":true}"#);
            lone.closed(transport);
            lone.now = lone.now + SECOND / 1_000;
            cid
        })
        .collect();
    let now = lone.now;
    let kept: Vec<_> = cids.iter().map(|cid| lone.server.take(cid, now).is_some()).collect();
    assert!(
        !kept[0] && kept[1..].iter().all(|is_kept| *is_kept),
        "{}",
        kept.iter().filter(|is_kept| **is_kept).count()
    );
}

#[test]
fn one_address_cannot_fill_the_server_with_connections_that_it_leaves() {
    let mut config = server::Config::default();
    config.max_connections = 100;
    config.max_per_address = 2;
    let mut lone = LoneServer::new(config);
    for number in 0..100_u64 {
        let h = numbered_hello(number);
        let (t, _) = lone.accept(Some("10.0.0.66".parse().unwrap()));
        lone.hear(t, &hello_text(h));
        lone.closed(t);
    }
    let (t, _) = lone.accept(Some("10.9.9.9".parse().unwrap()));
    let out = lone.hear(t, &hello_text(hello(1)));
    assert!(
        out.iter().any(|o| matches!(o, server::Output::Write { text, .. } if text.contains("welcome"))),
        "another address is refused"
    );
}

#[test]
fn a_peer_has_a_moment_to_answer_however_short_the_timeout() {
    let mut config = server::Config::default();
    config.peer_timeout = Duration::ZERO;
    let mut world = World::attached_with(config, patient());
    world.is_reading = false;
    let id = world.send_up("never taken");
    world.run_for(SECOND);
    world.cut(0);
    world.road = Road::Silent;
    world.run_for(70 * SECOND);
    world.road = Road::Open;
    world.run_for(60 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::NotDelivered { reason: NotDelivered::Forgotten })]);
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
    assert_eq!(world.clients[0].client.status(), Status::Closed(client::Closed::Cut));
}

#[test]
fn a_second_goodbye_leaves_the_messages_of_the_first() {
    let mut world = World::attached();
    world.is_reading = false;
    world.send_up("first");
    world.run_for(SECOND);
    let now = world.now;
    world.clients[0].client.disconnect(now);
    world.run_for(SECOND);
    let mut s = secrets(1);
    s.instance = InstanceId::from_bytes([77; 16]);
    let c = world.add_client(steady(), s);
    world.run_for(SECOND);
    world.try_send_up(c, "second").unwrap();
    world.run_for(SECOND);
    let now = world.now;
    world.clients[c].client.disconnect(now);
    world.run_for(SECOND);
    world.is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["first", "second"]);
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
    world.clients[0].client.reconnect(now).unwrap();
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
    world.clients[0].client.reconnect(now).unwrap();
    world.run_for(5 * SECOND);
    world.clients[0].is_reading = true;
    world.run_for(5 * SECOND);
    assert_eq!(world.outcomes_down(), [(id, Outcome::Delivered)]);
}
