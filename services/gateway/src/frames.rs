//! Samples gathered per channel until a frame is full.

use std::sync::Arc;

use mantis_schemas::{Quality, SampleFormat};

use crate::{Piece, mapping::FramesMapping};

/// Frames of one channel under way.
#[derive(Debug)]
pub(crate) struct Framer {
    sensor: Arc<str>,
    rate_hz: f64,
    samples_max: usize,
    start_ns: i64,
    quality: Quality,
    line: u64,
    samples: Vec<u8>,
}

impl Framer {
    pub(crate) fn new(sensor: Arc<str>, frames: &FramesMapping) -> Self {
        Self {
            sensor,
            rate_hz: frames.rate_hz,
            samples_max: frames.samples,
            start_ns: 0,
            quality: Quality::Good,
            line: 0,
            samples: Vec::new(),
        }
    }

    /// Ends the frame that is open if a sample of this quality does not belong into it.
    pub(crate) fn turn(&mut self, asset: &Arc<str>, quality: Quality) -> Option<Piece> {
        if self.quality == quality { None } else { self.cut(asset) }
    }

    /// Adds a sample; gives the frame that it fills.
    pub(crate) fn sample(&mut self, asset: &Arc<str>, line: u64, time_ns: i64, value: f64, quality: Quality) -> Option<Piece> {
        if self.samples.is_empty() {
            self.start_ns = time_ns;
            self.quality = quality;
            self.line = line;
        }
        self.samples.extend(value.to_le_bytes());
        if self.samples.len() >= self.samples_max * SampleFormat::F64.width() { self.cut(asset) } else { None }
    }

    /// Ends the frame that is open.
    pub(crate) fn cut(&mut self, asset: &Arc<str>) -> Option<Piece> {
        (!self.samples.is_empty()).then(|| Piece::Frame {
            asset: asset.clone(),
            sensor: self.sensor.clone(),
            start_ns: self.start_ns,
            sample_rate_hz: self.rate_hz,
            format: SampleFormat::F64,
            scale: 1.0,
            samples: std::mem::take(&mut self.samples),
            quality: self.quality,
            line: self.line,
        })
    }
}
