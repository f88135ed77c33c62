//! Runs random schedules of sessions, requests and questions over the real driver, and says what contradicts the design. What can be asked of
//! it stands in [`campaign`].

use std::process::ExitCode;

use harness::campaign;
use harness::hubsim::Schedule;

fn main() -> ExitCode {
    campaign::main::<Schedule>()
}
