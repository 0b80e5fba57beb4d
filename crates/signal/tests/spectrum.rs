//! Spectra, and what a frame's figures are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::f64::consts::TAU;

use common::{finite_values, frame_is_finite};
use mantis_signal::*;
use proptest::{collection::vec, prelude::*};

fn tone(samples: usize, amplitude: f64, turns: f64) -> impl Iterator<Item = f64> {
    (0..samples).map(move |at| amplitude * (TAU * turns * at as f64 / samples as f64).sin())
}

fn near(found: Option<f64>, expected: f64) {
    let found = found.unwrap();
    assert!((found - expected).abs() <= 1e-12 * expected.abs(), "{found}, not {expected}");
}

#[test]
fn a_tone_has_its_amplitude_frequency_and_rms() {
    let samples: Vec<f64> = tone(1024, 3.0, 100.0).map(|value| value + 5.0).collect();
    let mut planner = SpectrumPlanner::new();
    let spectrum = planner.spectrum(&samples, 2048.0).unwrap().unwrap();
    assert_eq!((spectrum.bins(), spectrum.resolution_hz()), (513, 2.0));
    assert_eq!(spectrum.dominant_frequency_hz(), Some(200.0));
    near(spectrum.dominant_amplitude(), 3.0);
    near(spectrum.amplitude(99), 1.5);
    near(spectrum.centroid_hz(), 200.0);
    near(spectrum.band_rms(Band::new(150.0, 250.0).unwrap()), 3.0 / 2.0_f64.sqrt());
    // Equivalent noise bandwidth: 1.5 bins.
    near(spectrum.psd(100).map(|psd| psd * 1.5 * 2.0), 4.5);
    assert!(spectrum.amplitude(0).unwrap() < 1e-12, "the mean is removed");
    assert_eq!((spectrum.amplitude(513), spectrum.psd(513)), (None, None));
}

#[test]
fn half_of_the_sample_rate_is_not_doubled() {
    let samples: Vec<f64> = (0..64).map(|at| if at % 2 == 0 { 2.0 } else { -2.0 }).collect();
    let mut planner = SpectrumPlanner::new();
    let spectrum = planner.spectrum(&samples, 64.0).unwrap().unwrap();
    assert_eq!(spectrum.dominant_frequency_hz(), Some(32.0));
    near(spectrum.dominant_amplitude(), 2.0);
    near(spectrum.psd(32).map(|psd| psd * 1.5), 4.0);
}

#[test]
fn a_bin_at_a_whole_frequency_has_just_that_and_lies_in_the_band_that_begins_with_it() {
    let mut planner = SpectrumPlanner::new();
    for (sample_rate_hz, samples) in [(25_600, 2_560), (12_000, 1_200), (10_000, 1_000), (12_000, 12_000), (25_600, 25_600)] {
        let values: Vec<f64> = tone(samples, 1.0, 41.0).collect();
        let spectrum = planner.spectrum(&values, f64::from(sample_rate_hz)).unwrap().unwrap();
        let bins = (1..samples as u32 / 2).filter(|bin| (bin * sample_rate_hz).is_multiple_of(samples as u32));
        for bin in bins {
            assert_eq!(spectrum.frequency_hz(bin as usize), f64::from(bin * sample_rate_hz / samples as u32));
        }
        let edge_hz = 41.0 * f64::from(sample_rate_hz) / samples as f64;
        // Half of a tone's power apart from its own bin lies on either side of it: 1/6 of the whole.
        near(spectrum.band_rms(Band::new(edge_hz, 4_000.0).unwrap()), (0.5_f64 * 5.0 / 6.0).sqrt());
        near(spectrum.band_rms(Band::new(0.0, edge_hz).unwrap()), (0.5_f64 / 6.0).sqrt());
        // A carrier at bin 51 with a lower line at the edge: without it the envelope would be half as deep.
        let lines = tone(samples, 1.0, 51.0).zip(tone(samples, 0.25, 41.0)).zip(tone(samples, 0.25, 61.0));
        let modulated: Vec<f64> = lines.map(|((carrier, lower), upper)| carrier + lower + upper).collect();
        let band = Band::new(edge_hz, 4_000.0).unwrap();
        let envelope = planner.envelope(&modulated, f64::from(sample_rate_hz), Some(band)).unwrap().unwrap();
        assert!((envelope.spectrum().amplitude(10).unwrap() - 0.5).abs() < 1e-9);
    }
}

