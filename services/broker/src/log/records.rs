//! The records inside of a batch: looked at when they come in, by time lookups and by compaction.

use std::{
    borrow::Cow,
    io::{self, Read},
};

use super::{BatchError, BatchHeader, HEADER_BYTES};

/// Most bytes that the records of one batch may take uncompressed; more is neither taken nor read (a batch of some kB can claim
/// gigabytes, and every consumer would unpack them).
pub const UNCOMPRESSED_BYTES_MAX: usize = 64 << 20;

const GZIP: i16 = 1;
const SNAPPY: i16 = 2;
const LZ4: i16 = 3;
const ZSTD: i16 = 4;
/// How snappy-java's stream, which Java clients write, begins: magic, version, compatible version; blocks with a length follow.
const SNAPPY_JAVA_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const SNAPPY_JAVA_HEADER_BYTES: usize = 16;

/// One record; what compaction needs to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// The record as it stands in the batch, length included.
    pub(super) encoded: &'a [u8],
    pub(super) offset: i64,
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) has_value: bool,
}

/// Why records cannot be read. Such a batch is kept as it is.
#[derive(Debug)]
pub(super) struct Unreadable;

/// The records part of `batch`, uncompressed.
pub(super) fn uncompressed<'a>(header: &BatchHeader, batch: &'a [u8]) -> Result<Cow<'a, [u8]>, Unreadable> {
    let records = batch.get(HEADER_BYTES..header.batch_bytes).ok_or(Unreadable)?;
    match header.codec() {
        0 => Ok(Cow::Borrowed(records)),
        GZIP => read_bounded(flate2::read::MultiGzDecoder::new(records)).map(Cow::Owned),
        SNAPPY => unsnap(records).map(Cow::Owned),
        LZ4 => read_bounded(lz4::Decoder::new(records).map_err(|_| Unreadable)?).map(Cow::Owned),
        ZSTD => read_bounded(zstd::Decoder::with_buffer(records).map_err(|_| Unreadable)?).map(Cow::Owned),
        _ => Err(Unreadable),
    }
}

/// The records in `uncompressed`, which belongs to `header`; all of them or none.
pub(super) fn records<'a>(header: &BatchHeader, uncompressed: &'a [u8]) -> Result<Vec<Record<'a>>, Unreadable> {
    let mut records = Vec::new();
    each(header, uncompressed, |record| records.push(record))?;
    Ok(records)
}

/// Whether the records of a produced `batch` can be read by every client: a consumer that meets others stands still.
pub(super) fn check(header: &BatchHeader, batch: &[u8]) -> Result<(), BatchError> {
    let plain = uncompressed(header, batch).map_err(|Unreadable| BatchError::InvalidRecord {
        what: "its records cannot be uncompressed, or take more than 64 MiB then",
    })?;
    let (mut offset, mut in_order) = (header.base_offset, true);
    each(header, &plain, |record| {
        in_order &= record.offset == offset;
        offset = offset.wrapping_add(1);
    })
    .map_err(|Unreadable| BatchError::InvalidRecord { what: "its records do not have the form of records" })?;
    if in_order { Ok(()) } else { Err(BatchError::InvalidRecord { what: "the offsets of its records are not 0, 1, 2, ..." }) }
}

fn each<'a>(header: &BatchHeader, uncompressed: &'a [u8], mut take: impl FnMut(Record<'a>)) -> Result<(), Unreadable> {
    let mut rest = uncompressed;
    for _ in 0..header.record_count {
        let (record, after) = record(header, rest).ok_or(Unreadable)?;
        take(record);
        rest = after;
    }
    if rest.is_empty() { Ok(()) } else { Err(Unreadable) }
}

/// Layout, from Kafka's protocol guide, "Record": `length varint | attributes i8 | timestampDelta varlong |
/// offsetDelta varint | keyLength varint | key | valueLength varint | value | headerCount varint |
/// (keyLength varint | key | valueLength varint | value)...`.
fn record<'a>(header: &BatchHeader, bytes: &'a [u8]) -> Option<(Record<'a>, &'a [u8])> {
    let mut rest = bytes;
    let length = usize::try_from(varint(&mut rest)?).ok()?;
    let (mut body, after) = rest.split_at_checked(length)?;
    let encoded = bytes.get(..bytes.len() - after.len())?;
    body = body.get(1..)?;
    let timestamp_delta = varint(&mut body)?;
    let offset_delta = varint(&mut body)?;
    if !(0..=i64::from(header.last_offset_delta)).contains(&offset_delta) {
        return None;
    }
    let key = bytes_or_null(&mut body)?;
    let has_value = bytes_or_null(&mut body)?.is_some();
    for _ in 0..u64::try_from(varint(&mut body)?).ok()? {
        // A header's key is no null, its value may be one.
        bytes_or_null(&mut body)??;
        bytes_or_null(&mut body)?;
    }
    if !body.is_empty() {
        return None;
    }
    let timestamp_ms =
        if header.is_log_append_time() { header.max_timestamp } else { header.base_timestamp.checked_add(timestamp_delta)? };
    Some((Record { encoded, offset: header.base_offset.checked_add(offset_delta)?, timestamp_ms, key, has_value }, after))
}

/// Bytes behind their length; -1 stands for null.
fn bytes_or_null<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint(bytes)?;
    if length == -1 {
        return Some(None);
    }
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(Some(taken))
}

/// A zigzag varint of at most 64 bits.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

fn read_bounded(reader: impl Read) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = Vec::new();
    let read: io::Result<usize> = reader.take(UNCOMPRESSED_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    match read {
        Ok(length) if length <= UNCOMPRESSED_BYTES_MAX => Ok(bytes),
        _ => Err(Unreadable),
    }
}

fn unsnap(records: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = Vec::new();
    if !records.starts_with(SNAPPY_JAVA_MAGIC) {
        unsnap_block(records, &mut bytes)?;
        return Ok(bytes);
    }
    let mut rest = records.get(SNAPPY_JAVA_HEADER_BYTES..).ok_or(Unreadable)?;
    while let Some((length, blocks)) = rest.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Unreadable)?;
        let (block, after) = blocks.split_at_checked(length).ok_or(Unreadable)?;
        unsnap_block(block, &mut bytes)?;
        rest = after;
    }
    if rest.is_empty() { Ok(bytes) } else { Err(Unreadable) }
}

fn unsnap_block(block: &[u8], bytes: &mut Vec<u8>) -> Result<(), Unreadable> {
    let length = snap::raw::decompress_len(block).map_err(|_| Unreadable)?;
    let from = bytes.len();
    if from + length > UNCOMPRESSED_BYTES_MAX {
        return Err(Unreadable);
    }
    bytes.resize(from + length, 0);
    let target = bytes.get_mut(from..).unwrap_or_default();
    snap::raw::Decoder::new().decompress(block, target).map(drop).map_err(|_| Unreadable)
}
