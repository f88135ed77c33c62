//! A server: connections that outlive their sockets.

mod config;
mod desk;
mod health;
mod upgrade;
mod visit;

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::Weak;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::Either;
use futures_util::future::select;

use reattach_core::id::ConnectionId;
use reattach_core::id::Name;
use reattach_core::id::Principal;
use reattach_core::server::PeerClosed;
use reattach_core::server::Unfinished;
use tracing::Instrument as _;

use crate::connection::Connection;
use crate::hub::HubShared;
use crate::runtime::Io;
use crate::runtime::Runtime;
use crate::runtime::Task;
use crate::targets;

pub use self::config::Admitted;
pub use self::config::Hello;
pub use self::config::ServerConfig;
pub use self::health::ClientCounts;
pub use self::health::Health;
pub use self::health::HealthPath;
pub use self::health::HealthPathError;
pub use self::health::PendingCounts;
pub use self::upgrade::Origins;
pub use self::upgrade::Upgrade;

use self::desk::Desk;

/// A server. Cheap to clone; when the last clone is dropped it shuts down, as by [`Server::shut_down`].
#[derive(Clone)]
pub struct Server(Arc<Handle>);

struct Handle {
    desk: Arc<Desk>,
    config: Arc<ServerConfig>,
    local: Option<SocketAddr>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.desk.shut_down();
    }
}

/// A connection that had not finished when [`Server::drain`] lost its patience.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undrained {
    /// The connection's name.
    pub id: ConnectionId,
    /// Whom it belonged to.
    pub principal: Principal,
    /// What it left undone.
    pub unfinished: Unfinished,
}

/// How long a listener that cannot accept waits before it tries again: out of file descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many are accepted before others have a turn, on runtimes that leave it to their tasks to give way.
const ACCEPTED_AT_ONCE: u64 = 32;

