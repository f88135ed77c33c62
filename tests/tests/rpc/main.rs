//! Requests, as a machine. What comes at random is in `harness::fuzz::requests`.

mod asking;
mod batches;
mod bounds;
mod reading;
mod serving;
