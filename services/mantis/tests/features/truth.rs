//! Stored features against the figures that were computed from the recordings independently.

use std::path::Path;

use mantis_schemas::{Feature, Figure};
use mantis_testing::{Schema, User};
use serde_json::Value;

use crate::{
    common::{
        Up,
        recordings::{csv, replays},
        run,
    },
    stored::{READINGS_SKAB, Rows, behind, features, wait_for},
};

const S: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * S;
/// Those of SKAB, and the hours of 20 machines with 4 sensors.
pub const READINGS: i64 = READINGS_SKAB + 43_200 * 4;
/// The bearing at the drive end of CWRU's motor, and the speed without load.
pub const SETTINGS: &str = r#"
[features]
windows = ["10s", "1m", "1d"]
[[sensors]]
asset = "cwru-*"
sensor = "acceleration"
unit = "[g]"
bearing = { balls = 9, ball_diameter = 7.94, pitch_diameter = 39.04, shaft_rpm = 1797 }
"#;
/// Sensors whose readings come to the feature store too.
pub const REGISTERED: &str = "[[sensors]]\nasset = \"skab-*\"\nsensor = \"*\"\nrate_hz = 1\n";
/// Beyond it a line of the envelope stands out: a healthy bearing has a few.
const DEFECT_OVER_MEDIAN: f64 = 20.0;

type Row = std::collections::BTreeMap<String, String>;

#[test]
fn stored_features_of_the_recordings_agree_with_the_truth() {
    let Some(data) = mantis_testing::recordings() else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mantis.toml"), SETTINGS).unwrap();
    let mut up = Up::start(folder.path(), &[]);
    replay_all(folder.path(), &data);
    wait_for(&mut up, READINGS);
    agree_with_the_truth(&features(folder.path()), &data);
    up.stop();
}

#[test]
fn features_in_timescaledb_agree_with_the_truth_as_psql_reads_them() {
    let Some(data) = mantis_testing::recordings() else { return };
    let schema = match Schema::new("timescaledb") {
        Ok(schema) => schema,
        Err(why) => return mantis_testing::skipped(&why),
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mantis.toml"), format!("{}{SETTINGS}{REGISTERED}", schema.settings())).unwrap();
    let (owner, password) = (schema.database().url(User::Owner), schema.database().password_file(User::Owner));
    run(folder.path(), &["migrate", "--url", &owner, "--password-file", password.to_str().unwrap()], 0);
    let mut up = Up::start(folder.path(), &[]);
    replay_all(folder.path(), &data);
    up.wait_until("every reading in its windows", |up| {
        let status = up.status();
        let done = ["features", "timescale"].iter().all(|worker| behind(&status, worker) == Some(0));
        done && has_every_reading(&schema)
    });
    agree_with_the_truth(&by_psql(&schema), &data);
    slow_readings_agree(&schema, &data);
    run(folder.path(), &["audit", "features", "--wait", "60"], 0);
    run(folder.path(), &["audit", "timescale", "--wait", "60"], 0);
    assert!(!folder.path().join("features.db").exists(), "nothing goes into the embedded store");
    up.stop();
}

/// Whether the windows of each length hold as many readings as were sent.
pub fn has_every_reading(schema: &Schema) -> bool {
    let held = "SELECT sum(count + bad) FROM features WHERE window_ns > 0 GROUP BY window_ns";
    let held = schema.run(held).unwrap();
    !held.is_empty() && held.lines().all(|held| held == READINGS.to_string())
}

/// Readings of a registered sensor, which come to TimescaleDB too.
pub fn slow_readings_agree(schema: &Schema, data: &Path) {
    let readings =
        "SELECT count(*), sum(value), min(time_ns) FROM readings_by_name WHERE asset = 'skab-valve1-0' AND sensor = 'Pressure'";
    let truth = csv(&data.join("truth/skab_sensor_stats.csv"));
    let truth = truth.iter().find(|row| row["file"] == "valve1/0.csv" && row["sensor"] == "Pressure").unwrap();
    let found = schema.run(readings).unwrap();
    let found: Vec<&str> = found.split('|').collect();
    assert_eq!(found[0], truth["count"]);
    let mean = found[1].parse::<f64>().unwrap() / found[0].parse::<f64>().unwrap();
    assert!((mean - number(truth, "mean")).abs() <= 1e-9 * number(truth, "mean").abs(), "{mean}");
}

/// All features as PostgreSQL's own client prints them.
pub fn by_psql(schema: &Schema) -> Rows {
    let figures: Vec<String> = Figure::ALL.iter().map(|figure| format!("\"{}\"", figure.name())).collect();
    let select = format!(
        "SELECT asset, sensor, window_ns, start_ns, end_ns, count, exact, extras, {} FROM features JOIN series ON id = series",
        figures.join(", ")
    );
    let found = schema.run(&select).unwrap();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('|').collect();
        let whole = |field: usize| fields[field].parse::<i64>().unwrap();
        let mut row = Feature {
            window_ns: whole(2),
            start_ns: whole(3),
            end_ns: whole(4),
            count: whole(5),
            exact: fields[6] == "t",
            extras: fields[7].into(),
            ..Feature::default()
        };
        Figure::ALL.into_iter().for_each(|figure| row.figures.set(figure, fields[8 + figure as usize].parse().ok()));
        ((fields[0].to_owned(), fields[1].to_owned(), row.window_ns, row.start_ns), row)
    };
    found.lines().map(row).collect()
}

