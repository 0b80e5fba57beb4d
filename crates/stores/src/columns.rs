//! Columns that several stores take.

use std::ops::Range;

use mantis_pipeline::Columns;
use mantis_schemas::{FeatureColumns, ReadingColumns};

/// Bytes of a reading in columns.
pub(crate) const READING_BYTES: usize = 29;

/// Features or readings: what the feature store and the cache take, the rows of one kind of topic.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueColumns {
    /// Condition features.
    Features(FeatureColumns),
    /// Scalar readings.
    Readings(ReadingColumns),
}

impl ValueColumns {
    /// The given rows alone; `None` where they are not all there.
    pub fn copy(&self, rows: Range<usize>) -> Option<Self> {
        match self {
            Self::Features(features) => {
                let mut copy = FeatureColumns::default();
                for (series, row) in features.series.get(rows.clone())?.iter().zip(features.rows.get(rows)?) {
                    copy.push(*series, row.clone());
                }
                Some(Self::Features(copy))
            }
            Self::Readings(readings) => Some(Self::Readings(copy_readings(readings, rows)?)),
        }
    }
}

impl Columns for ValueColumns {
    fn rows(&self) -> usize {
        match self {
            Self::Features(features) => features.len(),
            Self::Readings(readings) => readings.len(),
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Features(features) => features.truncate(rows),
            Self::Readings(readings) => readings.truncate(rows),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Features(features) => features.bytes(),
            Self::Readings(readings) => readings.len() * READING_BYTES,
        }
    }
}

/// The given rows alone; `None` where they are not all there.
pub(crate) fn copy_readings(readings: &ReadingColumns, rows: Range<usize>) -> Option<ReadingColumns> {
    Some(ReadingColumns {
        series: readings.series.get(rows.clone())?.to_vec(),
        time_ns: readings.time_ns.get(rows.clone())?.to_vec(),
        value: readings.value.get(rows.clone())?.to_vec(),
        quality: readings.quality.get(rows.clone())?.to_vec(),
        arrival_ms: readings.arrival_ms.get(rows)?.to_vec(),
    })
}
