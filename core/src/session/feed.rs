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
    /// Something was lost, which is still to be said; with the tag, where that was.
    Lost { tag: Option<Name> },
    /// Up to here, of a session that has ended: what it told before is still told, and then that.
    Ending { log: Arc<Log>, after: Cursor, beginning: Option<(Name, Option<Payload>)> },
}

impl Feed {
    /// The same of a session that has ended with this log.
    pub(super) fn ending(self, log: &Arc<Log>) -> Self {
        let log = Arc::clone(log);
        match self {
            Self::Begin { tag, after, snapshot } => Self::Ending { log, after, beginning: Some((tag, snapshot)) },
            Self::After(after) => Self::Ending { log, after, beginning: None },
            Self::Lost { .. } | Self::Ending { .. } => self,
        }
    }

    /// The tag, where the next message is the one that says it.
    pub(super) const fn tag(&self) -> Option<&Name> {
        match self {
            Self::Begin { tag, .. }
            | Self::Lost { tag: Some(tag) }
            | Self::Ending { beginning: Some((tag, _)), .. } => Some(tag),
            Self::After(_) | Self::Lost { tag: None } | Self::Ending { beginning: None, .. } => None,
        }
    }

    /// The next message of a length that `takes` allows, and how far it brings the connection: `None` where it is the last.
    pub(super) fn next(&self, log: Option<&Log>, takes: impl Fn(usize) -> bool) -> Option<(Payload, Option<Self>)> {
        // A snapshot may be large, and is not written out to find that there is no room.
        let first = |tag: &Name, snapshot: Option<&Payload>| {
            let at_least = tag.as_str().len() + snapshot.map_or(0, Payload::len) + 4;
            takes(at_least).then(|| first_message(tag, snapshot))
        };
        let next = self.message(log, first);
        next.filter(|(payload, _)| takes(payload.len()))
    }

    fn message(
        &self,
        log: Option<&Log>,
        first: impl Fn(&Name, Option<&Payload>) -> Option<Payload>,
    ) -> Option<(Payload, Option<Self>)> {
        let gap = || Some((Payload::of_known_parts("[null]"), None));
        let over = || Some((Payload::of_known_parts("[]"), None));
        match self {
            Self::Begin { tag, after, snapshot } => Some((first(tag, snapshot.as_ref())?, Some(Self::After(*after)))),
            Self::After(cursor) => match log.map(|log| log.after(*cursor)) {
                Some(Next::Nothing) => None,
                Some(Next::Event(offset, event)) => {
                    Some((event.clone(), Some(Self::After(Cursor { offset, ..*cursor }))))
                }
                Some(Next::Gone) | None => gap(),
            },
            // Who has not heard where the watch begins would take the end of it for another's.
            Self::Lost { tag: Some(tag) } => Some((first(tag, None)?, Some(Self::Lost { tag: None }))),
            Self::Lost { tag: None } => gap(),
            Self::Ending { log, after, beginning } => {
                let ending = |after| Some(Self::Ending { log: Arc::clone(log), after, beginning: None });
                match (beginning, log.after(*after)) {
                    (Some((tag, snapshot)), _) => Some((first(tag, snapshot.as_ref())?, ending(*after))),
                    (None, Next::Event(offset, event)) => Some((event.clone(), ending(Cursor { offset, ..*after }))),
                    (None, Next::Nothing) => over(),
                    (None, Next::Gone) => gap(),
                }
            }
        }
    }
}

/// The message behind which a watch begins.
fn first_message(tag: &Name, snapshot: Option<&Payload>) -> Payload {
    let mut text = String::from("[");
    push_string(&mut text, tag.as_str());
    if let Some(snapshot) = snapshot {
        text.push(',');
        text.push_str(snapshot.as_str());
    }
    text.push(']');
    Payload::of_known_parts(&text)
}
