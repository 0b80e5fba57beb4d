//! The only user of rdkafka, and so the only crate that knows Kafka:
//!
//! * [`Consumer`]: a [`Source`](mantis_pipeline::Source) that hands out batches of borrowed payloads per partition;
//! * [`Producer`]: idempotent, every delivery awaited; [`DeadLetterProducer`] keeps dead letters with it;
//! * [`Admin`]: topics, positions, groups;
//! * [`Reader`]: a range of one partition, without a group; [`letters`] finds dead letters with it and sends them again.
//!
//! All of them are built from a [`ClientConfig`]. `raw` is the one module with unsafe code.

mod admin;
mod batch;
mod config;
mod consumer;
mod copier;
pub mod dead_letter;
mod error;
pub mod letters;
mod logs;
mod polled;
mod positions;
mod producer;
mod raw;
mod reader;

pub use admin::{Admin, Created, GroupSummary, Lag, NewTopic, SettingDiffers};
pub use batch::MessageBatch;
pub use config::{Assignor, ClientConfig, ConsumerConfig};
pub use consumer::Consumer;
pub use dead_letter::DeadLetterProducer;
pub use error::Error;
pub use producer::{Delivered, OutRecord, Producer};
pub use reader::Reader;
