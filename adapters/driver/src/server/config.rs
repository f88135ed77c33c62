//! What a server can be told.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use reattach_core::id::ConnectionId;
use reattach_core::id::Name;
use reattach_core::rpc;
use reattach_core::server;
use reattach_core::wire::Token;

use crate::runtime::Task;
use crate::server::health::HealthPath;
use crate::server::upgrade::Origins;
use crate::server::upgrade::Upgrade;
use crate::tls::ServerTls;

/// A hello that asks to be let in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Hello {
    /// The connection that it asks for. Its key is known to be right.
    pub cid: ConnectionId,
    /// The credentials in the hello.
    pub token: Option<Token>,
    /// The request with which the transport was opened: for cookies and headers.
    pub upgrade: Upgrade,
}

/// Whose credentials a hello carries, and for how long they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The name of the principal.
    pub principal: Name,
    /// How long the credentials hold, if not for ever. Then the transport is closed with code 4401, and the client comes back
    /// with fresh ones, or not at all.
    pub expires_in: Option<Duration>,
}

/// Decides whose credentials a hello carries.
#[derive(Clone)]
struct Authenticator(Arc<dyn Fn(Hello) -> Task<Option<Admitted>> + Send + Sync>);

/// How a server behaves.
#[derive(Clone, Default)]
pub struct ServerConfig {
    core: server::Config,
    pub(super) requests: rpc::Config,
    origins: Origins,
    authenticator: Option<Authenticator>,
    health: Option<HealthPath>,
    pub(crate) tls: Option<ServerTls>,
}

impl ServerConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits, timers and caps: everything that the machines themselves can be told.
    #[must_use]
    pub fn with_core(mut self, core: server::Config) -> Self {
        self.core = core;
        self
    }

    /// How long requests may take, and how many there may be on one connection.
    #[must_use]
    pub const fn with_requests(mut self, requests: rpc::Config) -> Self {
        self.requests = requests;
        self
    }

    /// Which web pages may connect. Default: none.
    #[must_use]
    pub fn with_origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Answer plain HTTP requests for this path, `GET` and `HEAD`, with the server's [`Health`](crate::Health) as JSON: status 200, or
    /// 503 while the server drains. Whoever asks is a stranger like every other, under the same caps and the same deadline, and is
    /// told numbers that are up to a second old. Default: nobody is told, for the numbers are nobody's business.
    #[must_use]
    pub fn with_health(mut self, path: HealthPath) -> Self {
        self.health = Some(path);
        self
    }

    /// Whom to ask, for every hello of every transport, whose credentials it carries. The answer is the name of the principal
    /// that the connection belongs to; `None` refuses. It has to come within the hello's timeout.
    #[must_use]
    pub fn with_authentication<F>(mut self, authenticate: impl Fn(Hello) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<Name>> + Send + 'static,
    {
        self.authenticator = Some(Authenticator(Arc::new(move |hello| {
            let answer = authenticate(hello);
            Task::new(async move { answer.await.map(|principal| Admitted { principal, expires_in: None }) })
        })));
        self
    }

    /// As [`ServerConfig::with_authentication`], for credentials that run out.
    #[must_use]
    pub fn with_admission<F>(mut self, admit: impl Fn(Hello) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<Admitted>> + Send + 'static,
    {
        self.authenticator = Some(Authenticator(Arc::new(move |hello| {
            let answer = admit(hello);
            Task::new(answer)
        })));
        self
    }

    /// What the machines are told: they ask about each hello where there is somebody to answer.
    pub(super) fn machine(&self) -> server::Config {
        let mut core = self.core.clone();
        core.authenticate = self.authenticator.is_some();
        core
    }

    pub(super) fn origins(&self) -> &Origins {
        &self.origins
    }

    pub(super) const fn health(&self) -> Option<&HealthPath> {
        self.health.as_ref()
    }

    pub(super) fn authenticate(&self, hello: Hello) -> Task<Option<Admitted>> {
        match &self.authenticator {
            Some(Authenticator(ask)) => ask(hello),
            // The machine asks only where it was told to; then nobody answers, and nobody gets in.
            None => Task::new(async { None }),
        }
    }
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig")
            .field("core", &self.core)
            .field("origins", &self.origins)
            .field("authenticates", &self.authenticator.is_some())
            .field("health", &self.health)
            .field("tls", &self.tls)
            .finish()
    }
}
