//! An object's bytes back into rows, in order of the log.

use arrow_array::{
    Array, ArrayAccessor, ArrowPrimitiveType, BinaryArray, BooleanArray, Int32Array, Int64Array, ListArray, PrimitiveArray,
    RecordBatch, StringArray,
    types::{Float64Type, Int64Type, TimestampMillisecondType, TimestampNanosecondType},
};
use bytes::Bytes;
use mantis_pipeline::Header;
use mantis_schemas::{Feature, Figure, Frame, Quality, SampleFormat, SeriesId, SeriesInterner};
use parquet::{
    arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};

use super::{
    Manifest, ObjectError, layout as column,
    manifest::{METADATA, check_seal, place_of_footer},
    write::NO_ARRIVAL,
};
use crate::archive::columns::{ArchiveRows, Decoded, EventRow, Original};

/// Rows that are read at a time: columns of names take their bytes once per row here.
const READ_ROWS: usize = 8_192;

/// What an object says of itself, after a check of its size and checksum.
///
/// # Errors
/// It is damaged, or newer than this program.
pub fn manifest(object: &Bytes) -> Result<Manifest, ObjectError> {
    Ok(open(object)?.0)
}

/// What an object says of itself, by the end of its bytes alone, without a check of the others. `None` if that end does not tell.
pub fn peek(end: &[u8]) -> Option<Manifest> {
    let footer = end.get(place_of_footer(end)?)?;
    let metadata = ParquetMetaDataReader::decode_metadata(footer).ok()?;
    of_metadata(&metadata).ok()
}

/// An object's rows in order of the log, bit for bit as they were decoded; `series` gives ids to their names.
///
/// # Errors
/// It is damaged, newer than this program, or has more series than may be held.
pub fn rows(object: &Bytes, series: &mut SeriesInterner) -> Result<(Manifest, ArchiveRows), ObjectError> {
    let (manifest, builder) = open(object)?;
    let mut file = ArchiveRows::new(manifest.kind()?);
    for batch in builder.with_batch_size(READ_ROWS).build().map_err(ObjectError::damaged)? {
        let batch = Batch(batch.map_err(ObjectError::damaged)?);
        batch.positions(&mut file)?;
        batch.decoded(&mut file.decoded, series)?;
    }
    let rows = log_order(&file);
    let counts = (rows.decoded.len() as u64, rows.originals.len() as u64);
    if counts != (manifest.rows, manifest.undecoded) {
        let (decoded, kept) = counts;
        return Err(ObjectError::Damaged(format!(
            "it holds {decoded} rows and {kept} kept records, its manifest says {} and {}",
            manifest.rows, manifest.undecoded
        )));
    }
    if rows.offset.iter().any(|offset| !(manifest.start..manifest.end).contains(offset)) {
        return Err(ObjectError::damaged("it holds rows of positions that it does not cover"));
    }
    Ok((manifest, rows))
}

fn open(object: &Bytes) -> Result<(Manifest, ParquetRecordBatchReaderBuilder<Bytes>), ObjectError> {
    check_seal(object)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(object.clone()).map_err(ObjectError::damaged)?;
    Ok((of_metadata(builder.metadata())?, builder))
}

fn of_metadata(metadata: &ParquetMetaData) -> Result<Manifest, ObjectError> {
    let entries = metadata.file_metadata().key_value_metadata();
    let entry = entries.and_then(|entries| entries.iter().find(|entry| entry.key == METADATA));
    let json = entry.and_then(|entry| entry.value.as_deref()).ok_or_else(|| ObjectError::damaged("it has no manifest"))?;
    Manifest::parse(json)
}

fn log_order(file: &ArchiveRows) -> ArchiveRows {
    // The record itself stands behind its good rows.
    let place = |entry: &usize| (file.offset.get(*entry), file.row.get(*entry).map(|row| row.cast_unsigned()));
    let mut order: Vec<usize> = (0..file.len()).collect();
    order.sort_by_key(place);
    // How many decoded rows, and kept records, stand in front of each.
    let mut before = Vec::with_capacity(file.len());
    let mut kept = 0;
    for (entry, row) in file.row.iter().enumerate() {
        before.push(if *row == ArchiveRows::ORIGINAL { kept } else { entry - kept });
        kept += usize::from(*row == ArchiveRows::ORIGINAL);
    }
    let mut rows = ArchiveRows::new(file.decoded.kind());
    for entry in order {
        let (Some(offset), Some(row), Some(at)) = (file.offset.get(entry), file.row.get(entry), before.get(entry)) else {
            continue;
        };
        if *row != ArchiveRows::ORIGINAL {
            rows.decoded.extend(&file.decoded, *at..at + 1);
            rows.placed(*offset, *row);
        } else if let Some(original) = file.originals.get(*at) {
            rows.keep(*offset, original.clone());
        }
    }
    rows
}

