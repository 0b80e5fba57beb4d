//! Figures of a window of scalar readings.

use crate::{centred::Centred, means::Means, sum::Sum};

/// Version of [`ScalarFeatures`], from samples and from moments: stored with the rows; raise when a figure could change.
pub const SCALAR_VERSION: u32 = 1;

/// How figures were computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// From all samples, sorted by time: exact but for the rounding of the result.
    Samples,
    /// From [`Moments`](crate::Moments): what depends on the order of the samples is not known, and skewness and kurtosis of
    /// long windows have a few digits less.
    Moments,
}

/// Figures of a window. All are in the unit of the values unless they are ratios or counts.
///
/// `None` is said of each; in general it is a division by zero, or a result beyond the range of a double.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScalarFeatures {
    /// How the figures were computed.
    pub basis: Basis,
    /// Number of values, at least 1.
    pub count: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Population standard deviation `sqrt(mean((x - mean)^2))`; 0 for a constant signal or a single value.
    pub std: Option<f64>,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Earliest value.
    pub first: f64,
    /// Latest value.
    pub last: f64,
    /// `sqrt(mean(x^2))` of the raw values.
    pub rms: Option<f64>,
    /// `max |x|` of the raw values.
    pub peak: f64,
    /// `max - min`.
    pub peak_to_peak: Option<f64>,
    /// `peak / rms`; `None` if all values are 0.
    pub crest_factor: Option<f64>,
    /// `rms / mean|x|`; `None` if all values are 0.
    pub shape_factor: Option<f64>,
    /// `peak / mean|x|`; `None` if all values are 0.
    pub impulse_factor: Option<f64>,
    /// `peak / mean(sqrt|x|)^2`; `None` if all values are 0.
    pub clearance_factor: Option<f64>,
    /// g1 = `mean((x - mean)^3) / std^3`; `None` for a constant signal or a single value.
    pub skewness: Option<f64>,
    /// g2 = `mean((x - mean)^4) / std^4 - 3`, 0 for a normal distribution; `None` for a constant signal or a single value.
    pub kurtosis_excess: Option<f64>,
    /// How often `x - mean` changes its sign from value to value; a value that is the mean has no sign. `None` from moments.
    pub zero_crossings: Option<u64>,
    /// `rms` after the mean was removed: `std` by its other name.
    pub rms_ac: Option<f64>,
    /// `max |x - mean|`.
    pub peak_ac: Option<f64>,
    /// `peak_ac / rms_ac`; `None` for a constant signal or a single value.
    pub crest_factor_ac: Option<f64>,
}

impl ScalarFeatures {
    /// The figures of `values`, sorted by time. `None` without values, or where one is not finite.
    ///
    /// Two passes with compensated sums, the mean kept to 32 digits: a large offset costs no digit of the spread.
    pub fn of(values: &[f64]) -> Option<Self> {
        Self::of_centred(&Centred::of(values)?)
    }

    pub(crate) fn of_centred(centred: &Centred<'_>) -> Option<Self> {
        let (&[first, ..], &[.., last]) = (centred.values, centred.values) else { return None };
        let mut sums = Sums::default();
        let mut crossings = Crossings::default();
        for (value, deviation) in centred.scaled().zip(centred.deviations()) {
            sums.add(value, deviation);
            crossings.add(deviation);
        }
        let count = centred.values.len() as f64;
        let means = Means {
            count: centred.values.len() as u64,
            scale: centred.scale,
            mean: centred.mean,
            min: centred.min,
            max: centred.max,
            square: sums.square.value() / count,
            cube: sums.cube.value() / count,
            fourth: sums.fourth.value() / count,
            absolute: sums.absolute.value() / count,
            root: sums.root.value() / count,
        };
        let zero_crossings = if centred.is_constant() { 0 } else { crossings.count };
        Some(Self { zero_crossings: Some(zero_crossings), ..means.features(Basis::Samples, first, last) })
    }
}

/// Sums over the scaled values.
#[derive(Default)]
struct Sums {
    square: Sum,
    cube: Sum,
    fourth: Sum,
    absolute: Sum,
    root: Sum,
}

impl Sums {
    fn add(&mut self, value: f64, deviation: f64) {
        let square = deviation * deviation;
        self.square.add(square);
        self.cube.add(square * deviation);
        self.fourth.add(square * square);
        self.absolute.add(value.abs());
        self.root.add(value.abs().sqrt());
    }
}

#[derive(Default)]
struct Crossings {
    count: u64,
    /// The last deviation that had a sign.
    last: f64,
}

impl Crossings {
    fn add(&mut self, deviation: f64) {
        // A product could vanish, a comparison cannot.
        self.count += u64::from((self.last < 0.0 && deviation > 0.0) || (self.last > 0.0 && deviation < 0.0));
        if deviation != 0.0 {
            self.last = deviation;
        }
    }
}
