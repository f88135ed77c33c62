//! Sessions, as a machine: who owns them, who watches, and that each event is seen once or its loss is.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use reattach_core::id::ConnectionId;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Name;
use reattach_core::id::Principal;
use reattach_core::id::SessionId;
use reattach_core::rng::Rng;
use reattach_core::session::Config;
use reattach_core::session::Cursor;
use reattach_core::session::Detached;
use reattach_core::session::Event;
use reattach_core::session::Followed;
use reattach_core::session::Follower;
use reattach_core::session::Kind;
use reattach_core::session::LogLimits;
use reattach_core::session::MAX_DEPTH;
use reattach_core::session::Offset;
use reattach_core::session::Pulled;
use reattach_core::session::SessionMisuse;
use reattach_core::session::Sessions;
use reattach_core::session::Watch;
use reattach_core::session::WatchFrom;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;
use reattach_core::wire::UncheckedPayload;

const EPOCH: Epoch = Epoch::from_bytes([7; 16]);
const TTL: u64 = 600;

fn connection(number: u8) -> ConnectionId {
    ConnectionKey::from_bytes([number; 16]).connection_id()
}

fn principal(name: &str) -> Principal {
    Principal::Named(Name::new(name).unwrap())
}

fn session(name: &str) -> SessionId {
    SessionId::new(name).unwrap()
}

fn number(number: u64) -> Payload {
    Payload::new(&number).unwrap()
}

