//! Where a client stands, as a user interface shows it to people.

use core::time::Duration;

use crate::client::event::Status;
use crate::connection::Stats;
use crate::time::Instant;

/// The colour of the light.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Light {
    /// Connected.
    Green,
    /// Connecting or reconnecting: nothing need be done.
    Yellow,
    /// Disconnected, until somebody does something.
    Red,
    /// Given up, or over.
    Grey,
}

/// What there is to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Advice {
    /// Nothing.
    Nothing,
    /// Wait; it goes on by itself. Whoever cannot wait may try at once.
    Wait,
    /// Connect again.
    Reconnect,
    /// Go on in the other window, or connect again here.
    GoOnElsewhere,
    /// Sign in again.
    SignIn,
    /// Start a new connection: this one has ended.
    StartOver,
}

/// One value that a user interface can render as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct View {
    /// The colour.
    pub light: Light,
    /// Where the client stands.
    pub status: Status,
    /// Which retry in a row, from 1, and of how many, while there is one.
    pub retry: Option<(u32, Option<u32>)>,
    /// When the next try is due, while one is.
    pub retry_at: Option<Instant>,
    /// The smoothed round trip, while connected and once measured.
    pub latency: Option<Duration>,
    /// Messages without an outcome.
    pub pending: usize,
    /// Those of them that the other side has had for long, undecided.
    pub delayed: usize,
    /// Messages that failed for good since the machine was made. Each can be sent again, as a new message.
    pub failed: u64,
    /// What to do.
    pub advice: Advice,
}

impl View {
    pub(super) fn of(status: Status, stats: &Stats) -> Self {
        let (light, advice) = match &status {
            Status::Attached => (Light::Green, Advice::Nothing),
            Status::Connecting { .. } | Status::Detached { .. } => (Light::Yellow, Advice::Wait),
            Status::Suspended => (Light::Red, Advice::Reconnect),
            Status::Superseded => (Light::Red, Advice::GoOnElsewhere),
            Status::Failed(crate::reconnect::GiveUp::Unauthorized { .. }) => (Light::Grey, Advice::SignIn),
            Status::Failed(_) => (Light::Grey, Advice::Reconnect),
            Status::Closed(_) => (Light::Grey, Advice::StartOver),
        };
        let (retry, retry_at) = match &status {
            Status::Connecting { retry, limit } if *retry > 0 => (Some((*retry, *limit)), None),
            Status::Detached { retry, limit, retry_at } => (Some((*retry, *limit)), Some(*retry_at)),
            Status::Connecting { .. }
            | Status::Attached
            | Status::Suspended
            | Status::Superseded
            | Status::Closed(_)
            | Status::Failed(_) => (None, None),
        };
        let latency = stats.rtt.filter(|_| status == Status::Attached);
        let (pending, delayed, failed) = (stats.queued + stats.written, stats.delayed, stats.link.failed);
        Self { light, status, retry, retry_at, latency, pending, delayed, failed, advice }
    }
}
