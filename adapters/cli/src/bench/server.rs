//! `reattach bench-server`: the other process of the bench. Nobody but the bench starts it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use clap::Args;

use crate::bench::Failed;
use crate::bench::Subject;
use crate::bench::case::Case;
use crate::bench::gauge;
use crate::bench::host;
use crate::bench::host::Host;
use crate::bench::host::Smol;
use crate::bench::host::Tokio;
use crate::bench::layered;
use crate::bench::orders;
use crate::bench::orders::Order;
use crate::bench::raw;
use crate::runtime::RuntimeName;

/// What the bench tells its server.
#[derive(Args, Clone, Debug)]
pub struct ServerOptions {
    /// What runs the sockets
    #[arg(long, value_enum)]
    runtime: RuntimeName,
    /// What is measured
    #[arg(long)]
    subject: Subject,
    /// For which case
    #[arg(long)]
    case: Case,
}

/// Serves until stdin ends.
///
/// # Errors
///
/// [`Failed`] where it cannot be had.
pub fn serve(options: &ServerOptions) -> Result<(), Failed> {
    match options.runtime {
        RuntimeName::Tokio => serve_on(Tokio, options),
        RuntimeName::Smol => serve_on(Smol, options),
    }
}

fn serve_on(host: impl Host, options: &ServerOptions) -> Result<(), Failed> {
    host.block_on(host::spawned(host, obey(host, options.clone())))?.ok_or(Failed::Panicked)?
}

async fn obey(host: impl Host, options: ServerOptions) -> Result<(), Failed> {
    let mut orders = orders::orders();
    let mut serving = Serving::start(host, options.subject, options.case).await?;
    orders::say(&serving.address()?)?;
    while let Some(line) = orders.recv().await {
        let order = serde_json::from_str(&line).map_err(io::Error::from)?;
        orders::say(&serving.obey(host, order).await?)?;
    }
    Ok(())
}

enum Serving {
    Raw { address: SocketAddr, begun: Arc<AtomicU64> },
    Reattach(layered::Serving),
}

impl Serving {
    async fn start(host: impl Host, subject: Subject, case: Case) -> Result<Self, Failed> {
        Ok(match subject {
            Subject::Raw => {
                let (address, begun) = raw::serve(host, case).await?;
                Self::Raw { address, begun }
            }
            Subject::Reattach => Self::Reattach(layered::Serving::start(host, case).await?),
        })
    }

    fn address(&self) -> Result<SocketAddr, Failed> {
        match self {
            Self::Raw { address, .. } => Ok(*address),
            Self::Reattach(serving) => serving.address().ok_or(Failed::Server),
        }
    }

    async fn obey(&mut self, host: impl Host, order: Order) -> Result<Option<u64>, Failed> {
        Ok(match (order, self) {
            (Order::Cpu, _) => gauge::cpu_time().and_then(|time| u64::try_from(time.as_nanos()).ok()),
            (Order::Memory, _) => gauge::resident(),
            (Order::Connections, Self::Raw { begun, .. }) => Some(begun.load(Ordering::Relaxed)),
            (Order::Connections, Self::Reattach(serving)) => Some(serving.begun()),
            (Order::Miss, Self::Reattach(serving)) => Some(serving.miss(host).await?),
            (Order::Outcomes, Self::Reattach(serving)) => Some(serving.outcomes().await?),
            (Order::Miss | Order::Outcomes, Self::Raw { .. }) => None,
        })
    }
}
