//! Answers in pieces: collected whole and in order, ended once, and nothing added after that.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::slice::from_ref;

use harness::sim::Chance;
use reattach_core::chat::ChatConfig;
use reattach_core::chat::ChatMisuse;
use reattach_core::chat::ChatStreams;
use reattach_core::chat::Ended;
use reattach_core::chat::Received;
use reattach_core::chat::Stream;
use reattach_core::chat::StreamKey;
use reattach_core::chat::StreamWriter;
use reattach_core::id::SessionId;
use reattach_core::messages::ChatStream;
use reattach_core::messages::EnvelopeId;
use reattach_core::messages::StreamEnd;

fn session(name: &str) -> SessionId {
    SessionId::new(name).unwrap()
}

fn key(session_name: &str, request: &str) -> StreamKey {
    let in_reply_to = (!request.is_empty()).then(|| EnvelopeId::new(request).unwrap());
    StreamKey { session: session(session_name), in_reply_to }
}

fn message(key: StreamKey, delta: &str, end: Option<StreamEnd>) -> ChatStream {
    ChatStream { session_id: key.session, in_reply_to: key.in_reply_to, delta: delta.to_owned(), end }
}

fn begun(keys: &[StreamKey]) -> ChatStreams {
    let mut streams = ChatStreams::new(ChatConfig::default());
    for key in keys {
        streams.begin(key.clone()).unwrap();
    }
    streams
}

fn complete() -> Ended {
    Ended::Told(StreamEnd::Complete)
}

// S003-06, S003-43
#[test]
fn pieces_are_collected_in_order_and_the_end_is_told_once() {
    let key = key("s", "m1");
    let (mut streams, mut writer) = (begun(from_ref(&key)), StreamWriter::new(key.clone()));
    for piece in ["Hel", "lo, ", "wor", "ld"] {
        assert_eq!(streams.handle_message(&writer.piece(piece).unwrap()), Received::Added);
    }
    assert_eq!(streams.get(&key).unwrap(), &Stream::open("Hello, world".to_owned()));
    assert_eq!(streams.handle_message(&writer.end(StreamEnd::Complete).unwrap()), Received::Ended);
    let stream = streams.get(&key).unwrap();
    assert_eq!((stream.text(), stream.end()), ("Hello, world", Some(&complete())));
}

// S003-42, S003-43
#[test]
fn whoever_writes_gives_the_end_away_once_and_nothing_after_it() {
    for end in [StreamEnd::Complete, StreamEnd::Failed { error: "no model".to_owned() }, StreamEnd::Interrupted] {
        let mut writer = StreamWriter::new(key("s", ""));
        assert!(writer.piece("a").is_ok() && !writer.is_ended());
        let told = writer.end(end.clone()).unwrap();
        assert_eq!((told.delta.as_str(), told.end), ("", Some(end)));
        assert_eq!(writer.end(StreamEnd::Interrupted), None);
        assert_eq!(writer.piece("b"), Err(ChatMisuse::Ended));
        assert!(writer.is_ended());
    }
}

// S003-43, S004-112
#[test]
fn what_comes_after_the_end_or_for_nothing_that_is_known_changes_nothing() {
    let (own, none) = (key("s", "m1"), key("s", ""));
    let mut streams = begun(from_ref(&own));
    _ = streams.handle_message(&message(own.clone(), "all", Some(StreamEnd::Complete)));
    let before = streams.clone();
    for (key, expected) in [
        (own.clone(), Received::AfterEnd),
        (none, Received::AfterEnd),
        (key("s", "m2"), Received::Unknown),
        (key("t", "m1"), Received::Unknown),
        (key("t", ""), Received::Unknown),
    ] {
        for end in [None, Some(StreamEnd::Complete), Some(StreamEnd::Failed { error: "late".to_owned() })] {
            assert_eq!(streams.handle_message(&message(key.clone(), "x", end)), expected, "{key:?}");
        }
    }
    assert_eq!(streams.handle_piece(&session("s"), "x"), Received::AfterEnd);
    assert_eq!(streams.handle_session_ended(&session("s"), &Ended::Lost), 0);
    assert_eq!(streams, before);
    assert_eq!(streams.begin(own), Err(ChatMisuse::Ended), "one request is answered once");
}

