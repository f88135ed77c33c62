//! How a client comes by a stream of bytes to its server: by the runtime's TCP, or by a way of the caller's own.

use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use reattach_core::reconnect::OpenError;

use crate::client::ClientConfig;
use crate::runtime::Io;
use crate::runtime::Runtime;
use crate::runtime::Task;
use crate::targets;

/// Where a stream is to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Destination {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A function that connects streams.
trait Connect: Send + Sync {
    fn connect(&self, destination: Destination) -> Task<io::Result<Box<dyn Io>>>;
}

impl<C: Fn(Destination) -> Task<io::Result<Box<dyn Io>>> + Send + Sync> Connect for C {
    fn connect(&self, destination: Destination) -> Task<io::Result<Box<dyn Io>>> {
        self(destination)
    }
}

/// Connects streams for a client. TLS, where the URL wants it, and the WebSocket come on top.
#[derive(Clone)]
pub struct Connector(Arc<dyn Connect>);

impl Connector {
    /// Takes an async function. It is called for each attempt, and dropped where the attempt takes longer than the connect
    /// timeout. What it fails with, by a panic too, is logged; the client tries again as after any network that is down.
    pub fn new<F, S>(connect: impl Fn(Destination) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: Io,
    {
        Self(Arc::new(move |destination: Destination| {
            let connecting = connect(destination);
            Task::new(async move { Ok(Box::new(connecting.await?) as Box<dyn Io>) })
        }))
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl ClientConfig {
    /// Connect streams in this way, and not by the runtime's TCP.
    #[must_use]
    pub fn with_connector(mut self, connector: Connector) -> Self {
        self.way.connector = Some(connector);
        self
    }
}

/// How a client's streams are connected.
#[derive(Clone, Debug, Default)]
pub(crate) struct Way {
    connector: Option<Connector>,
    #[cfg(feature = "proxy")]
    pub(crate) proxy: Option<crate::proxy::Proxy>,
}

impl Way {
    /// Connects a stream.
    pub(crate) async fn connect(
        &self,
        runtime: &Arc<dyn Runtime>,
        host: &str,
        port: u16,
    ) -> Result<Box<dyn Io>, OpenError> {
        #[cfg(feature = "proxy")]
        if let Some(proxy) = &self.proxy {
            let (by, at) = proxy.address();
            let io = self.connect_directly(runtime, by, at).await?;
            return proxy.lead_on(io, host, port).await;
        }
        self.connect_directly(runtime, host, port).await
    }

    async fn connect_directly(
        &self,
        runtime: &Arc<dyn Runtime>,
        host: &str,
        port: u16,
    ) -> Result<Box<dyn Io>, OpenError> {
        let connected = match &self.connector {
            // A panic in the application's code is no stream, and not the end of the client.
            Some(Connector(connector)) => {
                let connecting = async { connector.connect(Destination { host: host.to_owned(), port }).await };
                AssertUnwindSafe(connecting)
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|_| Err(io::Error::other("it panicked")))
            }
            None => runtime.dial(host.to_owned(), port).await,
        };
        connected.map_err(|error| {
            tracing::debug!(target: targets::SOCKET, %error, "no connection");
            OpenError::Unreachable
        })
    }
}
