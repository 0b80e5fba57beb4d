//! The durable, segmented log of one partition.
//!
//! It stores record batches (message format v2) as they came. What a caller may rely on:
//! - [`PartitionLog::append`] gives offsets and writes; nothing is readable, and nothing may be acknowledged as `acks=all`,
//!   before the high watermark has passed it, and only a successful `fdatasync` moves the high watermark.
//! - One sync serves many appends: take a [`SyncHandle`] under the partition's lock, run it without the lock (it blocks),
//!   give the outcome back with [`PartitionLog::complete_sync`].
//! - A sync that failed is never tried again: the partition goes offline and is reopened, and recovery decides. What was
//!   not durable is cut from the file at once, so that nothing reads pages that the kernel could not write.
//! - Recovery cuts a torn tail, which was never acknowledged; damage in what was durable is an error that names file and
//!   position, never a silent cut (`recovery.rs` says how the two are told apart).
//!
//! Files of a partition's folder: `{base offset}.log` with the batches, `{base offset}.index` with what is known about them,
//! `producers.snapshot`, `leader-epochs.checkpoint`, `log-start.checkpoint`. All code here blocks; nothing here knows tokio or
//! the requests of the Kafka protocol.

mod batch;
mod checkpoint;
mod compaction;
mod config;
mod epochs;
mod error;
mod producers;
mod read;
mod records;
mod recovery;
mod retention;
mod segment;
#[cfg(test)]
mod tests;
mod walk;

use std::{
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use batch::Stamp;
pub use batch::{BatchError, BatchHeader, HEADER_BYTES, RECORDS_PER_BATCH_MAX, ValidBatches, intact_bytes, is_packed, validate};
pub use compaction::{Compacted, Compaction, TABLE_BYTES_MIN};
pub use config::{Cleanup, LogConfig, Timestamps};
pub use epochs::EPOCHS_MAX;
use epochs::Epochs;
pub use error::LogError;
use producers::Producers;
pub use producers::{BATCHES_PER_PRODUCER, PRODUCER_EXPIRY_MS, PRODUCERS_MAX};
pub use read::{LogSlice, TimestampOffset};
pub use records::UNCOMPRESSED_BYTES_MAX;
use segment::{Segment, SegmentFile};
use walk::Walk;

/// The log of one partition. One writer (`&mut self`); readers (`&self`) take slices under the caller's lock and read without.
#[derive(Debug)]
pub struct PartitionLog {
    dir: PathBuf,
    config: LogConfig,
    /// By offset; the last one is the active one, so there is always one.
    segments: Vec<Segment>,
    active: Arc<SegmentFile>,
    start_offset: i64,
    high_watermark: i64,
    /// Bytes of the active segment that are durable: where the high watermark is.
    durable_bytes: u64,
    producers: Producers,
    epochs: Epochs,
    offline: Option<String>,
}

/// What opening found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes whose checksums were read again because the log was not closed cleanly.
    pub scanned_bytes: u64,
    /// Bytes of a torn tail that were cut off; they had never been acknowledged.
    pub cut_bytes: u64,
}

/// Where an append went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset after the last record: durable once the high watermark is at least this.
    pub next_offset: i64,
    /// The time the records got, for logs with [`Timestamps::Append`]; otherwise -1.
    pub append_time_ms: i64,
    /// These bytes were appended before (an idempotent producer's retry); the offsets are those of then.
    pub duplicate: bool,
}

/// The end of a leader epoch, for `OffsetForLeaderEpoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch with records that is not above the one asked for.
    pub leader_epoch: i32,
    /// Offset after its last record.
    pub end_offset: i64,
}

/// What retention or compaction removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Segments fewer.
    pub segments: usize,
    /// Bytes freed.
    pub bytes: u64,
}

/// Makes durable what was appended before it was taken. Holds no lock on the log.
#[derive(Debug)]
pub struct SyncHandle {
    synced: Synced,
}

/// The outcome of a successful sync; give it to [`PartitionLog::complete_sync`].
#[derive(Debug)]
pub struct Synced {
    file: Arc<SegmentFile>,
    bytes: u64,
    next_offset: i64,
}

impl SyncHandle {
    /// Runs one `fdatasync`. Blocks.
    pub fn sync(self) -> Result<Synced, LogError> {
        self.synced.file.sync()?;
        Ok(self.synced)
    }
}

