//! Exactly one outcome for every reliable send, in many small scenarios, and each of them true.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::net::Way;
use harness::world::Road;
use harness::world::World;
use harness::world::patient;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client::Event;
use reattach_core::client::Secrets;
use reattach_core::client::Status;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::outcome::Failure;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::SendFailed;
use reattach_core::outcome::Unknown;
use reattach_core::server::Config;
use reattach_core::server::PeerEvent;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_send_has_one_true_outcome_without_any_fault() {
    expect_honesty("no fault", |_| {});
}

#[test]
fn every_send_has_one_true_outcome_after_a_cut() {
    for keep in 0..6 {
        expect_honesty("cut", |world| world.cut_keeping(0, keep));
    }
}

#[test]
fn every_send_has_one_true_outcome_after_a_silent_death() {
    for ways in [&[Way::Up][..], &[Way::Down], &Way::BOTH] {
        expect_honesty("stall", |world| {
            let wire = world.wire(0);
            ways.iter().for_each(|way| world.net.stall(wire, *way));
            world.run_for(130 * SECOND);
        });
    }
}

#[test]
fn every_send_has_one_true_outcome_after_an_expiry() {
    for reading in [false, true] {
        expect_honesty("expiry", |world| {
            world.is_reading = reading;
            world.clients[0].is_reading = reading;
            world.run_for(SECOND / 20);
            world.cut(0);
            world.road = Road::Silent;
            world.run_for(61 * SECOND);
        });
    }
}

#[test]
fn every_send_has_one_true_outcome_after_the_server_lost_its_state() {
    expect_honesty("restart without state", |world| {
        let server = Server::new(Config::default(), world.now);
        world.replace_server(server);
    });
}

#[test]
fn every_send_has_one_true_outcome_after_the_server_came_back_with_its_state() {
    expect_honesty("restart with state", |world| {
        let server = world.server.clone();
        world.replace_server(server);
    });
}

#[test]
fn every_send_has_one_true_outcome_after_trying_stopped() {
    expect_honesty("stopped", |world| {
        world.net.put(world.wire(0), Way::Down, harness::net::Arrival::Closed(CloseCode::WEBSOCKET_ERROR), world.now);
        world.run_for(SECOND);
    });
}

#[test]
fn every_send_has_one_true_outcome_after_a_take_over() {
    expect_honesty("take-over", |world| {
        world.add_client(steady(), Secrets { instance: InstanceId::from_bytes([9; 16]), ..secrets(1) });
        world.run_for(SECOND);
    });
}

#[test]
fn every_send_has_one_true_outcome_after_a_disconnect() {
    expect_honesty("disconnect", |world| {
        let now = world.now;
        world.client().client.disconnect(now);
    });
}

#[test]
fn every_send_has_one_true_outcome_after_a_close() {
    for (secs, reading) in [(0, true), (0, false), (5, true), (5, false)] {
        expect_honesty("close", |world| {
            let now = world.now;
            world.is_reading = reading;
            world.client().client.close(secs * SECOND, now);
            world.run_for(10 * SECOND);
        });
    }
}

#[test]
fn every_send_has_one_true_outcome_after_the_server_ended_the_connection() {
    for (secs, reading) in [(0, true), (0, false), (5, true), (5, false)] {
        expect_honesty("server close", |world| {
            let cid = world.cid();
            world.clients[0].is_reading = reading;
            if secs == 0 {
                world.server.disconnect(&cid, world.now).expect("it is there");
            } else {
                world.server.close(&cid, secs * SECOND, world.now).expect("it is there");
            }
            world.run_for(10 * SECOND);
        });
    }
}

#[test]
fn every_send_has_one_true_outcome_after_each_close_code() {
    for code in CloseCode::ALL.iter().filter(|code| code.is_sendable()) {
        expect_honesty("close code", |world| {
            let cid = world.cid();
            world.server.detach(&cid, *code, world.now).expect("it is there");
            world.run_for(SECOND);
        });
    }
}

