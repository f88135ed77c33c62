//! The scenarios of the core in one binary, for `.ci/mutants`: what the simulator does not see of a mutant, they may.

use std::fs;
use std::path::Path;

#[path = "../tests/application.rs"]
mod application;
#[path = "../tests/attach.rs"]
mod attach;
#[path = "../tests/bounds.rs"]
mod bounds;
#[path = "../tests/breaker.rs"]
mod breaker;
#[path = "../tests/caps.rs"]
mod caps;
#[path = "../tests/closing.rs"]
mod closing;
#[path = "../tests/counterexamples.rs"]
mod counterexamples;
#[path = "../tests/decisions.rs"]
mod decisions;
#[path = "../tests/deferral.rs"]
mod deferral;
#[path = "../tests/drain.rs"]
mod drain;
#[path = "../tests/ephemeral.rs"]
mod ephemeral;
#[path = "../tests/epochs.rs"]
mod epochs;
#[path = "../tests/expiry.rs"]
mod expiry;
#[path = "../tests/fencing.rs"]
mod fencing;
#[path = "../tests/goodbyes.rs"]
mod goodbyes;
#[path = "../tests/idempotent.rs"]
mod idempotent;
#[path = "../tests/identity.rs"]
mod identity;
#[path = "../tests/lanes.rs"]
mod lanes;
#[path = "../tests/law.rs"]
mod law;
#[path = "../tests/liveness.rs"]
mod liveness;
#[path = "../tests/model.rs"]
mod model;
#[path = "../tests/outcomes.rs"]
mod outcomes;
#[path = "../tests/peers.rs"]
mod peers;
#[path = "../tests/probe.rs"]
mod probe;
#[path = "../tests/protocol.rs"]
mod protocol;
#[path = "../tests/receipts.rs"]
mod receipts;
#[path = "../tests/reconnect.rs"]
mod reconnect;
#[path = "../tests/reports.rs"]
mod reports;
#[path = "../tests/restored.rs"]
mod restored;
#[path = "../tests/resume.rs"]
mod resume;
#[path = "../tests/revocation.rs"]
mod revocation;
#[path = "../tests/simulate.rs"]
mod simulate;
#[path = "../tests/superseded.rs"]
mod superseded;
#[path = "../tests/suspend.rs"]
mod suspend;
#[path = "../tests/vectors.rs"]
mod vectors;
#[path = "../tests/view.rs"]
mod view;
#[path = "../tests/void.rs"]
mod void;
#[path = "../tests/wire_frames.rs"]
mod wire_frames;
#[path = "../tests/wire_reading.rs"]
mod wire_reading;

/// What needs an adapter, shows only what stands above the link, is no scenario, or is too slow to be here.
const LEFT_OUT: &[&str] = &[
    "cancellation",
    "chat_streams",
    "dialogs",
    "fuzz_corpus",
    "hub",
    "hub_faults",
    "hub_strangers",
    "logs",
    "measures",
    "model_check",
    "permissions",
    "planted",
    "questions",
    "requests",
    "session_log",
    "sessions",
    "simulate_hub",
    "smol_adapter",
    "structure",
    "testing",
    "tokio_adapter",
    "watcher",
];

#[test]
fn every_file_of_scenarios_is_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
    let here = include_str!("scenarios.rs");
    let mut missing = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a UTF-8 name").to_owned();
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        if is_source && !here.contains(&format!("\nmod {name};\n")) && !LEFT_OUT.contains(&name.as_str()) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}
