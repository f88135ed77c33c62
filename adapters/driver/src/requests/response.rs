//! What who sent a request waits for.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use reattach_core::rpc::RequestError;
use reattach_core::rpc::RequestId;
use reattach_core::wire::Payload;

use crate::requests::Responding;

/// A request that was begun: await it for its one end. Dropped before that, the request is withdrawn.
pub struct Response {
    id: RequestId,
    place: Arc<Place>,
    asks: Arc<dyn Responding>,
}

impl Response {
    /// How many steps of progress wait to be read; of more the newest stay.
    pub const PROGRESS: usize = 64;
    /// How many bytes of them, but for the newest.
    pub const PROGRESS_BYTES: usize = 64 * 1024;

    pub(crate) const fn new(id: RequestId, place: Arc<Place>, asks: Arc<dyn Responding>) -> Self {
        Self { id, place, asks }
    }

    /// The request's name.
    #[must_use]
    pub const fn id(&self) -> RequestId {
        self.id
    }

    /// How far the other side has come, when it says so next; `None` once the request has ended, and then its end is there.
    /// Cancel-safe.
    pub async fn progress(&mut self) -> Option<Payload> {
        std::future::poll_fn(|cx| {
            let mut state = self.place.lock();
            if let Some(value) = state.progress.pop_front() {
                return Poll::Ready(Some(value));
            }
            if state.end.is_some() {
                return Poll::Ready(None);
            }
            state.wait(cx)
        })
        .await
    }
}

impl Future for Response {
    type Output = Result<Payload, RequestError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.place.lock();
        match &state.end {
            Some(end) => Poll::Ready(end.clone()),
            None => state.wait(cx),
        }
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        let is_waiting = self.place.lock().end.is_none();
        if is_waiting {
            self.asks.cancel(self.id);
        }
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Where the end of a request is put, and its progress until then.
#[derive(Debug, Default)]
pub(crate) struct Place(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    progress: VecDeque<Payload>,
    end: Option<Result<Payload, RequestError>>,
    waker: Option<Waker>,
}

impl State {
    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            waker @ None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it. Returns whom to wake.
    fn change(&self, change: impl FnOnce(&mut State)) -> Option<Waker> {
        let mut state = self.lock();
        change(&mut state);
        state.waker.take()
    }

    pub(crate) fn finish(&self, end: Result<Payload, RequestError>) -> Option<Waker> {
        self.change(|state| state.end = Some(end))
    }

    pub(crate) fn progress(&self, value: Payload) -> Option<Waker> {
        self.change(|state| {
            let mut bytes = value.len() + state.progress.iter().map(Payload::len).sum::<usize>();
            while state.progress.len() == Response::PROGRESS || bytes > Response::PROGRESS_BYTES {
                let Some(oldest) = state.progress.pop_front() else { break };
                bytes -= oldest.len();
            }
            state.progress.push_back(value);
        })
    }
}
