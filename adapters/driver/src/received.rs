//! A message that an application has taken, and may have to decide about.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use reattach_core::error::ApiMisuse;
use reattach_core::id::Code;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Handle;

/// Where decisions go.
pub(crate) trait Deciding: Send + Sync {
    fn decide(&self, handle: Handle, decision: Decision) -> Result<(), ApiMisuse>;
    fn extend(&self, handle: Handle, lease: Duration) -> Result<(), ApiMisuse>;
}

/// A message that the application has taken.
///
/// With automatic acceptance, which is the default, taking it has accepted it, and this is nothing but the message. With manual
/// acceptance the application decides, within the lease: [`accept`](Self::accept), [`reject`](Self::reject) or
/// [`defer`](Self::defer). Dropped undecided, by a panic too, the message ends as abandoned at once: its sender is told that
/// nobody can tell what became of it, and it is not handed over again.
pub struct Received {
    delivery: Delivery,
    undecided: Undecided,
}

/// What is to be decided about, until it was. Dropped before, it is abandoned.
struct Undecided(Option<(Handle, Arc<dyn Deciding>)>);

impl Drop for Undecided {
    fn drop(&mut self) {
        if let Some((handle, deciding)) = self.0.take() {
            // Its lease may be over, or its epoch: then there is nothing left to abandon.
            _ = deciding.decide(handle, Decision::Abandon);
        }
    }
}

impl Received {
    pub(crate) fn new(delivery: Delivery, deciding: impl FnOnce() -> Arc<dyn Deciding>) -> Self {
        let undecided = Undecided(delivery.handle().map(|handle| (handle, deciding())));
        Self { delivery, undecided }
    }

    /// The message has taken effect: its sender is told that it was delivered. Where nothing is to be decided this does nothing.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::Undecidable`] where the lease is over or the epoch has ended; nothing has changed then, and the sender was
    /// told, or will be, that nobody can tell.
    pub fn accept(self) -> Result<(), ApiMisuse> {
        self.decide(Decision::Accept)
    }

    /// The message had no effect and shall not come again: its sender is told why.
    ///
    /// # Errors
    ///
    /// As [`Received::accept`].
    pub fn reject(self, code: Code, reason: impl Into<String>) -> Result<(), ApiMisuse> {
        self.decide(Decision::Reject { code, reason: reason.into() })
    }

    /// The message had no effect yet, and shall be handed over again after a while; `None` leaves that to the configuration. Its
    /// sender is told. As often as the message allows; then it counts as rejected. Where the connection has ended nobody is told,
    /// and it does not come again.
    ///
    /// # Errors
    ///
    /// As [`Received::accept`].
    pub fn defer(self, retry_after: impl Into<Option<Duration>>, code: Code) -> Result<(), ApiMisuse> {
        self.decide(Decision::Defer { retry_after: retry_after.into(), code })
    }

    /// The decision takes longer: the lease starts over, with this length.
    ///
    /// # Errors
    ///
    /// As [`Received::accept`].
    pub fn extend(&self, lease: Duration) -> Result<(), ApiMisuse> {
        match &self.undecided.0 {
            Some((handle, deciding)) => deciding.extend(*handle, lease),
            None => Ok(()),
        }
    }

    /// The message itself. One that is undecided is abandoned.
    #[must_use]
    pub fn into_delivery(self) -> Delivery {
        self.delivery
    }

    fn decide(mut self, decision: Decision) -> Result<(), ApiMisuse> {
        match self.undecided.0.take() {
            Some((handle, deciding)) => deciding.decide(handle, decision),
            None => Ok(()),
        }
    }
}

impl Deref for Received {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        &self.delivery
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_undecided = self.undecided.0.is_some();
        f.debug_struct("Received").field("delivery", &self.delivery).field("undecided", &is_undecided).finish()
    }
}
