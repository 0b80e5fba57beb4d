//! Random operations on a log and on the simplest thing that says what the log must say.

use std::fs::OpenOptions;

use proptest::prelude::*;

use super::{NOW_MS, TestBatch, append, headers, read_all};
use crate::log::{LogConfig, LogError, PartitionLog};

#[derive(Debug, Clone)]
enum Operation {
    Append {
        count: usize,
        value_bytes: usize,
    },
    /// Sends the producer's batch with this distance from its last one again.
    Retry {
        back: usize,
    },
    Sync,
    /// Begins a sync, appends, and ends the sync.
    SyncAcross,
    Read {
        offset: i64,
        bytes_max: usize,
    },
    /// The process dies; of what was not synced, this share of bytes is on the disk.
    Crash {
        kept: u8,
    },
    Close,
    Retain {
        retention_bytes: u64,
        floor: i64,
    },
    DeleteRecords {
        before: i64,
    },
    LookUpTime {
        timestamp_ms: i64,
    },
    LoseIndexes,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (1..6_usize, 0..900_usize).prop_map(|(count, value_bytes)| Operation::Append { count, value_bytes }),
        1 => (0..6_usize).prop_map(|back| Operation::Retry { back }),
        4 => Just(Operation::Sync),
        1 => Just(Operation::SyncAcross),
        4 => (-2..60_i64, 0..4000_usize).prop_map(|(offset, bytes_max)| Operation::Read { offset, bytes_max }),
        1 => any::<u8>().prop_map(|kept| Operation::Crash { kept }),
        1 => Just(Operation::Close),
        1 => (0..4000_u64, 0..60_i64).prop_map(|(retention_bytes, floor)| Operation::Retain { retention_bytes, floor }),
        1 => (-1..60_i64).prop_map(|before| Operation::DeleteRecords { before }),
        2 => (-1..70_i64).prop_map(|offset| Operation::LookUpTime { timestamp_ms: NOW_MS + offset }),
        1 => Just(Operation::LoseIndexes),
    ]
}

/// What was appended: (base offset, next offset, the stored bytes behind the leader epoch, the batch).
#[derive(Debug, Default)]
struct Model {
    batches: Vec<(i64, i64, Vec<u8>, TestBatch)>,
    start: i64,
    durable: i64,
}

impl Model {
    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |&(_, next, ..)| next)
    }

    fn push(&mut self, batch: TestBatch) {
        let (base, bytes) = (self.end(), batch.encode());
        self.batches.push((base, base + batch.records.len() as i64, bytes[16..].to_vec(), batch));
    }

    fn next_batch(&self, count: usize, value_bytes: usize) -> TestBatch {
        // Timestamps are offsets, so that a look-up by time is one by offset.
        TestBatch::plain(count, value_bytes).at(NOW_MS + self.end()).by(5, 0, self.end() as i32)
    }
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 3000, retention_ms: None, ..LogConfig::default() }
}

fn reopen(dir: &std::path::Path) -> PartitionLog {
    PartitionLog::open(dir, config(), NOW_MS).expect("the log opens").0
}

fn check(log: &PartitionLog, model: &Model) {
    assert_eq!((log.start_offset(), log.high_watermark(), log.end_offset()), (model.start, model.durable, model.end()));
    let readable = model.batches.iter().filter(|&&(_, next, ..)| next > model.start && next <= model.durable);
    let bytes = read_all(log);
    let mut rest = bytes.as_slice();
    for (base, _, stored, _) in readable {
        let header = headers(&rest[..16 + stored.len()])[0];
        assert_eq!(header.base_offset, *base);
        assert_eq!(&rest[16..16 + stored.len()], stored.as_slice());
        rest = &rest[16 + stored.len()..];
    }
    assert!(rest.is_empty(), "nothing else is readable");
}

