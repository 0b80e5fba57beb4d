//! SIGKILL, and nothing is different.

use crate::{
    common::{
        Up,
        gateway::{Gateway, random},
        run,
    },
    stored::{READINGS_SKAB, assert_same, behind, features, figures, finished, skab, uncommitted, wait_for},
};

const KILLS: u64 = 20;
const SEED: u64 = 0x6665_6174;
/// Records from one kill to the next, at least and in between; all of SKAB is 374,448 with one reading each.
const STEP_RECORDS: (u64, u64) = (200, 1_500);
/// Snapshots and archived objects come between kills.
const SETTINGS: &str = "[features]\nsnapshot_s = 1\n[archive]\nage_s = 1\n";

/// A kill hits the features worker behind the end of the log. Before every other one the gateway is held up until a snapshot
/// is written and everything archived, so that the state comes back from a snapshot of before or in the middle of the step.
#[test]
fn twenty_kills_in_the_middle_of_work_change_no_feature_and_no_archived_position() {
    let Some(data) = mantis_testing::recordings() else { return };
    let undisturbed = folder();
    let mut up = Up::start(undisturbed.path(), &[]);
    Gateway::new(undisturbed.path(), &up.brokers, 50, skab(&data)).finish();
    wait_for(&mut up, READINGS_SKAB);
    let expected = figures(&features(undisturbed.path()));
    up.stop();

    let folder = folder();
    let mut up = Up::start(folder.path(), &[]);
    let listen = up.brokers.clone();
    let mut gateway = Gateway::new(folder.path(), &listen, 1, skab(&data));
    let mut seed = SEED;
    for kill in 0..KILLS {
        let (least, more) = STEP_RECORDS;
        gateway.signal("-CONT");
        go_on(&mut up, &mut gateway, kill, least + random(&mut seed) % more);
        if kill % 2 == 1 {
            gateway.signal("-STOP");
            up.wait_until("in a snapshot and in the archive", |up| {
                let status = up.status();
                uncommitted(&status, "features") == Some(0) && uncommitted(&status, "archive") == Some(0)
            });
            gateway.signal("-CONT");
            go_on(&mut up, &mut gateway, kill, least);
        }
        up.kill();
        gateway.signal("-STOP");
        up = Up::start_at(folder.path(), &listen, &[]);
    }
    gateway.signal("-CONT");
    gateway.finish();
    wait_for(&mut up, READINGS_SKAB);
    assert_same("features after the kills", &figures(&features(folder.path())), &expected);
    up.wait_until("archived", |up| uncommitted(&up.status(), "archive") == Some(0));
    run(folder.path(), &["archive", "verify"], 0);
    up.stop();
}

/// Waits until the log has so many records more, some of which the features worker has not finished.
fn go_on(up: &mut Up, gateway: &mut Gateway, kill: u64, records: u64) {
    let mut from = None;
    up.wait_until("in the middle of work", |up| {
        assert!(gateway.go_on(), "nothing was left to do at kill {kill}");
        let status = up.status();
        let Some(behind) = behind(&status, "features") else { return false };
        let end = behind + finished(&status, "features");
        behind > 0 && end >= *from.get_or_insert(end) + records
    });
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mantis.toml"), SETTINGS).unwrap();
    folder
}
