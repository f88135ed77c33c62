//! What the driver needs of an async runtime: to spawn, to wait, to dial and to listen. A runtime's crate is an
//! implementation of this trait and little else.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use futures_io::AsyncRead;
use futures_io::AsyncWrite;
use reattach_core::time::Instant;

use crate::clock;
use crate::mint;

/// A future on the heap, as trait objects return them.
pub struct Task<T>(Pin<Box<dyn Future<Output = T> + Send + 'static>>);

impl<T> Task<T> {
    /// Puts a future on the heap.
    pub fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> std::fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

/// A stream of bytes both ways: TCP, TLS, or whatever a caller brings.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A timer that can be set again.
pub trait Timer: Send + 'static {
    /// Sets it to go off after so long.
    fn set(&mut self, after: Duration);

    /// Ready once it has gone off. Pending before, with the task woken when it does.
    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// A listening socket.
pub trait Listener: Send + 'static {
    /// Accepts the next stream.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Box<dyn Io>, SocketAddr)>>;

    /// The address that it listens on.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// An async runtime.
pub trait Runtime: Send + Sync + 'static {
    /// Runs a task to its end, beside everything else.
    fn spawn(&self, task: Task<()>);

    /// A timer that is not set.
    fn timer(&self) -> Box<dyn Timer>;

    /// Connects a TCP stream to a host and a port, without delay for small writes (`TCP_NODELAY`).
    fn dial(&self, host: String, port: u16) -> Task<io::Result<Box<dyn Io>>>;

    /// Listens on an address such as `127.0.0.1:0`. Accepted streams are without delay for small writes.
    fn listen(&self, address: String) -> Task<io::Result<Box<dyn Listener>>>;

    /// The time now: what the machines reckon with, so its origin stays the same for the life of the runtime. By default
    /// [`clock::now`]; a runtime whose timers run by another clock reads that one.
    fn now(&self) -> Instant {
        clock::now()
    }

    /// Fills in random bytes, of which the secrets are made: connection keys, epochs, nonces. By default they come from the
    /// system's CSPRNG, and anything weaker lets strangers take connections over; only tests have reason to bring their own.
    fn entropy(&self, bytes: &mut [u8]) {
        mint::fill(bytes);
    }
}

impl std::fmt::Debug for dyn Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}
