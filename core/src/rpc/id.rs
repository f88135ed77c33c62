//! The names of requests.

use core::fmt;

use uuid::Uuid;

use crate::id::MessageIds;

/// Names one request of this side, for ever. On the wire it is a string, and the response has to repeat it byte for byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Uuid);

impl RequestId {
    /// The UUID.
    #[must_use]
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0.as_hyphenated(), f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Mints them, as [`MessageIds`] mints the ids of messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RequestIds(MessageIds);

impl RequestIds {
    pub(super) fn new(nonce: &[u8; 16]) -> Self {
        Self(MessageIds::labelled(b"reattach request ids", nonce))
    }

    pub(super) fn mint(&mut self) -> RequestId {
        RequestId(*self.0.mint().as_uuid())
    }
}

/// Reads what stands on the wire as an id of this side: the very text that was written, quotes included.
pub(super) fn parse(text: &str) -> Option<RequestId> {
    let text = text.strip_prefix('"')?.strip_suffix('"')?;
    // Only the one way in which this side writes it: lower case, with hyphens.
    let is_canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    Uuid::try_parse(text).ok().filter(|_| is_canonical).map(RequestId)
}

/// One request of the other side, in the hands of this side's application.
///
/// Numbers are not used again within one [`Rpc`](crate::rpc::Rpc).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncomingId(pub(super) u64);
