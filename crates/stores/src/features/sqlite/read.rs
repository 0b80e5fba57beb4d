//! Reads, from any process, while a writer runs.

use std::{ops::Range, path::Path};

use mantis_pipeline::Fault;
use mantis_schemas::{Feature, Figure, Figures, Series};
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::{KIND, OpenError};
use crate::{
    ReadingReader,
    features::{FeatureReader, columns},
    raw::StoredReading,
    sqlite::{SqliteReader, limit_of, readings, series_id},
};

/// Reads the embedded feature store. Each call sees what was written before it began, and holds no transaction open after
/// it, so that readers do not keep the writer's log from being carried over. Cheap to clone.
#[derive(Clone)]
pub struct SqliteFeatureReader(SqliteReader);

impl SqliteFeatureReader {
    /// Opens the store at `path` for reading.
    ///
    /// # Errors
    /// There is no such file, it is not a feature store, or it is of another version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Ok(Self(SqliteReader::open(path.as_ref(), &KIND)?))
    }
}

impl ReadingReader for SqliteFeatureReader {
    async fn series(&self) -> Result<Vec<Series>, Fault> {
        self.0
            .blocking(|connection| {
                // A rejected row or a retention may leave a series without rows.
                connection
                    .prepare(
                        "SELECT asset, sensor FROM series WHERE EXISTS (SELECT 1 FROM features WHERE series = id)
                         OR EXISTS (SELECT 1 FROM readings WHERE series = id) ORDER BY asset, sensor",
                    )?
                    .query_map([], |row| Ok(Series { asset: row.get(0)?, sensor: row.get(1)? }))?
                    .collect()
            })
            .await
    }

    async fn readings(&self, series: &Series, time_ns: Range<i64>, limit: usize) -> Result<Vec<StoredReading>, Fault> {
        let series = series.clone();
        self.0.blocking(move |connection| readings::read(connection, &series, &time_ns, limit)).await
    }

    async fn ledger(&self, cluster_id: &str, group: &str) -> Result<Vec<(String, i32, i64)>, Fault> {
        self.0.ledger(cluster_id, group).await
    }

    async fn retained_from(&self) -> Result<Option<i64>, Fault> {
        self.0.retained_from().await
    }
}

impl FeatureReader for SqliteFeatureReader {
    async fn windows(&self, series: &Series) -> Result<Vec<i64>, Fault> {
        let series = series.clone();
        self.0
            .blocking(move |connection| match series_id(connection, &series)? {
                Some(id) => Windows::new(connection)?.of(id),
                None => Ok(Vec::new()),
            })
            .await
    }

    async fn features(&self, series: &Series, window_ns: i64, start_ns: Range<i64>, limit: usize) -> Result<Vec<Feature>, Fault> {
        let series = series.clone();
        self.0
            .blocking(move |connection| {
                let Some(id) = series_id(connection, &series)? else { return Ok(Vec::new()) };
                let of = "series = ?1 AND window_ns = ?2 AND start_ns >= ?3 AND start_ns < ?4 ORDER BY start_ns LIMIT ?5";
                connection
                    .prepare(&select(of))?
                    .query_map(params![id, window_ns, start_ns.start, start_ns.end, limit_of(limit)], feature)?
                    .collect()
            })
            .await
    }

    async fn latest(&self, series: &Series) -> Result<Vec<Feature>, Fault> {
        let series = series.clone();
        self.0
            .blocking(move |connection| {
                let Some(id) = series_id(connection, &series)? else { return Ok(Vec::new()) };
                Newest::new(connection)?.of(id, i64::MIN, usize::MAX)
            })
            .await
    }

    async fn newest_features(&self, after: Option<(&Series, i64)>, limit: usize) -> Result<Vec<(Series, Feature)>, Fault> {
        let after = after.map(|(series, window_ns)| (series.clone(), window_ns));
        self.0
            .blocking(move |connection| {
                // No name is empty, so every series lies behind the empty ones.
                let (asset, sensor) = after.as_ref().map_or(("", ""), |(series, _)| (&series.asset, &series.sensor));
                let mut named = connection
                    .prepare("SELECT id, asset, sensor FROM series WHERE (asset, sensor) >= (?1, ?2) ORDER BY asset, sensor")?;
                let mut named = named.query(params![asset, sensor])?;
                let mut newest = Newest::new(connection)?;
                let mut found = Vec::new();
                while found.len() < limit
                    && let Some(row) = named.next()?
                {
                    let series = Series { asset: row.get(1)?, sensor: row.get(2)? };
                    let from_ns = match &after {
                        Some((after, window_ns)) if *after == series => window_ns.saturating_add(1),
                        _ => i64::MIN,
                    };
                    let features = newest.of(row.get(0)?, from_ns, limit - found.len())?;
                    found.extend(features.into_iter().map(|feature| (series.clone(), feature)));
                }
                Ok(found)
            })
            .await
    }
}

/// Finds the lengths of the windows of series: one seek per length, where DISTINCT would read every row.
pub(super) struct Windows<'a>(Statement<'a>);

impl<'a> Windows<'a> {
    pub(super) fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self(connection.prepare("SELECT min(window_ns) FROM features WHERE series = ?1 AND window_ns > ?2")?))
    }

    /// The lengths of a series, ascending.
    pub(super) fn of(&mut self, series: i64) -> rusqlite::Result<Vec<i64>> {
        let mut windows = Vec::new();
        let mut last = i64::MIN;
        while let Some(window_ns) = self.0.query_row(params![series, last], |row| row.get::<_, Option<i64>>(0))? {
            windows.push(window_ns);
            last = window_ns;
        }
        Ok(windows)
    }
}

/// Finds the features with the latest start.
struct Newest<'a> {
    windows: Windows<'a>,
    feature: Statement<'a>,
}

impl<'a> Newest<'a> {
    fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        let feature = connection.prepare(&select("series = ?1 AND window_ns = ?2 ORDER BY start_ns DESC LIMIT 1"))?;
        Ok(Self { windows: Windows::new(connection)?, feature })
    }

    /// One for each length of window of a series from `from_ns` on, at most `limit`.
    fn of(&mut self, series: i64, from_ns: i64, limit: usize) -> rusqlite::Result<Vec<Feature>> {
        let windows = self.windows.of(series)?.into_iter().filter(|window_ns| *window_ns >= from_ns);
        let mut found = Vec::new();
        for window_ns in windows.take(limit) {
            found.extend(self.feature.query_row(params![series, window_ns], feature).optional()?);
        }
        Ok(found)
    }
}

fn select(of: &str) -> String {
    format!("SELECT {} FROM features WHERE {of}", columns::columns().collect::<Vec<_>>().join(", "))
}

/// A feature from [`columns::columns`].
fn feature(row: &Row<'_>) -> rusqlite::Result<Feature> {
    let mut figures = Figures::default();
    for figure in Figure::ALL {
        figures.set(figure, row.get(columns::COLUMNS.len() + figure as usize)?);
    }
    Ok(Feature {
        window_ns: row.get(0)?,
        start_ns: row.get(1)?,
        end_ns: row.get(2)?,
        version: row.get(3)?,
        count: row.get(4)?,
        uncertain: row.get(5)?,
        bad: row.get(6)?,
        coverage: row.get(7)?,
        exact: row.get(8)?,
        provisional: row.get(9)?,
        revision: row.get(10)?,
        processed_ms: row.get(11)?,
        extras: row.get(12)?,
        figures,
    })
}