impl PartitionLog {
    /// Opens the log in `dir` (made if absent) and recovers it. Everything in it is durable afterwards, and readable.
    /// Only one log may be open per folder; the caller sees to that.
    pub fn open(dir: &Path, config: LogConfig, now_ms: i64) -> Result<(PartitionLog, Recovery), LogError> {
        let recovered = recovery::recover(dir, now_ms)?;
        let (producers, producers_to) = Producers::load(dir);
        let mut log = PartitionLog {
            dir: dir.to_owned(),
            config,
            segments: recovered.segments,
            active: Arc::new(recovered.active),
            start_offset: recovered.start_offset,
            high_watermark: 0,
            durable_bytes: 0,
            producers,
            epochs: Epochs::load(dir)?,
            offline: None,
        };
        let end_offset = log.end_offset();
        // Both are noted only when everything below them is durable.
        let durable_to = producers_to.max(log.start_offset);
        if end_offset < durable_to {
            return Err(LogError::MissingSegment { dir: dir.to_owned(), from: end_offset, to: durable_to });
        }
        log.epochs.truncate(end_offset)?;
        log.replay_producers(producers_to, now_ms)?;
        log.high_watermark = end_offset;
        log.durable_bytes = log.segments.last().map_or(0, |active| active.bytes);
        Ok((log, recovered.report))
    }

    /// Appends batches that passed [`validate`]. Not readable and not durable before a sync. `leader_epoch` never goes back.
    ///
    /// Errors that leave the log as it was: `DiskFull` (try again later), `OutOfOrderSequence`, `InvalidProducerEpoch`,
    /// `OffsetsExhausted`, `Io`. `Offline` means that the log has to be reopened.
    pub fn append(&mut self, batches: &ValidBatches<'_>, leader_epoch: i32, now_ms: i64) -> Result<Appended, LogError> {
        self.ensure_online()?;
        let append_time_ms = (self.config.timestamps == Timestamps::Append).then_some(now_ms);
        if let [only] = batches.headers()
            && only.is_idempotent()
            && let Some(earlier) = self.producers.check(only)?
        {
            return Ok(Appended {
                base_offset: earlier.base_offset,
                next_offset: earlier.next_offset(),
                append_time_ms: append_time_ms.unwrap_or(segment::NO_TIMESTAMP),
                duplicate: true,
            });
        }
        let base_offset = self.end_offset();
        let Some(next_offset) = base_offset.checked_add(batches.record_count()).filter(|&next| next < i64::MAX) else {
            return Err(LogError::OffsetsExhausted { dir: self.dir.clone() });
        };
        self.roll_if_due(batches.bytes().len() as u64, next_offset, now_ms)?;
        self.epochs.assign(leader_epoch, base_offset).map_err(|error| full_disk(error, &self.dir))?;
        let stamp = Stamp { base_offset, leader_epoch: self.epochs.last(), append_time_ms };
        let stamped = self.write(batches, stamp)?;
        for header in &stamped {
            if let Some(active) = self.segments.last_mut() {
                active.push(header);
            }
            self.producers.push(header, now_ms);
        }
        let append_time_ms = append_time_ms.unwrap_or(segment::NO_TIMESTAMP);
        Ok(Appended { base_offset, next_offset, append_time_ms, duplicate: false })
    }

    /// What has to be synced so that everything appended so far is durable; `None` if it is already.
    pub fn sync_handle(&self) -> Option<SyncHandle> {
        let next_offset = self.end_offset();
        if next_offset <= self.high_watermark || self.offline.is_some() {
            return None;
        }
        let bytes = self.segments.last().map_or(0, |active| active.bytes);
        Some(SyncHandle { synced: Synced { file: Arc::clone(&self.active), bytes, next_offset } })
    }

    /// Takes the outcome of a sync: the high watermark moves, or the partition goes offline. Returns the high watermark.
    /// Outcomes may come in any order.
    pub fn complete_sync(&mut self, outcome: Result<Synced, LogError>) -> Result<i64, LogError> {
        match outcome {
            // A file that is not the active one any more was synced when it was rolled.
            Ok(synced) if Arc::ptr_eq(&synced.file, &self.active) => {
                self.ensure_online()?;
                self.durable_bytes = self.durable_bytes.max(synced.bytes);
                self.high_watermark = self.high_watermark.max(synced.next_offset);
            }
            Ok(_) => self.ensure_online()?,
            Err(error) => return Err(self.go_offline(&error)),
        }
        Ok(self.high_watermark)
    }

