//! A request of the other side, as the application serves it.

use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use event_listener::Event;
use reattach_core::rpc::ErrorObject;
use reattach_core::rpc::IncomingId;
use reattach_core::rpc::RpcMisuse;
use reattach_core::wire::Payload;
use reattach_core::wire::PayloadError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::requests::Responding;

/// What the other side wants: an answer to a request, or nothing where it only notifies.
#[derive(Debug)]
#[non_exhaustive]
pub enum IncomingCall {
    /// A request, which wants an answer.
    Request(Request),
    /// A notification, which nobody answers.
    Notification(Notification),
}

/// A notification of the other side.
#[derive(Debug)]
pub struct Notification {
    pub(crate) method: Arc<str>,
    pub(crate) params: Option<Payload>,
}

impl Notification {
    /// What it is about.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Its parameters: an array or an object.
    #[must_use]
    pub const fn payload(&self) -> Option<&Payload> {
        self.params.as_ref()
    }

    /// Reads its parameters as a type; where there are none, as from `null`.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] where they are not of that type.
    pub fn params<P: DeserializeOwned>(&self) -> Result<P, PayloadError> {
        match &self.params {
            Some(params) => params.parse(),
            None => Payload::from_json("null").expect("null is JSON").parse(),
        }
    }
}

/// A request of the other side. It is answered once; dropped without an answer, by a panic too, it is answered as an internal error,
/// so that nobody waits for nothing. What it is about reads as in a [`Notification`]; parameters that are not as they should be are
/// answered as [`ErrorObject::INVALID_PARAMS`].
pub struct Request {
    asked: IncomingId,
    what: Notification,
    abandonment: Arc<Abandonment>,
    responding: Arc<dyn Responding>,
    is_answered: bool,
}

impl Deref for Request {
    type Target = Notification;

    fn deref(&self) -> &Notification {
        &self.what
    }
}

impl Request {
    pub(crate) fn new(
        asked: IncomingId,
        what: Notification,
        abandonment: Arc<Abandonment>,
        responding: Arc<dyn Responding>,
    ) -> Self {
        Self { asked, what, abandonment, responding, is_answered: false }
    }

    /// Answers with a result, or with an error. A result that cannot be written as JSON is answered as an internal error.
    ///
    /// # Errors
    ///
    /// [`RpcMisuse::NotWaiting`] where nobody waits for the answer any more.
    pub fn respond<R: Serialize>(self, result: Result<R, ErrorObject>) -> Result<(), RpcMisuse> {
        self.respond_with(result.and_then(|result| {
            Payload::new(&result).map_err(|error| ErrorObject::new(ErrorObject::INTERNAL_ERROR, error.to_string()))
        }))
    }

    /// The same with a result that is JSON already.
    ///
    /// # Errors
    ///
    /// As [`Request::respond`].
    pub fn respond_with(mut self, result: Result<Payload, ErrorObject>) -> Result<(), RpcMisuse> {
        self.is_answered = true;
        self.responding.respond(self.asked, result)
    }

    /// Tells how far it has come. That may be lost where much is said, and puts an idle limit of its sender off.
    ///
    /// # Errors
    ///
    /// [`RpcMisuse::NotWaiting`], [`RpcMisuse::TooDeep`].
    pub fn progress(&self, value: &Payload) -> Result<(), RpcMisuse> {
        self.responding.progress(self.asked, value)
    }

    /// Waits until nobody waits for the answer any more: it was withdrawn, or the connection lost its state or ended. Work can be
    /// dropped then. Cancel-safe.
    pub fn abandoned(&self) -> impl Future<Output = ()> + Send + use<> {
        let abandonment = Arc::clone(&self.abandonment);
        async move { abandonment.wait().await }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.is_answered {
            let error = ErrorObject::new(ErrorObject::INTERNAL_ERROR, "whoever served the request gave it up");
            // Where nobody waits there is nothing to say.
            _ = self.responding.respond(self.asked, Err(error));
        }
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("method", &self.method).field("params", &self.params).finish_non_exhaustive()
    }
}

/// Tells whoever serves a request that nobody waits any more.
#[derive(Debug, Default)]
pub(crate) struct Abandonment {
    is_abandoned: AtomicBool,
    told: Event,
}

impl Abandonment {
    pub(crate) fn tell(&self) {
        self.is_abandoned.store(true, Ordering::Release);
        self.told.notify(usize::MAX);
    }

    async fn wait(&self) {
        while !self.is_abandoned.load(Ordering::Acquire) {
            let told = self.told.listen();
            if !self.is_abandoned.load(Ordering::Acquire) {
                told.await;
            }
        }
    }
}
