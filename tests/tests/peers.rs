//! What other libraries were measured to do wrong (field notes, sections 2 and 3), one row each.

use std::time::Duration;

use harness::frames::token;
use harness::net::Way;
use harness::world::Road;
use harness::world::World;
use harness::world::patient;
use harness::world::payload;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client::Status;
use reattach_core::id::Name;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::server::Config;
use reattach_core::server::Server;

const SECOND: Duration = Duration::from_secs(1);

// Row A: a first message is not needed to have something to resume from.
#[test]
fn a_connection_resumes_before_any_message_was_sent() {
    let mut world = World::attached();
    world.cut(0);
    world.send_up("missed up");
    world.send_down("missed down");
    world.run_for(10 * SECOND);
    assert_eq!(world.attaches(0), [false, true]);
    assert_eq!(world.taken_texts(), ["missed up"]);
    assert_eq!(world.clients[0].taken, ["missed down"]);
}

// Row B: what an application writes cannot overwrite where the connection stands.
#[test]
fn payloads_that_look_like_the_protocol_do_not_disturb_it() {
    let mut world = World::attached();
    let odd = [
        "0",
        "offset",
        r#"{"t":"ack","received":9,"settled":9}"#,
        "\n{\"t\":\"bye\",\"code\":1000,\"end\":true}",
        "\",\"seq\":9",
    ];
    for text in odd {
        let (cid, now) = (world.cid(), world.now);
        let key = Name::new("volatile").expect("a short name");
        world.server.send_ephemeral(&cid, key, payload(text), now).expect("it is attached");
        world.send_down(text);
        world.send_up(text);
        world.run_for(SECOND);
    }
    world.cut(0);
    world.run_for(10 * SECOND);
    assert_eq!(world.attaches(0), [false, true]);
    assert_eq!(world.clients[0].taken, odd);
    assert_eq!(world.taken_texts(), odd);
}

// Row C: authentication is not skipped on a resume.
#[test]
fn each_resume_is_authenticated() {
    let mut config = Config::default();
    config.authenticate = true;
    let mut world = World::with_server(config);
    world.accounts.insert("a".into(), "alice".into());
    world.add_client(steady(), secrets(1));
    world.clients[0].token = Some(token("a"));
    world.run_for(SECOND);
    world.cut(0);
    world.run_for(10 * SECOND);
    assert_eq!((world.attaches(0), world.authentications), (vec![false, true], 2));
    world.accounts.clear();
    world.cut(0);
    world.run_for(10 * SECOND);
    assert_eq!((world.attaches(0).len(), world.authentications), (2, 4));
    assert!(matches!(world.client().client.status(), Status::Failed(_)));
}

// Row D, N02, S000-24, S004-139, S004-140
#[test]
fn a_message_whose_ack_is_lost_is_handled_once_and_its_sender_told_once() {
    let mut world = World::attached();
    for round in 0..5 {
        let wire = world.wire(0);
        world.net.stall(wire, Way::Down);
        world.send_up(&round.to_string());
        world.run_for(SECOND);
        assert_eq!(world.taken.len(), round + 1, "it was handled");
        world.net.unstall(wire, Way::Down);
        world.net.drop_texts(wire, Way::Down, |_| true);
        world.cut(0);
        world.run_for(40 * SECOND);
    }
    assert_eq!(world.taken_texts(), ["0", "1", "2", "3", "4"]);
    let outcomes = world.outcomes_up(0);
    assert_eq!(outcomes.len(), 5);
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_delivered()));
}

// Row E: what may have been delivered is told apart from what was never sent.
#[test]
fn unknown_is_told_apart_from_never_sent() {
    let mut world = World::attached();
    let wire = world.wire(0);
    world.net.stall(wire, Way::Down);
    let handled = world.send_up("handled, never acknowledged");
    world.run_for(SECOND);
    world.net.unstall(wire, Way::Down);
    world.road = Road::Silent;
    world.cut(0);
    let offline = world.send_up("sent while offline");
    world.run_for(300 * SECOND);
    let expected = [
        (handled, Outcome::Unknown { reason: Unknown::Unreachable }),
        (offline, Outcome::NotDelivered { reason: NotDelivered::Unreachable }),
    ];
    assert_eq!(world.outcomes_up(0), expected);
}

// Row F: a request whose response is cut off is run once.
#[test]
fn a_request_whose_response_is_cut_off_is_run_once_and_answered_once() {
    let mut world = World::attached();
    world.send_up("request");
    world.run_until(SECOND, |world| world.taken.len() == 1);
    world.send_down("response");
    world.pump();
    world.cut(0);
    world.run_for(10 * SECOND);
    assert_eq!(world.taken_texts(), ["request"]);
    assert_eq!(world.clients[0].taken, ["response"]);
}

