//! The audit says what it can prove, and no more.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{Up, cluster::Cluster, json, publish, run};
use mantis_kafka::{Admin, ClientConfig, OutRecord};
use mantis_pipeline::TopicPartition;
use mantis_schemas::topics;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};

const READINGS: u64 = 100;

fn reading(sensor: &str, second: i64) -> String {
    format!(r#"{{"asset":"pump","sensor":"{sensor}","time_ns":{second}000000000,"value":{second}.5}}"#)
}

fn publish_readings(up: &Up) {
    publish_all(&up.brokers, &(1..=READINGS.cast_signed()).map(|second| reading("flow", second)).collect::<Vec<_>>());
}

fn publish_all(brokers: &str, payloads: &[String]) {
    let records: Vec<OutRecord> = payloads
        .iter()
        .map(|payload| OutRecord {
            topic: Arc::from(topics::READINGS),
            partition: Some(0),
            key: Some(b"pump".to_vec()),
            payload: Some(payload.clone().into_bytes()),
            headers: Vec::new(),
            timestamp_ms: None,
        })
        .collect();
    publish(brokers, &records);
}

fn settings() -> [(&'static str, &'static str); 1] {
    [("MANTIS__DECODE__ACCEPTED_FROM", "1970-01-01T00:00:00Z")]
}

/// Environment for commands that decode.
fn audit(folder: &std::path::Path, args: &[&str], code: i32) -> serde_json::Value {
    std::fs::write(folder.join("mantis.toml"), "[decode]\naccepted_from = \"1970-01-01T00:00:00Z\"\n").unwrap();
    json(folder, args, code)
}

#[test]
fn a_store_that_was_tampered_with_does_not_add_up_and_the_row_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &settings());
    publish_readings(&up);
    assert_eq!(audit(folder.path(), &["audit", "raw", "--wait", "30"], 0)["stored"], READINGS);
    let store = rusqlite::Connection::open(folder.path().join("raw.db")).unwrap();
    store.execute_batch("DELETE FROM readings WHERE time_ns = 3000000000").unwrap();
    store.execute_batch("UPDATE readings SET value = 9.25 WHERE time_ns = 4000000000").unwrap();
    store.execute_batch("INSERT INTO readings SELECT series, 1, value, quality, arrival_ms FROM readings LIMIT 1").unwrap();
    let account = audit(folder.path(), &["audit", "raw"], 3);
    assert_eq!((&account["missing"], &account["different"], &account["unexplained"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!((&account["adds_up"], &account["proved"]), (&false.into(), &false.into()));
    let findings = account["findings"].as_array().unwrap();
    let missing = findings.iter().find(|finding| finding["what"] == "missing").unwrap();
    assert_eq!(missing["time_ns"], 3_000_000_000_i64);
    assert_eq!(missing["position"]["offset"], 2);
    up.stop();
}

#[test]
fn a_store_whose_ledger_was_reset_is_filled_again_and_holds_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &settings());
    publish_readings(&up);
    audit(folder.path(), &["audit", "raw", "--wait", "30"], 0);
    let reset = ["ledger", "reset", "raw", "mantis.readings/0"];
    let refused = run(folder.path(), &reset, 1);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another `mantis up` or worker runs"), "{refused:?}");
    up.stop();
    let store = rusqlite::Connection::open(folder.path().join("raw.db")).unwrap();
    store.execute_batch("DELETE FROM readings WHERE time_ns < 50000000000").unwrap();
    drop(store);
    run(folder.path(), &["ledger", "reset", "raw", "mantis.readings"], 2);
    assert_eq!(json(folder.path(), &reset, 0)["forgotten"], serde_json::json!([READINGS]));
    assert_eq!(json(folder.path(), &reset, 3)["forgotten"], serde_json::json!([]));

    let up = Up::start(folder.path(), &settings());
    let account = audit(folder.path(), &["audit", "raw", "--wait", "30"], 0);
    assert_eq!((&account["stored"], &account["conflicts"]), (&READINGS.into(), &0.into()), "{account}");
    up.stop();
}

