//! Questions to people: one answer each, whoever answers when, and a dialog that goes only when that is known.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use reattach_core::id::ConnectionId;
use reattach_core::id::ConnectionKey;
use reattach_core::id::SessionId;
use reattach_core::messages::Choice;
use reattach_core::messages::MessageError;
use reattach_core::messages::PermissionId;
use reattach_core::messages::PermissionMessage;
use reattach_core::messages::PermissionRequest;
use reattach_core::messages::PermissionResponse;
use reattach_core::permission::AnswerError;
use reattach_core::permission::AnswerFailed;
use reattach_core::permission::Answered;
use reattach_core::permission::Broker;
use reattach_core::permission::BrokerConfig;
use reattach_core::permission::BrokerOutput;
use reattach_core::permission::DenyReason;
use reattach_core::permission::DialogMisuse;
use reattach_core::permission::DialogOutput;
use reattach_core::permission::Dialogs;
use reattach_core::permission::DialogsConfig;
use reattach_core::permission::MAX_DEPTH;
use reattach_core::permission::PermissionMisuse;
use reattach_core::permission::Removed;
use reattach_core::permission::Status;
use reattach_core::permission::Verdict;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;

const ALLOW: Choice = Choice::Allow { updated_input: None };

fn connection(number: u8) -> ConnectionId {
    ConnectionKey::from_bytes([number; 16]).connection_id()
}

fn id(name: &str) -> PermissionId {
    PermissionId::new(name).unwrap()
}

fn session() -> SessionId {
    SessionId::new("s").unwrap()
}

fn json(text: &str) -> Payload {
    Payload::from_json(text).unwrap()
}

