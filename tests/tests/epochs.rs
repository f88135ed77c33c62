//! When an epoch goes on, when it is begun again, and when another one begins: lost welcomes, servers that lost their state,
//! machines that come back from an older copy.

use std::time::Duration;

use harness::alone::LoneServer;
use harness::alone::mint;
use harness::frames::attempt;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::frames::report;
use harness::frames::report_no;
use harness::frames::seq;
use harness::net::Arrival;
use harness::net::Way;
use harness::world::Road;
use harness::world::World;
use harness::world::frames_of;
use harness::world::patient;
use harness::world::secrets;
use reattach_core::client::Event;
use reattach_core::client::Status;
use reattach_core::error::ProtocolError;
use reattach_core::id::Epoch;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::server;
use reattach_core::server::Server;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;
use reattach_core::wire::Receipt;
use reattach_core::wire::Report;
use reattach_core::wire::Welcome;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_welcome_that_was_lost_once_is_said_again_for_the_same_epoch() {
    expect_one_epoch_after_lost_welcomes(1);
}

#[test]
fn a_welcome_that_was_lost_twice_is_said_again_for_the_same_epoch() {
    expect_one_epoch_after_lost_welcomes(2);
}

#[test]
fn a_lost_welcome_of_a_resumed_epoch_loses_nothing() {
    let mut world = World::attached();
    for round in 0..3 {
        world.cut(0);
        world.send_up(&format!("up {round}"));
        world.send_down(&format!("down {round}"));
        until_welcomes(&mut world, 2 + 2 * round);
        world.cut(0);
        world.run_for(40 * SECOND);
    }
    assert_eq!(world.taken_texts(), ["up 0", "up 1", "up 2"]);
    assert_eq!(world.clients[0].taken, ["down 0", "down 1", "down 2"]);
    assert_eq!(world.attaches(0), [false, true, true, true]);
}

// S004-149, S004-150
#[test]
fn a_lost_welcome_after_the_server_lost_its_state_begins_that_epoch_again() {
    let mut world = World::attached();
    world.is_reading = false;
    let written = world.send_up("written");
    world.run_for(SECOND);
    let server = Server::new(server::Config::default(), world.now);
    world.replace_server(server);
    let queued = world.send_up("queued");
    world.is_reading = true;
    until_welcomes(&mut world, 2);
    let down = world.send_down("written to nobody yet");
    world.pump();
    world.cut(0);
    world.run_for(10 * SECOND);
    let epochs = epochs(&world);
    assert_ne!(epochs[0], epochs[1]);
    assert_eq!(epochs[1], epochs[2]);
    let reason = Unknown::NoReceipt;
    assert_eq!(world.outcomes_up(0), [(written, Outcome::Unknown { reason }), (queued, Outcome::Delivered)]);
    assert_eq!(world.taken_texts(), ["queued"]);
    assert_eq!(world.clients[0].taken, ["written to nobody yet"]);
    assert_eq!(world.outcomes_down(), [(down, Outcome::Delivered)]);
}

#[test]
fn the_receipt_is_shown_again_when_the_welcome_with_it_was_lost() {
    let mut world = World::attached_with(server::Config::default(), patient());
    let wire = world.wire(0);
    world.net.stall(wire, Way::Down);
    let taken = world.send_up("taken, but nobody said so");
    world.run_for(SECOND);
    world.cut(0);
    world.road = Road::Silent;
    world.run_for(70 * SECOND);
    world.road = Road::Open;
    until_welcomes(&mut world, 2);
    world.cut(0);
    world.run_for(60 * SECOND);
    let shown: Vec<_> = welcomes(&world).into_iter().map(|welcome| welcome.receipt.is_some()).collect();
    assert_eq!(shown[..3], [false, true, true]);
    assert_eq!(world.outcomes_up(0), [(taken, Outcome::Delivered)]);
}

// S1: the client had been welcomed and had taken a message, but nothing that it wrote since ever came.
#[test]
fn an_epoch_that_the_client_had_joined_is_not_begun_again_when_it_comes_back_without_one() {
    let mut world = World::new();
    world.add_client(patient(), secrets(1));
    until_welcomes(&mut world, 1);
    let wire = world.wire(0);
    world.net.stall(wire, Way::Up);
    world.send_down("once");
    world.run_for(SECOND);
    assert_eq!(world.clients[0].taken, ["once"]);
    world.net.put(wire, Way::Down, Arrival::Closed(CloseCode::WEBSOCKET_ERROR), world.now);
    world.run_for(SECOND);
    assert!(matches!(world.client().client.status(), Status::Failed(_)));
    let now = world.now;
    world.client().client.reconnect(now).expect("a client that failed can start over");
    world.run_for(10 * SECOND);
    assert_eq!(world.clients[0].taken, ["once"]);
    assert_eq!(world.outcomes_down().len(), 1);
}

