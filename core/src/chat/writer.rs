//! Where a stream is written.

use alloc::borrow::ToOwned;

use crate::chat::event::ChatMisuse;
use crate::chat::event::StreamKey;
use crate::messages::ChatStream;
use crate::messages::StreamEnd;

/// Writes one stream: any number of pieces, then one end.
///
/// Every way out of whatever makes the text calls [`StreamWriter::end`], the failing ones too; only the first call has
/// something to send, so a stream is never left without an end and never gets two.
///
/// ```
/// use reattach_core::chat::StreamKey;
/// use reattach_core::chat::StreamWriter;
/// use reattach_core::id::SessionId;
/// use reattach_core::messages::StreamEnd;
///
/// let key = StreamKey { session: SessionId::new("s")?, in_reply_to: None };
/// let mut writer = StreamWriter::new(key);
/// assert_eq!(writer.piece("hello").unwrap().delta, "hello");
/// let end = writer.end(StreamEnd::Complete).unwrap();
/// assert!(end.delta.is_empty());
/// // Whoever cleans up afterwards need not know.
/// assert_eq!(writer.end(StreamEnd::Interrupted), None);
/// # Ok::<_, reattach_core::id::IdError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamWriter {
    key: StreamKey,
    is_ended: bool,
}

impl StreamWriter {
    /// A stream of nothing yet.
    #[must_use]
    pub const fn new(key: StreamKey) -> Self {
        Self { key, is_ended: false }
    }

    /// The next piece, to be sent.
    ///
    /// # Errors
    ///
    /// [`ChatMisuse::Ended`].
    pub fn piece(&self, delta: &str) -> Result<ChatStream, ChatMisuse> {
        if self.is_ended { Err(ChatMisuse::Ended) } else { Ok(self.message(delta, None)) }
    }

    /// The end, to be sent; nothing where it has ended before.
    #[must_use = "a stream without an end is waited for"]
    pub fn end(&mut self, end: StreamEnd) -> Option<ChatStream> {
        let was_ended = core::mem::replace(&mut self.is_ended, true);
        (!was_ended).then(|| self.message("", Some(end)))
    }

    /// Whether the end was given away.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.is_ended
    }

    fn message(&self, delta: &str, end: Option<StreamEnd>) -> ChatStream {
        let StreamKey { session, in_reply_to } = self.key.clone();
        ChatStream { session_id: session, in_reply_to, delta: delta.to_owned(), end }
    }
}
