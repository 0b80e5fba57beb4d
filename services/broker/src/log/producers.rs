//! Duplicate suppression for idempotent producers: what each producer appended last.
//!
//! The rules are those of Apache Kafka 4 (`ProducerAppendInfo`, `ProducerStateEntry`): a batch with the same epoch and the
//! same sequences as one of the last five is a duplicate; within an epoch sequences follow each other, wrapping from `i32::MAX`
//! to 0; a new epoch starts at 0; an older epoch is refused; of a producer of which nothing is known (never seen, expired, or
//! its records were deleted) any sequence is taken, as clients of today go on where they were.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
};

use super::{
    BatchHeader, LogError,
    batch::advance_sequence,
    checkpoint::{self, Fields, Importance},
};

/// Batches that are remembered per producer; clients have at most five requests in flight.
pub const BATCHES_PER_PRODUCER: usize = 5;
/// Producers that are remembered per partition (about 200 bytes each); the one that was silent longest goes first.
pub const PRODUCERS_MAX: usize = 4096;
/// Of a full table, all producers that appended nothing for so long are forgotten (Kafka's `producer.id.expiration.ms`).
pub const PRODUCER_EXPIRY_MS: i64 = 24 * 3_600_000;

const SNAPSHOT: &str = "producers.snapshot";
const SNAPSHOT_MAGIC: [u8; 8] = *b"MANTPRD1";

/// What the producers of a partition appended last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Producers {
    by_id: HashMap<i64, Producer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    last_append_ms: i64,
    /// Oldest first, never empty.
    batches: VecDeque<AppendedBatch>,
}

/// A batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AppendedBatch {
    base_sequence: i32,
    last_offset_delta: i32,
    pub(super) base_offset: i64,
}

impl AppendedBatch {
    pub(super) fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    fn last_sequence(&self) -> i32 {
        advance_sequence(self.base_sequence, self.last_offset_delta)
    }
}

impl Producers {
    /// Whether a batch may be appended: `Ok(None)` if so, the earlier batch if it is a duplicate, else why not.
    pub(super) fn check(&self, header: &BatchHeader) -> Result<Option<AppendedBatch>, LogError> {
        let Some(producer) = self.by_id.get(&header.producer_id) else { return Ok(None) };
        let out_of_order =
            |expected| LogError::OutOfOrderSequence { producer_id: header.producer_id, sequence: header.base_sequence, expected };
        if header.producer_epoch < producer.epoch {
            return Err(LogError::InvalidProducerEpoch {
                producer_id: header.producer_id,
                epoch: header.producer_epoch,
                current: producer.epoch,
            });
        }
        if header.producer_epoch > producer.epoch {
            return if header.base_sequence == 0 { Ok(None) } else { Err(out_of_order(0)) };
        }
        let same = |batch: &&AppendedBatch| {
            batch.base_sequence == header.base_sequence && batch.last_offset_delta == header.last_offset_delta
        };
        if let Some(duplicate) = producer.batches.iter().find(same) {
            return Ok(Some(*duplicate));
        }
        let expected = producer.batches.back().map_or(0, |last| advance_sequence(last.last_sequence(), 1));
        if header.base_sequence == expected { Ok(None) } else { Err(out_of_order(expected)) }
    }

    /// Takes note of an appended batch, whose header carries its final offset.
    pub(super) fn push(&mut self, header: &BatchHeader, now_ms: i64) {
        if !header.is_idempotent() {
            return;
        }
        if !self.by_id.contains_key(&header.producer_id) {
            self.make_room(now_ms);
        }
        let producer = self.by_id.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            last_append_ms: now_ms,
            batches: VecDeque::with_capacity(BATCHES_PER_PRODUCER),
        });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_PER_PRODUCER {
            producer.batches.pop_front();
        }
        producer.last_append_ms = now_ms;
        producer.batches.push_back(AppendedBatch {
            base_sequence: header.base_sequence,
            last_offset_delta: header.last_offset_delta,
            base_offset: header.base_offset,
        });
    }

    /// Saves the state as it is with every batch below `next_offset`, all of which are durable.
    pub(super) fn save(&self, dir: &Path, next_offset: i64) -> Result<(), LogError> {
        let mut payload = next_offset.to_le_bytes().to_vec();
        for (id, producer) in &self.by_id {
            payload.extend_from_slice(&id.to_le_bytes());
            payload.extend_from_slice(&producer.epoch.to_le_bytes());
            payload.extend_from_slice(&producer.last_append_ms.to_le_bytes());
            payload.push(u8::try_from(producer.batches.len()).unwrap_or(0));
            for batch in &producer.batches {
                payload.extend_from_slice(&batch.base_sequence.to_le_bytes());
                payload.extend_from_slice(&batch.last_offset_delta.to_le_bytes());
                payload.extend_from_slice(&batch.base_offset.to_le_bytes());
            }
        }
        checkpoint::write(&dir.join(SNAPSHOT), SNAPSHOT_MAGIC, &payload, Importance::Durable)
    }

    /// The saved state and the offset from which on batches have to be pushed. Without a usable snapshot: empty, from 0.
    pub(super) fn load(dir: &Path) -> (Producers, i64) {
        match checkpoint::read(&dir.join(SNAPSHOT), SNAPSHOT_MAGIC) {
            Ok(Some(payload)) => Producers::decode(&payload).unwrap_or_default(),
            Ok(None) => Default::default(),
            Err(error) => {
                tracing::warn!(%error, "the producers' state is rebuilt from the log");
                Default::default()
            }
        }
    }

    fn decode(payload: &[u8]) -> Option<(Producers, i64)> {
        let mut fields = Fields(payload);
        let next_offset = fields.i64()?;
        let mut producers = Producers::default();
        while !fields.0.is_empty() {
            let id = fields.i64()?;
            let epoch = fields.take().map(i16::from_le_bytes)?;
            let last_append_ms = fields.i64()?;
            let [count] = fields.take()?;
            let mut batches = VecDeque::with_capacity(BATCHES_PER_PRODUCER);
            for _ in 0..count {
                let base_sequence = fields.take().map(i32::from_le_bytes)?;
                let last_offset_delta = fields.take().map(i32::from_le_bytes)?;
                batches.push_back(AppendedBatch { base_sequence, last_offset_delta, base_offset: fields.i64()? });
            }
            producers.by_id.insert(id, Producer { epoch, last_append_ms, batches });
        }
        Some((producers, next_offset))
    }

    fn make_room(&mut self, now_ms: i64) {
        if self.by_id.len() < PRODUCERS_MAX {
            return;
        }
        self.by_id.retain(|_, producer| now_ms.saturating_sub(producer.last_append_ms) < PRODUCER_EXPIRY_MS);
        while self.by_id.len() >= PRODUCERS_MAX {
            let oldest = self.by_id.iter().min_by_key(|(_, producer)| producer.last_append_ms).map(|(&id, _)| id);
            let Some(oldest) = oldest else { return };
            self.by_id.remove(&oldest);
        }
    }
}
