//! What makes a log shorter at its front: retention by age and size, and DeleteRecords.

use super::{
    LogError, PartitionLog, Removed, checkpoint, recovery,
    segment::{NO_TIMESTAMP, Segment, index_path, log_path},
};

impl PartitionLog {
    /// Deletes whole segments that are too old (their newest record is older than `retention_ms`), or that the log does not
    /// need to hold `retention_bytes`; none that holds offsets at or above `floor` (the lowest offset that a registered
    /// group still needs; `i64::MAX` for none). An active segment that is too old as a whole is rolled and goes too.
    pub fn retain(&mut self, now_ms: i64, floor: i64) -> Result<Removed, LogError> {
        self.ensure_online()?;
        if !self.config.cleanup.deletes() {
            return Ok(Removed::default());
        }
        let is_done_with = |segment: &Segment| segment.next_offset <= floor.min(self.high_watermark) && segment.bytes > 0;
        if self.segments.iter().all(|segment| is_done_with(segment) && self.is_expired(segment, now_ms)) {
            self.roll(now_ms)?;
        }
        let mut spare_bytes = self.config.retention_bytes.map_or(0, |limit| self.bytes().saturating_sub(limit));
        let mut start_offset = self.start_offset;
        for segment in self.sealed() {
            let is_spare = segment.bytes <= spare_bytes;
            if segment.next_offset > floor || !(is_spare || self.is_expired(segment, now_ms)) {
                break;
            }
            spare_bytes = spare_bytes.saturating_sub(segment.bytes);
            start_offset = start_offset.max(segment.next_offset);
        }
        self.move_start(start_offset)
    }

    /// Moves the log's start to `before_offset` (-1 for the high watermark) and deletes the segments that lie below it.
    /// Returns the new start offset; one that lies below the start already changes nothing.
    pub fn delete_records(&mut self, before_offset: i64) -> Result<i64, LogError> {
        self.ensure_online()?;
        let before_offset = if before_offset == -1 { self.high_watermark } else { before_offset };
        if !(0..=self.high_watermark).contains(&before_offset) {
            let (start, end) = (self.start_offset, self.high_watermark);
            return Err(LogError::OffsetOutOfRange { offset: before_offset, start, end });
        }
        self.move_start(before_offset)?;
        Ok(self.start_offset)
    }

    fn is_expired(&self, segment: &Segment, now_ms: i64) -> bool {
        // Without a timestamp the time at which the segment was begun stands for it.
        let newest_ms = if segment.max_timestamp == NO_TIMESTAMP { segment.created_ms } else { segment.max_timestamp };
        self.config.retention_ms.is_some_and(|retention_ms| now_ms.saturating_sub(newest_ms) > retention_ms)
    }

    /// First the durable note of the new start, then the removal: a crash between them leaves files that opening removes.
    fn move_start(&mut self, start_offset: i64) -> Result<Removed, LogError> {
        let mut removed = Removed::default();
        if start_offset <= self.start_offset {
            return Ok(removed);
        }
        recovery::save_start(&self.dir, start_offset)?;
        self.start_offset = start_offset;
        while self.segments.get(1).is_some_and(|next| next.base_offset <= start_offset) {
            let segment = self.segments.remove(0);
            removed.segments += 1;
            removed.bytes += segment.bytes;
            recovery::remove(&log_path(&self.dir, segment.base_offset))?;
            recovery::remove(&index_path(&self.dir, segment.base_offset))?;
        }
        if removed.segments > 0 {
            checkpoint::sync_dir(&self.dir)?;
        }
        Ok(removed)
    }
}
