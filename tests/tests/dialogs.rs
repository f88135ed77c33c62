//! The dialogs: what people see of questions goes only when it is known what became of them.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use harness::permissions;
use harness::permissions::ALLOW;
use harness::permissions::changed;
use harness::permissions::connection;
use harness::permissions::id;
use harness::permissions::json;
use harness::permissions::outputs;
use harness::permissions::removed;
use harness::permissions::request;
use harness::permissions::response;
use harness::permissions::secs;
use harness::permissions::sent;
use harness::permissions::session;
use harness::permissions::shown;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionMessage;
use reattach_core::messages::PermissionRequest;
use reattach_core::permission::AnswerError;
use reattach_core::permission::AnswerFailed;
use reattach_core::permission::DialogMisuse;
use reattach_core::permission::DialogOutput;
use reattach_core::permission::Dialogs;
use reattach_core::permission::DialogsConfig;
use reattach_core::permission::MAX_DEPTH;
use reattach_core::permission::Removed;
use reattach_core::permission::Status;
use reattach_core::time::Instant;

/// The dialogs of a client, with one that is just asked for five minutes.
fn dialogs() -> Dialogs {
    let mut dialogs = permissions::dialogs(1, &[]);
    let request = PermissionRequest { remaining: Some(Duration::from_secs(300)), ..request("p") };
    dialogs.handle_message(&session(), PermissionMessage::Request(request), secs(0));
    dialogs
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
    assert_eq!(outputs(&mut dialogs), [changed("p")], "asked twice it is there once");
    dialogs.answer(&id("p"), ALLOW, secs(1)).unwrap();
    assert_eq!(outputs(&mut dialogs), [changed("p"), sent("p", ALLOW, 0)], "it is shown before it is sent");
    assert_eq!(dialogs.get(&id("p")).unwrap().status, Status::Sending { choice: ALLOW, retry: 0 });
    assert_eq!(dialogs.answer(&id("p"), Choice::Deny, secs(1)), Err(DialogMisuse::AlreadySending));
    dialogs.handle_answered(&response("other", ALLOW), Ok(()), secs(1));
    assert_eq!(outputs(&mut dialogs), []);
    dialogs.handle_answered(&response("p", ALLOW), Ok(()), secs(2));
    assert_eq!(outputs(&mut dialogs), [removed("p", Removed::Confirmed(ALLOW))]);
    dialogs.handle_answered(&response("p", ALLOW), Ok(()), secs(2));
    dialogs.handle_timeout(secs(1_000));
    assert_eq!((outputs(&mut dialogs), dialogs.poll_timeout()), (vec![], None));
    assert_eq!(dialogs.answer(&id("p"), ALLOW, secs(3)), Err(DialogMisuse::UnknownInteraction));
}

// S000-03, S000-30, S000-32, S000-33, S002-52, S002-54
#[test]
fn an_answer_that_could_not_be_sent_leaves_its_dialog_there_and_is_sent_again_until_it_is_confirmed() {
    let mut dialogs = permissions::dialogs(1, &["p"]);
    dialogs.answer(&id("p"), ALLOW, secs(0)).unwrap();
    assert_eq!(outputs(&mut dialogs), [changed("p"), sent("p", ALLOW, 0)]);
    assert_eq!(dialogs.get(&id("p")).unwrap().status, Status::Sending { choice: ALLOW, retry: 0 });
    dialogs.handle_answered(&response("p", ALLOW), Err(AnswerFailed::NotConfirmed), secs(0));
    assert_eq!((outputs(&mut dialogs), shown(&dialogs)), (vec![changed("p")], vec!["p"]));
    assert_eq!(dialogs.get(&id("p")).unwrap().status, Status::Retrying { choice: ALLOW, retry: 1 });
    assert_eq!(dialogs.poll_timeout(), Some(secs(1)));
    dialogs.handle_timeout(secs(1));
    assert_eq!(outputs(&mut dialogs), [changed("p"), sent("p", ALLOW, 1)]);
    dialogs.handle_answered(&response("p", ALLOW), Ok(()), secs(2));
    assert_eq!(outputs(&mut dialogs), [removed("p", Removed::Confirmed(ALLOW))], "and it never was a failure");
    assert_eq!((shown(&dialogs), dialogs.poll_timeout()), (vec![], None));
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
        assert_eq!(outputs(&mut dialogs), [changed("p")]);
        assert_eq!(dialogs.answer(&id("p"), ALLOW, now), Err(DialogMisuse::AlreadySending));
        let at = dialogs.poll_timeout().unwrap();
        delays.push((at - now).as_secs());
        now = at;
        dialogs.handle_timeout(now);
        assert_eq!(outputs(&mut dialogs), [changed("p"), sent("p", ALLOW, retry)]);
    }
    assert_eq!(delays, [1, 2, 3]);
    dialogs.handle_timeout(now + Duration::from_secs(5));
    assert_eq!(outputs(&mut dialogs), [changed("p")]);
    assert_eq!(dialogs.get(&id("p")).unwrap().status, Status::Failed { choice: ALLOW, retries: 3 });
    // It is there, once, and can be answered again, and otherwise.
    assert_eq!(dialogs.dialogs().len(), 1);
    dialogs.answer(&id("p"), Choice::Deny, now).unwrap();
    assert_eq!(outputs(&mut dialogs), [changed("p"), sent("p", Choice::Deny, 0)]);
}

