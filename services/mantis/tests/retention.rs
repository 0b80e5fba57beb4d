//! What the raw store keeps, as it is configured.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{Up, json, json_lines, publish, run};
use mantis_kafka::OutRecord;
use mantis_schemas::topics;

#[test]
fn readings_older_than_the_configured_days_are_deleted_and_counted_as_trimmed() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[]);
    let now = jiff::Timestamp::now();
    let times = [now, now - jiff::SignedDuration::from_hours(20 * 24), now - jiff::SignedDuration::from_hours(40 * 24)];
    let records = times.map(|time| OutRecord {
        topic: Arc::from(topics::READINGS),
        payload: Some(format!(r#"{{"asset":"pump","sensor":"flow","time":"{time}","value":1}}"#).into_bytes()),
        ..OutRecord::default()
    });
    publish(&up.brokers, &records);
    json(folder.path(), &["audit", "raw", "--wait", "30"], 0);
    let stored = || json_lines(folder.path(), &["query", "readings", "pump", "flow"], 0).len();
    assert_eq!(stored(), 3);
    let cut = run(folder.path(), &["query", "readings", "pump", "flow", "--limit", "2"], 0);
    assert_eq!(String::from_utf8_lossy(&cut.stdout).lines().count(), 2);
    let told = String::from_utf8_lossy(&cut.stderr);
    assert!(told.contains("there are more readings: go on with --from "), "{told}");
    up.stop();

    let mut up = Up::start(folder.path(), &[("MANTIS__RAW__RETENTION_DAYS", "30")]);
    up.wait_until("trimmed", |_| stored() == 2);
    assert_eq!(json(folder.path(), &["audit", "raw"], 3)["trimmed"], 1);
    up.stop();
    std::fs::write(folder.path().join("mantis.toml"), "[raw]\nretention_days = 0\n").unwrap();
    run(folder.path(), &["config", "check"], 2);
}
