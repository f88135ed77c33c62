//! What the sender of a message holds: the place where its one outcome is put.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use reattach_core::id::MessageId;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;

/// A message that was sent. Await it for its one outcome; dropping it changes nothing.
#[derive(Debug)]
pub struct Receipt {
    id: MessageId,
    place: Arc<Place>,
}

impl Receipt {
    /// A receipt, and what keeps its promise.
    pub(crate) fn new(id: MessageId) -> (Self, Promise) {
        let place = Arc::<Place>::default();
        (Self { id, place: Arc::clone(&place) }, Promise(Some(place)))
    }

    /// The message's name.
    #[must_use]
    pub const fn id(&self) -> MessageId {
        self.id
    }
}

impl Future for Receipt {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match &mut *self.place.lock() {
            Told::Outcome(outcome) => return Poll::Ready(outcome.clone()),
            Told::NotYet(Some(waker)) => waker.clone_from(cx.waker()),
            Told::NotYet(waker @ None) => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// Whoever holds it owes an outcome. Dropped, it tells that nobody can tell: so ends a whole runtime that goes down around the
/// machine.
#[derive(Debug)]
pub(crate) struct Promise(Option<Arc<Place>>);

impl Promise {
    /// Keeps it. Returns whom to wake.
    pub(crate) fn keep(mut self, outcome: &Outcome) -> Option<Waker> {
        self.0.take()?.tell(outcome)
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            if let Some(waker) = place.tell(&Outcome::Unknown { reason: Unknown::Closed }) {
                waker.wake();
            }
        }
    }
}

/// Where the outcome is put.
#[derive(Debug, Default)]
struct Place(Mutex<Told>);

#[derive(Debug)]
enum Told {
    NotYet(Option<Waker>),
    Outcome(Outcome),
}

impl Default for Told {
    fn default() -> Self {
        Self::NotYet(None)
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(self: Arc<Self>, outcome: &Outcome) -> Option<Waker> {
        // The receipt was dropped, and there is no other.
        if Arc::strong_count(&self) == 1 {
            return None;
        }
        let before = std::mem::replace(&mut *self.lock(), Told::Outcome(outcome.clone()));
        if let Told::NotYet(waker) = before { waker } else { None }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn id() -> MessageId {
        reattach_core::id::MessageIds::new(&[7; 16]).mint()
    }

    #[test]
    fn a_receipt_waits_for_its_outcome_and_keeps_it() {
        let (mut receipt, promise) = Receipt::new(id());
        assert_eq!((&mut receipt).now_or_never(), None);
        assert!(promise.keep(&Outcome::Delivered).is_some());
        assert_eq!((&mut receipt).now_or_never(), Some(Outcome::Delivered));
        assert_eq!((&mut receipt).now_or_never(), Some(Outcome::Delivered), "asked again, it says the same");
    }

    #[test]
    fn who_waits_is_woken_once_by_its_newest_waker() {
        let (mut receipt, promise) = Receipt::new(id());
        let (old, new) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
        for counting in [&old, &new] {
            let waker = Waker::from(Arc::clone(counting));
            assert!(receipt.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        }
        promise.keep(&Outcome::Delivered).expect("somebody waits").wake();
        assert_eq!((old.count(), new.count()), (0, 1));
    }

    #[test]
    fn a_promise_that_nobody_can_keep_any_more_is_told_as_unknown() {
        let (receipt, promise) = Receipt::new(id());
        drop(promise);
        assert_eq!(receipt.now_or_never(), Some(Outcome::Unknown { reason: Unknown::Closed }));
    }

    #[derive(Default)]
    struct Counting(std::sync::atomic::AtomicUsize);

    impl Counting {
        fn count(&self) -> usize {
            self.0.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    impl std::task::Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
