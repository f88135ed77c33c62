//! Whether a session works: what is expected, what the server says, and what ends it.

use reattach_core::chat::Ended;
use reattach_core::chat::Received;
use reattach_core::chat::Stream;
use reattach_core::chat::StreamKey;
use reattach_core::id::Code;
use reattach_core::messages::ChatResponse;
use reattach_core::messages::ChatStream;
use reattach_core::messages::EnvelopeId;
use reattach_core::messages::StreamEnd;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::time::Instant;
use reattach_core::view::SendProblem;
use reattach_core::view::SessionViews;
use reattach_core::view::ViewConfig;

use crate::fixture::NOT_CONNECTED;
use crate::fixture::RETRYING;
use crate::fixture::a;
use crate::fixture::attached;
use crate::fixture::b;
use crate::fixture::changed;
use crate::fixture::failed;
use crate::fixture::ids;
use crate::fixture::of;
use crate::fixture::rests;
use crate::fixture::retrying;
use crate::fixture::says;
use crate::fixture::secs;
use crate::fixture::seen;
use crate::fixture::works;

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
