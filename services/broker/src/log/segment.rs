//! One segment: a file of whole batches, and what is known about it without reading it.
//!
//! The sparse index lives in memory (16 bytes for every 16 KiB of log, so 1 MiB per GiB) and is saved beside the segment when
//! it is rolled or closed. The saved index says up to where the file was synced and good, and so is the recovery point too.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::{
    BatchHeader, LogError,
    checkpoint::{self, Fields, Importance},
};

/// Distance of two index entries.
const INDEX_INTERVAL_BYTES: u64 = 16 << 10;
const INDEX_MAGIC: [u8; 8] = *b"MANTSIX1";
/// What `max_timestamp` is while no record had one.
pub(super) const NO_TIMESTAMP: i64 = -1;

/// What is known about one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// First offset it may hold; the name of its file.
    pub(super) base_offset: i64,
    /// Offset after the last one that belongs to it (compaction may have removed the record there).
    pub(super) next_offset: i64,
    /// Length of its file.
    pub(super) bytes: u64,
    /// Largest timestamp of its records, or [`NO_TIMESTAMP`].
    pub(super) max_timestamp: i64,
    /// When it was begun, by the wall clock.
    pub(super) created_ms: i64,
    /// When compaction first went through it; 0 for never.
    pub(super) cleaned_ms: i64,
    /// Whether compaction left tombstones in it.
    pub(super) has_tombstones: bool,
    /// Whether another segment was begun behind it, durably: without that one, something is missing.
    pub(super) is_sealed: bool,
    entries: Vec<IndexEntry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IndexEntry {
    relative_offset: u32,
    position: u32,
    /// Largest timestamp of the batches *before* this one, so that the entries are sorted by it.
    max_timestamp_before: i64,
}

impl Segment {
    pub(super) fn new(base_offset: i64, created_ms: i64) -> Segment {
        Segment {
            base_offset,
            next_offset: base_offset,
            bytes: 0,
            max_timestamp: NO_TIMESTAMP,
            created_ms,
            cleaned_ms: 0,
            has_tombstones: false,
            is_sealed: false,
            entries: Vec::new(),
        }
    }

    pub(super) fn log_path(&self, dir: &Path) -> PathBuf {
        log_path(dir, self.base_offset)
    }

    /// Takes note of a batch that stands at the end of the file.
    pub(super) fn push(&mut self, header: &BatchHeader) {
        let due = self.entries.last().is_none_or(|last| self.bytes - u64::from(last.position) >= INDEX_INTERVAL_BYTES);
        let relative_offset = u32::try_from(header.base_offset - self.base_offset);
        if let (true, Ok(relative_offset), Ok(position)) = (due, relative_offset, u32::try_from(self.bytes)) {
            self.entries.push(IndexEntry { relative_offset, position, max_timestamp_before: self.max_timestamp });
        }
        self.bytes += header.batch_bytes as u64;
        self.next_offset = header.next_offset();
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
    }

    /// Start of a batch at or before the one that holds `offset`.
    pub(super) fn position_before_offset(&self, offset: i64) -> u64 {
        self.position_before(|entry| self.base_offset + i64::from(entry.relative_offset) <= offset)
    }

    /// Start of a batch at or before `position`.
    pub(super) fn position_before_position(&self, position: u64) -> u64 {
        self.position_before(|entry| u64::from(entry.position) <= position)
    }

    /// Start of a batch at or before the first one whose largest timestamp is at least `timestamp_ms`.
    pub(super) fn position_before_time(&self, timestamp_ms: i64) -> u64 {
        self.position_before(|entry| entry.max_timestamp_before < timestamp_ms)
    }

    fn position_before(&self, is_before: impl Fn(&IndexEntry) -> bool) -> u64 {
        let after = self.entries.partition_point(is_before);
        after.checked_sub(1).and_then(|at| self.entries.get(at)).map_or(0, |entry| u64::from(entry.position))
    }

    /// Saves what is known; only for bytes that are synced.
    pub(super) fn save(&self, dir: &Path) -> Result<(), LogError> {
        self.save_as(&index_path(dir, self.base_offset), Importance::Rebuildable)
    }

