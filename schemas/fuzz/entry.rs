//! The entry point that the fuzzer and the tests share: any bytes, through every decoder.

use mantis_schemas::{
    AcceptedTimes, Decoder, DecoderConfig, Event, FrameColumns, ReadingColumns, RecordMeta, RegisteredSchema, Reject, RowReject,
    is_name,
};

/// Timestamp of every record: 2026-09-01.
pub const NOW_MS: i64 = 1_788_220_800_000;

/// A writer's schema with a field of every type, known to us and not, under id 7.
pub const EVERY_TYPE: &str = r#"{"type":"record","name":"com.acme.Measurement","fields":[
    {"name":"nothings","type":{"type":"array","items":"null"}},
    {"name":"tree","type":["null",{"type":"record","name":"Node","fields":[
        {"name":"left","type":["null","Node"]},{"name":"right","type":["null","Node"]},{"name":"label","type":"string"}]}]},
    {"name":"device","type":"string","aliases":["asset"]},
    {"name":"flags","type":{"type":"map","values":["boolean","int",{"type":"enum","name":"Flag","symbols":["up","down"]}]}},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"aliases":["time_ns"]},
    {"name":"readings","type":{"type":"array","items":{"type":"record","name":"Row","fields":[
        {"name":"raw","type":{"type":"fixed","name":"Raw","size":3}},
        {"name":"tag","type":"bytes","aliases":["sensor"]},
        {"name":"when","type":["null",{"type":"long","logicalType":"timestamp-micros"}],"aliases":["time_ns"]},
        {"name":"value","type":["null","int","long","float","double"]},
        {"name":"status","type":{"type":"enum","name":"Status","symbols":["GOOD","BAD","STALE"]},"aliases":["quality"]}]}}},
    {"name":"tail","type":{"type":"array","items":["null","float","double","long","bytes"]}}]}"#;

/// What a decoder made of a payload.
#[derive(Debug, Default)]
pub struct Decoded {
    pub readings: ReadingColumns,
    pub frames: FrameColumns,
    pub rejects: Vec<RowReject>,
}

/// A decoder that knows [`EVERY_TYPE`].
pub fn decoder() -> Decoder {
    let registered = vec![RegisteredSchema { id: 7, avsc: EVERY_TYPE.into() }];
    Decoder::new(DecoderConfig { registered, rows_per_record_max: 1_000, ..DecoderConfig::default() }).unwrap()
}

/// Reads the payload as a reading.
pub fn readings(decoder: &mut Decoder, payload: &[u8], into: &mut Decoded) -> Result<(), Reject> {
    decoder.readings(meta(), payload, &mut into.readings, &mut into.rejects)
}

/// Reads the payload as a frame.
pub fn frames(decoder: &mut Decoder, payload: &[u8], into: &mut Decoded) -> Result<(), Reject> {
    decoder.frames(meta(), payload, &mut into.frames, &mut into.rejects)
}

/// Reads the payload as an event.
pub fn event<'a>(decoder: &'a Decoder, payload: &'a [u8]) -> Result<Event<'a>, Reject> {
    decoder.event(meta(), payload)
}

/// Reads the payload as everything, and checks what must hold of any.
pub fn anything(decoder: &mut Decoder, payload: &[u8]) {
    let accepted = AcceptedTimes::default().of(Some(NOW_MS));
    let mut decoded = Decoded::default();
    if readings(decoder, payload, &mut decoded).is_ok() {
        let Decoded { readings, rejects, .. } = &decoded;
        let rows = readings.len();
        assert!(rows + rejects.len() <= 1_000);
        assert!(rejects.is_sorted_by(|a, b| a.row < b.row));
        assert!(
            [readings.time_ns.len(), readings.value.len(), readings.quality.len(), readings.arrival_ms.len()]
                .iter()
                .all(|len| *len == rows)
        );
        assert!(readings.value.iter().all(|value| value.is_finite()));
        assert!(readings.time_ns.iter().all(|time| accepted.contains(time)));
        let table = decoder.series();
        let names = table.read();
        assert!(readings.series.iter().all(|id| is_name(&names[id.index()].asset) && is_name(&names[id.index()].sensor)));
    }
    let mut decoded = Decoded::default();
    if frames(decoder, payload, &mut decoded).is_ok() {
        let Decoded { frames, rejects, .. } = &decoded;
        assert_eq!(frames.len() + rejects.len(), 1);
        if frames.len() == 1 {
            let frame = frames.frame(0);
            assert!(accepted.contains(&frame.start_ns) && frame.sample_rate_hz > 0.0 && frame.sample_rate_hz.is_finite());
            assert!(!frame.samples.is_empty() && frame.samples.len() % frame.format.width() == 0);
        }
    }
    if let Ok(event) = event(decoder, payload) {
        assert!(accepted.contains(&event.time_ns) && is_name(&event.asset));
    }
}

fn meta() -> RecordMeta<'static> {
    RecordMeta { key: Some(b"key"), timestamp_ms: Some(NOW_MS) }
}
