//! Real recordings through the whole road, undisturbed and under SIGKILL.

#![allow(clippy::unwrap_used)]

mod common;

use std::{path::Path, time::Duration};

use common::{
    Up,
    gateway::{Gateway, random},
    json,
    recordings::{Figures, csv, frames, readings, replays},
    run,
};
use mantis_stores::raw::{
    RawReader,
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

fn agree_with_the_truth(store: &impl RawReader, data: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        skab(store, &data.join("truth/skab_sensor_stats.csv")).await;
        pdm(store, &data.join("truth/pdm_telemetry_stats.csv")).await;
        cwru(store, &data.join("truth/cwru_records.csv"), data).await;
        femto(store, &data.join("truth/femto_Bearing2_7.csv")).await;
    });
}

async fn skab(store: &impl RawReader, truth: &Path) {
    let rows = csv(truth);
    assert_eq!(rows.len(), 35 * 8);
    for row in &rows {
        let asset = format!("skab-{}", row["file"].trim_end_matches(".csv").replace('/', "-"));
        let what = format!("{asset} {}", row["sensor"]);
        let figures = Figures::of(&readings(store, &asset, &row["sensor"]).await);
        assert_eq!(figures.count.to_string(), row["count"], "{what}");
        assert_eq!(figures.min, row["min"].parse::<f64>().unwrap(), "{what}");
        assert_eq!(figures.max, row["max"].parse::<f64>().unwrap(), "{what}");
        figures.agree(&what, figures.mean, &row["mean"]);
        figures.agree(&what, figures.std, &row["std_pop"]);
    }
}

async fn pdm(store: &impl RawReader, truth: &Path) {
    let rows = csv(truth);
    assert_eq!(rows.len(), 20);
    for row in &rows {
        for sensor in ["volt", "rotate", "pressure", "vibration"] {
            let asset = format!("pdm-{}", row["machineID"]);
            let what = format!("{asset} {sensor}");
            let truth = |figure: &str| row[&format!("{sensor}_{figure}")].as_str();
            let figures = Figures::of(&readings(store, &asset, sensor).await);
            assert_eq!(figures.count.to_string(), truth("count"), "{what}");
            assert_eq!(figures.min, truth("min").parse::<f64>().unwrap(), "{what}");
            assert_eq!(figures.max, truth("max").parse::<f64>().unwrap(), "{what}");
            figures.agree(&what, figures.mean, truth("mean"));
            figures.agree(&what, figures.std, truth("std_pop"));
        }
    }
}

async fn cwru(store: &impl RawReader, truth: &Path, data: &Path) {
    let mut compared = 0;
    for row in csv(truth) {
        if !data.join(format!("cwru/{}_{}.f64le", row["file"], row["channel"])).exists() {
            continue;
        }
        let asset = format!("cwru-{}_{}", row["file"], row["channel"]);
        let samples: Vec<f64> =
            frames(store, &asset, "acceleration").await.into_iter().flat_map(|(_, samples)| samples).collect();
        let figures = Figures::of(&samples);
        assert_eq!(figures.count.to_string(), row["n"], "{asset}");
        figures.agree(&asset, figures.mean, &row["mean"]);
        figures.agree(&asset, figures.std, &row["std"]);
        figures.agree(&asset, figures.rms, &row["rms"]);
        figures.agree(&asset, figures.peak, &row["peak"]);
        figures.agree(&asset, figures.max - figures.min, &row["p2p"]);
        compared += 1;
    }
    assert_eq!(compared, 4);
}

async fn femto(store: &impl RawReader, truth: &Path) {
    let rows = csv(truth);
    assert_eq!(rows.len(), 460);
    for channel in ["horizontal", "vertical"] {
        let stored = frames(store, "femto-Bearing2_7", channel).await;
        let truths: Vec<_> = rows.iter().filter(|row| row["channel"] == channel).collect();
        assert_eq!(stored.len(), truths.len());
        for ((start_ns, samples), row) in stored.iter().zip(truths) {
            let what = format!("{} {channel}", row["file"]);
            let figures = Figures::of(samples);
            let time_of_day_s = (start_ns % 86_400_000_000_000) as f64 / 1e9;
            assert!((time_of_day_s - row["time_of_day_s"].parse::<f64>().unwrap()).abs() < 1e-6, "{what}: {time_of_day_s}");
            assert_eq!(figures.count.to_string(), row["n"], "{what}");
            figures.agree(&what, figures.mean, &row["mean"]);
            figures.agree(&what, figures.std, &row["std"]);
            figures.agree(&what, figures.rms, &row["rms"]);
            figures.agree(&what, figures.peak, &row["peak"]);
        }
    }
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
