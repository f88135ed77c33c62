//! What receiving applications have in their hands.

use std::collections::BTreeMap;

use reattach_core::id::ConnectionId;
use reattach_core::id::Epoch;
use reattach_core::link::Delivery;
use reattach_core::link::Handle;
use reattach_core::server::PeerClosed;
use reattach_core::server::PeerEvent;
use reattach_core::time::Instant;

use crate::model::Broken;
use crate::model::Direction;
use crate::model::EphemeralDirection;
use crate::model::Verdict;

use super::LEASE;

/// How many connections have ended at a server, and whether the last of them was ended by its client.
pub(super) fn ends(events: &[(ConnectionId, PeerEvent)]) -> (usize, bool) {
    let reason = |(_, event): &_| if let PeerEvent::Closed { reason } = event { Some(reason.clone()) } else { None };
    let mut reasons: Vec<PeerClosed> = events.iter().filter_map(reason).collect();
    (reasons.len(), matches!(reasons.pop(), Some(PeerClosed::ByPeer { .. })))
}

/// What a receiving application was handed and decides about.
#[derive(Clone, Debug, Default)]
pub(super) struct Hands {
    /// Every handle, with the number of its message.
    pub(super) handles: Vec<(Handle, usize)>,
    /// What is undecided, as far as the model knows: by which handle, and when its lease ends.
    pub(super) current: BTreeMap<usize, (Handle, Instant)>,
    /// The epoch of the receiver, and how many there were.
    pub(super) epoch: (Option<Epoch>, usize),
    /// Whether the connection has ended in a way that leaves its messages to the application.
    pub(super) is_kept: bool,
    /// What such a connection left, beside the one that came after it, and what was handed over about when an epoch ended:
    /// it can perhaps be decided about.
    pub(super) left: BTreeMap<Handle, (usize, Instant)>,
    /// Whether the epoch was another one at the last look.
    is_new: bool,
}

impl Hands {
    /// Another moment: leases have ended, and perhaps the epoch.
    pub(super) fn enter(&mut self, epoch: (Option<Epoch>, usize), now: Instant, direction: &mut Direction) {
        self.current.retain(|number, (_, until)| {
            if *until <= now {
                _ = direction.on_decided(*number, Verdict::Abandoned);
            }
            *until > now
        });
        self.left.retain(|_, (number, until)| {
            if *until <= now {
                _ = direction.on_decided_late(*number, Verdict::Abandoned);
            }
            *until > now
        });
        let before = core::mem::replace(&mut self.epoch, epoch);
        self.is_new = before != epoch && before.1 > 0;
        if before != epoch {
            if self.is_kept {
                let current = core::mem::take(&mut self.current);
                self.left.extend(current.into_iter().map(|(number, (handle, until))| (handle, (number, until))));
                direction.on_left();
            } else {
                self.seal(direction);
            }
        }
    }

    /// Nothing of what is in hands can be decided about any more.
    pub(super) fn seal(&mut self, direction: &mut Direction) {
        self.current.clear();
        direction.on_sealed();
    }

    /// The program that receives dies, and another goes on from its state.
    pub(super) fn restart(&mut self, direction: &mut Direction) {
        self.current.clear();
        for (number, _) in core::mem::take(&mut self.left).into_values() {
            _ = direction.on_decided_late(number, Verdict::Abandoned);
        }
        direction.on_receiver_restarted();
    }

    pub(super) fn on_delivery(
        &mut self,
        delivery: &Delivery,
        now: Instant,
        reliable: &mut Direction,
        ephemeral: &mut EphemeralDirection,
    ) -> Result<(), Broken> {
        let text = delivery.payload().parse::<String>();
        let text = text.map_err(|error| Broken(format!("a payload was changed: {error}")))?;
        let number = text.split(' ').next().and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| Broken(format!("a payload was changed: {text:?}")))?;
        match delivery {
            Delivery::Message(handed) => {
                let number = usize::try_from(number).expect("a small number");
                let Some(handle) = handed.handle else { return reliable.on_taken(number) };
                self.handles.push((handle, number));
                reliable.on_handed(number, handed.turn)?;
                if self.is_new {
                    self.left.insert(handle, (number, now + LEASE));
                    reliable.on_let_go(number);
                } else {
                    self.current.insert(number, (handle, now + LEASE));
                }
                Ok(())
            }
            Delivery::Ephemeral { key, .. } => ephemeral.on_taken(key.as_str(), number),
        }
    }
}
