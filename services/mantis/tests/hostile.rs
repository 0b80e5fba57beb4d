//! What no gateway should send, and some do: each record is accounted for, and what can be mended comes in later.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{Up, json, json_lines, run};
use mantis_kafka::{ClientConfig, OutRecord, Producer};
use mantis_schemas::{Quality, Reading, ReadingBatch, encode, topics};

/// 2026-01-01T00:00:00Z
const NEW_YEAR_NS: i64 = 1_767_225_600_000_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;
const SCHEMA_ID: u32 = 7;
/// A later version of a reading's schema, of somebody else: another order, a field more.
const SCHEMA: &str = r#"{"type":"record","name":"Reading","namespace":"plant.v2","fields":[
    {"name":"site","type":"string"},
    {"name":"asset","type":"string"},
    {"name":"sensor","type":"string"},
    {"name":"value","type":"double"},
    {"name":"time_ns","type":"long"}]}"#;

fn record(key: &str, payload: impl Into<Vec<u8>>) -> OutRecord {
    OutRecord {
        topic: Arc::from(topics::READINGS),
        partition: None,
        key: Some(key.as_bytes().to_vec()),
        payload: Some(payload.into()),
        headers: Vec::new(),
        timestamp_ms: None,
    }
}

fn avro(sensor: &str, time_ns: i64, value: f64) -> Vec<u8> {
    let mut payload = Vec::new();
    encode::avro::reading(&mut payload, "press", &Reading { sensor, time_ns, value, quality: Quality::Good, seq: None });
    payload
}

fn json_reading(sensor: &str, time: &str) -> String {
    format!(r#"{{"asset":"press","sensor":"{sensor}","time":"{time}","value":1.5}}"#)
}

/// A payload in Confluent's framing with a schema that nobody has registered yet.
fn of_unknown_schema() -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.push(u8::try_from(text.len()).unwrap() << 1);
        out.extend(text.as_bytes());
    }
    let mut payload = vec![0];
    payload.extend(SCHEMA_ID.to_be_bytes());
    text(&mut payload, "plant 4");
    text(&mut payload, "press");
    text(&mut payload, "from-v2");
    payload.extend(42.5_f64.to_le_bytes());
    let mut zigzag = (NEW_YEAR_NS << 1).cast_unsigned();
    while zigzag >= 0x80 {
        payload.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    payload.push(zigzag as u8);
    payload
}

/// Three readings, the middle one not a number.
fn batch_with_a_hole() -> Vec<u8> {
    let mut payload = Vec::new();
    let times = [NEW_YEAR_NS, NEW_YEAR_NS + 1, NEW_YEAR_NS + 2];
    let batch =
        ReadingBatch { sensor: "holed", times_ns: &times, values: &[1.0, f64::NAN, 3.0], qualities: &[], first_seq: None };
    encode::avro::reading_columns(&mut payload, "press", &batch);
    payload
}

/// Bytes that no compression brings below the topic's limit (splitmix64).
fn incompressible(len: usize) -> Vec<u8> {
    let mut seed = 1_u64;
    let mut next = || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

const LATENESS: &str = "[features]\nlateness_s = 7200\n";

#[test]
fn every_hostile_record_is_accounted_for_and_what_was_mended_comes_in_with_a_replay() {
    let folder = tempfile::tempdir().unwrap();
    // An hour out of order is no trouble for figures either, if they are told to wait.
    std::fs::write(folder.path().join("mantis.toml"), LATENESS).unwrap();
    let up = Up::start(folder.path(), &[]);
    let mut records = vec![
        record("press", r#"{"asset":"press","sensor":"#),
        record("press", &avro("cut", NEW_YEAR_NS, 1.0)[..20]),
        record("press", avro("nan", NEW_YEAR_NS, f64::NAN)),
        record("press", batch_with_a_hole()),
        record("press", json_reading("old", "1970-01-01T00:00:00Z")),
        record("press", json_reading("future", "2200-01-01T00:00:00Z")),
        record("press", json_reading("bad\\u0007name", "2026-01-01T00:00:00Z")),
        record("press", of_unknown_schema()),
        record("", json_reading("keyless", "2026-01-01T00:00:00Z")),
    ];
    records.extend((0..10_000).map(|_| record("press", avro("repeated", NEW_YEAR_NS, 7.0))));
    records.extend((0..60).map(|minute| record("press", avro("late", NEW_YEAR_NS - minute * HOUR_NS / 60, minute as f64))));
    let sent = records.len();
    let oversize = record("press", incompressible(2_000_000));

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let producer = Producer::new(&ClientConfig::new(up.brokers.as_str())).unwrap();
        for delivered in producer.send_all(&records).await {
            delivered.unwrap();
        }
        let refused = producer.send(oversize).await.unwrap_err().to_string();
        assert!(refused.contains("large"), "{refused}");
    });

    let account = json(folder.path(), &["audit", "raw", "--wait", "60"], 0);
    assert_eq!(account["proved"], true, "{account}");
    assert_eq!(account["records"], sent);
    // Broken JSON, cut Avro, unknown schema.
    assert_eq!(account["records_dead_lettered"], 3);
    // NaN alone, NaN in the batch, 1970, 2200, the control character.
    assert_eq!(account["rows_rejected"], 5);
    assert_eq!(account["duplicates"], 9_999);
    // Two of the batch, the one without key, the repeated one, 60 late ones.
    assert_eq!(account["stored"], 2 + 1 + 1 + 60);
    // Each worker that cannot read a record keeps a letter of it: a list has the record once.
    assert_eq!(json_lines(folder.path(), &["dlq", "list"], 3).len(), 8);
    up.stop();

    std::fs::write(folder.path().join("reading-v2.avsc"), SCHEMA).unwrap();
    let settings = format!(
        "{LATENESS}[decode]\naccepted_from = \"1960-01-01T00:00:00Z\"\naccepted_ahead_s = 8000000000\n\
         [[schemas]]\nid = {SCHEMA_ID}\nfile = \"reading-v2.avsc\"\n"
    );
    std::fs::write(folder.path().join("mantis.toml"), settings).unwrap();
    let up = Up::start(folder.path(), &[]);
    let replayed = json(folder.path(), &["dlq", "replay"], 0);
    assert_eq!(replayed["replayed"], 8);
    let account = json(folder.path(), &["audit", "raw", "--wait", "60"], 0);
    assert_eq!(account["proved"], true, "{account}");
    for (sensor, value) in [("old", 1.5), ("future", 1.5), ("from-v2", 42.5)] {
        let stored = json_lines(folder.path(), &["query", "readings", "press", sensor], 0);
        assert_eq!(stored.len(), 1, "{sensor}");
        assert_eq!(stored[0]["value"], value, "{sensor}");
    }
    // Those that nothing mends are dead letters again: broken JSON, cut Avro, NaN twice, the control character.
    assert_eq!(json_lines(folder.path(), &["dlq", "list"], 3).len(), 5);
    let all = json_lines(folder.path(), &["dlq", "list", "--all"], 3);
    assert_eq!(all.len(), 8 + 5);
    let shown = run(folder.path(), &["dlq", "show", all[0]["position"].as_str().unwrap()], 0);
    assert!(String::from_utf8(shown.stdout).unwrap().contains("mantis.readings"));
    up.stop();
}
