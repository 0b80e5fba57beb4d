//! Snapshots in the compacted topic `mantis.feature-state`: partition `p` holds those of partition `p` of the readings.
//!
//! A snapshot is chunks under the keys `a/0`, `a/1`, ... (or `b/...`; the slots take turns), closed by a manifest under `a`.
//! Whatever a crash or a worker that was thought dead leaves there, one of the two slots is whole, or the log is read again.

use std::sync::{Mutex, PoisonError};

use mantis_pipeline::Fault;

use super::{
    FeatureConfig, StateSize,
    partition::PartitionState,
    snapshot::{self, CHUNK_BYTES, Manifest},
    state_log::StateLog,
};

/// Chunks that are sent together, and so held in memory at once.
const CHUNKS_PER_SEND_MAX: usize = 8;
/// Records at the end of the topic that are looked at first for a manifest; each further look takes eight times as many.
const FIRST_LOOK_RECORDS: i64 = 64;

/// Reads and writes the snapshots of one consumer group.
#[derive(Debug)]
pub(super) struct StateTopic<L> {
    log: L,
    cluster_id: String,
    /// Of the readings' topic.
    pub(super) partitions: usize,
    chunk_bytes: usize,
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

impl<L: StateLog> StateTopic<L> {
    pub(super) async fn new(log: L, cluster_id: String) -> Result<Self, Fault> {
        Self::with_chunks(log, cluster_id, CHUNK_BYTES).await
    }

    pub(super) async fn with_chunks(log: L, cluster_id: String, chunk_bytes: usize) -> Result<Self, Fault> {
        let partitions = log.source_partitions().await?;
        Ok(Self { log, cluster_id, partitions, chunk_bytes, next_slot: Mutex::new(vec!['a'; partitions]) })
    }

    /// Partitions that the readings have now.
    pub(super) async fn partitions_now(&self) -> Result<usize, Fault> {
        self.log.source_partitions().await
    }

    /// The whole snapshot with the highest offset, if there is one. That of `promised` was written, and is looked for as far
    /// back as the topic goes; older ones are taken only where it is not whole any more. `room` is asked while the state grows.
    pub(super) async fn load(
        &self,
        config: &FeatureConfig,
        partition: i32,
        promised: Option<i64>,
        room: impl Fn(StateSize) -> Result<(), Fault> + Send + Sync,
    ) -> Result<Option<Loaded>, Fault> {
        let (start, end) = self.log.bounds(partition).await?;
        let mut records = FIRST_LOOK_RECORDS;
        let mut refused: Vec<i64> = Vec::new();
        loop {
            let from = end.saturating_sub(records).max(start);
            let mut found = self.manifests(partition, from, end).await?;
            found.sort_by_key(|found| (found.manifest.offset, found.at));
            while let Some(found) = found.pop() {
                if refused.contains(&found.at) {
                    continue;
                }
                // A worker that was thought dead may have written many records behind a newer snapshot.
                if from > start && promised.is_some_and(|promised| found.manifest.offset < promised) {
                    break;
                }
                if let Some(state) = self.chunks(config, partition, &found, &room).await? {
                    self.turn(partition, found.slot);
                    return Ok(Some(Loaded { manifest: found.manifest, written_ms: found.written_ms, state }));
                }
                tracing::warn!(partition, at = found.at, "a snapshot is not whole and is passed over");
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
            while chunk.len() >= self.chunk_bytes {
                let rest = chunk.split_off(self.chunk_bytes);
                chunks.push(chunk_record(slot, &mut manifest, std::mem::replace(&mut chunk, rest)));
                if chunks.len() == CHUNKS_PER_SEND_MAX {
                    first = first.or(self.log.append(partition, std::mem::take(&mut chunks)).await?);
                }
            }
        }
        if !chunk.is_empty() {
            chunks.push(chunk_record(slot, &mut manifest, chunk));
        }
        first = first.or(self.log.append(partition, chunks).await?);
        manifest.first_chunk = first.unwrap_or(-1);
        let json = serde_json::to_vec(&manifest)
            .map_err(|error| Fault::Fatal { reason: format!("a manifest cannot be written: {error}") })?;
        self.log.append(partition, vec![(slot.to_string(), json)]).await?;
        self.turn(partition, slot);
        Ok(())
    }

    /// Manifests of this cluster that this program can read.
    async fn manifests(&self, partition: i32, from: i64, to: i64) -> Result<Vec<Found>, Fault> {
        let mut found = Vec::new();
        let read = self.log.read(partition, from, to, |record| {
            let slot = match record.key {
                b"a" => 'a',
                b"b" => 'b',
                _ => return Ok(()),
            };
            let at = record.offset;
            match serde_json::from_slice::<Manifest>(record.payload) {
                Ok(manifest) if manifest.is_readable() && manifest.cluster_id == self.cluster_id => {
                    found.push(Found { manifest, slot, at, written_ms: record.written_ms });
                }
                Ok(_) => tracing::warn!(partition, at, "a snapshot of another version or cluster is passed over"),
                Err(error) => tracing::warn!(partition, at, %error, "a manifest cannot be read"),
            }
            Ok(())
        });
        read.await?;
        Ok(found)
    }

    /// The state that a snapshot holds; `None` if it is not whole.
    async fn chunks(
        &self,
        config: &FeatureConfig,
        partition: i32,
        found: &Found,
        room: impl Fn(StateSize) -> Result<(), Fault> + Send + Sync,
    ) -> Result<Option<PartitionState>, Fault> {
        let Found { manifest, slot, at, .. } = found;
        let mut state = PartitionState::new(partition, self.partitions);
        let mut bytes = Vec::new();
        let mut read = Manifest { chunks: 0, checksum: 0, ..manifest.clone() };
        if manifest.chunks > 0 {
            let chunks = self.log.read(partition, manifest.first_chunk.max(0), *at, |record| {
                if record.key != chunk_key(*slot, read.chunks).as_bytes() {
                    return Ok(());
                }
                read.add(record.payload);
                bytes.extend_from_slice(record.payload);
                snapshot::decode(config, &mut bytes, |series, sensor| state.restore(series, sensor));
                room(state.size())
            });
            chunks.await?;
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

fn chunk_record(slot: char, manifest: &mut Manifest, chunk: Vec<u8>) -> (String, Vec<u8>) {
    let key = chunk_key(slot, manifest.chunks);
    manifest.add(&chunk);
    (key, chunk)
}
