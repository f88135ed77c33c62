//! Reattach on smol.
//!
//! This crate is the runtime for [`reattach_driver`], and that crate's types under one roof. Its tasks run on smol's global
//! executor (`SMOL_THREADS` sets its threads, one by default), or on one of the caller's own ([`Smol::on`]). The handles can be
//! used from any task of any runtime.
//!
//! The machines read a clock that counts the time asleep; smol's timers only wake them.
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
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Weak;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use smol::Async;
use smol::Executor;
use smol::io::AsyncRead;
use smol::io::AsyncWrite;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;

pub use reattach_driver::*;

use self::runtime::Io;
use self::runtime::Listener;
use self::runtime::Runtime;
use self::runtime::Task;
use self::runtime::Timer;

/// Connects to a server. The first welcome has come when it returns; the very first connect is retried like any other.
///
/// # Errors
///
/// [`ConnectError`] where the URL cannot be dialled or trying stopped.
pub async fn connect(url: &str, config: ClientConfig) -> Result<Client, ConnectError> {
    Client::connect(Arc::new(Smol::global()), url, config).await
}

/// Begins to connect to a server and returns at once. What is sent before the first welcome waits.
///
/// # Errors
///
/// [`UrlError`] where the URL cannot be dialled.
pub fn start(url: &str, config: ClientConfig) -> Result<Client, UrlError> {
    Client::start(Arc::new(Smol::global()), url, config)
}

/// Listens on an address such as `127.0.0.1:0`.
///
/// # Errors
///
/// What the system says to the address.
pub async fn bind(address: &str, config: ServerConfig) -> io::Result<Server> {
    Server::bind(Arc::new(Smol::global()), address, config).await
}

/// A server without a listener. Give it streams with [`serve`].
#[must_use]
pub fn server(config: ServerConfig) -> Server {
    Server::new(Arc::new(Smol::global()), config)
}

/// Has a server serve a stream that the caller accepted, from the HTTP request on.
pub fn serve(server: &Server, stream: impl Io, remote: Option<SocketAddr>) {
    server.serve(stream, remote);
}

/// The smol runtime.
#[derive(Clone, Debug, Default)]
pub struct Smol {
    /// None for the global one. The tasks on it know of it, and shall not keep it alive.
    executor: Option<Weak<Executor<'static>>>,
}

impl Smol {
    /// Tasks run on smol's global executor.
    #[must_use]
    pub fn global() -> Self {
        Self::default()
    }

    /// Tasks run on this executor, for as long as the caller keeps it and has it run. When it is dropped, its tasks end where
    /// they stand: every message gets its outcome, and the other side is told nothing.
    #[must_use]
    pub fn on(executor: &Arc<Executor<'static>>) -> Self {
        Self { executor: Some(Arc::downgrade(executor)) }
    }
}

impl Runtime for Smol {
    fn spawn(&self, task: Task<()>) {
        match &self.executor {
            None => smol::spawn(task).detach(),
            Some(executor) => {
                if let Some(executor) = executor.upgrade() {
                    executor.spawn(task).detach();
                }
            }
        }
    }

    fn timer(&self) -> Box<dyn Timer> {
        Box::new(SmolTimer(smol::Timer::never()))
    }

    fn dial(&self, host: String, port: u16) -> Task<io::Result<Box<dyn Io>>> {
        Task::new(async move {
            let mut last = nowhere();
            for address in smol::net::resolve((host, port)).await? {
                match Async::<TcpStream>::connect(address).await {
                    Ok(stream) => return wrap(stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }

    fn listen(&self, address: String) -> Task<io::Result<Box<dyn Listener>>> {
        Task::new(async move {
            let mut last = nowhere();
            for address in smol::net::resolve(address).await? {
                match listen_on(address) {
                    Ok(listener) => return Ok(Box::new(Accepting(listener)) as Box<dyn Listener>),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }
}

fn nowhere() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the address resolves to nothing")
}

/// How many connections the system may hold for a listener that is busy. Clients come back in crowds; where the system's queue
/// is full it drops them, and each loses a second. Systems cut this to what they allow.
const BACKLOG: i32 = 4_096;

fn listen_on(address: SocketAddr) -> io::Result<Async<TcpListener>> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A server that restarts finds its port free. Elsewhere the option means something else.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Async::new(TcpListener::from(socket))
}

fn wrap(stream: Async<TcpStream>) -> io::Result<Box<dyn Io>> {
    stream.get_ref().set_nodelay(true)?;
    Ok(Box::new(Tcp(stream)))
}

/// A stream whose end the other side sees when it is closed, and not only when it is dropped.
struct Tcp(Async<TcpStream>);

impl AsyncRead for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.get_ref().shutdown(Shutdown::Write))
    }
}

struct SmolTimer(smol::Timer);

impl Timer for SmolTimer {
    fn set(&mut self, after: Duration) {
        self.0.set_after(after);
    }

    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

struct Accepting(Async<TcpListener>);

impl Listener for Accepting {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Box<dyn Io>, SocketAddr)>> {
        loop {
            match self.0.get_ref().accept() {
                Ok((stream, remote)) => return Poll::Ready(Async::new(stream).and_then(wrap).map(|io| (io, remote))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_readable(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }
}
