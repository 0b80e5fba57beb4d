use super::{NOW_MS, TestBatch, append, open, put, read_all};
use crate::log::{LogConfig, LogError, PartitionLog};

#[test]
fn what_is_not_synced_is_not_readable() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let batch = TestBatch::plain(3, 10);
    append(&mut log, &batch).unwrap();
    assert_eq!((log.high_watermark(), log.end_offset()), (0, 3));
    assert!(log.read(0, 1 << 20).unwrap().is_empty());
    assert!(matches!(log.read(1, 1 << 20), Err(LogError::OffsetOutOfRange { offset: 1, start: 0, end: 0 })));
    assert_eq!(log.sync().unwrap(), 3);
    assert_eq!(log.read(1, 1 << 20).unwrap().len(), batch.encode().len());
    assert!(log.sync_handle().is_none(), "nothing is left to sync");
}

#[test]
fn one_sync_makes_durable_what_was_appended_before_it_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    append(&mut log, &TestBatch::plain(1, 10)).unwrap();
    append(&mut log, &TestBatch::plain(1, 10)).unwrap();
    let first = log.sync_handle().unwrap();
    append(&mut log, &TestBatch::plain(5, 10)).unwrap();
    let second = log.sync_handle().unwrap();
    let (first, second) = (first.sync(), second.sync());
    assert_eq!(log.complete_sync(first).unwrap(), 2);
    assert_eq!(super::headers(&read_all(&log)).len(), 2);
    assert_eq!(log.complete_sync(second).unwrap(), 7);
}

#[test]
fn a_sync_that_ends_after_a_later_one_moves_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    append(&mut log, &TestBatch::plain(1, 10)).unwrap();
    let early = log.sync_handle().unwrap().sync();
    put(&mut log, &TestBatch::plain(1, 10));
    assert_eq!(log.complete_sync(early).unwrap(), 2);
}

#[test]
fn a_roll_makes_the_old_segment_durable_and_a_sync_of_it_in_flight_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = super::open_with(dir.path(), super::segments_of(500));
    append(&mut log, &TestBatch::plain(1, 300)).unwrap();
    let handle = log.sync_handle().unwrap();
    append(&mut log, &TestBatch::plain(1, 300)).unwrap();
    assert_eq!(super::files(dir.path(), "log").len(), 2);
    assert_eq!(log.high_watermark(), 1, "the rolled segment is durable");
    let outcome = handle.sync();
    assert_eq!(log.complete_sync(outcome).unwrap(), 1);
    assert_eq!(log.sync().unwrap(), 2);
}

/// A second fsync after a failed one says that all is well although the pages are lost ("fsyncgate").
#[test]
fn a_failed_sync_takes_the_partition_offline_until_it_is_reopened_and_only_what_was_durable_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let durable = TestBatch::plain(2, 10).by(9, 0, 0);
    put(&mut log, &durable);
    let lost = TestBatch::plain(3, 10).by(9, 0, 2);
    append(&mut log, &lost).unwrap();
    log.active.fail_syncs();
    assert!(matches!(log.sync(), Err(LogError::Offline { .. })));
    assert!(log.offline().is_some());
    assert!(matches!(log.sync(), Err(LogError::Offline { .. })), "it is not tried again");
    assert!(matches!(append(&mut log, &lost), Err(LogError::Offline { .. })));
    assert!(matches!(log.read(0, 1), Err(LogError::Offline { .. })));
    assert!(matches!(log.retain(NOW_MS, i64::MAX), Err(LogError::Offline { .. })));
    assert!(matches!(log.delete_records(1), Err(LogError::Offline { .. })));
    assert!(log.sync_handle().is_none());
    drop(log);
    let mut log = open(dir.path());
    assert_eq!((log.high_watermark(), log.end_offset()), (2, 2));
    let again = put(&mut log, &lost);
    assert_eq!((again.base_offset, again.duplicate), (2, false), "the producer's retry is not taken for a duplicate");
}

#[test]
fn an_append_after_a_sync_failed_in_the_background_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    append(&mut log, &TestBatch::plain(1, 10)).unwrap();
    log.active.fail_syncs();
    let failed = log.sync_handle().unwrap().sync();
    assert!(failed.is_err());
    assert!(matches!(append(&mut log, &TestBatch::plain(1, 10)), Err(LogError::Offline { .. })));
}

#[test]
fn after_a_clean_close_nothing_is_read_again_and_everything_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    for _ in 0..20 {
        put(&mut log, &TestBatch::plain(10, 100));
    }
    let before = read_all(&log);
    log.close().unwrap();
    let (log, recovery) = PartitionLog::open(dir.path(), LogConfig::default(), NOW_MS).unwrap();
    assert_eq!(recovery, crate::log::Recovery::default());
    assert_eq!(read_all(&log), before);
}
