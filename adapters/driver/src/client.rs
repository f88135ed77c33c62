//! A client: one identity that stays connected.

use std::sync::Arc;
use std::time::Duration;

use async_tungstenite::tungstenite::http::HeaderName;
use async_tungstenite::tungstenite::http::HeaderValue;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use reattach_core::client;
use reattach_core::client::Client as Machine;
use reattach_core::client::Closed;
use reattach_core::client::Event;
use reattach_core::client::Secrets;
use reattach_core::client::View;
use reattach_core::connection::Stats;
use reattach_core::error::ApiMisuse;
use reattach_core::id::ConnectionId;
use reattach_core::id::ConnectionKey;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::link::Outgoing;
use reattach_core::reconnect::GiveUp;
use reattach_core::reconnect::OpenError;
use reattach_core::rpc;
use reattach_core::server::Answer;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;
use tracing::Span;

use crate::closing::Closing;
use crate::connector::Way;
use crate::count::Count;
use crate::count::Counted;
use crate::dial::CredentialsProvider;
use crate::dial::Target;
use crate::dial::UrlError;
use crate::dial::header;
use crate::drive::Driver;
use crate::drive::Opened;
use crate::drive::Outside;
use crate::events::Events;
use crate::mint;
use crate::receipt::Receipt;
use crate::received::Received;
use crate::runtime::Runtime;
use crate::runtime::Task;
use crate::shared::Shared;
use crate::socket;
use crate::targets;
use crate::tls::ClientTls;
use crate::watch::ConnectionState;
use crate::watch::StateWatch;
use crate::watch::Watch;

/// How a client behaves.
#[derive(Clone, Debug, Default)]
pub struct ClientConfig {
    core: client::Config,
    requests: rpc::Config,
    key: Option<ConnectionKey>,
    headers: Vec<(HeaderName, HeaderValue)>,
    credentials: Option<CredentialsProvider>,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) way: Way,
}

impl ClientConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits, timers and policies: everything that the machine itself can be told.
    #[must_use]
    pub fn with_core(mut self, core: client::Config) -> Self {
        self.core = core;
        self
    }

    /// How long requests may take, and how many there may be.
    #[must_use]
    pub const fn with_requests(mut self, requests: rpc::Config) -> Self {
        self.requests = requests;
        self
    }

    /// The key of the connection. Without one a new key is minted, and the connection is another one for each client.
    #[must_use]
    pub const fn with_key(mut self, key: ConnectionKey) -> Self {
        self.key = Some(key);
        self
    }

    /// A header for every WebSocket handshake.
    ///
    /// # Errors
    ///
    /// [`UrlError::Header`] where it cannot be sent.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, UrlError> {
        self.headers.push(header(name, value)?);
        Ok(self)
    }

    /// Whom to ask for credentials before every attempt.
    #[must_use]
    pub fn with_credentials(mut self, provider: CredentialsProvider) -> Self {
        self.credentials = Some(provider);
        self
    }
}

/// Why a client did not get as far as a first welcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL cannot be dialled.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Trying stopped.
    #[error("no connection: {0}")]
    GaveUp(GiveUp),
    /// Another instance holds the connection, and the client was told to stop then.
    #[error("another instance holds the connection")]
    Superseded,
    /// The server ended the connection.
    #[error("the server ended the connection")]
    Ended,
    /// This side ended it: the runtime goes down.
    #[error("this side ended the connection")]
    Stopped,
}

/// One identity that stays connected. Cheap to clone; when the last clone is dropped the connection ends at once, as by
/// [`Client::disconnect`].
///
/// Every method takes `&self` and may be called from any task.
#[derive(Clone)]
pub struct Client(Arc<Handle>);

/// What the clones share; its end is the end of the client.
struct Handle {
    shared: Arc<Shared<Machine>>,
    /// The task that drives it, and the transports that leave.
    task: Arc<Count>,
    closing: Arc<Closing>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.command(Machine::disconnect);
    }
}

