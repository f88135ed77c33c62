//! What a client keeps in a file, to come back as who it was and to go on where it stopped.

use std::fs;
use std::io;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use reattach_tokio::core::id::ConnectionKey;
use reattach_tokio::core::id::MessageId;
use reattach_tokio::core::id::SessionId;
use reattach_tokio::core::session::Cursor;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error as _;

use crate::chat::seen::Shown;

/// What is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Memory {
    session: SessionId,
    /// The connection's key: whoever has it is this client.
    #[serde(serialize_with = "reveal", deserialize_with = "conceal")]
    pub(super) key: ConnectionKey,
    /// Up to where the session was seen.
    pub(super) seen: Option<Cursor>,
    pub(super) shown: Shown,
    /// What was typed and has no outcome yet.
    pub(super) unsettled: Vec<Typed>,
    /// What was taken and is not answered yet.
    pub(super) unanswered: Vec<Typed>,
}

/// Something that was typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Typed {
    pub(super) message_id: MessageId,
    pub(super) message: String,
    /// Up to where the session was seen when it was sent, where it was: in that life of it, it may have been taken.
    pub(super) sent: Option<Cursor>,
}

/// Why a file is of no use.
#[derive(Debug)]
pub enum Forgotten {
    /// The system said no.
    Io(io::Error),
    /// It holds something else.
    Nonsense(String),
    /// It is of another session.
    OtherSession(SessionId),
}

impl Memory {
    /// Nothing is known yet.
    pub(super) fn new(session: &SessionId) -> Self {
        Self {
            session: session.clone(),
            key: reattach_tokio::connection_key(),
            seen: None,
            shown: Shown::default(),
            unsettled: Vec::new(),
            unanswered: Vec::new(),
        }
    }

    /// Reads a file, where there is one.
    pub(super) fn load(path: &Path, session: &SessionId) -> Result<Self, Forgotten> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::new(session)),
            Err(error) => return Err(Forgotten::Io(error)),
        };
        let memory: Self = serde_json::from_str(&text).map_err(|error| Forgotten::Nonsense(error.to_string()))?;
        if memory.session != *session {
            return Err(Forgotten::OtherSession(memory.session));
        }
        Ok(memory)
    }

    /// Writes the file: whole or not at all, and for nobody else to read.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_string(self).expect("what is kept is JSON");
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        // One that is there may be somebody else's to read.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&beside)?.write_all(text.as_bytes())?;
        fs::rename(&beside, path)
    }
}

fn reveal<S: Serializer>(key: &ConnectionKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&key.reveal())
}

fn conceal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ConnectionKey, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

impl std::fmt::Display for Forgotten {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Nonsense(problem) => write!(f, "it does not hold what a chat keeps: {problem}"),
            Self::OtherSession(session) => write!(f, "it is of the session {session:?}"),
        }
    }
}

impl std::error::Error for Forgotten {}
