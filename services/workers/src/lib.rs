//! One worker per sink, each the same road with another end; and the audit that holds a worker's store to account.

pub mod archive;
pub mod audit;
pub mod cache;
mod decode;
pub mod features;
pub mod raw;
mod road;
pub mod sensors;
pub mod timescale;

pub use road::WorkerError;
