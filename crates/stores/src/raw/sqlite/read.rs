//! Reads, from any process, while a writer runs.

use std::{
    ops::Range,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use mantis_pipeline::Fault;
use mantis_schemas::Series;
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

use super::{OpenError, SqliteConfig, encode, fault, schema};
use crate::raw::{RawReader, StoredFrame, StoredReading};

/// Reads the embedded raw store. Each call sees what was written before it began, and holds no transaction open after it,
/// so that readers do not keep the writer's log from being carried over. Cheap to clone.
#[derive(Clone)]
pub struct SqliteRawReader {
    connection: Arc<Mutex<Connection>>,
    path: Arc<Path>,
}

impl SqliteRawReader {
    /// Opens the store at `path` for reading.
    ///
    /// # Errors
    /// There is no such file, it is not a raw store, or it is of another version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path: Arc<Path> = path.as_ref().into();
        let connection = schema::open_reader(&path, &SqliteConfig::default())?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), path })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let connection = self.connection.clone();
        let ended = tokio::task::spawn_blocking(move || query(&connection.lock().unwrap_or_else(PoisonError::into_inner))).await;
        match ended {
            Ok(found) => found.map_err(|error| fault(&self.path, &error)),
            Err(error) => Err(Fault::retry(format!("a query of {} was cut off ({error})", self.path.display()))),
        }
    }
}

impl RawReader for SqliteRawReader {
    async fn series(&self) -> Result<Vec<Series>, Fault> {
        self.blocking(|connection| {
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
        self.blocking(move |connection| {
            let Some(id) = series_id(connection, &series)? else { return Ok(Vec::new()) };
            connection
                .prepare(
                    "SELECT time_ns, value, quality, arrival_ms FROM readings
                     WHERE series = ?1 AND time_ns >= ?2 AND time_ns < ?3 ORDER BY time_ns LIMIT ?4",
                )?
                .query_map(params![id, time_ns.start, time_ns.end, limit_of(limit)], reading)?
                .collect()
        })
        .await
    }

    async fn frames(&self, series: &Series, start_ns: Range<i64>, limit: usize) -> Result<Vec<StoredFrame>, Fault> {
        let series = series.clone();
        self.blocking(move |connection| {
            let Some(id) = series_id(connection, &series)? else { return Ok(Vec::new()) };
            connection
                .prepare(
                    "SELECT start_ns, sample_rate_hz, format, scale, quality, arrival_ms, samples FROM frames
                     WHERE series = ?1 AND start_ns >= ?2 AND start_ns < ?3 ORDER BY start_ns LIMIT ?4",
                )?
                .query_map(params![id, start_ns.start, start_ns.end, limit_of(limit)], frame)?
                .collect()
        })
        .await
    }

    async fn ledger(&self, cluster_id: &str, group: &str) -> Result<Vec<(String, i32, i64)>, Fault> {
        let (cluster_id, group) = (cluster_id.to_owned(), group.to_owned());
        self.blocking(move |connection| {
            connection
                .prepare(
                    "SELECT topic, partition, next_offset FROM ledger WHERE cluster_id = ?1 AND consumer_group = ?2
                     ORDER BY topic, partition",
                )?
                .query_map(params![cluster_id, group], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect()
        })
        .await
    }

    async fn retained_from(&self) -> Result<Option<i64>, Fault> {
        self.blocking(|connection| {
            connection.query_row("SELECT retained_from_ns FROM retention", [], |row| row.get(0)).optional()
        })
        .await
    }
}

fn series_id(connection: &Connection, series: &Series) -> rusqlite::Result<Option<i64>> {
    connection
        .query_row("SELECT id FROM series WHERE asset = ?1 AND sensor = ?2", params![series.asset, series.sensor], |row| {
            row.get(0)
        })
        .optional()
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn reading(row: &Row<'_>) -> rusqlite::Result<StoredReading> {
    Ok(StoredReading {
        time_ns: row.get(0)?,
        value: row.get(1)?,
        quality: code(row, 2, encode::quality)?,
        arrival_ms: row.get(3)?,
    })
}

fn frame(row: &Row<'_>) -> rusqlite::Result<StoredFrame> {
    Ok(StoredFrame {
        start_ns: row.get(0)?,
        sample_rate_hz: row.get(1)?,
        format: code(row, 2, encode::format)?,
        scale: row.get(3)?,
        quality: code(row, 4, encode::quality)?,
        arrival_ms: row.get(5)?,
        samples: row.get(6)?,
    })
}

fn code<T>(row: &Row<'_>, column: usize, decode: impl FnOnce(u8) -> Option<T>) -> rusqlite::Result<T> {
    let code: u8 = row.get(column)?;
    decode(code).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, format!("the code {code} is not known").into())
    })
}
