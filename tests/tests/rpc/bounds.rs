//! Everything is bounded, and what finds no room waits or is refused.

use harness::rpc::Side;
use harness::rpc::call;
use harness::rpc::carry;
use harness::rpc::config;
use harness::rpc::json;
use reattach_core::error::ApiMisuse;
use reattach_core::rpc::Channel;
use reattach_core::rpc::Config;
use reattach_core::rpc::Event;
use reattach_core::rpc::Output;
use reattach_core::rpc::RpcMisuse;
use reattach_core::wire::UncheckedPayload;

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
