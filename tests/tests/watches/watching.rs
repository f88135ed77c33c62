//! Sessions that are watched, and questions in them.

use reattach_smol::ClientConfig;
use reattach_smol::Credentials;
use reattach_smol::CredentialsProvider;
use reattach_smol::Router;
use reattach_smol::core::hub::Config;
use reattach_smol::core::hub::Ended;
use reattach_smol::core::hub::WatcherEvent;
use reattach_smol::core::messages::Choice;
use reattach_smol::core::permission::DenyReason;
use reattach_smol::core::permission::Removed;
use reattach_smol::core::permission::Verdict;
use reattach_smol::core::rpc::Call;
use reattach_smol::core::rpc::Failure;
use reattach_smol::core::session::WatchFrom;
use reattach_smol::core::wire::Payload;
use reattach_smol::testing::Simulation;

use crate::fixture::ALLOW;
use crate::fixture::URL;
use crate::fixture::ada;
use crate::fixture::client;
use crate::fixture::dialog;
use crate::fixture::event;
use crate::fixture::id;
use crate::fixture::number;
use crate::fixture::question;
use crate::fixture::removed;
use crate::fixture::secs;
use crate::fixture::serve;
use crate::fixture::serve_session;
use crate::fixture::server;
use crate::fixture::up_to_date;
use crate::fixture::watch_of;

// S004-045, S004-046
#[test]
fn who_watches_gets_each_event_once_whatever_becomes_of_its_sockets() {
    Simulation::new(1).run(async |net| {
        let (_server, hub) = serve(&net, Config::default()).await;
        let client = client(&net).await;
        let session = hub.create(id("s"), ada()).unwrap();
        let mut watch = client.watch_session(id("s"), WatchFrom::Start).unwrap();
        for round in 0..20 {
            for event in 0..30 {
                session.publish(&number(round * 30 + event)).unwrap();
            }
            if round % 3 == 1 {
                net.cut();
            }
            for expected in 0..30 {
                assert_eq!(event(&mut watch).await, round * 30 + expected);
            }
        }
        assert!(net.cut() <= 1);
        assert_eq!((session.observers(), hub.sessions()), (1, 1));
    });
}

// S004-046, S002-70
#[test]
fn a_session_that_ends_and_one_that_never_was_are_told_once() {
    Simulation::new(2).run(async |net| {
        let (_server, hub) = serve(&net, Config::default()).await;
        let client = client(&net).await;
        let session = hub.create(id("s"), ada()).unwrap();
        let mut watch = client.watch_session(id("s"), WatchFrom::Now).unwrap();
        assert!(client.watch_session(id("s"), WatchFrom::Now).is_err(), "one reader of a session");
        up_to_date(&mut watch).await;
        session.publish(&number(1)).unwrap();
        net.sleep(secs(1)).await;
        session.remove().unwrap();
        assert_eq!(event(&mut watch).await, 1);
        assert_eq!(watch.next().await, Some(WatcherEvent::Ended(Ended::Over)));
        assert_eq!(watch.next().await, None);
        let mut unknown = client.watch_session(id("other"), WatchFrom::Now).unwrap();
        assert_eq!(unknown.next().await, Some(WatcherEvent::Ended(Ended::UnknownSession)));
        let mut again = {
            drop(watch);
            client.watch_session(id("s"), WatchFrom::Now).unwrap()
        };
        assert_eq!(again.next().await, Some(WatcherEvent::Ended(Ended::UnknownSession)));
        assert_eq!(hub.sessions(), 0);
    });
}

// S002-01, S002-42, S002-58
#[test]
fn of_two_people_the_first_who_answers_decides_and_the_other_sees_who() {
    Simulation::new(3).run(async |net| {
        let (_server, hub) = serve(&net, Config::default()).await;
        let (first, second) = (client(&net).await, client(&net).await);
        let session = hub.create(id("s"), ada()).unwrap();
        let mut first_watch = first.watch_session(id("s"), WatchFrom::Now).unwrap();
        let mut second_watch = second.watch_session(id("s"), WatchFrom::Now).unwrap();
        up_to_date(&mut first_watch).await;
        up_to_date(&mut second_watch).await;
        let asked = session.ask(question("p")).unwrap();
        let (shown, also) = (dialog(&mut first_watch).await, dialog(&mut second_watch).await);
        assert_eq!((shown.as_str(), &shown), ("p", &also));
        first_watch.answer(&shown, ALLOW).unwrap();
        let Verdict::Allow { input, by } = (async {
            let (verdict, why) = futures_util::join!(asked, removed(&mut first_watch));
            assert_eq!(why, Removed::Confirmed(ALLOW));
            verdict
        })
        .await
        else {
            panic!("it was allowed")
        };
        assert_eq!((input.as_str(), by), ("[\"notes.txt\"]", first.connection_id()));
        let by = Some(first.connection_id().to_string());
        assert_eq!(removed(&mut second_watch).await, Removed::Decided { is_allowed: true, by });
    });
}

