//! Sessions and questions where connections are closed, give up or go, and where nobody holds the hub any more.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Wake;
use std::task::Waker;
use std::time::Duration;

use futures_util::FutureExt as _;
use reattach_smol::ClientConfig;
use reattach_smol::ConnectionState;
use reattach_smol::Question;
use reattach_smol::core::client;
use reattach_smol::core::hub::Ended;
use reattach_smol::core::hub::Event;
use reattach_smol::core::hub::WatcherEvent;
use reattach_smol::core::link::Outgoing;
use reattach_smol::core::permission::DenyReason;
use reattach_smol::core::permission::Verdict;
use reattach_smol::core::session;
use reattach_smol::core::session::Detached;
use reattach_smol::core::session::WatchFrom;
use reattach_smol::testing::Simulation;

use crate::fixture::URL;
use crate::fixture::ada;
use crate::fixture::client;
use crate::fixture::ended;
use crate::fixture::event;
use crate::fixture::id;
use crate::fixture::number;
use crate::fixture::pair;
use crate::fixture::question;
use crate::fixture::secs;
use crate::fixture::serve_session;
use crate::fixture::server;
use crate::fixture::watch_of;

#[test]
fn what_is_published_while_a_connection_is_being_closed_holds_up_nobody() {
    Simulation::new(1).run(async |net| {
        let (server, hub) = server(&net).await;
        let (client, connection) = pair(&net, &server, &hub).await;
        let session = hub.create(id("s"), ada()).unwrap();
        let mut watch = watch_of(&client, WatchFrom::Now).await;
        // Nobody takes it, so the closing takes its time.
        _ = connection.try_send(number(1)).unwrap();
        let closing = connection.clone();
        let closed = net.spawn(async move { closing.close(secs(5)).await });
        net.sleep(secs(1)).await;
        session.publish(&number(2)).unwrap();
        closed.await;
        assert_eq!(ended(&mut watch).await, Ended::Closed);
    });
}

#[test]
fn a_client_that_stops_trying_before_it_watches_watches_once_it_goes_on() {
    Simulation::new(2).run(async |net| {
        let (_server, _hub, session) = serve_session(&net).await;
        net.refuse(true);
        let client = net.start(URL, ClientConfig::new()).unwrap();
        let mut watch = client.watch_session(id("s"), WatchFrom::Start).unwrap();
        assert_eq!(net.timeout(secs(600), watch.next()).await, None, "it may go on");
        assert!(matches!(client.state(), ConnectionState::Failed(_)), "{:?}", client.state());
        net.heal();
        client.reconnect().unwrap();
        session.publish(&number(1)).unwrap();
        assert_eq!(event(&mut watch).await, 1);
    });
}

#[test]
fn a_client_that_stops_trying_while_it_asks_again_watches_once_it_goes_on() {
    Simulation::new(3).run(async |net| {
        let (_server, _hub, session) = serve_session(&net).await;
        let mut core = client::Config::default();
        core.reconnect.attempts = Some(1);
        let client = net.connect(URL, ClientConfig::new().with_core(core)).await.unwrap();
        let mut watch = watch_of(&client, WatchFrom::Start).await;
        for round in 0..20 {
            client.reconnect().unwrap();
            // Somewhere between the request and the response.
            let wait = Duration::from_millis(net.random() % 80);
            _ = net.timeout(wait, watch.next()).await;
            net.refuse(true);
            net.cut();
            while let Some(event) = net.timeout(secs(100), watch.next()).await {
                assert!(
                    matches!(event, Some(WatcherEvent::UpToDate | WatcherEvent::QueueStatus { .. })),
                    "{round}: {event:?}"
                );
            }
            assert!(matches!(client.state(), ConnectionState::Failed(_)), "{:?}", client.state());
            net.heal();
        }
        client.reconnect().unwrap();
        session.publish(&number(1)).unwrap();
        assert_eq!(event(&mut watch).await, 1);
    });
}

