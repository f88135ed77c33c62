//! A question to people, as whoever asks it waits for the verdict.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use futures_channel::oneshot;
use reattach_core::messages::PermissionId;
use reattach_core::permission::DenyReason;
use reattach_core::permission::Verdict;

use crate::hub::HubShared;

/// Where a verdict is put. Dropped without one, the question is denied.
pub(super) struct Promise(oneshot::Sender<Verdict>);

impl Promise {
    pub(super) fn keep(self, verdict: Verdict) {
        // Nobody may wait any more.
        _ = self.0.send(verdict);
    }
}

/// A question that was asked. It is a future of the verdict, which always comes: nobody who answers within the time is a denial, and
/// so is the end of the session, or of the hub. Dropped before that, the question is taken back.
#[must_use = "a question that nobody waits for is taken back"]
pub struct Question {
    id: PermissionId,
    verdict: oneshot::Receiver<Verdict>,
    hub: Arc<HubShared>,
    is_decided: bool,
}

impl Question {
    pub(super) fn new(id: PermissionId, hub: Arc<HubShared>) -> (Self, Promise) {
        let (sender, verdict) = oneshot::channel();
        (Self { id, verdict, hub, is_decided: false }, Promise(sender))
    }

    /// It was never asked.
    pub(super) fn forget(mut self) {
        self.is_decided = true;
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> &PermissionId {
        &self.id
    }
}

impl Future for Question {
    type Output = Verdict;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Verdict> {
        let verdict = std::task::ready!(Pin::new(&mut self.verdict).poll(cx));
        self.is_decided = true;
        Poll::Ready(verdict.unwrap_or(Verdict::Deny(DenyReason::Cancelled)))
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.is_decided {
            let promise = self.hub.change(|state, now| {
                let promise = state.verdicts.remove(&self.id);
                // It may have been decided meanwhile.
                _ = state.hub.cancel(&self.id, now);
                promise
            });
            // Who is woken by this may come back to the hub.
            drop(promise);
        }
    }
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("id", &self.id).finish_non_exhaustive()
    }
}
