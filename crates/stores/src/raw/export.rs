//! Exports of a raw store: sorted by identity (asset, sensor, source time), in bounded memory, and the same bytes for
//! the same rows. The arrival differs from run to run and is left out unless it is asked for.
//!
//! Rows that are written while an export runs may be in it or not.

use std::{io::Write, ops::Range};

use mantis_pipeline::Fault;
use mantis_schemas::{Quality, SampleFormat, Series};

use super::{RawReader, StoredFrame, StoredReading};

mod csv;
mod parquet;

/// Readings that are read at a time.
const READINGS_PER_PAGE: usize = 16_384;
/// Frames that are read at a time; a frame is at most about as large as a record, 1 MiB.
const FRAMES_PER_PAGE: usize = 8;

/// What an export looks like, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The file's format.
    pub format: ExportFormat,
    /// Source times, half open, ns since the epoch. `i64::MIN..i64::MAX` is everything.
    pub time_ns: Range<i64>,
    /// Also writes when the record arrived. It is not the same for two runs over the same recording.
    pub with_arrival: bool,
}

/// The format of an exported file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// RFC 4180 with a header line, UTF-8, lines end with `\n`. Numbers in the shortest form that reads back as the same
    /// double, times in RFC 3339 with nanoseconds and as a number.
    Csv,
    /// Parquet with zstd; times are timestamps in ns, UTC.
    Parquet,
}

/// An export that did not come to its end. What was written until then is not a whole file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store could not be read.
    #[error("the export stopped because the store cannot be read: {0}")]
    Store(#[from] Fault),
    /// The file could not be written.
    #[error("the export stopped because its file cannot be written ({0}): check the disk and its permissions")]
    Write(#[from] std::io::Error),
    /// The Parquet writer failed.
    #[error("the export stopped because its Parquet file cannot be written ({0}): check the disk and its permissions")]
    Parquet(#[from] ::parquet::errors::ParquetError),
    /// Columns did not fit together.
    #[error("the export stopped because its columns do not fit together ({0}): this is a defect")]
    Arrow(#[from] arrow_schema::ArrowError),
}

/// Writes all readings: asset, sensor, time, value, quality. Returns how many.
///
/// CSV also has `time_ns`. Put a buffer around a file.
///
/// # Errors
/// The store cannot be read, or `out` cannot be written.
pub async fn readings<R: RawReader>(reader: &R, export: &Export, out: impl Write + Send) -> Result<u64, ExportError> {
    match export.format {
        ExportFormat::Csv => every_reading(reader, export, csv::Readings::new(out, export.with_arrival)?).await,
        ExportFormat::Parquet => every_reading(reader, export, parquet::Readings::new(out, export.with_arrival)?).await,
    }
}

/// Writes all frames: asset, sensor, start, rate, format, scale, quality, samples. Returns how many.
///
/// Samples are the numbers as they were sent, widened to doubles without loss; the physical value is `sample * scale`,
/// sample `i` was taken at `start + i / rate`. CSV has them in one field, separated by spaces; Parquet as a list.
///
/// # Errors
/// The store cannot be read, or `out` cannot be written.
pub async fn frames<R: RawReader>(reader: &R, export: &Export, out: impl Write + Send) -> Result<u64, ExportError> {
    match export.format {
        ExportFormat::Csv => every_frame(reader, export, csv::Frames::new(out, export.with_arrival)?).await,
        ExportFormat::Parquet => every_frame(reader, export, parquet::Frames::new(out, export.with_arrival)?).await,
    }
}

/// A file in the making.
trait RowWriter<Row> {
    fn write(&mut self, series: &Series, rows: &[Row]) -> Result<(), ExportError>;
    fn finish(self) -> Result<(), ExportError>;
}

async fn every_reading<R: RawReader>(
    reader: &R,
    export: &Export,
    mut writer: impl RowWriter<StoredReading>,
) -> Result<u64, ExportError> {
    let mut count = 0;
    for series in reader.series().await? {
        let mut times = export.time_ns.clone();
        while !times.is_empty() {
            let page = reader.readings(&series, times.clone(), READINGS_PER_PAGE).await?;
            let Some(last) = page.last() else { break };
            times.start = last.time_ns.saturating_add(1);
            count += page.len() as u64;
            writer.write(&series, &page)?;
        }
    }
    writer.finish()?;
    Ok(count)
}

async fn every_frame<R: RawReader>(
    reader: &R,
    export: &Export,
    mut writer: impl RowWriter<StoredFrame>,
) -> Result<u64, ExportError> {
    let mut count = 0;
    for series in reader.series().await? {
        let mut starts = export.time_ns.clone();
        while !starts.is_empty() {
            let page = reader.frames(&series, starts.clone(), FRAMES_PER_PAGE).await?;
            let Some(last) = page.last() else { break };
            starts.start = last.start_ns.saturating_add(1);
            count += page.len() as u64;
            writer.write(&series, &page)?;
        }
    }
    writer.finish()?;
    Ok(count)
}

fn quality_name(quality: Quality) -> &'static str {
    match quality {
        Quality::Good => "good",
        Quality::Uncertain => "uncertain",
        Quality::Bad => "bad",
    }
}

fn format_name(format: SampleFormat) -> &'static str {
    match format {
        SampleFormat::F64 => "f64",
        SampleFormat::F32 => "f32",
        SampleFormat::I16 => "i16",
    }
}

/// The samples as doubles, without loss and without the scale.
fn samples(frame: &StoredFrame) -> impl Iterator<Item = f64> {
    frame.samples.chunks_exact(frame.format.width()).map(|sample| match *sample {
        [a, b] => f64::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => f64::from(f32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => f64::NAN,
    })
}
