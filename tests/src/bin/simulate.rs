//! Runs random schedules of faults against the machines, and says what contradicts the design. What can be asked of
//! it stands in [`campaign`].

use std::process::ExitCode;

use harness::campaign;
use harness::sim::Schedule;

fn main() -> ExitCode {
    campaign::main::<Schedule>()
}
