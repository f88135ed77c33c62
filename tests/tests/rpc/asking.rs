//! Who asks: every request ends once, whatever comes.

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
use reattach_core::rpc::ErrorObject;
use reattach_core::rpc::Event;
use reattach_core::rpc::Failure;
use reattach_core::rpc::IncomingCall;
use reattach_core::rpc::MAX_DEPTH;
use reattach_core::rpc::Output;
use reattach_core::rpc::RpcMisuse;
use reattach_core::time::Instant;

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

// S001-31
#[test]
fn a_notification_that_nobody_knows_leaves_a_request_waiting_with_its_deadline() {
    let mut side = Side::new(1);
    let id = side.delivered("m");
    let deadline = side.rpc.poll_timeout();
    side.receive(r#"{"jsonrpc":"2.0","method":"x/y"}"#);
    assert_eq!((side.events.len(), side.rpc.pending(), side.rpc.poll_timeout()), (0, 1, deadline));
    side.receive(&format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":5}}"#));
    assert_eq!(side.events, [Event::Finished { id, result: Ok(json("5")) }]);
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
