use super::{NOW_MS, TestBatch, append, append_at, open, open_with, put, read_all, segments_of};
use crate::log::{LogError, PRODUCERS_MAX};

fn from(producer_id: i64, epoch: i16, base_sequence: i32, count: usize) -> TestBatch {
    TestBatch::plain(count, 10).by(producer_id, epoch, base_sequence)
}

#[test]
fn a_retry_of_one_of_the_last_five_batches_gets_the_offsets_of_then_and_is_not_stored_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    for index in 0..6 {
        put(&mut log, &from(1, 0, index * 2, 2));
    }
    let stored = read_all(&log);
    for index in 1..6 {
        let again = append(&mut log, &from(1, 0, index * 2, 2)).unwrap();
        assert!(again.duplicate);
        assert_eq!((again.base_offset, again.next_offset), (i64::from(index) * 2, i64::from(index) * 2 + 2));
    }
    assert!(log.sync_handle().is_none());
    assert_eq!(read_all(&log), stored);
    // Older than five batches: nobody knows any more where it went.
    assert!(matches!(
        append(&mut log, &from(1, 0, 0, 2)),
        Err(LogError::OutOfOrderSequence { producer_id: 1, sequence: 0, expected: 12 })
    ));
}

#[test]
fn a_gap_in_the_sequence_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    put(&mut log, &from(1, 0, 0, 3));
    assert!(matches!(append(&mut log, &from(1, 0, 4, 1)), Err(LogError::OutOfOrderSequence { expected: 3, .. })));
    assert!(matches!(append(&mut log, &from(1, 0, 0, 2)), Err(LogError::OutOfOrderSequence { expected: 3, .. })));
    assert_eq!(put(&mut log, &from(1, 0, 3, 1)).base_offset, 3);
}

#[test]
fn sequences_wrap_to_zero() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    put(&mut log, &from(1, 0, i32::MAX - 1, 3));
    assert!(append(&mut log, &from(1, 0, i32::MAX - 1, 3)).unwrap().duplicate);
    assert_eq!(put(&mut log, &from(1, 0, 1, 1)).base_offset, 3);
    put(&mut log, &from(2, 0, i32::MAX, 1));
    assert!(!put(&mut log, &from(2, 0, 0, 1)).duplicate);
}

#[test]
fn an_older_epoch_is_refused_and_a_newer_one_starts_at_zero() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    put(&mut log, &from(1, 3, 0, 1));
    assert!(matches!(
        append(&mut log, &from(1, 2, 1, 1)),
        Err(LogError::InvalidProducerEpoch { producer_id: 1, epoch: 2, current: 3 })
    ));
    assert!(matches!(append(&mut log, &from(1, 4, 1, 1)), Err(LogError::OutOfOrderSequence { expected: 0, .. })));
    assert!(!put(&mut log, &from(1, 4, 0, 1)).duplicate, "the sequence of another epoch is no duplicate");
    assert!(matches!(append(&mut log, &from(1, 3, 1, 1)), Err(LogError::InvalidProducerEpoch { .. })));
}

#[test]
fn an_unknown_producer_may_go_on_with_any_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    put(&mut log, &from(1, 5, 100, 2));
    assert!(matches!(append(&mut log, &from(1, 5, 103, 1)), Err(LogError::OutOfOrderSequence { expected: 102, .. })));
}

#[test]
fn duplicates_are_known_after_a_crash_and_after_a_clean_close() {
    for is_clean in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = open_with(dir.path(), segments_of(400));
        for index in 0..10 {
            put(&mut log, &from(1, 0, index, 1));
            put(&mut log, &from(2, 0, index, 1));
        }
        if is_clean {
            log.close().unwrap();
        } else {
            drop(log);
        }
        let mut log = open(dir.path());
        for index in 5..10 {
            let again = append(&mut log, &from(2, 0, index, 1)).unwrap();
            assert_eq!((again.duplicate, again.base_offset), (true, i64::from(index) * 2 + 1));
        }
        assert!(!put(&mut log, &from(1, 0, 10, 1)).duplicate);
    }
}

#[test]
fn a_batch_that_was_cut_is_no_duplicate() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    put(&mut log, &from(1, 0, 0, 1));
    append(&mut log, &from(1, 0, 1, 1)).unwrap();
    let path = log.active.path.clone();
    let length = std::fs::metadata(&path).unwrap().len();
    drop(log);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    let mut log = open(dir.path());
    let again = put(&mut log, &from(1, 0, 1, 1));
    assert_eq!((again.duplicate, again.base_offset), (false, 1));
}

#[test]
fn the_producer_that_was_silent_longest_is_forgotten_when_there_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    for id in 0..=PRODUCERS_MAX as i64 {
        append_at(&mut log, &from(id, 0, 0, 1), NOW_MS + id).unwrap();
    }
    assert!(append(&mut log, &from(1, 0, 0, 1)).unwrap().duplicate);
    assert!(!append(&mut log, &from(0, 0, 0, 1)).unwrap().duplicate);
}
