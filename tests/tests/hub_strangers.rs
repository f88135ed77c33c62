//! A watcher whose server is the test: one that makes no sense, or never has anything, ends it or is asked ever more seldom.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use harness::hub::session;
use harness::permissions::ALLOW;
use harness::permissions::connection;
use harness::permissions::id;
use harness::permissions::json;
use harness::permissions::secs;
use harness::sessions::EPOCH;
use reattach_core::hub::Call;
use reattach_core::hub::CallNo;
use reattach_core::hub::Ended;
use reattach_core::hub::Watched;
use reattach_core::hub::Watcher;
use reattach_core::hub::WatcherEvent;
use reattach_core::hub::WatcherOutput;
use reattach_core::messages::Choice;
use reattach_core::outcome::NotDelivered;
use reattach_core::permission::DialogMisuse;
use reattach_core::permission::DialogsConfig;
use reattach_core::rpc::ErrorObject;
use reattach_core::rpc::Failure;
use reattach_core::session::Cursor;
use reattach_core::session::Offset;
use reattach_core::session::WatchFrom;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;
use reattach_core::wire::UncheckedPayload;

/// A watcher whose server is the test.
fn alone() -> (Watcher, CallNo) {
    let config = DialogsConfig::default();
    let mut watcher = Watcher::new(session(), WatchFrom::Start, config, connection(1), &[1; 16], secs(0));
    let number = asked(&mut watcher).unwrap().0;
    (watcher, number)
}

/// What is asked next; what is told before that is dropped.
fn asked(watcher: &mut Watcher) -> Option<(CallNo, Call)> {
    std::iter::from_fn(|| watcher.poll_output()).find_map(|output| match output {
        WatcherOutput::Call { number, call } => Some((number, call)),
        WatcherOutput::Event(_) => None,
    })
}

fn watched(after: Option<u64>) -> Result<Payload, Failure> {
    let cursor = |offset| Cursor { epoch: EPOCH, offset: Offset::new(offset).unwrap() };
    let after = after.map(cursor);
    Ok(Watched { after, end: cursor(7), permissions: vec![], pending: 0, processing: 0 }.write())
}

// E1
#[test]
fn a_server_that_never_has_anything_is_asked_ever_more_seldom() {
    let failed = || Err(Failure::NotDelivered(NotDelivered::Expired));
    type Answer = fn() -> Result<Payload, Failure>;
    let answers: [(&str, Answer); 3] =
        [("a gap", || watched(None)), ("a failure", failed), ("a gap in the lane", || watched(Some(0)))];
    for (what, answer) in answers {
        let (mut watcher, mut number) = alone();
        let (mut now, mut requests, mut told) = (Instant::ZERO, 1, 0);
        while now < secs(600) {
            watcher.handle_response(number, answer(), now);
            if what == "a gap in the lane" {
                // The tag stands in the request.
                let tag = watcher_tag(&watcher);
                for text in [format!("[\"{tag}\"]"), "[null]".to_owned()] {
                    watcher.handle_message(UncheckedPayload::new(&text), now);
                }
            }
            loop {
                let mut next = None;
                while let Some(output) = watcher.poll_output() {
                    match output {
                        WatcherOutput::Call { number, .. } => next = Some(number),
                        WatcherOutput::Event(_) => told += 1,
                    }
                }
                if let Some(next) = next {
                    number = next;
                    requests += 1;
                    break;
                }
                now = watcher.poll_timeout().expect("nothing waits without a timer");
                watcher.handle_timeout(now);
            }
        }
        assert!((10..40).contains(&requests), "{what}: {requests} requests in ten minutes");
        assert!(told < 3 * requests, "{what}: {told} events");
    }
}

/// The tag that a watcher gave its last watch, which its `Debug` shows.
fn watcher_tag(watcher: &Watcher) -> String {
    let shown = format!("{watcher:?}");
    let tag = shown.split(" tag: \"").nth(1).expect("it has a tag");
    tag.split('"').next().expect("a split has a first part").to_owned()
}

