use proptest::prelude::*;

use super::{BATCH_BYTES_MAX, TestBatch, headers, open, put, read_all, sealed};
use crate::log::{
    BatchError, BatchHeader, HEADER_BYTES, LogConfig, RECORDS_PER_BATCH_MAX, Timestamps, UNCOMPRESSED_BYTES_MAX, validate,
};

fn header_of(batch: &[u8]) -> BatchHeader {
    BatchHeader::parse(batch).unwrap()
}

/// `batch` with a changed header and a checksum that is right again.
fn with_header(batch: &[u8], change: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
    let mut header = header_of(batch);
    change(&mut header);
    sealed(header, &batch[HEADER_BYTES..])
}

fn refusal(bytes: &[u8]) -> BatchError {
    validate(bytes, BATCH_BYTES_MAX).unwrap_err()
}

#[test]
fn a_header_survives_encoding() {
    let batch = TestBatch::plain(3, 10).by(7, 2, 40).encode();
    assert_eq!(header_of(&batch).encode(), batch[..HEADER_BYTES]);
    assert_eq!(header_of(&batch).last_sequence(), 42);
}

#[test]
fn a_changed_byte_is_refused_as_corrupt() {
    let good = TestBatch::plain(2, 10).encode();
    for at in 17..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        assert!(matches!(refusal(&bad), BatchError::Corrupt { position: 0, .. }), "byte {at}");
    }
}

#[test]
fn a_batch_that_is_cut_off_is_refused_as_corrupt() {
    let good = [TestBatch::plain(1, 5).encode(), TestBatch::plain(2, 10).encode()].concat();
    let first = header_of(&good).batch_bytes;
    for length in (1..good.len()).filter(|&length| length != first) {
        assert!(matches!(refusal(&good[..length]), BatchError::Corrupt { .. }), "{length} bytes");
    }
    assert_eq!(validate(&good, BATCH_BYTES_MAX).unwrap().headers().len(), 2);
}

#[test]
fn a_batch_above_the_limit_is_too_large() {
    let batch = TestBatch::plain(1, 1000).encode();
    assert_eq!(
        validate(&batch, batch.len() - 1).unwrap_err(),
        BatchError::TooLarge { batch_bytes: batch.len(), batch_bytes_max: batch.len() - 1 }
    );
    assert!(validate(&batch, batch.len()).is_ok());
}

#[test]
fn old_message_formats_are_unsupported() {
    for magic in [0, 1] {
        let mut batch = TestBatch::plain(1, 1).encode();
        batch[16] = magic;
        assert_eq!(refusal(&batch), BatchError::UnsupportedMagic { magic: magic as i8 });
    }
}

#[test]
fn counts_that_do_not_fit_are_invalid_records() {
    let batch = TestBatch::plain(2, 10).encode();
    let bad = [
        with_header(&batch, |header| header.record_count = 3),
        with_header(&batch, |header| header.last_offset_delta = 7),
        with_header(&batch, |header| (header.record_count, header.last_offset_delta) = (0, -1)),
        with_header(&batch, |header| (header.record_count, header.last_offset_delta) = (1000, 999)),
        with_header(&batch, |header| {
            (header.attributes, header.record_count, header.last_offset_delta) =
                (4, RECORDS_PER_BATCH_MAX + 1, RECORDS_PER_BATCH_MAX);
        }),
        with_header(&batch, |header| header.attributes = 5),
        with_header(&batch, |header| header.producer_id = 4),
        Vec::new(),
        [TestBatch::plain(1, 1).by(1, 0, 0).encode(), TestBatch::plain(1, 1).by(1, 0, 1).encode()].concat(),
    ];
    for (index, bytes) in bad.iter().enumerate() {
        assert!(matches!(refusal(bytes), BatchError::InvalidRecord { .. }), "case {index}");
    }
}

/// Compressed with the codec of this number.
fn compressed(codec: i16, records: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    match codec {
        1 => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(records).unwrap();
            gzip.finish().unwrap()
        }
        2 => snap::raw::Encoder::new().compress_vec(records).unwrap(),
        3 => {
            let mut lz4 = lz4::EncoderBuilder::new().build(Vec::new()).unwrap();
            lz4.write_all(records).unwrap();
            lz4.finish().0
        }
        4 => zstd::encode_all(records, 1).unwrap(),
        _ => records.to_vec(),
    }
}

/// `batch` with other records, of so many, as the codec makes them.
fn with_records(batch: &[u8], count: i32, codec: i16, records: &[u8]) -> Vec<u8> {
    let mut header = header_of(batch);
    (header.attributes, header.record_count, header.last_offset_delta) = (codec, count, count - 1);
    let records = compressed(codec, records);
    header.batch_bytes = HEADER_BYTES + records.len();
    sealed(header, &records)
}