fn secs(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

fn request(name: &str) -> PermissionRequest {
    let (tool_name, timestamp) = ("write".to_owned(), "2026-11-21T19:00:00Z".to_owned());
    let (input, context) = (json(r#"{"path":"a"}"#), json("null"));
    PermissionRequest { id: id(name), tool_name, input, context, timestamp, remaining: None }
}

fn response(name: &str, choice: Choice) -> PermissionResponse {
    PermissionResponse { request_id: id(name), choice }
}

fn broker() -> Broker {
    Broker::new(BrokerConfig::default(), Instant::ZERO)
}

/// What was decided of which question, and what was published, as it stands on the wire.
fn drain(broker: &mut Broker) -> (Vec<(String, Verdict)>, Vec<String>) {
    let (mut decided, mut published) = (Vec::new(), Vec::new());
    while let Some(output) = broker.poll_output() {
        match output {
            BrokerOutput::Decided { id, verdict } => decided.push((id.as_str().to_owned(), verdict)),
            BrokerOutput::Publish { message, .. } => published.push(message.write().as_str().to_owned()),
        }
    }
    (decided, published)
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

/// All orders of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![vec![]];
    }
    let insert = |order: Vec<usize>| {
        (0..count).map(move |place| {
            let mut order = order.clone();
            order.insert(place, count - 1);
            order
        })
    };
    orders(count - 1).into_iter().flat_map(insert).collect()
}

// N16, S002-74, S7
#[test]
fn n16_an_allowance_a_refusal_the_timeout_a_cancellation_and_a_disconnect_at_once_decide_once_in_all_120_orders() {
    let orders = orders(5);
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

fn dialogs() -> Dialogs {
    let mut dialogs = Dialogs::new(DialogsConfig::default(), connection(1), Instant::ZERO);
    let request = PermissionRequest { remaining: Some(Duration::from_secs(300)), ..request("p") };
    dialogs.handle_message(&session(), PermissionMessage::Request(request), secs(0));
    dialogs
}

fn outputs(dialogs: &mut Dialogs) -> Vec<DialogOutput> {
    std::iter::from_fn(|| dialogs.poll_output()).collect()
}

fn changed() -> DialogOutput {
    DialogOutput::Changed { id: id("p") }
}

fn sent(choice: &Choice, retry: u32) -> DialogOutput {
    DialogOutput::Send { response: response("p", choice.clone()), retry }
}

fn removed(why: Removed) -> DialogOutput {
    DialogOutput::Removed { id: id("p"), why }
}

#[test]
fn dialogs_are_bounded_in_number_and_bytes() {
    for (change, fit) in [
        ((|config: &mut DialogsConfig| config.max_dialogs = 3) as fn(&mut DialogsConfig), 3),
        (|config| config.max_bytes = 100, 2),
    ] {
        let mut config = DialogsConfig::default();
        change(&mut config);
        let mut dialogs = Dialogs::new(config, connection(1), Instant::ZERO);
        for name in 0..5 {
            let input = json(&format!("\"{}\"", "x".repeat(60)));
            let request = PermissionRequest { input, ..request(&name.to_string()) };
            dialogs.handle_message(&session(), PermissionMessage::Request(request), secs(0));
        }
        assert_eq!(dialogs.dialogs().len(), fit);
    }
}

// S000-01, S000-06, S000-08, S000-23, S002-42
#[test]
fn a_dialog_stays_until_its_answer_is_confirmed_and_one_click_is_one_answer() {
    let mut dialogs = dialogs();
    dialogs.handle_message(&session(), PermissionMessage::Request(request("p")), secs(0));
    assert_eq!(outputs(&mut dialogs), [changed()], "asked twice it is there once");
    dialogs.answer(&id("p"), ALLOW, secs(1)).unwrap();
    assert_eq!(outputs(&mut dialogs), [changed(), sent(&ALLOW, 0)], "it is shown before it is sent");
    assert_eq!(dialogs.get(&id("p")).unwrap().status, Status::Sending { choice: ALLOW, retry: 0 });
    assert_eq!(dialogs.answer(&id("p"), Choice::Deny, secs(1)), Err(DialogMisuse::AlreadySending));
    dialogs.handle_answered(&response("other", ALLOW), Ok(()), secs(1));
    assert_eq!(outputs(&mut dialogs), []);
    dialogs.handle_answered(&response("p", ALLOW), Ok(()), secs(2));
    assert_eq!(outputs(&mut dialogs), [removed(Removed::Confirmed(ALLOW))]);
    dialogs.handle_answered(&response("p", ALLOW), Ok(()), secs(2));
    dialogs.handle_timeout(secs(1_000));
    assert_eq!((outputs(&mut dialogs), dialogs.poll_timeout()), (vec![], None));
    assert_eq!(dialogs.answer(&id("p"), ALLOW, secs(3)), Err(DialogMisuse::UnknownInteraction));
}

// S000-04, S000-07, S000-09, S000-15, S000-16, S000-18, S000-31, N01
#[test]
fn n01_an_answer_that_is_not_confirmed_is_sent_again_after_one_two_and_three_seconds_and_then_has_failed() {
    let mut dialogs = dialogs();
    dialogs.answer(&id("p"), ALLOW, secs(0)).unwrap();
    _ = outputs(&mut dialogs);
    let (mut now, mut delays) = (secs(0), Vec::new());
    for retry in 1..=3 {
        assert_eq!(dialogs.poll_timeout(), Some(now + Duration::from_secs(5)));
        now = now + Duration::from_secs(5);
        dialogs.handle_timeout(now);
        assert_eq!(outputs(&mut dialogs), [changed()]);
        assert_eq!(dialogs.answer(&id("p"), ALLOW, now), Err(DialogMisuse::AlreadySending));
        let at = dialogs.poll_timeout().unwrap();
        delays.push((at - now).as_secs());
        now = at;
        dialogs.handle_timeout(now);
        assert_eq!(outputs(&mut dialogs), [changed(), sent(&ALLOW, retry)]);
    }
    assert_eq!(delays, [1, 2, 3]);
    dialogs.handle_timeout(now + Duration::from_secs(5));
    assert_eq!(outputs(&mut dialogs), [changed()]);
    assert_eq!(dialogs.get(&id("p")).unwrap().status, Status::Failed { choice: ALLOW, retries: 3 });
    // It is there, once, and can be answered again, and otherwise.
    assert_eq!(dialogs.dialogs().len(), 1);
    dialogs.answer(&id("p"), Choice::Deny, now).unwrap();
    assert_eq!(outputs(&mut dialogs), [changed(), sent(&Choice::Deny, 0)]);
}

// S000-22
#[test]
fn a_confirmation_counts_whenever_it_comes() {
    for lost in [0, 1, 4] {
        let mut dialogs = dialogs();
        dialogs.answer(&id("p"), ALLOW, secs(0)).unwrap();
        for _ in 0..lost {
            dialogs.handle_answered(&response("p", ALLOW), Err(AnswerFailed::NotConfirmed), secs(1));
            dialogs.handle_timeout(secs(20));
        }
        _ = outputs(&mut dialogs);
        dialogs.handle_answered(&response("p", ALLOW), Ok(()), secs(20));
        assert_eq!(outputs(&mut dialogs), [removed(Removed::Confirmed(ALLOW))], "after {lost}");
        assert_eq!(dialogs.poll_timeout(), None);
    }
    // What the server tells everybody confirms it too.
    let mut dialogs = dialogs();
    dialogs.answer(&id("p"), ALLOW, secs(0)).unwrap();
    _ = outputs(&mut dialogs);
    let resolved = |by| PermissionMessage::Resolved { request_id: id("p"), is_allowed: true, by };
    dialogs.handle_message(&session(), resolved(Some(connection(1).to_string())), secs(1));
    assert_eq!(outputs(&mut dialogs), [removed(Removed::Confirmed(ALLOW))]);
}

// S000-04, S002-42
#[test]
fn of_two_answers_to_one_question_the_one_that_was_taken_is_told() {
    let allow = |input: &str| Choice::Allow { updated_input: Some(json(input)) };
    for (first, second) in [(ALLOW, Choice::Deny), (allow("1"), allow("2"))] {
        let fail = |dialogs: &mut Dialogs| {
            dialogs.answer(&id("p"), first.clone(), secs(0)).unwrap();
            for at in [5, 6, 11, 13, 18, 21, 26] {
                dialogs.handle_timeout(secs(at));
            }
            assert!(matches!(dialogs.get(&id("p")).unwrap().status, Status::Failed { .. }));
            dialogs.answer(&id("p"), second.clone(), secs(30)).unwrap();
            _ = outputs(dialogs);
        };
        let mut late = dialogs();
        fail(&mut late);
        late.handle_answered(&response("p", first.clone()), Err(AnswerFailed::NotConfirmed), secs(31));
        assert_eq!(outputs(&mut late), [], "the other one is on its way");
        late.handle_answered(&response("p", first.clone()), Ok(()), secs(31));
        assert_eq!(outputs(&mut late), [removed(Removed::Confirmed(first.clone()))]);

        let mut told = dialogs();
        fail(&mut told);
        let (is_allowed, by) = (first.is_allow(), Some(connection(1).to_string()));
        let resolved = PermissionMessage::Resolved { request_id: id("p"), is_allowed, by: by.clone() };
        told.handle_message(&session(), resolved, secs(31));
        assert_eq!(outputs(&mut told), [removed(Removed::Decided { is_allowed, by })], "which of them is not known");
    }
}

// S002-36, S003-19
#[test]
fn while_the_server_cannot_be_reached_an_answer_waits_and_is_not_taken_for_lost() {
    let mut dialogs = dialogs();
    dialogs.handle_attached(false, secs(0));
    dialogs.answer(&id("p"), ALLOW, secs(1)).unwrap();
    _ = outputs(&mut dialogs);
    assert_eq!(dialogs.poll_timeout(), None, "the connection waits, with timers of its own");
    dialogs.handle_timeout(secs(100));
    assert_eq!(outputs(&mut dialogs), []);
    dialogs.handle_attached(true, secs(100));
    assert_eq!(dialogs.poll_timeout(), Some(secs(105)));
    dialogs.handle_attached(true, secs(103));
    assert_eq!(dialogs.poll_timeout(), Some(secs(105)), "attached twice is attached");
}

// S000-21, S000-27, S002-39, S002-40
#[test]
fn a_dialog_goes_when_the_question_is_decided_elsewhere_taken_back_or_over() {
    let by = Some("cid-2".to_owned());
    let resolved = PermissionMessage::Resolved { request_id: id("p"), is_allowed: false, by: by.clone() };
    let timeout = PermissionMessage::Timeout { request_id: id("p"), tool_name: "write".to_owned() };
    let cancelled = PermissionMessage::Cancelled { request_id: id("p") };
    for is_answered in [false, true] {
        for (message, why) in [
            (resolved.clone(), Removed::Decided { is_allowed: false, by: by.clone() }),
            (timeout.clone(), Removed::TimedOut),
            (cancelled.clone(), Removed::Cancelled),
        ] {
            let mut dialogs = dialogs();
            if is_answered {
                dialogs.answer(&id("p"), ALLOW, secs(1)).unwrap();
                dialogs.handle_timeout(secs(6));
            }
            _ = outputs(&mut dialogs);
            dialogs.handle_message(&session(), message.clone(), secs(6));
            dialogs.handle_message(&session(), message, secs(6));
            assert_eq!(outputs(&mut dialogs), [removed(why)]);
            dialogs.handle_timeout(secs(1_000));
            assert_eq!((outputs(&mut dialogs), dialogs.poll_timeout()), (vec![], None), "no retry comes back");
        }
    }
    let mut dialogs = dialogs();
    _ = outputs(&mut dialogs);
    dialogs.handle_timeout(secs(300));
    assert_eq!(outputs(&mut dialogs), [removed(Removed::TimedOut)]);
}

// S002-55, S002-70, N15
#[test]
fn after_something_was_missed_what_the_server_no_longer_has_goes_and_an_answer_on_its_way_stays() {
    let mut dialogs = dialogs();
    for name in ["kept", "answered"] {
        dialogs.handle_message(&session(), PermissionMessage::Request(request(name)), secs(0));
    }
    dialogs.answer(&id("answered"), ALLOW, secs(0)).unwrap();
    _ = outputs(&mut dialogs);
    dialogs.handle_message(&session(), PermissionMessage::Request(request("new")), secs(1));
    dialogs.forget_unlisted(&session(), &[id("kept"), id("new")].into());
    assert_eq!(outputs(&mut dialogs), [DialogOutput::Changed { id: id("new") }, removed(Removed::Forgotten)]);
    let shown = dialogs.dialogs().into_iter().map(|(id, _)| id.as_str());
    assert_eq!(shown.collect::<Vec<_>>(), ["kept", "answered", "new"]);
    let unknown = Err(AnswerFailed::Refused(AnswerError::UnknownRequest));
    dialogs.handle_answered(&response("answered", ALLOW), unknown, secs(1));
    assert_eq!(outputs(&mut dialogs), [DialogOutput::Removed { id: id("answered"), why: Removed::Forgotten }]);
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
