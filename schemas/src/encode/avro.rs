//! Avro single-object encoding: `C3 01`, the schema's fingerprint (8 bytes, little endian), the record in Avro binary.

use crate::{
    Event, EventBody, Feature, FrameRecord, Quality, Reading, ReadingBatch, framing,
    known::{self, Known},
};

/// Appends a `mantis.Reading`.
pub fn reading(out: &mut Vec<u8>, asset: &str, reading: &Reading<'_>) {
    mark(out, &known::READING);
    text(out, asset);
    row(out, reading);
}

/// Appends a `mantis.Readings`.
pub fn readings(out: &mut Vec<u8>, asset: &str, rows: &[Reading<'_>]) {
    mark(out, &known::READINGS);
    text(out, asset);
    if !rows.is_empty() {
        long(out, rows.len() as i64);
        rows.iter().for_each(|reading| row(out, reading));
    }
    long(out, 0);
}

/// Appends a `mantis.ReadingColumns`. Times that lie further apart than 2^63 ns cannot be written: they wrap around.
pub fn reading_columns(out: &mut Vec<u8>, asset: &str, batch: &ReadingBatch<'_>) {
    mark(out, &known::READING_COLUMNS);
    text(out, asset);
    text(out, batch.sensor);
    let base_ns = batch.times_ns.first().copied().unwrap_or(0);
    long(out, base_ns);
    long(out, size_of_val(batch.times_ns) as i64);
    out.extend(batch.times_ns.iter().flat_map(|time| time.wrapping_sub(base_ns).to_le_bytes()));
    long(out, size_of_val(batch.values) as i64);
    out.extend(batch.values.iter().flat_map(|value| value.to_le_bytes()));
    if batch.qualities.iter().all(|quality| *quality == Quality::Good) {
        long(out, 0);
    } else {
        long(out, batch.qualities.len() as i64);
        out.extend(batch.qualities.iter().map(|quality| *quality as u8));
    }
    optional(out, batch.first_seq, long);
}

/// Appends a `mantis.Frame`.
pub fn frame(out: &mut Vec<u8>, asset: &str, frame: &FrameRecord<'_>) {
    mark(out, &known::FRAME);
    text(out, asset);
    text(out, frame.sensor);
    long(out, frame.start_ns);
    double(out, frame.sample_rate_hz);
    long(out, frame.format as i64);
    double(out, frame.scale);
    bytes(out, frame.samples);
    long(out, frame.quality as i64);
    optional(out, frame.seq, long);
}

/// Appends a `mantis.Event`.
pub fn event(out: &mut Vec<u8>, event: &Event<'_>) {
    mark(out, &known::EVENT);
    text(out, &event.asset);
    long(out, event.time_ns);
    optional(out, event.seq, long);
    match &event.body {
        EventBody::MachineState { state, until_ns, reason } => {
            long(out, 0);
            long(out, *state as i64);
            optional(out, *until_ns, long);
            optional(out, reason.as_deref(), text);
        }
        EventBody::ProductionCount { total, scrap, rework, counter, since_ns, unit_time_s, product, order } => {
            long(out, 1);
            long(out, *total);
            long(out, *scrap);
            long(out, *rework);
            out.push(u8::from(*counter));
            optional(out, *since_ns, long);
            optional(out, *unit_time_s, double);
            optional(out, product.as_deref(), text);
            optional(out, order.as_deref(), text);
        }
        EventBody::Alarm { code, active, severity, category, text: words } => {
            long(out, 2);
            text(out, code);
            out.push(u8::from(*active));
            optional(out, severity.map(i64::from), long);
            optional(out, category.as_deref(), text);
            optional(out, words.as_deref(), text);
        }
        EventBody::WorkOrder { order, phase, product, quantity, unit_time_s } => {
            long(out, 3);
            text(out, order);
            long(out, *phase as i64);
            optional(out, product.as_deref(), text);
            optional(out, *quantity, long);
            optional(out, *unit_time_s, double);
        }
    }
}

/// Appends a `mantis.Features`: rows of one asset, each with its sensor.
pub fn features<'a>(out: &mut Vec<u8>, asset: &str, rows: impl ExactSizeIterator<Item = (&'a str, &'a Feature)>) {
    mark(out, &known::FEATURES);
    text(out, asset);
    if rows.len() > 0 {
        long(out, rows.len() as i64);
        rows.for_each(|(sensor, row)| feature(out, sensor, row));
    }
    long(out, 0);
}

fn feature(out: &mut Vec<u8>, sensor: &str, row: &Feature) {
    text(out, sensor);
    for number in [row.window_ns, row.start_ns, row.end_ns, i64::from(row.version), row.count, row.uncertain, row.bad] {
        long(out, number);
    }
    optional(out, row.coverage, double);
    out.push(u8::from(row.exact));
    out.push(u8::from(row.provisional));
    long(out, row.revision);
    long(out, row.processed_ms);
    row.figures.iter().for_each(|(_, value)| optional(out, value, double));
    text(out, &row.extras);
}

fn row(out: &mut Vec<u8>, reading: &Reading<'_>) {
    text(out, reading.sensor);
    long(out, reading.time_ns);
    double(out, reading.value);
    long(out, reading.quality as i64);
    optional(out, reading.seq, long);
}

fn mark(out: &mut Vec<u8>, schema: &Known) {
    out.extend(framing::SINGLE_OBJECT);
    out.extend(schema.fingerprint.to_le_bytes());
}

/// A union of null and something else, null first.
fn optional<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    long(out, i64::from(value.is_some()));
    if let Some(value) = value {
        write(out, value);
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    bytes(out, text.as_bytes());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

fn double(out: &mut Vec<u8>, value: f64) {
    out.extend(value.to_le_bytes());
}

fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
