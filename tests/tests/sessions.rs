//! Sessions, as a machine: who owns them, who watches, and that each event is seen once or its loss is.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use harness::orders::orders;
use harness::sessions::EPOCH;
use harness::sessions::TTL;
use harness::sessions::Watching;
use harness::sessions::connection;
use harness::sessions::events;
use harness::sessions::number;
use harness::sessions::owner;
use harness::sessions::principal;
use harness::sessions::pull_all;
use harness::sessions::secs;
use harness::sessions::session;
use harness::sessions::sessions;
use harness::sessions::sessions_with;
use harness::sessions::tag;
use reattach_core::id::Name;
use reattach_core::id::SessionId;
use reattach_core::session::Config;
use reattach_core::session::Detached;
use reattach_core::session::Event;
use reattach_core::session::SessionMisuse;
use reattach_core::session::WatchFrom;
use reattach_core::wire::Payload;

// S004-048, S004-044, S004-147
#[test]
fn who_owns_and_watches_gets_each_event_once_and_a_thousand_returns_leave_one_observer() {
    let mut sessions = sessions(&["s"]);
    let id = session("s");
    sessions.own(connection(1), &id).unwrap();
    for round in 0..1_000 {
        _ = sessions.watch_after(connection(1), &id, None).unwrap();
        sessions.publish(&id, &number(round), secs(0)).unwrap();
        assert_eq!(pull_all(&mut sessions, 1).len(), 1);
        sessions.handle_detached(connection(1));
        sessions.handle_attached(connection(1), &principal("ada"));
    }
    assert_eq!(sessions.observers(&id), 1);
    assert_eq!(owner(&sessions, "s"), Some(connection(1)));
}

// S004-028, S002-60, N07
#[test]
fn nobody_sees_or_takes_a_session_of_somebody_else() {
    let mut sessions = sessions(&["s"]);
    let id = session("s");
    assert_eq!(sessions.watch_after(connection(9), &id, None), Err(SessionMisuse::Forbidden));
    assert_eq!(sessions.own(connection(9), &id), Err(SessionMisuse::Forbidden));
    assert_eq!(sessions.begin_resume(connection(9), &id).unwrap_err(), SessionMisuse::Forbidden);
    assert_eq!(sessions.own(connection(8), &id), Err(SessionMisuse::UnknownConnection));
    assert_eq!(sessions.own(connection(1), &session("t")), Err(SessionMisuse::UnknownSession));
    assert_eq!(events(&mut sessions), []);
}

// S004-136, S004-039, N05
#[test]
fn n05_another_connection_takes_a_session_over_at_once_and_the_end_of_the_first_leaves_it_alone() {
    let mut sessions = sessions(&["s"]);
    let id = session("s");
    let first = sessions.own(connection(1), &id).unwrap();
    sessions.handle_detached(connection(1));
    assert!(!sessions.is_reachable(connection(1)), "in its grace nobody reaches it");
    let second = sessions.own(connection(2), &id).unwrap();
    assert!(second > first);
    sessions.handle_gone(connection(1));
    sessions.handle_gone(connection(1));
    assert_eq!(owner(&sessions, "s"), Some(connection(2)));
    let owned = |by, generation, before| Event::Owned { session: id.clone(), by, generation, before };
    assert_eq!(
        events(&mut sessions),
        [
            owned(connection(1), first, None),
            owned(connection(2), second, Some(connection(1))),
            Event::Gone { connection: connection(1), watched: vec![] },
        ]
    );
}

// S004-146
#[test]
fn an_owner_that_was_replaced_changes_nothing() {
    let mut sessions = sessions(&["s"]);
    let id = session("s");
    let first = sessions.own(connection(1), &id).unwrap();
    let second = sessions.own(connection(2), &id).unwrap();
    assert_eq!(sessions.release(&id, first), Err(SessionMisuse::Replaced));
    assert_eq!(sessions.suspend(&id, first, secs(1)), Err(SessionMisuse::Replaced));
    assert_eq!(owner(&sessions, "s"), Some(connection(2)));
    assert_eq!(sessions.own(connection(2), &id), Ok(second), "owning twice is owning");
    assert_eq!(sessions.release(&id, second), Ok(()));
    assert_eq!(sessions.release(&id, second), Err(SessionMisuse::Replaced));
    assert_eq!(owner(&sessions, "s"), None);
}

