//! A watcher, as a machine: what it tells its application when connections, servers and sessions come and go.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use harness::hub::World;
use harness::hub::session;
use harness::permissions::ALLOW;
use harness::permissions::connection;
use harness::permissions::id;
use harness::permissions::json;
use harness::permissions::secs;
use harness::sessions::number;
use reattach_core::hub::Config;
use reattach_core::hub::Ended;
use reattach_core::hub::WatcherEvent;
use reattach_core::messages::Choice;
use reattach_core::permission::DialogMisuse;
use reattach_core::permission::Removed;
use reattach_core::permission::Status;
use reattach_core::permission::Verdict;
use reattach_core::session::Cursor;
use reattach_core::session::Offset;
use reattach_core::session::WatchFrom;
use reattach_core::wire::Payload;
use reattach_core::wire::UncheckedPayload;

fn event(at: u64, value: u64) -> WatcherEvent {
    WatcherEvent::Event(Offset::new(at).unwrap(), number(value))
}

fn status(pending: u64, processing: u64) -> WatcherEvent {
    WatcherEvent::QueueStatus { pending, processing }
}

fn removed(name: &str, why: Removed) -> WatcherEvent {
    WatcherEvent::DialogRemoved { id: id(name), why }
}

/// What was told, but for how many questions are open.
fn told(world: &mut World, client: usize) -> Vec<WatcherEvent> {
    let mut told = world.told(client);
    told.retain(|event| !matches!(event, WatcherEvent::QueueStatus { .. }));
    told
}

fn remove(world: &mut World) {
    world.hub.remove(&session(), world.now).unwrap();
    world.drain();
}

/// A log that keeps so many events.
fn keeping(count: usize) -> World {
    let mut config = Config::default();
    config.sessions.log.count = count;
    World::new(config)
}

// S004-046, S004-048, S004-147
#[test]
fn an_epoch_that_ends_at_any_point_loses_nothing_and_tells_nothing_twice() {
    for steps in 0..30 {
        let mut world = World::default();
        let client = world.watch("ada", WatchFrom::Start);
        for number in 1..=5 {
            world.publish(number);
        }
        for _ in 0..steps {
            _ = world.respond(client) || world.deliver(client) || world.serve(client) || world.pull(client);
        }
        world.end_epoch(client, || steps % 2 == 0, steps % 3);
        world.publish(6);
        world.settle();
        let events = told(&mut world, client);
        let seen: Vec<_> = events.iter().filter(|event| matches!(event, WatcherEvent::Event(..))).cloned().collect();
        assert_eq!(seen, (1..=6).map(|number| event(number, number)).collect::<Vec<_>>(), "after {steps} steps");
        assert!(!events.iter().any(|event| matches!(event, WatcherEvent::Missed { .. })), "after {steps} steps");
        assert_eq!(world.hub.sessions().observers(&session()), 1);
    }
}

#[test]
fn leftovers_of_an_earlier_watch_are_dropped_behind_the_tag() {
    let mut world = World::watched_by(1);
    world.publish(1);
    world.publish(2);
    assert!(world.pull(0) && world.pull(0));
    _ = world.told(0);
    world.end_epoch(0, || true, 2);
    world.watching[0].lane.extend(["[9,9]", "[null]", "[]", "{}", "[\"other\",{}]"].map(json));
    world.settle();
    assert_eq!(told(&mut world, 0), [event(1, 1), event(2, 2), WatcherEvent::UpToDate]);
}

