//! Reads.

use std::{ops::Range, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use mantis_pipeline::Fault;
use mantis_schemas::Series;
use serde_json::Value;
use tokio::time::sleep;

use super::{
    FRAMES, InfluxConfig, InfluxError, READINGS, SAMPLES,
    client::{Bucket, Table},
    names::{quoted, series_of},
};
use crate::{
    ReadingReader,
    codes::{TIME_NS_MAX, TIME_NS_MIN, quality},
    raw::{RawReader, StoredFrame, StoredReading, codes::format},
};

/// Readings that are asked for at once.
const PAGE_ROWS: usize = 4_000;
/// Names of series that are asked for at once.
const PAGE_NAMES: usize = 8_000;
/// Frames that are asked for at once; each may have a megabyte.
const PAGE_FRAMES: usize = 16;
/// Series whose newest reading is asked for at once.
const PAGE_SERIES: usize = 500;
/// How often a point is looked at again that has not all of its fields, and how long it is given each time.
const HALF_POINT_TRIES: usize = 40;
const HALF_POINT_WAIT: Duration = Duration::from_millis(25);

/// Reads a bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InfluxRawReader(Bucket);

impl InfluxRawReader {
    /// A reader of a bucket; nothing is asked of the server yet.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: &InfluxConfig) -> Result<Self, InfluxError> {
        Ok(Self(Bucket::new(config)?))
    }

    /// Series of some measurements, sorted.
    async fn series_in(&self, measurements: &str) -> Result<Vec<Series>, Fault> {
        let mut found = Vec::new();
        loop {
            let statement = format!("SHOW SERIES FROM {measurements} LIMIT {PAGE_NAMES} OFFSET {}", found.len());
            let tables = self.0.query(&statement).await?.pop().unwrap_or_default();
            let before = found.len();
            for key in tables.iter().flat_map(|table| &table.values) {
                let named = key.first().and_then(Value::as_str).and_then(series_of);
                let (asset, sensor) = named.ok_or_else(|| not_ours("a series", key))?;
                found.push(Series { asset: asset.into(), sensor: sensor.into() });
            }
            if found.len() - before < PAGE_NAMES {
                break;
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Rows of a series in order of time, in pages.
    async fn rows<T>(&self, of: &Rows<'_, T>, series: &Series, mut time_ns: Range<i64>, limit: usize) -> Result<Vec<T>, Fault> {
        let mut found = Vec::new();
        time_ns.start = time_ns.start.max(TIME_NS_MIN);
        let last = time_ns.end.saturating_sub(1).min(TIME_NS_MAX);
        while found.len() < limit && time_ns.start <= last {
            let page = (limit - found.len()).min(of.page);
            let (Rows { fields, measurement, .. }, series, start) = (of, wanted(series), time_ns.start);
            let statement =
                format!("SELECT {fields} FROM {measurement} WHERE {series} AND time >= {start} AND time <= {last} LIMIT {page}");
            let rows = self.whole(&statement, of.row).await?.pop().unwrap_or_default();
            let (count, at) = (rows.len(), rows.last().map(|(time, _)| *time));
            found.extend(rows.into_iter().map(|(_, row)| row));
            match at {
                Some(time) if count == page && time < last => time_ns.start = time + 1,
                _ => break,
            }
        }
        Ok(found)
    }

    async fn newest<T>(&self, of: &Rows<'_, T>, series: &Series) -> Result<Option<T>, Fault> {
        let rows = self.whole(&of.newest(series), of.row).await?.pop().unwrap_or_default();
        Ok(rows.into_iter().next().map(|(_, row)| row))
    }

    /// The rows of each statement, with their times. A point that is being written shows some of its fields before the others: then
    /// all is asked again.
    async fn whole<T>(&self, statements: &str, row: Decode<T>) -> Result<Vec<Vec<(i64, T)>>, Fault> {
        let mut tries = 1;
        loop {
            let answers = self.0.query(statements).await?;
            let decoded: Result<Vec<_>, _> = answers.iter().map(|tables| decode(tables, row)).collect();
            match decoded {
                Ok(rows) => return Ok(rows),
                Err(fault) if tries >= HALF_POINT_TRIES => return Err(fault),
                Err(_) => tries += 1,
            }
            sleep(HALF_POINT_WAIT).await;
        }
    }
}

impl ReadingReader for InfluxRawReader {
    async fn series(&self) -> Result<Vec<Series>, Fault> {
        self.series_in(&format!("{READINGS}, {FRAMES}")).await
    }

    async fn readings(&self, series: &Series, time_ns: Range<i64>, limit: usize) -> Result<Vec<StoredReading>, Fault> {
        self.rows(&READING_ROWS, series, time_ns, limit).await
    }

    async fn ledger(&self, _cluster_id: &str, _group: &str) -> Result<Vec<(String, i32, i64)>, Fault> {
        Ok(Vec::new())
    }

    fn keeps_ledger(&self) -> bool {
        false
    }

    async fn retained_from(&self) -> Result<Option<i64>, Fault> {
        Ok(None)
    }
}

impl RawReader for InfluxRawReader {
    async fn newest_readings(&self, after: Option<&Series>, limit: usize) -> Result<Vec<(Series, StoredReading)>, Fault> {
        let all = self.series_in(READINGS).await?;
        let from = after.map_or(0, |after| all.partition_point(|series| series <= after));
        let mut found = Vec::new();
        for page in all[from..].chunks(PAGE_SERIES.min(limit.max(1))) {
            let statements: Vec<String> = page.iter().map(|series| READING_ROWS.newest(series)).collect();
            let answers = self.whole(&statements.join(";"), READING_ROWS.row).await?;
            let newest = page.iter().zip(answers).filter_map(|(series, rows)| Some((series.clone(), rows.into_iter().next()?.1)));
            found.extend(newest);
            if found.len() >= limit {
                found.truncate(limit);
                break;
            }
        }
        Ok(found)
    }

    async fn newest_reading(&self, series: &Series) -> Result<Option<StoredReading>, Fault> {
        self.newest(&READING_ROWS, series).await
    }

    async fn newest_frame(&self, series: &Series) -> Result<Option<StoredFrame>, Fault> {
        self.newest(&FRAME_ROWS, series).await
    }

    async fn frames(&self, series: &Series, start_ns: Range<i64>, limit: usize) -> Result<Vec<StoredFrame>, Fault> {
        self.rows(&FRAME_ROWS, series, start_ns, limit).await
    }
}

/// How rows of a measurement are asked for.
struct Rows<'a, T> {
    measurement: &'a str,
    fields: &'a str,
    page: usize,
    row: Decode<T>,
}

type Decode<T> = fn(&Columns<'_>, &[Value]) -> Option<T>;

const READING_ROWS: Rows<'_, StoredReading> =
    Rows { measurement: READINGS, fields: "value, quality, arrival_ms", page: PAGE_ROWS, row: reading };
const FRAME_ROWS: Rows<'_, StoredFrame> = Rows { measurement: FRAMES, fields: "*", page: PAGE_FRAMES, row: frame };

impl<T> Rows<'_, T> {
    /// The statement that asks for the newest row.
    fn newest(&self, series: &Series) -> String {
        let (Self { measurement, fields, .. }, series) = (self, wanted(series));
        format!(
            "SELECT {fields} FROM {measurement} WHERE {series} AND time >= {TIME_NS_MIN} AND time <= {TIME_NS_MAX} ORDER BY time DESC LIMIT 1"
        )
    }
}

fn wanted(series: &Series) -> String {
    format!("asset = {} AND sensor = {}", quoted(&series.asset), quoted(&series.sensor))
}

/// The rows of a statement, with their times.
fn decode<T>(tables: &[Table], row: Decode<T>) -> Result<Vec<(i64, T)>, Fault> {
    let named = tables.iter().flat_map(|table| table.values.iter().map(|values| (Columns(&table.columns), values)));
    let decoded = named.map(|(columns, values)| {
        let timed = columns.integer(values, "time").zip(row(&columns, values));
        timed.ok_or_else(|| not_ours("a row", values))
    });
    decoded.collect()
}

/// Names of the values of a row.
struct Columns<'a>(&'a [String]);

impl Columns<'_> {
    fn get<'r>(&self, row: &'r [Value], name: &str) -> Option<&'r Value> {
        row.get(self.0.iter().position(|column| column == name)?)
    }

    fn integer(&self, row: &[Value], name: &str) -> Option<i64> {
        self.get(row, name)?.as_i64()
    }

    fn number(&self, row: &[Value], name: &str) -> Option<f64> {
        self.get(row, name)?.as_f64()
    }
}

