//! What each side of a connection does, and what is seen of it.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures_util::FutureExt as _;
use reattach::Client;
use reattach::Connection;
use reattach::Receipt;
use reattach::Received;
use reattach::core::client::Event;
use reattach::core::error::ApiMisuse;
use reattach::core::outcome::Outcome;
use reattach::core::rng::Rng;
use reattach::core::wire::Payload;
use tokio::task::JoinHandle;

/// Between two messages of one side.
const PACE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(180));

/// What was seen, of all connections.
#[derive(Default)]
pub(crate) struct Tally {
    sent: AtomicU64,
    taken: AtomicU64,
    delivered: AtomicU64,
    resumed: AtomicU64,
    violations: Mutex<Vec<String>>,
}

impl Tally {
    /// What is said is a violation unless the condition holds.
    pub(crate) fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let what = what();
            eprintln!("violation: {what}");
            self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        let all = self.sent.load(Ordering::Relaxed);
        let has_all = [&self.taken, &self.delivered].iter().all(|count| count.load(Ordering::Relaxed) == all);
        self.check(has_all, || format!("not all is equal: {}", self.short()));
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(crate) fn short(&self) -> String {
        let [sent, taken, delivered, resumed] =
            [&self.sent, &self.taken, &self.delivered, &self.resumed].map(|count| count.load(Ordering::Relaxed));
        let violations = self.violations.lock().unwrap_or_else(PoisonError::into_inner).len();
        format!("{sent} sent, {taken} taken, {delivered} told delivered, {resumed} resumes, {violations} violations")
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// One side of a connection.
pub(crate) trait Side: Clone + Send + Sync + 'static {
    fn send(&self, payload: Payload) -> impl Future<Output = Result<Receipt, ApiMisuse>> + Send;
    fn recv(&self) -> impl Future<Output = Option<Received>> + Send;
    /// Counts how often the epoch goes on, until the connection ends. Where another one begins it says so.
    fn watch(&self, tally: Arc<Tally>);
}

/// What both sides' handles have under the same name.
macro_rules! forward {
    () => {
        async fn send(&self, payload: Payload) -> Result<Receipt, ApiMisuse> {
            Self::send(self, payload).await
        }

        async fn recv(&self) -> Option<Received> {
            Self::recv(self).await
        }
    };
}

impl Side for Client {
    forward!();

    fn watch(&self, tally: Arc<Tally>) {
        let mut events = self.events();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                tally.check(!matches!(event, Event::Failed { .. } | Event::Superseded), || format!("{event:?}"));
                if let Event::Attached { resumed } = event {
                    tally.check(resumed, || "a client's epoch does not go on".to_owned());
                    tally.resumed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
}

impl Side for Connection {
    forward!();

    /// A server's side begins again where its first welcome was lost, with nothing written: the client's word is what counts.
    fn watch(&self, _: Arc<Tally>) {}
}

/// Has a side talk until then. The task that is returned ends when all that it has sent has its outcome.
pub(crate) fn begin<S: Side>(side: S, tally: &Arc<Tally>, number: u64, until: Instant) -> JoinHandle<()> {
    side.watch(Arc::clone(tally));
    tokio::spawn(listen(side.clone(), Arc::clone(tally), number));
    tokio::spawn(speak(side, Arc::clone(tally), number, until))
}

async fn listen<S: Side>(side: S, tally: Arc<Tally>, number: u64) {
    let mut expected = 0;
    while let Some(received) = side.recv().await {
        let (came, _) = received.payload().parse::<(u64, String)>().unwrap_or((u64::MAX, String::new()));
        tally.check(came == expected, || format!("{number} takes {came} where {expected} is next"));
        tally.taken.fetch_add(1, Ordering::Relaxed);
        expected = came.wrapping_add(1);
    }
}

async fn speak<S: Side>(side: S, tally: Arc<Tally>, number: u64, until: Instant) {
    let mut rng = Rng::new(number);
    let mut receipts = VecDeque::new();
    let told = |outcome: Outcome| {
        tally.check(outcome == Outcome::Delivered, || format!("{number} is told: {outcome}"));
        tally.delivered.fetch_add(u64::from(outcome == Outcome::Delivered), Ordering::Relaxed);
    };
    for value in 0_u64.. {
        if Instant::now() >= until {
            break;
        }
        let words = "x".repeat(usize::try_from(rng.below(300)).expect("it is below 300"));
        let payload = Payload::new(&(value, words)).expect("a number and a text are JSON");
        match side.send(payload).await {
            Ok(receipt) => receipts.push_back(receipt),
            Err(error) => return tally.check(false, || format!("{number} cannot send: {error}")),
        }
        tally.sent.fetch_add(1, Ordering::Relaxed);
        while let Some(outcome) = receipts.front_mut().and_then(|receipt: &mut Receipt| receipt.now_or_never()) {
            told(outcome);
            receipts.pop_front();
        }
        tokio::time::sleep(rng.between(PACE.0, PACE.1)).await;
    }
    for receipt in receipts {
        told(receipt.await);
    }
}
