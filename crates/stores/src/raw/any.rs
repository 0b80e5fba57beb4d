//! A raw store of either kind, for whoever only reads.

use std::{ops::Range, path::PathBuf};

use mantis_pipeline::Fault;
use mantis_schemas::Series;

use super::{
    RawReader, StoredFrame, StoredReading,
    influx::{InfluxConfig, InfluxError, InfluxRawReader},
    sqlite::{OpenError, SqliteRawReader},
};
use crate::ReadingReader;

/// Where the raw store is.
#[derive(Clone, Debug)]
pub enum RawPlace {
    /// The embedded one, in this file.
    Sqlite(PathBuf),
    /// A bucket of InfluxDB.
    Influx(InfluxConfig),
}

/// Why a raw store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RawOpenError {
    /// The embedded one.
    #[error(transparent)]
    Sqlite(#[from] OpenError),
    /// InfluxDB.
    #[error(transparent)]
    Influx(#[from] InfluxError),
}

impl RawPlace {
    /// A reader of what is there; `None` where the file of the embedded store is not there yet.
    ///
    /// # Errors
    /// The file is there and cannot be opened, or the configuration cannot be used.
    pub fn reader(&self) -> Result<Option<AnyRawReader>, RawOpenError> {
        match self {
            Self::Sqlite(path) => match SqliteRawReader::open(path) {
                Err(OpenError::Absent { .. }) => Ok(None),
                opened => Ok(Some(AnyRawReader::Sqlite(opened?))),
            },
            Self::Influx(config) => Ok(Some(AnyRawReader::Influx(InfluxRawReader::new(config)?))),
        }
    }
}

/// Reads the raw store that is configured. Cheap to clone.
#[derive(Clone)]
pub enum AnyRawReader {
    /// The embedded one.
    Sqlite(SqliteRawReader),
    /// A bucket of InfluxDB.
    Influx(InfluxRawReader),
}

impl ReadingReader for AnyRawReader {
    async fn series(&self) -> Result<Vec<Series>, Fault> {
        match self {
            Self::Sqlite(store) => store.series().await,
            Self::Influx(store) => store.series().await,
        }
    }

    async fn readings(&self, series: &Series, time_ns: Range<i64>, limit: usize) -> Result<Vec<StoredReading>, Fault> {
        match self {
            Self::Sqlite(store) => store.readings(series, time_ns, limit).await,
            Self::Influx(store) => store.readings(series, time_ns, limit).await,
        }
    }

    async fn ledger(&self, cluster_id: &str, group: &str) -> Result<Vec<(String, i32, i64)>, Fault> {
        match self {
            Self::Sqlite(store) => store.ledger(cluster_id, group).await,
            Self::Influx(store) => store.ledger(cluster_id, group).await,
        }
    }

    fn keeps_ledger(&self) -> bool {
        match self {
            Self::Sqlite(store) => store.keeps_ledger(),
            Self::Influx(store) => store.keeps_ledger(),
        }
    }

    async fn retained_from(&self) -> Result<Option<i64>, Fault> {
        match self {
            Self::Sqlite(store) => store.retained_from().await,
            Self::Influx(store) => store.retained_from().await,
        }
    }
}

impl RawReader for AnyRawReader {
    async fn newest_readings(&self, after: Option<&Series>, limit: usize) -> Result<Vec<(Series, StoredReading)>, Fault> {
        match self {
            Self::Sqlite(store) => store.newest_readings(after, limit).await,
            Self::Influx(store) => store.newest_readings(after, limit).await,
        }
    }

    async fn newest_reading(&self, series: &Series) -> Result<Option<StoredReading>, Fault> {
        match self {
            Self::Sqlite(store) => store.newest_reading(series).await,
            Self::Influx(store) => store.newest_reading(series).await,
        }
    }

    async fn newest_frame(&self, series: &Series) -> Result<Option<StoredFrame>, Fault> {
        match self {
            Self::Sqlite(store) => store.newest_frame(series).await,
            Self::Influx(store) => store.newest_frame(series).await,
        }
    }

    async fn frames(&self, series: &Series, start_ns: Range<i64>, limit: usize) -> Result<Vec<StoredFrame>, Fault> {
        match self {
            Self::Sqlite(store) => store.frames(series, start_ns, limit).await,
            Self::Influx(store) => store.frames(series, start_ns, limit).await,
        }
    }
}
