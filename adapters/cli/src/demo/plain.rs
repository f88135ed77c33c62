//! The performer without the layer: a WebSocket that reconnects, as programs have it that do not know better.
//!
//! It is not made to look bad. What is sent while the connection is down waits and goes out after it, on both sides; a write
//! that fails is tried again; both sides ping and give a silent peer up as soon as the layer does. What it lacks is any idea of
//! what became of a message once it was written.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tokio::TokioAdapter;
use async_tungstenite::tokio::accept_async;
use async_tungstenite::tokio::client_async;
use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::protocol::CloseFrame;
use futures_util::StreamExt as _;
use reattach_tokio::core::backoff::Backoff;
use reattach_tokio::core::wire::CloseCode;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::demo::Failed;
use crate::demo::layered::client_config;
use crate::demo::ledger::Numbered;
use crate::demo::plan::Fault;
use crate::demo::plan::Planned;
use crate::demo::stage::DELAY;
use crate::demo::stage::Stage;
use crate::demo::stage::Way;
use crate::proxy::FaultProxy;

/// As many messages wait for the connection as in the layer's outbox.
const QUEUE: usize = 100;

/// Performs: every message both ways, every cut, until nothing arrives any more.
pub(crate) async fn perform(
    stage: Arc<Stage>,
    listener: TcpListener,
    seed: u64,
    plan: Vec<Planned>,
) -> Result<(), Failed> {
    let (closes, _) = watch::channel(None);
    let closes = Arc::new(closes);
    tokio::spawn(serve(Arc::clone(&stage), listener, Arc::clone(&closes)));
    tokio::spawn(stay_connected(Arc::clone(&stage), seed));
    stage
        .perform(&plan, |fault| {
            if let Fault::Server(code) = fault {
                closes.send_replace(Some(code));
            }
        })
        .await;
    // Nobody is told anything here, so all that can be done is to wait until it has been quiet for a while.
    let mut quiet_since = Instant::now();
    let mut arrived = stage.progress().0;
    while quiet_since.elapsed() < Duration::from_millis(700) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if stage.progress().0 != arrived {
            arrived = stage.progress().0;
            quiet_since = Instant::now();
        }
    }
    Ok(())
}

/// A listener, and a stage in front of it.
pub(crate) async fn set_up(messages: u64, cuts: u32) -> Result<(Arc<Stage>, TcpListener), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let proxy = FaultProxy::start(listener.local_addr()?, DELAY).await?;
    Ok((Stage::new(proxy, messages, cuts), listener))
}

/// The numbered messages of one way, as they are to be sent.
fn produce(stage: &Arc<Stage>, way: Way) -> mpsc::Receiver<Numbered> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let stage = Arc::clone(stage);
    tokio::spawn(async move {
        while let Some(n) = stage.next(way).await {
            if sender.send(Numbered::new(n)).await.is_err() {
                return;
            }
        }
    });
    receiver
}

async fn serve(stage: Arc<Stage>, listener: TcpListener, closes: Arc<watch::Sender<Option<CloseCode>>>) {
    // There is one client; whichever connection came last is its.
    let outgoing = Arc::new(Mutex::new(Outgoing { queue: produce(&stage, Way::Down), unsent: None }));
    let (generation, _) = watch::channel(0_u64);
    let generation = Arc::new(generation);
    while let Ok((stream, _)) = listener.accept().await {
        let (stage, outgoing) = (Arc::clone(&stage), Arc::clone(&outgoing));
        let (generation, mut closes) = (Arc::clone(&generation), closes.subscribe());
        tokio::spawn(async move {
            if stream.set_nodelay(true).is_err() {
                return;
            }
            let Ok(ws) = accept_async(stream).await else { return };
            generation.send_modify(|generation| *generation += 1);
            let mine = *generation.borrow();
            let mut replaced = generation.subscribe();
            closes.mark_unchanged();
            let mut outgoing = outgoing.lock().await;
            tokio::select! {
                _ = replaced.wait_for(|newest| *newest > mine) => {}
                () = carry(&stage, Way::Up, ws, &mut outgoing, Some(closes)) => {}
            }
        });
    }
}

async fn stay_connected(stage: Arc<Stage>, seed: u64) {
    let config = client_config();
    let mut backoff = Backoff::new(config.reconnect.backoff.clone(), seed);
    let mut outgoing = Outgoing { queue: produce(&stage, Way::Up), unsent: None };
    loop {
        if let Ok(Some(ws)) = timeout(config.connect_timeout, open(stage.proxy.address())).await {
            let since = Instant::now();
            carry(&stage, Way::Down, ws, &mut outgoing, None).await;
            if since.elapsed() > config.reconnect.stable {
                backoff.reset();
            }
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn open(address: SocketAddr) -> Option<Ws> {
    let stream = TcpStream::connect(address).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (ws, _) = client_async(format!("ws://{address}/"), stream).await.ok()?;
    Some(Ws(ws))
}

struct Ws(WebSocketStream<TokioAdapter<TcpStream>>);

struct Outgoing {
    queue: mpsc::Receiver<Numbered>,
    /// What a write failed for; it goes first over the next connection.
    unsent: Option<Numbered>,
}

/// Carries messages both ways until the connection breaks or is closed.
async fn carry(
    stage: &Stage,
    arriving: Way,
    ws: impl Into<Ws>,
    outgoing: &mut Outgoing,
    mut closes: Option<watch::Receiver<Option<CloseCode>>>,
) {
    let Ws(mut ws) = ws.into();
    let heartbeat = client_config().connection.heartbeat;
    let mut ping = tokio::time::interval(heartbeat.idle);
    let mut last_life = Instant::now();
    loop {
        let message = match outgoing.unsent.take() {
            Some(message) => message,
            None => tokio::select! {
                biased;
                Some(code) = closed(&mut closes) => {
                    let frame = CloseFrame { code: code.get().into(), reason: code.text().into() };
                    _ = timeout(heartbeat.dead_after, ws.close(Some(frame))).await;
                    return;
                }
                message = ws.next() => {
                    last_life = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => {
                            if let Ok(numbered) = serde_json::from_str::<Numbered>(&text) {
                                stage.on_arrived(arriving, &numbered);
                            }
                            continue;
                        }
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                        Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                    }
                }
                Some(message) = outgoing.queue.recv() => message,
                _ = ping.tick() => {
                    if last_life.elapsed() > heartbeat.dead_after {
                        return;
                    }
                    match timeout(heartbeat.dead_after, ws.send(Message::Ping(Vec::new().into()))).await {
                        Ok(Ok(())) => continue,
                        Ok(Err(_)) | Err(_) => return,
                    }
                }
            },
        };
        let text = serde_json::to_string(&message).expect("a numbered message is JSON");
        match timeout(heartbeat.dead_after, ws.send(Message::text(text))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => {
                outgoing.unsent = Some(message);
                return;
            }
        }
    }
}

impl From<WebSocketStream<TokioAdapter<TcpStream>>> for Ws {
    fn from(ws: WebSocketStream<TokioAdapter<TcpStream>>) -> Self {
        Self(ws)
    }
}

async fn closed(closes: &mut Option<watch::Receiver<Option<CloseCode>>>) -> Option<CloseCode> {
    match closes {
        Some(closes) => {
            closes.changed().await.ok()?;
            *closes.borrow_and_update()
        }
        None => std::future::pending().await,
    }
}
