//! The mappings in `examples/` read the recordings that they are for, and the figures agree with the truth.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use mantis_gateway::{Format, Mapping, Piece, Recording, Totals};

type Values = BTreeMap<(String, String), Vec<(i64, f64)>>;

/// Readings and samples by asset and sensor, with the times of readings and of frames' starts.
fn read(mapping: &str, recording: PathBuf) -> (Values, Totals) {
    let mapping = Mapping::read(&mantis_testing::repository().join("examples").join(mapping)).unwrap();
    let mut recording = Recording::open(mapping, &[recording], 100, Format::Avro).unwrap();
    let mut values = Values::new();
    while let Some((_, piece)) = recording.next_piece().unwrap() {
        match piece {
            Piece::Readings { asset, sensor, times_ns, values: read, .. } => {
                values.entry((asset.to_string(), sensor.to_string())).or_default().extend(times_ns.into_iter().zip(read));
            }
            Piece::Frame { asset, sensor, start_ns, format, scale, samples, .. } => {
                let series = values.entry((asset.to_string(), sensor.to_string())).or_default();
                series.extend(format.values(scale, &samples).map(|value| (start_ns, value)));
            }
        }
    }
    assert_eq!(recording.totals().files, recording.files() as u64);
    (values, recording.totals().clone())
}

fn truth(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines
        .map(|line| names.iter().zip(line.split(',')).map(|(name, cell)| (name.to_string(), cell.to_owned())).collect())
        .collect()
}

struct Figures {
    count: usize,
    min: f64,
    max: f64,
    mean: f64,
    std: f64,
    rms: f64,
}

fn figures(values: &[(i64, f64)]) -> Figures {
    let count = values.len();
    let mean = values.iter().map(|(_, value)| value).sum::<f64>() / count as f64;
    let square = |from: f64| (values.iter().map(|(_, value)| (value - from).powi(2)).sum::<f64>() / count as f64).sqrt();
    let min = values.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let max = values.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
    Figures { count, min, max, mean, std: square(mean), rms: square(0.0) }
}

/// 1e-9 relative, or 1e-12 of the range.
fn agrees(what: &str, figures: &Figures, found: f64, expected: &str) {
    let expected: f64 = expected.parse().unwrap();
    let error = (found - expected).abs();
    assert!(error <= 1e-9 * expected.abs() || error <= 1e-12 * (figures.max - figures.min), "{what}: {found}, not {expected}");
}

#[test]
fn skab_is_read_as_the_truth_says() {
    let Some(data) = mantis_testing::recordings() else { return };
    let (values, totals) = read("skab.toml", data.join("skab"));
    assert_eq!((totals.files, totals.refused, totals.blanks), (35, 0, 0));
    let rows = truth(&data.join("truth/skab_sensor_stats.csv"));
    assert_eq!(rows.len(), values.len());
    for row in rows {
        let asset = format!("skab-{}", row["file"].trim_end_matches(".csv").replace('/', "-"));
        let what = format!("{asset} {}", row["sensor"]);
        let found = figures(&values[&(asset, row["sensor"].clone())]);
        assert_eq!(found.count.to_string(), row["count"], "{what}");
        assert_eq!((found.min, found.max), (row["min"].parse().unwrap(), row["max"].parse().unwrap()), "{what}");
        agrees(&what, &found, found.mean, &row["mean"]);
        agrees(&what, &found, found.std, &row["std_pop"]);
    }
}

#[test]
fn pdm_telemetry_is_read_as_the_truth_says() {
    let Some(data) = mantis_testing::recordings() else { return };
    let (values, totals) = read("pdm.toml", data.join("pdm"));
    assert_eq!((totals.files, totals.rows, totals.readings, totals.refused), (1, 43_200, 4 * 43_200, 0));
    for row in truth(&data.join("truth/pdm_telemetry_stats.csv")) {
        for sensor in ["volt", "rotate", "pressure", "vibration"] {
            let what = format!("pdm-{} {sensor}", row["machineID"]);
            let truth = |figure: &str| row[&format!("{sensor}_{figure}")].as_str();
            let found = figures(&values[&(format!("pdm-{}", row["machineID"]), sensor.to_owned())]);
            assert_eq!(found.count.to_string(), truth("count"), "{what}");
            assert_eq!((found.min, found.max), (truth("min").parse().unwrap(), truth("max").parse().unwrap()), "{what}");
            agrees(&what, &found, found.mean, truth("mean"));
            agrees(&what, &found, found.std, truth("std_pop"));
        }
    }
}