// S000-10
#[test]
fn a_dialog_whose_answer_failed_can_be_answered_again_under_the_same_id() {
    let mut config = DialogsConfig::default();
    config.retries = 0;
    let mut dialogs = Dialogs::new(config, connection(1), Instant::ZERO);
    dialogs.handle_message(&session(), PermissionMessage::Request(request("p")), secs(0));
    assert!(!dialogs.get(&id("p")).unwrap().status.is_in_flight());
    dialogs.answer(&id("p"), ALLOW, secs(0)).unwrap();
    assert!(dialogs.get(&id("p")).unwrap().status.is_in_flight(), "nothing to press while it is on its way");
    dialogs.handle_timeout(secs(5));
    let status = &dialogs.get(&id("p")).unwrap().status;
    assert_eq!((status, status.is_in_flight()), (&Status::Failed { choice: ALLOW, retries: 0 }, false));
    _ = outputs(&mut dialogs);
    dialogs.answer(&id("p"), ALLOW, secs(9)).unwrap();
    assert_eq!(outputs(&mut dialogs), [changed("p"), sent("p", ALLOW, 0)]);
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
        assert_eq!(outputs(&mut dialogs), [removed("p", Removed::Confirmed(ALLOW))], "after {lost}");
        assert_eq!(dialogs.poll_timeout(), None);
    }
    // What the server tells everybody confirms it too.
    let mut dialogs = dialogs();
    dialogs.answer(&id("p"), ALLOW, secs(0)).unwrap();
    _ = outputs(&mut dialogs);
    let resolved = |by| PermissionMessage::Resolved { request_id: id("p"), is_allowed: true, by };
    dialogs.handle_message(&session(), resolved(Some(connection(1).to_string())), secs(1));
    assert_eq!(outputs(&mut dialogs), [removed("p", Removed::Confirmed(ALLOW))]);
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
        assert_eq!(outputs(&mut late), [removed("p", Removed::Confirmed(first.clone()))]);

        let mut told = dialogs();
        fail(&mut told);
        let (is_allowed, by) = (first.is_allow(), Some(connection(1).to_string()));
        let resolved = PermissionMessage::Resolved { request_id: id("p"), is_allowed, by: by.clone() };
        told.handle_message(&session(), resolved, secs(31));
        assert_eq!(
            outputs(&mut told),
            [removed("p", Removed::Decided { is_allowed, by })],
            "which of them is not known"
        );
    }
}

