//! What both performers share: the pace of the messages, the hand that breaks connections, and the stopwatch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::watch;

use crate::demo::ledger::Ledger;
use crate::demo::ledger::Numbered;
use crate::demo::plan::Fault;
use crate::demo::plan::Planned;
use crate::proxy::FaultProxy;

/// How long a chunk takes through the proxy, one way.
pub(crate) const DELAY: Duration = Duration::from_millis(4);

/// A performance: one client, one server, the proxy between them, and what is counted.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) up: Arc<Ledger>,
    pub(crate) down: Arc<Ledger>,
    pub(crate) proxy: FaultProxy,
    established: watch::Receiver<u64>,
    messages: u64,
    cuts: u32,
    done: AtomicU32,
    is_performed: AtomicBool,
    stopwatch: Mutex<Stopwatch>,
}

#[derive(Debug, Default)]
struct Stopwatch {
    /// The cut that nothing has got past yet: when it was, after how many connections, and which ways are open again.
    running: Option<(Instant, u64, [bool; 2])>,
    recoveries: Vec<Duration>,
    faults: BTreeMap<String, u32>,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

impl Stage {
    pub(crate) fn new(proxy: FaultProxy, messages: u64, cuts: u32) -> Arc<Self> {
        Arc::new(Self {
            up: Arc::default(),
            down: Arc::default(),
            established: proxy.established(),
            proxy,
            messages,
            cuts,
            done: AtomicU32::new(0),
            is_performed: AtomicBool::new(false),
            stopwatch: Mutex::default(),
        })
    }

    fn watch(&self) -> MutexGuard<'_, Stopwatch> {
        self.stopwatch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ledger(&self, way: Way) -> &Arc<Ledger> {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    /// How many cuts were made.
    pub(crate) fn cuts_done(&self) -> u32 {
        self.done.load(Ordering::Relaxed)
    }

    /// How many messages went either way, of all.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.up.distinct() + self.down.distinct(), 2 * self.messages)
    }

    /// A message arrived.
    pub(crate) fn on_arrived(&self, way: Way, message: &Numbered) {
        self.ledger(way).on_message(message);
        let mut watch = self.watch();
        let established = *self.established.borrow();
        if let Some((since, before, open)) = &mut watch.running {
            // What still comes over the broken connection is not a recovery.
            if established > *before {
                open[way as usize] = true;
                if *open == [true, true] {
                    let recovery = since.elapsed();
                    watch.recoveries.push(recovery);
                    watch.running = None;
                }
            }
        }
    }

    /// Waits until the next message may be sent. Nothing once all were and nothing more will be broken. The messages are spread
    /// over the cuts that are to come, so that every cut hits some.
    pub(crate) async fn next(&self, way: Way) -> Option<u64> {
        const TICK: u64 = 4;
        let n = self.ledger(way).sent();
        if n >= self.messages && self.is_performed.load(Ordering::Relaxed) {
            return None;
        }
        let cuts_left = u64::from(self.cuts.saturating_sub(self.cuts_done()));
        let millis_left = cuts_left * 230 + 40;
        let burst = (self.messages.saturating_sub(n) * TICK / millis_left).max(1);
        if n % burst == 0 {
            tokio::time::sleep(Duration::from_millis(TICK)).await;
        }
        self.ledger(way).on_sent();
        Some(n)
    }

    /// Breaks each connection in its time, as planned. `close` closes the live one at the server.
    pub(crate) async fn perform(&self, plan: &[Planned], close: impl Fn(Fault)) {
        let mut established = self.established.clone();
        if established.wait_for(|count| *count > 0).await.is_err() {
            return;
        }
        for planned in plan {
            tokio::time::sleep(planned.lifetime).await;
            {
                let mut watch = self.watch();
                *watch.faults.entry(planned.fault.name()).or_default() += 1;
                watch.running = Some((Instant::now(), *established.borrow(), [false; 2]));
            }
            match planned.fault {
                Fault::Network(cut) => self.proxy.cut(cut),
                Fault::Server(_) => close(planned.fault),
            }
            self.done.fetch_add(1, Ordering::Relaxed);
            while self.watch().running.is_some() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        self.is_performed.store(true, Ordering::Relaxed);
    }

    /// How long recoveries took, shortest first, and how many cuts of each kind there were.
    pub(crate) fn recoveries(&self) -> (Vec<Duration>, BTreeMap<String, u32>) {
        let watch = self.watch();
        let mut recoveries = watch.recoveries.clone();
        recoveries.sort_unstable();
        (recoveries, watch.faults.clone())
    }
}
