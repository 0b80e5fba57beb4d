//! Two gateways send the same.

use crate::{
    common::{Up, gateway::Gateway},
    stored::{READINGS_SKAB, assert_same, count, features, figures, skab, wait_for},
};

/// The gateways drift apart by as much as a file is long: three hours.
const SETTINGS: &str = "[features]\nlateness_s = 14400\n";

#[test]
fn recordings_that_are_sent_twice_at_once_give_the_features_of_one_and_the_duplicates_are_counted() {
    let Some(data) = mantis_testing::recordings() else { return };
    let [once, twice] = [1, 2].map(|gateways| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mantis.toml"), SETTINGS).unwrap();
        let mut up = Up::start(folder.path(), &[]);
        // Each keeps its progress in a folder of its own.
        let folders: Vec<_> = (0..gateways).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut sending: Vec<_> = folders.iter().map(|of| Gateway::new(of.path(), &up.brokers, 50, skab(&data))).collect();
        sending.iter_mut().for_each(|gateway| assert!(gateway.go_on()));
        sending.iter_mut().for_each(Gateway::finish);
        let readings = READINGS_SKAB.unsigned_abs() * gateways;
        up.wait_until("every reading counted", |up| {
            let status = up.status();
            count(&status, "features", "written") + count(&status, "features", "duplicates") == readings
        });
        wait_for(&mut up, READINGS_SKAB);
        assert_eq!(count(&up.status(), "features", "duplicates"), readings - READINGS_SKAB.unsigned_abs());
        let rows = figures(&features(folder.path()));
        up.stop();
        rows
    });
    assert_same("sent twice", &twice, &once);
}
