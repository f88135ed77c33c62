//! A proxy on loopback that breaks connections on purpose.
//!
//! It forwards bytes both ways, each chunk after a delay, so that something is always in flight; a cut loses what is. It knows
//! nothing of what it forwards.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tokio::time::timeout;

/// A way to break a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cut {
    /// Both ends see an orderly end of the stream (FIN).
    Fin,
    /// Both ends see a reset (RST).
    Reset,
    /// Both ends get the first bytes of the next WebSocket frame, and then the end of the stream.
    Torn,
    /// Nothing arrives any more, and nobody is told.
    Stall,
}

/// A running proxy. Dropping it resets every connection and frees its port.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    delay: Duration,
    upstream: Mutex<Option<SocketAddr>>,
    /// How each connection is to be broken; sent once, or dropped with the connection.
    cuts: Mutex<Vec<watch::Sender<Option<Cut>>>>,
    /// How many connections were established.
    established: watch::Sender<u64>,
}

/// The most bytes that wait in one direction before the proxy stops reading.
const MAX_WAITING: usize = 4 * 1024 * 1024;
/// How long a broken connection's sockets may linger.
const LINGER: Duration = Duration::from_secs(5);

impl FaultProxy {
    /// Listens on a loopback port and forwards to `upstream`, each chunk after `delay`.
    ///
    /// # Errors
    ///
    /// What the system says to the port.
    pub async fn start(upstream: SocketAddr, delay: Duration) -> io::Result<Self> {
        Self::start_on("127.0.0.1:0".parse().expect("an address"), upstream, delay).await
    }

    /// As [`FaultProxy::start`], on a port of the caller's choice: to come back where one was before.
    ///
    /// # Errors
    ///
    /// What the system says to the port.
    pub async fn start_on(listen: SocketAddr, upstream: SocketAddr, delay: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            delay,
            upstream: Mutex::new(Some(upstream)),
            cuts: Mutex::new(Vec::new()),
            established: watch::Sender::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards new connections to somewhere else, or resets them.
    pub fn set_upstream(&self, upstream: Option<SocketAddr>) {
        *self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
    }

    /// Breaks every live connection, losing what is in flight.
    pub fn cut(&self, cut: Cut) {
        for connection in self.shared.cuts.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A connection that has ended by itself listens no more.
            _ = connection.send(Some(cut));
        }
    }

    /// Counts the connections that were established.
    #[must_use]
    pub fn established(&self) -> watch::Receiver<u64> {
        self.shared.established.subscribe()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut(Cut::Reset);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let upstream = *shared.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(upstream) = upstream else {
            reset(client);
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(upstream).await else { return reset(client) };
            let (sender, receiver) = watch::channel(None);
            shared.cuts.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
            shared.established.send_modify(|count| *count += 1);
            // Delay is the proxy's own affair.
            if client.set_nodelay(true).is_ok() && server.set_nodelay(true).is_ok() {
                forward(client, server, shared.delay, receiver).await;
            }
        });
    }
}

async fn forward(client: TcpStream, server: TcpStream, delay: Duration, cut: watch::Receiver<Option<Cut>>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (up, down) = tokio::join!(
        Pump::new(from_client, to_server, delay).run(cut.clone()),
        Pump::new(from_server, to_client, delay).run(cut.clone()),
    );
    let Some(cut) = *cut.borrow() else { return };
    if cut == Cut::Torn {
        for mut pump in [up, down] {
            pump.tear().await;
        }
        return;
    }
    let client = up.from.reunite(down.to).expect("the halves of one stream");
    let server = down.from.reunite(up.to).expect("the halves of one stream");
    match cut {
        Cut::Fin => _ = tokio::join!(finish(client), finish(server)),
        Cut::Reset => [client, server].into_iter().for_each(reset),
        // The sockets stay open, and nobody reads them.
        Cut::Stall => {
            tokio::time::sleep(LINGER).await;
            drop((client, server));
        }
        Cut::Torn => unreachable!("torn connections were seen to above"),
    }
}

/// One direction of a connection.
struct Pump {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    delay: Duration,
    /// What was read, with the time at which it goes on.
    waiting: VecDeque<(Instant, Vec<u8>)>,
    waiting_bytes: usize,
    /// What is going on right now.
    leaving: Vec<u8>,
    has_ended: bool,
}

impl Pump {
    fn new(from: OwnedReadHalf, to: OwnedWriteHalf, delay: Duration) -> Self {
        Self { from, to, delay, waiting: VecDeque::new(), waiting_bytes: 0, leaving: Vec::new(), has_ended: false }
    }

    /// Forwards until the stream ends or is to be cut.
    async fn run(mut self, mut cut: watch::Receiver<Option<Cut>>) -> Self {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            if self.leaving.is_empty() && self.waiting.front().is_some_and(|(at, _)| *at <= Instant::now()) {
                let (_, chunk) = self.waiting.pop_front().expect("the front was just looked at");
                self.waiting_bytes -= chunk.len();
                self.leaving = chunk;
            }
            if self.has_ended && self.waiting.is_empty() && self.leaving.is_empty() {
                _ = self.to.shutdown().await;
                // The other direction may go on, and may still be cut.
                _ = cut.wait_for(Option::is_some).await;
                return self;
            }
            let next = self.waiting.front().map_or_else(Instant::now, |(at, _)| *at);
            tokio::select! {
                biased;
                told = cut.wait_for(Option::is_some) => {
                    // The sender goes with the proxy, which resets.
                    _ = told;
                    return self;
                }
                written = self.to.write(&self.leaving), if !self.leaving.is_empty() => match written {
                    Ok(written) => _ = self.leaving.drain(..written),
                    Err(_) => {
                        self.leaving.clear();
                        self.waiting.clear();
                        self.waiting_bytes = 0;
                        self.has_ended = true;
                    }
                },
                () = sleep_until(next), if self.leaving.is_empty() && !self.waiting.is_empty() => {}
                read = self.from.read(&mut buffer), if !self.has_ended && self.waiting_bytes < MAX_WAITING => match read {
                    Ok(0) | Err(_) => self.has_ended = true,
                    Ok(read) => {
                        self.waiting_bytes += read;
                        self.waiting.push_back((Instant::now() + self.delay, buffer[..read].to_vec()));
                    }
                },
            }
        }
    }

    /// Lets the first bytes of the next chunk through and ends the stream. A sender flushes whole WebSocket frames of more
    /// than five bytes, so the end comes within one.
    async fn tear(&mut self) {
        let chunk = match self.leaving.is_empty() {
            true => self.waiting.pop_front().map(|(_, chunk)| chunk).unwrap_or_default(),
            false => std::mem::take(&mut self.leaving),
        };
        let torn = &chunk[..chunk.len().min(5)];
        _ = timeout(LINGER, self.to.write_all(torn)).await;
        _ = self.to.shutdown().await;
    }
}

/// Ends a stream in good order: what comes after is read and thrown away, or the system would reset it.
async fn finish(mut stream: TcpStream) {
    _ = stream.shutdown().await;
    let mut buffer = [0; 4096];
    _ = timeout(LINGER, async { while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {} }).await;
}

/// Ends a stream with a reset.
fn reset(stream: TcpStream) {
    // Where the system will not have it, an ordinary end has to do.
    _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}
