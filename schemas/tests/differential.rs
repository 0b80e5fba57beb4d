//! The same bytes read and written by apache-avro and serde_json.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../fuzz/entry.rs"]
#[allow(dead_code, unreachable_pub)]
mod entry;

use apache_avro::{
    Schema, rabin::Rabin, reader::datum::GenericDatumReader, types::Value as Avro, writer::datum::GenericDatumWriter,
};
use mantis_schemas::{
    Decoder, DecoderConfig, Event, EventBody, FrameColumns, FrameRecord, OrderPhase, Quality, Reading, ReadingBatch,
    ReadingColumns, RecordMeta, RegisteredSchema, SampleFormat, State, encode,
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value as Json, json};

const T: i64 = entry::NOW_MS * 1_000_000;
const META: RecordMeta<'static> = RecordMeta { key: None, timestamp_ms: Some(entry::NOW_MS) };

const READING: &str = include_str!("../avro/reading.avsc");
const READINGS: &str = include_str!("../avro/readings.avsc");
const READING_COLUMNS: &str = include_str!("../avro/reading_columns.avsc");
const FRAME: &str = include_str!("../avro/frame.avsc");
const EVENT: &str = include_str!("../avro/event.avsc");

fn schema(avsc: &str) -> Schema {
    Schema::parse_str(avsc).unwrap()
}

fn single_object(avsc: &str, value: Avro) -> Vec<u8> {
    let schema = schema(avsc);
    let mut payload = vec![0xc3, 0x01];
    payload.extend(schema.fingerprint::<Rabin>().bytes);
    payload.extend(GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap());
    payload
}

/// Takes a single object apart with apache-avro; nothing may follow it.
fn read_single_object(avsc: &str, payload: &[u8]) -> Avro {
    let schema = schema(avsc);
    assert_eq!(payload[..2], [0xc3, 0x01]);
    assert_eq!(payload[2..10], schema.fingerprint::<Rabin>().bytes[..]);
    let mut body = &payload[10..];
    let value = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut body).unwrap();
    assert!(body.is_empty());
    value
}

fn record(fields: Vec<(&str, Avro)>) -> Avro {
    Avro::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn some(value: Option<Avro>) -> Avro {
    value.map_or(Avro::Union(0, Box::new(Avro::Null)), |value| Avro::Union(1, Box::new(value)))
}

fn text(text: &str) -> Avro {
    Avro::String(text.into())
}

fn quality(quality: Quality) -> Avro {
    Avro::Enum(quality as u32, quality.name().into())
}

fn row(reading: &Reading<'_>) -> Vec<(&'static str, Avro)> {
    vec![
        ("sensor", text(reading.sensor)),
        ("time_ns", Avro::Long(reading.time_ns)),
        ("value", Avro::Double(reading.value)),
        ("quality", quality(reading.quality)),
        ("seq", some(reading.seq.map(Avro::Long))),
    ]
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_]{1,12}", "[^\\p{Cc}\\u{2028}\\u{2029}]{1,40}"]
}

fn qualities() -> impl Strategy<Value = Quality> {
    prop::sample::select(vec![Quality::Good, Quality::Uncertain, Quality::Bad])
}

fn times() -> impl Strategy<Value = i64> {
    prop_oneof![T - 1_000_000..T + 1_000_000, 946_684_800_000_000_000..=T + 600_000_000_000]
}

fn values() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("finite", |value| value.is_finite()),
        (-100_000..100_000_i32).prop_map(|n| f64::from(n) / 1000.0),
        Just(-0.0)
    ]
}

fn rows() -> impl Strategy<Value = Vec<(String, i64, f64, Quality, Option<i64>)>> {
    vec((names(), times(), values(), qualities(), any::<Option<i64>>()), 0..20)
}

fn readings(rows: &[(String, i64, f64, Quality, Option<i64>)]) -> Vec<Reading<'_>> {
    rows.iter()
        .map(|(sensor, time_ns, value, quality, seq)| Reading {
            sensor,
            time_ns: *time_ns,
            value: *value,
            quality: *quality,
            seq: *seq,
        })
        .collect()
}

fn decode(decoder: &mut Decoder, payload: &[u8]) -> ReadingColumns {
    let (mut into, mut rejects) = (ReadingColumns::default(), Vec::new());
    decoder.readings(META, payload, &mut into, &mut rejects).unwrap();
    assert_eq!(rejects, []);
    into
}

