//! How long something is expected, and how much is kept.

use core::time::Duration;

use crate::chat::ChatConfig;

/// How long something is expected, and how much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ViewConfig {
    /// How long a session is shown to work before the server has said so. Default 30 s.
    pub patience: Duration,
    /// The most sessions. Default 256; of more the one goes in which nothing has happened for longest.
    pub max_sessions: usize,
    /// The most messages of one session whose outcome is waited for or shown. Default 256; of more the oldest goes.
    pub max_messages: usize,
    /// How much is collected of what is said.
    pub chat: ChatConfig,
}

impl Default for ViewConfig {
    fn default() -> Self {
        Self { patience: Duration::from_secs(30), max_sessions: 256, max_messages: 256, chat: ChatConfig::default() }
    }
}
