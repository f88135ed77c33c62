//! A hub and a watcher of it: what clients ask for, well-formed or not, what a server answers and says in the lane, true or not.
//!
//! Nothing is allowed without the very word of somebody who may, every question is decided once, nothing is told behind the end,
//! what is held is bounded, and what waits has a timer.

use std::collections::BTreeSet;
use std::time::Duration;

use reattach_core::hub::Call;
use reattach_core::hub::CallNo;
use reattach_core::hub::Config;
use reattach_core::hub::Event;
use reattach_core::hub::Hub;
use reattach_core::hub::Watched;
use reattach_core::hub::Watcher;
use reattach_core::hub::WatcherEvent;
use reattach_core::hub::WatcherOutput;
use reattach_core::id::Epoch;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionId;
use reattach_core::permission::DialogsConfig;
use reattach_core::permission::Verdict;
use reattach_core::rpc::ErrorObject;
use reattach_core::rpc::Failure;
use reattach_core::session::WatchFrom;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;
use reattach_core::wire::UncheckedPayload;
use serde_json::Value;

use crate::fuzz::bytes::Bytes;
use crate::permissions::connection;
use crate::permissions::request;
use crate::permissions::session;
use crate::sessions::number;
use crate::sessions::principal;

/// The body of the target.
pub fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let mut world = World::new();
    while !bytes.is_empty() {
        world.step(&mut bytes);
        world.drain();
        world.check();
    }
    world.end();
}

const METHODS: [&str; 8] = [
    "session/watch",
    "session/unwatch",
    "session/own",
    "session/release",
    "session/suspend",
    "permission/answer",
    "permission/look",
    "session/other",
];
const EVENTS: usize = 6;
const OPEN: usize = 3;
const DIALOGS: usize = 4;
/// Of the connections this one is somebody else's.
const STRANGER: u8 = 3;

struct World {
    now: Instant,
    hub: Hub,
    watcher: Watcher,
    is_over: bool,
    /// The requests of the watcher that nothing has come back for.
    calls: Vec<(CallNo, Call)>,
    lane: Vec<Payload>,
    asked: u32,
    open: BTreeSet<PermissionId>,
    /// What the very word was sent for, by somebody who may see it.
    allowed: BTreeSet<PermissionId>,
}

