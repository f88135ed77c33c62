//! What a server keeps of an epoch that has ended, and what its client is told by it: the truth, and `Unknown` where there is
//! none to be had.

use std::time::Duration;

use harness::alone::LoneServer;
use harness::frames::attempt;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::frames::seq;
use harness::frames::token;
use harness::net::Way;
use harness::net::WireId;
use harness::world::Road;
use harness::world::World;
use harness::world::frames_of;
use harness::world::patient;
use harness::world::secrets;
use reattach_core::client::Secrets;
use reattach_core::id::Epoch;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::server::Server;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;
use reattach_core::wire::Receipt;
use reattach_core::wire::Welcome;

const SECOND: Duration = Duration::from_secs(1);

// S004-151
#[test]
fn after_an_expiry_each_message_has_the_outcome_that_the_final_receipt_proves() {
    let mut world = World::attached_with(server::Config::default(), patient());
    let fates = four_fates(&mut world);
    expire(&mut world);
    let queued = world.send_up("queued");
    comes_back(&mut world);
    let reason = NotDelivered::Forgotten;
    let expected = [
        (fates.settled, Outcome::Delivered),
        (fates.held, Outcome::NotDelivered { reason }),
        (fates.unreceived, Outcome::NotDelivered { reason }),
        (queued, Outcome::Delivered),
    ];
    assert_eq!(world.outcomes_up(0), expected);
    assert_eq!(world.taken_texts(), ["settled", "queued"]);
}

#[test]
fn a_receipt_is_final_and_carries_where_the_receiver_stood() {
    let mut world = World::attached_with(server::Config::default(), patient());
    four_fates(&mut world);
    let epoch = epoch_of(&world);
    expire(&mut world);
    assert_eq!(world.server.registry().receipts(), 1);
    comes_back(&mut world);
    let shown = welcomes(&world).pop().and_then(|welcome| welcome.receipt).expect("a receipt");
    let expected = Receipt { received: seq(2), settled: seq(1), is_final: true, ..Receipt::not_final(epoch) };
    assert_eq!(*shown, expected);
}

// A hello that names an epoch has taken in what became of those before it, and not what the answer says of this one.
#[test]
fn a_receipt_is_told_again_where_the_welcome_that_told_it_was_lost() {
    let mut lone = LoneServer::new(server::Config::default());
    let cid = hello(1).cid;
    let transport = lone.greet(hello(1));
    lone.hear_message(transport, 1, "1");
    assert!(lone.server.take(&cid, lone.now).is_some());
    let epoch = lone.server.peer(&cid).and_then(|peer| peer.connection().epoch());
    lone.closed(transport);
    // An older copy of the client comes, which has not sent what was taken: the epoch cannot go on.
    let told = [2, 3].map(|number| {
        let (transport, _) = lone.accept(None);
        let outputs = lone.hear(transport, &hello_text(Hello { attempt: attempt(number), epoch, ..hello(1) }));
        lone.closed(transport);
        let written = |output| if let server::Output::Write { text, .. } = output { Some(text) } else { None };
        let text: String = outputs.into_iter().filter_map(written).collect();
        let welcome = frames_of(&text).into_iter().find_map(welcome_in);
        welcome.and_then(|welcome| welcome.receipt).map(|receipt| *receipt)
    });
    let expected = Receipt { is_final: true, ..Receipt::not_final(epoch.expect("it is attached")) };
    let expected = Receipt { received: seq(1), settled: seq(1), ..expected };
    assert_eq!(told, [Some(expected.clone()), Some(expected)]);
}

// S004-149, S004-150
#[test]
fn a_server_that_lost_its_state_leaves_everything_written_unknown() {
    let mut world = World::attached_with(server::Config::default(), patient());
    let fates = four_fates(&mut world);
    let server = Server::new(server::Config::default(), world.now);
    world.replace_server(server);
    world.road = Road::Silent;
    world.run_for(60 * SECOND);
    let queued = [world.send_up("queued 1"), world.send_up("queued 2")];
    world.is_reading = true;
    comes_back(&mut world);
    let unknown = Outcome::Unknown { reason: Unknown::NoReceipt };
    let expected = [
        (fates.settled, unknown.clone()),
        (fates.held, unknown.clone()),
        (fates.unreceived, unknown),
        (queued[0], Outcome::Delivered),
        (queued[1], Outcome::Delivered),
    ];
    assert_eq!(world.outcomes_up(0), expected);
    assert_eq!(world.taken_texts(), ["settled", "queued 1", "queued 2"], "what was never written is delivered once");
}

