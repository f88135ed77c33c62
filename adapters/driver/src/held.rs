//! Either side's handle, for what is the same on both.

use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use event_listener::EventListener;
use reattach_core::error::ApiMisuse;
use reattach_core::id::Epoch;
use reattach_core::id::Lane;
use reattach_core::link::Outgoing;

use crate::client::Client;
use crate::connection::Connection;
use crate::receipt::Receipt;
use crate::received::Received;
use crate::runtime::Task;
use crate::runtime::Timer;
use crate::shared::Taken;

/// Whose messages they are. It keeps the connection alive.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Client(Client),
    Connection(Connection),
}

/// Does the same on either side.
macro_rules! on_either {
    ($held:expr, $shared:ident => $what:expr) => {
        match $held {
            Held::Client(client) => {
                let $shared = client.shared();
                $what
            }
            Held::Connection(connection) => {
                let $shared = connection.shared();
                $what
            }
        }
    };
}

impl Held {
    pub(crate) fn poll_recv(
        &self,
        listener: &mut Option<EventListener>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Received>> {
        on_either!(self, shared => shared.poll_recv(listener, cx))
    }

    /// The same for one lane; see [`Shared::poll_recv_in`](crate::shared::Shared::poll_recv_in).
    pub(crate) fn poll_recv_in(
        &self,
        lane: &Lane,
        epoch: Option<Epoch>,
        listener: &mut Option<EventListener>,
        cx: &mut Context<'_>,
    ) -> Poll<Taken> {
        on_either!(self, shared => shared.poll_recv_in(lane, epoch, listener, cx))
    }

    pub(crate) fn try_send(&self, message: Outgoing) -> Result<Receipt, ApiMisuse> {
        on_either!(self, shared => shared.try_send(message))
    }

    pub(crate) fn listen_for_room(&self) -> EventListener {
        on_either!(self, shared => shared.room.listen())
    }

    /// Keeps a lane's messages for one reader. Returns whether nobody had them before.
    pub(crate) fn claim(&self, lane: &Lane) -> bool {
        on_either!(self, shared => shared.claim(lane))
    }

    /// Lets whoever receives have a lane's messages again.
    pub(crate) fn release(&self, lane: &Lane) {
        on_either!(self, shared => shared.release(lane));
    }

    /// Whether a message of `len` bytes in this lane would find room in the outbox.
    pub(crate) fn has_room(&self, lane: &Lane, len: u64) -> bool {
        on_either!(self, shared => shared.lock().machine.has_room(lane, len))
    }

    /// The epoch that the connection is in, and how many it has been through.
    pub(crate) fn epoch(&self) -> (Option<Epoch>, u64) {
        on_either!(self, shared => shared.epoch())
    }

    pub(crate) fn timer(&self, after: Duration) -> Box<dyn Timer> {
        let mut timer = on_either!(self, shared => shared.timer());
        timer.set(after);
        timer
    }

    pub(crate) fn close(&self, patience: Duration) -> Task<()> {
        let held = self.clone();
        Task::new(async move {
            match held {
                Self::Client(client) => client.close(patience).await,
                Self::Connection(connection) => connection.close(patience).await,
            }
        })
    }
}
