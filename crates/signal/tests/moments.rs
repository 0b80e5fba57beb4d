//! Windows as moments that merge.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{all_finite, close, finite_values, readings};
use mantis_signal::{Basis, Moments, ScalarFeatures};
use proptest::{prelude::*, sample::Index};

fn of(timed: &[(i64, f64)]) -> Moments {
    let mut moments = Moments::default();
    timed.iter().for_each(|(time_ns, value)| moments.push(*time_ns, *value));
    moments
}

fn merged(one: &Moments, other: &Moments) -> Moments {
    let mut merged = *one;
    merged.merge(other);
    merged
}

fn timed(values: &[f64]) -> Vec<(i64, f64)> {
    values.iter().zip(0..).map(|(value, time_ns)| (time_ns, *value)).collect()
}

#[test]
fn without_values_there_are_no_figures_and_merging_changes_nothing() {
    let some = of(&[(1, 2.0), (2, -5.0)]);
    assert_eq!(Moments::default().features(), None);
    assert_eq!(merged(&some, &Moments::default()), some);
    assert_eq!(merged(&Moments::default(), &some), some);
}

#[test]
fn a_value_that_is_not_finite_leaves_no_figure() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(of(&[(1, value)]).features(), None);
        assert_eq!(of(&[(1, 1.0), (2, value), (3, 1.0)]).features(), None);
    }
}

#[test]
fn the_first_and_the_last_are_so_by_time() {
    let found = of(&[(5, 50.0), (-9, 9.0), (7, 70.0), (0, 1.0)]).features().unwrap();
    assert_eq!((found.first, found.last, found.count), (9.0, 70.0, 4));
    assert_eq!((found.basis, found.zero_crossings), (Basis::Moments, None));
}

#[test]
fn a_constant_signal_is_constant_from_moments_too() {
    for value in [0.1, 0.0, -1e300, 1e-310] {
        let values = [value; 100];
        let exact = ScalarFeatures { basis: Basis::Moments, zero_crossings: None, ..ScalarFeatures::of(&values).unwrap() };
        let found = of(&timed(&values)).features().unwrap();
        assert_eq!((found.std, found.rms, found.crest_factor), (exact.std, exact.rms, exact.crest_factor));
        assert_eq!((found.skewness, found.kurtosis_excess, found.mean), (None, None, value));
    }
}

#[test]
fn deviations_whose_powers_do_not_fit_have_no_figure() {
    let large = of(&[(1, 1e200), (2, -1e200), (3, 3e200)]).features().unwrap();
    assert_eq!((large.std, large.rms, large.kurtosis_excess, large.peak), (None, None, None, 3e200));
    let small = of(&[(1, 1e-200), (2, -1e-200), (3, 3e-200)]).features().unwrap();
    assert_eq!((small.std, small.skewness), (None, None));
    let ends = of(&[(1, f64::MAX), (2, f64::MIN)]).features().unwrap();
    assert_eq!((ends.mean, ends.shape_factor, ends.impulse_factor), (0.0, None, None));
}

proptest! {
    #[test]
    fn merging_is_associative(values in readings(120), cuts in any::<[Index; 2]>()) {
        let timed = timed(&values);
        let [from, to] = cuts.map(|cut| cut.index(timed.len()));
        let (from, to) = (from.min(to), from.max(to));
        let (a, b, c) = (of(&timed[..from]), of(&timed[from..to]), of(&timed[to..]));
        let (left, right) = (merged(&merged(&a, &b), &c).features().unwrap(), merged(&a, &merged(&b, &c)).features().unwrap());
        close(&left, &right, 1e-9);
        let exact = ScalarFeatures { basis: Basis::Moments, zero_crossings: None, ..ScalarFeatures::of(&values).unwrap() };
        close(&left, &exact, 1e-9);
        prop_assert_eq!((left.count, left.first, left.last, left.min, left.max), (exact.count, exact.first, exact.last, exact.min, exact.max));
    }

    #[test]
    fn the_order_of_arrival_does_not_matter((values, mixed) in readings(80).prop_flat_map(|values| {
        (Just(timed(&values)), Just(timed(&values)).prop_shuffle())
    })) {
        let (one, other) = (of(&values).features().unwrap(), of(&mixed).features().unwrap());
        close(&one, &other, 1e-9);
        prop_assert_eq!((one.first, one.last), (other.first, other.last));
    }

    #[test]
    fn figures_are_finite_or_none(values in finite_values(60)) {
        let found = of(&timed(&values)).features().unwrap();
        all_finite(&found);
        prop_assert!(found.min <= found.mean && found.mean <= found.max);
    }

    #[test]
    fn words_keep_every_bit(words in any::<[u64; Moments::WORDS]>()) {
        let moments = Moments::from_words(words);
        prop_assert_eq!(moments.to_words(), words);
        if let Some(found) = moments.features() {
            all_finite(&found);
        }
    }
}
