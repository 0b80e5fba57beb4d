//! Readings and frames as columns: what decoders write and stores read.

use crate::SeriesId;

/// Quality of a value: the severity of OPC UA's status code (Part 8, the top two bits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Quality {
    /// The value can be used.
    #[default]
    Good = 0,
    /// The value may be used with care.
    Uncertain = 1,
    /// The value must not enter any figure.
    Bad = 2,
}

impl Quality {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Uncertain => "uncertain",
            Self::Bad => "bad",
        }
    }
}

/// Readings as columns of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadingColumns {
    /// The series of each row.
    pub series: Vec<SeriesId>,
    /// Source time, ns since the epoch, UTC, never rewritten.
    pub time_ns: Vec<i64>,
    /// The value: finite.
    pub value: Vec<f64>,
    /// The value's quality.
    pub quality: Vec<Quality>,
    /// Timestamp of the record that brought the row, ms since the epoch (-1: it had none).
    pub arrival_ms: Vec<i64>,
}

impl ReadingColumns {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Keeps the first `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        self.series.truncate(rows);
        self.time_ns.truncate(rows);
        self.value.truncate(rows);
        self.quality.truncate(rows);
        self.arrival_ms.truncate(rows);
    }
}

/// How the samples of a frame are stored: as they were sent, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SampleFormat {
    /// IEEE 754 double.
    F64 = 0,
    /// IEEE 754 single.
    F32 = 1,
    /// Signed 16 bit; the value is `sample * scale`.
    I16 = 2,
}

impl SampleFormat {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::I16 => "i16",
        }
    }

    /// Bytes of one sample.
    pub fn width(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::I16 => 2,
        }
    }

    /// The values of little-endian `samples` of this format; `scale` is the factor of I16 samples.
    pub fn values(self, scale: f64, samples: &[u8]) -> impl Iterator<Item = f64> + '_ {
        samples.chunks_exact(self.width()).map(move |sample| match (self, sample) {
            (Self::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
            (Self::F32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
            (Self::I16, &[a, b]) => f64::from(i16::from_le_bytes([a, b])) * scale,
            _ => f64::NAN,
        })
    }
}

/// Waveform frames as columns of equal length; samples lie one frame after the other in `samples`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameColumns {
    /// The series of each frame.
    pub series: Vec<SeriesId>,
    /// Source time of the first sample, ns since the epoch, UTC.
    pub start_ns: Vec<i64>,
    /// Samples per second: finite, above 0. Sample `i` was taken at `start_ns + i * 1e9 / rate`.
    pub sample_rate_hz: Vec<f64>,
    /// Format of the samples.
    pub format: Vec<SampleFormat>,
    /// Factor of I16 samples: finite, not 0; 1 for the other formats.
    pub scale: Vec<f64>,
    /// Quality of the frame.
    pub quality: Vec<Quality>,
    /// Timestamp of the record that brought the frame, ms since the epoch (-1: it had none).
    pub arrival_ms: Vec<i64>,
    /// End of each frame's samples in `samples`.
    pub samples_end: Vec<usize>,
    /// Little-endian samples of all frames; each value is finite.
    pub samples: Vec<u8>,
}

/// One frame of [`FrameColumns`], borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame<'a> {
    /// The frame's series.
    pub series: SeriesId,
    /// Source time of the first sample, ns since the epoch, UTC.
    pub start_ns: i64,
    /// Samples per second.
    pub sample_rate_hz: f64,
    /// Format of the samples.
    pub format: SampleFormat,
    /// Factor of I16 samples.
    pub scale: f64,
    /// Quality of the frame.
    pub quality: Quality,
    /// Timestamp of the record that brought the frame, ms since the epoch (-1: it had none).
    pub arrival_ms: i64,
    /// Little-endian samples.
    pub samples: &'a [u8],
}

impl FrameColumns {
    /// Number of frames.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// True without frames.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The frame at `index`, below [`len`](Self::len).
    pub fn frame(&self, index: usize) -> Frame<'_> {
        let from = if index == 0 { 0 } else { self.samples_end[index - 1] };
        Frame {
            series: self.series[index],
            start_ns: self.start_ns[index],
            sample_rate_hz: self.sample_rate_hz[index],
            format: self.format[index],
            scale: self.scale[index],
            quality: self.quality[index],
            arrival_ms: self.arrival_ms[index],
            samples: &self.samples[from..self.samples_end[index]],
        }
    }

    /// Appends a frame.
    pub fn push(&mut self, frame: Frame<'_>) {
        self.series.push(frame.series);
        self.start_ns.push(frame.start_ns);
        self.sample_rate_hz.push(frame.sample_rate_hz);
        self.format.push(frame.format);
        self.scale.push(frame.scale);
        self.quality.push(frame.quality);
        self.arrival_ms.push(frame.arrival_ms);
        self.samples.extend_from_slice(frame.samples);
        self.samples_end.push(self.samples.len());
    }

    /// Keeps the first `frames` frames.
    pub fn truncate(&mut self, frames: usize) {
        self.series.truncate(frames);
        self.start_ns.truncate(frames);
        self.sample_rate_hz.truncate(frames);
        self.format.truncate(frames);
        self.scale.truncate(frames);
        self.quality.truncate(frames);
        self.arrival_ms.truncate(frames);
        self.samples_end.truncate(frames);
        self.samples.truncate(self.samples_end.last().copied().unwrap_or(0));
    }
}
