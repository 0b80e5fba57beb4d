//! Figures of a window of readings.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{all_finite, close, figures, finite_values, readings};
use mantis_signal::{Basis, Moments, ScalarFeatures};
use proptest::prelude::*;

fn of(values: &[f64]) -> ScalarFeatures {
    ScalarFeatures::of(values).unwrap()
}

#[test]
fn the_golden_vector_has_its_printed_digits() {
    let found = of(&[1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 5.0]);
    assert_eq!((found.basis, found.count, found.zero_crossings), (Basis::Samples, 8, Some(6)));
    assert_eq!((found.mean, found.min, found.max, found.first, found.last), (0.75, -1.0, 5.0, 1.0, 5.0));
    assert_eq!((found.peak, found.rms, found.peak_to_peak, found.peak_ac), (5.0, Some(2.0), Some(6.0), Some(4.25)));
    let printed = |figure: Option<f64>| format!("{:.6}", figure.unwrap());
    assert_eq!(printed(found.std), "1.854050");
    assert_eq!(printed(found.rms_ac), "1.854050");
    assert_eq!(printed(found.crest_factor), "2.500000");
    assert_eq!(printed(found.shape_factor), "1.333333");
    assert_eq!(printed(found.impulse_factor), "3.333333");
    assert_eq!(printed(found.clearance_factor), "3.751248");
    assert_eq!(printed(found.skewness), "1.191495");
    assert_eq!(printed(found.kurtosis_excess), "0.749091");
    assert_eq!(printed(found.crest_factor_ac), "2.292280");
}

/// Values around 1e9 are whole multiples of 2^-23, so that whole numbers say exactly what their figures are.
#[test]
fn a_small_spread_on_a_large_offset_keeps_its_digits() {
    const STEPS: f64 = (1 << 23) as f64;
    let values: Vec<f64> = (0..1000_u32).map(|i| 1e9 + 1e-3 * (f64::from(i) * 0.7).sin() + 4e-4 * f64::from(i % 7)).collect();
    let whole: Vec<i128> = values.iter().map(|value| (value * STEPS) as i128).collect();
    let n = whole.len() as i128;
    let sum: i128 = whole.iter().sum();
    // n times the deviation, and its powers.
    let power = |exponent| whole.iter().map(|value| (n * value - sum).pow(exponent)).sum::<i128>() as f64;
    let (n_f, square, cube, fourth) = (n as f64, power(2), power(3), power(4));

    let found = of(&values);
    let mean = (found.mean * STEPS) as i128;
    assert!(2 * (n * mean - sum).abs() <= n, "the mean is the double that is nearest");
    let near = |found: Option<f64>, expected: f64| {
        let found = found.unwrap();
        assert!((found - expected).abs() <= 1e-14 * expected.abs(), "{found}, not {expected}");
    };
    near(found.std, (square / n_f).sqrt() / n_f / STEPS);
    near(found.skewness, cube / n_f / (square / n_f).powf(1.5));
    near(found.kurtosis_excess, fourth * n_f / (square * square) - 3.0);
    let furthest = whole.iter().map(|value| (n * value - sum).abs()).max().unwrap();
    near(found.peak_ac, furthest as f64 / n_f / STEPS);

    let mut moments = Moments::default();
    values.iter().zip(0..).for_each(|(value, time_ns)| moments.push(time_ns, *value));
    close(&found, &moments.features().unwrap(), 1e-12);
}

#[test]
fn a_constant_signal_has_no_shape() {
    for value in [0.1, -1e9, 1e-310, f64::MAX] {
        let found = of(&[value; 7]);
        assert_eq!((found.mean, found.min, found.max, found.peak), (value, value, value, value.abs()));
        assert_eq!((found.std, found.rms_ac, found.peak_ac, found.zero_crossings), (Some(0.0), Some(0.0), Some(0.0), Some(0)));
        assert_eq!((found.rms, found.crest_factor, found.peak_to_peak), (Some(value.abs()), Some(1.0), Some(0.0)));
        assert_eq!((found.skewness, found.kurtosis_excess, found.crest_factor_ac), (None, None, None));
    }
    assert_eq!(ScalarFeatures { count: 7, ..of(&[3.5]) }, of(&[3.5; 7]));
}

