//! PROTOCOL.md agrees with the code: its defaults, its close codes, its names, its examples and its transcript.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::transcript;
use reattach_core::client;
use reattach_core::client::OnSuperseded;
use reattach_core::connection;
use reattach_core::hub;
use reattach_core::hub::Call;
use reattach_core::id::Code;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Name;
use reattach_core::id::SessionId;
use reattach_core::link::Acceptance;
use reattach_core::link::Settlement;
use reattach_core::messages::MAX_TEXT;
use reattach_core::messages::PermissionMessage;
use reattach_core::permission::DialogsConfig;
use reattach_core::reconnect::Policy;
use reattach_core::rpc;
use reattach_core::server;
use reattach_core::time::Rate;
use reattach_core::wire::CloseCode;
use reattach_core::wire::DEFAULT_HANDS;
use reattach_core::wire::MAX_CONTROL_FRAME;
use reattach_core::wire::MAX_DEPTH;
use reattach_core::wire::MAX_HANDS;
use reattach_core::wire::MAX_REASON;
use reattach_core::wire::MAX_WINDOW;
use reattach_core::wire::Payload;
use reattach_core::wire::SUBPROTOCOL;
use reattach_core::wire::Token;

const PROTOCOL: &str = include_str!("../../core/PROTOCOL.md");

/// The rows of the tables whose header begins with these cells, each row with its cells trimmed.
fn rows(header: &[&str]) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut found = Vec::new();
    let mut lines = PROTOCOL.lines();
    while let Some(line) = lines.next() {
        if line.starts_with('|') && cells(line).iter().zip(header).all(|(cell, wanted)| cell == wanted) {
            lines.next();
            found.extend(lines.by_ref().take_while(|line| line.starts_with('|')).map(cells));
        }
    }
    assert!(!found.is_empty(), "PROTOCOL.md has a table {header:?}");
    found
}

fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, name) in [(3_600_000, "h"), (60_000, "min"), (1_000, "s")] {
        if millis.is_multiple_of(unit) && millis > 0 {
            return format!("{} {name}", millis / unit);
        }
    }
    format!("{millis} ms")
}

fn bytes(bytes: u64) -> String {
    for (unit, name) in [(1024 * 1024, "MiB"), (1024, "KiB")] {
        if bytes.is_multiple_of(unit) {
            return format!("{} {name}", bytes / unit);
        }
    }
    format!("{bytes} B")
}

fn rate(Rate(rate): Rate) -> String {
    format!("{rate} B/s")
}