#[test]
fn a_band_that_the_spectrum_does_not_hold_has_no_rms() {
    let samples: Vec<f64> = tone(100, 1.0, 7.0).collect();
    let mut planner = SpectrumPlanner::new();
    let spectrum = planner.spectrum(&samples, 1000.0).unwrap().unwrap();
    let rms = |low, high| spectrum.band_rms(Band::new(low, high).unwrap());
    assert_eq!((rms(400.0, 500.1), rms(21.0, 29.0)), (None, None));
    assert!(rms(400.0, 500.0).is_some() && rms(29.0, 30.1).is_some());
    let whole = rms(0.0, 500.0).unwrap().powi(2);
    let parts: f64 = [(0.0, 70.0), (70.0, 80.0), (80.0, 500.0)].map(|(low, high)| rms(low, high).unwrap().powi(2)).iter().sum();
    assert!((whole - parts).abs() < 1e-15, "bands that touch add up");
}

#[test]
fn short_and_constant_frames_have_scalars_only() {
    let analyzer = FrameAnalyzer::new(FrameSettings::default()).unwrap();
    let mut planner = SpectrumPlanner::new();
    for samples in [&[1.0][..], &[1.0, 2.0], &[1.0, 2.0, -1.0], &[0.1; 100]] {
        let found = analyzer.features(&mut planner, samples, 1000.0, Some(25.0)).unwrap();
        assert_eq!(found.scalar, ScalarFeatures::of(samples).unwrap());
        assert_eq!((found.spectrum, found.bearing, found.severity), (None, None, None));
    }
    let shortest = analyzer.features(&mut planner, &[1.0, 2.0, -1.0, 0.0], 1000.0, None).unwrap();
    assert!(shortest.spectrum.unwrap().dominant_frequency_hz.is_some());
}

