//! Who serves which method.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures_channel::oneshot;
use futures_util::future::Either;
use futures_util::future::select;
use reattach_core::rpc::ErrorObject;
use reattach_core::wire::Payload;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::requests::IncomingCall;
use crate::requests::Requests;
use crate::requests::served::Notification;
use crate::requests::served::Request;
use crate::runtime::Runtime;
use crate::runtime::Task;
use crate::targets;

/// Serves one method: it reads the parameters and begins.
trait Serve: Send + Sync {
    fn begin(&self, request: &Request) -> Result<Serving, ErrorObject>;
}

impl<F: Fn(&Request) -> Result<Serving, ErrorObject> + Send + Sync> Serve for F {
    fn begin(&self, request: &Request) -> Result<Serving, ErrorObject> {
        self(request)
    }
}

/// A request that is being served.
struct Serving(Task<Result<Payload, ErrorObject>>);

/// Takes one notification, unless its parameters make no sense.
trait Take: Send + Sync {
    fn begin(&self, notification: &Notification) -> Option<Task<()>>;
}

impl<F: Fn(&Notification) -> Option<Task<()>> + Send + Sync> Take for F {
    fn begin(&self, notification: &Notification) -> Option<Task<()>> {
        self(notification)
    }
}

/// Serves the requests of connections, each method by its own function. One router can serve any number of connections.
///
/// ```
/// use reattach_driver::Router;
/// use reattach_driver::core::rpc::ErrorObject;
///
/// let router = Router::new()
///     .on_request("divide", |(a, b): (i64, i64)| async move {
///         a.checked_div(b).ok_or_else(|| ErrorObject::new(1, "that cannot be divided"))
///     })
///     .on_notification("log", |(line,): (String,)| async move { println!("{line}") });
/// # drop(router);
/// ```
#[derive(Clone, Default)]
pub struct Router {
    requests: BTreeMap<String, Arc<dyn Serve>>,
    notifications: BTreeMap<String, Arc<dyn Take>>,
}

impl Router {
    /// One that knows no method.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Has a method served by a function of its parameters, which are an array or an object: a tuple or a struct; where there are
    /// none they are read as from `null`. Requests are served at once, each in a task of its own, which is dropped where nobody
    /// waits for the answer any more.
    #[must_use]
    pub fn on_request<P, R, F>(mut self, method: &str, serve: impl Fn(P) -> F + Send + Sync + 'static) -> Self
    where
        P: DeserializeOwned,
        R: Serialize,
        F: Future<Output = Result<R, ErrorObject>> + Send + 'static,
    {
        let serve = move |request: &Request| {
            let params =
                request.params().map_err(|error| ErrorObject::new(ErrorObject::INVALID_PARAMS, error.to_string()))?;
            let serving = serve(params);
            Ok(Serving(Task::new(async move {
                let internal = |error: reattach_core::wire::PayloadError| {
                    ErrorObject::new(ErrorObject::INTERNAL_ERROR, error.to_string())
                };
                Payload::new(&serving.await?).map_err(internal)
            })))
        };
        self.requests.insert(method.to_owned(), Arc::new(serve));
        self
    }

    /// Has a notification taken by a function of its parameters. Notifications are taken one after the other, in the order in which
    /// they were sent; requests behind one wait for it. Parameters of another type are dropped and logged.
    #[must_use]
    pub fn on_notification<P, F>(mut self, method: &str, take: impl Fn(P) -> F + Send + Sync + 'static) -> Self
    where
        P: DeserializeOwned,
        F: Future<Output = ()> + Send + 'static,
    {
        let take = move |notification: &Notification| match notification.params() {
            Ok(params) => Some(Task::new(take(params))),
            // The error may quote the parameters, which is nobody's business who reads logs.
            Err(_) => {
                tracing::warn!(target: targets::REQUEST, method = notification.method(), "a notification makes no sense");
                None
            }
        };
        self.notifications.insert(method.to_owned(), Arc::new(take));
        self
    }

    /// Serves what comes and `first` does not, until the connection ends. A method that is not known is answered so; a notification that is not known is
    /// dropped.
    pub(crate) async fn serve(
        &self,
        requests: Requests,
        runtime: Arc<dyn Runtime>,
        first: impl Fn(IncomingCall) -> Option<IncomingCall>,
    ) {
        while let Some(call) = requests.next().await {
            let Some(call) = first(call) else { continue };
            match call {
                IncomingCall::Request(request) => match self.requests.get(request.method()) {
                    Some(serve) => runtime.spawn(Task::new(answer(Arc::clone(serve), request))),
                    None => {
                        let unknown = format!("no method {}", request.method());
                        respond(request, Err(ErrorObject::new(ErrorObject::METHOD_NOT_FOUND, unknown)));
                    }
                },
                IncomingCall::Notification(notification) => match self.notifications.get(notification.method()) {
                    Some(take) => {
                        // In a task of its own, so that a panic ends that alone.
                        let (done, is_done) = oneshot::channel::<()>();
                        let take = Arc::clone(take);
                        runtime.spawn(Task::new(async move {
                            let _done = done;
                            if let Some(taking) = take.begin(&notification) {
                                taking.await;
                            }
                        }));
                        _ = is_done.await;
                    }
                    None => {
                        tracing::debug!(target: targets::REQUEST, method = notification.method(), "nobody takes this notification")
                    }
                },
            }
        }
    }
}

/// Serves one request, as long as somebody waits for its answer.
async fn answer(serve: Arc<dyn Serve>, request: Request) {
    match serve.begin(&request) {
        Ok(Serving(serving)) => {
            let abandoned = std::pin::pin!(request.abandoned());
            if let Either::Left((result, _)) = select(serving, abandoned).await {
                respond(request, result);
            }
        }
        Err(error) => respond(request, Err(error)),
    }
}

fn respond(request: Request, result: Result<Payload, ErrorObject>) {
    let method = request.method().to_owned();
    if let Err(error) = request.respond_with(result) {
        tracing::warn!(target: targets::REQUEST, method, %error, "a response was dropped");
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("requests", &self.requests.keys())
            .field("notifications", &self.notifications.keys())
            .finish()
    }
}