// S003-13
#[test]
fn two_answers_of_one_session_are_told_apart_by_the_requests_they_name() {
    let (one, two) = (key("s", "m1"), key("s", "m2"));
    let mut streams = begun(&[one.clone(), two.clone()]);
    for (key, piece) in [(&one, "a"), (&two, "x"), (&one, "b"), (&two, "y")] {
        assert_eq!(streams.handle_message(&message(key.clone(), piece, None)), Received::Added);
    }
    let before = streams.clone();
    assert_eq!(streams.handle_message(&message(key("s", ""), "?", None)), Received::Ambiguous);
    assert_eq!(streams, before);
    assert_eq!((streams.get(&one).unwrap().text(), streams.get(&two).unwrap().text()), ("ab", "xy"));
    // Where only one is open, what names none is its.
    _ = streams.handle_message(&message(one, "", Some(StreamEnd::Complete)));
    assert_eq!(streams.handle_message(&message(key("s", ""), "z", None)), Received::Added);
    assert_eq!(streams.get(&two).unwrap().text(), "xyz");
}

// S003-41, S003-39
#[test]
fn a_stream_that_is_cut_anywhere_goes_on_where_it_stood() {
    let (key, pieces) = (key("s", "m1"), ["one ", "two ", "", "three ", "four"]);
    for cut in 0..=pieces.len() {
        let mut streams = begun(from_ref(&key));
        for piece in &pieces[..cut] {
            _ = streams.handle_message(&message(key.clone(), piece, None));
        }
        let stream = streams.take(&key).unwrap();
        assert!(streams.is_empty() && streams.bytes() == 0);
        let mut later = ChatStreams::new(ChatConfig::default());
        later.put(key.clone(), stream).unwrap();
        for piece in &pieces[cut..] {
            _ = later.handle_message(&message(key.clone(), piece, None));
        }
        assert_eq!(later.handle_message(&message(key.clone(), "", Some(StreamEnd::Complete))), Received::Ended);
        assert_eq!(later.get(&key).unwrap().text(), "one two three four", "cut at {cut}");
    }
}

#[test]
fn what_a_server_that_lost_its_state_was_saying_ends_as_lost() {
    let mut streams = begun(&[key("s", "m1"), key("t", "")]);
    _ = streams.handle_message(&message(key("s", "m1"), "half", Some(StreamEnd::Interrupted)));
    streams.handle_lost();
    assert_eq!(streams.get(&key("s", "m1")).unwrap().end(), Some(&Ended::Told(StreamEnd::Interrupted)));
    assert_eq!(streams.get(&key("t", "")).unwrap().end(), Some(&Ended::Lost));
    assert_eq!(streams.handle_piece(&session("t"), "more"), Received::AfterEnd);
    assert_eq!(streams.begin(key("t", "")), Ok(()), "what is said next is another stream");
}

fn small() -> ChatConfig {
    let mut config = ChatConfig::default();
    (config.max_streams, config.max_stream_bytes, config.max_bytes) = (3, 10, 20);
    config
}

// S001-37
#[test]
fn a_text_that_grows_too_long_ends_and_keeps_what_had_come() {
    let mut streams = ChatStreams::new(small());
    streams.begin(key("s", "m1")).unwrap();
    assert_eq!(streams.handle_message(&message(key("s", "m1"), "0123456789", None)), Received::Added);
    let too_long = message(key("s", "m1"), "x", Some(StreamEnd::Complete));
    assert_eq!(streams.handle_message(&too_long), Received::TooLong);
    let stream = streams.get(&key("s", "m1")).unwrap();
    assert_eq!((stream.text(), stream.end()), ("0123456789", Some(&Ended::TooLong)));
    assert_eq!(streams.handle_message(&too_long), Received::AfterEnd);
    let long = Stream::open("0123456789x".to_owned());
    assert_eq!(streams.put(key("s", "m2"), long), Err(ChatMisuse::TooLong { limit: 10 }));
}

