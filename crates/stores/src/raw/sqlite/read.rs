//! Reads, from any process, while a writer runs.

use std::{ops::Range, path::Path};

use mantis_pipeline::Fault;
use mantis_schemas::Series;
use rusqlite::{OptionalExtension, Row, params};

use super::{KIND, OpenError};
use crate::{
    ReadingReader,
    codes::quality,
    raw::{RawReader, StoredFrame, StoredReading, codes},
    sqlite::{SqliteReader, code, limit_of, readings, series_id},
};

/// Reads the embedded raw store. Each call sees what was written before it began, and holds no transaction open after it,
/// so that readers do not keep the writer's log from being carried over. Cheap to clone.
#[derive(Clone)]
pub struct SqliteRawReader(SqliteReader);

impl SqliteRawReader {
    /// Opens the store at `path` for reading.
    ///
    /// # Errors
    /// There is no such file, it is not a raw store, or it is of another version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Ok(Self(SqliteReader::open(path.as_ref(), &KIND)?))
    }
}

impl ReadingReader for SqliteRawReader {
    async fn series(&self) -> Result<Vec<Series>, Fault> {
        self.0
            .blocking(|connection| {
                // A rejected row or a retention may leave a series without rows.
                connection
                    .prepare(
                        "SELECT asset, sensor FROM series WHERE EXISTS (SELECT 1 FROM readings WHERE series = id)
                         OR EXISTS (SELECT 1 FROM frames WHERE series = id) ORDER BY asset, sensor",
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

impl RawReader for SqliteRawReader {
    async fn newest_readings(&self, after: Option<&Series>, limit: usize) -> Result<Vec<(Series, StoredReading)>, Fault> {
        let after = after.cloned();
        self.0.blocking(move |connection| readings::newest(connection, after.as_ref(), limit)).await
    }

    async fn newest_reading(&self, series: &Series) -> Result<Option<StoredReading>, Fault> {
        let series = series.clone();
        self.0.blocking(move |connection| readings::newest_of(connection, &series)).await
    }

    async fn newest_frame(&self, series: &Series) -> Result<Option<StoredFrame>, Fault> {
        let series = series.clone();
        self.0
            .blocking(move |connection| {
                let Some(id) = series_id(connection, &series)? else { return Ok(None) };
                let of = "series = ?1 ORDER BY start_ns DESC LIMIT 1";
                connection.query_row(&select_frames(of), [id], frame).optional()
            })
            .await
    }

    async fn frames(&self, series: &Series, start_ns: Range<i64>, limit: usize) -> Result<Vec<StoredFrame>, Fault> {
        let series = series.clone();
        self.0
            .blocking(move |connection| {
                let Some(id) = series_id(connection, &series)? else { return Ok(Vec::new()) };
                let of = "series = ?1 AND start_ns >= ?2 AND start_ns < ?3 ORDER BY start_ns LIMIT ?4";
                let range = params![id, start_ns.start, start_ns.end, limit_of(limit)];
                connection.prepare(&select_frames(of))?.query_map(range, frame)?.collect()
            })
            .await
    }
}

fn select_frames(of: &str) -> String {
    format!("SELECT start_ns, sample_rate_hz, format, scale, quality, arrival_ms, samples FROM frames WHERE {of}")
}

fn frame(row: &Row<'_>) -> rusqlite::Result<StoredFrame> {
    Ok(StoredFrame {
        start_ns: row.get(0)?,
        sample_rate_hz: row.get(1)?,
        format: code(row, 2, codes::format)?,
        scale: row.get(3)?,
        quality: code(row, 4, quality)?,
        arrival_ms: row.get(5)?,
        samples: row.get(6)?,
    })
}