#[test]
fn what_is_up_to_date_is_told_once_for_each_watch_and_behind_all_that_was_before() {
    let mut world = World::default();
    world.publish(1);
    world.ask("p");
    let first = world.watch("ada", WatchFrom::Start);
    world.settle();
    let dialog = || WatcherEvent::Dialog(id("p"));
    assert_eq!(world.told(first), [status(1, 0), dialog(), event(1, 1), WatcherEvent::UpToDate]);
    world.hub.set_snapshot(&session(), json("{}")).unwrap();
    let second = world.watch("ada", WatchFrom::Start);
    world.settle();
    assert_eq!(
        told(&mut world, second),
        [dialog(), WatcherEvent::Snapshot(json("{}")), WatcherEvent::UpToDate],
        "a snapshot is of what was before"
    );
    world.publish(2);
    world.settle();
    assert_eq!((told(&mut world, first), told(&mut world, second)), (vec![event(4, 2)], vec![event(4, 2)]));
    world.detach(first);
    world.attach(first);
    world.settle();
    assert_eq!(told(&mut world, first), [WatcherEvent::UpToDate]);
}

#[test]
fn a_gap_is_told_and_what_comes_behind_it_is_seen() {
    let mut world = keeping(2);
    let client = world.watch("ada", WatchFrom::Start);
    world.settle();
    world.publish(1);
    world.settle();
    _ = world.told(client);
    world.detach(client);
    for number in 2..=9 {
        world.publish(number);
    }
    world.attach(client);
    world.settle();
    world.publish(10);
    world.settle();
    let end = Cursor { epoch: reattach_core::id::Epoch::from_bytes([1; 16]), offset: Offset::new(9).unwrap() };
    assert_eq!(told(&mut world, client), [WatcherEvent::Missed { up_to: end }, WatcherEvent::UpToDate, event(10, 10)]);
    assert_eq!(
        world.watching[client].watcher.position(),
        WatchFrom::After(Cursor { offset: Offset::new(10).unwrap(), ..end })
    );
}

// S004-046
#[test]
fn a_snapshot_that_is_lost_on_its_way_is_told_by_the_next_watch() {
    for start in [true, false] {
        let mut world = keeping(3);
        for number in 1..=3 {
            world.publish(number);
        }
        let from =
            WatchFrom::After(Cursor { epoch: reattach_core::id::Epoch::from_bytes([1; 16]), offset: Offset::ZERO });
        let client = world.watch("ada", if start { WatchFrom::Start } else { from });
        for number in 4..=5 {
            world.publish(number);
        }
        world.hub.set_snapshot(&session(), json("\"up to 5\"")).unwrap();
        world.publish(6);
        // The response comes, and the snapshot does not.
        assert!(world.serve(client) && world.respond(client) && world.pull(client));
        world.end_epoch(client, || true, 0);
        world.settle();
        let snapshot = WatcherEvent::Snapshot(json("\"up to 5\""));
        assert_eq!(told(&mut world, client), [snapshot, event(6, 6), WatcherEvent::UpToDate]);
    }
}

#[test]
fn who_watches_from_now_on_misses_nothing_from_the_response_on() {
    let mut world = World::default();
    world.publish(1);
    let client = world.watch("ada", WatchFrom::Now);
    assert!(world.serve(client) && world.respond(client));
    world.end_epoch(client, || true, 0);
    world.publish(2);
    world.settle();
    assert_eq!(told(&mut world, client), [event(2, 2), WatcherEvent::UpToDate]);
}

// S004-042
#[test]
fn a_session_that_ends_is_over_once_whatever_of_its_beginning_was_told() {
    for steps in 0..8 {
        let mut world = World::default();
        let client = world.watch("ada", WatchFrom::Start);
        world.publish(1);
        world.ask("p");
        for _ in 0..steps {
            _ = world.respond(client) || world.deliver(client) || world.serve(client) || world.pull(client);
        }
        remove(&mut world);
        world.settle();
        let events = told(&mut world, client);
        let why = if steps == 0 { Ended::UnknownSession } else { Ended::Over };
        assert_eq!(events.last(), Some(&WatcherEvent::Ended(why)), "after {steps} steps");
        let ends = events.iter().filter(|event| matches!(event, WatcherEvent::Ended(_))).count();
        assert_eq!((ends, world.dialogs(client).len()), (1, 0), "after {steps} steps");
        let watcher = &mut world.watching[client].watcher;
        assert_eq!((watcher.is_over(), watcher.poll_timeout()), (true, None));
        let ended = watcher.clone();
        watcher.handle_epoch_ended();
        watcher.handle_attached(false, secs(1));
        watcher.handle_attached(true, secs(1));
        watcher.handle_message(UncheckedPayload::new("[]"), secs(1));
        watcher.look(&id("p"), true);
        assert_eq!(watcher.answer(&id("p"), ALLOW, secs(1)), Err(DialogMisuse::UnknownInteraction));
        watcher.handle_timeout(secs(10_000));
        assert_eq!((watcher.poll_output(), watcher.is_over(), ended.is_over()), (None, true, true));
    }
}