// S004-150
#[test]
fn an_old_copy_of_the_server_that_lacks_what_the_client_knows_settled_is_found_out() {
    let mut world = World::attached();
    let copy = world.server.clone();
    let settled = world.send_up("settled");
    world.run_for(SECOND);
    let taken = world.send_up("taken, but nobody said so");
    world.run_until(SECOND, |world| world.taken.len() == 2);
    world.replace_server(copy);
    let queued = world.send_up("queued");
    world.run_for(10 * SECOND);
    assert_eq!(world.attaches(0), [false, false]);
    let reason = Unknown::ReceiptNotFinal;
    let outcomes = [(settled, Outcome::Delivered), (taken, Outcome::Unknown { reason }), (queued, Outcome::Delivered)];
    assert_eq!(world.outcomes_up(0), outcomes);
    assert_eq!(world.taken_texts(), ["settled", "taken, but nobody said so", "queued"]);
}

#[test]
fn an_old_copy_of_the_server_that_never_wrote_what_the_client_has_is_found_out() {
    let mut world = World::attached();
    let copy = world.server.clone();
    world.send_down("of the newer self");
    world.run_for(SECOND);
    world.replace_server(copy);
    world.send_down("of the older self");
    world.run_for(10 * SECOND);
    assert_eq!(world.attaches(0), [false, false]);
    assert_eq!(world.clients[0].taken, ["of the newer self", "of the older self"]);
    assert!(world.outcomes_down().iter().all(|(_, outcome)| *outcome == Outcome::Delivered));
}

// L1: the old copy cannot tell that its newer self had received the message, but the client can tell from the welcome. What
// the newer self did with it nobody knows.
#[test]
fn an_old_copy_of_the_server_that_lacks_what_the_client_knows_received_is_found_out_by_the_client() {
    let mut world = World::attached();
    world.is_reading = false;
    let copy = world.server.clone();
    let id = world.send_up("received by the newer self");
    world.run_for(SECOND);
    world.replace_server(copy);
    world.is_reading = true;
    let next = world.send_up("never written");
    world.run_for(60 * SECOND);
    let error = ProtocolError::OldState;
    assert!(world.clients[0].events.contains(&Event::PeerBrokeProtocol { error }));
    assert_eq!(world.attaches(0), [false, false]);
    assert_eq!(world.taken_texts(), ["never written"]);
    let reason = Unknown::NoReceipt;
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Unknown { reason }), (next, Outcome::Delivered)]);
}

#[test]
fn what_an_old_copy_of_the_server_knows_to_be_settled_is_delivered() {
    let mut world = World::attached();
    let wire = world.wire(0);
    let id = world.send_up("settled");
    world.run_until(SECOND, |world| world.taken.len() == 1);
    world.net.drop_texts(wire, Way::Down, |_| true);
    let copy = world.server.clone();
    world.send_down("of the newer self");
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [], "the report of it was lost");
    world.replace_server(copy);
    world.run_for(10 * SECOND);
    assert_eq!(world.attaches(0), [false, false]);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

#[test]
fn a_copy_of_the_server_that_is_up_to_date_goes_on_with_the_epoch() {
    let mut world = World::attached();
    world.send_up("1");
    world.send_down("2");
    world.run_for(SECOND);
    world.is_reading = false;
    world.send_up("3");
    world.run_for(SECOND);
    let copy = world.server.clone();
    world.replace_server(copy);
    world.is_reading = true;
    world.send_up("4");
    world.run_for(10 * SECOND);
    assert_eq!(world.attaches(0), [false, true]);
    assert_eq!(world.taken_texts(), ["1", "3", "4"]);
    assert!(world.outcomes_up(0).iter().all(|(_, outcome)| outcome.is_delivered()));
}