#[test]
fn every_send_has_one_true_outcome_after_a_hostile_frame() {
    for frame in
        ["nonsense", r#"{"t":"msg","seq":99,"d":1}"#, r#"{"t":"bye","code":1001}"#, r#"{"t":"ack","received":99}"#]
    {
        expect_honesty("hostile frame up", |world| world.inject_up(0, frame));
        expect_honesty("hostile frame down", |world| world.inject_down(0, frame));
    }
}

// S000-17
#[test]
fn a_message_is_kept_until_it_is_settled_or_has_failed_for_good() {
    let mut world = World::attached();
    world.is_reading = false;
    let kept = world.send_up("kept");
    world.run_for(SECOND);
    assert_eq!((world.clients[0].client.stats().written, world.outcomes_up(0)), (1, vec![]));
    world.is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.clients[0].client.stats().written, 0);
    world.is_reading = false;
    let failed = world.send_up("withdrawn");
    world.run_for(SECOND);
    assert_eq!(world.clients[0].client.stats().written, 1);
    world.cancel(&failed).expect("it is pending");
    world.run_for(SECOND);
    assert_eq!(world.clients[0].client.stats().written, 0);
    let withdrawn = Outcome::NotDelivered { reason: NotDelivered::Cancelled };
    assert_eq!(world.outcomes_up(0), [(kept, Outcome::Delivered), (failed, withdrawn)]);
}

// S000-29, S001-43
#[test]
fn each_outcome_says_in_words_what_is_known() {
    let name = "busy".parse().expect("a short name");
    let shown = [
        (Outcome::Delivered, "delivered"),
        (Outcome::Rejected { code: name, reason: "no".into() }, "rejected (busy: no)"),
        (
            Outcome::NotDelivered { reason: NotDelivered::Closed },
            "not delivered: this side closed the connection first",
        ),
        (Outcome::Unknown { reason: Unknown::NoReceipt }, "unknown: the peer's state ended and left no receipt"),
    ];
    for (outcome, words) in shown {
        assert_eq!(outcome.to_string(), words);
    }
}

// S004-087, S004-093
#[test]
fn whether_a_failure_will_be_retried_is_explicit() {
    let id = "00000000-0000-4000-8000-000000000001".parse().expect("a UUID");
    let reason = NotDelivered::Closed;
    let for_good = SendFailed { id, failure: Failure::ForGood(Outcome::NotDelivered { reason }) };
    assert!(!for_good.will_retry());
    let retry_at = Instant::ZERO;
    let for_now = Failure::ForNow { attempt: 1, retry_at, reason: "busy".parse().expect("a short name") };
    assert!(SendFailed { id, failure: for_now }.will_retry());
}

// S004-094, X3
#[test]
fn no_frame_of_the_network_can_forge_an_outcome() {
    let mut world = World::attached();
    for frame in [
        r#"{"t":"_send_failed","clientMsgId":"x","willRetry":false}"#,
        r#"{"type":"_send_failed","clientMsgId":"x"}"#,
        r#"{"t":"ack","received":0,"settled":0,"except":[]}"#,
    ] {
        world.inject_down(0, frame);
        world.run_for(SECOND);
    }
    assert_eq!(world.outcomes_up(0), []);
    let skipped = world.clients[0].events.iter().filter(|event| matches!(event, Event::FrameSkipped { .. })).count();
    assert_eq!(skipped, 1, "the one without a type");
}

/// Sends both ways before, while and after something happens, heals everything, and looks at what was told.
fn expect_honesty(what: &str, happens: impl Fn(&mut World)) {
    for head_start in [0, 5, 15, 25, 1_000] {
        let mut world = World::attached_with(Config::default(), patient());
        let mut sent = Sent::default();
        sent.send(&mut world, "before");
        world.run_for(Duration::from_millis(head_start));
        sent.send(&mut world, "during");
        happens(&mut world);
        sent.send(&mut world, "after");
        heal(&mut world);
        sent.send(&mut world, "healed");
        world.run_for(200 * SECOND);
        sent.check(&world, &format!("{what}, {head_start} ms"));
    }
}

fn heal(world: &mut World) {
    world.road = Road::Open;
    world.is_reading = true;
    world.clients.iter_mut().for_each(|side| side.is_reading = true);
    world.run_for(100 * SECOND);
    if let Status::Failed(_) = world.client().client.status() {
        let now = world.now;
        world.client().client.reconnect(now).expect("it is not over");
        world.run_for(30 * SECOND);
    }
}

/// What was accepted for sending.
#[derive(Default)]
struct Sent {
    up: BTreeMap<MessageId, String>,
    down: BTreeMap<MessageId, String>,
}

impl Sent {
    fn send(&mut self, world: &mut World, when: &str) {
        let cid = world.cid();
        for number in 0..3 {
            let text = format!("{when} {number}");
            self.up.extend(world.try_send_up(0, &text).ok().map(|id| (id, text.clone())));
            self.down.extend(world.try_send_down(&cid, &text).ok().map(|id| (id, text.clone())));
        }
    }

