//! The second phase: the server forgets the connection, first with its receipts kept, then not. Now not everything can be
//! delivered, and what is promised is that every claim is true.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use reattach_smol::Smol;
use reattach_tokio::Client;
use reattach_tokio::ClientConfig;
use reattach_tokio::Connection;
use reattach_tokio::Server;
use reattach_tokio::ServerConfig;
use reattach_tokio::core::outcome::Unknown;
use reattach_tokio::core::wire::Payload;
use smol::Executor;
use tokio::runtime;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::demo::Failed;
use crate::demo::layered::client_config;
use crate::demo::layered::server_config;
use crate::demo::ledger::Figures;
use crate::demo::ledger::Ledger;
use crate::demo::ledger::Numbered;
use crate::demo::ledger::enter_claims;
use crate::demo::stage::DELAY;
use crate::proxy::Cut;
use crate::proxy::FaultProxy;
use crate::runtime::RuntimeName;

/// How often each kind of forgetting happens.
pub(crate) const TIMES: u32 = 3;
/// How long the server keeps a connection that has no transport. The default is a minute.
pub(crate) const TTL: Duration = Duration::from_millis(300);

/// How the server forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgetting {
    /// The connection runs out while the client is cut off. A receipt is kept.
    Expiry,
    /// The server dies without a word, and another one starts with nothing.
    Crash,
}

impl Forgetting {
    /// The reasons for which an outcome may be unknown, from below and from above.
    pub(crate) fn allowed(self) -> [BTreeSet<String>; 2] {
        let texts = |reasons: &[Unknown]| reasons.iter().map(ToString::to_string).collect();
        match self {
            // With a receipt left: client messages in the application's hands, and what the server itself had written.
            Self::Expiry => [texts(&[Unknown::InHands]), texts(&[Unknown::Expired, Unknown::EpochEnded])],
            Self::Crash => [texts(&[Unknown::NoReceipt, Unknown::InHands]), texts(&[])],
        }
    }
}

/// The two directions of one kind of forgetting.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) up: Arc<Ledger>,
    pub(crate) down: Arc<Ledger>,
    is_over: AtomicBool,
    /// Whether the server's application takes what comes.
    is_reading: watch::Sender<bool>,
    /// A number of the server's that found its connection ended before it was sent.
    unsent: Mutex<Option<u64>>,
    /// The server's connections that have ended.
    ended: watch::Sender<u32>,
    accepted: watch::Sender<u32>,
}

