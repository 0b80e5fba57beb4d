//! The header of a record batch, message format v2, and the checks a produced batch must pass before it is stored.
//!
//! Layout (big endian), from Kafka's protocol guide, "Record Batch":
//! `baseOffset i64 | batchLength i32 | partitionLeaderEpoch i32 | magic i8 | crc u32 | attributes i16 | lastOffsetDelta i32 |
//! baseTimestamp i64 | maxTimestamp i64 | producerId i64 | producerEpoch i16 | baseSequence i32 | recordCount i32 | records`.
//! `batchLength` counts what follows it; the CRC-32C covers everything from `attributes` on, so that the base offset and
//! the leader epoch can be written by the broker without touching it.

use thiserror::Error;

use super::records;

/// Bytes of the header of a v2 batch.
pub const HEADER_BYTES: usize = 61;
/// Most records that one batch may claim. librdkafka's own limit is 1,000,000; a larger claim would burn offsets.
pub const RECORDS_PER_BATCH_MAX: i32 = 1 << 20;
/// Smallest encoding of one record: seven one-byte fields.
const RECORD_BYTES_MIN: usize = 7;

/// Bytes before the part that `batchLength` counts.
const LENGTH_PREFIX_BYTES: usize = 12;
const CRC_AT: usize = 17;
pub(super) const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const MAGIC: i8 = 2;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const KNOWN_ATTRIBUTES: i16 = 0x7f;
/// zstd, the highest codec that exists.
const COMPRESSION_MAX: i16 = 4;

/// The fields of a batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; in a produced batch whatever the client wrote.
    pub base_offset: i64,
    /// Bytes of the whole batch, header included.
    pub batch_bytes: usize,
    /// Leader epoch under which it was appended.
    pub leader_epoch: i32,
    /// CRC-32C of everything after it.
    pub crc: u32,
    /// Codec, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// Offset of the last record minus `base_offset`.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, ms since the epoch, -1 for none.
    pub base_timestamp: i64,
    /// Largest timestamp of its records, ms since the epoch, -1 for none.
    pub max_timestamp: i64,
    /// Idempotent producer, -1 for none.
    pub producer_id: i64,
    /// Epoch of the producer, -1 for none.
    pub producer_epoch: i16,
    /// Sequence of the first record, -1 for none.
    pub base_sequence: i32,
    /// Number of records.
    pub record_count: i32,
}

/// Why produced bytes were refused. Nothing of them is stored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// Damaged on the way or not a batch (Kafka's `CORRUPT_MESSAGE`).
    #[error("record batch at byte {position} is corrupt: {what}; send it again")]
    Corrupt {
        /// Where the batch starts in the produced bytes.
        position: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Larger than the topic allows (Kafka's `MESSAGE_TOO_LARGE`).
    #[error("record batch of {batch_bytes} bytes is larger than the topic's max.message.bytes of {batch_bytes_max}")]
    TooLarge {
        /// Size of the batch.
        batch_bytes: usize,
        /// The limit.
        batch_bytes_max: usize,
    },
    /// Message format v0 or v1 (Kafka's `UNSUPPORTED_FOR_MESSAGE_FORMAT`).
    #[error("message format v{magic} is not supported; use a client that writes v2 (Kafka 0.11 or later)")]
    UnsupportedMagic {
        /// The format's number.
        magic: i8,
    },
    /// Well-formed bytes that say something that is not allowed (Kafka's `INVALID_RECORD`).
    #[error("record batch is refused: {what}")]
    InvalidRecord {
        /// The rule that was broken.
        what: &'static str,
    },
    /// Transactional or control batches (Kafka's `INVALID_TXN_STATE`/`INVALID_RECORD`): this broker has no transactions.
    #[error("transactional and control batches are not supported by this broker")]
    Transactional,
}

/// Produced bytes that passed [`validate`]: one or more whole batches.
#[derive(Debug, Clone)]
pub struct ValidBatches<'a> {
    bytes: &'a [u8],
    headers: Vec<BatchHeader>,
}

impl<'a> ValidBatches<'a> {
    /// A whole batch that was not looked at.
    #[cfg(test)]
    pub(super) fn unchecked(bytes: &'a [u8]) -> Self {
        Self { bytes, headers: BatchHeader::parse(bytes).into_iter().collect() }
    }

    /// The batches as they came.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The headers, in the order of the bytes; at least one.
    pub fn headers(&self) -> &[BatchHeader] {
        &self.headers
    }

    /// Records in all batches.
    pub fn record_count(&self) -> i64 {
        self.headers.iter().map(|header| i64::from(header.record_count)).sum()
    }
}

