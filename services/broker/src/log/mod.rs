//! The durable, segmented log of one partition.
//!
//! It stores record batches (message format v2) as they came. What a caller may rely on:
//! - [`PartitionLog::append`] gives offsets and writes; nothing is readable, and nothing may be acknowledged as `acks=all`,
//!   before the high watermark has passed it, and only a successful `fdatasync` moves the high watermark.
//! - One sync serves many appends: take a [`SyncHandle`] under the partition's lock, run it without the lock (it blocks),
//!   give the outcome back with [`PartitionLog::complete_sync`].
//! - A sync that failed is never tried again: the partition goes offline and is reopened, and recovery decides.
//! - Recovery cuts a torn tail, which was never acknowledged; damage in what was durable is an error that names file and
//!   position, never a silent cut.
//!
//! All code here blocks; nothing here knows tokio or the Kafka protocol's requests.

mod batch;
mod config;
mod error;

use std::{fs::File, io, path::Path, sync::Arc};

pub use batch::{BatchError, BatchHeader, HEADER_BYTES, RECORDS_PER_BATCH_MAX, ValidBatches, validate};
pub use config::{Cleanup, LogConfig, Timestamps};
pub use error::LogError;

/// The log of one partition. One writer (`&mut self`), any number of readers (`&self`) that only take slices under the lock.
#[derive(Debug)]
pub struct PartitionLog {}

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

/// A contiguous range of whole batches in a file. Valid even if retention or compaction removes the segment meanwhile.
#[derive(Debug, Clone)]
pub struct LogSlice {
    file: Option<Arc<File>>,
    position: u64,
    length: usize,
}

/// An offset and the record timestamp that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Timestamp of the record, ms since the epoch.
    pub timestamp_ms: i64,
    /// Offset of the record.
    pub offset: i64,
    /// Leader epoch of its batch.
    pub leader_epoch: i32,
}

/// The end of a leader epoch, for `OffsetForLeaderEpoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch with records that is not above the one asked for.
    pub leader_epoch: i32,
    /// Offset after its last record.
    pub end_offset: i64,
}

/// What retention removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Segments deleted.
    pub segments: usize,
    /// Bytes freed.
    pub bytes: u64,
}

/// Makes durable what was appended before it was taken. Holds no lock on the log.
#[derive(Debug)]
pub struct SyncHandle {}

/// The outcome of a successful sync; give it to [`PartitionLog::complete_sync`].
#[derive(Debug)]
pub struct Synced {}

/// A compaction that has been planned and can run without the log's lock.
#[derive(Debug)]
pub struct Compaction {}

/// Cleaned segments in temporary files, to be installed with [`PartitionLog::install`].
#[derive(Debug)]
pub struct Compacted {}

impl PartitionLog {
    /// Opens the log in `dir` (made if absent) and recovers it. Everything in it is durable afterwards, and readable.
    pub fn open(dir: &Path, config: LogConfig, now_ms: i64) -> Result<(PartitionLog, Recovery), LogError> {
        let _ = (dir, config, now_ms);
        Ok((PartitionLog {}, Recovery::default()))
    }

    /// Appends batches that passed [`validate`]. `leader_epoch` never goes back. Not readable and not durable yet.
    pub fn append(&mut self, batches: &ValidBatches<'_>, leader_epoch: i32, now_ms: i64) -> Result<Appended, LogError> {
        let _ = (batches, leader_epoch, now_ms);
        Err(LogError::Offline { dir: ".".into(), reason: String::new() })
    }

    /// What has to be synced so that everything appended so far is durable; `None` if it is already.
    pub fn sync_handle(&self) -> Option<SyncHandle> {
        None
    }

    /// Takes the outcome of a sync: the high watermark moves, or the partition goes offline. Returns the high watermark.
    pub fn complete_sync(&mut self, outcome: Result<Synced, LogError>) -> Result<i64, LogError> {
        outcome.map(|_| 0)
    }