    /// Syncs in place: `sync_handle`, `SyncHandle::sync` and `complete_sync` in one.
    pub fn sync(&mut self) -> Result<i64, LogError> {
        self.ensure_online()?;
        match self.sync_handle() {
            Some(handle) => {
                let outcome = handle.sync();
                self.complete_sync(outcome)
            }
            None => Ok(self.high_watermark),
        }
    }

    /// Syncs, notes what makes the next opening cheap, and closes. A log that is only dropped is recovered when it is opened.
    pub fn close(mut self) -> Result<(), LogError> {
        self.sync()?;
        self.save_state()
    }

    /// First offset that is readable.
    pub fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// End of what is durable, and so of what is readable.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Offset that the next record gets.
    pub fn end_offset(&self) -> i64 {
        self.segments.last().map_or(self.start_offset, |active| active.next_offset)
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Why the partition is offline, if it is.
    pub fn offline(&self) -> Option<&str> {
        self.offline.as_deref()
    }

    /// The end of epoch `requested` when `current` is the leader's epoch; `None` if the epoch is unknown (answer -1, -1).
    pub fn epoch_end(&self, requested: i32, current: i32) -> Option<EpochEnd> {
        self.epochs.end(requested, current, self.high_watermark)
    }

    /// Leader epoch of the last batch, -1 for an empty log.
    pub fn last_epoch(&self) -> i32 {
        self.epochs.last()
    }

    /// Changes the settings; they apply from the next operation on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// A compaction of what lies below the active segment, if the policy asks for it and enough of it is new.
    pub fn compaction(&self, now_ms: i64) -> Option<Compaction> {
        if !self.config.cleanup.compacts() || self.offline.is_some() {
            return None;
        }
        let segment_bytes = self.config.segment_bytes;
        Compaction::plan(&self.dir, self.sealed(), segment_bytes, now_ms, self.config.delete_retention_ms)
    }

    /// Puts cleaned segments into the place of the old ones, where those are still there.
    pub fn install(&mut self, compacted: Compacted) -> Result<Removed, LogError> {
        self.ensure_online()?;
        let mut removed = Removed::default();
        for replaced in compacted.replaced {
            let from = self.segments.iter().position(|segment| Some(segment) == replaced.old.first());
            let range = from.map(|from| from..from + replaced.old.len());
            let is_there = |range: &std::ops::Range<usize>| self.sealed().get(range.clone()) == Some(replaced.old.as_slice());
            let Some(range) = range.filter(is_there) else {
                // Retention was faster.
                replaced.discard();
                continue;
            };
            if let Err(error) = replaced.install(&self.dir) {
                // Which of the files are in place is for recovery to find out.
                return Err(self.go_offline(&error));
            }
            removed.segments += replaced.old.len() - 1;
            let old_bytes: u64 = replaced.old.iter().map(|segment| segment.bytes).sum();
            removed.bytes += old_bytes.saturating_sub(replaced.new.bytes);
            self.segments.splice(range, [replaced.new]);
        }
        Ok(removed)
    }

    fn ensure_online(&self) -> Result<(), LogError> {
        match &self.offline {
            Some(reason) => Err(LogError::Offline { dir: self.dir.clone(), reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn active_base(&self) -> i64 {
        self.segments.last().map_or(self.start_offset, |active| active.base_offset)
    }

    /// All segments below the active one; they are durable.
    fn sealed(&self) -> &[Segment] {
        self.segments.split_last().map_or(&[], |(_, sealed)| sealed)
    }

    /// Writes the batches at the end of the active segment, or leaves it as it was.
    fn write(&mut self, batches: &ValidBatches<'_>, stamp: Stamp) -> Result<Vec<BatchHeader>, LogError> {
        if let Some(reason) = self.active.sync_failed() {
            return Err(self.go_offline(&LogError::io("sync", &self.active.path)(io::Error::other(reason))));
        }
        let before = self.segments.last().map_or(0, |active| active.bytes);
        let mut position = before;
        let mut base_offset = stamp.base_offset;
        let mut headers = Vec::with_capacity(batches.headers().len());
        let mut rest = batches.bytes();
        for header in batches.headers() {
            let Some((batch, after)) = rest.split_at_checked(header.batch_bytes) else { break };
            let (head, stamped) = header.stamped(batch, Stamp { base_offset, ..stamp });
            let records = batch.get(HEADER_BYTES..).unwrap_or_default();
            let file = &self.active.file;
            let written =
                file.write_all_at(&head, position).and_then(|()| file.write_all_at(records, position + HEADER_BYTES as u64));
            if let Err(error) = written {
                return Err(self.undo_write(before, error));
            }
            position += header.batch_bytes as u64;
            base_offset = stamped.next_offset();
            headers.push(stamped);
            rest = after;
        }
        Ok(headers)
    }

    /// Cuts what a failed write left behind.
    fn undo_write(&mut self, bytes: u64, error: io::Error) -> LogError {
        if let Err(cut) = self.active.file.set_len(bytes) {
            tracing::error!(path = %self.active.path.display(), error = %cut, "cannot cut a failed write");
            return self.go_offline(&LogError::io("write", &self.active.path)(error));
        }
        full_disk(LogError::io("write", &self.active.path)(error), &self.active.path)
    }

    fn roll_if_due(&mut self, more_bytes: u64, next_offset: i64, now_ms: i64) -> Result<(), LogError> {
        let Some(active) = self.segments.last().filter(|active| active.bytes > 0) else { return Ok(()) };
        let segment_bytes = self.config.segment_bytes.min(LogConfig::SEGMENT_BYTES_MAX);
        let is_due = active.bytes.saturating_add(more_bytes) > segment_bytes
            || now_ms.saturating_sub(active.created_ms) >= self.config.segment_ms
            || next_offset - active.base_offset > i64::from(i32::MAX);
        if is_due { self.roll(now_ms) } else { Ok(()) }
    }

    /// Syncs the active segment and begins a new one: all segments but the last are durable, always.
    fn roll(&mut self, now_ms: i64) -> Result<(), LogError> {
        self.sync()?;
        let base_offset = self.end_offset();
        let created = recovery::create_segment(&self.dir, base_offset);
        let active = created.map_err(|error| full_disk(error, &self.dir))?;
        if let Some(old) = self.segments.last_mut() {
            old.is_sealed = true;
        }
        self.save_state().unwrap_or_else(|error| {
            tracing::warn!(dir = %self.dir.display(), %error, "the next opening will have to read more of the log");
        });
        self.active = Arc::new(active);
        self.segments.push(Segment::new(base_offset, now_ms));
        self.durable_bytes = 0;
        Ok(())
    }

    /// Saves what is known about the active segment and the producers; all of the log is durable.
    fn save_state(&self) -> Result<(), LogError> {
        if let Some(active) = self.segments.last() {
            active.save(&self.dir)?;
        }
        self.producers.save(&self.dir, self.end_offset())
    }

    /// Nothing is read or written any more until the log is reopened. What was not durable is cut off: after a failed sync the
    /// kernel takes the pages for clean although the disk does not have them, and recovery would believe them.
    fn go_offline(&mut self, error: &LogError) -> LogError {
        let reason = error.to_string();
        tracing::error!(dir = %self.dir.display(), reason, "partition goes offline");
        if self.offline.is_none()
            && let Err(error) = self.active.file.set_len(self.durable_bytes)
        {
            tracing::error!(path = %self.active.path.display(), %error, "cannot cut what could not be synced");
        }
        self.offline = Some(reason.clone());
        LogError::Offline { dir: self.dir.clone(), reason }
    }

    /// Brings the producers' state up to the end of the log by the headers from `from_offset` on.
    fn replay_producers(&mut self, from_offset: i64, now_ms: i64) -> Result<(), LogError> {
        for segment in self.segments.iter().filter(|segment| segment.next_offset > from_offset && segment.bytes > 0) {
            let path = segment.log_path(&self.dir);
            let file = std::fs::File::open(&path).map_err(LogError::io("open", &path))?;
            let mut walk = Walk::new(&file, &path, segment.position_before_offset(from_offset), segment.bytes);
            while let Some((_, header)) = walk.next()? {
                if header.base_offset >= from_offset {
                    self.producers.push(&header, now_ms);
                }
            }
        }
        Ok(())
    }
}

/// Says `DiskFull` where that is what happened. A file size limit and a quota are a full disk too.
fn full_disk(error: LogError, path: &Path) -> LogError {
    match error {
        LogError::Io { source, .. }
            if matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            ) =>
        {
            LogError::DiskFull { path: path.to_owned() }
        }
        error => error,
    }
}
