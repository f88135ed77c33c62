//! The network as a test holds it.

use std::future::Future;
use std::io;
use std::ops::RangeInclusive;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::Either;
use futures_util::future::select;
use reattach_core::time::Instant;

use crate::client::Client;
use crate::client::ClientConfig;
use crate::client::ConnectError;
use crate::dial::UrlError;
use crate::runtime::Runtime;
use crate::runtime::Task;
use crate::server::Server;
use crate::server::ServerConfig;
use crate::testing::faults::Scope;
use crate::testing::incident::Direction;
use crate::testing::incident::Incident;
use crate::testing::world::Place;
use crate::testing::world::World;

/// The network of a simulation, and its clock. Cheap to clone.
///
/// The faults that it is told of meet every stream; those that a place in it is told of ([`Net::at`]) meet the streams that
/// were dialled from there. Both can be told at any time, from any task.
#[derive(Clone)]
pub struct Net {
    world: Arc<World>,
    scope: Scope,
}

impl Net {
    pub(super) const fn new(world: Arc<World>) -> Self {
        Self { world, scope: Scope::Everywhere }
    }

    /// The same network from a place of this name, which is made when it is first named. What is dialled from there comes from
    /// an address of its own (else from 127.0.0.1: a server has a cap for each), and the faults of the place meet nothing else.
    #[must_use]
    pub fn at(&self, place: &str) -> Self {
        Self { world: Arc::clone(&self.world), scope: Scope::Place(place.into()) }
    }

    /// The simulation as a runtime, for code that takes one: its clock, its timers, its tasks and this network.
    #[must_use]
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(Place { world: Arc::clone(&self.world), scope: self.scope.clone() })
    }

    /// A server that listens on an address such as `server.test:80`. Any name will do; port 0 stands for a free one.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AddrInUse`] where another one listens there, [`io::ErrorKind::InvalidInput`] for an address without a
    /// port.
    pub async fn bind(&self, address: &str, config: ServerConfig) -> io::Result<Server> {
        Server::bind(self.runtime(), address, config).await
    }

    /// A client that is connected, as by [`Client::connect`].
    ///
    /// # Errors
    ///
    /// [`ConnectError`] where the URL cannot be dialled or trying stopped.
    pub async fn connect(&self, url: &str, config: ClientConfig) -> Result<Client, ConnectError> {
        Client::connect(self.runtime(), url, config).await
    }

    /// A client that begins to connect, as by [`Client::start`].
    ///
    /// # Errors
    ///
    /// [`UrlError`] where the URL cannot be dialled.
    pub fn start(&self, url: &str, config: ClientConfig) -> Result<Client, UrlError> {
        Client::start(self.runtime(), url, config)
    }

    /// Runs a task beside the test. If it panics, the whole run does. It can be awaited for what it returns, and goes on
    /// where it is not; when the simulation is dropped it is dropped too.
    #[track_caller]
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Spawned<T> {
        let (sender, receiver) = oneshot::channel();
        let task = async move {
            // Nobody need be waiting.
            _ = sender.send(task.await);
        };
        self.world.executor.spawn(Task::new(task), Some(Location::caller()));
        Spawned(receiver)
    }

    /// Waits, in virtual time.
    pub async fn sleep(&self, duration: Duration) {
        self.world.timers.sleep(duration).await;
    }

    /// Awaits something for at most so long, in virtual time. `None` where it took longer.
    pub async fn timeout<T>(&self, duration: Duration, future: impl Future<Output = T>) -> Option<T> {
        match select(std::pin::pin!(future), self.world.timers.sleep(duration)).await {
            Either::Left((value, _)) => Some(value),
            Either::Right(((), _)) => None,
        }
    }

    /// How much virtual time has passed since the start of the simulation.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.world.timers.elapsed()
    }

    /// The virtual time as the machines here have it.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.world.now(&self.scope)
    }

    /// A number that the seed determines: for choices of the test's own, such as when to cut.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.world.with_network(|network| network.random().next_u64())
    }

    /// Breaks every live stream at once: what is under way is lost, and both ends hear of it, even in a stall. Returns how many
    /// there were.
    pub fn cut(&self) -> usize {
        self.world.with_network(|network| network.cut(&self.scope))
    }

    /// Lets so many more bytes arrive in a direction, over whichever streams, the bytes of the WebSocket handshakes included,
    /// and breaks the stream that brings the last of them; 0 breaks the first that would bring one. Once: a later call
    /// replaces what an earlier one has left to do.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.world.with_network(|network| network.faults.cut_after(&self.scope, direction, bytes));
    }

    /// How many bytes have arrived in a direction so far.
    #[must_use]
    pub fn carried(&self, direction: Direction) -> u64 {
        self.world.with_network(|network| network.faults.carried(&self.scope, direction))
    }

    /// Nothing arrives any more, and nobody is told: bytes, ends of streams and new streams wait for [`Net::heal`].
    pub fn stall(&self) {
        self.stall_one_way(Direction::ToServer);
        self.stall_one_way(Direction::ToClient);
    }

    /// As [`Net::stall`], in one direction: what goes the other way arrives. New streams take both and wait.
    pub fn stall_one_way(&self, direction: Direction) {
        self.world.with_network(|network| network.stall(&self.scope, direction));
    }

    /// Whether new streams are refused, as where nobody listens. Live ones stay.
    pub fn refuse(&self, is_refusing: bool) {
        self.world.with_network(|network| network.faults.refuse(&self.scope, is_refusing));
    }

    /// Ends stalls, refusals and cuts that wait, those of a place here and those of all places where this is the whole network.
    /// What was held up by a stall arrives.
    pub fn heal(&self) {
        self.world.with_network(|network| network.heal(&self.scope));
        self.world.healed.notify(usize::MAX);
    }

    /// How long bytes take from one end to the other: each time so long, drawn by the seed. Order is kept. Default 5 ms to
    /// 15 ms.
    pub fn set_delay(&self, delay: RangeInclusive<Duration>) {
        self.world.with_network(|network| network.faults.set_delay(&self.scope, delay));
    }

    /// How many bytes one read or write takes: from here on each time a number that the seed draws, from 1 to this. Default
    /// [`usize::MAX`]: as many as there are and find room. A WebSocket handshake of more than 64 pieces, with less than 128 bytes in
    /// each on average, is taken for an attack and refused.
    pub fn set_piece(&self, most: usize) {
        self.world.with_network(|network| network.faults.set_piece(&self.scope, most));
    }

    /// Has the clocks here leap ahead by so much, as that of a computer that was asleep does: those of all places where this is the
    /// whole network. Timers that are set by then go off when they would have, which is late; [`Net::elapsed`] goes on as it did.
    pub fn leap(&self, by: Duration) {
        self.world.with_network(|network| network.faults.leap(&self.scope, by));
    }

    /// What has happened on the network, the newest 10,000 incidents. Two runs of the same test with the same seed have the
    /// same ones.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        self.world.with_network(|network| network.incidents.all())
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("scope", &self.scope).field("elapsed", &self.elapsed()).finish_non_exhaustive()
    }
}

/// A task of a test. Await it for what it returns; dropping it changes nothing.
#[derive(Debug)]
pub struct Spawned<T>(oneshot::Receiver<T>);

impl<T> Future for Spawned<T> {
    type Output = T;

    /// # Panics
    ///
    /// Where it is polled after the simulation was dropped, and the task with it.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx).map(|returned| returned.expect("tasks live as long as the simulation"))
    }
}
