//! Machines that go on from a stored copy of their state: a current one, an old one, or none.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::time::Duration;

use harness::alone::LoneServer;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::net::Way;
use harness::world::Road;
use harness::world::World;
use harness::world::accept;
use harness::world::patient;
use harness::world::payload;
use harness::world::secrets;
use reattach_core::client::Client;
use reattach_core::client::OnSuperseded;
use reattach_core::client::Status;
use reattach_core::connection::Currency;
use reattach_core::connection::Incoming;
use reattach_core::id::ConnectionId;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::link::Acceptance;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Handed;
use reattach_core::link::Outgoing;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::server;
use reattach_core::server::Output;
use reattach_core::server::PeerEvent;
use reattach_core::server::Server;

const SECOND: Duration = Duration::from_secs(1);

// N15: a current copy
#[test]
fn a_client_that_goes_on_from_its_current_state_loses_nothing_and_sends_nothing_twice() {
    let mut world = attached();
    let taken = world.send_up("taken, and the settlement under way");
    world.run_for(SECOND / 100);
    let eaten = world.send_up("under way");
    world.pump();
    let queued = world.send_up("queued");
    let copy = world.clients[0].client.clone();
    restart_client(&mut world, copy, 50, Currency::Current);
    let down = world.send_down("down");
    world.run_for(5 * SECOND);
    assert_eq!(world.attaches(0), [false, true], "the epoch goes on");
    assert_eq!(world.taken_texts(), ["taken, and the settlement under way", "under way", "queued"]);
    assert_eq!(world.outcomes_up(0), [taken, eaten, queued].map(|id| (id, Outcome::Delivered)));
    assert_eq!(world.outcomes_down(), [(down, Outcome::Delivered)]);
}

// N15: an old clone; "client restored from an old snapshot"
#[test]
fn a_client_that_goes_on_from_an_old_copy_claims_nothing_that_it_cannot_know() {
    let mut world = attached();
    world.stall(0);
    let plain = world.send_up("plain");
    let idempotent = send_up(&mut world, Outgoing::from(payload("idempotent")).idempotent());
    let copy = world.clients[0].client.clone();
    // The life that the copy knows nothing of.
    let now = world.now;
    world.client().client.reconnect(now).unwrap();
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["plain", "idempotent"]);
    world.clients[0].events.clear();
    restart_client(&mut world, copy, 50, Currency::Stale);
    world.run_for(5 * SECOND);
    assert_eq!(world.taken_texts(), ["plain", "idempotent"], "nothing is handed over twice");
    let expected = [(plain, Outcome::Unknown { reason: Unknown::Restored }), (idempotent, Outcome::Delivered)];
    assert_eq!(world.outcomes_up(0), expected, "the idempotent one is recognised by its name");
}

#[test]
fn an_old_copy_that_calls_itself_current_is_found_out() {
    let mut world = attached();
    let copy = world.clients[0].client.clone();
    for number in 0..5 {
        world.send_up(&number.to_string());
    }
    world.run_for(SECOND);
    restart_client(&mut world, copy, 50, Currency::Current);
    world.run_for(SECOND);
    world.send_up("after");
    world.run_for(SECOND);
    assert_eq!(world.attaches(0), [false, false]);
    assert_eq!(world.taken_texts(), ["0", "1", "2", "3", "4", "after"]);
}

#[test]
fn no_message_of_one_life_of_a_client_has_the_name_of_one_of_another() {
    let mut world = attached();
    let copy = world.clients[0].client.clone();
    let mut ids: BTreeSet<MessageId> = (0..10).map(|number| world.send_up(&number.to_string())).collect();
    for life in 1..=3 {
        for currency in [Currency::Current, Currency::Stale] {
            let instance = InstanceId::from_bytes([life * 2 + u8::from(currency == Currency::Stale); 16]);
            let mut client = copy.clone().restored(instance, currency, world.now);
            ids.extend((0..10).map(|_| client.send(payload("x").into(), world.now).unwrap()));
        }
    }
    assert_eq!(ids.len(), 70);
}

#[test]
fn no_message_of_one_life_of_a_server_has_the_name_of_one_of_another() {
    let mut world = attached();
    world.add_client(patient(), secrets(2));
    world.run_for(SECOND);
    let cids = [0, 1].map(|index| world.clients[index].client.connection_id());
    let copy = world.server.clone();
    let mut ids = BTreeSet::new();
    let send = |server: &mut Server, ids: &mut BTreeSet<MessageId>| {
        for cid in &cids {
            ids.extend((0..10).map(|_| server.send(cid, payload("x").into(), world.now).unwrap()));
        }
    };
    send(&mut copy.clone(), &mut ids);
    for life in 1..=3 {
        for currency in [Currency::Current, Currency::Stale] {
            let instance = InstanceId::from_bytes([life * 2 + u8::from(currency == Currency::Stale); 16]);
            send(&mut copy.clone().restored(instance, currency, world.now), &mut ids);
        }
    }
    assert_eq!(ids.len(), 140);
}

