//! A partition's state as bytes. Pure.
//!
//! A snapshot is a sequence of sensors, cut into chunks anywhere. Numbers are little endian, lengths and differences varints
//! (LEB128, signed ones zigzag). A sensor: asset, sensor, watermark, kept-from; its windows (length, start, revision,
//! published, moments if folded); its duplicates, conflicts and late readings; its samples (number, whether all are good, differences of times, values, qualities).

use mantis_schemas::{Quality, Series, is_name};
use mantis_signal::{MOMENTS_VERSION, Moments, SCALAR_VERSION};
use serde::{Deserialize, Serialize};

use super::{
    FeatureConfig,
    samples::Samples,
    sensor::{Folded, Irregular, Open, Published, SensorState},
};

/// Version of this layout.
const FORMAT: u32 = 1;
/// Size of a chunk, far below the largest record of the topic.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// A sample takes at least a byte of time and its value.
const SAMPLE_BYTES_MIN: usize = 9;

/// Closes a snapshot: written after all of its chunks, and after everything that was emitted before `offset` was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// Version of the figures' definition and of the moments.
    pub(super) definition: (u32, u32),
    pub(super) cluster_id: String,
    /// Partitions of the source topic.
    pub(super) partitions: usize,
    /// The offset to go on reading at.
    pub(super) offset: i64,
    pub(super) chunks: u32,
    /// Offset of the first chunk in the state topic, or of the manifest without chunks.
    pub(super) first_chunk: i64,
    /// CRC-32C over the bytes of all chunks.
    pub(super) checksum: u32,
    pub(super) sensors: u64,
}

impl Manifest {
    /// A manifest of this program for `offset`, with no chunks yet.
    pub(super) fn new(cluster_id: String, partitions: usize, offset: i64) -> Self {
        Self {
            format: FORMAT,
            definition: definition(),
            cluster_id,
            partitions,
            offset,
            chunks: 0,
            first_chunk: 0,
            checksum: 0,
            sensors: 0,
        }
    }

    /// True if this program can read the chunks.
    pub(super) fn is_readable(&self) -> bool {
        self.format == FORMAT && self.definition == definition()
    }

    /// Counts a chunk in.
    pub(super) fn add(&mut self, chunk: &[u8]) {
        self.chunks += 1;
        self.checksum = crc32c::crc32c_append(self.checksum, chunk);
    }
}

fn definition() -> (u32, u32) {
    (SCALAR_VERSION, MOMENTS_VERSION)
}

/// Appends a sensor.
pub(super) fn encode(out: &mut Vec<u8>, series: &Series, state: &SensorState) {
    text(out, &series.asset);
    text(out, &series.sensor);
    out.extend(state.watermark_ns.to_le_bytes());
    out.extend(state.kept_from_ns.to_le_bytes());
    unsigned(out, state.open.len() as u64);
    for open in &state.open {
        unsigned(out, open.window_ns.unsigned_abs());
        out.extend(open.start_ns.to_le_bytes());
        signed(out, open.revision);
        out.push(open.published as u8);
        out.push(u8::from(open.folded.is_some()));
        if let Some(folded) = &open.folded {
            folded.moments.to_words().iter().for_each(|word| out.extend(word.to_le_bytes()));
            unsigned(out, folded.uncertain);
            unsigned(out, folded.bad);
        }
    }
    let Irregular { duplicates, conflicts, late } = state.irregular;
    [duplicates, conflicts, late].into_iter().for_each(|count| unsigned(out, count));
    unsigned(out, state.samples.len() as u64);
    let all_good = state.samples.iter().all(|(_, _, quality)| quality == Quality::Good);
    out.push(u8::from(all_good));
    let mut before = 0_i64;
    for (time_ns, value, quality) in state.samples.iter() {
        signed(out, time_ns.wrapping_sub(before));
        before = time_ns;
        out.extend(value.to_le_bytes());
        if !all_good {
            out.push(quality as u8);
        }
    }
}

/// Reads the sensors that are whole, and takes their bytes away. Windows that are no longer configured are left out.
pub(super) fn decode(config: &FeatureConfig, bytes: &mut Vec<u8>, mut sensor: impl FnMut(Series, SensorState)) {
    let mut rest = bytes.as_slice();
    let mut read = 0;
    while let Some((series, state)) = take_sensor(config, &mut rest) {
        sensor(series, state);
        read = bytes.len() - rest.len();
    }
    bytes.drain(..read);
}

fn take_sensor(config: &FeatureConfig, bytes: &mut &[u8]) -> Option<(Series, SensorState)> {
    let series = Series { asset: take_name(bytes)?, sensor: take_name(bytes)? };
    let (watermark_ns, kept_from_ns) = (i64::from_le_bytes(take(bytes)?), i64::from_le_bytes(take(bytes)?));
    let mut open = Vec::new();
    for _ in 0..take_unsigned(bytes)? {
        let window = take_open(bytes)?;
        if config.windows_ns.contains(&window.window_ns) {
            open.push(window);
        }
    }
    let irregular =
        Irregular { duplicates: take_unsigned(bytes)?, conflicts: take_unsigned(bytes)?, late: take_unsigned(bytes)? };
    let count = take_unsigned(bytes)?;
    let all_good = take::<1>(bytes)? == [1];
    // A damaged count asks for no more room than its bytes could fill.
    let room = usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len() / SAMPLE_BYTES_MIN);
    let mut samples = Samples::with_room(room);
    let mut time_ns = 0_i64;
    for _ in 0..count {
        time_ns = time_ns.wrapping_add(take_signed(bytes)?);
        let value = f64::from_le_bytes(take(bytes)?);
        let quality = if all_good { Quality::Good } else { take_quality(bytes)? };
        samples.put(time_ns, value, quality);
    }
    Some((series, SensorState::restored(config, samples, watermark_ns, kept_from_ns, open, irregular)))
}

fn take_open(bytes: &mut &[u8]) -> Option<Open> {
    let window_ns = i64::try_from(take_unsigned(bytes)?).ok().filter(|window_ns| *window_ns > 0)?;
    let start_ns = i64::from_le_bytes(take(bytes)?);
    let revision = take_signed(bytes)?;
    let published = match take(bytes)? {
        [0] => Published::Not,
        [1] => Published::Provisional,
        [2] => Published::Final,
        _ => return None,
    };
    let folded = match take(bytes)? {
        [0] => None,
        [1] => {
            let mut words = [0; Moments::WORDS];
            for word in &mut words {
                *word = u64::from_le_bytes(take(bytes)?);
            }
            let moments = Moments::from_words(words);
            Some(Box::new(Folded { moments, uncertain: take_unsigned(bytes)?, bad: take_unsigned(bytes)? }))
        }
        _ => return None,
    };
    Some(Open { start_ns, window_ns, revision, published, folded })
}

fn text(out: &mut Vec<u8>, text: &str) {
    unsigned(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn signed(out: &mut Vec<u8>, value: i64) {
    unsigned(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn take_unsigned(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take(bytes)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    let bits = take_unsigned(bytes)?;
    Some((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed())
}

fn take_name(bytes: &mut &[u8]) -> Option<Box<str>> {
    let length = usize::try_from(take_unsigned(bytes)?).ok()?;
    let (name, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(name).ok().filter(|name| is_name(name)).map(Into::into)
}

fn take_quality(bytes: &mut &[u8]) -> Option<Quality> {
    match take(bytes)? {
        [0] => Some(Quality::Good),
        [1] => Some(Quality::Uncertain),
        [2] => Some(Quality::Bad),
        _ => None,
    }
}
