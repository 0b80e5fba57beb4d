use std::fmt;

use serde::Serialize;

/// Refusals that an account keeps in words; the others are only counted.
pub(crate) const REFUSALS_MAX: usize = 20;

/// A cell, row or sample that could not be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The file's name with its folder's.
    pub file: String,
    /// Line of the file, from 1; of a file of raw samples the sample's number, from 0.
    pub line: u64,
    /// What was refused, and why.
    pub what: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// What was read from a recording so far. A row that is refused whole counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Files read to their end.
    pub files: u64,
    /// Rows below the header; of raw files, samples of one channel.
    pub rows: u64,
    /// Readings.
    pub readings: u64,
    /// Frames.
    pub frames: u64,
    /// Samples in the frames.
    pub samples: u64,
    /// Cells that hold no value.
    pub blanks: u64,
    /// Rows of long files whose sensor the mapping does not name.
    pub ignored: u64,
    /// Sensors that the mapping names for long files and no row has had.
    pub absent_sensors: Vec<String>,
    /// Cells, rows and samples that could not be published.
    pub refused: u64,
    /// The first of the refused, in words.
    pub refusals: Vec<Refusal>,
}

/// What a replay did, over the whole recording: an interrupted and resumed replay ends with the same `read`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Account {
    /// Files of the recording.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Bytes read of them.
    pub bytes_read: u64,
    /// What was read; on an interruption it is a little ahead of what was sent.
    pub read: Totals,
    /// Messages that earlier runs had acknowledged and this one left out.
    pub resumed_messages: u64,
    /// Where this run went on: file and line of the first message it sent; `None` from the start.
    pub resumed_from: Option<String>,
    /// Messages handed to the producer by this run, repetitions left out.
    pub messages: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Messages that the broker acknowledged in this run.
    pub acknowledged: u64,
    /// Readings in the acknowledged messages.
    pub acknowledged_readings: u64,
    /// Frames in the acknowledged messages.
    pub acknowledged_frames: u64,
    /// Messages sent once more after the producer gave them up.
    pub repeated: u64,
    /// Seconds that this run took.
    pub elapsed_s: f64,
    /// True when the replay was stopped before its end: the next one goes on from here.
    pub interrupted: bool,
}

impl Account {
    /// Acknowledged readings and frames per second of this run.
    pub fn rate(&self) -> f64 {
        if self.elapsed_s > 0.0 { (self.acknowledged_readings + self.acknowledged_frames) as f64 / self.elapsed_s } else { 0.0 }
    }
}
