//! Questions to people: one answer each, whoever answers when, and a dialog that goes only when that is known.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use harness::orders::orders;
use harness::permissions;
use harness::permissions::ALLOW;
use harness::permissions::broker;
use harness::permissions::connection;
use harness::permissions::id;
use harness::permissions::json;
use harness::permissions::request;
use harness::permissions::response;
use harness::permissions::secs;
use harness::permissions::session;
use reattach_core::messages::Choice;
use reattach_core::messages::MessageError;
use reattach_core::messages::PermissionMessage;
use reattach_core::messages::PermissionRequest;
use reattach_core::permission::AnswerError;
use reattach_core::permission::Answered;
use reattach_core::permission::Broker;
use reattach_core::permission::BrokerConfig;
use reattach_core::permission::DenyReason;
use reattach_core::permission::MAX_DEPTH;
use reattach_core::permission::PermissionMisuse;
use reattach_core::permission::Verdict;
use reattach_core::time::Instant;

/// What was decided of which question, and what was published, as it stands on the wire.
fn drain(broker: &mut Broker) -> (Vec<(String, Verdict)>, Vec<String>) {
    let (decided, published) = permissions::drain(broker);
    let decided = decided.into_iter().map(|(id, verdict)| (id.as_str().to_owned(), verdict));
    (decided.collect(), published.iter().map(|message| message.write().as_str().to_owned()).collect())
}

