//! The newest row of each entry in a batch. Pure.

use std::ops::Range;

use foldhash::{HashMap, HashMapExt};
use mantis_schemas::{Feature, FeatureColumns, Quality, ReadingColumns, SeriesId};

use crate::raw::StoredReading;

/// What comes over an entry that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// It is newer, or there is none yet.
    Newer,
    /// A reading of the same time with another value: it replaces the one that is there.
    Conflict,
    /// The same reading again: it replaces the one that is there.
    Same,
    /// It is older, or a feature that is no better: nothing changes.
    Refused,
}

/// What becomes of `reading` where `stored` is there.
pub(super) fn guard_reading(stored: Option<&StoredReading>, reading: &StoredReading) -> Guard {
    let content = |reading: &StoredReading| (reading.value.to_bits(), reading.quality);
    match stored {
        None => Guard::Newer,
        Some(stored) if reading.time_ns > stored.time_ns => Guard::Newer,
        Some(stored) if reading.time_ns < stored.time_ns => Guard::Refused,
        Some(stored) if content(stored) == content(reading) => Guard::Same,
        Some(_) => Guard::Conflict,
    }
}

/// What becomes of `feature` where `stored` is there.
pub(super) fn guard_feature(stored: Option<&Feature>, feature: &Feature) -> Guard {
    let age = |feature: &Feature| (feature.start_ns, feature.rank());
    if stored.is_none_or(|stored| age(feature) > age(stored)) { Guard::Newer } else { Guard::Refused }
}

/// The newest reading of each series among `rows`; of one time the last.
pub(super) fn readings(columns: &ReadingColumns, rows: Range<usize>) -> HashMap<SeriesId, StoredReading> {
    let mut newest: HashMap<SeriesId, StoredReading> = HashMap::new();
    let rows = rows.filter_map(|row| Some((*columns.series.get(row)?, reading(columns, row)?)));
    for (series, reading) in rows {
        if guard_reading(newest.get(&series), &reading) != Guard::Refused {
            newest.insert(series, reading);
        }
    }
    newest
}

/// The newest feature of each series and window among `rows`; of one rank the first.
pub(super) fn features(columns: &FeatureColumns, rows: Range<usize>) -> HashMap<(SeriesId, i64), &Feature> {
    let mut newest: HashMap<(SeriesId, i64), &Feature> = HashMap::new();
    let rows = rows.filter_map(|row| Some((*columns.series.get(row)?, columns.rows.get(row)?)));
    for (series, feature) in rows {
        let entry = (series, feature.window_ns);
        if guard_feature(newest.get(&entry).copied(), feature) != Guard::Refused {
            newest.insert(entry, feature);
        }
    }
    newest
}

fn reading(columns: &ReadingColumns, row: usize) -> Option<StoredReading> {
    let quality: Quality = *columns.quality.get(row)?;
    let (time_ns, value) = (*columns.time_ns.get(row)?, *columns.value.get(row)?);
    Some(StoredReading { time_ns, value, quality, arrival_ms: *columns.arrival_ms.get(row)? })
}
