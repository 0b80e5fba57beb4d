use std::collections::HashMap;

use super::{BATCH_BYTES_MAX, NOW_MS, TestBatch, files, headers, memory_dir, open_with, put, read_all, records_of};
use crate::log::{Cleanup, LogConfig, LogError, PartitionLog, Removed, ValidBatches, recovery, validate};

const DAY_MS: i64 = 24 * 3_600_000;

fn config() -> LogConfig {
    LogConfig { segment_bytes: 400, cleanup: Cleanup::Compact, delete_retention_ms: DAY_MS, ..LogConfig::default() }
}

fn compact(log: &mut PartitionLog, now_ms: i64) -> Removed {
    let Some(compaction) = log.compaction(now_ms) else { return Removed::default() };
    let compacted = compaction.run(0).unwrap();
    log.install(compacted).unwrap()
}

fn keys_of(log: &PartitionLog) -> Vec<(i64, String)> {
    records_of(log).into_iter().map(|(offset, key, _)| (offset, key)).collect()
}

/// What compaction must keep: every record of the active segment, and below it the last of each key.
fn expected(log: &PartitionLog) -> Vec<(i64, String, bool)> {
    let all = records_of(log);
    let active = log.active_base();
    let last: HashMap<_, _> = all.iter().filter(|(offset, ..)| *offset < active).map(|(offset, key, _)| (key, offset)).collect();
    all.iter().filter(|(offset, key, _)| *offset >= active || last[key] == offset).cloned().collect()
}

#[test]
fn the_last_record_of_each_key_stays_with_its_offset() {
    let dir = memory_dir();
    let (mut log, _) = open_with(dir.path(), config());
    for round in 0..30 {
        let keys: Vec<String> = (0..3).map(|index| format!("key-{}", (round * 7 + index * 3) % 11)).collect();
        put(&mut log, &TestBatch::keyed(&keys.iter().map(|key| (key.as_str(), Some("value"))).collect::<Vec<_>>()));
    }
    let expected = expected(&log);
    let (end, bytes) = (log.end_offset(), log.bytes());
    let removed = compact(&mut log, NOW_MS);
    assert_eq!(removed.bytes, bytes - log.bytes());
    assert!(removed.bytes > bytes / 3);
    assert_eq!(records_of(&log), expected);
    assert_eq!((log.start_offset(), log.end_offset()), (0, end));
    for batch in headers(&read_all(&log)) {
        assert!(batch.last_offset_delta <= 2);
    }
    assert!(validate(&read_all(&log), BATCH_BYTES_MAX).is_err(), "a client may not produce such batches");
    for offset in 0..=end {
        log.read(offset, 1).unwrap();
    }
    drop(log);
    let (log, recovery) = open_with(dir.path(), config());
    assert_eq!(records_of(&log), expected);
    assert!(recovery.scanned_bytes < 400);
    // Without the indexes everything is read again, and the gaps are no damage.
    drop(log);
    files(dir.path(), "index").iter().for_each(|name| std::fs::remove_file(dir.path().join(name)).unwrap());
    assert_eq!(records_of(&open_with(dir.path(), config()).0), expected);
}

#[test]
fn a_key_table_that_does_not_hold_all_keys_leads_to_the_same_result() {
    let dir = memory_dir();
    let config = LogConfig { segment_bytes: 20_000, ..config() };
    let (mut log, _) = open_with(dir.path(), config);
    // More keys than fit into the smallest table (64 KiB), each twice.
    for round in 0..2 {
        for index in 0..3000 {
            let key = format!("key-{index}");
            super::append(&mut log, &TestBatch::keyed(&[(&key, Some("value")), ("common", Some(&round.to_string()))])).unwrap();
        }
    }
    log.sync().unwrap();
    let expected = expected(&log);
    compact(&mut log, NOW_MS);
    assert_eq!(records_of(&log), expected);
    assert!(expected.len() < 3300);
    assert!(files(dir.path(), "cleaned").is_empty());
}

#[test]
fn a_tombstone_is_kept_for_the_time_that_consumers_need_to_see_it() {
    let dir = memory_dir();
    let (mut log, _) = open_with(dir.path(), config());
    put(&mut log, &TestBatch::keyed(&[("gone", Some("value")), ("stays", Some("value"))]));
    put(&mut log, &TestBatch::keyed(&[("gone", None)]));
    while log.active_base() < 3 {
        put(&mut log, &TestBatch::keyed(&[("filler", Some("value"))]));
    }
    compact(&mut log, NOW_MS);
    assert!(records_of(&log).contains(&(2, "gone".to_owned(), false)));
    assert!(!keys_of(&log).contains(&(0, "gone".to_owned())));
    compact(&mut log, NOW_MS + DAY_MS - 1);
    assert!(records_of(&log).contains(&(2, "gone".to_owned(), false)));
    compact(&mut log, NOW_MS + DAY_MS);
    assert!(!keys_of(&log).iter().any(|(_, key)| key == "gone"));
    assert!(keys_of(&log).contains(&(1, "stays".to_owned())));
    assert!(log.compaction(NOW_MS + 2 * DAY_MS).is_none(), "nothing is left to do");
}

#[test]
fn small_cleaned_segments_are_joined() {
    let dir = memory_dir();
    let (mut log, _) = open_with(dir.path(), config());
    for round in 0..20 {
        for _ in 0..20 {
            put(&mut log, &TestBatch::keyed(&[("a", Some("value")), ("b", Some("value"))]));
        }
        compact(&mut log, NOW_MS + round);
    }
    compact(&mut log, NOW_MS + 100);
    let expected = expected(&log);
    assert_eq!(records_of(&log), expected);
    assert!(files(dir.path(), "log").len() < 20, "{:?}", files(dir.path(), "log"));
}

