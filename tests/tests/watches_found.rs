//! What the simulator of sessions, requests and questions has found, each as small as it gets.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use reattach_smol::Client;
use reattach_smol::ClientConfig;
use reattach_smol::ConnectionState;
use reattach_smol::Hello;
use reattach_smol::Hub;
use reattach_smol::Router;
use reattach_smol::Server;
use reattach_smol::ServerConfig;
use reattach_smol::SessionWatch;
use reattach_smol::core::hub::Config;
use reattach_smol::core::hub::Ended;
use reattach_smol::core::hub::WatcherEvent;
use reattach_smol::core::id::Name;
use reattach_smol::core::id::Principal;
use reattach_smol::core::id::SessionId;
use reattach_smol::core::messages::Choice;
use reattach_smol::core::messages::PermissionId;
use reattach_smol::core::messages::PermissionRequest;
use reattach_smol::core::permission::Removed;
use reattach_smol::core::permission::Verdict;
use reattach_smol::core::rpc::Call;
use reattach_smol::core::rpc::Failure;
use reattach_smol::core::session::WatchFrom;
use reattach_smol::core::wire::Payload;
use reattach_smol::testing::Direction;
use reattach_smol::testing::Net;
use reattach_smol::testing::Simulation;

const URL: &str = "ws://server.test/";
const ALLOW: Choice = Choice::Allow { updated_input: None };

fn id(name: &str) -> SessionId {
    SessionId::new(name).unwrap()
}

