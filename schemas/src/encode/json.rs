//! JSON. A value that is not finite has no JSON form: it is written as `null`, which the decoder rejects row by row.

use serde::Serialize;

use crate::{Event, EventBody, FrameRecord, Quality, Reading, ReadingBatch, SampleFormat};

/// Appends a reading.
pub fn reading(out: &mut Vec<u8>, asset: &str, reading: &Reading<'_>) {
    let mut object = Object::open(out);
    object.field("asset", asset);
    row(&mut object, reading);
    object.close();
}

/// Appends readings of one asset.
pub fn readings(out: &mut Vec<u8>, asset: &str, rows: &[Reading<'_>]) {
    let mut object = Object::open(out);
    object.field("asset", asset);
    list(object.key("readings"), rows, |out, reading| {
        let mut object = Object::open(out);
        row(&mut object, reading);
        object.close();
    });
    object.close();
}

/// Appends readings of one sensor as columns.
pub fn reading_columns(out: &mut Vec<u8>, asset: &str, batch: &ReadingBatch<'_>) {
    let mut object = Object::open(out);
    object.field("asset", asset);
    object.field("sensor", batch.sensor);
    let base_ns = batch.times_ns.first().copied().unwrap_or(0);
    object.field("base_time_ns", base_ns);
    list(object.key("time_deltas_ns"), batch.times_ns, |out, time| any(out, time.wrapping_sub(base_ns)));
    list(object.key("values"), batch.values, |out, value| any(out, value));
    if batch.qualities.iter().any(|quality| *quality != Quality::Good) {
        list(object.key("quality"), batch.qualities, |out, quality| any(out, quality.name()));
    }
    object.optional("first_seq", batch.first_seq);
    object.close();
}

/// Appends a frame; bytes at the end that do not make a sample are left out.
pub fn frame(out: &mut Vec<u8>, asset: &str, frame: &FrameRecord<'_>) {
    let mut object = Object::open(out);
    object.field("asset", asset);
    object.field("sensor", frame.sensor);
    object.field("start_ns", frame.start_ns);
    object.field("sample_rate_hz", frame.sample_rate_hz);
    object.field("format", frame.format.name());
    if frame.format == SampleFormat::I16 {
        object.field("scale", frame.scale);
    }
    let samples = object.key("samples");
    match frame.format {
        SampleFormat::F64 => list(samples, frame.samples.as_chunks().0, |out, sample| any(out, f64::from_le_bytes(*sample))),
        SampleFormat::F32 => list(samples, frame.samples.as_chunks().0, |out, sample| any(out, f32::from_le_bytes(*sample))),
        SampleFormat::I16 => list(samples, frame.samples.as_chunks().0, |out, sample| any(out, i16::from_le_bytes(*sample))),
    }
    quality(&mut object, frame.quality);
    object.optional("seq", frame.seq);
    object.close();
}

/// Appends an event.
pub fn event(out: &mut Vec<u8>, event: &Event<'_>) {
    let mut object = Object::open(out);
    object.field("asset", &event.asset);
    object.field("time_ns", event.time_ns);
    object.optional("seq", event.seq);
    match &event.body {
        EventBody::MachineState { state, until_ns, reason } => {
            object.field("kind", "machine_state");
            object.field("state", state.name());
            object.optional("until_ns", *until_ns);
            object.optional("reason", reason.as_deref());
        }
        EventBody::ProductionCount { total, scrap, rework, counter, since_ns, unit_time_s, product, order } => {
            object.field("kind", "production_count");
            object.field("total", total);
            object.field("scrap", scrap);
            object.field("rework", rework);
            object.field("counter", counter);
            object.optional("since_ns", *since_ns);
            object.optional("unit_time_s", *unit_time_s);
            object.optional("product", product.as_deref());
            object.optional("order", order.as_deref());
        }
        EventBody::Alarm { code, active, severity, category, text } => {
            object.field("kind", "alarm");
            object.field("code", code);
            object.field("active", active);
            object.optional("severity", *severity);
            object.optional("category", category.as_deref());
            object.optional("text", text.as_deref());
        }
        EventBody::WorkOrder { order, phase, product, quantity, unit_time_s } => {
            object.field("kind", "work_order");
            object.field("order", order);
            object.field("phase", phase.name());
            object.optional("product", product.as_deref());
            object.optional("quantity", *quantity);
            object.optional("unit_time_s", *unit_time_s);
        }
    }
    object.close();
}

fn row(object: &mut Object<'_>, reading: &Reading<'_>) {
    object.field("sensor", reading.sensor);
    object.field("time_ns", reading.time_ns);
    object.field("value", reading.value);
    quality(object, reading.quality);
    object.optional("seq", reading.seq);
}

fn quality(object: &mut Object<'_>, quality: Quality) {
    object.optional("quality", (quality != Quality::Good).then(|| quality.name()));
}

fn list<T>(out: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn any(out: &mut Vec<u8>, value: impl Serialize) {
    // Writing text or a number to memory cannot fail.
    let _ = serde_json::to_writer(out, &value);
}

struct Object<'a> {
    out: &'a mut Vec<u8>,
    separator: u8,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut Vec<u8>) -> Self {
        Self { out, separator: b'{' }
    }

    fn key(&mut self, name: &'static str) -> &mut Vec<u8> {
        self.out.push(self.separator);
        self.separator = b',';
        any(self.out, name);
        self.out.push(b':');
        self.out
    }

    fn field(&mut self, name: &'static str, value: impl Serialize) {
        any(self.key(name), value);
    }

    fn optional(&mut self, name: &'static str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }

    fn close(self) {
        self.out.push(b'}');
    }
}
