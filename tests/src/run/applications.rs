//! What the applications do: they send, withdraw and decide, and the answers are compared.

use std::time::Duration;

use reattach_core::error::ApiMisuse;
use reattach_core::link::Decision;

use crate::model::Broken;
use crate::model::Post;
use crate::model::Verdict;
use crate::net::Way;

use super::OUTBOX;
use super::Run;
use super::is_stopped;
use super::posts::outgoing;

impl Run {
    pub(super) fn post_up(&mut self, filling: usize, post: Post) -> Result<(), Broken> {
        let (now, text) = (self.world.now, numbered(self.up.sent(), filling));
        let client = &mut self.world.client().client;
        let result = client.send(outgoing(&text, post), now);
        // Refusals need a cause too.
        let stats = client.stats();
        let is_large = text.len() as u64 + 2 > OUTBOX.bytes / 2;
        let held = client.connection().link().outbox().usage().count();
        let is_half_full = held >= OUTBOX.count / 2 || stats.outbox_bytes >= OUTBOX.bytes / 2 || is_large;
        match result {
            Ok(id) => {
                self.ids_up.push(id);
                self.up.on_posted(id, post)
            }
            Err(ApiMisuse::QueueFull) if is_half_full => Ok(()),
            Err(ApiMisuse::Ended) if self.has_cause || is_stopped(client) => Ok(()),
            Err(error) => Err(Broken(format!("a send was refused without a cause: {error}"))),
        }
    }

    pub(super) fn post_down(&mut self, filling: usize, post: Post) -> Result<(), Broken> {
        let (now, text) = (self.world.now, numbered(self.down.sent(), filling));
        let Ok(id) = self.world.server.send(&self.cid, outgoing(&text, post), now) else { return Ok(()) };
        self.ids_down.push(id);
        self.down.on_posted(id, post)
    }

    pub(super) fn cancel(&mut self, way: Way, back: usize) -> Result<(), Broken> {
        let now = self.world.now;
        let (ids, direction) = match way {
            Way::Up => (&self.ids_up, &mut self.up),
            Way::Down => (&self.ids_down, &mut self.down),
        };
        let Some(id) = ids.iter().rev().nth(back).copied() else { return Ok(()) };
        let result = match way {
            Way::Up => self.world.clients[0].client.cancel(&id, now),
            Way::Down => self.world.server.cancel(&self.cid, &id, now),
        };
        direction.on_cancelled(&id, result.is_ok())
    }

    pub(super) fn decide(&mut self, way: Way, back: usize, verdict: Verdict) -> Result<(), Broken> {
        let now = self.world.now;
        // An ended connection's messages can be taken, and nobody waits for what becomes of them.
        let is_gone = way == Way::Up && (self.ended > 0 || self.world.server.peer(&self.cid).is_none());
        let (hands, direction) = match way {
            Way::Up => (&mut self.hands_up, &mut self.up),
            Way::Down => (&mut self.hands_down, &mut self.down),
        };
        let Some((handle, number)) = hands.handles.iter().rev().nth(back).copied() else { return Ok(()) };
        let code = "busy".parse().expect("a code");
        let decision = match verdict {
            Verdict::Accepted => Decision::Accept,
            Verdict::Rejected => Decision::Reject { code, reason: String::from("no") },
            Verdict::Deferred => Decision::Defer { retry_after: None, code },
            Verdict::Abandoned => Decision::Abandon,
        };
        let result = match way {
            Way::Up => self.world.server.decide(&self.cid, handle, decision, now),
            Way::Down => self.world.clients[0].client.decide(handle, decision, now),
        };
        let is_current = hands.current.get(&number).is_some_and(|(current, _)| *current == handle);
        match (result, is_current) {
            (Ok(()), true) => {
                hands.current.remove(&number);
                direction.on_decided(number, verdict)
            }
            (Ok(()), false) if hands.left.remove(&handle).is_some() => direction.on_decided_late(number, verdict),
            (Err(ApiMisuse::UnknownConnection), _) | (Err(ApiMisuse::Undecidable), false) => Ok(()),
            (Err(_), _) if is_gone => Ok(()),
            (result, _) => Err(Broken(format!("a decision about {number} is answered with {result:?}"))),
        }
    }

    pub(super) fn extend(&mut self, way: Way, back: usize, lease: Duration) -> Result<(), Broken> {
        let now = self.world.now;
        let is_gone = way == Way::Up && (self.ended > 0 || self.world.server.peer(&self.cid).is_none());
        let hands = match way {
            Way::Up => &mut self.hands_up,
            Way::Down => &mut self.hands_down,
        };
        let Some((handle, number)) = hands.handles.iter().rev().nth(back).copied() else { return Ok(()) };
        let result = match way {
            Way::Up => self.world.server.extend(&self.cid, handle, lease, now),
            Way::Down => self.world.clients[0].client.extend(handle, lease, now),
        };
        let current = hands.current.get_mut(&number).filter(|(current, _)| *current == handle);
        match (result, current) {
            (Ok(()), None) if hands.left.contains_key(&handle) => {
                hands.left.insert(handle, (number, now + lease));
                Ok(())
            }
            (Ok(()), Some((_, until))) => {
                *until = now + lease;
                Ok(())
            }
            (Err(ApiMisuse::UnknownConnection), _) | (Err(ApiMisuse::Undecidable), None) => Ok(()),
            (Err(_), _) if is_gone => Ok(()),
            (result, _) => Err(Broken(format!("an extension for {number} is answered with {result:?}"))),
        }
    }

    pub(super) fn accept_all(&mut self) -> Result<(), Broken> {
        for way in Way::BOTH {
            let hands = if way == Way::Up { &self.hands_up } else { &self.hands_down };
            (0..hands.handles.len()).rev().try_for_each(|back| self.decide(way, back, Verdict::Accepted))?;
        }
        Ok(())
    }
}

fn numbered(number: usize, filling: usize) -> String {
    format!("{number} {}", "x".repeat(filling))
}
