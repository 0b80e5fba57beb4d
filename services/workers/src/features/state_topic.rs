//! Snapshots in the compacted topic `mantis.feature-state`: partition `p` holds those of partition `p` of the readings.
//!
//! A snapshot is chunks under the keys `a/0`, `a/1`, ... (or `b/...`; the slots take turns), closed by a manifest under `a`.
//! Whatever a crash or a worker that was thought dead leaves there, one of the two slots is whole, or the log is read again.

use std::sync::{Arc, Mutex, PoisonError};

use mantis_kafka::{Admin, ClientConfig, Error, OutRecord, Producer, Reader};
use mantis_pipeline::{Fault, RecordBatch, TopicPartition};
use mantis_schemas::topics;

use super::{
    FeatureConfig, StateSize,
    partition::PartitionState,
    snapshot::{self, CHUNK_BYTES, Manifest},
};

/// Chunks that are sent together, and so held in memory at once.
const CHUNKS_PER_SEND_MAX: usize = 8;
/// Records at the end of the topic that are looked at first for a manifest; each further look takes eight times as many.
const FIRST_LOOK_RECORDS: i64 = 64;

/// Reads and writes the snapshots of one consumer group.
#[derive(Debug)]
pub(super) struct StateTopic {
    client: ClientConfig,
    admin: Admin,
    producer: Arc<Producer>,
    cluster_id: String,
    /// Of the readings' topic.
    pub(super) partitions: usize,
    /// Per partition, the slot that the next snapshot goes to.
    next_slot: Mutex<Vec<char>>,
}

/// A snapshot that was found.
pub(super) struct Loaded {
    pub(super) manifest: Manifest,
    /// When it was written, ms since the epoch.
    pub(super) written_ms: i64,
    pub(super) state: PartitionState,
}

/// A manifest in the topic.
struct Found {
    manifest: Manifest,
    slot: char,
    /// Its own offset and time.
    at: i64,
    written_ms: i64,
}

impl StateTopic {
    pub(super) async fn new(client: ClientConfig, producer: Arc<Producer>, cluster_id: String) -> Result<Self, Error> {
        let admin = Admin::new(&client)?;
        let partitions = admin.partitions(topics::READINGS).await?.len();
        Ok(Self { client, admin, producer, cluster_id, partitions, next_slot: Mutex::new(vec!['a'; partitions]) })
    }

    /// Partitions that the readings have now.
    pub(super) async fn partitions_now(&self) -> Result<usize, Fault> {
        Ok(self.admin.partitions(topics::READINGS).await?.len())
    }

    /// The whole snapshot with the highest offset, if there is one. `room` is asked while the state grows.
    pub(super) async fn load(
        &self,
        config: &FeatureConfig,
        partition: i32,
        room: impl Fn(StateSize) -> Result<(), Fault>,
    ) -> Result<Option<Loaded>, Fault> {
        let place = TopicPartition::new(topics::FEATURE_STATE, partition);
        let (start, end) = self.admin.watermarks(&place).await?;
        let mut records = FIRST_LOOK_RECORDS;
        let mut refused: Vec<i64> = Vec::new();
        loop {
            let from = end.saturating_sub(records).max(start);
            let mut found = self.manifests(&place, from, end).await?;
            found.sort_by_key(|found| (found.manifest.offset, found.at));
            while let Some(found) = found.pop() {
                if refused.contains(&found.at) {
                    continue;
                }
                if let Some(state) = self.chunks(config, &place, &found, &room).await? {
                    self.turn(partition, found.slot);
                    return Ok(Some(Loaded { manifest: found.manifest, written_ms: found.written_ms, state }));
                }
                tracing::warn!(%place, at = found.at, "a snapshot is not whole and is passed over");
                refused.push(found.at);
            }
            if from == start {
                return Ok(None);
            }
            records = records.saturating_mul(8);
        }
    }

    /// Writes the state as the snapshot at its position. `before_manifest` ends when everything that was emitted before is
    /// acknowledged.
    pub(super) async fn store(
        &self,
        partition: i32,
        offset: i64,
        state: &PartitionState,
        before_manifest: impl Future<Output = Result<(), Fault>>,
    ) -> Result<(), Fault> {
        // First this: a snapshot that cannot be closed is not begun.
        before_manifest.await?;
        let slot = self.slot(partition);
        let mut manifest = Manifest::new(self.cluster_id.clone(), self.partitions, offset);
        let sensors = state.sensors();
        manifest.sensors = sensors.len() as u64;
        let (mut chunk, mut chunks, mut first) = (Vec::new(), Vec::new(), None);
        for (series, sensor) in sensors {
            snapshot::encode(&mut chunk, series, sensor);
            while chunk.len() >= CHUNK_BYTES {
                let rest = chunk.split_off(CHUNK_BYTES);
                chunks.push(chunk_record(partition, slot, &mut manifest, std::mem::replace(&mut chunk, rest)));
                if chunks.len() == CHUNKS_PER_SEND_MAX {
                    first = first.or(self.send(&std::mem::take(&mut chunks)).await?);
                }
            }
        }
        if !chunk.is_empty() {
            chunks.push(chunk_record(partition, slot, &mut manifest, chunk));
        }
        first = first.or(self.send(&chunks).await?);
        manifest.first_chunk = first.unwrap_or(-1);
        let json = serde_json::to_vec(&manifest)
            .map_err(|error| Fault::Fatal { reason: format!("a manifest cannot be written: {error}") })?;
        self.send(&[record(partition, slot.to_string(), json)]).await?;
        self.turn(partition, slot);
        Ok(())
    }

