//! Ends that do what real systems did. The oracle has to notice each, or it proves nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use mantis_pipeline::{
    Assigned, DeadLetter, DeadLetters, Durable, Event, Fault, Moved, Outcome, Part, RecordBatch, Sink, Source, SourceError, Span,
    Start, TopicPartition,
};

use crate::{
    simulation::first_failure,
    world::{Batch, Consumer, Ends, Letters, Rows, Store},
};

const SEEDS: u64 = 200;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    CommitsWhatIsRead,
    CommitsAfterRelease,
    CommitsTheHighestAcknowledged,
    DropsDeadLetters,
    TakesErrorsForSuccess,
    TakesRejectedForWritten,
    IgnoresSeek,
    LosesRecords,
    StopsReadingAfterAPause,
}

fn the_oracle_notices(defect: Defect, invariant: &str) {
    let (seed, violation) =
        first_failure(0..SEEDS, Broken(defect)).unwrap_or_else(|| panic!("{defect:?} got through {SEEDS} schedules"));
    assert!(violation.contains(invariant), "seed {seed} found {defect:?} by something else than {invariant}: {violation}");
}

/// data-loss bug #1
#[test]
fn the_oracle_notices_offsets_that_are_committed_before_the_records_are_processed() {
    the_oracle_notices(Defect::CommitsWhatIsRead, "I2");
}

/// data-loss bug #3
#[test]
fn the_oracle_notices_that_the_highest_acknowledged_offset_wins() {
    the_oracle_notices(Defect::CommitsTheHighestAcknowledged, "I2");
}

/// data-loss bug #8
#[test]
fn the_oracle_notices_commits_after_a_revocation() {
    the_oracle_notices(Defect::CommitsAfterRelease, "I4");
}

/// data-loss bug #21
#[test]
fn the_oracle_notices_dead_letters_that_are_not_kept() {
    the_oracle_notices(Defect::DropsDeadLetters, "I2");
}

/// data-loss bug #4
#[test]
fn the_oracle_notices_a_failed_write_that_is_taken_for_done() {
    the_oracle_notices(Defect::TakesErrorsForSuccess, "I2");
}

/// data-loss bug #16
#[test]
fn the_oracle_notices_rows_that_are_neither_written_nor_dead_lettered() {
    the_oracle_notices(Defect::TakesRejectedForWritten, "I2");
}

#[test]
fn the_oracle_notices_a_position_that_is_not_moved() {
    the_oracle_notices(Defect::IgnoresSeek, "I");
}

/// data-loss bug #13
#[test]
fn the_oracle_notices_records_that_a_source_skips() {
    the_oracle_notices(Defect::LosesRecords, "I2");
}

#[test]
fn the_oracle_notices_a_partition_that_is_never_resumed() {
    the_oracle_notices(Defect::StopsReadingAfterAPause, "I8");
}

#[derive(Clone, Copy)]
struct Broken(Defect);

impl Ends for Broken {
    fn source(self, consumer: Consumer) -> impl Source<Batch = Batch> + 'static {
        let acknowledged = acknowledged(consumer.worker, &consumer.world);
        BrokenSource { defect: self.0, consumer, acknowledged, read: HashMap::new(), batches: 0 }
    }

    fn sink(self, store: Store) -> impl Sink<Columns = Rows> {
        let acknowledged = acknowledged(store.worker, &store.world);
        BrokenSink { defect: self.0, store, acknowledged }
    }

    fn letters(self, letters: Letters) -> impl DeadLetters {
        BrokenLetters { defect: self.0, letters }
    }
}

type Acknowledged = Arc<Mutex<HashMap<TopicPartition, i64>>>;

/// What the sink of a worker acknowledged, shared with its source.
fn acknowledged(worker: usize, world: &Arc<crate::world::World>) -> Acknowledged {
    static SHARED: Mutex<Vec<(usize, usize, Acknowledged)>> = Mutex::new(Vec::new());
    let mut shared = SHARED.lock().unwrap();
    let world = Arc::as_ptr(world) as usize;
    if let Some(at) = shared.iter().position(|(of, number, _)| (*of, *number) == (world, worker)) {
        return shared.swap_remove(at).2;
    }
    let acknowledged = Acknowledged::default();
    shared.push((world, worker, acknowledged.clone()));
    acknowledged
}

