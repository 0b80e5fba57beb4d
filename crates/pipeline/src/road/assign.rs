//! From an assignment to the first record: the sink names the position, the source is told.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Ended, Partition, Position, Road};
use crate::{
    Assigned, DeadLetters, Decoder, Fault, Reading, RecordBatch, Sink, Source, SourceError, Span, Start, State, TopicPartition,
    batch::{Owner, Stretch},
    lane::Lane,
    stopped::Stopped,
    watermark::Watermark,
};

impl<Dec, Snk, Dlq, B> Road<Dec, Snk, Dlq, B>
where
    Dec: Decoder,
    Snk: Sink<Columns = Dec::Columns>,
    Dlq: DeadLetters,
    B: RecordBatch,
{
    pub(super) fn assigned(&mut self, assigned: Vec<Assigned>) {
        // A source that assigns what is owned already means a new ownership.
        let known: Vec<_> = assigned.iter().map(|a| a.partition.clone()).filter(|p| self.partitions.contains_key(p)).collect();
        self.forget(&known);
        for assigned in assigned {
            self.epochs += 1;
            let lane = self.lane(&assigned.partition);
            self.status.partition(&assigned.partition, |status| {
                status.reading = Reading::Starting;
                status.committed = assigned.committed;
            });
            let partition = Partition {
                epoch: self.epochs,
                lane,
                read: assigned.log_start,
                watermark: Watermark::new(assigned.log_start, Some(assigned.log_start)),
                leaving: false,
                unreadable: false,
                position: Position::Asking(assigned.clone()),
            };
            self.partitions.insert(assigned.partition, partition);
        }
        self.unsettled = true;
    }

    fn lane(&mut self, partition: &TopicPartition) -> usize {
        // Partition numbers are not negative; a source that thinks otherwise gets the first lane.
        let slot = usize::try_from(partition.partition).unwrap_or(0) % self.limits.lanes_max.max(1);
        *self.lane_numbers.entry((partition.topic.clone(), slot)).or_insert_with(|| {
            self.lanes.push(Lane::new(partition.topic.clone(), slot, self.decoder.columns(&partition.topic)));
            self.lanes.len() - 1
        })
    }

    /// Asks the sink for start positions, beside the road: a store that is away must not keep the source from
    /// reporting a revocation.
    pub(super) fn ask_for_starts(&mut self) {
        if !self.unsettled || self.asking || self.start.waits() {
            return;
        }
        let asked: Vec<_> = self
            .partitions
            .iter()
            .filter_map(|(name, partition)| match &partition.position {
                Position::Asking(assigned) if !partition.leaving => {
                    Some((Owner { partition: name.clone(), epoch: partition.epoch }, assigned.clone()))
                }
                _ => None,
            })
            .collect();
        if asked.is_empty() {
            self.unsettled =
                self.partitions.values().any(|partition| !matches!(partition.position, Position::Reading | Position::Stopped));
            return;
        }
        self.asking = true;
        let ends = Arc::clone(&self.ends);
        self.beside.spawn(async move {
            let assigned: Vec<_> = asked.iter().map(|(_, assigned)| assigned.clone()).collect();
            let answer = ends.sink.start(&assigned).await;
            Ended::Starts { asked, answer }
        });
    }

    /// Takes the sink's answer.
    pub(super) fn starts(&mut self, asked: Vec<(Owner, Assigned)>, answer: Result<Vec<Start>, Fault>) -> Result<(), Stopped> {
        self.asking = false;
        let starts = match answer {
            Ok(starts) if starts.len() == asked.len() => starts,
            Ok(starts) => {
                let (answers, questions) = (starts.len(), asked.len());
                let reason = format!("it gave {answers} start positions for {questions} partitions; report it as a defect");
                return Err(Stopped::Sink(reason));
            }
            Err(fault) => {
                let Some(wait) = self.start.backoff.after(&fault) else { return Err(Stopped::Sink(fault.to_string())) };
                let state = if matches!(fault, Fault::Credentials { .. }) { State::Paused } else { State::Retrying };
                self.status.failed("start", state, &fault.to_string());
                self.start.at = Some(Instant::now() + wait);
                return Ok(());
            }
        };
        self.start.succeeded();
        self.status.recovered("start");
        for ((owner, assigned), start) in asked.into_iter().zip(starts) {
            if self.owned(&owner) {
                self.position(owner, assigned, start);
            } else {
                // It was given up before the sink had taken it over.
                self.ends.sink.release(std::slice::from_ref(&owner.partition));
            }
        }
        Ok(())
    }

    fn position(&mut self, owner: Owner, assigned: Assigned, start: Start) {
        let Some(partition) = self.partitions.get_mut(&owner.partition) else { return };
        let (at, keeper) = match start {
            Start::At(at) => (at, "what the store holds"),
            Start::Committed => (assigned.committed.unwrap_or(assigned.log_start), "the group's committed offset"),
        };
        let Assigned { log_start, log_end, committed, .. } = assigned;
        if at > log_end {
            let reason = format!(
                "{keeper} is at {at}, but the log ends at {log_end}; the topic was made again or lost its end. Restore it; or, if \
                 these are other records, reset the position before the log grows past it: `mantis ledger reset`"
            );
            tracing::error!(partition = %owner.partition, at, log_end, "the partition cannot be read");
            partition.position = Position::Stopped;
            self.status.partition(&owner.partition, |status| status.reading = Reading::Stopped(reason));
            return;
        }
        partition.watermark = Watermark::new(at, committed);
        partition.read = at.max(log_start);
        partition.position = Position::Start(partition.read);
        self.status.partition(&owner.partition, |status| status.done = Some(at));
        if at < log_start {
            self.status.gap(&Span { partition: owner.partition.clone(), from: at, next: log_start });
            // The gap goes down the lane like records, so that a ledger moves over it.
            let lane = partition.lane;
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.push(Stretch { owner, from: at, next: log_start, records: None });
            }
        }
    }

    /// Tells the source what it has to know: releases, then starts and seeks. Tried again until it took them.
    pub(super) async fn settle<Src: Source<Batch = B>>(&mut self, source: &mut Src) -> Result<(), Stopped> {
        if self.source.waits() || (!self.unsettled && self.releasing.is_empty()) {
            return Ok(());
        }
        match self.try_settle(source).await {
            Ok(()) => {
                self.source_works();
                Ok(())
            }
            Err(error) => self.source_failed(error),
        }
    }

    async fn try_settle<Src: Source<Batch = B>>(&mut self, source: &mut Src) -> Result<(), SourceError> {
        if !self.releasing.is_empty() {
            source.release(&self.releasing).await?;
            self.releasing.clear();
        }
        let mut starts = Vec::new();
        let mut seeks = Vec::new();
        for (name, partition) in &self.partitions {
            match partition.position {
                Position::Start(at) => starts.push((name.clone(), at)),
                Position::Seek(at) => seeks.push((name.clone(), at)),
                Position::Asking(_) | Position::Reading | Position::Stopped => {}
            }
        }
        if !starts.is_empty() {
            source.start(&starts).await?;
        }
        for (name, _) in &starts {
            self.reads(source, name)?;
        }
        for (name, at) in &seeks {
            source.seek(name, *at).await?;
            self.reads(source, name)?;
        }
        Ok(())
    }

    fn reads<Src: Source<Batch = B>>(&mut self, source: &mut Src, name: &TopicPartition) -> Result<(), SourceError> {
        let Some(partition) = self.partitions.get_mut(name) else { return Ok(()) };
        // Its lane may have been paused before it came.
        if self.lanes.get(partition.lane).is_some_and(|lane| lane.paused) {
            source.pause(std::slice::from_ref(name))?;
        }
        partition.position = Position::Reading;
        self.status.partition(name, |status| status.reading = Reading::Reading);
        Ok(())
    }
}
