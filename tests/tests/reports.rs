//! What a receiver reports and when, and what a sender makes of it.

use std::time::Duration;

use harness::alone::LoneClient;
use harness::alone::LoneServer;
use harness::frames::hello;
use harness::frames::report;
use harness::net::Way;
use harness::world::World;
use harness::world::frames_of;
use harness::world::payload;
use harness::world::steady;
use reattach_core::client::Event;
use reattach_core::client::Output;
use reattach_core::client::Status;
use reattach_core::id::MessageId;
use reattach_core::link::Outgoing;
use reattach_core::outcome::Failure;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::SendFailed;
use reattach_core::outcome::Unknown;
use reattach_core::server::Config;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;
use reattach_core::wire::Report;

const MILLI: Duration = Duration::from_millis(1);

#[test]
fn a_report_goes_at_once_when_the_application_has_taken_all() {
    let mut lone = LoneClient::attached(steady());
    assert_eq!(reports(&messages(&mut lone, 1..=3)), []);
    for _ in 0..2 {
        assert!(lone.client.take(lone.now).is_some());
        assert_eq!(reports(&lone.drain()), []);
    }
    assert!(lone.client.take(lone.now).is_some());
    assert_eq!(reports(&lone.drain()), [report(3, 3)]);
}

#[test]
fn a_report_waits_at_most_twenty_milliseconds_while_messages_wait() {
    let mut lone = LoneClient::attached(steady());
    messages(&mut lone, 1..=3);
    assert_eq!(reports(&lone.wait(20 * MILLI - Duration::from_micros(1))), []);
    assert_eq!(reports(&lone.wait(Duration::from_micros(1))), [report(3, 0)]);
    assert_eq!(reports(&lone.wait(1_000 * MILLI)), [], "it is not said twice");
}

#[test]
fn a_report_goes_at_once_when_a_quarter_of_the_window_is_settled() {
    let mut lone = LoneClient::attached(steady());
    messages(&mut lone, 1..=100);
    lone.wait(20 * MILLI);
    for _ in 0..63 {
        assert!(lone.client.take(lone.now).is_some());
        assert_eq!(reports(&lone.drain()), []);
    }
    assert!(lone.client.take(lone.now).is_some());
    assert_eq!(reports(&lone.drain()), [report(100, 64)]);
}

