//! What the page of a sensor says: numbers become texts here.

use std::ops::Range;

use jiff::Timestamp;
use mantis_schemas::{Feature, Figure, window_name};
use mantis_signal::{Line, Zone};
use mantis_stores::raw::StoredReading;

use super::{
    Fact, Time, quality_name,
    sensor::{Asked, Choice},
};
use crate::{
    Irregular,
    chart::{Axis, Chart},
    features::Features,
    history::History,
    period::field,
    text,
    waveform::Waveform,
};

/// The newest reading.
pub(super) struct LatestView {
    pub(super) value: String,
    pub(super) unit: String,
    pub(super) quality: &'static str,
    pub(super) time: Time,
    pub(super) arrival: Option<Time>,
}

impl LatestView {
    pub(super) fn new(reading: &StoredReading, unit: Option<&str>, now: Timestamp) -> Self {
        Self {
            value: text::number(reading.value),
            unit: unit.unwrap_or_default().to_owned(),
            quality: quality_name(reading.quality),
            time: Time::new(reading.time_ns, now),
            arrival: (reading.arrival_ms >= 0).then(|| Time::of_ms(reading.arrival_ms, now)),
        }
    }
}

/// The readings of the period.
pub(super) struct RawView {
    pub(super) chart: Option<Chart>,
    pub(super) count: String,
    pub(super) quality: Vec<Fact>,
    pub(super) timing: Vec<Fact>,
    /// The last ones, newest first: time, value, quality.
    pub(super) rows: Vec<(String, String, &'static str)>,
    /// True if its asset's records come on another partition than its key says.
    pub(super) misplaced: bool,
    /// Where the period was cut: what to say, and where to go on.
    pub(super) cut: Option<(String, String)>,
}

impl RawView {
    pub(super) fn new(history: &History, irregular: Option<Irregular>, asked: &Asked, unit: Option<&str>) -> Self {
        let readings = |count: u64| Fact::new("readings", text::count(count), "in this period");
        let chart = history.columns.range().map(|(low, high)| {
            let label = format!(
                "Readings from {} to {}{}, {} of them",
                text::number(low),
                text::number(high),
                unit.map(|unit| format!(" {unit}")).unwrap_or_default(),
                text::count(history.count)
            );
            let x = Axis::of_time(history.times.start, last_shown(&history.times, history.last.back().map(|last| last.time_ns)));
            let y = Axis::of_values((low, high), unit.unwrap_or("value, no unit declared").to_owned());
            Chart::of_columns(label, x, y, history.columns.all(), history.timing.break_ns())
        });
        let rows = history.last.iter().rev();
        Self {
            chart,
            count: text::count(history.count),
            quality: vec![
                readings(history.count),
                Fact::new("good", text::count(history.count - history.uncertain - history.bad), "can be used"),
                Fact::new("uncertain", text::count(history.uncertain), "drawn, and marked below the line"),
                Fact::new("bad", text::count(history.bad), "not drawn, but marked below the line; they enter no feature"),
            ],
            misplaced: irregular.is_some_and(|irregular| irregular.misplaced),
            timing: timing(history, irregular),
            rows: rows
                .map(|reading| (text::time(reading.time_ns), text::number(reading.value), quality_name(reading.quality)))
                .collect(),
            cut: history.cut_at_ns.map(|cut_ns| {
                let said =
                    format!("Only the first {} readings are shown, up to {}.", text::count(history.count), text::time(cut_ns));
                (said, asked.with_period(None, Some(field(cut_ns))).href())
            }),
        }
    }
}

/// The end of the time axis: without the nanosecond by which a period goes beyond the newest reading.
fn last_shown(times: &Range<i64>, newest_ns: Option<i64>) -> i64 {
    newest_ns.filter(|newest_ns| newest_ns.saturating_add(1) == times.end).unwrap_or(times.end)
}

fn timing(history: &History, irregular: Option<Irregular>) -> Vec<Fact> {
    let timing = &history.timing;
    let none = || text::NONE.to_owned();
    let counted = |count: fn(&Irregular) -> u64| irregular.as_ref().map_or_else(none, |irregular| text::count(count(irregular)));
    let ns = |ns: Option<i64>| ns.map_or_else(none, |ns| text::span(ns.into()));
    let gaps = match timing.longest_gap_ns {
        Some(longest) => format!("{}, the longest {}", text::count(timing.gaps), text::span(longest.into())),
        None => text::count(timing.gaps),
    };
    let skew = timing.median_skew_ms.map_or_else(none, |ms| text::span(i128::from(ms) * 1_000_000));
    let seen = timing.newest_arrival_ms.map_or_else(none, |ms| text::time(ms.saturating_mul(1_000_000)));
    vec![
        Fact::new(
            "rate",
            timing.rate_hz.map_or_else(none, |hz| format!("{} Hz", text::number(hz))),
            "readings per second from the first to the last one; needs two",
        ),
        Fact::new("median step", ns(timing.median_step_ns), "usual distance of two source times; needs two readings"),
        Fact::new("gaps", gaps, "steps of more than five times the median"),
        Fact::new("out of order", text::count(timing.out_of_order), "arrived after a reading with a later source time"),
        Fact::new(
            "duplicates",
            counted(|irregular| irregular.duplicates),
            "came again; counted by the features worker, not by period",
        ),
        Fact::new(
            "conflicts",
            counted(|irregular| irregular.conflicts),
            "replaced another value of their time; counted as duplicates are",
        ),
        Fact::new("late", counted(|irregular| irregular.late), "came too late for any window; counted as duplicates are"),
        Fact::new("skew", skew, "median of arrival less source time; large for replayed recordings and for wrong clocks"),
        Fact::new("last seen", seen, "arrival of the newest of them; needs records with a timestamp"),
    ]
}

/// The features of the period, of one length of window.
pub(super) struct FeaturesView {
    pub(super) windows: Vec<Choice>,
    pub(super) window: String,
    pub(super) figure: &'static str,
    pub(super) figures: Vec<(&'static str, bool)>,
    pub(super) chart: Option<Chart>,
    pub(super) count: String,
    pub(super) without: String,
    /// The last windows, newest first.
    pub(super) rows: Vec<FeatureRow>,
    /// All figures of the newest window.
    pub(super) newest: Option<NewestView>,
    pub(super) cut: Option<(String, String)>,
    pub(super) is_frames: bool,
}

/// A row of the table of windows.
pub(super) struct FeatureRow {
    pub(super) start: String,
    /// Of a frame: its own page.
    pub(super) href: Option<String>,
    pub(super) value: String,
    pub(super) title: &'static str,
    pub(super) samples: String,
    pub(super) uncertain: String,
    pub(super) bad: String,
    pub(super) coverage: String,
    pub(super) provisional: bool,
    pub(super) exact: bool,
}

/// All figures of a window: name, value, unit, and why there is none.
pub(super) struct NewestView {
    pub(super) start: String,
    pub(super) provisional: bool,
    pub(super) figures: Vec<(&'static str, String, String, &'static str)>,
    /// What was declared of the sensor.
    pub(super) extras: Vec<(String, String)>,
}

/// Extras of a row that are shown.
const EXTRAS_MAX: usize = 100;

impl FeaturesView {
    pub(super) fn new(
        windows: Vec<Choice>,
        window_ns: i64,
        figure: Figure,
        newest: Option<&Feature>,
        features: &Features,
        asked: &Asked,
        unit: Option<&str>,
    ) -> Self {
        let unit_of = |figure| unit_of(figure, unit);
        let is_frames = window_ns == 0;
        let chart = features.columns.range().map(|range| {
            let label = format!(
                "{} of windows of {}: from {} to {} {}",
                figure.name(),
                window_name(window_ns),
                text::number(range.0),
                text::number(range.1),
                unit_of(figure)
            );
            let x = Axis::of_time(features.times.start, last_shown(&features.times, None));
            let y = Axis::of_values(range, format!("{} {}", figure.name(), unit_of(figure)).trim_end().to_owned());
            let gap = if is_frames { f64::INFINITY } else { window_ns as f64 * 1.5 };
            let chart = match &features.points {
                Some(points) => Chart::of_points(label, x, y, points, gap),
                None => Chart::of_columns(label, x, y, features.columns.all(), gap),
            };
            chart.with_marks(features.provisional.iter().take(1).map(|x| (*x, "provisional".to_owned())))
        });
        let row = |feature: &Feature| FeatureRow {
            start: text::time(feature.start_ns),
            href: is_frames.then(|| asked.with_frame(feature.start_ns).href()),
            value: text::optional(feature.figures.get(figure)),
            title: if feature.figures.get(figure).is_some() { "" } else { why_not(figure, feature) },
            samples: count(feature.count),
            uncertain: count(feature.uncertain),
            bad: count(feature.bad),
            coverage: feature
                .coverage
                .map_or_else(|| text::NONE.into(), |part| format!("{} %", text::number((part * 1_000.0).round() / 10.0))),
            provisional: feature.provisional,
            exact: feature.exact,
        };
        let newest = newest.map(|feature| NewestView {
            start: text::time(feature.start_ns),
            provisional: feature.provisional,
            figures: feature
                .figures
                .iter()
                .map(|(figure, value)| match value {
                    Some(value) => (figure.name(), text::number(value), unit_of(figure), ""),
                    None => (figure.name(), text::NONE.to_owned(), String::new(), why_not(figure, feature)),
                })
                .collect(),
            extras: extras(&feature.extras),
        });
        Self {
            windows,
            window: window_name(window_ns),
            figure: figure.name(),
            figures: Figure::ALL.into_iter().map(|other| (other.name(), other == figure)).collect(),
            chart,
            count: text::count(features.count as u64),
            without: text::count(features.without as u64),
            rows: features.last.iter().rev().map(row).collect(),
            newest,
            cut: features.cut_at_ns.map(|cut_ns| {
                let said = format!(
                    "Only the first {} windows are shown, up to {}.",
                    text::count(features.count as u64),
                    text::time(cut_ns)
                );
                (said, asked.with_period(None, Some(field(cut_ns))).href())
            }),
            is_frames,
        }
    }
}

fn count(count: i64) -> String {
    text::count(count.max(0).unsigned_abs())
}

fn extras(json: &str) -> Vec<(String, String)> {
    let extras: std::collections::BTreeMap<String, f64> = serde_json::from_str(json).unwrap_or_default();
    extras.into_iter().take(EXTRAS_MAX).map(|(name, value)| (text::visible(&name), text::number(value))).collect()
}

/// The unit of a figure of values in `unit`.
fn unit_of(figure: Figure, unit: Option<&str>) -> String {
    match figure {
        Figure::SampleRateHz | Figure::DominantFrequencyHz | Figure::CentroidHz => "Hz".into(),
        Figure::CrestFactor
        | Figure::ShapeFactor
        | Figure::ImpulseFactor
        | Figure::ClearanceFactor
        | Figure::Skewness
        | Figure::KurtosisExcess
        | Figure::ZeroCrossings
        | Figure::CrestFactorAc => String::new(),
        _ => unit.unwrap_or_default().to_owned(),
    }
}

/// Why a figure is not there.
fn why_not(figure: Figure, feature: &Feature) -> &'static str {
    match figure {
        Figure::SampleRateHz | Figure::DominantFrequencyHz | Figure::DominantAmplitude | Figure::CentroidHz
            if feature.window_ns > 0 =>
        {
            "a figure of waveform frames only"
        }
        Figure::SampleRateHz | Figure::DominantFrequencyHz | Figure::DominantAmplitude | Figure::CentroidHz => {
            "the frame is too short, constant, or has values beyond a double"
        }
        Figure::ZeroCrossings if !feature.exact => "not known from moments: the window had more samples than are kept",
        Figure::Skewness | Figure::KurtosisExcess | Figure::CrestFactorAc => "all values are the same, or there is only one",
        Figure::CrestFactor | Figure::ShapeFactor | Figure::ImpulseFactor | Figure::ClearanceFactor => "all values are 0",
        _ => "beyond the range of a double",
    }
}

/// A waveform frame.
pub(super) struct WaveView {
    pub(super) is_chosen: bool,
    pub(super) start: String,
    pub(super) facts: Vec<Fact>,
    pub(super) wave: Chart,
    pub(super) spectrum: Option<Chart>,
    pub(super) envelope: Option<Chart>,
    pub(super) bands: Vec<(String, String)>,
    /// Name; expected and found frequency, amplitude, times the median.
    pub(super) lines: Vec<(&'static str, [String; 4])>,
    /// The zone with the velocity.
    pub(super) severity: Option<(&'static str, String)>,
    pub(super) unit: String,
}

impl WaveView {
    pub(super) fn new(waveform: Waveform, is_chosen: bool, unit: Option<&str>) -> Self {
        let spectrum = waveform.figures.spectrum.as_ref();
        let with_unit = |value: Option<f64>| match (value, unit) {
            (Some(value), Some(unit)) => format!("{} {unit}", text::number(value)),
            (value, _) => text::optional(value),
        };
        let hz = |value: Option<f64>| value.map_or_else(|| text::NONE.into(), |hz| format!("{} Hz", text::number(hz)));
        let scalar = &waveform.figures.scalar;
        let none = "none for a frame that is too short or constant";
        let facts = vec![
            Fact::new("samples", text::count(waveform.samples as u64), "in this frame"),
            Fact::new("sample rate", hz(Some(waveform.sample_rate_hz)), "samples per second"),
            Fact::new(
                "duration",
                text::span((waveform.samples as f64 / waveform.sample_rate_hz * 1e9) as i128),
                "samples over sample rate",
            ),
            Fact::new("format", waveform.format, "as it was sent, bit for bit"),
            Fact::new("quality", quality_name(waveform.quality), "of the frame"),
            Fact::new(
                "arrived",
                if waveform.arrival_ms < 0 {
                    text::NONE.into()
                } else {
                    text::time(waveform.arrival_ms.saturating_mul(1_000_000))
                },
                "timestamp of its record",
            ),
            Fact::new("RMS, mean removed", with_unit(scalar.rms_ac), "rms_ac"),
            Fact::new("peak, mean removed", with_unit(scalar.peak_ac), "peak_ac"),
            Fact::new("crest factor, mean removed", text::optional(scalar.crest_factor_ac), none),
            Fact::new("kurtosis (excess)", text::optional(scalar.kurtosis_excess), none),
            Fact::new("dominant frequency", hz(spectrum.and_then(|s| s.dominant_frequency_hz)), none),
            Fact::new("its amplitude", with_unit(spectrum.and_then(|s| s.dominant_amplitude)), none),
            Fact::new("centroid", hz(spectrum.and_then(|s| s.centroid_hz)), none),
        ];
        let lines = waveform.figures.bearing.map(|lines| {
            let named = [
                ("BPFO, outer race", lines.bpfo),
                ("BPFI, inner race", lines.bpfi),
                ("BSF, rolling element", lines.bsf),
                ("2 BSF", lines.bsf2),
                ("FTF, cage", lines.ftf),
            ];
            named.map(|(name, line)| (name, line_texts(line))).to_vec()
        });
        let severity = waveform.figures.severity.map(|severity| {
            let zone = match severity.zone {
                Zone::A => "A: as new",
                Zone::B => "B: fit for long-term operation",
                Zone::C => "C: not for long-term operation",
                Zone::D => "D: damage is likely",
            };
            (zone, text::number(severity.velocity_rms_mm_s))
        });
        Self {
            is_chosen,
            start: text::time(waveform.start_ns),
            facts,
            bands: waveform.bands.iter().map(|(name, rms)| (name.clone(), with_unit(*rms))).collect(),
            lines: lines.unwrap_or_default(),
            severity,
            unit: unit.unwrap_or_default().to_owned(),
            wave: waveform.wave,
            spectrum: waveform.spectrum,
            envelope: waveform.envelope,
        }
    }
}

fn line_texts(line: Option<Line>) -> [String; 4] {
    match line {
        Some(line) => [
            text::number(line.expected_hz),
            text::number(line.found_hz),
            text::optional(line.amplitude),
            text::optional(line.over_median.map(|times| (times * 10.0).round() / 10.0)),
        ],
        None => std::array::from_fn(|_| text::NONE.to_owned()),
    }
}
