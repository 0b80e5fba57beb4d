//! Raw stores: every reading and frame as it was sent, under (asset, sensor, source time in ns).
//!
//! Times that can be stored are -9223372036854775806..=9223372036854775806 ns, as in InfluxDB; rows at others are rejected.

mod any;
mod codes;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod export;
pub mod influx;
pub mod sqlite;
mod timing;

use std::{future::Future, ops::Range};

use mantis_pipeline::{Columns, Fault};
use mantis_schemas::{FrameColumns, Quality, ReadingColumns, SampleFormat, Series};

use crate::{
    ReadingReader,
    columns::{READING_BYTES, copy_readings},
};

pub use any::{AnyRawReader, RawOpenError, RawPlace};
pub use timing::{Gathered, Timing};

/// What a raw store takes: the rows of one kind of topic.
#[derive(Clone, Debug, PartialEq)]
pub enum RawColumns {
    /// Scalar readings.
    Readings(ReadingColumns),
    /// Waveform frames; a row is a frame.
    Frames(FrameColumns),
}

impl RawColumns {
    /// The given rows alone; `None` where they are not all there.
    pub fn copy(&self, rows: Range<usize>) -> Option<Self> {
        match self {
            Self::Readings(readings) => Some(Self::Readings(copy_readings(readings, rows)?)),
            Self::Frames(frames) => {
                if rows.start > rows.end || rows.end > frames.len() {
                    return None;
                }
                let mut copy = FrameColumns::default();
                for index in rows {
                    copy.push(frames.frame(index));
                }
                Some(Self::Frames(copy))
            }
        }
    }
}

impl Columns for RawColumns {
    fn rows(&self) -> usize {
        match self {
            Self::Readings(readings) => readings.len(),
            Self::Frames(frames) => frames.len(),
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Readings(readings) => readings.truncate(rows),
            Self::Frames(frames) => frames.truncate(rows),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Readings(readings) => readings.len() * READING_BYTES,
            Self::Frames(frames) => frames.len() * 64 + frames.samples.len(),
        }
    }
}

/// A reading as a store gives it back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StoredReading {
    /// Source time, ns since the epoch.
    pub time_ns: i64,
    /// The value.
    pub value: f64,
    /// Its quality.
    pub quality: Quality,
    /// Timestamp of the record that brought it, ms since the epoch (-1: none).
    pub arrival_ms: i64,
}

/// A frame as a store gives it back; samples bit for bit as they were sent.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredFrame {
    /// Source time of the first sample, ns since the epoch.
    pub start_ns: i64,
    /// Samples per second.
    pub sample_rate_hz: f64,
    /// Format of the samples.
    pub format: SampleFormat,
    /// Factor of I16 samples; 1 for the others.
    pub scale: f64,
    /// Quality of the frame.
    pub quality: Quality,
    /// Timestamp of the record that brought it, ms since the epoch (-1: none).
    pub arrival_ms: i64,
    /// Little-endian samples.
    pub samples: Vec<u8>,
}

/// Reads a raw store: for queries, exports, audits and tests. Pages and times are those of [`ReadingReader`].
pub trait RawReader: ReadingReader {
    /// The newest reading of each series that has one and lies behind `after`, sorted by (asset, sensor), at most `limit`.
    fn newest_readings(
        &self,
        after: Option<&Series>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Series, StoredReading)>, Fault>> + Send;

    /// The newest reading of a series.
    fn newest_reading(&self, series: &Series) -> impl Future<Output = Result<Option<StoredReading>, Fault>> + Send;

    /// The newest frame of a series.
    fn newest_frame(&self, series: &Series) -> impl Future<Output = Result<Option<StoredFrame>, Fault>> + Send;

    /// Frames of a series in order of start, at most `limit`.
    fn frames(
        &self,
        series: &Series,
        start_ns: Range<i64>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredFrame>, Fault>> + Send;
}