#[test]
fn a_client_restored_from_an_older_copy_is_answered_fresh_and_told_the_truth() {
    let mut world = World::attached();
    world.is_reading = false;
    let held = world.send_up("held by the server");
    world.run_for(SECOND);
    let copy = world.clients[0].client.clone();
    let later = world.send_up("not known to the copy");
    let cid = world.cid();
    assert!(world.take_from(&cid));
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(held, Outcome::Delivered)]);
    world.clients[0].events.clear();
    world.restore_client(0, copy);
    let queued = world.send_up("sent by the copy");
    world.run_for(10 * SECOND);
    world.is_reading = true;
    world.run_for(10 * SECOND);
    assert_eq!(world.attaches(0), [false]);
    assert_eq!(world.outcomes_up(0), [(held, Outcome::Delivered), (queued, Outcome::Delivered)]);
    assert_eq!(world.taken_texts(), ["held by the server", "sent by the copy"]);
    assert!(!world.outcomes_up(0).iter().any(|(id, _)| *id == later && *id != queued));
}

#[test]
fn a_client_restored_from_an_older_copy_is_not_told_delivered_of_what_was_dropped() {
    let mut world = World::attached();
    world.is_reading = false;
    let held = world.send_up("held by the server, never taken");
    world.run_for(SECOND);
    let copy = world.clients[0].client.clone();
    world.send_up("not known to the copy");
    world.run_for(SECOND);
    world.clients[0].events.clear();
    world.restore_client(0, copy);
    world.run_for(10 * SECOND);
    world.is_reading = true;
    world.run_for(10 * SECOND);
    assert!(matches!(world.outcomes_up(0)[..], [(id, Outcome::NotDelivered { .. })] if id == held));
    assert_eq!(world.taken_texts(), [""; 0]);
}

#[test]
fn a_client_that_forgot_what_it_had_received_gets_a_new_epoch_and_the_server_is_told() {
    let mut world = World::attached();
    let copy = world.clients[0].client.clone();
    world.clients[0].is_reading = false;
    let received = world.send_down("received, and forgotten");
    world.run_for(SECOND);
    world.restore_client(0, copy);
    world.run_for(SECOND / 10);
    let queued = world.send_down("queued");
    world.clients[0].is_reading = true;
    world.run_for(10 * SECOND);
    let reason = Unknown::EpochEnded;
    assert_eq!(world.outcomes_down(), [(received, Outcome::Unknown { reason }), (queued, Outcome::Delivered)]);
    assert_eq!(world.clients[0].taken, ["queued"]);
}