    /// Syncs in place: `sync_handle`, `SyncHandle::sync` and `complete_sync` in one.
    pub fn sync(&mut self) -> Result<i64, LogError> {
        Ok(0)
    }

    /// Syncs, writes the checkpoints that make the next open cheap, and closes.
    pub fn close(self) -> Result<(), LogError> {
        Ok(())
    }

    /// Whole batches from the one that contains `offset` on, below the high watermark, of one segment, at most `bytes_max`
    /// bytes, but one batch at least. Empty at the high watermark. `OffsetOutOfRange` below the start and beyond it.
    pub fn read(&self, offset: i64, bytes_max: usize) -> Result<LogSlice, LogError> {
        let _ = bytes_max;
        Err(LogError::OffsetOutOfRange { offset, start: 0, end: 0 })
    }

    /// First offset that is readable.
    pub fn start_offset(&self) -> i64 {
        0
    }

    /// End of what is durable, and so of what is readable.
    pub fn high_watermark(&self) -> i64 {
        0
    }

    /// Offset that the next record gets.
    pub fn end_offset(&self) -> i64 {
        0
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        0
    }

    /// Why the partition is offline, if it is.
    pub fn offline(&self) -> Option<&str> {
        None
    }

    /// The first readable record whose timestamp is at least `timestamp_ms`.
    pub fn offset_for_time(&self, timestamp_ms: i64) -> Result<Option<TimestampOffset>, LogError> {
        let _ = timestamp_ms;
        Ok(None)
    }

    /// The readable record with the largest timestamp; the first of them if there are several.
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        Ok(None)
    }

    /// The end of epoch `requested` when `current` is the leader's epoch; `None` if the epoch is unknown (answer -1, -1).
    pub fn epoch_end(&self, requested: i32, current: i32) -> Option<EpochEnd> {
        let _ = (requested, current);
        None
    }

    /// Leader epoch of the last batch, -1 for an empty log.
    pub fn last_epoch(&self) -> i32 {
        -1
    }

    /// Changes the settings; they apply from the next operation on.
    pub fn set_config(&mut self, config: LogConfig) {
        let _ = config;
    }

    /// Deletes whole segments that are too old or too many, none that holds offsets at or above `floor`
    /// (the lowest offset that a registered group still needs; `i64::MAX` for none).
    pub fn retain(&mut self, now_ms: i64, floor: i64) -> Result<Removed, LogError> {
        let _ = (now_ms, floor);
        Ok(Removed::default())
    }

    /// Moves the log's start to `before_offset` (-1 for the high watermark) and deletes the segments that lie below it.
    /// Returns the new start offset.
    pub fn delete_records(&mut self, before_offset: i64) -> Result<i64, LogError> {
        let _ = before_offset;
        Ok(0)
    }

    /// A compaction of what lies below the active segment, if the policy asks for it and there is something new to clean.
    pub fn compaction(&self, now_ms: i64) -> Option<Compaction> {
        let _ = now_ms;
        None
    }

    /// Puts cleaned segments into the place of the old ones.
    pub fn install(&mut self, compacted: Compacted) -> Result<Removed, LogError> {
        let _ = compacted;
        Ok(Removed::default())
    }
}

impl SyncHandle {
    /// Runs one `fdatasync`. Blocks.
    pub fn sync(self) -> Result<Synced, LogError> {
        Ok(Synced {})
    }
}

impl Compaction {
    /// Cleans into temporary files, with a key table of at most `table_bytes_max` bytes. Blocks.
    pub fn run(self, table_bytes_max: usize) -> Result<Compacted, LogError> {
        let _ = table_bytes_max;
        Ok(Compacted {})
    }
}

impl LogSlice {
    /// Bytes in the slice; 0 if there is nothing to read yet.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends the bytes of the slice to `buffer`. Blocks on the disk only for what is not in the page cache.
    pub fn read_into(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let _ = (&self.file, self.position, buffer);
        Ok(())
    }
}