impl World {
    fn new() -> Self {
        let mut config = Config::default();
        (config.sessions.log.count, config.permissions.max_open) = (EVENTS, OPEN);
        (config.permissions.max_remembered, config.sessions.max_observers) = (4, 2);
        let mut dialogs = DialogsConfig::default();
        dialogs.max_dialogs = DIALOGS;
        let now = Instant::ZERO;
        let mut hub = Hub::new(config, now);
        hub.create(session(), principal("ada"), Epoch::from_bytes([1; 16])).expect("there is none");
        for client in 1..STRANGER {
            hub.handle_attached(connection(client), &principal("ada"));
        }
        hub.handle_attached(connection(STRANGER), &principal("mallory"));
        let watcher = Watcher::new(session(), WatchFrom::Start, dialogs, connection(1), &[1; 16], now);
        let (calls, lane, open, allowed) = (Vec::new(), Vec::new(), BTreeSet::new(), BTreeSet::new());
        Self { now, hub, watcher, is_over: false, calls, lane, asked: 0, open, allowed }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        let now = self.now;
        match bytes.below(20) {
            0 => _ = self.hub.publish(&session(), &number(1), now),
            1 => {
                self.asked += 1;
                let request = request(&format!("p{}", self.asked % 8));
                let id = request.id.clone();
                let timeout = bytes.rarely(2).then(|| Duration::from_secs(bytes.number().min(1 << 40)));
                if self.hub.ask(&session(), request, timeout, now).is_ok() {
                    self.allowed.remove(&id);
                    assert!(self.open.insert(id), "a name is used twice");
                }
            }
            2 => {
                if let Some(id) = bytes.pick_of(self.open.iter().cloned()) {
                    _ = self.hub.cancel(&id, now);
                }
            }
            3..=5 => {
                let by = 1 + bytes.byte() % (STRANGER + 1);
                let method = bytes.pick(&METHODS);
                let params = Payload::from_json(&params(bytes));
                if let Ok(params) = &params {
                    self.note(by, method, params);
                }
                let params = params.ok();
                let answered = self.hub.handle_request(connection(by), method, params.as_ref(), now);
                assert_eq!(answered.is_none(), method == "session/other");
                if let Some(Err(error)) = answered {
                    assert!(!error.message.is_empty());
                }
            }
            // What the watcher asks for is served.
            6..=8 if !self.calls.is_empty() => {
                let (number, call) = self.calls.remove(bytes.below(self.calls.len()));
                let params = call.params();
                self.note(1, call.method(), &params);
                let result = self.hub.handle_request(connection(1), call.method(), Some(&params), now);
                let result = result.expect("it is a hub's").map_err(Failure::Refused);
                self.watcher.handle_response(number, result, now);
            }
            9 if !self.calls.is_empty() => {
                let (number, _) = self.calls.remove(bytes.below(self.calls.len()));
                let result = response(bytes);
                if let Ok(result) = &result {
                    _ = Watched::read(result);
                }
                self.watcher.handle_response(number, result, now);
            }
            10..=12 => {
                self.lane.extend(self.hub.pull(connection(1), |_, _| true).map(|pulled| pulled.payload));
                if self.watcher.wants_messages() && !self.lane.is_empty() {
                    self.watcher.handle_message(self.lane.remove(0).into(), now);
                }
            }
            13 => {
                let text = message(bytes, &self.watcher);
                self.watcher.handle_message(UncheckedPayload::new(&text), now);
            }
            14 => {
                let ids: Vec<_> = self.watcher.dialogs().dialogs().into_iter().map(|(id, _)| id.clone()).collect();
                if let Some(id) = bytes.pick_of(ids) {
                    let choice = if bytes.rarely(2) { Choice::Deny } else { Choice::Allow { updated_input: None } };
                    _ = self.watcher.answer(&id, choice, now);
                    self.watcher.look(&id, bytes.rarely(2));
                }
            }
            15 => {
                self.now = now + Duration::from_millis(bytes.number().min(1 << 50));
                self.hub.handle_timeout(self.now);
                self.watcher.handle_timeout(self.now);
            }
            16 => {
                self.hub.handle_detached(connection(1), now);
                self.watcher.handle_attached(false, now);
            }
            17 => {
                self.hub.handle_attached(connection(1), &principal("ada"));
                self.watcher.handle_attached(true, now);
            }
            18 => {
                self.hub.handle_epoch_ended(connection(1));
                self.lane.truncate(bytes.below(3));
                self.watcher.handle_epoch_ended();
            }
            _ => match bytes.below(8) {
                0..=2 => self.hub.handle_unsent(connection(1), &session()),
                3..=4 => _ = self.hub.set_snapshot(&session(), number(2)),
                5 => self.hub.handle_gone(connection(1 + bytes.byte() % STRANGER), now),
                6 => _ = self.hub.remove(&session(), now),
                _ => _ = self.hub.create(session(), principal("ada"), Epoch::from_bytes([bytes.byte(); 16])),
            },
        }
    }

