//! Reading: slices of segment files for consumers, and the lookups by time.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use super::{
    BatchHeader, LogError, PartitionLog,
    records::{records, uncompressed},
    segment::{NO_TIMESTAMP, Segment, SegmentFile},
    walk::Walk,
};

/// A contiguous range of whole batches in a file. Valid even if retention or compaction removes the segment meanwhile.
/// Holds one file handle; those of rolled segments are opened for the slice and closed with it, so that a log keeps one handle
/// (of its active segment) and one per slice that is being read.
#[derive(Debug, Clone)]
pub struct LogSlice {
    source: Option<Source>,
    position: u64,
    length: usize,
}

#[derive(Debug, Clone)]
enum Source {
    Active(Arc<SegmentFile>),
    Sealed(Arc<File>),
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

impl LogSlice {
    const EMPTY: LogSlice = LogSlice { source: None, position: 0, length: 0 };

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
        let Some(source) = &self.source else { return Ok(()) };
        let from = buffer.len();
        buffer.resize(from + self.length, 0);
        let target = buffer.get_mut(from..).unwrap_or_default();
        source.file().read_exact_at(target, self.position)
    }
}

impl Source {
    fn file(&self) -> &File {
        match self {
            Source::Active(active) => &active.file,
            Source::Sealed(file) => file,
        }
    }
}

impl PartitionLog {
    /// Whole batches from the one that contains `offset` on (after compaction: or the next one), below the high watermark, of
    /// one segment, at most `bytes_max` bytes, but one batch at least. Empty at the high watermark.
    /// `OffsetOutOfRange` below the start and beyond the high watermark.
    pub fn read(&self, offset: i64, bytes_max: usize) -> Result<LogSlice, LogError> {
        self.ensure_online()?;
        if !(self.start_offset..=self.high_watermark).contains(&offset) {
            return Err(LogError::OffsetOutOfRange { offset, start: self.start_offset, end: self.high_watermark });
        }
        for segment in self.segments_from(offset) {
            let limit = self.readable_bytes(segment);
            if limit == 0 {
                continue;
            }
            let source = self.source(segment)?;
            let path = segment.log_path(&self.dir);
            let mut walk = Walk::new(source.file(), &path, segment.position_before_offset(offset).min(limit), limit);
            while let Some((position, header)) = walk.next()? {
                if header.last_offset() < offset {
                    continue;
                }
                let first_end = position + header.batch_bytes as u64;
                let end = match limit.min(position.saturating_add(bytes_max as u64)) {
                    wanted if wanted <= first_end => first_end,
                    wanted if wanted == limit => limit,
                    wanted => {
                        let near = segment.position_before_position(wanted).max(position);
                        last_boundary(&mut Walk::new(source.file(), &path, near, limit), wanted)?.max(first_end)
                    }
                };
                let length = usize::try_from(end - position).unwrap_or(usize::MAX);
                return Ok(LogSlice { source: Some(source), position, length });
            }
        }
        Ok(LogSlice::EMPTY)
    }

    /// The first readable record whose timestamp is at least `timestamp_ms`. In batches whose records cannot be read, the
    /// batch's first offset and largest timestamp stand for them.
    pub fn offset_for_time(&self, timestamp_ms: i64) -> Result<Option<TimestampOffset>, LogError> {
        self.ensure_online()?;
        for segment in self.segments_from(self.start_offset).filter(|segment| segment.max_timestamp >= timestamp_ms) {
            let source = self.source(segment)?;
            let path = segment.log_path(&self.dir);
            let limit = self.readable_bytes(segment);
            let mut walk = Walk::new(source.file(), &path, segment.position_before_time(timestamp_ms).min(limit), limit);
            while let Some((position, header)) = walk.next()? {
                if header.max_timestamp < timestamp_ms || header.last_offset() < self.start_offset {
                    continue;
                }
                let mut batch = vec![0; header.batch_bytes];
                source.file().read_exact_at(&mut batch, position).map_err(LogError::io("read", &path))?;
                if let Some(found) = first_in_batch(&header, &batch, timestamp_ms, self.start_offset) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The readable record with the largest timestamp; the first of them if there are several.
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        self.ensure_online()?;
        let mut max_timestamp = NO_TIMESTAMP;
        for segment in self.segments_from(self.start_offset) {
            let limit = self.readable_bytes(segment);
            if segment.base_offset >= self.start_offset && limit == segment.bytes {
                max_timestamp = max_timestamp.max(segment.max_timestamp);
                continue;
            }
            let source = self.source(segment)?;
            let path = segment.log_path(&self.dir);
            let from = segment.position_before_offset(self.start_offset).min(limit);
            let mut walk = Walk::new(source.file(), &path, from, limit);
            while let Some((_, header)) = walk.next()? {
                if header.last_offset() >= self.start_offset {
                    max_timestamp = max_timestamp.max(header.max_timestamp);
                }
            }
        }
        if max_timestamp == NO_TIMESTAMP { Ok(None) } else { self.offset_for_time(max_timestamp) }
    }

    /// The segments that may hold `offset` or what comes after it.
    fn segments_from(&self, offset: i64) -> impl Iterator<Item = &Segment> {
        let after = self.segments.partition_point(|segment| segment.base_offset <= offset);
        self.segments.iter().skip(after.saturating_sub(1))
    }

    fn source(&self, segment: &Segment) -> Result<Source, LogError> {
        if segment.base_offset == self.active_base() {
            return Ok(Source::Active(Arc::clone(&self.active)));
        }
        let path = segment.log_path(&self.dir);
        let file = File::open(&path).map_err(LogError::io("open", path))?;
        Ok(Source::Sealed(Arc::new(file)))
    }

    /// Bytes of the segment's file that are durable; the high watermark is where they end.
    fn readable_bytes(&self, segment: &Segment) -> u64 {
        if segment.base_offset == self.active_base() { self.durable_bytes } else { segment.bytes }
    }
}

/// The last batch boundary at or before `wanted`.
fn last_boundary(walk: &mut Walk<'_>, wanted: u64) -> Result<u64, LogError> {
    let mut boundary = 0;
    while let Some((position, header)) = walk.next()? {
        boundary = position;
        let end = position + header.batch_bytes as u64;
        if end > wanted {
            break;
        }
        boundary = end;
    }
    Ok(boundary)
}

fn first_in_batch(header: &BatchHeader, batch: &[u8], timestamp_ms: i64, start_offset: i64) -> Option<TimestampOffset> {
    let at = |timestamp_ms, offset| TimestampOffset { timestamp_ms, offset, leader_epoch: header.leader_epoch };
    let whole = at(header.max_timestamp, header.base_offset.max(start_offset));
    let Ok(bytes) = uncompressed(header, batch) else { return Some(whole) };
    let Ok(records) = records(header, &bytes) else { return Some(whole) };
    let first = records.iter().find(|record| record.offset >= start_offset && record.timestamp_ms >= timestamp_ms)?;
    Some(at(first.timestamp_ms, first.offset))
}
