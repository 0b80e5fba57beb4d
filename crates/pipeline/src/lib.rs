//! The road, written once: consume -> decode -> batch -> write -> dead-letter what is rejected -> commit.
//!
//! This crate knows neither Kafka nor any store. The ends are traits: a [`Source`] hands out records,
//! a [`Decoder`] turns them into columns, a [`Sink`] makes rows durable and a [`DeadLetters`] keeps what
//! could not be written. Every worker of MANTIS is a [`Source`], a [`Decoder`] and a [`Sink`] put together.
//!
//! What the road promises, whatever the ends do:
//!
//! * a record is committed only after each of its rows ended as written, duplicate or rejected, and a
//!   rejected one only after its dead letter is durable;
//! * commits of one partition never go back while it is owned, and none is sent after it was released;
//! * after a revocation no new write of the partition starts;
//! * memory is bounded by its limits, whatever a store does.

mod backoff;
mod batch;
mod dead_letter;
mod decode;
mod flight;
mod lane;
mod limits;
mod road;
mod sink;
mod source;
mod status;
mod stopped;
mod watermark;

pub use dead_letter::{DeadLetter, DeadLetters};
pub use decode::{Columns, Decoder, Reason, RowReject};
pub use limits::{Limits, Retry};
pub use road::run;
pub use sink::{Durable, Fault, Moved, Outcome, Part, Sink, Start};
pub use source::{Assigned, Event, Header, Record, RecordBatch, Source, SourceError, Span, TopicPartition};
pub use status::{PartitionStatus, Reading, Snapshot, State, Status, TopicStatus, Trouble};
pub use stopped::Stopped;
pub use tokio_util::sync::CancellationToken as Shutdown;
