//! The archive is enough: features from it alone are those that were stored live.

use std::path::Path;

use mantis_stores::archive::folder::FolderArchive;
use mantis_workers::{
    features::{FeatureConfig, Recomputed},
    sensors::SensorRegistry,
};

use crate::{
    common::{Up, gateway::Gateway, json_lines},
    stored::{READINGS_SKAB, Rows, assert_same, features, skab, wait_for},
};

#[test]
fn features_from_the_archive_alone_are_those_that_were_stored_live() {
    let Some(data) = mantis_testing::recordings() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    let mut recordings = skab(&data);
    recordings.push((mantis_testing::repository().join("examples/cwru.toml"), data.join("cwru")));
    Gateway::new(folder.path(), &up.brokers, 50, recordings).finish();
    wait_for(&mut up, READINGS_SKAB);
    let mut live = features(folder.path());
    live.values_mut().for_each(|row| row.processed_ms = 0);
    // A worker that stops archives what it holds.
    up.stop();
    std::fs::remove_dir_all(folder.path().join("broker")).unwrap();
    std::fs::remove_file(folder.path().join("raw.db")).unwrap();
    std::fs::remove_file(folder.path().join("features.db")).unwrap();
    assert_same("from the archive", &recomputed(folder.path()), &live);
    assert_eq!(json_lines(folder.path(), &["archive", "features"], 0).len(), live.len());
}

fn recomputed(data_dir: &Path) -> Rows {
    let store = FolderArchive::reader(data_dir.join("archive"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut recomputed = Recomputed::new(&store, FeatureConfig::default(), SensorRegistry::default(), 1_000).await.unwrap();
        let mut rows = Rows::new();
        while let Some(some) = recomputed.next().await.unwrap() {
            for (series, row) in some {
                let identity = (series.asset.to_string(), series.sensor.to_string(), row.window_ns, row.start_ns);
                assert_eq!(rows.insert(identity, row), None, "a window has one row");
            }
        }
        rows
    })
}
