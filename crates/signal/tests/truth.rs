//! Figures of real recordings agree with those computed by numpy and scipy.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use mantis_signal::*;

type Row = BTreeMap<String, String>;

/// The rows of a table with a header.
fn table(path: &Path, delimiter: char) -> Vec<Row> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(delimiter).collect();
    lines
        .map(|line| names.iter().zip(line.split(delimiter)).map(|(name, cell)| (name.to_string(), cell.to_owned())).collect())
        .collect()
}

fn number(row: &Row, column: &str) -> f64 {
    row[column].parse().unwrap()
}

/// Values by name of sensor and beginning of the window, in order of time; `window` cuts it from the row's time.
fn windows(rows: Vec<Row>, sensors: &[&str], window: fn(&str) -> String) -> BTreeMap<(String, String), Vec<f64>> {
    let mut rows: Vec<(String, Row)> = rows.into_iter().map(|row| (row["datetime"].clone(), row)).collect();
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    let mut values = BTreeMap::<_, Vec<f64>>::new();
    for (time, row) in &rows {
        for sensor in sensors {
            values.entry((sensor.to_string(), window(time))).or_default().push(number(row, sensor));
        }
    }
    values
}

/// 1e-9 relative, or 1e-12 of the range.
fn agree(what: &str, features: &ScalarFeatures, found: Option<f64>, expected: f64) {
    let (found, range) = (found.unwrap(), features.peak_to_peak.unwrap());
    let error = (found - expected).abs();
    assert!(error <= 1e-9 * expected.abs() || error <= 1e-12 * range, "{what}: {found}, not {expected}");
}

fn check_skab(recordings: PathBuf, file: &str, truth: &str) {
    const SENSORS: [&str; 8] = [
        "Accelerometer1RMS",
        "Accelerometer2RMS",
        "Current",
        "Pressure",
        "Temperature",
        "Thermocouple",
        "Voltage",
        "Volume Flow RateRMS",
    ];
    let minute = |time: &str| format!("{}:00Z", time[..16].replace(' ', "T"));
    let mut values = windows(table(&recordings.join(file), ';'), &SENSORS, minute);
    let truth = table(&recordings.join(truth), ',');
    assert_eq!(truth.len(), values.len());
    for row in truth {
        let what = format!("{file} {} {}", row["sensor"], row["window_start"]);
        let window = values.remove(&(row["sensor"].clone(), row["window_start"].clone())).unwrap();
        let found = ScalarFeatures::of(&window).unwrap();
        assert_eq!(found.count.to_string(), row["count"], "{what}");
        let figures = [
            ("mean", Some(found.mean)),
            ("min", Some(found.min)),
            ("max", Some(found.max)),
            ("std_pop", found.std),
            ("rms", found.rms),
            ("first", Some(found.first)),
            ("last", Some(found.last)),
        ];
        for (column, figure) in figures {
            agree(&format!("{what} {column}"), &found, figure, number(&row, column));
        }
    }
}

#[test]
fn minutes_of_a_water_circuit_agree() {
    let Some(recordings) = mantis_testing::recordings() else { return };
    check_skab(recordings.clone(), "skab/data/valve1/0.csv", "truth/skab_valve1_0_win60s.csv");
    check_skab(recordings, "skab/data/other/13.csv", "truth/skab_other_13_win60s.csv");
}

#[test]
fn days_of_a_machine_agree() {
    let Some(recordings) = mantis_testing::recordings() else { return };
    const SENSORS: [&str; 4] = ["volt", "rotate", "pressure", "vibration"];
    let mut rows = table(&recordings.join("pdm/PdM_telemetry_m1-20_q1.csv"), ',');
    rows.retain(|row| row["machineID"] == "1");
    let values = windows(rows, &SENSORS, |time| time[..10].to_owned());
    let truth = table(&recordings.join("truth/pdm_machine1_win1d.csv"), ',');
    assert!(truth.len() > 80);
    for row in truth {
        for sensor in SENSORS {
            let found = ScalarFeatures::of(&values[&(sensor.to_owned(), row["day"].clone())]).unwrap();
            let what = format!("{sensor} {}", row["day"]);
            assert_eq!(found.count.to_string(), row[&format!("{sensor}_count")], "{what}");
            let figures =
                [("mean", Some(found.mean)), ("std_pop", found.std), ("min", Some(found.min)), ("max", Some(found.max))];
            for (figure, value) in figures {
                agree(&format!("{what} {figure}"), &found, value, number(&row, &format!("{sensor}_{figure}")));
            }
        }
    }
}

