//! A client whose identity another instance took over: it is a clone, and two clones never fight.

use std::time::Duration;

use harness::alone::LoneClient;
use harness::net::Way;
use harness::world::World;
use harness::world::key;
use harness::world::numbered_key;
use harness::world::patient;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client;
use reattach_core::client::Config;
use reattach_core::client::Event;
use reattach_core::client::OnSuperseded;
use reattach_core::client::Secrets;
use reattach_core::client::Status;
use reattach_core::error::ApiMisuse;
use reattach_core::id::InstanceId;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::server;
use reattach_core::server::RegistryEvent;
use reattach_core::wire::CloseCode;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_evicted_client_goes_on_under_its_spare_key_with_what_it_never_wrote() {
    let mut world = World::new();
    clone(&mut world, 1, Some(50), steady());
    world.is_reading = false;
    world.run_for(SECOND);
    let written = world.send_up("written");
    world.run_for(SECOND);
    world.cut(0);
    let queued = [world.send_up("queued 1"), world.send_up("queued 2")];
    clone(&mut world, 2, None, steady());
    world.is_reading = true;
    world.run_for(10 * SECOND);
    let (old, new) = (key(1).connection_id(), key(50).connection_id());
    assert_eq!(world.cid(), new);
    let told: Vec<_> = world.clients[0]
        .events
        .iter()
        .filter(|event| matches!(event, Event::Superseded | Event::IdentityChanged { .. }))
        .collect();
    assert_eq!(told, [&Event::Superseded, &Event::IdentityChanged { old, new }]);
    let unknown = Outcome::Unknown { reason: Unknown::Superseded };
    let expected = [(written, unknown), (queued[0], Outcome::Delivered), (queued[1], Outcome::Delivered)];
    assert_eq!(world.outcomes_up(0), expected);
    let of_new: Vec<_> = world.taken.iter().filter(|(cid, _)| *cid == new).map(|(_, text)| text.as_str()).collect();
    assert_eq!(of_new, ["queued 1", "queued 2"]);
    assert_eq!(world.clients[1].client.connection_id(), old);
    assert_eq!(world.clients[1].client.status(), Status::Attached);
}

#[test]
fn without_a_spare_key_an_evicted_client_stops_and_every_message_has_its_outcome() {
    expect_stop(None, steady());
}

#[test]
fn a_client_that_is_told_to_stops_even_with_a_spare_key() {
    let mut config = steady();
    config.on_superseded = OnSuperseded::Stop;
    expect_stop(Some(50), config);
}

#[test]
fn a_client_that_stopped_and_is_told_to_reconnect_learns_again_that_it_was_superseded() {
    let mut world = World::new();
    clone(&mut world, 1, None, steady());
    clone(&mut world, 2, None, steady());
    let wire = world.wire(1);
    let now = world.now;
    world.clients[0].client.reconnect(now).expect("it is not over");
    world.run_for(SECOND);
    assert_eq!(world.clients[0].client.status(), Status::Superseded);
    assert_eq!(world.closed_by_server(wire), None, "the other one notices nothing");
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
    world.server.detach(&cid, CloseCode::SUPERSEDED, world.now).expect("it is there");
    world.run_for(SECOND);
    assert_eq!(world.clients[0].client.status(), Status::Superseded);
    let now = world.now;
    world.clients[0].client.reconnect(now).expect("it is not over");
    world.run_for(5 * SECOND);
    assert_eq!(world.clients[0].taken, ["once"]);
}

#[test]
fn a_spare_key_serves_once_and_another_can_be_provided() {
    let mut world = World::new();
    clone(&mut world, 1, Some(50), steady());
    clone(&mut world, 2, None, steady());
    assert_eq!(world.cid(), key(50).connection_id());
    evict(&mut world, key(50), 3);
    assert_eq!(world.clients[0].client.status(), Status::Superseded, "no key is left");
    let now = world.now;
    world.clients[0].client.provide_key(key(51));
    world.clients[0].client.reconnect(now).expect("it is not over");
    world.run_for(SECOND);
    assert_eq!(world.cid(), key(51).connection_id());
    assert_eq!(world.clients[0].client.status(), Status::Attached);
}