fn secs(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

fn limits(count: usize, bytes: u64, age: u64) -> Config {
    let mut config = Config::default();
    config.log = LogLimits { count, bytes, age: Duration::from_secs(age) };
    config
}

/// Sessions of Ada, whose connections are 1 to 3 and attached; 9 is somebody else's.
fn sessions_with(config: Config, names: &[&str]) -> Sessions {
    let mut sessions = Sessions::new(config, Instant::ZERO);
    for name in names {
        sessions.create(session(name), principal("ada"), EPOCH).unwrap();
    }
    for ada in 1..=3 {
        sessions.handle_attached(connection(ada), &principal("ada"));
    }
    sessions.handle_attached(connection(9), &principal("mallory"));
    sessions
}

fn sessions(names: &[&str]) -> Sessions {
    sessions_with(Config::default(), names)
}

fn events(sessions: &mut Sessions) -> Vec<Event> {
    std::iter::from_fn(|| sessions.poll_event()).collect()
}

/// What is the same in most tests.
trait Watching {
    fn watch_after(
        &mut self,
        connection: ConnectionId,
        id: &SessionId,
        after: Option<Cursor>,
    ) -> Result<Watch, SessionMisuse>;
    fn publish(&mut self, id: &SessionId, event: &Payload, now: Instant) -> Result<Offset, SessionMisuse>;
}

impl Watching for Sessions {
    fn watch_after(
        &mut self,
        connection: ConnectionId,
        id: &SessionId,
        after: Option<Cursor>,
    ) -> Result<Watch, SessionMisuse> {
        self.watch(connection, id, after.map_or(WatchFrom::Now, WatchFrom::After), tag("t"))
    }

    fn publish(&mut self, id: &SessionId, event: &Payload, now: Instant) -> Result<Offset, SessionMisuse> {
        self.append(id, Kind::Application, event, now)
    }
}

fn tag(name: &str) -> Name {
    Name::new(name).unwrap()
}

/// What comes for a connection, but for where a watch begins.
fn pull_all(sessions: &mut Sessions, from: u8) -> Vec<String> {
    let pulled = std::iter::from_fn(|| sessions.pull(connection(from), |_, _| true));
    let told = pulled.filter(|pulled| !pulled.payload.as_str().starts_with("[\""));
    told.map(|Pulled { session, payload }| format!("{session}{}", payload.as_str())).collect()
}

fn owner(sessions: &Sessions, name: &str) -> Option<ConnectionId> {
    sessions.ownership(&session(name)).unwrap().owner()
}

// S004-046, S004-047, S004-158
#[test]
fn who_was_away_gets_what_it_missed_once_and_in_order() {
    let mut sessions = sessions(&["s"]);
    let id = session("s");
    sessions.publish(&id, &number(1), secs(0)).unwrap();
    assert!(matches!(sessions.watch_after(connection(1), &id, None), Ok(Watch::From(_))));
    sessions.publish(&id, &number(2), secs(0)).unwrap();
    assert_eq!(pull_all(&mut sessions, 1), ["s[2,2]"]);
    sessions.handle_detached(connection(1));
    for event in 3..6 {
        sessions.publish(&id, &number(event), secs(1)).unwrap();
    }
    assert_eq!(pull_all(&mut sessions, 1), [""; 0], "nothing goes to who cannot be reached");
    sessions.handle_attached(connection(1), &principal("ada"));
    assert_eq!(pull_all(&mut sessions, 1), ["s[3,3]", "s[4,4]", "s[5,5]"]);
    assert_eq!(pull_all(&mut sessions, 1), [""; 0]);
    // It begins anew, and says how far it has seen.
    sessions.handle_epoch_ended(connection(1));
    let cursor = Cursor { epoch: EPOCH, offset: Offset::new(4).unwrap() };
    assert_eq!(sessions.watch_after(connection(1), &id, Some(cursor)), Ok(Watch::From(cursor)));
    assert_eq!(pull_all(&mut sessions, 1), ["s[5,5]"]);
}

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

#[test]
fn what_is_not_kept_is_a_gap_and_never_a_silent_loss() {
    for (config, what) in
        [(limits(3, 1_000, 100), "count"), (limits(100, 30, 100), "bytes"), (limits(100, 1_000, 5), "age")]
    {
        let mut sessions = sessions_with(config, &["s"]);
        let id = session("s");
        let start = Cursor { epoch: EPOCH, offset: Offset::ZERO };
        assert_eq!(sessions.watch_after(connection(1), &id, Some(start)), Ok(Watch::From(start)));
        for event in 1..=10 {
            sessions.publish(&id, &number(event), secs(event)).unwrap();
        }
        let kept = sessions.log(&id).unwrap().len();
        assert!((2..=5).contains(&kept), "{kept} are kept by {what}");
        assert_eq!(pull_all(&mut sessions, 1), ["s[null]"], "by {what}");
        assert_eq!(sessions.observers(&id), 0, "it has to watch again");
        let end = sessions.log(&id).unwrap().end();
        assert_eq!(sessions.watch_after(connection(1), &id, Some(start)), Ok(Watch::Gap { end }));
        let other_life = Cursor { epoch: Epoch::from_bytes([8; 16]), ..end };
        assert_eq!(sessions.watch_after(connection(1), &id, Some(other_life)), Ok(Watch::Gap { end }));
        let beyond = Cursor { offset: end.offset.next(), ..end };
        assert_eq!(sessions.watch_after(connection(1), &id, Some(beyond)), Ok(Watch::Gap { end }));
        assert_eq!(sessions.observers(&id), 0, "a gap is watched by nobody");
        let kept = Cursor { offset: Offset::new(10 - kept as u64).unwrap(), ..end };
        assert_eq!(sessions.watch_after(connection(1), &id, Some(kept)), Ok(Watch::From(kept)));
        assert_eq!(pull_all(&mut sessions, 1).last().unwrap(), "s[10,10]");
        sessions.handle_timeout(secs(200));
        assert_eq!((sessions.log(&id).unwrap().len(), sessions.poll_timeout()), (0, None), "nothing old is kept");
        assert_eq!(sessions.log(&id).unwrap().bytes(), 0);
    }
}

#[test]
fn an_event_larger_than_the_log_is_kept_alone() {
    let mut sessions = sessions_with(limits(10, 10, 100), &["s"]);
    let id = session("s");
    let from = sessions.watch_after(connection(1), &id, None).unwrap();
    assert!(matches!(from, Watch::From(_)));
    sessions.publish(&id, &Payload::new(&"x".repeat(100)).unwrap(), secs(0)).unwrap();
    assert_eq!(pull_all(&mut sessions, 1).len(), 1);
}

#[test]
fn sessions_take_turns_and_one_that_takes_nothing_does_not_stop_the_others() {
    let mut sessions = sessions(&["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        _ = sessions.watch_after(connection(1), &session(name), None).unwrap();
        for event in 0..2 {
            sessions.publish(&session(name), &number(event), secs(0)).unwrap();
        }
    }
    let takes = |id: &SessionId, _: usize| id.as_str() != "b";
    let pulled = std::iter::from_fn(|| sessions.pull(connection(1), takes)).map(|pulled| pulled.session.to_string());
    assert_eq!(pulled.collect::<Vec<_>>(), ["a", "c", "a", "c", "a", "c"], "where it begins, and two events");
    assert_eq!(pull_all(&mut sessions, 1), ["b[1,0]", "b[2,1]"]);
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
    let orders = [
        [Expires, TakenOver, Returns],
        [Expires, Returns, TakenOver],
        [TakenOver, Expires, Returns],
        [TakenOver, Returns, Expires],
        [Returns, Expires, TakenOver],
        [Returns, TakenOver, Expires],
    ];
    for order in orders {
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
        for step in order {
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

#[test]
fn a_follower_takes_what_is_of_its_watch_and_each_event_of_that_once() {
    let mut follower = Follower::new(&tag("t\""), Cursor { epoch: EPOCH, offset: Offset::new(16).unwrap() });
    let mut follow = |text: &str| follower.handle_message(UncheckedPayload::new(text));
    let offset = |number| Offset::new(number).unwrap();
    for earlier in ["[17,1]", "[null]", "[]", r#"["other"]"#, r#"["other",{}]"#, r#"["t"]"#] {
        assert_eq!(follow(earlier), Followed::Earlier, "{earlier}");
    }
    assert_eq!(follow(r#"["t\""]"#), Followed::Begun(None));
    let event = Payload::from_json(r#"{"a":[1,"]"]}"#).unwrap();
    assert_eq!(follow(r#"[17,{"a":[1,"]"]}]"#), Followed::Event(offset(17), Kind::Application, event));
    assert_eq!(follow("[ 18 , 2 ]"), Followed::Event(offset(18), Kind::Application, number(2)));
    assert_eq!(follow("[19,\"permission\",3]"), Followed::Event(offset(19), Kind::Permission, number(3)));
    for confused in [
        "[19,1]",
        "[21,1]",
        "[20]",
        "[20,1,2]",
        "[20,\"other\",2]",
        "20",
        "{}",
        "[\"20\",1]",
        "[-1,1]",
        "[20.5,1]",
        "[2e1,1]",
        "[20,",
        "",
    ] {
        assert_eq!(follow(confused), Followed::Confused, "{confused}");
    }
    assert_eq!((follow("[null]"), follow("[]")), (Followed::Gap, Followed::Over));
    assert_eq!(follower.cursor().offset.get(), 19);
}

// S004-046
#[test]
fn a_snapshot_bridges_what_the_log_does_not_keep_and_serves_as_long_as_it_keeps_the_rest() {
    let mut sessions = sessions_with(limits(3, 1_000, 100), &["s"]);
    let id = session("s");
    let watch = |sessions: &mut Sessions, from| sessions.watch(connection(1), &id, from, tag("t")).unwrap();
    let all = |sessions: &mut Sessions| {
        let pulled = std::iter::from_fn(|| sessions.pull(connection(1), |_, _| true));
        pulled.map(|pulled| pulled.payload.as_str().to_owned()).collect::<Vec<_>>()
    };
    let cursor = |number| Cursor { epoch: EPOCH, offset: Offset::new(number).unwrap() };
    for event in 1..=2 {
        sessions.publish(&id, &number(event), secs(0)).unwrap();
    }
    assert_eq!(watch(&mut sessions, WatchFrom::Start), Watch::From(cursor(0)));
    assert_eq!(all(&mut sessions), ["[\"t\"]", "[1,1]", "[2,2]"], "everything is kept");
    sessions.set_snapshot(&id, Payload::from_json("{\"sum\":3}").unwrap()).unwrap();
    for event in 3..=5 {
        sessions.publish(&id, &number(event), secs(0)).unwrap();
    }
    for from in
        [WatchFrom::Start, WatchFrom::After(cursor(1)), WatchFrom::After(Cursor { epoch: EPOCH, offset: Offset::ZERO })]
    {
        assert_eq!(watch(&mut sessions, from), Watch::From(cursor(2)), "{from:?}");
        assert_eq!(all(&mut sessions), ["[\"t\",{\"sum\":3}]", "[3,3]", "[4,4]", "[5,5]"]);
    }
    assert_eq!(watch(&mut sessions, WatchFrom::After(cursor(4))), Watch::From(cursor(4)));
    assert_eq!(all(&mut sessions), ["[\"t\"]", "[5,5]"], "what was seen is not told again");
    sessions.publish(&id, &number(6), secs(0)).unwrap();
    assert_eq!(watch(&mut sessions, WatchFrom::Start), Watch::Gap { end: cursor(6) }, "it is too old");
}

#[test]
fn what_no_message_could_carry_is_refused() {
    let mut config = Config::default();
    config.max_event = 10;
    let mut sessions = sessions_with(config, &["s"]);
    let large = Payload::new(&"x".repeat(10)).unwrap();
    let refused = Err(SessionMisuse::TooLarge { len: 12, limit: 10 });
    assert_eq!(sessions.publish(&session("s"), &large, secs(0)), refused);
    let deep = |levels: usize| Payload::from_json(&format!("{}{}", "[".repeat(levels), "]".repeat(levels))).unwrap();
    config.max_event = 1_000;
    let mut sessions = sessions_with(config, &["s"]);
    assert_eq!(sessions.publish(&session("s"), &deep(MAX_DEPTH + 1), secs(0)), Err(SessionMisuse::TooDeep));
    assert_eq!(sessions.set_snapshot(&session("s"), deep(MAX_DEPTH + 1)), Err(SessionMisuse::TooDeep));
    sessions.publish(&session("s"), &deep(MAX_DEPTH), secs(0)).unwrap();
}

#[test]
fn what_could_not_be_sent_after_all_is_a_gap() {
    let mut sessions = sessions(&["s"]);
    let id = session("s");
    _ = sessions.watch_after(connection(1), &id, None).unwrap();
    sessions.publish(&id, &number(1), secs(0)).unwrap();
    assert_eq!(pull_all(&mut sessions, 1), ["s[1,1]"]);
    sessions.handle_unsent(connection(1), &id);
    assert_eq!(pull_all(&mut sessions, 1), ["s[null]"]);
    assert_eq!(sessions.observers(&id), 0);
}

/// Observers that are cut, begin anew and are slow, at random: each sees each event once and in order, or a gap.
#[test]
fn every_observer_has_each_event_once_or_a_gap_whatever_happens() {
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let mut sessions = sessions_with(limits(8, 1_000, 50), &["s"]);
        let id = session("s");
        let mut followers: BTreeMap<u8, Follower> = BTreeMap::new();
        let mut appended = 0;
        let mut seen: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
        let mut gaps = 0;
        for step in 0..400 {
            let now = secs(step / 4);
            let observer = 1 + u8::try_from(rng.below(3)).unwrap();
            match rng.below(8) {
                0..=2 => {
                    appended += 1;
                    assert_eq!(sessions.publish(&id, &number(appended), now).unwrap().get(), appended);
                }
                3 => sessions.handle_detached(connection(observer)),
                4 => sessions.handle_attached(connection(observer), &principal("ada")),
                5 => {
                    sessions.handle_epoch_ended(connection(observer));
                    let from = followers.get(&observer).map(Follower::cursor);
                    let cursor = match sessions.watch_after(connection(observer), &id, from).unwrap() {
                        Watch::From(cursor) => cursor,
                        Watch::Gap { end } => {
                            gaps += 1;
                            assert_eq!(
                                sessions.watch_after(connection(observer), &id, Some(end)),
                                Ok(Watch::From(end))
                            );
                            end
                        }
                    };
                    followers.insert(observer, Follower::new(&tag("t"), cursor));
                }
                6 => sessions.handle_timeout(now),
                _ => {
                    let Some(pulled) = sessions.pull(connection(observer), |_, _| true) else { continue };
                    let follower = followers.get_mut(&observer).expect("it watches");
                    match follower.handle_message(pulled.payload.into()) {
                        Followed::Begun(None) => {}
                        Followed::Event(offset, _, event) => {
                            assert_eq!(event, number(offset.get()), "seed {seed}");
                            seen.entry(observer).or_default().push(offset.get());
                        }
                        Followed::Gap => {
                            gaps += 1;
                            followers.remove(&observer);
                        }
                        other @ (Followed::Begun(_) | Followed::Earlier | Followed::Over | Followed::Confused) => {
                            panic!("{other:?}, seed {seed}")
                        }
                    }
                }
            }
            let log = sessions.log(&id).unwrap();
            assert!(log.len() <= 8 && sessions.observers(&id) <= 3);
        }
        for seen in seen.values() {
            assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: {seen:?}");
        }
        assert!(gaps > 0 || appended < 8, "seed {seed}");
    }
}
