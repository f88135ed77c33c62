//! What is logged of sessions and questions, on both sides: names and numbers, and never what is in an event or what was asked.

use reattach_core::hub::Call;
use reattach_core::hub::Ended;
use reattach_core::hub::Event;
use reattach_core::hub::WatcherEvent;
use reattach_core::id::ConnectionId;
use reattach_core::id::SessionId;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionId;
use reattach_core::permission::DenyReason;
use reattach_core::permission::Removed;
use reattach_core::permission::Verdict;
use reattach_core::rpc::ErrorObject;
use reattach_core::wire::Payload;
use tracing::Level;
use tracing::debug;
use tracing::enabled;

use crate::targets::PERMISSION;
use crate::targets::SESSION;

/// The server's application has begun a session.
pub(super) fn begun(session: &SessionId) {
    debug!(target: SESSION, ?session, "begun");
}

/// The server's application has asked.
pub(super) fn asked(session: &SessionId, request: &PermissionId) {
    debug!(target: PERMISSION, ?session, ?request, "asked");
}

/// Something has happened in a hub.
pub(super) fn happened(event: &Event) {
    match event {
        Event::Session(event) => debug!(target: SESSION, ?event),
        Event::Decided { id, verdict } => {
            let (verdict, by) = match verdict {
                Verdict::Allow { by, .. } => ("allowed", Some(by)),
                Verdict::Deny(DenyReason::Denied { by }) => ("denied", Some(by)),
                Verdict::Deny(DenyReason::TimedOut) => ("timed out", None),
                Verdict::Deny(DenyReason::Cancelled) => ("cancelled", None),
                Verdict::Deny(_) => ("denied", None),
            };
            let by = by.map(tracing::field::display);
            debug!(target: PERMISSION, request = ?id, verdict, by, "decided");
        }
        Event::Ended { session, observers } => {
            debug!(target: SESSION, ?session, observers = observers.len(), "ended");
        }
        // As often as something is said.
        Event::Published { .. } | _ => {}
    }
}

/// A connection has asked a hub for something.
pub(super) fn served(cid: ConnectionId, method: &str, params: Option<&Payload>, result: &Result<Payload, ErrorObject>) {
    if !enabled!(target: SESSION, Level::DEBUG) && !enabled!(target: PERMISSION, Level::DEBUG) {
        return;
    }
    let refused = result.as_ref().err().map(|error| error.code);
    match Call::read(method, params) {
        Some(Ok(call)) => called("served", cid, &call, refused),
        Some(Err(_)) if method.starts_with("permission/") => {
            debug!(target: PERMISSION, %cid, method, refused, "it makes no sense");
        }
        Some(Err(_)) => debug!(target: SESSION, %cid, method, refused, "it makes no sense"),
        None => {}
    }
}

/// A client asks a hub for something.
pub(super) fn calls(cid: ConnectionId, call: &Call) {
    called("called", cid, call, None);
}

fn called(what: &str, cid: ConnectionId, call: &Call, refused: Option<i64>) {
    let method = call.method();
    match call {
        Call::Watch { session, from, .. } => debug!(target: SESSION, %cid, method, ?session, ?from, refused, "{what}"),
        Call::Unwatch { session }
        | Call::Own { session }
        | Call::Release { session, .. }
        | Call::Suspend { session, .. } => debug!(target: SESSION, %cid, method, ?session, refused, "{what}"),
        Call::Answer(response) => {
            let (request, decision) = (&response.request_id, word(&response.choice));
            debug!(target: PERMISSION, %cid, method, ?request, decision, refused, "{what}");
        }
        Call::Look { request_id, is_looking } => {
            debug!(target: PERMISSION, %cid, method, request = ?request_id, is_looking, refused, "{what}");
        }
        _ => {}
    }
}

/// Something has happened in a session that a client watches.
pub(super) fn seen(cid: ConnectionId, session: &SessionId, event: &WatcherEvent) {
    match event {
        WatcherEvent::Missed { up_to } => debug!(target: SESSION, %cid, ?session, ?up_to, "missed"),
        WatcherEvent::UpToDate => debug!(target: SESSION, %cid, ?session, "up to date"),
        WatcherEvent::Ended(why) => {
            let why = match why {
                Ended::Over => "it is over",
                Ended::UnknownSession => "there is none",
                Ended::Refused(_) => "it may not be watched",
                Ended::Confused => "it makes no sense",
                Ended::Closed => "the connection has ended",
                _ => "",
            };
            debug!(target: SESSION, %cid, ?session, why, "no longer watched");
        }
        WatcherEvent::Dialog(request) => debug!(target: PERMISSION, %cid, ?session, ?request, "dialog"),
        WatcherEvent::DialogRemoved { id, why } => {
            let (why, decision) = match why {
                Removed::Confirmed(choice) => ("confirmed", Some(word(choice))),
                Removed::Decided { is_allowed, .. } => {
                    ("decided by another", Some(if *is_allowed { "allow" } else { "deny" }))
                }
                Removed::TimedOut => ("timed out", None),
                Removed::Cancelled => ("cancelled", None),
                Removed::Forgotten => ("forgotten", None),
                Removed::Forbidden => ("forbidden", None),
                _ => ("", None),
            };
            debug!(target: PERMISSION, %cid, ?session, request = ?id, why, decision, "no dialog any more");
        }
        WatcherEvent::QueueStatus { pending, processing } => {
            debug!(target: PERMISSION, %cid, ?session, pending, processing, "queue");
        }
        // As often as something is said.
        WatcherEvent::Snapshot(_) | WatcherEvent::Event(..) | _ => {}
    }
}

const fn word(choice: &Choice) -> &'static str {
    if choice.is_allow() { "allow" } else { "deny" }
}
