//! The stores, a folder per kind: the contract with its conformance suite, the embedded engine, the real engine.

pub mod archive;
pub mod cache;
mod codes;
mod columns;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod features;
mod ledger;
pub mod postgres;
pub mod raw;
mod readings;
mod sqlite;

pub use columns::ValueColumns;
pub use ledger::LedgerIdentity;
pub use readings::ReadingReader;
