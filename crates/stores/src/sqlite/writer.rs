//! Writes: one connection, one transaction per write, on a blocking thread.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use mantis_pipeline::{Assigned, Fault, Moved, Outcome, Reason, Span, Start};
use mantis_schemas::SeriesTable;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::Mutex;

use super::{
    FileKind, LedgerIdentity, OpenError, SqliteConfig, fault::fault, ledger::Ledger, open::open_writer, series::StoredIds,
};

/// The writing end of a store, with its ledger. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub(crate) struct SqliteWriter {
    // One write at a time, so at most one copy of a part exists outside of the road's own bound.
    writer: Arc<Mutex<Writer>>,
    path: Arc<Path>,
}

/// How a transaction failed.
#[derive(Debug)]
pub(crate) enum WriteError {
    Sqlite(rusqlite::Error),
    Fault(Fault),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// What a store writes its rows with.
pub(crate) struct RowWriter<'a> {
    pub(crate) transaction: &'a Transaction<'a>,
    pub(crate) ids: StoredIds<'a>,
    pub(crate) tally: Tally,
}

/// How rows ended.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) written: usize,
    pub(crate) duplicates: usize,
    pub(crate) conflicts: usize,
    /// By index into the batch's columns, in order.
    pub(crate) rejected: Vec<(usize, Reason)>,
}

impl SqliteWriter {
    /// Opens the file at `path`, makes it where there is none, and brings an older one up to date.
    pub(crate) fn open(
        path: &Path,
        kind: &'static FileKind,
        series: SeriesTable,
        identity: LedgerIdentity,
        config: SqliteConfig,
    ) -> Result<Self, OpenError> {
        let connection = open_writer(path, kind, &config)?;
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let writer = Writer { connection, wal: wal.into(), series, identity, config, stored_ids: Vec::new() };
        Ok(Self { writer: Arc::new(Mutex::new(writer)), path: path.into() })
    }

    /// Where the file ends. A partition that it knows nothing of begins at the log's start and is on record from then.
    pub(crate) async fn start(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Fault> {
        let assigned = assigned.to_vec();
        self.with_writer(move |writer| writer.start(&assigned)).await
    }

    /// Writes what `rows` writes, and moves the ledger if these are the `last` rows of the spans and none was rejected.
    pub(crate) async fn write(
        &self,
        spans: &[Span],
        last: bool,
        rows: impl FnOnce(&mut RowWriter<'_>) -> Result<(), WriteError> + Send + 'static,
    ) -> Result<Outcome, Fault> {
        let spans = spans.to_vec();
        self.with_writer(move |writer| writer.write(&spans, last, rows)).await
    }

    /// Moves the ledger over spans whose rows have all ended.
    pub(crate) async fn advance(&self, spans: &[Span]) -> Result<Option<Vec<Moved>>, Fault> {
        let spans = spans.to_vec();
        self.with_writer(move |writer| writer.advance(&spans)).await
    }

    /// Runs `work` with the writing connection.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, Fault> {
        self.with_writer(move |writer| work(&mut writer.connection)).await
    }

    /// Runs `work` where blocking harms no one. Work that has begun ends, even if the caller is gone.
    async fn with_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, Fault> {
        let mut writer = self.writer.clone().lock_owned().await;
        let ended = tokio::task::spawn_blocking(move || {
            let ended = work(&mut writer);
            if ended.is_err() {
                // Ids that the transaction made are gone with it.
                writer.stored_ids.clear();
            }
            ended
        })
        .await;
        match ended {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(WriteError::Fault(fault))) => Err(fault),
            Ok(Err(WriteError::Sqlite(error))) => Err(fault(&self.path, &error)),
            Err(error) => Err(Fault::retry(format!("a write to {} was cut off ({error})", self.path.display()))),
        }
    }
}

struct Writer {
    connection: Connection,
    wal: PathBuf,
    series: SeriesTable,
    identity: LedgerIdentity,
    config: SqliteConfig,
    // The file's id of each series of this process; 0 is not known yet.
    stored_ids: Vec<i64>,
}

impl Writer {
    fn start(&mut self, assigned: &[Assigned]) -> Result<Vec<Start>, WriteError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let ledger = Ledger { transaction: &transaction, identity: &self.identity };
        let mut starts = Vec::with_capacity(assigned.len());
        for assigned in assigned {
            let next = match ledger.next(&assigned.partition)? {
                Some(next) => next,
                None => {
                    ledger.set(&assigned.partition, assigned.log_start)?;
                    assigned.log_start
                }
            };
            starts.push(Start::At(next));
        }
        transaction.commit()?;
        Ok(starts)
    }

    fn write(
        &mut self,
        spans: &[Span],
        last: bool,
        rows: impl FnOnce(&mut RowWriter<'_>) -> Result<(), WriteError>,
    ) -> Result<Outcome, WriteError> {
        self.bound_wal()?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let ledger = Ledger { transaction: &transaction, identity: &self.identity };
        if let Some(moved) = ledger.moved(spans)? {
            return Ok(Outcome::Moved(moved));
        }
        let ids = StoredIds { transaction: &transaction, series: &self.series, known: &mut self.stored_ids };
        let mut writer = RowWriter { transaction: &transaction, ids, tally: Tally::default() };
        rows(&mut writer)?;
        let Tally { written, duplicates, conflicts, rejected } = writer.tally;
        let advanced = last && rejected.is_empty();
        if advanced {
            for span in spans {
                ledger.set(&span.partition, span.next)?;
            }
        }
        transaction.commit()?;
        Ok(Outcome::Ended { written, duplicates, conflicts, rejected, advanced })
    }

    fn advance(&mut self, spans: &[Span]) -> Result<Option<Vec<Moved>>, WriteError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let ledger = Ledger { transaction: &transaction, identity: &self.identity };
        let mut ahead = Vec::new();
        for span in spans {
            // Being at the end of the span already is what the caller wants: an earlier call got through unseen.
            if ledger.require(&span.partition)? != span.next {
                ahead.push(span.clone());
            }
        }
        let moved = ledger.moved(&ahead)?;
        if moved.is_none() {
            for span in &ahead {
                ledger.set(&span.partition, span.next)?;
            }
            transaction.commit()?;
        }
        Ok(moved)
    }

    /// A reader that stays in one transaction keeps the log from being carried over. It may grow up to its bound.
    fn bound_wal(&self) -> Result<(), WriteError> {
        let bytes = || std::fs::metadata(&self.wal).map_or(0, |wal| wal.len());
        if bytes() <= self.config.wal_bytes_max {
            return Ok(());
        }
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        if bytes() <= self.config.wal_bytes_max {
            return Ok(());
        }
        Err(WriteError::Fault(Fault::retry(format!(
            "{} has grown beyond {} bytes because another program reads the store in one long transaction: nothing is taken until that program is done",
            self.wal.display(),
            self.config.wal_bytes_max
        ))))
    }
}
