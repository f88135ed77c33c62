//! Which runtime the driver runs on. The command itself runs on tokio; the handles do not mind.

use std::sync::Arc;

use clap::ValueEnum;
use reattach_tokio::runtime::Runtime;

/// A runtime's name on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RuntimeName {
    /// tokio
    #[default]
    Tokio,
    /// smol
    Smol,
}

impl RuntimeName {
    /// The runtime.
    #[must_use]
    pub fn get(self) -> Arc<dyn Runtime> {
        match self {
            Self::Tokio => Arc::new(reattach_tokio::Tokio),
            Self::Smol => Arc::new(reattach_smol::Smol::global()),
        }
    }
}
