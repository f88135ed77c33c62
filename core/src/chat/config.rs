//! How much is collected.

/// How much is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ChatConfig {
    /// The most streams, the ended ones that are kept included. Default 64.
    pub max_streams: usize,
    /// The longest text of one stream, in bytes. Default 4 MiB, as one message may have.
    pub max_stream_bytes: usize,
    /// The most bytes of all texts together. Default 16 MiB; of more the oldest texts that have ended go first.
    pub max_bytes: usize,
}

impl Default for ChatConfig {
    fn default() -> Self {
        Self { max_streams: 64, max_stream_bytes: 4 * 1024 * 1024, max_bytes: 16 * 1024 * 1024 }
    }
}
