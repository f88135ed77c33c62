//! Reattach on tokio.
//!
//! This crate is the runtime for [`reattach_driver`], and that crate's types under one roof.
//!
//! # Time
//!
//! The machines read a clock that counts the time asleep, and tokio's timers only wake them. So tokio's paused clock
//! (`start_paused`) does not pause them: a test that wants virtual time has the simulation of the feature `testing`.
//!
//! # Logs
//!
//! This crate and the driver log through `tracing`, and never keys, credentials or payloads. What a client does is in a span
//! `client` and what a server's connection does in a span `connection`, each with the connection's name (`cid`); what a stream does
//! before its hello is accepted is in a span `transport`. Events are at the level debug, each under the target of its part, by which
//! one part can be looked at alone, as by `reattach::permission=debug`: the table is in [`targets`]. The WebSocket library below them
//! logs through `log`, and at its trace level whole messages and requests: leave that level off.

#![forbid(unsafe_code)]

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use async_tungstenite::tokio::TokioAdapter;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::Sleep;

pub use reattach_driver::*;

use self::runtime::Io;
use self::runtime::Listener;
use self::runtime::Runtime;
use self::runtime::Task;
use self::runtime::Timer;

/// Connects to a server, on the tokio runtime that this is called in. The first welcome has come when it returns; the very
/// first connect is retried like any other.
///
/// # Errors
///
/// [`ConnectError`] where the URL cannot be dialled or trying stopped.
pub async fn connect(url: &str, config: ClientConfig) -> Result<Client, ConnectError> {
    Client::connect(Arc::new(Tokio), url, config).await
}

/// Begins to connect to a server and returns at once, on the tokio runtime that this is called in. What is sent before the
/// first welcome waits.
///
/// # Errors
///
/// [`UrlError`] where the URL cannot be dialled.
pub fn start(url: &str, config: ClientConfig) -> Result<Client, UrlError> {
    Client::start(Arc::new(Tokio), url, config)
}

/// Listens on an address such as `127.0.0.1:0`, on the tokio runtime that this is called in.
///
/// # Errors
///
/// What the system says to the address.
pub async fn bind(address: &str, config: ServerConfig) -> io::Result<Server> {
    Server::bind(Arc::new(Tokio), address, config).await
}

/// A server without a listener, on the tokio runtime that this is called in. Give it streams with [`serve`].
#[must_use]
pub fn server(config: ServerConfig) -> Server {
    Server::new(Arc::new(Tokio), config)
}

/// Has a server serve a stream that the caller accepted, from the HTTP request on.
pub fn serve<S>(server: &Server, stream: S, remote: Option<SocketAddr>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    server.serve(TokioAdapter::new(stream), remote);
}

/// The tokio runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokio;

impl Runtime for Tokio {
    fn spawn(&self, task: Task<()>) {
        tokio::spawn(task);
    }

    fn timer(&self) -> Box<dyn Timer> {
        Box::new(SleepTimer(Box::pin(tokio::time::sleep(Duration::ZERO))))
    }

    fn dial(&self, host: String, port: u16) -> Task<io::Result<Box<dyn Io>>> {
        Task::new(async move { wrap(TcpStream::connect((host, port)).await?) })
    }

    fn listen(&self, address: String) -> Task<io::Result<Box<dyn Listener>>> {
        Task::new(async move {
            let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the address resolves to nothing");
            for address in tokio::net::lookup_host(address).await? {
                match listen_on(address) {
                    Ok(listener) => return Ok(Box::new(Accepting(listener)) as Box<dyn Listener>),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }
}

/// How many connections the system may hold for a listener that is busy. Clients come back in crowds; where the system's queue
/// is full it drops them, and each loses a second. Systems cut this to what they allow.
const BACKLOG: u32 = 4_096;

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that restarts finds its port free. Elsewhere the option means something else.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn wrap(stream: TcpStream) -> io::Result<Box<dyn Io>> {
    stream.set_nodelay(true)?;
    Ok(Box::new(TokioAdapter::new(stream)))
}

struct SleepTimer(Pin<Box<Sleep>>);

impl Timer for SleepTimer {
    fn set(&mut self, after: Duration) {
        // Beyond what the runtime's clock can name, a month is as good as for ever: the loop looks again.
        const FAR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
        self.0.as_mut().reset(Instant::now() + after.min(FAR));
    }

    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

struct Accepting(TcpListener);

impl Listener for Accepting {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Box<dyn Io>, SocketAddr)>> {
        self.0.poll_accept(cx).map(|accepted| {
            let (stream, remote) = accepted?;
            Ok((wrap(stream)?, remote))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