/// Every setting of the two machines, as its default would stand in the table.
fn defaults() -> BTreeMap<String, String> {
    let client = client::Config::default();
    let server = server::Config::default();
    let connection = connection::Config::default();
    assert_eq!(client.connection, connection, "both sides have the same");
    assert_eq!(server.connection, connection, "both sides have the same");
    let reconnect = &client.reconnect;
    let requests = rpc::Config::default();
    let entries = [
        ("client.connect_timeout", duration(client.connect_timeout)),
        ("client.hello_timeout", duration(client.hello_timeout)),
        ("client.reconnect.backoff.base", duration(reconnect.backoff.base)),
        ("client.reconnect.backoff.cap", duration(reconnect.backoff.cap)),
        ("client.reconnect.backoff.jitter", if reconnect.backoff.jitter { "full" } else { "none" }.to_owned()),
        ("client.reconnect.attempts", reconnect.attempts.map_or_else(|| "no limit".to_owned(), |n| n.to_string())),
        ("client.reconnect.breaker.failures", reconnect.breaker.failures.to_string()),
        ("client.reconnect.breaker.pause", duration(reconnect.breaker.pause)),
        ("client.reconnect.stable", duration(reconnect.stable)),
        ("client.reconnect.restart_min", duration(reconnect.restart_min)),
        ("client.reconnect.restart_max", duration(reconnect.restart_max)),
        (
            "client.on_superseded",
            match client.on_superseded {
                OnSuperseded::NewIdentity => "new identity",
                OnSuperseded::Stop => "stop",
            }
            .to_owned(),
        ),
        ("server.hello_timeout", duration(server.hello_timeout)),
        ("server.authenticate", if server.authenticate { "yes" } else { "no" }.to_owned()),
        ("server.detach_ttl", duration(server.detach_ttl)),
        ("server.suspended_ttl", duration(server.suspended_ttl)),
        ("server.peer_timeout", duration(server.peer_timeout)),
        ("server.receipts.ttl", duration(server.receipts.ttl)),
        ("server.receipts.max", server.receipts.max.to_string()),
        ("server.receipts.max_per_principal", server.receipts.max_per_principal.to_string()),
        ("server.receipts.max_bytes", bytes(server.receipts.max_bytes)),
        ("server.max_connections", server.max_connections.to_string()),
        ("server.max_per_principal", server.max_per_principal.to_string()),
        ("server.max_per_address", server.max_per_address.to_string()),
        ("connection.link.outbox.count", connection.link.outbox.count.to_string()),
        ("connection.link.outbox.bytes", bytes(connection.link.outbox.bytes)),
        ("connection.link.window.count", connection.link.window.count.to_string()),
        ("connection.link.window.bytes", bytes(connection.link.window.bytes)),
        ("connection.link.max_payload", bytes(connection.link.max_payload)),
        (
            "connection.link.acceptance",
            match connection.link.acceptance {
                Acceptance::Automatic => "automatic",
                Acceptance::Manual => "manual",
            }
            .to_owned(),
        ),
        ("connection.link.lease", duration(connection.link.lease)),
        ("connection.link.deferral", duration(connection.link.deferral)),
        ("connection.link.attempts", connection.link.attempts.to_string()),
        ("connection.link.ack_timeout", duration(connection.link.ack_timeout)),
        ("connection.link.void_timeout", duration(connection.link.void_timeout)),
        ("connection.link.age", duration(connection.link.age)),
        ("connection.link.ack_delay", duration(connection.link.ack_delay)),
        ("connection.link.ephemerals", connection.link.ephemerals.to_string()),
        ("connection.link.ephemeral_bytes", bytes(connection.link.ephemeral_bytes as u64)),
        ("connection.heartbeat.idle", duration(connection.heartbeat.idle)),
        ("connection.heartbeat.dead_after", duration(connection.heartbeat.dead_after)),
        ("connection.heartbeat.probe_timeout", duration(connection.heartbeat.probe_timeout)),
        ("connection.heartbeat.gap", duration(connection.heartbeat.gap)),
        ("connection.heartbeat.min_rate", rate(connection.heartbeat.min_rate)),
        ("connection.flow.write_budget", bytes(connection.flow.write_budget)),
        ("connection.flow.stalled_after", duration(connection.flow.stalled_after)),
        ("connection.flow.min_rate", rate(connection.flow.min_rate)),
        ("connection.malformed.count", connection.malformed.count.to_string()),
        ("connection.malformed.per", duration(connection.malformed.per)),
        ("requests.timeout", duration(requests.timeout)),
        ("requests.long_timeout", duration(requests.long_timeout)),
        ("requests.max_pending", requests.max_pending.to_string()),
        ("requests.max_open", requests.max_open.to_string()),
        ("requests.max_bytes", bytes(requests.max_bytes)),
        ("requests.max_batch", requests.max_batch.to_string()),
    ];
    let entries = entries.into_iter().chain(of_hubs());
    entries.map(|(setting, default)| (setting.to_owned(), default)).collect()
}