fn reading(columns: &Columns<'_>, row: &[Value]) -> Option<StoredReading> {
    Some(StoredReading {
        time_ns: columns.integer(row, "time")?,
        value: columns.number(row, "value")?,
        quality: quality(columns.integer(row, "quality")?.try_into().ok()?)?,
        arrival_ms: columns.integer(row, "arrival_ms")?,
    })
}

fn frame(columns: &Columns<'_>, row: &[Value]) -> Option<StoredFrame> {
    let bytes = usize::try_from(columns.integer(row, "bytes")?).ok()?;
    let mut samples = Vec::new();
    // Fields behind these are of a longer frame that was here before.
    for number in 0.. {
        if samples.len() >= bytes {
            break;
        }
        STANDARD.decode_vec(columns.get(row, &format!("{SAMPLES}{number}"))?.as_str()?, &mut samples).ok()?;
    }
    samples.truncate(bytes);
    Some(StoredFrame {
        start_ns: columns.integer(row, "time")?,
        sample_rate_hz: columns.number(row, "sample_rate_hz")?,
        format: format(columns.integer(row, "format")?.try_into().ok()?)?,
        scale: columns.number(row, "scale")?,
        quality: quality(columns.integer(row, "quality")?.try_into().ok()?)?,
        arrival_ms: columns.integer(row, "arrival_ms")?,
        samples,
    })
}

fn not_ours(what: &str, row: &[Value]) -> Fault {
    let mut said = Value::Array(row.to_vec()).to_string();
    said.truncate(said.char_indices().nth(200).map_or(said.len(), |(end, _)| end));
    Fault::Fatal {
        reason: format!("{what} in the bucket was not written by MANTIS, and cannot be read: {said}; use a bucket of its own"),
    }
}
