//! Where a server of the command line listens, and for whom.

use std::io;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use reattach_tokio::HealthPath;
use reattach_tokio::Origins;
use reattach_tokio::Server;
use reattach_tokio::ServerConfig;
use reattach_tokio::ServerTls;
use reattach_tokio::TlsError;

use crate::runtime::RuntimeName;

/// What every server can be told.
#[derive(Args, Clone, Debug)]
pub struct Listening {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9400")]
    pub listen: String,
    /// Speak TLS with these certificates (PEM, the server's own first)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of the first of them (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Let pages of this origin connect, such as `https://example.org`; may be repeated
    #[arg(long = "origin", value_name = "ORIGIN")]
    pub origins: Vec<String>,
    /// Answer plain HTTP requests for this path, such as `/health`, with numbers on how the server is, as JSON; everybody who can
    /// reach the address may ask, so nobody is told without this
    #[arg(long, value_name = "PATH")]
    pub health: Option<HealthPath>,
}

/// Why nobody listens.
#[derive(Debug)]
pub enum NotListening {
    /// The system did not play along.
    Io(io::Error),
    /// A file cannot be read.
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The certificates or the key are of no use.
    Tls(TlsError),
}

impl NotListening {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Io(_) => "try another address with --listen, such as 127.0.0.1:0",
            Self::File { .. } | Self::Tls(_) => "--tls-cert and --tls-key name PEM files that belong together",
        }
    }
}

impl std::fmt::Display for NotListening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Tls(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for NotListening {}

impl From<io::Error> for NotListening {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, NotListening> {
    std::fs::read(path).map_err(|error| NotListening::File { path: path.to_owned(), error })
}

impl Listening {
    /// A server that listens.
    ///
    /// # Errors
    ///
    /// [`NotListening`].
    pub(crate) async fn bind(&self, runtime: RuntimeName, config: ServerConfig) -> Result<Server, NotListening> {
        let origins = if self.origins.is_empty() { Origins::None } else { Origins::These(self.origins.clone()) };
        let mut config = config.with_origins(origins);
        if let Some(path) = &self.health {
            config = config.with_health(path.clone());
        }
        if let (Some(certificates), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let tls = ServerTls::from_pem(&read(certificates)?, &read(key)?).map_err(NotListening::Tls)?;
            config = config.with_tls(tls);
        }
        Ok(Server::bind(runtime.get(), &self.listen, config).await?)
    }

    /// Says on stdout where a server listens: whoever has started it waits for this line.
    ///
    /// # Errors
    ///
    /// What the system says to stdout.
    pub(crate) fn announce(&self, server: &Server) -> Result<(), NotListening> {
        let scheme = if self.tls_cert.is_some() { "wss" } else { "ws" };
        let address = server.local_addr().expect("a bound server has an address");
        writeln!(io::stdout(), "{scheme}://{address}/")?;
        Ok(io::stdout().flush()?)
    }
}

/// Waits until somebody at the terminal, or a supervisor, wants this to stop.
pub(crate) async fn told_to_stop() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::SignalKind;
        use tokio::signal::unix::signal;
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminated.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