/// The same of hubs and of those who watch them.
fn of_hubs() -> [(&'static str, String); 18] {
    let (hub, dialogs) = (hub::Config::default(), DialogsConfig::default());
    let (sessions, permissions) = (hub.sessions, hub.permissions);
    [
        ("sessions.log.count", sessions.log.count.to_string()),
        ("sessions.log.bytes", bytes(sessions.log.bytes)),
        ("sessions.log.age", duration(sessions.log.age)),
        ("sessions.max_event", bytes(sessions.max_event)),
        ("sessions.suspended_ttl", duration(sessions.suspended_ttl)),
        ("sessions.max_sessions", sessions.max_sessions.to_string()),
        ("sessions.max_observers", sessions.max_observers.to_string()),
        ("sessions.max_watched", sessions.max_watched.to_string()),
        ("permissions.timeout", duration(permissions.timeout)),
        ("permissions.max_open", permissions.max_open.to_string()),
        ("permissions.max_bytes", bytes(permissions.max_bytes)),
        ("permissions.remembered", duration(permissions.remembered)),
        ("permissions.max_remembered", permissions.max_remembered.to_string()),
        ("dialogs.ack_timeout", duration(dialogs.ack_timeout)),
        ("dialogs.retries", dialogs.retries.to_string()),
        ("dialogs.retry_delay", duration(dialogs.retry_delay)),
        ("dialogs.max_dialogs", dialogs.max_dialogs.to_string()),
        ("dialogs.max_bytes", bytes(dialogs.max_bytes)),
    ]
}

// S001-48, S001-49
#[test]
fn every_default_is_the_one_in_the_table() {
    let table: BTreeMap<_, _> = rows(&["setting", "default", "why"])
        .into_iter()
        .map(|row| (row[0].trim_matches('`').to_owned(), row[1].clone()))
        .collect();
    assert_eq!(table, defaults());
}

/// The settings that a `Debug` of a configuration shows, so that a new one cannot be left out of the table.
#[test]
fn the_table_of_defaults_has_every_setting() {
    let (client, server, requests) = (client::Config::default(), server::Config::default(), rpc::Config::default());
    let (hub, dialogs) = (hub::Config::default(), DialogsConfig::default());
    let shown = format!("{client:#?}\n{server:#?}\n{requests:#?}\n{hub:#?}\n{dialogs:#?}");
    let fields: Vec<_> = shown
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(_, value)| !value.ends_with('{') && !value.ends_with('('))
        .map(|(field, _)| field.to_owned())
        .collect();
    assert!(fields.len() > 30);
    let known: Vec<_> = defaults().into_keys().map(|key| key.rsplit('.').next().unwrap().to_owned()).collect();
    for field in fields {
        assert!(known.contains(&field), "the setting {field} is missing from the table of defaults");
    }
}

#[test]
fn every_close_code_is_in_the_table_with_its_policy() {
    let policy = |code| match Policy::of_code(code) {
        Policy::Backoff => "backoff",
        Policy::Restart => "restart",
        Policy::Late => "late",
        Policy::Credentials => "credentials",
        Policy::TooLarge => "too large",
        Policy::Superseded => "superseded",
        Policy::Stop => "stop",
    };
    let expected: Vec<_> = CloseCode::ALL
        .iter()
        .map(|code| (code.get().to_string(), code.text().to_owned(), policy(*code).to_owned()))
        .collect();
    let table: Vec<_> = rows(&["code", "meaning", "sent by", "policy"])
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone(), row[3].clone()))
        .collect();
    assert_eq!(table, expected);
    assert_eq!(Policy::of_code(CloseCode::new(4999)), Policy::Backoff, "any other code");
}

#[test]
fn every_frame_has_its_section() {
    let named: Vec<_> = rows(&["frame", "who", "when"])
        .into_iter()
        .map(|row| row[0].split('`').nth(1).expect("a name in backquotes").to_owned())
        .collect();
    assert_eq!(named, ["hello", "challenge", "welcome", "msg", "void", "ack", "ping", "pong", "bye"]);
    for section in
        ["### hello", "### challenge", "### welcome", "### msg", "### void", "### ack", "### ping and pong", "### bye"]
    {
        assert!(PROTOCOL.contains(section), "{section}");
    }
}

