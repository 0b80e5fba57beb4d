//! Messages as a gateway with many sensors would publish them; the same at every run.

use anyhow::{Context, Result};
use mantis_schemas::{Quality, Reading, ReadingBatch, ReadingColumns, SeriesInterner, encode};

/// Sensors that the messages come from, in turn.
pub const SENSORS: usize = 1_000;
/// Readings of a column batch.
pub const BATCH_ROWS: usize = 50;
/// Source time of the first readings: 2026-01-01T00:00:00Z.
pub const START_NS: i64 = 1_767_225_600_000_000_000;
/// 40 ms between readings of a sensor: 5,000 of them end windows of a minute and fill a lateness of two.
const STEP_NS: i64 = 40_000_000;

/// How readings are packed into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// One reading as JSON, 128 bytes.
    Json,
    /// One reading as Avro.
    Avro,
    /// 50 readings of one sensor as an Avro column batch.
    Columns,
}

impl Packing {
    /// Readings in one message.
    pub fn rows(self) -> usize {
        if self == Self::Columns { BATCH_ROWS } else { 1 }
    }

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON, 1 reading",
            Self::Avro => "Avro, 1 reading",
            Self::Columns => "column batch, 50 readings",
        }
    }
}

/// Writes messages into one buffer each, reused.
#[derive(Debug)]
pub struct Messages {
    packing: Packing,
    next: usize,
    asset: String,
    payload: Vec<u8>,
}

impl Messages {
    /// From the first message on.
    pub fn new(packing: Packing) -> Self {
        Self { packing, next: 0, asset: String::new(), payload: Vec::new() }
    }

    /// The next message: its asset, which is its key, and its payload.
    pub fn message(&mut self) -> (&str, &[u8]) {
        let (sensor, turn) = (self.next % SENSORS, (self.next / SENSORS * self.packing.rows()) as i64);
        self.next += 1;
        self.asset.clear();
        self.asset.push_str(&format!("press-{:02}", sensor / 10));
        let name = format!("bearing-temperature-{}", sensor % 10);
        self.payload.clear();
        let time = |row: i64| START_NS + (turn + row) * STEP_NS;
        let value = |row: i64| 60.0 + (((turn + row) * 37 + sensor as i64) % 1_000) as f64 / 64.0;
        let reading = Reading { sensor: &name, time_ns: time(0), value: value(0), quality: Quality::Good, seq: Some(turn) };
        match self.packing {
            Packing::Json => {
                encode::json::reading(&mut self.payload, &self.asset, &reading);
                // White space up to the size that a gateway's JSON with a few more fields has.
                let end = self.payload.pop();
                self.payload.resize(self.payload.len().max(127), b' ');
                self.payload.extend(end);
            }
            Packing::Avro => encode::avro::reading(&mut self.payload, &self.asset, &reading),
            Packing::Columns => {
                let times: Vec<i64> = (0..BATCH_ROWS as i64).map(time).collect();
                let values: Vec<f64> = (0..BATCH_ROWS as i64).map(value).collect();
                let batch =
                    ReadingBatch { sensor: &name, times_ns: &times, values: &values, qualities: &[], first_seq: Some(turn) };
                encode::avro::reading_columns(&mut self.payload, &self.asset, &batch);
            }
        }
        (&self.asset, &self.payload)
    }
}

/// Batch `batch` of `rows` readings of all sensors in turn and in order of time, 100 ms apart, as a sink gets them.
///
/// # Errors
/// `interner` has no room for all sensors.
pub fn readings(interner: &mut SeriesInterner, batch: usize, rows: usize) -> Result<ReadingColumns> {
    let mut columns = ReadingColumns::default();
    for row in 0..rows {
        let (sensor, turn) = (row % SENSORS, batch * (rows / SENSORS) + row / SENSORS);
        let series = interner.intern(&format!("press-{:02}", sensor / 10), &format!("temperature-{}", sensor % 10));
        columns.series.push(series.context("too many series")?);
        columns.time_ns.push(START_NS + turn as i64 * 100_000_000);
        columns.value.push(60.0 + (row * 37 % 1_000) as f64 / 64.0);
        columns.quality.push(Quality::Good);
        columns.arrival_ms.push(START_NS / 1_000_000);
    }
    Ok(columns)
}