#[test]
fn nothing_is_told_or_asked_behind_the_end_though_an_answer_is_on_its_way() {
    let mut world = World::watched_by(1);
    world.ask("p");
    world.settle();
    _ = world.told(0);
    world.watching[0].watcher.answer(&id("p"), ALLOW, secs(0)).unwrap();
    world.drain();
    remove(&mut world);
    // The messages are quicker than the answer.
    while world.pull(0) || world.deliver(0) {}
    let events = told(&mut world, 0);
    assert_eq!(
        events,
        [WatcherEvent::Dialog(id("p")), removed("p", Removed::Cancelled), WatcherEvent::Ended(Ended::Over)]
    );
    world.settle();
    world.pass(Duration::from_secs(1_000));
    world.settle();
    assert_eq!((told(&mut world, 0), world.watching[0].requests.len()), (vec![], 0));
}

// N15, S002-55
#[test]
fn a_server_that_has_lost_its_state_is_told_once() {
    let mut world = World::watched_by(2);
    world.ask("p");
    world.settle();
    for client in 0..2 {
        _ = world.told(client);
    }
    world.watching[0].watcher.answer(&id("p"), ALLOW, secs(0)).unwrap();
    world.drain();
    world.lose_state();
    world.settle();
    world.pass(Duration::from_secs(100));
    world.settle();
    let ended = || vec![removed("p", Removed::Forgotten), WatcherEvent::Ended(Ended::UnknownSession)];
    assert_eq!(told(&mut world, 0), [vec![WatcherEvent::Dialog(id("p"))], ended()].concat());
    assert_eq!(told(&mut world, 1), ended());
    // A session of the same name is another, and what was before it is missed.
    let mut world = World::watched_by(1);
    world.publish(1);
    world.settle();
    _ = world.told(0);
    world.lose_state();
    world.begin_session();
    world.settle();
    world.publish(1);
    world.settle();
    let events = told(&mut world, 0);
    assert!(
        matches!(events[..], [WatcherEvent::Missed { .. }, WatcherEvent::UpToDate, WatcherEvent::Event(..)]),
        "{events:?}"
    );
}

// S002-21, S002-27, S004-045
#[test]
fn a_question_that_one_has_answered_is_gone_at_the_other_who_is_told_whose_answer_it_was() {
    let mut world = World::watched_by(2);
    world.ask("p");
    world.settle();
    world.watching[0].watcher.answer(&id("p"), Choice::Deny, secs(0)).unwrap();
    world.drain();
    world.settle();
    let by = Some(connection(1).to_string());
    assert_eq!(told(&mut world, 0).last(), Some(&removed("p", Removed::Confirmed(Choice::Deny))));
    assert_eq!(told(&mut world, 1).last(), Some(&removed("p", Removed::Decided { is_allowed: false, by })));
    assert_eq!(world.decided.len(), 1);
}

