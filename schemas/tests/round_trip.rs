//! What our encoders write, our decoder reads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use mantis_schemas::*;

const NOW_MS: i64 = 1_788_220_800_000;
const T: i64 = NOW_MS * 1_000_000;
const META: RecordMeta<'static> = RecordMeta { key: Some(b"by-key"), timestamp_ms: Some(NOW_MS) };

type Encode = fn(&mut Vec<u8>, &str, &ReadingBatch<'_>);
type EncodeMany = fn(&mut Vec<u8>, &str, &[Reading<'_>]);

fn each(out: &mut Vec<Vec<u8>>, batch: &ReadingBatch<'_>, write: fn(&mut Vec<u8>, &str, &Reading<'_>)) {
    for reading in rows(batch) {
        let mut payload = Vec::new();
        write(&mut payload, "a", &reading);
        out.push(payload);
    }
}

fn rows<'a>(batch: &ReadingBatch<'a>) -> Vec<Reading<'a>> {
    (0..batch.values.len())
        .map(|i| Reading {
            sensor: batch.sensor,
            time_ns: batch.times_ns[i],
            value: batch.values[i],
            quality: batch.qualities.get(i).copied().unwrap_or_default(),
            seq: batch.first_seq.map(|seq| seq + i as i64),
        })
        .collect()
}

#[test]
fn every_shape_and_encoding_of_the_same_readings_gives_the_same_columns() {
    let batch = ReadingBatch {
        sensor: "Temp °C \"q\" \\",
        times_ns: &[T, T - 1, T + 600_000_000_000, 946_684_800_000_000_000],
        values: &[1.5, -0.0, f64::MIN_POSITIVE / 8.0, f64::MAX],
        qualities: &[Quality::Good, Quality::Uncertain, Quality::Bad, Quality::Good],
        first_seq: Some(7),
    };
    let mut payloads: Vec<Vec<Vec<u8>>> = Vec::new();
    let columns: [Encode; 2] = [encode::avro::reading_columns, encode::json::reading_columns];
    for write in columns {
        let mut payload = Vec::new();
        write(&mut payload, "a", &batch);
        payloads.push(vec![payload]);
    }
    let many: [EncodeMany; 2] = [encode::avro::readings, encode::json::readings];
    for write in many {
        let mut payload = Vec::new();
        write(&mut payload, "a", &rows(&batch));
        payloads.push(vec![payload]);
    }
    for write in [encode::avro::reading, encode::json::reading] {
        let mut each_payload = Vec::new();
        each(&mut each_payload, &batch, write);
        payloads.push(each_payload);
    }
    for payloads in payloads {
        let mut decoder = Decoder::new(DecoderConfig::default()).unwrap();
        let (mut into, mut rejects) = (ReadingColumns::default(), Vec::new());
        for payload in &payloads {
            decoder
                .readings(META, payload, &mut into, &mut rejects)
                .unwrap_or_else(|e| panic!("{e} {}", String::from_utf8_lossy(payload)));
        }
        assert_eq!(rejects, []);
        assert_eq!(into.time_ns, batch.times_ns);
        assert_eq!(
            into.value.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            batch.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        );
        assert_eq!(into.quality, batch.qualities);
        assert_eq!(into.series, [SeriesId(0); 4]);
        assert_eq!(into.arrival_ms, [NOW_MS; 4]);
        let table = decoder.series();
        let names = table.read();
        assert_eq!((&*names[0].asset, &*names[0].sensor), ("a", batch.sensor));
    }
}

#[test]
fn frames_come_back_bit_for_bit_in_every_format() {
    let f64s: Vec<u8> = [0.1_f64, -0.0, f64::MAX, 5e-324].iter().flat_map(|v| v.to_le_bytes()).collect();
    let f32s: Vec<u8> = [0.1_f32, -0.0, f32::MAX, 1e-45].iter().flat_map(|v| v.to_le_bytes()).collect();
    let i16s: Vec<u8> = [0_i16, -1, i16::MAX, i16::MIN].iter().flat_map(|v| v.to_le_bytes()).collect();
    for (format, scale, samples) in
        [(SampleFormat::F64, 1.0, &f64s), (SampleFormat::F32, 1.0, &f32s), (SampleFormat::I16, 0.25, &i16s)]
    {
        let frame = FrameRecord {
            sensor: "s",
            start_ns: T,
            sample_rate_hz: 12_000.0,
            format,
            scale,
            samples,
            quality: Quality::Uncertain,
            seq: None,
        };
        for write in [encode::avro::frame, encode::json::frame] {
            let mut payload = Vec::new();
            write(&mut payload, "a", &frame);
            let mut decoder = Decoder::new(DecoderConfig::default()).unwrap();
            let (mut into, mut rejects) = (FrameColumns::default(), Vec::new());
            decoder.frames(META, &payload, &mut into, &mut rejects).unwrap();
            assert_eq!(rejects, []);
            let expected = Frame {
                series: SeriesId(0),
                start_ns: T,
                sample_rate_hz: 12_000.0,
                format,
                scale,
                quality: Quality::Uncertain,
                arrival_ms: NOW_MS,
                samples,
            };
            assert_eq!(into.frame(0), expected);
        }
    }
}

#[test]
fn events_of_every_kind_come_back_as_they_were() {
    let bodies = [
        EventBody::MachineState { state: State::PlannedDown, until_ns: Some(T + 1), reason: Some("Übergabe \"x\"".into()) },
        EventBody::ProductionCount {
            total: 1440,
            scrap: 14,
            rework: 0,
            counter: true,
            since_ns: Some(T - 1),
            unit_time_s: Some(30.0),
            product: Some("p".into()),
            order: None,
        },
        EventBody::Alarm { code: "93".into(), active: false, severity: Some(500), category: Some("ok".into()), text: None },
        EventBody::WorkOrder {
            order: "4711".into(),
            phase: OrderPhase::Finished,
            product: None,
            quantity: Some(100),
            unit_time_s: None,
        },
    ];
    for body in bodies {
        let event = Event { asset: "a".into(), time_ns: T, seq: Some(3), body };
        for write in [encode::avro::event, encode::json::event] {
            let mut payload = Vec::new();
            write(&mut payload, &event);
            let decoder = Decoder::new(DecoderConfig::default()).unwrap();
            assert_eq!(decoder.event(META, &payload).as_ref(), Ok(&event), "{}", String::from_utf8_lossy(&payload));
        }
    }
}
