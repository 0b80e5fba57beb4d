//! From pieces to messages.

use std::{collections::HashMap, sync::Arc};

use mantis_schemas::{FrameRecord, Quality, Reading, ReadingBatch, encode, topics};
use serde::Serialize;

use crate::Piece;

/// How payloads are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Avro single-object encoding.
    #[default]
    Avro,
    /// JSON; it cannot carry NaN and infinities.
    Json,
}

/// A message as it is published.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The topic.
    pub topic: &'static str,
    /// The key: the asset.
    pub key: Arc<str>,
    /// The payload.
    pub payload: Vec<u8>,
    /// Value of the header [`SOURCE_HEADER`](Self::SOURCE_HEADER): where its first reading or sample stands, `file:line`.
    pub source: String,
    /// Readings in it.
    pub readings: u64,
    /// Frames in it.
    pub frames: u64,
    /// When a gateway would have sent it, ns since the epoch.
    pub due_ns: i64,
}

impl Message {
    /// The header that says where in the recording a message comes from.
    pub const SOURCE_HEADER: &'static str = "mantis-source";
}

/// Encodes pieces, and numbers the readings and frames of each sensor on.
#[derive(Debug)]
pub(crate) struct Encoder {
    format: Format,
    columns: bool,
    next_seq: HashMap<Arc<str>, HashMap<Arc<str>, i64>>,
}

impl Encoder {
    /// For messages of `batch` readings.
    pub(crate) fn new(format: Format, batch: usize) -> Self {
        Self { format, columns: batch > 1, next_seq: HashMap::new() }
    }

    /// Goes over a piece that was acknowledged in an earlier run.
    pub(crate) fn skip(&mut self, piece: &Piece) {
        self.seq(piece);
    }

    /// The message of a piece from file `label`.
    pub(crate) fn message(&mut self, label: &str, piece: &Piece) -> Message {
        let seq = Some(self.seq(piece));
        let mut payload = Vec::new();
        let out = &mut payload;
        let (topic, asset, readings) = match piece {
            Piece::Readings { asset, sensor, times_ns, values, qualities, .. } => {
                if let ([time_ns], [value], false) = (times_ns.as_slice(), values.as_slice(), self.columns) {
                    let quality = qualities.first().copied().unwrap_or(Quality::Good);
                    let reading = Reading { sensor, time_ns: *time_ns, value: *value, quality, seq };
                    match self.format {
                        Format::Avro => encode::avro::reading(out, asset, &reading),
                        Format::Json => encode::json::reading(out, asset, &reading),
                    }
                } else {
                    let batch = ReadingBatch { sensor, times_ns, values, qualities, first_seq: seq };
                    match self.format {
                        Format::Avro => encode::avro::reading_columns(out, asset, &batch),
                        Format::Json => encode::json::reading_columns(out, asset, &batch),
                    }
                }
                (topics::READINGS, asset, times_ns.len() as u64)
            }
            Piece::Frame { asset, sensor, start_ns, sample_rate_hz, format, scale, samples, quality, .. } => {
                let frame = FrameRecord {
                    sensor,
                    start_ns: *start_ns,
                    sample_rate_hz: *sample_rate_hz,
                    format: *format,
                    scale: *scale,
                    samples,
                    quality: *quality,
                    seq,
                };
                match self.format {
                    Format::Avro => encode::avro::frame(out, asset, &frame),
                    Format::Json => encode::json::frame(out, asset, &frame),
                }
                (topics::WAVEFORMS, asset, 0)
            }
        };
        Message {
            topic,
            key: asset.clone(),
            payload,
            source: format!("{label}:{}", piece.line()),
            readings,
            frames: u64::from(readings == 0),
            due_ns: piece.due_ns(),
        }
    }

    fn seq(&mut self, piece: &Piece) -> i64 {
        let (asset, sensor, count) = match piece {
            Piece::Readings { asset, sensor, times_ns, .. } => (asset, sensor, times_ns.len() as i64),
            Piece::Frame { asset, sensor, .. } => (asset, sensor, 1),
        };
        if !self.next_seq.contains_key(asset) {
            self.next_seq.insert(asset.clone(), HashMap::new());
        }
        let Some(sensors) = self.next_seq.get_mut(asset) else { return 0 };
        let next = match sensors.get_mut(sensor) {
            Some(next) => next,
            None => sensors.entry(sensor.clone()).or_insert(0),
        };
        *next += count;
        *next - count
    }
}
