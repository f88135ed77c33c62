//! What the tests of what people see share: sessions, messages, and how it looks.

use reattach_core::id::Code;
use reattach_core::id::MessageId;
use reattach_core::id::MessageIds;
use reattach_core::id::SessionId;
use reattach_core::messages::ServerEvent;
use reattach_core::outcome::Failure;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::SendFailed;
use reattach_core::time::Instant;
use reattach_core::view::SessionViews;
use reattach_core::view::ViewConfig;
use reattach_core::wire::Payload;

pub(crate) const NOT_CONNECTED: &str = "Not connected. Message will be sent when reconnected.";
pub(crate) const RETRYING: &str = "Message delivery delayed \u{2014} retrying...";

pub(crate) fn secs(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

pub(crate) fn a() -> SessionId {
    SessionId::new("A").unwrap()
}

pub(crate) fn b() -> SessionId {
    SessionId::new("B").unwrap()
}

pub(crate) fn ids() -> MessageIds {
    MessageIds::new(&[1; 16])
}

pub(crate) fn event(text: &str) -> ServerEvent {
    ServerEvent::read(&Payload::from_json(text).unwrap()).unwrap()
}

pub(crate) fn of(kind: &str, session: &SessionId) -> ServerEvent {
    event(&format!(r#"{{"type":"{kind}","sessionId":"{session}","delta":"x"}}"#))
}

pub(crate) fn retrying(id: MessageId) -> SendFailed {
    let failure = Failure::ForNow { attempt: 1, retry_at: secs(3), reason: Code::new("busy").unwrap() };
    SendFailed { id, failure }
}

pub(crate) fn failed(id: MessageId, outcome: Outcome) -> SendFailed {
    SendFailed { id, failure: Failure::ForGood(outcome) }
}

pub(crate) fn attached() -> SessionViews {
    let mut views = SessionViews::new(ViewConfig::default(), Instant::ZERO);
    views.handle_attached(false);
    views
}

/// Whether it works, and the texts of its errors.
pub(crate) fn seen(views: &SessionViews, session: &SessionId) -> (bool, Vec<String>) {
    let view = views.view(session);
    (view.running, view.send_errors.iter().map(|error| error.problem.to_string()).collect())
}

pub(crate) fn works() -> (bool, Vec<String>) {
    (true, vec![])
}

pub(crate) fn rests() -> (bool, Vec<String>) {
    (false, vec![])
}

pub(crate) fn says(text: &str) -> (bool, Vec<String>) {
    (false, vec![text.to_owned()])
}

pub(crate) fn changed(views: &mut SessionViews) -> Vec<SessionId> {
    std::iter::from_fn(|| views.poll_changed()).collect()
}