impl Client {
    /// A client that begins to connect, on the given runtime. It returns at once; what is sent before the first welcome waits.
    ///
    /// # Errors
    ///
    /// [`UrlError`] where the URL cannot be dialled.
    pub fn start(runtime: Arc<dyn Runtime>, url: &str, config: ClientConfig) -> Result<Self, UrlError> {
        let ClientConfig { core, requests, key, headers, credentials, tls, way } = config;
        let target = Arc::new(Target::new(url, headers, tls, way)?);
        let secrets = Secrets {
            key: key.unwrap_or_else(|| mint::key(&*runtime)),
            spare: Some(mint::key(&*runtime)),
            instance: mint::instance(&*runtime),
        };
        let sizes = socket::sizes(&core.connection);
        let machine = Machine::new(core, secrets, mint::seed(&*runtime), runtime.now());
        let shared = Shared::new(machine, Arc::clone(&runtime), requests);
        let (task, closing) = (Arc::<Count>::default(), Closing::new(Arc::clone(&runtime)));
        let _task = task.one_more();
        let dialler =
            Dialler { runtime: Arc::clone(&runtime), target, credentials, sizes, shared: Arc::clone(&shared), _task };
        Driver::spawn(Arc::clone(&shared), &runtime, Arc::clone(&closing), dialler);
        Ok(Self(Arc::new(Handle { shared, task, closing })))
    }

    /// A client that is connected: the first welcome has come. The very first connect is retried like any other.
    ///
    /// Dropped before it returns, the client is gone, and its connection at the server, if there is one by then, expires.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] where the URL cannot be dialled or trying stopped.
    pub async fn connect(runtime: Arc<dyn Runtime>, url: &str, config: ClientConfig) -> Result<Self, ConnectError> {
        let client = Self::start(runtime, url, config)?;
        let mut watch = client.watch();
        loop {
            match watch.state() {
                ConnectionState::Attached => return Ok(client),
                ConnectionState::Failed(reason) => return Err(ConnectError::GaveUp(reason)),
                ConnectionState::Superseded => return Err(ConnectError::Superseded),
                ConnectionState::Closed(Closed::ByPeer { .. }) => return Err(ConnectError::Ended),
                ConnectionState::Closed(_) => return Err(ConnectError::Stopped),
                ConnectionState::Connecting { .. } | ConnectionState::Detached { .. } | ConnectionState::Suspended => {
                    watch.changed().await;
                }
            }
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<Machine>> {
        &self.0.shared
    }

    /// Sends a reliable message, waiting for room in the outbox first. The receipt can be awaited for the one outcome.
    ///
    /// Cancel-safe: dropped before it returns, nothing was sent; once it returns, the message is on its way whatever happens
    /// to the receipt.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::TooLarge`], [`ApiMisuse::IdInUse`], and [`ApiMisuse::Ended`] once the connection has ended, is being
    /// closed, or trying has stopped.
    pub async fn send(&self, message: impl Into<Outgoing> + Send) -> Result<Receipt, ApiMisuse> {
        self.0.shared.send(message.into()).await
    }

    /// Sends a reliable message if there is room now.
    ///
    /// # Errors
    ///
    /// As [`Client::send`], and [`ApiMisuse::QueueFull`].
    pub fn try_send(&self, message: impl Into<Outgoing>) -> Result<Receipt, ApiMisuse> {
        self.0.shared.try_send(message.into())
    }

    /// Withdraws a message: at once where it was never written; else the other side is asked to, and its answer is the outcome.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::UnknownMessage`] for one that has its outcome, or never was.
    pub fn cancel(&self, id: &MessageId) -> Result<(), ApiMisuse> {
        self.0.shared.command(|machine, now| machine.cancel(id, now))
    }

    /// Sends an ephemeral message: now or never, without an outcome. A newer one of the same key replaces it.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::NotAttached`], [`ApiMisuse::TooLarge`], [`ApiMisuse::Ended`].
    pub fn send_ephemeral(&self, key: Name, payload: Payload) -> Result<(), ApiMisuse> {
        self.0.shared.send_ephemeral(key, payload)
    }

    /// Takes the next message. With automatic acceptance that accepts it: the server is told that this application has it.
    /// `None` once the connection has ended and everything was taken, or while trying has stopped.
    ///
    /// Cancel-safe: dropped before it returns, no message was taken.
    pub async fn recv(&self) -> Option<Received> {
        self.0.shared.recv().await
    }

    /// Takes the next message if one is there.
    #[must_use]
    pub fn try_recv(&self) -> Option<Received> {
        self.0.shared.try_recv()
    }

    /// What the client tells from here on.
    #[must_use]
    pub fn events(&self) -> Events<Event> {
        self.0.shared.subscribe()
    }

    /// Where the client stands.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        ConnectionState::of(self.0.shared.lock().machine.status(), self.0.shared.now())
    }

    /// Watches where the client stands.
    #[must_use]
    pub fn watch(&self) -> StateWatch {
        StateWatch(Watch::new(&self.0.shared))
    }

    /// The smoothed round trip, once measured.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        self.stats().rtt
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.shared.stats()
    }

