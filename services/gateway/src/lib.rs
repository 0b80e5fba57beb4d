//! Producers: recordings replayed to Kafka as a gateway would publish them.
//!
//! The way of a recording, top down: a [`Mapping`] says how its files are read; [`Recording`] reads them, merged by
//! time, a bounded piece at a time; [`replay`] encodes the pieces, publishes them at the chosen pace, waits for every
//! delivery, keeps its progress and ends with an [`Account`].

mod account;
mod batch;
mod demo;
mod encode;
mod error;
mod frames;
mod kafka;
mod mapping;
mod number;
mod progress;
mod publish;
mod raw;
mod recording;
mod replay;
mod rows;
mod source;
mod steps;
mod table;
mod template;
mod times;

pub use account::{Account, Refusal, Totals};
pub use demo::demo;
pub use encode::{Format, Message};
pub use error::Error;
pub use kafka::KafkaPublisher;
pub use mapping::{Mapping, Sensor};
pub use publish::{Publish, PublishError};
pub use recording::{Piece, Recording};
pub use replay::{Pace, Progress, ReplayOptions, replay};