    /// Saves what is known under another name.
    pub(super) fn save_as(&self, path: &Path, importance: Importance) -> Result<(), LogError> {
        checkpoint::write(path, INDEX_MAGIC, &self.encode(), importance)
    }

    /// What was saved about the segment; `None` if that is absent or damaged, so that it has to be read again.
    pub(super) fn load(dir: &Path, base_offset: i64) -> Option<Segment> {
        let path = index_path(dir, base_offset);
        let payload = match checkpoint::read(&path, INDEX_MAGIC) {
            Ok(payload) => payload?,
            Err(error) => {
                tracing::warn!(%error, "a segment's index is rebuilt from the segment");
                return None;
            }
        };
        Segment::decode(&payload).filter(|segment| segment.base_offset == base_offset)
    }

    fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(64 + self.entries.len() * 16);
        for field in [self.base_offset, self.next_offset, self.max_timestamp, self.created_ms, self.cleaned_ms] {
            payload.extend_from_slice(&field.to_le_bytes());
        }
        payload.extend_from_slice(&self.bytes.to_le_bytes());
        payload.push(u8::from(self.has_tombstones));
        payload.push(u8::from(self.is_sealed));
        for entry in &self.entries {
            payload.extend_from_slice(&entry.relative_offset.to_le_bytes());
            payload.extend_from_slice(&entry.position.to_le_bytes());
            payload.extend_from_slice(&entry.max_timestamp_before.to_le_bytes());
        }
        payload
    }

    fn decode(payload: &[u8]) -> Option<Segment> {
        let mut fields = Fields(payload);
        let mut segment = Segment::new(fields.i64()?, 0);
        segment.next_offset = fields.i64()?;
        segment.max_timestamp = fields.i64()?;
        segment.created_ms = fields.i64()?;
        segment.cleaned_ms = fields.i64()?;
        segment.bytes = fields.take().map(u64::from_le_bytes)?;
        segment.has_tombstones = fields.take()? == [1];
        segment.is_sealed = fields.take()? == [1];
        segment.entries.reserve_exact(fields.0.len() / 16);
        while !fields.0.is_empty() {
            let (relative_offset, position, max_timestamp_before) = (fields.u32()?, fields.u32()?, fields.i64()?);
            segment.entries.push(IndexEntry { relative_offset, position, max_timestamp_before });
        }
        (segment.next_offset >= segment.base_offset).then_some(segment)
    }
}

/// The file of the active segment. Its lock makes sure that of two syncs of one file a failure is seen by both: the kernel
/// reports a failed write-back once per open file, and a second `fdatasync` would say that all is well.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) path: PathBuf,
    pub(super) file: File,
    sync_failed: Mutex<Option<String>>,
}

impl SegmentFile {
    pub(super) fn new(path: PathBuf, file: File) -> SegmentFile {
        SegmentFile { path, file, sync_failed: Mutex::new(None) }
    }

    /// `fdatasync`, unless it failed before.
    pub(super) fn sync(&self) -> Result<(), LogError> {
        let mut failed = self.sync_failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = failed.as_ref() {
            return Err(LogError::Io { action: "sync", path: self.path.clone(), source: std::io::Error::other(reason.clone()) });
        }
        self.file.sync_data().map_err(|error| {
            *failed = Some(format!("an earlier sync failed: {error}"));
            LogError::io("sync", &self.path)(error)
        })
    }

    /// Why it must not be trusted any more, if so.
    pub(super) fn sync_failed(&self) -> Option<String> {
        self.sync_failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the next sync fail as a bad disk would.
    #[cfg(test)]
    pub(super) fn fail_syncs(&self) {
        *self.sync_failed.lock().unwrap() = Some("an injected failure".to_owned());
    }
}

pub(super) fn log_path(dir: &Path, base_offset: i64) -> PathBuf {
    dir.join(format!("{base_offset:020}.log"))
}

pub(super) fn index_path(dir: &Path, base_offset: i64) -> PathBuf {
    dir.join(format!("{base_offset:020}.index"))
}
