//! A hub, as a machine: what stands on the wire, who may do what, and what is told of who looks.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::hash::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;

use harness::hub::World;
use harness::hub::session;
use harness::permissions::ALLOW;
use harness::permissions::connection;
use harness::permissions::id;
use harness::permissions::json;
use harness::permissions::request;
use harness::permissions::response;
use harness::permissions::secs;
use harness::sessions::EPOCH;
use harness::sessions::number;
use harness::sessions::principal;
use harness::sessions::tag;
use reattach_core::hub::Call;
use reattach_core::hub::Config;
use reattach_core::hub::Event;
use reattach_core::hub::Hub;
use reattach_core::hub::Watched;
use reattach_core::hub::read_generation;
use reattach_core::hub::write_generation;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionRequest;
use reattach_core::permission::DenyReason;
use reattach_core::permission::PermissionMisuse;
use reattach_core::permission::Verdict;
use reattach_core::session::Cursor;
use reattach_core::session::Generation;
use reattach_core::session::Offset;
use reattach_core::session::SessionMisuse;
use reattach_core::session::WatchFrom;

fn cursor(offset: u64) -> Cursor {
    Cursor { epoch: EPOCH, offset: Offset::new(offset).unwrap() }
}

const CURSOR: &str = r#"{"epoch":"07070707070707070707070707070707","offset":3}"#;
const INVALID: i64 = -32_602;
const UNKNOWN_SESSION: i64 = -32_010;
const FORBIDDEN: i64 = -32_011;
const REPLACED: i64 = -32_012;
const UNKNOWN_CONNECTION: i64 = -32_014;
const UNKNOWN_REQUEST: i64 = -32_020;

/// What the machine goes on from: everything but what it has counted.
fn hash(hub: &Hub) -> u64 {
    let mut hasher = DefaultHasher::new();
    hub.hash(&mut hasher);
    hasher.finish()
}

fn code(result: Result<String, (i64, String)>) -> i64 {
    result.unwrap_err().0
}

