//! From the source into the lanes, within the bounds.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Ended, Partition, Position, Road};
use crate::{
    DeadLetters, Decoder, RecordBatch, Sink, Source, SourceError, Span, State, Status, TopicPartition,
    batch::{Held, Owner, Stretch},
    flight,
    stopped::Stopped,
};

impl<Dec, Snk, Dlq, B> Road<Dec, Snk, Dlq, B>
where
    Dec: Decoder,
    Snk: Sink<Columns = Dec::Columns>,
    Dlq: DeadLetters,
    B: RecordBatch,
{
    pub(super) fn records(&mut self, batch: B) {
        let name = batch.partition();
        let Some(partition) = self.partitions.get_mut(name) else { return };
        if partition.leaving || !matches!(partition.position, Position::Reading) {
            return;
        }
        let records = batch.len();
        // A source that repeats itself after a reconnect is not taken twice.
        let first = (0..records).find(|index| batch.record(*index).offset >= partition.read).unwrap_or(records);
        if first == records {
            return;
        }
        readable(partition, name, &self.status);
        let next = batch.record(records - 1).offset.saturating_add(1);
        let owner = Owner { partition: name.clone(), epoch: partition.epoch };
        let from = std::mem::replace(&mut partition.read, next);
        let held = Arc::new(Held::new(batch, &self.held_source_bytes));
        if let Some(lane) = self.lanes.get_mut(partition.lane) {
            lane.push(Stretch { owner, from, next, records: Some((held, first..records)) });
        }
    }

    pub(super) fn gap(&mut self, span: Span) {
        let Some(partition) = self.partitions.get_mut(&span.partition) else { return };
        if partition.leaving || !matches!(partition.position, Position::Reading) || span.next <= partition.read {
            return;
        }
        readable(partition, &span.partition, &self.status);
        let from = std::mem::replace(&mut partition.read, span.next);
        self.status.gap(&Span { partition: span.partition.clone(), from, next: span.next });
        let owner = Owner { partition: span.partition, epoch: partition.epoch };
        if let Some(lane) = self.lanes.get_mut(partition.lane) {
            lane.push(Stretch { owner, from, next: span.next, records: None });
        }
    }

    /// Notes that the source cannot read a partition; it tries again by itself.
    pub(super) fn unreadable(&mut self, name: &TopicPartition, reason: &str) {
        let Some(partition) = self.partitions.get_mut(name).filter(|partition| !partition.leaving) else { return };
        partition.unreadable = true;
        self.status.failed(&name.to_string(), State::Retrying, reason);
    }

    /// Decodes what waits and starts the writes that are due; all there is if `now`.
    pub(super) fn pump(&mut self, now: bool) {
        let now = now || self.held_bytes() >= self.limits.held_bytes_max;
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            loop {
                lane.fill(&mut self.decoder, &self.limits, |owner, tally| {
                    self.status.partition(&owner.partition, |status| status.came_in(&tally));
                });
                let Some((batch, leave)) = lane.launch(&self.limits, now, |topic| self.decoder.columns(topic)) else { break };
                self.flights += 1;
                let (ends, place, stream) = (self.ends.clone(), lane.name.clone(), self.flights);
                self.beside.spawn(async move {
                    let (batch, landing) = flight::fly(ends, place, stream, batch, leave).await;
                    Ended::Flight { lane: number, batch, landing }
                });
            }
        }
        let held = self.held_bytes();
        if held != self.held_shown {
            self.held_shown = held;
            self.status.held(held);
        }
    }

    /// Decides whether the source is asked for more. A lane that cannot take what it has makes the road wait for a moment;
    /// if that lasts, its partitions are paused and the others go on. Held bytes above their bound do so for all.
    pub(super) fn regulate<Src: Source<Batch = B>>(&mut self, source: &mut Src) -> Result<bool, Stopped> {
        if self.source.waits() || !self.releasing.is_empty() {
            return Ok(false);
        }
        let over = self.held_shown >= self.limits.held_bytes_max;
        self.over_since = over.then(|| self.over_since.unwrap_or_else(Instant::now));
        match self.pause_and_resume(source) {
            Ok(()) => Ok(!self.lanes.iter().any(|lane| !lane.paused && (over || lane.blocked_since.is_some()))),
            Err(error) => self.source_failed(error).map(|()| false),
        }
    }

    fn pause_and_resume<Src: Source<Batch = B>>(&mut self, source: &mut Src) -> Result<(), SourceError> {
        let now = Instant::now();
        let lasts = |since: Option<Instant>| since.is_some_and(|since| since + self.limits.stall_pause() <= now);
        let over_lasts = lasts(self.over_since);
        for number in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get(number) else { continue };
            let pauses = match lane.paused {
                false => over_lasts || lasts(lane.blocked_since),
                true => self.over_since.is_some() || lane.blocked_since.is_some(),
            };
            if pauses == lane.paused {
                continue;
            }
            let partitions = self.read_partitions(number);
            if pauses {
                source.pause(&partitions)?;
            } else {
                source.resume(&partitions)?;
            }
            if let Some(lane) = self.lanes.get_mut(number) {
                lane.paused = pauses;
            }
        }
        Ok(())
    }

    /// The lane's partitions that the source was told to start.
    fn read_partitions(&self, lane: usize) -> Vec<TopicPartition> {
        let of_lane = self.partitions.iter().filter(|(_, partition)| partition.lane == lane);
        let started = of_lane.filter(|(_, partition)| matches!(partition.position, Position::Reading | Position::Seek(_)));
        started.map(|(name, _)| name.clone()).collect()
    }
}

/// Ends the trouble of a partition that could not be read, if it had any.
pub(super) fn readable(partition: &mut Partition, name: &TopicPartition, status: &Status) {
    if std::mem::take(&mut partition.unreadable) {
        status.recovered(&name.to_string());
    }
}