#[test]
fn records_that_cannot_be_read_and_records_without_keys_are_kept() {
    let dir = memory_dir();
    let (mut log, _) = open_with(dir.path(), config());
    // A codec is claimed but these are no compressed bytes: such a batch is refused, but may be of an older broker.
    let unreadable = TestBatch { attributes: 4, ..TestBatch::keyed(&[("a", Some("value"))]) }.encode();
    log.append(&ValidBatches::unchecked(&unreadable), 1, NOW_MS).unwrap();
    log.sync().unwrap();
    put(&mut log, &TestBatch::plain(2, 10));
    while log.active_base() < 3 {
        put(&mut log, &TestBatch::keyed(&[("a", Some("value"))]));
    }
    compact(&mut log, NOW_MS);
    let kept = headers(&read_all(&log));
    assert_eq!((kept[0].base_offset, kept[0].codec()), (0, 4));
    assert_eq!((kept[1].base_offset, kept[1].record_count), (1, 2));
}

#[test]
fn segments_that_retention_deleted_meanwhile_are_left_alone() {
    let dir = memory_dir();
    let (mut log, _) = open_with(dir.path(), config());
    for _ in 0..30 {
        put(&mut log, &TestBatch::keyed(&[("a", Some("value")), ("b", Some("value"))]));
    }
    let compacted = log.compaction(NOW_MS).unwrap().run(0).unwrap();
    log.delete_records(20).unwrap();
    log.install(compacted).unwrap();
    assert!(files(dir.path(), "cleaned").is_empty());
    assert_eq!(records_of(&log).last().unwrap().0, 59);
    drop(log);
    assert_eq!(open_with(dir.path(), config()).0.start_offset(), 20);
}

#[test]
fn a_compaction_that_meets_a_damaged_batch_changes_nothing_and_leaves_nothing_behind() {
    let dir = memory_dir();
    let (mut log, _) = open_with(dir.path(), config());
    for _ in 0..30 {
        put(&mut log, &TestBatch::keyed(&[("a", Some("value")), ("b", Some("value"))]));
    }
    let path = dir.path().join(&files(dir.path(), "log")[1]);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let before = read_all(&log);
    let error = log.compaction(NOW_MS).unwrap().run(0).unwrap_err();
    assert!(matches!(error, LogError::Corrupt { path: named, .. } if named == path));
    assert!(files(dir.path(), "cleaned").is_empty());
    assert_eq!(read_all(&log), before);
}

#[test]
fn a_crash_at_any_step_of_the_installation_leaves_a_log_that_opens_with_every_last_value() {
    let dir = memory_dir();
    let (mut log, _) = open_with(dir.path(), config());
    for round in 0..30 {
        put(&mut log, &TestBatch::keyed(&[("a", Some("value")), (&format!("key-{}", round % 4), Some("value"))]));
    }
    compact(&mut log, NOW_MS);
    for round in 0..40 {
        put(&mut log, &TestBatch::keyed(&[("b", Some("value")), (&format!("key-{}", round % 4), Some("value"))]));
    }
    let expected = expected(&log);
    let compacted = log.compaction(NOW_MS).unwrap().run(0).unwrap();
    assert!(compacted.replaced.iter().any(|replaced| replaced.old.len() > 1), "segments are joined");
    let copy = |steps: &dyn Fn(&std::path::Path)| {
        let crashed = memory_dir();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), crashed.path().join(entry.file_name())).unwrap();
        }
        steps(crashed.path());
        let (log, _) = open_with(crashed.path(), config());
        let found = records_of(&log);
        assert!(expected.iter().all(|record| found.contains(record)), "a last value is missing");
        assert!(files(crashed.path(), "cleaned").is_empty() && files(crashed.path(), "swap").is_empty());
    };
    copy(&|_| ());
    let names: Vec<_> = compacted.replaced.iter().map(|replaced| (replaced.new.base_offset, replaced.new.next_offset)).collect();
    for (installed, &(base, next)) in names.iter().enumerate() {
        let swap = |dir: &std::path::Path, (base, next), with_index: bool| {
            let replaced = &compacted.replaced[installed];
            if with_index {
                let index = recovery::swap_path(dir, base, next, recovery::SWAP_INDEX);
                replaced.new.save_as(&index, crate::log::checkpoint::Importance::Durable).unwrap();
            }
            let cleaned = recovery::swap_path(dir, base, next, recovery::CLEANED);
            std::fs::rename(cleaned, recovery::swap_path(dir, base, next, recovery::SWAP)).unwrap();
        };
        // Before the deciding rename; right after it; after it, with the index lost; after the index was moved.
        copy(&|dir| {
            let index = recovery::swap_path(dir, base, next, recovery::SWAP_INDEX);
            compacted.replaced[installed].new.save_as(&index, crate::log::checkpoint::Importance::Durable).unwrap();
        });
        copy(&|dir| swap(dir, (base, next), true));
        copy(&|dir| swap(dir, (base, next), false));
        copy(&|dir| {
            swap(dir, (base, next), true);
            let index = recovery::swap_path(dir, base, next, recovery::SWAP_INDEX);
            std::fs::rename(index, crate::log::segment::index_path(dir, base)).unwrap();
        });
    }
    log.install(compacted).unwrap();
    assert_eq!(records_of(&log), expected);
}
