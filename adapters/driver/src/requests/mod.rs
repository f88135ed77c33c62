//! Requests over a connection, as applications make and serve them.

mod response;
mod router;
pub(crate) mod rpc;
mod served;

use std::sync::Arc;
use std::task::Poll;

use event_listener::EventListener;
use reattach_core::rpc::Call;
use reattach_core::rpc::ErrorObject;
use reattach_core::rpc::IncomingId;
use reattach_core::rpc::RequestError;
use reattach_core::rpc::RequestId;
use reattach_core::rpc::RpcMisuse;
use reattach_core::rpc::Stats;
use reattach_core::wire::DecodeError;
use reattach_core::wire::Payload;
use reattach_core::wire::PayloadError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::connection::Connection;
use crate::held::Held;
use crate::machine::Machine;
use crate::requests::response::Place;
use crate::requests::rpc::RpcState;
use crate::shared::Shared;

pub use self::response::Response;
pub use self::router::Router;
pub use self::served::IncomingCall;
pub use self::served::Notification;
pub use self::served::Request;

/// A request has no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It was not begun.
    #[error(transparent)]
    Misuse(#[from] RpcMisuse),
    /// Its parameters cannot be written as JSON.
    #[error("the parameters of {method}: {error}")]
    Params {
        /// The method.
        method: String,
        /// What is wrong with them.
        error: PayloadError,
    },
    /// It ended without one.
    #[error(transparent)]
    Failed(#[from] RequestError),
    /// Its result should have been the number of an owner. The other side has done what was asked.
    #[error("the result of request {id}: {error}")]
    Generation {
        /// The request.
        id: RequestId,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// Its result is of another type. The other side has done what was asked.
    #[error("the result of request {id} ({method}): {error}")]
    Result {
        /// The request.
        id: RequestId,
        /// Its method.
        method: String,
        /// What is wrong with it.
        error: PayloadError,
    },
}

/// Where requests and answers go.
pub(crate) trait Responding: Send + Sync {
    fn cancel(&self, id: RequestId);
    fn respond(&self, asked: IncomingId, result: Result<Payload, ErrorObject>) -> Result<(), RpcMisuse>;
    fn progress(&self, asked: IncomingId, value: &Payload) -> Result<(), RpcMisuse>;
}

impl<M: Machine> Responding for Shared<M> {
    fn cancel(&self, id: RequestId) {
        // It may have ended meanwhile.
        _ = self.with_requests(|requests, now| requests.rpc.cancel(id, now));
    }

    fn respond(&self, asked: IncomingId, result: Result<Payload, ErrorObject>) -> Result<(), RpcMisuse> {
        let mut abandonment = None;
        let responded = self.with_requests(|requests, now| {
            abandonment = requests.served.remove(&asked);
            requests.rpc.respond(asked, result, now)
        });
        // Nobody waits any more: it was answered.
        if let Some(abandonment) = abandonment {
            abandonment.tell();
        }
        responded
    }

    fn progress(&self, asked: IncomingId, value: &Payload) -> Result<(), RpcMisuse> {
        self.with_requests(|requests, now| requests.rpc.progress(asked, value, now))
    }
}

impl<M: Machine> Shared<M> {
    fn check_open(&self) -> Result<(), RpcMisuse> {
        if self.is_closing() { Err(RpcMisuse::Ended) } else { Ok(()) }
    }

    pub(crate) fn notify(&self, call: &Call) -> Result<(), RpcMisuse> {
        self.check_open()?;
        // Nobody would be told of it later.
        let limit = self.lock().machine.connection().link().config().max_payload;
        let len = call.params().map_or(0, |params| params.len() as u64);
        if len > limit {
            return Err(RpcMisuse::TooLarge { len, limit });
        }
        self.with_requests(|requests, now| requests.rpc.notify(call, now))
    }

    fn call(self: &Arc<Self>, call: Call) -> Result<Response, RpcMisuse> {
        self.check_open()?;
        self.with_requests(|requests, now| {
            let id = requests.rpc.request(call, now)?;
            Ok(self.response(id, requests))
        })
    }

    fn call_batch(self: &Arc<Self>, calls: Vec<(Call, bool)>) -> Result<Vec<Response>, RpcMisuse> {
        self.check_open()?;
        self.with_requests(|requests, now| {
            let ids = requests.rpc.request_batch(calls, now)?;
            Ok(ids.into_iter().map(|id| self.response(id, requests)).collect())
        })
    }

    fn response(self: &Arc<Self>, id: RequestId, requests: &mut RpcState) -> Response {
        let place = Arc::<Place>::default();
        requests.waiting.insert(id, Arc::clone(&place));
        Response::new(id, place, Arc::clone(self) as Arc<dyn Responding>)
    }

    fn poll_requests(
        self: &Arc<Self>,
        listener: &mut Option<EventListener>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<IncomingCall>> {
        let look = || {
            self.with_requests(|requests, _| {
                let call = requests.rpc.take()?;
                let what = Notification { method: call.method, params: call.params };
                Some(Some(match call.id {
                    None => IncomingCall::Notification(what),
                    Some(asked) => {
                        let abandonment = Arc::clone(requests.served.entry(asked).or_default());
                        IncomingCall::Request(Request::new(
                            asked,
                            what,
                            abandonment,
                            Arc::clone(self) as Arc<dyn Responding>,
                        ))
                    }
                }))
            })
        };
        let is_silent = || self.lock().has_no_more_requests().then_some(None);
        self.poll_until(listener, cx, look, is_silent)
    }
}

/// What the other side asks for, in the order in which it did. Any number of them share the same requests.
#[derive(Clone, Debug)]
pub struct Requests(Held);

impl Requests {
    /// The next request or notification. `None` once the connection has ended and everything was taken. Cancel-safe: dropped before
    /// it returns, nothing was taken.
    pub async fn next(&self) -> Option<IncomingCall> {
        let mut listener = None;
        std::future::poll_fn(|cx| match &self.0 {
            Held::Client(client) => client.shared().poll_requests(&mut listener, cx),
            Held::Connection(connection) => connection.shared().poll_requests(&mut listener, cx),
        })
        .await
    }
}

fn prepare<P: Serialize + ?Sized>(method: &str, params: &P) -> Result<Call, CallError> {
    let params = Payload::new(params).map_err(|error| CallError::Params { method: method.to_owned(), error })?;
    let call = Call::new(method)?;
    // What has no fields is written as null, which stands for no parameters.
    Ok(if params.as_str() == "null" { call } else { call.with_params(params)? })
}

fn read<R: DeserializeOwned>(id: RequestId, method: &str, result: &Payload) -> Result<R, CallError> {
    result.parse().map_err(|error| CallError::Result { id, method: method.to_owned(), error })
}

macro_rules! requests {
    ($connection:ident, $held:path) => {
        impl $connection {
            /// Responding the other side to do something, and waits for the result, at most for the configured time (30 s). Parameters are
            /// a tuple, a struct, or `()` for none.
            ///
            /// The request survives dropped transports. It ends early where no response can come any more; the error says what is
            /// known of whether it was done.
            ///
            /// Dropped before it returns, the request is withdrawn.
            ///
            /// # Errors
            ///
            /// [`CallError`].
            pub async fn request<P, R>(&self, method: &str, params: &P) -> Result<R, CallError>
            where
                P: Serialize + Sync + ?Sized,
                R: DeserializeOwned,
            {
                let response = self.call(prepare(method, params)?)?;
                let id = response.id();
                read(id, method, &response.await?)
            }

            /// Begins a request with what else it has: another time, an idle limit. Its time runs from now.
            ///
            /// # Errors
            ///
            /// [`RpcMisuse`].
            pub fn call(&self, call: Call) -> Result<Response, RpcMisuse> {
                self.shared().call(call)
            }

            /// Begins several requests, and sends notifications, in one message; a call is a notification where the flag beside it
            /// is false. The other side answers when all are done. Returns the requests, in order.
            ///
            /// # Errors
            ///
            /// [`RpcMisuse`].
            pub fn call_batch(&self, calls: Vec<(Call, bool)>) -> Result<Vec<Response>, RpcMisuse> {
                self.shared().call_batch(calls)
            }

            /// Notifies the other side of something. Nobody answers, and nobody is told if it cannot be sent in the end, because the
            /// connection ends or is closed before.
            ///
            /// # Errors
            ///
            /// [`CallError::Misuse`], [`CallError::Params`].
            pub fn notify<P: Serialize + ?Sized>(&self, method: &str, params: &P) -> Result<(), CallError> {
                Ok(self.shared().notify(&prepare(method, params)?)?)
            }

            /// Withdraws every request of this side. Each ends as cancelled. Returns which.
            pub fn abort_requests(&self) -> Vec<RequestId> {
                self.shared().with_requests(|requests, now| requests.rpc.abort_all(now))
            }

            /// What the other side asks for. What nobody takes waits, and its sender with it.
            #[must_use]
            pub fn requests(&self) -> Requests {
                Requests($held(self.clone()))
            }

            /// Serves what the other side asks for, until the connection ends. Dropped before, what is being served goes on.
            pub async fn serve(&self, router: &Router) {
                self.serve_where(router, Some).await;
            }

            /// The same for what `first` gives back.
            pub(crate) async fn serve_where(
                &self,
                router: &Router,
                first: impl Fn(IncomingCall) -> Option<IncomingCall> + Sync,
            ) {
                router.serve(self.requests(), Arc::clone(self.shared().runtime()), first).await;
            }

            /// What was counted of requests, either way.
            #[must_use]
            pub fn request_stats(&self) -> Stats {
                let state = self.shared().lock();
                state.requests.as_ref().map(|requests| requests.rpc.stats()).unwrap_or_default()
            }
        }
    };
}

requests!(Client, Held::Client);
requests!(Connection, Held::Connection);
