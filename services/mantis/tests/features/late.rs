//! A gateway that was cut off for an hour sends what it measures now first, and then its backlog, in order.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    common::{Up, json, json_lines, run},
    stored::{Rows, assert_same, count, features, figures, wait_for},
};

const ASSET: &str = "skab-outage-anomaly-free";
const IN_ORDER: &str = "skab-order-anomaly-free";
/// The outage: one hour of the longest recording, from and to in the middle of windows.
const OUTAGE: (&str, &str) = ("2020-02-08 14:20:25", "2020-02-08 15:20:25");
const MINUTE_NS: i64 = 60_000_000_000;

/// The recording cut by the outage, in files of one asset, and whole, as another.
struct Cut {
    live: PathBuf,
    backlog: PathBuf,
    in_order: PathBuf,
    /// Readings of the sensors that go on meanwhile.
    others: i64,
    /// Readings outside of the outage, and in it.
    readings: (i64, i64),
}

fn cut(data: &Path, folder: &Path) -> Cut {
    let file = data.join("skab/data/anomaly-free/anomaly-free.csv");
    let text = fs::read_to_string(&file).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    let (backlog, live): (Vec<&str>, Vec<&str>) = rows.lines().partition(|row| *row >= OUTAGE.0 && *row < OUTAGE.1);
    let write = |name: &str, rows: &[&str]| {
        let path = folder.join(name).join("anomaly-free.csv");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("{header}\n{}\n", rows.join("\n"))).unwrap();
        path
    };
    let in_order = write("order", &rows.lines().collect::<Vec<_>>());
    let sensors = 8;
    Cut {
        live: write("live/outage", &live),
        backlog: write("backlog/outage", &backlog),
        in_order,
        others: sensors * rows.lines().count() as i64,
        readings: (sensors * live.len() as i64, sensors * backlog.len() as i64),
    }
}

fn replay(folder: &Path, recording: &Path) {
    let mapping = mantis_testing::repository().join("examples/skab.toml");
    run(folder, &["replay", "--mapping", mapping.to_str().unwrap(), recording.to_str().unwrap()], 0);
}

fn up(folder: &Path, lateness_s: u32) -> Up {
    fs::write(folder.join("mantis.toml"), format!("[features]\nlateness_s = {lateness_s}\n")).unwrap();
    Up::start(folder, &[])
}

fn of(rows: &Rows, asset: &str) -> Rows {
    rows.iter().filter(|((of, ..), _)| of == asset).map(|(identity, row)| (identity.clone(), row.clone())).collect()
}

fn others(rows: &Rows) -> Rows {
    rows.iter().filter(|((of, ..), _)| of != ASSET).map(|(identity, row)| (identity.clone(), row.clone())).collect()
}

/// The rows of the asset as if they were of the one that was never cut off.
fn renamed(rows: &Rows) -> Rows {
    let rename = |((_, sensor, window_ns, start_ns), row): (&(String, String, i64, i64), &_)| {
        ((IN_ORDER.to_owned(), sensor.clone(), *window_ns, *start_ns), Clone::clone(row))
    };
    of(rows, ASSET).iter().map(rename).collect()
}

#[test]
fn a_backlog_within_the_lateness_gives_the_rows_of_a_run_in_order_and_touches_no_other_sensor() {
    let Some(data) = mantis_testing::recordings() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cut = cut(&data, folder.path());
    let mut up = up(folder.path(), 7_200);
    replay(folder.path(), &cut.in_order);
    replay(folder.path(), &cut.live);
    wait_for(&mut up, cut.others + cut.readings.0);
    let before = features(folder.path());
    replay(folder.path(), &cut.backlog);
    wait_for(&mut up, cut.others + cut.readings.0 + cut.readings.1);
    let after = features(folder.path());

    assert_same("the asset that was cut off", &figures(&renamed(&after)), &figures(&of(&after, IN_ORDER)));
    assert_same("other sensors", &others(&after), &others(&before));
    // A minute is cut at each end of the outage, and 59 are missing.
    let minutes =
        |rows: &Rows| of(rows, ASSET).into_iter().filter(|((_, _, window_ns, _), _)| *window_ns == MINUTE_NS).collect::<Rows>();
    let (before, after) = (minutes(&before), minutes(&after));
    assert_eq!(after.len() - before.len(), 59 * 8);
    let replaced: Vec<_> = before.iter().filter(|(identity, row)| after[*identity] != **row).collect();
    assert_eq!(replaced.len(), 2 * 8);
    assert!(replaced.iter().all(|(identity, row)| after[*identity].count > row.count));
    let letters = json_lines(folder.path(), &["dlq", "list"], 0);
    assert_eq!(letters, Vec::<Value>::new());
    up.stop();
}

#[test]
fn a_backlog_behind_the_lateness_is_counted_kept_and_listed_and_changes_no_row() {
    let Some(data) = mantis_testing::recordings() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cut = cut(&data, folder.path());
    let mut up = up(folder.path(), 120);
    replay(folder.path(), &cut.live);
    wait_for(&mut up, cut.readings.0);
    let before = features(folder.path());
    replay(folder.path(), &cut.backlog);
    let late = cut.readings.1.unsigned_abs();
    up.wait_until("all late readings counted", |up| count(&up.status(), "features", "rejected") == late);
    wait_for(&mut up, cut.readings.0);
    assert_same("rows of before", &features(folder.path()), &before);
    let letters = json_lines(folder.path(), &["dlq", "list", "--reason", "too-late"], 3);
    let refusals: Vec<&Value> = letters.iter().flat_map(|record| record["refusals"].as_array().unwrap()).collect();
    let rows: u64 = refusals.iter().map(|refusal| refusal["reasons"][0]["row_count"].as_u64().unwrap()).sum();
    assert_eq!(rows, late);
    assert!(refusals.iter().all(|refusal| refusal["group"] == "mantis-features"));
    // Raw they are stored like any other.
    let account = json(folder.path(), &["audit", "raw", "--wait", "60"], 0);
    assert_eq!(account["proved"], true, "{account}");
    assert_eq!(account["stored"], cut.readings.0 + cut.readings.1);
    up.stop();
}
