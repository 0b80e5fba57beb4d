//! The embedded single-node broker: speaks the Kafka protocol over a durable segmented log.

pub mod log;
