//! What people see of a session: whether it works, and what became of what they sent, never both at odds.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use harness::sim::Chance;
use reattach_core::chat::Ended;
use reattach_core::chat::Received;
use reattach_core::chat::Stream;
use reattach_core::chat::StreamKey;
use reattach_core::id::Code;
use reattach_core::id::ConnectionKey;
use reattach_core::id::MessageId;
use reattach_core::id::MessageIds;
use reattach_core::id::SessionId;
use reattach_core::messages::AnyMessage;
use reattach_core::messages::ChatResponse;
use reattach_core::messages::ChatStream;
use reattach_core::messages::Choice;
use reattach_core::messages::EnvelopeId;
use reattach_core::messages::MessageError;
use reattach_core::messages::PermissionId;
use reattach_core::messages::PermissionMessage;
use reattach_core::messages::PermissionRequest;
use reattach_core::messages::PermissionResponse;
use reattach_core::messages::ServerEvent;
use reattach_core::messages::StreamEnd;
use reattach_core::outcome::Failure;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::SendFailed;
use reattach_core::outcome::Unknown;
use reattach_core::permission::Dialogs;
use reattach_core::permission::DialogsConfig;
use reattach_core::time::Instant;
use reattach_core::view::SendProblem;
use reattach_core::view::SessionViews;
use reattach_core::view::ViewConfig;
use reattach_core::wire::Payload;

const NOT_CONNECTED: &str = "Not connected. Message will be sent when reconnected.";
const RETRYING: &str = "Message delivery delayed \u{2014} retrying...";

