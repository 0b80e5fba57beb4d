//! The records as senders write them.

use crate::{Quality, SampleFormat};

/// A reading of one sensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading<'a> {
    /// The sensor's name within the asset.
    pub sensor: &'a str,
    /// Source time, ns since the epoch, UTC.
    pub time_ns: i64,
    /// The value.
    pub value: f64,
    /// Its quality.
    pub quality: Quality,
    /// The gateway's running number per sensor, for gap detection only.
    pub seq: Option<i64>,
}

/// Readings of one sensor as columns of equal length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadingBatch<'a> {
    /// The sensor's name within the asset.
    pub sensor: &'a str,
    /// Source times, ns since the epoch, UTC.
    pub times_ns: &'a [i64],
    /// The values.
    pub values: &'a [f64],
    /// Their qualities; empty when all are good.
    pub qualities: &'a [Quality],
    /// The gateway's running number of the first row.
    pub first_seq: Option<i64>,
}

/// A piece of a waveform.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameRecord<'a> {
    /// The sensor's name within the asset.
    pub sensor: &'a str,
    /// Source time of the first sample, ns since the epoch, UTC.
    pub start_ns: i64,
    /// Samples per second: finite, above 0.
    pub sample_rate_hz: f64,
    /// Format of the samples.
    pub format: SampleFormat,
    /// Factor of I16 samples: finite, not 0; 1 for the other formats.
    pub scale: f64,
    /// Little-endian samples, at least one.
    pub samples: &'a [u8],
    /// Quality of the frame.
    pub quality: Quality,
    /// The gateway's running number per sensor, for gap detection only.
    pub seq: Option<i64>,
}