fn status(pending: u64, processing: u64) -> String {
    format!(r#"{{"type":"permission-queue-status","pending":{pending},"processing":{processing}}}"#)
}

// S002-01, S002-04, S002-26, S002-27
#[test]
fn the_first_answer_wins_and_everybody_hears_of_it_and_of_the_queue() {
    let mut broker = broker();
    broker.ask(session(), request("p1"), None, secs(0)).unwrap();
    broker.ask(session(), request("p2"), None, secs(0)).unwrap();
    let asked = |name: &str| {
        format!(
            r#"{{"type":"permission-request","id":"{name}","toolName":"write","input":{{"path":"a"}},"context":null,"timestamp":"2026-11-21T19:00:00Z","remaining":300000}}"#
        )
    };
    assert_eq!(drain(&mut broker), (vec![], vec![asked("p1"), status(1, 0), asked("p2"), status(2, 0)]));
    broker.look(connection(2), &id("p2"), true).unwrap();
    assert_eq!(drain(&mut broker).1, [status(1, 1)]);
    let answered = broker.answer(connection(1), true, response("p1", ALLOW), secs(1));
    assert_eq!(answered, Ok(Answered { is_duplicate: false }));
    let allowed = Verdict::Allow { input: json(r#"{"path":"a"}"#), by: connection(1) };
    let resolved =
        format!(r#"{{"type":"permission-resolved","requestId":"p1","decision":"allow","by":"{}"}}"#, connection(1));
    assert_eq!(drain(&mut broker), (vec![("p1".to_owned(), allowed)], vec![resolved, status(0, 1)]));
    broker.handle_away(connection(2));
    assert_eq!(drain(&mut broker).1, [status(1, 0)]);
}

// S002-58, S000-24
#[test]
fn a_later_answer_is_told_what_was_decided_and_the_same_one_again_is_confirmed() {
    let mut broker = broker();
    broker.ask(session(), request("p"), None, secs(0)).unwrap();
    let edited = Choice::Allow { updated_input: Some(json("[1]")) };
    broker.answer(connection(1), true, response("p", edited.clone()), secs(1)).unwrap();
    let (decided, _) = drain(&mut broker);
    assert_eq!(decided[0].1, Verdict::Allow { input: json("[1]"), by: connection(1) });
    for _ in 0..2 {
        let again = broker.answer(connection(1), true, response("p", edited.clone()), secs(2));
        assert_eq!(again, Ok(Answered { is_duplicate: true }));
    }
    let told = Err(AnswerError::AlreadyResolved { is_allowed: true, by: connection(1) });
    assert_eq!(broker.answer(connection(2), true, response("p", Choice::Deny), secs(2)), told);
    assert_eq!(broker.answer(connection(1), true, response("p", Choice::Deny), secs(2)), told);
    assert_eq!(drain(&mut broker), (vec![], vec![]), "nobody else hears of it");
    assert_eq!(
        broker.answer(connection(1), true, response("test-123", ALLOW), secs(2)),
        Err(AnswerError::UnknownRequest)
    );
    broker.handle_timeout(secs(10_000));
    assert_eq!(
        broker.answer(connection(1), true, response("p", ALLOW), secs(10_000)),
        Err(AnswerError::UnknownRequest)
    );
    assert_eq!(broker.poll_timeout(), None);
}

// S002-58
#[test]
fn the_same_choice_with_another_input_is_another_answer() {
    let edited = |input: &str| Choice::Allow { updated_input: Some(json(input)) };
    for (first, second) in [(edited("1"), edited("2")), (ALLOW, edited("1")), (edited("1"), ALLOW)] {
        let mut broker = broker();
        broker.ask(session(), request("p"), None, secs(0)).unwrap();
        broker.answer(connection(1), true, response("p", first.clone()), secs(1)).unwrap();
        let other = broker.answer(connection(1), true, response("p", second), secs(1));
        assert_eq!(other, Err(AnswerError::AlreadyResolved { is_allowed: true, by: connection(1) }));
        let again = broker.answer(connection(1), true, response("p", first), secs(1));
        assert_eq!(again, Ok(Answered { is_duplicate: true }));
    }
}

#[test]
fn who_has_nothing_to_do_with_a_session_any_more_looks_at_nothing_in_it() {
    let mut broker = broker();
    for name in ["p", "q"] {
        broker.ask(session(), request(name), None, secs(0)).unwrap();
        broker.look(connection(1), &id(name), true).unwrap();
    }
    broker.look(connection(2), &id("q"), true).unwrap();
    _ = drain(&mut broker);
    broker.retain_looking(&session(), |by| by == connection(2));
    assert_eq!(drain(&mut broker).1, [status(1, 1)], "it is told where it changes");
    broker.retain_looking(&session(), |by| by == connection(2));
    assert_eq!(drain(&mut broker).1, [""; 0]);
}

// S002-60
#[test]
fn who_may_not_answer_changes_nothing() {
    let mut broker = broker();
    broker.ask(session(), request("p"), None, secs(0)).unwrap();
    _ = drain(&mut broker);
    assert_eq!(broker.answer(connection(9), false, response("p", ALLOW), secs(1)), Err(AnswerError::Forbidden));
    assert_eq!(drain(&mut broker), (vec![], vec![]));
    broker.answer(connection(1), true, response("p", Choice::Deny), secs(1)).unwrap();
    assert_eq!(broker.answer(connection(9), false, response("p", ALLOW), secs(1)), Err(AnswerError::Forbidden));
}

// S002-19
#[test]
fn an_answer_to_an_unknown_question_is_told_to_who_answered_and_to_nobody_else() {
    let mut broker = broker();
    broker.ask(session(), request("p"), None, secs(0)).unwrap();
    _ = drain(&mut broker);
    let answered = broker.answer(connection(1), true, response("test-123", ALLOW), secs(1));
    assert_eq!(answered, Err(AnswerError::UnknownRequest));
    assert_eq!(drain(&mut broker), (vec![], vec![]));
    assert_eq!(broker.open(&session(), secs(1)).count(), 1);
}

// S002-06, S002-25, S002-59
#[test]
fn what_nobody_answers_in_time_is_denied_and_stays_so() {
    let mut broker = broker();
    broker.ask(session(), request("p"), None, secs(0)).unwrap();
    broker.ask(session(), request("late timer"), Some(Duration::from_secs(10)), secs(0)).unwrap();
    broker.ask(session(), request("just in time"), Some(Duration::from_secs(10)), secs(0)).unwrap();
    _ = drain(&mut broker);
    assert_eq!(broker.poll_timeout(), Some(secs(10)));
    assert!(broker.answer(connection(1), true, response("just in time", ALLOW), secs(10)).is_ok());
    // The timer has not gone off yet, and yet it is too late.
    let late = Instant::from_micros(10_000_001);
    assert_eq!(broker.answer(connection(1), true, response("late timer", ALLOW), late), Err(AnswerError::Expired));
    let (decided, published) = drain(&mut broker);
    assert_eq!(decided[1], ("late timer".to_owned(), Verdict::Deny(DenyReason::TimedOut)));
    let told = r#"{"type":"permission-timeout","requestId":"late timer","toolName":"write"}"#;
    assert_eq!(published[2..], [told.to_owned(), status(1, 0)]);
    broker.handle_timeout(secs(300));
    broker.handle_timeout(secs(300));
    let (decided, published) = drain(&mut broker);
    assert_eq!((decided.len(), published.len()), (1, 2));
    assert_eq!(broker.answer(connection(1), true, response("p", ALLOW), secs(301)), Err(AnswerError::Expired));
    assert_eq!(drain(&mut broker), (vec![], vec![]));
}

// S002-05
#[test]
fn who_asked_may_take_it_back_and_the_end_of_a_session_takes_all_of_it_back() {
    let mut broker = broker();
    for name in ["p", "q", "r"] {
        broker.ask(session(), request(name), None, secs(0)).unwrap();
    }
    _ = drain(&mut broker);
    broker.cancel(&id("p"), secs(1)).unwrap();
    assert_eq!(broker.cancel(&id("p"), secs(1)), Err(PermissionMisuse::NotOpen));
    assert_eq!(broker.answer(connection(1), true, response("p", ALLOW), secs(1)), Err(AnswerError::Cancelled));
    assert_eq!(broker.open(&session(), secs(0)).count(), 2);
    broker.end_session(&session(), secs(2));
    let (decided, published) = drain(&mut broker);
    assert!(decided.iter().all(|(_, verdict)| *verdict == Verdict::Deny(DenyReason::Cancelled)) && decided.len() == 3);
    assert_eq!(published.last(), Some(&status(0, 0)));
    assert_eq!(broker.ask(session(), request("p"), None, secs(3)), Err(PermissionMisuse::IdInUse));
}

// S002-21
#[test]
fn who_comes_back_is_shown_what_is_open_with_the_time_that_is_left_and_nothing_else() {
    let mut broker = broker();
    for name in ["z", "b", "a"] {
        broker.ask(session(), request(name), None, secs(0)).unwrap();
    }
    broker.answer(connection(1), true, response("b", ALLOW), secs(100)).unwrap();
    let of = session();
    let open = broker.open(&of, secs(100)).map(|request| (request.id.as_str().to_owned(), request.remaining.unwrap()));
    let left = Duration::from_secs(200);
    assert_eq!(open.collect::<Vec<_>>(), [("z".to_owned(), left), ("a".to_owned(), left)]);
}

// S002-37
#[test]
fn questions_are_bounded_and_so_is_what_is_known_of_old_ones() {
    let mut config = BrokerConfig::default();
    (config.max_open, config.max_remembered) = (2, 3);
    let mut broker = Broker::new(config, Instant::ZERO);
    for name in 0..2 {
        broker.ask(session(), request(&name.to_string()), None, secs(0)).unwrap();
    }
    assert_eq!(broker.ask(session(), request("2"), None, secs(0)), Err(PermissionMisuse::TooMany { limit: 2 }));
    for name in 0..10 {
        broker.answer(connection(1), true, response(&name.to_string(), Choice::Deny), secs(name)).unwrap();
        broker.ask(session(), request(&(name + 2).to_string()), None, secs(name)).unwrap();
    }
    let known = (0..10)
        .filter(|name| broker.answer(connection(1), true, response(&name.to_string(), Choice::Deny), secs(10)).is_ok());
    assert_eq!(known.collect::<Vec<_>>(), [7, 8, 9]);
}

#[test]
fn what_could_not_be_shown_to_anybody_is_not_asked() {
    let mut config = BrokerConfig::default();
    config.max_bytes = 100;
    let mut broker = Broker::new(config, Instant::ZERO);
    let mut ask = |name: &str, change: &dyn Fn(&mut PermissionRequest)| {
        let mut request = request(name);
        (request.input, request.context) = (json("1"), json("1"));
        change(&mut request);
        broker.ask(session(), request, None, secs(0))
    };
    let nested = |levels: usize| json(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
    assert_eq!(ask("deep", &|request| request.input = nested(MAX_DEPTH + 1)), Err(PermissionMisuse::TooDeep));
    assert_eq!(ask("deep", &|request| request.context = nested(MAX_DEPTH + 1)), Err(PermissionMisuse::TooDeep));
    let long = "x".repeat(257);
    assert_eq!(ask("long", &|request| request.tool_name = long.clone()), Err(PermissionMisuse::TextTooLong));
    assert_eq!(ask("long", &|request| request.timestamp = long.clone()), Err(PermissionMisuse::TextTooLong));
    let large = |request: &mut PermissionRequest| request.input = json(&format!("\"{}\"", "x".repeat(60)));
    assert_eq!(ask("a", &large), Ok(()));
    assert_eq!(ask("b", &large), Err(PermissionMisuse::TooLarge { limit: 100 }));
    assert_eq!(ask("b", &|_| {}), Ok(()));
}

// N16, S002-74, S7
#[test]
fn n16_an_allowance_a_refusal_the_timeout_a_cancellation_and_a_disconnect_at_once_decide_once_in_all_120_orders() {
    let orders = orders(&[0, 1, 2, 3, 4]);
    assert_eq!(orders.len(), 120);
    for order in orders {
        let mut broker = broker();
        broker.ask(session(), request("p"), None, secs(0)).unwrap();
        broker.look(connection(1), &id("p"), true).unwrap();
        _ = drain(&mut broker);
        let now = secs(300);
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        let mut first = None;
        for step in &order {
            let (c1, c2) = (connection(1), connection(2));
            let answered = match step {
                0 => Some(broker.answer(c1, true, response("p", ALLOW), now)),
                1 => Some(broker.answer(c2, true, response("p", Choice::Deny), now)),
                2 => {
                    broker.handle_timeout(now);
                    None
                }
                3 => {
                    _ = broker.cancel(&id("p"), now);
                    None
                }
                _ => {
                    broker.handle_away(c1);
                    None
                }
            };
            first = first.or_else(|| (*step != 4).then_some(*step));
            match answered {
                Some(Ok(answered)) => taken.push((*step, answered)),
                Some(Err(error)) => refused.push((*step, error)),
                None => {}
            }
        }
        broker.handle_timeout(secs(301));
        let (decided, published) = drain(&mut broker);
        let [(_, verdict)] = &decided[..] else { panic!("{order:?} decided {decided:?}") };
        let (expected, told) = match first {
            Some(0) => (
                Verdict::Allow { input: json(r#"{"path":"a"}"#), by: connection(1) },
                AnswerError::AlreadyResolved { is_allowed: true, by: connection(1) },
            ),
            Some(1) => (
                Verdict::Deny(DenyReason::Denied { by: connection(2) }),
                AnswerError::AlreadyResolved { is_allowed: false, by: connection(2) },
            ),
            Some(2) => (Verdict::Deny(DenyReason::TimedOut), AnswerError::Expired),
            _ => (Verdict::Deny(DenyReason::Cancelled), AnswerError::Cancelled),
        };
        assert_eq!(*verdict, expected, "{order:?}");
        assert!(refused.iter().all(|(_, error)| *error == told), "{order:?} told {refused:?}");
        assert_eq!(taken.len() + refused.len(), 2, "{order:?}");
        assert_eq!(published.last(), Some(&status(0, 0)), "{order:?}");
        assert_eq!(broker.open(&session(), secs(0)).count(), 0, "who comes back sees it resolved");
    }
}

// S002-09, S002-10, S002-11, S002-12, S002-13, S002-14
#[test]
fn the_messages_stand_on_the_wire_as_they_always_have() {
    let remaining = Some(Duration::from_millis(1_500));
    for (message, text) in [
        (
            PermissionMessage::Request(PermissionRequest { remaining, ..request("p") }),
            r#"{"type":"permission-request","id":"p","toolName":"write","input":{"path":"a"},"context":null,"timestamp":"2026-11-21T19:00:00Z","remaining":1500}"#,
        ),
        (
            PermissionMessage::Response(response("test-123", ALLOW)),
            r#"{"type":"permission-response","requestId":"test-123","decision":"allow"}"#,
        ),
        (
            PermissionMessage::Response(response("p", Choice::Allow { updated_input: Some(json("[1]")) })),
            r#"{"type":"permission-response","requestId":"p","decision":"allow","updatedInput":[1]}"#,
        ),
        (
            PermissionMessage::Timeout { request_id: id("p"), tool_name: "say \"hi\"".to_owned() },
            r#"{"type":"permission-timeout","requestId":"p","toolName":"say \"hi\""}"#,
        ),
        (
            PermissionMessage::Resolved { request_id: id("p"), is_allowed: false, by: None },
            r#"{"type":"permission-resolved","requestId":"p","decision":"deny"}"#,
        ),
        (PermissionMessage::Cancelled { request_id: id("p") }, r#"{"type":"permission-cancelled","requestId":"p"}"#),
        (
            PermissionMessage::QueueStatus { pending: 2, processing: 1 },
            r#"{"type":"permission-queue-status","pending":2,"processing":1}"#,
        ),
    ] {
        assert_eq!(message.write().as_str(), text);
        assert_eq!(PermissionMessage::read(&json(text)), Ok(message.clone()));
        let spaced = text.replacen('{', "{ \"unknown\" : [1] , ", 1);
        assert_eq!(PermissionMessage::read(&json(&spaced)), Ok(message), "{spaced}");
    }
    // Absent and null are the same where a value may be absent.
    let null = r#"{"type":"permission-response","requestId":"p","decision":"allow","updatedInput":null}"#;
    assert_eq!(PermissionMessage::read(&json(null)), Ok(PermissionMessage::Response(response("p", ALLOW))));
}

// S002-15, S002-56, S002-57, S7
#[test]
fn nothing_but_the_very_word_allows_and_what_makes_no_sense_is_said_by_name() {
    let response =
        |decision: &str| format!(r#"{{"type":"permission-response","requestId":"p","decision":{decision}}}"#);
    for decision in ["\"yes\"", "\"Allow\"", "\"allow \"", "true", "1", "null", "[\"allow\"]", "\"approve\"", "\"\""] {
        let error = PermissionMessage::read(&json(&response(decision))).unwrap_err();
        assert!(error.to_string().contains("\"decision\""), "{decision}: {error}");
    }
    for (text, words) in [
        ("1", "not one JSON object"),
        ("{}", "\"type\""),
        (r#"{"type":"zzz"}"#, "type that is not known"),
        (r#"{"type":"permission-response","decision":"allow"}"#, "permission-response lacks \"requestId\""),
        (r#"{"type":"permission-response","requestId":"","decision":"allow"}"#, "\"requestId\""),
        (r#"{"type":"permission-response","requestId":"p","decision":"deny","decision":"allow"}"#, "twice"),
        (r#"{"type":"permission-response","requestId":"p","decision":"deny","updatedInput":1}"#, "without allowing"),
        (r#"{"type":"permission-request","id":"p","input":1,"timestamp":""}"#, "\"toolName\""),
        (r#"{"type":"permission-request","id":"p","toolName":"t","timestamp":""}"#, "\"input\""),
        (r#"{"type":"permission-queue-status","pending":-1,"processing":0}"#, "\"pending\""),
        (r#"{"type":"permission-queue-status","pending":"1","processing":0}"#, "\"pending\""),
    ] {
        let error: MessageError = PermissionMessage::read(&json(text)).unwrap_err();
        assert!(error.to_string().contains(words), "{text}: {error}");
    }
    let long = format!(r#"{{"type":"permission-cancelled","requestId":"{}"}}"#, "x".repeat(129));
    assert!(PermissionMessage::read(&json(&long)).is_err());
}