// S002-21, N20
#[test]
fn who_was_away_is_shown_what_is_open_with_the_time_that_is_left_and_not_what_was_decided() {
    Simulation::new(4).run(async |net| {
        let (_server, hub) = serve(&net, Config::default()).await;
        let (away, there) = (client(&net).await, client(&net).await);
        let session = hub.create(id("s"), ada()).unwrap();
        let mut there = there.watch_session(id("s"), WatchFrom::Now).unwrap();
        let mut away_watch = watch_of(&away, WatchFrom::Now).await;
        up_to_date(&mut there).await;
        away.suspend().unwrap();
        net.sleep(secs(1)).await;
        assert_eq!((session.observers(), session.reachable()), (2, 1), "who may come back is not there");
        let decided = session.ask(question("decided")).unwrap();
        let open = session.ask(question("open")).unwrap();
        let shown = dialog(&mut there).await;
        there.answer(&shown, Choice::Deny).unwrap();
        let denied = async { futures_util::join!(decided, removed(&mut there)).0 }.await;
        assert!(matches!(denied, Verdict::Deny(DenyReason::Denied { .. })));
        net.sleep(secs(99)).await;
        away.reconnect().unwrap();
        let shown = dialog(&mut away_watch).await;
        assert_eq!(shown.as_str(), "open");
        drop(open);
        assert_eq!(removed(&mut away_watch).await, Removed::Cancelled, "whoever asked takes it back");
    });
}

// S002-05, S002-39
#[test]
fn what_nobody_answers_is_denied_and_so_is_what_is_asked_of_nobody() {
    Simulation::new(5).run(async |net| {
        let (_server, hub, session) = serve_session(&net).await;
        let begun = net.now();
        let verdict = session.ask(question("p")).unwrap().await;
        assert_eq!((verdict, (net.now() - begun).as_secs()), (Verdict::Deny(DenyReason::TimedOut), 300));
        let short = session.ask_within(question("q"), secs(2)).unwrap().await;
        assert_eq!((short, (net.now() - begun).as_secs()), (Verdict::Deny(DenyReason::TimedOut), 302));
        let asked = session.ask(question("r")).unwrap();
        session.remove().unwrap();
        assert_eq!(asked.await, Verdict::Deny(DenyReason::Cancelled));
        let session = hub.create(id("s"), ada()).unwrap();
        let asked = session.ask(question("t")).unwrap();
        drop((session, hub, _server));
        net.sleep(secs(1_000)).await;
        drop(asked);
    });
}

