//! Whatever a bad disk makes of the files: errors, never a panic.

use proptest::prelude::*;

use super::{NOW_MS, TestBatch, append, memory_dir, open_with, put};
use crate::log::{Cleanup, LogConfig, PartitionLog};

fn config() -> LogConfig {
    LogConfig { segment_bytes: 1500, cleanup: Cleanup::CompactAndDelete, ..LogConfig::default() }
}

/// Uses everything that reads files; the answers do not matter.
fn use_all(log: &mut PartitionLog) {
    for offset in 0..log.end_offset() {
        if let Ok(slice) = log.read(offset, 700) {
            let _ = slice.read_into(&mut Vec::new());
        }
        let _ = log.offset_for_time(NOW_MS + offset);
    }
    let _ = log.max_timestamp();
    if let Some(Ok(compacted)) = log.compaction(NOW_MS).map(|compaction| compaction.run(0)) {
        let _ = log.install(compacted);
    }
    let _ = append(log, &TestBatch::plain(1, 100));
    let _ = log.sync();
    let _ = log.retain(NOW_MS * 2, i64::MAX);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_damage_to_any_file_ends_in_an_error_or_a_working_log(
        file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 1..20),
        cut in any::<bool>(),
        is_clean in any::<bool>(),
    ) {
        let dir = memory_dir();
        let (mut log, _) = open_with(dir.path(), config());
        for index in 0..12 {
            let key = format!("key-{}", index % 4);
            put(&mut log, &TestBatch::keyed(&[(&key, Some("value")), ("common", None)]).at(NOW_MS + index).by(1, 0, index as i32 * 2));
            put(&mut log, &TestBatch::plain(2, 200).by(2, 0, index as i32 * 2));
        }
        log.delete_records(3).unwrap();
        if is_clean {
            log.close().unwrap();
        } else {
            drop(log);
        }
        let mut files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let path = file.get(&files);
        let mut content = std::fs::read(path).unwrap();
        let at = at.index(content.len().max(1)).min(content.len());
        if cut {
            content.truncate(at);
        } else {
            content.splice(at..(at + bytes.len()).min(content.len()), bytes);
        }
        std::fs::write(path, content).unwrap();
        if let Ok((mut log, _)) = PartitionLog::open(dir.path(), config(), NOW_MS) {
            use_all(&mut log);
        }
    }
}
