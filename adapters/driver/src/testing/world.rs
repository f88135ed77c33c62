//! What the parts of one simulation share, and the runtime that it is to the driver.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use event_listener::Event;
use futures_io::AsyncRead;
use futures_io::AsyncWrite;
use reattach_core::rng::Rng;
use reattach_core::time::Instant;

use crate::runtime::Io;
use crate::runtime::Listener;
use crate::runtime::Runtime;
use crate::runtime::Task;
use crate::runtime::Timer;
use crate::testing::executor::Executor;
use crate::testing::faults::Scope;
use crate::testing::incident::Direction;
use crate::testing::network::Network;
use crate::testing::timers::Alarm;
use crate::testing::timers::Timers;

/// One simulation.
pub(super) struct World {
    pub(super) executor: Executor,
    pub(super) timers: Arc<Timers>,
    network: Mutex<Network>,
    /// Faults have ended.
    pub(super) healed: Event,
    /// Draws what would be secrets elsewhere. The network has a generator of its own, so that what is drawn for the one moves
    /// nothing in the other.
    secrets: Mutex<Rng>,
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let timers = Timers::new();
        Arc::new(Self {
            executor: Executor::new(),
            network: Mutex::new(Network::new(seed, Arc::clone(&timers))),
            timers,
            healed: Event::new(),
            secrets: Mutex::new(Rng::new(!seed)),
        })
    }

    /// The time on the clock of a place.
    pub(super) fn now(&self, scope: &Scope) -> Instant {
        self.timers.now() + self.with_network(|network| network.faults.ahead(scope))
    }

    /// Does something with the network, and then wakes whom that concerns.
    pub(super) fn with_network<T>(&self, act: impl FnOnce(&mut Network) -> T) -> T {
        let mut network = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut network);
        let wakers = std::mem::take(&mut network.wakers);
        drop(network);
        wakers.into_iter().for_each(Waker::wake);
        result
    }
}

/// A simulation as the runtime of whoever is at one place in it.
pub(super) struct Place {
    pub(super) world: Arc<World>,
    pub(super) scope: Scope,
}

impl Runtime for Place {
    fn spawn(&self, task: Task<()>) {
        self.world.executor.spawn(task, None);
    }

    fn timer(&self) -> Box<dyn Timer> {
        Box::new(Alarm::new(Arc::clone(&self.world.timers)))
    }

    fn dial(&self, host: String, port: u16) -> Task<io::Result<Box<dyn Io>>> {
        let (world, scope) = (Arc::clone(&self.world), self.scope.clone());
        Task::new(async move {
            loop {
                // There and back.
                let round_trip = world.with_network(|network| network.delay(&scope) + network.delay(&scope));
                world.timers.sleep(round_trip).await;
                let healed = world.healed.listen();
                if !world.with_network(|network| network.is_stalled(&scope)) {
                    break;
                }
                healed.await;
            }
            let number = world.with_network(|network| network.open(&scope, &host, port))?;
            Ok(Box::new(End { world, number, direction: Direction::ToServer }) as Box<dyn Io>)
        })
    }

    fn listen(&self, address: String) -> Task<io::Result<Box<dyn Listener>>> {
        let world = Arc::clone(&self.world);
        Task::new(async move {
            let address = world.with_network(|network| network.listen(&address))?;
            Ok(Box::new(Accepting { world, address }) as Box<dyn Listener>)
        })
    }

    fn now(&self) -> Instant {
        self.world.now(&self.scope)
    }

    fn entropy(&self, bytes: &mut [u8]) {
        let mut secrets = self.world.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&secrets.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// One end of a stream.
struct End {
    world: Arc<World>,
    number: u64,
    /// Which way this end writes.
    direction: Direction,
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.world.with_network(|network| network.read(self.number, self.direction.back(), buf, cx.waker()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.world.with_network(|network| network.write(self.number, self.direction, buf, cx.waker()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.world.with_network(|network| network.end(self.number, self.direction));
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.world.with_network(|network| network.leave(self.number, self.direction));
    }
}

struct Accepting {
    world: Arc<World>,
    address: SocketAddr,
}

impl Listener for Accepting {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Box<dyn Io>, SocketAddr)>> {
        let accepted = self.world.with_network(|network| network.accept(self.address, cx.waker()));
        accepted.map(|(number, remote)| {
            let world = Arc::clone(&self.world);
            Ok((Box::new(End { world, number, direction: Direction::ToClient }) as Box<dyn Io>, remote))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.world.with_network(|network| network.stop_listening(self.address));
    }
}
