//! A connection as the server's application holds it.

use std::sync::Arc;
use std::time::Duration;

use reattach_core::connection::Stats;
use reattach_core::error::ApiMisuse;
use reattach_core::id::ConnectionId;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::id::Principal;
use reattach_core::link::Outgoing;
use reattach_core::server::Peer;
use reattach_core::server::PeerEvent;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Payload;

use crate::events::Events;
use crate::receipt::Receipt;
use crate::received::Received;
use crate::shared::Shared;
use crate::watch::PeerState;
use crate::watch::PeerWatch;
use crate::watch::Watch;

/// One client's connection. It outlives sockets: a client that drops and comes back is still here, and the code that serves
/// it notices nothing but a pause. Cheap to clone; when the last clone is dropped the connection ends at once, as by
/// [`Connection::disconnect`].
///
/// Every method takes `&self` and may be called from any task.
#[derive(Clone)]
pub struct Connection(Arc<Handle>);

struct Handle {
    shared: Arc<Shared<Peer>>,
    cid: ConnectionId,
    principal: Principal,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.command(Peer::disconnect);
    }
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared<Peer>>, cid: ConnectionId, principal: Principal) -> Self {
        Self(Arc::new(Handle { shared, cid, principal }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<Peer>> {
        &self.0.shared
    }

    /// The connection's name.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.0.cid
    }

    /// Whom the connection belongs to.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// Sends a reliable message, waiting for room in the outbox first. The receipt can be awaited for the one outcome.
    ///
    /// Cancel-safe: dropped before it returns, nothing was sent; once it returns, the message is on its way whatever happens
    /// to the receipt.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::TooLarge`], [`ApiMisuse::IdInUse`], and [`ApiMisuse::Ended`] once the connection has ended or is being
    /// closed.
    pub async fn send(&self, message: impl Into<Outgoing> + Send) -> Result<Receipt, ApiMisuse> {
        self.0.shared.send(message.into()).await
    }

    /// Sends a reliable message if there is room now.
    ///
    /// # Errors
    ///
    /// As [`Connection::send`], and [`ApiMisuse::QueueFull`].
    pub fn try_send(&self, message: impl Into<Outgoing>) -> Result<Receipt, ApiMisuse> {
        self.0.shared.try_send(message.into())
    }

    /// Withdraws a message: at once where it was never written; else the other side is asked to, and its answer is the outcome.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::UnknownMessage`] for one that has its outcome, or never was.
    pub fn cancel(&self, id: &MessageId) -> Result<(), ApiMisuse> {
        self.0.shared.command(|machine, now| machine.cancel(id, now))
    }

    /// Sends an ephemeral message: now or never, without an outcome. A newer one of the same key replaces it.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::NotAttached`], [`ApiMisuse::TooLarge`], [`ApiMisuse::Ended`].
    pub fn send_ephemeral(&self, key: Name, payload: Payload) -> Result<(), ApiMisuse> {
        self.0.shared.send_ephemeral(key, payload)
    }

    /// Takes the next message. With automatic acceptance that accepts it: the client is told that this application has it.
    /// `None` once the connection has ended and everything was taken.
    ///
    /// Cancel-safe: dropped before it returns, no message was taken.
    pub async fn recv(&self) -> Option<Received> {
        self.0.shared.recv().await
    }

    /// Takes the next message if one is there.
    #[must_use]
    pub fn try_recv(&self) -> Option<Received> {
        self.0.shared.try_recv()
    }

    /// What the connection tells from here on.
    #[must_use]
    pub fn events(&self) -> Events<PeerEvent> {
        self.0.shared.subscribe()
    }

    /// Where the connection stands.
    #[must_use]
    pub fn state(&self) -> PeerState {
        PeerState::of(&self.0.shared.lock().machine)
    }

    /// Watches where the connection stands.
    #[must_use]
    pub fn watch(&self) -> PeerWatch {
        PeerWatch(Watch::new(&self.0.shared))
    }

    /// Whether the client has a transport at the moment.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.0.shared.lock().machine.is_attached()
    }

    /// The smoothed round trip, once measured.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        self.stats().rtt
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.shared.stats()
    }

    /// Closes the transport with a code and keeps the state. The client comes back as the code's policy says.
    ///
    /// # Errors
    ///
    /// [`ApiMisuse::ReservedCode`] for a code that no close frame may carry (RFC 6455, 7.4).
    pub fn detach(&self, code: CloseCode) -> Result<(), ApiMisuse> {
        self.0.shared.command(|peer, now| peer.detach(code, now))
    }

    /// Ends the connection at once. Every message gets its outcome.
    pub fn disconnect(&self) {
        self.0.shared.command(Peer::disconnect);
    }

    /// Ends the connection once every message has its outcome, or after `patience`, and waits for that. Nothing more can be
    /// sent.
    ///
    /// Dropping the future does not stop the closing.
    pub async fn close(&self, patience: Duration) {
        self.0.shared.close(patience).await;
    }

    /// Waits until the connection has ended, whoever ended it. Cancel-safe.
    pub async fn ended(&self) {
        self.0.shared.ended().await;
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("cid", &self.0.cid).field("principal", &self.0.principal).finish()
    }
}
