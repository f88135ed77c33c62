//! What the bench needs of an async runtime, beyond what the driver needs. Another runtime is another implementation.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::LazyLock;
use std::task::Poll;
use std::time::Duration;

use async_tungstenite::tokio::TokioAdapter;
use futures_util::future::Either;
use futures_util::future::select;
use futures_util::io::AsyncRead;
use futures_util::io::AsyncWrite;
use reattach_tokio::runtime::Runtime;
use reattach_tokio::runtime::Task;
use smol::Async;
use smol::Executor;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// An async runtime, with its sockets as they are: a raw WebSocket does not go through a box.
pub(crate) trait Host: Copy + Send + Sync + 'static {
    /// A connected socket.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// A listening socket.
    type Listener: Send + 'static;
    /// What it is called in the results.
    const NAME: &'static str;

    /// Runs to the end, with everything that is spawned meanwhile on the same thread: both processes have one core between
    /// them, and a second thread would only add switches. What is measured is spawned, for runtimes wake the future that they
    /// block on in a dearer way than a task.
    fn block_on<T>(self, work: impl Future<Output = T>) -> io::Result<T>;

    /// The runtime for the driver.
    fn runtime(self) -> Arc<dyn Runtime>;

    /// Listens on a free port of this machine alone.
    fn listen(self) -> impl Future<Output = io::Result<(Self::Listener, SocketAddr)>> + Send;

    /// Accepts the next stream, without delay for small writes.
    fn accept(self, listener: &mut Self::Listener) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Connects a stream, without delay for small writes.
    fn dial(self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Waits until somebody at the terminal wants this to stop.
    fn interrupted(self) -> impl Future<Output = ()>;
}

/// What the work comes to as a task of its own; nothing where it panicked.
pub(crate) async fn spawned<T: Send + 'static>(
    host: impl Host,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    host.runtime().spawn(Task::new(async move {
        // Nobody waits any more once it was interrupted.
        _ = sender.send(work.await);
    }));
    receiver.await.ok()
}

/// Waits.
pub(crate) async fn pause(host: impl Host, time: Duration) {
    let mut timer = host.runtime().timer();
    timer.set(time);
    std::future::poll_fn(|cx| timer.poll_elapsed(cx)).await;
}

/// What the work comes to, unless it takes too long.
pub(crate) async fn within<T>(host: impl Host, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    match select(pin!(work), pin!(pause(host, limit))).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(((), _)) => None,
    }
}

/// The smol runtime, with one executor on the thread that blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Smol;

static EXECUTOR: LazyLock<Arc<Executor<'static>>> = LazyLock::new(Arc::default);

impl Host for Smol {
    type Stream = Async<std::net::TcpStream>;
    type Listener = Async<std::net::TcpListener>;
    const NAME: &'static str = "smol";

    fn block_on<T>(self, work: impl Future<Output = T>) -> io::Result<T> {
        Ok(smol::block_on(EXECUTOR.run(work)))
    }

    fn runtime(self) -> Arc<dyn Runtime> {
        Arc::new(reattach_smol::Smol::on(&EXECUTOR))
    }

    async fn listen(self) -> io::Result<(Self::Listener, SocketAddr)> {
        let listener = Async::<std::net::TcpListener>::bind(([127, 0, 0, 1], 0))?;
        let address = listener.get_ref().local_addr()?;
        Ok((listener, address))
    }

    async fn accept(self, listener: &mut Self::Listener) -> io::Result<Self::Stream> {
        let (stream, _) = listener.accept().await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(stream)
    }

    async fn dial(self, address: SocketAddr) -> io::Result<Self::Stream> {
        let stream = Async::<std::net::TcpStream>::connect(address).await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(stream)
    }

    /// An interrupt ends the program by itself; the server's process ends with it.
    async fn interrupted(self) {
        std::future::pending().await
    }
}

/// The tokio runtime.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokio;

impl Host for Tokio {
    type Stream = TokioAdapter<TcpStream>;
    type Listener = TcpListener;
    const NAME: &'static str = "tokio";

    fn block_on<T>(self, work: impl Future<Output = T>) -> io::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let done = runtime.block_on(work);
        // Whatever still runs has nothing to say any more.
        runtime.shutdown_background();
        Ok(done)
    }

    fn runtime(self) -> Arc<dyn Runtime> {
        Arc::new(reattach_tokio::Tokio)
    }

    async fn listen(self) -> io::Result<(Self::Listener, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    async fn accept(self, listener: &mut Self::Listener) -> io::Result<Self::Stream> {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(TokioAdapter::new(stream))
    }

    async fn dial(self, address: SocketAddr) -> io::Result<Self::Stream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(TokioAdapter::new(stream))
    }

    async fn interrupted(self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::poll_fn(|_| Poll::<()>::Pending).await;
        }
    }
}
