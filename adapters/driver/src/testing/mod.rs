//! A network in memory and a clock that jumps: tests of applications, without sockets and without waiting.
//!
//! The application's own code runs here with the real [`Client`](crate::Client), [`Server`](crate::Server) and
//! [`Connection`](crate::Connection), over real WebSockets; only the streams beneath them, the clock and the randomness are
//! simulated. Everything runs on the thread of the test, in an order that the seed alone decides, and whenever nothing can run
//! the clock jumps to the next timer: an hour offline takes no time, and what failed once fails again with its seed.
//!
//! ```
//! use std::time::Duration;
//!
//! use reattach_driver::core::wire::Payload;
//! use reattach_driver::testing::Simulation;
//! use reattach_driver::{ClientConfig, ServerConfig};
//!
//! Simulation::new(7).run(async |net| {
//!     let server = net.bind("server.test:80", ServerConfig::new()).await.unwrap();
//!     let client = net.connect("ws://server.test/", ClientConfig::new()).await.unwrap();
//!     let connection = server.accept().await.unwrap();
//!
//!     net.stall(); // the train is in a tunnel, and nobody has noticed yet
//!     let receipt = client.send(Payload::new("hello").unwrap()).await.unwrap();
//!     net.sleep(Duration::from_secs(55)).await;
//!     net.heal();
//!
//!     let message = connection.recv().await.unwrap();
//!     assert_eq!(message.payload().parse::<String>().unwrap(), "hello");
//!     assert!(receipt.await.is_delivered());
//!     assert!(net.elapsed() > Duration::from_secs(55)); // of virtual time
//! });
//! ```
//!
//! # What is simulated, and what is not
//!
//! Time passes only for what asks [`Net`] for it: [`Net::sleep`], [`Net::timeout`], and all that Reattach itself waits for. Code
//! under test that sleeps, spawns or does I/O by tokio or smol waits for somebody who is not there: hand it the [`Net`], or
//! [`Net::runtime`], instead. Futures that need no runtime, such as channels and locks of `futures` or of `tokio::sync`, work as
//! they are. Other threads are not waited for.
//!
//! What would be a secret elsewhere is drawn from the seed here. Only [`connection_key`](crate::connection_key), where a test
//! calls it, asks the system, and so does the WebSocket library for its masks: neither changes when what happens.
//!
//! # When a test hangs
//!
//! It does not: [`Simulation::run`] panics with what waits where no timer is left, when the limit of virtual time is reached
//! (a connection's heartbeats go on for ever, so this is what mostly happens), and where tasks run in circles.

mod executor;
mod faults;
mod incident;
mod net;
mod network;
mod stream;
mod timers;
mod world;

use std::sync::Arc;
use std::time::Duration;

pub use self::incident::Direction;
pub use self::incident::Happening;
pub use self::incident::Incident;
pub use self::net::Net;
pub use self::net::Spawned;

use self::executor::Stuck;
use self::timers::Timers;
use self::world::World;

/// A world of its own, for one test.
pub struct Simulation {
    seed: u64,
    limit: Duration,
    world: Arc<World>,
}

impl Simulation {
    /// A world in which everything that is drawn, delays, jitter, keys, is drawn from a seed: the same test with the same seed
    /// does the same.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Long enough for whatever is kept for a day, and short enough that a test that waits in vain fails within seconds.
        const LIMIT: Duration = Duration::from_secs(2 * 24 * 60 * 60);
        Self { seed, limit: LIMIT, world: World::new(seed) }
    }

    /// How much virtual time may pass from the start of the simulation. Default two days.
    #[must_use]
    pub const fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs a test to its end and returns what it returns. What it has spawned stays where it is, and goes on in the next run.
    ///
    /// # Panics
    ///
    /// Where the test panics or a task of the simulation does, with its message; and where the test waits for what cannot
    /// happen. Then the seed and the network's last incidents stand on stderr.
    pub fn run<T>(&mut self, test: impl AsyncFnOnce(Net) -> T) -> T {
        let _failure = Failure(self);
        let test = std::pin::pin!(test(Net::new(Arc::clone(&self.world))));
        let ran = self.world.executor.run(&self.world.timers, Timers::START + self.limit, test);
        let why = match ran {
            Ok(value) => return value,
            Err(Stuck::Deadlock) => "a deadlock: everything waits and no timer is set".to_owned(),
            Err(Stuck::OutOfTime) => format!("nothing happens before the limit of {:?} of virtual time", self.limit),
            Err(Stuck::Busy) => "tasks wake each other and no time passes".to_owned(),
        };
        panic!("{why}, {:?} after the start; not done: {}", self.world.timers.elapsed(), self.world.executor.waiting());
    }

    /// What has happened on the network, as by [`Net::incidents`].
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        Net::new(Arc::clone(&self.world)).incidents()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        // The tasks hold the world that holds them.
        self.world.executor.end();
    }
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// Says how to see a failure again.
struct Failure<'a>(&'a Simulation);

impl Drop for Failure<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Simulation { seed, world, .. } = self.0;
            let (elapsed, last) = (world.timers.elapsed(), world.with_network(|network| network.incidents.last(10)));
            eprintln!(
                "the simulation of seed {seed} failed {elapsed:?} after its start; the network's last incidents:{last}"
            );
        }
    }
}
