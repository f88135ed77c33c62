//! Batches of requests: answered whole, and bounded like everything else.

use std::collections::BTreeMap;

use harness::rpc::Side;
use harness::rpc::call;
use harness::rpc::carry;
use harness::rpc::finished;
use harness::rpc::json;
use reattach_core::rpc::Channel;
use reattach_core::rpc::Config;
use reattach_core::rpc::ErrorObject;
use reattach_core::rpc::RpcMisuse;
use reattach_core::wire::UncheckedPayload;

// S002-79
#[test]
fn a_batch_is_answered_whole_and_in_one_message() {
    let (mut client, mut server) = (Side::new(1), Side::new(2));
    let calls = vec![(call("a"), true), (call("note"), false), (call("b"), true)];
    let ids = client.rpc.request_batch(calls, client.now).expect("room");
    carry(&mut client, &mut server);
    let (a, note, b) = (server.asked(), server.take(), server.asked());
    assert_eq!((note.id, &*note.method), (None, "note"));
    server.respond(b, Ok(json("2"))).expect("the client waits");
    assert!(server.sent.is_empty(), "the rest is not answered");
    server.respond(a, Err(ErrorObject::new(7, "no"))).expect("the client waits");
    assert_eq!(server.sent.len(), 1);
    carry(&mut client, &mut server);
    let ended = client.events.iter().filter_map(finished).map(|(id, result)| (id, result.is_ok()));
    assert_eq!(ended.collect::<BTreeMap<_, _>>(), BTreeMap::from([(ids[0], false), (ids[1], true)]));
}

#[test]
fn a_batch_answers_each_of_what_makes_no_sense_in_it_and_nothing_to_notifications() {
    let mut side = Side::new(1);
    side.receive(r#"[1,{"jsonrpc":"2.0","id":"x","method":5},[]]"#);
    let [answer] = side.texts()[..] else { panic!("{:?}", side.texts()) };
    assert_eq!(answer.matches("-32600").count(), 3, "{answer}");
    assert!(answer.starts_with('[') && answer.contains(r#""id":"x""#), "{answer}");
    side.sent.clear();
    side.receive(r#"[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","method":"b"}]"#);
    assert!(side.sent.is_empty());
    // One of a batch that is withdrawn is answered, or the others would wait for it.
    side.receive(r#"[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","id":2,"method":"b"}]"#);
    side.receive(r#"{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}"#);
    let b = std::iter::from_fn(|| side.rpc.take()).find_map(|incoming| incoming.id).expect("b is there");
    side.respond(b, Ok(json("2"))).expect("somebody waits");
    let [answer] = side.texts()[..] else { panic!("{:?}", side.texts()) };
    assert!(answer.contains("-32800") && answer.contains(r#""result":2"#), "{answer}");
    let limit = Config::default().max_batch;
    side.sent.clear();
    side.receive(&format!("[{}]", vec![r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#; limit + 1].join(",")));
    assert_eq!((side.rpc.take(), side.sent.len()), (None, 1), "a batch of too much is refused whole");
}

#[test]
fn complaints_in_batches_are_bounded_too() {
    let mut side = Side::new(1);
    for _ in 0..1_000 {
        side.rpc.handle_message(Channel::Responses, UncheckedPayload::new("[1,1,1]"), side.now);
    }
    side.drain();
    assert_eq!(side.sent.len(), Config::default().max_open + Config::default().max_batch);
}

#[test]
fn a_notification_is_not_withdrawn_with_the_request_beside_it() {
    for is_sent in [false, true] {
        let mut side = Side::new(1);
        let ids = side.rpc.request_batch(vec![(call("save"), false), (call("m"), true)], side.now).expect("room");
        if is_sent {
            side.drain();
        }
        side.rpc.cancel(ids[0], side.now).expect("it waits");
        side.drain();
        assert_eq!((side.sent.len(), side.withdrawn.len()), (1, 0));
    }
}

#[test]
fn a_batch_goes_with_the_last_request_in_it() {
    for is_sent in [false, true] {
        let mut side = Side::new(1);
        side.rpc.request_batch(vec![(call("a"), true), (call("b"), true)], side.now).expect("room");
        if is_sent {
            side.drain();
        }
        side.at(1_000);
        assert_eq!(side.failures().len(), 2);
        assert_eq!((side.sent.len(), side.withdrawn.len()), (usize::from(is_sent), usize::from(is_sent)));
    }
    let mut side = Side::new(1);
    let limit = Config::default().max_pending;
    let mut notes = 0..=limit;
    let refused = notes.find_map(|_| side.rpc.request_batch(vec![(call("note"), false)], side.now).err());
    assert_eq!(refused, Some(RpcMisuse::QueueFull), "what is not sent is bounded");
}