impl Server {
    /// A server without a listener: it serves the streams that it is given ([`Server::serve`]).
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, config: ServerConfig) -> Self {
        Self::with_address(runtime, config, None)
    }

    /// A server that listens on an address such as `127.0.0.1:0`. Dropped before it returns, nobody listens.
    ///
    /// # Errors
    ///
    /// What the system says to the address.
    pub async fn bind(runtime: Arc<dyn Runtime>, address: &str, config: ServerConfig) -> io::Result<Self> {
        let listener = runtime.listen(address.to_owned()).await?;
        let server = Self::with_address(Arc::clone(&runtime), config, Some(listener.local_addr()?));
        let desk = Arc::clone(&server.0.desk);
        let config = Arc::clone(&server.0.config);
        let accepting = Arc::clone(&runtime);
        let counted = desk.tasks.one_more();
        runtime.spawn(Task::new(async move {
            let _counted = counted;
            // It goes before the task is counted out: whoever has waited for the end can listen on the address again.
            let mut listener = listener;
            for accepted in 1_u64.. {
                // A crowd that comes at once shall not keep those waiting who are in.
                if accepted % ACCEPTED_AT_ONCE == 0 {
                    give_way().await;
                }
                let shut_down = desk.shut_down.listen();
                if desk.is_shut_down() {
                    return;
                }
                let next = std::pin::pin!(std::future::poll_fn(|cx| listener.poll_accept(cx)));
                match select(next, shut_down).await {
                    Either::Left((Ok((io, remote)), _)) => receive(&desk, &config, io, Some(remote)),
                    Either::Left((Err(error), _)) => {
                        tracing::warn!(target: targets::SOCKET, %error, "cannot accept");
                        pause(&accepting).await;
                    }
                    Either::Right(_) => return,
                }
            }
        }));
        Ok(server)
    }

    fn with_address(runtime: Arc<dyn Runtime>, config: ServerConfig, local: Option<SocketAddr>) -> Self {
        let desk = Desk::new(runtime, config.machine(), config.requests);
        desk.spawn_timer();
        Self(Arc::new(Handle { desk, config: Arc::new(config), local }))
    }

    pub(crate) fn runtime(&self) -> &Arc<dyn Runtime> {
        self.0.desk.runtime()
    }

    /// A hub is on this server.
    pub(crate) fn enlist(&self, hub: Weak<HubShared>) {
        self.0.desk.enlist(hub);
    }

    /// How the server is: its connections, what waits, since when, and whether it is about to go. Each connection is locked for a
    /// moment, one after the other.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.desk.health()
    }

    /// Serves a stream that the caller accepted, from the HTTP request on. `remote` is what the cap per address counts.
    pub fn serve(&self, io: impl Io, remote: Option<SocketAddr>) {
        receive(&self.0.desk, &self.0.config, Box::new(io), remote);
    }

    /// The next new connection. A client that comes back is not a new one. `None` once the server has shut down.
    ///
    /// Cancel-safe: dropped before it returns, no connection was taken.
    pub async fn accept(&self) -> Option<Connection> {
        loop {
            let arrived = self.0.desk.arrived.listen();
            if let Some(connection) = self.0.desk.take_accepted() {
                return Some(connection);
            }
            if self.0.desk.is_shut_down() {
                return None;
            }
            arrived.await;
        }
    }

    /// The address that it listens on, where it does.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.local
    }

    /// How many connections there are, attached or not.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.desk.counts().0
    }

    /// How many transports there are, attached or not.
    #[must_use]
    pub fn transports(&self) -> usize {
        self.0.desk.counts().1
    }

    /// Revokes a connection: its transport is closed, and it ends. Whoever comes with its key begins another, if they are let in.
    /// Returns whether there was one.
    pub fn revoke(&self, cid: &ConnectionId) -> bool {
        self.0.desk.revoke(cid)
    }

    /// Revokes every connection of a principal, and returns how many there were.
    pub fn revoke_all(&self, principal: &Name) -> usize {
        self.0.desk.revoke_all(&Principal::Named(principal.clone()))
    }

    /// Stops in good order. Nothing more is handed over and nothing more can be sent; what is in the application's hands can be
    /// decided about, and what was sent can be settled, for as long as `patience` says. Then each connection ends with a last
    /// word that says what became of everything, and each client is asked to come back after a time of its own between the two
    /// of `come_back`; then it shuts down. Returns the connections that had not finished by then, and what they left undone: none
    /// where everything has its end.
    ///
    /// Dropping the future does not stop the draining; the server is not shut down at the end of it then.
    pub async fn drain(&self, patience: Duration, come_back: RangeInclusive<Duration>) -> Vec<Undrained> {
        let mut undrained = Vec::new();
        for peer in self.0.desk.drain(patience, &come_back) {
            peer.ended().await;
            let state = peer.lock();
            // The application may have cut one off meanwhile.
            if let Some(PeerClosed::Drained { unfinished } | PeerClosed::Cut { unfinished }) = state.machine.closed() {
                let (id, principal) = (state.machine.id().cid, state.machine.principal().clone());
                undrained.push(Undrained { id, principal, unfinished: *unfinished });
            }
        }
        undrained.retain(|connection| !connection.unfinished.is_nothing());
        self.shut_down();
        self.closed().await;
        undrained
    }

    /// Stops at once and loses all state: the listener goes, transports are closed as going away, every connection ends and
    /// every message gets its outcome. Clients come back to whatever listens then.
    pub fn shut_down(&self) {
        self.0.desk.shut_down();
    }

    /// Waits, after [`Server::shut_down`], until every transport has been told and has hung up, or has had two seconds for it. A
    /// program that ends before that cuts its clients off without a word. Cancel-safe.
    pub async fn closed(&self) {
        let desk = &self.0.desk;
        loop {
            let shut_down = desk.shut_down.listen();
            if desk.is_shut_down() {
                break;
            }
            shut_down.await;
        }
        // A task that ends hands its transport over to be seen off before it is counted out.
        desk.tasks.none_left().await;
        desk.closing.all_left().await;
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("local", &self.0.local).finish_non_exhaustive()
    }
}

fn receive(desk: &Arc<Desk>, config: &Arc<ServerConfig>, io: Box<dyn Io>, remote: Option<SocketAddr>) {
    let Some(admission) = desk.admit(remote, config.health().is_some()) else { return };
    let transport = admission.transport;
    let visit = visit::visit(Arc::clone(desk), Arc::clone(config), admission, io, remote);
    let counted = desk.tasks.one_more();
    let span = tracing::debug_span!(target: targets::SOCKET, "transport", id = transport.0, ?remote);
    let visit = async move {
        let _counted = counted;
        visit.await;
    };
    desk.runtime().spawn(Task::new(visit.instrument(span)));
}

/// Lets others have a turn.
async fn give_way() {
    let mut has_waited = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn pause(runtime: &Arc<dyn Runtime>) {
    let mut timer = runtime.timer();
    timer.set(ACCEPT_PAUSE);
    std::future::poll_fn(move |cx| match timer.poll_elapsed(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => Poll::Pending,
    })
    .await;
}
