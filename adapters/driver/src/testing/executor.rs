//! Tasks on one thread, polled in the order in which they were woken.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Wake;
use std::task::Waker;

use reattach_core::time::Instant;

use crate::runtime::Task;
use crate::testing::timers::Passed;
use crate::testing::timers::Timers;

/// The tasks and the queue of those that can run.
pub(super) struct Executor {
    woken: Arc<Woken>,
    tasks: Mutex<Tasks>,
}

struct Tasks {
    spawned: u64,
    alive: BTreeMap<u64, Alive>,
    /// Nothing runs any more: whatever is spawned is dropped.
    is_over: bool,
}

struct Alive {
    /// Gone while it is being polled.
    task: Option<Task<()>>,
    wakes: Arc<Wakes>,
    /// Where the application spawned it; the driver's own tasks have no place.
    at: Option<&'static Location<'static>>,
}

/// The numbers of the tasks that can run, each once.
#[derive(Default)]
struct Woken(Mutex<VecDeque<u64>>);

/// Wakes one task.
struct Wakes {
    number: u64,
    is_woken: AtomicBool,
    woken: Arc<Woken>,
}

/// Why a test cannot come to its end.
#[derive(Debug)]
pub(super) enum Stuck {
    /// Everything waits, and no timer is set.
    Deadlock,
    /// The next thing happens only beyond the limit of time.
    OutOfTime,
    /// Tasks run on and on, and no time passes.
    Busy,
}

/// The test's own number.
const TEST: u64 = 0;
/// The most polls without time passing: a task that wakes itself for ever is to be told from a large test.
const MAX_POLLS: u64 = 1_000_000;

impl Executor {
    pub(super) fn new() -> Self {
        let tasks = Tasks { spawned: TEST, alive: BTreeMap::new(), is_over: false };
        Self { woken: Arc::default(), tasks: Mutex::new(tasks) }
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn spawn(&self, task: Task<()>, at: Option<&'static Location<'static>>) {
        let mut tasks = self.lock();
        if tasks.is_over {
            // Its end may spawn another one.
            drop(tasks);
            return drop(task);
        }
        tasks.spawned += 1;
        let wakes = Wakes::new(tasks.spawned, &self.woken);
        wakes.wake_by_ref();
        let number = tasks.spawned;
        tasks.alive.insert(number, Alive { task: Some(task), wakes, at });
    }

    /// Runs a test to its end, and everything that was spawned beside it.
    pub(super) fn run<T>(
        &self,
        timers: &Timers,
        limit: Instant,
        mut test: Pin<&mut dyn Future<Output = T>>,
    ) -> Result<T, Stuck> {
        let wakes = Wakes::new(TEST, &self.woken);
        wakes.wake_by_ref();
        let waker = Waker::from(Arc::clone(&wakes));
        loop {
            let mut polls = 0;
            while let Some(number) = self.woken.next() {
                if number == TEST {
                    wakes.is_woken.store(false, Ordering::SeqCst);
                    if let Poll::Ready(value) = test.as_mut().poll(&mut Context::from_waker(&waker)) {
                        return Ok(value);
                    }
                } else {
                    self.poll(number);
                }
                polls += 1;
                if polls > MAX_POLLS {
                    return Err(Stuck::Busy);
                }
            }
            match timers.pass(limit) {
                Passed::ToTimer => {}
                Passed::BeyondLimit => return Err(Stuck::OutOfTime),
                Passed::NoTimer => return Err(Stuck::Deadlock),
            }
        }
    }

    fn poll(&self, number: u64) {
        let mut tasks = self.lock();
        // A task may be woken once more after its end.
        let Some(spawned) = tasks.alive.get_mut(&number) else { return };
        // One that has panicked is never polled again, though somebody went on after that.
        let Some(mut task) = spawned.task.take() else { return };
        spawned.wakes.is_woken.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&spawned.wakes));
        drop(tasks);
        let is_over = Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_ready();
        let mut tasks = self.lock();
        if is_over {
            tasks.alive.remove(&number);
            drop(tasks);
            drop(task);
        } else if let Some(spawned) = tasks.alive.get_mut(&number) {
            spawned.task = Some(task);
        }
    }

    /// Drops every task, and what is spawned from here on.
    pub(super) fn end(&self) {
        let mut tasks = self.lock();
        tasks.is_over = true;
        let alive = std::mem::take(&mut tasks.alive);
        drop(tasks);
        drop(alive);
    }

    /// Who waits, for people.
    pub(super) fn waiting(&self) -> String {
        let tasks = self.lock();
        let mut text = String::from("the test");
        for at in tasks.alive.values().filter_map(|spawned| spawned.at) {
            write!(text, ", the task spawned at {at}").expect("a string takes everything");
        }
        let own = tasks.alive.values().filter(|spawned| spawned.at.is_none()).count();
        if own > 0 {
            write!(text, ", {own} tasks of Reattach's own").expect("a string takes everything");
        }
        text
    }
}

impl Woken {
    fn lock(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<u64> {
        self.lock().pop_front()
    }
}

impl Wakes {
    fn new(number: u64, woken: &Arc<Woken>) -> Arc<Self> {
        Arc::new(Self { number, is_woken: AtomicBool::new(false), woken: Arc::clone(woken) })
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            self.woken.lock().push_back(self.number);
        }
    }
}
