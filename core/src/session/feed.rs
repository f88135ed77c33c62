//! How far a connection has been given a session.

use alloc::string::String;

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
    /// The session has ended, which is still to be said.
    Over,
}

impl Feed {
    /// The next message, and how far it brings the connection: `None` where it is the last.
    pub(super) fn next(&self, log: Option<&Log>) -> Option<(Payload, Option<Self>)> {
        let gap = || Some((Payload::of_known_parts("[null]"), None));
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
            Self::Over => Some((Payload::of_known_parts("[]"), None)),
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
