//! Sessions and questions over real sockets.

use std::collections::BTreeSet;

use reattach::Client;
use reattach::Hub;
use reattach::Question;
use reattach::Router;
use reattach::Server;
use reattach::SessionWatch;
use reattach::core::hub::Config;
use reattach::core::hub::Ended;
use reattach::core::hub::Event;
use reattach::core::hub::WatcherEvent;
use reattach::core::id::ConnectionKey;
use reattach::core::id::Name;
use reattach::core::id::Principal;
use reattach::core::id::SessionId;
use reattach::core::messages::Choice;
use reattach::core::messages::PermissionId;
use reattach::core::messages::PermissionRequest;
use reattach::core::permission::Verdict;
use reattach::core::session;
use reattach::core::session::WatchFrom;
use reattach_cli::proxy::Cut;
use reattach_cli::proxy::FaultProxy;

use super::loopback::client_config;
use super::loopback::listen;
use super::loopback::number;
use super::loopback::server_config;
use super::loopback::soon;
use super::loopback::text;
use super::loopback::until;
use super::raw::Raw;
use super::raw::hello;

fn id(name: &str) -> SessionId {
    SessionId::new(name).unwrap()
}

fn ada() -> Principal {
    Principal::Named(Name::new("ada").unwrap())
}

/// A server with a hub, for which everybody is Ada.
async fn hub(config: Config) -> (Server, Hub, String) {
    let config_of_server = server_config().with_authentication(|_| async { Name::new("ada").ok() });
    let (server, url) = listen(config_of_server).await;
    let hub = Hub::new(&server, config);
    let (accepting, serving) = (server.clone(), hub.clone());
    tokio::spawn(async move {
        let router =
            Router::new().on_request("sum", |numbers: Vec<i64>| async move { Ok(numbers.iter().sum::<i64>()) });
        while let Some(connection) = accepting.accept().await {
            let (hub, router) = (serving.clone(), router.clone());
            tokio::spawn(async move { hub.serve(&connection, &router).await });
        }
    });
    (server, hub, url)
}

async fn connect(url: &str) -> Client {
    soon(reattach::connect(url, client_config())).await.unwrap()
}

async fn up_to_date(watch: &mut SessionWatch) {
    while soon(watch.next()).await.unwrap() != WatcherEvent::UpToDate {}
}

fn question(name: &str) -> PermissionRequest {
    PermissionRequest {
        id: PermissionId::new(name).unwrap(),
        tool_name: "write_file".to_owned(),
        input: text("what it says"),
        context: number(1),
        timestamp: String::new(),
        remaining: None,
    }
}

/// Whoever watches reads, and answers what is asked, until the number has come and no dialog is there any more; the numbers, and the
/// dialogs that were shown. What is decided before somebody comes back is not shown to them.
async fn follow(mut watch: SessionWatch, last: u64, choice: Choice) -> (Vec<u64>, BTreeSet<PermissionId>) {
    let (mut numbers, mut shown, mut gone) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    while numbers.last() != Some(&last) || gone != shown {
        let event = soon(watch.next()).await.expect("it goes on");
        if let WatcherEvent::Event(_, event) = event {
            numbers.push(event.parse().unwrap());
        } else if let WatcherEvent::Dialog(id) = event {
            _ = watch.answer(&id, choice.clone());
            shown.insert(id);
        } else if let WatcherEvent::DialogRemoved { id, .. } = event {
            assert!(shown.contains(&id) && gone.insert(id.clone()), "{id} goes twice, or was never there");
        } else {
            assert!(matches!(event, WatcherEvent::UpToDate | WatcherEvent::QueueStatus { .. }), "{event:?}");
        }
    }
    (numbers, shown)
}

