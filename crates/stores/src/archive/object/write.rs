//! Rows into the bytes of an object. Pure: the same rows give the same bytes.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, DictionaryArray, Int32Array, Int64Array, PrimitiveArray,
    RecordBatch, StringArray,
    builder::{BinaryBuilder, ListBuilder, StringBuilder},
    types::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType, TimestampNanosecondType},
};
use arrow_schema::{Field, Schema};
use bytes::Bytes;
use mantis_pipeline::TopicPartition;
use mantis_schemas::{FeatureColumns, Figure, FrameColumns, ReadingColumns, Series, SeriesId, SeriesTable};
use parquet::{
    arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions},
    file::metadata::KeyValue,
};

use super::{
    Digest, Manifest, ObjectError,
    layout::{self as column, properties},
    manifest::{FORMAT, GAPS_MAX, METADATA, UNSEALED, seal},
};
use crate::archive::{
    columns::{ArchiveRows, Decoded, EventColumns},
    gaps,
};

/// Which records an object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The id of the Kafka cluster.
    pub cluster_id: String,
    /// The partition.
    pub partition: TopicPartition,
    /// First position.
    pub start: i64,
    /// The position behind the last one.
    pub end: i64,
    /// The digest of the records.
    pub digest: Digest,
}

/// Makes an object; `series` are the names behind the ids of the rows.
///
/// # Errors
/// A series has no name: a defect.
pub fn encode(head: &Head, rows: &ArchiveRows, series: &SeriesTable) -> Result<Bytes, ObjectError> {
    let file_order = FileOrder::of(rows, series)?;
    let batch = file_order.batch(rows)?;
    let manifest = manifest(head, rows).json()?;
    let options = ArrowWriterOptions::new().with_properties(properties()?).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), batch.schema(), options).map_err(ObjectError::defect)?;
    writer.write(&batch).map_err(ObjectError::defect)?;
    writer.append_key_value_metadata(KeyValue::new(METADATA.to_owned(), manifest));
    let mut file = writer.into_inner().map_err(ObjectError::defect)?;
    seal(&mut file)?;
    Ok(file.into())
}

fn manifest(head: &Head, rows: &ArchiveRows) -> Manifest {
    let times: Box<dyn Iterator<Item = i64> + '_> = match &rows.decoded {
        Decoded::Readings(readings) => Box::new(readings.time_ns.iter().copied()),
        Decoded::Frames(frames) => Box::new(frames.start_ns.iter().copied()),
        Decoded::Features(features) => Box::new(features.rows.iter().map(|row| row.start_ns)),
        Decoded::Events(events) => Box::new(events.rows().iter().map(|row| row.time_ns)),
        Decoded::Records => Box::new(std::iter::empty()),
    };
    let range = times.fold(None, |range: Option<(i64, i64)>, time| {
        Some(range.map_or((time, time), |(min, max)| (min.min(time), max.max(time))))
    });
    let kind = rows.decoded.kind();
    Manifest {
        format: FORMAT,
        cluster_id: head.cluster_id.clone(),
        topic: head.partition.topic.to_string(),
        partition: head.partition.partition,
        start: head.start,
        end: head.end,
        kind: kind.name().to_owned(),
        columns_version: kind.version(),
        records: head.digest.records,
        // Every record has a row.
        gaps: gaps::longest(gaps::between(head.start..head.end, &rows.offset).collect(), GAPS_MAX),
        rows: rows.decoded.len() as u64,
        undecoded: rows.originals.len() as u64,
        time_min_ns: range.map(|(min, _)| min),
        time_max_ns: range.map(|(_, max)| max),
        records_crc32c: head.digest.crc32c,
        seal: UNSEALED.to_owned(),
    }
}

/// The order of rows in the file: decoded ones by series and time, kept records behind them.
struct FileOrder {
    /// Decoded rows by their index among the decoded ones.
    decoded: Vec<usize>,
    /// All rows by their index in the log's order.
    entries: Vec<usize>,
    names: Names,
}