struct BrokenSource {
    defect: Defect,
    consumer: Consumer,
    acknowledged: Acknowledged,
    read: HashMap<TopicPartition, i64>,
    batches: u64,
}

impl Source for BrokenSource {
    type Batch = Batch;

    async fn next(&mut self) -> Result<Event<Batch>, SourceError> {
        let mut event = self.consumer.next().await?;
        if let Event::Records(batch) = &mut event {
            self.batches += 1;
            if self.defect == Defect::LosesRecords && self.batches.is_multiple_of(5) && batch.records.len() > 1 {
                batch.records.remove(0);
            }
            let next = batch.record(batch.len() - 1).offset + 1;
            self.read.insert(batch.partition().clone(), next);
            if self.defect == Defect::CommitsWhatIsRead {
                let read = [(batch.partition().clone(), next)];
                self.consumer.commit(&read).await.ok();
            }
        }
        Ok(event)
    }

    async fn start(&mut self, at: &[(TopicPartition, i64)]) -> Result<(), SourceError> {
        self.consumer.start(at).await
    }

    async fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), SourceError> {
        self.consumer.release(partitions).await?;
        if self.defect == Defect::CommitsAfterRelease {
            let read: Vec<_> = partitions.iter().filter_map(|name| Some((name.clone(), self.read.remove(name)?))).collect();
            self.consumer.commit(&read).await.ok();
        }
        Ok(())
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), SourceError> {
        let mut offsets = offsets.to_vec();
        if self.defect == Defect::CommitsTheHighestAcknowledged {
            for (name, offset) in &mut offsets {
                *offset = self.acknowledged.lock().unwrap().get(name).copied().unwrap_or(0).max(*offset);
            }
        }
        self.consumer.commit(&offsets).await
    }

    async fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), SourceError> {
        if self.defect == Defect::IgnoresSeek {
            return Ok(());
        }
        self.consumer.seek(partition, offset).await
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), SourceError> {
        self.consumer.pause(partitions)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), SourceError> {
        if self.defect == Defect::StopsReadingAfterAPause {
            return Ok(());
        }
        self.consumer.resume(partitions)
    }

    async fn close(self) {
        self.consumer.close().await;
    }
}

struct BrokenSink {
    defect: Defect,
    store: Store,
    acknowledged: Acknowledged,
}

impl Sink for BrokenSink {
    type Columns = Rows;

    async fn start(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Fault> {
        self.store.start(assigned).await
    }

    async fn write(&self, part: Part<'_, Rows>) -> Result<Outcome, Fault> {
        let (rows, spans) = (part.rows.len(), part.spans.to_vec());
        let mut outcome = self.store.write(part).await;
        if self.defect == Defect::TakesErrorsForSuccess && outcome.is_err() {
            return Ok(Outcome::Ended { written: rows, duplicates: 0, conflicts: 0, rejected: Vec::new(), advanced: false });
        }
        if let Ok(Outcome::Ended { written, rejected, .. }) = &mut outcome {
            if self.defect == Defect::TakesRejectedForWritten {
                *written += rejected.len();
                rejected.clear();
            }
            for span in spans {
                self.acknowledged.lock().unwrap().insert(span.partition, span.next);
            }
        }
        outcome
    }

    async fn advance(&self, spans: &[Span]) -> Result<Option<Vec<Moved>>, Fault> {
        self.store.advance(spans).await
    }

    fn durable(&self, partition: &TopicPartition, done: i64) -> Durable {
        self.store.durable(partition, done)
    }

    async fn flush(&self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.store.flush(partitions).await
    }

    fn release(&self, partitions: &[TopicPartition]) {
        self.store.release(partitions);
    }
}

struct BrokenLetters {
    defect: Defect,
    letters: Letters,
}

impl DeadLetters for BrokenLetters {
    async fn send(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        if self.defect == Defect::DropsDeadLetters {
            return Ok(());
        }
        self.letters.send(letters).await
    }
}
