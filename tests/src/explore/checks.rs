//! What holds in every state, and what holds where nothing more happens by itself.

use reattach_core::client;
use reattach_core::client::Status;
use reattach_core::connection::Connection;
use reattach_core::connection::Incoming;
use reattach_core::id::TransportId;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::server::Peer;
use reattach_core::wire::CloseCode;

use crate::oracle;
use crate::oracle::Broken;
use crate::oracle::Checked;
use crate::oracle::Party;

use super::actions::go_on;
use super::fingerprint::Eyes;
use super::fingerprint::Fold;
use super::state::State;

fn check(holds: bool, rule: &'static str, words: impl Into<String>) -> Checked {
    if holds { Ok(()) } else { Err(Broken::new(rule, words)) }
}

impl State {
    /// What holds whenever everything is drained.
    pub(super) fn check(&self) -> Checked {
        let (oracle, is_disturbed) = (self.account.get(), self.has_gone_wrong());
        for (index, client) in self.clients.iter().enumerate() {
            let client = client.get();
            let waits =
                matches!(client.status(), Status::Connecting { .. } | Status::Attached | Status::Detached { .. });
            check(!waits || client.poll_timeout().is_some(), "L3", "a client waits without a timer")?;
            oracle.check_connection(Party::Client(index), client.connection())?;
            undisturbed(client.connection(), is_disturbed)?;
        }
        let server = self.server.get();
        let registry = server.registry();
        let waits = registry.connections() + registry.transports() + registry.receipts() > 0;
        check(!waits || server.poll_timeout().is_some(), "L3", "the server waits without a timer")?;
        for (cid, peer) in server.connections().filter_map(|cid| Some((*cid, server.peer(cid)?))) {
            oracle.check_connection(Party::Server(cid), peer.connection())?;
            undisturbed(peer.connection(), is_disturbed)?;
        }
        Ok(())
    }

    /// An input that names a dead transport changes nothing, but that a machine learns what time it is. It is tried on copies.
    pub(super) fn check_dead(&self) -> Checked {
        let eyes = Eyes { now: self.now, forgets: true, seed: 0, remembers: false };
        let (code, text) = (CloseCode::ABNORMAL, "{\"t\":\"void\",\"seq\":1}");
        for (side, client) in self.clients.iter().enumerate() {
            let lives = |transport| {
                self.wires.values().any(|wire| wire.side == side && wire.transport == transport && wire.client.lives)
            };
            for transport in (1..=self.opened).map(TransportId).filter(|transport| !lives(*transport)) {
                for input in [
                    client::Input::Closed { transport, code },
                    client::Input::Opened { transport, token: None },
                    client::Input::OpenFailed { transport, error: OpenError::Unreachable },
                    client::Input::Received { transport, incoming: Incoming::Text(text) },
                    client::Input::Progress { transport, read: 1, written: 1_000_000 },
                ] {
                    let mut copy = client.get().clone();
                    copy.handle_input(input.clone(), self.now);
                    let is_same = copy.poll_output().is_none() && Fold::of(&copy, eyes) == Fold::of(client.get(), eyes);
                    check(
                        is_same,
                        "S6",
                        format!("client {side} is changed by {input:?}, which names a dead transport"),
                    )?;
                }
            }
        }
        let lives = |number: &u64| self.wires.get(number).is_some_and(|wire| wire.server.lives);
        for transport in (1..=self.opened).filter(|number| !lives(number)).map(TransportId) {
            for input in [
                server::Input::Closed { transport, code },
                server::Input::Authenticated { transport, admission: None },
                server::Input::Received { transport, incoming: Incoming::Text(text) },
                server::Input::Progress { transport, read: 1, written: 1_000_000 },
            ] {
                let mut copy = self.server.get().clone();
                copy.handle_input(input.clone(), self.now);
                let is_same =
                    copy.poll_output().is_none() && Fold::of(&copy, eyes) == Fold::of(self.server.get(), eyes);
                check(is_same, "S6", format!("the server is changed by {input:?}, which names a dead transport"))?;
            }
        }
        Ok(())
    }

    /// What holds once nothing more happens by itself: every outcome was told, and both sides agree. What a lost text told is
    /// told again with the next sign of life, which is the one thing that is waited for beyond the horizon.
    pub(super) fn check_at_rest(&self) -> Checked {
        let told = self.check_settled();
        if told.is_ok() || self.left.losses == self.shape.budget.losses {
            return told;
        }
        let mut later = self.clone();
        for _ in 0..TAIL {
            let mut actions = Vec::new();
            go_on(&later, &mut actions);
            match (actions.first(), later.next_timer()) {
                (Some(action), _) => later = later.after(*action)?,
                (None, _) if later.check_settled().is_ok() => return Ok(()),
                (None, Some(at)) => {
                    let first = later.woken_at(at).next();
                    first.map_or(Ok(()), |first| later.wake_at(first, at))?;
                }
                (None, None) => break,
            }
        }
        later.check_settled()
    }

    fn check_settled(&self) -> Checked {
        self.account.get().check_settled()?;
        let server = self.server.get();
        for (index, client) in self.clients.iter().enumerate().filter(|(index, _)| self.is_trying(*index)) {
            let client = client.get();
            let is_attached = client.status() == Status::Attached;
            check(is_attached, "L1", format!("client {index} rests and is not attached"))?;
            let peer = server.peer(&client.connection_id()).filter(|peer| peer.is_attached());
            let peer =
                peer.map(Peer::connection).ok_or_else(|| Broken::new("L2", "the server rests and is not attached"))?;
            agree(client.connection(), peer)?;
        }
        Ok(())
    }
}

/// How many steps may pass from rest until all is told.
const TAIL: usize = 100;

/// Nothing is written again and nothing comes twice before anything has gone wrong.
fn undisturbed(connection: &Connection, is_disturbed: bool) -> Checked {
    let counters = connection.link().counters();
    let has_epoch = connection.transport().is_none() || connection.epoch().is_some();
    check(has_epoch, "L2", "what is attached has no epoch")?;
    check(is_disturbed || counters.rewritten == 0, "E1", "something is written again without a cause")?;
    check(is_disturbed || counters.duplicates == 0, "E1", "something comes twice without a cause")
}

/// Both sides of a connection are of one mind, owe each other nothing, and have taken in each other's last report.
fn agree(a: &Connection, b: &Connection) -> Checked {
    oracle::agree(a, b)?;
    let is_taken_in = |from: &Connection, to: &Connection| {
        from.link().outbox().flight().seen() == to.link().inbox().settlement().no()
    };
    check(is_taken_in(a, b) && is_taken_in(b, a), "L2", "a report was not taken in, at rest")
}
