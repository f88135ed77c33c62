//! The third phase: the server's application decides about each message, and the client changes its mind, while connections
//! break. Not everything is delivered, and every claim must be true by the application's own record.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use reattach_tokio::Client;
use reattach_tokio::ClientConfig;
use reattach_tokio::Connection;
use reattach_tokio::ConnectionState;
use reattach_tokio::Events;
use reattach_tokio::Received;
use reattach_tokio::Server;
use reattach_tokio::ServerConfig;
use reattach_tokio::core::client;
use reattach_tokio::core::client::Event;
use reattach_tokio::core::connection;
use reattach_tokio::core::id::Code;
use reattach_tokio::core::id::Lane;
use reattach_tokio::core::id::Name;
use reattach_tokio::core::link::Acceptance;
use reattach_tokio::core::link::Delivery;
use reattach_tokio::core::link::Handed;
use reattach_tokio::core::link::Outgoing;
use reattach_tokio::core::outcome::Failure;
use reattach_tokio::core::outcome::Outcome;
use reattach_tokio::core::outcome::SendFailed;
use reattach_tokio::core::server;
use reattach_tokio::core::wire::Payload;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::demo::Failed;
use crate::demo::book::Book;
use crate::demo::book::Decided;
use crate::demo::book::Line;
use crate::demo::book::Word;
use crate::demo::judge::VOID_TIMEOUT;
use crate::demo::layered;
use crate::demo::layered::Shortened;
use crate::demo::ledger::Numbered;
use crate::demo::plan::Fault;
use crate::demo::plan::Planned;
use crate::demo::script::LANES;
use crate::demo::script::LEASE;
use crate::demo::script::Last;
use crate::demo::script::Script;
use crate::demo::script::lane_of;
use crate::demo::stage::DELAY;
use crate::proxy::FaultProxy;
use crate::runtime::RuntimeName;

/// How many messages are sent at least.
pub(crate) const MESSAGES: u64 = 2_000;
/// How often the connection is broken.
pub(crate) const CUTS: u32 = 15;

/// How long a deferral lasts that does not say. The default is 3 seconds.
const DEFERRAL: Duration = Duration::from_millis(30);
/// After how long a message is asked about. The default is 5 seconds.
const ACK_TIMEOUT: Duration = Duration::from_millis(100);
/// How long an answer to that may take. The default is 10 seconds.
const PROBE_TIMEOUT: Duration = Duration::from_millis(200);
/// How long the application is let alone between two cuts.
const QUIET: Duration = Duration::from_millis(120);

/// What the phase happens on.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) book: Book,
    seed: u64,
    cuts: AtomicU32,
    cuts_by_kind: Mutex<BTreeMap<String, u32>>,
    /// Whether all that was to be broken is broken.
    is_performed: AtomicBool,
    /// How many messages are in the application's hands.
    in_hands: AtomicU32,
}