// S004-028, N07
#[test]
fn nobody_watches_or_answers_what_is_somebody_elses() {
    Simulation::new(6).run(async |net| {
        let (_server, hub) = serve(&net, Config::default()).await;
        let mallory =
            ClientConfig::new().with_credentials(CredentialsProvider::new(|| async { Credentials::token("mallory") }));
        let mallory = net.connect(URL, mallory).await.unwrap();
        let session = hub.create(id("s"), ada()).unwrap();
        let asked = session.ask(question("p")).unwrap();
        let mut watch = mallory.watch_session(id("s"), WatchFrom::Start).unwrap();
        assert!(matches!(watch.next().await, Some(WatcherEvent::Ended(Ended::Refused(Failure::Refused(_))))));
        let params = Payload::from_json(r#"{"requestId":"p","decision":"allow"}"#).unwrap();
        let answer = Call::new("permission/answer").unwrap().with_params(params).unwrap();
        let error = mallory.call(answer).unwrap().await.unwrap_err();
        assert!(matches!(error.failure, Failure::Refused(error) if error.code == -32_011));
        assert_eq!(asked.await, Verdict::Deny(DenyReason::TimedOut));
    });
}

// S001-41, S004-048
#[test]
fn what_is_still_on_its_way_when_a_session_is_no_longer_watched_goes_to_nobody_and_holds_nothing_up() {
    Simulation::new(7).run(async |net| {
        let (_server, hub) = serve(&net, Config::default()).await;
        let client = client(&net).await;
        let session = hub.create(id("s"), ada()).unwrap();
        for round in 0..50 {
            let mut watch = watch_of(&client, WatchFrom::Now).await;
            for event in 0..100 {
                session.publish(&number(round * 100 + event)).unwrap();
            }
            assert_eq!(event(&mut watch).await, round * 100);
        }
        net.sleep(secs(10)).await;
        assert_eq!(session.observers(), 0);
        assert!(client.try_recv().is_none(), "nobody has asked for that");
        assert_eq!(client.stats().undelivered, 0);
    });
}

#[test]
fn what_was_asked_before_the_hub_serves_is_done_though_its_client_is_away_by_then() {
    Simulation::new(8).run(async |net| {
        let (server, hub) = server(&net).await;
        let session = hub.create(id("s"), ada()).unwrap();
        let client = client(&net).await;
        let connection = server.accept().await.unwrap();
        let mut watch = client.watch_session(id("s"), WatchFrom::Start).unwrap();
        assert!(net.timeout(secs(1), watch.next()).await.is_none(), "nobody serves it");
        client.suspend().unwrap();
        net.sleep(secs(1)).await;
        net.spawn(async move { hub.serve(&connection, &Router::new()).await });
        net.sleep(secs(1)).await;
        session.publish(&number(1)).unwrap();
        client.reconnect().unwrap();
        assert_eq!(event(&mut watch).await, 1);
    });
}

// What a client asks may be there before the hub serves its connection: a server is busy, or its runtime has several threads.
#[test]
fn what_was_asked_before_the_hub_served_the_connection_is_done() {
    Simulation::new(8).run(async |net| {
        let (server, hub) = server(&net).await;
        let session = hub.create(id("s"), ada()).unwrap();
        session.publish(&number(1)).unwrap();
        let client = client(&net).await;
        let mut watch = client.watch_session(id("s"), WatchFrom::Start).unwrap();
        let serving = async {
            net.sleep(secs(1)).await;
            let connection = server.accept().await.unwrap();
            hub.serve(&connection, &Router::new()).await;
        };
        let watching = std::pin::pin!(async { event(&mut watch).await });
        let serving = std::pin::pin!(serving);
        let either = futures_util::future::select(watching, serving).await;
        assert!(matches!(either, futures_util::future::Either::Left((1, _))));
    });
}

#[test]
fn a_snapshot_is_told_before_it_is_said_that_all_before_is_told() {
    Simulation::new(9).run(async |net| {
        let (_server, hub) = serve(&net, Config::default()).await;
        let client = client(&net).await;
        let session = hub.create(id("s"), ada()).unwrap();
        session.publish(&number(1)).unwrap();
        session.set_snapshot(number(7)).unwrap();
        let mut watch = client.watch_session(id("s"), WatchFrom::Start).unwrap();
        let mut told = Vec::new();
        while told.last() != Some(&WatcherEvent::UpToDate) {
            told.push(watch.next().await.unwrap());
        }
        told.retain(|event| !matches!(event, WatcherEvent::QueueStatus { .. }));
        assert_eq!(told, [WatcherEvent::Snapshot(number(7)), WatcherEvent::UpToDate]);
    });
}

// N20, S002-21, S004-044, S004-045, S004-048, S004-148
#[test]
fn n20_who_is_away_within_its_grace_is_not_there_and_gets_what_it_missed_once() {
    Simulation::new(20).run(async |net| {
        let (server, hub) = serve(&net, Config::default()).await;
        let (phone, desk) = (net.at("phone"), net.at("desk"));
        let (first, second) = (client(&phone).await, client(&desk).await);
        let session = hub.create(id("s"), ada()).unwrap();
        let mut first_watch = first.watch_session(id("s"), WatchFrom::Now).unwrap();
        let mut second_watch = second.watch_session(id("s"), WatchFrom::Now).unwrap();
        up_to_date(&mut first_watch).await;
        up_to_date(&mut second_watch).await;
        first_watch.own().await.unwrap();

        phone.refuse(true);
        phone.cut();
        net.sleep(secs(1)).await;
        assert_eq!((session.observers(), session.reachable()), (2, 1), "who may come back is not there");
        let asked = session.ask(question("p")).unwrap();
        for event in 0..500 {
            session.publish(&number(event)).unwrap();
        }
        let shown = dialog(&mut second_watch).await;
        second_watch.answer(&shown, ALLOW).unwrap();
        // The confirmation goes another way than the events.
        let (mut numbers, mut gone) = (Vec::new(), Vec::new());
        while numbers.len() < 500 || gone.is_empty() {
            let told = second_watch.next().await.unwrap();
            if let WatcherEvent::Event(_, event) = &told {
                numbers.push(event.parse::<u64>().unwrap());
            } else if let WatcherEvent::DialogRemoved { why, .. } = told {
                gone.push(why);
            }
        }
        assert_eq!((numbers, gone), ((0..500).collect(), vec![Removed::Confirmed(ALLOW)]));
        assert!(matches!(asked.await, Verdict::Allow { by, .. } if by == second.connection_id()));
        net.sleep(secs(57)).await;
        phone.refuse(false);
        first.reconnect().unwrap();
        for expected in 0..500 {
            assert_eq!(event(&mut first_watch).await, expected);
            assert!(first_watch.dialogs().dialogs().is_empty(), "what was decided is not shown");
        }
        assert_eq!(session.owner(), Some(first.connection_id()), "it is still its owner");

        for cycle in 500..1_500 {
            phone.cut();
            session.publish(&number(cycle)).unwrap();
            first.reconnect().unwrap();
            assert_eq!((event(&mut first_watch).await, event(&mut second_watch).await), (cycle, cycle));
            assert_eq!(session.observers(), 2);
        }
        net.sleep(secs(60)).await;
        assert_eq!((server.connections(), server.transports(), session.observers()), (2, 2, 2));
    });
}
