use super::{NOW_MS, TestBatch, append, append_at, files, open, open_with, put, read_all, segments_of};
use crate::log::{Cleanup, LogConfig, LogError, PartitionLog, Removed};

/// Ten segments of one batch each; the record at offset `n` has the timestamp `NOW_MS + n`.
fn ten_segments(dir: &std::path::Path, config: LogConfig) -> (PartitionLog, u64) {
    let (mut log, _) = open_with(dir, LogConfig { segment_bytes: 1000, ..config });
    for offset in 0..10 {
        put(&mut log, &TestBatch::plain(1, 600).at(NOW_MS + offset));
    }
    assert_eq!(files(dir, "log").len(), 10);
    (log, TestBatch::plain(1, 600).encode().len() as u64)
}

#[test]
fn retention_by_bytes_deletes_the_oldest_segments_and_keeps_at_least_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, bytes) = ten_segments(dir.path(), LogConfig { retention_ms: None, ..LogConfig::default() });
    assert_eq!(log.retain(i64::MAX, i64::MAX).unwrap(), Removed::default(), "no limit, nothing goes");
    log.set_config(LogConfig { retention_bytes: Some(bytes * 4 + 1), retention_ms: None, ..segments_of(1000) });
    assert_eq!(log.retain(NOW_MS, i64::MAX).unwrap(), Removed { segments: 5, bytes: 5 * bytes });
    assert_eq!((log.start_offset(), log.bytes()), (5, 5 * bytes));
    assert!(matches!(log.read(4, 1), Err(LogError::OffsetOutOfRange { start: 5, .. })));
    assert_eq!(log.retain(NOW_MS, i64::MAX).unwrap(), Removed::default());
}

#[test]
fn retention_by_time_goes_by_the_newest_record_of_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = ten_segments(dir.path(), LogConfig { retention_ms: Some(1000), ..LogConfig::default() });
    assert_eq!(log.retain(NOW_MS + 1003, i64::MAX).unwrap().segments, 3);
    assert_eq!(log.start_offset(), 3);
}

#[test]
fn when_everything_is_too_old_the_active_segment_goes_too_and_offsets_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = ten_segments(dir.path(), LogConfig { retention_ms: Some(1000), ..LogConfig::default() });
    assert_eq!(log.retain(NOW_MS + 5000, i64::MAX).unwrap().segments, 10);
    assert_eq!((log.start_offset(), log.high_watermark(), log.bytes()), (10, 10, 0));
    assert_eq!(put(&mut log, &TestBatch::plain(1, 10)).base_offset, 10);
    drop(log);
    let log = open(dir.path());
    assert_eq!((log.start_offset(), log.high_watermark()), (10, 11));
}

#[test]
fn nothing_that_a_group_still_needs_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { retention_ms: Some(1000), retention_bytes: Some(0), ..LogConfig::default() };
    let (mut log, _) = ten_segments(dir.path(), config);
    assert_eq!(log.retain(NOW_MS + 5000, 4).unwrap().segments, 4);
    assert_eq!(log.start_offset(), 4);
    assert_eq!(log.retain(NOW_MS + 5000, 4).unwrap(), Removed::default());
    assert_eq!(log.retain(NOW_MS + 5000, 9).unwrap().segments, 5, "the active segment holds offset 9");
}

#[test]
fn what_is_not_durable_is_not_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    append(&mut log, &TestBatch::plain(1, 10).at(0)).unwrap();
    assert_eq!(log.retain(NOW_MS * 2, i64::MAX).unwrap(), Removed::default());
    log.sync().unwrap();
    assert_eq!(log.retain(NOW_MS * 2, i64::MAX).unwrap().segments, 1);
}

#[test]
fn a_compacted_log_is_not_deleted_by_retention() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { retention_bytes: Some(0), cleanup: Cleanup::Compact, ..LogConfig::default() };
    let (mut log, _) = ten_segments(dir.path(), config);
    assert_eq!(log.retain(i64::MAX, i64::MAX).unwrap(), Removed::default());
}

#[test]
fn records_without_timestamps_age_from_the_start_of_their_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open_with(dir.path(), LogConfig { retention_ms: Some(1000), ..LogConfig::default() });
    put(&mut log, &TestBatch::plain(1, 10).at(-1));
    assert_eq!(log.retain(NOW_MS + 500, i64::MAX).unwrap(), Removed::default());
    assert_eq!(log.retain(NOW_MS + 1500, i64::MAX).unwrap().segments, 1);
}

#[test]
fn deleted_records_stay_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = ten_segments(dir.path(), LogConfig::default());
    assert_eq!(log.delete_records(7).unwrap(), 7);
    assert_eq!(log.delete_records(3).unwrap(), 7, "the start never goes back");
    assert!(matches!(log.delete_records(11), Err(LogError::OffsetOutOfRange { offset: 11, start: 7, end: 10 })));
    assert!(matches!(log.delete_records(-2), Err(LogError::OffsetOutOfRange { .. })));
    assert_eq!(files(dir.path(), "log").len(), 3);
    drop(log);
    let mut log = open(dir.path());
    assert_eq!((log.start_offset(), log.high_watermark()), (7, 10));
    assert_eq!(log.delete_records(-1).unwrap(), 10);
    assert!(read_all(&log).is_empty());
    drop(log);
    let log = open(dir.path());
    assert_eq!((log.start_offset(), log.end_offset()), (10, 10));
}

#[test]
fn segments_that_a_crash_left_below_the_start_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = ten_segments(dir.path(), LogConfig::default());
    drop(log);
    // What a crash between moving the start and removing the files leaves.
    crate::log::recovery::save_start(dir.path(), 6).unwrap();
    let log = open(dir.path());
    assert_eq!((log.start_offset(), log.high_watermark()), (6, 10));
    assert_eq!(files(dir.path(), "log").len(), 4);
}

#[test]
fn a_segment_is_rolled_when_it_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open_with(dir.path(), LogConfig { segment_ms: 1000, ..LogConfig::default() });
    append_at(&mut log, &TestBatch::plain(1, 10), NOW_MS + 999).unwrap();
    append_at(&mut log, &TestBatch::plain(1, 10), NOW_MS + 999).unwrap();
    assert_eq!(files(dir.path(), "log").len(), 1);
    append_at(&mut log, &TestBatch::plain(1, 10), NOW_MS + 1000).unwrap();
    assert_eq!(files(dir.path(), "log").len(), 2);
}
