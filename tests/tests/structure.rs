//! How the sources are built and checked: who imports whom, how long a file may be, what may cross threads, what a pure core never
//! does, and what the gate asks.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Debug;
use std::fs;
use std::hash::Hash;
use std::panic::RefUnwindSafe;
use std::panic::UnwindSafe;
use std::path::Path;
use std::path::PathBuf;

use reattach_core::backoff;
use reattach_core::chat;
use reattach_core::client;
use reattach_core::connection;
use reattach_core::error;
use reattach_core::flow;
use reattach_core::heartbeat;
use reattach_core::id;
use reattach_core::link;
use reattach_core::messages;
use reattach_core::outcome;
use reattach_core::reconnect;
use reattach_core::server;
use reattach_core::time;
use reattach_core::view;
use reattach_core::wire;

/// The children of each folder, from the lowest rank up. A child imports only siblings of lower ranks.
const RANKS: &[(&str, &[&[&str]])] = &[
    ("hub", &[&["call"], &["watcher"]]),
    ("id", &[&["error", "text"], &["name"], &["session"]]),
    (
        "messages",
        &[
            &["error", "name", "timestamp"],
            &["text"],
            &["permission", "interaction", "chat", "notification", "event"],
            &["any"],
        ],
    ),
    ("chat", &[&["config", "event"], &["streams", "writer"]]),
    ("view", &[&["config", "event"], &["session"], &["views"]]),
    ("permission", &[&["config", "event"], &["stats"], &["broker", "dialogs"]]),
    ("wire", &[&["version", "close", "payload", "names"], &["frame"], &["fields"], &["decode"], &["encode"]]),
    (
        "link",
        &[
            &["window", "settlement", "ephemeral", "known", "handover"],
            &["lanes"],
            &["inbox", "outbox"],
            &["config", "message"],
        ],
    ),
    ("link/outbox", &[&["entry", "receipt"], &["flight"], &["write"]]),
    (
        "rpc",
        &[
            &["config", "id"],
            &["error"],
            &["text", "event"],
            &["call", "pending", "queue"],
            &["serving"],
            &["arrivals"],
        ],
    ),
    ("session", &[&["config", "id"], &["log", "ownership", "event"], &["feed", "follower"]]),
    ("client", &[&["config", "event", "input", "state", "handshake"], &["output", "view"], &["commands"]]),
    (
        "server",
        &[
            &["config", "command", "event", "state", "visitors"],
            &["receipts", "greeting"],
            &["peer", "registry"],
            &["ended"],
        ],
    ),
    ("server/peer", &[&["input", "output"], &["commands"]]),
    ("server/registry", &[&["input", "output"]]),
];

/// Parts of machines, which import the machine that they belong to: its commands, which only forward or begin something, what the
/// outbox writes, which takes it from the queue to the flight, and what came for requests.
const PARTS: &[(&str, &str)] = &[
    ("client/commands.rs", "Client"),
    ("link/outbox/write.rs", "Outbox"),
    ("rpc/arrivals.rs", "Rpc"),
    ("server/peer/commands.rs", "Peer"),
];

/// The most lines of a source file.
const MAX_LINES: usize = 600;

#[test]
fn a_module_imports_only_what_is_lower() {
    let ranks = ranks();
    let mut broken = Vec::new();
    let mut imports = 0;
    for source in core_sources() {
        for import in source.imports() {
            imports += 1;
            // Where the two part, each is a child of the same folder; at the top the ranks are the layers.
            let shared = source.path.iter().zip(&import).take_while(|(own, other)| own == other).count();
            let Some(own) = source.path.get(shared) else { continue };
            let folder = source.path[..shared].join("/");
            let rank_of = |child: &String| ranks.get(&(folder.clone(), child.clone()));
            let (own, other) = (rank_of(own), import.get(shared).and_then(rank_of));
            // A part of a machine is its second impl block, in a file of its own; it knows the machine, and nobody else does.
            let machine = PARTS.iter().find(|(part, _)| source.name == *part).map(|(_, machine)| *machine);
            if shared + 1 == source.path.len() && import.get(shared).map(String::as_str) == machine {
                continue;
            }
            if own.is_none() || other.is_none_or(|other| Some(other) >= own) {
                broken.push(format!("{} ({own:?}) imports {} ({other:?})", source.name, import.join("::")));
            }
        }
    }
    assert!(imports > 200, "only {imports} imports were found: they are written in another way");
    assert!(broken.is_empty(), "a sibling of the same rank, a parent, or a higher layer is imported: {broken:#?}");
}