impl BatchHeader {
    /// Reads a header from the front of `bytes`, without looking at the CRC or at what the fields say.
    /// `None` if there are fewer than [`HEADER_BYTES`] bytes or the length is smaller than a header.
    pub fn parse(bytes: &[u8]) -> Option<BatchHeader> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let length = usize::try_from(i32::from_be_bytes(field(header, 8)?)).ok()?;
        let batch_bytes = length.checked_add(LENGTH_PREFIX_BYTES)?;
        if batch_bytes < HEADER_BYTES {
            return None;
        }
        Some(BatchHeader {
            base_offset: i64::from_be_bytes(field(header, 0)?),
            batch_bytes,
            leader_epoch: i32::from_be_bytes(field(header, 12)?),
            crc: u32::from_be_bytes(field(header, CRC_AT)?),
            attributes: i16::from_be_bytes(field(header, ATTRIBUTES_AT)?),
            last_offset_delta: i32::from_be_bytes(field(header, 23)?),
            base_timestamp: i64::from_be_bytes(field(header, 27)?),
            max_timestamp: i64::from_be_bytes(field(header, MAX_TIMESTAMP_AT)?),
            producer_id: i64::from_be_bytes(field(header, 43)?),
            producer_epoch: i16::from_be_bytes(field(header, 51)?),
            base_sequence: i32::from_be_bytes(field(header, 53)?),
            record_count: i32::from_be_bytes(field(header, 57)?),
        })
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset after the last record.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Sequence of the last record; sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        advance_sequence(self.base_sequence, self.last_offset_delta)
    }

    /// Whether an idempotent producer wrote it.
    pub fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// Codec of the records: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn codec(&self) -> i16 {
        self.attributes & COMPRESSION_MASK
    }

    /// Whether its timestamps are those of the append, all of them `max_timestamp`.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }
}

/// What the broker writes into the header of a batch that it appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) base_offset: i64,
    pub(super) leader_epoch: i32,
    /// The time of the append, if that is the time the records get.
    pub(super) append_time_ms: Option<i64>,
}

impl BatchHeader {
    /// The header of `batch` with the broker's stamp, as bytes and as fields; the records stay as they are.
    pub(super) fn stamped(&self, batch: &[u8], stamp: Stamp) -> ([u8; HEADER_BYTES], BatchHeader) {
        let mut stamped = BatchHeader { base_offset: stamp.base_offset, leader_epoch: stamp.leader_epoch, ..*self };
        match stamp.append_time_ms {
            Some(now_ms) => {
                stamped.attributes |= LOG_APPEND_TIME;
                stamped.max_timestamp = now_ms;
            }
            None => stamped.attributes &= !LOG_APPEND_TIME,
        }
        let mut bytes = stamped.encode();
        if (stamped.attributes, stamped.max_timestamp) != (self.attributes, self.max_timestamp) {
            let head = crc32c::crc32c(bytes.get(ATTRIBUTES_AT..).unwrap_or_default());
            stamped.crc = crc32c::crc32c_append(head, batch.get(HEADER_BYTES..).unwrap_or_default());
            bytes = stamped.encode();
        }
        (bytes, stamped)
    }

    /// The batch with only `records` left, uncompressed, in the offsets of the whole.
    pub(super) fn rewritten(&self, records: &[&[u8]]) -> Option<Vec<u8>> {
        let records_bytes: usize = records.iter().map(|record| record.len()).sum();
        let mut header = BatchHeader {
            batch_bytes: HEADER_BYTES + records_bytes,
            attributes: self.attributes & !COMPRESSION_MASK,
            record_count: i32::try_from(records.len()).ok()?,
            ..*self
        };
        i32::try_from(header.batch_bytes).ok()?;
        let mut batch = header.encode().to_vec();
        batch.reserve_exact(records_bytes);
        records.iter().for_each(|record| batch.extend_from_slice(record));
        header.crc = crc32c::crc32c(batch.get(ATTRIBUTES_AT..)?);
        batch.get_mut(..HEADER_BYTES)?.copy_from_slice(&header.encode());
        Some(batch)
    }

    /// The 61 bytes of the header.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let length = i32::try_from(self.batch_bytes - LENGTH_PREFIX_BYTES).unwrap_or(i32::MAX);
        let fields: [&[u8]; 13] = [
            &self.base_offset.to_be_bytes(),
            &length.to_be_bytes(),
            &self.leader_epoch.to_be_bytes(),
            &MAGIC.to_be_bytes(),
            &self.crc.to_be_bytes(),
            &self.attributes.to_be_bytes(),
            &self.last_offset_delta.to_be_bytes(),
            &self.base_timestamp.to_be_bytes(),
            &self.max_timestamp.to_be_bytes(),
            &self.producer_id.to_be_bytes(),
            &self.producer_epoch.to_be_bytes(),
            &self.base_sequence.to_be_bytes(),
            &self.record_count.to_be_bytes(),
        ];
        let mut bytes = [0; HEADER_BYTES];
        let target = bytes.iter_mut();
        target.zip(fields.into_iter().flatten()).for_each(|(target, source)| *target = *source);
        bytes
    }
}

