//! Views of many sessions: their dialogs, their bounds, and what holds whatever happens.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use harness::sim::Chance;
use reattach_core::chat::Received;
use reattach_core::id::ConnectionKey;
use reattach_core::id::MessageId;
use reattach_core::id::SessionId;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionId;
use reattach_core::messages::PermissionMessage;
use reattach_core::messages::PermissionRequest;
use reattach_core::messages::PermissionResponse;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::permission::Dialogs;
use reattach_core::permission::DialogsConfig;
use reattach_core::time::Instant;
use reattach_core::view::SessionViews;
use reattach_core::view::ViewConfig;
use reattach_core::wire::Payload;

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
use crate::fixture::secs;
use crate::fixture::seen;

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
