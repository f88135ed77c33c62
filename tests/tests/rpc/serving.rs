//! Who serves: every request is answered once, and its answer is said as long as somebody may wait.

use harness::rpc::Side;
use harness::rpc::carry;
use harness::rpc::config;
use harness::rpc::json;
use reattach_core::error::ApiMisuse;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::rpc::Event;
use reattach_core::rpc::MAX_DEPTH;
use reattach_core::rpc::Output;
use reattach_core::rpc::RpcMisuse;

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

#[test]
fn requests_and_notifications_among_the_answers_are_not_served() {
    let mut side = Side::new(1);
    side.comes_as_answer = true;
    side.receive(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
    side.receive(r#"[{"jsonrpc":"2.0","id":1,"method":"m"},{"jsonrpc":"2.0","method":"m"}]"#);
    assert_eq!((side.rpc.take(), side.sent.len(), side.rpc.stats().malformed), (None, 0, 3));
}