/// The sequence `by` records after `sequence`: it wraps from `i32::MAX` to 0, never to a negative number.
pub(super) fn advance_sequence(sequence: i32, by: i32) -> i32 {
    match sequence.checked_add(by) {
        Some(sum) => sum,
        None => by - (i32::MAX - sequence) - 1,
    }
}

/// The magic number in bytes that may be a batch of any format: it is at the same place in all of them.
pub(super) fn magic(bytes: &[u8]) -> Option<i8> {
    bytes.get(16).map(|&magic| i8::from_be_bytes([magic]))
}

/// Whether `batch`, whole and of v2, matches its CRC.
pub(super) fn crc_matches(batch: &[u8], header: &BatchHeader) -> bool {
    batch.get(ATTRIBUTES_AT..header.batch_bytes).is_some_and(|covered| crc32c::crc32c(covered) == header.crc)
}

/// Length of the batches at the front of `bytes` that are whole and match their checksums.
pub fn intact_bytes(bytes: &[u8]) -> usize {
    let mut intact = 0;
    while let Some(rest) = bytes.get(intact..)
        && let Some(header) = BatchHeader::parse(rest)
        && crc_matches(rest, &header)
    {
        intact += header.batch_bytes;
    }
    intact
}

/// Whether any of the batches at the front of `bytes` is compressed.
pub fn is_packed(mut bytes: &[u8]) -> bool {
    while let Some(header) = BatchHeader::parse(bytes) {
        if header.codec() != 0 {
            return true;
        }
        bytes = bytes.get(header.batch_bytes..).unwrap_or_default();
    }
    false
}

/// Checks what a producer sent: whole v2 batches of at most `batch_bytes_max` bytes each, with right checksums, plausible
/// counts and sequences, and records that every client can read, of at most [`UNCOMPRESSED_BYTES_MAX`] bytes. Never panics,
/// whatever the bytes are.
pub fn validate(bytes: &[u8], batch_bytes_max: usize) -> Result<ValidBatches<'_>, BatchError> {
    let mut headers = Vec::with_capacity(1);
    let mut position = 0;
    while position < bytes.len() {
        let rest = bytes.get(position..).unwrap_or_default();
        let corrupt = |what| BatchError::Corrupt { position, what };
        if let Some(magic) = magic(rest).filter(|&magic| magic != MAGIC) {
            return Err(if (0..MAGIC).contains(&magic) {
                BatchError::UnsupportedMagic { magic }
            } else {
                corrupt("unknown message format")
            });
        }
        let header = BatchHeader::parse(rest).ok_or_else(|| corrupt("the header is cut off or its length is too small"))?;
        if header.batch_bytes > batch_bytes_max {
            return Err(BatchError::TooLarge { batch_bytes: header.batch_bytes, batch_bytes_max });
        }
        let batch = rest.get(..header.batch_bytes).ok_or_else(|| corrupt("the batch is cut off"))?;
        if !crc_matches(batch, &header) {
            return Err(corrupt("the checksum does not match"));
        }
        check(&header)?;
        records::check(&header, batch)?;
        headers.push(header);
        position += header.batch_bytes;
    }
    match headers.as_slice() {
        [] => Err(BatchError::InvalidRecord { what: "there is no batch in the request" }),
        [_, _, ..] if headers.iter().any(BatchHeader::is_idempotent) => {
            Err(BatchError::InvalidRecord { what: "an idempotent producer may send one batch per partition and request" })
        }
        _ => Ok(ValidBatches { bytes, headers }),
    }
}

fn check(header: &BatchHeader) -> Result<(), BatchError> {
    let invalid = |what| Err(BatchError::InvalidRecord { what });
    if header.attributes & (TRANSACTIONAL | CONTROL) != 0 {
        return Err(BatchError::Transactional);
    }
    if header.attributes & !KNOWN_ATTRIBUTES != 0 || header.codec() > COMPRESSION_MAX {
        return invalid("unknown attributes or codec");
    }
    if !(1..=RECORDS_PER_BATCH_MAX).contains(&header.record_count) {
        return invalid("the number of records is not between 1 and 1,048,576");
    }
    if header.last_offset_delta != header.record_count - 1 {
        return invalid("the last offset delta does not match the number of records");
    }
    let records_bytes = header.batch_bytes - HEADER_BYTES;
    if header.codec() == 0 && records_bytes / RECORD_BYTES_MIN < usize::try_from(header.record_count).unwrap_or(usize::MAX) {
        return invalid("more records are claimed than fit into the batch");
    }
    if header.is_idempotent() && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return invalid("a producer id comes without epoch or sequence");
    }
    Ok(())
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> Option<[u8; N]> {
    header.get(at..)?.first_chunk().copied()
}
