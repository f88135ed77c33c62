//! See `harness::fuzz::hub`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harness::fuzz::hub::run(bytes));
