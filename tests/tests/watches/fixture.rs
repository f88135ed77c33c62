//! What the tests of watched sessions share: a server with a hub, clients, and what they are told.

use std::time::Duration;

use reattach_smol::Client;
use reattach_smol::ClientConfig;
use reattach_smol::Connection;
use reattach_smol::Hello;
use reattach_smol::Hub;
use reattach_smol::Router;
use reattach_smol::Server;
use reattach_smol::ServerConfig;
use reattach_smol::Session;
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
use reattach_smol::core::session::WatchFrom;
use reattach_smol::core::wire::Payload;
use reattach_smol::testing::Net;

pub(crate) const URL: &str = "ws://server.test/";
pub(crate) const ALLOW: Choice = Choice::Allow { updated_input: None };

pub(crate) fn id(name: &str) -> SessionId {
    SessionId::new(name).unwrap()
}

pub(crate) fn number(number: u64) -> Payload {
    Payload::new(&number).unwrap()
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn question(name: &str) -> PermissionRequest {
    PermissionRequest {
        id: PermissionId::new(name).unwrap(),
        tool_name: "write_file".to_owned(),
        input: Payload::new(&["notes.txt"]).unwrap(),
        context: Payload::new(&()).unwrap(),
        timestamp: "2026-11-21T21:00:00Z".to_owned(),
        remaining: None,
    }
}

pub(crate) fn ada() -> Principal {
    Principal::Named(Name::new("ada").unwrap())
}

/// Everybody is Ada, but for who says who they are.
pub(crate) async fn who(hello: Hello) -> Option<Name> {
    let token = hello.token.as_ref().map(|token| token.reveal().to_owned());
    Name::new(token.as_deref().unwrap_or("ada")).ok()
}

pub(crate) async fn client(net: &Net) -> Client {
    net.connect(URL, ClientConfig::new()).await.unwrap()
}

pub(crate) async fn up_to_date(watch: &mut SessionWatch) {
    while watch.next().await.unwrap() != WatcherEvent::UpToDate {}
}

/// The first thing that `look` finds among what happens. Only dialogs and states may come before.
pub(crate) async fn first<T>(watch: &mut SessionWatch, look: impl Fn(&WatcherEvent) -> Option<T>) -> T {
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
pub(crate) async fn dialog(watch: &mut SessionWatch) -> PermissionId {
    first(watch, |event| if let WatcherEvent::Dialog(id) = event { Some(id.clone()) } else { None }).await
}

/// Why the next dialog goes.
pub(crate) async fn removed(watch: &mut SessionWatch) -> Removed {
    first(watch, |event| if let WatcherEvent::DialogRemoved { why, .. } = event { Some(why.clone()) } else { None })
        .await
}

/// The next event of the application.
pub(crate) async fn event(watch: &mut SessionWatch) -> u64 {
    first(watch, |event| if let WatcherEvent::Event(_, event) = event { event.parse().ok() } else { None }).await
}

/// A server with a hub.
pub(crate) async fn server_with(net: &Net, config: Config) -> (Server, Hub) {
    let server = net.bind("server.test:80", ServerConfig::new().with_authentication(who)).await.unwrap();
    let hub = Hub::new(&server, config);
    (server, hub)
}

/// The same with the defaults.
pub(crate) async fn server(net: &Net) -> (Server, Hub) {
    server_with(net, Config::default()).await
}

/// Has the hub serve whoever connects.
pub(crate) fn serve_all(net: &Net, server: &Server, hub: &Hub) {
    let (server, hub, tasks) = (server.clone(), hub.clone(), net.clone());
    net.spawn(async move {
        while let Some(connection) = server.accept().await {
            let hub = hub.clone();
            tasks.spawn(async move { hub.serve(&connection, &Router::new()).await });
        }
    });
}

/// A server with a hub that serves whoever connects.
pub(crate) async fn serve(net: &Net, config: Config) -> (Server, Hub) {
    let (server, hub) = server_with(net, config).await;
    serve_all(net, &server, &hub);
    (server, hub)
}

/// The same with the defaults, and a session of Ada's.
pub(crate) async fn serve_session(net: &Net) -> (Server, Hub, Session) {
    let (server, hub) = serve(net, Config::default()).await;
    let session = hub.create(id("s"), ada()).unwrap();
    (server, hub, session)
}

/// A client's watch of that session, which has seen all that was there.
pub(crate) async fn watch_of(client: &Client, from: WatchFrom) -> SessionWatch {
    let mut watch = client.watch_session(id("s"), from).unwrap();
    up_to_date(&mut watch).await;
    watch
}

/// A client and its connection at the server, which the hub serves.
pub(crate) async fn pair(net: &Net, server: &Server, hub: &Hub) -> (Client, Connection) {
    let client = net.connect(URL, ClientConfig::new()).await.unwrap();
    let connection = server.accept().await.unwrap();
    let (hub, served) = (hub.clone(), connection.clone());
    net.spawn(async move { hub.serve(&served, &Router::new()).await });
    (client, connection)
}

/// How a watch ends.
pub(crate) async fn ended(watch: &mut SessionWatch) -> Ended {
    loop {
        if let WatcherEvent::Ended(why) = watch.next().await.unwrap() {
            return why;
        }
    }
}
