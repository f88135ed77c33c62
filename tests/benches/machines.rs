//! What the machines of the core cost, in memory: no socket, no clock, no task.
//!
//! `cargo bench -p reattach-benches` runs all of it, with `-- --quick` in a minute. What a connection costs over real sockets is
//! what `reattach bench` measures.

mod baseline;
mod crowd;
mod delivery;
mod pair;
mod registry;
mod wire;

use criterion::Criterion;

/// The sizes of a payload, in bytes, as in `reattach bench`.
const SIZES: [usize; 3] = [64, 1_024, 16_384];

/// A payload of that size: a text, as an agent streams it.
fn json(size: usize) -> String {
    const FRAME: usize = r#"{"text":""}"#.len();
    let text: String = "what goes over a connection ".chars().cycle().take(size - FRAME).collect();
    format!(r#"{{"text":"{text}"}}"#)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    wire::bench(&mut criterion);
    delivery::bench(&mut criterion);
    registry::bench(&mut criterion);
    crowd::bench(&mut criterion);
    criterion.final_summary();
}
