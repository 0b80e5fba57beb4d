//! The log that snapshots lie in.

use std::sync::Arc;

use mantis_kafka::{Admin, ClientConfig, Error, OutRecord, Producer, Reader};
use mantis_pipeline::{Fault, RecordBatch, TopicPartition};
use mantis_schemas::topics;

/// A record of the state topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct StateRecord<'a> {
    pub(super) offset: i64,
    /// When it was written, ms since the epoch.
    pub(super) written_ms: i64,
    pub(super) key: &'a [u8],
    pub(super) payload: &'a [u8],
}

/// A compacted topic with the partitions of the readings' topic.
pub(super) trait StateLog: Send + Sync {
    /// Partitions that the readings have now.
    fn source_partitions(&self) -> impl Future<Output = Result<usize, Fault>> + Send;

    /// First offset, and that after the last record.
    fn bounds(&self, partition: i32) -> impl Future<Output = Result<(i64, i64), Fault>> + Send;

    /// Reads the records of `[from, to)` that are there, in order, until `take` fails.
    fn read(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        take: impl FnMut(StateRecord<'_>) -> Result<(), Fault> + Send,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Appends records of keys and payloads; the offset of the first. After a failure some of them may be there.
    fn append(&self, partition: i32, records: Vec<(String, Vec<u8>)>) -> impl Future<Output = Result<Option<i64>, Fault>> + Send;
}

/// The topic `mantis.feature-state`.
#[derive(Debug)]
pub(super) struct KafkaStateLog {
    client: ClientConfig,
    admin: Admin,
    producer: Arc<Producer>,
}

impl KafkaStateLog {
    pub(super) fn new(client: ClientConfig, producer: Arc<Producer>) -> Result<Self, Error> {
        Ok(Self { admin: Admin::new(&client)?, client, producer })
    }
}

impl StateLog for KafkaStateLog {
    async fn source_partitions(&self) -> Result<usize, Fault> {
        Ok(self.admin.partitions(topics::READINGS).await?.len())
    }

    async fn bounds(&self, partition: i32) -> Result<(i64, i64), Fault> {
        Ok(self.admin.watermarks(&place(partition)).await?)
    }

    async fn read(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        mut take: impl FnMut(StateRecord<'_>) -> Result<(), Fault> + Send,
    ) -> Result<(), Fault> {
        let mut reader = Reader::open(&self.client, place(partition), from, to)?;
        while let Some(batch) = reader.next().await? {
            for index in 0..batch.len() {
                let record = batch.record(index);
                let (Some(key), Some(payload)) = (record.key, record.payload) else { continue };
                let written_ms = record.timestamp_ms.unwrap_or_default();
                take(StateRecord { offset: record.offset, written_ms, key, payload })?;
            }
        }
        Ok(())
    }

    async fn append(&self, partition: i32, records: Vec<(String, Vec<u8>)>) -> Result<Option<i64>, Fault> {
        let topic: Arc<str> = topics::FEATURE_STATE.into();
        let record = |(key, payload): (String, Vec<u8>)| OutRecord {
            topic: topic.clone(),
            partition: Some(partition),
            key: Some(key.into_bytes()),
            payload: Some(payload),
            ..OutRecord::default()
        };
        let records: Vec<_> = records.into_iter().map(record).collect();
        let mut first = None;
        for result in self.producer.send_all(&records).await {
            first = first.or(Some(result?.offset));
        }
        Ok(first)
    }
}

fn place(partition: i32) -> TopicPartition {
    TopicPartition::new(topics::FEATURE_STATE, partition)
}
