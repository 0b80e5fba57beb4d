//! Stored readings and frames against the figures that were computed from the recordings independently.

use std::path::Path;

use mantis_stores::raw::RawReader;

use super::recordings::{Figures, csv, frames, readings};

/// Compares all that the truth has of SKAB, PdM, CWRU and FEMTO.
pub fn agree_with_the_truth(store: &impl RawReader, data: &Path) {
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
