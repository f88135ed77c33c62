//! Transcripts of one machine: inputs with their times in, outputs out, as JSON that other implementations can read.

use std::collections::BTreeMap;
use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Event;
use reattach_core::client::Secrets;
use reattach_core::connection::Incoming;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::id::TransportId;
use reattach_core::link::Acceptance;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Handle;
use reattach_core::link::Outgoing;
use reattach_core::outcome::Failure;
use reattach_core::outcome::SendFailed;
use reattach_core::server;
use reattach_core::server::Mint;
use reattach_core::server::PeerEvent;
use reattach_core::server::RegistryEvent;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Payload;
use reattach_core::wire::Token;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

/// Which machine a file is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// The client, with the key and the instance of one byte 01.
    Client,
    /// The server, without jitter to speak of.
    Server,
}

#[derive(Debug, Deserialize, Serialize)]
struct Transcript {
    name: String,
    /// Whether the machine's application decides about each message.
    #[serde(default)]
    manual: bool,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Step {
    at: u64,
    #[serde(rename = "in")]
    input: Value,
    #[serde(default)]
    out: Vec<Value>,
}

/// Runs every transcript of a file and compares. With `BLESS=1` the outputs are written anew.
///
/// # Panics
///
/// Where an output differs.
pub fn replay(file: &str, machine: Machine) {
    let path = format!("{}/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the file is there");
    let mut transcripts: Vec<Transcript> = serde_json::from_str(&text).expect("a list of transcripts");
    let is_blessing = std::env::var_os("BLESS").is_some();
    for Transcript { name, manual, steps } in &mut transcripts {
        let mut run: Box<dyn Run> = match machine {
            Machine::Client => Box::new(ClientRun::new(*manual)),
            Machine::Server => Box::new(ServerRun::new(*manual)),
        };
        for (number, step) in steps.iter_mut().enumerate() {
            let out = run.step(Instant::from_millis(step.at), &step.input);
            if is_blessing {
                step.out = out;
            } else {
                assert_eq!(out, step.out, "{name:?}, step {}: {}", number + 1, step.input);
            }
        }
    }
    if is_blessing {
        std::fs::write(&path, written(&transcripts)).expect("writable");
    }
}

/// One line for each input and each output, so that a difference can be read.
fn written(transcripts: &[Transcript]) -> String {
    let transcripts: Vec<_> = (transcripts.iter())
        .map(|Transcript { name, manual, steps }| {
            let steps: Vec<_> = (steps.iter())
                .map(|step| {
                    let out: Vec<_> = step.out.iter().map(|out| format!("\n        {out}")).collect();
                    let end = if out.is_empty() { "" } else { "\n      " };
                    format!(
                        "      {{ \"at\": {}, \"in\": {}, \"out\": [{}{end}] }}",
                        step.at,
                        step.input,
                        out.join(",")
                    )
                })
                .collect();
            let manual = if *manual { "\n    \"manual\": true," } else { "" };
            format!(
                "  {{\n    \"name\": {},{manual}\n    \"steps\": [\n{}\n    ]\n  }}",
                json!(name),
                steps.join(",\n")
            )
        })
        .collect();
    format!("[\n{}\n]\n", transcripts.join(",\n"))
}

trait Run {
    fn step(&mut self, now: Instant, input: &Value) -> Vec<Value>;
}

/// Which message of an application's it was, counted from 1.
struct Sent(Vec<MessageId>);

impl Sent {
    fn number(&self, id: &MessageId) -> usize {
        self.0.iter().position(|sent| sent == id).expect("a message that was sent") + 1
    }

