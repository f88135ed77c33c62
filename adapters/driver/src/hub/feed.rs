//! What a connection's driver does for the hub at each turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use reattach_core::hub::Hub;
use reattach_core::id::ConnectionId;
use reattach_core::id::Epoch;
use reattach_core::id::Lane;
use reattach_core::id::Principal;
use reattach_core::id::SessionId;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;

use crate::hub::HubShared;
use crate::hub::State;
use crate::requests::rpc::Woken;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) epoch: Option<Epoch>,
    pub(crate) is_attached: bool,
    pub(crate) is_over: bool,
}

/// What fills a connection while its client takes more.
pub(crate) trait Feed: Send {
    /// Takes in where the connection stands. It is called under the connection's lock, at every turn.
    fn begin(&mut self, standing: Standing, woken: &mut Woken, now: Instant);

    /// The next message. `takes` says whether the client would take one of this length in this lane at once.
    fn next(&mut self, takes: &dyn Fn(&Lane, u64) -> bool) -> Option<(Lane, Payload)>;

    /// The message that was handed out last could not be sent.
    fn unsent(&mut self, woken: &mut Woken);
}

/// How many sessions' lanes are remembered.
const MAX_LANES: usize = 128;

pub(super) struct HubFeed {
    hub: Arc<HubShared>,
    connection: ConnectionId,
    /// Which of the feeds that this connection had it is: only the last one counts.
    number: u64,
    principal: Principal,
    /// Where it stood when the hub was told last.
    standing: Option<Standing>,
    lanes: BTreeMap<SessionId, Lane>,
    /// The session of the message that was handed out last.
    last: Option<SessionId>,
}

impl HubFeed {
    pub(super) fn new(hub: Arc<HubShared>, connection: ConnectionId, number: u64, principal: Principal) -> Self {
        Self { hub, connection, number, principal, standing: None, lanes: BTreeMap::new(), last: None }
    }
}

impl Feed for HubFeed {
    fn begin(&mut self, standing: Standing, woken: &mut Woken, now: Instant) {
        let before = self.standing.replace(standing);
        if before == Some(standing) {
            return;
        }
        let (connection, number, principal) = (self.connection, self.number, &self.principal);
        self.change_under_lock(woken, |state| {
            if standing.is_over {
                state.forget(connection, number, now);
            } else {
                tell(&mut state.hub, connection, principal, before, standing, now);
            }
        });
    }

    fn next(&mut self, takes: &dyn Fn(&Lane, u64) -> bool) -> Option<(Lane, Payload)> {
        let mut state = self.hub.lock();
        let lanes = std::cell::RefCell::new(&mut self.lanes);
        let pulled = state.hub.pull(self.connection, |session, len| {
            let mut lanes = lanes.borrow_mut();
            if lanes.len() > MAX_LANES {
                lanes.clear();
            }
            let lane = lanes.entry(session.clone()).or_insert_with(|| session.lane().into());
            takes(lane, len as u64)
        });
        if pulled.is_none() {
            // What is published from here on wakes this connection again.
            if let Some(served) = state.connections.get_mut(&self.connection) {
                served.is_woken = false;
            }
        }
        drop(state);
        let pulled = pulled?;
        let lane = self.lanes.get(&pulled.session).cloned().unwrap_or_else(|| pulled.session.lane().into());
        self.last = Some(pulled.session);
        Some((lane, pulled.payload))
    }

    fn unsent(&mut self, woken: &mut Woken) {
        if let Some(session) = self.last.take() {
            let connection = self.connection;
            self.change_under_lock(woken, |state| state.hub.handle_unsent(connection, &session));
        }
    }
}

impl HubFeed {
    /// Does something to the hub under the connection's lock. Who is to be told of it is told once that is open.
    fn change_under_lock(&self, woken: &mut Woken, change: impl FnOnce(&mut State)) {
        let mut state = self.hub.lock();
        change(&mut state);
        let after = state.settle(self.hub.runtime.now());
        drop(state);
        let hub = Arc::clone(&self.hub);
        woken.then.push(Box::new(move || hub.finish(after)));
    }
}

impl Drop for HubFeed {
    fn drop(&mut self) {
        // Where another feed of the same connection has taken its place, that one counts.
        if self.standing.is_none_or(|standing| !standing.is_over) {
            self.hub.change(|state, now| state.forget(self.connection, self.number, now));
        }
    }
}

/// Tells the hub what has changed of a connection.
fn tell(
    hub: &mut Hub,
    connection: ConnectionId,
    principal: &Principal,
    before: Option<Standing>,
    standing: Standing,
    now: Instant,
) {
    let was_in = before.and_then(|before| before.epoch);
    if was_in.is_some() && standing.epoch != was_in {
        hub.handle_epoch_ended(connection);
    }
    // One that is away when it is told of is known all the same.
    if standing.is_attached || before.is_none() {
        hub.handle_attached(connection, principal);
    }
    if !standing.is_attached {
        hub.handle_detached(connection, now);
    }
}