pub fn replay_all(folder: &Path, data: &Path) {
    for (mapping, recording) in replays(data) {
        run(folder, &["replay", "--mapping", mapping.to_str().unwrap(), recording.to_str().unwrap()], 0);
    }
    replay_whole_records(folder, data);
}

pub fn agree_with_the_truth(rows: &Rows, data: &Path) {
    skab_minutes(rows, data, "valve1_0");
    skab_minutes(rows, data, "other_13");
    pdm_days(rows, data);
    cwru_frames(rows, data);
    cwru_lines(rows, data);
    cwru_defects(rows, data);
    femto_frames(rows, data);
}

fn number(row: &Row, column: &str) -> f64 {
    row[column].parse().unwrap()
}

/// Asserts that a figure is `truth` to 1e-9 of itself, or 1e-12 of the values' range.
fn agree(what: &str, row: &Feature, figure: Figure, truth: f64) {
    let found = row.figures.get(figure).unwrap();
    let range = row.figures.get(Figure::PeakToPeak).unwrap();
    let error = (found - truth).abs();
    assert!(error <= (1e-9 * truth.abs()).max(1e-12 * range), "{what} {}: {found} is not {truth}", figure.name());
}

fn skab_minutes(rows: &Rows, data: &Path, file: &str) {
    let truth = csv(&data.join(format!("truth/skab_{file}_win60s.csv")));
    let asset = format!("skab-{}", file.replace('_', "-"));
    assert_eq!(truth.len(), rows.keys().filter(|(of, _, window_ns, _)| *of == asset && *window_ns == 60 * S).count(), "{asset}");
    for row in &truth {
        let start = &row["window_start"];
        let start_ns = i64::try_from(start.parse::<jiff::Timestamp>().unwrap().as_nanosecond()).unwrap();
        let what = format!("{asset} {} {start}", row["sensor"]);
        let found = &rows[&(asset.clone(), row["sensor"].clone(), 60 * S, start_ns)];
        assert_eq!(found.count.to_string(), row["count"], "{what}");
        assert!(found.exact, "{what}");
        for (figure, column) in [
            (Figure::Mean, "mean"),
            (Figure::Min, "min"),
            (Figure::Max, "max"),
            (Figure::Std, "std_pop"),
            (Figure::Rms, "rms"),
            (Figure::First, "first"),
            (Figure::Last, "last"),
        ] {
            agree(&what, found, figure, number(row, column));
        }
    }
}

