//! `reattach agent`: an agent without a model behind it. It does small work on the files of a folder, talks while it does, and asks
//! before it changes anything; everybody who connects with its token shares one session with it.

mod answering;
mod conversation;
mod script;
mod work;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use reattach_tokio::Connection;
use reattach_tokio::Hello;
use reattach_tokio::Hub;
use reattach_tokio::Router;
use reattach_tokio::Server;
use reattach_tokio::ServerConfig;
use reattach_tokio::core::hub;
use reattach_tokio::core::id::Name;
use reattach_tokio::core::id::Principal;
use reattach_tokio::core::id::SessionId;
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use self::answering::Answering;
use self::conversation::Conversation;
use self::work::Workplace;
use crate::connect::tell;
use crate::listen::Listening;
use crate::listen::NotListening;
use crate::listen::told_to_stop;
use crate::messages;
use crate::runtime::RuntimeName;

/// What the agent can be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where to listen, and for whom.
    #[command(flatten)]
    pub listening: Listening,
    /// The folder whose files it works on
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub dir: PathBuf,
    /// What its session is called
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub session: SessionId,
    /// Let in only who sends this token in the hello; without it, everybody who can reach the address, which must be a loopback one
    /// then
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// How many milliseconds pass between two pieces of an answer
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 20)]
    pub pace_ms: u64,
    /// How many messages may wait for their answer
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub queue: u16,
    /// How many seconds to wait for a permission before it counts as denied
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub permission_timeout: u64,
    /// What runs its sockets
    #[arg(long, value_enum, default_value_t)]
    pub runtime: RuntimeName,
}

/// Why there is no agent.
#[derive(Debug)]
pub enum Failed {
    /// Nobody listens.
    NotListening(NotListening),
    /// Everybody in the network could use it.
    Exposed(SocketAddr),
    /// The folder cannot be opened.
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// The token is empty.
    Token,
}

impl Failed {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotListening(error) => error.hint(),
            Self::Exposed(_) => "give a --token that clients have to send, or listen on 127.0.0.1",
            Self::Folder { .. } => "--dir names a folder that this user may read",
            Self::Token => "choose a --token that nobody guesses",
        }
    }

    /// Whether the command line makes no sense.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Exposed(_) | Self::Token)
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotListening(error) => write!(f, "{error}"),
            Self::Exposed(address) => write!(f, "everybody who can reach {address} could have files read and written"),
            Self::Folder { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Token => f.write_str("--token: it is empty"),
        }
    }
}

impl std::error::Error for Failed {}

impl From<NotListening> for Failed {
    fn from(error: NotListening) -> Self {
        Self::NotListening(error)
    }
}

/// Whose the session is: everybody's who is let in.
const PRINCIPAL: &str = "user";
/// How long what was published last may take to leave before the connections end.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long connections may take to end.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves until it is interrupted. The address goes to stdout once it listens.
///
/// # Errors
///
/// [`Failed`].
pub async fn run(options: &Options) -> Result<(), Failed> {
    if options.token.as_ref().is_some_and(String::is_empty) {
        return Err(Failed::Token);
    }
    let workplace =
        Workplace::open(&options.dir).map_err(|error| Failed::Folder { path: options.dir.clone(), error })?;
    let server = options.listening.bind(options.runtime, config(options.token.clone())).await?;
    let address = server.local_addr().expect("a bound server has an address");
    if options.token.is_none() && !address.ip().is_loopback() {
        return Err(Failed::Exposed(address));
    }
    let hub = Hub::new(&server, hub::Config::default());
    let session =
        hub.create(options.session.clone(), Principal::Named(principal())).expect("the hub has no session yet");
    let (conversation, waiting) = Conversation::new(session, usize::from(options.queue));
    let answering = Answering {
        conversation: conversation.clone(),
        workplace: Arc::new(workplace),
        pace: Duration::from_millis(options.pace_ms),
        patience: Duration::from_secs(options.permission_timeout),
    };
    let (stop, is_stopped) = watch::channel(false);
    let answering = tokio::spawn(answering.run(waiting, is_stopped));
    options.listening.announce(&server)?;
    tokio::select! {
        () = accept(&server, &hub, &conversation) => {}
        told = told_to_stop() => told.map_err(NotListening::from)?,
    }
    // Whoever waits for an answer is told that there will be none.
    _ = stop.send(true);
    _ = answering.await;
    tokio::time::sleep(LAST_WORDS).await;
    server.drain(DRAIN, Duration::from_secs(1)..=Duration::from_secs(3)).await;
    Ok(())
}

fn principal() -> Name {
    Name::new(PRINCIPAL).expect("the name is short")
}

/// Lets in who has the token, where there is one.
fn config(token: Option<String>) -> ServerConfig {
    ServerConfig::new().with_authentication(move |hello: Hello| {
        let shown = hello.token.as_ref().map(reattach_tokio::core::wire::Token::reveal);
        let is_right = token
            .as_ref()
            .is_none_or(|token| shown.is_some_and(|shown| bool::from(shown.as_bytes().ct_eq(token.as_bytes()))));
        async move { is_right.then(principal) }
    })
}

async fn accept(server: &Server, hub: &Hub, conversation: &Conversation) {
    let taking = conversation.clone();
    let router = Router::new().on_request(messages::SEND, move |send: messages::Send| {
        let taken = taking.accept(send);
        async move { taken }
    });
    while let Some(connection) = server.accept().await {
        tokio::spawn(serve(hub.clone(), connection, router.clone()));
    }
}

async fn serve(hub: Hub, connection: Connection, router: Router) {
    tell(&format!("{}: new connection", connection.id()));
    hub.serve(&connection, &router).await;
    tell(&format!("{}: ended", connection.id()));
}