// N06, S004-137
#[test]
fn two_duplicated_tabs_settle_within_two_evictions_and_both_go_on() {
    let mut world = World::new();
    for instance in 1..=2 {
        clone(&mut world, instance, Some(50 + instance), steady());
    }
    let mut sent = [0, 0];
    for second in 0..60 {
        for (index, count) in sent.iter_mut().enumerate() {
            *count += usize::from(world.try_send_up(index, &format!("{index} {second}")).is_ok());
        }
        world.run_for(SECOND);
    }
    let evictions =
        world.registry_events.iter().filter(|event| matches!(event, RegistryEvent::TakenOver { .. })).count();
    assert!(evictions <= 2, "{evictions} evictions");
    assert_eq!(sent, [60, 60]);
    for index in 0..2 {
        assert_eq!(world.clients[index].client.status(), Status::Attached);
        let outcomes = world.outcomes_up(index);
        assert_eq!(outcomes.len(), 60, "no message of client {index} is without its outcome");
        assert!(outcomes.iter().all(|(_, outcome)| outcome.is_delivered()), "{outcomes:?}");
    }
    assert_ne!(world.clients[0].client.connection_id(), world.clients[1].client.connection_id());
    assert_eq!(world.server.registry().connections(), 2);
}

#[test]
fn a_client_that_is_superseded_again_and_again_does_not_try_without_delay() {
    let mut lone = LoneClient::new(Config::default());
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
fn a_clone_that_was_away_when_it_was_evicted_is_told_when_it_comes_back() {
    let mut world = World::new();
    clone(&mut world, 1, Some(50), steady());
    world.stall(0);
    clone(&mut world, 2, None, steady());
    assert_eq!(world.clients[0].client.status(), Status::Attached, "it has not noticed");
    world.run_for(120 * SECOND);
    assert_eq!(world.cid(), key(50).connection_id());
    assert_eq!(world.attaches(0).len(), 2);
    assert_eq!(world.attaches(1), [false], "the other one was never disturbed");
}

#[test]
fn what_an_evicted_client_had_received_and_not_taken_is_unknown_to_the_server() {
    let mut world = World::new();
    clone(&mut world, 1, Some(50), steady());
    world.run_for(SECOND);
    world.clients[0].is_reading = false;
    let id = world.send_down("received, not taken");
    world.run_for(SECOND);
    clone(&mut world, 2, None, steady());
    world.clients[0].is_reading = true;
    world.run_for(10 * SECOND);
    let reason = Unknown::EpochEnded;
    assert_eq!(world.outcomes_down(), [(id, Outcome::Unknown { reason })]);
    assert_eq!(world.clients[0].taken, [""; 0], "its epoch was over");
    let unread =
        world.texts.iter().filter(|(_, _, way, text)| *way == Way::Down && text.contains("received, not taken"));
    assert_eq!(unread.count(), 1, "and it was not written again");
}

/// A client whose instance is superseded with one message written and one queued.
fn expect_stop(spare: Option<u8>, config: Config) {
    let mut world = World::new();
    clone(&mut world, 1, spare, config);
    world.is_reading = false;
    world.run_for(SECOND);
    let written = world.send_up("written");
    world.run_for(SECOND);
    world.cut(0);
    let queued = world.send_up("queued");
    clone(&mut world, 2, None, steady());
    world.run_for(10 * SECOND);
    assert_eq!(world.clients[0].client.status(), Status::Superseded);
    let expected = [
        (written, Outcome::Unknown { reason: Unknown::Superseded }),
        (queued, Outcome::NotDelivered { reason: NotDelivered::Superseded }),
    ];
    assert_eq!(world.outcomes_up(0), expected);
    assert_eq!(world.try_send_up(0, "more"), Err(ApiMisuse::Ended));
    assert_eq!(world.clients[0].client.poll_timeout(), None);
    assert_eq!(world.clients[0].opens.len(), 2, "it does not fight");
}

/// A live client with the first one's key, its own nonce and its own spare.
fn clone(world: &mut World, instance: u8, spare: Option<u8>, config: Config) {
    let instance = InstanceId::from_bytes([instance; 16]);
    world.add_client(config, Secrets { key: key(1), spare: spare.map(key), instance });
    world.drive();
}

/// Another client takes the connection of a key over.
fn evict(world: &mut World, key: reattach_core::id::ConnectionKey, instance: u8) {
    let instance = InstanceId::from_bytes([instance; 16]);
    world.add_client(steady(), Secrets { key, spare: None, instance });
    world.run_for(SECOND);
}
