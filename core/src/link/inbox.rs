//! The receiving side of a link: what has come and not been handed over, and what was disposed of.
//!
//! Hand-over is a pull: [`Inbox::take`] gives the next message to the application, which is the one moment that counts. What
//! was not taken stays here, within the window, and an epoch that ends can say with certainty that it never was.

use alloc::collections::VecDeque;

use crate::error::ProtocolError;
use crate::id::MessageId;
use crate::id::Seq;
use crate::link::settlement::Settlement;
use crate::link::window::Quota;
use crate::link::window::Usage;
use crate::wire::Message;
use crate::wire::UncheckedPayload;

/// A reliable message that has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// Its number in this epoch.
    pub seq: Seq,
    /// Its name, where the sender gave one.
    pub id: Option<MessageId>,
    /// What it carries.
    pub payload: UncheckedPayload,
}

/// The receiving side of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inbox {
    window: Quota,
    max_payload: u64,
    /// Received and not final.
    usage: Usage,
    /// Received and not handed over, in order. Always the last numbers up to [`Settlement::received`].
    held: VecDeque<Held>,
    settlement: Settlement,
}

impl Inbox {
    /// An inbox that takes as much as `window` says, and payloads of at most `max_payload` bytes.
    #[must_use]
    pub fn new(window: Quota, max_payload: u64) -> Self {
        Self { window, max_payload, usage: Usage::default(), held: VecDeque::new(), settlement: Settlement::default() }
    }

    /// Takes a message off the wire. Returns whether it is new; one that has come before is dropped.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Gap`], [`ProtocolError::TooLarge`], [`ProtocolError::WindowExceeded`]. Nothing has changed then.
    pub fn on_message(&mut self, message: &Message<'_>) -> Result<bool, ProtocolError> {
        let expected = self.settlement.received().next();
        if message.seq < expected {
            return Ok(false);
        }
        if message.seq > expected {
            return Err(ProtocolError::Gap { expected, got: message.seq });
        }
        let len = message.payload.len() as u64;
        if len > self.max_payload {
            return Err(ProtocolError::TooLarge { len, limit: self.max_payload });
        }
        if !self.window.holds(&self.usage, len) {
            return Err(ProtocolError::WindowExceeded);
        }
        self.usage.add(&self.window, len);
        self.settlement.on_received(message.seq);
        self.held.push_back(Held { seq: message.seq, id: message.id, payload: UncheckedPayload::new(message.payload) });
        Ok(true)
    }

    /// Hands the next message over to the application. Acceptance is automatic: the hand-over settles it.
    pub fn take(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        self.usage.remove(&self.window, held.payload.as_str().len() as u64);
        self.settlement.on_accepted(held.seq);
        Some(held)
    }

    /// Whether a message waits to be handed over.
    #[must_use]
    pub fn has_message(&self) -> bool {
        !self.held.is_empty()
    }

    /// What is received and not final.
    #[must_use]
    pub const fn usage(&self) -> &Usage {
        &self.usage
    }

    /// How many bytes of payload wait to be handed over.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held.iter().map(|held| held.payload.as_str().len() as u64).sum()
    }

    /// The receiver's dispositions.
    #[must_use]
    pub const fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    /// Ends the epoch: what was not handed over is dropped and never will be, and everything starts at 0.
    pub fn reset(&mut self) {
        *self = Self::new(self.window, self.max_payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox() -> Inbox {
        Inbox::new(Quota { count: 2, bytes: 10 }, 20)
    }

    fn message(seq: u64, payload: &str) -> Message<'_> {
        Message { seq: Seq::new(seq).expect("a small number"), id: None, payload }
    }

    #[test]
    fn a_message_is_handed_over_once_and_settled_by_it() {
        let mut inbox = inbox();
        assert_eq!(inbox.on_message(&message(1, "1")), Ok(true));
        assert_eq!(inbox.on_message(&message(1, "1")), Ok(false), "it came twice");
        assert_eq!(inbox.settlement().settled(), Seq::ZERO, "received is not accepted");
        assert_eq!(inbox.take().expect("the message").seq.get(), 1);
        assert_eq!(inbox.take(), None);
        assert_eq!(inbox.settlement().settled().get(), 1);
        assert_eq!(inbox.on_message(&message(1, "1")), Ok(false), "it came again after it was settled");
        assert_eq!(inbox.take(), None);
    }

    #[test]
    fn a_peer_that_writes_beyond_the_window_breaks_the_protocol() {
        let mut inbox = inbox();
        assert_eq!(inbox.on_message(&message(1, "12345")), Ok(true));
        assert_eq!(inbox.on_message(&message(2, "123456")), Ok(true), "one large message goes beside the bytes");
        assert_eq!(inbox.on_message(&message(3, "1")), Err(ProtocolError::WindowExceeded));
        assert!(inbox.take().is_some());
        assert_eq!(inbox.on_message(&message(3, "1234567")), Err(ProtocolError::WindowExceeded), "a second large one");
        assert_eq!(inbox.on_message(&message(3, "1234")), Ok(true));
    }

    #[test]
    fn a_skipped_number_or_an_oversize_payload_changes_nothing() {
        let mut inbox = inbox();
        let before = inbox.clone();
        let gap = ProtocolError::Gap { expected: Seq::ZERO.next(), got: Seq::ZERO.next().next() };
        assert_eq!(inbox.on_message(&message(2, "1")), Err(gap));
        let large = "x".repeat(21);
        assert_eq!(inbox.on_message(&message(1, &large)), Err(ProtocolError::TooLarge { len: 21, limit: 20 }));
        assert_eq!(inbox, before);
    }
}
