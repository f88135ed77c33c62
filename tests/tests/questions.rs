//! Questions from their asking to the end of their dialogs: a broker and the dialogs of those who answer, without a transport.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use harness::permissions::ALLOW;
use harness::permissions::broker;
use harness::permissions::changed;
use harness::permissions::connection;
use harness::permissions::dialogs;
use harness::permissions::drain;
use harness::permissions::id;
use harness::permissions::outputs;
use harness::permissions::removed;
use harness::permissions::request;
use harness::permissions::response;
use harness::permissions::secs;
use harness::permissions::session;
use harness::permissions::shown;
use harness::sim::Chance;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionMessage;
use reattach_core::permission::AnswerError;
use reattach_core::permission::AnswerFailed;
use reattach_core::permission::Answered;
use reattach_core::permission::DenyReason;
use reattach_core::permission::DialogOutput;
use reattach_core::permission::Removed;
use reattach_core::permission::Verdict;

// S002-17, S002-18, S002-24, S002-34, S002-35, S002-82
#[test]
fn a_question_is_asked_once_shown_answered_and_decided_once() {
    let mut broker = broker();
    broker.ask(session(), request("p"), None, secs(0)).unwrap();
    let (decided, published) = drain(&mut broker);
    let [asked @ PermissionMessage::Request(_), PermissionMessage::QueueStatus { pending: 1, processing: 0 }] =
        &published[..]
    else {
        panic!("{published:?}")
    };
    assert_eq!(decided, []);
    let mut dialogs = dialogs(1, &[]);
    dialogs.handle_message(&session(), asked.clone(), secs(0));
    assert_eq!((outputs(&mut dialogs), shown(&dialogs)), (vec![changed("p")], vec!["p"]));
    dialogs.answer(&id("p"), ALLOW, secs(1)).unwrap();
    let [_, DialogOutput::Send { response, .. }] = &outputs(&mut dialogs)[..] else { panic!("it is sent") };
    let result = broker.answer(connection(1), true, response.clone(), secs(1));
    assert_eq!(result, Ok(Answered { is_duplicate: false }));
    let allowed = Verdict::Allow { input: request("p").input, by: connection(1) };
    assert_eq!(drain(&mut broker).0, [(id("p"), allowed)]);
    dialogs.handle_answered(response, Ok(()), secs(1));
    assert_eq!(outputs(&mut dialogs), [removed("p", Removed::Confirmed(ALLOW))]);
}

// S002-53, S002-63
#[test]
fn of_fifty_questions_that_three_people_answer_in_any_order_each_has_the_first_answer_and_everybody_knows_it() {
    for seed in 0..20 {
        let mut chance = Chance::new(seed);
        let mut broker = broker();
        let names: Vec<_> = (0..50).map(|name| name.to_string()).collect();
        for name in &names {
            broker.ask(session(), request(name), None, secs(0)).unwrap();
        }
        let mut people: Vec<_> = (1..=3).map(|me| dialogs(me, &[])).collect();
        for message in drain(&mut broker).1 {
            people.iter_mut().for_each(|person| person.handle_message(&session(), message.clone(), secs(0)));
        }
        let mut first = BTreeMap::new();
        let mut answers: Vec<_> = (0..150).map(|number| (number / 50, &names[number % 50])).collect();
        while !answers.is_empty() {
            let next = usize::try_from(chance.below(answers.len() as u64)).unwrap();
            let (person, name) = answers.swap_remove(next);
            let (by, choice) = (connection(u8::try_from(person + 1).unwrap()), chance.pick(&[true, false]));
            let choice = if choice { ALLOW } else { Choice::Deny };
            let answered = broker.answer(by, true, response(name, choice.clone()), secs(1));
            let is_first = !first.contains_key(&id(name));
            assert_eq!(answered.is_ok(), is_first, "seed {seed}");
            first.entry(id(name)).or_insert_with(|| (by, choice.is_allow()));
        }
        let (decided, published) = drain(&mut broker);
        assert_eq!(decided.len(), 50, "seed {seed}");
        for (id, verdict) in decided {
            let told = match verdict {
                Verdict::Allow { by, .. } => (by, true),
                Verdict::Deny(DenyReason::Denied { by }) => (by, false),
                Verdict::Deny(other) => panic!("seed {seed}: {other:?}"),
            };
            assert_eq!(told, first[&id], "seed {seed}");
        }
        for person in &mut people {
            _ = outputs(person);
            published.iter().for_each(|message| person.handle_message(&session(), message.clone(), secs(2)));
            let mut gone = BTreeSet::new();
            for output in outputs(person) {
                let DialogOutput::Removed { id, why: Removed::Decided { is_allowed, by } } = output else {
                    panic!("seed {seed}: {output:?}")
                };
                assert_eq!((by.unwrap(), is_allowed), (first[&id].0.to_string(), first[&id].1), "seed {seed}");
                gone.insert(id);
            }
            assert_eq!((gone.len(), person.dialogs().len()), (50, 0), "seed {seed}");
        }
    }
}

