//! Questions, to be asked and answered, and the dialogs in which they are.

use reattach_core::id::ConnectionId;
use reattach_core::id::ConnectionKey;
use reattach_core::id::SessionId;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionId;
use reattach_core::messages::PermissionMessage;
use reattach_core::messages::PermissionRequest;
use reattach_core::messages::PermissionResponse;
use reattach_core::permission::Broker;
use reattach_core::permission::BrokerConfig;
use reattach_core::permission::BrokerOutput;
use reattach_core::permission::DialogOutput;
use reattach_core::permission::Dialogs;
use reattach_core::permission::DialogsConfig;
use reattach_core::permission::Removed;
use reattach_core::permission::Verdict;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;

/// It may, with the input that it asked for.
pub const ALLOW: Choice = Choice::Allow { updated_input: None };

/// A connection, by number.
pub fn connection(number: u8) -> ConnectionId {
    ConnectionKey::from_bytes([number; 16]).connection_id()
}

/// The name of a question.
pub fn id(name: &str) -> PermissionId {
    PermissionId::new(name).expect("the test says what may be")
}

/// A session.
pub fn session() -> SessionId {
    SessionId::new("s").expect("the test says what may be")
}

/// JSON.
pub fn json(text: &str) -> Payload {
    Payload::from_json(text).expect("the test says what may be")
}

/// So many seconds after the beginning.
pub fn secs(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

/// A question.
pub fn request(name: &str) -> PermissionRequest {
    let (tool_name, timestamp) = ("write".to_owned(), "2026-11-21T19:00:00Z".to_owned());
    let (input, context) = (json(r#"{"path":"a"}"#), json("null"));
    PermissionRequest { id: id(name), tool_name, input, context, timestamp, remaining: None }
}

/// An answer.
pub fn response(name: &str, choice: Choice) -> PermissionResponse {
    PermissionResponse { request_id: id(name), choice }
}

/// A broker with the defaults.
pub fn broker() -> Broker {
    Broker::new(BrokerConfig::default(), Instant::ZERO)
}

/// What a broker decided of which question, and what it published.
pub fn drain(broker: &mut Broker) -> (Vec<(PermissionId, Verdict)>, Vec<PermissionMessage>) {
    let (mut decided, mut published) = (Vec::new(), Vec::new());
    while let Some(output) = broker.poll_output() {
        match output {
            BrokerOutput::Decided { id, verdict } => decided.push((id, verdict)),
            BrokerOutput::Publish { message, .. } => published.push(message),
        }
    }
    (decided, published)
}

/// The dialogs of a client, of which nothing is left to be told, with one for each name.
pub fn dialogs(me: u8, names: &[&str]) -> Dialogs {
    let mut dialogs = Dialogs::new(DialogsConfig::default(), connection(me), Instant::ZERO);
    for name in names {
        dialogs.handle_message(&session(), PermissionMessage::Request(request(name)), secs(0));
    }
    _ = outputs(&mut dialogs);
    dialogs
}

/// What dialogs tell.
pub fn outputs(dialogs: &mut Dialogs) -> Vec<DialogOutput> {
    std::iter::from_fn(|| dialogs.poll_output()).collect()
}

/// A dialog is there, or has changed.
pub fn changed(name: &str) -> DialogOutput {
    DialogOutput::Changed { id: id(name) }
}

/// An answer is to be sent.
pub fn sent(name: &str, choice: Choice, retry: u32) -> DialogOutput {
    DialogOutput::Send { response: response(name, choice), retry }
}

/// A dialog goes.
pub fn removed(name: &str, why: Removed) -> DialogOutput {
    DialogOutput::Removed { id: id(name), why }
}

/// The names of the dialogs that are shown.
pub fn shown(dialogs: &Dialogs) -> Vec<&str> {
    dialogs.dialogs().into_iter().map(|(id, _)| id.as_str()).collect()
}
