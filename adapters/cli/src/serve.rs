//! `reattach serve`: a server for trying things out.

use std::io;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use reattach_tokio::Connection;
use reattach_tokio::Origins;
use reattach_tokio::ServerConfig;
use reattach_tokio::ServerTls;
use reattach_tokio::TlsError;
use reattach_tokio::core::link::Delivery;
use reattach_tokio::core::link::Handed;

use crate::connect::line_of;
use crate::connect::tell;

/// What the server can be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9400")]
    pub listen: String,
    /// Speak TLS with these certificates (PEM, the server's own first)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of the first of them (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Send each message back on its connection; without this each is printed, one line each
    #[arg(long)]
    pub echo: bool,
    /// Let pages of this origin connect, such as `https://example.org`; may be repeated
    #[arg(long = "origin", value_name = "ORIGIN")]
    pub origins: Vec<String>,
}

/// Why there is no server.
#[derive(Debug)]
pub enum Failed {
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

impl Failed {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Io(_) => "try another address with --listen, such as 127.0.0.1:0",
            Self::File { .. } | Self::Tls(_) => "--tls-cert and --tls-key name PEM files that belong together",
        }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Tls(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Failed {}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failed> {
    std::fs::read(path).map_err(|error| Failed::File { path: path.to_owned(), error })
}

/// Serves until it is interrupted. The address goes to stdout once it listens.
///
/// # Errors
///
/// [`Failed`]: what the system says to the address or to stdout, or what is wrong with the certificates.
pub async fn run(options: &Options) -> Result<(), Failed> {
    let origins = if options.origins.is_empty() { Origins::None } else { Origins::These(options.origins.clone()) };
    let mut config = ServerConfig::new().with_origins(origins);
    let mut scheme = "ws";
    if let (Some(certificates), Some(key)) = (&options.tls_cert, &options.tls_key) {
        config = config.with_tls(ServerTls::from_pem(&read(certificates)?, &read(key)?).map_err(Failed::Tls)?);
        scheme = "wss";
    }
    let server = reattach_tokio::bind(&options.listen, config).await?;
    let address = server.local_addr().expect("a bound server has an address");
    writeln!(io::stdout(), "{scheme}://{address}/")?;
    let echo = options.echo;
    let serving = async {
        while let Some(connection) = server.accept().await {
            tell(&format!("{}: new connection", connection.id()));
            tokio::spawn(async move {
                serve(&connection, echo).await;
                tell(&format!("{}: ended", connection.id()));
            });
        }
    };
    tokio::select! {
        () = serving => {}
        told = told_to_stop() => told?,
    }
    server.shut_down();
    server.closed().await;
    Ok(())
}

/// Waits until somebody at the terminal, or a supervisor, wants this to stop.
async fn told_to_stop() -> io::Result<()> {
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

async fn serve(connection: &Connection, echo: bool) {
    while let Some(delivery) = connection.recv().await {
        if echo {
            answer(connection, delivery.into_delivery()).await;
        } else if let Err(error) = writeln!(io::stdout(), "{}", line_of(delivery.payload())) {
            return tell(&format!("stdout: {error}"));
        }
    }
}

async fn answer(connection: &Connection, delivery: Delivery) {
    let answered = match delivery {
        // What came is handed on, so it has to be checked; what is no JSON cannot be.
        Delivery::Message(Handed { payload, .. }) => match payload.check() {
            Ok(payload) => connection.send(payload).await.map(drop),
            Err(error) => return tell(&format!("{}: a message that is not JSON: {error}", connection.id())),
        },
        Delivery::Ephemeral { key, payload } => match payload.check() {
            Ok(payload) => connection.send_ephemeral(key, payload),
            Err(error) => return tell(&format!("{}: a message that is not JSON: {error}", connection.id())),
        },
    };
    if let Err(error) = answered {
        tell(&format!("{}: no answer sent: {error}", connection.id()));
    }
}
