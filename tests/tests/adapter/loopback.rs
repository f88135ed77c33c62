//! What the tests over real sockets share: short timers, a recording server, and a bound on every wait.

use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use reattach::Client;
use reattach::ClientConfig;
use reattach::Connection;
use reattach::Received;
use reattach::Server;
use reattach::ServerConfig;
use reattach::core::client;
use reattach::core::connection;
use reattach::core::id::Code;
use reattach::core::link::Acceptance;
use reattach::core::link::Delivery;
use reattach::core::server;
use reattach::core::wire::Payload;

/// Longer than anything here takes on a slow machine. A test that waits for so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Awaits something that must come.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes within the test's patience")
}

/// Waits until a condition holds.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A client's machine with timers that suit a test.
pub(crate) fn client_core() -> client::Config {
    let mut core = client::Config::default();
    core.reconnect.attempts = None;
    core.reconnect.backoff.base = Duration::from_millis(20);
    core.reconnect.backoff.cap = Duration::from_millis(100);
    core.reconnect.stable = Duration::from_millis(50);
    core.reconnect.restart_min = Duration::from_millis(10);
    core.reconnect.restart_max = Duration::from_millis(30);
    core.hello_timeout = Duration::from_millis(500);
    hurry(&mut core.connection);
    core
}

/// A server's machines with timers that suit a test.
pub(crate) fn server_core() -> server::Config {
    let mut core = server::Config::default();
    hurry(&mut core.connection);
    core
}

fn hurry(connection: &mut connection::Config) {
    connection.heartbeat.idle = Duration::from_millis(150);
    connection.heartbeat.dead_after = Duration::from_millis(600);
    connection.flow.stalled_after = Duration::from_millis(600);
}

pub(crate) fn client_config() -> ClientConfig {
    ClientConfig::new().with_core(client_core())
}

pub(crate) fn server_config() -> ServerConfig {
    ServerConfig::new().with_core(server_core())
}

/// A server on a port of its own, and its URL.
pub(crate) async fn listen(config: ServerConfig) -> (Server, String) {
    let server = reattach::bind("127.0.0.1:0", config).await.expect("a free port");
    let url = format!("ws://{}/", server.local_addr().expect("a bound server has an address"));
    (server, url)
}

/// Has a server send back whatever is JSON, on every new connection.
pub(crate) fn echo(server: &Server) {
    let server = server.clone();
    tokio::spawn(async move {
        while let Some(connection) = server.accept().await {
            tokio::spawn(async move {
                while let Some(delivery) = connection.recv().await {
                    if let Ok(payload) = delivery.payload().clone().check() {
                        _ = connection.send(payload).await;
                    }
                }
            });
        }
    });
}

/// A connected client with its connection at the server.
pub(crate) async fn pair() -> (Client, Connection, Server) {
    let (server, url) = listen(server_config()).await;
    let client = soon(reattach::connect(&url, client_config())).await.expect("a connection");
    let connection = soon(server.accept()).await.expect("the client's connection");
    (client, connection, server)
}

pub(crate) fn number(n: u64) -> Payload {
    Payload::new(&n).expect("a number is JSON")
}

pub(crate) fn text(text: &str) -> Payload {
    Payload::new(text).expect("a string is JSON")
}

pub(crate) fn number_of(delivery: &Delivery) -> u64 {
    delivery.payload().parse().expect("a number was sent")
}

/// The numbers that somebody has taken, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<u64>>>);

impl Record {
    pub(crate) fn enter(&self, delivery: &Delivery) {
        self.0.lock().expect("nothing panics here").push(number_of(delivery));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().expect("nothing panics here").len()
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.0.lock().expect("nothing panics here").clone()
    }

    /// Records all that comes up, from every new connection.
    pub(crate) fn of_server(server: &Server) -> Self {
        let (record, server) = (Self::default(), server.clone());
        let entering = record.clone();
        tokio::spawn(async move {
            while let Some(connection) = server.accept().await {
                let entering = entering.clone();
                tokio::spawn(async move {
                    while let Some(delivery) = connection.recv().await {
                        entering.enter(&delivery);
                    }
                });
            }
        });
        record
    }
}

/// A client and a server whose application decides about each message.
pub(crate) async fn deciding_pair() -> (Client, Connection, Server) {
    pair_at(deciding(|_| {})).await
}

pub(crate) async fn pair_at(config: ServerConfig) -> (Client, Connection, Server) {
    let (server, url) = listen(config).await;
    let client = soon(reattach::connect(&url, client_config())).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    (client, connection, server)
}

pub(crate) fn deciding(change: impl FnOnce(&mut server::Config)) -> ServerConfig {
    let mut core = server_core();
    core.connection.link.acceptance = Acceptance::Manual;
    change(&mut core);
    ServerConfig::new().with_core(core)
}

pub(crate) fn code(text: &str) -> Code {
    Code::new(text).unwrap()
}

pub(crate) async fn next(connection: &Connection) -> Received {
    soon(connection.recv()).await.expect("the connection goes on")
}

/// The number in the next message.
pub(crate) async fn next_number(connection: &Connection) -> u64 {
    let received = next(connection).await;
    number_of(&received)
}
