//! What `mantis status` and the ready page say of a worker that cannot do its work.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{path::PathBuf, sync::Arc};

use common::{Up, json, json_lines, publish, run};
use mantis_kafka::{ClientConfig, Consumer, ConsumerConfig, OutRecord};
use mantis_pipeline::Source;
use mantis_schemas::topics;
use mantis_workers::raw;

#[test]
fn a_worker_whose_partitions_another_member_has_taken_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    assert!(json(folder.path(), &["status"], 0)["workers"][0]["displaced"].is_null());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let client = ClientConfig::new(up.brokers.as_str());
    let other = runtime.spawn(async move {
        let mut other = Consumer::new(&client, &ConsumerConfig::new(raw::GROUP, raw::TOPICS)).unwrap();
        while other.next().await.is_ok() {}
    });
    up.wait_until("displaced", |up| up.status()["workers"][0]["displaced"].is_string());
    let sentence = "another member of the group mantis-raw has";
    let (code, ready) = up.http_get("/health/ready").unwrap();
    assert!(code == 503 && ready.contains(sentence), "{ready}");
    let text = String::from_utf8(run(folder.path(), &["status"], 3).stdout).unwrap();
    assert!(text.contains(sentence), "{text}");
    assert!(json(folder.path(), &["status"], 3)["workers"][0]["displaced"].as_str().unwrap().contains(sentence));
    other.abort();
    up.stop();
}

#[test]
fn a_broker_without_room_on_its_disk_says_that_it_takes_no_records() {
    let folder = tempfile::tempdir().unwrap();
    let all = i64::MAX.to_string();
    let mut up = Up::launch(folder.path(), "127.0.0.1:0", &[("MANTIS__BROKER__MIN_FREE_BYTES", &all)]);
    let sentence = "the broker takes no records: the disk of";
    up.wait_until("refusing", |up| {
        up.http_get("/health/ready").is_some_and(|(code, ready)| code == 503 && ready.contains(sentence))
    });
    let text = String::from_utf8(run(folder.path(), &["status"], 3).stdout).unwrap();
    assert!(text.contains(sentence), "{text}");
    assert!(json(folder.path(), &["status"], 3)["refusal"].as_str().unwrap().contains(sentence));
    up.stop();
}

#[test]
fn what_the_features_worker_holds_and_where_it_is_kept_is_in_status_and_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[("MANTIS__FEATURES__STATE_BYTES_MAX", "2000000")]);
    let records: Vec<OutRecord> = (0..3)
        .map(|number| OutRecord {
            topic: Arc::from(topics::READINGS),
            partition: Some(1),
            payload: Some(
                format!(r#"{{"asset":"pump-{}","sensor":"flow","time":"2026-01-01T00:00:0{number}Z","value":1}}"#, number % 2)
                    .into_bytes(),
            ),
            ..OutRecord::default()
        })
        .collect();
    publish(&up.brokers, &records);
    let state = |up: &Up| {
        let workers = up.status()["workers"].as_array().unwrap().clone();
        workers.into_iter().find(|worker| worker["name"] == "features").unwrap()["feature_state"].clone()
    };
    up.wait_until("in a snapshot", |up| state(up)["snapshots"][0]["offset"] == 3);
    let held = state(&up);
    assert_eq!((&held["sensors"], &held["open_windows"], &held["samples"]), (&2.into(), &4.into(), &3.into()), "{held}");
    assert_eq!((&held["bytes_max"], &held["snapshots"][0]["partition"]), (&2_000_000.into(), &1.into()), "{held}");
    let (_, metrics) = up.http_get("/metrics").unwrap();
    for line in [
        "mantis_feature_sensors 2".to_owned(),
        "mantis_feature_open_windows 4".to_owned(),
        "mantis_feature_samples 3".to_owned(),
        format!("mantis_feature_state_bytes {}", held["bytes"]),
        "mantis_feature_state_bytes_max 2000000".to_owned(),
        "mantis_feature_snapshots_total{result=\"failed\"} 0".to_owned(),
        "mantis_feature_snapshot_offset{partition=\"1\"} 3".to_owned(),
        format!(
            "mantis_feature_snapshot_timestamp_seconds{{partition=\"1\"}} {}",
            held["snapshots"][0]["written_ms"].as_i64().unwrap() / 1_000
        ),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in {metrics}");
    }
    let text = String::from_utf8(run(folder.path(), &["status"], 0).stdout).unwrap();
    assert!(text.contains("features holds 2 sensors, 4 open windows, 3 samples: 0 of 2 MB; newest snapshot 20"), "{text}");
    up.stop();
}