#[test]
fn the_examples_of_identity_are_right() {
    for row in rows(&["key", "connection id"]) {
        let (key, cid) = (row[0].trim_matches('`'), row[1].trim_matches('`'));
        let key: ConnectionKey = key.parse().expect("a key");
        assert_eq!(key.connection_id().to_string(), cid);
    }
}

#[test]
fn the_numbers_in_the_text_are_right() {
    for says in [
        format!("The protocol, version `{SUBPROTOCOL}`").replace("The protocol", "The Reattach protocol"),
        format!("arrays and objects nest at most {MAX_DEPTH} deep"),
        format!("has at most {MAX_CONTROL_FRAME} bytes"),
        format!("1 to {MAX_WINDOW}"),
        format!("1 to {MAX_HANDS}"),
        format!("absent means {DEFAULT_HANDS}"),
        format!("at most {} entries", Settlement::MAX_LISTED),
        format!("1 to {} letters", Code::MAX_LEN),
        format!("1 to {} bytes", Token::MAX_LEN),
        format!("at most {MAX_REASON} bytes of UTF-8"),
        "(9007199254740991)".to_owned(),
        format!("a name of 1 to {} bytes", SessionId::MAX_LEN),
        format!("at most\n{MAX_TEXT} bytes, ids 1 to {}", Name::MAX_LEN),
    ] {
        assert!(PROTOCOL.contains(says.trim_start_matches("# ")), "PROTOCOL.md does not say {says:?}");
    }
}

#[test]
fn every_method_of_a_hub_is_in_the_table_and_the_examples_of_sessions_are_read() {
    let methods = rows(&["method", "parameters", "result"]);
    assert_eq!(methods.len(), 7);
    for row in methods {
        assert!(Call::is_method(row[0].trim_matches('`')), "{row:?}");
    }
    let text = &PROTOCOL[PROTOCOL.find("## 18. Sessions").expect("a section")..];
    let json = |text: &str| Payload::from_json(&text.replace("\"..", "\"00000000-0000-4000-8000-0000000000"));
    let (mut requests, mut messages) = (0, 0);
    for line in text.lines().filter_map(|line| line.strip_prefix("C ").or_else(|| line.strip_prefix("L "))) {
        let line = line.replace("0707..", &"07".repeat(16));
        let value: serde_json::Value = json(&line).expect("an example is JSON").parse().expect("any JSON");
        if let Some(method) = value["method"].as_str() {
            let params = Payload::new(&value["params"]).expect("JSON");
            assert!(matches!(Call::read(method, Some(&params)), Some(Ok(_))), "{line}");
            requests += 1;
        } else if value[1] == "permission" {
            let message = Payload::new(&value[2]).expect("JSON");
            PermissionMessage::read(&message).unwrap_or_else(|error| panic!("{line}: {error}"));
            messages += 1;
        }
    }
    assert_eq!((requests, messages), (2, 4));
}

/// With `BLESS=1` the transcripts in PROTOCOL.md are written anew. S002-16
#[test]
fn the_transcripts_are_what_the_machines_write() {
    let is_blessed = std::env::var_os("BLESS").is_some();
    let mut text = PROTOCOL.to_owned();
    for (name, told) in [("transcript", transcript::two_drops()), ("question", transcript::question_that_times_out())] {
        let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        let before = text.find(&start).expect("the transcript's start") + start.len();
        let after = text.find(&end).expect("the transcript's end");
        let expected = format!("```text\n{told}```\n");
        assert!(is_blessed || text[before..after] == expected, "{name}: run with BLESS=1 to write it anew:\n{told}");
        text.replace_range(before..after, &expected);
    }
    if is_blessed {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../core/PROTOCOL.md"), text).expect("writable");
    }
}
