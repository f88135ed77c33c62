//! Whose connections are, and which instance holds each.

use reattach_core::id::ConnectionId;

use super::super::Checked;
use super::super::check;
use super::Connections;

impl Connections {
    /// Somebody is attached; a connection belongs to one principal for life.
    pub(in super::super) fn check_owner(&mut self, cid: ConnectionId, is_thief: bool) -> Checked {
        let entry = self.entry(cid);
        if !entry.was_attached {
            entry.is_stolen = is_thief;
        }
        check(entry.is_stolen == is_thief, "X1", || format!("{cid} is attached by another principal: {entry:?}"))
    }

    /// An instance is attached. Another one than holds the connection was asked first, and is none that was evicted before.
    pub(in super::super) fn check_holder(
        &mut self,
        cid: ConnectionId,
        instance: Option<(usize, u32)>,
        was_asked: bool,
    ) -> Checked {
        let Some(instance) = instance else {
            // A stranger that has the key: which instance it calls itself is not known here.
            self.entry(cid).holder = None;
            return Ok(());
        };
        let entry = self.entry(cid);
        let before = entry.holder.replace(instance);
        if let Some(before) = before.filter(|before| *before != instance) {
            entry.evicted.insert(before);
            check(was_asked, "X1", || format!("{instance:?} takes {cid} over unasked: {entry:?}"))?;
        }
        // A server remembers eight.
        let is_back = entry.evicted.contains(&instance) && entry.evicted.len() <= 8;
        check(!is_back, "J1", || format!("{instance:?} was evicted from {cid} and is back: {entry:?}"))
    }
}
