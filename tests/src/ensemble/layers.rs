//! The calls of the machines above the link that carry more than their own arguments: where these change, only this file does.

use std::time::Duration;

use reattach_core::id::ConnectionId;
use reattach_core::id::Epoch;
use reattach_core::id::SessionId;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionId;
use reattach_core::messages::PermissionRequest;
use reattach_core::permission::AnswerError;
use reattach_core::permission::AnswerFailed;
use reattach_core::permission::Dialogs;
use reattach_core::rpc::ErrorObject;
use reattach_core::session::Cursor;
use reattach_core::session::Offset;
use reattach_core::session::SessionMisuse;
use reattach_core::session::Sessions;
use reattach_core::session::Watch;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;

/// A cursor as it travels: the bytes of the epoch, and the offset.
pub(super) type CursorParts = ([u8; 16], u64);

/// The code of every refusal of sessions and questions.
const REFUSED: i64 = 1;

/// A question as it travels: its name, tool, and the milliseconds that are left.
type OpenParts = (String, String, Option<u64>);

/// What is answered to who watches: whether there is a gap, from where it watches, and the questions that are open.
type WatchParts = (bool, CursorParts, Vec<OpenParts>);

/// A connection watches a session.
pub(super) fn watch(
    sessions: &mut Sessions,
    connection: ConnectionId,
    session: &SessionId,
    from: Option<CursorParts>,
) -> Result<Watch, SessionMisuse> {
    sessions.watch(connection, session, from.map(cursor))
}

/// An answer has come back, or has not.
pub(super) fn answered(
    dialogs: &mut Dialogs,
    id: &PermissionId,
    _choice: &Choice,
    result: Result<(), AnswerFailed>,
    now: Instant,
) {
    dialogs.handle_answered(id, result, now);
}

pub(super) const fn parts(cursor: Cursor) -> CursorParts {
    (*cursor.epoch.as_bytes(), cursor.offset.get())
}

fn cursor((epoch, offset): CursorParts) -> Cursor {
    Cursor { epoch: Epoch::from_bytes(epoch), offset: Offset::new(offset).expect("it was one before") }
}

/// What who watches is answered.
pub(super) fn write_watch(watch: Watch, open: impl Iterator<Item = PermissionRequest>) -> Payload {
    let (is_gap, at) = match watch {
        Watch::From(cursor) => (false, cursor),
        Watch::Gap { end } => (true, end),
    };
    let open = open.map(|request| {
        let millis = request.remaining.map(|remaining| u64::try_from(remaining.as_millis()).expect("it is not long"));
        (request.id.to_string(), request.tool_name, millis)
    });
    let parts: WatchParts = (is_gap, parts(at), open.collect());
    Payload::new(&parts).expect("it is JSON")
}

/// The same as it is read: whether there is a gap, where watching goes on, and the questions that are open.
pub(super) fn read_watch(payload: &Payload) -> (bool, Cursor, Vec<PermissionRequest>) {
    let (is_gap, at, open): WatchParts = payload.parse().expect("the server says it so");
    let open = open.into_iter().map(|(name, tool_name, millis)| {
        let remaining = millis.map(Duration::from_millis);
        PermissionRequest { tool_name, remaining, ..super::request(&name) }
    });
    (is_gap, cursor(at), open.collect())
}

/// Why a session is not to be had.
pub(super) fn refused(misuse: SessionMisuse) -> ErrorObject {
    ErrorObject::new(REFUSED, misuse.to_string())
}

/// Whether a session is not to be had because there is none.
pub(super) fn is_unknown_session(error: &ErrorObject) -> bool {
    error.message == SessionMisuse::UnknownSession.to_string()
}

/// Why an answer is not taken, as it travels.
pub(super) fn write_refusal(error: AnswerError) -> ErrorObject {
    let (word, decided) = match error {
        AnswerError::AlreadyResolved { is_allowed, by } => ("resolved", Some((is_allowed, by.to_string()))),
        AnswerError::Expired => ("expired", None),
        AnswerError::Cancelled => ("cancelled", None),
        AnswerError::Forbidden => ("forbidden", None),
        AnswerError::UnknownRequest | _ => ("unknown", None),
    };
    ErrorObject::new(REFUSED, error.to_string()).with_data(Payload::new(&(word, decided)).expect("it is JSON"))
}

/// The same as it is read.
pub(super) fn read_refusal(error: &ErrorObject) -> AnswerFailed {
    let data = error.data.as_ref().expect("the server says why");
    let (word, decided): (String, Option<(bool, String)>) = data.parse().expect("the server says it so");
    AnswerFailed::Refused(match (word.as_str(), decided) {
        ("resolved", Some((is_allowed, by))) => {
            AnswerError::AlreadyResolved { is_allowed, by: by.parse().expect("a connection's name") }
        }
        ("expired", _) => AnswerError::Expired,
        ("cancelled", _) => AnswerError::Cancelled,
        ("forbidden", _) => AnswerError::Forbidden,
        _ => AnswerError::UnknownRequest,
    })
}
