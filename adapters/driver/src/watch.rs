//! Where a client stands, and where a connection stands on the server; and waiting until that changes.

use std::sync::Arc;
use std::time::Duration;

use reattach_core::client::Client;
use reattach_core::client::Closed;
use reattach_core::client::Status;
use reattach_core::connection::Stats;
use reattach_core::reconnect::GiveUp;
use reattach_core::server::Peer;
use reattach_core::server::PeerClosed;
use reattach_core::time::Instant;

use crate::machine::Machine;
use crate::shared::Shared;

/// Where a client stands, for people and for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// A transport is being opened, or waits for its welcome.
    Connecting {
        /// Which retry in a row it is; 0 for a first try.
        attempt: u32,
        /// How many are allowed, where there is a limit.
        limit: Option<u32>,
    },
    /// Attached: what is sent goes out.
    Attached,
    /// No transport; the next try is due. What is sent is queued.
    Detached {
        /// Which retry in a row the next try is, from 1.
        attempt: u32,
        /// How many are allowed, where there is a limit.
        limit: Option<u32>,
        /// How long it is until it is due, from the moment at which the state was asked for.
        next_try_in: Duration,
    },
    /// Sent to sleep; [`Client::reconnect`](crate::Client::reconnect) wakes it.
    Suspended,
    /// Another instance holds the connection, and this client stopped.
    Superseded,
    /// The connection has ended.
    Closed(Closed),
    /// Trying stopped. [`Client::reconnect`](crate::Client::reconnect) starts over.
    Failed(GiveUp),
}

impl ConnectionState {
    pub(crate) fn of(status: Status, now: Instant) -> Self {
        match status {
            Status::Connecting { retry, limit } => Self::Connecting { attempt: retry, limit },
            Status::Attached => Self::Attached,
            Status::Detached { retry, limit, retry_at } => {
                Self::Detached { attempt: retry, limit, next_try_in: retry_at - now }
            }
            Status::Suspended => Self::Suspended,
            Status::Superseded => Self::Superseded,
            Status::Closed(closed) => Self::Closed(closed),
            Status::Failed(reason) => Self::Failed(reason),
            status => unreachable!("a status of another version: {status:?}"),
        }
    }
}

/// Where a connection stands on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerState {
    /// The client has a transport: what is sent goes out.
    Attached,
    /// The client has none at the moment. What is sent is queued until it comes back, or does not in time.
    Detached,
    /// The connection has ended.
    Closed(PeerClosed),
}

impl PeerState {
    pub(crate) fn of(peer: &Peer) -> Self {
        match peer.closed() {
            Some(closed) => Self::Closed(closed.clone()),
            None if peer.is_attached() => Self::Attached,
            None => Self::Detached,
        }
    }
}

/// What the watches of both sides have in common.
pub(crate) struct Watch<M: Machine> {
    shared: Arc<Shared<M>>,
    seen: u64,
}

impl<M: Machine> Watch<M> {
    pub(crate) fn new(shared: &Arc<Shared<M>>) -> Self {
        Self { seen: shared.lock().version, shared: Arc::clone(shared) }
    }

    fn look<T>(&mut self, look: impl FnOnce(&M, Instant) -> T) -> T {
        let state = self.shared.lock();
        self.seen = state.version;
        look(&state.machine, self.shared.now())
    }

    async fn changed(&self) {
        loop {
            let changed = self.shared.changed.listen();
            let has_changed = {
                let state = self.shared.lock();
                state.version != self.seen || state.machine.is_over()
            };
            if has_changed {
                return;
            }
            changed.await;
        }
    }
}

/// Watches where a client stands. It does not keep the client alive.
pub struct StateWatch(pub(crate) Watch<Client>);

impl StateWatch {
    /// Where the client stands.
    #[must_use]
    pub fn state(&mut self) -> ConnectionState {
        self.0.look(|client, now| ConnectionState::of(client.status(), now))
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.shared.stats()
    }

    /// Waits until something has happened since [`StateWatch::state`] was asked last. Once the connection has ended it returns
    /// at once. Cancel-safe.
    pub async fn changed(&mut self) {
        self.0.changed().await;
    }
}

impl std::fmt::Debug for StateWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateWatch").finish_non_exhaustive()
    }
}

/// Watches where a connection stands on the server. It does not keep the connection alive.
pub struct PeerWatch(pub(crate) Watch<Peer>);

impl PeerWatch {
    /// Where the connection stands.
    #[must_use]
    pub fn state(&mut self) -> PeerState {
        self.0.look(|peer, _| PeerState::of(peer))
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.shared.stats()
    }

    /// Waits until something has happened since [`PeerWatch::state`] was asked last. Once the connection has ended it returns
    /// at once. Cancel-safe.
    pub async fn changed(&mut self) {
        self.0.changed().await;
    }
}

impl std::fmt::Debug for PeerWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerWatch").finish_non_exhaustive()
    }
}