/// The segment files of a partition number, of every topic.
fn segments(up: &Up, partition: i32) -> Vec<PathBuf> {
    let topics = std::fs::read_dir(up.data_dir.join("broker/topics")).unwrap();
    let file = |topic: std::io::Result<std::fs::DirEntry>| {
        topic.unwrap().path().join(partition.to_string()).join("00000000000000000000.log")
    };
    topics.map(file).filter(|file| file.metadata().is_ok_and(|file| file.len() > 0)).collect()
}

#[test]
fn damage_in_the_log_is_told_with_its_place_and_the_other_partitions_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("MANTIS__BROKER__PARTITIONS", "2")];
    let up = Up::start(folder.path(), &settings);
    let records: Vec<OutRecord> = (0..2)
        .map(|partition| OutRecord {
            topic: Arc::from(topics::READINGS),
            partition: Some(partition),
            payload: Some(
                format!(r#"{{"asset":"pump-{partition}","sensor":"flow","time":"2026-01-01T00:00:00Z","value":1}}"#).into_bytes(),
            ),
            ..OutRecord::default()
        })
        .collect();
    publish(&up.brokers, &records);
    json(folder.path(), &["audit", "raw", "--wait", "30"], 0);
    let damaged = segments(&up, 1);
    up.stop();
    for name in ["raw.db", "raw.db-wal", "raw.db-shm"] {
        // The store is rebuilt from the log.
        let _ = std::fs::remove_file(folder.path().join(name));
    }
    let [damaged] = &damaged[..] else { panic!("one topic has records: {damaged:?}") };
    let mut bytes = std::fs::read(damaged).unwrap();
    *bytes.last_mut().unwrap() ^= 0xff;
    std::fs::write(damaged, &bytes).unwrap();

    let mut up = Up::launch(folder.path(), "127.0.0.1:0", &settings);
    let sentence = "the log of mantis.readings/1 is damaged at offset 0";
    up.wait_until("in trouble", |up| up.http_get("/health/ready").is_some_and(|(_, ready)| ready.contains(sentence)));
    up.wait_until("reading the others", |_| !json_lines(folder.path(), &["query", "readings", "pump-0", "flow"], 0).is_empty());
    let status = json(folder.path(), &["status"], 3);
    assert_eq!(status["workers"][0]["state"], "retrying", "{status}");
    assert!(status["workers"][0]["troubles"]["mantis.readings/1"].as_str().unwrap().contains(sentence), "{status}");
    let log = std::fs::read_to_string(folder.path().join("up.log")).unwrap();
    assert!(log.lines().any(|line| line.contains("mantis_broker") && line.contains("the log is damaged")), "{log}");

    *bytes.last_mut().unwrap() ^= 0xff;
    std::fs::write(damaged, &bytes).unwrap();
    up.wait_until_ready();
    json(folder.path(), &["audit", "raw", "--wait", "30"], 0);

    *bytes.last_mut().unwrap() ^= 0xff;
    std::fs::write(damaged, &bytes).unwrap();
    let account = json(folder.path(), &["audit", "raw"], 3);
    assert_eq!((&account["adds_up"], &account["proved"]), (&true.into(), &false.into()), "{account}");
    let [unproved] = &account["unproved"].as_array().unwrap()[..] else { panic!("{account}") };
    assert_eq!((&unproved["partition"], &unproved["from"], &unproved["to"]), (&1.into(), &0.into(), &1.into()), "{account}");
    assert!(unproved["why"].as_str().unwrap().contains("cannot be read on from here"), "{account}");
    let records: u64 = account["partitions"].as_array().unwrap().iter().map(|of| of["records"].as_u64().unwrap()).sum();
    assert_eq!(records, 1, "the other partition is audited: {account}");
    up.stop();
}

#[test]
fn a_configuration_that_up_refuses_is_not_called_valid() {
    let folder = tempfile::tempdir().unwrap();
    for declaration in ["sensor = \"x\"\nrate_hz = -1", "sensor = \"\"", "sensor = \"x\"\nzone_limits_mm_s = [2.0, 1.0, 3.0]"] {
        std::fs::write(folder.path().join("mantis.toml"), format!("[[sensors]]\nasset = \"a\"\n{declaration}\n")).unwrap();
        let refused = run(folder.path(), &["config", "check"], 2);
        assert!(String::from_utf8_lossy(&refused.stderr).contains("sensors"), "{refused:?}");
    }
    let right = "[[sensors]]\nasset = \"a\"\nsensor = \"x\"\nunit = \"mm/s\"\nzone_limits_mm_s = [1.0, 2.0, 3.0]\n";
    std::fs::write(folder.path().join("mantis.toml"), right).unwrap();
    run(folder.path(), &["config", "check"], 0);
}