// S002-21, N20
#[test]
fn who_returns_sees_what_is_open_with_the_time_that_is_left_and_nothing_of_what_is_decided() {
    let mut world = World::watched_by(2);
    for name in ["p", "q"] {
        world.ask(name);
    }
    world.settle();
    _ = (world.told(0), world.told(1));
    world.detach(0);
    for name in ["asked", "decided"] {
        world.ask(name);
    }
    world.settle();
    for (name, choice) in [("p", ALLOW), ("decided", Choice::Deny)] {
        world.watching[1].watcher.answer(&id(name), choice, world.now).unwrap();
        world.drain();
    }
    world.settle();
    world.pass(Duration::from_secs(59));
    world.attach(0);
    world.settle();
    let by = Some(connection(2).to_string());
    assert_eq!(
        told(&mut world, 0),
        [
            WatcherEvent::Dialog(id("asked")),
            removed("p", Removed::Decided { is_allowed: true, by }),
            WatcherEvent::UpToDate
        ]
    );
    assert_eq!(world.dialogs(0), ["q", "asked"]);
    let expires = world.watching[0].watcher.dialogs().get(&id("asked")).unwrap().expires;
    assert_eq!(expires, Some(secs(300)), "as long as the server waits");
}

// S002-36, N20
#[test]
fn an_answer_that_was_given_away_from_the_server_is_confirmed_or_told_who_was_first() {
    for is_first in [true, false] {
        let mut world = World::watched_by(2);
        world.ask("p");
        world.settle();
        _ = (world.told(0), world.told(1));
        world.detach(0);
        world.watching[0].watcher.answer(&id("p"), ALLOW, secs(0)).unwrap();
        world.drain();
        if !is_first {
            world.watching[1].watcher.answer(&id("p"), Choice::Deny, secs(0)).unwrap();
            world.drain();
            world.settle();
        }
        world.pass(Duration::from_secs(100));
        assert_eq!(world.watching[0].watcher.dialogs().get(&id("p")).unwrap().status.choice(), Some(&ALLOW));
        world.attach(0);
        world.settle();
        let by = Some(connection(2).to_string());
        let why = if is_first { Removed::Confirmed(ALLOW) } else { Removed::Decided { is_allowed: false, by } };
        assert!(told(&mut world, 0).contains(&removed("p", why)));
        assert_eq!(world.decided.len(), 1);
    }
}

#[test]
fn an_answer_that_comes_before_its_client_watches_again_is_given_again_and_not_lost() {
    let mut world = World::watched_by(1);
    world.ask("p");
    world.settle();
    _ = world.told(0);
    world.detach(0);
    world.watching[0].watcher.answer(&id("p"), ALLOW, secs(0)).unwrap();
    world.drain();
    // The server has forgotten the connection, and the answer goes on into its next epoch, before the request to watch.
    world.end_epoch(0, || true, 0);
    world.attach(0);
    assert!(world.serve(0) && world.respond(0));
    assert_eq!(world.decided, [], "who does not watch may not answer");
    world.settle();
    world.pass(Duration::from_secs(1));
    world.settle();
    assert!(matches!(&world.decided[..], [(_, Verdict::Allow { .. })]), "{:?}", world.decided);
    let events = told(&mut world, 0);
    assert!(events.contains(&removed("p", Removed::Confirmed(ALLOW))), "{events:?}");
    assert!(!events.contains(&removed("p", Removed::Forbidden)), "{events:?}");
}

#[test]
fn a_name_that_is_asked_under_again_shows_the_new_question_and_no_old_answer_decides_it() {
    let mut config = Config::default();
    config.permissions.remembered = Duration::from_secs(10);
    let mut world = World::new(config);
    for _ in 0..2 {
        world.watch("ada", WatchFrom::Start);
    }
    world.ask("p");
    world.settle();
    _ = world.told(0);
    world.detach(0);
    world.watching[1].watcher.answer(&id("p"), Choice::Deny, world.now).unwrap();
    world.drain();
    world.settle();
    world.pass(Duration::from_secs(20));
    let mut again = harness::permissions::request("p");
    again.input = json("\"something else\"");
    world.hub.ask(&session(), again, None, world.now).unwrap();
    world.drain();
    world.attach(0);
    world.settle();
    let dialog = world.watching[0].watcher.dialogs().get(&id("p")).expect("it is open");
    assert_eq!((dialog.request.input.as_str(), &dialog.status), ("\"something else\"", &Status::Pending));
    assert_eq!(
        told(&mut world, 0),
        [removed("p", Removed::Forgotten), WatcherEvent::Dialog(id("p")), WatcherEvent::UpToDate]
    );
}

