//! The stores, a folder per kind: the contract with its conformance suite, the embedded engine, the real engine.

pub mod archive;
pub mod raw;
