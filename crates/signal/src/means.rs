//! From the means of powers to figures: one place for windows computed from samples and from moments.

use std::ops::RangeInclusive;

use crate::{Basis, ScalarFeatures, centred::Scale, finite, sum::Sum};

/// Means over the scaled values.
pub(crate) struct Means {
    pub(crate) count: u64,
    pub(crate) scale: Scale,
    /// Of the scaled values.
    pub(crate) mean: Sum,
    /// Of the values as they are.
    pub(crate) min: f64,
    /// Of the values as they are.
    pub(crate) max: f64,
    /// Mean of (x - mean)^2.
    pub(crate) square: f64,
    /// Mean of (x - mean)^3.
    pub(crate) cube: f64,
    /// Mean of (x - mean)^4.
    pub(crate) fourth: f64,
    /// Mean of |x|.
    pub(crate) absolute: f64,
    /// Mean of sqrt|x|.
    pub(crate) root: f64,
}

impl Means {
    /// The figures; zero crossings, which need the order of the values, are left to the caller.
    pub(crate) fn features(&self, basis: Basis, first: f64, last: f64) -> ScalarFeatures {
        let up = self.scale.up;
        let (min, max) = (self.min * self.scale.down, self.max * self.scale.down);
        let peak = max.max(-min);
        let std = self.variance().map(f64::sqrt);
        let rms = std.map(|std| self.mean.high.hypot(std));
        let peak_ac = (-self.mean.below(min)).max(self.mean.below(max)).max(0.0);
        let spread = std.filter(|std| SPREAD_POWERS_FIT.contains(std));
        ScalarFeatures {
            basis,
            count: self.count,
            // Rounding may carry it one step beyond.
            mean: (self.mean.high * up).clamp(self.min, self.max),
            std: std.and_then(|std| finite(std * up)),
            min: self.min,
            max: self.max,
            first,
            last,
            rms: rms.and_then(|rms| finite(rms * up)),
            peak: self.max.max(-self.min),
            peak_to_peak: finite(self.max - self.min),
            crest_factor: rms.and_then(|rms| ratio(peak, rms)),
            shape_factor: rms.and_then(|rms| ratio(rms, self.absolute)),
            impulse_factor: ratio(peak, self.absolute),
            clearance_factor: ratio(peak, self.root * self.root),
            skewness: spread.and_then(|std| ratio(self.cube, std * std * std)),
            kurtosis_excess: spread.and_then(|std| ratio(self.fourth, std * std * std * std).map(|fourth| fourth - 3.0)),
            zero_crossings: None,
            rms_ac: std.and_then(|std| finite(std * up)),
            peak_ac: finite(peak_ac * up),
            crest_factor_ac: std.and_then(|std| ratio(peak_ac, std)),
        }
    }

    /// Mean of (x - mean)^2: 0 for a constant signal, whatever rounding left. `None` where squares of moments, which are not
    /// scaled, overflowed or vanished.
    fn variance(&self) -> Option<f64> {
        if self.min == self.max {
            return Some(0.0);
        }
        finite(self.square).filter(|square| *square > f64::MIN_POSITIVE / f64::EPSILON)
    }
}

/// Scaled standard deviations whose fourth power neither overflows nor loses digits.
const SPREAD_POWERS_FIT: RangeInclusive<f64> = 1e-72..=1e75;

/// `one / other`, where that is a figure: an infinite divisor is a sum that overflowed.
fn ratio(one: f64, other: f64) -> Option<f64> {
    (other.is_finite() && other != 0.0).then(|| one / other).and_then(finite)
}