#[test]
fn a_server_that_makes_no_sense_ends_the_watch_and_is_told_to_stop() {
    let (mut watcher, number) = alone();
    let confused = WatcherOutput::Event(WatcherEvent::Ended(Ended::Confused));
    let mut other = watcher.clone();
    other.handle_response(number, Ok(json("{}")), secs(0));
    let outputs: Vec<_> = std::iter::from_fn(|| other.poll_output()).collect();
    assert!(matches!(&outputs[..], [WatcherOutput::Call { call: Call::Unwatch { .. }, .. }, end] if *end == confused));
    watcher.handle_response(number, watched(Some(3)), secs(0));
    let tag = watcher_tag(&watcher);
    for text in [format!("[\"{tag}\",1]"), "[4,4]".to_owned(), "[6,6]".to_owned(), "[5,5]".to_owned()] {
        watcher.handle_message(UncheckedPayload::new(&text), secs(0));
    }
    let outputs: Vec<_> = std::iter::from_fn(|| watcher.poll_output()).collect();
    assert_eq!(outputs.last(), Some(&confused));
    assert!(!watcher.wants_messages() && watcher.is_over());
    let ended = Failure::Refused(ErrorObject::new(-32_011, "no"));
    let (mut refused, number) = alone();
    refused.handle_response(number, Err(ended.clone()), secs(0));
    refused.handle_response(number, Err(ended.clone()), secs(0));
    let outputs: Vec<_> = std::iter::from_fn(|| refused.poll_output()).collect();
    assert_eq!(outputs, [WatcherOutput::Event(WatcherEvent::Ended(Ended::Refused(ended)))]);
}

#[test]
fn a_beginning_behind_what_was_seen_without_a_snapshot_is_a_loss_that_is_told() {
    let (mut watcher, number) = alone();
    watcher.handle_response(number, watched(Some(7)), secs(0));
    let tag = watcher_tag(&watcher);
    watcher.handle_message(UncheckedPayload::new(&format!("[\"{tag}\"]")), secs(0));
    let outputs: Vec<_> = std::iter::from_fn(|| watcher.poll_output()).collect();
    let up_to = Cursor { epoch: EPOCH, offset: Offset::new(7).unwrap() };
    assert_eq!(outputs[1..], [WatcherEvent::Missed { up_to }, WatcherEvent::UpToDate].map(WatcherOutput::Event));
}

// B1
#[test]
fn however_much_a_server_asks_only_so_many_dialogs_are_held() {
    let (mut watcher, number) = alone();
    let requests = (0..2_000).map(|name| harness::permissions::request(&name.to_string())).collect();
    let cursor = Cursor { epoch: EPOCH, offset: Offset::ZERO };
    let all = Watched { after: Some(cursor), end: cursor, permissions: requests, pending: 2_000, processing: 0 };
    watcher.handle_response(number, Ok(all.write()), secs(0));
    let outputs = std::iter::from_fn(|| watcher.poll_output()).count();
    assert_eq!((watcher.dialogs().dialogs().len(), outputs), (200, 201));
    let tag = watcher_tag(&watcher);
    watcher.handle_message(UncheckedPayload::new(&format!("[\"{tag}\"]")), secs(0));
    for offset in 1..2_000 {
        let ask = harness::permissions::request(&format!("more {offset}"));
        let message = reattach_core::messages::PermissionMessage::Request(ask).write();
        watcher
            .handle_message(UncheckedPayload::new(&format!("[{offset},\"permission\",{}]", message.as_str())), secs(0));
    }
    assert_eq!(watcher.dialogs().dialogs().len(), 200);
    assert_eq!(std::iter::from_fn(|| watcher.poll_output()).count(), 1, "that it is up to date");
    // The clock runs backwards, and nothing happens twice.
    watcher.answer(&id("0"), ALLOW, secs(50)).unwrap();
    assert_eq!(watcher.answer(&id("0"), Choice::Deny, secs(40)), Err(DialogMisuse::AlreadySending));
    watcher.handle_timeout(secs(1));
    assert_eq!(watcher.poll_timeout(), Some(secs(55)));
}
