//! The real recordings, and the figures that were computed from them independently.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use mantis_schemas::Series;
use mantis_stores::raw::RawReader;

/// What is replayed: a mapping that ships with the project, and the recording it is for.
pub fn replays(data: &Path) -> Vec<(PathBuf, PathBuf)> {
    let example = |name: &str| mantis_testing::repository().join("examples").join(name);
    vec![
        (example("skab.toml"), data.join("skab/data")),
        (example("pdm.toml"), data.join("pdm/PdM_telemetry_m1-20_q1.csv")),
        (example("cwru.toml"), data.join("cwru")),
        (example("femto.toml"), data.join("femto/Full_Test_Set/Bearing2_7")),
    ]
}

/// Rows of a CSV file by column name.
pub fn csv(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines.map(|line| header.iter().map(|h| (*h).to_owned()).zip(line.split(',').map(str::to_owned)).collect()).collect()
}

/// Figures of a set of values.
#[derive(Debug, PartialEq)]
pub struct Figures {
    pub count: usize,
    pub mean: f64,
    pub std: f64,
    pub rms: f64,
    pub peak: f64,
    pub min: f64,
    pub max: f64,
}

impl Figures {
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let (min, max) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)));
        Self {
            count: values.len(),
            mean,
            std: (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt(),
            rms: (values.iter().map(|x| x * x).sum::<f64>() / n).sqrt(),
            peak: min.abs().max(max.abs()),
            min,
            max,
        }
    }

    /// Asserts that `got` is `truth` to 1e-9 of itself, or 1e-12 of the values' range.
    pub fn agree(&self, what: &str, got: f64, truth: &str) {
        let truth: f64 = truth.parse().unwrap();
        let tolerance = (1e-9 * truth.abs()).max(1e-12 * (self.max - self.min));
        assert!((got - truth).abs() <= tolerance, "{what}: {got} is not {truth}");
    }
}

/// All values of a sensor's readings, as the store gives them back.
pub async fn readings(store: &impl RawReader, asset: &str, sensor: &str) -> Vec<f64> {
    let series = Series { asset: asset.into(), sensor: sensor.into() };
    store.readings(&series, i64::MIN..i64::MAX, usize::MAX >> 1).await.unwrap().iter().map(|r| r.value).collect()
}

/// All samples of a sensor's frames, by the start of the frame, as the store gives them back.
pub async fn frames(store: &impl RawReader, asset: &str, sensor: &str) -> Vec<(i64, Vec<f64>)> {
    let series = Series { asset: asset.into(), sensor: sensor.into() };
    let frames = store.frames(&series, i64::MIN..i64::MAX, usize::MAX >> 1).await.unwrap();
    frames.iter().map(|f| (f.start_ns, f.format.values(f.scale, &f.samples).collect())).collect()
}
