//! `reattach serve`: a server for trying things out.

use std::io;
use std::io::Write as _;

use clap::Args;
use reattach_tokio::Connection;
use reattach_tokio::ServerConfig;
use reattach_tokio::core::link::Delivery;
use reattach_tokio::core::link::Handed;

use crate::connect::line_of;
use crate::connect::tell;
use crate::listen::Listening;
use crate::listen::NotListening;
use crate::listen::told_to_stop;
use crate::runtime::RuntimeName;

/// What the server can be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where to listen, and for whom.
    #[command(flatten)]
    pub listening: Listening,
    /// Send each message back on its connection; without this each is printed, one line each
    #[arg(long)]
    pub echo: bool,
}

/// Serves until it is interrupted. The address goes to stdout once it listens.
///
/// # Errors
///
/// [`NotListening`]: what the system says to the address or to stdout, or what is wrong with the certificates.
pub async fn run(options: &Options) -> Result<(), NotListening> {
    let server = options.listening.bind(RuntimeName::Tokio, ServerConfig::new()).await?;
    options.listening.announce(&server)?;
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