#[test]
fn a_transport_that_was_replaced_while_nobody_looked_has_the_session_watched_anew() {
    Simulation::new(10).run(async |net| {
        let (_server, _hub, session) = serve_session(&net).await;
        let client = net.connect(URL, ClientConfig::new()).await.unwrap();
        let mut watch = watch_of(&client, WatchFrom::Start).await;
        client.reconnect().unwrap();
        net.sleep(secs(10)).await;
        session.publish(&number(1)).unwrap();
        net.sleep(secs(10)).await;
        let first = watch.next().await.unwrap();
        assert!(matches!(first, WatcherEvent::QueueStatus { .. }), "{first:?}");
        assert_eq!(event(&mut watch).await, 1);
        assert_eq!(watch.next().await, Some(WatcherEvent::UpToDate));
    });
}

#[test]
fn a_connection_that_ends_while_a_session_is_asked_for_is_told_as_that() {
    Simulation::new(4).run(async |net| {
        let (server, hub) = server(&net).await;
        hub.create(id("s"), ada()).unwrap();
        let client = net.connect(URL, ClientConfig::new()).await.unwrap();
        let mut asking = client.watch_session(id("s"), WatchFrom::Start).unwrap();
        assert_eq!(net.timeout(secs(1), asking.next()).await, None, "nobody serves it");
        // A message that nobody takes: the closing takes its time, and what is asked again meanwhile is not sent.
        _ = client.try_send(number(1)).unwrap();
        let closing = client.clone();
        net.spawn(async move { closing.close(secs(60)).await });
        assert_eq!(net.timeout(secs(100), ended(&mut asking)).await, Some(Ended::Closed));
        assert_eq!(asking.next().await, None);
        let mut late = client.watch_session(id("t"), WatchFrom::Start).unwrap();
        assert_eq!(late.next().await, Some(WatcherEvent::Ended(Ended::Closed)));
        drop(server);
    });
}

#[test]
fn what_waits_for_a_watch_that_is_dropped_goes_at_once() {
    Simulation::new(5).run(async |net| {
        let (server, hub) = server(&net).await;
        let (client, connection) = pair(&net, &server, &hub).await;
        let session = hub.create(id("s"), ada()).unwrap();
        let watch = watch_of(&client, WatchFrom::Now).await;
        session.publish(&number(1)).unwrap();
        net.sleep(secs(1)).await;
        connection.disconnect();
        net.sleep(secs(1)).await;
        assert_ne!(client.stats().undelivered, 0);
        drop(watch);
        assert_eq!(client.stats().undelivered, 0);
        assert!(client.recv().await.is_none(), "it goes to nobody");
    });
}

#[test]
fn a_lane_that_was_watched_long_ago_is_not_remembered() {
    Simulation::new(11).run(async |net| {
        let (server, hub) = server(&net).await;
        let (client, connection) = pair(&net, &server, &hub).await;
        for session in 0..200 {
            drop(client.watch_session(id(&format!("s{session}")), WatchFrom::Now).unwrap());
            net.sleep(secs(1)).await;
        }
        for (session, is_remembered) in [("s0", false), ("s199", true)] {
            let lane = id(session).lane();
            _ = connection.try_send(Outgoing::from(number(1)).in_lane(lane)).unwrap();
            net.sleep(secs(1)).await;
            assert_eq!(client.try_recv().is_none(), is_remembered, "{session}");
        }
    });
}

#[test]
fn the_events_of_a_hub_that_nobody_holds_end() {
    Simulation::new(6).run(async |net| {
        let (_server, hub) = server(&net).await;
        let mut events = hub.events();
        let session = hub.create(id("s"), ada()).unwrap();
        let asked = session.ask(question("p")).unwrap();
        drop(asked);
        drop((hub, session));
        assert!(net.timeout(secs(1), events.next()).await.unwrap().is_some(), "the decision");
        assert_eq!(net.timeout(secs(1), events.next()).await, Some(None));
    });
}

