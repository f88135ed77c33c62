//! See `harness::fuzz::pair`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harness::fuzz::pair::run(bytes));
