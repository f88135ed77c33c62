//! The measure of things: a WebSocket without the layer, used as well as it can be. Whoever uses it reads all that is there,
//! writes all the answers, and flushes once.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Instant;

use async_tungstenite::WebSocketStream;
use async_tungstenite::accept_async_with_config;
use async_tungstenite::client_async_with_config;
use async_tungstenite::tungstenite;
use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::Utf8Bytes;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use futures_util::Sink as _;
use futures_util::Stream as _;
use reattach_tokio::runtime::Task;

use crate::bench::Failed;
use crate::bench::case::Case;
use crate::bench::case::Kind;
use crate::bench::case::MISSED;
use crate::bench::case::WINDOW;
use crate::bench::host::Host;

/// The sizes that the layer's driver gives its WebSockets.
fn sizes() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(8 * 1024).write_buffer_size(64 * 1024)
}

/// A WebSocket, with what was put in and what came.
struct Socket<H: Host> {
    ws: WebSocketStream<H::Stream>,
    is_dirty: bool,
    /// What came in the last turn.
    came: Vec<Utf8Bytes>,
}

impl<H: Host> Socket<H> {
    /// The most messages that a turn reads, as in the layer's loop.
    const READS: usize = 64;

    const fn new(ws: WebSocketStream<H::Stream>) -> Self {
        Self { ws, is_dirty: false, came: Vec::new() }
    }

    /// Puts a message in. It leaves with the next turn.
    fn feed(&mut self, text: Utf8Bytes) -> Result<(), Failed> {
        self.is_dirty = true;
        Pin::new(&mut self.ws).start_send(Message::Text(text)).map_err(failed)
    }

    /// Flushes what was put in, and waits until something has come; all that is there is read. While a flush is blocked it
    /// goes on reading, or two sides that write much would wait for each other.
    async fn turn(&mut self) -> Result<(), Failed> {
        self.came.clear();
        std::future::poll_fn(|cx| self.poll_turn(cx)).await
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if self.is_dirty {
            if let Poll::Ready(flushed) = Pin::new(&mut self.ws).poll_flush(cx) {
                flushed.map_err(failed)?;
                self.is_dirty = false;
            }
        }
        while self.came.len() < Self::READS {
            match Pin::new(&mut self.ws).poll_next(cx) {
                Poll::Ready(Some(Ok(Message::Text(text)))) => self.came.push(text),
                Poll::Ready(Some(Ok(Message::Close(_))) | None) => return Poll::Ready(Err(Failed::Ended)),
                Poll::Ready(Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => {
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(failed(error))),
                Poll::Pending => break,
            }
        }
        if self.came.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

/// The client's end.
pub(crate) struct Line<H: Host> {
    socket: Socket<H>,
    payload: Utf8Bytes,
    /// How many messages the server says that it has taken.
    taken: u64,
}

impl<H: Host> Line<H> {
    pub(crate) async fn open(host: H, address: SocketAddr, case: Case) -> Result<Self, Failed> {
        let stream = host.dial(address).await?;
        let opened = client_async_with_config(format!("ws://{address}/"), stream, Some(sizes())).await;
        let (ws, _) = opened.map_err(failed)?;
        Ok(Self { socket: Socket::new(ws), payload: case.payload().into(), taken: 0 })
    }

    /// Uses the connection until then. Returns how many messages went.
    pub(crate) async fn run(&mut self, kind: Kind, until: Instant) -> Result<u64, Failed> {
        let window = if kind == Kind::RoundTrip { 1 } else { WINDOW };
        let before = self.taken;
        let (mut sent, mut done) = (0, 0);
        let mut is_time = true;
        loop {
            while is_time && sent - done < window {
                self.socket.feed(self.payload.clone())?;
                sent += 1;
            }
            if done == sent {
                return Ok(done);
            }
            self.socket.turn().await?;
            if kind == Kind::Settled {
                let count = self.socket.came.last().and_then(|text| text.parse().ok());
                self.taken = count.ok_or(Failed::Server)?;
                done = self.taken - before;
            } else {
                done += self.socket.came.len() as u64;
            }
            is_time = is_time && Instant::now() < until;
        }
    }

    /// Receives what the server has for a client that was away.
    pub(crate) async fn catch_up(&mut self) -> Result<(), Failed> {
        let mut came = 0;
        while came < MISSED {
            self.socket.turn().await?;
            came += self.socket.came.len() as u64;
        }
        Ok(())
    }
}

/// The server's end. Returns where it listens, and what counts the connections that have begun.
pub(crate) async fn serve<H: Host>(host: H, case: Case) -> Result<(SocketAddr, Arc<AtomicU64>), Failed> {
    let (mut listener, address) = host.listen().await?;
    let begun = Arc::<AtomicU64>::default();
    let counting = Arc::clone(&begun);
    host.runtime().spawn(Task::new(async move {
        while let Ok(stream) = host.accept(&mut listener).await {
            let counting = Arc::clone(&counting);
            host.runtime().spawn(Task::new(async move {
                // It ends when the client hangs up.
                _ = attend::<H>(stream, case, &counting).await;
            }));
        }
    }));
    Ok((address, begun))
}

async fn attend<H: Host>(stream: H::Stream, case: Case, begun: &AtomicU64) -> Result<(), Failed> {
    let ws = accept_async_with_config(stream, Some(sizes())).await.map_err(failed)?;
    begun.fetch_add(1, Ordering::Relaxed);
    let mut socket = Socket::<H>::new(ws);
    let mut taken = 0;
    if case.kind == Kind::Resume {
        let payload = Utf8Bytes::from(case.payload());
        for _ in 0..MISSED {
            socket.feed(payload.clone())?;
        }
    }
    loop {
        socket.turn().await?;
        match case.kind {
            Kind::RoundTrip | Kind::Pipelined => {
                let mut came = std::mem::take(&mut socket.came);
                for text in came.drain(..) {
                    socket.feed(text)?;
                }
                socket.came = came;
            }
            Kind::Settled => {
                taken += socket.came.len() as u64;
                socket.feed(taken.to_string().into())?;
            }
            Kind::Resume | Kind::Idle => {}
        }
    }
}

fn failed(error: tungstenite::Error) -> Failed {
    if let tungstenite::Error::Io(error) = error { Failed::Io(error) } else { Failed::Raw(error.to_string()) }
}