#[test]
fn what_is_no_frame_is_refused() {
    let mut planner = SpectrumPlanner::new();
    assert_eq!(planner.spectrum(&[], 1.0).unwrap_err(), FrameError::Samples);
    assert_eq!(planner.spectrum(&[1.0, f64::NAN], 1.0).unwrap_err(), FrameError::Samples);
    assert_eq!(planner.spectrum(&[1.0], 0.0).unwrap_err(), FrameError::SampleRate(0.0));
    assert_eq!(planner.spectrum(&[1.0], f64::INFINITY).unwrap_err(), FrameError::SampleRate(f64::INFINITY));
    let long = vec![0.0; FRAME_SAMPLES_MAX + 1];
    assert_eq!(planner.envelope(&long, 1.0, None).unwrap_err(), FrameError::TooLong(FRAME_SAMPLES_MAX + 1));
    assert!(planner.spectrum(&long[1..], 1.0).unwrap().is_none());
    let bands = vec![Band::new(0.0, 1.0).unwrap(); BANDS_MAX + 1];
    assert_eq!(FrameAnalyzer::new(FrameSettings { bands, ..Default::default() }), Err(SettingsError::Bands(BANDS_MAX + 1)));
    for (low, high) in [(-1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (0.0, f64::INFINITY), (f64::NAN, 1.0), (0.0, f64::NAN)] {
        assert!(Band::new(low, high).is_err());
    }
}

#[test]
fn the_longest_frame_and_a_long_prime_one_are_transformed() {
    let mut planner = SpectrumPlanner::new();
    for samples in [FRAME_SAMPLES_MAX, 524_287] {
        let frame: Vec<f64> = tone(samples, 1.0, 1000.0).collect();
        let spectrum = planner.spectrum(&frame, samples as f64).unwrap().unwrap();
        assert!((spectrum.dominant_frequency_hz().unwrap() - 1000.0).abs() < 1e-9);
        assert!((spectrum.dominant_amplitude().unwrap() - 1.0).abs() < 1e-9);
    }
}

/// A steady 3 kHz resonance that rings 107 times a second.
fn ringing(samples: usize, sample_rate_hz: f64) -> Vec<f64> {
    let modulated = |at: usize| {
        let time_s = at as f64 / sample_rate_hz;
        let drift = 4.0 * (TAU * 30.0 * time_s).sin();
        drift + (1.0 + 0.5 * (TAU * 107.0 * time_s).cos()) * (TAU * 3000.0 * time_s).sin()
    };
    (0..samples).map(modulated).collect()
}

#[test]
fn the_envelope_shows_how_often_a_resonance_rings() {
    let mut planner = SpectrumPlanner::new();
    let frame = ringing(12_000, 12_000.0);
    for band in [Band::new(2000.0, 5000.0).unwrap(), Band::new(2000.0, 6000.1).unwrap()] {
        let envelope = planner.envelope(&frame, 12_000.0, Some(band)).unwrap().unwrap();
        assert_eq!(envelope.spectrum().dominant_frequency_hz(), Some(107.0));
        let line = envelope.line(106.0).unwrap();
        assert_eq!((line.expected_hz, line.found_hz), (106.0, 107.0));
        assert!((line.amplitude.unwrap() - 0.5).abs() < 1e-9);
        assert!(line.over_median.unwrap() > 1e6);
        assert_ne!(envelope.line(104.0).unwrap().found_hz, 107.0, "2 % of 104 Hz do not reach it");
    }
}

#[test]
fn a_line_that_the_frame_cannot_resolve_is_not_looked_for() {
    let mut planner = SpectrumPlanner::new();
    let envelope = planner.envelope(&ringing(1200, 12_000.0)[..], 12_000.0, None).unwrap().unwrap();
    // Bins are 10 Hz apart: 2 % of 250 Hz to either side are that wide, of 107 Hz they are not.
    assert!(envelope.line(251.0).is_some());
    for hz in [107.0, 249.0, 0.0, -251.0, 5900.0, f64::NAN, f64::INFINITY] {
        assert_eq!(envelope.line(hz), None, "{hz}");
    }
}

#[test]
fn severity_needs_velocity_a_high_sample_rate_and_a_tenth_of_a_second() {
    let limits = ZoneLimits::iso_10816_3(Group::Large, Support::Rigid);
    let severity = |unit: Option<&str>, samples: usize, sample_rate_hz: f64| {
        let frame: Vec<f64> = (0..samples).map(|at| 5.0 * (TAU * 100.0 * at as f64 / sample_rate_hz).sin()).collect();
        let settings = FrameSettings { unit: unit.map(str::to_owned), zone_limits: Some(limits), ..FrameSettings::default() };
        let analyzer = FrameAnalyzer::new(settings).unwrap();
        analyzer.features(&mut SpectrumPlanner::new(), &frame, sample_rate_hz, None).unwrap().severity
    };
    let found = severity(Some("mm/s"), 4096, 4096.0).unwrap();
    assert_eq!(found.zone, Zone::B);
    near(Some(found.velocity_rms_mm_s), 5.0 / 2.0_f64.sqrt());
    for unit in [None, Some("m/s2"), Some("m/s"), Some("[g]")] {
        assert_eq!(severity(unit, 4096, 4096.0), None);
    }
    assert_eq!(severity(Some("mm/s"), 4096, 2000.0), None);
    assert_eq!(severity(Some("mm/s"), 409, 4096.0), None);
    assert!(severity(Some("mm/s"), 410, 4096.0).is_some());
}

#[test]
fn zones_end_where_the_standard_says_and_limits_ascend() {
    let ends = |group, support| {
        let limits = ZoneLimits::iso_10816_3(group, support);
        let above = |velocity: f64| limits.zone(velocity.next_up()).unwrap();
        let mut ends = Vec::new();
        for tenths in 0..200 {
            let velocity = f64::from(tenths) / 10.0;
            if limits.zone(velocity).unwrap() != above(velocity) {
                ends.push(velocity);
            }
        }
        ends
    };
    assert_eq!(ends(Group::Large, Support::Rigid), [2.3, 4.5, 7.1]);
    assert_eq!(ends(Group::Large, Support::Flexible), [3.5, 7.1, 11.0]);
    assert_eq!(ends(Group::Medium, Support::Rigid), [1.4, 2.8, 4.5]);
    assert_eq!(ends(Group::Medium, Support::Flexible), [2.3, 4.5, 7.1]);
    let own = ZoneLimits::new(1.0, 2.0, 3.0).unwrap();
    assert_eq!([1.0, 2.0, 3.0, 3.1].map(|v| own.zone(v).unwrap()), [Zone::A, Zone::B, Zone::C, Zone::D]);
    for (a, b, c) in [(0.0, 1.0, 2.0), (1.0, 1.0, 2.0), (1.0, 3.0, 2.0), (1.0, 2.0, f64::INFINITY), (f64::NAN, 1.0, 2.0)] {
        assert!(ZoneLimits::new(a, b, c).is_err());
    }
}

/// |X| as its definition says, of the mean-free, Hann-weighted samples.
fn slow(samples: &[f64]) -> Vec<f64> {
    let n = samples.len();
    let mean = samples.iter().sum::<f64>() / n as f64;
    let weighted = |at: usize| (samples[at] - mean) * (0.5 - 0.5 * (TAU * at as f64 / n as f64).cos());
    let bin = |k: usize| {
        let turn = |at: usize| TAU * ((k * at) % n) as f64 / n as f64;
        let re: f64 = (0..n).map(|at| weighted(at) * turn(at).cos()).sum();
        let im: f64 = (0..n).map(|at| weighted(at) * turn(at).sin()).sum();
        re.hypot(im)
    };
    (0..n / 2 + 1).map(bin).collect()
}

fn everything() -> FrameAnalyzer {
    FrameAnalyzer::new(FrameSettings {
        bands: vec![Band::new(0.0, 400.0).unwrap(), Band::new(100.0, 200.0).unwrap()],
        envelope_band: Some(Band::new(50.0, 1000.0).unwrap()),
        bearing: Some(BearingGeometry::new(8, 2.0, 12.0, 15.0).unwrap()),
        unit: Some("mm/s".into()),
        zone_limits: Some(ZoneLimits::iso_10816_3(Group::Medium, Support::Rigid)),
    })
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn amplitudes_of_any_length_are_those_of_the_definition(samples in vec(-10.0..10.0_f64, SPECTRUM_SAMPLES_MIN..90)) {
        let mut planner = SpectrumPlanner::new();
        let spectrum = planner.spectrum(&samples, 1000.0).unwrap().unwrap();
        let half = samples.len() as f64 / 2.0;
        let expected = slow(&samples);
        prop_assert_eq!(spectrum.bins(), expected.len());
        for (bin, size) in expected.into_iter().enumerate() {
            let sides = if bin == 0 || 2 * bin == samples.len() { 1.0 } else { 2.0 };
            prop_assert!((spectrum.amplitude(bin).unwrap() - sides * size / half).abs() < 1e-12);
            let psd = sides * size * size / (1000.0 * 0.75 * half);
            prop_assert!((spectrum.psd(bin).unwrap() - psd).abs() < 1e-12);
        }
    }

    #[test]
    fn figures_of_a_frame_are_finite_or_none(samples in finite_values(700), rate_hz in 1e-3..1e5_f64, shaft_hz in 0.1..100.0_f64) {
        let mut planner = SpectrumPlanner::new();
        frame_is_finite(&everything().features(&mut planner, &samples, rate_hz, Some(shaft_hz)).unwrap());
    }

    #[test]
    fn a_used_planner_gives_the_bits_of_a_new_one(frames in vec(vec(-10.0..10.0_f64, 1..500), 1..8)) {
        let analyzer = everything();
        let mut used = SpectrumPlanner::new();
        for frame in &frames {
            let found = analyzer.features(&mut used, frame, 5000.0, Some(25.0)).unwrap();
            prop_assert_eq!(found, analyzer.features(&mut SpectrumPlanner::new(), frame, 5000.0, Some(25.0)).unwrap());
        }
    }
}