impl FileOrder {
    fn of(rows: &ArchiveRows, series: &SeriesTable) -> Result<Self, ObjectError> {
        let (originals, entries): (Vec<usize>, Vec<usize>) =
            (0..rows.len()).partition(|entry| rows.row.get(*entry) == Some(&ArchiveRows::ORIGINAL));
        if entries.len() != rows.decoded.len() || originals.len() != rows.originals.len() {
            return Err(ObjectError::defect("its rows and their positions do not fit together"));
        }
        let names = Names::of(rows.decoded.series(), series)?;
        let mut decoded: Vec<usize> = (0..entries.len()).collect();
        // Stable: rows of one series and time stay in the order of the log.
        match &rows.decoded {
            Decoded::Readings(readings) => {
                decoded.sort_by_key(|row| (names.rank(&readings.series, *row), readings.time_ns.get(*row)))
            }
            Decoded::Frames(frames) => decoded.sort_by_key(|row| (names.rank(&frames.series, *row), frames.start_ns.get(*row))),
            Decoded::Features(features) => decoded.sort_by_key(|row| {
                (names.rank(&features.series, *row), features.rows.get(*row).map(|feature| (feature.window_ns, feature.start_ns)))
            }),
            Decoded::Events(events) => {
                decoded.sort_by_key(|row| events.rows().get(*row).map(|event| (&event.asset, event.time_ns)))
            }
            Decoded::Records => {}
        }
        let entries = decoded.iter().filter_map(|row| entries.get(*row).copied()).chain(originals).collect();
        Ok(Self { decoded, entries, names })
    }

    fn batch(&self, rows: &ArchiveRows) -> Result<RecordBatch, ObjectError> {
        let mut columns = Columns::default();
        let position = |entry: &usize| rows.offset.get(*entry).copied();
        columns.required(column::OFFSET, Int64Array::from_iter(self.entries.iter().map(position)));
        let index = |entry: &usize| rows.row.get(*entry).copied().filter(|row| *row != ArchiveRows::ORIGINAL);
        columns.add(column::ROW, Int32Array::from_iter(self.entries.iter().map(index)));
        match &rows.decoded {
            Decoded::Readings(readings) => self.readings(readings, &mut columns),
            Decoded::Frames(frames) => self.frames(frames, &mut columns),
            Decoded::Features(features) => self.features(features, &mut columns),
            Decoded::Events(events) => self.events(events, &mut columns),
            Decoded::Records => {}
        }
        self.originals(rows, &mut columns);
        RecordBatch::try_new(Arc::new(Schema::new(columns.fields)), columns.arrays).map_err(ObjectError::defect)
    }

    fn readings(&self, readings: &ReadingColumns, columns: &mut Columns) {
        self.series(&readings.series, columns);
        columns.add(column::TIME, self.time(|row| readings.time_ns.get(row).copied()));
        columns.add(column::VALUE, self.numbers::<Float64Type>(|row| readings.value.get(row).copied()));
        columns.add(column::QUALITY, self.texts(|row| readings.quality.get(row).map(|quality| quality.name())));
        columns.add(column::ARRIVAL, self.arrival(|row| readings.arrival_ms.get(row).copied()));
    }

    fn frames(&self, frames: &FrameColumns, columns: &mut Columns) {
        self.series(&frames.series, columns);
        columns.add(column::START, self.time(|row| frames.start_ns.get(row).copied()));
        columns.add(column::RATE, self.numbers::<Float64Type>(|row| frames.sample_rate_hz.get(row).copied()));
        columns.add(column::FORMAT, self.texts(|row| frames.format.get(row).map(|format| format.name())));
        columns.add(column::SCALE, self.numbers::<Float64Type>(|row| frames.scale.get(row).copied()));
        columns.add(column::QUALITY, self.texts(|row| frames.quality.get(row).map(|quality| quality.name())));
        columns.add(column::ARRIVAL, self.arrival(|row| frames.arrival_ms.get(row).copied()));
        let samples = self.decoded.iter().map(|row| Some(frames.frame(*row).samples));
        columns.add(column::SAMPLES, BinaryArray::from_iter(samples.chain(self.blank())));
    }

