//! The performer with the layer: a Reattach client and a Reattach server.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use reattach_tokio::Client;
use reattach_tokio::ClientConfig;
use reattach_tokio::Connection;
use reattach_tokio::Server;
use reattach_tokio::ServerConfig;
use reattach_tokio::core::client;
use reattach_tokio::core::connection;
use reattach_tokio::core::link::Delivery;
use reattach_tokio::core::server;
use reattach_tokio::core::wire::Payload;

use crate::demo::Failed;
use crate::demo::ledger::Numbered;
use crate::demo::ledger::enter_claims;
use crate::demo::plan::Fault;
use crate::demo::plan::Planned;
use crate::demo::stage::DELAY;
use crate::demo::stage::Stage;
use crate::demo::stage::Way;
use crate::proxy::FaultProxy;
use crate::runtime::RuntimeName;

/// A timer that the demonstration sets shorter than the default, so that it is over within a minute.
pub(crate) struct Shortened {
    pub(crate) what: &'static str,
    pub(crate) here: Duration,
    pub(crate) default: Duration,
}

/// The configuration of the demonstration's client.
pub(crate) fn client_config() -> client::Config {
    let mut config = client::Config::default();
    config.connect_timeout = Duration::from_secs(1);
    config.hello_timeout = Duration::from_millis(400);
    config.reconnect.attempts = None;
    config.reconnect.backoff.base = Duration::from_millis(20);
    config.reconnect.backoff.cap = Duration::from_millis(100);
    config.reconnect.stable = Duration::from_millis(50);
    config.reconnect.restart_min = Duration::from_millis(20);
    config.reconnect.restart_max = Duration::from_millis(60);
    shorten(&mut config.connection);
    config
}

/// The configuration of the demonstration's server.
pub(crate) fn server_config() -> server::Config {
    let mut config = server::Config::default();
    shorten(&mut config.connection);
    config
}

fn shorten(config: &mut connection::Config) {
    config.heartbeat.idle = Duration::from_millis(80);
    config.heartbeat.dead_after = Duration::from_millis(250);
    config.flow.stalled_after = Duration::from_millis(250);
}

/// What is shorter than the defaults.
pub(crate) fn shortened() -> Vec<Shortened> {
    let (here, default) = (client_config(), client::Config::default());
    let timer =
        |what, get: &dyn Fn(&client::Config) -> Duration| Shortened { what, here: get(&here), default: get(&default) };
    let all = [
        timer("connect timeout", &|config| config.connect_timeout),
        timer("hello timeout", &|config| config.hello_timeout),
        timer("backoff, first ceiling", &|config| config.reconnect.backoff.base),
        timer("backoff, cap", &|config| config.reconnect.backoff.cap),
        timer("stable after", &|config| config.reconnect.stable),
        timer("after close 1012, at least", &|config| config.reconnect.restart_min),
        timer("after close 1012, at most", &|config| config.reconnect.restart_max),
        timer("heartbeat, idle before a ping", &|config| config.connection.heartbeat.idle),
        timer("heartbeat, dead after", &|config| config.connection.heartbeat.dead_after),
        timer("write without progress, dead after", &|config| config.connection.flow.stalled_after),
    ];
    all.into_iter().filter(|timer| timer.here != timer.default).collect()
}

/// Performs: every message both ways, every cut, until everything has arrived and every sender was told.
pub(crate) async fn perform(
    runtime: RuntimeName,
    stage: Arc<Stage>,
    server: Server,
    plan: Vec<Planned>,
) -> Result<(), Failed> {
    let serving: Arc<Mutex<Option<Connection>>> = Arc::default();
    let accepted = Arc::clone(&serving);
    let of_server = Arc::clone(&stage);
    tokio::spawn(async move {
        // A client that comes back is not a new connection: there is only ever this one.
        while let Some(connection) = server.accept().await {
            *accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
            let stage = Arc::clone(&of_server);
            let sending = connection.clone();
            tokio::spawn(async move { send_all(&stage, Way::Down, Sender::Server(sending)).await });
            let stage = Arc::clone(&of_server);
            tokio::spawn(async move {
                while let Some(delivery) = connection.recv().await {
                    enter(&stage, Way::Up, &delivery);
                }
            });
        }
    });
    let url = format!("ws://{}/", stage.proxy.address());
    let client = Client::connect(runtime.get(), &url, ClientConfig::new().with_core(client_config())).await?;
    let reading = tokio::spawn(read_all(Arc::clone(&stage), client.clone()));
    let sending = {
        let (stage, client) = (Arc::clone(&stage), client.clone());
        tokio::spawn(async move { send_all(&stage, Way::Up, Sender::Client(client)).await })
    };
    stage
        .perform(&plan, |fault| {
            let serving = serving.lock().unwrap_or_else(PoisonError::into_inner);
            if let (Some(connection), Fault::Server(code)) = (&*serving, fault) {
                connection.detach(code).expect("the plan names codes that may be sent");
            }
        })
        .await;
    sending.await.map_err(|_| Failed::Task)?;
    while !(stage.up.is_settled() && stage.down.is_settled()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Every sender was told. What was claimed to be delivered has been handed over, and is entered in a moment or never.
    for _ in 0..400 {
        if [&stage.up, &stage.down].iter().all(|ledger| ledger.distinct() >= ledger.sent()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.close(Duration::from_secs(5)).await;
    reading.await.map_err(|_| Failed::Task)
}

async fn read_all(stage: Arc<Stage>, client: Client) {
    while let Some(delivery) = client.recv().await {
        enter(&stage, Way::Down, &delivery);
    }
}

fn enter(stage: &Stage, way: Way, delivery: &Delivery) {
    let numbered: Numbered = delivery.payload().parse().expect("the other side sends numbered messages");
    stage.on_arrived(way, &numbered);
}

enum Sender {
    Client(Client),
    Server(Connection),
}

async fn send_all(stage: &Stage, way: Way, sender: Sender) {
    let claims = enter_claims(Arc::clone(stage.ledger(way)));
    while let Some(n) = stage.next(way).await {
        let payload = Payload::new(&Numbered::new(n)).expect("a numbered message is JSON");
        let sent = match &sender {
            Sender::Client(client) => client.send(payload).await,
            Sender::Server(connection) => connection.send(payload).await,
        };
        match sent {
            Ok(receipt) => _ = claims.send((n, receipt)).await,
            // The connection has ended under the sender; what was counted as sent stays without a claim and is found.
            Err(_) => return,
        }
    }
}

/// A server, and a stage in front of it.
pub(crate) async fn set_up(runtime: RuntimeName, messages: u64, cuts: u32) -> Result<(Arc<Stage>, Server), Failed> {
    let config = ServerConfig::new().with_core(server_config());
    let server = Server::bind(runtime.get(), "127.0.0.1:0", config).await?;
    let address = server.local_addr().expect("a bound server has an address");
    let proxy = FaultProxy::start(address, DELAY).await?;
    Ok((Stage::new(proxy, messages, cuts), server))
}
