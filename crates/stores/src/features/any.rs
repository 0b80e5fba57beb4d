//! A feature store of either kind, for whoever only reads.

use std::{ops::Range, path::PathBuf};

use mantis_pipeline::Fault;
use mantis_schemas::{Feature, Series};

use super::{
    FeatureReader,
    sqlite::{OpenError, SqliteFeatureReader},
    timescale::TimescaleReader,
};
use crate::{
    ReadingReader,
    postgres::{PostgresConfig, PostgresError},
    raw::StoredReading,
};

/// Where the feature store is.
#[derive(Clone, Debug)]
pub enum FeaturePlace {
    /// The embedded one, in this file.
    Sqlite(PathBuf),
    /// A schema of a TimescaleDB.
    Timescale(PostgresConfig),
}

/// Why a feature store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum FeatureOpenError {
    /// The embedded one.
    #[error(transparent)]
    Sqlite(#[from] OpenError),
    /// TimescaleDB.
    #[error(transparent)]
    Timescale(#[from] PostgresError),
}

impl FeaturePlace {
    /// A reader of what is there.
    ///
    /// # Errors
    /// There is no file of the embedded store or it cannot be opened, or the configuration cannot be used.
    pub fn open(&self) -> Result<AnyFeatureReader, FeatureOpenError> {
        Ok(match self {
            Self::Sqlite(path) => AnyFeatureReader::Sqlite(SqliteFeatureReader::open(path)?),
            Self::Timescale(config) => AnyFeatureReader::Timescale(TimescaleReader::new(config)?),
        })
    }

    /// As [`open`](Self::open); `None` where the file of the embedded store is not there yet.
    ///
    /// # Errors
    /// The file is there and cannot be opened, or the configuration cannot be used.
    pub fn reader(&self) -> Result<Option<AnyFeatureReader>, FeatureOpenError> {
        match self.open() {
            Err(FeatureOpenError::Sqlite(OpenError::Absent { .. })) => Ok(None),
            opened => Ok(Some(opened?)),
        }
    }
}

/// Reads the feature store that is configured. Cheap to clone.
#[derive(Clone)]
pub enum AnyFeatureReader {
    /// The embedded one.
    Sqlite(SqliteFeatureReader),
    /// A schema of a TimescaleDB.
    Timescale(TimescaleReader),
}

impl ReadingReader for AnyFeatureReader {
    async fn series(&self) -> Result<Vec<Series>, Fault> {
        match self {
            Self::Sqlite(store) => store.series().await,
            Self::Timescale(store) => store.series().await,
        }
    }

    async fn readings(&self, series: &Series, time_ns: Range<i64>, limit: usize) -> Result<Vec<StoredReading>, Fault> {
        match self {
            Self::Sqlite(store) => store.readings(series, time_ns, limit).await,
            Self::Timescale(store) => store.readings(series, time_ns, limit).await,
        }
    }

    async fn ledger(&self, cluster_id: &str, group: &str) -> Result<Vec<(String, i32, i64)>, Fault> {
        match self {
            Self::Sqlite(store) => store.ledger(cluster_id, group).await,
            Self::Timescale(store) => store.ledger(cluster_id, group).await,
        }
    }

    async fn retained_from(&self) -> Result<Option<i64>, Fault> {
        match self {
            Self::Sqlite(store) => store.retained_from().await,
            Self::Timescale(store) => store.retained_from().await,
        }
    }
}

impl FeatureReader for AnyFeatureReader {
    async fn windows(&self, series: &Series) -> Result<Vec<i64>, Fault> {
        match self {
            Self::Sqlite(store) => store.windows(series).await,
            Self::Timescale(store) => store.windows(series).await,
        }
    }

    async fn features(&self, series: &Series, window_ns: i64, start_ns: Range<i64>, limit: usize) -> Result<Vec<Feature>, Fault> {
        match self {
            Self::Sqlite(store) => store.features(series, window_ns, start_ns, limit).await,
            Self::Timescale(store) => store.features(series, window_ns, start_ns, limit).await,
        }
    }

    async fn latest(&self, series: &Series) -> Result<Vec<Feature>, Fault> {
        match self {
            Self::Sqlite(store) => store.latest(series).await,
            Self::Timescale(store) => store.latest(series).await,
        }
    }

    async fn newest_features(&self, after: Option<(&Series, i64)>, limit: usize) -> Result<Vec<(Series, Feature)>, Fault> {
        match self {
            Self::Sqlite(store) => store.newest_features(after, limit).await,
            Self::Timescale(store) => store.newest_features(after, limit).await,
        }
    }
}
