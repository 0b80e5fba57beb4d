//! Figures of waveform frames. A frame needs no state: its figures are of itself.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use mantis_schemas::{Feature, Figure, FrameColumns, Quality, Series, SeriesId};
use mantis_signal::{
    BearingLines, ENVELOPE_VERSION, FrameAnalyzer, FrameFeatures, Line, SCALAR_VERSION, SEVERITY_VERSION, SPECTRUM_VERSION,
    SpectrumPlanner, Zone,
};

use super::{partition::Published, sensor::figures};
use crate::sensors::{Declaration, SensorRegistry};

/// Version of the rows of frames: rises with that of each of their parts.
const FRAME_VERSION: u32 = SCALAR_VERSION + SPECTRUM_VERSION + ENVELOPE_VERSION + SEVERITY_VERSION - 3;

/// What a declaration says of a sensor's frames.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameDeclaration {
    analyzer: FrameAnalyzer,
    /// Names of the bands' figures.
    bands: Vec<String>,
    /// Turns of the shaft per second.
    shaft_hz: Option<f64>,
}

impl FrameDeclaration {
    /// Reads a declaration; the error says what is wrong with it, and what to do.
    pub(crate) fn of(declaration: &Declaration) -> Result<Self, String> {
        let settings = declaration.frame_settings()?;
        Ok(Self {
            bands: settings.bands.iter().map(|band| format!("band_rms_{}_{}_hz", band.low_hz(), band.high_hz())).collect(),
            shaft_hz: declaration.shaft_hz(),
            analyzer: FrameAnalyzer::new(settings).map_err(|error| error.to_string())?,
        })
    }
}

/// Computes the rows of frames.
pub(super) struct FrameWindows {
    sensors: SensorRegistry,
    planner: SpectrumPlanner,
    /// By series; `None` is not known yet.
    declared: Vec<Option<FrameDeclaration>>,
    samples: Vec<f64>,
}

impl FrameWindows {
    pub(super) fn new(sensors: SensorRegistry) -> Self {
        Self { sensors, planner: SpectrumPlanner::default(), declared: Vec::new(), samples: Vec::new() }
    }

    /// Gives out a row for each frame.
    pub(super) fn rows(
        &mut self,
        frames: &FrameColumns,
        offsets: &[i64],
        rows: Range<usize>,
        name: impl Fn(SeriesId) -> Option<Arc<Series>>,
        processed_ms: i64,
        published: &mut Vec<Published>,
    ) {
        for index in rows {
            let frame = frames.frame(index);
            let Some(series) = name(frame.series) else { continue };
            self.samples.clear();
            self.samples.extend(frame.format.values(frame.scale, frame.samples));
            self.declare(frame.series.index(), &series);
            let Some(Some(declared)) = self.declared.get(frame.series.index()) else { continue };
            // A frame of bad quality has a row without figures, which replaces that of the same frame sent as good.
            let usable = frame.quality != Quality::Bad;
            let features = declared.analyzer.features(&mut self.planner, &self.samples, frame.sample_rate_hz, declared.shaft_hz);
            let count = self.samples.len() as i64;
            let length_ns = (count as f64 * 1e9 / frame.sample_rate_hz).round();
            let mut row = Feature {
                window_ns: 0,
                start_ns: frame.start_ns,
                end_ns: frame.start_ns.saturating_add(length_ns as i64),
                version: FRAME_VERSION as i32,
                count: if usable { count } else { 0 },
                uncertain: if frame.quality == Quality::Uncertain { count } else { 0 },
                bad: if usable { 0 } else { count },
                coverage: Some(1.0),
                exact: true,
                provisional: false,
                revision: offsets[index],
                processed_ms,
                ..Feature::default()
            };
            // A frame that has no figures (too long, or beyond a double) still has a row that says so.
            if let (true, Ok(features)) = (usable, features) {
                row.figures = figures(&features.scalar);
                row.figures.set(Figure::SampleRateHz, Some(frame.sample_rate_hz));
                if let Some(spectrum) = &features.spectrum {
                    row.figures.set(Figure::DominantFrequencyHz, spectrum.dominant_frequency_hz);
                    row.figures.set(Figure::DominantAmplitude, spectrum.dominant_amplitude);
                    row.figures.set(Figure::CentroidHz, spectrum.centroid_hz);
                }
                row.extras = extras(&features, &declared.bands).into();
            }
            published.push((series, row));
        }
    }

    fn declare(&mut self, index: usize, series: &Series) {
        if self.declared.len() <= index {
            self.declared.resize_with(index + 1, || None);
        }
        let Some(place) = self.declared.get_mut(index).filter(|place| place.is_none()) else { return };
        // The registry holds only declarations that can be read.
        *place = Some(self.sensors.find(series).and_then(|found| FrameDeclaration::of(found).ok()).unwrap_or_default());
    }
}

/// Figures of what was declared, as a JSON object.
fn extras(features: &FrameFeatures, bands: &[String]) -> String {
    let mut extras: BTreeMap<String, f64> = BTreeMap::new();
    if let Some(spectrum) = &features.spectrum {
        for (name, rms) in bands.iter().zip(&spectrum.band_rms) {
            extras.extend(rms.map(|rms| (name.clone(), rms)));
        }
    }
    if let Some(BearingLines { bpfo, bpfi, bsf, bsf2, ftf }) = features.bearing {
        for (name, line) in [("bpfo", bpfo), ("bpfi", bpfi), ("bsf", bsf), ("bsf2", bsf2), ("ftf", ftf)] {
            let Some(Line { expected_hz, found_hz, amplitude, over_median }) = line else { continue };
            extras.insert(format!("{name}_expected_hz"), expected_hz);
            extras.insert(format!("{name}_found_hz"), found_hz);
            extras.extend(amplitude.map(|amplitude| (format!("{name}_amplitude"), amplitude)));
            extras.extend(over_median.map(|times| (format!("{name}_over_median"), times)));
        }
    }
    if let Some(severity) = features.severity {
        extras.insert("velocity_rms_mm_s".into(), severity.velocity_rms_mm_s);
        let zone = match severity.zone {
            Zone::A => 1.0,
            Zone::B => 2.0,
            Zone::C => 3.0,
            Zone::D => 4.0,
        };
        extras.insert("iso_10816_3_zone".into(), zone);
    }
    if extras.is_empty() { String::new() } else { serde_json::to_string(&extras).unwrap_or_default() }
}
