//! Sessions and questions where connections are closed, give up or go, and where nobody holds the hub any more.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use reattach_smol::Client;
use reattach_smol::ClientConfig;
use reattach_smol::Connection;
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
use reattach_smol::core::session::WatchFrom;
use reattach_smol::core::wire::Payload;
use reattach_smol::testing::Net;
use reattach_smol::testing::Simulation;

const URL: &str = "ws://server.test/";

fn id(name: &str) -> SessionId {
    SessionId::new(name).unwrap()
}

fn number(number: u64) -> Payload {
    Payload::new(&number).unwrap()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ada() -> Principal {
    Principal::Named(Name::new("ada").unwrap())
}

/// A server for which everybody is Ada, and its hub.
async fn server(net: &Net) -> (Server, Hub) {
    let config = ServerConfig::new().with_authentication(|_| async { Name::new("ada").ok() });
    let server = net.bind("server.test:80", config).await.unwrap();
    let hub = Hub::new(&server, Config::default());
    (server, hub)
}

/// A client and its connection at the server, which the hub serves.
async fn pair(net: &Net, server: &Server, hub: &Hub) -> (Client, Connection) {
    let client = net.connect(URL, ClientConfig::new()).await.unwrap();
    let connection = server.accept().await.unwrap();
    let (hub, served) = (hub.clone(), connection.clone());
    net.spawn(async move { hub.serve(&served, &Router::new()).await });
    (client, connection)
}

async fn up_to_date(watch: &mut SessionWatch) {
    while watch.next().await.unwrap() != WatcherEvent::UpToDate {}
}

/// How a watch ends.
async fn ended(watch: &mut SessionWatch) -> Ended {
    loop {
        if let WatcherEvent::Ended(why) = watch.next().await.unwrap() {
            return why;
        }
    }
}

#[test]
fn what_is_published_while_a_connection_is_being_closed_holds_up_nobody() {
    Simulation::new(1).run(async |net| {
        let (server, hub) = server(&net).await;
        let (client, connection) = pair(&net, &server, &hub).await;
        let session = hub.create(id("s"), ada()).unwrap();
        let mut watch = client.watch_session(id("s"), WatchFrom::Now).unwrap();
        up_to_date(&mut watch).await;
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