struct Batch(RecordBatch);

impl Batch {
    /// Positions, and the kept records.
    fn positions(&self, into: &mut ArchiveRows) -> Result<(), ObjectError> {
        let (offsets, indexes) = (self.column::<Int64Array>(column::OFFSET)?, self.column::<Int32Array>(column::ROW)?);
        let (timestamps, codes) =
            (self.column::<Int64Array>(column::ORIGINAL_TIMESTAMP)?, self.column::<StringArray>(column::ORIGINAL_CODE)?);
        let (keys, payloads) =
            (self.column::<BinaryArray>(column::ORIGINAL_KEY)?, self.column::<BinaryArray>(column::ORIGINAL_PAYLOAD)?);
        let reasons = self.column::<StringArray>(column::ORIGINAL_REASON)?;
        for row in 0..self.0.num_rows() {
            let offset = required(offsets, row, column::OFFSET)?;
            if let Some(index) = optional(indexes, row) {
                into.placed(offset, index);
                continue;
            }
            into.keep(
                offset,
                Original {
                    timestamp_ms: optional(timestamps, row),
                    key: optional(keys, row).map(<[u8]>::to_vec),
                    payload: optional(payloads, row).map(<[u8]>::to_vec),
                    headers: self.headers(row)?,
                    code: required(codes, row, column::ORIGINAL_CODE)?.to_owned(),
                    reason: required(reasons, row, column::ORIGINAL_REASON)?.to_owned(),
                },
            );
        }
        Ok(())
    }

    fn headers(&self, row: usize) -> Result<Vec<Header>, ObjectError> {
        let names = self.column::<ListArray>(column::ORIGINAL_HEADER_NAMES)?.value(row);
        let values = self.column::<ListArray>(column::ORIGINAL_HEADER_VALUES)?.value(row);
        let names: &StringArray = downcast(&*names, column::ORIGINAL_HEADER_NAMES)?;
        let values: &BinaryArray = downcast(&*values, column::ORIGINAL_HEADER_VALUES)?;
        if names.len() != values.len() {
            return Err(ObjectError::damaged("a record has not as many names as values of headers"));
        }
        let header = |index| {
            let key = required(names, index, column::ORIGINAL_HEADER_NAMES)?.to_owned();
            Ok(Header { key, value: optional(values, index).map(<[u8]>::to_vec) })
        };
        (0..names.len()).map(header).collect()
    }

    fn decoded(&self, into: &mut Decoded, series: &mut SeriesInterner) -> Result<(), ObjectError> {
        let indexes = self.column::<Int32Array>(column::ROW)?;
        let rows = (0..self.0.num_rows()).filter(|row| indexes.is_valid(*row));
        match into {
            Decoded::Readings(into) => {
                let (names, times) = (SeriesNames::of(self)?, self.numbers::<TimestampNanosecondType>(column::TIME)?);
                let (values, qualities) =
                    (self.numbers::<Float64Type>(column::VALUE)?, self.column::<StringArray>(column::QUALITY)?);
                let arrivals = self.numbers::<TimestampMillisecondType>(column::ARRIVAL)?;
                for row in rows {
                    into.series.push(names.id(row, series)?);
                    into.time_ns.push(required(times, row, column::TIME)?);
                    into.value.push(required(values, row, column::VALUE)?);
                    into.quality.push(quality(qualities, row)?);
                    into.arrival_ms.push(optional(arrivals, row).unwrap_or(NO_ARRIVAL));
                }
            }
            Decoded::Frames(into) => {
                let (names, starts) = (SeriesNames::of(self)?, self.numbers::<TimestampNanosecondType>(column::START)?);
                let (rates, scales) = (self.numbers::<Float64Type>(column::RATE)?, self.numbers::<Float64Type>(column::SCALE)?);
                let (formats, qualities) =
                    (self.column::<StringArray>(column::FORMAT)?, self.column::<StringArray>(column::QUALITY)?);
                let arrivals = self.numbers::<TimestampMillisecondType>(column::ARRIVAL)?;
                let samples = self.column::<BinaryArray>(column::SAMPLES)?;
                for row in rows {
                    into.push(Frame {
                        series: names.id(row, series)?,
                        start_ns: required(starts, row, column::START)?,
                        sample_rate_hz: required(rates, row, column::RATE)?,
                        format: format(formats, row)?,
                        scale: required(scales, row, column::SCALE)?,
                        quality: quality(qualities, row)?,
                        arrival_ms: optional(arrivals, row).unwrap_or(NO_ARRIVAL),
                        samples: required(samples, row, column::SAMPLES)?,
                    });
                }
            }
            Decoded::Features(into) => {
                let names = SeriesNames::of(self)?;
                for row in rows {
                    let id = names.id(row, series)?;
                    into.push(id, self.feature(row)?);
                }
            }
            Decoded::Events(into) => {
                let (assets, kinds) = (self.column::<StringArray>(column::ASSET)?, self.column::<StringArray>(column::KIND)?);
                let (times, events) =
                    (self.numbers::<TimestampNanosecondType>(column::TIME)?, self.column::<StringArray>(column::EVENT)?);
                for row in rows {
                    into.push(EventRow {
                        asset: required(assets, row, column::ASSET)?.into(),
                        time_ns: required(times, row, column::TIME)?,
                        kind: required(kinds, row, column::KIND)?.into(),
                        json: required(events, row, column::EVENT)?.into(),
                    });
                }
            }
            Decoded::Records => {}
        }
        Ok(())
    }