// Section 10
#[test]
fn what_was_in_a_client_s_hands_is_abandoned_but_for_the_idempotent() {
    let mut config = patient();
    config.connection.link.acceptance = Acceptance::Manual;
    let mut world = World::attached_with(server::Config::default(), config);
    world.clients[0].is_reading = false;
    let [plain, again] = send_both(&mut world);
    world.run_for(SECOND);
    let now = world.now;
    let before: Vec<_> = core::iter::from_fn(|| world.clients[0].client.take(now)).collect();
    assert_eq!(before.len(), 2);
    let copy = world.clients[0].client.clone();
    restart_client(&mut world, copy, 50, Currency::Current);
    world.run_for(SECOND);
    assert_eq!(world.outcomes_down(), [(plain, Outcome::Unknown { reason: Unknown::Abandoned })]);
    let now = world.now;
    assert!(world.clients[0].client.decide(before[0].handle().unwrap(), Decision::Accept, now).is_err());
    let Some(Delivery::Message(Handed { handle, turn, id, .. })) = world.clients[0].client.take(now) else {
        panic!("it is handed over again")
    };
    assert_eq!((turn, id), (2, Some(again)), "and counted");
    world.clients[0].client.decide(handle.unwrap(), Decision::Accept, now).unwrap();
    assert_eq!(world.clients[0].client.take(now), None);
    world.run_for(SECOND);
    assert_eq!(world.outcomes_down()[1..], [(again, Outcome::Delivered)]);
}

#[test]
fn what_was_in_a_server_s_hands_is_abandoned_but_for_the_idempotent() {
    let mut config = server::Config::default();
    config.connection.link.acceptance = Acceptance::Manual;
    let mut world = World::attached_with(config, patient());
    world.is_reading = false;
    let plain = send_up(&mut world, Outgoing::from(payload("plain")).in_lane(Name::new("plain").unwrap()));
    let again = send_up(&mut world, Outgoing::from(payload("again")).idempotent());
    world.run_for(SECOND);
    let (cid, now) = (world.cid(), world.now);
    let before: Vec<_> = core::iter::from_fn(|| world.server.take(&cid, now)).collect();
    assert_eq!(before.len(), 2);
    restart_server(&mut world, 60, Currency::Current);
    world.run_for(5 * SECOND);
    assert_eq!(world.attaches(0), [false, true]);
    assert_eq!(world.outcomes_up(0), [(plain, Outcome::Unknown { reason: Unknown::Abandoned })]);
    let now = world.now;
    assert!(world.server.decide(&cid, before[0].handle().unwrap(), Decision::Accept, now).is_err());
    let handed = world.server.take(&cid, now).expect("it is handed over again");
    world.server.decide(&cid, handed.handle().unwrap(), Decision::Accept, now).unwrap();
    assert_eq!(world.server.take(&cid, now), None);
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0)[1..], [(again, Outcome::Delivered)]);
}

// N15: a current copy
#[test]
fn a_server_that_goes_on_from_its_current_state_loses_nothing_and_hands_nothing_over_twice() {
    let mut world = attached();
    let applied = world.send_up("applied, and the settlement under way");
    world.run_for(SECOND / 100);
    let under_way = world.send_up("under way");
    let down = world.send_down("down");
    world.pump();
    restart_server(&mut world, 60, Currency::Current);
    let queued = world.send_down("queued while nobody is attached");
    world.run_for(5 * SECOND);
    assert_eq!(world.attaches(0), [false, true]);
    assert_eq!(world.taken_texts(), ["applied, and the settlement under way", "under way"]);
    assert_eq!(world.clients[0].taken, ["down", "queued while nobody is attached"]);
    assert_eq!(world.outcomes_up(0), [applied, under_way].map(|id| (id, Outcome::Delivered)));
    assert_eq!(world.outcomes_down(), [down, queued].map(|id| (id, Outcome::Delivered)));
}

