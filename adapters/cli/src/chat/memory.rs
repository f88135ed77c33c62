//! What a client keeps in a file, to come back as who it was and to go on where it stopped.

use std::fs;
use std::io;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use reattach_tokio::core::id::ConnectionKey;
use reattach_tokio::core::id::Epoch;
use reattach_tokio::core::id::SessionId;
use reattach_tokio::core::session::Cursor;
use reattach_tokio::core::session::Offset;
use reattach_tokio::core::session::WatchFrom;
use serde::Deserialize;
use serde::Serialize;

use crate::chat::seen::Seen;

/// What is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Memory {
    pub(super) session: String,
    /// The connection's key: whoever has it is this client.
    key: Secret,
    /// Up to where the session was seen.
    cursor: Option<Place>,
    pub(super) seen: Seen,
    /// What was typed and has no outcome yet.
    pub(super) unsettled: Vec<Typed>,
    /// What was taken and is not answered yet.
    pub(super) unanswered: Vec<String>,
}

/// Something that was typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Typed {
    pub(super) message_id: String,
    pub(super) message: String,
    /// In which life of the session it may have been taken, where it was sent.
    pub(super) epoch: Option<String>,
    /// Whether the end of its answer was heard.
    #[serde(default)]
    pub(super) is_answered: bool,
}

#[derive(Clone, Serialize, Deserialize)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    epoch: String,
    offset: u64,
}

/// Why a file is of no use.
#[derive(Debug)]
pub enum Forgotten {
    /// The system said no.
    Io(io::Error),
    /// It holds something else.
    Nonsense(String),
    /// It is of another session.
    OtherSession(String),
}

impl Memory {
    /// Nothing is known yet.
    pub(super) fn new(session: &SessionId) -> Self {
        Self {
            session: session.to_string(),
            key: Secret(reattach_tokio::connection_key().reveal()),
            cursor: None,
            seen: Seen::default(),
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
        if memory.session != session.as_str() {
            return Err(Forgotten::OtherSession(memory.session));
        }
        memory.key()?;
        memory.from()?;
        Ok(memory)
    }

    /// Writes the file: whole or not at all, and for nobody else to read.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_string(self).expect("what is kept is JSON");
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&beside)?.write_all(text.as_bytes())?;
        fs::rename(&beside, path)
    }

    /// The connection's key.
    pub(super) fn key(&self) -> Result<ConnectionKey, Forgotten> {
        self.key.0.parse().map_err(|error| Forgotten::Nonsense(format!("its key: {error}")))
    }

    /// From where the session is watched.
    pub(super) fn from(&self) -> Result<WatchFrom, Forgotten> {
        let Some(Place { epoch, offset }) = &self.cursor else { return Ok(WatchFrom::Start) };
        let epoch: Epoch = epoch.parse().map_err(|error| Forgotten::Nonsense(format!("its place: {error}")))?;
        let offset = Offset::new(*offset).ok_or_else(|| Forgotten::Nonsense("its place".to_owned()))?;
        Ok(WatchFrom::After(Cursor { epoch, offset }))
    }

    /// The life of the session that was seen.
    pub(super) fn epoch(&self) -> Option<&str> {
        self.cursor.as_ref().map(|place| place.epoch.as_str())
    }

    /// The session was seen up to here.
    pub(super) fn move_to(&mut self, position: WatchFrom) {
        if let WatchFrom::After(Cursor { epoch, offset }) = position {
            self.cursor = Some(Place { epoch: epoch.to_string(), offset: offset.get() });
        }
    }
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