#[test]
fn a_report_goes_in_front_of_whatever_else_is_written() {
    let mut lone = LoneClient::attached(steady());
    messages(&mut lone, 1..=2);
    lone.client.send(payload("company").into(), lone.now).expect("room");
    let outputs = lone.drain();
    let [Output::Write { text, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    assert!(matches!(&frames_of(text)[..], [Frame::Ack(_), Frame::Message(_)]), "{text}");
}

// S002-47, S002-42
#[test]
fn a_message_that_comes_again_is_dropped_without_a_word_and_counted() {
    let mut lone = LoneServer::new(Config::default());
    let transport = lone.greet(hello(1));
    lone.hear_message(transport, 1, "1");
    lone.hear_message(transport, 2, "2");
    for number in [1, 2, 1] {
        assert_eq!(lone.hear_message(transport, number, "again"), []);
    }
    let taken = (0..5).filter(|_| lone.server.take(&hello(1).cid, lone.now).is_some()).count();
    assert_eq!(taken, 2);
    let counters = lone.server.peer(&hello(1).cid).expect("a peer").stats().link;
    assert_eq!((counters.received, counters.duplicates, counters.handed_over), (2, 3, 2));
}

// S002-44
#[test]
fn received_is_not_delivered_and_settled_is() {
    let mut lone = LoneClient::attached(steady());
    let ids = send(&mut lone, 3);
    assert_eq!(outcomes(&lone.hear(r#"{"t":"ack","received":3,"settled":0}"#)), []);
    let told = outcomes(&lone.hear(r#"{"t":"ack","received":3,"settled":2}"#));
    assert_eq!(told, [(ids[0], Outcome::Delivered), (ids[1], Outcome::Delivered)]);
    assert_eq!(outcomes(&lone.hear(r#"{"t":"pong","n":9,"received":3,"settled":3}"#)), [(ids[2], Outcome::Delivered)]);
}

#[test]
fn a_report_that_is_older_than_one_before_changes_nothing() {
    let mut lone = LoneClient::attached(steady());
    send(&mut lone, 3);
    lone.hear(r#"{"t":"ack","received":3,"settled":2}"#);
    let before = lone.client.stats();
    for old in [r#"{"t":"ack","received":2,"settled":1}"#, r#"{"t":"ack"}"#, r#"{"t":"ack","received":3,"settled":2}"#]
    {
        assert_eq!(lone.hear(old), [], "{old}");
    }
    assert_eq!(lone.client.stats(), before);
    assert_eq!(lone.client.status(), Status::Attached);
}

// A later version's receiver decides; a sender of this one must understand it.
#[test]
fn each_exception_is_told_as_what_it_is() {
    let mut lone = LoneClient::attached(steady());
    let ids = send(&mut lone, 6);
    let except = r#"[{"seq":2,"is":"rejected","code":"no","reason":"words"},{"seq":3,"is":"voided"},{"seq":4,"is":"abandoned"},{"seq":5,"is":"pending"}]"#;
    let told = outcomes(&lone.hear(&format!(r#"{{"t":"ack","received":6,"settled":6,"no":3,"except":{except}}}"#)));
    let rejected = Outcome::Rejected { code: "no".parse().expect("a short name"), reason: "words".into() };
    let expected = [
        (ids[0], Outcome::Delivered),
        (ids[1], rejected),
        (ids[2], Outcome::NotDelivered { reason: NotDelivered::Voided }),
        (ids[3], Outcome::Unknown { reason: Unknown::Abandoned }),
        (ids[5], Outcome::Delivered),
    ];
    assert_eq!(told, expected);
    assert_eq!(lone.client.stats().written, 1, "what is pending keeps its place");
    assert_eq!(lone.client.stats().link.failed, 3, "what ended in another way than delivered");
    let told = outcomes(&lone.hear(r#"{"t":"ack","received":6,"settled":6,"no":4}"#));
    assert_eq!(told, [(ids[4], Outcome::Delivered)]);
}

// S000-22, S004-068, S004-093
#[test]
fn a_deferral_is_told_as_a_failure_for_now_each_time_it_happens() {
    let mut lone = LoneClient::attached(steady());
    let ids = send(&mut lone, 1);
    let deferred = |times: u32| {
        format!(
            r#"{{"t":"ack","received":1,"settled":0,"no":{times},"except":[{{"seq":1,"is":"deferred","times":{times},"retryAfter":3000,"code":"busy"}}]}}"#
        )
    };
    for times in [1, 2] {
        let failure = Failure::ForNow {
            attempt: times,
            retry_at: lone.now + 3_000 * MILLI,
            reason: "busy".parse().expect("a short name"),
        };
        let told = lone.hear(&deferred(times));
        assert_eq!(told[0], Output::Event(Event::SendFailed(SendFailed { id: ids[0], failure })));
        let again: Vec<_> =
            lone.hear(&deferred(times)).into_iter().filter(|output| matches!(output, Output::Event(_))).collect();
        assert_eq!(again, [], "the same report again");
    }
    let told = outcomes(&lone.hear(r#"{"t":"ack","received":1,"settled":1,"no":3}"#));
    assert_eq!(told, [(ids[0], Outcome::Delivered)]);
}

// B1: what a peer claims is bounded by what the message allows, whatever numbers it makes up.
#[test]
fn no_more_deferrals_are_believed_than_the_message_has_hand_overs_for() {
    for (hands, told) in [(1, 0), (2, 1), (4, 3)] {
        let mut lone = LoneClient::attached(steady());
        lone.client.send(Outgoing::from(payload("m")).hands(hands), lone.now).expect("there is room");
        lone.drain();
        let mut failures = 0;
        for times in 1..=1_000 {
            let except = format!(r#"[{{"seq":1,"is":"deferred","times":{times},"code":"busy"}}]"#);
            let outputs =
                lone.hear(&format!(r#"{{"t":"ack","received":1,"settled":0,"no":{times},"except":{except}}}"#));
            failures += outputs.iter().filter(|output| matches!(output, Output::Event(Event::SendFailed(_)))).count();
        }
        assert_eq!(failures, told, "{hands} hand-overs");
    }
}

#[test]
fn how_far_a_report_was_taken_in_is_told_back() {
    let mut lone = LoneClient::attached(steady());
    send(&mut lone, 1);
    let outputs = lone.hear(r#"{"t":"ack","received":1,"settled":1,"no":7,"except":[{"seq":1,"is":"voided"}]}"#);
    let texts: String = outputs.iter().filter_map(written).collect();
    assert!(texts.contains(r#""seen":7"#), "{texts}");
}

// S004-158
#[test]
fn what_was_settled_while_detached_is_told_by_the_handshake_alone() {
    let mut world = World::attached();
    world.is_reading = false;
    let (up, down) = (world.send_up("1"), world.send_down("2"));
    world.clients[0].is_reading = false;
    world.run_for(100 * MILLI);
    world.cut(0);
    world.is_reading = true;
    world.clients[0].is_reading = true;
    world.pump();
    world.texts.clear();
    world.run_until(5_000 * MILLI, |world| !world.outcomes_up(0).is_empty() && !world.outcomes_down().is_empty());
    assert_eq!(world.outcomes_up(0), [(up, Outcome::Delivered)]);
    assert_eq!(world.outcomes_down(), [(down, Outcome::Delivered)]);
    let kinds: Vec<_> =
        Way::BOTH.into_iter().flat_map(|way| world.frames(way)).map(|(_, frame)| frame.name()).collect();
    assert!(!kinds.contains(&"ack") && !kinds.contains(&"msg"), "{kinds:?}");
}

#[test]
fn a_goodbye_carries_the_last_report() {
    let mut lone = LoneClient::attached(steady());
    let ids = send(&mut lone, 2);
    let outputs = lone.hear(r#"{"t":"bye","code":1012,"received":2,"settled":1}"#);
    assert_eq!(outcomes(&outputs), [(ids[0], Outcome::Delivered)]);
    assert!(matches!(lone.client.status(), Status::Detached { .. }));
    assert_eq!(lone.closed(CloseCode::RESTART), []);
}

/// Reliable messages come, in one text.
fn messages(lone: &mut LoneClient, numbers: core::ops::RangeInclusive<u64>) -> Vec<Output> {
    let frames: Vec<_> = numbers.map(|number| format!("{{\"t\":\"msg\",\"seq\":{number},\"d\":{number}}}")).collect();
    lone.hear(&frames.join("\n"))
}

/// Sends so many messages, which are written at once.
fn send(lone: &mut LoneClient, count: u64) -> Vec<MessageId> {
    let ids = (0..count).map(|number| lone.client.send(payload(&number.to_string()).into(), lone.now));
    let ids = ids.map(|id| id.expect("room")).collect();
    lone.drain();
    ids
}

fn written(output: &Output) -> Option<&str> {
    if let Output::Write { text, .. } = output { Some(text) } else { None }
}

/// The reports of the acks in some outputs.
fn reports(outputs: &[Output]) -> Vec<Report> {
    let frames = outputs.iter().filter_map(written).flat_map(frames_of);
    frames.filter_map(|frame| if let Frame::Ack(ack) = frame { Some(ack.report) } else { None }).collect()
}

fn outcomes(outputs: &[Output]) -> Vec<(MessageId, Outcome)> {
    let outcome = |output: &Output| match output {
        Output::Event(Event::Delivered { id }) => Some((*id, Outcome::Delivered)),
        Output::Event(Event::SendFailed(SendFailed { id, failure: Failure::ForGood(outcome) })) => {
            Some((*id, outcome.clone()))
        }
        Output::Event(_) | Output::Open { .. } | Output::Write { .. } | Output::Close { .. } => None,
    };
    outputs.iter().filter_map(outcome).collect()
}
