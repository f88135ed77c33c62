//! A computer that sleeps: the driver's clock counts that time, and the runtime's timers do not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reattach::Client;
use reattach::ClientConfig;
use reattach::ConnectionState;
use reattach::Connector;
use reattach::clock;
use reattach::core::client::Event;
use reattach::core::reconnect::Ended;
use reattach::core::time::Instant;
use reattach::runtime::Io;
use reattach::runtime::Listener;
use reattach::runtime::Runtime;
use reattach::runtime::Task;
use reattach::runtime::Timer;

use super::loopback::client_core;
use super::loopback::until;

/// The runtime, on a computer that has slept for so many seconds.
struct Slept {
    runtime: Arc<dyn Runtime>,
    seconds: AtomicU64,
}

impl Runtime for Slept {
    fn spawn(&self, task: Task<()>) {
        self.runtime.spawn(task);
    }

    fn timer(&self) -> Box<dyn Timer> {
        self.runtime.timer()
    }

    fn now(&self) -> Instant {
        clock::now() + Duration::from_secs(self.seconds.load(Ordering::SeqCst))
    }

    fn dial(&self, host: String, port: u16) -> Task<io::Result<Box<dyn Io>>> {
        self.runtime.dial(host, port)
    }

    fn listen(&self, address: String) -> Task<io::Result<Box<dyn Listener>>> {
        self.runtime.listen(address)
    }
}

#[tokio::test]
async fn a_deadline_that_begins_after_a_sleep_is_not_held_up_by_one_that_was_slept_through() {
    let runtime = Arc::new(Slept { runtime: crate::runtime(), seconds: AtomicU64::new(0) });
    let mut core = client_core();
    core.reconnect.backoff.base = Duration::from_secs(3_600);
    core.reconnect.backoff.cap = Duration::from_secs(3_600);
    core.connect_timeout = Duration::from_millis(100);
    let has_failed = AtomicBool::new(false);
    let connector = Connector::new(move |_| {
        let is_first = !has_failed.swap(true, Ordering::SeqCst);
        async move {
            if !is_first {
                std::future::pending::<()>().await;
            }
            Err::<smol::Async<std::net::TcpStream>, _>(io::Error::other("no network"))
        }
    });
    let config = ClientConfig::new().with_core(core).with_connector(connector);
    let client = Client::start(Arc::<Slept>::clone(&runtime), "ws://server.invalid/", config).unwrap();
    // The next try is due within the hour; the timer was set for the connect timeout, and is set for that once it has gone off.
    // The try may have failed before anybody could listen.
    until(|| matches!(client.state(), ConnectionState::Detached { .. })).await;
    let mut events = client.events();
    tokio::time::sleep(Duration::from_millis(300)).await;
    runtime.seconds.store(2 * 3_600, Ordering::SeqCst);
    client.reconnect().unwrap();
    let failed =
        tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("the connect timeout ends it");
    assert_eq!(failed, Some(Event::TryFailed { ended: Ended::ConnectTimeout }));
}