// N15: an old clone; "server restored from an old clone"
#[test]
fn a_server_that_goes_on_from_an_old_clone_begins_anew_and_never_lies() {
    let mut world = attached();
    let known = world.send_up("applied before the copy");
    world.run_for(SECOND / 100);
    // The settlement does not come through, and everything after is unknown to the copy.
    let wire = world.wire(0);
    world.net.stall(wire, Way::Down);
    let copy = world.server.clone();
    let unknown = world.send_up("applied after the copy");
    let again = send_up(&mut world, Outgoing::from(payload("idempotent")).idempotent());
    let down = world.send_down("down");
    world.run_for(SECOND);
    assert_eq!(world.taken.len(), 3);
    world.net.drop_texts(wire, Way::Down, |_| true);
    world.net.unstall(wire, Way::Down);
    world.peer_events.clear();
    restart_server_from(&mut world, copy, 60, Currency::Stale);
    world.run_for(5 * SECOND);
    assert_eq!(world.attaches(0), [false, false]);
    let outcomes = world.outcomes_up(0);
    assert!(outcomes.contains(&(known, Outcome::Delivered)), "the copy knew: {outcomes:?}");
    let honest = Outcome::Unknown { reason: Unknown::ReceiptNotFinal };
    assert!(outcomes.contains(&(unknown, honest)), "{outcomes:?}");
    assert!(outcomes.contains(&(again, Outcome::Delivered)), "sent again: {outcomes:?}");
    assert_eq!(world.taken_texts()[..2], ["applied before the copy", "applied after the copy"]);
    assert_eq!(world.outcomes_down(), [], "the copy never heard of it: {down:?}");
    world.send_up("after");
    world.run_for(SECOND);
    assert_eq!(world.taken_texts().last(), Some(&"after"));
}

// S3: a clone that ends before its client comes back proves nothing either.
#[test]
fn an_old_clone_that_expires_leaves_a_receipt_that_is_not_final() {
    let mut world = attached();
    let wire = world.wire(0);
    let copy = world.server.clone();
    world.net.stall(wire, Way::Down);
    let id = world.send_up("applied after the copy");
    world.run_for(SECOND);
    assert_eq!(world.taken.len(), 1);
    world.net.drop_texts(wire, Way::Down, |_| true);
    world.net.unstall(wire, Way::Down);
    world.road = Road::Silent;
    // The copy has to know that the client had joined.
    restart_server_from(&mut world, copy, 60, Currency::Stale);
    world.run_for(120 * SECOND);
    assert_eq!(world.server.registry().connections(), 0);
    world.road = Road::Open;
    world.run_for(60 * SECOND);
    let honest = Outcome::Unknown { reason: Unknown::ReceiptNotFinal };
    assert_eq!(world.outcomes_up(0), [(id, honest)]);
}

#[test]
fn an_old_clone_does_not_take_its_epoch_up_again_whoever_asks() {
    let mut world = World::new();
    world.add_client(patient(), secrets(1));
    // Until the welcome is out, of which the copy does not know that it was heard.
    world.run_until(SECOND, |world| world.server.registry().connections() == 1);
    let copy = world.server.clone();
    world.run_for(SECOND);
    let first = world.clients[0].client.connection().epoch();
    world.send_up("in the first epoch");
    world.run_for(SECOND);
    world.replace_server(Server::new(world.server_config(), world.now));
    world.run_for(5 * SECOND);
    assert_ne!(world.clients[0].client.connection().epoch(), first);
    restart_server_from(&mut world, copy, 60, Currency::Stale);
    world.run_for(10 * SECOND);
    assert_eq!(world.clients[0].client.status(), Status::Attached);
    assert_ne!(world.clients[0].client.connection().epoch(), first, "it has been lived through");
}

#[test]
fn last_words_that_a_later_life_has_handed_over_are_not_handed_over_by_an_old_clone() {
    for (currency, expected) in [(Currency::Stale, false), (Currency::Current, true)] {
        let mut world = attached();
        world.is_reading = false;
        world.send_up("last words");
        world.run_for(SECOND);
        let (now, cid) = (world.now, world.cid());
        world.client().client.disconnect(now);
        world.run_for(SECOND);
        let instance = InstanceId::from_bytes([60; 16]);
        let mut server = world.server.clone().restored(instance, currency, world.now);
        assert_eq!(server.take(&cid, world.now).is_some(), expected, "{currency:?}");
    }
}

// N15: no state
#[test]
fn a_server_without_state_leaves_what_it_had_taken_unknown_and_gets_what_was_never_written() {
    let mut world = attached();
    let written = world.send_up("applied, and the settlement under way");
    world.run_for(SECOND / 100);
    let wire = world.wire(0);
    world.net.drop_texts(wire, Way::Down, |_| true);
    world.replace_server(Server::new(world.server_config(), world.now));
    let queued = world.send_up("queued");
    world.run_for(5 * SECOND);
    assert_eq!(world.attaches(0), [false, false]);
    let unknown = Outcome::Unknown { reason: Unknown::NoReceipt };
    assert_eq!(world.outcomes_up(0), [(written, unknown), (queued, Outcome::Delivered)]);
    assert_eq!(world.taken_texts(), ["applied, and the settlement under way", "queued"]);
}