impl Scene {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            book: Book::open(),
            seed,
            cuts: AtomicU32::new(0),
            cuts_by_kind: Mutex::default(),
            is_performed: AtomicBool::new(false),
            in_hands: AtomicU32::new(0),
        })
    }

    pub(crate) fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::Relaxed)
    }

    pub(crate) fn cuts_by_kind(&self) -> BTreeMap<String, u32> {
        self.cuts_by_kind.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn shorten(config: &mut connection::Config) {
    config.link.lease = LEASE;
    config.link.deferral = DEFERRAL;
    config.link.ack_timeout = ACK_TIMEOUT;
    config.link.void_timeout = VOID_TIMEOUT;
    config.heartbeat.probe_timeout = PROBE_TIMEOUT;
}

fn client_config() -> client::Config {
    let mut config = layered::client_config();
    shorten(&mut config.connection);
    config
}

fn server_config() -> server::Config {
    let mut config = layered::server_config();
    shorten(&mut config.connection);
    config.connection.link.acceptance = Acceptance::Manual;
    config
}

/// What is shorter than the defaults, beside what is in every phase.
pub(crate) fn shortened() -> Vec<Shortened> {
    let (here, default) = (server_config().connection, connection::Config::default());
    let timer = |what, get: &dyn Fn(&connection::Config) -> Duration| {
        let (here, default) = (get(&here), get(&default));
        Shortened { what, here, default }
    };
    vec![
        timer("lease", &|config| config.link.lease),
        timer("deferral", &|config| config.link.deferral),
        timer("unsettled, asked about after", &|config| config.link.ack_timeout),
        timer("asked, answer waited for", &|config| config.heartbeat.probe_timeout),
        timer("withdrawn, answer waited for", &|config| config.link.void_timeout),
    ]
}

/// Performs: every message, every cut, until every sender was told.
pub(crate) async fn perform(runtime: RuntimeName, scene: Arc<Scene>, plan: Vec<Planned>) -> Result<(), Failed> {
    let server = Server::bind(runtime.get(), "127.0.0.1:0", ServerConfig::new().with_core(server_config())).await?;
    let address = server.local_addr().expect("a bound server has an address");
    let proxy = FaultProxy::start(address, DELAY).await?;
    let serving: Arc<Mutex<Option<Connection>>> = Arc::default();
    let deciding = tokio::spawn(serve(server, Arc::clone(&scene), Arc::clone(&serving)));
    let url = format!("ws://{}/", proxy.address());
    let client = Client::connect(runtime.get(), &url, ClientConfig::new().with_core(client_config())).await?;
    let listening = tokio::spawn(listen(Arc::clone(&scene), client.events()));
    let mut sending = JoinSet::new();
    for lane in 0..LANES {
        sending.spawn(send_lane(Arc::clone(&scene), client.clone(), lane));
    }
    break_connections(&scene, &proxy, &client, &serving, &plan).await;
    while let Some(done) = sending.join_next().await {
        done.map_err(|_| Failed::Task)?;
    }
    // What was withdrawn and is unknown may still be in the application's hands.
    while scene.book.claimed() < scene.book.sent() || scene.in_hands.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    scene.book.enter(Line::Closing);
    serving.lock().unwrap_or_else(PoisonError::into_inner).take();
    client.close(Duration::from_secs(5)).await;
    listening.await.map_err(|_| Failed::Task)?;
    deciding.await.map_err(|_| Failed::Task)
}

/// Breaks each connection in its time, and waits until something has come through the next one.
async fn break_connections(
    scene: &Scene,
    proxy: &FaultProxy,
    client: &Client,
    serving: &Mutex<Option<Connection>>,
    plan: &[Planned],
) {
    let established = proxy.established();
    for planned in plan {
        tokio::time::sleep(QUIET + planned.lifetime).await;
        let before = *established.borrow();
        {
            let mut kinds = scene.cuts_by_kind.lock().unwrap_or_else(PoisonError::into_inner);
            *kinds.entry(planned.fault.name()).or_default() += 1;
        }
        match planned.fault {
            Fault::Network(cut) => proxy.cut(cut),
            Fault::Server(code) => {
                if let Some(connection) = &*serving.lock().unwrap_or_else(PoisonError::into_inner) {
                    connection.detach(code).expect("the plan names codes that may be sent");
                }
            }
        }
        scene.cuts.fetch_add(1, Ordering::Relaxed);
        while *established.borrow() == before || client.state() != ConnectionState::Attached {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let claimed = scene.book.claimed();
        while scene.book.claimed() == claimed {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    scene.is_performed.store(true, Ordering::Relaxed);
}

/// Awaits something, and says when it was looked at for the last time: what happened in that look did not happen before.
async fn stamped<T>(book: &Book, future: impl Future<Output = T>) -> (Duration, T) {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        let since = book.now();
        match future.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready((since, done)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn name(lane: u64) -> Lane {
    match lane {
        // The lane without a name is one of them.
        0 => Lane::DEFAULT,
        _ => Lane::named(Name::new(&format!("lane {lane}")).expect("a short name")),
    }
}

/// Sends the numbers of one lane, spread over the cuts that are to come.
async fn send_lane(scene: Arc<Scene>, client: Client, lane: u64) {
    let (claims, mut receipts) = mpsc::unbounded_channel();
    let of_claims = Arc::clone(&scene);
    tokio::spawn(async move {
        let mut all = JoinSet::new();
        while let Some((n, receipt)) = receipts.recv().await {
            let scene = Arc::clone(&of_claims);
            all.spawn(async move {
                let outcome = receipt.await;
                scene.book.enter(Line::Claimed { n, at: scene.book.now(), outcome });
            });
        }
        while all.join_next().await.is_some() {}
    });
    let mut n = lane;
    while n < MESSAGES || !scene.is_performed.load(Ordering::Relaxed) {
        let cuts_left = CUTS.saturating_sub(scene.cuts());
        let messages_left = u32::try_from(MESSAGES.saturating_sub(n) / LANES).expect("a few") + 1;
        tokio::time::sleep((Duration::from_millis(420) * cuts_left / messages_left).min(Duration::from_millis(25)))
            .await;
        let script = Script::new(scene.seed, n);
        let payload = Payload::new(&Numbered::new(n)).expect("a numbered message is JSON");
        let mut message = Outgoing::from(payload).in_lane(name(lane)).hands(script.hands);
        if let Some(within) = script.within {
            message = message.within(within);
        }
        // The connection has ended under the sender; what goes on without it is found.
        let (at, Ok(receipt)) = stamped(&scene.book, client.send(message)).await else { return };
        let id = receipt.id();
        scene.book.enter(Line::Sent { n, id, at, within: script.within, hands: script.hands });
        _ = claims.send((n, receipt));
        if let Some(after) = script.cancelled_after {
            let (scene, client) = (Arc::clone(&scene), client.clone());
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                scene.book.enter(Line::Cancelling { n, at: scene.book.now() });
                if client.cancel(&id).is_err() {
                    scene.book.enter(Line::NotCancelled { n });
                }
            });
        }
        n += LANES;
    }
}

/// Enters what the client tells.
async fn listen(scene: Arc<Scene>, mut events: Events<Event>) {
    while let Some(event) = events.next().await {
        let (id, word) = if let Event::Delivered { id } = event {
            (id, Word::Outcome(Outcome::Delivered))
        } else if let Event::SendFailed(SendFailed { id, failure }) = event {
            let word = match failure {
                Failure::ForGood(outcome) => Word::Outcome(outcome),
                Failure::ForNow { attempt, reason, .. } => Word::PutOff { attempt, code: reason.to_string() },
            };
            (id, word)
        } else if let Event::Delayed { id } = event {
            (id, Word::Delayed)
        } else {
            continue;
        };
        scene.book.enter(Line::Told { id, word });
    }
}

/// The server's application.
async fn serve(server: Server, scene: Arc<Scene>, serving: Arc<Mutex<Option<Connection>>>) {
    // A client that comes back is not a new connection: there is only ever this one.
    let Some(connection) = server.accept().await else { return };
    *serving.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
    let mut thinking = JoinSet::new();
    loop {
        let (since, Some(received)) = stamped(&scene.book, connection.recv()).await else { break };
        let Delivery::Message(Handed { turn, ref lane, ref payload, .. }) = *received else { continue };
        let numbered: Numbered = payload.parse().expect("the client sends numbered messages");
        let (n, is_intact) = (numbered.n, numbered.is_intact());
        let lane = (0..LANES).find(|other| name(*other) == *lane).unwrap_or(LANES);
        scene.in_hands.fetch_add(1, Ordering::Relaxed);
        scene.book.enter(Line::Handed { n, lane, turn, since, at: scene.book.now(), is_intact });
        let script = Script::new(scene.seed, n);
        let thinks = think(&script, turn);
        if thinks.is_zero() {
            decide(&scene, received, &script, n, turn);
        } else {
            let scene = Arc::clone(&scene);
            thinking.spawn(async move {
                if is_last(&script, turn) && script.last == Last::Extend {
                    let at = scene.book.now();
                    if received.extend(2 * LEASE).is_ok() {
                        scene.book.enter(Line::Extended { n, at, lease: 2 * LEASE });
                    }
                }
                tokio::time::sleep(thinks).await;
                decide(&scene, received, &script, n, turn);
            });
        }
        while thinking.try_join_next().is_some() {}
    }
    while thinking.join_next().await.is_some() {}
}

/// Whether this hand-over is answered with the last word.
const fn is_last(script: &Script, turn: u32) -> bool {
    turn > script.put_off
}

/// How long the application thinks about a hand-over.
fn think(script: &Script, turn: u32) -> Duration {
    match script.last {
        Last::Late if is_last(script, turn) => LEASE + Duration::from_millis(50),
        Last::Extend if is_last(script, turn) => LEASE * 3 / 2,
        Last::Accept | Last::Reject | Last::Drop | Last::Late | Last::Extend => script.thinks,
    }
}

/// Decides, and enters it first: what follows from a decision is entered behind it.
fn decide(scene: &Scene, received: Received, script: &Script, n: u64, turn: u32) {
    let code = |text: String| Code::new(&text).expect("a plain code");
    let enter = |decision| scene.book.enter(Line::Deciding { n, at: scene.book.now(), decision });
    let decided = if !is_last(script, turn) {
        let (text, retry_after) = (format!("busy-{turn}"), script.retry_after.unwrap_or(DEFERRAL));
        enter(Decided::Defer { code: text.clone(), retry_after });
        received.defer(script.retry_after, code(text))
    } else {
        match script.last {
            Last::Accept | Last::Late | Last::Extend => {
                enter(Decided::Accept);
                received.accept()
            }
            Last::Reject => {
                let (text, reason) = (format!("refused-{}", lane_of(n)), format!("{n} is not wanted"));
                enter(Decided::Reject { code: text.clone(), reason: reason.clone() });
                received.reject(code(text), reason)
            }
            Last::Drop => {
                enter(Decided::Drop);
                drop(received);
                Ok(())
            }
        }
    };
    if decided.is_err() {
        scene.book.enter(Line::Refused { n, at: scene.book.now() });
    }
    scene.in_hands.fetch_sub(1, Ordering::Relaxed);
}