    fn failed(&self, failed: &SendFailed) -> Value {
        match &failed.failure {
            Failure::ForGood(outcome) => json!({"failed": [self.number(&failed.id), outcome.to_string()]}),
            Failure::ForNow { attempt, reason, .. } => {
                json!({"event": format!("message {} deferred ({attempt}, {reason})", self.number(&failed.id))})
            }
        }
    }
}

fn number_of(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn pair_of(value: &Value) -> (TransportId, &Value) {
    (TransportId(number_of(&value[0])), &value[1])
}

fn code_of(value: &Value) -> CloseCode {
    CloseCode::new(u16::try_from(number_of(value)).expect("a close code"))
}

/// What kind of input it is, and the value of that key; the other keys say more about it.
fn kind_of(input: &Value) -> (&String, &Value) {
    const MORE: [&str; 6] = ["hands", "id", "idem", "lane", "token", "within"];
    let mut pairs = input.as_object().expect("an input is an object").iter();
    pairs.find(|(key, _)| !MORE.contains(&key.as_str())).expect("an input has a kind")
}

/// What is sent: a payload, and beside it what else is said of it.
fn outgoing(input: &Value) -> Outgoing {
    let mut message = Outgoing::from(Payload::new(&input["send"]).expect("a JSON value"));
    if let Some(lane) = input["lane"].as_str() {
        message = message.in_lane(Name::new(lane).expect("a short name"));
    }
    if let Some(millis) = input["within"].as_u64() {
        message = message.within(Duration::from_millis(millis));
    }
    if let Some(hands) = input["hands"].as_u64() {
        message = message.hands(u32::try_from(hands).expect("a small number"));
    }
    if let Some(id) = input["id"].as_str() {
        message = message.named(id.parse().expect("a UUID"));
    }
    if input["idem"] == true { message.idempotent() } else { message }
}

/// The messages that are in the application's hands, by what they carry.
#[derive(Default)]
struct Hands(Vec<(Value, Handle)>);

impl Hands {
    fn take(&mut self, delivery: Option<Delivery>) -> Option<Value> {
        let delivery = delivery?;
        let payload: Value = delivery.payload().parse().expect("a JSON value");
        self.0.extend(delivery.handle().map(|handle| (payload.clone(), handle)));
        Some(json!({ "taken": payload }))
    }

    /// The handle of the message that carries this.
    fn of(&mut self, payload: &Value) -> Handle {
        let place = self
            .0
            .iter()
            .rposition(|(held, _)| held == payload)
            .unwrap_or_else(|| panic!("{payload} is in the application's hands"));
        self.0.remove(place).1
    }
}

/// `[payload, "accept"]`, `[payload, "reject", code, words]`, `[payload, "defer", code, milliseconds]`, `[payload, "abandon"]`.
fn decision(value: &Value) -> Decision {
    let code = || value[2].as_str().and_then(|code| code.parse().ok()).expect("a code");
    match value[1].as_str().expect("a decision") {
        "accept" => Decision::Accept,
        "reject" => Decision::Reject { code: code(), reason: value[3].as_str().unwrap_or_default().to_owned() },
        "defer" => Decision::Defer { retry_after: value[3].as_u64().map(Duration::from_millis), code: code() },
        "abandon" => Decision::Abandon,
        other => panic!("no such decision: {other}"),
    }
}

struct ClientRun {
    client: Client,
    sent: Sent,
    /// Bytes written on the transport; what is written has left at once.
    written: u64,
    hands: Hands,
}

impl ClientRun {
    fn new(manual: bool) -> Self {
        let mut config = client::Config::default();
        if manual {
            config.connection.link.acceptance = Acceptance::Manual;
        }
        config.reconnect.backoff.jitter = false;
        let secrets = Secrets {
            key: ConnectionKey::from_bytes([1; 16]),
            spare: Some(ConnectionKey::from_bytes([2; 16])),
            instance: InstanceId::from_bytes([1; 16]),
        };
        let client = Client::new(config, secrets, 0, Instant::ZERO);
        Self { client, sent: Sent(Vec::new()), written: 0, hands: Hands::default() }
    }

    fn event(&self, event: &Event) -> Value {
        if let Event::Delivered { id } = event {
            return json!({"delivered": self.sent.number(id)});
        }
        if let Event::SendFailed(failed) = event {
            return self.sent.failed(failed);
        }
        json!({"event": words(event)})
    }
}

fn attached(resumed: bool) -> String {
    format!("attached, {}", if resumed { "resumed" } else { "fresh" })
}

fn words(event: &Event) -> String {
    match event {
        Event::Attached { resumed } => attached(*resumed),
        Event::Detached { ended } => format!("detached: {ended}"),
        Event::TryFailed { ended } => format!("try failed: {ended}"),
        Event::Delayed { .. } => "a message is delayed".to_owned(),
        Event::Superseded => "superseded".to_owned(),
        Event::IdentityChanged { new, .. } => format!("goes on as {new}"),
        Event::FrameSkipped { error } => format!("frame skipped: {error}"),
        Event::PeerBrokeProtocol { error } => format!("the peer broke the protocol: {error}"),
        Event::Failed { reason } => format!("gave up: {reason}"),
        Event::Closed { .. } => "closed".to_owned(),
        Event::Delivered { .. } | Event::SendFailed(_) | _ => unreachable!("messages' events are told otherwise"),
    }
}

impl Run for ClientRun {
    fn step(&mut self, now: Instant, input: &Value) -> Vec<Value> {
        let mut out = Vec::new();
        let (kind, value) = kind_of(input);
        match kind.as_str() {
            "open" => {
                let token = input.get("token").and_then(Value::as_str).and_then(|token| Token::new(token.to_owned()));
                let transport = TransportId(number_of(value));
                self.client.handle_input(client::Input::Opened { transport, token }, now);
            }
            "received" => {
                let (transport, text) = pair_of(value);
                let incoming = Incoming::Text(text.as_str().expect("a text"));
                self.client.handle_input(client::Input::Received { transport, incoming }, now);
            }
            "closed" => {
                let (transport, code) = pair_of(value);
                self.client.handle_input(client::Input::Closed { transport, code: code_of(code) }, now);
            }
            "send" => self.sent.0.push(self.client.send(outgoing(input), now).expect("room")),
            "cancel" => {
                let id = self.sent.0[usize::try_from(number_of(value)).expect("a small number") - 1];
                self.client.cancel(&id, now).expect("it has no outcome");
            }
            "take" => out.extend(self.hands.take(self.client.take(now))),
            "decide" => {
                let handle = self.hands.of(&value[0]);
                self.client.decide(handle, decision(value), now).expect("it is in the application's hands");
            }
            "suspend" => self.client.suspend(now).expect("it is not over"),
            "time" => self.client.handle_timeout(now),
            "close" => self.client.close(Duration::from_millis(number_of(value)), now),
            "disconnect" => self.client.disconnect(now),
            "reconnect" => self.client.reconnect(now).expect("not over"),
            other => panic!("no such input: {other}"),
        }
        while let Some(output) = self.client.poll_output() {
            out.push(match output {
                client::Output::Open { transport } => {
                    self.written = 0;
                    json!({"open": transport.0})
                }
                client::Output::Write { transport, text } => {
                    self.written += text.len() as u64;
                    let input = client::Input::Progress { transport, read: 0, written: self.written };
                    self.client.handle_input(input, now);
                    json!({"write": [transport.0, text]})
                }
                client::Output::Close { transport, code } => json!({"close": [transport.0, code.get()]}),
                client::Output::Event(event) => self.event(&event),
            });
        }
        out
    }
}

struct ServerRun {
    server: Server,
    sent: Sent,
    /// Bytes written on each transport; what is written has left at once.
    written: BTreeMap<TransportId, u64>,
    hands: Hands,
}

impl ServerRun {
    fn new(manual: bool) -> Self {
        let mut config = server::Config::default();
        if manual {
            config.connection.link.acceptance = Acceptance::Manual;
        }
        Self {
            server: Server::new(config, Instant::ZERO),
            sent: Sent(Vec::new()),
            written: BTreeMap::new(),
            hands: Hands::default(),
        }
    }

    fn event(&self, event: &PeerEvent) -> Value {
        if let PeerEvent::Delivered { id } = event {
            return json!({"delivered": self.sent.number(id)});
        }
        if let PeerEvent::SendFailed(failed) = event {
            return self.sent.failed(failed);
        }
        json!({"event": peer_words(event)})
    }
}

fn peer_words(event: &PeerEvent) -> String {
    match event {
        PeerEvent::Attached { resumed } => attached(*resumed),
        PeerEvent::Detached { ended } => format!("detached: {ended}"),
        PeerEvent::Delayed { .. } => "a message is delayed".to_owned(),
        PeerEvent::FrameSkipped { error } => format!("frame skipped: {error}"),
        PeerEvent::PeerBrokeProtocol { error } => format!("the peer broke the protocol: {error}"),
        PeerEvent::Closed { .. } => "closed".to_owned(),
        PeerEvent::Delivered { .. } | PeerEvent::SendFailed(_) | _ => {
            unreachable!("messages' events are told otherwise")
        }
    }
}

fn registry_words(event: &RegistryEvent) -> &'static str {
    match event {
        RegistryEvent::Registered { .. } => "registered",
        RegistryEvent::Refused { .. } => "refused",
        RegistryEvent::TakenOver { .. } => "taken over",
        RegistryEvent::Expired { .. } => "expired",
        RegistryEvent::Fenced { .. } => "fenced",
        RegistryEvent::Removed { .. } => "removed",
        _ => unreachable!("an event of another version"),
    }
}

impl Run for ServerRun {
    fn step(&mut self, now: Instant, input: &Value) -> Vec<Value> {
        let mut out = Vec::new();
        let (kind, value) = kind_of(input);
        let cid = self.server.connections().next().copied();
        match kind.as_str() {
            "accepted" => {
                let number = u8::try_from(number_of(value)).expect("a small number");
                let mint = Mint {
                    epoch: Epoch::from_bytes([0xe0 | number; 16]),
                    fence: Fence::from_bytes([0xf0 | number; 16]),
                };
                let transport = TransportId(number.into());
                self.server.handle_input(server::Input::Accepted { transport, address: None, mint }, now);
            }
            "received" => {
                let (transport, text) = pair_of(value);
                let incoming = Incoming::Text(text.as_str().expect("a text"));
                self.server.handle_input(server::Input::Received { transport, incoming }, now);
            }
            "closed" => {
                let (transport, code) = pair_of(value);
                self.server.handle_input(server::Input::Closed { transport, code: code_of(code) }, now);
            }
            "send" => {
                let cid = cid.expect("a connection");
                self.sent.0.push(self.server.send(&cid, outgoing(input), now).expect("room"));
            }
            "take" => out.extend(self.hands.take(self.server.take(&cid.expect("a connection"), now))),
            "decide" => {
                let (cid, handle) = (cid.expect("a connection"), self.hands.of(&value[0]));
                self.server.decide(&cid, handle, decision(value), now).expect("it is in the application's hands");
            }
            "drain" => {
                let millis = |index: usize| Duration::from_millis(number_of(&value[index]));
                self.server.drain(millis(0), (millis(1), millis(1)), now);
            }
            "time" => self.server.handle_timeout(now),
            "close" => {
                let patience = Duration::from_millis(number_of(value));
                self.server.close(&cid.expect("a connection"), patience, now).expect("it is there");
            }
            other => panic!("no such input: {other}"),
        }
        while let Some(output) = self.server.poll_output() {
            out.push(match output {
                server::Output::Write { transport, text } => {
                    let written = self.written.entry(transport).or_default();
                    *written += text.len() as u64;
                    let input = server::Input::Progress { transport, read: 0, written: *written };
                    self.server.handle_input(input, now);
                    json!({"write": [transport.0, text]})
                }
                server::Output::Close { transport, code } => json!({"close": [transport.0, code.get()]}),
                server::Output::Authenticate { .. } => unreachable!("nothing is authenticated here"),
                server::Output::Peer { event, .. } => self.event(&event),
                server::Output::Registry(event) => json!({"event": registry_words(&event)}),
            });
        }
        out
    }
}
