//! How far a connection has been given a session.

use alloc::string::String;
use alloc::sync::Arc;

use crate::id::Name;
use crate::session::id::Cursor;
use crate::session::log::Log;
use crate::session::log::Next;
use crate::wire::Payload;
use crate::wire::push_string;

/// How far a connection has been given a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Feed {
    /// Not even where it begins.
    Begin { tag: Name, after: Cursor, snapshot: Option<Payload> },
    /// Up to here.
    After(Cursor),
    /// Something was lost, which is still to be said.
    Lost,
    /// Up to here, of a session that has ended: what it told before is still told, and then that.
    Ending { log: Arc<Log>, after: Cursor, beginning: Option<Payload> },
}

impl Feed {
    /// The same of a session that has ended with this log.
    pub(super) fn ending(self, log: &Arc<Log>) -> Self {
        let log = Arc::clone(log);
        match self {
            Self::Begin { tag, after, snapshot } => {
                Self::Ending { log, after, beginning: Some(beginning(&tag, snapshot.as_ref())) }
            }
            Self::After(after) => Self::Ending { log, after, beginning: None },
            Self::Lost | Self::Ending { .. } => self,
        }
    }

    /// The next message, and how far it brings the connection: `None` where it is the last.
    pub(super) fn next(&self, log: Option<&Log>) -> Option<(Payload, Option<Self>)> {
        let gap = || Some((Payload::of_known_parts("[null]"), None));
        let over = || Some((Payload::of_known_parts("[]"), None));
        match self {
            Self::Begin { tag, after, snapshot } => {
                Some((beginning(tag, snapshot.as_ref()), Some(Self::After(*after))))
            }
            Self::After(cursor) => match log.map(|log| log.after(*cursor)) {
                Some(Next::Nothing) => None,
                Some(Next::Event(offset, event)) => {
                    Some((event.clone(), Some(Self::After(Cursor { offset, ..*cursor }))))
                }
                Some(Next::Gone) | None => gap(),
            },
            Self::Lost => gap(),
            Self::Ending { log, after, beginning } => {
                let ending = |after| Some(Self::Ending { log: Arc::clone(log), after, beginning: None });
                match (beginning, log.after(*after)) {
                    (Some(beginning), _) => Some((beginning.clone(), ending(*after))),
                    (None, Next::Event(offset, event)) => Some((event.clone(), ending(Cursor { offset, ..*after }))),
                    (None, Next::Nothing) => over(),
                    (None, Next::Gone) => gap(),
                }
            }
        }
    }
}

/// The message behind which a watch begins.
fn beginning(tag: &Name, snapshot: Option<&Payload>) -> Payload {
    let mut text = String::from("[");
    push_string(&mut text, tag.as_str());
    if let Some(snapshot) = snapshot {
        text.push(',');
        text.push_str(snapshot.as_str());
    }
    text.push(']');
    Payload::of_known_parts(&text)
}