// S004-055
#[test]
fn a_session_is_detached_once_its_owner_has_been_away_for_the_whole_ttl() {
    Simulation::new(1).run(async |net| {
        let (_server, hub, session) = serve_session(&net).await;
        let client = client(&net).await;
        let watch = client.watch_session(id("s"), WatchFrom::Now).unwrap();
        watch.own().await.unwrap();
        let mut events = hub.events();
        net.refuse(true);
        net.cut();
        net.sleep(secs(59)).await;
        assert_eq!(session.owner(), Some(client.connection_id()), "it may still come back");
        net.sleep(secs(2)).await;
        let why = loop {
            if let Event::Session(session::Event::Detached { why, .. }) = events.next().await.unwrap() {
                break why;
            }
        };
        assert_eq!((why, session.owner(), session.observers()), (Detached::OwnerGone, None, 0));
    });
}

#[test]
fn a_question_is_denied_when_the_runtime_goes_that_keeps_its_time() {
    let mut simulation = Simulation::new(7);
    let (asked, session, mut events) = simulation.run(async |net| {
        let (_server, hub) = server(&net).await;
        let session = hub.create(id("s"), ada()).unwrap();
        (session.ask(question("p")).unwrap(), session, hub.events())
    });
    drop(simulation);
    let denied = Some(Verdict::Deny(DenyReason::Cancelled));
    assert_eq!(asked.now_or_never(), denied);
    assert_eq!(session.ask(question("q")).unwrap().now_or_never(), denied, "nobody would ever end it");
    assert!(events.next().now_or_never().unwrap().is_some(), "the decision");
    assert_eq!(events.next().now_or_never(), Some(None));
    assert_eq!(session.owner(), None, "it can still be looked at");
}

/// A task that is dropped by the very thing that wakes it, with the question that it holds.
struct Dropped(Mutex<Option<Question>>);

impl Wake for Dropped {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// A waker that drops a question.
fn dropping(question: Question) -> Waker {
    Arc::new(Dropped(Mutex::new(Some(question)))).into()
}

/// Does something in a thread of its own, which has to end.
fn in_time(what: impl FnOnce() + Send + 'static) {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        what();
        done.send(()).unwrap();
    });
    is_done.recv_timeout(secs(20)).expect("it waits for itself");
}

#[test]
fn who_is_woken_by_the_end_of_a_hub_or_of_a_question_may_take_back_another() {
    let mut simulation = Simulation::new(8);
    simulation.run(async |net| {
        let (server, hub) = server(&net).await;
        let session = hub.create(id("s"), ada()).unwrap();
        let mut asked = session.ask(question("p")).unwrap();
        let waker = dropping(session.ask(question("q")).unwrap());
        assert!(asked.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        in_time(move || drop(asked));
        let mut asked = session.ask(question("r")).unwrap();
        let waker = dropping(session.ask(question("t")).unwrap());
        assert!(asked.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        in_time(move || drop((hub, session)));
        assert_eq!(asked.await, Verdict::Deny(DenyReason::Cancelled));
        drop(server);
    });
}

#[test]
fn a_connection_that_two_threads_give_to_a_hub_at_once_is_served() {
    Simulation::new(9).run(async |net| {
        let (server, hub) = server(&net).await;
        let (client, connection) = pair(&net, &server, &hub).await;
        let session = hub.create(id("s"), ada()).unwrap();
        let mut watch = watch_of(&client, WatchFrom::Now).await;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5_000).for_each(|_| hub.attach(&connection)));
            }
        });
        assert_eq!(session.observers(), 1);
        net.sleep(secs(1)).await;
        session.publish(&number(1)).unwrap();
        assert_eq!(net.timeout(secs(1), event(&mut watch)).await, Some(1));
    });
}