// S004-036, S004-041, S004-043, S001-29, S001-41
#[test]
fn the_end_of_a_connection_detaches_what_it_owns_and_names_what_it_watched_to_the_end() {
    let mut sessions = sessions(&["a", "b", "c", "d"]);
    for name in ["a", "b", "c"] {
        sessions.own(connection(1), &session(name)).unwrap();
    }
    for name in ["a", "d"] {
        _ = sessions.watch_after(connection(1), &session(name), None).unwrap();
    }
    sessions.own(connection(2), &session("d")).unwrap();
    sessions.unwatch(connection(1), &session("d"));
    sessions.remove(&session("b")).unwrap();
    _ = events(&mut sessions);
    sessions.handle_gone(connection(1));
    let told = events(&mut sessions);
    assert_eq!(told[0], Event::Gone { connection: connection(1), watched: vec![session("a")] });
    let detached = told[1..].iter().map(|event| match event {
        Event::Detached { session, why: Detached::OwnerGone, .. } => session.as_str().to_owned(),
        Event::Owned { .. } | Event::Detached { .. } | Event::Gone { .. } | _ => panic!("{event:?}"),
    });
    assert_eq!(detached.collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(owner(&sessions, "d"), Some(connection(2)));
}

// S003-46, S004-038
#[test]
fn the_end_of_a_connection_leaves_a_session_alone_that_another_one_owns_and_watches() {
    let mut sessions = sessions(&["s"]);
    let id = session("s");
    for ada in [connection(1), connection(2)] {
        _ = sessions.watch(ada, &id, WatchFrom::Start, tag("w")).unwrap();
        sessions.own(ada, &id).unwrap();
    }
    assert_eq!(sessions.observers(&id), 2);
    sessions.handle_gone(connection(1));
    assert_eq!(owner(&sessions, "s"), Some(connection(2)));
    assert_eq!(sessions.observers(&id), 1);
    sessions.publish(&id, &Payload::new("e").unwrap(), secs(0)).unwrap();
    let came = pull_all(&mut sessions, 2);
    assert!(came.iter().any(|text| text.contains("\"e\"")), "{came:?}");
}

// S004-040, S004-154
#[test]
fn a_suspended_session_outlives_its_connection_and_not_its_own_time() {
    let mut sessions = sessions(&["sleeps", "wakes"]);
    for name in ["sleeps", "wakes"] {
        let generation = sessions.own(connection(1), &session(name)).unwrap();
        sessions.suspend(&session(name), generation, secs(10)).unwrap();
    }
    sessions.handle_gone(connection(1));
    sessions.own(connection(2), &session("wakes")).unwrap();
    _ = events(&mut sessions);
    sessions.handle_timeout(secs(10 + TTL - 1));
    assert_eq!(events(&mut sessions), []);
    assert_eq!(sessions.poll_timeout(), Some(secs(10 + TTL)));
    sessions.handle_timeout(secs(10 + TTL));
    let told = events(&mut sessions);
    assert!(
        matches!(told[..], [Event::Detached { ref session, why: Detached::SuspendedTooLong, .. }] if session.as_str() == "sleeps"),
        "{told:?}"
    );
    assert_eq!((owner(&sessions, "wakes"), sessions.poll_timeout()), (Some(connection(2)), None));
}

// S001-26, S001-27, S001-28, S001-30, N17
#[test]
fn n17_who_takes_a_session_up_protects_it_and_nobody_else_s_failure_ends_that() {
    // X owns s and another; Y and Z take s up, X ends at each point in between.
    for ends_at in 0..5 {
        for is_saved in [true, false] {
            let mut sessions = sessions(&["s", "other"]);
            let (x, y, z) = (connection(1), connection(2), connection(3));
            sessions.own(x, &session("s")).unwrap();
            sessions.own(x, &session("other")).unwrap();
            let (mut of_y, mut of_z) = (None, None);
            for step in 0..5 {
                if step == ends_at {
                    sessions.handle_gone(x);
                }
                match step {
                    0 => of_y = sessions.begin_resume(y, &session("s")).ok(),
                    1 => of_z = sessions.begin_resume(z, &session("s")).ok(),
                    2 => sessions.fail_resume(of_y.take().unwrap()),
                    3 if is_saved => assert!(sessions.finish_resume(of_z.take().unwrap()).is_ok()),
                    3 => sessions.fail_resume(of_z.take().unwrap()),
                    _ => {}
                }
                if ends_at > 0 && (1..3).contains(&step) {
                    assert!(owner(&sessions, "s").is_some(), "it is not reaped while it is taken up");
                }
            }
            assert_eq!(owner(&sessions, "s"), is_saved.then_some(z), "X ends at {ends_at}");
            assert_eq!(owner(&sessions, "other"), None, "the rest of X is reaped");
            let told = events(&mut sessions);
            let reaped = told.iter().filter(
                |event| matches!(event, Event::Detached { session, why: Detached::OwnerGone, .. } if session.as_str() == "s"),
            );
            // Where X ends before anybody takes s up, it is detached, and may be taken up after that.
            assert_eq!(reaped.count(), usize::from(!is_saved || ends_at == 0), "X ends at {ends_at}: {told:?}");
        }
    }
}

#[test]
fn a_connection_that_ends_while_it_takes_a_session_up_has_failed_to() {
    let mut sessions = sessions(&["s"]);
    let id = session("s");
    sessions.own(connection(1), &id).unwrap();
    let resume = sessions.begin_resume(connection(2), &id).unwrap();
    sessions.handle_gone(connection(1));
    assert!(owner(&sessions, "s").is_some());
    sessions.handle_gone(connection(2));
    assert_eq!(owner(&sessions, "s"), None, "nobody is left to keep it");
    assert_eq!(sessions.finish_resume(resume), Err(SessionMisuse::UnknownConnection));
    assert_eq!(owner(&sessions, "s"), None);
}

// Found by simulate_hub, seed 2000000050494: the end of the owner's second life no longer concerned the session, which it owned for
// ever.
#[test]
fn an_owner_that_returns_while_its_session_is_taken_up_detaches_it_when_it_ends_again() {
    let mut sessions = sessions(&["s"]);
    let id = session("s");
    let generation = sessions.own(connection(1), &id).unwrap();
    let resume = sessions.begin_resume(connection(2), &id).unwrap();
    sessions.handle_gone(connection(1));
    sessions.handle_attached(connection(1), &principal("ada"));
    assert_eq!(sessions.own(connection(1), &id), Ok(generation), "it was kept");
    sessions.fail_resume(resume);
    assert_eq!(owner(&sessions, "s"), Some(connection(1)));
    _ = events(&mut sessions);

    sessions.handle_gone(connection(1));

    assert_eq!(owner(&sessions, "s"), None);
    let detached = Event::Detached { session: id, generation, why: Detached::OwnerGone };
    assert_eq!(events(&mut sessions), [Event::Gone { connection: connection(1), watched: Vec::new() }, detached]);
}

// S001-27: what sleeps is not detached because somebody failed to take it up.
#[test]
fn an_owner_that_returns_puts_a_session_to_sleep_and_a_take_up_that_fails_leaves_it_asleep() {
    let mut sessions = sessions(&["s"]);
    let id = session("s");
    let generation = sessions.own(connection(1), &id).unwrap();
    let resume = sessions.begin_resume(connection(2), &id).unwrap();
    sessions.handle_gone(connection(1));
    sessions.handle_attached(connection(1), &principal("ada"));
    sessions.suspend(&id, generation, secs(1)).unwrap();
    _ = events(&mut sessions);

    sessions.fail_resume(resume);

    assert_eq!(events(&mut sessions), []);
    assert_eq!(sessions.poll_timeout(), Some(secs(1 + TTL)));
}

// S004-042, N08
#[test]
fn n08_expiry_take_over_and_return_in_one_tick_leave_a_session_with_whom_it_belongs_to_in_every_order() {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Step {
        Expires,
        TakenOver,
        Returns,
    }
    use Step::{Expires, Returns, TakenOver};
    for order in orders(&[Expires, TakenOver, Returns]) {
        let mut sessions = sessions(&["s1", "s2", "s3", "s4"]);
        let (c1, c2) = (connection(1), connection(2));
        for name in ["s1", "s2", "s4"] {
            sessions.own(c1, &session(name)).unwrap();
        }
        let sleeping = sessions.ownership(&session("s4")).unwrap().generation();
        sessions.suspend(&session("s4"), sleeping, secs(0)).unwrap();
        _ = sessions.watch_after(c1, &session("s3"), None).unwrap();
        sessions.unwatch(c1, &session("s3"));
        sessions.handle_detached(c1);
        sessions.own(c2, &session("s1")).unwrap();
        _ = events(&mut sessions);
        let mut has_returned = false;
        for &step in &order {
            match step {
                // The registry expires nobody who is attached.
                Expires if has_returned => {}
                Expires => sessions.handle_gone(c1),
                TakenOver => _ = sessions.own(c2, &session("s2")).unwrap(),
                Returns => {
                    sessions.handle_attached(c1, &principal("ada"));
                    has_returned = true;
                }
            }
        }
        assert_eq!(owner(&sessions, "s1"), Some(c2), "{order:?}");
        assert_eq!(owner(&sessions, "s2"), Some(c2), "{order:?}");
        assert_eq!(owner(&sessions, "s3"), None, "{order:?}");
        assert!(sessions.ownership(&session("s4")).unwrap().is_suspended(), "{order:?}");
        let gone = events(&mut sessions).iter().filter(|event| matches!(event, Event::Gone { .. })).count();
        assert!(gone <= 1, "{order:?}");
        assert!(sessions.is_reachable(c1), "{order:?}");
    }
}

#[test]
fn a_session_that_ends_says_so_to_whoever_watches() {
    let mut sessions = sessions(&["s"]);
    let id = session("s");
    _ = sessions.watch_after(connection(1), &id, None).unwrap();
    sessions.own(connection(2), &id).unwrap();
    sessions.publish(&id, &number(1), secs(0)).unwrap();
    sessions.remove(&id).unwrap();
    assert_eq!(pull_all(&mut sessions, 1), ["s[1,1]", "s[]"], "what came before comes first");
    assert_eq!(sessions.remove(&id), Err(SessionMisuse::UnknownSession));
    assert_eq!((sessions.poll_timeout(), sessions.len()), (None, 0));
    sessions.create(id.clone(), principal("ada"), EPOCH).unwrap();
    assert_eq!(sessions.create(id, principal("ada"), EPOCH), Err(SessionMisuse::SessionExists));
    assert_eq!(pull_all(&mut sessions, 1), [""; 0], "one of the same name is another");
}

#[test]
fn everything_is_bounded() {
    let mut config = Config::default();
    (config.max_sessions, config.max_observers, config.max_watched) = (2, 1, 1);
    let mut sessions = sessions_with(config, &["a", "b"]);
    let limit = |limit| Err(SessionMisuse::TooMany { limit });
    assert_eq!(sessions.create(session("c"), principal("ada"), EPOCH), limit(2));
    _ = sessions.watch_after(connection(1), &session("a"), None).unwrap();
    _ = sessions.watch_after(connection(1), &session("a"), None).unwrap();
    assert_eq!(sessions.watch_after(connection(1), &session("b"), None), Err(SessionMisuse::TooMany { limit: 1 }));
    assert_eq!(sessions.watch_after(connection(2), &session("a"), None), Err(SessionMisuse::TooMany { limit: 1 }));
    assert!(SessionId::new(&"x".repeat(SessionId::MAX_LEN + 1)).is_err());
    assert_eq!(session(&"x".repeat(SessionId::MAX_LEN)).lane().as_str().len(), Name::MAX_LEN);
}
