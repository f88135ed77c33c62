//! What became of what people sent: an error stays with its message, and goes with it or the next.

use reattach_core::messages::AnyMessage;
use reattach_core::messages::MessageError;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::view::SessionViews;
use reattach_core::wire::Payload;

use crate::fixture::NOT_CONNECTED;
use crate::fixture::RETRYING;
use crate::fixture::a;
use crate::fixture::attached;
use crate::fixture::b;
use crate::fixture::changed;
use crate::fixture::event;
use crate::fixture::failed;
use crate::fixture::ids;
use crate::fixture::of;
use crate::fixture::rests;
use crate::fixture::retrying;
use crate::fixture::says;
use crate::fixture::secs;
use crate::fixture::seen;
use crate::fixture::works;

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