    fn features(&self, features: &FeatureColumns, columns: &mut Columns) {
        self.series(&features.series, columns);
        let of = |row: usize| features.rows.get(row);
        let mut whole = |name, value: fn(&mantis_schemas::Feature) -> i64| {
            columns.add(name, self.numbers::<Int64Type>(|row| of(row).map(value)));
        };
        whole(column::WINDOW, |feature| feature.window_ns);
        whole(column::VERSION, |feature| i64::from(feature.version));
        whole(column::COUNT, |feature| feature.count);
        whole(column::UNCERTAIN, |feature| feature.uncertain);
        whole(column::BAD, |feature| feature.bad);
        whole(column::REVISION, |feature| feature.revision);
        columns.add(column::START, self.time(|row| of(row).map(|feature| feature.start_ns)));
        columns.add(column::END, self.time(|row| of(row).map(|feature| feature.end_ns)));
        columns.add(
            column::PROCESSED,
            self.numbers::<TimestampMillisecondType>(|row| of(row).map(|feature| feature.processed_ms)).with_timezone(UTC),
        );
        columns.add(column::EXACT, self.flags(|row| of(row).map(|feature| feature.exact)));
        columns.add(column::PROVISIONAL, self.flags(|row| of(row).map(|feature| feature.provisional)));
        columns.add(column::COVERAGE, self.numbers::<Float64Type>(|row| of(row)?.coverage));
        for figure in Figure::ALL {
            columns.add(figure.name(), self.numbers::<Float64Type>(|row| of(row)?.figures.get(figure)));
        }
        columns.add(column::EXTRAS, self.texts(|row| of(row).map(|feature| &*feature.extras)));
    }

    fn events(&self, events: &EventColumns, columns: &mut Columns) {
        let of = |row: usize| events.rows().get(row);
        columns.add(column::ASSET, self.texts(|row| of(row).map(|event| &*event.asset)));
        columns.add(column::TIME, self.time(|row| of(row).map(|event| event.time_ns)));
        columns.add(column::KIND, self.texts(|row| of(row).map(|event| &*event.kind)));
        columns.add(column::EVENT, self.texts(|row| of(row).map(|event| &*event.json)));
    }

    /// Columns that are empty but for kept records; they are there in every object, so that tools can read many as one.
    fn originals(&self, rows: &ArchiveRows, columns: &mut Columns) {
        let kept = || self.decoded.iter().map(|_| None).chain(rows.originals.iter().map(Some));
        let timestamps = kept().map(|original| original?.timestamp_ms);
        columns.add(column::ORIGINAL_TIMESTAMP, Int64Array::from_iter(timestamps));
        columns.add(column::ORIGINAL_KEY, BinaryArray::from_iter(kept().map(|original| original?.key.as_deref())));
        columns.add(column::ORIGINAL_PAYLOAD, BinaryArray::from_iter(kept().map(|original| original?.payload.as_deref())));
        let (mut names, mut values) = (ListBuilder::new(StringBuilder::new()), ListBuilder::new(BinaryBuilder::new()));
        for original in kept() {
            for header in original.map_or(&[][..], |original| &original.headers) {
                names.values().append_value(&header.key);
                values.values().append_option(header.value.as_deref());
            }
            names.append(original.is_some());
            values.append(original.is_some());
        }
        columns.add(column::ORIGINAL_HEADER_NAMES, names.finish());
        columns.add(column::ORIGINAL_HEADER_VALUES, values.finish());
        columns.add(column::ORIGINAL_CODE, StringArray::from_iter(kept().map(|original| Some(original?.code.as_str()))));
        columns.add(column::ORIGINAL_REASON, StringArray::from_iter(kept().map(|original| Some(original?.reason.as_str()))));
    }

