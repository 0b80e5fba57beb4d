//! The examples are what they say they are. `UPDATE_EXAMPLES=1 cargo test -p mantis-schemas --test examples` writes the
//! Avro ones anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{fs, path::PathBuf};

use mantis_schemas::*;

const NOW_MS: i64 = 1_788_220_800_000;
const T: i64 = NOW_MS * 1_000_000;
const META: RecordMeta<'static> = RecordMeta { key: None, timestamp_ms: Some(NOW_MS) };

fn example(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "examples", name].iter().collect()
}

/// The Avro example holds exactly what the encoder writes.
fn is_what_we_write(name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    let mut payload = Vec::new();
    write(&mut payload);
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        fs::write(path(name), &payload).unwrap();
    }
    assert_eq!(example(name), payload, "{name}");
}

/// Rows as (asset, sensor, time, value, quality).
fn readings(name: &str) -> Vec<(String, String, i64, f64, Quality)> {
    let mut decoder = Decoder::new(DecoderConfig::default()).unwrap();
    let (mut into, mut rejects) = (ReadingColumns::default(), Vec::new());
    decoder.readings(META, &example(name), &mut into, &mut rejects).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(rejects, []);
    let series = decoder.series();
    let series = series.read();
    let row = |row: usize| {
        let names = &series[into.series[row].index()];
        (names.asset.to_string(), names.sensor.to_string(), into.time_ns[row], into.value[row], into.quality[row])
    };
    (0..into.len()).map(row).collect()
}

fn row(sensor: &str, time_ns: i64, value: f64, quality: Quality) -> (String, String, i64, f64, Quality) {
    ("pump-7".into(), sensor.into(), time_ns, value, quality)
}

const TEMPERATURE: Reading<'static> =
    Reading { sensor: "bearing_temperature", time_ns: T, value: 71.25, quality: Quality::Good, seq: Some(41) };
const FLOW: Reading<'static> = Reading { sensor: "flow", time_ns: T + 500, value: 12.0, quality: Quality::Uncertain, seq: None };

#[test]
fn the_examples_of_one_reading_hold_the_same_reading() {
    is_what_we_write("reading.avro", |out| encode::avro::reading(out, "pump-7", &TEMPERATURE));
    for name in ["reading.avro", "reading.json", "reading_time_as_text.json"] {
        assert_eq!(readings(name), [row("bearing_temperature", T, 71.25, Quality::Good)], "{name}");
    }
}

#[test]
fn the_examples_of_many_readings_hold_the_same_readings() {
    is_what_we_write("readings.avro", |out| encode::avro::readings(out, "pump-7", &[TEMPERATURE, FLOW]));
    for name in ["readings.avro", "readings.json", "readings_list.json"] {
        let expected = [row("bearing_temperature", T, 71.25, Quality::Good), row("flow", T + 500, 12.0, Quality::Uncertain)];
        assert_eq!(readings(name), expected, "{name}");
    }
}

#[test]
fn the_examples_of_a_column_batch_hold_the_same_readings() {
    let batch = ReadingBatch {
        sensor: "flow",
        times_ns: &[T, T + 1_000_000, T + 2_000_000],
        values: &[12.0, 12.5, 13.0],
        qualities: &[Quality::Good, Quality::Good, Quality::Bad],
        first_seq: Some(100),
    };
    is_what_we_write("reading_columns.avro", |out| encode::avro::reading_columns(out, "pump-7", &batch));
    for name in ["reading_columns.avro", "reading_columns.json"] {
        let expected: Vec<_> = (0..3).map(|i| row("flow", batch.times_ns[i], batch.values[i], batch.qualities[i])).collect();
        assert_eq!(readings(name), expected, "{name}");
    }
}

#[test]
fn the_examples_of_a_frame_hold_the_same_frame() {
    let samples: Vec<u8> = [512_i16, -300, 17, 0].iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let frame = FrameRecord {
        sensor: "vibration_x",
        start_ns: T,
        sample_rate_hz: 12_000.0,
        format: SampleFormat::I16,
        scale: 0.001,
        samples: &samples,
        quality: Quality::Good,
        seq: None,
    };
    is_what_we_write("frame.avro", |out| encode::avro::frame(out, "pump-7", &frame));
    for name in ["frame.avro", "frame.json"] {
        let mut decoder = Decoder::new(DecoderConfig::default()).unwrap();
        let (mut into, mut rejects) = (FrameColumns::default(), Vec::new());
        decoder.frames(META, &example(name), &mut into, &mut rejects).unwrap();
        assert_eq!(rejects, []);
        let read = into.frame(0);
        assert_eq!(
            (read.start_ns, read.sample_rate_hz, read.format, read.scale, read.samples),
            (T, 12_000.0, SampleFormat::I16, 0.001, &samples[..])
        );
        assert_eq!(&*decoder.series().read()[0].sensor, "vibration_x");
    }
}

#[test]
fn the_examples_of_events_hold_the_same_events() {
    let bracket = || Some("bracket".into());
    let events = [
        (
            "machine_state",
            "press-2",
            EventBody::MachineState { state: State::Failure, until_ns: None, reason: Some("hydraulics".into()) },
        ),
        (
            "production_count",
            "press-2",
            EventBody::ProductionCount {
                total: 96,
                scrap: 2,
                rework: 0,
                counter: false,
                since_ns: Some(T - 300_000_000_000),
                unit_time_s: Some(3.0),
                product: bracket(),
                order: None,
            },
        ),
        (
            "alarm",
            "turbine-22",
            EventBody::Alarm { code: "93".into(), active: true, severity: None, category: Some("grid".into()), text: None },
        ),
        (
            "work_order",
            "press-2",
            EventBody::WorkOrder {
                order: "4711".into(),
                phase: OrderPhase::Started,
                product: bracket(),
                quantity: Some(1200),
                unit_time_s: Some(3.0),
            },
        ),
    ];
    for (kind, asset, body) in events {
        let event = Event { asset: asset.into(), time_ns: T, seq: None, body };
        is_what_we_write(&format!("event_{kind}.avro"), |out| encode::avro::event(out, &event));
        for encoding in ["avro", "json"] {
            let payload = example(&format!("event_{kind}.{encoding}"));
            assert_eq!(
                Decoder::new(DecoderConfig::default()).unwrap().event(META, &payload).as_ref(),
                Ok(&event),
                "{kind}.{encoding}"
            );
        }
    }
}