    /// Remembers what was allowed, as another reader sees it, by somebody who has to do with the session.
    fn note(&mut self, by: u8, method: &str, params: &Payload) {
        let Ok(params) = params.parse::<Value>() else { return };
        let is_involved = self.hub.sessions().is_involved(connection(by), &session());
        if method == "permission/answer" && params["decision"] == "allow" && is_involved {
            let id = params["requestId"].as_str().and_then(|id| PermissionId::new(id).ok());
            self.allowed.extend(id);
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.hub.poll_event() {
            if let Event::Decided { id, verdict } = event {
                assert!(self.open.remove(&id), "{id} is decided and was not open");
                if let Verdict::Allow { by, .. } = verdict {
                    assert!(self.allowed.contains(&id), "{id} is allowed, and nobody said so");
                    assert!(by != connection(STRANGER), "a stranger decides");
                }
            }
        }
        let mut outputs = 0;
        while let Some(output) = self.watcher.poll_output() {
            outputs += 1;
            assert!(!self.is_over, "{output:?} comes behind the end");
            match output {
                WatcherOutput::Call { number, call } => {
                    let read = Call::read(call.method(), Some(&call.params()));
                    assert_eq!(read, Some(Ok(call.clone())), "what is written is read");
                    self.calls.push((number, call));
                }
                WatcherOutput::Event(WatcherEvent::Ended(_)) => self.is_over = true,
                WatcherOutput::Event(_) => {}
            }
        }
        // Of one input: each dialog goes, comes, is sent and looked at.
        assert!(outputs <= 4 * DIALOGS + 6, "{outputs} outputs come of one input");
    }

    fn check(&self) {
        let log = self.hub.sessions().log(&session());
        assert!(log.is_none_or(|log| log.len() <= EVENTS));
        assert!(self.open.len() <= OPEN && self.hub.sessions().observers(&session()) <= 2);
        let (pending, processing) = self.hub.broker().status(&session());
        assert_eq!(pending + processing, self.open.len() as u64);
        let stats = self.hub.question_stats();
        assert_eq!(stats.asked, stats.decided() + pending + processing, "each question has one end, or none yet");
        assert!(self.open.is_empty() || self.hub.poll_timeout().is_some(), "a question waits without a timer");
        let dialogs = self.watcher.dialogs().dialogs();
        assert!(dialogs.len() <= DIALOGS && (!self.is_over || dialogs.is_empty()));
        assert_eq!(self.is_over, self.watcher.is_over());
        let waits = !self.is_over && !self.watcher.wants_messages();
        let is_asked = self.calls.iter().any(|(_, call)| matches!(call, Call::Watch { .. }));
        assert!(!waits || is_asked || self.watcher.poll_timeout().is_some(), "it waits for nothing");
        assert_eq!(self.hub.clone(), self.hub);
    }

    /// Time passes, and everything is decided.
    fn end(&mut self) {
        while let Some(at) = self.hub.poll_timeout() {
            self.hub.handle_timeout(at);
            self.drain();
        }
        assert!(self.open.is_empty(), "a question outlives its time");
    }
}

/// Parameters of a request, pieces of which are right.
fn params(bytes: &mut Bytes<'_>) -> String {
    let mut text = String::from("{");
    for _ in 0..bytes.below(6) {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(bytes.pick(&[
            r#""session":"s""#,
            r#""tag":"t""#,
            r#""from":"now""#,
            r#""from":{"epoch":"01010101010101010101010101010101","offset":2}"#,
            r#""from":{"epoch":"x","offset":9007199254740991}"#,
            r#""generation":1"#,
            r#""generation":18446744073709551615"#,
            r#""requestId":"p1""#,
            r#""requestId":"p2""#,
            r#""requestId":"p3""#,
            r#""decision":"allow""#,
            r#""decision":"deny""#,
            r#""decision":"Allow""#,
            r#""decision":true"#,
            r#""decision":["allow"]"#,
            r#""updatedInput":[1]"#,
            r#""looking":true"#,
            r#""looking":false"#,
            r#""decision":"al\u006cow""#,
            r#""x":{}"#,
        ]));
    }
    text.push('}');
    if bytes.rarely(8) {
        text.push_str(&bytes.text());
    }
    text
}

const ASKED: &str = r#"{"type":"permission-request","id":"p9","toolName":"t","input":1,"timestamp":"","remaining":18446744073709551615}"#;

/// What may come back for a request.
fn response(bytes: &mut Bytes<'_>) -> Result<Payload, Failure> {
    let cursor = |bytes: &mut Bytes<'_>| {
        let offset = bytes.number() >> 11;
        format!(r#"{{"epoch":"01010101010101010101010101010101","offset":{offset}}}"#)
    };
    let text = match bytes.below(8) {
        0 => return Err(Failure::EpochEnded),
        1 => return Err(Failure::Cancelled),
        2 => {
            let code = -32_010 - i64::from(bytes.byte() % 16);
            return Err(Failure::Refused(ErrorObject::new(code, "no")));
        }
        3 => format!(r#"{{"end":{},"permissions":[]}}"#, cursor(bytes)),
        4..=6 => {
            let asked = vec![ASKED; bytes.below(3)].join(",");
            format!(r#"{{"after":{},"end":{},"permissions":[{asked}],"pending":1}}"#, cursor(bytes), cursor(bytes))
        }
        _ => bytes.text(),
    };
    Payload::from_json(&text).map_err(|_| Failure::Cancelled)
}

/// What may come in the lane.
fn message(bytes: &mut Bytes<'_>, watcher: &Watcher) -> String {
    let WatchFrom::After(cursor) = watcher.position() else { return bytes.text() };
    let next = bytes.near(cursor.offset.get() + 1);
    match bytes.below(8) {
        0 => "[null]".to_owned(),
        1 => "[]".to_owned(),
        2 => format!("[{next},1]"),
        3 => format!(r#"[{next},"permission",{ASKED}]"#),
        4 => {
            let id = bytes.pick(&["p1", "p2", "p9"]);
            let kind = bytes.pick(&["resolved", "timeout", "cancelled"]);
            let rest = r#""decision":"allow","by":"x","toolName":"t""#;
            format!(r#"[{next},"permission",{{"type":"permission-{kind}","requestId":"{id}",{rest}}}]"#)
        }
        5 => format!(r#"[{next},"permission",{{"type":"permission-queue-status","pending":1,"processing":2}}]"#),
        6 => format!(r#"[{next},"permission",{{}}]"#),
        _ => bytes.text(),
    }
}