    /// Asset and sensor: numbers of names, so that a name takes its bytes once however many rows have it.
    fn series(&self, ids: &[SeriesId], columns: &mut Columns) {
        let keys: Int32Array = self.numbers::<Int32Type>(|row| self.names.rank(ids, row));
        let mut name = |name, of: fn(&Series) -> &str| {
            let names = StringArray::from_iter_values(self.names.sorted.iter().map(|series| of(series)));
            columns.add(name, DictionaryArray::new(keys.clone(), Arc::new(names)));
        };
        name(column::ASSET, |series| &series.asset);
        name(column::SENSOR, |series| &series.sensor);
    }

    fn time(&self, value: impl Fn(usize) -> Option<i64>) -> PrimitiveArray<TimestampNanosecondType> {
        self.numbers::<TimestampNanosecondType>(value).with_timezone(UTC)
    }

    fn arrival(&self, value: impl Fn(usize) -> Option<i64>) -> PrimitiveArray<TimestampMillisecondType> {
        self.numbers::<TimestampMillisecondType>(|row| value(row).filter(|ms| *ms != NO_ARRIVAL)).with_timezone(UTC)
    }

    fn numbers<T: ArrowPrimitiveType>(&self, value: impl Fn(usize) -> Option<T::Native>) -> PrimitiveArray<T> {
        self.decoded.iter().map(|row| value(*row)).chain(self.blank()).collect()
    }

    fn flags(&self, value: impl Fn(usize) -> Option<bool>) -> BooleanArray {
        self.decoded.iter().map(|row| value(*row)).chain(self.blank()).collect()
    }

    fn texts<'a>(&self, value: impl Fn(usize) -> Option<&'a str>) -> StringArray {
        self.decoded.iter().map(|row| value(*row)).chain(self.blank()).collect()
    }

    /// What decoded columns hold beside kept records.
    fn blank<T>(&self) -> impl Iterator<Item = Option<T>> {
        (self.decoded.len()..self.entries.len()).map(|_| None)
    }
}

pub(super) const UTC: &str = "UTC";
/// Arrival of a row whose record had no timestamp.
pub(super) const NO_ARRIVAL: i64 = -1;

#[derive(Default)]
struct Columns {
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    fn add(&mut self, name: &str, array: impl Array + 'static) {
        self.fields.push(Field::new(name, array.data_type().clone(), true));
        self.arrays.push(Arc::new(array));
    }

    fn required(&mut self, name: &str, array: impl Array + 'static) {
        self.fields.push(Field::new(name, array.data_type().clone(), false));
        self.arrays.push(Arc::new(array));
    }
}

/// The series of an object in order of their names.
struct Names {
    sorted: Vec<Arc<Series>>,
    ranks: HashMap<SeriesId, i32>,
}

impl Names {
    fn of(ids: &[SeriesId], table: &SeriesTable) -> Result<Self, ObjectError> {
        let mut distinct: Vec<SeriesId> = ids.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let table = table.read();
        let mut named = Vec::with_capacity(distinct.len());
        for id in distinct {
            let series = table.get(id.index()).ok_or_else(|| ObjectError::defect(format!("series {} has no name", id.0)))?;
            named.push((Arc::clone(series), id));
        }
        named.sort();
        let ranks = (0..).zip(&named).map(|(rank, (_, id))| (*id, rank)).collect();
        Ok(Self { sorted: named.into_iter().map(|(series, _)| series).collect(), ranks })
    }

    fn rank(&self, ids: &[SeriesId], row: usize) -> Option<i32> {
        self.ranks.get(ids.get(row)?).copied()
    }
}

impl Decoded {
    fn series(&self) -> &[SeriesId] {
        match self {
            Self::Readings(readings) => &readings.series,
            Self::Frames(frames) => &frames.series,
            Self::Features(features) => &features.series,
            Self::Events(_) | Self::Records => &[],
        }
    }
}