    /// Sends records; the offset of the first.
    async fn send(&self, records: &[OutRecord]) -> Result<Option<i64>, Fault> {
        let mut first = None;
        for result in self.producer.send_all(records).await {
            first = first.or(Some(result?.offset));
        }
        Ok(first)
    }

    /// Manifests of this cluster that this program can read.
    async fn manifests(&self, place: &TopicPartition, from: i64, to: i64) -> Result<Vec<Found>, Fault> {
        let mut found = Vec::new();
        let mut reader = Reader::open(&self.client, place.clone(), from, to)?;
        while let Some(batch) = reader.next().await? {
            for index in 0..batch.len() {
                let record = batch.record(index);
                let (Some(key), Some(payload)) = (record.key, record.payload) else { continue };
                let slot = match key {
                    b"a" => 'a',
                    b"b" => 'b',
                    _ => continue,
                };
                match serde_json::from_slice::<Manifest>(payload) {
                    Ok(manifest) if manifest.is_readable() && manifest.cluster_id == self.cluster_id => {
                        let written_ms = record.timestamp_ms.unwrap_or_default();
                        found.push(Found { manifest, slot, at: record.offset, written_ms });
                    }
                    Ok(_) => tracing::warn!(%place, record.offset, "a snapshot of another version or cluster is passed over"),
                    Err(error) => tracing::warn!(%place, record.offset, %error, "a manifest cannot be read"),
                }
            }
        }
        Ok(found)
    }

    /// The state that a snapshot holds; `None` if it is not whole.
    async fn chunks(
        &self,
        config: &FeatureConfig,
        place: &TopicPartition,
        found: &Found,
        room: impl Fn(StateSize) -> Result<(), Fault>,
    ) -> Result<Option<PartitionState>, Fault> {
        let Found { manifest, slot, at, .. } = found;
        let mut state = PartitionState::new(place.partition, self.partitions);
        let mut bytes = Vec::new();
        let mut read = Manifest { chunks: 0, checksum: 0, ..manifest.clone() };
        if manifest.chunks > 0 {
            let mut reader = Reader::open(&self.client, place.clone(), manifest.first_chunk.max(0), *at)?;
            while let Some(batch) = reader.next().await? {
                for index in 0..batch.len() {
                    let record = batch.record(index);
                    let (Some(key), Some(payload)) = (record.key, record.payload) else { continue };
                    if key != chunk_key(*slot, read.chunks).as_bytes() {
                        continue;
                    }
                    read.add(payload);
                    bytes.extend_from_slice(payload);
                    snapshot::decode(config, &mut bytes, |series, sensor| state.restore(series, sensor));
                    room(state.size())?;
                }
            }
        }
        let whole = read == *manifest && bytes.is_empty() && state.sensors().len() as u64 == manifest.sensors;
        Ok(whole.then_some(state))
    }

    fn slot(&self, partition: i32) -> char {
        let slots = self.next_slot.lock().unwrap_or_else(PoisonError::into_inner);
        usize::try_from(partition).ok().and_then(|number| slots.get(number).copied()).unwrap_or('a')
    }

    /// `used` holds the newest snapshot now: the next one goes to the other slot.
    fn turn(&self, partition: i32, used: char) {
        let mut slots = self.next_slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = usize::try_from(partition).ok().and_then(|number| slots.get_mut(number)) {
            *slot = if used == 'a' { 'b' } else { 'a' };
        }
    }
}

fn chunk_key(slot: char, number: u32) -> String {
    format!("{slot}/{number}")
}

fn chunk_record(partition: i32, slot: char, manifest: &mut Manifest, chunk: Vec<u8>) -> OutRecord {
    let key = chunk_key(slot, manifest.chunks);
    manifest.add(&chunk);
    record(partition, key, chunk)
}

fn record(partition: i32, key: String, payload: Vec<u8>) -> OutRecord {
    OutRecord {
        topic: topics::FEATURE_STATE.into(),
        partition: Some(partition),
        key: Some(key.into_bytes()),
        payload: Some(payload),
        ..OutRecord::default()
    }
}