// S002-04
#[test]
fn who_looks_still_looks_after_it_was_away() {
    let mut world = World::watched_by(1);
    world.ask("p");
    world.settle();
    let watcher = &mut world.watching[0].watcher;
    watcher.look(&id("p"), true);
    watcher.look(&id("nothing"), true);
    world.drain();
    assert_eq!(world.watching[0].requests.len(), 1, "of what is not there nothing is said");
    world.settle();
    assert_eq!(world.hub.broker().status(&session()), (0, 1));
    for is_epoch in [false, true] {
        world.detach(0);
        assert_eq!(world.hub.broker().status(&session()), (1, 0));
        if is_epoch {
            world.end_epoch(0, || false, 0);
        }
        world.attach(0);
        world.settle();
        assert_eq!(world.hub.broker().status(&session()), (0, 1));
        assert_eq!(world.told(0).last(), Some(&status(0, 1)));
    }
    world.watching[0].watcher.look(&id("p"), false);
    world.drain();
    world.settle();
    world.detach(0);
    world.attach(0);
    world.settle();
    assert_eq!(world.hub.broker().status(&session()), (1, 0));
}

#[test]
fn what_cannot_be_sent_is_missed_and_the_rest_is_seen() {
    // Which message it is: where the watch begins, with a snapshot or without, or an event.
    for (has_snapshot, unsendable) in [(false, "["), (true, "{}"), (false, "[3,"), (true, "[3,")] {
        let mut world = World::default();
        for number in 1..=2 {
            world.publish(number);
        }
        if has_snapshot {
            world.hub.set_snapshot(&session(), json("{}")).unwrap();
        }
        for number in 3..=4 {
            world.publish(number);
        }
        let client = world.watch("ada", WatchFrom::Start);
        let mut failures = 0;
        for _ in 0..500 {
            let is_carried = world.respond(client) || world.deliver(client) || world.serve(client);
            if !is_carried && !world.pull(client) {
                world.pass(Duration::from_secs(1));
            }
            let is_it = |payload: &Payload| payload.as_str().contains(unsendable);
            // The very beginning fails once, for it is as short as can be; anything else whenever it is tried.
            let fails = unsendable != "[" || failures == 0;
            if world.watching[client].lane.back().is_some_and(is_it) && fails {
                failures += 1;
                world.watching[client].lane.pop_back();
                world.hub.handle_unsent(connection(1), &session());
                // Saying it twice changes nothing.
                world.hub.handle_unsent(connection(1), &session());
            }
        }
        let (events, what) = (told(&mut world, client), (has_snapshot, unsendable));
        assert!((1..10).contains(&failures), "{what:?}: it is tried {failures} times");
        let missed = |offset| {
            let epoch = reattach_core::id::Epoch::from_bytes([1; 16]);
            WatcherEvent::Missed { up_to: Cursor { epoch, offset: Offset::new(offset).unwrap() } }
        };
        let expected = match what {
            (false, "[") => vec![event(1, 1), event(2, 2), event(3, 3), event(4, 4)],
            (true, "{}") => vec![missed(2), event(3, 3), event(4, 4)],
            (false, _) => vec![event(1, 1), event(2, 2), missed(3), event(4, 4)],
            (true, _) => vec![WatcherEvent::Snapshot(json("{}")), missed(3), event(4, 4)],
        };
        let seen = events.into_iter().filter(|event| *event != WatcherEvent::UpToDate);
        assert_eq!(seen.collect::<Vec<_>>(), expected, "{what:?}");
    }
}

#[test]
fn what_could_not_be_sent_before_another_watch_is_no_matter_to_that() {
    let mut world = World::watched_by(1);
    world.publish(1);
    assert!(world.pull(0));
    _ = world.told(0);
    world.end_epoch(0, || true, 0);
    assert!(world.serve(0));
    world.hub.handle_unsent(connection(1), &session());
    world.settle();
    assert_eq!(told(&mut world, 0), [event(1, 1), WatcherEvent::UpToDate]);
}
