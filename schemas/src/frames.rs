//! Frames into columns.

use std::ops::RangeInclusive;

use crate::{
    Frame, FrameColumns, RowReject, SampleFormat, SeriesInterner, avro, check,
    json::{self, Key},
    plan::{Kind, Plan},
    reject::{self, Refusal},
    value::{Slots, Value, slot},
};

const KEYS: &[Key] = &[
    Key { name: "asset", slot: slot::ASSET, text_time: false },
    Key { name: "sensor", slot: slot::SENSOR, text_time: false },
    Key { name: "start_ns", slot: slot::TIME, text_time: false },
    Key { name: "start", slot: slot::TIME, text_time: true },
    Key { name: "sample_rate_hz", slot: slot::RATE, text_time: false },
    Key { name: "format", slot: slot::FORMAT, text_time: false },
    Key { name: "scale", slot: slot::SCALE, text_time: false },
    Key { name: "samples", slot: slot::VALUE, text_time: false },
    Key { name: "quality", slot: slot::QUALITY, text_time: false },
];

/// Writes the frame of one record.
pub(crate) struct FrameWriter<'a> {
    pub(crate) interner: &'a mut SeriesInterner,
    pub(crate) accepted: RangeInclusive<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) arrival_ms: i64,
    pub(crate) into: &'a mut FrameColumns,
    pub(crate) rejects: &'a mut Vec<RowReject>,
}

impl FrameWriter<'_> {
    /// Reads Avro binary.
    pub(crate) fn avro(mut self, plan: &Plan, body: &[u8]) -> Result<(), Refusal> {
        if plan.kind != Kind::Frame {
            return Err(&reject::NOT_FRAME);
        }
        let mut slots = Default::default();
        avro::record(body, &plan.schema, &plan.steps, &mut slots)?;
        let samples = match slots[slot::VALUE] {
            Value::Bytes(samples) => Ok(samples),
            _ => Err(&reject::NO_FIELD),
        };
        let written = samples.and_then(|samples| self.frame(&slots, samples));
        self.end(written);
        Ok(())
    }

    /// Reads JSON. `samples` is memory to be used again.
    pub(crate) fn json(mut self, payload: &[u8], samples: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut cursor = json::Cursor::new(payload)?;
        if cursor.peek() != Some(b'{') {
            return Err(&reject::NOT_FRAME);
        }
        let mut slots = Default::default();
        cursor.object(KEYS, &mut slots)?;
        cursor.end()?;
        if slots[slot::VALUE] == Value::Absent {
            return Err(&reject::NOT_FRAME);
        }
        let written = json_samples(&cursor, &slots, samples).and_then(|()| self.frame(&slots, samples));
        self.end(written);
        Ok(())
    }

    fn frame(&mut self, slots: &Slots<'_, { slot::COUNT }>, samples: &[u8]) -> Result<(), Refusal> {
        let format = check::format(slots[slot::FORMAT])?;
        let start_ns = check::time(slots[slot::TIME], &self.accepted)?;
        let sample_rate_hz = check::rate(slots[slot::RATE])?;
        let scale = check::scale(slots[slot::SCALE], format)?;
        let quality = check::quality(slots[slot::QUALITY])?;
        let count = check::samples(samples, format)?;
        check::last_sample(start_ns, sample_rate_hz, count, &self.accepted)?;
        let series = check::series(self.interner, slots[slot::ASSET], slots[slot::SENSOR], self.key)?;
        let arrival_ms = self.arrival_ms;
        self.into.push(Frame { series, start_ns, sample_rate_hz, format, scale, quality, arrival_ms, samples });
        Ok(())
    }

    fn end(&mut self, written: Result<(), Refusal>) {
        if let Err(refusal) = written {
            self.rejects.push(RowReject { row: 0, reject: refusal.clone() });
        }
    }
}

/// Writes a JSON array of numbers as little-endian samples. Each is the nearest of its format, so what was written with
/// enough digits comes back bit for bit.
fn json_samples(cursor: &json::Cursor<'_>, slots: &Slots<'_, { slot::COUNT }>, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let Value::Nested(at) = slots[slot::VALUE] else { return Err(&reject::WRONG_TYPE) };
    let format = check::format(slots[slot::FORMAT])?;
    let mut cursor = cursor.to(at);
    let mut begun = false;
    out.clear();
    while cursor.at_item(&mut begun).map_err(|_| &reject::WRONG_TYPE)? {
        let number = cursor.number_text().map_err(|_| &reject::WRONG_TYPE)?;
        match format {
            SampleFormat::F64 => out.extend(number.parse::<f64>().map_err(|_| &reject::WRONG_TYPE)?.to_le_bytes()),
            SampleFormat::F32 => out.extend(number.parse::<f32>().map_err(|_| &reject::WRONG_TYPE)?.to_le_bytes()),
            SampleFormat::I16 => out.extend(number.parse::<i16>().map_err(|_| &reject::WRONG_TYPE)?.to_le_bytes()),
        }
    }
    Ok(())
}
