//! Requests, as a machine: every request ends once, whatever comes. What comes at random is in `harness::fuzz::requests`.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::rpc::Side;
use harness::rpc::call;
use harness::rpc::carry;
use harness::rpc::config;
use harness::rpc::finished;
use harness::rpc::json;
use reattach_core::error::ApiMisuse;
use reattach_core::id::Code;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::rpc::Call;
use reattach_core::rpc::Channel;
use reattach_core::rpc::Config;
use reattach_core::rpc::ErrorObject;
use reattach_core::rpc::Event;
use reattach_core::rpc::Failure;
use reattach_core::rpc::IncomingCall;
use reattach_core::rpc::MAX_DEPTH;
use reattach_core::rpc::Output;
use reattach_core::rpc::RpcMisuse;
use reattach_core::time::Instant;
use reattach_core::wire::UncheckedPayload;

// S001-09, S001-10, S001-16
#[test]
fn a_request_is_asked_under_a_uuid_and_ends_once_with_the_result() {
    let (mut client, mut server) = (Side::new(1), Side::new(2));
    let id = client.rpc.request(call("sum").with_params(json("[2,3]")).expect("an array"), client.now).expect("room");
    carry(&mut client, &mut server);
    let IncomingCall { id: asked, method, params } = server.take();
    assert_eq!((&*method, params), ("sum", Some(json("[2,3]"))));
    server.respond(asked.expect("a request"), Ok(json("5"))).expect("somebody waits");
    let response = server.sent.front().expect("an answer").1.clone();
    assert_eq!(response.as_str(), format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":5}}"#));
    carry(&mut client, &mut server);
    client.receive(response.as_str());
    assert_eq!(client.events, [Event::Finished { id, result: Ok(json("5")) }]);
    assert_eq!((client.rpc.stats().results, client.rpc.stats().unmatched), (1, 1));
    assert_eq!(client.rpc.poll_timeout(), None);
}

// S001-09
#[test]
fn ids_are_never_used_twice() {
    let mut ids = BTreeSet::new();
    for seed in 0..2 {
        let mut side = Side::with(config(|config| config.max_pending = 50_000), seed);
        ids.extend((0..50_000).map(|_| side.request("m")));
    }
    assert_eq!(ids.len(), 100_000);
}

// S001-18
#[test]
fn every_combination_of_keys_has_one_meaning() {
    #[derive(Debug, PartialEq, Eq)]
    enum Meaning {
        Request,
        Notification,
        Result,
        Failure,
        Complaint,
        Invalid,
    }
    for keys in 0..16 {
        let [has_id, has_method, has_result, has_error] = [1, 2, 4, 8].map(|bit| keys & bit != 0);
        let mut side = Side::new(1);
        let id = side.request("m");
        let mut text = String::from(r#"{"jsonrpc":"2.0""#);
        for (is_there, key) in [
            (has_id, format!(r#","id":"{id}""#)),
            (has_method, String::from(r#","method":"x""#)),
            (has_result, String::from(r#","result":1"#)),
            (has_error, String::from(r#","error":{"code":1,"message":"no"}"#)),
        ] {
            if is_there {
                text.push_str(&key);
            }
        }
        text.push('}');
        side.receive(&text);
        let meant = match (side.rpc.take(), side.events.as_slice()) {
            (Some(IncomingCall { id: Some(_), .. }), []) => Meaning::Request,
            (Some(IncomingCall { id: None, .. }), []) => Meaning::Notification,
            (None, [Event::Finished { result: Ok(_), .. }]) => Meaning::Result,
            (None, [Event::Finished { result: Err(_), .. }]) => Meaning::Failure,
            (None, [Event::Complaint { .. }]) => Meaning::Complaint,
            (None, [Event::Malformed { .. }]) => Meaning::Invalid,
            other => panic!("{text} gave {other:?}"),
        };
        let expected = match (has_id, has_method, has_result, has_error) {
            (true, _, true, false) => Meaning::Result,
            (true, _, _, true) => Meaning::Failure,
            (false, _, false, true) => Meaning::Complaint,
            (false, _, true, _) | (_, false, false, false) => Meaning::Invalid,
            (true, true, false, false) => Meaning::Request,
            (false, true, false, false) => Meaning::Notification,
        };
        assert_eq!(meant, expected, "{text}");
    }
}

// S001-06, S001-32, S002-79, S001-40
#[test]
fn what_makes_no_sense_is_said_to_make_none_and_everything_else_goes_on() {
    let invalid = ErrorObject::INVALID_REQUEST;
    for (text, code) in [
        ("{", ErrorObject::PARSE_ERROR),
        ("", ErrorObject::PARSE_ERROR),
        ("[1", ErrorObject::PARSE_ERROR),
        ("42", invalid),
        ("{}", invalid),
        ("[]", invalid),
        (r#"{"jsonrpc":"1.0","method":"m"}"#, invalid),
        (r#"{"jsonrpc":"2.0","method":""}"#, invalid),
        (r#"{"jsonrpc":"2.0","method":1}"#, invalid),
        (r#"{"jsonrpc":"2.0","method":"m","params":1}"#, invalid),
        (r#"{"jsonrpc":"2.0","method":"m","params":null}"#, invalid),
        (r#"{"jsonrpc":"2.0","method":"m","method":"n"}"#, invalid),
        (r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, invalid),
        (r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, invalid),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","id":2}"#, invalid),
    ] {
        let mut side = Side::new(1);
        let id = side.request("m");
        side.sent.clear();
        side.receive(text);
        assert!(matches!(side.events.as_slice(), [Event::Malformed { .. }]), "{text} gave {:?}", side.events);
        let [answer] = side.texts()[..] else { panic!("{text} is answered by {:?}", side.texts()) };
        assert!(answer.contains(&format!("\"code\":{code},")), "{text} is answered by {answer}");
        assert_eq!((side.rpc.pending(), side.rpc.take()), (1, None), "{text}");
        side.receive(&format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":null}}"#));
        assert_eq!(side.events.last(), Some(&Event::Finished { id, result: Ok(json("null")) }));
    }
}

// S001-07
#[test]
fn two_sides_do_not_complain_to_each_other_without_end_and_a_flood_is_bounded() {
    let (mut client, mut server) = (Side::new(1), Side::new(2));
    for _ in 0..1_000 {
        server.rpc.handle_message(Channel::Calls, UncheckedPayload::new("{"), server.now);
    }
    carry(&mut client, &mut server);
    let complaints = client.events.iter().filter(|event| matches!(event, Event::Complaint { .. })).count();
    assert_eq!(complaints, Config::default().max_open + Config::default().max_batch);
    assert_eq!(server.rpc.stats().unsaid + complaints as u64, 1_000);
    assert!(server.events.iter().all(|event| matches!(event, Event::Malformed { .. })));
}

// S001-01, S001-02, S001-04, S001-47
#[test]
fn a_deadline_is_absolute_and_nothing_that_comes_puts_it_off() {
    let mut side = Side::new(1);
    let short = side.delivered("short");
    let long = side.rpc.request(call("long").long(), side.now).expect("room");
    side.drain();
    for secs in (1..30).step_by(2) {
        side.at(secs);
        side.receive("{");
        side.receive(r#"{"jsonrpc":"2.0","method":"news"}"#);
        side.receive(&format!(
            r#"{{"jsonrpc":"2.0","method":"$/progress","params":{{"token":"{short}","value":{secs}}}}}"#
        ));
    }
    side.rpc.handle_timeout(Instant::from_micros(29_999_999));
    side.drain();
    assert_eq!(side.failures(), []);
    side.at(30);
    assert_eq!(side.failures(), [(short, &Failure::TimedOut { after: Duration::from_secs(30) })]);
    assert_eq!(side.rpc.poll_timeout(), Some(Instant::from_secs(300)));
    side.at(300);
    assert_eq!(side.failures()[1], (long, &Failure::TimedOut { after: Duration::from_secs(300) }));
    assert_eq!(side.rpc.stats().timeouts, 2);
}

// S001-36
#[test]
fn progress_puts_an_idle_limit_off_and_not_the_deadline() {
    let mut side = Side::new(1);
    let idle = Duration::from_secs(10);
    let id = side.rpc.request(call("m").idle(idle), side.now).expect("room");
    let silent = side.rpc.request(call("silent").idle(idle), side.now).expect("room");
    side.drain();
    for secs in [9, 18, 27] {
        side.at(secs);
        side.receive(&format!(r#"{{"jsonrpc":"2.0","method":"$/progress","params":{{"token":"{id}","value":[]}}}}"#));
    }
    side.at(30);
    let (id_after, silent_after) = (Duration::from_secs(30), idle);
    assert_eq!(
        side.failures(),
        [(silent, &Failure::Idle { after: silent_after }), (id, &Failure::TimedOut { after: id_after })]
    );
    let told = side.events.iter().filter(|event| matches!(event, Event::Progress { .. })).count();
    assert_eq!(told, 3);
}

// S001-05, S001-10, S001-19
#[test]
fn a_response_that_nobody_waits_for_is_counted_and_changes_nothing() {
    let mut side = Side::new(1);
    let late = side.delivered("late");
    side.at(30);
    let other = side.request("other");
    let events = side.events.len();
    let shouted = other.to_string().to_uppercase();
    for id in [format!("\"{late}\""), format!("\"{shouted}\""), String::from("\"zz\""), String::from("7")] {
        side.receive(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":1}}"#));
    }
    assert_eq!((side.events.len(), side.rpc.pending(), side.rpc.stats().unmatched), (events, 1, 4));
}

// S001-20, S001-38
#[test]
fn an_error_names_the_request_and_what_the_other_side_said() {
    let mut side = Side::new(1);
    let id = side.delivered("make");
    side.receive(&format!(
        r#"{{"jsonrpc":"2.0","id":"{id}","error":{{"code":-5,"message":"no \"tea\"","data":[1]}}}}"#
    ));
    let [Event::Finished { result: Err(error), .. }] = &side.events[..] else { panic!("{:?}", side.events) };
    assert_eq!(error.to_string(), format!("request {id} (make) failed: no \"tea\" (-5)"));
    assert_eq!(error.failure, Failure::Refused(ErrorObject::new(-5, "no \"tea\"").with_data(json("[1]"))));
}

// S001-17, N18
#[test]
fn who_serves_a_request_may_ask_its_sender_something_whatever_else_waits() {
    let tight = config(|config| config.max_open = 1);
    let (mut client, mut server) = (Side::with(tight, 1), Side::with(tight, 2));
    let outer = client.request("outer");
    carry(&mut client, &mut server);
    let asked = server.asked();
    assert!(!server.rpc.has_room(), "no more requests are taken, and yet:");
    let inner = server.request("inner");
    carry(&mut client, &mut server);
    let answering = client.asked();
    client.respond(answering, Ok(json("1"))).expect("the server waits");
    carry(&mut client, &mut server);
    assert_eq!(server.events, [Event::Finished { id: inner, result: Ok(json("1")) }]);
    server.respond(asked, Ok(json("2"))).expect("the client waits");
    carry(&mut client, &mut server);
    assert_eq!(client.events, [Event::Finished { id: outer, result: Ok(json("2")) }]);
    assert!(server.rpc.has_room());
}

// S001-08, S001-44, S000-28
#[test]
fn the_end_of_the_connection_ends_every_request_with_its_name_and_the_cause() {
    let mut side = Side::new(1);
    let ids = [side.request("queued"), side.delivered("prompt"), side.delivered("list")];
    side.rpc.handle_ended("the server went away", side.now);
    side.rpc.handle_ended("again", side.now);
    side.drain();
    assert_eq!(side.events.len(), 3);
    let errors = side.events.iter().filter_map(finished).filter_map(|(_, result)| result.as_ref().err());
    let mut texts = errors.map(ToString::to_string);
    for (id, method) in ids.iter().zip(["queued", "prompt", "list"]) {
        let expected = format!("request {id} ({method}) failed: the connection ended: the server went away");
        assert_eq!(texts.next(), Some(expected));
    }
    assert_eq!(texts.next(), None);
    assert_eq!(side.rpc.poll_timeout(), None);
    assert_eq!(side.rpc.request(call("m"), side.now), Err(RpcMisuse::Ended));
}

#[test]
fn what_is_known_of_the_message_is_known_of_the_request() {
    let code = Code::new("busy").expect("a code");
    for (outcome, failure) in [
        (Outcome::NotDelivered { reason: NotDelivered::Unreachable }, Failure::NotDelivered(NotDelivered::Unreachable)),
        (Outcome::Unknown { reason: Unknown::NoReceipt }, Failure::Unknown(Unknown::NoReceipt)),
        (Outcome::Rejected { code: code.clone(), reason: String::new() }, Failure::Rejected { code }),
    ] {
        let mut side = Side::new(1);
        let id = side.request("m");
        side.decide(&outcome);
        assert_eq!(side.failures(), [(id, &failure)]);
    }
    let mut side = Side::new(1);
    let id = side.rpc.request(call("m"), side.now).expect("room");
    assert!(matches!(side.rpc.poll_output(), Some(Output::Send { .. })));
    let misuse = ApiMisuse::TooLarge { len: 2, limit: 1 };
    side.rpc.handle_sent(Err(misuse), side.now);
    side.drain();
    assert_eq!(side.failures(), [(id, &Failure::NotSent(misuse))]);
}

// S004-149
#[test]
fn the_end_of_an_epoch_ends_what_no_response_can_come_to_and_nothing_else() {
    let mut side = Side::new(1);
    let lost = side.delivered("lost");
    let open = side.request("open");
    let (_, _, open_message) = *side.sent.back().expect("it was sent");
    let decided = side.request("decided");
    let (_, _, decided_message) = *side.sent.back().expect("it was sent");
    side.receive(r#"{"jsonrpc":"2.0","id":1,"method":"served"}"#);
    let asked = side.asked();
    side.receive(r#"{"jsonrpc":"2.0","id":2,"method":"waiting"}"#);
    side.receive(r#"{"jsonrpc":"2.0","method":"news"}"#);

    side.rpc.handle_epoch_ended(|message| *message == open_message, side.now);
    side.drain();

    assert_eq!(side.failures(), [(lost, &Failure::EpochEnded)]);
    assert!(side.events.contains(&Event::Abandoned { id: asked }));
    assert_eq!(side.respond(asked, Ok(json("1"))), Err(RpcMisuse::NotWaiting));
    assert_eq!(&*side.take().method, "news", "what was notified of stays, what was asked does not");
    assert_eq!(side.rpc.take(), None);
    // That the other side had it in the epoch before comes to be known only now.
    side.rpc.handle_outcome(&decided_message, &Outcome::Delivered, side.now);
    side.rpc.handle_outcome(&open_message, &Outcome::Delivered, side.now);
    side.drain();
    assert_eq!(side.failures()[1..], [(decided, &Failure::EpochEnded)]);
    side.receive(&format!(r#"{{"jsonrpc":"2.0","id":"{open}","result":1}}"#));
    assert_eq!(side.events.last(), Some(&Event::Finished { id: open, result: Ok(json("1")) }));
}

#[test]
fn a_request_that_is_withdrawn_ends_at_once_and_the_other_side_hears_of_it_if_it_has_it() {
    // Not sent.
    let mut side = Side::new(1);
    let id = side.rpc.request(call("m"), side.now).expect("room");
    side.rpc.cancel(id, side.now).expect("it waits");
    side.drain();
    assert_eq!((side.texts(), side.failures()), (vec![], vec![(id, &Failure::Cancelled)]));
    assert_eq!(side.rpc.cancel(id, side.now), Err(RpcMisuse::NotWaiting));
    // On its way: the message is withdrawn, and only if that comes too late the other side is told.
    let id = side.request("m");
    let (_, _, message) = *side.sent.back().expect("it was sent");
    side.rpc.cancel(id, side.now).expect("it waits");
    side.drain();
    assert_eq!((side.withdrawn.as_slice(), side.sent.len()), (&[message][..], 1));
    side.decide(&Outcome::Delivered);
    let told = format!(r#"{{"jsonrpc":"2.0","method":"$/cancelRequest","params":{{"id":"{id}"}}}}"#);
    assert_eq!(side.texts(), [&told]);
    // There.
    let id = side.delivered("m");
    side.sent.clear();
    assert_eq!(side.rpc.abort_all(side.now), [id]);
    side.drain();
    assert_eq!(side.texts(), [told.replace(&told[60..96], &id.to_string())]);
    assert_eq!(side.sent[0].0, Channel::Responses, "it is not held up by requests");
}

#[test]
fn who_serves_a_request_that_is_withdrawn_hears_of_it() {
    let (mut client, mut server) = (Side::new(1), Side::new(2));
    let working = client.request("working");
    let waiting = client.request("waiting");
    carry(&mut client, &mut server);
    let asked = server.asked();
    for id in [working, waiting] {
        client.rpc.cancel(id, client.now).expect("it waits");
    }
    carry(&mut client, &mut server);
    assert_eq!(server.events[0], Event::Abandoned { id: asked });
    assert_eq!(server.rpc.take(), None, "what nobody has begun is not begun");
    assert_eq!(server.respond(asked, Ok(json("1"))), Err(RpcMisuse::NotWaiting));
    assert!(server.sent.is_empty());
    server.receive(r#"{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":"unknown"}}"#);
    assert_eq!(server.events.len(), 2, "a withdrawal of nothing is nothing");
}

#[test]
fn an_id_that_is_in_use_is_not_answered_twice() {
    let mut side = Side::new(1);
    let text = r#"{"jsonrpc":"2.0","id":  "é\u0041" ,"method":"m"}"#;
    side.receive(text);
    side.receive(text);
    let asked = side.asked();
    assert_eq!((side.rpc.take(), side.rpc.stats().duplicates), (None, 1));
    side.respond(asked, Ok(json("1"))).expect("somebody waits");
    assert_eq!(side.texts(), [r#"{"jsonrpc":"2.0","id":"é\u0041","result":1}"#], "the id comes back byte for byte");
    side.receive(text);
    assert!(side.rpc.has_incoming(), "once it was answered it is another one");
}

#[test]
fn an_answer_that_no_message_can_carry_is_still_an_answer() {
    let mut side = Side::new(1);
    for id in 1..3 {
        side.receive(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#));
    }
    let (first, second) = (side.asked(), side.asked());
    let deep = json(&("[".repeat(MAX_DEPTH + 1) + &"]".repeat(MAX_DEPTH + 1)));
    side.respond(first, Ok(deep)).expect("somebody waits");
    side.rpc.respond(second, Ok(json(&format!("\"{}\"", "x".repeat(1_000)))), side.now).expect("somebody waits");
    let Some(Output::Send { .. }) = side.rpc.poll_output() else { panic!("it is sent") };
    side.rpc.handle_sent(Err(ApiMisuse::TooLarge { len: 1_000, limit: 500 }), side.now);
    side.drain();
    let [deep, large] = side.texts()[..] else { panic!("{:?}", side.texts()) };
    assert!(deep.contains(r#""id":1,"error":{"code":-32603"#), "{deep}");
    assert!(large.contains(r#""id":2,"error":{"code":-32603"#), "{large}");
}

// S001-37
#[test]
fn everything_is_bounded_and_what_finds_no_room_waits() {
    let mut side = Side::with(config(|config| (config.max_pending, config.max_open) = (2, 2)), 1);
    let (first, _) = (side.request("a"), side.request("b"));
    assert_eq!(side.rpc.request(call("c"), side.now), Err(RpcMisuse::TooManyPending { limit: 2 }));
    side.rpc.cancel(first, side.now).expect("it waits");
    side.drain();
    side.sent.clear();
    _ = side.rpc.request(call("c"), side.now).expect("room");
    let Some(Output::Send { payload, .. }) = side.rpc.poll_output() else { panic!("it is sent") };
    side.rpc.handle_sent(Err(ApiMisuse::QueueFull), side.now);
    assert_eq!(side.rpc.poll_output(), None, "nothing is tried before there is room");
    // An answer goes another way, and is tried.
    side.receive(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
    let asked = side.asked();
    side.respond(asked, Ok(json("1"))).expect("somebody waits");
    assert_eq!(side.sent.len(), 1);
    side.rpc.handle_room();
    side.drain();
    assert_eq!(side.sent[1].1, payload, "it is the same");
    for id in 2..5 {
        assert_eq!(side.rpc.has_room(), id < 4);
        side.receive(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#));
    }
}

#[test]
fn a_call_that_cannot_be_is_refused_where_it_is_made() {
    for method in ["", "rpc.discover", "$/progress", &"m".repeat(257)] {
        assert_eq!(Call::new(method), Err(RpcMisuse::Method), "{method:?}");
    }
    assert_eq!(call("m").with_params(json("1")), Err(RpcMisuse::Params));
    let nested = |levels: usize| json(&("[".repeat(levels) + &"]".repeat(levels)));
    assert!(call("m").with_params(nested(MAX_DEPTH)).is_ok());
    assert_eq!(call("m").with_params(nested(MAX_DEPTH + 1)), Err(RpcMisuse::TooDeep));
}

#[test]
fn the_deepest_that_may_be_sent_is_taken_everywhere() {
    let (mut client, mut server) = (Side::new(1), Side::new(2));
    let nested = json(&("[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH)));
    let with_params = || call("m").with_params(nested.clone()).expect("as deep as may be");
    let calls = vec![(with_params(), true), (with_params(), true)];
    client.rpc.request_batch(calls, client.now).expect("room");
    carry(&mut client, &mut server);
    let (first, second) = (server.asked(), server.asked());
    server.rpc.progress(first, &nested, server.now).expect("as deep as may be");
    server.respond(first, Ok(nested.clone())).expect("the client waits");
    server.respond(second, Err(ErrorObject::new(1, "no").with_data(nested.clone()))).expect("the client waits");
    carry(&mut client, &mut server);
    assert_eq!(client.events.len(), 3, "{:?}", client.events);
    assert_eq!((client.rpc.stats().malformed, client.rpc.pending()), (0, 0));
}

#[test]
fn answers_that_find_no_room_stop_the_taking_of_requests() {
    let mut side = Side::new(1);
    let mut answered = 0;
    while side.rpc.has_room() {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{answered},"method":"m"}}"#);
        side.rpc.handle_message(Channel::Calls, UncheckedPayload::new(&text), side.now);
        let asked = side.asked();
        side.rpc.respond(asked, Ok(json("1")), side.now).expect("somebody waits");
        side.rpc.handle_room();
        while let Some(Output::Send { .. }) = side.rpc.poll_output() {
            side.rpc.handle_sent(Err(ApiMisuse::QueueFull), side.now);
        }
        answered += 1;
        assert!(answered <= Config::default().max_open, "{answered} answers wait");
    }
    side.rpc.handle_room();
    side.drain();
    assert_eq!(side.sent.len(), answered);
    assert!(side.rpc.has_room());
}

#[test]
fn a_response_is_never_answered() {
    let mut side = Side::new(1);
    for text in [
        r#"{"jsonrpc":"2.0","result":1}"#,
        r#"{"id":7,"result":1}"#,
        r#"{"id":7,"error":1}"#,
        r#"[{"jsonrpc":"2.0","result":1}]"#,
        r#"{"jsonrpc":"2.0","id":{},"result":1,"error":2}"#,
    ] {
        side.receive(text);
        assert_eq!(side.texts(), [""; 0], "{text}");
    }
}

#[test]
fn who_writes_both_a_result_and_an_error_means_the_one_that_is_not_null() {
    for (keys, is_result) in
        [(r#""result":1,"error":null"#, true), (r#""result":null,"error":{"code":1,"message":""}"#, false)]
    {
        let mut side = Side::new(1);
        let id = side.request("m");
        side.receive(&format!(r#"{{"jsonrpc":"2.0","id":"{id}",{keys}}}"#));
        assert_eq!(
            side.events.iter().filter_map(finished).map(|(_, result)| result.is_ok()).collect::<Vec<_>>(),
            [is_result]
        );
        assert!(!matches!(side.failures()[..], [(_, Failure::BadResponse { .. })]));
    }
}

#[test]
fn an_answer_that_did_not_arrive_is_said_again_as_long_as_somebody_may_wait() {
    for outcome in
        [Outcome::NotDelivered { reason: NotDelivered::Unreachable }, Outcome::Unknown { reason: Unknown::Unreachable }]
    {
        let mut side = Side::new(1);
        side.receive(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
        let asked = side.asked();
        side.respond(asked, Ok(json("1"))).expect("somebody waits");
        side.decide(&outcome);
        // This side does not try at the moment.
        assert_eq!(side.sent.len(), 1, "{outcome}");
        let (_, _, message) = side.sent.pop_back().expect("it was sent");
        side.rpc.handle_epoch_ended(|_| false, side.now);
        side.rpc.handle_outcome(&message, &outcome, side.now);
        side.drain();
        assert!(side.sent.is_empty(), "nobody waits in another epoch");
    }
}

#[test]
fn an_answer_whose_message_came_to_its_own_end_is_not_said_for_ever() {
    let attempts = Outcome::NotDelivered { reason: NotDelivered::Attempts };
    let too_old = Outcome::NotDelivered { reason: NotDelivered::TooOld };
    for outcome in [attempts, too_old, Outcome::Unknown { reason: Unknown::VoidUnanswered }] {
        let mut side = Side::new(1);
        side.receive(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
        let asked = side.asked();
        side.respond(asked, Ok(json("1"))).expect("somebody waits");
        side.decide(&outcome);
        assert!(side.sent.is_empty(), "{outcome}");
    }
}

// L1
#[test]
fn a_request_of_which_nobody_can_tell_whether_it_arrived_is_withdrawn_where_it_may_be_worked_on() {
    for is_withdrawn in [false, true] {
        let mut side = Side::new(1);
        let id = side.request("m");
        if is_withdrawn {
            side.rpc.cancel(id, side.now).expect("it waits");
            side.drain();
        }
        side.decide(&Outcome::Unknown { reason: Unknown::VoidUnanswered });
        assert_eq!(side.failures().len(), 1);
        let cancel = format!(r#"{{"jsonrpc":"2.0","method":"$/cancelRequest","params":{{"id":"{id}"}}}}"#);
        assert_eq!(side.texts(), [cancel]);
    }
}

#[test]
fn what_waits_is_bounded_in_bytes_too() {
    let large = json(&format!("[\"{}\"]", "x".repeat(60)));
    let mut side = Side::with(config(|config| config.max_bytes = 100), 1);
    let call = || call("m").with_params(large.clone()).expect("a list");
    for _ in 0..10 {
        _ = side.rpc.request(call(), side.now);
        _ = side.rpc.notify(&call(), side.now);
    }
    assert_eq!(side.rpc.request(call(), side.now), Err(RpcMisuse::QueueFull));
    assert_eq!(side.rpc.notify(&call(), side.now), Err(RpcMisuse::QueueFull));
    side.drain();
    assert_eq!(side.sent.len(), 1);
    side.rpc.request(call(), side.now).expect("what was sent is somewhere else");
    let mut side = Side::with(config(|config| config.max_bytes = 100), 1);
    for id in 0..2 {
        assert!(side.rpc.has_room());
        side.receive(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m","params":{}}}"#, large.as_str()));
    }
    assert!(!side.rpc.has_room());
    side.take();
    assert!(side.rpc.has_room());
}

#[test]
fn requests_and_notifications_among_the_answers_are_not_served() {
    let mut side = Side::new(1);
    side.comes_as_answer = true;
    side.receive(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
    side.receive(r#"[{"jsonrpc":"2.0","id":1,"method":"m"},{"jsonrpc":"2.0","method":"m"}]"#);
    assert_eq!((side.rpc.take(), side.sent.len(), side.rpc.stats().malformed), (None, 0, 3));
}