#[test]
fn streams_are_bounded_and_what_has_ended_makes_room_first() {
    let mut streams = ChatStreams::new(small());
    for request in ["m1", "m2", "m3"] {
        streams.begin(key("s", request)).unwrap();
        _ = streams.handle_message(&message(key("s", request), "12345", None));
    }
    assert_eq!(streams.begin(key("s", "m1")), Err(ChatMisuse::Open));
    assert_eq!(streams.begin(key("s", "m4")), Err(ChatMisuse::TooMany { limit: 3 }));
    _ = streams.handle_message(&message(key("s", "m2"), "", Some(StreamEnd::Complete)));
    assert_eq!(streams.begin(key("s", "m4")), Ok(()));
    assert_eq!((streams.get(&key("s", "m2")), streams.len(), streams.dropped()), (None, 3, 1));
    // Of m4 nothing has come, and m5 is the next that is asked for.
    assert_eq!(streams.begin(key("s", "m5")), Ok(()));
    assert_eq!((streams.get(&key("s", "m4")), streams.len()), (None, 3));
    // Nothing has ended that could make room.
    assert_eq!(streams.handle_message(&message(key("s", "m5"), "0123456789", None)), Received::Added);
    assert_eq!(streams.handle_message(&message(key("s", "m1"), "1", None)), Received::TooLong);
    assert_eq!(streams.bytes(), 20);
    // Words about a failure count too; where they have no room they go.
    let failed = StreamEnd::Failed { error: "no model".to_owned() };
    assert_eq!(streams.handle_message(&message(key("s", "m3"), "", Some(failed))), Received::Ended);
    let kept = Ended::Told(StreamEnd::Failed { error: String::new() });
    assert_eq!(streams.get(&key("s", "m3")).unwrap().end(), Some(&kept));
    assert_eq!((streams.len(), streams.bytes()), (3, 20), "nothing goes where that makes no room");
    streams.forget(&session("s"));
    assert_eq!((streams.len(), streams.bytes()), (0, 0));
}

#[test]
fn long_words_about_a_failure_are_cut_at_a_letter() {
    let mut streams = begun(&[key("s", "m1")]);
    let failed = StreamEnd::Failed { error: "\u{1f980}".repeat(2_000) + "x" };
    _ = streams.handle_message(&message(key("s", "m1"), "", Some(failed)));
    let Some(Ended::Told(StreamEnd::Failed { error })) = streams.get(&key("s", "m1")).unwrap().end() else { panic!() };
    assert_eq!(error, &"\u{1f980}".repeat(1_024));
    assert_eq!(streams.bytes(), 4 * 1_024);
}

// S003-06, S003-13, S003-43
#[test]
fn whatever_comes_in_whatever_order_each_text_is_what_its_writer_wrote_up_to_its_end() {
    for seed in 0..300 {
        let mut chance = Chance::new(seed);
        let mut config = small();
        config.max_bytes = 1_000_000;
        config.max_stream_bytes = 1_000;
        let mut streams = ChatStreams::new(config);
        let mut model = BTreeMap::<StreamKey, (String, bool)>::new();
        let mut ends = BTreeMap::<StreamKey, usize>::new();
        for step in 0..200 {
            let key = key(chance.pick(&["s", "t"]), chance.pick(&["m1", "m2", "m3"]));
            let before = streams.clone();
            if chance.percent(15) {
                if streams.begin(key.clone()).is_ok() {
                    assert_eq!(before.get(&key), None, "one request is answered once");
                    model.insert(key.clone(), (String::new(), false));
                    ends.insert(key.clone(), 0);
                } else {
                    assert_eq!(streams, before, "seed {seed}, step {step}");
                }
                model.retain(|key, _| streams.get(key).is_some());
                continue;
            }
            let end = chance.percent(10).then_some(StreamEnd::Complete);
            let piece = step.to_string();
            let received = streams.handle_message(&message(key.clone(), &piece, end.clone()));
            let expected = match model.get_mut(&key) {
                None => Received::Unknown,
                Some((_, true)) => Received::AfterEnd,
                Some((text, is_ended)) => {
                    text.push_str(&piece);
                    *is_ended = end.is_some();
                    if *is_ended { Received::Ended } else { Received::Added }
                }
            };
            assert_eq!(received, expected, "seed {seed}, step {step}");
            *ends.entry(key.clone()).or_default() += usize::from(received == Received::Ended);
            if matches!(received, Received::AfterEnd | Received::Unknown) {
                assert_eq!(streams, before, "seed {seed}, step {step}");
            }
            for (key, (text, is_ended)) in &model {
                let stream = streams.get(key).unwrap();
                assert_eq!((stream.text(), stream.end().is_some()), (text.as_str(), *is_ended), "seed {seed}");
            }
            assert!(ends.values().all(|ends| *ends <= 1) && streams.len() <= 3);
            assert_eq!(streams.bytes(), model.values().map(|(text, _)| text.len()).sum::<usize>());
        }
    }
}
