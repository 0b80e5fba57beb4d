use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use super::{BATCH_BYTES_MAX, NOW_MS, TestBatch, headers, open, open_with, put, segments_of};
use crate::log::{EpochEnd, LogError, PartitionLog, validate};

fn read(log: &PartitionLog, offset: i64, bytes_max: usize) -> Vec<i64> {
    let mut bytes = Vec::new();
    log.read(offset, bytes_max).unwrap().read_into(&mut bytes).unwrap();
    headers(&bytes).iter().map(|header| header.base_offset).collect()
}

#[test]
fn a_read_starts_with_the_batch_that_holds_the_offset_and_ends_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let bytes = TestBatch::plain(3, 1000).encode().len();
    for _ in 0..40 {
        put(&mut log, &TestBatch::plain(3, 1000));
    }
    for offset in 0..120 {
        let first = offset / 3 * 3;
        assert_eq!(read(&log, offset, 1), [first], "one batch at least");
        assert_eq!(read(&log, offset, bytes), [first]);
        assert_eq!(read(&log, offset, 3 * bytes - 1).len(), 2.min((120 - first) / 3) as usize);
        assert_eq!(read(&log, offset, usize::MAX).len() as i64, (120 - first) / 3);
    }
    assert!(log.read(120, 1).unwrap().is_empty());
    for offset in [-1, 121, i64::MAX, i64::MIN] {
        assert!(matches!(log.read(offset, 1), Err(LogError::OffsetOutOfRange { start: 0, end: 120, .. })));
    }
}

#[test]
fn reading_on_from_each_slice_passes_every_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open_with(dir.path(), segments_of(10_000));
    for _ in 0..100 {
        put(&mut log, &TestBatch::plain(2, 500));
    }
    assert!(super::files(dir.path(), "log").len() > 10);
    let bases: Vec<i64> = headers(&super::read_all(&log)).iter().map(|header| header.base_offset).collect();
    assert_eq!(bases, (0..100).map(|index| index * 2).collect::<Vec<_>>());
}

#[test]
fn a_slice_stays_readable_when_its_segment_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open_with(dir.path(), segments_of(1000));
    for _ in 0..5 {
        put(&mut log, &TestBatch::plain(1, 600));
    }
    let slice = log.read(0, 1).unwrap();
    log.delete_records(4).unwrap();
    let mut bytes = Vec::new();
    slice.read_into(&mut bytes).unwrap();
    assert_eq!(headers(&bytes)[0].base_offset, 0);
}

#[test]
fn a_time_is_found_to_the_record_in_batches_of_every_codec() {
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        for batch in 0..3 {
            let records: Vec<Record> = (0..10).map(|index| record(index, NOW_MS + batch * 100 + index * 10)).collect();
            let mut bytes = BytesMut::new();
            RecordBatchEncoder::encode(&mut bytes, &records, &RecordEncodeOptions { version: 2, compression }).unwrap();
            let batches = validate(&bytes, BATCH_BYTES_MAX).unwrap();
            log.append(&batches, 1, NOW_MS).unwrap();
        }
        log.sync().unwrap();
        let at =
            |timestamp_ms| log.offset_for_time(timestamp_ms).unwrap().map(|found| (found.offset, found.timestamp_ms - NOW_MS));
        assert_eq!(at(0), Some((0, 0)), "{compression:?}");
        assert_eq!(at(NOW_MS + 41), Some((5, 50)), "{compression:?}");
        assert_eq!(at(NOW_MS + 290), Some((29, 290)), "{compression:?}");
        assert_eq!(at(NOW_MS + 291), None, "{compression:?}");
        let max = log.max_timestamp().unwrap().unwrap();
        assert_eq!((max.offset, max.timestamp_ms, max.leader_epoch), (29, NOW_MS + 290, 1), "{compression:?}");
    }
}

fn record(offset: i64, timestamp: i64) -> Record {
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        // The encoder begins a new batch where offset and sequence do not go on together.
        sequence: offset as i32,
        timestamp,
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::from_static(&[7; 200])),
        headers: Default::default(),
    }
}

#[test]
fn times_that_go_back_and_forth_are_found_in_any_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open_with(dir.path(), segments_of(2000));
    let times = [50, 10, 90, 20, 95, 5, 70, 95, 1];
    for time in times {
        put(&mut log, &TestBatch::plain(1, 900).at(NOW_MS + time));
    }
    for wanted in 0..100 {
        let expected = times.iter().position(|&time| time >= wanted).map(|offset| offset as i64);
        assert_eq!(log.offset_for_time(NOW_MS + wanted).unwrap().map(|found| found.offset), expected, "{wanted}");
    }
    assert_eq!(log.max_timestamp().unwrap().unwrap().offset, 4);
    log.delete_records(5).unwrap();
    assert_eq!(log.max_timestamp().unwrap().unwrap().offset, 7);
    assert_eq!(log.offset_for_time(0).unwrap().unwrap().offset, 5, "below the start nothing is found");
    log.delete_records(-1).unwrap();
    assert_eq!((log.max_timestamp().unwrap(), log.offset_for_time(0).unwrap()), (None, None));
}

#[test]
fn the_end_of_an_epoch_is_where_the_next_one_starts() {
    let dir = tempfile::tempdir().unwrap();
    let append = |epoch, count: usize| {
        let mut log = open(dir.path());
        let bytes = TestBatch::plain(count, 10).encode();
        log.append(&validate(&bytes, BATCH_BYTES_MAX).unwrap(), epoch, NOW_MS).unwrap();
        log.sync().unwrap();
    };
    append(2, 3);
    append(4, 2);
    append(4, 1);
    append(7, 1);
    let log = open(dir.path());
    let end = |requested, current| {
        log.epoch_end(requested, current).map(|EpochEnd { leader_epoch, end_offset }| (leader_epoch, end_offset))
    };
    assert_eq!(log.last_epoch(), 7);
    assert_eq!(end(2, 7), Some((2, 3)));
    assert_eq!(end(3, 7), Some((2, 3)));
    assert_eq!(end(4, 7), Some((4, 6)));
    assert_eq!(end(7, 7), Some((7, 7)));
    assert_eq!(end(7, 8), Some((7, 7)), "the leader's epoch has written nothing yet");
    assert_eq!(end(8, 8), Some((8, 7)));
    assert_eq!(end(1, 7), Some((1, 0)), "before the first epoch");
    assert_eq!(end(9, 8), None, "an epoch that nobody has had");
    assert_eq!(end(-1, 8), None);
}