#[test]
fn an_audit_that_waited_in_vain_says_how_far_the_worker_is_behind() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &settings());
    let store = rusqlite::Connection::open(folder.path().join("raw.db")).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    publish_readings(&up);
    let account = audit(folder.path(), &["audit", "raw", "--wait", "1"], 3);
    assert_eq!(account["behind"], READINGS);
    drop(store);
    assert_eq!(audit(folder.path(), &["audit", "raw", "--wait", "60"], 0)["behind"], 0);
    up.stop();
}

#[test]
fn records_that_left_the_log_are_unproved_and_not_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &settings());
    publish_readings(&up);
    audit(folder.path(), &["audit", "raw", "--wait", "30"], 0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let admin = Admin::new(&ClientConfig::new(up.brokers.as_str())).unwrap();
        admin.delete_records(&TopicPartition::new(topics::READINGS, 0), 10).await.unwrap();
    });
    let account = audit(folder.path(), &["audit", "raw"], 3);
    assert_eq!((&account["adds_up"], &account["proved"]), (&true.into(), &false.into()));
    let range = &account["unproved"][0];
    assert_eq!((&range["topic"], &range["from"], &range["to"]), (&topics::READINGS.into(), &0.into(), &10.into()));
    up.stop();
}

#[test]
fn a_range_of_times_that_was_narrowed_later_does_not_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &settings());
    publish_readings(&up);
    audit(folder.path(), &["audit", "raw", "--wait", "30"], 0);
    std::fs::remove_file(folder.path().join("mantis.toml")).unwrap();
    let account = json(folder.path(), &["audit", "raw"], 3);
    assert_eq!((&account["adds_up"], &account["missing_dead_letters"]), (&false.into(), &READINGS.into()));
    up.stop();
}

#[test]
fn refused_records_whose_dead_letters_were_cut_are_unproved_and_not_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &settings());
    let broken = |offset| OutRecord {
        topic: Arc::from(topics::READINGS),
        partition: Some(0),
        payload: Some(match offset % 2 {
            0 => b"{".to_vec(),
            _ => br#"{"asset":"pump","sensor":"flow","time_ns":-5,"value":1}"#.to_vec(),
        }),
        ..OutRecord::default()
    };
    publish(&up.brokers, &(0..10).map(broken).collect::<Vec<_>>());
    let whole = audit(folder.path(), &["audit", "raw", "--wait", "30"], 0);
    assert_eq!(
        (&whole["records_dead_lettered"], &whole["rows_rejected"], &whole["cut_dead_letters"]),
        (&5.into(), &5.into(), &0.into())
    );
    delete_letters(&up);
    let account = audit(folder.path(), &["audit", "raw"], 3);
    assert_eq!((&account["adds_up"], &account["proved"]), (&true.into(), &false.into()), "{account}");
    assert_eq!((&account["cut_dead_letters"], &account["missing_dead_letters"]), (&10.into(), &0.into()));
    let text = String::from_utf8(run(folder.path(), &["audit", "raw"], 3).stdout).unwrap();
    assert!(text.contains("UNPROVED 10 refused whose dead letters"), "{text}");
    up.stop();
}

/// As retention does, of all that there are.
fn delete_letters(up: &Up) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let admin = Admin::new(&ClientConfig::new(up.brokers.as_str())).unwrap();
        let letters = TopicPartition::new(topics::dead_letter(topics::READINGS), 0);
        let (_, end) = admin.watermarks(&letters).await.unwrap();
        admin.delete_records(&letters, end).await.unwrap();
    });
}

const SENSORS: &str = "
[decode]
accepted_from = '1970-01-01T00:00:00Z'
[[sensors]]
asset = 'pump'
sensor = 'flow'
rate_hz = 1
[[sensors]]
asset = 'pump'
sensor = 'current'
rate_hz = 1000
";

