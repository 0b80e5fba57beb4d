//! Stores by kind: the contract with its conformance suite, the embedded engine, the real engine.