#[test]
fn cwru_records_are_read_as_the_truth_says() {
    let Some(data) = mantis_testing::recordings() else { return };
    let (values, totals) = read("cwru.toml", data.join("cwru"));
    assert_eq!((totals.files, totals.refused), (4, 0));
    let mut compared = 0;
    for row in truth(&data.join("truth/cwru_records.csv")) {
        let asset = format!("cwru-{}_{}", row["file"], row["channel"]);
        let Some(samples) = values.get(&(asset.clone(), "acceleration".to_owned())) else { continue };
        let found = figures(samples);
        assert_eq!(found.count.to_string(), row["n"], "{asset}");
        agrees(&asset, &found, found.mean, &row["mean"]);
        agrees(&asset, &found, found.std, &row["std"]);
        agrees(&asset, &found, found.rms, &row["rms"]);
        compared += 1;
    }
    assert_eq!(compared, 4);
}

#[test]
fn femto_files_with_either_delimiter_become_a_frame_each_per_channel() {
    let Some(data) = mantis_testing::recordings() else { return };
    let folder = data.join("femto/Full_Test_Set/Bearing2_7");
    let (values, totals) = read("femto.toml", folder.clone());
    let rows = truth(&data.join("truth/femto_Bearing2_7.csv"));
    assert_eq!((totals.files, totals.frames, totals.refused, rows.len()), (230, 460, 0, 460));
    for channel in ["horizontal", "vertical"] {
        let samples = &values[&("femto-Bearing2_7".to_owned(), channel.to_owned())];
        let frames: Vec<_> = samples.chunk_by(|one, other| one.0 == other.0).collect();
        let rows: Vec<_> = rows.iter().filter(|row| row["channel"] == channel).collect();
        assert_eq!(frames.len(), rows.len());
        for (frame, row) in frames.iter().zip(rows) {
            let what = format!("{} {channel}", row["file"]);
            let time_of_day_us = (frame[0].0 % 86_400_000_000_000) as f64 / 1e3;
            assert_eq!(time_of_day_us, (row["time_of_day_s"].parse::<f64>().unwrap() * 1e6).round(), "{what}");
            let found = figures(frame);
            assert_eq!(found.count.to_string(), row["n"], "{what}");
            agrees(&what, &found, found.mean, &row["mean"]);
            agrees(&what, &found, found.std, &row["std"]);
            agrees(&what, &found, found.rms, &row["rms"]);
        }
    }
    let (values, totals) = read("femto-temperature.toml", folder);
    assert_eq!((totals.files, totals.readings, totals.refused), (38, 22_337, 0));
    let times: Vec<i64> = values.values().next().unwrap().iter().map(|(time_ns, _)| *time_ns).collect();
    assert!(times.is_sorted());
}

#[test]
fn the_other_recordings_are_read_whole() {
    let Some(data) = mantis_testing::recordings() else { return };
    let (values, totals) = read("sme-oee.toml", data.join("sme_oee"));
    assert_eq!((totals.rows, totals.readings, totals.refused), (14_492, 14_492 * 7, 0));
    let items: f64 =
        values.iter().filter(|((_, sensor), _)| sensor == "items").flat_map(|(_, rows)| rows).map(|(_, items)| items).sum();
    assert_eq!(items, 40_067.0);

    let (values, totals) = read("steel.toml", data.join("steel"));
    assert_eq!((totals.rows, totals.refused), (35_040, 0));
    let usage = &values[&("steel-plant".to_owned(), "usage".to_owned())];
    assert!(usage.windows(2).all(|pair| pair[1].0 - pair[0].0 == 900_000_000_000), "a step is not 15 minutes");
    assert!((usage.iter().map(|(_, kwh)| kwh).sum::<f64>() - 959_636.71).abs() < 1e-6);

    let (values, totals) = read("cmapss.toml", data.join("cmapss"));
    assert_eq!((totals.rows, totals.readings, totals.refused), (20_631, 20_631 * 24, 0));
    assert_eq!(values.len(), 100 * 24);
}