#[test]
fn without_receipts_an_expiry_leaves_what_was_written_unknown() {
    let mut config = server::Config::default();
    config.receipts.max = 0;
    let mut world = World::attached_with(config, patient());
    let fates = four_fates(&mut world);
    expire(&mut world);
    comes_back(&mut world);
    let unknown = Outcome::Unknown { reason: Unknown::NoReceipt };
    let expected = [(fates.settled, unknown.clone()), (fates.held, unknown.clone()), (fates.unreceived, unknown)];
    assert_eq!(world.outcomes_up(0), expected);
}

#[test]
fn a_receipt_that_ran_out_proves_nothing() {
    let mut config = server::Config::default();
    config.receipts.ttl = 600 * SECOND;
    let mut world = World::attached_with(config, patient());
    let fates = four_fates(&mut world);
    expire(&mut world);
    world.run_for(600 * SECOND);
    assert_eq!(world.server.registry().receipts(), 0);
    comes_back(&mut world);
    let reason = Unknown::NoReceipt;
    assert_eq!(world.outcomes_up(0)[1], (fates.held, Outcome::Unknown { reason }));
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
fn a_receipt_is_freed_when_a_hello_names_the_epoch_after_it() {
    let mut world = World::attached_with(server::Config::default(), patient());
    four_fates(&mut world);
    expire(&mut world);
    comes_back(&mut world);
    assert_eq!(world.server.registry().receipts(), 1, "the welcome that showed it may have been lost");
    world.cut(0);
    world.run_for(40 * SECOND);
    assert_eq!(world.server.registry().receipts(), 0);
}

// X1
#[test]
fn a_receipt_is_not_shown_to_another_principal() {
    let mut world = authenticating();
    attach_as(&mut world, "a");
    four_fates(&mut world);
    let epoch = epoch_of(&world);
    expire(&mut world);
    let thief = Hello { epoch: Some(epoch), attempt: attempt(9), token: Some(token("b")), ..hello(1) };
    let wire = greet(&mut world, thief);
    let welcome = welcome_on(&world, wire).expect("the connection had expired and anybody with the key may have it");
    assert_eq!(welcome.receipt, None);
    assert!(!welcome.resumed);
}

// X1: the key is known to two principals, as when it was stolen from a store.
#[test]
fn another_principal_does_not_free_a_receipt() {
    let mut world = authenticating();
    attach_as(&mut world, "a");
    let fates = four_fates(&mut world);
    expire(&mut world);
    let stranger = Hello { token: Some(token("b")), attempt: attempt(1), instance: hello(7).instance, ..hello(1) };
    let wire = greet(&mut world, stranger.clone());
    let theirs = welcome_on(&world, wire).expect("a connection of its own").epoch;
    world.hang_up(wire, CloseCode::NORMAL);
    let again = greet(&mut world, Hello { attempt: attempt(2), epoch: Some(theirs), ..stranger });
    assert!(welcome_on(&world, again).expect("a welcome").resumed);
    world.hang_up(again, CloseCode::NORMAL);
    world.run_for(70 * SECOND);
    comes_back(&mut world);
    assert_eq!(world.outcomes_up(0)[0], (fates.settled, Outcome::Delivered), "alice's receipt is still there");
}

#[test]
fn a_take_over_by_another_instance_leaves_a_receipt_of_the_epoch_before() {
    let mut world = World::attached_with(server::Config::default(), patient());
    four_fates(&mut world);
    let epoch = epoch_of(&world);
    let other = Secrets { instance: InstanceId::from_bytes([9; 16]), ..secrets(1) };
    world.add_client(patient(), other);
    world.run_for(SECOND);
    assert_eq!(world.attaches(1), [false]);
    assert_eq!(world.server.registry().receipts(), 1);
    assert_ne!(epoch_of(&world), epoch);
}

#[test]
fn the_server_resolves_its_own_outbox_when_a_connection_expires() {
    let mut world = World::attached_with(server::Config::default(), patient());
    world.clients[0].is_reading = false;
    let written = world.send_down("written, never taken");
    world.run_for(SECOND);
    world.cut(0);
    world.road = Road::Silent;
    let queued = world.send_down("queued");
    world.run_for(70 * SECOND);
    let expected = [
        (written, Outcome::Unknown { reason: Unknown::Expired }),
        (queued, Outcome::NotDelivered { reason: NotDelivered::Expired }),
    ];
    assert_eq!(world.outcomes_down(), expected);
}

#[test]
fn the_servers_never_written_messages_move_to_the_next_epoch_while_its_state_lives() {
    let mut world = World::attached_with(server::Config::default(), patient());
    let taken = world.send_down("taken, but nobody said so");
    let wire = world.wire(0);
    world.net.stall(wire, Way::Up);
    world.run_for(SECOND);
    assert_eq!(world.clients[0].taken, ["taken, but nobody said so"]);
    world.server.detach(&world.cid(), CloseCode::RESTART, world.now).expect("it is attached");
    let queued = [world.send_down("queued 1"), world.send_down("queued 2")];
    let other = Secrets { instance: InstanceId::from_bytes([9; 16]), ..secrets(1) };
    world.add_client(patient(), other);
    world.run_for(SECOND);
    assert_eq!(world.clients[1].taken, ["queued 1", "queued 2"]);
    let unknown = Outcome::Unknown { reason: Unknown::EpochEnded };
    let delivered = Outcome::Delivered;
    assert_eq!(world.outcomes_down(), [(taken, unknown), (queued[0], delivered.clone()), (queued[1], delivered)]);
}

#[test]
fn a_message_that_was_settled_before_the_cut_is_delivered_whatever_became_of_the_epoch() {
    let mut world = World::attached_with(server::Config::default(), patient());
    let id = world.send_up("settled and reported");
    world.run_for(SECOND);
    expire(&mut world);
    comes_back(&mut world);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

#[test]
fn a_second_expiry_has_a_receipt_of_its_own() {
    let mut world = World::attached_with(server::Config::default(), patient());
    for round in 0..3 {
        let fates = four_fates(&mut world);
        expire(&mut world);
        comes_back(&mut world);
        let outcomes = &world.outcomes_up(0)[3 * round..];
        let reason = NotDelivered::Forgotten;
        let expected = [
            (fates.settled, Outcome::Delivered),
            (fates.held, Outcome::NotDelivered { reason }),
            (fates.unreceived, Outcome::NotDelivered { reason }),
        ];
        assert_eq!(outcomes, expected, "round {round}");
    }
}

/// Messages that an expiry finds in each place.
struct Fates {
    /// Taken by the server's application; the client has not heard of it.
    settled: MessageId,
    /// Received and not taken.
    held: MessageId,
    /// Written, and lost on the way.
    unreceived: MessageId,
}

/// Puts a message of the first client into each place.
fn four_fates(world: &mut World) -> Fates {
    world.is_reading = false;
    let wire = world.wire(0);
    world.net.stall(wire, Way::Down);
    let settled = world.send_up("settled");
    let held = world.send_up("held");
    world.run_for(SECOND);
    let cid = world.cid();
    assert!(world.take_from(&cid));
    world.run_for(SECOND);
    world.net.stall(wire, Way::Up);
    let unreceived = world.send_up("unreceived");
    world.pump();
    Fates { settled, held, unreceived }
}

/// The first client cannot come back until its connection has expired.
fn expire(world: &mut World) {
    let wire = world.wire(0);
    Way::BOTH.into_iter().for_each(|way| world.net.unstall(wire, way));
    world.cut(0);
    world.road = Road::Silent;
    world.run_for(61 * SECOND);
    assert_eq!(world.server.registry().connections(), 0);
    world.is_reading = true;
}

fn comes_back(world: &mut World) {
    world.road = Road::Open;
    world.run_for(60 * SECOND);
}

fn epoch_of(world: &World) -> Epoch {
    let peer = world.server.peer(&world.cid()).expect("a peer");
    peer.connection().epoch().expect("an epoch")
}

fn welcomes(world: &World) -> Vec<Welcome> {
    world.frames(Way::Down).into_iter().filter_map(|(_, frame)| welcome_in(frame)).collect()
}

fn welcome_in(frame: Frame<'_>) -> Option<Welcome> {
    if let Frame::Welcome(welcome) = frame { Some(*welcome) } else { None }
}

fn welcome_on(world: &World, wire: WireId) -> Option<Welcome> {
    let mut frames = world.frames(Way::Down).into_iter().filter(|(id, _)| *id == wire);
    frames.find_map(|(_, frame)| welcome_in(frame))
}

fn greet(world: &mut World, hello: Hello) -> WireId {
    let wire = world.stranger();
    world.say(wire, &hello_text(hello));
    world.run_for(SECOND);
    wire
}

/// A world whose application knows alice and bob.
fn authenticating() -> World {
    let mut config = server::Config::default();
    config.authenticate = true;
    let mut world = World::with_server(config);
    world.accounts = [("a", "alice"), ("b", "bob")].map(|(token, name)| (token.into(), name.into())).into();
    world
}

fn attach_as(world: &mut World, credentials: &str) {
    let index = world.add_client(patient(), secrets(1));
    world.clients[index].token = Some(token(credentials));
    world.run_for(SECOND);
    assert_eq!(world.attaches(index), [false]);
}