// Row G: a second run's numbers are not taken for the first one's.
#[test]
fn every_event_missed_in_a_second_run_is_replayed() {
    let mut world = World::attached();
    let mut sent = Vec::new();
    for (run, count) in [(1, 500), (2, 300)] {
        for number in 0..count {
            let text = format!("run {run} event {number}");
            let cid = world.cid();
            while world.try_send_down(&cid, &text).is_err() {
                world.run_for(SECOND / 10);
            }
            sent.push(text);
            if (run, number) == (2, 100) {
                world.cut(0);
            }
        }
    }
    world.run_for(40 * SECOND);
    assert_eq!(world.clients[0].taken, sent);
}

// Pitfall 8: nothing ages out of a quiet connection.
#[test]
fn a_connection_that_was_quiet_for_long_resumes() {
    let mut world = World::attached();
    world.send_down("long ago");
    world.run_for(6 * 3_600 * SECOND);
    world.cut(0);
    world.send_down("missed");
    world.run_for(10 * SECOND);
    assert_eq!(world.attaches(0), [false, true]);
    assert_eq!(world.clients[0].taken, ["long ago", "missed"]);
}

// S002-64, S003-41, S004-132: recovery works more than once, and both ways.
#[test]
fn several_disconnects_with_missed_messages_each_lose_nothing() {
    let mut world = World::attached_with(Config::default(), patient());
    let mut expected = Vec::new();
    for round in 0..20 {
        for number in 0..3 {
            let text = format!("{round} {number}");
            world.send_up(&text);
            world.send_down(&text);
            expected.push(text);
        }
        world.run_for(Duration::from_millis(7 * (round % 5)));
        world.cut(0);
        let missed = format!("{round} missed");
        world.send_up(&missed);
        world.send_down(&missed);
        expected.push(missed);
        world.run_for(40 * SECOND);
    }
    assert_eq!(world.taken_texts(), expected);
    assert_eq!(world.clients[0].taken, expected);
}

// S002-08, S002-07: 500 messages, 50 disconnects.
#[test]
fn fifty_disconnects_lose_none_of_five_hundred_messages() {
    let mut world = World::attached_with(Config::default(), patient());
    for round in 0..50 {
        for number in 0..10 {
            world.send_up(&format!("{}", round * 10 + number));
        }
        world.pump();
        world.cut_keeping(0, round % 3);
        world.run_for(40 * SECOND);
    }
    let expected: Vec<_> = (0..500).map(|number| number.to_string()).collect();
    assert_eq!(world.taken_texts(), expected);
    assert_eq!(world.outcomes_up(0).len(), 500);
}

// Pitfall 17, S004-049: a close that comes late is not taken for one of the new transport.
#[test]
fn a_close_that_comes_after_the_next_attach_changes_nothing() {
    let mut world = World::attached();
    let old = world.wire(0);
    world.net.cut(old, 0, 3 * SECOND, world.now);
    let now = world.now;
    world.client().client.reconnect(now).expect("it is not over");
    world.run_for(SECOND);
    assert_eq!(world.attaches(0), [false, true]);
    world.send_up("1");
    world.send_down("2");
    world.run_for(10 * SECOND);
    assert_eq!((world.taken_texts(), world.attaches(0).len()), (vec!["1"], 2));
    assert_eq!(world.clients[0].taken, ["2"]);
}

// Pitfall 29, S004-150: a server that lost its state does not turn retries into duplicates.
#[test]
fn a_restart_of_the_server_without_its_state_duplicates_nothing() {
    let mut world = World::attached();
    let wire = world.wire(0);
    for round in 0..5 {
        world.send_up(&format!("{round} handled"));
        world.run_until(SECOND, |world| world.taken.len() == 2 * round + 1);
        world.net.drop_texts(world.live_wire(0).unwrap_or(wire), Way::Down, |_| true);
        let server = Server::new(Config::default(), world.now);
        world.replace_server(server);
        world.send_up(&format!("{round} queued"));
        world.run_for(40 * SECOND);
    }
    let expected: Vec<_> = (0..5).flat_map(|round| [format!("{round} handled"), format!("{round} queued")]).collect();
    assert_eq!(world.taken_texts(), expected);
    let unknown = Outcome::Unknown { reason: Unknown::NoReceipt };
    let outcomes: Vec<_> = world.outcomes_up(0).into_iter().map(|(_, outcome)| outcome).collect();
    let expected: Vec<_> = (0..5).flat_map(|_| [unknown.clone(), Outcome::Delivered]).collect();
    assert_eq!(outcomes, expected);
}

// Pitfall 26: a full window at the reconnect does not stick.
#[test]
fn a_window_that_is_full_at_the_reconnect_goes_on_afterwards() {
    let mut world = World::attached();
    world.is_reading = false;
    for number in 0..100 {
        world.send_up(&number.to_string());
    }
    world.run_for(SECOND);
    for _ in 0..3 {
        world.cut(0);
        world.run_for(20 * SECOND);
    }
    world.is_reading = true;
    world.run_for(SECOND);
    for number in 100..200 {
        world.send_up(&number.to_string());
    }
    world.run_for(SECOND);
    let expected: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    assert_eq!(world.taken_texts(), expected);
}
