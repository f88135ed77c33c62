//! What the applications do: they send, withdraw and decide, and the oracle hears the answers.

use std::time::Duration;

use crate::net::Way;
use crate::oracle::Checked;
use crate::oracle::Party;

use super::Post;
use super::Run;
use super::Verdict;
use super::numbered;
use super::posts::outgoing;

impl Run {
    /// Who sends that way.
    const fn sender(&self, way: Way) -> Party {
        match way {
            Way::Up => Party::Client(0),
            Way::Down => Party::Server(self.cid),
        }
    }

    pub(super) fn post(&mut self, way: Way, filling: usize, post: Post) -> Checked {
        let (now, sent) = (self.world.now, self.sent[way as usize]);
        let number = numbered(way, sent);
        let message = outgoing(number, filling, post);
        let result = match way {
            Way::Up => self.world.clients[0].client.send(message.clone(), now),
            Way::Down => self.world.server.send(&self.cid, message.clone(), now),
        };
        match result {
            Ok(id) => {
                self.sent[way as usize] += 1;
                self.ids[way as usize].push(id);
                self.oracle.on_sent(self.sender(way), number, id, &message, now)
            }
            Err(error) => self.oracle.on_refused(self.sender(way), error, &message),
        }
    }

    pub(super) fn cancel(&mut self, way: Way, back: usize) -> Checked {
        let now = self.world.now;
        let Some(id) = self.ids[way as usize].iter().rev().nth(back).copied() else { return Ok(()) };
        let result = match way {
            Way::Up => self.world.clients[0].client.cancel(&id, now),
            Way::Down => self.world.server.cancel(&self.cid, &id, now),
        };
        self.oracle.on_cancelled(self.sender(way), &id, result.is_ok(), now)
    }

    pub(super) fn decide(&mut self, way: Way, back: usize, verdict: Verdict) -> Checked {
        let now = self.world.now;
        let Some(handle) = self.handles[way as usize].iter().rev().nth(back).copied() else { return Ok(()) };
        let decision = verdict.decision();
        let (by, result) = match way {
            Way::Up => (Party::Server(self.cid), self.world.server.decide(&self.cid, handle, decision.clone(), now)),
            Way::Down => (Party::Client(0), self.world.clients[0].client.decide(handle, decision.clone(), now)),
        };
        self.oracle.on_decided(by, handle, &decision, result, now)
    }

    pub(super) fn extend(&mut self, way: Way, back: usize, lease: Duration) -> Checked {
        let now = self.world.now;
        let Some(handle) = self.handles[way as usize].iter().rev().nth(back).copied() else { return Ok(()) };
        let (by, result) = match way {
            Way::Up => (Party::Server(self.cid), self.world.server.extend(&self.cid, handle, lease, now)),
            Way::Down => (Party::Client(0), self.world.clients[0].client.extend(handle, lease, now)),
        };
        self.oracle.on_extended(by, handle, lease, result, now)
    }

    pub(super) fn accept_all(&mut self) -> Checked {
        for way in Way::BOTH {
            let count = self.handles[way as usize].len();
            (0..count).rev().try_for_each(|back| self.decide(way, back, Verdict::Accepted))?;
        }
        Ok(())
    }
}
