//! A process that appends is killed, again and again, at random points.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use super::{NOW_MS, TestBatch, append, open_with, segments_of};
use crate::log::{BatchHeader, HEADER_BYTES, LogConfig, PartitionLog};

const DIR: &str = "MANTIS_TEST_APPEND_DIR";
const KILLS: u64 = 15;
const SEED: u64 = 0x6d61_6e74_6973;

/// The batch that starts at `offset` is always the same, so that what is found can be compared byte by byte.
fn batch_at(offset: i64) -> TestBatch {
    let count = (offset * 7 % 5 + 1) as usize;
    let value_bytes = (offset * 31 % 3000) as usize;
    // Sequences are those of one producer that never stops.
    TestBatch::plain(count, value_bytes).at(NOW_MS + offset).by(1, 0, offset as i32)
}

fn config() -> LogConfig {
    segments_of(200_000)
}

/// Everything that was acknowledged is there, and everything that is there is what was appended, without gaps.
fn check(log: &PartitionLog, acknowledged: i64) {
    assert!(log.high_watermark() >= acknowledged, "{} was acknowledged, the log ends at {}", acknowledged, log.high_watermark());
    let bytes = super::read_all(log);
    let mut rest = bytes.as_slice();
    // The log may start inside of a batch.
    let mut offset = BatchHeader::parse(rest).map_or(log.high_watermark(), |first| first.base_offset);
    assert!(offset <= log.start_offset() || rest.is_empty());
    while let Some(header) = BatchHeader::parse(rest) {
        let expected = batch_at(offset).encode();
        let expected_header = BatchHeader::parse(&expected).unwrap();
        let stored = BatchHeader { base_offset: offset, leader_epoch: 1, ..expected_header };
        assert_eq!(header, stored);
        assert_eq!(rest[HEADER_BYTES..header.batch_bytes], expected[HEADER_BYTES..]);
        offset = header.next_offset();
        rest = &rest[header.batch_bytes..];
    }
    assert_eq!(offset, log.high_watermark());
}

#[test]
fn after_kill_9_everything_acknowledged_is_there_byte_by_byte() {
    let dir = tempfile::tempdir().unwrap();
    let name = format!("{}::append_until_killed", module_path!().split_once("::").unwrap().1);
    let mut random = SEED;
    let mut acknowledged = 0;
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let acknowledgements = random >> 58;
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut seen = 0;
        let mut killed = false;
        for line in lines {
            let Some(offset) = line.strip_prefix("durable ") else { continue };
            acknowledged = offset.parse().unwrap();
            seen += 1;
            // The child appends on while it is killed; what it still acknowledges counts too.
            if seen > acknowledgements && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child appended until it was killed");
        let (mut log, _) = open_with(dir.path(), config());
        check(&log, acknowledged);
        if kill % 3 == 0 {
            log.retain(NOW_MS, acknowledged / 2).unwrap();
            log.delete_records(log.start_offset().max(acknowledged / 3)).ok();
            let again = TestBatch { ..batch_at(log.end_offset()) };
            acknowledged = super::put(&mut log, &again).next_offset;
        }
        if kill % 4 == 0 {
            log.close().unwrap();
        }
    }
    assert!(acknowledged > KILLS as i64);
}

#[test]
#[ignore = "run and killed by the test above"]
fn append_until_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (mut log, _) = open_with(Path::new(&dir), config());
    let mut stderr = std::io::stderr();
    loop {
        for _ in 0..3 {
            let offset = log.end_offset();
            append(&mut log, &batch_at(offset)).unwrap();
        }
        let durable = log.sync().unwrap();
        writeln!(stderr, "durable {durable}").unwrap();
    }
}