// S004-045, S004-048, S002-42, S002-58, S002-02, S002-03, S003-46, S004-031
#[tokio::test]
async fn through_a_proxy_that_cuts_every_observer_has_each_event_once_and_every_question_one_answer() {
    const EVENTS: u64 = 600;
    let (server, hub, _) = hub(Config::default()).await;
    let proxy = FaultProxy::start(server.local_addr().unwrap(), std::time::Duration::from_millis(1)).await.unwrap();
    let url = format!("ws://{}/", proxy.address());
    let session = hub.create(id("s"), ada()).unwrap();
    let mut following = Vec::new();
    for choice in [Choice::Deny, Choice::Allow { updated_input: Some(number(7)) }] {
        let client = connect(&url).await;
        let watch = client.watch_session(id("s"), WatchFrom::Start).unwrap();
        following.push(tokio::spawn(follow(watch, EVENTS - 1, choice)));
    }
    until(|| session.observers() == 2).await;
    let mut questions: Vec<Question> = Vec::new();
    for event in 0..EVENTS {
        session.publish(&number(event)).unwrap();
        if event % 100 == 50 {
            questions.push(session.ask(question(&event.to_string())).unwrap());
        }
        if event % 40 == 20 {
            proxy.cut(Cut::Reset);
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let (mut allowed, mut denied) = (0, 0);
    for question in questions {
        match soon(question).await {
            Verdict::Allow { input, .. } => {
                assert_eq!(input, number(7), "it is what was chosen");
                allowed += 1;
            }
            Verdict::Deny(_) => denied += 1,
        }
    }
    assert_eq!(allowed + denied, 6);
    let mut shown = BTreeSet::new();
    for following in following {
        let (numbers, seen) = following.await.unwrap();
        assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>());
        shown.extend(seen);
    }
    assert_eq!(shown.len(), 6, "somebody has answered each: {shown:?}");
}

// S004-046, S004-111
#[tokio::test]
async fn what_is_no_longer_kept_is_told_to_be_missed_or_bridged_by_a_snapshot() {
    let mut config = Config::default();
    config.sessions.log = session::LogLimits { count: 5, ..session::LogLimits::default() };
    let (_server, hub, url) = hub(config).await;
    let session = hub.create(id("s"), ada()).unwrap();
    for event in 0..10 {
        session.publish(&number(event)).unwrap();
    }
    let client = connect(&url).await;
    let mut watch = client.watch_session(id("s"), WatchFrom::Start).unwrap();
    assert!(matches!(soon(watch.next()).await, Some(WatcherEvent::Missed { up_to }) if up_to.offset.get() == 10));
    up_to_date(&mut watch).await;
    drop(watch);
    session.set_snapshot(text("ten")).unwrap();
    session.publish(&number(10)).unwrap();
    let mut watch = client.watch_session(id("s"), WatchFrom::Start).unwrap();
    let mut told = Vec::new();
    while told.last() != Some(&WatcherEvent::UpToDate) {
        told.extend(soon(watch.next()).await);
    }
    told.retain(|event| matches!(event, WatcherEvent::Snapshot(_) | WatcherEvent::Event(..)));
    let [WatcherEvent::Snapshot(snapshot), WatcherEvent::Event(offset, event)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((snapshot, offset.get(), event), (&text("ten"), 11, &number(10)));
}

// S001-26, S004-136, S004-039
#[tokio::test]
async fn a_session_is_owned_by_the_last_who_takes_it_and_detached_when_that_one_is_gone() {
    let (_server, hub, url) = hub(Config::default()).await;
    let session = hub.create(id("s"), ada()).unwrap();
    let mut events = hub.events();
    let (first, second) = (connect(&url).await, connect(&url).await);
    let first_watch = first.watch_session(id("s"), WatchFrom::Now).unwrap();
    let second_watch = second.watch_session(id("s"), WatchFrom::Now).unwrap();
    let before = soon(first_watch.own()).await.unwrap();
    let now = soon(second_watch.own()).await.unwrap();
    assert!(now > before);
    assert_eq!(session.owner(), Some(second.connection_id()));
    soon(first_watch.release(before)).await.expect_err("it is somebody else's by now");
    assert_eq!(
        soon(first.request::<_, i64>("sum", &[1, 2])).await,
        Ok(3),
        "the application's own requests are served too"
    );
    drop(first_watch);
    first.disconnect();
    drop(second_watch);
    second.disconnect();
    let mut told = Vec::new();
    while told.len() < 5 {
        told.push(soon(events.next()).await.unwrap());
    }
    let owned = told.iter().filter(|event| matches!(event, Event::Session(session::Event::Owned { .. })));
    let detached = told.iter().filter(|event| matches!(event, Event::Session(session::Event::Detached { .. })));
    assert_eq!((owned.count(), detached.count(), session.owner(), session.observers()), (2, 1, None, 0), "{told:?}");
}

#[tokio::test]
async fn the_end_of_the_client_ends_what_it_watches() {
    let (_server, hub, url) = hub(Config::default()).await;
    let _session = hub.create(id("s"), ada()).unwrap();
    let client = connect(&url).await;
    let mut watch = client.watch_session(id("s"), WatchFrom::Now).unwrap();
    up_to_date(&mut watch).await;
    client.disconnect();
    let mut last = None;
    while let Some(event) = soon(watch.next()).await {
        last = Some(event);
    }
    assert_eq!(last, Some(WatcherEvent::Ended(Ended::Closed)));
}

// X2
#[tokio::test]
async fn a_peer_that_takes_next_to_nothing_holds_nobody_up() {
    let (_server, hub, url) = hub(Config::default()).await;
    let _session = hub.create(id("s"), ada()).unwrap();
    let mut raw = Raw::open(&url).await;
    let key = ConnectionKey::from_bytes([1; 16]);
    raw.send(&hello(&key, 1, 1, "").replace("\"maxPayload\":4194304", "\"maxPayload\":4")).await;
    assert!(raw.next().await.unwrap().starts_with(r#"{"t":"welcome""#));
    let watch = r#"{"jsonrpc":"2.0","id":"0197f3a2-5c1e-7b44-8a63-0c6d2f9e1b70","method":"session/watch","params":{"session":"s","tag":"t"}}"#;
    raw.send(&format!(r#"{{"t":"msg","seq":1,"lane":"rpc","d":{watch}}}"#)).await;
    // Neither where it begins nor a gap fits into what it takes.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    raw.send(r#"{"t":"ping","n":1}"#).await;
    while !raw.next().await.unwrap().contains(r#""t":"pong""#) {}
}
