//! Schemas change; what was written stays readable, and what will be written is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use mantis_schemas::*;

const NOW_MS: i64 = 1_788_220_800_000;
const T: i64 = NOW_MS * 1_000_000;
const META: RecordMeta<'static> = RecordMeta { key: Some(b"by-key"), timestamp_ms: Some(NOW_MS) };

fn decoder(avsc: &str) -> Decoder {
    let registered = vec![RegisteredSchema { id: 1, avsc: avsc.into() }];
    Decoder::new(DecoderConfig { registered, ..DecoderConfig::default() }).unwrap()
}

fn readings(decoder: &mut Decoder, payload: &[u8]) -> (ReadingColumns, Vec<RowReject>) {
    let (mut into, mut rejects) = (ReadingColumns::default(), Vec::new());
    decoder.readings(META, payload, &mut into, &mut rejects).unwrap();
    (into, rejects)
}

/// A record behind Confluent's framing with id 1, as apache-avro writes it.
fn confluent(avsc: &str, fields: &[(&str, apache_avro::types::Value)]) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(avsc).unwrap();
    let record = apache_avro::types::Value::Record(fields.iter().map(|(name, value)| ((*name).into(), value.clone())).collect());
    let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&schema).build().unwrap();
    [&[0, 0, 0, 0, 1], &writer.write_value_to_vec(record).unwrap()[..]].concat()
}

#[test]
fn a_field_that_was_added_with_a_default_takes_it_when_an_older_writer_leaves_it_out() {
    use apache_avro::types::Value::{Double, Long, String};
    // Reading as it was before quality and seq were added.
    let older = r#"{"type":"record","name":"Reading","namespace":"mantis","fields":[{"name":"asset","type":"string"},
        {"name":"sensor","type":"string"},{"name":"time_ns","type":"long"},{"name":"value","type":"double"}]}"#;
    let payload = confluent(
        older,
        &[("asset", String("a".into())), ("sensor", String("s".into())), ("time_ns", Long(T)), ("value", Double(1.5))],
    );
    let (rows, rejects) = readings(&mut decoder(older), &payload);
    assert_eq!(rejects, []);
    assert_eq!((&rows.time_ns[..], &rows.value[..], &rows.quality[..]), (&[T][..], &[1.5][..], &[Quality::Good][..]));
}

#[test]
fn fields_that_a_later_writer_added_are_skipped_wherever_they_stand() {
    use apache_avro::types::Value::{Array, Double, Enum, Long, Null, Record, String, Union};
    let later = r#"{"type":"record","name":"Readings","namespace":"mantis","fields":[
        {"name":"site","type":["null","string"],"default":null},
        {"name":"readings","type":{"type":"array","items":{"type":"record","name":"SensorReading","fields":[
            {"name":"sensor","type":"string"},{"name":"unit","type":"string","default":""},{"name":"time_ns","type":"long"},{"name":"value","type":"double"},
            {"name":"quality","type":{"type":"enum","name":"Quality","symbols":["good","uncertain","bad","stale"],"default":"uncertain"},"default":"good"},
            {"name":"seq","type":["null","long"],"default":null}]}}},
        {"name":"asset","type":"string"},
        {"name":"hops","type":{"type":"array","items":"string"},"default":[]}]}"#;
    let row = |quality: u32, symbol: &str| {
        let fields = [
            ("sensor", String("s".into())),
            ("unit", String("bar".into())),
            ("time_ns", Long(T)),
            ("value", Double(1.5)),
            ("quality", Enum(quality, symbol.into())),
            ("seq", Union(0, Box::new(Null))),
        ];
        Record(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
    };
    let payload = confluent(
        later,
        &[
            ("site", Union(1, Box::new(String("north".into())))),
            ("readings", Array(vec![row(2, "bad"), row(3, "stale")])),
            ("asset", String("a".into())),
            ("hops", Array(vec![String("edge".into())])),
        ],
    );
    let mut decoder = decoder(later);
    let (rows, rejects) = readings(&mut decoder, &payload);
    assert_eq!(rejects, []);
    // A quality that this version does not know is what the schema's enum says: uncertain.
    assert_eq!(rows.quality, [Quality::Bad, Quality::Uncertain]);
    assert_eq!(&*decoder.series().read()[0].asset, "a");
}

#[test]
fn an_event_of_a_kind_that_was_added_later_is_refused_and_the_known_kinds_are_read() {
    use apache_avro::types::Value::{Boolean, Double, Long, Record, String, Union};
    let later = r#"{"type":"record","name":"Event","namespace":"mantis","fields":[{"name":"asset","type":"string"},{"name":"time_ns","type":"long"},
        {"name":"body","type":[
            {"type":"record","name":"Alarm","fields":[{"name":"code","type":"string"},{"name":"active","type":"boolean"},{"name":"loudness","type":"double"}]},
            {"type":"record","name":"Inspection","fields":[{"name":"by","type":"string"}]}]}]}"#;
    let decoder = decoder(later);
    let event = |branch: u32, body: Vec<(&str, apache_avro::types::Value)>| {
        let body = Record(body.into_iter().map(|(name, value)| (name.into(), value)).collect());
        confluent(later, &[("asset", String("a".into())), ("time_ns", Long(T)), ("body", Union(branch, Box::new(body)))])
    };
    let alarm = event(0, vec![("code", String("93".into())), ("active", Boolean(false)), ("loudness", Double(80.0))]);
    let expected = EventBody::Alarm { code: "93".into(), active: false, severity: None, category: None, text: None };
    assert_eq!(decoder.event(META, &alarm).unwrap().body, expected);
    let inspection = event(1, vec![("by", String("x".into()))]);
    assert_eq!(decoder.event(META, &inspection).unwrap_err().code, "unknown-event");
}

