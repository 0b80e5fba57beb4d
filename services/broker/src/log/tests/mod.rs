//! Tests of the log as a whole, on real files.

mod compaction;
mod crash;
mod damage;
mod durability;
mod full_disk;
mod lookups;
mod model;
mod producers;
mod recovery;
mod retention;
mod validation;

use std::path::Path;

use super::{Appended, BatchHeader, HEADER_BYTES, LogConfig, LogError, PartitionLog, Recovery, validate};

/// A point in time at which the tests take place.
const NOW_MS: i64 = 1_700_000_000_000;
const BATCH_BYTES_MAX: usize = 1 << 20;

type KeyAndValue = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A batch as a producer builds it.
#[derive(Debug, Clone)]
struct TestBatch {
    records: Vec<KeyAndValue>,
    timestamp_ms: i64,
    /// (producer id, epoch, base sequence)
    producer: (i64, i16, i32),
    attributes: i16,
}

impl TestBatch {
    /// `count` records without keys and `value_bytes` bytes of value each.
    fn plain(count: usize, value_bytes: usize) -> TestBatch {
        TestBatch {
            records: vec![(None, Some(vec![b'v'; value_bytes])); count],
            timestamp_ms: NOW_MS,
            producer: (-1, -1, -1),
            attributes: 0,
        }
    }

    /// One record per pair; no value makes a tombstone.
    fn keyed(pairs: &[(&str, Option<&str>)]) -> TestBatch {
        let records =
            pairs.iter().map(|(key, value)| (Some(key.as_bytes().to_vec()), value.map(|value| value.as_bytes().to_vec())));
        TestBatch { records: records.collect(), ..TestBatch::plain(0, 0) }
    }

    fn by(self, producer_id: i64, epoch: i16, base_sequence: i32) -> TestBatch {
        TestBatch { producer: (producer_id, epoch, base_sequence), ..self }
    }

    /// All records get this timestamp, and each its index on top.
    fn at(self, timestamp_ms: i64) -> TestBatch {
        TestBatch { timestamp_ms, ..self }
    }

    fn encode(&self) -> Vec<u8> {
        let mut records = Vec::new();
        for (index, (key, value)) in self.records.iter().enumerate() {
            let mut body = vec![0];
            put_varint(&mut body, index as i64);
            put_varint(&mut body, index as i64);
            for field in [key, value] {
                put_varint(&mut body, field.as_ref().map_or(-1, |field| field.len() as i64));
                body.extend_from_slice(field.as_deref().unwrap_or_default());
            }
            put_varint(&mut body, 0);
            put_varint(&mut records, body.len() as i64);
            records.extend_from_slice(&body);
        }
        let count = self.records.len() as i32;
        let header = BatchHeader {
            base_offset: 0,
            batch_bytes: HEADER_BYTES + records.len(),
            leader_epoch: -1,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: count - 1,
            base_timestamp: self.timestamp_ms,
            max_timestamp: self.timestamp_ms + i64::from(count) - 1,
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            base_sequence: self.producer.2,
            record_count: count,
        };
        sealed(header, &records)
    }
}

/// A batch with a right checksum.
fn sealed(mut header: BatchHeader, records: &[u8]) -> Vec<u8> {
    let mut batch = [header.encode().as_slice(), records].concat();
    header.crc = crc32c::crc32c(&batch[21..]);
    batch[..HEADER_BYTES].copy_from_slice(&header.encode());
    batch
}

fn put_varint(bytes: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        bytes.push((zigzag as u8 & 0x7f) | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
}

/// A folder in memory where there is one: for tests whose many syncs nobody has to wait for.
fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("there is a folder for temporary files")
}

fn open(dir: &Path) -> PartitionLog {
    open_with(dir, LogConfig::default()).0
}

fn open_with(dir: &Path, config: LogConfig) -> (PartitionLog, Recovery) {
    PartitionLog::open(dir, config, NOW_MS).expect("the log opens")
}

/// Segments of at most so many bytes.
fn segments_of(segment_bytes: u64) -> LogConfig {
    LogConfig { segment_bytes, ..LogConfig::default() }
}

fn append(log: &mut PartitionLog, batch: &TestBatch) -> Result<Appended, LogError> {
    append_at(log, batch, NOW_MS)
}

fn append_at(log: &mut PartitionLog, batch: &TestBatch, now_ms: i64) -> Result<Appended, LogError> {
    let bytes = batch.encode();
    let batches = validate(&bytes, BATCH_BYTES_MAX).expect("the batch is valid");
    log.append(&batches, 1, now_ms)
}

/// Appends and syncs.
fn put(log: &mut PartitionLog, batch: &TestBatch) -> Appended {
    let appended = append(log, batch).expect("the batch is appended");
    log.sync().expect("the log is synced");
    appended
}

/// Everything readable, as stored.
fn read_all(log: &PartitionLog) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut offset = log.start_offset();
    while offset < log.high_watermark() {
        let from = bytes.len();
        log.read(offset, 1 << 16).expect("the offset is readable").read_into(&mut bytes).expect("the file is readable");
        let Some(last) = headers(&bytes[from..]).last().copied() else { break };
        offset = last.next_offset();
    }
    bytes
}

/// The headers of whole batches.
fn headers(mut bytes: &[u8]) -> Vec<BatchHeader> {
    let mut headers = Vec::new();
    while let Some(header) = BatchHeader::parse(bytes) {
        bytes = &bytes[header.batch_bytes..];
        headers.push(header);
    }
    assert!(bytes.is_empty(), "a read returns whole batches");
    headers
}

/// (offset, key, has a value) of every readable record.
fn records_of(log: &PartitionLog) -> Vec<(i64, String, bool)> {
    let bytes = read_all(log);
    let mut rest = bytes.as_slice();
    let mut found = Vec::new();
    while let Some(header) = BatchHeader::parse(rest) {
        let plain = super::records::uncompressed(&header, rest).expect("the records are readable");
        for record in super::records::records(&header, &plain).expect("the records are readable") {
            found.push((record.offset, String::from_utf8(record.key.unwrap_or_default().to_vec()).unwrap(), record.has_value));
        }
        rest = &rest[header.batch_bytes..];
    }
    found
}

/// Names of the files in `dir` with this extension.
fn files(dir: &Path, extension: &str) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(&format!(".{extension}"))).collect();
    names.sort();
    names
}
