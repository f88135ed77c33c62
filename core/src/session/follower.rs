//! The other end: who watches a session, and has to have each event once.

use crate::session::id::Cursor;
use crate::session::id::Offset;
use crate::wire::Payload;
use crate::wire::UncheckedPayload;

/// What a message in a session's lane is to who watches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "what is not taken is not seen again"]
pub enum Followed {
    /// The next event.
    Event(Offset, Payload),
    /// One that was seen before.
    Seen,
    /// What comes next is not kept any more. Nothing more comes: take a snapshot, and watch from there.
    Gap,
    /// The session has ended. Nothing more comes.
    Over,
    /// It makes no sense: it is no event, or not the next one. Nothing that comes after can be trusted: watch again from the cursor.
    Confused,
}

/// How far a session has been followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Follower {
    cursor: Cursor,
}

impl Follower {
    /// Follows from here.
    #[must_use]
    pub const fn new(cursor: Cursor) -> Self {
        Self { cursor }
    }

    /// Up to where everything was seen: what to watch from after a new epoch of the connection.
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Takes in a message of the session's lane.
    pub fn handle_message(&mut self, payload: UncheckedPayload) -> Followed {
        let Ok(payload) = payload.check() else { return Followed::Confused };
        match payload.as_str() {
            "[]" => return Followed::Over,
            "[null]" => return Followed::Gap,
            _ => {}
        }
        let inner = payload.as_str().strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let parts = inner.and_then(|text| text.split_once(','));
        let Some((number, event)) = parts else { return Followed::Confused };
        let Some(offset) = number.trim().parse().ok().and_then(Offset::new) else { return Followed::Confused };
        if offset <= self.cursor.offset {
            return Followed::Seen;
        }
        // A third element would have made it no JSON without the brackets.
        let Ok(event) = Payload::from_json(event) else { return Followed::Confused };
        if offset != self.cursor.offset.next() {
            return Followed::Confused;
        }
        self.cursor.offset = offset;
        Followed::Event(offset, event)
    }
}
