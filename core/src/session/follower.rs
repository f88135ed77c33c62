//! The other end: who watches a session, and has to have each event once.

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::value::RawValue;

use crate::id::Name;
use crate::session::id::Cursor;
use crate::session::id::Offset;
use crate::session::log::Kind;
use crate::wire::Payload;
use crate::wire::UncheckedPayload;
use crate::wire::push_string;

/// What a message in a session's lane is to who watches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "what is not taken is not seen again"]
pub enum Followed {
    /// Here it begins, with what everything before amounts to where that was not kept event by event.
    Begun(Option<Payload>),
    /// The next event.
    Event(Offset, Kind, Payload),
    /// One of an earlier watch, which is told again or was seen.
    Earlier,
    /// What comes next is not kept any more. Nothing more comes of this watch: watch again.
    Gap,
    /// The session has ended. Nothing more comes.
    Over,
    /// It makes no sense: it is no event, or not the next one. Nothing that comes after can be trusted.
    Confused,
}

/// How far a session has been followed, in one watch of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Follower {
    /// The tag of the watch, as it stands on the wire.
    tag: String,
    cursor: Cursor,
    has_begun: bool,
}

impl Follower {
    /// Follows the watch of this tag, which begins after `cursor`.
    #[must_use]
    pub fn new(tag: &Name, cursor: Cursor) -> Self {
        let mut text = String::new();
        push_string(&mut text, tag.as_str());
        Self { tag: text, cursor, has_begun: false }
    }

    /// Up to where everything was seen: what to watch from after a new epoch of the connection.
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Whether the message behind which it begins has come: what stands in it is seen only then.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Takes in a message of the session's lane.
    pub fn handle_message(&mut self, payload: UncheckedPayload) -> Followed {
        let Ok(payload) = payload.check() else { return Followed::Confused };
        let Ok(parts) = serde_json::from_str::<Vec<&RawValue>>(payload.as_str()) else { return Followed::Confused };
        let parts: Vec<_> = parts.into_iter().map(RawValue::get).collect();
        if !self.has_begun {
            let snapshot = match *parts {
                [tag] if tag == self.tag => None,
                [tag, snapshot] if tag == self.tag => Some(Payload::of_known_parts(snapshot)),
                _ => return Followed::Earlier,
            };
            self.has_begun = true;
            return Followed::Begun(snapshot);
        }
        let (number, kind, event) = match *parts {
            [] => return Followed::Over,
            ["null"] => return Followed::Gap,
            [number, event] => (number, Kind::Application, event),
            [number, Kind::PERMISSION, event] => (number, Kind::Permission, event),
            _ => return Followed::Confused,
        };
        let Some(offset) = number.parse().ok().and_then(Offset::new) else { return Followed::Confused };
        if offset != self.cursor.offset.next() {
            return Followed::Confused;
        }
        self.cursor.offset = offset;
        Followed::Event(offset, kind, Payload::of_known_parts(event))
    }
}
