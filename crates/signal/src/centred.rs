//! Values seen from their mean, scaled so that no power of them overflows or vanishes.

use crate::sum::Sum;

/// At least one value, all finite, with what the second pass needs to know of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Centred<'a> {
    pub(crate) values: &'a [f64],
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) scale: Scale,
    /// The mean of the scaled values.
    pub(crate) mean: Sum,
}

impl<'a> Centred<'a> {
    /// `None` without values, or where one is not finite.
    pub(crate) fn of(values: &'a [f64]) -> Option<Self> {
        if values.is_empty() || !values.iter().fold(true, |all, value| all & value.is_finite()) {
            return None;
        }
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let scale = Scale::of(max.max(-min));
        let mut sum = Sum::default();
        sum.extend(values.iter().map(|value| value * scale.down));
        let mean = sum.over(values.len() as f64);
        Some(Self { values, min, max, scale, mean })
    }

    /// True if all values are the same.
    pub(crate) fn is_constant(&self) -> bool {
        self.min == self.max
    }

    /// The values, scaled.
    pub(crate) fn scaled(&self) -> impl Iterator<Item = f64> + '_ {
        self.values.iter().map(|value| value * self.scale.down)
    }

    /// The scaled values less their mean.
    pub(crate) fn deviations(&self) -> impl Iterator<Item = f64> + '_ {
        self.scaled().map(|value| self.mean.below(value))
    }
}

/// A power of two and its inverse: scaling by it loses no digit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// To scaled values.
    pub(crate) down: f64,
    /// From scaled values.
    pub(crate) up: f64,
}

impl Scale {
    /// Leaves values as they are.
    pub(crate) const ONE: Self = Self { down: 1.0, up: 1.0 };

    /// Brings `peak`, not negative and finite, near to 1.
    fn of(peak: f64) -> Self {
        const MANTISSA_BITS: u32 = 52;
        const BIAS: u64 = 1023;
        // The smallest and largest exponents whose inverse is a normal double too; 4 at most is left of a peak beyond.
        let biased = (peak.to_bits() >> MANTISSA_BITS).clamp(1, 2 * BIAS - 1);
        Self { down: f64::from_bits((2 * BIAS - biased) << MANTISSA_BITS), up: f64::from_bits(biased << MANTISSA_BITS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_peak_is_brought_near_to_one_and_back_without_loss() {
        for peak in [1.0, 1.999, 0.1, 1e9, f64::MAX, f64::MIN_POSITIVE, 3.7e-200] {
            let scale = Scale::of(peak);
            assert!((1.0..4.0).contains(&(peak * scale.down)), "{peak}");
            assert_eq!(peak * scale.down * scale.up, peak);
            assert_eq!(scale.down * scale.up, 1.0);
        }
        for peak in [0.0, 5e-324] {
            assert_eq!(peak * Scale::of(peak).down * Scale::of(peak).up, peak);
        }
    }
}
