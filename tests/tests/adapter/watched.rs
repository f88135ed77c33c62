//! The adapter under the eyes of the oracle: real sockets, real cuts, and whatever both applications see.
//!
//! Whatever an application does, and the oracle's hearing of it, is one step under one lock, so that no outcome can be heard
//! of before what it follows from.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;
use std::time::Instant as Clock;

use harness::oracle::Checked;
use harness::oracle::Oracle;
use harness::oracle::Party;
use harness::oracle::Rules;
use harness::oracle::Why;
use reattach::Client;
use reattach::ClientConfig;
use reattach::Connection;
use reattach::Received;
use reattach::Server;
use reattach::ServerConfig;
use reattach::core::id::ConnectionId;
use reattach::core::id::Name;
use reattach::core::link::Acceptance;
use reattach::core::link::Decision;
use reattach::core::link::Delivery;
use reattach::core::link::Outgoing;
use reattach::core::time::Instant;
use reattach_cli::proxy::Cut;
use reattach_cli::proxy::FaultProxy;

use super::loopback::PATIENCE;
use super::loopback::client_core;
use super::loopback::code;
use super::loopback::listen;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::server_core;
use super::loopback::soon;
use super::loopback::until;

/// So many messages each way, fewer than half of what an outbox holds.
const MESSAGES: u32 = 400;

/// The oracle, and a clock.
#[derive(Clone)]
struct Watch {
    oracle: Arc<Mutex<Oracle>>,
    began: Clock,
}

/// Panics where something contradicts the design.
fn heed(checked: Checked) {
    if let Err(broken) = checked {
        panic!("{broken}");
    }
}

impl Watch {
    fn look(&self) -> (MutexGuard<'_, Oracle>, Instant) {
        let oracle = self.oracle.lock().unwrap();
        (oracle, self.now())
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.began.elapsed().as_micros()).unwrap())
    }

    fn is_settled(&self) -> bool {
        self.look().0.is_settled()
    }

    fn taken(&self) -> u64 {
        self.look().0.counts()[1]
    }
}

/// A client and a server with a proxy between them, and who watches.
struct Pair {
    server: Server,
    proxy: FaultProxy,
    client: Client,
    connection: Connection,
    watch: Watch,
}

impl Pair {
    async fn new(acceptance: Acceptance) -> Self {
        let (mut at_client, mut at_server) = (client_core(), server_core());
        for link in [&mut at_client.connection.link, &mut at_server.connection.link] {
            link.outbox.count = 4 * MESSAGES;
            link.lease = Duration::from_secs(60);
            link.acceptance = acceptance;
        }
        let rules = Rules {
            client: at_client.connection.link.clone(),
            server: at_server.connection.link.clone(),
            receipts: at_server.receipts,
            detach_ttl: at_server.detach_ttl,
            suspended_ttl: at_server.suspended_ttl,
            max_connections: at_server.max_connections,
            max_per_principal: at_server.max_per_principal,
            failures: at_client.reconnect.breaker.failures,
            tries: at_client.reconnect.attempts,
            skew: Duration::from_secs(1),
            slack: Some(PATIENCE),
        };
        let watch = Watch { oracle: Arc::new(Mutex::new(Oracle::of_applications(rules))), began: Clock::now() };
        let (server, _) = listen(ServerConfig::new().with_core(at_server)).await;
        let proxy = FaultProxy::start(server.local_addr().unwrap(), Duration::from_millis(1)).await.unwrap();
        let url = format!("ws://{}/", proxy.address());
        let client = reattach::start(&url, ClientConfig::new().with_core(at_client)).unwrap();
        watch.look().0.on_client(0, client.connection_id());
        tokio::spawn({
            let (mut events, watch) = (client.events(), watch.clone());
            async move {
                while let Some(event) = events.next().await {
                    let (mut oracle, now) = watch.look();
                    heed(oracle.on_client_event(0, None, &event, now));
                }
            }
        });
        let connection = soon(server.accept()).await.unwrap();
        heed(watch.look().0.on_connection(connection.id()));
        tokio::spawn({
            let (mut events, watch, cid) = (connection.events(), watch.clone(), connection.id());
            async move {
                while let Some(event) = events.next().await {
                    let (mut oracle, now) = watch.look();
                    heed(oracle.on_peer_event(cid, None, &event, now));
                }
            }
        });
        Self { server, proxy, client, connection, watch }
    }

    fn cid(&self) -> ConnectionId {
        self.connection.id()
    }

