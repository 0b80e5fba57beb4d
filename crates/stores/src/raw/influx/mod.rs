//! InfluxDB 2.7 as the raw store: line protocol in, InfluxQL out.
//!
//! A reading is a point of the measurement `readings` with the tags `asset` and `sensor` and the fields `value`, `quality` and
//! `arrival_ms`. A frame is a point of `frames` at the time of its first sample: its facts as fields, its samples as they came,
//! in base64, in fields `samples_0`, `samples_1`, ... because a string holds less than 64 KiB. Samples as points of their own
//! would not come back as they were where frames overlap.
//!
//! Idempotency key: measurement, tags and time. A point with the same key replaces the fields of the one before, so the same
//! batch again changes nothing, and of two values the last written wins. The server does not tell which rows were new, so all
//! that it takes count as written. It keeps no ledger: the group's committed offset says where to start.
//!
//! Sources: the [line protocol](https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/) and the
//! [write API](https://docs.influxdata.com/influxdb/v2/write-data/troubleshoot/).

mod client;
mod config;
mod line;
mod names;
mod read;
mod write;

pub use config::{InfluxConfig, InfluxError};
pub use read::InfluxRawReader;
pub use write::InfluxRaw;

/// Measurement of readings.
const READINGS: &str = "readings";
/// Measurement of frames.
const FRAMES: &str = "frames";
/// Fields of a frame's samples: this and a number.
const SAMPLES: &str = "samples_";