fn number(number: u64) -> Payload {
    Payload::new(&number).unwrap()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn question(name: &str) -> PermissionRequest {
    PermissionRequest {
        id: PermissionId::new(name).unwrap(),
        tool_name: "write_file".to_owned(),
        input: Payload::new(&["notes.txt"]).unwrap(),
        context: Payload::new(&()).unwrap(),
        timestamp: "2026-11-21T21:00:00Z".to_owned(),
        remaining: None,
    }
}

fn ada() -> Principal {
    Principal::Named(Name::new("ada").unwrap())
}

/// Everybody is Ada, but for who says who they are.
async fn who(hello: Hello) -> Option<Name> {
    let token = hello.token.as_ref().map(|token| token.reveal().to_owned());
    Name::new(token.as_deref().unwrap_or("ada")).ok()
}

/// A server with a hub that serves whoever connects.
async fn serve(net: &Net, config: Config) -> (Server, Hub) {
    let server = net.bind("server.test:80", ServerConfig::new().with_authentication(who)).await.unwrap();
    let hub = Hub::new(&server, config);
    let (accepting, serving) = (server.clone(), hub.clone());
    let tasks = net.clone();
    net.spawn(async move {
        while let Some(connection) = accepting.accept().await {
            let hub = serving.clone();
            tasks.spawn(async move { hub.serve(&connection, &Router::new()).await });
        }
    });
    (server, hub)
}

async fn client(net: &Net) -> Client {
    net.connect(URL, ClientConfig::new()).await.unwrap()
}

async fn up_to_date(watch: &mut SessionWatch) {
    while watch.next().await.unwrap() != WatcherEvent::UpToDate {}
}

/// The first thing that `look` finds among what happens. Only dialogs and states may come before.
async fn first<T>(watch: &mut SessionWatch, look: impl Fn(&WatcherEvent) -> Option<T>) -> T {
    loop {
        let event = watch.next().await.unwrap();
        if let Some(found) = look(&event) {
            return found;
        }
        let is_aside =
            matches!(event, WatcherEvent::Dialog(_) | WatcherEvent::UpToDate | WatcherEvent::QueueStatus { .. });
        assert!(is_aside, "{event:?} was not expected");
    }
}

/// The next dialog that is new or has changed.
async fn dialog(watch: &mut SessionWatch) -> PermissionId {
    first(watch, |event| if let WatcherEvent::Dialog(id) = event { Some(id.clone()) } else { None }).await
}

/// Why the next dialog goes.
async fn removed(watch: &mut SessionWatch) -> Removed {
    first(watch, |event| if let WatcherEvent::DialogRemoved { why, .. } = event { Some(why.clone()) } else { None })
        .await
}

/// The next event of the application.
async fn event(watch: &mut SessionWatch) -> u64 {
    first(watch, |event| if let WatcherEvent::Event(_, event) = event { event.parse().ok() } else { None }).await
}

#[test]
fn who_watches_with_a_client_that_has_stopped_trying_watches_when_that_goes_on() {
    Simulation::new(1).run(async |net| {
        let (_server, hub) = serve(&net, Config::default()).await;
        let session = hub.create(id("s"), ada()).unwrap();
        let client = client(&net).await;
        net.refuse(true);
        net.cut();
        net.sleep(secs(200)).await;
        assert!(matches!(client.state(), ConnectionState::Failed(_)));
        let mut watch = client.watch_session(id("s"), WatchFrom::Start).unwrap();
        assert_eq!(net.timeout(secs(100), watch.next()).await, None, "the client may go on");
        net.refuse(false);
        client.reconnect().unwrap();
        session.publish(&number(1)).unwrap();
        assert_eq!(event(&mut watch).await, 1);
    });
}

#[test]
fn an_answer_that_overtakes_the_watch_after_a_new_epoch_is_sent_again() {
    Simulation::new(2).run(async |net| {
        let (_server, hub) = serve(&net, Config::default()).await;
        let session = hub.create(id("s"), ada()).unwrap();
        let client = client(&net).await;
        let mut watch = client.watch_session(id("s"), WatchFrom::Now).unwrap();
        up_to_date(&mut watch).await;
        let asked = session.ask_within(question("p"), secs(3_000)).unwrap();
        let shown = dialog(&mut watch).await;
        client.suspend().unwrap();
        let away = async { while watch.next().await.is_some() {} };
        assert!(net.timeout(secs(700), away).await.is_none(), "the watch goes on");
        watch.answer(&shown, ALLOW).unwrap();
        client.reconnect().unwrap();
        assert_eq!(removed(&mut watch).await, Removed::Confirmed(ALLOW));
        assert!(matches!(asked.await, Verdict::Allow { .. }));
    });
}

#[test]
fn an_answer_with_another_input_is_not_the_one_that_was_taken() {
    Simulation::new(3).run(async |net| {
        let (_server, hub) = serve(&net, Config::default()).await;
        let session = hub.create(id("s"), ada()).unwrap();
        let client = client(&net).await;
        let mut watch = client.watch_session(id("s"), WatchFrom::Now).unwrap();
        up_to_date(&mut watch).await;
        let asked = session.ask(question("p")).unwrap();
        dialog(&mut watch).await;
        let answer = |input: &str| {
            let params = format!(r#"{{"requestId":"p","decision":"allow","updatedInput":{input}}}"#);
            let params = Payload::from_json(&params).unwrap();
            client.call(Call::new("permission/answer").unwrap().with_params(params).unwrap()).unwrap()
        };
        assert_eq!(answer("[1]").await.unwrap().as_str(), r#"{"duplicate":false}"#);
        assert_eq!(answer("[1]").await.unwrap().as_str(), r#"{"duplicate":true}"#);
        let error = answer("[2]").await.unwrap_err();
        assert!(matches!(error.failure, Failure::Refused(error) if error.code == -32_021), "another answer came first");
        assert!(matches!(asked.await, Verdict::Allow { input, .. } if input.as_str() == "[1]"));
    });
}

#[test]
fn a_snapshot_comes_before_what_follows_it_wherever_the_socket_is_cut() {
    for bytes in 0..150 {
        Simulation::new(4).run(async |net| {
            let (_server, hub) = serve(&net, Config::default()).await;
            let session = hub.create(id("s"), ada()).unwrap();
            let client = client(&net).await;
            session.publish(&number(1)).unwrap();
            session.set_snapshot(number(100)).unwrap();
            net.sleep(secs(1)).await;
            let mut watch = client.watch_session(id("s"), WatchFrom::Start).unwrap();
            net.cut_after(Direction::ToClient, bytes * 4);
            let snapshot = first(&mut watch, |event| {
                assert_ne!(*event, WatcherEvent::UpToDate, "it is up to date without the snapshot");
                if let WatcherEvent::Snapshot(snapshot) = event { Some(snapshot.clone()) } else { None }
            });
            assert_eq!(snapshot.await, number(100));
            session.publish(&number(2)).unwrap();
            assert_eq!(event(&mut watch).await, 2);
        });
    }
}

#[test]
fn when_a_watch_ends_its_dialogs_go_whatever_becomes_of_an_answer() {
    Simulation::new(5).run(async |net| {
        let (_server, hub) = serve(&net, Config::default()).await;
        let session = hub.create(id("s"), ada()).unwrap();
        let client = client(&net).await;
        let mut watch = client.watch_session(id("s"), WatchFrom::Now).unwrap();
        up_to_date(&mut watch).await;
        let _asked = session.ask_within(question("p"), secs(3_000)).unwrap();
        let shown = dialog(&mut watch).await;
        net.stall_one_way(Direction::ToServer);
        watch.answer(&shown, ALLOW).unwrap();
        net.sleep(secs(1)).await;
        net.refuse(true);
        net.cut();
        net.sleep(secs(200)).await;
        session.remove().unwrap();
        net.heal();
        client.reconnect().unwrap();
        assert_eq!(removed(&mut watch).await, Removed::Forgotten);
        assert_eq!(watch.next().await, Some(WatcherEvent::Ended(Ended::UnknownSession)));
        assert!(watch.dialogs().dialogs().is_empty());
    });
}