#[test]
fn another_instance_that_kept_the_numbers_goes_on_with_the_epoch() {
    let mut lone = LoneServer::new(server::Config::default());
    let first = joined(&mut lone, 2);
    let hello = Hello { instance: hello(2).instance, ..continuing(first, 2) };
    let (transport, _) = lone.accept(None);
    let outputs = lone.hear(transport, &hello_text(hello.clone()));
    let [server::Output::Write { text, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    let [Frame::Challenge(challenge)] = frames_of(text)[..] else { panic!("{text}") };
    let outputs = lone.hear(transport, &hello_text(Hello { fence: Some(challenge.fence), ..hello }));
    let welcome = welcome_in(&outputs);
    assert_eq!((welcome.epoch, welcome.resumed), (first, true));
    assert_eq!(welcome.report, report(2, 2));
}

#[test]
fn only_numbers_that_continue_the_epoch_resume_it() {
    let fits = continuing(mint(1).epoch, 2);
    let cases = [
        ("it continues", true, fits.clone()),
        ("it wrote one that was lost", true, Hello { sent: seq(3), base: seq(3), ..fits.clone() }),
        ("it has not heard that they are settled", true, Hello { base: seq(1), ..fits.clone() }),
        ("it forgot one that it wrote", false, Hello { sent: seq(1), base: seq(2), ..fits.clone() }),
        ("it forgot all", false, Hello { sent: seq(0), base: seq(1), ..fits.clone() }),
        ("it knows one settled that never came", false, Hello { sent: seq(4), base: seq(4), ..fits.clone() }),
        ("it received what was never written", false, Hello { report: report(1, 0), ..fits.clone() }),
        ("it settled what was never written", false, Hello { report: report(1, 1), ..fits.clone() }),
        ("it has seen what was never reported", false, Hello { seen: report_no(1), ..fits.clone() }),
        ("it names another epoch", false, Hello { epoch: Some(Epoch::from_bytes([9; 16])), ..fits }),
    ];
    for (why, resumes, hello) in cases {
        let mut lone = LoneServer::new(server::Config::default());
        let epoch = joined(&mut lone, 2);
        let (transport, _) = lone.accept(None);
        let outputs = lone.hear(transport, &hello_text(hello));
        let welcome = welcome_in(&outputs);
        assert_eq!((welcome.resumed, welcome.epoch == epoch), (resumes, resumes), "{why}");
        if !resumes {
            assert_eq!((welcome.report, welcome.seen), (Report::default(), report_no(0)), "{why}");
        }
    }
}

#[test]
fn an_epoch_that_nobody_joined_leaves_no_receipt() {
    let mut lone = LoneServer::new(server::Config::default());
    let transport = lone.greet(hello(1));
    lone.closed(transport);
    lone.wait(61 * SECOND);
    assert_eq!(lone.server.registry().connections(), 0);
    assert_eq!(lone.server.registry().receipts(), 0);
}

#[test]
fn the_receipt_of_an_old_copy_is_not_final_and_that_of_an_old_client_is() {
    let fits = continuing(mint(1).epoch, 2);
    let cases = [
        (false, Hello { sent: seq(4), base: seq(4), ..fits.clone() }),
        (true, Hello { sent: seq(1), base: seq(2), ..fits }),
    ];
    for (is_final, hello) in cases {
        let mut lone = LoneServer::new(server::Config::default());
        let epoch = joined(&mut lone, 2);
        let (transport, _) = lone.accept(None);
        let outputs = lone.hear(transport, &hello_text(hello));
        let receipt = *welcome_in(&outputs).receipt.expect("the epoch that the hello names has just ended");
        let expected = Receipt { received: seq(2), settled: seq(2), is_final, ..Receipt::not_final(epoch) };
        assert_eq!(receipt, expected);
    }
}

/// Loses so many welcomes to a new client, with a message written behind each.
fn expect_one_epoch_after_lost_welcomes(lost: usize) {
    let mut world = World::new();
    world.add_client(patient(), secrets(1));
    let up = world.send_up("up");
    let mut down = Vec::new();
    for number in 0..lost {
        until_welcomes(&mut world, number + 1);
        down.push(world.send_down(&format!("down {number}")));
        world.pump();
        world.cut(0);
    }
    world.run_for(10 * SECOND);
    let epochs = epochs(&world);
    assert_eq!(epochs.len(), lost + 1);
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]));
    assert_eq!(world.attaches(0), [false]);
    assert_eq!(world.taken_texts(), ["up"]);
    assert_eq!(world.outcomes_up(0), [(up, Outcome::Delivered)]);
    let expected: Vec<_> = (0..lost).map(|number| format!("down {number}")).collect();
    assert_eq!(world.clients[0].taken, expected);
    let delivered: Vec<_> = down.into_iter().map(|id| (id, Outcome::Delivered)).collect();
    assert_eq!(world.outcomes_down(), delivered);
}

/// Lets time pass until so many welcomes are written, the last of which is on its way.
fn until_welcomes(world: &mut World, count: usize) {
    world.run_until(60 * SECOND, |world| welcomes(world).len() == count);
}

fn welcomes(world: &World) -> Vec<Welcome> {
    let frames = world.frames(Way::Down).into_iter();
    frames.filter_map(|(_, frame)| if let Frame::Welcome(welcome) = frame { Some(*welcome) } else { None }).collect()
}

fn epochs(world: &World) -> Vec<Epoch> {
    welcomes(world).into_iter().map(|welcome| welcome.epoch).collect()
}

/// A connection whose client has written so many messages, all of them taken. Returns its epoch.
fn joined(lone: &mut LoneServer, messages: u64) -> Epoch {
    let transport = lone.greet(hello(1));
    for number in 1..=messages {
        lone.hear_message(transport, number, "1");
        assert!(lone.server.take(&hello(1).cid, lone.now).is_some());
    }
    lone.drain();
    let peer = lone.server.peer(&hello(1).cid).expect("a peer");
    peer.connection().epoch().expect("an epoch")
}

/// The next hello of that client.
fn continuing(epoch: Epoch, messages: u64) -> Hello {
    Hello { attempt: attempt(2), epoch: Some(epoch), sent: seq(messages), base: seq(messages + 1), ..hello(1) }
}

fn welcome_in(outputs: &[server::Output]) -> Welcome {
    let texts = outputs.iter().filter_map(|output| match output {
        server::Output::Write { text, .. } => Some(text),
        server::Output::Close { .. }
        | server::Output::Authenticate { .. }
        | server::Output::Peer { .. }
        | server::Output::Registry(_) => None,
    });
    let mut frames = texts.flat_map(|text| frames_of(text));
    let welcome = frames.find_map(|frame| if let Frame::Welcome(welcome) = frame { Some(*welcome) } else { None });
    welcome.unwrap_or_else(|| panic!("no welcome in {outputs:?}"))
}
