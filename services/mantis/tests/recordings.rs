//! Real recordings through the whole road, undisturbed and under SIGKILL.

#![allow(clippy::unwrap_used)]

mod common;

use std::{path::Path, time::Duration};

use common::{
    Up,
    gateway::{Gateway, random},
    json,
    recordings::replays,
    run,
    truth::agree_with_the_truth,
};
use mantis_stores::raw::{
    influx::{InfluxConfig, InfluxRawReader},
    sqlite::SqliteRawReader,
};
use mantis_testing::{Bucket, ORG};
use serde_json::Value;

#[test]
fn the_recordings_arrive_whole_and_their_figures_agree_with_the_truth() {
    let Some(data) = mantis_testing::recordings() else { return };
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[]);
    replay_all(folder.path(), &data);
    agree_with_the_truth(&SqliteRawReader::open(folder.path().join("raw.db")).unwrap(), &data);
    up.stop();
}

#[test]
fn the_recordings_arrive_whole_in_influxdb_too() {
    let Some(data) = mantis_testing::recordings() else { return };
    let bucket = match Bucket::new(0) {
        Ok(bucket) => bucket,
        Err(why) => return mantis_testing::skipped(&why),
    };
    let folder = tempfile::tempdir().unwrap();
    let (url, token_file) = (bucket.url(), bucket.token_file());
    let settings = format!("[influxdb]\nurl = {url:?}\nbucket = {:?}\ntoken_file = {token_file:?}\n", bucket.name);
    std::fs::write(folder.path().join("mantis.toml"), settings).unwrap();
    let up = Up::start(folder.path(), &[]);
    replay_all(folder.path(), &data);
    let config = InfluxConfig::new(url, ORG, bucket.name.as_str(), std::fs::read_to_string(token_file).unwrap());
    agree_with_the_truth(&InfluxRawReader::new(&config).unwrap(), &data);
    assert!(!folder.path().join("raw.db").exists(), "nothing goes into the embedded store");
    up.stop();
}

fn replay_all(folder: &Path, data: &Path) {
    for (mapping, recording) in replays(data) {
        run(folder, &["replay", "--mapping", mapping.to_str().unwrap(), recording.to_str().unwrap()], 0);
    }
    let account = json(folder, &["audit", "raw", "--wait", "120"], 0);
    assert_eq!(account["proved"], true, "{account}");
    // Every other store holds what the log says, too.
    run(folder, &["audit", "--wait", "120"], 0);
}

const KILLS: u64 = 20;
const SEED: u64 = 0x6b69_6c6c;
/// Unprocessed records at a kill, at least; the seed chooses up to here.
const BACKLOG_RECORDS_MAX: u64 = 300;

/// Before each kill the test holds the store's write lock, so that the worker stands still with a batch in its hands,
/// while the gateway goes on until as many records are unprocessed as the seed says. In every other kill the lock is let
/// go just before, so that the batch's transaction may have begun, or ended, and the gateway is not stopped.
#[test]
fn twenty_kills_in_the_middle_of_work_change_no_stored_reading() {
    let Some(data) = mantis_testing::recordings() else { return };
    let undisturbed = tempfile::tempdir().unwrap();
    let up = Up::start(undisturbed.path(), &[]);
    Gateway::new(undisturbed.path(), &up.brokers, 50, replays(&data)).finish();
    json(undisturbed.path(), &["audit", "raw", "--wait", "120"], 0);
    let expected = exports(undisturbed.path());
    up.stop();

    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    let listen = up.brokers.clone();
    let mut gateway = Gateway::new(folder.path(), &listen, 10, replays(&data));
    let mut seed = SEED;
    for kill in 0..KILLS {
        let backlog = 1 + random(&mut seed) % BACKLOG_RECORDS_MAX;
        let store = hold_write_lock(folder.path());
        up.wait_until("in the middle of a batch, with a backlog", |up| {
            let (in_flight, unprocessed) = work_left(&up.status());
            let enough = unprocessed >= backlog;
            // The recordings have to last for all kills.
            if !enough {
                assert!(gateway.go_on(), "nothing was left to do at kill {kill}");
            }
            gateway.signal(if enough { "-STOP" } else { "-CONT" });
            in_flight > 0 && enough
        });
        if kill % 2 == 0 {
            up.kill();
            drop(store);
        } else {
            gateway.signal("-CONT");
            drop(store);
            up.kill();
            gateway.signal("-STOP");
        }
        up = Up::start_at(folder.path(), &listen, &[]);
    }
    gateway.signal("-CONT");
    gateway.finish();
    let account = json(folder.path(), &["audit", "raw", "--wait", "120"], 0);
    assert_eq!(account["proved"], true, "{account}");
    assert!(exports(folder.path()) == expected, "stored readings or frames differ from those of the undisturbed run");
    up.stop();
}

/// Readings and frames of the store, as exported: without arrival times, sorted by identity.
fn exports(data_dir: &Path) -> [Vec<u8>; 2] {
    ["readings", "frames"].map(|what| run(data_dir, &["export", what, "--format", "csv"], 0).stdout)
}

/// Nothing is written to the store until the connection is dropped.
fn hold_write_lock(data_dir: &Path) -> rusqlite::Connection {
    let store = rusqlite::Connection::open(data_dir.join("raw.db")).unwrap();
    store.busy_timeout(Duration::from_secs(30)).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    store
}

/// Rows that the raw worker has decoded and not finished, and records of the log that it has not finished.
fn work_left(status: &Value) -> (u64, u64) {
    let topics = status["workers"][0]["topics"].as_array().unwrap();
    let sum = |key: &str| topics.iter().filter_map(|topic| topic[key].as_u64()).sum();
    (sum("rows_in_flight"), sum("lag"))
}
