//! Reads, from any process, while a writer runs.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use mantis_pipeline::Fault;
use rusqlite::{Connection, Row, params, types::Type};

use super::{FileKind, OpenError, SqliteConfig, fault::fault, open::open_reader, retained};

/// A reading connection. Each query sees what was written before it began, and holds no transaction open after it, so that
/// readers do not keep the writer's log from being carried over. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SqliteReader {
    connection: Arc<Mutex<Connection>>,
    path: Arc<Path>,
}

impl SqliteReader {
    /// Opens the file at `path` for reading.
    pub(crate) fn open(path: &Path, kind: &'static FileKind) -> Result<Self, OpenError> {
        let connection = open_reader(path, kind, &SqliteConfig::default())?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), path: path.into() })
    }

    /// Runs a query where blocking harms no one.
    pub(crate) async fn blocking<T: Send + 'static>(
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

    /// The ledger of a consumer group on a cluster: (topic, partition, next offset).
    pub(crate) async fn ledger(&self, cluster_id: &str, group: &str) -> Result<Vec<(String, i32, i64)>, Fault> {
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

    /// Source time from which a retention keeps rows, if one has deleted any.
    pub(crate) async fn retained_from(&self) -> Result<Option<i64>, Fault> {
        self.blocking(retained::recorded).await
    }
}

/// A page's limit as SQLite takes it.
pub(crate) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// What a stored code means.
pub(crate) fn code<T>(row: &Row<'_>, column: usize, decode: impl FnOnce(u8) -> Option<T>) -> rusqlite::Result<T> {
    let code: u8 = row.get(column)?;
    decode(code).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, format!("the code {code} is not known").into())
    })
}