fn run(operations: Vec<Operation>) {
    let dir = super::memory_dir();
    let mut log = reopen(dir.path());
    let mut model = Model::default();
    for operation in operations {
        match operation {
            Operation::Append { count, value_bytes } => {
                let batch = model.next_batch(count, value_bytes);
                let appended = append(&mut log, &batch).unwrap();
                assert_eq!((appended.base_offset, appended.duplicate), (model.end(), false));
                model.push(batch);
                assert_eq!(appended.next_offset, model.end());
                assert!(log.high_watermark() >= model.durable, "a roll may move it");
                model.durable = log.high_watermark();
            }
            Operation::Retry { back } => {
                let Some(at) = model.batches.len().checked_sub(back + 1) else { continue };
                let (base, next, _, batch) = &model.batches[at];
                match append(&mut log, batch) {
                    Ok(again) => assert_eq!((again.base_offset, again.next_offset, again.duplicate), (*base, *next, true)),
                    Err(error) => assert!(back >= 5 && matches!(error, LogError::OutOfOrderSequence { .. }), "{error}"),
                }
            }
            Operation::Sync => {
                model.durable = model.end();
                assert_eq!(log.sync().unwrap(), model.durable);
            }
            Operation::SyncAcross => {
                let handle = log.sync_handle();
                let before = model.end();
                let batch = model.next_batch(1, 100);
                append(&mut log, &batch).unwrap();
                model.push(batch);
                if let Some(handle) = handle {
                    let outcome = handle.sync();
                    log.complete_sync(outcome).unwrap();
                }
                assert!(log.high_watermark() >= before);
                model.durable = log.high_watermark();
            }
            Operation::Read { offset, bytes_max } => match log.read(offset, bytes_max) {
                Ok(slice) => {
                    assert!((model.start..=model.durable).contains(&offset));
                    let mut bytes = Vec::new();
                    slice.read_into(&mut bytes).unwrap();
                    let headers = headers(&bytes);
                    assert_eq!(headers.is_empty(), offset == model.durable);
                    assert!(headers.len() <= 1 || bytes.len() <= bytes_max);
                    if let (Some(first), Some(last)) = (headers.first(), headers.last()) {
                        assert!((first.base_offset..first.next_offset()).contains(&offset));
                        assert!(last.next_offset() <= model.durable);
                    }
                }
                Err(error) => {
                    assert!(matches!(error, LogError::OffsetOutOfRange { .. }), "{error}");
                    assert!(!(model.start..=model.durable).contains(&offset));
                }
            },
            Operation::Crash { kept } => {
                let (path, durable_bytes) = (log.active.path.clone(), log.durable_bytes);
                drop(log);
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                let length = file.metadata().unwrap().len();
                let kept_bytes = durable_bytes + (length - durable_bytes) * u64::from(kept) / 255;
                file.set_len(kept_bytes).unwrap();
                log = reopen(dir.path());
                assert!(log.high_watermark() >= model.durable, "what was durable is there");
                let end = log.end_offset();
                model.batches.retain(|&(_, next, ..)| next <= end);
                model.durable = end;
            }
            Operation::Close => {
                log.close().unwrap();
                model.durable = model.end();
                log = reopen(dir.path());
            }
            Operation::Retain { retention_bytes, floor } => {
                log.set_config(LogConfig { retention_bytes: Some(retention_bytes), ..config() });
                let before = log.start_offset();
                let removed = log.retain(NOW_MS, floor).unwrap();
                log.set_config(config());
                assert!(log.start_offset() <= before.max(floor) && log.start_offset() <= log.high_watermark());
                assert_eq!(removed.segments > 0, log.start_offset() > before && removed.bytes > 0);
                model.start = log.start_offset();
                model.durable = log.high_watermark();
            }
            Operation::DeleteRecords { before } => {
                let wanted = if before == -1 { model.durable } else { before };
                match log.delete_records(before) {
                    Ok(start) => {
                        model.start = model.start.max(wanted);
                        assert_eq!(start, model.start);
                    }
                    Err(error) => {
                        assert!(matches!(error, LogError::OffsetOutOfRange { .. }), "{error}");
                        assert!(wanted > model.durable);
                    }
                }
            }
            Operation::LookUpTime { timestamp_ms } => {
                let wanted = (timestamp_ms - NOW_MS).max(model.start);
                let found = log.offset_for_time(timestamp_ms).unwrap().map(|found| (found.offset, found.timestamp_ms - NOW_MS));
                assert_eq!(found, (wanted < model.durable).then_some((wanted, wanted)));
                let max = log.max_timestamp().unwrap().map(|found| found.offset);
                assert_eq!(max, (model.start < model.durable).then_some(model.durable - 1));
            }
            Operation::LoseIndexes => {
                log.close().unwrap();
                model.durable = model.end();
                for name in super::files(dir.path(), "index") {
                    std::fs::remove_file(dir.path().join(name)).unwrap();
                }
                log = reopen(dir.path());
            }
        }
        check(&log, &model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_leaves_what_the_model_says(operations in prop::collection::vec(operation(), 1..60)) {
        run(operations);
    }
}