fn pdm_days(rows: &Rows, data: &Path) {
    let truth = csv(&data.join("truth/pdm_machine1_win1d.csv"));
    assert_eq!(truth.len() * 4, rows.keys().filter(|(asset, _, window_ns, _)| asset == "pdm-1" && *window_ns == DAY).count());
    for row in &truth {
        let start = format!("{}T00:00:00Z", row["day"]).parse::<jiff::Timestamp>().unwrap();
        let start_ns = i64::try_from(start.as_nanosecond()).unwrap();
        for sensor in ["volt", "rotate", "pressure", "vibration"] {
            let what = format!("{sensor} {}", row["day"]);
            let found = &rows[&("pdm-1".to_owned(), sensor.to_owned(), DAY, start_ns)];
            assert_eq!(found.count.to_string(), row[&format!("{sensor}_count")], "{what}");
            for (figure, column) in [(Figure::Mean, "mean"), (Figure::Std, "std_pop"), (Figure::Min, "min"), (Figure::Max, "max")]
            {
                agree(&what, found, figure, number(row, &format!("{sensor}_{column}")));
            }
        }
    }
}

/// The frames of a sensor in order of time.
fn frames<'a>(rows: &'a Rows, asset: &str, sensor: &str) -> Vec<&'a Feature> {
    let of = |window_ns| (asset.to_owned(), sensor.to_owned(), window_ns, i64::MIN);
    rows.range(of(0)..of(1)).map(|(_, row)| row).collect()
}

/// A frame's row against the truth; the dominant frequency where it stands out by a fifth.
fn frame_agrees(what: &str, found: &Feature, row: &Row) {
    assert_eq!(found.count.to_string(), row["n"], "{what}");
    for (figure, column) in [
        (Figure::Mean, "mean"),
        (Figure::Std, "std"),
        (Figure::Rms, "rms"),
        (Figure::Peak, "peak"),
        (Figure::PeakToPeak, "p2p"),
        (Figure::CrestFactor, "crest"),
        (Figure::Skewness, "skewness"),
    ] {
        agree(what, found, figure, number(row, column));
    }
    // There it is Pearson's, 3 for a normal distribution.
    let kurtosis = found.figures.get(Figure::KurtosisExcess).unwrap() + 3.0;
    assert!((kurtosis - number(row, "kurtosis")).abs() <= 1e-9 * kurtosis, "{what}: kurtosis {kurtosis}");
    if number(row, "dom_margin") > 1.2 {
        let bin = |hz: f64| (hz / number(row, "df_hz")).round();
        let dominant_hz = found.figures.get(Figure::DominantFrequencyHz).unwrap();
        assert_eq!(bin(dominant_hz), bin(number(row, "dom_hz")), "{what}: the bin of the dominant frequency");
    }
}

fn cwru_frames(rows: &Rows, data: &Path) {
    let truth = csv(&data.join("truth/cwru_windows4096.csv"));
    assert_eq!(truth.len(), 32);
    for row in &truth {
        let asset = format!("cwru-{}_{}", row["file"], row["channel"]);
        let window: usize = row["window"].parse().unwrap();
        frame_agrees(&format!("{asset} window {window}"), frames(rows, &asset, "acceleration")[window], row);
    }
}

fn femto_frames(rows: &Rows, data: &Path) {
    let truth = csv(&data.join("truth/femto_Bearing2_7.csv"));
    assert_eq!(truth.len(), 460);
    for channel in ["horizontal", "vertical"] {
        let found = frames(rows, "femto-Bearing2_7", channel);
        let truth: Vec<&Row> = truth.iter().filter(|row| row["channel"] == channel).collect();
        assert_eq!(found.len(), truth.len());
        for (found, row) in found.into_iter().zip(truth) {
            frame_agrees(&format!("{} {channel}", row["file"]), found, row);
        }
    }
}

