//! The positions up to which the file holds everything.

use std::path::Path;

use mantis_pipeline::{Fault, Moved, Span, TopicPartition};
use rusqlite::{OptionalExtension, Transaction, params};

use super::{
    FileKind, LedgerIdentity, OpenError, SqliteConfig, WriteError,
    open::{open_reader, open_writer},
};

/// Forgets the position of a partition, of every cluster and group: its worker reads the log from its start again. Returns the
/// positions that were there.
pub(crate) fn forget(path: &Path, kind: &'static FileKind, partition: &TopicPartition) -> Result<Vec<i64>, OpenError> {
    // A writer would make the file.
    drop(open_reader(path, kind, &SqliteConfig::default())?);
    let connection = open_writer(path, kind, &SqliteConfig::default())?;
    let forgotten = || -> rusqlite::Result<Vec<i64>> {
        connection
            .prepare("DELETE FROM ledger WHERE topic = ?1 AND partition = ?2 RETURNING next_offset")?
            .query_map(params![&*partition.topic, partition.partition], |row| row.get(0))?
            .collect()
    };
    forgotten().map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })
}

/// The ledger within a transaction.
pub(super) struct Ledger<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) identity: &'a LedgerIdentity,
}

impl Ledger<'_> {
    pub(super) fn next(&self, partition: &TopicPartition) -> rusqlite::Result<Option<i64>> {
        let LedgerIdentity { cluster_id, group } = self.identity;
        self.transaction
            .query_row(
                "SELECT next_offset FROM ledger WHERE cluster_id = ?1 AND consumer_group = ?2 AND topic = ?3 AND partition = ?4",
                params![cluster_id, group, &*partition.topic, partition.partition],
                |row| row.get(0),
            )
            .optional()
    }

    pub(super) fn require(&self, partition: &TopicPartition) -> Result<i64, WriteError> {
        self.next(partition)?.ok_or_else(|| {
            WriteError::Fault(Fault::Fatal {
                reason: format!(
                    "the store has no position of {} for {partition}, although it was started: the file was changed from outside; restart the worker",
                    self.identity.group
                ),
            })
        })
    }

    pub(super) fn set(&self, partition: &TopicPartition, next: i64) -> rusqlite::Result<()> {
        let LedgerIdentity { cluster_id, group } = self.identity;
        self.transaction.execute(
            "INSERT INTO ledger (cluster_id, consumer_group, topic, partition, next_offset) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
            params![cluster_id, group, &*partition.topic, partition.partition, next],
        )?;
        Ok(())
    }

    /// Where to go on if another owner wrote since the spans were read, so that a zombie changes nothing.
    ///
    /// A ledger *before* a span is no sign of that: offsets without records (transaction markers, compaction, a
    /// retention gap that the road has reported) lie between, and writes of a partition come in its order.
    pub(super) fn moved(&self, spans: &[Span]) -> Result<Option<Vec<Moved>>, WriteError> {
        let mut moved = false;
        let mut positions = Vec::with_capacity(spans.len());
        for span in spans {
            let next = self.require(&span.partition)?;
            moved |= next > span.from;
            positions.push((span.partition.clone(), next.max(span.from)));
        }
        Ok(moved.then_some(positions))
    }
}
