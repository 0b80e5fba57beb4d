use std::{fs::OpenOptions, path::Path, process::Command, sync::Arc};

use super::{TestBatch, append, open, put, read_all};
use crate::log::{LogError, segment::SegmentFile};

const DIR: &str = "MANTIS_TEST_LIMITED_DIR";

/// The system refuses to let files grow beyond a limit, in the middle of a write: what a full disk does.
#[test]
fn an_append_that_does_not_fit_leaves_the_file_as_it_was_and_may_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    // 64 blocks of 512 or 1024 bytes, depending on the shell; writes beyond fail instead of killing.
    let script = r#"trap "" XFSZ; ulimit -f 64; exec "$0" --exact "$1" --ignored --nocapture"#;
    let name = format!("{}::fill_the_limited_disk", module_path!().split_once("::").unwrap().1);
    let output = Command::new("sh").arg("-c").arg(script).arg(program).arg(name).env(DIR, dir.path()).output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the limited part ran");
    let log = open(dir.path());
    assert!(log.end_offset() > 4);
    assert_eq!(super::headers(&read_all(&log)).len() as i64, log.end_offset());
}

#[test]
#[ignore = "run by the test above under a limit"]
fn fill_the_limited_disk() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let mut log = open(Path::new(&dir));
    let batch = TestBatch::plain(1, 5000);
    let path = log.active.path.clone();
    let mut appended = 0;
    let error = loop {
        match append(&mut log, &batch) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LogError::DiskFull { .. }), "{error}");
    assert!(log.offline().is_none());
    assert_eq!(log.end_offset(), appended);
    let batch_bytes = batch.encode().len() as u64;
    assert_eq!(std::fs::metadata(&path).unwrap().len(), appended as u64 * batch_bytes, "the partial write is cut");
    assert_eq!(log.sync().unwrap(), appended);
    // A smaller batch still fits behind it.
    assert_eq!(put(&mut log, &TestBatch::plain(1, 10)).base_offset, appended);
    assert!(matches!(append(&mut log, &batch), Err(LogError::DiskFull { .. })));
}

#[test]
fn a_failed_write_that_cannot_be_cut_takes_the_partition_offline() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    put(&mut log, &TestBatch::plain(1, 10));
    let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
    log.active = Arc::new(SegmentFile::new("/dev/full".into(), full));
    assert!(matches!(append(&mut log, &TestBatch::plain(1, 10)), Err(LogError::Offline { .. })));
    drop(log);
    assert_eq!(open(dir.path()).end_offset(), 1);
}
