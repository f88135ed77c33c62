//! Goodbyes: what came before one can still be taken, and what comes after it is another connection's.

use std::time::Duration;

use harness::alone::LoneClient;
use harness::pair::NOW;
use harness::pair::Pair;
use harness::world::World;
use harness::world::key;
use harness::world::manual;
use harness::world::patient;
use harness::world::payload;
use harness::world::reject;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Secrets;
use reattach_core::client::Status;
use reattach_core::id::InstanceId;
use reattach_core::id::Seq;
use reattach_core::id::TransportId;
use reattach_core::link::Acceptance;
use reattach_core::link::Lanes;
use reattach_core::outcome::Outcome;
use reattach_core::wire;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_came_before_a_clients_goodbye_can_still_be_taken() {
    let mut world = World::attached();
    world.is_reading = false;
    world.send_up("before the goodbye");
    world.run_for(SECOND);
    disconnect(&mut world);
    world.is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["before the goodbye"]);
}

#[test]
fn what_nobody_takes_after_a_goodbye_is_dropped_after_the_ttl() {
    let mut world = World::attached();
    world.is_reading = false;
    world.send_up("before the goodbye");
    world.run_for(SECOND);
    disconnect(&mut world);
    world.run_for(61 * SECOND);
    world.is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), [""; 0]);
    assert_eq!(world.server.poll_timeout(), None);
}

#[test]
fn a_client_that_comes_back_under_its_key_after_a_goodbye_is_heard() {
    let mut world = World::attached();
    world.is_reading = false;
    world.send_up("before the goodbye");
    world.run_for(SECOND);
    disconnect(&mut world);
    let mut secrets = secrets(1);
    secrets.instance = InstanceId::from_bytes([2; 16]);
    world.add_client(steady(), secrets);
    world.run_for(SECOND);
    let id = world.try_send_up(1, "after it").expect("room");
    world.is_reading = true;
    world.run_for(5 * SECOND);
    assert_eq!(world.taken_texts(), ["before the goodbye", "after it"]);
    assert_eq!(world.outcomes_up(1), [(id, Outcome::Delivered)]);
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
    world.try_send_up(c, "second").expect("room");
    world.run_for(SECOND);
    let now = world.now;
    world.clients[c].client.disconnect(now);
    world.run_for(SECOND);
    world.is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["first", "second"]);
}

#[test]
fn messages_of_a_new_connection_can_be_taken_while_those_of_an_ended_one_are_kept() {
    let mut pair = Pair::new(None);
    let cid = key(1).connection_id();
    pair.attach();
    pair.client.send(payload("old").into(), NOW).expect("room");
    pair.client.disconnect(NOW);
    // The message is written behind nothing, so it is said by hand: the client was faster than this test.
    let bye = pair.up().pop().expect("a goodbye");
    let mut text = String::new();
    wire::Frame::Message(wire::Message::plain(Seq::ZERO.next(), "\"old\"")).encode(&mut text);
    pair.server_hears(&text);
    pair.server_hears(&bye);
    pair.down();
    let secrets = Secrets { spare: None, instance: InstanceId::from_bytes([3; 16]), ..secrets(1) };
    pair.client = Client::new(client::Config::default(), secrets, 0, NOW);
    pair.up();
    pair.client.handle_input(client::Input::Opened { transport: TransportId(1), token: None }, NOW);
    let hello = pair.up().pop().expect("a hello");
    pair.accept();
    pair.server_hears(&hello);
    pair.server_hears(&text.replace("old", "new"));
    pair.down();
    assert!(pair.server.peer(&cid).expect("a peer").has_delivery());
    assert_eq!(pair.server.take(&cid, NOW).expect("it came").payload().as_str(), "\"old\"");
    assert_eq!(pair.server.take(&cid, NOW).expect("it came").payload().as_str(), "\"new\"");
}

#[test]
fn an_application_that_disconnects_after_the_others_goodbye_is_handed_nothing_more() {
    for closes in [false, true] {
        let mut lone = LoneClient::attached(steady());
        lone.hear(r#"{"t":"msg","seq":1,"d":1}"#);
        lone.hear(r#"{"t":"bye","code":1000,"end":true,"received":0,"settled":0,"final":true}"#);
        assert!(matches!(lone.client.status(), Status::Closed(_)) && lone.client.has_delivery());
        if closes {
            lone.client.close(SECOND, lone.now)
        } else {
            lone.client.disconnect(lone.now)
        }
        assert!(!lone.client.has_delivery());
        assert_eq!(lone.client.take(lone.now), None);
    }
}

#[test]
fn what_stands_above_a_gap_is_not_waited_for_after_a_goodbye() {
    let mut config = steady();
    config.connection.link.acceptance = Acceptance::Manual;
    let mut lone = LoneClient::attached(config);
    lone.hear("{\"t\":\"msg\",\"seq\":1,\"d\":1}\n{\"t\":\"msg\",\"seq\":3,\"d\":3}");
    assert!(lone.client.take(lone.now).is_some());
    lone.hear(r#"{"t":"bye","code":1000,"end":true,"received":0,"settled":0,"final":true}"#);
    let inbox = lone.client.connection().link().inbox();
    assert_eq!((inbox.count_in_hands(), inbox.held_up_until(Lanes::All)), (1, None));
}

#[test]
fn a_goodbye_that_comes_while_this_side_closes_leaves_nothing_to_be_taken() {
    let mut lone = LoneClient::attached(steady());
    lone.client.send(payload("unsettled").into(), lone.now).expect("there is room");
    lone.hear(r#"{"t":"msg","seq":1,"d":1}"#);
    lone.client.close(60 * SECOND, lone.now);
    assert!(lone.client.has_delivery(), "until it is over it goes on");
    lone.hear(r#"{"t":"bye","code":1000,"end":true,"received":0,"settled":0,"final":true}"#);
    assert!(matches!(lone.client.status(), Status::Closed(_)));
    assert_eq!(lone.client.take(lone.now), None);
}

#[test]
fn what_came_before_a_goodbye_can_all_be_taken_however_much_of_it_is_rejected() {
    let (mut server, mut client) = (manual(), patient());
    server.connection.link.window.count = 16_384;
    client.connection.link.outbox.count = 16_384;
    let mut world = World::attached_with(server, client);
    for number in 1..=600 {
        world.send_up(&format!("m{number}"));
    }
    world.is_reading = false;
    world.run_for(SECOND);
    let (now, cid) = (world.now, world.cid());
    world.client().client.disconnect(now);
    world.run_for(SECOND);
    for number in 1..=600 {
        assert!(world.take_from(&cid), "{number}");
        world.decide(&format!("m{number}"), reject("no")).expect("it is in hands");
    }
}

/// The first client says goodbye, and the server hears it.
fn disconnect(world: &mut World) {
    let now = world.now;
    world.client().client.disconnect(now);
    world.run_for(SECOND / 10);
}