    fn feature(&self, row: usize) -> Result<Feature, ObjectError> {
        let whole = |name| required(self.numbers::<Int64Type>(name)?, row, name);
        let time = |name| required(self.numbers::<TimestampNanosecondType>(name)?, row, name);
        let flag = |name| required(self.column::<BooleanArray>(name)?, row, name);
        let number = |name| Ok::<_, ObjectError>(optional(self.numbers::<Float64Type>(name)?, row));
        let mut feature = Feature {
            window_ns: whole(column::WINDOW)?,
            start_ns: time(column::START)?,
            end_ns: time(column::END)?,
            version: i32::try_from(whole(column::VERSION)?).map_err(ObjectError::damaged)?,
            count: whole(column::COUNT)?,
            uncertain: whole(column::UNCERTAIN)?,
            bad: whole(column::BAD)?,
            coverage: number(column::COVERAGE)?,
            exact: flag(column::EXACT)?,
            provisional: flag(column::PROVISIONAL)?,
            revision: whole(column::REVISION)?,
            processed_ms: required(self.numbers::<TimestampMillisecondType>(column::PROCESSED)?, row, column::PROCESSED)?,
            extras: required(self.column::<StringArray>(column::EXTRAS)?, row, column::EXTRAS)?.into(),
            ..Feature::default()
        };
        for figure in Figure::ALL {
            feature.figures.set(figure, number(figure.name())?);
        }
        Ok(feature)
    }

    fn numbers<T: ArrowPrimitiveType>(&self, name: &str) -> Result<&PrimitiveArray<T>, ObjectError> {
        self.column(name)
    }

    fn column<A: Array + 'static>(&self, name: &str) -> Result<&A, ObjectError> {
        let column = self.0.column_by_name(name).ok_or_else(|| ObjectError::Damaged(format!("it has no column {name}")))?;
        downcast(&**column, name)
    }
}

struct SeriesNames<'a> {
    assets: &'a StringArray,
    sensors: &'a StringArray,
}

impl<'a> SeriesNames<'a> {
    fn of(batch: &'a Batch) -> Result<Self, ObjectError> {
        Ok(Self { assets: batch.column(column::ASSET)?, sensors: batch.column(column::SENSOR)? })
    }

    fn id(&self, row: usize, series: &mut SeriesInterner) -> Result<SeriesId, ObjectError> {
        let (asset, sensor) = (required(self.assets, row, column::ASSET)?, required(self.sensors, row, column::SENSOR)?);
        series.intern(asset, sensor).ok_or_else(|| ObjectError::TooManySeries(series.table().read().len()))
    }
}

fn downcast<'a, A: Array + 'static>(array: &'a dyn Array, name: &str) -> Result<&'a A, ObjectError> {
    let typed = array.as_any().downcast_ref();
    typed.ok_or_else(|| ObjectError::Damaged(format!("its column {name} has type {}", array.data_type())))
}

fn optional<A: ArrayAccessor>(array: A, row: usize) -> Option<A::Item> {
    array.is_valid(row).then(|| array.value(row))
}

fn required<A: ArrayAccessor>(array: A, row: usize, name: &str) -> Result<A::Item, ObjectError> {
    optional(array, row).ok_or_else(|| ObjectError::Damaged(format!("a row has nothing in column {name}")))
}

fn quality(names: &StringArray, row: usize) -> Result<Quality, ObjectError> {
    let name = required(names, row, column::QUALITY)?;
    let known = [Quality::Good, Quality::Uncertain, Quality::Bad].into_iter().find(|quality| quality.name() == name);
    known.ok_or_else(|| ObjectError::Damaged(format!("a row has quality {name:?}")))
}

fn format(names: &StringArray, row: usize) -> Result<SampleFormat, ObjectError> {
    let name = required(names, row, column::FORMAT)?;
    let known = [SampleFormat::F64, SampleFormat::F32, SampleFormat::I16].into_iter().find(|format| format.name() == name);
    known.ok_or_else(|| ObjectError::Damaged(format!("a frame has format {name:?}")))
}