// S002-66
#[test]
fn what_ran_out_and_what_was_taken_back_is_gone_for_everybody_and_answered_too_late() {
    let mut broker = broker();
    let mut people: Vec<_> = (1..=3).map(|me| dialogs(me, &[])).collect();
    broker.ask(session(), request("late"), Some(Duration::from_secs(10)), secs(0)).unwrap();
    broker.ask(session(), request("taken back"), None, secs(0)).unwrap();
    broker.handle_timeout(secs(10));
    broker.cancel(&id("taken back"), secs(11)).unwrap();
    let (decided, published) = drain(&mut broker);
    let denied = |name: &str, reason| (id(name), Verdict::Deny(reason));
    assert_eq!(decided, [denied("late", DenyReason::TimedOut), denied("taken back", DenyReason::Cancelled)]);
    for person in &mut people {
        published.iter().for_each(|message| person.handle_message(&session(), message.clone(), secs(0)));
        let gone = [removed("late", Removed::TimedOut), removed("taken back", Removed::Cancelled)];
        assert_eq!(outputs(person), [&[changed("late"), changed("taken back")][..], &gone[..]].concat());
    }
    let mut answer = |name: &str| broker.answer(connection(1), true, response(name, ALLOW), secs(12));
    assert_eq!(answer("late"), Err(AnswerError::Expired));
    assert_eq!(answer("taken back"), Err(AnswerError::Cancelled));
    assert_eq!(drain(&mut broker), (vec![], vec![]));
}

// S000-02
#[test]
fn whatever_is_lost_no_dialog_is_gone_whose_question_is_still_open() {
    for seed in 0..100 {
        let mut chance = Chance::new(seed);
        let (mut broker, mut dialogs) = (broker(), dialogs(1, &[]));
        // What is published arrives in order and late; an answer or what comes back for it may be lost.
        let mut published = VecDeque::new();
        let mut seen = BTreeSet::new();
        for step in 0..400 {
            let now = secs(step);
            broker.handle_timeout(now);
            dialogs.handle_timeout(now);
            let names: Vec<_> = dialogs.dialogs().into_iter().map(|(id, _)| id.clone()).collect();
            match chance.below(6) {
                0 => {
                    let timeout = Duration::from_secs(chance.between(1, 60));
                    _ = broker.ask(session(), request(&step.to_string()), Some(timeout), now);
                }
                1 if !names.is_empty() => {
                    let name = &names[usize::try_from(chance.below(names.len() as u64)).unwrap()];
                    _ = dialogs.answer(name, if chance.percent(50) { ALLOW } else { Choice::Deny }, now);
                }
                2 if !names.is_empty() && chance.percent(20) => _ = broker.cancel(&names[0], now),
                3 => {
                    dialogs.handle_attached(chance.percent(70), now);
                }
                _ => {
                    if let Some(message) = published.pop_front() {
                        if let PermissionMessage::Request(request) = &message {
                            seen.insert(request.id.clone());
                        }
                        dialogs.handle_message(&session(), message, now);
                    }
                }
            }
            for output in outputs(&mut dialogs) {
                let DialogOutput::Send { response, .. } = output else { continue };
                if chance.percent(40) {
                    dialogs.handle_answered(&response, Err(AnswerFailed::NotConfirmed), now);
                    continue;
                }
                let result = broker.answer(connection(1), true, response.clone(), now);
                if chance.percent(60) {
                    let result = result.map(|_| ()).map_err(AnswerFailed::Refused);
                    dialogs.handle_answered(&response, result, now);
                }
            }
            published.extend(drain(&mut broker).1);
            let open: BTreeSet<_> = broker.open(&session(), now).map(|request| request.id).collect();
            for id in open.intersection(&seen) {
                assert!(dialogs.get(id).is_some(), "seed {seed}, step {step}: {id:?} is open and not shown");
            }
        }
        assert!(!seen.is_empty());
    }
}