#[test]
fn slow_readings_of_registered_sensors_are_accounted_for_row_by_row_with_those_that_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mantis.toml"), SENSORS).unwrap();
    let up = Up::start(folder.path(), &[]);
    publish_readings(&up);
    let conflict = reading("flow", 8).replace("8.5", "-1");
    let refused = format!("[{},{}]", reading("unknown", -5), reading("flow", READINGS.cast_signed() + 1));
    let more = [reading("current", 1), reading("unknown", 1), reading("unknown", 2), reading("flow", 7), conflict, refused];
    publish_all(&up.brokers, &more);
    publish_all(&up.brokers, &["{".to_owned()]);
    let account = json(folder.path(), &["audit", "timescale", "--wait", "30"], 0);
    assert_eq!((&account["store"], &account["group"]), (&"timescale".into(), &"mantis-timescale".into()));
    assert_eq!((&account["proved"], &account["records_dead_lettered"]), (&true.into(), &1.into()), "{account}");
    assert_eq!((&account["rows"], &account["stored"]), (&(READINGS + 7).into(), &(READINGS + 1).into()));
    assert_eq!((&account["rows_left_out"], &account["rows_rejected"]), (&3.into(), &1.into()));
    assert_eq!((&account["duplicates"], &account["conflicts"]), (&1.into(), &1.into()));

    let store = rusqlite::Connection::open(folder.path().join("features.db")).unwrap();
    store.execute_batch("DELETE FROM readings WHERE time_ns = 3000000000").unwrap();
    store.execute_batch("UPDATE readings SET value = 9.25 WHERE time_ns = 4000000000").unwrap();
    store.execute_batch("INSERT OR IGNORE INTO series (asset, sensor) VALUES ('pump', 'unknown')").unwrap();
    store
        .execute_batch(
            "INSERT INTO readings SELECT (SELECT id FROM series WHERE sensor = 'unknown'), time_ns, value, quality, arrival_ms
             FROM readings WHERE time_ns = 1000000000",
        )
        .unwrap();
    let account = json(folder.path(), &["audit", "timescale"], 3);
    assert_eq!((&account["missing"], &account["different"], &account["unexplained"]), (&1.into(), &1.into(), &1.into()));
    let findings = account["findings"].as_array().unwrap();
    let unexplained = findings.iter().find(|finding| finding["what"] == "unexplained").unwrap();
    assert_eq!(unexplained["series"][1], "unknown", "what the rule leaves out must not be in the store");

    let text = String::from_utf8(run(folder.path(), &["audit"], 3).stdout).unwrap();
    let stores = ["raw store", "features in the feature store", "readings in the feature store", "archive"];
    assert_eq!(text.lines().filter_map(|line| line.strip_prefix("== ")).collect::<Vec<_>>(), stores, "{text}");
    assert!(text.contains(" + 3 left out (sensors that are not registered, or too fast for this store)"), "{text}");
    up.stop();
}

#[test]
fn a_late_reading_without_a_dead_letter_is_found_beside_one_of_the_same_record_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let configure = |lateness_s: u32| {
        let settings = format!("[decode]\naccepted_from = '1970-01-01T00:00:00Z'\n[features]\nlateness_s = {lateness_s}\n");
        std::fs::write(folder.path().join("mantis.toml"), settings).unwrap();
    };
    configure(100);
    let up = Up::start(folder.path(), &[]);
    let backlog = format!("[{},{},{}]", reading("flow", -5), reading("flow", 850), reading("flow", 950));
    publish_all(&up.brokers, &[reading("flow", 1_000), backlog]);
    let account = json(folder.path(), &["audit", "features", "--wait", "30"], 0);
    assert_eq!((&account["readings"]["late"], &account["missing_dead_letters"]), (&1.into(), &0.into()));
    // Held to a shorter lateness, the worker has dead-lettered one of two late rows.
    configure(20);
    let account = json(folder.path(), &["audit", "features"], 3);
    assert_eq!((&account["readings"]["late"], &account["missing_dead_letters"]), (&2.into(), &1.into()), "{account}");
    let findings = account["findings"].as_array().unwrap();
    let missing = findings.iter().find(|finding| finding["what"] == "late reading without a dead letter").unwrap();
    assert_eq!(missing["at"], "mantis.readings/0/1 row 2");

    configure(100);
    delete_letters(&up);
    let account = json(folder.path(), &["audit", "features"], 3);
    assert_eq!((&account["cut_dead_letters"], &account["missing_dead_letters"]), (&1.into(), &0.into()), "{account}");
    assert_eq!((&account["adds_up"], &account["proved"]), (&true.into(), &false.into()));
    up.stop();
}

