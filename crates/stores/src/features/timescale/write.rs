//! Writes: one transaction per write.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::SinkExt;
use mantis_pipeline::{Assigned, Fault, Moved, Outcome, Part, Reason, Sink, Span, Start};
use mantis_schemas::{SeriesId, SeriesTable};
use tokio_postgres::{Client, Transaction};

use super::{features, readings, sessions};
use crate::{
    LedgerIdentity, ValueColumns,
    features::{Retention, Trimmed},
    postgres::{Failure, Ledger, PostgresConfig, PostgresError, Sessions, StoredIds},
};

/// Writes under way at once, and connections for them.
const WRITERS_MAX: usize = 4;

/// Where rows arrive; emptied by every commit. `ordinal` tells the revisions of one identity apart.
const STAGED: &str = "
    CREATE TEMPORARY TABLE staged_readings
        (series integer, time_ns bigint, value double precision, quality smallint, arrival_ms bigint) ON COMMIT DELETE ROWS;
    CREATE TEMPORARY TABLE staged_features (LIKE features) ON COMMIT DELETE ROWS;
    ALTER TABLE staged_features ADD COLUMN last_of_batch boolean";

/// A TimescaleDB as the road's sink. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct TimescaleFeatures {
    sessions: Sessions,
    ids: Arc<StoredIds>,
    identity: Arc<LedgerIdentity>,
}

/// How rows ended.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) written: usize,
    pub(super) duplicates: usize,
    pub(super) conflicts: usize,
    /// By index into the batch's columns, in order.
    pub(super) rejected: Vec<(usize, Reason)>,
}

impl TimescaleFeatures {
    /// A sink that writes to a schema; nothing is asked of the server yet. `series` are the names behind the ids of the rows.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: &PostgresConfig, series: SeriesTable, identity: LedgerIdentity) -> Result<Self, PostgresError> {
        let sessions = sessions(config, STAGED, WRITERS_MAX)?;
        Ok(Self { sessions, ids: Arc::new(StoredIds::new(series)), identity: Arc::new(identity) })
    }

    /// Deletes what a retention does not keep: whole chunks, and of the last one its rows.
    ///
    /// # Errors
    /// As a write.
    pub async fn retain(&self, retention: Retention) -> Result<Trimmed, Fault> {
        let Some(from_ns) = retention.from_ns else { return Ok(Trimmed::default()) };
        let retain = async {
            let session = self.sessions.session().await?;
            let row = session.query_one("SELECT features, readings FROM retain($1)", &[&from_ns]).await;
            let count = |count: i64| usize::try_from(count).unwrap_or_default();
            let trimmed = row.and_then(|row| Ok(Trimmed { features: count(row.try_get(0)?), readings: count(row.try_get(1)?) }));
            self.sessions.answer(session, trimmed.map_err(Failure::from))
        };
        self.sessions.within(retain).await
    }

    async fn write_rows(&self, client: &mut Client, part: &Part<'_, ValueColumns>) -> Result<Outcome, Failure> {
        let rows = part.rows.clone();
        let outside = || {
            Failure::Fault(Fault::Fatal { reason: format!("rows {rows:?} are not in the batch: this is a defect of the road") })
        };
        let series: &[SeriesId] = match part.columns {
            ValueColumns::Features(features) => &features.series,
            ValueColumns::Readings(readings) => &readings.series,
        };
        self.ids.learn(client, series.get(rows.clone()).ok_or_else(outside)?.iter().copied()).await?;
        let transaction = client.transaction().await?;
        let ledger = Ledger { transaction: &transaction, identity: &self.identity };
        if let Some(moved) = ledger.moved(part.spans).await? {
            return Ok(Outcome::Moved(moved));
        }
        let Tally { written, duplicates, conflicts, rejected } = match part.columns {
            ValueColumns::Features(columns) => features::write(&transaction, &self.ids, columns, rows).await?,
            ValueColumns::Readings(columns) => readings::write(&transaction, &self.ids, columns, rows).await?,
        };
        let advanced = part.last && rejected.is_empty();
        if advanced {
            ledger.set(part.spans).await?;
        }
        transaction.commit().await?;
        Ok(Outcome::Ended { written, duplicates, conflicts, rejected, advanced })
    }
}

impl Sink for TimescaleFeatures {
    type Columns = ValueColumns;

    async fn start(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Fault> {
        let start = async {
            let mut session = self.sessions.session().await?;
            let started = async {
                let transaction = session.transaction().await?;
                let starts = Ledger { transaction: &transaction, identity: &self.identity }.start(assigned).await?;
                transaction.commit().await?;
                Ok(starts)
            };
            let started = started.await;
            self.sessions.answer(session, started)
        };
        self.sessions.within(start).await
    }

    async fn write(&self, part: Part<'_, ValueColumns>) -> Result<Outcome, Fault> {
        let write = async {
            let mut session = self.sessions.session().await?;
            let written = self.write_rows(&mut session, &part).await;
            Ok(self.sessions.end(session, written)?.unwrap_or_else(Outcome::Refused))
        };
        self.sessions.within(write).await
    }

    async fn advance(&self, spans: &[Span]) -> Result<Option<Vec<Moved>>, Fault> {
        let advance = async {
            let mut session = self.sessions.session().await?;
            let advanced = async {
                let transaction = session.transaction().await?;
                let moved = Ledger { transaction: &transaction, identity: &self.identity }.advance(spans).await?;
                transaction.commit().await?;
                Ok(moved)
            };
            let advanced = advanced.await;
            self.sessions.answer(session, advanced)
        };
        self.sessions.within(advance).await
    }
}

/// Copies rows into a temporary table.
pub(super) async fn copy(transaction: &Transaction<'_>, into: &str, rows: Bytes) -> Result<(), Failure> {
    let sink = transaction.copy_in(into).await?;
    let mut sink = std::pin::pin!(sink);
    sink.send(rows).await?;
    sink.finish().await?;
    Ok(())
}