    /// The connection's name.
    #[must_use]
    pub fn connection_id(&self) -> ConnectionId {
        self.0.shared.lock().machine.connection_id()
    }

    /// Tries to attach now: instead of waiting, in place of a transport that is attached, or again after trying had stopped.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::Ended`] once the connection has ended.
    pub fn reconnect(&self) -> Result<(), ApiMisuse> {
        self.0.shared.command(Machine::reconnect)
    }

    /// Goes to sleep, as a page does that goes to the background: the server is asked to keep the state for longer, and no
    /// transport is held until [`Client::reconnect`]. What is sent meanwhile waits.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::Ended`] once the connection has ended, or trying has stopped.
    pub fn suspend(&self) -> Result<(), ApiMisuse> {
        self.0.shared.command(Machine::suspend)
    }

    /// Where the client stands, as a user interface shows it to people.
    #[must_use]
    pub fn view(&self) -> View {
        self.0.shared.lock().machine.view()
    }

    /// How long it is until a time that the client told, such as [`View::retry_at`]; zero when that is past.
    #[must_use]
    pub fn until(&self, at: Instant) -> Duration {
        at - self.0.shared.now()
    }

    /// Ends the connection at once. Every message gets its outcome. A program that ends then should await
    /// [`Client::closed`], or the server hears nothing of it and keeps the connection for a while.
    pub fn disconnect(&self) {
        self.0.shared.command(Machine::disconnect);
    }

    /// Ends the connection once every message has its outcome, or after `patience`, and waits for that, and as
    /// [`Client::closed`] does. Nothing more can be sent.
    ///
    /// Dropping the future does not stop the closing.
    pub async fn close(&self, patience: Duration) {
        self.0.shared.close(patience).await;
        self.closed().await;
    }

    /// Waits until the connection has ended and the server has been told and has hung up, or has had two seconds for it.
    /// Cancel-safe.
    pub async fn closed(&self) {
        // The task hands its transport over to be seen off before it is counted out.
        self.0.task.none_left().await;
        self.0.closing.all_left().await;
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("cid", &self.connection_id()).field("state", &self.state()).finish()
    }
}

/// What a client's driver needs beside the machine: somewhere to dial.
struct Dialler {
    runtime: Arc<dyn Runtime>,
    target: Arc<Target>,
    credentials: Option<CredentialsProvider>,
    sizes: WebSocketConfig,
    shared: Arc<Shared<Machine>>,
    _task: Counted,
}

impl Outside for Dialler {
    fn open(&mut self) -> Task<Result<Opened, OpenError>> {
        // A client that took its spare key needs another one; this is the first thing it does after that.
        self.shared.lock().machine.provide_key(mint::key(&*self.runtime));
        self.target.open(&self.runtime, self.credentials.as_ref(), self.sizes)
    }

    fn answer(&mut self, answer: Answer) {
        unreachable!("a client answers to no registry: {answer:?}");
    }

    fn span(&self) -> Span {
        tracing::info_span!(target: targets::LINK, "client", cid = %self.shared.lock().machine.connection_id())
    }

    fn gone(&mut self) {}
}