/// A row of a waveform's figures against ours. The dominant frequency is compared where it stands out by a fifth.
fn check_frame(what: &str, planner: &mut SpectrumPlanner, samples: &[f64], row: &Row) {
    let rate_hz = number(row, "df_hz") * number(row, "n");
    let features = FrameAnalyzer::default().features(planner, samples, rate_hz, None).unwrap();
    let found = features.scalar;
    assert_eq!(found.count.to_string(), row["n"], "{what}");
    let figures = [
        ("mean", Some(found.mean)),
        ("std", found.std),
        ("rms", found.rms),
        ("peak", Some(found.peak)),
        ("p2p", found.peak_to_peak),
        ("crest", found.crest_factor),
        ("skewness", found.skewness),
        // There it is Pearson's, 3 for a normal distribution.
        ("kurtosis", found.kurtosis_excess.map(|excess| excess + 3.0)),
    ];
    for (column, figure) in figures {
        agree(&format!("{what} {column}"), &found, figure, number(row, column));
    }
    if number(row, "dom_margin") > 1.2 {
        let bin = |hz: f64| (hz / number(row, "df_hz")).round();
        let dominant_hz = features.spectrum.unwrap().dominant_frequency_hz.unwrap();
        assert_eq!(bin(dominant_hz), bin(number(row, "dom_hz")), "{what}: the bin of the dominant frequency");
    }
}

fn cwru(recordings: &Path, row: &Row) -> Vec<f64> {
    let bytes = fs::read(recordings.join(format!("cwru/{}_{}.f64le", row["file"], row["channel"]))).unwrap();
    bytes.as_chunks().0.iter().map(|sample| f64::from_le_bytes(*sample)).collect()
}

#[test]
fn frames_of_bearing_records_agree() {
    let Some(recordings) = mantis_testing::recordings() else { return };
    let mut planner = SpectrumPlanner::new();
    for row in table(&recordings.join("truth/cwru_windows4096.csv"), ',') {
        let samples = cwru(&recordings, &row);
        let first: usize = row["first_sample"].parse().unwrap();
        let what = format!("{} window {}", row["file"], row["window"]);
        check_frame(&what, &mut planner, &samples[first..first + 4096], &row);
    }
}

#[test]
fn frames_of_a_bearing_run_to_failure_agree() {
    let Some(recordings) = mantis_testing::recordings() else { return };
    let mut planner = SpectrumPlanner::new();
    let truth = table(&recordings.join("truth/femto_Bearing2_7.csv"), ',');
    assert!(truth.len() > 400);
    for row in truth {
        let text = fs::read_to_string(recordings.join("femto/Full_Test_Set/Bearing2_7").join(&row["file"])).unwrap();
        let column = if row["channel"] == "horizontal" { 4 } else { 5 };
        let samples: Vec<f64> =
            text.lines().map(|line| line.split([',', ';']).nth(column).unwrap().trim().parse().unwrap()).collect();
        check_frame(&format!("{} {}", row["file"], row["channel"]), &mut planner, &samples, &row);
    }
}

/// The truth takes the envelope of all frequencies.
#[test]
fn whole_bearing_records_and_their_lines_agree() {
    let Some(recordings) = mantis_testing::recordings() else { return };
    let mut planner = SpectrumPlanner::new();
    let bearing = BearingGeometry::new(9, 7.94, 39.04, 0.0).unwrap();
    let rows: Vec<Row> = table(&recordings.join("truth/cwru_records.csv"), ',');
    let rows: Vec<Row> = rows.into_iter().filter(|row| row["channel"] == "DE").collect();
    assert_eq!(rows.len(), 4);
    for row in rows {
        let samples = cwru(&recordings, &row);
        let file = &row["file"];
        check_frame(file, &mut planner, &samples, &row);
        let frequencies = bearing.frequencies(number(&row, "rpm") / 60.0).unwrap();
        let envelope = planner.envelope(&samples, number(&row, "fs_hz"), None).unwrap().unwrap();
        let lines = frequencies.lines(&envelope);
        for (name, line) in [("BPFI", lines.bpfi), ("BPFO", lines.bpfo), ("BSF2", lines.bsf2), ("FTF", lines.ftf)] {
            let line = line.unwrap();
            let near = |what: &str, found: f64, relative: f64| {
                let expected = number(&row, &format!("env_{name}_{what}"));
                assert!((found - expected).abs() <= relative * expected, "{file} {name} {what}: {found}, not {expected}");
            };
            // The truth has the factors of the bearing's data sheet, which are rounded.
            near("expected_hz", line.expected_hz, 1e-4);
            near("found_hz", line.found_hz, 1e-9);
            near("over_median", line.over_median.unwrap(), 1e-9);
        }
    }
}
