//! The client's half of the handshake: what a hello says, and whether a welcome fits it.

use crate::connection::Attach;
use crate::connection::Connection;
use crate::error::ProtocolError;
use crate::id::Attempt;
use crate::id::ConnectionId;
use crate::id::ConnectionKey;
use crate::id::Fence;
use crate::id::InstanceId;
use crate::id::TransportId;
use crate::link::Continuity;
use crate::outcome::Unknown;
use crate::time::Instant;
use crate::wire::Hello;
use crate::wire::Report;
use crate::wire::Token;
use crate::wire::Welcome;

/// Who the client is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) key: ConnectionKey,
    pub(super) cid: ConnectionId,
    pub(super) instance: InstanceId,
    /// The number of the last hello.
    pub(super) attempt: Attempt,
}

impl Identity {
    pub(super) fn new(key: ConnectionKey, instance: InstanceId) -> Self {
        Self { key, cid: key.connection_id(), instance, attempt: Attempt::ZERO }
    }

    /// The hello of this moment. It carries the client's report, which counts as reported from here on.
    pub(super) fn hello(&self, connection: &mut Connection, token: Option<Token>, fence: Option<Fence>) -> Hello {
        let epoch = connection.epoch();
        let link = connection.link_mut();
        link.set_reported();
        let outbox = link.outbox();
        Hello {
            key: self.key,
            cid: self.cid,
            instance: self.instance,
            attempt: self.attempt,
            epoch,
            sent: outbox.flight().sent(),
            base: outbox.flight().base(),
            seen: outbox.flight().seen(),
            report: link.report(),
            limits: link.config().limits(),
            token,
            fence,
        }
    }
}

/// Takes a welcome in: the epoch goes on, or another one begins.
///
/// # Errors
///
/// [`ProtocolError::BadWelcome`] where it contradicts the hello; nothing has changed then. [`ProtocolError::OldState`] where
/// it takes back what the server has said before; then the epoch has ended here, and the next hello names none.
pub(super) fn accept(
    connection: &mut Connection,
    cid: ConnectionId,
    transport: TransportId,
    produced: usize,
    welcome: &Welcome,
    now: Instant,
) -> Result<(), ProtocolError> {
    let contradicts = |key| Err(ProtocolError::BadWelcome { key });
    if welcome.cid != cid {
        return contradicts("cid");
    }
    let is_same_epoch = connection.epoch() == Some(welcome.epoch);
    if is_same_epoch != welcome.resumed {
        return contradicts("epoch");
    }
    let link = connection.link_mut();
    if welcome.resumed {
        if link.outbox().flight().is_continued_by(&welcome.report) == Continuity::PeerIsBehind {
            // Its newer self may have handed over what this copy never got, so writing it again might deliver it twice.
            link.end_epoch(None, Unknown::NoReceipt, true);
            connection.forget_epoch();
            return Err(ProtocolError::OldState);
        }
        if link.on_seen(welcome.seen, now).is_err() {
            return contradicts("seen");
        }
        if link.on_report(&welcome.report, now).is_err() {
            return contradicts("received");
        }
    } else {
        if welcome.report != Report::default() {
            return contradicts("received");
        }
        let epoch = connection.epoch();
        let (received, settled) = connection.link().outbox().flight().taken();
        let receipt = (welcome.receipt.as_deref())
            .filter(|receipt| Some(receipt.epoch) == epoch)
            .filter(|receipt| !receipt.is_final || (receipt.received >= received && receipt.settled >= settled));
        connection.link_mut().end_epoch(receipt, Unknown::NoReceipt, true);
    }
    let attach = Attach {
        transport,
        epoch: welcome.epoch,
        resumed: welcome.resumed,
        limits: welcome.limits,
        produced,
        measure: true,
    };
    connection.attach(&attach, now);
    Ok(())
}