// S000-05, S000-13, S002-51
#[test]
fn what_is_said_of_a_question_that_is_not_there_or_of_another_one_changes_nothing() {
    let mut dialogs = permissions::dialogs(1, &["p", "q"]);
    dialogs.handle_message(&session(), PermissionMessage::Request(request("p")), secs(0));
    assert_eq!(dialogs.answer(&id("nope"), ALLOW, secs(0)), Err(DialogMisuse::UnknownInteraction));
    dialogs.answer(&id("p"), ALLOW, secs(0)).unwrap();
    _ = outputs(&mut dialogs);
    for confirmed in ["nope", "q"] {
        for _ in 0..2 {
            dialogs.handle_answered(&response(confirmed, ALLOW), Err(AnswerFailed::NotConfirmed), secs(0));
        }
    }
    dialogs.handle_answered(&response("nope", ALLOW), Ok(()), secs(0));
    assert_eq!((outputs(&mut dialogs), shown(&dialogs)), (vec![], vec!["p", "q"]));
    for _ in 0..2 {
        dialogs.handle_message(&session(), PermissionMessage::Cancelled { request_id: id("q") }, secs(0));
        dialogs.handle_message(&session(), PermissionMessage::Cancelled { request_id: id("nope") }, secs(0));
    }
    assert_eq!((outputs(&mut dialogs), shown(&dialogs)), (vec![removed("q", Removed::Cancelled)], vec!["p"]));
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
            assert_eq!(outputs(&mut dialogs), [removed("p", why)]);
            dialogs.handle_timeout(secs(1_000));
            assert_eq!((outputs(&mut dialogs), dialogs.poll_timeout()), (vec![], None), "no retry comes back");
        }
    }
    let mut dialogs = dialogs();
    _ = outputs(&mut dialogs);
    dialogs.handle_timeout(secs(300));
    assert_eq!(outputs(&mut dialogs), [removed("p", Removed::TimedOut)]);
}

#[test]
fn another_question_under_the_name_of_one_that_is_shown_takes_its_place() {
    let mut dialogs = dialogs();
    dialogs.answer(&id("p"), ALLOW, secs(0)).unwrap();
    _ = outputs(&mut dialogs);
    let later = PermissionRequest { remaining: None, ..request("p") };
    dialogs.handle_message(&session(), PermissionMessage::Request(later), secs(1));
    assert_eq!(outputs(&mut dialogs), [], "it is the same");
    let other = PermissionRequest { input: json("\"other\""), ..request("p") };
    dialogs.handle_message(&session(), PermissionMessage::Request(other), secs(1));
    assert_eq!(outputs(&mut dialogs), [removed("p", Removed::Forgotten), changed("p")]);
    assert_eq!(dialogs.get(&id("p")).unwrap().status, Status::Pending, "nobody has answered that");
    dialogs.forget_all();
    assert_eq!(outputs(&mut dialogs), [removed("p", Removed::Forgotten)]);
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
    assert_eq!(outputs(&mut dialogs), [changed("new"), removed("p", Removed::Forgotten)]);
    assert_eq!(shown(&dialogs), ["kept", "answered", "new"]);
    let unknown = Err(AnswerFailed::Refused(AnswerError::UnknownRequest));
    dialogs.handle_answered(&response("answered", ALLOW), unknown, secs(1));
    assert_eq!(outputs(&mut dialogs), [removed("answered", Removed::Forgotten)]);
}

#[test]
fn a_dialog_whose_last_try_fails_after_its_time_is_over_goes_then_and_leaves_no_timer_that_is_due() {
    let mut dialogs = dialogs();
    dialogs.answer(&id("p"), ALLOW, secs(299)).unwrap();
    while let Some(at) = dialogs.poll_timeout() {
        dialogs.handle_timeout(at);
        let next = dialogs.poll_timeout();
        assert!(next.is_none_or(|next| next > at), "a timer is still due at {next:?} after it fired at {at:?}");
    }
    assert_eq!(outputs(&mut dialogs).last(), Some(&removed("p", Removed::TimedOut)));
}

#[test]
fn an_updated_input_that_no_message_can_carry_is_refused_where_it_is_given() {
    let mut dialogs = dialogs();
    let nested = |levels: usize| json(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
    let allow = |levels| Choice::Allow { updated_input: Some(nested(levels)) };
    assert_eq!(dialogs.answer(&id("p"), allow(MAX_DEPTH + 1), secs(1)), Err(DialogMisuse::TooDeep));
    assert_eq!(dialogs.get(&id("p")).unwrap().status, Status::Pending);
    dialogs.answer(&id("p"), allow(MAX_DEPTH), secs(1)).unwrap();
    let Some(DialogOutput::Send { response, .. }) = outputs(&mut dialogs).pop() else { panic!("it is sent") };
    let message = PermissionMessage::Response(response);
    assert_eq!(PermissionMessage::read(&message.write()), Ok(message));
}
