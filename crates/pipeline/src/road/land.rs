//! What becomes of a batch that comes back.

use std::collections::HashMap;

use tokio::task::JoinError;

use super::{Ended, Partition, Position, Road};
use crate::{
    DeadLetters, Decoder, Moved, RecordBatch, Sink, TopicPartition,
    batch::{Batch, Owner},
    flight::{Landing, Stored},
    lane::Leave,
    stopped::Stopped,
};

impl<Dec, Snk, Dlq, B> Road<Dec, Snk, Dlq, B>
where
    Dec: Decoder,
    Snk: Sink<Columns = Dec::Columns>,
    Dlq: DeadLetters,
    B: RecordBatch,
{
    pub(super) fn land(&mut self, ended: Result<Ended<Dec::Columns, B>, JoinError>) -> Result<(), Stopped> {
        match ended {
            Ok(Ended::Flight { lane, batch, landing }) => self.landed(lane, batch, landing),
            Ok(Ended::Starts { asked, answer }) => self.starts(asked, answer),
            Err(error) => Err(Stopped::Panicked(error.to_string())),
        }
    }

    fn landed(&mut self, lane: usize, batch: Batch<Dec::Columns, B>, landing: Landing) -> Result<(), Stopped> {
        match landing {
            Landing::Done(stored) => self.done(lane, batch, stored),
            Landing::Moved(moved) => self.moved(lane, batch, moved),
            Landing::GivenUp => self.put_back(lane, batch),
            Landing::Stopped(stopped) => {
                self.put_back(lane, batch);
                return Err(stopped);
            }
        }
        Ok(())
    }

    fn done(&mut self, lane: usize, batch: Batch<Dec::Columns, B>, stored: Stored) {
        let topic = batch.spans().first().map(|span| span.partition.topic.clone());
        for (span, epoch, tally) in batch.parts() {
            let partition = self.partitions.get_mut(&span.partition).filter(|partition| partition.epoch == epoch);
            let done = partition.map(|partition| {
                if !partition.watermark.ended(span.from, span.next) {
                    tracing::error!(partition = %span.partition, from = span.from, done = partition.watermark.done(), "a batch ended before the one in front of it: nothing more is committed");
                }
                partition.watermark.done()
            });
            self.status.partition(&span.partition, |status| status.ended(&tally, done));
        }
        if let Some(topic) = topic {
            self.status.topic(&topic, |status| {
                status.written += stored.written;
                status.duplicates += stored.duplicates;
                status.conflicts += stored.conflicts;
            });
        }
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.landed(batch);
        }
    }

    /// The ledger is the truth: what it is ahead of is stored, what it is behind of is not.
    fn moved(&mut self, lane: usize, batch: Batch<Dec::Columns, B>, moved: Vec<Moved>) {
        let moved: HashMap<TopicPartition, i64> = moved.into_iter().collect();
        for (span, epoch, _) in batch.parts() {
            let Some(at) = moved.get(&span.partition).copied() else { continue };
            if at != span.from && self.owned(&Owner { partition: span.partition.clone(), epoch }) {
                self.go_on_at(&span.partition, at);
            }
        }
        self.put_back(lane, batch);
    }

    /// The sink's ledger turned out to be elsewhere while nothing was written.
    pub(super) fn relocate(&mut self, name: &TopicPartition, at: i64) {
        let reads = |partition: &&Partition| !partition.leaving && matches!(partition.position, Position::Reading);
        let Some(epoch) = self.partitions.get(name).filter(reads).map(|partition| partition.epoch) else { return };
        self.go_on_at(name, at);
        self.discard();
        self.hurry(&[Owner { partition: name.clone(), epoch }], Leave::Now);
    }

    fn go_on_at(&mut self, name: &TopicPartition, at: i64) {
        let Some(partition) = self.partitions.get_mut(name) else { return };
        tracing::warn!(partition = %name, done = partition.watermark.done(), at, "the store's ledger is elsewhere: reading goes on there");
        partition.watermark.moved(at);
        partition.read = at;
        partition.position = Position::Seek(at);
        // What was read before is not that of the new position.
        self.epochs += 1;
        partition.epoch = self.epochs;
        self.unsettled = true;
        self.status.partition(name, |status| status.done = Some(at));
    }

    /// A batch that did not end is decoded again, as far as it is still owned.
    pub(super) fn put_back(&mut self, lane: usize, batch: Batch<Dec::Columns, B>) {
        let Self { lanes, partitions, status, .. } = self;
        let Some(lane) = lanes.get_mut(lane) else { return };
        for (span, _, tally) in batch.parts() {
            status.partition(&span.partition, |status| status.put_back(&tally));
        }
        let keep = |owner: &Owner| {
            partitions.get(&owner.partition).is_some_and(|partition| partition.epoch == owner.epoch && !partition.leaving)
        };
        lane.put_back(batch, keep, |partition, tally| status.partition(partition, |status| status.put_back(&tally)));
    }
}
