//! What goes back to who asked: answers and progress, where this side stops trying and goes on.

use harness::rpc::Side;
use harness::rpc::json;
use reattach_core::error::ApiMisuse;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::rpc::Output;

const NEVER_WRITTEN: Outcome = Outcome::NotDelivered { reason: NotDelivered::Unreachable };
const MAYBE_THERE: Outcome = Outcome::Unknown { reason: Unknown::Unreachable };

/// A side that works on two requests, has said twice how far it has come with the first, and has answered the second.
fn working() -> Side {
    let mut side = Side::new(1);
    for id in 0..2 {
        side.receive(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#));
    }
    let (first, second) = (side.asked(), side.asked());
    for step in ["1", "2"] {
        side.rpc.progress(first, &json(step), side.now).expect("somebody waits");
    }
    side.rpc.respond(second, Ok(json("true")), side.now).expect("somebody waits");
    side.drain();
    side
}

/// Everything that was sent has this outcome, told in the order of sending, and nothing can be sent meanwhile.
fn stop(side: &mut Side, outcome: &Outcome) {
    for (.., message) in std::mem::take(&mut side.sent) {
        side.rpc.handle_outcome(&message, outcome, side.now);
    }
    while let Some(output) = side.rpc.poll_output() {
        assert!(matches!(output, Output::Send { .. }), "{output:?}");
        side.rpc.handle_sent(Err(ApiMisuse::Ended), side.now);
    }
}

const PROGRESS_1: &str = r#"{"jsonrpc":"2.0","method":"$/progress","params":{"token":0,"value":1}}"#;
const PROGRESS_2: &str = r#"{"jsonrpc":"2.0","method":"$/progress","params":{"token":0,"value":2}}"#;
const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":true}"#;

// Found by simulate_hub, seed 2000000069292: what is said again came last first. S1
#[test]
fn what_never_arrived_is_said_again_in_its_order() {
    let mut side = working();
    assert_eq!(side.texts(), [PROGRESS_1, PROGRESS_2, ANSWER]);

    stop(&mut side, &NEVER_WRITTEN);
    side.rpc.handle_room();
    side.drain();

    assert_eq!(side.texts(), [PROGRESS_1, PROGRESS_2, ANSWER]);
}

// S1: an answer that comes twice is dropped, a step that comes twice tells of a step back.
#[test]
fn an_answer_that_may_have_arrived_is_said_again_and_progress_is_not() {
    let mut side = working();

    stop(&mut side, &MAYBE_THERE);
    side.rpc.handle_room();
    side.drain();

    assert_eq!(side.texts(), [ANSWER]);
}

#[test]
fn what_is_said_again_goes_ahead_of_what_came_after_it() {
    let mut side = working();
    side.receive(r#"{"jsonrpc":"2.0","id":2,"method":"m"}"#);
    let third = side.asked();
    let sent = std::mem::take(&mut side.sent);
    side.rpc.respond(third, Ok(json("3")), side.now).expect("somebody waits");
    for (.., message) in sent {
        side.rpc.handle_outcome(&message, &NEVER_WRITTEN, side.now);
    }

    side.drain();

    assert_eq!(side.texts(), [PROGRESS_1, PROGRESS_2, ANSWER, r#"{"jsonrpc":"2.0","id":2,"result":3}"#]);
}

// The other side may have come back with a smaller limit than it had when the answer was taken in.
#[test]
fn an_answer_that_turns_out_too_large_on_its_way_is_refused_and_nobody_waits_for_it_in_vain() {
    let mut side = Side::new(1);
    side.receive(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
    let asked = side.asked();
    let large = json(&format!("\"{}\"", "x".repeat(1_000)));
    side.rpc.respond(asked, Ok(large), side.now).expect("somebody waits");
    side.drain();

    for (.., message) in std::mem::take(&mut side.sent) {
        let outcome = Outcome::NotDelivered { reason: NotDelivered::TooLarge };
        side.rpc.handle_outcome(&message, &outcome, side.now);
    }
    side.drain();

    let [refusal] = side.texts()[..] else { panic!("{:?}", side.texts()) };
    assert!(refusal.contains(r#""id":1,"error":{"code":-32603"#), "{refusal}");
}
