//! The log of a session: who watches sees each event once, or its loss.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;

use harness::sessions::EPOCH;
use harness::sessions::Watching;
use harness::sessions::connection;
use harness::sessions::limits;
use harness::sessions::number;
use harness::sessions::principal;
use harness::sessions::pull_all;
use harness::sessions::secs;
use harness::sessions::session;
use harness::sessions::sessions;
use harness::sessions::sessions_with;
use harness::sessions::tag;
use reattach_core::id::Epoch;
use reattach_core::id::MessageId;
use reattach_core::id::SessionId;
use reattach_core::messages::EnvelopeId;
use reattach_core::rng::Rng;
use reattach_core::session::Config;
use reattach_core::session::Cursor;
use reattach_core::session::Followed;
use reattach_core::session::Follower;
use reattach_core::session::Kind;
use reattach_core::session::MAX_DEPTH;
use reattach_core::session::Offset;
use reattach_core::session::SessionMisuse;
use reattach_core::session::Sessions;
use reattach_core::session::Watch;
use reattach_core::session::WatchFrom;
use reattach_core::wire::Payload;
use reattach_core::wire::UncheckedPayload;

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

#[test]
fn a_follower_takes_what_is_of_its_watch_and_each_event_of_that_once() {
    let mut follower = Follower::new(&tag("t\""), Cursor { epoch: EPOCH, offset: Offset::new(16).unwrap() });
    let mut follow = |text: &str| follower.handle_message(UncheckedPayload::new(text));
    let offset = |number| Offset::new(number).unwrap();
    for earlier in ["{}", "", "[17,1]", "[null]", "[]", r#"["other"]"#, r#"["other",{}]"#, r#"["t"]"#] {
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

#[test]
fn where_a_watch_begins_is_said_before_its_end_though_it_could_not_be_sent_at_first() {
    let mut sessions = sessions(&["s"]);
    let id = session("s");
    let all = |sessions: &mut Sessions| {
        let pulled = std::iter::from_fn(|| sessions.pull(connection(1), |_, _| true));
        pulled.map(|pulled| pulled.payload.as_str().to_owned()).collect::<Vec<_>>()
    };
    sessions.set_snapshot(&id, number(0)).unwrap();
    _ = sessions.watch(connection(1), &id, WatchFrom::Start, tag("t")).unwrap();
    assert_eq!(sessions.pull(connection(1), |_, _| true).unwrap().payload.as_str(), "[\"t\",0]");
    sessions.handle_unsent(connection(1), &id);
    assert_eq!(all(&mut sessions), ["[\"t\"]", "[null]"], "else it would be taken for the end of another watch");
    _ = sessions.watch(connection(1), &id, WatchFrom::Start, tag("u")).unwrap();
    sessions.remove(&id).unwrap();
    assert_eq!(all(&mut sessions), ["[\"u\",0]", "[]"]);
    sessions.handle_unsent(connection(1), &id);
    assert_eq!(all(&mut sessions), ["[null]"], "the end could not be sent");
}

#[test]
fn what_could_not_be_sent_is_no_gap_of_a_watch_that_began_since() {
    type Change = fn(&mut Sessions);
    let changes: [(Change, &[&str]); 3] = [
        (|sessions| _ = sessions.watch(connection(1), &session("s"), WatchFrom::Now, tag("u")), &["s[2,2]"]),
        (|sessions| sessions.unwatch(connection(1), &session("s")), &[]),
        (|sessions| sessions.handle_epoch_ended(connection(1)), &[]),
    ];
    for (change, told) in changes {
        let mut sessions = sessions(&["s"]);
        let id = session("s");
        _ = sessions.watch_after(connection(1), &id, None).unwrap();
        sessions.publish(&id, &number(1), secs(0)).unwrap();
        assert_eq!(pull_all(&mut sessions, 1), ["s[1,1]"]);
        change(&mut sessions);
        sessions.handle_unsent(connection(1), &id);
        sessions.publish(&id, &number(2), secs(0)).unwrap();
        assert_eq!(pull_all(&mut sessions, 1), *told);
    }
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

#[test]
fn a_place_and_names_are_kept_as_json_and_read_back_strictly() {
    let kept = r#"{"epoch":"07070707070707070707070707070707","offset":4}"#;
    let cursor = Cursor { epoch: Epoch::from_bytes([7; 16]), offset: Offset::new(4).unwrap() };
    assert_eq!(serde_json::to_string(&cursor).unwrap(), kept);
    assert_eq!(serde_json::from_str::<Cursor>(kept).unwrap(), cursor);
    for bad in [kept.replace("07", "x"), kept.replace('4', "9007199254740992"), kept.replace('4', "-1")] {
        assert!(serde_json::from_str::<Cursor>(&bad).is_err(), "{bad}");
    }
    let names: (SessionId, EnvelopeId, MessageId) =
        (session("s"), EnvelopeId::new("m1").unwrap(), "00000000-0000-0000-0000-000000000000".parse().unwrap());
    let kept = r#"["s","m1","00000000-0000-0000-0000-000000000000"]"#;
    assert_eq!(serde_json::to_string(&names).unwrap(), kept);
    assert_eq!(serde_json::from_str::<(SessionId, EnvelopeId, MessageId)>(kept).unwrap(), names);
    for bad in [kept.replace("\"s\"", "\"\""), kept.replace("m1", &"m".repeat(129)), kept.replace("0-0", "00")] {
        assert!(serde_json::from_str::<(SessionId, EnvelopeId, MessageId)>(&bad).is_err(), "{bad}");
    }
}
