//! What is counted of questions and of the answers to them.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use harness::hub::World;
use harness::hub::session;
use harness::permissions::ALLOW;
use harness::permissions::connection;
use harness::permissions::dialogs;
use harness::permissions::id;
use harness::permissions::request;
use harness::permissions::response;
use harness::permissions::secs;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionMessage;
use reattach_core::permission::AnswerError;
use reattach_core::permission::AnswerFailed;
use reattach_core::permission::Broker;
use reattach_core::permission::BrokerConfig;
use reattach_core::permission::BrokerStats;
use reattach_core::permission::DialogsStats;
use reattach_core::session::WatchFrom;

const SECOND: Duration = Duration::from_secs(1);

/// The counters of these names, and every other 0.
fn broker_stats(set: impl FnOnce(&mut BrokerStats)) -> BrokerStats {
    let mut stats = BrokerStats::default();
    set(&mut stats);
    stats
}

fn dialogs_stats(world: &World, client: usize) -> DialogsStats {
    world.watching[client].watcher.dialogs().stats()
}

fn expected(set: impl FnOnce(&mut DialogsStats)) -> DialogsStats {
    let mut stats = DialogsStats::default();
    set(&mut stats);
    stats
}

fn raw(decision: &str) -> String {
    format!(r#"{{"requestId":"p","decision":"{decision}"}}"#)
}

/// Each question that was asked has one end, or none yet.
fn assert_balanced(world: &World) {
    let stats = world.hub.question_stats();
    assert_eq!(stats.asked, stats.decided() + world.hub.broker().len() as u64, "{stats:?}");
}

// S002-33
#[test]
fn every_question_is_counted_under_its_one_end() {
    let mut world = World::watched_by(1);
    for name in ["allowed", "denied", "cancelled", "ended", "late"] {
        world.ask_within(name, Some(if name == "ended" { 100 * SECOND } else { 10 * SECOND }));
        assert_balanced(&world);
    }
    world.settle();
    assert_eq!(world.hub.question_stats(), broker_stats(|stats| stats.asked = 5));
    let now = world.now;
    world.watching[0].watcher.answer(&id("allowed"), ALLOW, now).unwrap();
    world.watching[0].watcher.answer(&id("denied"), Choice::Deny, now).unwrap();
    world.drain();
    world.settle();
    world.hub.cancel(&id("cancelled"), now).unwrap();
    assert!(world.hub.cancel(&id("cancelled"), now).is_err());
    assert_balanced(&world);
    world.pass(10 * SECOND);
    world.pass(10 * SECOND);
    assert_eq!(world.hub.question_stats().decided(), 4);
    world.hub.remove(&session(), world.now).unwrap();
    world.settle();
    let stats = broker_stats(|stats| {
        (stats.asked, stats.allowed, stats.denied, stats.timed_out, stats.cancelled) = (5, 1, 1, 1, 2);
    });
    assert_eq!(world.hub.question_stats(), stats);
    let dialogs = expected(|stats| (stats.shown, stats.sent, stats.confirmed) = (5, 2, 2));
    assert_eq!(dialogs_stats(&world, 0), dialogs);
    assert_balanced(&world);
    // Another hub begins at nothing.
    world.lose_state();
    assert_eq!(world.hub.question_stats(), BrokerStats::default());
}

// S002-33
#[test]
fn every_answer_that_is_not_taken_is_counted_under_its_reason() {
    let mut world = World::watched_by(2);
    let stranger = world.watch("mallory", WatchFrom::Start);
    world.settle();
    world.ask_within("p", Some(10 * SECOND));
    for (client, params) in [
        (stranger, raw("allow")),
        (0, raw("Allow")),
        (0, "{}".to_owned()),
        (0, raw("allow").replace("\"p\"", "\"other\"")),
        (1, raw("allow")),
        (1, raw("allow")),
        (0, raw("allow")),
        (1, raw("deny")),
        (stranger, raw("deny")),
    ] {
        _ = world.request(client, "permission/answer", &params);
    }
    let stats = broker_stats(|stats| {
        (stats.asked, stats.allowed) = (1, 1);
        (stats.foreign, stats.malformed, stats.unknown, stats.duplicates, stats.beaten) = (2, 2, 1, 1, 2);
    });
    assert_eq!(world.hub.question_stats(), stats);
    // What does not answer counts nothing, however wrong it is.
    for method in ["permission/look", "session/own"] {
        assert!(world.request(0, method, "{}").is_err());
    }
    assert_eq!(world.hub.question_stats(), stats);
    // Of a session that has ended nobody knows who may answer.
    world.hub.remove(&session(), world.now).unwrap();
    world.drain();
    _ = world.request(1, "permission/answer", &raw("allow"));
    assert_eq!(world.hub.question_stats().unknown, 2);
    assert_balanced(&world);
}

// S002-33
#[test]
fn an_answer_after_the_time_counts_as_late_and_the_question_as_timed_out_once() {
    let mut broker = Broker::new(BrokerConfig::default(), secs(0));
    broker.ask(session(), request("p"), Some(SECOND), secs(0)).unwrap();
    broker.ask(session(), request("q"), Some(SECOND), secs(0)).unwrap();
    assert!(broker.ask(session(), request("p"), None, secs(0)).is_err(), "it was not asked again");
    // The timer is late, and comes after the answer.
    let answer = |broker: &mut Broker, at| broker.answer(connection(1), true, response("p", ALLOW), secs(at));
    assert_eq!(answer(&mut broker, 2), Err(AnswerError::Expired));
    broker.handle_timeout(secs(2));
    assert_eq!(answer(&mut broker, 3), Err(AnswerError::Expired));
    assert_eq!(broker.stats(), broker_stats(|stats| (stats.asked, stats.timed_out, stats.late) = (2, 2, 2)));
    // Once nobody remembers it, nobody knows it.
    broker.handle_timeout(secs(10_000));
    assert_eq!(answer(&mut broker, 10_000), Err(AnswerError::UnknownRequest));
    assert_eq!((broker.stats().unknown, broker.stats().late, broker.len()), (1, 2, 0));
}

// S002-33
#[test]
fn an_answer_is_counted_once_however_often_its_sender_comes_back() {
    let mut world = World::watched_by(1);
    world.ask("p");
    world.settle();
    world.watching[0].watcher.answer(&id("p"), ALLOW, world.now).unwrap();
    world.drain();
    for _ in 0..5 {
        world.detach(0);
        world.pass(SECOND);
        world.attach(0);
    }
    world.settle();
    assert_eq!(dialogs_stats(&world, 0), expected(|stats| (stats.shown, stats.sent, stats.confirmed) = (1, 1, 1)));
    let once = broker_stats(|stats| (stats.asked, stats.allowed) = (1, 1));
    assert_eq!(world.hub.question_stats(), once);
    // Another epoch shows what is open anew, and not what was decided.
    world.end_epoch(0, || true, 0);
    world.settle();
    assert_eq!((dialogs_stats(&world, 0).shown, world.hub.question_stats()), (1, once));
}

// S002-33
#[test]
fn an_answer_that_nobody_confirms_is_retried_and_fails_and_may_still_be_taken() {
    let mut world = World::watched_by(1);
    world.ask_within("p", Some(1_000 * SECOND));
    world.settle();
    world.watching[0].watcher.answer(&id("p"), ALLOW, world.now).unwrap();
    world.drain();
    // Nothing is served: four times nobody answers.
    for _ in 0..60 {
        world.pass(SECOND);
    }
    let failed = expected(|stats| (stats.shown, stats.sent, stats.retried, stats.failed) = (1, 1, 3, 1));
    assert_eq!(dialogs_stats(&world, 0), failed);
    // What was written arrives after all, four times.
    world.settle();
    let confirmed = expected(|stats| (*stats, stats.confirmed) = (failed, 1));
    assert_eq!(dialogs_stats(&world, 0), confirmed);
    assert_eq!(
        world.hub.question_stats(),
        broker_stats(|stats| (stats.asked, stats.allowed, stats.duplicates) = (1, 1, 3))
    );
}

// S002-33
#[test]
fn an_answer_whose_dialog_goes_otherwise_was_not_taken() {
    let mut world = World::watched_by(2);
    world.ask("p");
    world.ask("open");
    world.settle();
    world.watching[0].watcher.answer(&id("p"), ALLOW, world.now).unwrap();
    world.watching[1].watcher.answer(&id("p"), Choice::Deny, world.now).unwrap();
    world.drain();
    world.settle();
    let all = [0, 1].map(|client| dialogs_stats(&world, client));
    assert_eq!(all.map(|stats| stats.sent), [1, 1]);
    assert_eq!(all.map(|stats| stats.confirmed + stats.not_taken), [1, 1]);
    assert_eq!(all.iter().map(|stats| stats.confirmed).sum::<u64>(), 1);
    // A dialog that nobody has answered goes without an answer that was not taken.
    let before = dialogs_stats(&world, 0);
    world.hub.cancel(&id("open"), world.now).unwrap();
    world.drain();
    world.settle();
    assert_eq!(dialogs_stats(&world, 0), before);
}

// S002-33
#[test]
fn an_answer_on_its_way_while_an_earlier_one_turns_out_to_have_been_taken_was_not_taken() {
    let mut world = World::watched_by(1);
    world.ask_within("p", Some(1_000 * SECOND));
    world.settle();
    world.watching[0].watcher.answer(&id("p"), ALLOW, world.now).unwrap();
    world.drain();
    // Nothing is served: four times nobody answers.
    for _ in 0..60 {
        world.pass(SECOND);
    }
    assert_eq!(dialogs_stats(&world, 0).failed, 1);
    world.watching[0].watcher.answer(&id("p"), Choice::Deny, world.now).unwrap();
    world.drain();
    world.settle();
    let both = expected(|stats| {
        (stats.shown, stats.sent, stats.retried, stats.failed) = (1, 2, 3, 1);
        (stats.confirmed, stats.not_taken) = (1, 1);
    });
    assert_eq!(dialogs_stats(&world, 0), both);
    assert_eq!((world.hub.question_stats().allowed, world.hub.question_stats().beaten), (1, 1));
}

// S002-33
#[test]
fn an_answer_of_this_side_that_was_taken_counts_as_confirmed_where_only_the_session_says_so() {
    // What is said, whether the answer that is on its way is that, and which connection it came from.
    for (is_allowed, by, (confirmed, not_taken)) in
        [(false, 1, (1, 0)), (true, 1, (1, 1)), (false, 2, (0, 1)), (true, 2, (0, 1))]
    {
        let by = connection(by);
        let resolved = PermissionMessage::Resolved { request_id: id("p"), is_allowed, by: Some(by.to_string()) };
        let refused = Err(AnswerFailed::Refused(AnswerError::AlreadyResolved { is_allowed, by }));
        for is_refused in [false, true] {
            let mut dialogs = dialogs(1, &["p"]);
            dialogs.answer(&id("p"), ALLOW, secs(0)).unwrap();
            for at in 1..60 {
                dialogs.handle_timeout(secs(at));
            }
            assert_eq!(dialogs.stats().failed, 1);
            dialogs.answer(&id("p"), Choice::Deny, secs(60)).unwrap();
            if is_refused {
                dialogs.handle_answered(&response("p", ALLOW), refused, secs(61));
            } else {
                dialogs.handle_message(&session(), resolved.clone(), secs(61));
            }
            let stats = dialogs.stats();
            assert_eq!((stats.confirmed, stats.not_taken), (confirmed, not_taken), "{is_allowed} {by} {is_refused}");
        }
    }
}