#[test]
fn a_signal_of_zeros_has_no_factors() {
    let found = of(&[0.0; 4]);
    assert_eq!((found.rms, found.peak, found.std), (Some(0.0), 0.0, Some(0.0)));
    let factors = [found.crest_factor, found.shape_factor, found.impulse_factor, found.clearance_factor, found.crest_factor_ac];
    assert_eq!(factors, [None; 5]);
}

#[test]
fn what_is_no_window_has_no_figures() {
    for values in [&[][..], &[f64::NAN], &[1.0, f64::INFINITY], &[f64::NEG_INFINITY, f64::INFINITY]] {
        assert_eq!(ScalarFeatures::of(values), None);
    }
}

#[test]
fn what_does_not_fit_a_double_is_left_out_and_the_rest_stays() {
    let found = of(&[f64::MAX, f64::MIN]);
    assert_eq!((found.mean, found.rms, found.std, found.peak_to_peak), (0.0, Some(f64::MAX), Some(f64::MAX), None));
    assert_eq!((found.crest_factor, found.kurtosis_excess), (Some(1.0), Some(-2.0)));
}

#[test]
fn a_value_that_is_the_mean_does_not_cross_it() {
    assert_eq!(of(&[0.0, 1.0, 0.0, -1.0]).zero_crossings, Some(1));
    assert_eq!(of(&[0.0, 1.0, 0.0, 1.0, -2.0, 0.0]).zero_crossings, Some(1));
    assert_eq!(of(&[1e-300, -1e-300, 1e-300, -1e-300]).zero_crossings, Some(3));
}

proptest! {
    #[test]
    fn figures_are_finite_or_none(values in finite_values(60)) {
        let found = of(&values);
        all_finite(&found);
        prop_assert!(found.min <= found.mean && found.mean <= found.max);
        prop_assert!(found.std.unwrap() <= found.peak * (1.0 + 1e-12));
        prop_assert_eq!(found.skewness.is_none(), found.min == found.max);
    }

    #[test]
    fn the_order_matters_to_first_last_and_crossings_only((values, mixed) in readings(80).prop_flat_map(|values| {
        (Just(values.clone()), Just(values).prop_shuffle())
    })) {
        let (one, other) = (of(&values), of(&mixed));
        close(&ScalarFeatures { first: 0.0, last: 0.0, ..one }, &ScalarFeatures { first: 0.0, last: 0.0, ..other }, 1e-13);
    }

    #[test]
    fn a_power_of_two_scales_every_bit(values in readings(80), exponent in -900..900_i32) {
        let factor = 2.0_f64.powi(exponent);
        let scaled: Vec<f64> = values.iter().map(|value| value * factor).collect();
        let ratio = |name: &str| name.ends_with("factor") || name.ends_with("ness") || name.ends_with("excess") || name.ends_with("factor_ac");
        for ((name, one), (_, other)) in figures(&of(&values)).into_iter().zip(figures(&of(&scaled))) {
            prop_assert_eq!(one.map(|one| if ratio(name) { one } else { one * factor }), other, "{}", name);
        }
    }

    #[test]
    fn a_negative_factor_turns_the_signal_over(values in readings(80)) {
        let turned: Vec<f64> = values.iter().map(|value| -value).collect();
        let (one, other) = (of(&values), of(&turned));
        prop_assert_eq!((one.std, one.rms, one.kurtosis_excess), (other.std, other.rms, other.kurtosis_excess));
        prop_assert_eq!((one.zero_crossings, one.peak_ac), (other.zero_crossings, other.peak_ac));
        prop_assert_eq!((one.mean, one.skewness), (-other.mean, other.skewness.map(|skewness| -skewness)));
    }

    #[test]
    fn an_offset_leaves_the_spread(values in prop::collection::vec(-1000..1000_i32, 2..80), offset in -1_000_000_000..1_000_000_000_i64) {
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        let moved: Vec<f64> = values.iter().map(|value| value + offset as f64).collect();
        let (one, other) = (of(&values), of(&moved));
        prop_assert_eq!(one.zero_crossings, other.zero_crossings);
        let spread = |of: ScalarFeatures| [of.std, of.peak_to_peak, of.skewness, of.kurtosis_excess, of.peak_ac, of.crest_factor_ac];
        for (one, other) in spread(one).into_iter().zip(spread(other)) {
            prop_assert_eq!(one.is_none(), other.is_none());
            prop_assert!((one.unwrap_or(0.0) - other.unwrap_or(0.0)).abs() <= 1e-12 * one.unwrap_or(0.0).abs().max(1.0));
        }
    }
}