/// (asset, sensor, time, bits of the value, quality) of each row.
fn named(decoder: &Decoder, columns: &ReadingColumns) -> Vec<(String, String, i64, u64, Quality)> {
    let table = decoder.series();
    let series = table.read();
    (0..columns.len())
        .map(|row| {
            let names = &series[columns.series[row].index()];
            (
                names.asset.to_string(),
                names.sensor.to_string(),
                columns.time_ns[row],
                columns.value[row].to_bits(),
                columns.quality[row],
            )
        })
        .collect()
}

fn expected(asset: &str, rows: &[Reading<'_>]) -> Vec<(String, String, i64, u64, Quality)> {
    rows.iter().map(|row| (asset.into(), row.sensor.into(), row.time_ns, row.value.to_bits(), row.quality)).collect()
}

fn decoder() -> Decoder {
    Decoder::new(DecoderConfig::default()).unwrap()
}

/// A type that we do not know, with a value of it: JSON text of the type, value.
fn foreign() -> impl Strategy<Value = (Json, Avro)> {
    let leaf = prop_oneof![
        Just((json!("null"), Avro::Null)),
        any::<bool>().prop_map(|value| (json!("boolean"), Avro::Boolean(value))),
        any::<i32>().prop_map(|value| (json!("int"), Avro::Int(value))),
        any::<i64>().prop_map(|value| (json!("long"), Avro::Long(value))),
        any::<f32>().prop_map(|value| (json!("float"), Avro::Float(value))),
        any::<f64>().prop_map(|value| (json!({"type": "double"}), Avro::Double(value))),
        vec(any::<u8>(), 0..9).prop_map(|value| (json!("bytes"), Avro::Bytes(value))),
        any::<String>().prop_map(|value| (json!("string"), Avro::String(value))),
        vec(any::<u8>(), 0..5)
            .prop_map(|value| (json!({"type": "fixed", "name": "F", "size": value.len()}), Avro::Fixed(value.len(), value))),
        (0..3_u32).prop_map(|at| (
            json!({"type": "enum", "name": "E", "symbols": ["A", "B", "C"]}),
            Avro::Enum(at, ["A", "B", "C"][at as usize].into())
        )),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), 0..4_usize)
                .prop_map(|((of, value), count)| (json!({"type": "array", "items": of}), Avro::Array(vec![value; count]))),
            (inner.clone(), 0..3_usize).prop_map(|((of, value), count)| (
                json!({"type": "map", "values": of}),
                Avro::Map((0..count).map(|at| (format!("k{at}"), value.clone())).collect())
            )),
            (inner.clone(), any::<bool>()).prop_map(|((of, value), there)| if of.is_array() || of == json!("null") {
                (of, value)
            } else if there {
                (json!(["null", of]), Avro::Union(1, Box::new(value)))
            } else {
                (json!([of, "null"]), Avro::Union(1, Box::new(Avro::Null)))
            }),
            vec(inner, 0..4).prop_map(|fields| {
                let types: Vec<Json> =
                    fields.iter().enumerate().map(|(at, (of, _))| json!({"name": format!("f{at}"), "type": of})).collect();
                let values = fields.into_iter().enumerate().map(|(at, (_, value))| (format!("f{at}"), value)).collect();
                (json!({"type": "record", "name": "R", "fields": types}), Avro::Record(values))
            }),
        ]
    })
}

