//! Something that a task waits on and others use meanwhile.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

/// A place for it. Cheap to clone.
pub(super) struct Slot<T>(Arc<Mutex<Held<T>>>);

struct Held<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Slot<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(Held { value: Some(value), waker: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Held<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as `poll` does; `None` once it was taken away.
    pub(super) async fn wait<R>(&self, mut poll: impl FnMut(&mut T, &mut Context<'_>) -> Poll<R>) -> Option<R> {
        poll_fn(|cx| {
            let mut held = self.lock();
            let Some(value) = &mut held.value else { return Poll::Ready(None) };
            let polled = poll(value, cx).map(Some);
            held.waker = Some(cx.waker().clone());
            polled
        })
        .await
    }

    /// Does something with it, and has the task look again.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut held = self.lock();
        let result = held.value.as_mut().map(act);
        let waker = held.waker.take();
        drop(held);
        waker.into_iter().for_each(Waker::wake);
        result
    }

    /// Takes it away.
    pub(super) fn take(&self) -> Option<T> {
        let mut held = self.lock();
        let (value, waker) = (held.value.take(), held.waker.take());
        drop(held);
        waker.into_iter().for_each(Waker::wake);
        value
    }
}