#[test]
fn records_that_a_client_cannot_read_are_refused_with_every_codec() {
    let batch = TestBatch::keyed(&[("a", Some("value")), ("b", None)]).encode();
    let good = &batch[HEADER_BYTES..];
    let second = good.len() - 8;
    let swapped = [&good[second..], &good[..second]].concat();
    let (mut header_cut, mut header_without_key) = (good.to_vec(), good.to_vec());
    *header_cut.last_mut().unwrap() = 2;
    // One header whose key is null.
    header_without_key.extend([1, 1]);
    header_without_key[second] += 4;
    header_without_key[good.len() - 1] = 2;
    for codec in 0..=4 {
        assert!(validate(&with_records(&batch, 2, codec, good), BATCH_BYTES_MAX).is_ok(), "codec {codec}");
        let bad: [&[u8]; 7] = [
            &good[..good.len() - 1],
            &[good, &[0]].concat(),
            &[b'x'; 64],
            &[0xff; 64],
            &swapped,
            &header_cut,
            &header_without_key,
        ];
        for (index, records) in bad.iter().enumerate() {
            let refused = refusal(&with_records(&batch, 2, codec, records));
            assert!(matches!(refused, BatchError::InvalidRecord { .. }), "codec {codec}, case {index}: {refused}");
        }
    }
    for codec in 1..=4 {
        let refused = refusal(&with_header(&batch, |header| header.attributes = codec));
        assert!(refused.to_string().contains("cannot be uncompressed"), "codec {codec}: {refused}");
    }
}

#[test]
fn a_batch_that_unpacks_to_more_than_its_bound_is_refused_however_small_it_is() {
    let batch = TestBatch::plain(1, UNCOMPRESSED_BYTES_MAX + 1).encode();
    for codec in [1, 3, 4] {
        let small = with_records(&batch, 1, codec, &batch[HEADER_BYTES..]);
        assert!(small.len() < BATCH_BYTES_MAX);
        assert!(matches!(refusal(&small), BatchError::InvalidRecord { .. }), "codec {codec}");
    }
}

#[test]
fn transactional_and_control_batches_are_refused() {
    let batch = TestBatch::plain(1, 10).by(1, 0, 0).encode();
    for bit in [0x10, 0x20] {
        assert_eq!(refusal(&with_header(&batch, |header| header.attributes = bit)), BatchError::Transactional);
    }
}

#[test]
fn a_stored_batch_differs_only_in_offset_and_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    put(&mut log, &TestBatch::plain(3, 10));
    let batch = TestBatch::plain(2, 20);
    put(&mut log, &batch);
    let mut stored = Vec::new();
    log.read(4, 1).unwrap().read_into(&mut stored).unwrap();
    let header = header_of(&stored);
    assert_eq!((header.base_offset, header.leader_epoch), (3, 1));
    assert_eq!(stored[16..], batch.encode()[16..]);
    assert!(validate(&stored, BATCH_BYTES_MAX).is_ok(), "the checksum still matches");
}

#[test]
fn with_append_time_the_records_get_the_time_of_the_append_and_a_right_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    log.set_config(LogConfig { timestamps: Timestamps::Append, ..LogConfig::default() });
    let appended = super::append_at(&mut log, &TestBatch::plain(2, 10).at(5), 77_000).unwrap();
    log.sync().unwrap();
    assert_eq!(appended.append_time_ms, 77_000);
    let stored = read_all(&log);
    assert!(validate(&stored, BATCH_BYTES_MAX).is_ok(), "the checksum matches");
    let header = headers(&stored)[0];
    assert!(header.is_log_append_time());
    assert_eq!((header.base_timestamp, header.max_timestamp), (5, 77_000));
    assert_eq!(log.offset_for_time(77_000).unwrap().unwrap().timestamp_ms, 77_000);
}

proptest! {
    #[test]
    fn any_bytes_are_validated_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), limit in 0..400_usize) {
        let _ = validate(&bytes, limit);
    }

    #[test]
    fn any_header_with_a_right_checksum_is_validated_and_its_records_read_without_a_panic(
        fields in any::<(i64, i32, i16, i32, i64, i64, i64, i16, i32, i32)>(),
        codec in 0..5_i16,
        records in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (base_offset, leader_epoch, attributes, last_offset_delta, base_timestamp, max_timestamp, producer_id,
            producer_epoch, base_sequence, record_count) = fields;
        for (last_offset_delta, record_count) in [(last_offset_delta, record_count), (4, 5)] {
            let header = BatchHeader {
                base_offset, batch_bytes: HEADER_BYTES + records.len(), leader_epoch, crc: 0, last_offset_delta, base_timestamp,
                max_timestamp, producer_id, producer_epoch, base_sequence, record_count, attributes: (attributes & !7) | codec,
            };
            let batch = sealed(header, &records);
            let _ = validate(&batch, BATCH_BYTES_MAX);
            let header = header_of(&batch);
            let _ = (header.last_offset(), header.next_offset(), header.is_idempotent() && header.last_offset_delta >= 0
                && header.base_sequence >= 0 && header.last_sequence() >= 0);
            if let Ok(plain) = crate::log::records::uncompressed(&header, &batch) {
                let _ = crate::log::records::records(&header, &plain);
            }
        }
    }
}
