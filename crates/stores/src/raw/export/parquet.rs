//! Parquet.

use std::{io::Write, sync::Arc};

use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{Float64Builder, ListBuilder, StringBuilder, TimestampMillisecondBuilder, TimestampNanosecondBuilder},
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use mantis_schemas::Series;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

use super::{ExportError, RowWriter, StoredFrame, StoredReading, format_name, quality_name, samples};

/// Rows of a row group: its encoded columns are what the writer keeps in memory.
const ROW_GROUP_ROWS_MAX: usize = 1 << 20;
/// Bytes of a row group.
const ROW_GROUP_BYTES_MAX: usize = 32 << 20;
/// Readings that are collected, over several series, before they are encoded.
const BATCH_ROWS: usize = 32_768;

/// A file; batches cut into row groups by rows and bytes, so that the same rows give the same bytes.
struct File<W: Write + Send> {
    schema: Arc<Schema>,
    writer: ArrowWriter<W>,
}

impl<W: Write + Send> File<W> {
    fn new(out: W, mut fields: Vec<Field>, with_arrival: bool) -> Result<Self, ExportError> {
        if with_arrival {
            fields.push(Field::new("arrival", DataType::Timestamp(TimeUnit::Millisecond, Some(utc())), true));
        }
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
            .build();
        Ok(Self { writer: ArrowWriter::try_new(out, schema.clone(), Some(properties))?, schema })
    }

    fn write(&mut self, mut columns: Vec<ArrayRef>, arrival: ArrayRef) -> Result<(), ExportError> {
        if columns.len() < self.schema.fields().len() {
            columns.push(arrival);
        }
        self.writer.write(&RecordBatch::try_new(self.schema.clone(), columns)?)?;
        if self.writer.in_progress_size() > ROW_GROUP_BYTES_MAX {
            self.writer.flush()?;
        }
        Ok(())
    }
}

fn utc() -> Arc<str> {
    "UTC".into()
}

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some(utc()))
}

/// Readings, a row each.
pub(super) struct Readings<W: Write + Send> {
    file: File<W>,
    asset: StringBuilder,
    sensor: StringBuilder,
    time: TimestampNanosecondBuilder,
    value: Float64Builder,
    quality: StringBuilder,
    arrival: TimestampMillisecondBuilder,
}

impl<W: Write + Send> Readings<W> {
    pub(super) fn new(out: W, with_arrival: bool) -> Result<Self, ExportError> {
        let fields = vec![
            Field::new("asset", DataType::Utf8, false),
            Field::new("sensor", DataType::Utf8, false),
            Field::new("time", time(), false),
            Field::new("value", DataType::Float64, false),
            Field::new("quality", DataType::Utf8, false),
        ];
        Ok(Self {
            file: File::new(out, fields, with_arrival)?,
            asset: StringBuilder::new(),
            sensor: StringBuilder::new(),
            time: TimestampNanosecondBuilder::new().with_timezone(utc()),
            value: Float64Builder::new(),
            quality: StringBuilder::new(),
            arrival: TimestampMillisecondBuilder::new().with_timezone(utc()),
        })
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.asset.finish()),
            Arc::new(self.sensor.finish()),
            Arc::new(self.time.finish()),
            Arc::new(self.value.finish()),
            Arc::new(self.quality.finish()),
        ];
        self.file.write(columns, Arc::new(self.arrival.finish()))
    }
}

impl<W: Write + Send> RowWriter<StoredReading> for Readings<W> {
    fn write(&mut self, series: &Series, rows: &[StoredReading]) -> Result<(), ExportError> {
        for row in rows {
            self.asset.append_value(&series.asset);
            self.sensor.append_value(&series.sensor);
            self.time.append_value(row.time_ns);
            self.value.append_value(row.value);
            self.quality.append_value(quality_name(row.quality));
            self.arrival.append_option((row.arrival_ms >= 0).then_some(row.arrival_ms));
        }
        if self.value.values_slice().len() >= BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn finish(mut self) -> Result<(), ExportError> {
        self.flush()?;
        self.file.writer.into_inner()?.flush()?;
        Ok(())
    }
}

/// Frames, a row each.
pub(super) struct Frames<W: Write + Send> {
    file: File<W>,
}

impl<W: Write + Send> Frames<W> {
    pub(super) fn new(out: W, with_arrival: bool) -> Result<Self, ExportError> {
        let fields = vec![
            Field::new("asset", DataType::Utf8, false),
            Field::new("sensor", DataType::Utf8, false),
            Field::new("start", time(), false),
            Field::new("sample_rate_hz", DataType::Float64, false),
            Field::new("format", DataType::Utf8, false),
            Field::new("scale", DataType::Float64, false),
            Field::new("quality", DataType::Utf8, false),
            Field::new("samples", DataType::List(Arc::new(Field::new("item", DataType::Float64, true))), false),
        ];
        Ok(Self { file: File::new(out, fields, with_arrival)? })
    }
}

impl<W: Write + Send> RowWriter<StoredFrame> for Frames<W> {
    fn write(&mut self, series: &Series, rows: &[StoredFrame]) -> Result<(), ExportError> {
        let mut asset = StringBuilder::new();
        let mut sensor = StringBuilder::new();
        let mut start = TimestampNanosecondBuilder::new().with_timezone(utc());
        let mut rate = Float64Builder::new();
        let mut format = StringBuilder::new();
        let mut scale = Float64Builder::new();
        let mut quality = StringBuilder::new();
        let mut all_samples = ListBuilder::new(Float64Builder::new());
        let mut arrival = TimestampMillisecondBuilder::new().with_timezone(utc());
        for row in rows {
            asset.append_value(&series.asset);
            sensor.append_value(&series.sensor);
            start.append_value(row.start_ns);
            rate.append_value(row.sample_rate_hz);
            format.append_value(format_name(row.format));
            scale.append_value(row.scale);
            quality.append_value(quality_name(row.quality));
            for sample in samples(row) {
                all_samples.values().append_value(sample);
            }
            all_samples.append(true);
            arrival.append_option((row.arrival_ms >= 0).then_some(row.arrival_ms));
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(asset.finish()),
            Arc::new(sensor.finish()),
            Arc::new(start.finish()),
            Arc::new(rate.finish()),
            Arc::new(format.finish()),
            Arc::new(scale.finish()),
            Arc::new(quality.finish()),
            Arc::new(all_samples.finish()),
        ];
        self.file.write(columns, Arc::new(arrival.finish()))
    }

    fn finish(self) -> Result<(), ExportError> {
        self.file.writer.into_inner()?.flush()?;
        Ok(())
    }
}
