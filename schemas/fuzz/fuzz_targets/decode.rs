//! `cargo +nightly fuzz run decode ../corpus/readings ../corpus/frames ../corpus/events` in `schemas/fuzz`.

#![no_main]

#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|payload: &[u8]| entry::anything(&mut entry::decoder(), payload));
