//! The embedded single-node broker: speaks the Kafka protocol over a durable segmented log.
//!
//! One process owns a data folder. Clients are those of Kafka; what this broker serves, with which versions, and what it is
//! not for stands in `docs/broker.md`. The way of a request:
//!
//! 1. `wire/connection`: a frame is read within stated bounds, its header decides whether the API is served;
//! 2. `wire/shape`: lengths and counts are checked against the bytes that are there, before anything is allocated for them;
//! 3. `api/*`: one file per family of requests: decode, apply, answer;
//! 4. `topics/partition`: the only way to a partition's log; `groups/*`: members and committed offsets.

mod api;
mod broker;
mod config;
mod disk;
mod error;
mod groups;
pub mod log;
mod sweep;
mod sync;
mod topics;
mod wire;

pub use broker::Broker;
pub use config::{Config, GroupConfig, Limits};
pub use disk::Room;
pub use error::Error;
pub use topics::{SettingError, TopicSettings};