/// Features in a folder of their own per worker, so that one can be ahead of the other.
struct FeatureWorkers {
    cluster: Cluster,
    _broker: tempfile::TempDir,
    folders: [tempfile::TempDir; 2],
}

impl FeatureWorkers {
    const NAMES: [&str; 2] = ["features", "timescale"];

    fn new() -> Self {
        let (broker, folders) = (tempfile::tempdir().unwrap(), [(); 2].map(|()| tempfile::tempdir().unwrap()));
        Self { cluster: Cluster::start(broker.path()), _broker: broker, folders }
    }

    fn brokers(&self) -> String {
        self.cluster.address.to_string()
    }

    /// One of them, until all that lies in its topics is committed.
    fn run(&self, name: usize) {
        let folder = self.folders[name].path();
        let worker = Self::NAMES[name];
        let mut up = Up::run(folder, &["worker", worker, "--brokers", &self.brokers()], &settings());
        up.wait_until_ready();
        up.wait_until("all is committed", |up| {
            let status = up.status();
            status["workers"][0]["topics"].as_array().unwrap().iter().all(|topic| topic["lag"] == 0)
        });
        up.stop();
    }

    /// As if the features worker were at this offset.
    fn commit(&self, offset: i64) {
        let consumer: BaseConsumer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", self.brokers())
            .set("group.id", "mantis-features")
            .create()
            .unwrap();
        let mut position = TopicPartitionList::new();
        position.add_partition_offset(topics::READINGS, 0, Offset::Offset(offset)).unwrap();
        consumer.commit(&position, CommitMode::Sync).unwrap();
    }

    fn audit(&self, code: i32) -> serde_json::Value {
        audit(self.folders[1].path(), &["audit", "features", "--brokers", &self.brokers()], code)
    }
}

#[test]
fn rows_that_became_final_behind_the_audited_position_are_later_and_not_different() {
    let workers = FeatureWorkers::new();
    publish_all(&workers.brokers(), &(1..=30).map(|second| reading("flow", second)).collect::<Vec<_>>());
    workers.run(0);
    workers.run(1);
    assert_eq!(workers.audit(0)["proved_rows"], 3);
    // The audit of a moment before: the reading that ends the first window lies behind the worker's position.
    workers.commit(9);
    let account = workers.audit(0);
    assert_eq!((&account["different"], &account["later_rows"]), (&0.into(), &3.into()), "{account}");
}

#[test]
fn positions_that_the_features_worker_has_passed_and_the_log_does_not_have_are_unproved() {
    let workers = FeatureWorkers::new();
    publish_all(&workers.brokers(), &(1..=30).map(|second| reading("flow", second)).collect::<Vec<_>>());
    workers.run(0);
    workers.run(1);
    workers.commit(40);
    let account = workers.audit(3);
    assert_eq!((&account["adds_up"], &account["proved"]), (&true.into(), &false.into()), "{account}");
    let range = &account["unproved"][0];
    assert_eq!((&range["topic"], &range["from"], &range["to"]), (&topics::READINGS.into(), &30.into(), &40.into()));
}

#[test]
fn rows_that_the_store_has_yet_to_replace_are_open_and_not_different() {
    let workers = FeatureWorkers::new();
    publish_all(&workers.brokers(), &[reading("flow", 1), reading("flow", 12)]);
    workers.run(0);
    workers.run(1);
    publish_all(&workers.brokers(), &[reading("flow", 2)]);
    workers.run(0);
    let account = workers.audit(0);
    assert_eq!((&account["different"], &account["open_rows"]), (&0.into(), &3.into()), "{account}");
    workers.run(1);
    assert_eq!(workers.audit(0)["proved_rows"], 1);
}

#[test]
fn an_export_through_a_link_replaces_the_file_and_keeps_the_link() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &settings());
    publish_readings(&up);
    audit(folder.path(), &["audit", "raw", "--wait", "30"], 0);
    let (file, link) = (folder.path().join("readings.csv"), folder.path().join("latest"));
    std::fs::write(&file, "before").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    run(folder.path(), &["export", "readings", "-o", link.to_str().unwrap()], 0);
    assert!(link.is_symlink());
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count() as u64, READINGS + 1);
    up.stop();
}