fn secs(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

fn a() -> SessionId {
    SessionId::new("A").unwrap()
}

fn b() -> SessionId {
    SessionId::new("B").unwrap()
}

fn ids() -> MessageIds {
    MessageIds::new(&[1; 16])
}

fn event(text: &str) -> ServerEvent {
    ServerEvent::read(&Payload::from_json(text).unwrap()).unwrap()
}

fn of(kind: &str, session: &SessionId) -> ServerEvent {
    event(&format!(r#"{{"type":"{kind}","sessionId":"{session}","delta":"x"}}"#))
}

fn retrying(id: MessageId) -> SendFailed {
    let failure = Failure::ForNow { attempt: 1, retry_at: secs(3), reason: Code::new("busy").unwrap() };
    SendFailed { id, failure }
}

fn failed(id: MessageId, outcome: Outcome) -> SendFailed {
    SendFailed { id, failure: Failure::ForGood(outcome) }
}

fn attached() -> SessionViews {
    let mut views = SessionViews::new(ViewConfig::default(), Instant::ZERO);
    views.handle_attached(false);
    views
}

/// Whether it works, and the texts of its errors.
fn seen(views: &SessionViews, session: &SessionId) -> (bool, Vec<String>) {
    let view = views.view(session);
    (view.running, view.send_errors.iter().map(|error| error.problem.to_string()).collect())
}

fn works() -> (bool, Vec<String>) {
    (true, vec![])
}

fn rests() -> (bool, Vec<String>) {
    (false, vec![])
}

fn says(text: &str) -> (bool, Vec<String>) {
    (false, vec![text.to_owned()])
}

fn changed(views: &mut SessionViews) -> Vec<SessionId> {
    std::iter::from_fn(|| views.poll_changed()).collect()
}

// N10, S004-094, S004-106, S004-107, S004-108, S004-109, S004-112
#[test]
fn n10_the_banner_of_a_message_stays_with_it_and_its_session_until_it_is_delivered() {
    let (mut views, id) = (attached(), ids().mint());
    views.handle_accepted(id, &a(), secs(0));
    views.handle_send_failed(&retrying(id));
    assert_eq!((seen(&views, &a()), changed(&mut views)), (says(RETRYING), vec![a()]));
    // Events of no session and of another one.
    for text in [r#"{"type":"task_state"}"#, r#"{"type":"inbox_updated"}"#, r#"{"type":"loop_status","sessionId":"A"}"#]
    {
        views.handle_event(&event(text));
        assert_eq!((seen(&views, &a()), changed(&mut views)), (says(RETRYING), vec![]), "{text}");
    }
    for kind in ["message_start", "block_delta", "session_id", "session_end"] {
        views.handle_event(&of(kind, &b()));
        assert_eq!(seen(&views, &a()), says(RETRYING), "{kind}");
        assert!(!changed(&mut views).contains(&a()), "{kind}");
    }
    // A drop and a reconnect, with and without the state of before, and another failure: no flicker.
    for resumed in [true, false] {
        views.handle_detached();
        assert_eq!(seen(&views, &a()), says(RETRYING));
        views.handle_attached(resumed);
        views.handle_send_failed(&retrying(id));
        assert_eq!((seen(&views, &a()), changed(&mut views)), (says(RETRYING), vec![]));
    }
    // The people look at B and come back.
    assert_eq!((seen(&views, &b()), seen(&views, &a())), (rests(), says(RETRYING)));
    assert_eq!(views.error_of(id).unwrap().session, a());
    // Its delivery, and nothing else.
    views.handle_delivered(id);
    assert_eq!((seen(&views, &a()), changed(&mut views), views.error_of(id)), (rests(), vec![a()], None));
    // A server cannot make one up.
    let stray = Payload::from_json(r#"{"type":"_send_failed","clientMsgId":"user-1","willRetry":false}"#).unwrap();
    assert_eq!(AnyMessage::read(&stray), Err(MessageError::LocalOnly));
}

// S004-097, S004-098
#[test]
fn what_is_sent_while_connected_is_expected_to_work_and_what_is_sent_while_not_says_so() {
    let (mut views, mut ids) = (SessionViews::new(ViewConfig::default(), Instant::ZERO), ids());
    views.handle_accepted(ids.mint(), &a(), secs(0));
    assert_eq!(seen(&views, &a()), says(NOT_CONNECTED));
    views.handle_attached(true);
    assert_eq!(seen(&views, &a()), says(NOT_CONNECTED), "it is not delivered yet");
    views.handle_accepted(ids.mint(), &b(), secs(0));
    assert_eq!(seen(&views, &b()), works());
    views.handle_refused(&b());
    let (running, errors) = seen(&views, &b());
    assert!(!running && errors.len() == 1 && errors[0].contains("not accepted"), "{errors:?}");
    let error = &views.view(&b()).send_errors[0];
    assert_eq!((error.message, &error.problem), (None, &SendProblem::NotAccepted));
}

// S004-099, S004-100, S004-103, S004-110
#[test]
fn a_message_that_is_sent_again_stops_the_spinner_and_one_that_failed_for_good_says_another_thing() {
    let reason = NotDelivered::Attempts;
    for outcome in [
        Outcome::NotDelivered { reason },
        Outcome::Unknown { reason: Unknown::NoReceipt },
        Outcome::Rejected { code: Code::new("forbidden").unwrap(), reason: String::new() },
        Outcome::Rejected { code: Code::new("forbidden").unwrap(), reason: "sign in first".to_owned() },
    ] {
        let (mut views, id) = (attached(), ids().mint());
        views.handle_accepted(id, &a(), secs(0));
        for _ in 0..3 {
            views.handle_send_failed(&retrying(id));
            assert_eq!(seen(&views, &a()), says(RETRYING));
        }
        views.handle_send_failed(&failed(id, outcome.clone()));
        let view = views.view(&a());
        let [error] = &view.send_errors[..] else { panic!("{view:?}") };
        assert_eq!((view.running, error.message, &error.problem), (false, Some(id), &SendProblem::Failed(outcome)));
        assert!(error.problem.is_final() && error.problem.to_string() != RETRYING);
        // What is final stays, whatever comes late.
        let before = seen(&views, &a());
        views.handle_delayed(id);
        views.handle_send_failed(&retrying(id));
        assert_eq!(seen(&views, &a()), before);
    }
}

// S004-102
#[test]
fn a_failure_ends_what_was_expected_and_a_later_delivery_expects_nothing_anew() {
    let (mut views, id) = (attached(), ids().mint());
    views.handle_accepted(id, &a(), secs(0));
    views.handle_send_failed(&retrying(id));
    assert_eq!(views.poll_timeout(), None);
    views.handle_delivered(id);
    assert_eq!(seen(&views, &a()), rests());
}

// S004-098, S004-113
#[test]
fn what_is_sent_while_not_connected_says_so_even_where_something_is_expected() {
    let (mut views, mut ids) = (attached(), ids());
    views.handle_accepted(ids.mint(), &a(), secs(0));
    views.handle_detached();
    let second = ids.mint();
    views.handle_accepted(second, &a(), secs(1));
    views.handle_attached(true);
    assert_eq!(seen(&views, &a()), says(NOT_CONNECTED));
    views.handle_delivered(second);
    assert_eq!(seen(&views, &a()), works(), "the first one is on its way");
}

#[test]
fn what_is_sent_again_under_its_id_belongs_to_where_it_was_sent_last() {
    let (mut views, mut ids) = (attached(), ids());
    let id = ids.mint();
    views.handle_accepted(id, &a(), secs(0));
    views.handle_send_failed(&failed(id, Outcome::NotDelivered { reason: NotDelivered::Deadline }));
    views.handle_accepted(id, &b(), secs(1));
    assert_eq!(seen(&views, &a()), rests());
    views.handle_send_failed(&retrying(id));
    views.handle_accepted(ids.mint(), &a(), secs(2));
    assert_eq!((seen(&views, &b()), views.error_of(id).unwrap().session), (says(RETRYING), b()));
}

#[test]
fn nothing_is_kept_of_messages_that_failed_and_were_followed_by_others() {
    let (mut views, mut ids) = (attached(), ids());
    let mut round = |views: &mut SessionViews| {
        let id = ids.mint();
        views.handle_accepted(id, &a(), secs(0));
        views.handle_send_failed(&failed(id, Outcome::NotDelivered { reason: NotDelivered::Deadline }));
        format!("{views:?}").len()
    };
    let first = round(&mut views);
    let last = (0..100).map(|_| round(&mut views)).max().unwrap();
    assert!(last < first + 20, "{first} letters have become {last}");
}

#[test]
fn what_begins_to_be_said_is_another_text_and_one_that_had_to_make_room_is_told_of() {
    let mut config = ViewConfig::default();
    config.chat.max_streams = 1;
    let mut views = SessionViews::new(config, Instant::ZERO);
    views.handle_attached(true);
    for kind in ["message_start", "block_delta", "block_delta"] {
        views.handle_event(&of(kind, &a()));
    }
    assert_eq!(views.view(&a()).text, "xx");
    views.handle_event(&of("message_start", &a()));
    assert_eq!(views.view(&a()).text, "");
    for kind in ["block_delta", "session_end"] {
        views.handle_event(&of(kind, &a()));
    }
    assert_eq!(views.view(&a()).text, "x");
    assert_eq!(changed(&mut views), [a()]);
    views.handle_event(&of("message_start", &b()));
    assert_eq!(views.view(&a()).text, "");
    assert_eq!(changed(&mut views), [a(), b()]);
}

// S004-101, S000-04
#[test]
fn a_session_of_which_nothing_is_heard_stops_being_shown_as_working_and_says_so() {
    let (mut views, id) = (attached(), ids().mint());
    views.handle_accepted(id, &a(), secs(5));
    assert_eq!(views.poll_timeout(), Some(secs(35)));
    views.handle_timeout(Instant::from_micros(34_999_999));
    assert_eq!(seen(&views, &a()), works());
    views.handle_timeout(secs(35));
    let view = views.view(&a());
    assert_eq!((view.running, &view.send_errors[0].problem), (false, &SendProblem::NoAnswer));
    assert_eq!(views.poll_timeout(), None);
    views.handle_delivered(id);
    assert_eq!(seen(&views, &a()), rests());
}

#[test]
fn a_delivered_message_to_which_nothing_is_said_ends_without_an_error() {
    let (mut views, id) = (attached(), ids().mint());
    views.handle_accepted(id, &a(), secs(0));
    views.handle_delivered(id);
    assert_eq!(seen(&views, &a()), works(), "the server is about to say something");
    views.handle_timeout(secs(30));
    assert_eq!(seen(&views, &a()), rests());
}

// S004-102
#[test]
fn what_the_server_says_decides_and_a_late_result_of_a_send_does_not() {
    let (mut views, id) = (attached(), ids().mint());
    views.handle_accepted(id, &a(), secs(0));
    for kind in ["message_start", "block_delta"] {
        views.handle_event(&of(kind, &a()));
        assert_eq!(seen(&views, &a()), works());
    }
    views.handle_timeout(secs(100));
    assert_eq!(seen(&views, &a()), works(), "the server has not said that it is over");
    views.handle_event(&of("session_end", &a()));
    assert_eq!(seen(&views, &a()), rests());
    views.handle_delivered(id);
    assert_eq!(seen(&views, &a()), rests());
}

// S004-104, S004-105
#[test]
fn an_error_goes_with_the_next_message_of_its_session_and_with_none_of_another() {
    let (mut views, mut ids) = (attached(), ids());
    let (first, second) = (ids.mint(), ids.mint());
    views.handle_accepted(first, &a(), secs(0));
    views.handle_send_failed(&failed(first, Outcome::NotDelivered { reason: NotDelivered::Deadline }));
    views.handle_accepted(second, &b(), secs(0));
    views.handle_send_failed(&retrying(second));
    assert_eq!((seen(&views, &a()).1.len(), seen(&views, &b())), (1, says(RETRYING)));
    views.handle_accepted(ids.mint(), &a(), secs(0));
    assert_eq!((seen(&views, &a()), seen(&views, &b())), (works(), says(RETRYING)));
    assert_eq!(views.error_of(first), None);
    // What is not settled may fail again, and then is an error again.
    let third = ids.mint();
    views.handle_accepted(third, &b(), secs(0));
    views.handle_send_failed(&retrying(second));
    let view = views.view(&b());
    assert_eq!((view.send_errors.len(), view.send_errors[0].message), (1, Some(second)));
}

// S004-113, I6
#[test]
fn while_the_server_works_an_error_is_kept_back_and_shows_when_it_is_done() {
    let (mut views, mut ids) = (attached(), ids());
    let (first, second) = (ids.mint(), ids.mint());
    views.handle_accepted(first, &a(), secs(0));
    views.handle_event(&of("message_start", &a()));
    views.handle_accepted(second, &a(), secs(1));
    views.handle_send_failed(&failed(second, Outcome::NotDelivered { reason: NotDelivered::Deadline }));
    assert_eq!((seen(&views, &a()), views.view(&a()).hidden_errors), (works(), 1));
    assert!(views.error_of(second).is_some(), "whoever shows it beside its message can");
    views.handle_event(&of("session_end", &a()));
    assert_eq!((seen(&views, &a()).1.len(), views.view(&a()).hidden_errors), (1, 0));
}

// S004-100
#[test]
fn a_message_that_the_other_side_has_and_does_not_decide_about_is_not_called_lost() {
    let (mut views, id) = (attached(), ids().mint());
    views.handle_accepted(id, &a(), secs(0));
    views.handle_delayed(id);
    assert_eq!(seen(&views, &a()), says("Message arrived and waits to be taken."));
    views.handle_event(&of("message_start", &a()));
    assert_eq!(seen(&views, &a()), works());
}

// S004-149
#[test]
fn a_server_that_lost_its_state_works_on_nothing_and_a_detached_one_on_nothing_that_is_known() {
    let mut views = attached();
    views.handle_event(&of("message_start", &a()));
    views.handle_event(&of("block_delta", &a()));
    views.handle_detached();
    assert_eq!(seen(&views, &a()), rests());
    views.handle_attached(true);
    assert_eq!((seen(&views, &a()), views.view(&a()).ended), (works(), None));
    views.handle_detached();
    views.handle_attached(false);
    let view = views.view(&a());
    assert_eq!((view.running, view.text, view.ended), (false, "x", Some(&Ended::Lost)));
    // A snapshot says where it stands, and it goes on from there.
    let key = StreamKey { session: a(), in_reply_to: None };
    views.resync(&a(), true, Some((key, Stream::open("so far ".to_owned()))));
    views.handle_event(&of("block_delta", &a()));
    assert_eq!((views.view(&a()).running, views.view(&a()).text), (true, "so far x"));
    views.resync(&a(), false, None);
    assert_eq!((views.view(&a()).running, views.view(&a()).text), (false, ""));
}

// S003-06, S003-13, S003-42
#[test]
fn answers_in_pieces_drive_a_session_as_events_do() {
    let (mut views, id) = (attached(), ids().mint());
    let key = |request: &str| StreamKey { session: a(), in_reply_to: Some(EnvelopeId::new(request).unwrap()) };
    let piece = |request: &str, delta: &str, end| ChatStream {
        session_id: a(),
        in_reply_to: key(request).in_reply_to,
        delta: delta.to_owned(),
        end,
    };
    views.handle_accepted(id, &a(), secs(0));
    views.expect_reply(key("m1")).unwrap();
    views.expect_reply(key("m2")).unwrap();
    views.expect_reply(key("m3")).unwrap();
    assert_eq!(views.handle_stream(&piece("m9", "?", None), secs(1)), Received::Unknown);
    assert_eq!(views.handle_stream(&piece("m1", "one", None), secs(1)), Received::Added);
    assert_eq!(views.handle_stream(&piece("m2", "two", None), secs(1)), Received::Added);
    assert_eq!((views.view(&a()).running, views.poll_timeout()), (true, None));
    let failed = StreamEnd::Failed { error: "no model".to_owned() };
    assert_eq!(views.handle_stream(&piece("m1", "", Some(failed)), secs(2)), Received::Ended);
    assert_eq!((views.view(&a()).running, views.poll_timeout()), (true, None), "the other answer goes on");
    assert_eq!(views.handle_stream(&piece("m2", "", Some(StreamEnd::Complete)), secs(3)), Received::Ended);
    assert_eq!((views.view(&a()).running, views.poll_timeout()), (true, Some(secs(33))), "a third is expected");
    let whole = ChatResponse { session_id: a(), in_reply_to: key("m3").in_reply_to, message: "three".to_owned() };
    assert_eq!(views.handle_response(&whole, secs(4)), Received::Ended);
    let view = views.view(&a());
    assert_eq!((view.running, view.text, view.ended), (false, "three", Some(&Ended::Told(StreamEnd::Complete))));
    assert_eq!(views.handle_response(&whole, secs(5)), Received::AfterEnd);
    assert!(!views.view(&a()).running, "what was not taken says nothing");
}

#[test]
fn the_dialogs_of_each_session_are_counted() {
    let (mut views, now) = (attached(), Instant::ZERO);
    let me = ConnectionKey::from_bytes([1; 16]).connection_id();
    let mut dialogs = Dialogs::new(DialogsConfig::default(), me, now);
    for (session, name) in [(a(), "p"), (a(), "q"), (b(), "r")] {
        let json = |text| Payload::from_json(text).unwrap();
        let (tool_name, timestamp) = ("write".to_owned(), "now".to_owned());
        let (input, context, remaining) = (json("1"), json("null"), None);
        let id = PermissionId::new(name).unwrap();
        let request = PermissionRequest { id, tool_name, input, context, timestamp, remaining };
        dialogs.handle_message(&session, PermissionMessage::Request(request), now);
    }
    for session in [a(), b()] {
        views.sync_dialogs(&session, &dialogs);
    }
    assert_eq!((views.view(&a()).dialogs, views.view(&b()).dialogs), (2, 1));
    assert_eq!(changed(&mut views), [a(), b()]);
    // An answer that is not confirmed leaves its dialog.
    let p = PermissionId::new("p").unwrap();
    dialogs.answer(&p, Choice::Deny, now).unwrap();
    for session in [a(), b()] {
        views.sync_dialogs(&session, &dialogs);
    }
    assert_eq!((views.view(&a()).dialogs, changed(&mut views)), (2, vec![]));
    dialogs.handle_answered(&PermissionResponse { request_id: p.clone(), choice: Choice::Deny }, Ok(()), now);
    for session in [a(), b()] {
        views.sync_dialogs(&session, &dialogs);
    }
    assert_eq!((views.view(&a()).dialogs, changed(&mut views)), (1, vec![a()]));
}

// S001-37, S004-095
#[test]
fn sessions_messages_and_what_is_not_polled_are_bounded() {
    let mut config = ViewConfig::default();
    (config.max_sessions, config.max_messages) = (3, 4);
    let (mut views, mut ids) = (SessionViews::new(config, Instant::ZERO), ids());
    views.handle_attached(true);
    let session = |number: u32| SessionId::new(&number.to_string()).unwrap();
    // A server that names sessions without end pushes out what can be missed, and nothing else.
    let kept = ids.mint();
    views.handle_accepted(kept, &a(), secs(0));
    for number in 0..100 {
        views.handle_event(&of("message_start", &session(number)));
        views.handle_event(&of("session_end", &session(number)));
    }
    assert!(views.sessions().count() == 3 && views.sessions().any(|session| *session == a()));
    assert_eq!(views.streams().len(), 2, "the texts went with their sessions");
    for number in 0..100 {
        views.handle_event(&of("message_start", &session(number)));
    }
    assert_eq!(views.sessions().count(), 3);
    assert!(!views.view(&session(99)).running, "there was no room for it");
    assert!(changed(&mut views).len() <= 9);
    // What is sent always has room.
    for number in 0..100 {
        views.handle_accepted(ids.mint(), &session(number), secs(1));
        assert!(views.view(&session(number)).running);
    }
    assert_eq!((views.sessions().count(), views.error_of(kept)), (3, None));
    let sent: Vec<_> = (0..10).map(|_| ids.mint()).collect();
    for id in &sent {
        views.handle_accepted(*id, &a(), secs(2));
    }
    for id in &sent {
        views.handle_send_failed(&retrying(*id));
    }
    let errors: Vec<_> = views.view(&a()).send_errors.iter().map(|error| error.message.unwrap()).collect();
    assert_eq!(errors, sent[6..]);
    views.forget(&a());
    assert_eq!((seen(&views, &a()), views.sessions().count()), (rests(), 2));
}

/// What people see, kept.
fn look(views: &SessionViews) -> BTreeMap<SessionId, String> {
    views.sessions().map(|session| (session.clone(), format!("{:?}", views.view(session)))).collect()
}

// N10, S004-106, S004-107, S004-108, S004-113, I6, S004-144
#[test]
fn whatever_happens_no_session_works_and_complains_and_no_error_goes_but_by_its_own_message_or_the_next() {
    for seed in 0..80 {
        let mut chance = Chance::new(seed);
        let mut config = ViewConfig::default();
        config.chat.max_streams = 4;
        config.patience = Duration::from_secs(5);
        let (mut views, mut ids) = (SessionViews::new(config, Instant::ZERO), ids());
        let sessions = [a(), b(), SessionId::new("C").unwrap()];
        let mut sent = Vec::<MessageId>::new();
        let mut running = BTreeSet::new();
        for step in 0..300 {
            let now = secs(step);
            let session = &sessions[usize::try_from(chance.below(3)).unwrap()];
            let before = look(&views);
            let errors: Vec<_> = sent.iter().filter_map(|id| views.error_of(*id)).collect();
            let id = sent.get(usize::try_from(chance.below(sent.len().max(1) as u64)).unwrap()).copied();
            let (mut excused_message, mut excused_session) = (None, None);
            match (chance.below(13), id) {
                (0..=2, _) => {
                    sent.push(ids.mint());
                    views.handle_accepted(*sent.last().unwrap(), session, now);
                    excused_session = Some(session);
                }
                (3, Some(id)) => {
                    views.handle_delivered(id);
                    excused_message = Some(id);
                }
                (4, Some(id)) => {
                    views.handle_send_failed(&retrying(id));
                    excused_message = Some(id);
                }
                (5, Some(id)) => {
                    views.handle_send_failed(&failed(id, Outcome::Unknown { reason: Unknown::Ended }));
                    excused_message = Some(id);
                }
                (6, Some(id)) => {
                    views.handle_delayed(id);
                    excused_message = Some(id);
                }
                (7, _) => {
                    let resumed = chance.percent(70);
                    views.handle_detached();
                    views.handle_attached(resumed);
                    if !resumed {
                        running.clear();
                    }
                }
                (8, _) => {
                    views.handle_event(&of("message_start", session));
                    running.insert(session.clone());
                }
                (9, _) => {
                    let could = views.streams().clone().handle_piece(session, "x") == Received::Added;
                    views.handle_event(&of("block_delta", session));
                    running.extend(could.then(|| session.clone()));
                }
                (10, _) => {
                    views.handle_event(&of("session_end", session));
                    running.remove(session);
                }
                (11, _) => views.handle_event(&event(r#"{"type":"task_state"}"#)),
                _ => views.handle_timeout(now),
            }
            // No error is gone or another but for its own message, or what was sent after it. Silence ends in one.
            for error in errors {
                let message = error.message.unwrap();
                if Some(message) != excused_message && Some(&error.session) != excused_session {
                    assert_eq!(views.error_of(message), Some(error), "seed {seed}, step {step}");
                }
            }
            let told: BTreeSet<_> = changed(&mut views).into_iter().collect();
            let after = look(&views);
            for session in &sessions {
                let view = views.view(session);
                assert!(!view.running || view.send_errors.is_empty(), "seed {seed}, step {step}: {view:?}");
                assert!(view.running || view.hidden_errors == 0, "seed {seed}, step {step}: {view:?}");
                let nothing = format!("{:?}", SessionViews::new(config, now).view(session));
                let look = |looks: &BTreeMap<_, String>| looks.get(session).unwrap_or(&nothing).clone();
                let is_told = told.contains(session);
                assert!(is_told || look(&before) == look(&after), "seed {seed}, step {step}: not told of {session}");
            }
        }
        // Once nothing is expected any more, what works is what the server says.
        views.handle_attached(true);
        views.handle_timeout(secs(1_000));
        let working: BTreeSet<_> = sessions.iter().filter(|session| views.view(session).running).cloned().collect();
        assert_eq!((working, views.poll_timeout()), (running, None), "seed {seed}");
    }
}
