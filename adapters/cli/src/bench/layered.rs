//! The layer, used as an application uses it: through the handles of a client and of a server's connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures_util::FutureExt;
use reattach_tokio::Client;
use reattach_tokio::ClientConfig;
use reattach_tokio::Connection;
use reattach_tokio::Receipt;
use reattach_tokio::Server;
use reattach_tokio::ServerConfig;
use reattach_tokio::core::client;
use reattach_tokio::core::connection;
use reattach_tokio::core::link::Delivery;
use reattach_tokio::core::outcome::Outcome;
use reattach_tokio::core::server;
use reattach_tokio::core::wire::Payload;
use reattach_tokio::runtime::Task;

use crate::bench::Failed;
use crate::bench::case::Case;
use crate::bench::case::Kind;
use crate::bench::case::MISSED;
use crate::bench::case::WINDOW;
use crate::bench::host;
use crate::bench::host::Host;

/// The limits: the defaults, unless more is missed than they hold. One lane gets half of them.
fn raise(config: &mut connection::Config, case: Case) {
    if case.kind == Kind::Resume {
        let link = &mut config.link;
        link.outbox.count = u32::try_from(2 * MISSED).unwrap_or(u32::MAX);
        link.outbox.bytes = link.outbox.bytes.max(2 * MISSED * case.size as u64);
        link.window = link.outbox;
    }
}

fn payload_of(case: Case) -> Result<Payload, Failed> {
    Payload::from_json(&case.payload()).map_err(|error| Failed::Raw(error.to_string()))
}

/// The client's end.
pub(crate) struct Line {
    client: Client,
    payload: Payload,
}

impl Line {
    pub(crate) async fn open(host: impl Host, address: SocketAddr, case: Case) -> Result<Self, Failed> {
        let mut core = client::Config::default();
        raise(&mut core.connection, case);
        let config = ClientConfig::new().with_core(core);
        let client = Client::connect(host.runtime(), &format!("ws://{address}/"), config).await?;
        Ok(Self { client, payload: payload_of(case)? })
    }

    /// Uses the connection until then. Returns how many messages went.
    pub(crate) async fn run(&self, kind: Kind, until: Instant) -> Result<u64, Failed> {
        match kind {
            Kind::Settled => self.settle(until).await,
            Kind::RoundTrip => self.echo(1, until).await,
            Kind::Pipelined | Kind::Resume | Kind::Idle => self.echo(WINDOW, until).await,
        }
    }

    async fn echo(&self, window: u64, until: Instant) -> Result<u64, Failed> {
        let (mut sent, mut came) = (0, 0);
        let mut is_time = true;
        loop {
            while is_time && sent - came < window {
                _ = self.client.send(self.payload.clone()).await?;
                sent += 1;
            }
            if came == sent {
                return Ok(came);
            }
            let mut next = self.client.recv().await;
            if next.is_none() {
                return Err(Failed::Ended);
            }
            while next.is_some() {
                came += 1;
                next = self.client.try_recv();
            }
            is_time = is_time && Instant::now() < until;
        }
    }

    async fn settle(&self, until: Instant) -> Result<u64, Failed> {
        let mut receipts = VecDeque::new();
        let mut settled = 0;
        let mut is_time = true;
        loop {
            while is_time && (receipts.len() as u64) < WINDOW {
                receipts.push_back(self.client.send(self.payload.clone()).await?);
            }
            let Some(first) = receipts.front_mut() else { return Ok(settled) };
            let mut outcome = Some(first.await);
            while let Some(told) = outcome.take() {
                delivered(&told)?;
                settled += 1;
                receipts.pop_front();
                outcome = receipts.front_mut().and_then(FutureExt::now_or_never);
            }
            is_time = is_time && Instant::now() < until;
        }
    }

    /// Goes away. The server keeps the state.
    pub(crate) fn leave(&self) -> Result<(), Failed> {
        Ok(self.client.suspend()?)
    }

    /// Dials.
    pub(crate) fn come_back(&self) -> Result<(), Failed> {
        Ok(self.client.reconnect()?)
    }

    /// Receives what was sent meanwhile.
    pub(crate) async fn catch_up(&self) -> Result<(), Failed> {
        for _ in 0..MISSED {
            self.client.recv().await.ok_or(Failed::Ended)?;
        }
        Ok(())
    }
}

/// The server's end.
pub(crate) struct Serving {
    server: Server,
    payload: Payload,
    begun: Arc<AtomicU64>,
    /// The client's connection that began last.
    newest: Arc<Mutex<Option<Connection>>>,
    receipts: Vec<Receipt>,
}

impl Serving {
    pub(crate) async fn start(host: impl Host, case: Case) -> Result<Self, Failed> {
        let mut core = server::Config::default();
        core.max_per_address = core.max_connections;
        raise(&mut core.connection, case);
        let config = ServerConfig::new().with_core(core);
        let server = Server::bind(host.runtime(), "127.0.0.1:0", config).await?;
        let serving = Self {
            server,
            payload: payload_of(case)?,
            begun: Arc::default(),
            newest: Arc::default(),
            receipts: Vec::new(),
        };
        let server = serving.server.clone();
        let (begun, newest) = (Arc::clone(&serving.begun), Arc::clone(&serving.newest));
        host.runtime().spawn(Task::new(async move {
            while let Some(connection) = server.accept().await {
                if case.kind == Kind::Resume {
                    *newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
                }
                begun.fetch_add(1, Ordering::Relaxed);
                host.runtime().spawn(Task::new(attend(connection, case.kind)));
            }
        }));
        Ok(serving)
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.server.local_addr()
    }

    /// How many connections have begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Sends a client what it will have missed, once it is away.
    pub(crate) async fn miss(&mut self, host: impl Host) -> Result<u64, Failed> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let connection = newest.ok_or(Failed::Ended)?;
        while connection.is_attached() {
            host::pause(host, Duration::from_millis(1)).await;
        }
        for _ in 0..MISSED {
            self.receipts.push(connection.try_send(self.payload.clone())?);
        }
        Ok(MISSED)
    }

    /// Waits for the outcome of each message that was missed. Returns how many were delivered.
    pub(crate) async fn outcomes(&mut self) -> Result<u64, Failed> {
        let mut count = 0;
        for receipt in self.receipts.drain(..) {
            delivered(&receipt.await)?;
            count += 1;
        }
        Ok(count)
    }
}

async fn attend(connection: Connection, kind: Kind) {
    while let Some(received) = connection.recv().await {
        if !matches!(kind, Kind::RoundTrip | Kind::Pipelined) {
            continue;
        }
        let Delivery::Message(handed) = received.into_delivery() else { continue };
        // What came is handed on, so it has to be checked: that is a part of what an echo costs here.
        let Ok(payload) = handed.payload.check() else { return };
        if connection.send(payload).await.is_err() {
            return;
        }
    }
}

fn delivered(outcome: &Outcome) -> Result<(), Failed> {
    if *outcome == Outcome::Delivered { Ok(()) } else { Err(Failed::Outcome(outcome.to_string())) }
}