/// Gives every named type within a type a name of its own, since a name may be defined only once.
fn rename(of: &mut Json, count: &mut usize) {
    match of {
        Json::Object(object) => {
            if object.contains_key("name")
                && object.contains_key("type")
                && (object.contains_key("fields") || object.contains_key("symbols") || object.contains_key("size"))
            {
                *count += 1;
                object.insert("name".into(), json!(format!("N{count}")));
            }
            object.values_mut().for_each(|value| rename(value, count));
        }
        Json::Array(items) => items.iter_mut().for_each(|item| rename(item, count)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn readings_written_by_apache_avro_are_read_by_us(asset in names(), rows in rows()) {
        let rows = readings(&rows);
        let mut decoder = decoder();
        let list = rows.iter().map(|reading| record(row(reading))).collect();
        let payload = single_object(READINGS, record(vec![("asset", text(&asset)), ("readings", Avro::Array(list))]));
        let columns = decode(&mut decoder, &payload);
        prop_assert_eq!(named(&decoder, &columns), expected(&asset, &rows));
        for reading in &rows {
            let mut fields = vec![("asset", text(&asset))];
            fields.extend(row(reading));
            let columns = decode(&mut decoder, &single_object(READING, record(fields)));
            prop_assert_eq!(named(&decoder, &columns), expected(&asset, std::slice::from_ref(reading)));
        }
    }

    #[test]
    fn readings_written_by_us_are_read_by_apache_avro(asset in names(), rows in rows()) {
        let rows = readings(&rows);
        let mut payload = Vec::new();
        encode::avro::readings(&mut payload, &asset, &rows);
        let list = rows.iter().map(|reading| record(row(reading))).collect();
        prop_assert_eq!(read_single_object(READINGS, &payload), record(vec![("asset", text(&asset)), ("readings", Avro::Array(list))]));
        for reading in &rows {
            payload.clear();
            encode::avro::reading(&mut payload, &asset, reading);
            let mut fields = vec![("asset", text(&asset))];
            fields.extend(row(reading));
            prop_assert_eq!(read_single_object(READING, &payload), record(fields));
        }
    }

    #[test]
    fn columns_go_both_ways_through_apache_avro(asset in names(), sensor in names(), rows in rows(), graded in any::<bool>(), first_seq in any::<Option<i64>>()) {
        let mut rows = readings(&rows);
        rows.iter_mut().for_each(|row| { row.sensor = &sensor; if !graded { row.quality = Quality::Good } });
        let times_ns: Vec<i64> = rows.iter().map(|row| row.time_ns).collect();
        let values: Vec<f64> = rows.iter().map(|row| row.value).collect();
        let qualities: Vec<Quality> = rows.iter().map(|row| row.quality).collect();
        let bytes = |all_good: bool| if all_good { vec![] } else { qualities.iter().map(|quality| *quality as u8).collect() };
        let base = times_ns.first().copied().unwrap_or(0);
        let value = record(vec![
            ("asset", text(&asset)),
            ("sensor", text(&sensor)),
            ("base_time_ns", Avro::Long(base)),
            ("time_deltas_ns", Avro::Bytes(times_ns.iter().flat_map(|time| (time - base).to_le_bytes()).collect())),
            ("values", Avro::Bytes(values.iter().flat_map(|value| value.to_le_bytes()).collect())),
            ("quality", Avro::Bytes(bytes(qualities.iter().all(|quality| *quality == Quality::Good)))),
            ("first_seq", some(first_seq.map(Avro::Long))),
        ]);
        let mut payload = Vec::new();
        encode::avro::reading_columns(&mut payload, &asset, &ReadingBatch { sensor: &sensor, times_ns: &times_ns, values: &values, qualities: &qualities, first_seq });
        prop_assert_eq!(&read_single_object(READING_COLUMNS, &payload), &value);
        let mut decoder = decoder();
        let columns = decode(&mut decoder, &single_object(READING_COLUMNS, value));
        prop_assert_eq!(named(&decoder, &columns), expected(&asset, &rows));
    }

    #[test]
    fn frames_go_both_ways_through_apache_avro(
        sensor in names(),
        start_ns in T - 1_000_000..T,
        sample_rate_hz in 1.0..1e6_f64,
        values in vec(values(), 1..50),
        format in prop::sample::select(vec![SampleFormat::F64, SampleFormat::I16]),
        quality_ in qualities(),
    ) {
        let samples: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let scale = if format == SampleFormat::I16 { 0.25 } else { 1.0 };
        let frame = FrameRecord { sensor: &sensor, start_ns, sample_rate_hz, format, scale, samples: &samples, quality: quality_, seq: None };
        let value = record(vec![
            ("asset", text("a")),
            ("sensor", text(&sensor)),
            ("start_ns", Avro::Long(start_ns)),
            ("sample_rate_hz", Avro::Double(sample_rate_hz)),
            ("format", Avro::Enum(format as u32, format.name().into())),
            ("scale", Avro::Double(scale)),
            ("samples", Avro::Bytes(samples.clone())),
            ("quality", quality(quality_)),
            ("seq", some(None)),
        ]);
        let mut payload = Vec::new();
        encode::avro::frame(&mut payload, "a", &frame);
        prop_assert_eq!(&read_single_object(FRAME, &payload), &value);
        let mut decoder = decoder();
        let (mut into, mut rejects) = (FrameColumns::default(), Vec::new());
        decoder.frames(META, &single_object(FRAME, value), &mut into, &mut rejects).unwrap();
        prop_assert_eq!(rejects, vec![]);
        let read = into.frame(0);
        prop_assert_eq!((read.start_ns, read.sample_rate_hz, read.format, read.scale, read.quality), (start_ns, sample_rate_hz, format, scale, quality_));
        prop_assert_eq!(read.samples, &samples[..]);
    }

    #[test]
    fn fields_of_any_type_that_we_do_not_know_are_skipped(
        foreign_fields in vec(foreign(), 0..5),
        order in Just((0..9_usize).collect::<Vec<_>>()).prop_shuffle(),
        sensor in names(),
        time_ms in 946_684_800_000..entry::NOW_MS,
        value in prop_oneof![any::<i32>().prop_map(Avro::Int), any::<i64>().prop_map(Avro::Long), (-1e30..1e30_f32).prop_map(Avro::Float), values().prop_map(Avro::Double)],
    ) {
        let (value_type, expected_value) = match value {
            Avro::Int(value) => ("int", f64::from(value)),
            Avro::Long(value) => ("long", value as f64),
            Avro::Float(value) => ("float", f64::from(value)),
            Avro::Double(value) => ("double", value),
            _ => unreachable!(),
        };
        let mut fields = vec![
            (json!({"name": "asset", "type": ["null", "string"]}), Avro::Union(1, Box::new(text("a")))),
            (json!({"name": "tag", "type": "string", "aliases": ["sensor"]}), text(&sensor)),
            (json!({"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}, "aliases": ["time_ns"]}), Avro::TimestampMillis(time_ms)),
            (json!({"name": "value", "type": ["null", value_type]}), Avro::Union(1, Box::new(value))),
        ];
        fields.extend(foreign_fields.into_iter().enumerate().map(|(at, (of, value))| (json!({"name": format!("x{at}"), "type": of}), value)));
        let order: Vec<usize> = order.into_iter().filter(|at| *at < fields.len()).collect();
        let mut avsc = json!({"type": "record", "name": "Foreign", "fields": order.iter().map(|at| fields[*at].0.clone()).collect::<Vec<_>>()});
        rename(&mut avsc, &mut 0);
        let values = order.iter().map(|at| (fields[*at].0["name"].as_str().unwrap().to_owned(), fields[*at].1.clone())).collect();
        // apache-avro leaves an object around a type whose logicalType it strips; the specification (and Java) do not.
        let plain = avsc.to_string().replace(r#"{"logicalType":"timestamp-millis","type":"long"}"#, r#""long""#);
        let fingerprint = self::schema(&plain).fingerprint::<Rabin>().bytes;
        let avsc = avsc.to_string();
        let schema = schema(&avsc);
        let body = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(Avro::Record(values)).unwrap();

        let mut decoder = Decoder::new(DecoderConfig { registered: vec![RegisteredSchema { id: 0xfffe_0001, avsc }], ..DecoderConfig::default() }).unwrap();
        let expected = vec![("a".to_owned(), sensor, time_ms * 1_000_000, expected_value.to_bits(), Quality::Good)];
        let columns = decode(&mut decoder, &[&[0, 0xff, 0xfe, 0, 1], &body[..]].concat());
        prop_assert_eq!(named(&decoder, &columns), expected.clone());
        let columns = decode(&mut decoder, &[&[0xc3, 1], &fingerprint[..], &body].concat());
        prop_assert_eq!(named(&decoder, &columns), expected);
    }

    #[test]
    fn json_means_what_serde_json_makes_of_it(
        asset in names(),
        sensor in names(),
        time_ns in times(),
        number in prop_oneof![
            "-?(0|[1-9][0-9]{0,25})",
            "-?(0|[1-9][0-9]{0,20})\\.[0-9]{1,25}",
            "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,20})?[eE][+-]?[0-9]{1,3}",
            values().prop_map(|value| format!("{value:?}")),
            values().prop_map(|value| format!("{value}")),
        ],
        extra in prop::option::of(any::<String>()),
        spaces in "[ \\n\\r\\t]{0,3}",
        escape in any::<bool>(),
    ) {
        let quoted = |text: &str| if escape {
            format!("\"{}\"", text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>())
        } else {
            serde_json::to_string(text).unwrap()
        };
        let extra = extra.map_or(String::new(), |text| format!("{spaces}\"more\":{{{}:[{spaces}{}{spaces}]{spaces}}},", quoted(&text), quoted(&text)));
        let document = format!(
            "{spaces}{{{extra}\"sensor\"{spaces}:{spaces}{},\"value\":{spaces}{number}{spaces},\"asset\":{},\"time_ns\":{time_ns}{spaces}}}{spaces}",
            quoted(&sensor), quoted(&asset)
        );
        let mut decoder = decoder();
        let (mut into, mut rejects) = (ReadingColumns::default(), Vec::new());
        decoder.readings(META, document.as_bytes(), &mut into, &mut rejects).unwrap();
        match serde_json::from_str::<Json>(&document) {
            Ok(json) => {
                prop_assert_eq!(rejects, vec![]);
                let expected = vec![(
                    json["asset"].as_str().unwrap().to_owned(),
                    json["sensor"].as_str().unwrap().to_owned(),
                    json["time_ns"].as_i64().unwrap(),
                    json["value"].as_f64().unwrap().to_bits(),
                    Quality::Good,
                )];
                prop_assert_eq!(named(&decoder, &into), expected);
            }
            // The one thing that it refuses and we take: a number too large for a double refuses the row, not the record.
            Err(error) => {
                prop_assert!(error.to_string().starts_with("number out of range"), "{error}: {document}");
                prop_assert_eq!(rejects[0].reject.code, "not-finite");
            }
        }
    }

    #[test]
    fn json_written_by_us_is_read_by_serde_json(asset in any::<String>(), rows in rows()) {
        let rows = readings(&rows);
        let mut payload = Vec::new();
        encode::json::readings(&mut payload, &asset, &rows);
        let json: Json = serde_json::from_slice(&payload).unwrap();
        prop_assert_eq!(json["asset"].as_str(), Some(&*asset));
        for (row, reading) in json["readings"].as_array().unwrap().iter().zip(&rows) {
            prop_assert_eq!(row["sensor"].as_str(), Some(reading.sensor));
            prop_assert_eq!(row["time_ns"].as_i64(), Some(reading.time_ns));
            prop_assert_eq!(row["value"].as_f64().map(f64::to_bits), Some(reading.value.to_bits()));
            prop_assert_eq!(row["quality"].as_str().unwrap_or("good"), reading.quality.name());
            prop_assert_eq!(row["seq"].as_i64(), reading.seq);
        }
    }
}

#[test]
fn events_go_both_ways_through_apache_avro() {
    let cases = [
        (
            EventBody::MachineState { state: State::NoShift, until_ns: Some(T), reason: None },
            record(vec![
                ("state", Avro::Enum(6, "no_shift".into())),
                ("until_ns", some(Some(Avro::Long(T)))),
                ("reason", some(None)),
            ]),
        ),
        (
            EventBody::ProductionCount {
                total: 5,
                scrap: 1,
                rework: 2,
                counter: true,
                since_ns: None,
                unit_time_s: Some(0.5),
                product: Some("p".into()),
                order: None,
            },
            record(vec![
                ("total", Avro::Long(5)),
                ("scrap", Avro::Long(1)),
                ("rework", Avro::Long(2)),
                ("counter", Avro::Boolean(true)),
                ("since_ns", some(None)),
                ("unit_time_s", some(Some(Avro::Double(0.5)))),
                ("product", some(Some(text("p")))),
                ("order", some(None)),
            ]),
        ),
        (
            EventBody::Alarm { code: "93".into(), active: false, severity: Some(1000), category: None, text: Some("x".into()) },
            record(vec![
                ("code", text("93")),
                ("active", Avro::Boolean(false)),
                ("severity", some(Some(Avro::Int(1000)))),
                ("category", some(None)),
                ("text", some(Some(text("x")))),
            ]),
        ),
        (
            EventBody::WorkOrder {
                order: "4711".into(),
                phase: OrderPhase::Interrupted,
                product: None,
                quantity: Some(9),
                unit_time_s: None,
            },
            record(vec![
                ("order", text("4711")),
                ("phase", Avro::Enum(1, "interrupted".into())),
                ("product", some(None)),
                ("quantity", some(Some(Avro::Long(9)))),
                ("unit_time_s", some(None)),
            ]),
        ),
    ];
    for (branch, (body, value)) in cases.into_iter().enumerate() {
        let event = Event { asset: "a".into(), time_ns: T, seq: Some(-1), body };
        let value = record(vec![
            ("asset", text("a")),
            ("time_ns", Avro::Long(T)),
            ("seq", some(Some(Avro::Long(-1)))),
            ("body", Avro::Union(branch as u32, Box::new(value))),
        ]);
        let mut payload = Vec::new();
        encode::avro::event(&mut payload, &event);
        assert_eq!(read_single_object(EVENT, &payload), value);
        assert_eq!(decoder().event(META, &single_object(EVENT, value)), Ok(event));
    }
}