impl Act {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            up: Arc::default(),
            down: Arc::default(),
            is_over: AtomicBool::new(false),
            is_reading: watch::Sender::new(true),
            unsent: Mutex::default(),
            ended: watch::Sender::new(0),
            accepted: watch::Sender::new(0),
        })
    }

    pub(crate) fn figures(&self) -> [Figures; 2] {
        [self.up.figures(true), self.down.figures(true)]
    }

    /// The next number of the server's.
    fn next_down(&self) -> Option<u64> {
        if let Some(n) = self.unsent.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Some(n);
        }
        if self.is_over.load(Ordering::Relaxed) {
            return None;
        }
        let n = self.down.sent();
        self.down.on_sent();
        Some(n)
    }

    /// Waits until so many more have arrived each way.
    async fn flow(&self, messages: u64) {
        let (up, down) = (self.up.distinct() + messages, self.down.distinct() + messages);
        while self.up.distinct() < up || self.down.distinct() < down {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Between two messages of one side.
const PACE: Duration = Duration::from_millis(1);

/// Plays one kind of forgetting, as often as said.
pub(crate) async fn perform(
    name: RuntimeName,
    forgetting: Forgetting,
    progress: impl Fn(u32),
) -> Result<Arc<Act>, Failed> {
    let act = Act::new();
    let mut life = Life::begin(name, &act).await?;
    let proxy = FaultProxy::start(life.address, DELAY).await?;
    let url = format!("ws://{}/", proxy.address());
    let client = Client::connect(name.get(), &url, ClientConfig::new().with_core(client_config())).await?;
    let reading = {
        let (act, client) = (Arc::clone(&act), client.clone());
        tokio::spawn(async move {
            while let Some(delivery) = client.recv().await {
                let numbered: Numbered = delivery.payload().parse().expect("numbered messages only");
                act.down.on_message(&numbered);
            }
        })
    };
    let sending = {
        let (act, client) = (Arc::clone(&act), client.clone());
        tokio::spawn(async move {
            let claims = enter_claims(Arc::clone(&act.up));
            while !act.is_over.load(Ordering::Relaxed) {
                let n = act.up.sent();
                act.up.on_sent();
                let payload = Payload::new(&Numbered::new(n)).expect("a numbered message is JSON");
                let Ok(receipt) = client.send(payload).await else { return };
                _ = claims.send((n, receipt)).await;
                tokio::time::sleep(PACE).await;
            }
        })
    };
    for time in 1..=TIMES {
        act.flow(100).await;
        // The application stops taking for a moment, so that something has come and is not handed over.
        act.is_reading.send_replace(false);
        tokio::time::sleep(Duration::from_millis(40)).await;
        proxy.set_upstream(None);
        match forgetting {
            Forgetting::Expiry => {
                let ended = *act.ended.borrow();
                proxy.cut(Cut::Reset);
                let mut watch = act.ended.subscribe();
                watch.wait_for(|count| *count > ended).await.map_err(|_| Failed::Task)?;
            }
            Forgetting::Crash => {
                life.crash().await;
                proxy.cut(Cut::Reset);
                act.down.on_orphaned();
                life = Life::begin(name, &act).await?;
            }
        }
        act.is_reading.send_replace(true);
        proxy.set_upstream(Some(life.address));
        let accepted = time + 1;
        let mut watch = act.accepted.subscribe();
        watch.wait_for(|count| *count >= accepted).await.map_err(|_| Failed::Task)?;
        progress(time);
    }
    act.flow(100).await;
    act.is_over.store(true, Ordering::Relaxed);
    sending.await.map_err(|_| Failed::Task)?;
    while !(act.up.is_settled() && act.down.is_settled()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.close(Duration::from_secs(5)).await;
    reading.await.map_err(|_| Failed::Task)?;
    life.crash().await;
    Ok(act)
}

/// One life of the server, on a runtime of its own, so that it can die as a process does.
struct Life {
    /// The application's tasks, and on tokio the driver's too.
    runtime: Option<Runtime>,
    /// The thread on which the driver's tasks run on smol. It stops, and they with it, when the sender is dropped.
    executor: Option<(smol::channel::Sender<()>, JoinHandle<Arc<Executor<'static>>>)>,
    address: SocketAddr,
}

impl Life {
    async fn begin(name: RuntimeName, act: &Arc<Act>) -> Result<Self, Failed> {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let act = Arc::clone(act);
        let mut core = server_config();
        core.detach_ttl = TTL;
        let (driven, executor): (Arc<dyn reattach_tokio::runtime::Runtime>, _) = match name {
            RuntimeName::Tokio => (name.get(), None),
            RuntimeName::Smol => {
                let executor = Arc::new(Executor::new());
                let driven = Arc::new(Smol::on(&executor));
                let (alive, dead) = smol::channel::bounded::<()>(1);
                let thread = std::thread::spawn(move || {
                    _ = smol::block_on(executor.run(dead.recv()));
                    executor
                });
                (driven, Some((alive, thread)))
            }
        };
        let bound = runtime.spawn(async move {
            let server = Server::bind(driven, "127.0.0.1:0", ServerConfig::new().with_core(core)).await?;
            let address = server.local_addr().expect("a bound server has an address");
            tokio::spawn(serve(server, act));
            Ok::<_, std::io::Error>(address)
        });
        let address = bound.await.map_err(|_| Failed::Task)??;
        Ok(Self { runtime: Some(runtime), executor, address })
    }

    /// Everything stops where it stands. Nobody is told anything.
    async fn crash(&mut self) {
        let executor = self.executor.take();
        if let Some(runtime) = self.runtime.take() {
            let stopped = tokio::task::spawn_blocking(move || {
                // The driver's tasks stop first, and go last: they say no goodbye to anybody.
                let stopped = executor.map(|(alive, thread)| {
                    drop(alive);
                    thread.join().expect("the driver's tasks do not panic")
                });
                runtime.shutdown_timeout(Duration::from_secs(5));
                drop(stopped);
            });
            stopped.await.expect("a runtime stops");
        }
    }
}

async fn serve(server: Server, act: Arc<Act>) {
    while let Some(connection) = server.accept().await {
        act.accepted.send_modify(|count| *count += 1);
        tokio::spawn(send_all(connection.clone(), Arc::clone(&act)));
        let act = Arc::clone(&act);
        tokio::spawn(async move {
            let mut is_reading = act.is_reading.subscribe();
            loop {
                if is_reading.wait_for(|is_reading| *is_reading).await.is_err() {
                    return;
                }
                tokio::select! {
                    biased;
                    // An application that pauses still notices that its connection has ended.
                    () = connection.ended() => break,
                    delivery = connection.recv() => {
                        let Some(delivery) = delivery else { break };
                        let numbered: Numbered = delivery.payload().parse().expect("numbered messages only");
                        act.up.on_message(&numbered);
                    }
                }
            }
        });
    }
}

async fn send_all(connection: Connection, act: Arc<Act>) {
    let claims = enter_claims(Arc::clone(&act.down));
    while let Some(n) = act.next_down() {
        let payload = Payload::new(&Numbered::new(n)).expect("a numbered message is JSON");
        match connection.send(payload).await {
            Ok(receipt) => _ = claims.send((n, receipt)).await,
            Err(_) => {
                *act.unsent.lock().unwrap_or_else(PoisonError::into_inner) = Some(n);
                break;
            }
        }
        tokio::time::sleep(PACE).await;
    }
    connection.ended().await;
    act.ended.send_modify(|count| *count += 1);
}
