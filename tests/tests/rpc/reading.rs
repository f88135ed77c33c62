//! What comes means one thing, and what makes no sense is said to make none.

use harness::rpc::Side;
use harness::rpc::call;
use harness::rpc::carry;
use harness::rpc::finished;
use harness::rpc::json;
use reattach_core::rpc::ErrorObject;
use reattach_core::rpc::Event;
use reattach_core::rpc::Failure;
use reattach_core::rpc::IncomingCall;
use reattach_core::rpc::MAX_DEPTH;

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
