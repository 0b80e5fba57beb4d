//! What the feature store holds, and when it holds everything.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use mantis_schemas::Feature;
use mantis_stores::{
    ReadingReader,
    features::{FeatureReader, sqlite::SqliteFeatureReader},
};
use serde_json::Value;

use crate::common::Up;

/// Asset, sensor, length of the window (0: a frame) and start, in ns.
pub type Identity = (String, String, i64, i64);

/// Rows of the store by what they are of.
pub type Rows = BTreeMap<Identity, Feature>;

/// Readings of all files of SKAB: 8 sensors each.
pub const READINGS_SKAB: i64 = 46_806 * 8;

/// All files of SKAB, to be replayed.
pub fn skab(data: &Path) -> Vec<(PathBuf, PathBuf)> {
    vec![(mantis_testing::repository().join("examples/skab.toml"), data.join("skab/data"))]
}

/// All features, as a reader of the store gives them back.
pub fn features(data_dir: &Path) -> Rows {
    let store = SqliteFeatureReader::open(data_dir.join("features.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut rows = Rows::new();
        for series in store.series().await.unwrap() {
            for window_ns in store.windows(&series).await.unwrap() {
                let found = store.features(&series, window_ns, i64::MIN..i64::MAX, usize::MAX >> 1).await.unwrap();
                rows.extend(
                    found
                        .into_iter()
                        .map(|row| ((series.asset.to_string(), series.sensor.to_string(), window_ns, row.start_ns), row)),
                );
            }
        }
        rows
    })
}

/// Without what may differ from run to run: where the records lay in the log, and when they were worked on.
pub fn figures(rows: &Rows) -> Rows {
    let figures = |row: &Feature| Feature { revision: 0, processed_ms: 0, ..row.clone() };
    rows.iter().map(|(identity, row)| (identity.clone(), figures(row))).collect()
}

/// Names the first rows in which two stores differ, where they do.
pub fn assert_same(what: &str, found: &Rows, expected: &Rows) {
    let other = |identity: &&Identity| found.get(*identity) != expected.get(*identity);
    let identities: BTreeSet<&Identity> = found.keys().chain(expected.keys()).collect();
    let different: Vec<&Identity> = identities.into_iter().filter(other).collect();
    if let Some(first) = different.first() {
        let (found, expected) = (found.get(*first), expected.get(*first));
        panic!("{what}: {} rows differ, the first is {first:?}:\n{found:#?}\nexpected\n{expected:#?}", different.len());
    }
}

/// Waits until the workers of features have done everything, and each length of window holds as many readings, good or bad,
/// as `readings` says: then nothing more is published while nothing more is sent.
pub fn wait_for(up: &mut Up, readings: i64) {
    up.wait_until("every reading in its windows", |up| {
        let status = up.status();
        let done = ["features", "timescale"].iter().all(|worker| behind(&status, worker) == Some(0));
        done && held(&up.data_dir).iter().all(|held| *held == readings)
    });
}

/// Readings that the windows of each length hold.
fn held(data_dir: &Path) -> Vec<i64> {
    let store = rusqlite::Connection::open(data_dir.join("features.db")).unwrap();
    let mut held = store.prepare("SELECT sum(count + bad) FROM features WHERE window_ns > 0 GROUP BY window_ns").unwrap();
    let held: Vec<i64> = held.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    if held.is_empty() { vec![0] } else { held }
}

/// Records that a worker has not finished; `None` while that is not known. Those that are in the features worker's state
/// are finished, also where no snapshot has them yet.
pub fn behind(status: &Value, worker: &str) -> Option<u64> {
    topics(status, worker).iter().map(|topic| topic["lag"].as_u64()).sum()
}

/// Records that a worker's group has not committed: of the features worker those behind its snapshots, of the archive worker
/// those in no object yet.
pub fn uncommitted(status: &Value, worker: &str) -> Option<u64> {
    let partitions = |topic: &Value| -> Option<u64> {
        let partitions = topic["partitions"].as_array()?;
        partitions.iter().map(|p| Some(p["done"].as_u64()? + p["lag"].as_u64()? - p["committed"].as_u64().unwrap_or(0))).sum()
    };
    topics(status, worker).iter().map(partitions).sum()
}

/// Records that a worker has finished, from the start of the log on.
pub fn finished(status: &Value, worker: &str) -> u64 {
    let partitions =
        |topic: &Value| topic["partitions"].as_array().unwrap().iter().filter_map(|p| p["done"].as_u64()).sum::<u64>();
    topics(status, worker).iter().map(partitions).sum()
}

/// A count of a worker over all of its topics.
pub fn count(status: &Value, worker: &str, what: &str) -> u64 {
    topics(status, worker).iter().filter_map(|topic| topic[what].as_u64()).sum()
}

fn topics<'a>(status: &'a Value, worker: &str) -> &'a [Value] {
    let workers = status["workers"].as_array().unwrap();
    let found = workers.iter().find(|found| found["name"] == worker).unwrap();
    found["topics"].as_array().unwrap()
}
