use std::{fs::OpenOptions, os::unix::fs::FileExt, path::Path};

use super::{NOW_MS, TestBatch, append, files, headers, open, open_with, put, read_all, segments_of};
use crate::log::{LogConfig, LogError, PartitionLog};

fn error_of(dir: &Path) -> LogError {
    PartitionLog::open(dir, LogConfig::default(), NOW_MS).expect_err("the log must not open")
}

fn overwrite(path: &Path, position: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, position).unwrap();
}

/// Ten batches of one record and 5000 bytes, synced, not closed; returns the bytes of one.
fn ten_batches(dir: &Path, config: LogConfig) -> u64 {
    let (mut log, _) = open_with(dir, config);
    for _ in 0..10 {
        put(&mut log, &TestBatch::plain(1, 5000));
    }
    TestBatch::plain(1, 5000).encode().len() as u64
}

#[test]
fn a_torn_tail_is_cut_and_what_was_acknowledged_stays() {
    let batch = TestBatch::plain(2, 100);
    let whole = batch.encode().len() as u64;
    for torn in [1, 16, 60, 61, 62, whole - 1] {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        put(&mut log, &batch);
        let acknowledged = read_all(&log);
        append(&mut log, &batch).unwrap();
        drop(log);
        let path = dir.path().join(format!("{:020}.log", 0));
        OpenOptions::new().write(true).open(&path).unwrap().set_len(whole + torn).unwrap();
        let (mut log, recovery) = open_with(dir.path(), LogConfig::default());
        assert_eq!(recovery.cut_bytes, torn);
        assert_eq!(read_all(&log), acknowledged);
        assert_eq!(put(&mut log, &batch).base_offset, 2, "offsets go on where the log ends");
        drop(log);
        assert_eq!(open_with(dir.path(), LogConfig::default()).1.cut_bytes, 0);
    }
}

#[test]
fn zeros_behind_the_last_batch_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = ten_batches(dir.path(), LogConfig::default());
    let path = dir.path().join(format!("{:020}.log", 0));
    OpenOptions::new().write(true).open(&path).unwrap().set_len(10 * bytes + 100_000).unwrap();
    let (log, recovery) = open_with(dir.path(), LogConfig::default());
    assert_eq!((recovery.cut_bytes, log.end_offset()), (100_000, 10));
    assert!(files(dir.path(), "cut").is_empty());
}

#[test]
fn damage_that_is_followed_by_good_batches_is_an_error_that_names_file_and_position() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = ten_batches(dir.path(), LogConfig::default());
    let path = dir.path().join(format!("{:020}.log", 0));
    // In the records, in the length, in the base offset (which the checksum does not cover), in the checksum.
    for at in [200, 10, 3, 18] {
        let before = std::fs::read(&path).unwrap();
        overwrite(&path, 4 * bytes + at, &[0x55]);
        match error_of(dir.path()) {
            LogError::Corrupt { path: named, position, .. } => assert_eq!((named, position), (path.clone(), 4 * bytes)),
            other => panic!("{other}"),
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), before.len() as u64, "nothing was cut");
        std::fs::write(&path, before).unwrap();
    }
    assert_eq!(open(dir.path()).end_offset(), 10);
}

#[test]
fn a_page_that_never_reached_the_disk_ends_the_log_and_what_came_behind_it_is_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = ten_batches(dir.path(), LogConfig::default());
    let path = dir.path().join(format!("{:020}.log", 0));
    let page = (6 * bytes).next_multiple_of(4096);
    assert!(page + 4096 <= 8 * bytes, "the page lies in the batches 6 and 7");
    overwrite(&path, page, &[0; 4096]);
    let (log, recovery) = open_with(dir.path(), LogConfig::default());
    assert_eq!((log.end_offset(), recovery.cut_bytes), (6, 4 * bytes));
    assert_eq!(std::fs::metadata(path.with_extension("cut")).unwrap().len(), 4 * bytes);
}

#[test]
fn a_segment_that_is_shorter_than_when_it_was_synced_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    ten_batches(dir.path(), segments_of(16_000));
    let path = dir.path().join(format!("{:020}.log", 3));
    OpenOptions::new().write(true).open(&path).unwrap().set_len(7000).unwrap();
    assert!(matches!(error_of(dir.path()), LogError::Corrupt { path: named, position: 7000, .. } if named == path));

    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    put(&mut log, &TestBatch::plain(1, 100));
    log.close().unwrap();
    let path = dir.path().join(format!("{:020}.log", 0));
    OpenOptions::new().write(true).open(&path).unwrap().set_len(10).unwrap();
    assert!(matches!(error_of(dir.path()), LogError::Corrupt { position: 10, .. }));
}

#[test]
fn damage_in_a_rolled_segment_whose_index_is_lost_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = ten_batches(dir.path(), segments_of(16_000));
    let base = format!("{:020}", 3);
    std::fs::remove_file(dir.path().join(format!("{base}.index"))).unwrap();
    overwrite(&dir.path().join(format!("{base}.log")), 2 * bytes + 100, b"damage");
    assert!(matches!(error_of(dir.path()), LogError::Corrupt { position, .. } if position == 2 * bytes));
}

#[test]
fn lost_or_damaged_indexes_and_snapshots_are_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    ten_batches(dir.path(), segments_of(16_000));
    let before = read_all(&open(dir.path()));
    for name in files(dir.path(), "index") {
        overwrite(&dir.path().join(name), 20, b"damage");
    }
    std::fs::remove_file(dir.path().join("producers.snapshot")).unwrap();
    let (log, recovery) = open_with(dir.path(), LogConfig::default());
    assert_eq!(read_all(&log), before);
    assert!(recovery.scanned_bytes > 40_000);
    assert_eq!(headers(&before).len(), 10);
}

#[test]
fn a_missing_segment_is_an_error_wherever_it_was() {
    for (lost, from, to) in [(0, 0, 3), (3, 3, 6), (9, 9, 9)] {
        let dir = tempfile::tempdir().unwrap();
        ten_batches(dir.path(), segments_of(16_000));
        std::fs::remove_file(dir.path().join(format!("{lost:020}.log"))).unwrap();
        match error_of(dir.path()) {
            LogError::MissingSegment { from: f, to: t, .. } => assert_eq!((f, t), (from, to)),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn damaged_checkpoints_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    put(&mut log, &TestBatch::plain(5, 10));
    log.delete_records(2).unwrap();
    drop(log);
    for name in ["log-start.checkpoint", "leader-epochs.checkpoint"] {
        let path = dir.path().join(name);
        let good = std::fs::read(&path).unwrap();
        overwrite(&path, 14, &[0xff]);
        assert!(matches!(error_of(dir.path()), LogError::Corrupt { path: named, .. } if named == path));
        std::fs::write(&path, &good[..5]).unwrap();
        assert!(matches!(error_of(dir.path()), LogError::Corrupt { .. }));
        std::fs::write(&path, good).unwrap();
    }
    assert_eq!(open(dir.path()).start_offset(), 2);
}

#[test]
fn several_gigabytes_are_not_read_to_open_a_log() {
    let dir = tempfile::tempdir().unwrap();
    ten_batches(dir.path(), segments_of(16_000));
    let (_, recovery) = open_with(dir.path(), LogConfig::default());
    let active = std::fs::metadata(dir.path().join(format!("{:020}.log", 9))).unwrap().len();
    assert_eq!(recovery.scanned_bytes, active, "only what came after the last roll");
}