#[test]
fn every_request_stands_on_the_wire_as_it_is_written_here() {
    let after = format!(r#"{{"session":"s","from":{CURSOR},"tag":"t"}}"#);
    let (s, generation) = (session(), Generation::new(2));
    let watch = |from| Call::Watch { session: session(), from, tag: tag("t") };
    let edited = Choice::Allow { updated_input: Some(json("[1]")) };
    for (call, method, params) in [
        (watch(WatchFrom::Start), "session/watch", r#"{"session":"s","tag":"t"}"#),
        (watch(WatchFrom::Now), "session/watch", r#"{"session":"s","from":"now","tag":"t"}"#),
        (watch(WatchFrom::After(cursor(3))), "session/watch", &after),
        (Call::Unwatch { session: s.clone() }, "session/unwatch", r#"{"session":"s"}"#),
        (Call::Own { session: s.clone() }, "session/own", r#"{"session":"s"}"#),
        (Call::Release { session: s.clone(), generation }, "session/release", r#"{"session":"s","generation":2}"#),
        (Call::Suspend { session: s, generation }, "session/suspend", r#"{"session":"s","generation":2}"#),
        (
            Call::Answer(response("p", ALLOW)),
            "permission/answer",
            r#"{"type":"permission-response","requestId":"p","decision":"allow"}"#,
        ),
        (
            Call::Answer(response("p", edited)),
            "permission/answer",
            r#"{"type":"permission-response","requestId":"p","decision":"allow","updatedInput":[1]}"#,
        ),
        (
            Call::Look { request_id: id("p\""), is_looking: true },
            "permission/look",
            r#"{"requestId":"p\"","looking":true}"#,
        ),
    ] {
        assert_eq!((call.method(), call.params().as_str()), (method, params));
        assert_eq!(Call::read(method, Some(&json(params))), Some(Ok(call.clone())));
        let spaced = params.replacen('{', "{ \"unknown\" : [1] , ", 1);
        assert_eq!(Call::read(method, Some(&json(&spaced))), Some(Ok(call)), "{spaced}");
    }
    assert_eq!(Call::read("session/other", None), None);
    // The type of an answer is left out where the method says it, and a word is one however it is written.
    let plain = json(r#"{"requestId":"p","decision":"deny"}"#);
    assert_eq!(Call::read("permission/answer", Some(&plain)), Some(Ok(Call::Answer(response("p", Choice::Deny)))));
    let escaped = json(r#"{"session":"s","from":"\u006eow","tag":"t"}"#);
    assert_eq!(Call::read("session/watch", Some(&escaped)), Some(Ok(watch(WatchFrom::Now))));
}

#[test]
fn what_comes_back_stands_on_the_wire_as_it_is_written_here() {
    let asked = r#"{"type":"permission-request","id":"p","toolName":"write","input":{"path":"a"},"context":null,"timestamp":"2026-11-21T19:00:00Z","remaining":1500}"#;
    let remaining = Some(std::time::Duration::from_millis(1_500));
    let permissions = vec![PermissionRequest { remaining, ..request("p") }];
    for (watched, text) in [
        (
            Watched { after: Some(cursor(3)), end: cursor(3), permissions, pending: 1, processing: 0 },
            format!(r#"{{"after":{CURSOR},"end":{CURSOR},"permissions":[{asked}],"pending":1,"processing":0}}"#),
        ),
        (
            Watched { after: None, end: cursor(3), permissions: vec![], pending: 0, processing: 2 },
            format!(r#"{{"end":{CURSOR},"permissions":[],"pending":0,"processing":2}}"#),
        ),
    ] {
        assert_eq!(watched.write().as_str(), text);
        assert_eq!(Watched::read(&json(&text)), Ok(watched));
    }
    let least = format!(r#"{{"after":null,"end":{CURSOR}}}"#);
    let nothing = Watched { after: None, end: cursor(3), permissions: vec![], pending: 0, processing: 0 };
    assert_eq!(Watched::read(&json(&least)), Ok(nothing));
    assert_eq!(write_generation(Generation::new(7)).as_str(), r#"{"generation":7}"#);
    assert_eq!(read_generation(&json(r#"{"generation":7}"#)), Ok(Generation::new(7)));
    for (text, words) in [
        ("1", "not one JSON object"),
        (r#"{"permissions":[]}"#, "\"end\""),
        (r#"{"end":3}"#, "\"end\""),
        (r#"{"end":{"offset":3}}"#, "\"epoch\""),
        (&least.replace("null", "\"x\""), "\"after\""),
        (&least.replace('}', r#"},"permissions":[{"type":"permission-cancelled","requestId":"p"}]"#), ""),
        (&format!(r#"{{"end":{CURSOR},"permissions":[1]}}"#), "not one JSON object"),
        (&format!(r#"{{"end":{CURSOR},"pending":-1}}"#), "\"pending\""),
    ] {
        let Ok(text) = reattach_core::wire::Payload::from_json(text) else { continue };
        let error = Watched::read(&text).unwrap_err().to_string();
        assert!(error.contains(words), "{text:?}: {error}");
    }
}

// S7, S002-15
#[test]
fn a_malformed_request_is_answered_with_the_name_of_what_is_wrong_and_changes_nothing() {
    let mut world = World::watched_by(1);
    world.ask("p");
    world.settle();
    let before = hash(&world.hub);
    let mut malformed = 0;
    for (method, params, key) in [
        ("session/watch", "{}", "\"session\""),
        ("session/watch", r#"{"session":"s"}"#, "\"tag\""),
        ("session/watch", r#"{"session":"","tag":"t"}"#, "\"session\""),
        ("session/watch", r#"{"session":1,"tag":"t"}"#, "\"session\""),
        ("session/watch", r#"{"session":"s","tag":"t","tag":"u"}"#, "\"tag\" twice"),
        ("session/watch", r#"{"session":"s","tag":"t","from":"later"}"#, "\"from\""),
        ("session/watch", r#"{"session":"s","tag":"t","from":5}"#, "\"from\""),
        ("session/watch", r#"{"session":"s","tag":"t","from":{"offset":1}}"#, "\"epoch\""),
        ("session/watch", r#"{"session":"s","tag":"t","from":{"epoch":"x","offset":1}}"#, "\"epoch\""),
        (
            "session/watch",
            r#"{"session":"s","tag":"t","from":{"epoch":"07070707070707070707070707070707","offset":9007199254740992}}"#,
            "\"offset\"",
        ),
        ("session/unwatch", "[]", "not one JSON object"),
        ("session/own", "{}", "\"session\""),
        ("session/release", r#"{"session":"s"}"#, "\"generation\""),
        ("session/suspend", r#"{"session":"s","generation":-1}"#, "\"generation\""),
        ("permission/answer", r#"{"requestId":"p"}"#, "\"decision\""),
        ("permission/answer", r#"{"requestId":"p","decision":"Allow"}"#, "\"decision\""),
        ("permission/answer", r#"{"requestId":"p","decision":true}"#, "\"decision\""),
        ("permission/answer", r#"{"requestId":"p","decision":"deny","decision":"allow"}"#, "\"decision\" twice"),
        ("permission/answer", r#"{"requestId":"p","decision":"deny","updatedInput":1}"#, "without allowing"),
        ("permission/answer", r#"{"decision":"allow"}"#, "\"requestId\""),
        ("permission/look", r#"{"requestId":"p"}"#, "\"looking\""),
        ("permission/look", r#"{"requestId":"p","looking":1}"#, "\"looking\""),
    ] {
        let (code, message) = world.request(0, method, params).unwrap_err();
        assert!(code == INVALID && message.contains(key), "{method} {params}: {code} {message}");
        assert_eq!(hash(&world.hub), before, "{method} {params} changed something");
        malformed += u64::from(method == "permission/answer");
        assert_eq!(world.hub.question_stats().malformed, malformed, "{method} {params}");
    }
    assert_eq!(world.decided, []);
    // Without parameters at all.
    let error = world.hub.handle_request(connection(1), "session/own", None, secs(0)).unwrap().unwrap_err();
    assert_eq!(error.code, INVALID);
    assert_eq!(world.hub.handle_request(connection(1), "other", None, secs(0)), None);
}

// S002-60, S004-028
#[test]
fn who_neither_watches_nor_owns_a_session_answers_nothing_in_it() {
    let mut world = World::watched_by(1);
    let stranger = world.watch("mallory", WatchFrom::Start);
    let idle = world.watch("ada", WatchFrom::Start);
    world.ask("p");
    // Ada's other client has not been heard yet.
    for client in [stranger, idle] {
        for decision in ["allow", "deny"] {
            let params = format!(r#"{{"requestId":"p","decision":"{decision}"}}"#);
            assert_eq!(code(world.request(client, "permission/answer", &params)), FORBIDDEN);
        }
        assert_eq!(code(world.request(client, "permission/look", r#"{"requestId":"p","looking":true}"#)), FORBIDDEN);
    }
    for method in ["session/watch", "session/own"] {
        assert_eq!(code(world.request(stranger, method, r#"{"session":"s","tag":"t"}"#)), FORBIDDEN);
        assert_eq!(code(world.request(stranger, method, r#"{"session":"x","tag":"t"}"#)), UNKNOWN_SESSION);
    }
    assert_eq!((world.decided.len(), world.hub.broker().status(&session())), (0, (1, 0)));
    let allow = r#"{"requestId":"p","decision":"allow"}"#;
    world.request(idle, "session/own", r#"{"session":"s"}"#).unwrap();
    assert_eq!(world.request(idle, "permission/answer", allow).unwrap(), r#"{"duplicate":false}"#);
    assert_eq!(world.request(idle, "permission/answer", allow).unwrap(), r#"{"duplicate":true}"#);
    let by = world.watching[idle].connection;
    assert_eq!(world.decided, [(id("p"), Verdict::Allow { input: json(r#"{"path":"a"}"#), by })]);
    assert_eq!(code(world.request(stranger, "permission/answer", allow)), FORBIDDEN);
    let unknown = [
        ("permission/answer", r#"{"requestId":"x","decision":"allow"}"#),
        ("permission/look", r#"{"requestId":"x","looking":true}"#),
    ];
    for (method, params) in unknown {
        assert_eq!(code(world.request(0, method, params)), UNKNOWN_REQUEST);
    }
}

// S002-60, X1
#[test]
fn what_was_decided_in_a_session_is_nothing_to_the_next_of_its_name() {
    let mut world = World::watched_by(1);
    world.ask("p");
    let allow = r#"{"requestId":"p","decision":"allow"}"#;
    world.request(0, "permission/answer", allow).unwrap();
    world.hub.remove(&session(), secs(1)).unwrap();
    world.hub.create(session(), principal("mallory"), EPOCH).unwrap();
    let mallory = world.watch("mallory", WatchFrom::Start);
    world.settle();
    world.request(mallory, "session/own", r#"{"session":"s"}"#).unwrap();

    for client in [0, mallory] {
        assert_eq!(code(world.request(client, "permission/answer", allow)), UNKNOWN_REQUEST);
    }
    let again = world.hub.ask(&session(), request("p"), None, secs(1));
    assert_eq!(again, Err(PermissionMisuse::IdInUse), "an answer that is late is not one to another question");
}

// S002-58
#[test]
fn a_second_answer_with_another_input_is_not_taken_for_the_first_one_again() {
    let mut world = World::watched_by(1);
    world.ask("p");
    let answer = |input: &str| format!(r#"{{"requestId":"p","decision":"allow","updatedInput":{input}}}"#);
    assert_eq!(world.request(0, "permission/answer", &answer("1")).unwrap(), r#"{"duplicate":false}"#);
    assert_eq!(world.request(0, "permission/answer", &answer("1")).unwrap(), r#"{"duplicate":true}"#);
    for other in [answer("2"), answer("null")] {
        assert_eq!(code(world.request(0, "permission/answer", &other)), -32_021, "{other}");
    }
    let error = world.hub.handle_request(
        connection(1),
        "permission/answer",
        Some(&json(r#"{"requestId":"p","decision":"deny"}"#)),
        secs(0),
    );
    let data = error.unwrap().unwrap_err().data.unwrap();
    assert_eq!(data.as_str(), format!(r#"{{"allowed":true,"by":"{}"}}"#, connection(1)));
    assert_eq!(world.decided, [(id("p"), Verdict::Allow { input: json("1"), by: connection(1) })]);
}

// S002-04, S002-26
#[test]
fn the_status_says_who_looks_now_and_nobody_looks_who_is_away_or_watches_no_more() {
    let looks = r#"{"requestId":"p","looking":true}"#;
    type Leave = fn(&mut World);
    let leave: [(&str, Leave); 6] = [
        ("looks away", |world| {
            world.request(0, "permission/look", r#"{"requestId":"p","looking":false}"#).unwrap();
        }),
        ("is detached", |world| world.detach(0)),
        ("begins anew", |world| world.end_epoch(0, || false, 0)),
        ("is gone", |world| world.hub.handle_gone(connection(1), world.now)),
        ("watches no more", |world| _ = world.request(0, "session/unwatch", r#"{"session":"s"}"#).unwrap()),
        ("has the question answered", |world| {
            world.request(1, "permission/answer", r#"{"requestId":"p","decision":"deny"}"#).unwrap();
        }),
    ];
    for (how, leave) in leave {
        let mut world = World::watched_by(2);
        world.ask("p");
        world.ask("q");
        world.request(0, "permission/look", looks).unwrap();
        world.request(0, "permission/look", looks).unwrap();
        assert_eq!(world.hub.broker().status(&session()), (1, 1));
        leave(&mut world);
        let left = if how.starts_with("has") { (1, 0) } else { (2, 0) };
        assert_eq!(world.hub.broker().status(&session()), left, "who {how}");
        // What it said before that and was heard only then makes nobody look.
        _ = world.request(0, "permission/look", looks);
        if how == "is detached" {
            assert_eq!(world.hub.broker().status(&session()), left, "who {how}");
        }
    }
    // An owner that watches nothing looks no longer than it owns.
    let mut world = World::watched_by(1);
    world.request(0, "session/unwatch", r#"{"session":"s"}"#).unwrap();
    let second = world.watch("ada", WatchFrom::Start);
    for (method, by) in [("session/release", 0), ("session/suspend", 0), ("session/own", second)] {
        let name = method.replace('/', "-");
        world.ask(&name);
        let generation = world.request(0, "session/own", r#"{"session":"s"}"#).unwrap();
        let params = generation.replacen('{', r#"{"session":"s","#, 1);
        world.request(0, "permission/look", &format!(r#"{{"requestId":"{name}","looking":true}}"#)).unwrap();
        assert_eq!(world.hub.broker().status(&session()).1, 1);
        world.request(by, method, &params).unwrap();
        assert_eq!(world.hub.broker().status(&session()).1, 0, "{method}");
    }
}

// S004-146, S004-136
#[test]
fn an_owner_that_was_replaced_lets_nothing_go_and_a_generation_is_of_one_owner() {
    let mut world = World::watched_by(2);
    let own = |world: &mut World, client| world.request(client, "session/own", r#"{"session":"s"}"#).unwrap();
    assert_eq!(own(&mut world, 0), r#"{"generation":1}"#);
    assert_eq!(own(&mut world, 0), r#"{"generation":1}"#, "owning twice is owning");
    assert_eq!(own(&mut world, 1), r#"{"generation":2}"#);
    for method in ["session/release", "session/suspend"] {
        for (client, generation) in [(0, 1), (0, 2), (1, 1), (1, 3), (1, 0)] {
            let params = format!(r#"{{"session":"s","generation":{generation}}}"#);
            assert_eq!(code(world.request(client, method, &params)), REPLACED, "{method} {client} {generation}");
        }
        assert_eq!(code(world.request(0, method, r#"{"session":"x","generation":1}"#)), UNKNOWN_SESSION);
    }
    assert_eq!(world.hub.sessions().ownership(&session()).unwrap().owner(), Some(connection(2)));
    let mine = r#"{"session":"s","generation":2}"#;
    assert_eq!(world.request(1, "session/suspend", mine).unwrap(), "null");
    assert_eq!(code(world.request(1, "session/release", mine)), REPLACED, "who sleeps owns nothing");
    assert_eq!(own(&mut world, 1), r#"{"generation":3}"#);
    assert_eq!(world.request(1, "session/release", r#"{"session":"s","generation":3}"#).unwrap(), "null");
}

#[test]
fn a_connection_that_is_gone_is_not_served() {
    let mut world = World::watched_by(1);
    world.ask("p");
    world.hub.handle_gone(connection(1), secs(0));
    for method in ["session/watch", "session/own"] {
        assert_eq!(code(world.request(0, method, r#"{"session":"s","tag":"t"}"#)), UNKNOWN_CONNECTION);
    }
    assert_eq!(code(world.request(0, "permission/answer", r#"{"requestId":"p","decision":"allow"}"#)), FORBIDDEN);
    assert_eq!(world.request(0, "session/unwatch", r#"{"session":"x"}"#).unwrap(), "null");
    assert!(!world.pull(0));
}

// S002-05
#[test]
fn the_end_of_a_session_denies_its_questions_and_another_end_is_no_event() {
    let mut world = World::watched_by(1);
    world.ask("p");
    world.hub.remove(&session(), secs(1)).unwrap();
    world.drain();
    assert_eq!(world.decided, [(id("p"), Verdict::Deny(DenyReason::Cancelled))]);
    assert_eq!(world.hub.remove(&session(), secs(1)), Err(SessionMisuse::UnknownSession));
    assert_eq!(world.hub.poll_event(), None, "what fails changes nothing");
    let late = world.request(0, "permission/answer", r#"{"requestId":"p","decision":"allow"}"#);
    assert_eq!(code(late), UNKNOWN_REQUEST, "nobody knows any more who might");
}

#[test]
fn whatever_is_to_be_pulled_is_told_and_a_clock_that_runs_backwards_changes_nothing() {
    let mut hub = Hub::new(Config::default(), secs(10));
    hub.create(session(), principal("ada"), EPOCH).unwrap();
    hub.publish(&session(), &number(1), secs(3)).unwrap();
    assert_eq!(hub.poll_event(), Some(Event::Published { session: session() }));
    hub.ask(&session(), request("p"), None, secs(1)).unwrap();
    assert_eq!(hub.poll_timeout(), Some(secs(310)), "as if it were asked at 10 s");
    while hub.poll_event().is_some() {}
    hub.handle_timeout(secs(0));
    hub.handle_timeout(secs(309));
    assert_eq!(hub.poll_event(), None);
    hub.handle_timeout(secs(310));
    assert!(std::iter::from_fn(|| hub.poll_event()).any(|event| matches!(event, Event::Decided { .. })));
}
