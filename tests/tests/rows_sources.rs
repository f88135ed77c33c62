//! Requirements on how the project is written and checked, read from its sources and its gate.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The Rust files below a folder, without comments and without the tests at their end.
fn code_below(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(code_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            files.push((path, lines.collect::<Vec<_>>().join("\n")));
        }
    }
    files
}

// S001-51, S003-58
#[test]
fn the_gate_lets_nothing_pass_that_warns_is_not_formatted_or_fails_a_test() {
    let gate = fs::read_to_string(root().join(".ci/run")).unwrap();
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
    let read = |name: &str| fs::read_to_string(root().join("tests/tests").join(name)).unwrap();
    for runtime in ["tokio", "smol"] {
        let suite = read(&format!("{runtime}_adapter.rs"));
        assert!(suite.lines().any(|line| line == "mod adapter;"), "{runtime}");
        assert!(suite.contains(&format!("extern crate reattach_{runtime} as reattach;")), "{runtime}");
    }
    assert!(read("adapter/loopback.rs").contains("127.0.0.1"));
    let world = fs::read_to_string(root().join("tests/src/world.rs")).unwrap();
    assert!(
        world.contains("use reattach_core::client::Client;") && world.contains("use reattach_core::server::Server;")
    );
}

// S001-35
#[test]
fn adapters_neither_read_nor_write_what_the_protocol_says() {
    let folders = ["driver", "tokio", "smol", "cli"].map(|name| root().join("adapters").join(name).join("src"));
    let files: Vec<_> = folders.iter().flat_map(|folder| code_below(folder)).collect();
    assert!(files.len() > 40, "the sources of the adapters are not where they were");
    for (path, code) in files {
        for word in ["jsonrpc", "wire::decode", "wire::encode", "Pending<"] {
            assert!(!code.contains(word), "{word} in {}", path.display());
        }
    }
    let tables = code_below(&root().join("core/src"));
    let tables = tables
        .iter()
        .filter(|(_, code)| code.contains("pub(super) struct Pending") || code.contains("pub struct Pending"));
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
        for (_, code) in code_below(&root().join(folder)) {
            for name in names {
                *places.entry(name).or_default() += usize::from(code.contains(&format!("\"{name}\"")));
            }
        }
    }
    assert_eq!(places, names.into_iter().map(|name| (name, 1)).collect());
}