    fn check(&self, world: &World, what: &str) {
        assert!(self.up.len() >= 6, "{what}: the test sends too little");
        let taken_up: Vec<_> = world.taken.iter().map(|(_, text)| text.clone()).collect();
        let taken_down: Vec<_> = world.clients.iter().flat_map(|side| side.taken.clone()).collect();
        expect_one_each(&self.up, &world.outcomes_up(0), &taken_up, &format!("{what}, up"));
        let lost_state = what.starts_with("restart without state");
        let told: Vec<_> = world.outcomes_down().into_iter().filter(|(id, _)| self.down.contains_key(id)).collect();
        if lost_state {
            // The server that forgot them tells nothing of them; what it does tell is true.
            let known = self.down.iter().filter(|(id, _)| told.iter().any(|(other, _)| other == *id));
            let known = known.map(|(id, text)| (*id, text.clone())).collect();
            expect_one_each(&known, &told, &taken_down, &format!("{what}, down"));
        } else {
            expect_one_each(&self.down, &told, &taken_down, &format!("{what}, down"));
        }
    }
}

/// Each message has exactly one outcome, and what was taken does not contradict it.
fn expect_one_each(sent: &BTreeMap<MessageId, String>, told: &[(MessageId, Outcome)], taken: &[String], what: &str) {
    for (id, text) in sent {
        let outcomes: Vec<_> = told.iter().filter(|(other, _)| other == id).map(|(_, outcome)| outcome).collect();
        let [outcome] = outcomes[..] else { panic!("{what}: {text:?} has the outcomes {outcomes:?}") };
        let times = taken.iter().filter(|other| *other == text).count();
        let allowed = match outcome {
            Outcome::Delivered => 1..=1,
            Outcome::Rejected { .. } | Outcome::NotDelivered { .. } => 0..=0,
            Outcome::Unknown { .. } => 0..=1,
        };
        assert!(allowed.contains(&times), "{what}: {text:?} is {outcome} and was taken {times} times");
    }
    assert_eq!(told.len(), sent.len(), "{what}: an outcome of nothing that was sent");
}

// The only way to an end without a word of what became of what was written: it overtakes the welcome, which was lost.
#[test]
fn what_was_written_is_unknown_when_the_server_ends_the_connection_before_a_welcome_came() {
    let mut world = World::attached();
    world.is_reading = false;
    let id = world.send_up("written");
    world.run_for(SECOND / 20);
    world.cut(0);
    let answered =
        |world: &World| world.net.in_flight(world.wire(0), Way::Down).iter().any(|text| text.contains("welcome"));
    world.run_until(10 * SECOND, |world| world.live_wire(0).is_some() && answered(world));
    let wire = world.wire(0);
    world.net.drop_texts(wire, Way::Down, |text| text.contains("welcome"));
    let (cid, now) = (world.cid(), world.now);
    world.server.disconnect(&cid, now).expect("it is registered");
    world.run_for(SECOND);
    assert!(matches!(world.clients[0].client.status(), Status::Closed(_)));
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Unknown { reason: Unknown::Ended })]);
}

#[test]
fn an_event_tells_an_outcome_or_none() {
    let id = "00000000-0000-4000-8000-000000000001".parse().expect("a UUID");
    let unknown = Outcome::Unknown { reason: Unknown::Closed };
    let put_off = Failure::ForNow { attempt: 1, retry_at: Instant::ZERO, reason: "busy".parse().expect("a code") };
    let failed = |failure: &Failure| SendFailed { id, failure: failure.clone() };
    let for_good = Failure::ForGood(unknown.clone());
    for (event, of_peer, outcome) in [
        (Event::Delivered { id }, PeerEvent::Delivered { id }, Some((id, &Outcome::Delivered))),
        (Event::SendFailed(failed(&for_good)), PeerEvent::SendFailed(failed(&for_good)), Some((id, &unknown))),
        (Event::SendFailed(failed(&put_off)), PeerEvent::SendFailed(failed(&put_off)), None),
        (Event::Delayed { id }, PeerEvent::Delayed { id }, None),
        (Event::Superseded, PeerEvent::Attached { resumed: true }, None),
    ] {
        assert_eq!((event.outcome(), of_peer.outcome()), (outcome, outcome));
    }
}
