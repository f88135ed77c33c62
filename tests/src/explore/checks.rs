//! What holds in every state, and what holds where nothing more happens by itself.

use reattach_core::client;
use reattach_core::client::Status;
use reattach_core::connection;
use reattach_core::connection::Connection;
use reattach_core::connection::Incoming;
use reattach_core::id::TransportId;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::server::Peer;
use reattach_core::wire::CloseCode;

use super::actions::go_on;
use super::fingerprint::Eyes;
use super::fingerprint::Fold;
use super::state::State;
use super::steps::Checked;

fn check(holds: bool, words: &str) -> Checked {
    if holds { Ok(()) } else { Err(words.to_owned()) }
}

impl State {
    /// What holds whenever everything is drained.
    pub(super) fn check(&self) -> Checked {
        let (config, faults) = (self.shape.connection(), self.causes().faults);
        for client in &self.clients {
            let client = client.get();
            let waits =
                matches!(client.status(), Status::Connecting { .. } | Status::Attached | Status::Detached { .. });
            check(!waits || client.poll_timeout().is_some(), "a client waits without a timer")?;
            bounded(client.connection(), &config, faults)?;
        }
        let server = self.server.get();
        let registry = server.registry();
        let waits = registry.connections() + registry.transports() + registry.receipts() > 0;
        check(!waits || server.poll_timeout().is_some(), "the server waits without a timer")?;
        for peer in server.connections().filter_map(|cid| server.peer(cid)) {
            bounded(peer.connection(), &config, faults)?;
        }
        Ok(())
    }

    /// An input that names a dead transport changes nothing, but that a machine learns what time it is. It is tried on copies.
    pub(super) fn check_dead(&self) -> Checked {
        let eyes = Eyes { now: self.now, forgets: true, seed: 0 };
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
                    check(is_same, &format!("client {side} is changed by {input:?}, which names a dead transport"))?;
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
                check(is_same, &format!("the server is changed by {input:?}, which names a dead transport"))?;
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
        self.ledger.check_settled()?;
        let server = self.server.get();
        for (index, client) in self.clients.iter().enumerate().filter(|(index, _)| self.is_trying(*index)) {
            let client = client.get();
            check(client.status() == Status::Attached, &format!("client {index} rests and is not attached"))?;
            let peer = server.peer(&client.connection_id()).filter(|peer| peer.is_attached());
            let peer = peer.map(Peer::connection).ok_or("the server rests and is not attached")?;
            agree(client.connection(), peer)?;
        }
        Ok(())
    }
}

/// How many steps may pass from rest until all is told.
const TAIL: usize = 100;

/// Caps are kept, watermarks are in order, and nothing is written again without a cause.
fn bounded(connection: &Connection, config: &connection::Config, faults: u8) -> Checked {
    let link = connection.link();
    let (outbox, inbox) = (link.outbox(), link.inbox());
    check(outbox.usage().all().count() <= config.link.outbox.count, "the outbox is above its cap")?;
    check(inbox.usage().count() <= config.link.window.count, "the inbox is above its window")?;
    let (received, settled) = outbox.flight().taken();
    check(settled <= received && received <= outbox.flight().sent(), "a peer has what was not sent")?;
    let settlement = inbox.settlement();
    check(settlement.settled() <= settlement.received(), "something is settled that has not come")?;
    check(settlement.report().except.len() <= config.link.window.count as usize, "the list is above the window")?;
    check(connection.transport().is_none() || connection.epoch().is_some(), "what is attached has no epoch")?;
    check(faults > 0 || link.counters().rewritten == 0, "something is written again without a cause")?;
    check(faults > 0 || link.counters().duplicates == 0, "something comes twice without a cause")
}

/// Both sides of a connection are of one mind, and owe each other nothing.
fn agree(a: &Connection, b: &Connection) -> Checked {
    check(a.epoch() == b.epoch(), "both sides rest in different epochs")?;
    for (from, to) in [(a.link(), b.link()), (b.link(), a.link())] {
        let settlement = to.inbox().settlement();
        let (sent, taken) = (from.outbox().flight().sent(), from.outbox().flight().taken());
        check(
            from.outbox().is_empty() && from.outbox().usage().all().count() == 0,
            "an outbox rests and is not empty",
        )?;
        check(to.inbox().usage().count() == 0, "an inbox rests and is not empty")?;
        check(taken == (settlement.received(), settlement.settled()), "the watermarks differ at rest")?;
        check((sent, sent) == taken, "not all that was sent has come, at rest")?;
        check(from.outbox().flight().seen() == settlement.no(), "a report was not taken in, at rest")?;
    }
    Ok(())
}
