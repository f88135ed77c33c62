//! A runtime whose tasks are counted. The example that soaks the adapters counts by it too.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use reattach::runtime::Io;
use reattach::runtime::Listener;
use reattach::runtime::Runtime;
use reattach::runtime::Task;
use reattach::runtime::Timer;

/// The runtime, with its tasks counted.
pub(crate) struct Counting {
    runtime: Arc<dyn Runtime>,
    alive: Arc<AtomicUsize>,
}

/// A task that is alive.
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Counting {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime, alive: Arc::default() }
    }

    /// How many tasks are alive.
    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }
}

impl Runtime for Counting {
    fn spawn(&self, task: Task<()>) {
        self.alive.fetch_add(1, Ordering::SeqCst);
        let alive = Alive(Arc::clone(&self.alive));
        self.runtime.spawn(Task::new(async move {
            let _alive = alive;
            task.await;
        }));
    }

    fn timer(&self) -> Box<dyn Timer> {
        self.runtime.timer()
    }

    fn dial(&self, host: String, port: u16) -> Task<io::Result<Box<dyn Io>>> {
        self.runtime.dial(host, port)
    }

    fn listen(&self, address: String) -> Task<io::Result<Box<dyn Listener>>> {
        self.runtime.listen(address)
    }
}
