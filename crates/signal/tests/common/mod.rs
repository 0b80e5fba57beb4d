//! What the tests of this crate share.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]

use mantis_signal::{FrameFeatures, Line, ScalarFeatures};
use proptest::{collection::vec, num::f64 as floats, prelude::*};

/// Any finite values, from the smallest to the largest that there are.
pub fn finite_values(most: usize) -> impl Strategy<Value = Vec<f64>> {
    let any = floats::POSITIVE | floats::NEGATIVE | floats::NORMAL | floats::SUBNORMAL | floats::ZERO;
    let value =
        prop_oneof![any, -1e3..1e3, Just(1.0), Just(f64::MAX), Just(f64::MIN), Just(f64::MIN_POSITIVE), Just(5e-324), Just(-0.0)];
    vec(value, 1..most)
}

/// Values as sensors have them: some spread on some offset, which is at most a million times larger.
pub fn readings(most: usize) -> impl Strategy<Value = Vec<f64>> {
    (-1e6..1e6_f64, vec(-1.0..1.0_f64, 2..most))
        .prop_map(|(offset, values)| values.into_iter().map(|value| offset + value).collect())
}

/// Every figure, by name.
pub fn figures(features: &ScalarFeatures) -> [(&'static str, Option<f64>); 18] {
    [
        ("mean", Some(features.mean)),
        ("std", features.std),
        ("min", Some(features.min)),
        ("max", Some(features.max)),
        ("first", Some(features.first)),
        ("last", Some(features.last)),
        ("rms", features.rms),
        ("peak", Some(features.peak)),
        ("peak_to_peak", features.peak_to_peak),
        ("crest_factor", features.crest_factor),
        ("shape_factor", features.shape_factor),
        ("impulse_factor", features.impulse_factor),
        ("clearance_factor", features.clearance_factor),
        ("skewness", features.skewness),
        ("kurtosis_excess", features.kurtosis_excess),
        ("rms_ac", features.rms_ac),
        ("peak_ac", features.peak_ac),
        ("crest_factor_ac", features.crest_factor_ac),
    ]
}

/// Fails if a figure is infinite or NaN.
pub fn all_finite(features: &ScalarFeatures) {
    for (name, figure) in figures(features) {
        assert!(figure.is_none_or(f64::is_finite), "{name} is {figure:?}");
    }
}

/// Fails if a figure of the frame is infinite or NaN.
pub fn frame_is_finite(features: &FrameFeatures) {
    all_finite(&features.scalar);
    let spectrum = features.spectrum.iter().flat_map(|spectrum| {
        let figures = [spectrum.dominant_frequency_hz, spectrum.dominant_amplitude, spectrum.centroid_hz];
        figures.into_iter().chain(spectrum.band_rms.iter().copied())
    });
    let line = |line: Option<Line>| {
        line.map_or([None; 4], |line| [Some(line.expected_hz), Some(line.found_hz), line.amplitude, line.over_median])
    };
    let bearing = features.bearing.iter().flat_map(|lines| {
        [lines.bpfo, lines.bpfi, lines.bsf, lines.bsf2, lines.ftf].into_iter().flat_map(line).collect::<Vec<_>>()
    });
    let severity = features.severity.iter().map(|severity| Some(severity.velocity_rms_mm_s));
    for figure in spectrum.chain(bearing).chain(severity) {
        assert!(figure.is_none_or(f64::is_finite), "{features:?}");
    }
}

/// Fails unless the figures are within `relative` of each other, shapes within `relative` of 1 or of themselves.
pub fn close(one: &ScalarFeatures, other: &ScalarFeatures, relative: f64) {
    let spread = one.peak_to_peak.unwrap_or(0.0);
    for ((name, one), (_, other)) in figures(one).into_iter().zip(figures(other)) {
        let (Some(one), Some(other)) = (one, other) else {
            assert_eq!(one, other, "{name}");
            continue;
        };
        let ratio = matches!(name, "skewness" | "kurtosis_excess");
        let allowed = relative * one.abs().max(if ratio { 1.0 } else { spread * 1e-3 });
        assert!((one - other).abs() <= allowed, "{name}: {one} and {other}");
    }
}