/// CWRU's records as one frame each, where they fit into a message.
fn replay_whole_records(folder: &Path, data: &Path) {
    let mapping = std::fs::read_to_string(mantis_testing::repository().join("examples/cwru.toml")).unwrap();
    let mapping = mapping.replace("cwru-{", "cwru-whole-{").replace("samples = 4096", "samples = 130560");
    let file = folder.join("whole.toml");
    std::fs::write(&file, mapping).unwrap();
    let records: Vec<String> =
        whole_records(data).iter().map(|row| format!("{}/cwru/{}_DE.f64le", data.display(), row["file"])).collect();
    let mut arguments = vec!["replay", "--mapping", file.to_str().unwrap()];
    arguments.extend(records.iter().map(String::as_str));
    run(folder, &arguments, 0);
}

/// Rows of the truth of the records with a defect: that of the healthy bearing is longer than a message may be.
fn whole_records(data: &Path) -> Vec<Row> {
    let mut rows = csv(&data.join("truth/cwru_records.csv"));
    rows.retain(|row| row["channel"] == "DE" && row["file"] != "1797_Normal");
    assert_eq!(rows.len(), 3);
    rows
}

fn whole(row: &Row) -> String {
    format!("cwru-whole-{}_DE", row["file"])
}

/// The lines of whole records, where the truth found them. It takes the envelope of all frequencies.
fn cwru_lines(rows: &Rows, data: &Path) {
    for row in whole_records(data) {
        let asset = whole(&row);
        let [found] = frames(rows, &asset, "acceleration")[..] else { panic!("{asset} has one frame") };
        frame_agrees(&asset, found, &row);
        let extras: Value = serde_json::from_str(&found.extras).unwrap();
        for (line, column) in [("bpfi", "BPFI"), ("bpfo", "BPFO"), ("bsf2", "BSF2"), ("ftf", "FTF")] {
            // The truth has the factors of the bearing's data sheet, which are rounded.
            for (what, relative) in [("expected_hz", 1e-4), ("found_hz", 1e-9), ("over_median", 1e-9)] {
                let (found, expected) =
                    (extras[format!("{line}_{what}")].as_f64().unwrap(), number(&row, &format!("env_{column}_{what}")));
                assert!((found - expected).abs() <= relative * expected, "{asset} {line} {what}: {found}, not {expected}");
            }
        }
    }
}

/// Already frames of a third of a second tell which race is damaged, where its line lies, and that none of the healthy bearing is.
fn cwru_defects(rows: &Rows, data: &Path) {
    let truth = csv(&data.join("truth/cwru_records.csv"));
    for (file, inner, outer) in
        [("1797_IR_7_DE12", true, false), ("1797_OR@6_7_DE12", false, true), ("1797_Normal", false, false)]
    {
        let frames = frames(rows, &format!("cwru-{file}_DE"), "acceleration");
        let whole = truth.iter().find(|row| row["channel"] == "DE" && row["file"] == file).unwrap();
        for (line, column, damaged) in [("bpfi", "BPFI", inner), ("bpfo", "BPFO", outer)] {
            // The last frame of a record is shorter.
            let full = frames.iter().filter(|frame| frame.count == 4096);
            let extras: Vec<Value> = full.map(|frame| serde_json::from_str(&frame.extras).unwrap()).collect();
            let median = |what: &str| {
                let mut values: Vec<f64> =
                    extras.iter().map(|extras| extras[format!("{line}_{what}")].as_f64().unwrap()).collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            assert_eq!(median("over_median") > DEFECT_OVER_MEDIAN, damaged, "{file} {line}: {}", median("over_median"));
            if damaged {
                let (found, expected) = (median("found_hz"), number(whole, &format!("env_{column}_found_hz")));
                assert!((found - expected).abs() <= 0.02 * expected, "{file} {line}: {found} Hz, not {expected} Hz");
            }
        }
    }
}