// Section 4: its twin has them too
#[test]
fn a_restored_client_that_is_superseded_does_not_send_what_its_twin_has_too() {
    for on_superseded in [OnSuperseded::NewIdentity, OnSuperseded::Stop] {
        let mut server = server::Config::default();
        server.connection.link.window.count = 1;
        let mut client = patient();
        client.on_superseded = on_superseded;
        let mut world = World::attached_with(server, client);
        world.is_reading = false;
        world.send_up("fills the window");
        let queued = world.send_up("never written");
        world.run_for(SECOND);
        let copy = world.clients[0].client.clone();
        restart_client(&mut world, copy.clone(), 50, Currency::Current);
        world.run_for(5 * SECOND);
        let twin = copy.restored(InstanceId::from_bytes([51; 16]), Currency::Current, world.now);
        let twin = world.adopt(twin);
        world.run_for(5 * SECOND);
        world.is_reading = true;
        world.run_for(60 * SECOND);
        let of = |index| world.outcomes_up(index).into_iter().find(|(id, _)| *id == queued).unwrap().1;
        assert_eq!(of(twin), Outcome::Delivered);
        assert_eq!(of(0), Outcome::Unknown { reason: Unknown::Restored }, "{on_superseded:?}");
        assert_eq!(world.taken_texts(), ["fills the window", "never written"]);
    }
}

fn attached() -> World {
    World::attached_with(server::Config::default(), patient())
}

fn send_up(world: &mut World, message: Outgoing) -> MessageId {
    let now = world.now;
    world.clients[0].client.send(message, now).unwrap()
}

/// The server sends one message of each kind, in lanes of their own: a plain one and an idempotent one.
fn send_both(world: &mut World) -> [MessageId; 2] {
    let (cid, now): (ConnectionId, _) = (world.cid(), world.now);
    let plain = Outgoing::from(payload("plain")).in_lane(Name::new("plain").unwrap());
    let again = Outgoing::from(payload("again")).idempotent();
    [plain, again].map(|message| world.server.send(&cid, message, now).unwrap())
}

/// The first client's program dies and starts again from a copy.
fn restart_client(world: &mut World, copy: Client, instance: u8, currency: Currency) {
    let client = copy.restored(InstanceId::from_bytes([instance; 16]), currency, world.now);
    world.restore_client(0, client);
}

/// The server's program dies and starts again from the state that it had.
fn restart_server(world: &mut World, instance: u8, currency: Currency) {
    let copy = world.server.clone();
    restart_server_from(world, copy, instance, currency);
}

fn restart_server_from(world: &mut World, copy: Server, instance: u8, currency: Currency) {
    let server = copy.restored(InstanceId::from_bytes([instance; 16]), currency, world.now);
    world.replace_server(server);
}

#[test]
fn an_outcome_that_was_not_polled_before_is_told_by_the_restored_server() {
    let mut lone = LoneServer::new(server::Config::default());
    let cid = hello(1).cid;
    let first = lone.greet(hello(1));
    let id = lone.server.send(&cid, payload("never settled").into(), lone.now).unwrap();
    lone.drain();
    let (second, _) = lone.accept(None);
    let (bye, again) = (r#"{"t":"bye","code":1000,"end":true}"#, hello_text(hello(1)));
    for (transport, text) in [(first, bye), (second, again.as_str())] {
        let incoming = Incoming::Text(text);
        lone.server.handle_input(server::Input::Received { transport, incoming }, lone.now);
    }
    lone.server = lone.server.clone().restored(InstanceId::from_bytes([9; 16]), Currency::Current, lone.now);
    let outputs = lone.wait(SECOND);
    let is_told = |output: &&Output| matches!(output, Output::Peer { event: PeerEvent::SendFailed(failed), .. } if failed.id == id);
    assert_eq!(outputs.iter().filter(is_told).count(), 1, "{outputs:?}");
}

#[test]
fn what_an_ended_connection_had_in_hands_at_a_restore_is_decided_about_by_nobody() {
    let mut world = World::attached_manual();
    world.send_up("in hands");
    world.send_up("behind it");
    world.run_for(SECOND);
    world.is_reading = false;
    let now = world.now;
    world.client().client.disconnect(now);
    world.run_for(SECOND);
    restart_server(&mut world, 60, Currency::Current);
    assert!(world.decide("in hands", accept()).is_err());
    let cid = world.cid();
    assert!(world.take_from(&cid), "what was not handed over can be");
    assert_eq!(world.taken_texts(), ["in hands", "behind it"]);
}
