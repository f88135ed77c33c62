//! Whom a client of the command line connects to, and how.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reattach_tokio::ClientConfig;
use reattach_tokio::ClientTls;
use reattach_tokio::ConnectionState;
use reattach_tokio::Credentials;
use reattach_tokio::CredentialsError;
use reattach_tokio::CredentialsProvider;
use reattach_tokio::UrlError;
use reattach_tokio::core::client;
use reattach_tokio::core::client::OnSuperseded;

use crate::proxied::proxy_for;

/// What every client can be told.
#[derive(Args, Clone, Debug)]
pub struct Dialling {
    /// The server, such as ws://127.0.0.1:9400/
    pub url: String,
    /// A header for the WebSocket handshake, as `Name: value`; may be repeated
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// Send `Authorization: Bearer TOKEN` with the WebSocket handshake
    #[arg(long, value_name = "TOKEN")]
    pub bearer: Option<String>,
    /// A token for the hello, for servers that authenticate there
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Behind wss://, trust whoever one of these certificates (PEM) has signed, and not whom the system trusts
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Go through a proxy, such as http://127.0.0.1:3128 or socks5://127.0.0.1:1080; without this, what HTTPS_PROXY (for wss://),
    /// ALL_PROXY and NO_PROXY say
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// How many retries in a row may fail before giving up; without this there is no limit
    #[arg(long, value_name = "N")]
    pub attempts: Option<u32>,
    /// How many seconds to wait between two tries at most; the waits grow up to that
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    pub max_delay: f64,
}

/// What is wrong with what a client was told.
#[derive(Debug)]
pub enum Misdialled {
    /// An option makes no sense.
    Option(String),
    /// The URL, or a header, cannot be used.
    Url(UrlError),
}

impl From<UrlError> for Misdialled {
    fn from(error: UrlError) -> Self {
        Self::Url(error)
    }
}

impl std::fmt::Display for Misdialled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Option(problem) => f.write_str(problem),
            Self::Url(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Misdialled {}

impl Dialling {
    /// The configuration that it comes to. `on_superseded` says what is done when another instance takes the connection over.
    ///
    /// # Errors
    ///
    /// [`Misdialled`].
    pub fn config(&self, on_superseded: OnSuperseded) -> Result<ClientConfig, Misdialled> {
        let mut core = client::Config::default();
        core.reconnect.attempts = self.attempts;
        core.on_superseded = on_superseded;
        let max_delay = Duration::try_from_secs_f64(self.max_delay).map_err(|_| {
            Misdialled::Option(format!("--max-delay: {} is not a number of seconds to wait", self.max_delay))
        })?;
        let reconnect = &mut core.reconnect;
        let backoff = &mut reconnect.backoff;
        let delays = [&mut backoff.base, &mut backoff.cap, &mut reconnect.restart_min, &mut reconnect.restart_max];
        delays.into_iter().for_each(|delay| *delay = max_delay.min(*delay));
        let mut config = ClientConfig::new().with_core(core);
        for header in &self.headers {
            let Some((name, value)) = header.split_once(':') else {
                return Err(Misdialled::Option(format!("--header {header:?}: it should look like `Name: value`")));
            };
            config = config.with_header(name.trim(), value.trim())?;
        }
        if let Some(bearer) = &self.bearer {
            config = config.with_header("Authorization", &format!("Bearer {bearer}"))?;
        }
        if let Some(token) = &self.token {
            let credentials = Credentials::token(token.clone())
                .map_err(|CredentialsError| Misdialled::Option("--token: it is empty or too long".to_owned()))?;
            config = config.with_credentials(CredentialsProvider::new(move || {
                let credentials = credentials.clone();
                async move { Ok(credentials) }
            }));
        }
        if let Some(path) = &self.ca {
            let unusable =
                |problem: &dyn std::fmt::Display| Misdialled::Option(format!("--ca {}: {problem}", path.display()));
            let certificates = std::fs::read(path).map_err(|error| unusable(&error))?;
            config = config.with_tls(ClientTls::with_roots(&certificates).map_err(|error| unusable(&error))?);
        }
        let proxy = proxy_for(&self.url, self.proxy.as_deref())
            .map_err(|(at, error)| Misdialled::Option(format!("{at}: {error}")))?;
        Ok(match proxy {
            Some(proxy) => config.with_proxy(proxy),
            None => config,
        })
    }
}

/// Where a client stands, in one line. `None` once its connection has ended.
pub(crate) fn standing(state: &ConnectionState) -> Option<String> {
    Some(match state {
        ConnectionState::Connecting { attempt: 0, .. } => "connecting".to_owned(),
        ConnectionState::Connecting { attempt, limit } => format!("reconnecting, retry {}", of(*attempt, *limit)),
        ConnectionState::Attached => "attached".to_owned(),
        ConnectionState::Detached { attempt, limit, next_try_in } => {
            format!("detached; retry {} in {:.1} s", of(*attempt, *limit), next_try_in.as_secs_f64())
        }
        ConnectionState::Superseded => "another instance took the connection over".to_owned(),
        ConnectionState::Failed(reason) => format!("gave up: {reason}"),
        ConnectionState::Closed(_) => return None,
        ConnectionState::Suspended => "asleep".to_owned(),
        state => format!("{state:?}"),
    })
}

fn of(attempt: u32, limit: Option<u32>) -> String {
    limit.map_or_else(|| attempt.to_string(), |limit| format!("{attempt} of {limit}"))
}

/// How a connection ended, or why trying stopped, where it did.
pub(crate) fn end(state: &ConnectionState) -> String {
    if let ConnectionState::Closed(client::Closed::ByPeer { code, reason }) = state {
        format!("the server ended the connection: {code} {reason}").trim_end().to_owned()
    } else if let ConnectionState::Failed(reason) = state {
        format!("no connection: {reason}")
    } else if *state == ConnectionState::Superseded {
        "another instance took the connection over".to_owned()
    } else {
        "the connection ended".to_owned()
    }
}
