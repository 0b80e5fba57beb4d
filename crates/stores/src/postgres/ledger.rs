//! The positions up to which the database holds everything.

use std::collections::HashMap;

use mantis_pipeline::{Assigned, Fault, Moved, Span, Start, TopicPartition};
use tokio_postgres::Transaction;

use super::Failure;
use crate::LedgerIdentity;

/// The ledger within a transaction.
pub(crate) struct Ledger<'a> {
    pub(crate) transaction: &'a Transaction<'a>,
    pub(crate) identity: &'a LedgerIdentity,
}

impl Ledger<'_> {
    /// Where the database ends for partitions; those that it knows nothing of begin at their log's start and are on record from
    /// then. Waits for a write under way.
    pub(crate) async fn start(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Failure> {
        let LedgerIdentity { cluster_id, group } = self.identity;
        let (topics, partitions) = names(assigned.iter().map(|assigned| &assigned.partition));
        let log_starts: Vec<i64> = assigned.iter().map(|assigned| assigned.log_start).collect();
        let insert = "INSERT INTO ledger (cluster_id, consumer_group, topic, partition, next_offset)
            SELECT $1, $2, * FROM unnest($3::text[], $4::int[], $5::bigint[]) ON CONFLICT DO NOTHING";
        self.transaction.execute(insert, &[cluster_id, group, &topics, &partitions, &log_starts]).await?;
        let positions = self.lock(assigned.iter().map(|assigned| &assigned.partition)).await?;
        assigned.iter().map(|assigned| Ok(Start::At(self.position(&positions, &assigned.partition)?))).collect()
    }

    /// Where to go on if another owner wrote since the spans were read, so that a zombie changes nothing. The positions stay
    /// locked until the transaction ends.
    ///
    /// A ledger *before* a span is no sign of that: offsets without records (transaction markers, compaction, a
    /// retention gap that the road has reported) lie between, and writes of a partition come in its order.
    pub(crate) async fn moved(&self, spans: &[Span]) -> Result<Option<Vec<Moved>>, Failure> {
        let positions = self.lock(spans.iter().map(|span| &span.partition)).await?;
        self.ahead(&positions, spans)
    }

    /// Moves the ledger to the ends of spans whose positions are locked.
    pub(crate) async fn set(&self, spans: &[Span]) -> Result<(), Failure> {
        let LedgerIdentity { cluster_id, group } = self.identity;
        let (topics, partitions) = names(spans.iter().map(|span| &span.partition));
        let ends: Vec<i64> = spans.iter().map(|span| span.next).collect();
        let update = "UPDATE ledger SET next_offset = ends.next_offset
            FROM unnest($3::text[], $4::int[], $5::bigint[]) AS ends (topic, partition, next_offset)
            WHERE cluster_id = $1 AND consumer_group = $2 AND ledger.topic = ends.topic AND ledger.partition = ends.partition";
        self.transaction.execute(update, &[cluster_id, group, &topics, &partitions, &ends]).await?;
        Ok(())
    }

    /// Moves the ledger over spans whose rows have all ended.
    pub(crate) async fn advance(&self, spans: &[Span]) -> Result<Option<Vec<Moved>>, Failure> {
        let positions = self.lock(spans.iter().map(|span| &span.partition)).await?;
        let mut left = Vec::new();
        for span in spans {
            // Being at the end of the span already is what the caller wants: an earlier call got through unseen.
            if self.position(&positions, &span.partition)? != span.next {
                left.push(span.clone());
            }
        }
        let moved = self.ahead(&positions, &left)?;
        if moved.is_none() {
            self.set(&left).await?;
        }
        Ok(moved)
    }

    fn ahead(&self, positions: &Positions, spans: &[Span]) -> Result<Option<Vec<Moved>>, Failure> {
        let mut moved = false;
        let mut ends = Vec::with_capacity(spans.len());
        for span in spans {
            let next = self.position(positions, &span.partition)?;
            moved |= next > span.from;
            ends.push((span.partition.clone(), next.max(span.from)));
        }
        Ok(moved.then_some(ends))
    }

    /// Locked in one order everywhere, so that no two transactions wait for each other.
    async fn lock<'p>(&self, of: impl Iterator<Item = &'p TopicPartition>) -> Result<Positions, Failure> {
        let LedgerIdentity { cluster_id, group } = self.identity;
        let (topics, partitions) = names(of);
        let select = "SELECT topic, partition, next_offset FROM ledger WHERE cluster_id = $1 AND consumer_group = $2
            AND (topic, partition) IN (SELECT * FROM unnest($3::text[], $4::int[])) ORDER BY topic, partition FOR UPDATE";
        let rows = self.transaction.query(select, &[cluster_id, group, &topics, &partitions]).await?;
        rows.iter().map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?))).collect()
    }

    fn position(&self, positions: &Positions, partition: &TopicPartition) -> Result<i64, Failure> {
        positions.get(&(partition.topic.to_string(), partition.partition)).copied().ok_or_else(|| {
            Failure::Fault(Fault::Fatal {
                reason: format!(
                    "the database has no position of {} for {partition}, although it was started: it was changed from outside; restart the worker",
                    self.identity.group
                ),
            })
        })
    }
}

type Positions = HashMap<(String, i32), i64>;

fn names<'a>(partitions: impl Iterator<Item = &'a TopicPartition>) -> (Vec<&'a str>, Vec<i32>) {
    partitions.map(|partition| (&*partition.topic, partition.partition)).unzip()
}
