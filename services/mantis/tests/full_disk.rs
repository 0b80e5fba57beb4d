//! A disk that is really full, under broker and store at once, and has room again while they run.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use common::{Up, json};
use mantis_kafka::{ClientConfig, OutRecord, Producer};
use mantis_schemas::{ReadingBatch, encode, topics};
use rdkafka::{
    error::KafkaError,
    producer::{FutureProducer, FutureRecord},
    types::RDKafkaErrorCode,
};

const DISK_BYTES: usize = 96 << 20;
/// 2026-01-01T00:00:00Z
const NEW_YEAR_NS: i64 = 1_767_225_600_000_000_000;
const ROWS: usize = 16_384;

/// A small disk in memory; gone when dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// `None` where this process may not mount; the test is then noted as skipped.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={DISK_BYTES}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { folder }),
            Ok(output) => {
                mantis_testing::skipped(&format!("no disk can be mounted: {}", String::from_utf8_lossy(&output.stderr).trim()));
                None
            }
            Err(error) => {
                mantis_testing::skipped(&format!("no disk can be mounted: {error}"));
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all room there is.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = File::create(&path).unwrap();
        let full = std::iter::repeat_with(|| file.write_all(&[1; 4096])).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// A record with readings of a sensor, a millisecond apart.
fn record(sensor: &str) -> OutRecord {
    let times: Vec<i64> = (0..ROWS as i64).map(|ms| NEW_YEAR_NS + ms * 1_000_000).collect();
    let values: Vec<f64> = (0..ROWS).map(|ms| (ms as f64).sin()).collect();
    let batch = ReadingBatch { sensor, times_ns: &times, values: &values, qualities: &[], first_seq: None };
    let mut payload = Vec::new();
    encode::avro::reading_columns(&mut payload, "press", &batch);
    OutRecord { topic: Arc::from(topics::READINGS), payload: Some(payload), ..OutRecord::default() }
}

#[test]
fn a_disk_that_fills_up_and_has_room_again_costs_nothing_and_needs_no_restart() {
    let Some(disk) = Disk::mount() else { return };
    // Not even the margin of the broker stands between it and the end of the disk.
    let mut up = Up::start(disk.path(), &[("MANTIS__BROKER__MIN_FREE_BYTES", "0")]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let producer = Arc::new(Producer::new(&ClientConfig::new(up.brokers.as_str())).unwrap());
    let send = |records: Vec<OutRecord>| {
        let producer = Arc::clone(&producer);
        runtime.spawn(async move {
            for delivered in producer.send_all(&records).await {
                delivered.unwrap();
            }
        })
    };

    // The log has these, and the store not yet.
    let store = rusqlite::Connection::open(disk.path().join("raw.db")).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    runtime.block_on(send(vec![record("a"), record("b"), record("c")])).unwrap();
    let ballast = disk.fill();
    drop(store);
    up.wait_until("out of room", |up| up.http_get("/health/ready").is_some_and(|(_, ready)| ready.contains("is full")));

    let impatient: FutureProducer =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &up.brokers).set("retries", "0").create().unwrap();
    let payload = vec![b'x'; 500_000];
    let refused =
        runtime.block_on(impatient.send(FutureRecord::<[u8], _>::to(topics::READINGS).payload(&payload), Duration::ZERO));
    assert!(matches!(refused, Err((KafkaError::MessageProduction(RDKafkaErrorCode::KafkaStorageError), _))), "{refused:?}");
    let patient = send(vec![record("d"), record("e")]);
    std::fs::remove_file(ballast).unwrap();
    runtime.block_on(patient).unwrap();
    up.wait_until_ready();
    let account = json(disk.path(), &["audit", "raw", "--wait", "60"], 0);
    assert_eq!((&account["rows"], &account["stored"]), (&(5 * ROWS).into(), &(5 * ROWS).into()), "{account}");
    up.stop();
}