#[test]
fn a_module_says_where_an_import_comes_from() {
    let mut broken = Vec::new();
    for source in core_sources() {
        let is_parent = source.name.ends_with("/mod.rs");
        for line in source.code() {
            let names_parent = line.contains("super::") || line.starts_with("use super");
            if names_parent || (line.starts_with("use self::") && !is_parent) {
                broken.push(format!("{}: {line}", source.name));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_module_stands_in_the_table_of_layers_and_every_child_has_a_rank() {
    let mut found = BTreeSet::new();
    for source in core_sources() {
        let (child, folder) = source.path.split_last().expect("a module has a name");
        found.insert((folder.join("/"), child.clone()));
    }
    let ranked: BTreeSet<_> = ranks().into_keys().collect();
    assert_eq!(
        found, ranked,
        "a new module needs a layer in core/src/lib.rs, a new file in a folder a rank in this test"
    );
}

#[test]
fn no_source_file_is_longer_than_600_lines() {
    let mut long = Vec::new();
    for folder in ["core", "adapters", "tests", "fuzz"] {
        for path in rust_files(&root().join(folder)) {
            let lines = read(&path).lines().count();
            if lines > MAX_LINES {
                long.push(format!(
                    "{}: {lines} lines",
                    path.strip_prefix(root()).expect("it is in the repository").display()
                ));
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

// S003-60
#[test]
fn the_core_needs_no_std_no_clock_and_no_order_of_hashes() {
    let forbidden =
        ["std::", "HashMap", "HashSet", "Instant::now", "SystemTime", "thread_rng", "unsafe ", "println!", "dbg!"];
    let mut broken = Vec::new();
    for source in core_sources() {
        for line in source.code() {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{}: {word} in {line:?}", source.name));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    let lib = read(&root().join("core/src/lib.rs"));
    assert!(lib.contains("#![no_std]") && lib.contains("#![forbid(unsafe_code)]"));
}

// S004-021
#[test]
fn the_form_of_a_connection_id_is_known_in_one_place() {
    for source in core_sources().iter().filter(|source| !source.name.starts_with("id/")) {
        assert!(!source.code().any(|line| line.contains("cid-") || line.contains("conn-")), "{}", source.name);
    }
}

// S001-35
#[test]
fn adapters_neither_read_nor_write_what_the_protocol_says() {
    let folders = ["driver", "tokio", "smol", "cli"].map(|name| format!("adapters/{name}/src"));
    let sources: Vec<_> = folders.iter().flat_map(|folder| sources_below(folder)).collect();
    assert!(sources.len() > 40, "the sources of the adapters are not where they were");
    for source in sources {
        for word in ["jsonrpc", "wire::decode", "wire::encode", "Pending<"] {
            assert!(!source.code().any(|line| line.contains(word)), "{word} in {}", source.name);
        }
    }
    let is_table = |line: &str| line.contains("pub(super) struct Pending") || line.contains("pub struct Pending");
    let tables = sources_below("core/src").into_iter().filter(|source| source.code().any(is_table));
    assert_eq!(tables.count(), 1, "one table of requests that wait");
}

// S004-091
#[test]
fn the_name_of_each_type_of_message_is_written_down_once() {
    let mut places = BTreeMap::<&str, usize>::new();
    let names = [
        "permission-request",
        "permission-response",
        "permission-timeout",
        "permission-resolved",
        "permission-cancelled",
        "permission-queue-status",
        "chat_request",
        "chat_response",
        "chat_stream",
        "session_update",
        "connection_status",
        "message_start",
        "block_delta",
        "session_end",
    ];
    for folder in ["core/src", "adapters/driver/src", "adapters/tokio/src", "adapters/smol/src"] {
        for source in sources_below(folder) {
            for name in names {
                let is_here = source.code().any(|line| line.contains(&format!("\"{name}\"")));
                *places.entry(name).or_default() += usize::from(is_here);
            }
        }
    }
    assert_eq!(places, names.into_iter().map(|name| (name, 1)).collect());
}

#[test]
fn tests_stand_at_the_end_of_a_file() {
    for source in core_sources() {
        let marks = source.text.matches("#[cfg(test)]").count();
        let ends = source.text.matches("\n#[cfg(test)]\nmod tests {").count();
        assert_eq!(marks, ends, "{}: what is read as code here depends on it", source.name);
        assert!(marks <= 1, "{}", source.name);
    }
}

#[test]
fn no_test_is_ignored() {
    let mark = format!("#[{}", "ignore");
    for path in rust_files(&root()) {
        let text = read(&path);
        assert!(!text.contains(&mark), "{}", path.display());
    }
}

// S001-51, S003-58
#[test]
fn the_gate_lets_nothing_pass_that_warns_is_not_formatted_or_fails_a_test() {
    let gate = read(&root().join(".ci/run"));
    for command in [
        "set -euo pipefail",
        "cargo test --workspace",
        "cargo fmt --all --check",
        "cargo clippy --workspace --all-targets -- -D warnings",
        "RUSTDOCFLAGS=\"-D warnings\" cargo doc",
    ] {
        assert!(gate.lines().any(|line| line.starts_with(command)), "{command}");
    }
}

// S001-50: the core by itself, two cores in one world, and each adapter over localhost.
#[test]
fn one_suite_runs_on_both_adapters_and_two_cores_meet_in_memory() {
    let tests = root().join("tests");
    for runtime in ["tokio", "smol"] {
        let suite = read(&tests.join(format!("tests/{runtime}_adapter.rs")));
        assert!(suite.lines().any(|line| line == "mod adapter;"), "{runtime}");
        assert!(suite.contains(&format!("extern crate reattach_{runtime} as reattach;")), "{runtime}");
    }
    assert!(read(&tests.join("tests/adapter/loopback.rs")).contains("127.0.0.1"));
    let world = read(&tests.join("src/world.rs"));
    assert!(
        world.contains("use reattach_core::client::Client;") && world.contains("use reattach_core::server::Server;")
    );
}

// What adapters move between threads and tasks, hold across awaits and unwinds.
#[test]
fn what_adapters_handle_can_go_anywhere() {
    fn free<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + 'static>() {}
    free::<(client::Client, client::Config, client::Event, client::Output, client::Secrets, client::Status)>();
    free::<(client::Input<'static>, client::Closed, client::OnSuperseded)>();
    free::<(server::Server, server::Registry, server::Peer, server::Config, server::Mint, server::PeerId)>();
    free::<(server::Input<'static>, server::PeerInput<'static>, server::RegistryInput<'static>)>();
    free::<(server::Output, server::PeerOutput, server::RegistryOutput, server::PeerEvent, server::RegistryEvent)>();
    free::<(server::Command, server::Answer, server::Origin, server::Attach, server::Refusal, server::PeerClosed)>();
    free::<(connection::Connection, connection::Config, connection::Stats, connection::Incoming<'static>)>();
    free::<(link::Link, link::Config, link::Delivery, link::Outgoing, link::Notice, link::Entry)>();
    free::<(wire::Payload, wire::UncheckedPayload, wire::Frame<'static>, wire::Token, wire::CloseCode)>();
    free::<(outcome::Outcome, outcome::SendFailed, outcome::Failure, outcome::NotDelivered, outcome::Unknown)>();
    free::<(id::ConnectionKey, id::ConnectionId, id::InstanceId, id::Epoch, id::Fence, id::MessageId, id::Name)>();
    free::<(id::TransportId, id::Principal, id::Seq, id::MessageIds, time::Instant, time::Clock, time::Rate)>();
    free::<(messages::AnyMessage, chat::ChatStreams, chat::Stream, chat::StreamWriter, view::SessionViews)>();
    free::<(backoff::Backoff, flow::Flow, heartbeat::Heartbeat, reconnect::Reconnect, reconnect::Next)>();
}

// Section 3, law 3: that is how state is kept, compared and model-checked.
#[test]
fn machines_can_be_copied_compared_hashed_and_shown() {
    fn state<T: Clone + Eq + Hash + Debug>() {}
    state::<client::Client>();
    state::<server::Server>();
    state::<server::Registry>();
    state::<server::Peer>();
    state::<connection::Connection>();
    state::<link::Link>();
    state::<chat::ChatStreams>();
    state::<chat::StreamWriter>();
    state::<view::SessionViews>();
    state::<client::Output>();
    state::<server::Output>();
}

#[test]
fn errors_are_errors() {
    fn error<T: Error + Clone + Eq + Send + Sync + 'static>() {}
    error::<error::DecodeError>();
    error::<error::ProtocolError>();
    error::<error::ApiMisuse>();
    error::<wire::PayloadError>();
    error::<id::IdError>();
    error::<messages::MessageError>();
    error::<messages::NotATimestamp>();
    error::<chat::ChatMisuse>();
    error::<reconnect::OpenError>();
    error::<reconnect::Ended>();
    error::<reconnect::GiveUp>();
    error::<server::Refusal>();
}

/// One source file.
struct Source {
    /// Its path below the folder that was looked in.
    name: String,
    /// The module, from the top; a `mod.rs` is the folder itself.
    path: Vec<String>,
    text: String,
}

impl Source {
    /// The lines that are neither comments nor tests, trimmed.
    fn code(&self) -> impl Iterator<Item = &str> {
        let end = self.text.find("#[cfg(test)]\nmod tests").unwrap_or(self.text.len());
        self.text[..end].lines().map(str::trim).filter(|line| !line.starts_with("//"))
    }

    /// Every path that starts with `crate::`, without that.
    fn imports(&self) -> Vec<Vec<String>> {
        let mut imports = Vec::new();
        for line in self.code() {
            for (at, _) in line.match_indices("crate::") {
                let path = line[at + "crate::".len()..].split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
                let path = path.into_iter().next().expect("a split has a first part");
                imports.push(path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect());
            }
        }
        imports
    }
}

/// The sources of the core but for `lib.rs`.
fn core_sources() -> Vec<Source> {
    let mut sources = sources_below("core/src");
    sources.retain(|source| source.name != "lib.rs");
    assert!(sources.len() > 30, "the sources of the core are not where they were");
    sources
}

/// The sources in a folder of the repository.
fn sources_below(folder: &str) -> Vec<Source> {
    let folder = root().join(folder);
    let source = |path: PathBuf| {
        let name = path.strip_prefix(&folder).expect("it was found there").to_str().expect("a UTF-8 name").to_owned();
        let module = name.trim_end_matches(".rs").trim_end_matches("/mod");
        Source { path: module.split('/').map(str::to_owned).collect(), text: read(&path), name }
    };
    rust_files(&folder).into_iter().map(source).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("the file can be read")
}

/// The layer of each module, as the table in `core/src/lib.rs` has it.
fn layers() -> BTreeMap<String, u32> {
    let lib = read(&root().join("core/src/lib.rs"));
    let mut layers = BTreeMap::new();
    for line in lib.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let Some((layer, modules)) = line.split_once(" | ") else { continue };
        let Ok(layer) = layer.parse() else { continue };
        for module in modules.split("[`").skip(1).filter_map(|rest| rest.split_once("`]")) {
            assert_eq!(layers.insert(module.0.to_owned(), layer), None, "{} stands in it twice", module.0);
        }
    }
    layers
}

/// The rank of each child of each folder; that of a top module is its layer.
fn ranks() -> BTreeMap<(String, String), u32> {
    let mut ranks: BTreeMap<_, _> = layers().into_iter().map(|(top, layer)| ((String::new(), top), layer)).collect();
    for (folder, of_folder) in RANKS {
        for (rank, children) in (0..).zip(of_folder.iter()) {
            ranks.extend(children.iter().map(|child| (((*folder).to_owned(), (*child).to_owned()), rank)));
        }
    }
    ranks
}

/// Every Rust file below a folder, generated ones not counted.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return files };
    for entry in entries {
        let path = entry.expect("a folder can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files.extend(rust_files(&path));
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_owned()
}