    /// Each side sends its next message: the client even numbers, the server odd ones.
    fn send(&self, round: u32) {
        for (by, sent) in [(Party::Client(0), 2 * round), (Party::Server(self.cid()), 2 * round + 1)] {
            let mut message = Outgoing::from(number(u64::from(sent)));
            if !round.is_multiple_of(3) {
                message = message.in_lane(Name::new(["left", "right"][round as usize % 2]).unwrap());
            }
            message.is_idempotent = round.is_multiple_of(5);
            let (mut oracle, now) = self.watch.look();
            let receipt = match by {
                Party::Client(_) => self.client.try_send(message.clone()),
                Party::Server(_) => self.connection.try_send(message.clone()),
            };
            match receipt {
                Ok(receipt) => heed(oracle.on_sent(by, sent, receipt.id(), &message, now)),
                Err(error) => heed(oracle.on_refused(by, error, &message)),
            }
        }
    }

    /// Both applications take what there is, and decide where they are to.
    fn take(&self) {
        for to in [Party::Client(0), Party::Server(self.cid())] {
            loop {
                let (mut oracle, asked_at) = self.watch.look();
                let received = match to {
                    Party::Client(_) => self.client.try_recv(),
                    Party::Server(_) => self.connection.try_recv(),
                };
                let Some(received) = received else { break };
                // The machines have a look at the clock between the two.
                let now = self.watch.now();
                let Delivery::Message(handed) = &*received else { panic!("nobody sends anything else") };
                let sent = u32::try_from(number_of(&received)).unwrap();
                heed(oracle.on_handed(to, sent, handed, false, now));
                if let Some(handle) = handed.handle {
                    let (decision, result) = decide(received, sent);
                    heed(oracle.on_decided(to, handle, &decision, result, asked_at));
                }
            }
        }
    }

    /// Sends everything while connections break, and finds every outcome told.
    async fn play(&self, cuts: impl Fn(&Self, u32)) {
        for round in 0..MESSAGES {
            self.send(round);
            self.take();
            tokio::time::sleep(Duration::from_micros(500)).await;
            if round % 60 == 50 {
                self.watch.look().0.on_disturbed(0);
                cuts(self, round / 60);
            }
        }
        until(|| {
            self.take();
            self.watch.is_settled()
        })
        .await;
    }
}

/// Mostly it is done; now and then it is refused, put off, or dropped.
fn decide(received: Received, sent: u32) -> (Decision, Result<(), reattach::core::error::ApiMisuse>) {
    match sent % 8 {
        1 => {
            let result = received.reject(code("no"), "");
            (Decision::Reject { code: code("no"), reason: String::new() }, result)
        }
        2 | 5 => {
            let retry_after = Duration::from_millis(20);
            let result = received.defer(retry_after, code("busy"));
            (Decision::Defer { retry_after: Some(retry_after), code: code("busy") }, result)
        }
        7 => {
            drop(received);
            (Decision::Abandon, Ok(()))
        }
        _ => (Decision::Accept, received.accept()),
    }
}

const CUTS: [Cut; 4] = [Cut::Fin, Cut::Reset, Cut::Torn, Cut::Stall];

#[tokio::test]
async fn cuts_cost_applications_nothing() {
    let pair = Pair::new(Acceptance::Automatic).await;
    pair.play(|pair, round| pair.proxy.cut(CUTS[round as usize % 4])).await;
    let (oracle, _) = pair.watch.look();
    heed(oracle.check_settled());
    heed(oracle.check_none_lost());
    let all = u64::from(2 * MESSAGES);
    assert_eq!(oracle.counts(), [all, all, all, 0, 0, 0]);
    assert_eq!(pair.server.connections(), 1);
}

#[tokio::test]
async fn cuts_cost_applications_that_decide_nothing() {
    let pair = Pair::new(Acceptance::Manual).await;
    pair.play(|pair, round| pair.proxy.cut(CUTS[round as usize % 4])).await;
    let (oracle, _) = pair.watch.look();
    heed(oracle.check_settled());
    heed(oracle.check_none_lost());
    let [sent, _, delivered, rejected, not_delivered, unknown] = oracle.counts();
    assert_eq!((sent, not_delivered), (u64::from(2 * MESSAGES), 0));
    assert!(delivered > 0 && rejected > 0 && unknown > 0, "{delivered}, {rejected} and {unknown}");
}

#[tokio::test]
async fn an_end_in_the_middle_leaves_nobody_in_the_dark() {
    for ends_client in [true, false] {
        let pair = Pair::new(Acceptance::Manual).await;
        (0..MESSAGES / 2).for_each(|round| pair.send(round));
        until(|| {
            pair.take();
            pair.watch.taken() > 20
        })
        .await;
        (0..4).for_each(|round| pair.send(MESSAGES + round));
        {
            let (mut oracle, _) = pair.watch.look();
            if ends_client {
                pair.client.disconnect();
                oracle.on_client_command(0, true);
            } else {
                pair.connection.disconnect();
                oracle.on_server_command(pair.cid(), Some(Why::Closed));
            }
        }
        until(|| pair.watch.is_settled()).await;
        let [sent, _, delivered, ..] = pair.watch.look().0.counts();
        assert!(delivered < sent, "it was the middle");
    }
}