#[test]
fn a_schema_id_that_is_registered_later_makes_the_same_record_readable() {
    use apache_avro::types::Value::{Double, Long, String};
    let avsc = r#"{"type":"record","name":"Reading","fields":[{"name":"asset","type":"string"},{"name":"sensor","type":"string"},
        {"name":"ms","type":{"type":"long","logicalType":"timestamp-millis"},"aliases":["time_ns"]},{"name":"value","type":"double"}]}"#;
    let payload = confluent(
        avsc,
        &[("asset", String("a".into())), ("sensor", String("s".into())), ("ms", Long(NOW_MS)), ("value", Double(1.5))],
    );
    let mut before = Decoder::new(DecoderConfig::default()).unwrap();
    let refused = before.readings(META, &payload, &mut ReadingColumns::default(), &mut Vec::new()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "unknown-schema: schema id 1 is not registered: add it under [[schemas]] in mantis.toml and replay the dead letter"
    );
    let (rows, _) = readings(&mut decoder(avsc), &payload);
    assert_eq!(rows.time_ns, [T]);
}

#[test]
fn a_registered_schema_that_cannot_be_used_is_named_at_the_start() {
    let register = |ids: &[u32], avsc: &str| {
        let registered = ids.iter().map(|id| RegisteredSchema { id: *id, avsc: avsc.into() }).collect();
        Decoder::new(DecoderConfig { registered, ..DecoderConfig::default() }).map(drop)
    };
    let refused = register(&[9], r#""string""#).unwrap_err();
    assert_eq!(refused.to_string(), "schema id 9 cannot be used: it is not a record");
    assert_eq!(register(&[9, 9], include_str!("../avro/reading.avsc")), Err(ConfigError::Twice(9)));
}

/// data-loss bug #25: NaN, infinity and times that overflow stop here, row by row, before any sink's edge.
#[test]
fn nan_and_overflowing_times_refuse_their_rows_and_leave_the_others() {
    let batch = ReadingBatch {
        sensor: "s",
        times_ns: &[T, 0, T + 600_000_000_000, T + 600_000_000_001, T],
        values: &[1.0, 2.0, 3.0, 4.0, f64::NAN],
        qualities: &[],
        first_seq: None,
    };
    for write in [encode::avro::reading_columns, encode::json::reading_columns] {
        let mut payload = Vec::new();
        write(&mut payload, "a", &batch);
        let (rows, rejects) = readings(&mut Decoder::new(DecoderConfig::default()).unwrap(), &payload);
        assert_eq!(rows.value, [1.0, 3.0]);
        let rejected: Vec<(u32, &str)> = rejects.iter().map(|row| (row.row, row.reject.code)).collect();
        assert_eq!(rejected[..2], [(1, "time-out-of-range"), (3, "time-out-of-range")]);
        // JSON has no NaN: it was written as null.
        assert!(matches!(rejected[2], (4, "not-finite" | "missing-field")));
    }
}

#[test]
fn a_series_beyond_the_bound_is_refused_row_by_row() {
    let mut decoder = Decoder::new(DecoderConfig { series_max: 1, ..DecoderConfig::default() }).unwrap();
    let payload = format!(
        r#"[{{"sensor":"s","time_ns":{T},"value":1}},{{"sensor":"t","time_ns":{T},"value":2}},{{"sensor":"s","time_ns":{T},"value":3}}]"#
    );
    let (rows, rejects) = readings(&mut decoder, payload.as_bytes());
    assert_eq!(rows.value, [1.0, 3.0]);
    assert_eq!((rejects[0].row, rejects[0].reject.code), (1, "too-many-series"));
    assert_eq!(&*decoder.series().read()[0].asset, "by-key");
}

#[test]
fn a_record_without_timestamp_has_no_upper_bound_of_time() {
    let year_2200 = 7_258_118_400_000_000_000_i64;
    let payload = format!(r#"{{"asset":"a","sensor":"s","time_ns":{year_2200},"value":1}}"#);
    let mut decoder = Decoder::new(DecoderConfig::default()).unwrap();
    let (_, rejects) = readings(&mut decoder, payload.as_bytes());
    assert_eq!(rejects[0].reject.code, "time-out-of-range");
    let (mut into, mut rejects) = (ReadingColumns::default(), Vec::new());
    decoder.readings(RecordMeta::default(), payload.as_bytes(), &mut into, &mut rejects).unwrap();
    assert_eq!((&into.time_ns[..], &into.arrival_ms[..]), (&[year_2200][..], &[-1][..]));
}
